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

from .. import dialects
from ..dialects.reading import reads_pragma
from . import sqlite
from .readonly import CHANGED, START, Verdicts, mode_of, refused

__all__ = ["ReadConnection", "connector"]


def connector(dialect: Any) -> Callable[..., Any]:
    """What opens a connection for reads, as `Dialect.connect` does; that itself for a driver that is not known here."""
    match dialect.driver, dialect.is_async:
        case "psycopg", False:
            return _psycopg(False).connect  # type: ignore[no-any-return]  # the driver is imported by need only
        case "psycopg", True:
            return functools.partial(dialect.connect, async_creator_fn=_psycopg(True).connect)
        case "asyncpg", _:
            return functools.partial(dialect.connect, connection_class=_asyncpg())
        case "pymysql", _:
            return cast("Callable[..., Any]", _pymysql())
        case "asyncmy", _:
            return functools.partial(dialect.connect, async_creator_fn=_asyncmy)
        case _:
            return dialect.connect  # type: ignore[no-any-return]  # as above


def _judge(backend: str, *, from_driver: bool) -> Callable[[Any], None]:
    """Raises for a text that must not be sent."""
    reads = dialects.of(backend).reads
    verdicts = Verdicts(lambda text: reads.refusal(text, from_driver=from_driver))

    def judge(text: Any) -> None:
        if isinstance(text, bytes | bytearray):
            text = text.decode(errors="replace")
        what = verdicts[text] if isinstance(text, str) else "a text that cannot be judged"
        if what is not None:
            raise refused(what, None)

    return judge


def _refusing(*names: str) -> dict[str, Callable[..., Any]]:
    """Methods that refuse."""

    def refusing(name: str) -> Callable[..., Any]:
        def refuse(self: Any, *args: Any, **named: Any) -> Any:
            raise refused(f"{name}()", None)

        return refuse

    return {name: refusing(name) for name in names}


def _judging(base: type, judge: Callable[[Any, Any], None], *names: str) -> dict[str, Callable[..., Any]]:
    """Methods of `base` that judge their first argument; coroutine functions are as before."""

    def judging(name: str) -> Callable[..., Any]:
        method = getattr(base, name)

        @functools.wraps(method)
        def judged(self: Any, text: Any, *args: Any, **named: Any) -> Any:
            judge(self, text)
            return method(self, text, *args, **named)

        return judged

    return {name: judging(name) for name in names}


# -- PostgreSQL


@functools.cache
def _psycopg(asynchronous: bool) -> Any:
    """A subclass of psycopg's connection whose cursors judge.

    It never says BEGIN READ WRITE, also if asked for: nothing is said, and the session's READ ONLY stays in force.
    """
    import psycopg
    from psycopg.sql import Composable

    judge_text = _judge("postgresql", from_driver=False)
    base: Any = psycopg.AsyncConnection if asynchronous else psycopg.Connection

    def judge(cursor: Any, query: Any) -> None:
        judge_text(query.as_string(cursor) if isinstance(query, Composable) else query)
        _refuse_if_changed(cursor.connection)

    @functools.cache
    def judging(cursor_class: type) -> type:
        methods = _judging(cursor_class, judge, "execute", "executemany", "stream", "copy")
        return type(f"Read{cursor_class.__name__}", (cursor_class,), methods)

    class ReadConnection(base):  # type: ignore[misc]  # one text for the two classes of the driver
        """For reads."""

        @property
        def cursor_factory(self) -> Any:
            return self._judging_factory

        @cursor_factory.setter
        def cursor_factory(self, factory: Any) -> None:
            self._judging_factory = judging(factory)

        def set_read_only(self, value: bool | None) -> Any:
            return super().set_read_only(value or None)

    for name, refuse in _refusing("tpc_begin", "tpc_prepare", "tpc_commit", "tpc_rollback").items():
        setattr(ReadConnection, name, refuse)
    return ReadConnection


@functools.cache
def _asyncpg() -> type:
    """A subclass of asyncpg's connection that judges."""
    import asyncpg

    judge_text = _judge("postgresql", from_driver=True)

    def judge(connection: Any, query: Any) -> None:
        judge_text(query)
        _refuse_if_changed(connection)

    base: Any = asyncpg.Connection
    texts = ("execute", "executemany", "fetch", "fetchval", "fetchrow", "fetchmany", "cursor", "copy_from_query")
    methods = _judging(base, judge, *texts) | _refusing("copy_to_table", "copy_records_to_table")

    async def prepare(connection: Any, query: str, **named: Any) -> _Prepared:
        judge(connection, query)
        return _Prepared(connection, await base.prepare(connection, query, **named))

    return type("ReadConnection", (base,), {**methods, "prepare": prepare})


class _Prepared:
    """A prepared statement of asyncpg: judged when it was prepared, and not run once the connection may write."""

    __slots__ = ("_connection", "_statement")

    def __init__(self, connection: Any, statement: Any) -> None:
        self._connection = connection
        self._statement = statement

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("get_"):
            _refuse_if_changed(self._connection)
        return getattr(self._statement, name)


def _refuse_if_changed(connection: Any) -> None:
    """Raise if the server has reported that the connection may write."""
    known = connection.__dict__
    if "polysession_mode" not in known:
        known["polysession_mode"] = mode_of(connection)
    mode = known["polysession_mode"]
    if mode is not None and not mode():
        raise refused(CHANGED, None)


# -- MySQL and MariaDB


@functools.cache
def _pymysql() -> Any:
    """A subclass of PyMySQL's connection that judges; it does not connect again, which would forget READ ONLY."""
    import pymysql.connections

    return _judging_mysql(pymysql.connections.Connection)


async def _asyncmy(*args: Any, **named: Any) -> Any:
    connection = _asyncmy_class()(*args, **named)
    connection.open_to_settings = True
    try:
        await connection.connect()
    finally:
        connection.open_to_settings = False
    return connection


@functools.cache
def _asyncmy_class() -> Any:
    import asyncmy.connection

    return _judging_mysql(asyncmy.connection.Connection)


def _judging_mysql(base: Any) -> Any:
    judge = _judge("mysql", from_driver=True)

    class ReadConnection(base):  # type: ignore[misc]  # one text for two drivers
        """For reads. While it connects it sends what it was configured to send."""

        open_to_settings = True

        def __init__(self, *args: Any, **named: Any) -> None:
            super().__init__(*args, **named)
            self.open_to_settings = False

        def connect(self, *args: Any, **named: Any) -> Any:
            if not self.open_to_settings:
                raise refused("connect()", None)
            return super().connect(*args, **named)

        def begin(self) -> Any:
            raise refused("begin()", None)

        def query(self, sql: Any, *args: Any, **named: Any) -> Any:
            if not self.open_to_settings and sql != START:
                judge(sql)
            return super().query(sql, *args, **named)

    return ReadConnection


# -- SQLite


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


for _name, _refuse in _refusing(
    "set_authorizer", "enable_load_extension", "load_extension", "deserialize", "executescript", "setconfig"
).items():
    setattr(ReadConnection, _name, _refuse)
