"""BEGIN in the flight of the first statement: with psycopg a unit that writes waits for the server once less.

psycopg says BEGIN when the first statement of a transaction is to be sent, and waits for the answer before it sends
that statement. Here both leave together, in messages of the extended protocol with one Sync behind them, as pgjdbc
sends them (`QueryExecutorImpl.sendQueryPreamble`). BEGIN is still a statement of its own, with the
driver's own text; the server runs it first, and skips the other one if it fails (PostgreSQL documentation, "Message
Flow", "Pipelining"). So what an error of the server leaves behind is what it left before; after one of the driver, for
parameters that cannot be sent, there is no transaction, since nothing was sent.

It is done by the driver's cursor (`cursor_factory`, an argument of psycopg's `connect`), when it executes a statement
on a connection that has no transaction yet and is not in autocommit. Until then nothing is pending: who takes the
driver's connection out of the session finds it as psycopg has it. What cannot go this way goes psycopg's: several
statements in one text and COPY, which the extended protocol does not take; executemany, cursors of the server, streams
and pipelines; cursors of a class that the application has chosen.

The cursor's inside is not public in psycopg. So it is used only where it is known (`is_known`).
"""

from __future__ import annotations

import functools
from collections.abc import Generator, Mapping
from types import MappingProxyType
from typing import Any, Final

__all__ = ["KNOWN", "arguments", "base_of", "beginning_cursor", "is_known", "is_one"]

KNOWN: Final = frozenset(((3, 2), (3, 3)))
"""The versions of psycopg whose cursors were read for this; tests/unit/shell/test_first_flight.py fails for another."""

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


def arguments(dialect: Any) -> Mapping[str, Any]:
    """The arguments of the driver's `connect()` for it; none where BEGIN is sent in the driver's own way."""
    if dialect.driver != "psycopg" or not is_known():
        return _NOTHING
    return MappingProxyType({"cursor_factory": beginning_cursor(dialect.is_async)})


@functools.cache
def is_known() -> bool:
    """This version of psycopg is known, and its libpq can send several statements before it is answered."""
    import psycopg

    version = tuple(int(part) for part in psycopg.__version__.split(".")[:2] if part.isdigit())
    return version in KNOWN and psycopg.Pipeline.is_supported()


@functools.lru_cache(maxsize=1024)
def is_one(text: bytes) -> bool:
    """The text is surely one statement, and not COPY. A semicolon inside of a string counts as one between two."""
    return b";" not in text.rstrip(b"; \t\r\n") and b"copy" not in text.lower()


def base_of(factory: Any) -> Any:
    """The class of the driver's own below one that begins; any other class as it is."""
    return getattr(factory, "polysession_base", factory)


@functools.cache
def beginning_cursor(asynchronous: bool) -> Any:
    """The subclass of psycopg's cursor that sends BEGIN with its statement."""
    import psycopg
    from psycopg import errors, generators
    from psycopg._preparing import Prepare
    from psycopg.adapt import Transformer
    from psycopg.pq import ExecStatus, Format, TransactionStatus

    idle, ends, failed = TransactionStatus.IDLE, ExecStatus.PIPELINE_SYNC, ExecStatus.FATAL_ERROR
    prepared, to_prepare = Prepare.YES, Prepare.SHOULD
    base: Any = psycopg.AsyncCursor if asynchronous else psycopg.Cursor

    def exchange(pgconn: Any, send: Any) -> Generator[Any, Any, list[list[Any]]]:
        """Send what `send` sends, and read the answers to each of its messages; at least the one that is an error.

        A connection whose answers were not read to their end is closed: who reads next would take them for its own.
        """
        answers: list[list[Any]] = [[]]
        refused: Exception | None = None
        try:
            pgconn.enter_pipeline_mode()
            try:
                send()
            except errors.Error as error:  # libpq does not take it; what it took before is done all the same
                refused = error
            pgconn.pipeline_sync()
            yield from generators.send(pgconn)
            while (answer := (yield from generators.fetch(pgconn))) is None or answer.status != ends:
                if answer is None:  # it was the last one to a statement
                    answers.append([])
                else:
                    answers[-1].append(answer)
            answers.pop()
            pgconn.exit_pipeline_mode()
        except errors.OperationalError:
            if not has_failed(answers):
                raise  # else the server has said why the link is lost, or what was wrong before it was
        finally:
            if pgconn.pipeline_status:
                pgconn.finish()
        if refused is not None and not has_failed(answers):
            raise refused
        return answers

    def has_failed(answers: list[list[Any]]) -> bool:
        return any(answer.status == failed for each in answers for answer in each)

    class BeginningCursor(base):  # type: ignore[misc]  # one text for the two classes of the driver
        """As the driver's."""

        polysession_base = base
        polysession_exchange = staticmethod(exchange)

        _last_query: Any
        _query: Any
        _tx: Any

        def _execute_gen(
            self, query: Any, params: Any = None, *, prepare: bool | None = None, binary: bool | None = None
        ) -> Generator[Any, Any, None]:
            pgconn = self._pgconn
            if pgconn.transaction_status == idle and not (
                pgconn.pipeline_status or self._conn.autocommit or self.closed
            ):
                # as `BaseCursor._start_query`
                self._reset()
                if not self._last_query or self._last_query is not query:
                    self._last_query = None
                    self._tx = Transformer(self)
                text = self._convert_query(query, params)
                if text.params or is_one(text.query):
                    yield from self._begin_with(text, prepare, self.format if binary is None else Format(binary))
                    self._last_query = query
                    yield from self._conn._prepared.maintain_gen(self._conn)
                    return
            yield from super()._execute_gen(query, params, prepare=prepare, binary=binary)

        def _begin_with(self, text: Any, prepare: bool | None, form: Any) -> Generator[Any, Any, None]:
            """As `BaseCursor._maybe_prepare_gen`, behind BEGIN."""
            connection = self._conn
            how, name = self._get_prepared(text, prepare)
            begin = connection._get_tx_start_command()

            def send() -> None:
                pgconn = self._pgconn
                pgconn.send_query_params(begin, None)
                if how is to_prepare:
                    pgconn.send_prepare(name, text.query, param_types=text.types)
                if how is to_prepare or how is prepared:
                    pgconn.send_query_prepared(name, text.params, param_formats=text.formats, result_format=form)
                    return
                self._query = text
                pgconn.send_query_params(
                    text.query, text.params, param_formats=text.formats, param_types=text.types, result_format=form
                )

            *before, answers = yield from exchange(self._pgconn, send)
            for answer in (one for each in before for one in each):
                if answer.status == failed:
                    raise errors.error_from_result(answer, encoding=self._encoding)
            key = connection._prepared.maybe_add_to_cache(text, how, name)
            if key is not None:
                connection._prepared.validate(key, how, name, answers)
            self._check_results(answers)
            self._set_results(answers)

    return BeginningCursor
