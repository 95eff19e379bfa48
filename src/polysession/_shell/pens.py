"""How the row of a unit and its COMMIT leave on a connection: a pen for each, as its driver can.

Where the driver can send both in one message the row costs no round trip: psycopg and asyncpg as one simple query,
MariaDB as one compound statement. For SQLite it is one call, so that aiosqlite's thread is asked once. Everywhere else
it is a statement of its own before COMMIT. A row that is refused keeps COMMIT from being reached.
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy.engine import Connection, Engine
from sqlalchemy.util import await_only

from .. import dialects
from ..dialects.marker import Marker
from ..policy import unit_ids
from . import pooled, sqlite
from .notes import say
from .patience import patience
from .severing import sever
from .watchdog import bound, free

if TYPE_CHECKING:
    from .marking import Trail

__all__ = [
    "ANSWER_WITHIN",
    "PEN",
    "Commit",
    "Pen",
    "connection_number",
    "marker_of",
    "marking_connection",
    "pen_for",
    "prepares",
]

ANSWER_WITHIN: Final = 1.0
"""Seconds to wait for the answer to COMMIT before the database is asked on another connection; only for units that know
their outcome. A COMMIT that takes longer is waited for by the fence."""

PEN: Final = "polysession_pen"
"""Where a connection keeps its pen."""
_ROWS: Final = "polysession_rows"
"""Where a pool keeps the count of the rows that its engine has written: engines may share a dialect."""

Commit = Callable[[Any], None]
"""`Dialect.do_commit`; it is given the connection as SQLAlchemy's pool has it."""


class Pen:
    """That of any driver: a statement of its own."""

    __slots__ = ("backend", "dialect", "driver", "is_ours", "marker", "rows", "server")

    def __init__(self, connection: Connection, backend: int, server: int, *, is_ours: bool) -> None:
        self.dialect: Any = connection.dialect
        self.driver: Any = connection.connection.driver_connection
        self.marker = marker_of(self.dialect)
        self.backend = backend
        """The server's number of the connection, as the driver was told; 0 if it has none."""
        self.server = server
        """The print of the history in which its server commits."""
        self.is_ours = is_ours
        """Its engine is of our making: COMMIT is sent by a method of ours."""
        self.rows: Iterator[int] = vars(connection.engine.pool).setdefault(_ROWS, itertools.count(1))
        """Numbers the rows of its engine."""

    def commit(self, trail: Trail, connection: Any, do_commit: Commit) -> None:
        """Send the row and COMMIT; whether COMMIT may have left is noted in `trail`."""
        with patience(self.driver, ANSWER_WITHIN):
            say(connection.cursor(), self.marker.write(trail.unit, sure=trail.sure))
            trail.sent = True
            do_commit(connection)

    def commit_alone(self, trail: Trail, connection: Any, do_commit: Commit) -> None:
        """Send COMMIT of a unit that writes no row at its end."""
        with patience(self.driver, ANSWER_WITHIN):
            trail.sent = True
            do_commit(connection)


class _OneText(Pen):
    """By one statement that holds the row and COMMIT."""

    __slots__ = ()

    def commit(self, trail: Trail, connection: Any, do_commit: Commit) -> None:
        """As `Pen.commit`."""
        with patience(self.driver, ANSWER_WITHIN):
            trail.sent = True
            self._send(connection, self.marker.with_commit(self.marker.write(trail.unit)))

    def _send(self, connection: Any, text: str) -> None:
        say(connection.cursor(), text)


class _ByQuery(_OneText):
    """That of asyncmy and aiomysql: without a cursor, whose making and closing is awaited too."""

    __slots__ = ()

    def _send(self, connection: Any, text: str) -> None:
        _await(connection, self.driver.query(text))


def _await(connection: Any, work: Awaitable[object]) -> None:
    """Await what SQLAlchemy's adapter of the driver does not; its errors are called as the adapter calls them."""
    try:
        await_only(work)
    except Exception as error:
        connection.dbapi_connection._handle_exception(error)  # raises
        raise


class _PyMySQL(Pen):
    """Without a cursor, which takes longer than the server."""

    __slots__ = ()

    def commit(self, trail: Trail, connection: Any, do_commit: Commit) -> None:
        """As `Pen.commit`."""
        bounded = _Bounded(self.driver)
        try:
            bound(bounded, time.monotonic() + ANSWER_WITHIN)
            trail.sent = True
            self.driver.query(self.marker.with_commit(self.marker.write(trail.unit)))
        finally:
            free(bounded)
            bounded.driver = None


class _Bounded:
    """A wait of PyMySQL's, which any thread can end: it is severed as it is, without a descriptor of our own."""

    __slots__ = ("bound_at", "driver")

    def __init__(self, driver: Any) -> None:
        self.driver = driver
        self.bound_at = 0.0

    def sever(self) -> None:
        """For the watchdog: the time is up."""
        sever(self.driver)  # None if it was answered just now


