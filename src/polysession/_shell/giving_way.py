"""psycopg's cursor for lent connections that lets other threads run where it waits for the server, and not besides.

psycopg gives up Python's lock around each call into libpq, ten times for a statement with one row. While other threads
want the lock, each time wakes one of them for nothing, or has this one wait for the end of that one's turn: with many
threads that is a quarter of what a read costs. Here the answer to a statement is waited for once, and what has come is
read by as few calls as libpq needs so that it never waits by itself.

That goes for a statement that is prepared already, on a connection that is idle and in autocommit; anything else goes
psycopg's way, and so does everything where psycopg waits in another way than by its own C code: below gevent, for
instance. Messages of LISTEN are not looked for: a connection for reads listens to nothing (`raw_postgresql`).

An interrupt cancels the statement on the server, and the connection is closed if it does not end, as with psycopg.

The inside of psycopg's cursor is not public: see `first_flight.is_known`.
"""

from __future__ import annotations

import functools
import select
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from . import first_flight

__all__ = ["gives_way", "waiting_cursor"]

Look = Callable[[], object]
"""Waits until something has come, for a moment at most; false if nothing has."""

_MOMENT: Final = 100
"""Milliseconds, as psycopg has it: after that it looks whether its socket is still there."""
_LAST: Final = 5.0
"""Seconds in which a statement must end that was cancelled, as psycopg has it."""


@functools.cache
def gives_way() -> bool:
    """A statement of psycopg can be waited for in this way here."""
    if not first_flight.is_known() or not hasattr(select, "poll"):
        return False
    from psycopg import waiting

    return waiting.wait is getattr(waiting, "wait_c", None)


@functools.cache
def waiting_cursor(base: Any) -> Any:
    """The subclass of `psycopg.Cursor` for lent connections; of another class, or where it cannot be, the class."""
    import psycopg

    if base is not psycopg.Cursor or not gives_way():
        return base
    from psycopg import errors, generators
    from psycopg.adapt import Transformer
    from psycopg.pq import ExecStatus, TransactionStatus

    idle, active, failed = TransactionStatus.IDLE, TransactionStatus.ACTIVE, ExecStatus.FATAL_ERROR

    def answers(pgconn: Any, look: Look) -> list[Any]:
        """As psycopg's `generators.execute`, behind its sending."""
        found: list[Any] = []
        try:
            while not look():
                pass
            pgconn.consume_input()
            while True:
                while pgconn.is_busy():
                    while not look():
                        pass
                    pgconn.consume_input()
                answer = pgconn.get_result()
                if answer is None:
                    return found
                found.append(answer)
        except errors.DatabaseError:
            if not any(answer.status == failed for answer in found):
                raise  # else the server has said why the link is lost
            return found

    def end(connection: Any, look: Look) -> None:
        """Have the server end what an interrupt has left."""
        pgconn, until = connection.pgconn, time.monotonic() + _LAST

        def look_until() -> object:
            if time.monotonic() > until:
                raise TimeoutError
            return look()

        try:
            if pgconn.transaction_status == active:
                connection._try_cancel(timeout=_LAST)
                with suppress(errors.Error, TimeoutError):
                    answers(pgconn, look_until)
        finally:
            if pgconn.transaction_status == active:
                pgconn.finish()

    class WaitingCursor(psycopg.Cursor[Any]):
        """As the driver's; one is made for each statement."""

        _pgconn: Any
        _query: Any

        def execute(
            self, query: Any, params: Any = None, *, prepare: bool | None = None, binary: bool | None = None
        ) -> Any:
            connection, pgconn = self._conn, self._pgconn
            known = connection._prepared
            if (
                known._names
                and known.prepare_threshold is not None
                and prepare is None
                and binary is None
                and self.pgresult is None
                and pgconn.transaction_status == idle
                and connection._autocommit
                and not (pgconn.pipeline_status or known._to_flush or self.closed)
            ):
                with connection.lock:
                    self._tx = Transformer(self)  # as `BaseCursor._start_query`
                    text = self._convert_query(query, params)
                    key = text.query, text.types
                    name = known._names.get(key)
                    if name is not None:
                        known._names.move_to_end(key)
                        self._exchange(connection, name, text)
                        self._last_query = query
                        return self
            return super().execute(query, params, prepare=prepare, binary=binary)

        def _exchange(self, connection: Any, name: bytes, text: Any) -> None:
            """As `BaseCursor._maybe_prepare_gen`."""
            pgconn = self._pgconn
            try:
                look = connection.polysession_look
            except AttributeError:
                look = connection.polysession_look = _look_at(pgconn.socket)
            try:
                pgconn.send_query_prepared(name, text.params, param_formats=text.formats, result_format=self.format)
                # there may be more of it than the system takes at once
                found = connection.wait(generators.execute(pgconn)) if pgconn.flush() else answers(pgconn, look)
            except errors.Error:
                raise
            except BaseException:
                end(connection, look)
                raise
            self._check_results(found)
            self._set_results(found)

    return WaitingCursor


def _look_at(number: int) -> Look:
    poller = select.poll()
    poller.register(number, select.POLLIN)
    return functools.partial(poller.poll, _MOMENT)
