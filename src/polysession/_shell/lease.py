"""A connection for reads that is lent, and may be taken back between two statements when somebody waits for one.

All connections of an engine for reads are alike: in autocommit, told to refuse writes, without anything of their
user's. So a read unit need not have the same one for each statement. A `Lease` looks to SQLAlchemy like a pooled
connection. It has one while a statement is under way; between two statements its connection *rests* in the `Room`,
where whoever waits may take it back (`FairPool.recall`), in whatever thread its user is busy elsewhere. The next
statement takes the same one again if it still rests there, or asks the pool anew.

The answer of a statement is read whole before the connection rests, also if it is asked for in parts: rows that are
still to come would hold the connection, and a cursor on the server needs a transaction on some engines.

A lease is *kept* (not taken back any more) once a statement may have left something on its connection
(`dialects/traces.py`), or once somebody got hold of the connection itself. Used by one thread or task at a time, like
the unit that has it; only resting connections are touched by others, and who takes one out of the `dict` has it.

Sources: `sqlalchemy.pool.PoolProxiedConnection` is what a `Connection` works with; besides its methods it calls
`_close_special` of the pool's own class. `Dialect.do_execute` and its kin are the documented methods that send.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from .lease_cursor import OpenLeaseCursor
from .loan import Loan, Tenant, release

if TYPE_CHECKING:
    from .pool import FairPool

__all__ = ["Lease", "cursor_of", "lease_of", "lend"]


class Lease(PoolProxiedConnection):
    """A pooled connection as SQLAlchemy sees it; see the module's text. Until it is lent, it is an ordinary one."""

    __slots__ = ("__weakref__", "loan")

    def __init__(self, pool: FairPool, connection: PoolProxiedConnection) -> None:
        self.loan = Loan(pool, pool.room, (pool.kind, connection))
        """What it has of the pool."""

    def __del__(self) -> None:
        # as with every pooled connection: who drops it gives it back
        try:
            loan = self.loan
        except AttributeError:
            return  # it was interrupted while it was made
        if not loan.is_closed:
            loan.room.resting.pop(loan.key, None)

    # -- lending

    def lend(self, tenant: Tenant, engine: Engine | None = None) -> None:
        """From here on it may be taken back between two statements of `tenant`; it is used below `engine`."""
        loan = self.loan
        loan.engine = engine
        loan.tenant = tenant

    @property
    def may_move(self) -> bool:
        """Its next statement may run on another connection: there is nothing on this one."""
        loan = self.loan
        return loan.tenant is not None and not loan.is_kept

    @property
    def has_connection(self) -> bool:
        """It has a connection of the pool just now, used or resting."""
        return self.loan.has_connection

    def seat(self) -> PoolProxiedConnection:
        """As `Loan.seat`."""
        return self.loan.seat()

    def keep(self) -> PoolProxiedConnection:
        """As `Loan.keep`."""
        return self.loan.keep()

    def let_go(self) -> None:
        """As `Loan.let_go`."""
        self.loan.let_go()

    def _taken_out(self) -> PoolProxiedConnection | None:
        """What it still has; it is over with it."""
        loan = self.loan
        connection = loan.taken_out()
        loan.is_closed = True  # afterwards: if an interrupt comes between, dropping it gives back what rests
        return connection

    # -- what SQLAlchemy asks of a pooled connection

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        """A cursor: of a lent connection one that takes the connection when it is executed."""
        if self.loan.tenant is None:
            return self.seat().cursor(*args, **kwargs)
        cursor = OpenLeaseCursor()
        cursor.loan = self.loan
        return cursor

    def close(self) -> None:
        """Give the connection back. A second call does nothing."""
        self._close_special()

    def go(self) -> None:
        """`close` for who knows that it may move: nothing is open on what it has."""
        connection = self._taken_out()
        if connection is not None:
            release(connection)

    def _close_special(self, transaction_reset: bool = False) -> None:
        was_reset = transaction_reset or self.may_move
        connection: Any = self._taken_out()
        if connection is not None:
            connection._close_special(transaction_reset=was_reset)

    def invalidate(self, e: BaseException | None = None, soft: bool = False) -> None:
        """Throw the connection away that it has; one that was taken back is somebody else's."""
        if soft:
            if self.has_connection:
                self.seat().invalidate(e, soft=True)
            return
        connection = self._taken_out()
        if connection is not None:
            connection.invalidate(e)

    def detach(self) -> None:
        """As `PoolProxiedConnection.detach`; it is kept then."""
        self.keep().detach()

    @property
    def is_valid(self) -> bool:
        """It was neither closed nor invalidated."""
        connection = self.loan.lent
        return not self.loan.is_closed and (connection is None or connection.is_valid)

    @property
    def is_detached(self) -> bool:
        """It was taken away from its pool."""
        return self.loan.lent is not None and self.loan.lent.is_detached

    @property
    def _connection_record(self) -> ConnectionPoolEntry | None:
        return getattr(self.loan.seen, "_connection_record", None)

    @property
    def info(self) -> Any:
        """The notes on the connection that it has; empty ones that nobody keeps if it has none."""
        return self.loan.info

    @property
    def record_info(self) -> Any:
        """As `info`, of the pool's entry."""
        seen = self.loan.seen
        return None if seen is None else seen.record_info

    @property
    def dbapi_connection(self) -> Any:  # type: ignore[override]  # an attribute there
        """The connection of DBAPI; who takes it out has the lease kept."""
        return getattr(self._reached, "dbapi_connection", None)

    @property
    def driver_connection(self) -> Any:  # type: ignore[override]  # an attribute there
        """The connection of the driver; who takes it out has the lease kept."""
        return getattr(self._reached, "driver_connection", None)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in Lease.__dict__:  # those it lacks while it is made only
            raise AttributeError(name)
        return getattr(self._reached, name)

    @property
    def _reached(self) -> PoolProxiedConnection | None:
        """The connection for who looks into it: while a statement is under way that is SQLAlchemy itself."""
        if self.loan.had is not None or self.loan.is_closed:
            return self.loan.lent
        return self.keep()


def lend(engine: Engine) -> None:
    """Let the connections of this engine be leases."""
    dialect: Any = engine.dialect

    def if_begun(end: Callable[[Any], None]) -> Callable[[Any], None]:
        def end_if_begun(connection: Any) -> None:
            if type(connection) is not Lease or not connection.may_move:
                end(connection)

        return end_if_begun

    dialect.do_commit = if_begun(dialect.do_commit)
    dialect.do_rollback = if_begun(dialect.do_rollback)
    cast("Any", engine.pool).lends = True


def cursor_of(connection: Connection) -> Any:
    """A cursor for what is said on a connection besides its statements; it changes nothing about a lease."""
    lease = lease_of(connection)
    return (connection.connection if lease is None else lease.seat()).cursor()


def lease_of(connection: Connection) -> Lease | None:
    """The lease below a connection that is open; None if it has an ordinary one."""
    pooled = connection.connection
    return pooled if type(pooled) is Lease else None
