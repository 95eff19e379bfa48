"""The connections of psycopg and asyncpg, as this package opens them: for reads with a judge, for asyncio patient.

See `raw`.
"""

from __future__ import annotations

import functools
from typing import Any

from . import first_flight
from .giving_way import waiting_cursor
from .grace import finishing
from .raw_judge import judge_of, judging, refusing
from .readonly import CHANGED, mode_of, refused
from .severing import sever

__all__ = ["asyncpg_connection", "judged_cursor", "patient_psycopg", "psycopg_connection"]


@functools.cache
def patient_psycopg() -> Any:
    import psycopg

    class PatientConnection(psycopg.AsyncConnection[Any]):
        """For asyncio."""

        def wait(self, *args: Any, **named: Any) -> Any:
            return finishing(super().wait(*args, **named), lambda: sever(self))

    return PatientConnection


@functools.cache
def psycopg_connection(asynchronous: bool) -> Any:
    """A subclass of psycopg's connection whose cursors judge.

    It never says BEGIN READ WRITE, also if asked for: nothing is said, and the session's READ ONLY stays in force.
    """
    import psycopg
    from psycopg.sql import Composable

    judge_text = judge_of("postgresql", from_driver=False)
    base: Any = patient_psycopg() if asynchronous else psycopg.Connection

    def judge(cursor: Any, query: Any) -> None:
        connection = cursor.connection
        if connection.pgconn.pipeline_status:
            # what a statement has switched would be reported too late
            raise refused("a statement inside of a pipeline", None)
        judge_text(query.as_string(cursor) if isinstance(query, Composable) else query)
        refuse_if_changed(connection)

    @functools.cache
    def judging_factory(cursor_class: type) -> type:
        names = [name for name in ("execute", "executemany", "stream", "copy") if hasattr(cursor_class, name)]
        methods = judging(cursor_class, judge, *names)
        return type(f"Read{cursor_class.__name__}", (cursor_class,), methods)

    class ReadConnection(base):  # type: ignore[misc]  # one text for the two classes of the driver
        """For reads."""

        @property
        def cursor_factory(self) -> Any:
            return self._judging_factory

        @cursor_factory.setter
        def cursor_factory(self, factory: Any) -> None:
            # each of its statements runs on its own
            self.polysession_lent = waiting_cursor(first_flight.base_of(factory))
            self._judging_factory = judging_factory(factory)

        @property
        def server_cursor_factory(self) -> Any:
            return self._judging_server_factory

        @server_cursor_factory.setter
        def server_cursor_factory(self, factory: Any) -> None:
            self._judging_server_factory = judging_factory(factory)

        def set_read_only(self, value: bool | None) -> Any:
            return super().set_read_only(value or None)

    for name, refuse in refusing("tpc_begin", "tpc_prepare", "tpc_commit", "tpc_rollback").items():
        setattr(ReadConnection, name, refuse)
    return ReadConnection


@functools.cache
def asyncpg_connection() -> type:
    """A subclass of asyncpg's connection that judges."""
    import asyncpg

    judge_text = judge_of("postgresql", from_driver=True)

    def judge(connection: Any, query: Any) -> None:
        judge_text(query)
        refuse_if_changed(connection)

    base: Any = asyncpg.Connection
    texts = ("execute", "executemany", "fetch", "fetchval", "fetchrow", "fetchmany", "cursor", "copy_from_query")
    methods = judging(base, judge, *texts) | refusing("copy_to_table", "copy_records_to_table")

    prepared = _prepared()

    async def prepare(connection: Any, query: str, **named: Any) -> Any:
        judge(connection, query)
        statement = await base.prepare(connection, query, **named)
        statement.__class__ = prepared
        return statement

    return type("ReadConnection", (base,), {**methods, "prepare": prepare})


@functools.cache
def _prepared() -> type:
    """A subclass of asyncpg's prepared statement, which was judged: it is not run once its connection may write."""
    from asyncpg.prepared_stmt import PreparedStatement

    base: Any = PreparedStatement

    def looking(name: str) -> Any:
        method = getattr(base, name)

        @functools.wraps(method)
        def look(self: Any, *args: Any, **named: Any) -> Any:
            refuse_if_changed(self._connection)
            return method(self, *args, **named)

        return look

    names = [name for name in vars(base) if not name.startswith(("_", "get_"))]
    return type("ReadPrepared", (base,), {"__slots__": (), **{name: looking(name) for name in names}})


def judged_cursor(connection: Any) -> Any:
    """A cursor of psycopg's connection for reads that is lent, for texts that were judged.

    Raises what `refuse_if_changed` does.
    """
    refuse_if_changed(connection)
    return connection.polysession_lent(connection, row_factory=connection.row_factory)


def refuse_if_changed(connection: Any) -> None:
    """Raise if the server has reported that the connection may write."""
    try:
        mode = connection.polysession_mode
    except AttributeError:
        mode = connection.polysession_mode = mode_of(connection)
    if mode is not None and not mode():
        raise refused(CHANGED, None)
