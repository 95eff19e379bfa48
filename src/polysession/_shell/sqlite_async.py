"""SQLAlchemy's adapter of aiosqlite, which a thread without an event loop can use, too.

aiosqlite keeps a thread for each connection and asks it for every call, because SQLite blocks. Who is in a thread
already needs none of that: there the connection of Python's driver below is used directly. One connection serves both,
in turns: whoever has it of the pool uses it alone, and aiosqlite's thread waits for work meanwhile.

The adapter is a class of a dialect, and not public: `is_known` says whether it is the one that was read for this
(SQLAlchemy 2.1, dialects/sqlite/aiosqlite.py), and whether aiosqlite can be told to stop (since 0.22.1).
"""

from __future__ import annotations

import asyncio
import functools
import sqlite3
from typing import Any

from sqlalchemy.dialects.sqlite.aiosqlite import AsyncAdapt_aiosqlite_connection as Adapted
from sqlalchemy.dialects.sqlite.aiosqlite import AsyncAdapt_aiosqlite_cursor as AdaptedCursor

from . import known, sqlite

__all__ = ["Connection", "cursor", "is_known"]

_get_running_loop = asyncio._get_running_loop
_METHODS = ("cursor", "execute", "commit", "rollback", "close", "terminate", "create_function")


@functools.cache
def is_known() -> bool:
    """The adapter is the one that was read, its driver can be stopped, and SQLite was made for several threads."""
    import aiosqlite

    return (
        known.IS_KNOWN
        and hasattr(aiosqlite.Connection, "stop")
        and sqlite3.threadsafety > 0
        and all(callable(getattr(Adapted, name, None)) for name in _METHODS)
        and isinstance(Adapted.__dict__.get("isolation_level"), property)
    )


class Connection(Adapted):
    """As SQLAlchemy's adapter; where no event loop runs, the connection of Python's driver that is below it."""

    __slots__ = ("raw",)

    def __init__(self, adapted: Adapted, raw: sqlite.Connection) -> None:
        super().__init__(adapted.dbapi, adapted.driver_connection)
        self.raw = raw

    def cursor(self, server_side: bool = False) -> Any:
        """A cursor."""
        return self.raw.cursor() if _get_running_loop() is None else super().cursor(server_side)

    def commit(self) -> None:
        """Commit."""
        if _get_running_loop() is None:
            self.raw.commit()
        else:
            super().commit()

    def rollback(self) -> None:
        """Roll back; nothing on one that is closed, as SQLAlchemy's adapter has it."""
        if _get_running_loop() is not None:
            super().rollback()
        elif self.raw.is_open:
            self.raw.rollback()

    def close(self) -> None:
        """Close it. A second call does nothing."""
        if _get_running_loop() is None:
            self._close_here()
        else:
            super().close()

    def terminate(self) -> None:
        """Close it, as well as can be."""
        if _get_running_loop() is None:
            self._close_here()
        else:
            super().terminate()

    def _close_here(self) -> None:
        was_open = self.raw.is_open
        try:
            self.raw.close()
        finally:
            if was_open:
                self._connection.stop()  # aiosqlite's: it lets its thread end

    def create_function(self, *args: Any, **kw: Any) -> None:
        """As `sqlite3.Connection.create_function`."""
        if _get_running_loop() is None:
            self.raw.create_function(*args, **kw)
        else:
            super().create_function(*args, **kw)

    @property
    def isolation_level(self) -> str | None:
        """As of `sqlite3.Connection`; it is set where the connection is used."""
        return self.raw.isolation_level

    @isolation_level.setter
    def isolation_level(self, value: str | None) -> None:
        if _get_running_loop() is None:
            self.raw.isolation_level = value  # type: ignore[assignment]  # it takes every text, and refuses wrong ones
        else:
            Adapted.isolation_level.fset(self, value)  # type: ignore[attr-defined]  # a property has one


def cursor(connection: Any) -> Any:
    """A cursor of a connection, in one call."""
    return connection.raw.cursor() if _get_running_loop() is None else AdaptedCursor(connection)
