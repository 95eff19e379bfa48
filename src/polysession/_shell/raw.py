"""Driver connections of read units: who takes one out of the session finds the same judge there.

`connector` says how an engine for reads connects. What it makes is the driver's own connection, in a subclass that
judges every text before it is sent, and refuses the methods that write without one. The drivers are extended where
they say that they may be: psycopg's `Connection` and `cursor_factory`, asyncpg's `connection_class`, PyMySQL's and
asyncmy's `Connection.query`, the `factory` of sqlite3.

It is a guard against accidents. Private methods of a driver, what lies below it (libpq's `pgconn`), and methods of its
classes that are called past the subclass are not guarded: with them, and with the URL, anybody in this process can
write. Other drivers (mysqlclient, aiomysql) are used as they are; their statements are judged where SQLAlchemy sends
them, not on their own connections.
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Callable
from typing import Any, cast

from ..dialects.reading import reads_pragma
from . import sqlite
from .raw_judge import refusing
from .worker import waiting_for_worker

__all__ = ["ReadConnection", "connector", "patient"]


def connector(dialect: Any) -> Callable[..., Any]:
    """What opens a connection for reads, as `Dialect.connect` does; that itself for a driver that is not known here."""
    from . import raw_mysql, raw_postgresql  # whoever uses SQLite alone needs none of them

    match dialect.driver, dialect.is_async:
        case "psycopg", False:
            return cast("Callable[..., Any]", raw_postgresql.psycopg_connection(False).connect)
        case "psycopg", True:
            return functools.partial(dialect.connect, async_creator_fn=raw_postgresql.psycopg_connection(True).connect)
        case "asyncpg", _:
            return functools.partial(dialect.connect, connection_class=raw_postgresql.asyncpg_connection())
        case "pymysql", _:
            return cast("Callable[..., Any]", raw_mysql.pymysql_connection())
        case "asyncmy", _:
            return functools.partial(dialect.connect, async_creator_fn=raw_mysql.asyncmy_connect)
        case "aiosqlite", _:
            creator = waiting_for_worker(dialect.loaded_dbapi.aiosqlite)
            return functools.partial(dialect.connect, async_creator_fn=creator)
        case _:
            return dialect.connect  # type: ignore[no-any-return]  # as above


def patient(dialect: Any) -> Callable[..., Any]:
    """What opens a connection for writes, as `Dialect.connect` does.

    That of psycopg for asyncio finishes what a cancellation interrupts: it asks the server to cancel the statement and
    waits for the end. By itself it does so too, but a second cancellation makes it leave the statement running in a
    server's session of which nobody knows any more. That of asyncmy closes itself when it is cancelled; it keeps a
    link on which the server's end of that can be awaited. aiosqlite leaves its thread behind where it cannot connect.
    PyMySQL loads the system's certificates for each connection.
    """
    from . import pymysql_tls, raw_mysql, raw_postgresql  # as above

    match dialect.driver, dialect.is_async:
        case "psycopg", True:
            return functools.partial(dialect.connect, async_creator_fn=raw_postgresql.patient_psycopg().connect)
        case "asyncmy", _:
            return functools.partial(dialect.connect, async_creator_fn=raw_mysql.patient_asyncmy_connect)
        case "pymysql", _:
            return cast("Callable[..., Any]", pymysql_tls.sharing(dialect.loaded_dbapi.connections.Connection))
        case "aiosqlite", _:
            creator = waiting_for_worker(dialect.loaded_dbapi.aiosqlite)
            return functools.partial(dialect.connect, async_creator_fn=creator)
        case _:
            return dialect.connect  # type: ignore[no-any-return]  # SQLAlchemy's, with the driver's arguments


def _allow(action: int, first: str | None, second: str | None, database: str | None, trigger: str | None) -> int:
    """The authorizer of a connection for reads, asked while a statement is prepared.

    Source: sqlite.org/c3ref/set_authorizer.html, sqlite.org/c3ref/c_alter_table.html.
    """
    if action in _CLOSED or (action == sqlite3.SQLITE_PRAGMA and not reads_pragma(first or "", second)):
        return sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_FUNCTION and second in _REACHES_OUT:
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK


_CLOSED = frozenset((sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH))
"""Other files are none of the unit's databases."""
_REACHES_OUT = frozenset(("load_extension", "fts3_tokenizer"))
"""SQL functions that bring code of another file into the process."""


class ReadConnection(sqlite.Connection):
    """For reads: `query_only` refuses every change, and from `arm` on nothing switches it off or passes by it."""

    def arm(self) -> None:
        """Begin to refuse; a second call does nothing more."""
        sqlite3.Connection.set_authorizer(self, _allow)

    def blobopen(self, *args: Any, **named: Any) -> Any:
        """As `sqlite3.Connection.blobopen`, for reading."""
        return super().blobopen(*args, **{**named, "readonly": True})


for _name, _refuse in refusing(
    "set_authorizer", "enable_load_extension", "load_extension", "deserialize", "executescript", "setconfig"
).items():
    setattr(ReadConnection, _name, _refuse)
