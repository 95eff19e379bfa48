"""BEGIN in the flight of the first statement, with asyncpg: a unit that writes waits for the server once less.

asyncpg has no pipeline, and sends BEGIN by a query of its own. But a statement that is prepared is run by Bind, Execute
and Sync, and what the protocol skips while it waits for the answers of these (ParseComplete, BindComplete) or
overwrites (CommandComplete) is all that the server says to BEGIN. So BEGIN is written before them, in messages of the
extended protocol without a Sync of its own: the server runs it first, and skips the statement if it fails (PostgreSQL
documentation, "Message Flow"). What an error of the server leaves behind is what it left before: an open transaction
that has failed. After parameters that cannot be sent BEGIN has left alone: then its answer is asked for, since asyncpg
goes by it where it breaks an executemany off, and would roll back what it takes for no transaction (`_settle`).

Only a statement that is prepared goes this way, so that nothing is asked in between; cursors of the server and
executemany go SQLAlchemy's way. Used are the transport of asyncpg's connection, and of SQLAlchemy's adapter the
transaction, the lock and the cache of what is prepared (SQLAlchemy 2.1, dialects/postgresql/asyncpg.py): only of
versions that were read (`is_known`).
"""

from __future__ import annotations

import functools
import math
import struct
from typing import Any, Final

from sqlalchemy.util import await_only

from . import known
from .behind import Departure, prepare, text_of

__all__ = ["KNOWN", "beginning_cursor", "is_known", "message"]

KNOWN: Final = frozenset(((0, 30), (0, 31), (0, 32)))
"""The versions of asyncpg that were read; tests/unit/shell/test_ahead.py fails for another."""


@functools.cache
def is_known() -> bool:
    """This version of asyncpg is known, and this one of SQLAlchemy."""
    import asyncpg

    version = tuple(int(part) for part in asyncpg.__version__.split(".")[:2] if part.isdigit())
    return version in KNOWN and known.IS_KNOWN


@functools.lru_cache(maxsize=64)
def message(text: str) -> bytes:
    """What has the server run a statement without parameters and rows: Parse, Bind and Execute of no name."""
    parse = b"\0" + text.encode() + b"\0" + struct.pack("!h", 0)
    bind = b"\0\0" + struct.pack("!hhh", 0, 0, 0)
    execute = b"\0" + struct.pack("!i", 0)
    parts = ((b"P", parse), (b"B", bind), (b"E", execute))
    return b"".join(kind + struct.pack("!i", len(body) + 4) + body for kind, body in parts)


@functools.cache
def beginning_cursor() -> Any:
    """The subclass of SQLAlchemy's cursor that lets BEGIN leave with its statement, on connections that can do that
    (`pens.marking_connection`)."""
    from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_cursor

    base: Any = AsyncAdapt_asyncpg_cursor

    class BeginningCursor(base):  # type: ignore[misc]  # its methods have no types
        """As SQLAlchemy's."""

        __slots__ = ()

        def execute(self, operation: Any, parameters: Any = None) -> None:
            adapter: Any = self._adapt_connection
            driver = adapter._connection
            if getattr(driver, "polysession_flight", None) is not None:
                self._execute_last(adapter, operation, parameters)
            elif adapter._transaction is not None or not self._is_prepared(adapter, operation):
                super().execute(operation, parameters)
            else:
                self._begin_with(adapter, self._prepare_and_execute(operation, parameters))

        def _execute_last(self, adapter: Any, operation: Any, parameters: Any) -> None:
            """With COMMIT behind it (`behind`), if it is what COMMIT was booked for."""
            flight = adapter._connection.polysession_flight
            flight.cancel()
            text = text_of(flight, adapter, operation)
            if text is None:
                self.execute(operation, parameters)
                return
            cache = adapter._prepared_statement_cache
            if not self._is_prepared(adapter, text):
                found = await_only(prepare(adapter, text, self._invalidate_schema_cache_asof))
                cache = {text: (*found, math.inf)}
            work = Departure(flight, self, cache).perform(self._prepare_and_execute(text, parameters))
            if adapter._transaction is None:
                self._begin_with(adapter, work)
            else:
                await_only(work)

        def _begin_with(self, adapter: Any, work: Any) -> None:
            driver = adapter._connection
            driver.polysession_ahead = True
            try:
                await_only(work)
            except Exception:
                if not (
                    driver.polysession_ahead
                    or adapter._transaction is None  # it is over
                    or driver.is_in_transaction()
                    or driver.is_closed()
                ):
                    await_only(self._settle(adapter, driver))
                raise
            finally:
                driver.polysession_ahead = False

        async def _settle(self, adapter: Any, driver: Any) -> None:
            """Have BEGIN answered, so that the driver knows of the transaction."""
            try:
                await driver.execute("")
            except Exception as error:
                adapter._handle_exception(error)  # raises

        def _is_prepared(self, adapter: Any, operation: Any) -> bool:
            """As `AsyncAdapt_asyncpg_connection._prepare` finds it: nothing has to be asked before it is run."""
            asof: Any = self._invalidate_schema_cache_asof
            cache = adapter._prepared_statement_cache
            if cache is None or adapter.autocommit or adapter._execute_mutex.locked():
                return False
            if asof > adapter._invalidate_schema_cache_asof or not hasattr(adapter._connection, "polysession_ahead"):
                return False
            statement, _, prepared_at = cache.get(operation, _NONE)
            return prepared_at > asof and bool(statement.get_name())  # BEGIN takes the place of what has no name

    return BeginningCursor


_NONE: Final = (None, None, float("-inf"))
