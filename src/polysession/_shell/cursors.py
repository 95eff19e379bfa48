"""The cursors by which SQLAlchemy sends: one is made for each statement, with as few calls as can be.

SQLAlchemy asks its context of an execution for a cursor (`Dialect.execution_ctx_cls`, a documented attribute;
`create_default_cursor`). Here it gets that of a lease if the connection is lent, and else one of the driver's that
judges nothing. Connections for reads judge whatever is sent on them (`raw`), because somebody may take one out of its
session; what SQLAlchemy sends was judged by then (`sending`), and these cursors are given to nobody else.

A dialect that makes its cursors in a way of its own keeps it. An answer that is read whole holds no connection: see
`lease`.
"""

from __future__ import annotations

import functools
import operator
import sqlite3
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from sqlalchemy.engine import Engine
from sqlalchemy.engine.default import DefaultExecutionContext

from . import known, sqlite
from .lease import Lease
from .lease_cursor import LeaseCursor, OpenLeaseCursor
from .sending import Send, wrap_sending
from .verdicts import Judge, Order

__all__ = ["Cursors", "answer_whole", "keeping", "make_cursors"]

Make = Callable[[Any], Any]
"""Makes a driver's cursor of a connection of DBAPI."""


class Cursors(NamedTuple):
    """How the cursors of an engine are made."""

    make: Make
    of_lent: Make
    """Of a connection that is lent, for a text that was judged."""
    closes: Callable[[Any], object] | None
    """Closes one of a lent connection whose answer was read whole; None where nothing is left of it by then."""
    notes: Callable[[LeaseCursor, Any], None] | None = None
    """Writes on it what SQLAlchemy's dialect has written on the cursor of the lease; None if it writes nothing."""


def make_cursors(engine: Engine, *, lends: bool = False) -> Cursors:
    """Have the cursors of SQLAlchemy's statements made here, and answer how. For engines of our making; `lends`: its
    connections are leases."""
    dialect: Any = engine.dialect
    base: Any = dialect.execution_ctx_cls
    if base.create_default_cursor is not DefaultExecutionContext.create_default_cursor:
        return _ANY
    cursors = _cursors(dialect)
    dialect.execution_ctx_cls = (_lending_context if lends else _context)(base, cursors.make)
    return cursors


@functools.cache
def _context(base: Any, make: Make) -> Any:
    class Context(base):  # type: ignore[misc]  # whatever the dialect has
        """As that of the dialect."""

        def create_default_cursor(self) -> Any:
            return make(self._dbapi_connection.dbapi_connection)

    return Context


@functools.cache
def _lending_context(base: Any, make: Make) -> Any:
    class Context(base):  # type: ignore[misc]  # as above
        """As that of the dialect."""

        def create_default_cursor(self) -> Any:
            pooled = self._dbapi_connection
            if type(pooled) is Lease:
                loan = pooled.loan
                if loan.tenant is not None:
                    connection = self.root_connection
                    is_seen = connection._has_events or connection.engine._has_events  # others look at the cursor
                    cursor = OpenLeaseCursor() if is_seen else LeaseCursor()
                    cursor.loan = loan
                    return cursor
                pooled = loan.seat()
            return make(pooled.dbapi_connection)

    return Context


def _cursors(dialect: Any) -> Cursors:
    match dialect.driver:
        case "pysqlite":
            # a lent connection begins no transaction; a statement whose rows were read to their end is reset
            return Cursors(sqlite.driver_cursor, sqlite3.Connection.cursor, None)
        case "aiosqlite":
            from . import sqlite_async  # whoever uses another driver needs none of it

            make = sqlite_async.cursor if sqlite_async.is_known() else _cursor
            return Cursors(make, make, None)  # the same holds, and its thread would be waited for
        case "psycopg" | "asyncpg" | "pymysql" | "asyncmy":
            return _of_servers(dialect)
        case _:
            return _ANY


