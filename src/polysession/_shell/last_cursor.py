"""psycopg's cursor that sends COMMIT behind its statement, and BEGIN before it where nothing has begun.

All leave with one Sync behind them, as in `first_flight`. The server runs them one after the other, and if one fails it
skips the rest up to the Sync (PostgreSQL documentation, "Message Flow", "Pipelining"): after an error of the statement
COMMIT was not run, and the transaction is there and in error, as without this.

The statement must change one row where the ORM would refuse another count (`orm.exc.StaleDataError`), and the ORM
counts when COMMIT is done. So there the server counts: the statement stands in a WITH, around which is a SELECT that
fails unless it is one.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, AnyStr, Final

from .first_flight import beginning_cursor, is_one

if TYPE_CHECKING:
    from .last_flight import LastFlight

__all__ = ["book", "counted", "miscounted"]

_BEFORE: Final = "WITH polysession_changed AS ("
_BEHIND: Final = (
    " RETURNING 1) SELECT CASE count(*) WHEN 1 THEN 1 "
    "ELSE ('polysession_changed_' || count(*))::int END FROM polysession_changed"
)
_NOT_A_NUMBER: Final = "22P02"
"""PostgreSQL documentation, "PostgreSQL Error Codes": invalid_text_representation."""
_MISCOUNTED: Final = re.compile(r"polysession_changed_(\d+)")


def counted(text: AnyStr) -> AnyStr:
    """An UPDATE that the server refuses if it does not change exactly one row."""
    if isinstance(text, bytes):
        return _BEFORE.encode() + text + _BEHIND.encode()
    return _BEFORE + text + _BEHIND


def miscounted(sqlstate: str | None, message: str | None) -> int | None:
    """How many rows it would have changed, if that is why the server has refused it; else None."""
    found = _MISCOUNTED.search(message or "") if sqlstate == _NOT_A_NUMBER else None
    return None if found is None else int(found[1])


def book(driver: Any, flight: LastFlight) -> bool:
    """Let the next cursor of this connection of psycopg be the one of `flight`; False if it has a cursor of another
    class, or is in the middle of something."""
    import psycopg

    before = driver.cursor_factory
    cursor: Any = last_cursor(isinstance(driver, psycopg.AsyncConnection))
    if before is not cursor.__base__ or driver.autocommit or driver.pgconn.pipeline_status:
        return False

    def once(connection: Any, **named: Any) -> Any:
        flight.cancel()
        made = cursor(connection, **named)
        made.polysession_flight = flight
        return made

    def cancel() -> None:
        if driver.cursor_factory is once:
            driver.cursor_factory = before

    driver.cursor_factory = once
    flight.cancel = cancel
    return True


@functools.cache
def last_cursor(asynchronous: bool) -> Any:
    """The subclass of the cursor that begins."""
    from psycopg import errors
    from psycopg._preparing import Prepare
    from psycopg.adapt import Transformer
    from psycopg.pq import ConnStatus, ExecStatus, TransactionStatus

    idle, busy = TransactionStatus.IDLE, TransactionStatus.INTRANS
    failed, alive = ExecStatus.FATAL_ERROR, ConnStatus.OK
    prepared, to_prepare = Prepare.YES, Prepare.SHOULD
    base: Any = beginning_cursor(asynchronous)

    class LastCursor(base):  # type: ignore[misc]  # one text for the two classes of the driver
        """For one statement of a flight; whatever else it executes goes as ever."""

        polysession_flight: LastFlight

        _last_query: Any
        _query: Any
        _tx: Any
        _rowcount: int

        def _execute_gen(
            self, query: Any, params: Any = None, *, prepare: bool | None = None, binary: bool | None = None
        ) -> Generator[Any, Any, None]:
            flight, pgconn = self.polysession_flight, self._pgconn
            if (
                flight.takes(query)
                and pgconn.transaction_status in (idle, busy)
                and not (pgconn.pipeline_status or self._conn.autocommit or self.closed)
            ):
                self._reset()  # as `BaseCursor._start_query`
                self._last_query = None
                self._tx = Transformer(self)
                text = self._convert_query(query, params)
                if text.params or is_one(text.query):
                    yield from self._commit_with(flight, text, prepare)
                    if pgconn.status == alive:
                        yield from self._conn._prepared.maintain_gen(self._conn)
                    return
            yield from super()._execute_gen(query, params, prepare=prepare, binary=binary)

        def _commit_with(self, flight: LastFlight, text: Any, prepare: bool | None) -> Generator[Any, Any, None]:
            """As `BaseCursor._maybe_prepare_gen`, with BEGIN and COMMIT around it."""
            connection, pgconn, form = self._conn, self._pgconn, self.format
            if flight.counts:
                text.query = counted(text.query)
            how, name = self._get_prepared(text, prepare)
            begin = connection._get_tx_start_command() if pgconn.transaction_status == idle else None
            place = (begin is not None) + (how is to_prepare)
            """Of the statement among what is sent."""

            def send() -> None:
                if begin is not None:
                    pgconn.send_query_params(begin, None)
                if how is to_prepare:
                    pgconn.send_prepare(name, text.query, param_types=text.types)
                if how is to_prepare or how is prepared:
                    pgconn.send_query_prepared(name, text.params, param_formats=text.formats, result_format=form)
                else:
                    self._query = text
                    pgconn.send_query_params(
                        text.query, text.params, param_formats=text.formats, param_types=text.types, result_format=form
                    )
                flight.leaves()
                pgconn.send_query_params(b"COMMIT", None)

            answers = yield from self.polysession_exchange(pgconn, send)
            for number, each in enumerate(answers):
                for answer in each:
                    if answer.status != failed:
                        continue
                    error = errors.error_from_result(answer, encoding=self._encoding)
                    if number > place:
                        flight.refused = error  # told where COMMIT is
                        continue
                    if pgconn.status == alive or error.diag.source_function:
                        flight.skipped()  # else a pooler says so, which knows nothing of COMMIT
                    rows = miscounted(error.sqlstate, error.diag.message_primary) if flight.counts else None
                    if rows is None:
                        raise error
                    self._rowcount = rows  # the ORM says what that means
                    return
            key = connection._prepared.maybe_add_to_cache(text, how, name)
            if key is not None:
                connection._prepared.validate(key, how, name, answers[place])
            self._check_results(answers[place])
            if flight.counts:
                self._rowcount = 1  # an UPDATE has no rows to fetch
            else:
                self._set_results(answers[place])

    return LastCursor
