"""What a lease has of the pool: the connection that rests between two statements, and may be taken back there.

Apart from `Lease`, which looks to SQLAlchemy like a pooled connection: an object that passes on whatever it does not
know is slow to ask for what it does know, and this is asked several times for every statement.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, cast

import msgspec
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine, ExceptionContext
from sqlalchemy.pool import PoolProxiedConnection

from ..errors import CheckoutTimeout, DeadlineExceeded
from .grace import hear

if TYPE_CHECKING:
    from .claims import Asker
    from .pool import FairPool
    from .room import Room
    from .together import Flight

__all__ = ["Loan", "Resting", "Tenant", "release"]

_next_key: Final = itertools.count().__next__


Resting: TypeAlias = tuple[str, PoolProxiedConnection]
"""A kind of pool, and a connection of it that is lent and that nobody uses just now."""


class Tenant(Protocol):
    """Who has a lease: a unit, which is told when its connection is another one."""

    flight: Flight | None
    """Its statements that are to be sent together."""

    def reseated(self, loan: Loan) -> None:
        """Say on the new connection what holds for this unit. Called before a statement is sent on it."""


def release(connection: PoolProxiedConnection) -> None:
    """Give a connection back to its pool on which there is nothing to be rolled back."""
    cast("Any", connection)._close_special(transaction_reset=True)


class Loan(msgspec.Struct, eq=False):
    """The connection of a lease: used, resting or taken back. Used by one thread or task at a time."""

    pool: FairPool
    room: Room
    had: Resting | None
    """Its connection while it is used, or for as long as it is kept; None while it rests or was taken back."""
    key: int = msgspec.field(default_factory=_next_key)
    engine: Engine | None = None
    tenant: Tenant | None = None
    """To whom it is lent; None for an ordinary connection, which is not taken back."""
    is_kept: bool = False
    is_closed: bool = False

    @property
    def lent(self) -> PoolProxiedConnection | None:
        """Its connection while it is used, or for as long as it is kept; None while it rests or was taken back."""
        return None if self.had is None else self.had[1]

    @property
    def has_connection(self) -> bool:
        """It has a connection of the pool just now, used or resting."""
        return self.had is not None or self.key in self.room.resting

    @property
    def seen(self) -> PoolProxiedConnection | None:
        """What it has just now, for looking only."""
        rested = self.room.resting.get(self.key)
        return self.lent if rested is None else rested[1]

    @property
    def info(self) -> Any:
        """The notes on the connection that it has; empty ones that nobody keeps if it has none."""
        seen = self.seen
        return {} if seen is None else seen.info

    def seat(self) -> PoolProxiedConnection:
        """Its connection, for a statement or for good: the one it had, or else another. Raises as a checkout does."""
        had = self.room.resting.pop(self.key, None)
        if had is not None:
            self.had = had
        elif (had := self.had) is None:
            return self._another()
        return had[1]

    def keep(self) -> PoolProxiedConnection:
        """Its connection, which nobody takes back from now on until it is closed."""
        connection = self.seat()
        self.is_kept = True
        return connection

    def rest(self) -> None:
        """The statement is over: whoever waits may have the connection."""
        had = self.had
        if had is None or self.is_kept or self.tenant is None:
            return
        self.had = None  # never in two places: an interrupt would have it shared
        self.room.resting[self.key] = had
        del had
        self.offer()

    def offer(self) -> None:
        """It rests: whoever waits has it now, and it goes if its pool is closed."""
        room = self.room
        if room.seats.waiters:
            self.pool.recall()
        elif self.pool.disposed and (rested := room.resting.pop(self.key, None)) is not None:
            release(rested[1])
        hear()  # what went may have been closed, and its unit may await nothing any more

    def let_go(self) -> None:
        """Give the connection back if it rests; the next statement takes one anew."""
        rested = self.room.resting.pop(self.key, None)
        if rested is not None:
            release(rested[1])

    def taken_out(self) -> PoolProxiedConnection | None:
        """What it still has; it is over with it."""
        rested = self.room.resting.pop(self.key, None)
        had, self.had = self.had, None
        if rested is not None:
            had = rested
        return None if had is None else had[1]

    def _another(self) -> PoolProxiedConnection:
        pool = self.pool
        dialect: Any = pool._dialect
        try:
            connection = pool.check_out(cast("Asker", self.tenant))
            self.had = pool.kind, connection
        except Exception as error:
            if self.engine is not None and isinstance(error, CheckoutTimeout | DeadlineExceeded):
                _notice_waits_in_vain(self.engine)
            if isinstance(error, dialect.loaded_dbapi.Error):
                # as `Connection` does it for its first connection: this is no error of the statement or of the link
                Connection._handle_dbapi_exception_noconnection(error, dialect, self.engine)
            raise
        assert self.tenant is not None
        self.tenant.reseated(self)
        return connection


def _notice_waits_in_vain(engine: Engine) -> None:
    """From the first one on: with any such listener SQLAlchemy asks for listeners at each statement."""
    if not event.contains(engine, "handle_error", _still_there):
        event.listen(engine, "handle_error", _still_there)


def _still_there(context: ExceptionContext) -> None:
    """A wait for a connection that was in vain ends no link: the unit may ask again. SQLAlchemy takes every
    `TimeoutError` for a cancellation in the middle of a statement."""
    if isinstance(context.original_exception, CheckoutTimeout | DeadlineExceeded) and context.connection is not None:
        loan = getattr(context.connection.connection, "loan", None)
        if isinstance(loan, Loan) and not loan.has_connection:
            context.is_disconnect = False
