"""What is said on connections of an engine that the application made itself, for one unit alone, and undone at its end.

Engines of our making are told once, at connect (`engines.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.engine import Connection

from .. import dialects
from .notes import HOLDING

if TYPE_CHECKING:
    from .holding import Holding

__all__ = ["begin_immediate", "refuse_lost_updates", "refuse_writes", "say"]


def refuse_writes(connection: Connection, *, snapshot: bool) -> None:
    """Let an SQLite connection refuse writes until the unit ends (sqlite.org/pragma.html, query_only)."""
    if not connection.exec_driver_sql("PRAGMA query_only").scalar():
        _at_end(connection, "PRAGMA query_only = OFF")
        say(connection, "PRAGMA query_only = ON")
    if snapshot:
        _begin(connection, "BEGIN")  # Python's driver begins none for a SELECT


def begin_immediate(connection: Connection) -> None:
    """Let the transaction of a repeatable unit be the only one that may write, from its first read on.

    One that the application's own settings have begun already stays as it is.
    """
    _begin(connection, "BEGIN IMMEDIATE")


def refuse_lost_updates(connection: Connection) -> None:
    """Let MariaDB refuse lost updates in a repeatable unit, where this server can."""
    dialect: Any = connection.dialect
    if not dialect.is_mariadb:
        return
    guard = dialects.of("mariadb").lost_update_guard(dialect.server_version_info)
    if guard is not None:
        _at_end(connection, guard.undo)
        say(connection, guard.apply)


def say(connection: Connection, statement: str) -> None:
    """Send a statement whose answer does not matter."""
    connection.exec_driver_sql(statement)


def _begin(connection: Connection, statement: str) -> None:
    driver: Any = connection.connection.driver_connection
    if not driver.in_transaction:
        say(connection, statement)


def _at_end(connection: Connection, statement: str) -> None:
    holding: Holding = connection.info[HOLDING]
    holding.at_end = lambda: say(connection, statement)
