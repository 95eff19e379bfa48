"""COMMIT behind the last statement, with asyncpg: in the same flight, and BEGIN before it where nothing has begun.

asyncpg sends a statement that is prepared by Bind, Execute and Sync. Behind the Sync a COMMIT follows as a query of its
own, in the same step of the event loop, so that nothing comes between. If the statement fails, the transaction is in
error, and COMMIT of such a one is a ROLLBACK (PostgreSQL documentation, "COMMIT", "Message Flow"): nothing of it is
done, and it is over. asyncpg's coroutine is driven by hand as far as it has written its messages, and no further; what
comes back is sorted by a `Tap`.

The flight leaves in one piece where the socket can hold back what is written (TCP_CORK of Linux); else the server may
answer the statement before COMMIT has come, for which nobody waits.

A statement that is not prepared is prepared first, in the transaction, as without this; behind a pooler that is each
one. What is used of the inside of asyncpg and of SQLAlchemy's adapter is that of `ahead`, and of asyncpg's protocol the
count of its queries and whether a cancellation is under way: only of versions that were read (`ahead.is_known`).
"""

from __future__ import annotations

import asyncio
import socket
import types
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from .last_cursor import counted, miscounted
from .tapped import Tap

if TYPE_CHECKING:
    from .last_flight import LastFlight

__all__ = ["COMMIT", "Departure", "book", "prepare", "text_of"]

COMMIT: Final = b"Q\0\0\0\x0cCOMMIT;\0"
"""As asyncpg sends it."""
_CORK: Final = getattr(socket, "TCP_CORK", None)


def book(driver: Any, flight: LastFlight) -> bool:
    """Let the next statement of this connection of asyncpg be the one of `flight`; False if it is one of another class,
    or is in the middle of something."""
    if getattr(driver, "polysession_flight", driver) is not None or driver.is_closed():
        return False
    protocol: Any = driver._protocol
    if not issubclass(type(protocol), asyncio.Protocol) or driver._transport.get_protocol() is not protocol:
        return False
    if protocol._is_cancelling():
        return False

    def cancel() -> None:
        driver.polysession_flight = None

    driver.polysession_flight = flight
    flight.cancel = cancel
    return True


def text_of(flight: LastFlight, adapter: Any, operation: Any) -> str | None:
    """What is sent for a statement, with COMMIT behind it; None if it goes the plain way."""
    is_plain = (
        not flight.takes(operation)
        or adapter.autocommit
        or adapter._execute_mutex.locked()
        or adapter._connection._top_xact is not adapter._transaction  # COMMIT would end another's
    )
    if is_plain:
        return None
    return counted(operation) if flight.counts else str(operation)


async def prepare(adapter: Any, text: str, asof: float) -> Any:
    """Prepare a text in the transaction, which begins if it has not: as `AsyncAdapt_asyncpg_connection._prepare`."""
    async with adapter._execute_mutex:
        if adapter._transaction is None:
            await adapter._start_transaction()
        try:
            return await adapter._prepare(text, asof)
        except Exception as error:
            adapter._handle_exception(error)  # raises


class Departure:
    """Of one statement of asyncpg and of COMMIT behind it."""

    __slots__ = ("_adapter", "_before", "_cache", "_cursor", "_flight", "_protocol", "_tap", "_transport")

    def __init__(self, flight: LastFlight, cursor: Any, cache: Any) -> None:
        self._flight = flight
        self._cursor = cursor
        self._cache = cache
        """What is prepared, as `AsyncAdapt_asyncpg_connection` keeps it; it may keep nothing itself."""
        self._adapter = cursor._adapt_connection
        driver = self._adapter._connection
        self._transport, self._protocol = driver._transport, driver._protocol
        self._tap = Tap(self._transport, self._protocol)
        self._before = self._protocol.queries_count

    async def perform(self, work: Coroutine[Any, Any, None]) -> None:
        """Await `work`, by which the cursor executes its statement, with COMMIT behind that."""
        cursor, counts = self._cursor, self._flight.counts
        self._tap.stand_between()
        try:
            await self._depart(work)
        except Exception as error:
            rows = miscounted(getattr(error, "sqlstate", None), str(error)) if counts and self._tap.failed else None
            if rows is None:
                raise
            cursor._rowcount = rows  # the ORM says what that means
        finally:
            self._arrive()
        if counts:
            cursor._description, cursor._rows = None, deque()  # an UPDATE has no rows to fetch

    @types.coroutine
    def _depart(self, work: Coroutine[Any, Any, None]) -> Generator[Any, Any, None]:
        """Await `work`. When it waits for the first time it has written what it writes: then COMMIT is written."""
        kept, self._adapter._prepared_statement_cache = self._adapter._prepared_statement_cache, self._cache
        try:
            with _in_one_piece(self._transport):
                waited = work.send(None)
                if self._protocol.queries_count == self._before + 1:
                    self._flight.leaves()
                    self._transport.write(COMMIT)
        except StopIteration:
            return
        finally:
            self._adapter._prepared_statement_cache = kept
            if not self._flight.has_left:
                self._tap.step_aside()
        while True:
            send: Callable[[Any], Any] = work.send
            try:
                value = yield waited
            except BaseException as thrown:
                send, value = work.throw, thrown
            try:
                waited = send(value)
            except StopIteration:
                return

    def _arrive(self) -> None:
        """Note what came of it."""
        flight, tap, adapter = self._flight, self._tap, self._adapter
        if not flight.has_left:
            return
        # as `AsyncAdapt_asyncpg_connection._call_and_discard`: COMMIT was sent, whatever has come of it
        adapter._transaction = adapter._connection._top_xact = None
        if tap.failed:
            flight.skipped()
        if tap.is_over and tap.refused is not None:
            flight.refused = _called(adapter, tap.refused)  # told where COMMIT is


@contextmanager
def _in_one_piece(transport: Any) -> Iterator[None]:
    """What is written meanwhile leaves together, where the system can do that."""
    link = None if _CORK is None else transport.get_extra_info("socket")
    if link is None or link.family not in (socket.AF_INET, socket.AF_INET6):
        yield
        return
    with suppress(OSError, TypeError, AttributeError):  # a loop of another make has other sockets
        link.setsockopt(socket.IPPROTO_TCP, _CORK, 1)
    try:
        yield
    finally:
        with suppress(OSError, TypeError, AttributeError):
            link.setsockopt(socket.IPPROTO_TCP, _CORK, 0)


def _called(adapter: Any, refused: Mapping[str, str]) -> Exception | None:
    """An error of COMMIT, as the adapter calls it."""
    import asyncpg

    try:
        adapter._handle_exception(asyncpg.PostgresError.new(refused, query="COMMIT;"))
    except Exception as error:
        return error
    return None
