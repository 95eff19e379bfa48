"""The cursors by which SQLAlchemy's asyncio dialects send, made without a wait that waits for nothing.

SQLAlchemy's adapters enter each of the driver's cursors, as `async with` would: that is a switch between greenlets, and
psycopg's and asyncmy's cursors do nothing then. Below a connection for reads the driver's cursor is one for texts that
were judged (`cursors`).

These are subclasses of the adapters. Where an adapter does not look as it is known, a cursor is asked for as SQLAlchemy
does it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from sqlalchemy.connectors.asyncio import AsyncAdapt_dbapi_cursor

from . import raw_postgresql
from .lease_cursor import LeaseCursor
from .pymysql_status import STATE_CHANGED

__all__ = ["asyncmy_cursors", "asyncpg_cursors", "close_asyncmy", "is_known", "note_asyncpg", "psycopg_cursors"]

Make = Callable[[Any], Any]


def is_known() -> bool:
    """SQLAlchemy's adapter makes and enters a cursor by the methods that are overridden here."""
    return all(
        name in vars(AsyncAdapt_dbapi_cursor)
        for name in ("_make_new_cursor", "_aenter_cursor", "_awaitable_cursor_close")
    )


@functools.cache
def psycopg_cursors() -> tuple[Make, Make]:
    """Those of psycopg, for writes and for reads."""
    from sqlalchemy.dialects.postgresql.psycopg import AsyncAdapt_psycopg_cursor

    class Cursor(AsyncAdapt_psycopg_cursor):
        """Is entered already."""

        __slots__ = ()

        def _aenter_cursor(self, cursor: Any) -> Any:
            return cursor

    class ReadCursor(Cursor):
        """For texts that were judged."""

        __slots__ = ()

        def _make_new_cursor(self, connection: Any) -> Any:
            return raw_postgresql.judged_cursor(connection)

    return Cursor, ReadCursor


@functools.cache
def asyncpg_cursors() -> tuple[Make, Make]:
    """That of asyncpg, which prepares its statements: they are judged once, and looked at when they are run."""
    from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_cursor

    from . import ahead

    return ahead.beginning_cursor() if ahead.is_known() else AsyncAdapt_asyncpg_cursor, AsyncAdapt_asyncpg_cursor


def note_asyncpg(cursor: LeaseCursor, own: Any) -> None:
    """Tell the driver's cursor since when what was prepared is out of date."""
    asof = cursor._invalidate_schema_cache_asof
    if asof is not None:
        own._invalidate_schema_cache_asof = asof


@functools.cache
def asyncmy_cursors() -> tuple[Make, Make]:
    """Those of asyncmy, for writes and for reads."""
    from sqlalchemy.dialects.mysql.asyncmy import AsyncAdapt_asyncmy_cursor

    class Cursor(AsyncAdapt_asyncmy_cursor):
        """Is entered already."""

        __slots__ = ()

        def _aenter_cursor(self, cursor: Any) -> Any:
            return cursor

    class ReadCursor(Cursor):
        """For texts that were judged."""

        __slots__ = ()

        def execute(self, operation: Any, parameters: Any = None) -> Any:
            connection: Any = self._connection
            if connection._is_changed or connection.server_status & STATE_CHANGED:
                connection.refuse_if_changed()
            connection.polysession_judged = True
            try:
                return super().execute(operation, parameters)
            finally:
                connection.polysession_judged = False

    return Cursor, ReadCursor


def close_asyncmy(cursor: Any) -> None:
    """Close a cursor whose answer was read whole: that waits for further answers, and there are seldom any."""
    result = cursor._cursor._result
    if result is None or result.has_next:
        cursor.close()
