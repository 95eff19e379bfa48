"""How a connection's session is put back into the state in which it was made, by the driver's own means.

PostgreSQL: the parts of DISCARD ALL without DEALLOCATE, which would drop the prepared statements of the driver, in one
message. RESET ALL goes back to what was said at connect. MySQL and MariaDB: COM_RESET_CONNECTION, which forgets what
the driver and the `connect` listeners said at connect too; so it is said again. SQLite: there is no such thing, and a
connection costs little; it is closed.

Closed is also what cannot be put back: a `connect` listener of the application has set something that is not known, a
driver has no way to reset, the trace is one that nothing undoes.

Sources: PostgreSQL documentation, DISCARD, RESET, `pg_prepared_statements`; its "Message Flow" (several statements in
one simple query); MariaDB documentation, COM_RESET_CONNECTION; MySQL reference manual, the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from operator import attrgetter
from typing import Any, Final

from sqlalchemy.engine import Engine

from ..dialects.remains import Found, Trace
from .grace import await_end
from .patience import patience
from .severing import sever

__all__ = ["LONGEST", "reset", "seen_by_server"]

LONGEST: Final = 5.0
"""Seconds after which a reset is given up and its connection closed."""

_POSTGRESQL: Final = (
    "RESET SESSION AUTHORIZATION; RESET ROLE; RESET ALL; CLOSE ALL; UNLISTEN *; SELECT pg_advisory_unlock_all(); "
    "DISCARD TEMP; DISCARD SEQUENCES"
)
_DEALLOCATE: Final = (
    "; DO $polysession$ DECLARE found record; BEGIN "
    "FOR found IN SELECT name FROM pg_prepared_statements WHERE from_sql AND left(name, 12) <> 'polysession_' "
    "LOOP EXECUTE format('DEALLOCATE %I', found.name); END LOOP; END $polysession$"
)
"""The statements that somebody prepared by SQL; those of the driver are not among them (`from_sql`), nor ours (`pens`),
of which the driver knows as of its own."""

_REPORTED: Final = (
    "application_name",
    "client_encoding",
    "DateStyle",
    "default_transaction_read_only",
    "IntervalStyle",
    "is_superuser",
    "search_path",
    "session_authorization",
    "standard_conforming_strings",
    "TimeZone",
)
"""What a server reports of its own accord whenever it changes (PostgreSQL documentation, "Asynchronous Operations";
`search_path` since version 18)."""


def reset(engine: Engine, connection: Any, record: Any, found: Found) -> bool:
    """Put the session back; False if it cannot be, and the connection has to be closed. May raise the driver's errors.

    `connection` is what SQLAlchemy's pool has: the driver's, or SQLAlchemy's adapter around an asynchronous one. No
    transaction is open on it.
    """
    if found.trace is Trace.LASTING or _is_configured_elsewhere(engine):
        return False
    dialect = engine.dialect
    match dialect.name, dialect.driver:
        case "postgresql", "psycopg":
            return _psycopg(record.driver_connection, found, dialect.is_async)
        case "postgresql", "asyncpg":
            return _asyncpg(record.driver_connection, found)
        case (("mysql" | "mariadb"), ("pymysql" | "asyncmy" | "aiomysql")):
            return _mysql(engine, connection, record, found)
        case _:
            return False


def _is_configured_elsewhere(engine: Engine) -> bool:
    """A listener that is neither SQLAlchemy's nor ours sees new connections: what it sets is not known here."""
    return any(not _module(listener).startswith(("sqlalchemy.", "polysession.")) for listener in _listeners(engine))


def _listeners(engine: Engine) -> list[Callable[[Any, Any], None]]:
    return list(engine.pool.dispatch.connect)


def _module(listener: Any) -> str:
    return str(getattr(listener, "__module__", None) or type(listener).__module__) + "."


def _await(driver: Any, work: Any) -> None:
    try:
        await_end(asyncio.wait_for(work, LONGEST), lambda: sever(driver))
    except TimeoutError:
        _drop(driver)
        raise


def _drop(driver: Any) -> None:
    """End the link below asyncpg at once, which would wait for the server once more to say goodbye."""
    if hasattr(driver, "terminate"):
        driver.terminate()


# -- PostgreSQL


def _text(found: Found) -> str:
    return _POSTGRESQL + (_DEALLOCATE if found.trace in (Trace.PREPARED, Trace.UNKNOWN) else "")


