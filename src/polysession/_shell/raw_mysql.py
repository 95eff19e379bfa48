"""The connections of PyMySQL and asyncmy, as this package opens them: for reads with a judge, for asyncio patient.

See `raw`.
"""

from __future__ import annotations

import asyncio
import functools
from typing import Any

from .. import dialects
from .parting import link_of
from .pymysql_status import STATE_CHANGED, noticing_packets, noticing_result, reads_results_as_known
from .pymysql_tls import sharing
from .raw_judge import judge_of
from .readonly import CHANGED, START, refused

__all__ = ["asyncmy_connect", "close_pymysql", "judged_cursor", "patient_asyncmy_connect", "pymysql_connection"]


async def patient_asyncmy_connect(*args: Any, **named: Any) -> Any:
    return await _handshake(_patient_asyncmy()(*args, **named))


async def _handshake(connection: Any) -> Any:
    """Connect. Its own timeout ends when the socket is open; a server that says nothing after that is waited for."""
    try:
        async with asyncio.timeout(connection._connect_timeout):
            await connection.connect()
    except TimeoutError:
        from asyncmy.errors import OperationalError

        connection.close()
        _drop_link(connection)
        raise OperationalError(_LOST, "Lost connection to MySQL server at its handshake: it did not answer") from None
    except BaseException:
        _drop_link(connection)  # it closes itself, and nobody will wait for the server's end of that
        raise
    return connection


def _drop_link(connection: Any) -> None:
    link, connection.polysession_link = connection.polysession_link, None
    if link is not None:
        link.close()


_LOST = 2013
"""Of MySQL's client library: CR_SERVER_LOST (MySQL documentation, "Client Error Message Reference")."""


@functools.cache
def _patient_asyncmy() -> Any:
    import asyncmy.connection

    base: Any = asyncmy.connection.Connection

    class PatientConnection(base):  # type: ignore[misc]  # the driver's types leave out what it is made of
        """For asyncio."""

        polysession_link: Any = None

        def close(self) -> None:
            if self._transport is not None and self.polysession_link is None:
                self.polysession_link = link_of(self)
            super().close()

    return PatientConnection


@functools.cache
def pymysql_connection() -> Any:
    """A subclass of PyMySQL's connection that judges; it does not connect again, which would forget READ ONLY."""
    import pymysql.connections

    again = dialects.of("mariadb").read_only().apply
    noticing = noticing_result if reads_results_as_known() else noticing_packets
    send = pymysql.connections.Connection.query

    class Connection(noticing(_judging_mysql(sharing(pymysql.connections.Connection)))):  # type: ignore[misc]  # just made
        """For reads."""

        polysession_judged: bool
        _is_unsure: bool

        def query(self, sql: Any, unbuffered: bool = False) -> Any:
            if self.polysession_judged:
                self.polysession_judged = False
            else:
                self._judge(sql)
            if self._is_unsure and not self._is_open:
                self._send(again)
                self._forget_status()
            self._is_unsure = False
            return send(self, sql, unbuffered)

    return Connection


async def asyncmy_connect(*args: Any, **named: Any) -> Any:
    named.pop("stmt_cache_size", None)  # prepared statements, which would pass by `query`
    connection = _asyncmy_class()(*args, **named)
    return await _handshake(connection)


@functools.cache
def _asyncmy_class() -> Any:
    import asyncmy.connection
    import asyncmy.errors

    again = dialects.of("mariadb").read_only().apply
    send: Any = asyncmy.connection.Connection.query

    class Connection(_judging_mysql(_patient_asyncmy())):  # type: ignore[misc]  # made a line before
        """Keeps the last status by itself."""

        polysession_judged: bool
        _is_unsure: bool

        async def query(self, sql: Any, unbuffered: bool = False) -> Any:
            if self.polysession_judged:
                self.polysession_judged = False
            else:
                self._judge(sql)
            if self._is_unsure and not self._is_open:
                await self._send(again)
                self._forget_status()
            self._is_unsure = False
            try:
                affected = await send(self, sql, unbuffered)
            except asyncmy.errors.MySQLError:
                self._is_unsure = True
                raise
            self._is_unsure = unbuffered  # how its rows end is not seen here
            return affected

        def prepare(self, query: Any) -> Any:
            raise refused("prepare()", None)

    return Connection