class _SQLite(Pen):
    """By one call for both; there is no link that could lead nowhere."""

    __slots__ = ("raw", "row")

    def __init__(self, connection: Connection, backend: int, server: int, *, is_ours: bool) -> None:
        super().__init__(connection, backend, server, is_ours=is_ours)
        self.raw: sqlite.Connection = connection.info[sqlite.RAW]
        self.row = self.marker.written("?")

    def commit(self, trail: Trail, connection: Any, do_commit: Commit) -> None:
        """As `Pen.commit`."""
        trail.sent = True
        self.raw.commit_with(self.row, (trail.unit,))


class _Aiosqlite(_SQLite):
    """The same, asked of the driver's thread once."""

    __slots__ = ()

    def commit(self, trail: Trail, connection: Any, do_commit: Commit) -> None:
        """As `Pen.commit`."""
        trail.sent = True
        _await(connection, self.driver._execute(self.raw.commit_with, self.row, (trail.unit,)))


class _Asyncpg(Pen):
    """By `marking_connection`."""

    __slots__ = ()

    def commit(self, trail: Trail, connection: Any, do_commit: Commit) -> None:
        """As `Pen.commit`."""
        driver = self.driver
        with patience(driver, ANSWER_WITHIN):
            trail.sent = True
            driver.polysession_marker = self.marker.write(trail.unit, sure=trail.sure)
            try:
                do_commit(connection)
            finally:
                driver.polysession_marker = ""


def pen_for(connection: Connection, *, is_ours: bool) -> Pen:
    """The pen of a connection; asks its server who it is."""
    dialect: Any = connection.dialect
    marker = marker_of(dialect)
    told = connection.exec_driver_sql(marker.server).one()
    number = connection_number(connection.connection.driver_connection)
    server = unit_ids.server_print(str(told[0] or ""))
    make: Any = Pen
    match dialect.driver:
        case "psycopg":
            from . import pens_psycopg  # whoever uses another driver needs none of it

            is_direct = told[1] == number and prepares(connection.engine)
            make = functools.partial(pens_psycopg.pen(dialect.is_async), is_direct=is_direct)
        case "asyncpg" if hasattr(connection.connection.driver_connection, "polysession_marker"):
            make = _Asyncpg
        case "pysqlite" if sqlite.RAW in connection.info:
            make = _SQLite
        case "aiosqlite" if sqlite.RAW in connection.info:
            make = _Aiosqlite
        case "pymysql" if marker.together:
            make = _PyMySQL
        case "asyncmy" | "aiomysql" if marker.together:
            make = _ByQuery
        case _ if marker.together:
            make = _OneText
    found: Pen = make(connection, number, server, is_ours=is_ours)
    return found


def prepares(engine: Engine) -> bool:
    """The row is prepared on the connections of this engine, if they lead to the server itself."""
    if engine.dialect.driver != "psycopg":
        return False
    from . import first_flight  # as above

    return first_flight.is_known() and not pooled.is_behind(engine)


def marker_of(dialect: Any) -> Marker:
    """The texts for a SQLAlchemy dialect; a mysql:// URL may lead to MariaDB."""
    return dialects.of("mariadb" if getattr(dialect, "is_mariadb", False) else dialect.name).marker


def connection_number(driver: Any) -> int:
    """The server's number of a driver's connection; 0 if it has none. Sends nothing."""
    try:
        info = getattr(driver, "info", None)
        if info is not None and hasattr(info, "backend_pid"):
            return int(info.backend_pid)
        for name in ("get_server_pid", "thread_id"):
            if hasattr(driver, name):
                return int(getattr(driver, name)())
    except Exception:
        return 0  # it is closed: then nobody has to know its number
    return 0


@functools.cache
def marking_connection() -> Any:
    """asyncpg's connection, whose transaction sends a row with its COMMIT, BEGIN with a statement (`ahead`),
    and COMMIT (`behind`).

    asyncpg's `Transaction.commit` sends its text by the connection's public `execute` (asyncpg, transaction.py), which
    without arguments is a simple query and may have several statements (asyncpg documentation, Connection.execute).
    """
    import asyncpg

    from .ahead import message  # whoever uses another driver needs none of it

    class MarkingConnection(asyncpg.Connection):  # type: ignore[misc]  # the driver's stubs are optional
        """For writes."""

        __slots__ = ("polysession_ahead", "polysession_flight", "polysession_marker")

        def __init__(self, *args: Any, **named: Any) -> None:
            self.polysession_marker = ""
            self.polysession_ahead = False
            """What comes next is a statement that is prepared, with which BEGIN may leave."""
            self.polysession_flight = None
            """What comes next may be the statement with which COMMIT leaves (`behind`)."""
            super().__init__(*args, **named)

        async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:
            """As `asyncpg.Connection.execute`."""
            if self.polysession_ahead and query.startswith("BEGIN"):
                self.polysession_ahead = False
                self._transport.write(message(query))
                return "BEGIN"
            if not self.polysession_marker or query != "COMMIT;":
                return str(await super().execute(query, *args, timeout=timeout))
            try:
                return str(await super().execute(f"{self.polysession_marker}; COMMIT", timeout=timeout))
            except asyncpg.PostgresError:
                # the driver takes its transaction for ended, but COMMIT was not reached if the row was refused
                if self.is_in_transaction() and not self.is_closed():
                    await super().execute("ROLLBACK")
                raise

    return MarkingConnection