def _of_servers(dialect: Any) -> Cursors:
    from . import adapted, raw_mysql, raw_postgresql  # whoever uses SQLite alone needs none of them

    match dialect.driver:
        case "psycopg" if not dialect.is_async:
            return Cursors(_cursor, raw_postgresql.judged_cursor, _close)
        case "psycopg" if adapted.is_known():
            return Cursors(*adapted.psycopg_cursors(), _close)
        case "asyncpg":
            return Cursors(*adapted.asyncpg_cursors(), None, adapted.note_asyncpg)
        case "pymysql":
            make = raw_mysql.judged_cursor(dialect.loaded_dbapi.cursors.Cursor)
            return Cursors(_cursor, make, raw_mysql.close_pymysql)
        case "asyncmy" if adapted.is_known():
            return Cursors(*adapted.asyncmy_cursors(), adapted.close_asyncmy)
        case _:
            return _ANY


_cursor: Final = operator.methodcaller("cursor")
_close: Final = operator.methodcaller("close")


def _note(cursor: LeaseCursor, own: Any) -> None:
    for name, value in cursor.notes().items():
        setattr(own, name, value)


_ANY: Final = Cursors(_cursor, _cursor, _close, _note)


def keeping(traces: Callable[[str], str | None]) -> Judge:
    """The judge of leases: one is kept once a text may leave something on its connection, which `traces` says."""

    def judge(text: str) -> Order | None:
        return None if traces(text) is None else _keep

    return judge


def _keep(context: Any) -> None:
    pooled = context.root_connection._dbapi_connection
    if type(pooled) is Lease and pooled.loan.tenant is not None:
        pooled.keep()


def answer_whole(engine: Engine, cursors: Cursors, orders: Mapping[str, object | None]) -> None:
    """Let the cursors of leases take a connection before a statement, and read its answer whole. Outside of all else
    that is done to send: what is inside finds a connection. `orders` says for which texts something has to be done."""
    _, make, closes, notes = cursors

    def leased(send: Send) -> Send:
        def send_leased(cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
            try:
                loan = cursor.loan
            except AttributeError:  # one of the driver's
                send(cursor, statement, parameters, context)
                return
            pooled = loan.seat()
            own = None
            if loan.tenant.flight is not None:
                own = loan.tenant.flight.seat(pooled.driver_connection)
            if own is None:
                own = make(pooled.dbapi_connection)
            cursor.cursor = own
            if notes is not None:
                notes(cursor, own)
            send(own, statement, parameters, context)
            description = own.description
            if description is not None:
                cursor.description = description
                cursor.rows = iter(own.fetchall())
            cursor.rowcount = own.rowcount
            if closes is not None:
                closes(own)
            cursor.cursor = None
            loan.rest()

        return send_leased

    wrap_sending(engine.dialect, leased)
    if known.IS_KNOWN and notes is not _note:
        dialect: Any = engine.dialect
        dialect.do_execute = _shortened(dialect.do_execute, orders, cursors)


def _shortened(send: Send, orders: Mapping[str, object | None], cursors: Cursors) -> Send:
    """As `send`, in one function where nothing has to be done for a text or for a unit, and its connection is there:
    what `send_leased`, `send_watched`, `Loan.seat` and `Loan.rest` do for nearly every statement of a read unit."""
    now = time.perf_counter
    _, make, closes, notes = cursors

    def send_lent(cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
        try:
            loan = cursor.loan
            watch = context.root_connection._polysession_watch
        except AttributeError:
            send(cursor, statement, parameters, context)
            return
        if watch.heeds or orders[statement] is not None or loan.tenant.flight is not None:
            send(cursor, statement, parameters, context)
            return
        room, key = loan.room, loan.key
        had = room.resting.pop(key, None) or loan.had  # as `Loan.seat`
        if had is None:
            send(cursor, statement, parameters, context)
            return
        loan.had = had
        own = cursor.cursor = make(had[1].dbapi_connection)
        if notes is not None:
            notes(cursor, own)
        began = watch.began = now()
        try:
            own.execute(statement, parameters)
        except BaseException as error:
            watch.failed(error, context.root_connection)
            raise
        finally:
            ended = watch.ended = now()
            watch.in_database += ended - began
            watch.statements += 1
        description = own.description
        if description is not None:
            cursor.description = description
            cursor.rows = iter(own.fetchall())
        cursor.rowcount = own.rowcount
        if closes is not None:
            closes(own)
        cursor.cursor = None
        if not loan.is_kept:  # as `Loan.rest`
            loan.had = None
            room.resting[key] = had
            if room.seats.waiters or loan.pool.disposed:
                loan.offer()

    return send_lent