def _psycopg(driver: Any, found: Found, asynchronous: bool) -> bool:
    import psycopg

    before = driver.autocommit  # else the driver begins a transaction for it
    # a cursor of the driver's own class: that of a connection for reads would judge the text
    if asynchronous:

        async def say() -> None:
            with patience(driver, LONGEST):
                await driver.set_autocommit(True)
                await psycopg.AsyncCursor(driver).execute(_text(found), prepare=False)
                await driver.set_autocommit(before)

        await_end(say(), lambda: sever(driver))
        return True
    with patience(driver, LONGEST):
        driver.autocommit = True
        psycopg.Cursor(driver).execute(_text(found), prepare=False)
        driver.autocommit = before
    return True


def _asyncpg(driver: Any, found: Found) -> bool:
    import asyncpg

    _await(driver, asyncpg.Connection.execute(driver, _text(found)))  # past the judge of a connection for reads
    return True


def seen_by_server(driver: Any) -> Callable[[], tuple[Any, ...]] | None:
    """The question what a PostgreSQL server has reported last of a connection's settings, answered without a round
    trip; None for a driver that does not tell."""
    pgconn = getattr(driver, "pgconn", None)
    if pgconn is not None:
        names = [name.encode() for name in _REPORTED]

        def by_psycopg() -> tuple[Any, ...]:
            return tuple(map(pgconn.parameter_status, names)) if not pgconn.status else ()

        return by_psycopg
    if hasattr(driver, "get_settings"):
        settings = driver.get_settings()
        reported = attrgetter(*[name for name in _REPORTED if hasattr(settings, name)])  # none is ever taken back
        return partial(reported, settings)
    return None


# -- MySQL and MariaDB

_COM_QUERY: Final = 0x03
_COM_RESET_CONNECTION: Final = 0x1F


def _mysql(engine: Engine, connection: Any, record: Any, found: Found) -> bool:
    driver = record.driver_connection
    database = None
    if found.trace is Trace.UNKNOWN or found.words == "USE":  # the only thing that this reset keeps
        database = _attribute(driver, "db")
        if not database:
            return False
    settings = _settings(driver)
    with _open_to_settings(driver):
        _say_mysql(engine, driver, database, settings)
        _set_up_again(engine, connection, record)
    return True


@contextmanager
def _open_to_settings(driver: Any) -> Iterator[None]:
    """Let a connection for reads send what it sent when it was made."""
    known = hasattr(driver, "open_to_settings")
    if known:
        driver.open_to_settings = True
    try:
        yield
    finally:
        if known:
            driver.open_to_settings = False


def _say_mysql(engine: Engine, driver: Any, database: Any, settings: list[str]) -> None:
    if engine.dialect.is_async:

        async def say() -> None:
            await driver._execute_command(_COM_RESET_CONNECTION, b"")
            await driver._read_ok_packet()
            if (kept := getattr(driver, "_stmt_cache", None)) is not None:
                kept.clear()  # its statements are gone from the server
            if database is not None:
                await driver.select_db(database)
            settings_of_driver, *of_application = settings
            # not by `query`, after which asyncmy keeps the status of before where the new one is 0: it would say of the
            # connection that it is in autocommit, as it was between the reset and this
            await driver._execute_command(_COM_QUERY, settings_of_driver)
            await driver._read_ok_packet()
            for statement in of_application:
                await driver.query(statement)

        _await(driver, say())
        return
    with patience(driver, LONGEST):
        driver._execute_command(_COM_RESET_CONNECTION, b"")
        driver._read_ok_packet()
        if database is not None:
            driver.select_db(database)
        for statement in settings:
            driver.query(statement)


def _settings(driver: Any) -> list[str]:
    """What the driver said when it connected, in as few statements as can be."""
    charset, collation = _attribute(driver, "charset"), _attribute(driver, "collation")
    names = f"NAMES {charset}" + (f" COLLATE {collation}" if collation else "")
    words = [names, f"autocommit = {int(bool(driver.autocommit_mode))}"]
    mode, command = _attribute(driver, "sql_mode"), _attribute(driver, "init_command")
    if mode is not None:
        words.append(f"sql_mode = {driver.escape(mode)}")
    said = [f"SET {', '.join(words)}"]
    return [*said, command] if command else said


def _attribute(driver: Any, name: str) -> Any:
    return getattr(driver, name, None) or getattr(driver, f"_{name}", None)


def _set_up_again(engine: Engine, connection: Any, record: Any) -> None:
    """What SQLAlchemy and we say on a new connection: the isolation level, READ ONLY and the like."""
    for listener in _listeners(engine):
        listener(connection, record)
