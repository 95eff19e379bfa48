"""Several statements for psycopg in one flight: all are sent, and then all answers are read.

One Sync ends the flight (PostgreSQL documentation, "Message Flow", "Pipelining"): the server skips what stands behind a
statement that fails. Whoever flies together only reads, so what was skipped flies once more. Each statement is prepared
and counted as `psycopg.Cursor` does it.

The inside of psycopg's cursors is not public: this is used only where it is known (`first_flight.is_known`).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

__all__ = ["Seat", "fly"]


class Seat:
    """A statement of a flight, and then a cursor of its answer, as far as a lease asks for one."""

    __slots__ = ("_cursor", "_how", "_key", "_name", "_text", "error", "messages", "skipped")

    def __init__(self, driver: Any) -> None:
        """A cursor of this connection of psycopg."""
        import psycopg

        asynchronous = isinstance(driver, psycopg.AsyncConnection)
        self._cursor: Any = psycopg.AsyncCursor(driver) if asynchronous else psycopg.Cursor(driver)
        self.messages = 0
        """So many of its own were sent."""
        self.skipped = False
        """Another one has failed before it."""
        self.error: BaseException | None = None
        """What it failed with."""

    def board(self, statement: Any, parameters: Any) -> None:
        """Make ready what is to be sent. Raises what the driver's cursor raises for parameters that cannot be sent."""
        from psycopg.adapt import Transformer

        cursor = self._cursor
        cursor._tx = Transformer(cursor)  # as `BaseCursor._start_query`
        self._text = cursor._convert_query(statement, parameters)

    def send(self) -> None:
        """As `BaseCursor._maybe_prepare_gen`."""
        from psycopg._preparing import Prepare
        from psycopg.pq import Format

        cursor, text = self._cursor, self._text
        pgconn, known = cursor._pgconn, cursor._conn._prepared
        self.messages, self.skipped = 0, False
        how, name = self._how, self._name = cursor._get_prepared(text, None)
        # at once, as psycopg does it in a pipeline: the next one may be the same text
        self._key = known.maybe_add_to_cache(text, how, name)
        if how is Prepare.NO:
            pgconn.send_query_params(
                text.query, text.params, param_formats=text.formats, param_types=text.types, result_format=Format.TEXT
            )
            self.messages = 1
            return
        if how is Prepare.SHOULD:
            pgconn.send_prepare(name, text.query, param_types=text.types)
            self.messages = 1
        pgconn.send_query_prepared(name, text.params, param_formats=text.formats, result_format=Format.TEXT)
        self.messages += 1

    def answer(self, answers: Sequence[Sequence[Any]]) -> None:
        """Take the answers to what was sent: that to the statement is the last one. Raises the server's error."""
        from psycopg import errors
        from psycopg._preparing import Prepare
        from psycopg.pq import ExecStatus

        cursor = self._cursor
        known = cursor._conn._prepared
        for answer in (one for each in answers for one in each):
            self.skipped = self.skipped or answer.status == ExecStatus.PIPELINE_ABORTED
            if self._how is Prepare.SHOULD and (self.skipped or answer.status == ExecStatus.FATAL_ERROR):
                known._names.pop(known.key(self._text), None)  # the server may not have it
            if answer.status == ExecStatus.FATAL_ERROR:
                raise errors.error_from_result(answer, encoding=cursor._encoding)
        if self.skipped:
            return
        if self._key is not None:
            known.validate(self._key, self._how, self._name, answers[-1])
        cursor._check_results(answers[-1])
        cursor._set_results(answers[-1])

    # -- what a lease asks of the driver's cursor

    @property
    def description(self) -> Any:
        """As `psycopg.Cursor.description`."""
        return self._cursor.description

    @property
    def rowcount(self) -> int:
        """As `psycopg.Cursor.rowcount`."""
        return int(self._cursor.rowcount)

    def fetchall(self) -> Sequence[Any]:
        """The rows: they are here."""
        cursor = self._cursor
        cursor._check_result_for_fetch()
        rows: Sequence[Any] = cursor._tx.load_rows(0, cursor.pgresult.ntuples, cursor._make_row)
        return rows

    def close(self) -> None:
        """As `psycopg.Cursor.close`."""
        self._cursor._close()


def fly(driver: Any, seats: Sequence[Seat]) -> Generator[Any, Any, None]:
    """Send all and read all answers. What the server has to say of one, or the driver, is left on its seat.

    Raises what ends the flight: an interrupt, or the loss of the link. The connection is closed then, since whoever
    reads next would take the answers that are still to come for his own.
    """
    while seats:
        yield from _fly_once(driver.pgconn, seats)
        seats = [seat for seat in seats if seat.skipped]
    yield from driver._prepared.maintain_gen(driver)


def _fly_once(pgconn: Any, seats: Sequence[Seat]) -> Generator[Any, Any, None]:
    from psycopg import errors, generators

    try:
        pgconn.enter_pipeline_mode()
        for seat in seats:
            try:
                seat.send()
            except errors.Error as error:  # libpq does not take it
                seat.error = error
        pgconn.pipeline_sync()
        yield from generators.send(pgconn)
        for seat in seats:
            answers: list[list[Any]] = []
            for _ in range(seat.messages):
                answers.append([])
                while (answer := (yield from generators.fetch(pgconn))) is not None:
                    answers[-1].append(answer)
            if seat.error is None:
                try:
                    seat.answer(answers)
                except errors.Error as error:
                    seat.error = error
        yield from generators.fetch(pgconn)  # the answer to the Sync
        pgconn.exit_pipeline_mode()
    finally:
        if pgconn.pipeline_status:
            pgconn.finish()
