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

import time
from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Any

from greenlet import getcurrent, greenlet
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
    """The execution of one statement. Below asyncio, what it waits for is awaited by the greenlet that runs all."""

    def __init__(self, session: Session, statement: Any, *, awaits: bool) -> None:
        super().__init__(self._execute)
        self.gr_context = getcurrent().gr_context
        self.__sqlalchemy_greenlet_provider__ = awaits
        self._session = session
        self._statement = statement
        self.seat: _Boarding | None = None
        """Its statement is ready to be sent, and not answered yet."""
        self.result: Result[Any] | None = None
        self.error: BaseException | None = None

    def _execute(self) -> None:
        try:
            self.result = self._session.execute(self._statement)
        except BaseException as error:
            self.error = error

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
        passengers = [_Passenger(self._session, statement, awaits=holding.awaits) for statement in statements]
        began, before = time.perf_counter(), seen.in_database
        holding.flight = self
        try:
            for passenger in passengers:
                passenger.go_on()
            self._is_open = False
            self._fly([passenger.seat for passenger in passengers if passenger.seat is not None])
            for passenger in passengers:
                if not passenger.dead:
                    passenger.go_on()
        finally:
            holding.flight = None
            for passenger in passengers:
                if not passenger.dead:
                    passenger.end()
        seen.in_database = min(seen.in_database, before + time.perf_counter() - began)  # they were there together
        for passenger in passengers:
            if passenger.error is not None:
                raise passenger.error
        return [passenger.result for passenger in passengers if passenger.result is not None]

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