def _judging_mysql(base: Any) -> Any:
    judge = judge_of("mysql", from_driver=True)

    class ReadConnection(base):  # type: ignore[misc]  # one text for two drivers
        """For reads. While it is open to settings it sends what it was configured to send.

        MariaDB was told at connect to report a change of the access mode, as the status bit that is looked for here: in
        an answer without rows both drivers keep it, at the end of rows only asyncmy does. An error has no status: READ
        ONLY is said again before the next statement.
        """

        polysession_judged = False
        """The next text was judged."""
        _is_changed = False
        _is_unsure: bool = False
        _is_open = True

        @property
        def open_to_settings(self) -> bool:
            """Nothing is judged, and what changes belongs to it."""
            return self._is_open

        @open_to_settings.setter
        def open_to_settings(self, is_open: bool) -> None:
            self._is_open = is_open
            if not is_open:
                self._is_unsure = False
                self._forget_status()

        def may_write(self) -> bool:
            """A change of its access mode was reported, or could not be."""
            return self._has_changed() or self._is_unsure

        def connect(self, *args: Any, **named: Any) -> Any:
            if not self._is_open:
                raise refused("connect()", None)
            return super().connect(*args, **named)

        def begin(self) -> Any:
            raise refused("begin()", None)

        def _judge(self, sql: Any) -> None:
            if not self._is_open and sql != START:
                judge(sql)
                self.refuse_if_changed()

        def refuse_if_changed(self) -> None:
            """Raise if the server has reported that it may write."""
            if self._has_changed():
                raise refused(CHANGED, None)

        def _has_changed(self) -> bool:
            if self.server_status & STATE_CHANGED:
                self._is_changed = True
            return self._is_changed

        def _forget_status(self) -> None:
            self._is_changed = False
            self.server_status &= ~STATE_CHANGED

        def _send(self, sql: Any, *args: Any, **named: Any) -> Any:
            self._is_unsure = False
            return base.query(self, sql, *args, **named)

    def looking(name: str) -> Any:
        method = getattr(base, name)

        @functools.wraps(method)
        def look(self: Any, *args: Any, **named: Any) -> Any:
            if not self._is_open:
                self._has_changed()  # the answer to this will be another one
            return method(self, *args, **named)

        return look

    for name in ("commit", "rollback", "ping", "autocommit", "select_db"):
        setattr(ReadConnection, name, looking(name))
    return ReadConnection


def close_pymysql(cursor: Any) -> None:
    """Close a cursor whose answer was read whole: that asks for further answers, and there are seldom any."""
    result = getattr(cursor, "_result", None)
    if result is None or result.has_next:
        cursor.close()


@functools.cache
def judged_cursor(cursor_class: type) -> Any:
    """What makes a cursor of PyMySQL's connection for reads, for texts that were judged."""

    send: Any = cursor_class.execute  # type: ignore[attr-defined]  # the driver's

    class JudgedCursor(cursor_class):  # type: ignore[misc]  # the driver's
        """Raises what `refuse_if_changed` does."""

        def execute(self, query: Any, args: Any = None) -> Any:
            connection = self.connection
            if connection._is_changed or connection.server_status & STATE_CHANGED:
                connection.refuse_if_changed()
            connection.polysession_judged = True
            try:
                return send(self, query, args)
            finally:
                connection.polysession_judged = False

    def make(connection: Any) -> Any:
        return JudgedCursor(connection) if connection.cursorclass is cursor_class else connection.cursor()

    return make
