"""How the database is asked what came of a COMMIT, and how the table of outcomes is made. Decides nothing.

Everything here is synchronous and runs on a connection of its own; the asynchronous door runs it in a greenlet, as
SQLAlchemy does. Every answer has a bound: a link that leads nowhere is shut (`patience`).
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from sqlalchemy import text
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError

from .. import dialects
from .._core.outcome import Doing
from ..errors import RequestRefused
from ..policy import unit_ids
from . import sqlite
from .begins import begin_sqlite
from .patience import patience
from .pens import connection_number, marker_of

__all__ = ["Link", "dial", "evict", "fence", "hang_up", "look", "make_table", "read_verdict", "seal"]


class Link:
    """A connection for asking. `server` is the print of the history in which its server commits; it is shut if a
    question that waits for no lock is not answered `within` so many seconds."""

    __slots__ = ("backend", "connection", "sealed", "server", "within")

    def __init__(self, connection: Connection, within: float) -> None:
        self.connection = connection
        self.within = within
        self.server = 0
        self.backend = connection_number(self.driver)
        """The server's number of it; 0 if it has none."""
        self.sealed = False
        """The fence was committed with its row."""

    @property
    def driver(self) -> Any:
        """The driver's connection."""
        return self.connection.connection.driver_connection


def dial(engine: Engine, within: float) -> Link:
    """A link to the server that the engine leads to now."""
    connection = engine.connect()
    try:
        link = Link(connection, within)
        if connection.dialect.name == "sqlite":
            begin_sqlite(sqlite.Begin.IMMEDIATE, connection)
        with patience(link.driver, link.within):
            found = connection.exec_driver_sql(marker_of(connection.dialect).server).scalar()
            if connection.dialect.name == "sqlite":
                connection.rollback()  # it has the lock; elsewhere the fence goes on in this transaction
        link.server = unit_ids.server_print(str(found or ""))
    except BaseException:
        connection.invalidate()
        connection.close()
        raise
    return link


def fence(link: Link, unit: str, seconds: float) -> None:
    """Write the row of whoever asks, and commit it if both go in one message."""
    connection = link.connection
    marker = marker_of(connection.dialect)
    write = marker.fence(unit)
    together = "" if unit_ids.is_key(unit) else marker.with_commit(write)
    backend = connection.dialect.name
    setting = dialects.of(backend).lock_timeout(max(seconds, 0.001))
    with patience(link.driver, max(seconds, _SHORTEST_LOCK_WAIT.get(backend, 0.0)) + link.within):
        connection.exec_driver_sql(setting.apply)
        if together and hasattr(link.driver, "polysession_marker"):
            link.driver.polysession_marker = write
            try:
                connection.commit()
            finally:
                link.driver.polysession_marker = ""
        else:
            connection.exec_driver_sql(together or write)
    link.sealed = bool(together)


_SHORTEST_LOCK_WAIT = {"mysql": 1.0, "mariadb": 1.0}
"""Seconds: they count in whole ones."""


def seal(link: Link) -> None:
    """Commit it, if it is not committed yet."""
    if link.sealed:
        return
    with patience(link.driver, link.within):
        link.connection.commit()


def read_verdict(link: Link, unit: str) -> tuple[str, str] | None:
    """Verdict and attempt in the row, as they are committed now."""
    with patience(link.driver, link.within):
        with suppress(Exception):
            link.connection.rollback()  # SQLAlchemy lets nothing follow a failed COMMIT: by asyncpg the fence is one
        found = read_row(link.connection, unit)
    return None if found is None else found[:2]


def read_row(connection: Connection, unit: str) -> tuple[str, str, str | None] | None:
    """Verdict, attempt and result in the row of `unit`, in a transaction of its own."""
    dialect: Any = connection.dialect
    with suppress(Exception):  # a link that is lost is found by the question, whose error is SQLAlchemy's
        dialect.do_rollback(connection.connection)  # what was refused, and its snapshot
    row = connection.exec_driver_sql(marker_of(dialect).read(unit)).first()
    with suppress(Exception):
        dialect.do_rollback(connection.connection)
    return None if row is None else (str(row[0]).strip(), str(row[1] or "").strip(), row[2])


def look(link: Link, backend: int) -> Doing:
    """What the unit's connection does."""
    query = marker_of(link.connection.dialect).blocker
    if not query or not backend:
        return Doing.GONE
    with patience(link.driver, link.within):
        link.connection.rollback()
        found = link.connection.exec_driver_sql(query.replace("{backend}", str(int(backend)))).scalar()
    return Doing(found) if found is not None else Doing.GONE


def evict(link: Link, backend: int) -> None:
    """Let the server end it."""
    command = marker_of(link.connection.dialect).evict
    with patience(link.driver, link.within):
        link.connection.exec_driver_sql(command.replace("{backend}", str(int(backend))))
        link.connection.rollback()


def hang_up(link: Link) -> None:
    """Close it."""
    try:
        with patience(link.driver, link.within):
            link.connection.rollback()
    finally:
        link.connection.invalidate()
        link.connection.close()


def make_table(engine: Engine, database: str) -> None:
    """See to it that the table is there; `RequestRefused` if it is missing and may not be made."""
    with engine.connect() as connection:
        marker = marker_of(connection.dialect)
        if connection.dialect.name == "sqlite":
            begin_sqlite(sqlite.Begin.IMMEDIATE, connection)
        if _is_there(connection, marker.exists):
            return
        try:
            connection.execute(text(marker.create))
            connection.commit()
        except DBAPIError as error:
            connection.rollback()
            if _is_there(connection, marker.exists):
                return  # another process was quicker
            raise RequestRefused(
                f"database {database!r} has no table for the outcomes of units, and it could not be made",
                why=f"{type(error.orig).__name__}: {error.orig}",
                do=(
                    "let a user who may make tables run: polysession init-db",
                    "put what `polysession init-db --print` shows into your migrations",
                ),
                database=database,
            ) from error


def _is_there(connection: Connection, query: str) -> bool:
    try:
        connection.exec_driver_sql(query).close()
    except DBAPIError as error:
        if error.connection_invalidated:
            raise
        return False
    finally:
        if not connection.invalidated:
            connection.rollback()
    return True
