"""What keeps a read unit from writing by a text: judged before it is sent, on engines for reads and on given ones.

The server was told at connect to refuse writes, and is the judge of what a statement does inside. Here every text is
looked at before it leaves, so that none ends the transaction, switches the server's refusal off or passes by it
(`dialects.reading` says which). Where the server tells of a switch that a function made (PostgreSQL reports
`default_transaction_read_only`), nothing more is sent on that connection, and it is closed instead of given back.

A transaction of a read engine is rolled back at its end, whatever it did: then nothing of it can last.

What is judged once is remembered by its text: for SQLAlchemy's cached statements that is one look into a dict.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine

from .. import dialects
from ..dialects.reading import Reading
from ..errors import ReadOnlyUnit
from . import sqlite
from .notes import notes_of, say
from .verdicts import Judge, Order
from .watch import watch_of

if TYPE_CHECKING:
    from .holding import Holding
    from .upkeep import Upkeep

__all__ = ["guard_reads", "is_changed", "judge_given", "mode_of", "refused"]

_MODE = "polysession_mode"
"""Where a connection keeps the question whether its server still refuses writes."""


def refused(what: str, holding: Holding | None, *, do: str = "open the unit with begin()") -> ReadOnlyUnit:
    """The error for a text; without a holding for one that came on a bare connection."""
    if holding is None:
        return ReadOnlyUnit(
            f"a connection for reading cannot run {what}",
            why="it belongs to an engine for read units, which sends what is known to read",
            do=(do,),
        )
    return ReadOnlyUnit(
        f"a read unit of {', '.join(holding.databases)} cannot run {what}",
        why=f"it sends what is known to read; unit {holding.name!r} was opened with read() at {holding.origin}",
        do=(do,),
        unit=holding.name,
    )


START = "START TRANSACTION READ ONLY"
"""What a driver's connection for reads lets pass although it controls a transaction."""
CHANGED = "anything more: a statement has switched off that the server refuses writes"


def guard_reads(engine: Engine, upkeep: Upkeep) -> Judge:
    """Let no transaction of this engine last; the judge of its statements. For engines of our making."""
    dialect: Any = engine.dialect
    dialect.do_commit = _rolling_back(dialect)
    if dialect.name == "sqlite":
        dialect.do_rollback = dialect.do_commit
    if dialect.name in ("mysql", "mariadb"):
        dialect.do_begin = _beginning(dialect)
    upkeep.when_new(_prepare(dialect))
    if dialect.name != "sqlite":
        upkeep.when_back(_close_if_changed)
    return _refusing(dialects.of(dialect.name).reads)


def _refusing(reads: Reading) -> Judge:
    def judge(text: str) -> Order | None:
        what = reads.refusal(text)
        if what is None:
            return None

        def refuse(context: Any) -> None:
            watch = watch_of(context.root_connection)
            raise refused(what, None if watch is None else watch.holding)

        return refuse

    return judge


def _beginning(dialect: Any) -> Callable[[Any], None]:
    """What begins a transaction of reads on MySQL and MariaDB: it says READ ONLY itself, so that no function can switch
    the mode of one that has begun (MariaDB documentation, START TRANSACTION)."""

    def begin(connection: Any) -> None:
        if not dialect.detect_autocommit_setting(connection):
            say(connection.cursor(), START)

    return begin


def _rolling_back(dialect: Any) -> Callable[[Any], None]:
    """What ends a transaction of reads."""
    commit, rollback = dialect.do_commit, dialect.do_rollback

    def on_sqlite(connection: Any) -> None:
        # its connections are in the driver's autocommit, where SQLAlchemy would skip the rollback of our own BEGIN
        raw: sqlite.Connection | None = notes_of(connection).get(sqlite.RAW)
        if raw is not None and raw.is_open and raw.in_transaction:
            connection.rollback()

    def on_postgresql(connection: Any) -> None:
        # what was read at SERIALIZABLE is known to be valid only after COMMIT, also by who only reads
        # (PostgreSQL documentation, "Transaction Isolation")
        (commit if _is_serializable(connection) else rollback)(connection)

    ways: dict[str, Callable[[Any], None]] = {"sqlite": on_sqlite, "postgresql": on_postgresql}
    return ways.get(dialect.name) or rollback


