"""Several reads of one unit in one flight: each statement is executed by SQLAlchemy as it always is, up to its sending.

SQLAlchemy builds a result when the answer is there, so `Session.execute` cannot be left in the middle. Here each
statement is executed in a greenlet of its own, which stops where its text would be sent. When all have come so far they
fly together (`flights`), and each goes on with its answer, one after the other. So what comes of it is what
`Session.execute` makes of it: the judges of texts have seen it, its objects are those of the session.

One flight needs statements that do not depend on each other and a driver that can send without waiting: those of a read
unit that holds no transaction, on PostgreSQL by psycopg. All others are executed one after the other, with the same
results.

Source: greenlet's documentation, "Greenlets and contextvars": a new one begins in an empty context.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Any, Final

from greenlet import GreenletExit, getcurrent, greenlet
from sqlalchemy import util
from sqlalchemy.engine import Engine, Result
from sqlalchemy.orm import Session

from . import first_flight
from .flights import Seat, fly
from .guard import holding_of

if TYPE_CHECKING:
    from .holding import Holding

__all__ = ["Flight", "can_fly", "execute_together"]


def execute_together(session: Session, statements: Sequence[Any]) -> list[Result[Any]]:
    """The results of all statements, in one flight where that can be. Raises the error of the first one that failed,
    when all have been executed. Below asyncio, called where SQLAlchemy can await."""
    holding = holding_of(session)
    if holding is None or len(statements) < 2 or not _flies(holding):
        return [session.execute(statement) for statement in statements]
    return Flight(session, holding).execute(statements)


def _flies(holding: Holding) -> bool:
    """Its statements run each on its own, and the driver can send them together."""
    if holding.leases is None or holding.only is None or holding.flight is not None:
        return False
    return can_fly(holding.only)


def can_fly(engine: Engine) -> bool:
    """The driver of this engine can send several statements together, if each runs on its own."""
    return engine.dialect.driver == "psycopg" and first_flight.is_known()


class _Passenger(greenlet):  # type: ignore[misc]  # greenlet says nothing of its types
    """The execution of one statement. Below asyncio, what it waits for is awaited by the greenlet that runs all.

    It is kept for the flights that follow in its thread: a greenlet takes longer to begin than to go on.
    """

    def __init__(self) -> None:
        super().__init__(self._execute)
        self.leave()

    def enter(self, session: Session, statement: Any, *, awaits: bool) -> None:
        """Be the one of this statement."""
        here = getcurrent()
        self.parent = here
        self.gr_context = here.gr_context
        self.__sqlalchemy_greenlet_provider__ = awaits
        self._session: Session | None = session
        self._statement = statement
        self.is_over = False

    def leave(self) -> None:
        """Forget it."""
        self._session = self._statement = None
        self.seat: _Boarding | None = None
        """Its statement is ready to be sent, and not answered yet."""
        self.result: Result[Any] | None = None
        self.error: BaseException | None = None
        self.is_over = True
        self.gr_context = None
        root = getcurrent()
        while root.parent is not None:
            root = root.parent
        self.parent = root

    def _execute(self) -> None:
        while True:
            try:
                assert self._session is not None
                self.result = self._session.execute(self._statement)
            except BaseException as error:
                self.error = error
                if isinstance(error, GreenletExit):
                    return
            finally:
                self.is_over = True
            self.parent.switch(None)  # see `go_on`; or until it is dropped

    def go_on(self) -> None:
        """Until it is ready, or at its end."""
        self._await(self.switch())

    def end(self) -> None:
        """An interrupt has come to the others: let what it has begun be ended."""
        self._await(self.throw())

    def _await(self, awaited: Any) -> None:
        while isinstance(awaited, Awaitable):
            try:
                value = util.await_only(awaited)
            except BaseException as error:
                awaited = self.throw(error)
            else:
                awaited = self.switch(value)


class _Idle:
    """The passengers of a thread that are in no flight. After a fork its own are still there."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.passengers: list[_Passenger] = []

    def __del__(self) -> None:
        # the thread ends: only there can they be ended, else they stay for ever; in a forked child other threads are
        # gone without an end
        while self.passengers and self.thread == threading.get_ident():
            self.passengers.pop().throw()


class _Kept(threading.local):
    """Those of each thread."""

    def __init__(self) -> None:
        self.idle = _Idle()

    @property
    def passengers(self) -> list[_Passenger]:
        return self.idle.passengers


_kept: Final = _Kept()
_MOST: Final = 16
"""So many are kept in each thread."""


def _seated(session: Session, statement: Any, *, awaits: bool) -> _Passenger:
    try:
        passenger = _kept.passengers.pop()
    except IndexError:
        passenger = _Passenger()
    passenger.enter(session, statement, awaits=awaits)
    return passenger


def _unseated(passenger: _Passenger) -> None:
    passenger.leave()
    if not passenger.dead and len(_kept.passengers) < _MOST:
        _kept.passengers.append(passenger)


class Flight:
    """The statements of one unit that are sent together. Used by the thread or task of that unit."""

    __slots__ = ("_holding", "_is_open", "_session")

    def __init__(self, session: Session, holding: Holding) -> None:
        self._session = session
        self._holding = holding
        self._is_open = True

    def seat(self, driver: Any) -> Any:
        """A cursor for a statement that is to fly, of this connection of the driver; None if it has to go alone: it
        comes too late, or is sent for one that flies."""
        passenger = getcurrent()
        if not self._is_open or not isinstance(passenger, _Passenger) or passenger.seat is not None:
            return None
        return _Boarding(driver, passenger)

    def execute(self, statements: Sequence[Any]) -> list[Result[Any]]:
        """All of them."""
        holding, seen = self._holding, self._holding.seen
        passengers = [_seated(self._session, statement, awaits=holding.awaits) for statement in statements]
        began, before = time.perf_counter(), seen.in_database
        holding.flight = self
        try:
            for passenger in passengers:
                passenger.go_on()
            self._is_open = False
            self._fly([passenger.seat for passenger in passengers if passenger.seat is not None])
            for passenger in passengers:
                if not passenger.is_over:
                    passenger.go_on()
            found = [(passenger.result, passenger.error) for passenger in passengers]
        finally:
            holding.flight = None
            for passenger in passengers:
                if not passenger.is_over:
                    passenger.end()
                _unseated(passenger)
        seen.in_database = min(seen.in_database, before + time.perf_counter() - began)  # they were there together
        try:
            for _, failed in found:
                if failed is not None:
                    raise failed
            return [result for result, _ in found if result is not None]
        finally:
            found = []  # an error has this frame, which has the error: a circle
            failed = None

    def _fly(self, seats: Sequence[_Boarding]) -> None:
        if not seats:
            return
        driver = seats[0].driver
        try:
            waiting = driver.wait(fly(driver, seats))
            if self._holding.awaits:
                util.await_only(waiting)
        except Exception as error:  # the link is lost: each of them is told, as if it had been alone
            for seat in seats:
                seat.error = error


class _Boarding(Seat):
    """The seat of a passenger."""

    __slots__ = ("driver", "passenger")

    def __init__(self, driver: Any, passenger: _Passenger) -> None:
        super().__init__(driver)
        self.driver = driver
        self.passenger = passenger

    def execute(self, statement: Any, parameters: Any = None) -> None:
        """Make the statement ready, wait for the others and for the answer. Raises the error of the statement."""
        self.board(statement, parameters)
        self.passenger.seat = self
        self.passenger.parent.switch(None)  # see `go_on`
        if self.error is not None:
            raise self.error