def _is_serializable(connection: Any) -> bool:
    levels = [getattr(place, "isolation_level", None) for place in (connection.driver_connection, connection)]
    return any("serializable" in str(getattr(level, "name", level)).lower() for level in levels)


_TRACKS = (10, 2, 2)
"""MariaDB knows session tracking since this version (MariaDB documentation, session_track_system_variables)."""


def _prepare(dialect: Any) -> Callable[[Any, Any], None]:
    """What is done with a new connection, after all other settings."""
    backend = dialect.name

    def prepare(connection: Any, record: Any) -> None:
        if backend == "postgresql":
            driver = connection if hasattr(connection, "pgconn") else connection.driver_connection
            record.info[_MODE] = mode_of(driver)
        elif backend == "sqlite":
            record.info[sqlite.RAW].arm()
        else:
            found = dialects.of("mariadb" if dialect.is_mariadb else backend)
            say(connection.cursor(), found.read_only().apply)
            if found.reports_mode is not None and dialect.server_version_info >= _TRACKS:
                say(connection.cursor(), found.reports_mode)
            driver = getattr(connection, "driver_connection", connection)
            if hasattr(driver, "open_to_settings"):
                driver.open_to_settings = False

    return prepare


def mode_of(driver: Any) -> Callable[[], bool] | None:
    """The question whether a connection of psycopg or asyncpg still begins its transactions READ ONLY.

    It is answered without a round trip: the server reports every change before it is ready for the next statement
    (PostgreSQL documentation, "Frontend/Backend Protocol", Asynchronous Operations: `default_transaction_read_only`,
    since version 14). None if the server does not report it.
    """
    if hasattr(driver, "pgconn"):
        pgconn = driver.pgconn
        name = b"default_transaction_read_only"

        def by_psycopg() -> bool:
            return bool(pgconn.status) or pgconn.parameter_status(name) == b"on"  # status 0: the connection is good

        return by_psycopg if pgconn.parameter_status(name) == b"on" else None
    settings = driver.get_settings()
    # as an attribute it is looked for everywhere else first, and that takes five times as long
    ask = getattr(settings, "__getattr__", functools.partial(getattr, settings))

    def by_asyncpg() -> bool:
        return bool(ask("default_transaction_read_only") == "on")

    return by_asyncpg if getattr(settings, "default_transaction_read_only", "") == "on" else None


def _close_if_changed(connection: Any, record: Any) -> None:
    """Keep a connection that may write, or on which the driver began a transaction, from the next unit."""
    if connection is not None and is_changed(record):
        record.invalidate()


def is_changed(record: Any) -> bool:
    """A connection for reads may write, or the driver has begun a transaction on it: nobody may have it next."""
    mode = record.info.get(_MODE)
    begun = getattr(record.driver_connection, "is_in_transaction", None)  # asyncpg's, which lets BEGIN pass
    may_write = getattr(record.driver_connection, "may_write", None)  # of our class for MySQL and MariaDB
    return bool(
        (mode is not None and not mode()) or (begun is not None and begun()) or (may_write is not None and may_write())
    )


def judge_given(connection: Connection, holding: Holding) -> None:
    """Judge the statements of a read unit over an engine that the application made; ours judges by itself."""
    if connection.engine.get_execution_options().get("polysession") or hasattr(connection, _JUDGED):
        return
    setattr(connection, _JUDGED, True)
    judge = dialects.of(connection.dialect.name).reads.refusal

    def before(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        what = None if holding.leaving else judge(statement)
        if what is not None:
            raise refused(what, holding)

    event.listen(connection, "before_cursor_execute", before)


_JUDGED = "_polysession_judged"
