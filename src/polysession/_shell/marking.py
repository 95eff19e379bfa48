"""What a unit that knows its outcome does on its own connection: its row goes out with COMMIT, or its key's at the
beginning.

Where the driver can send both in one message the row costs no round trip: psycopg and asyncpg as one simple query,
MariaDB as one compound statement. Everywhere else it is a statement of its own before COMMIT. A unit that has changed
nothing writes no row: the texts of its statements tell; in doubt PostgreSQL is asked in the same message, and elsewhere
the row is written.
"""

from __future__ import annotations

import functools
import logging
import random
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from sqlalchemy import event, text
from sqlalchemy.engine import Connection
from sqlalchemy.util import await_only

from .. import dialects
from ..dialects.changing import may_change, surely_changes
from ..dialects.marker import Marker
from ..policy import unit_ids
from .notes import say
from .patience import patience

__all__ = ["ANSWER_WITHIN", "SERVER", "Trail", "connection_number", "marker_of", "marking_connection"]

ANSWER_WITHIN = 1.2
"""Seconds to wait for the answer to COMMIT before the database is asked on another connection; only for units that know
their outcome. A COMMIT that takes longer is waited for by the fence."""

_log = logging.getLogger("polysession")

SERVER = "polysession_server"
"""Where a connection keeps the print of its server, and the server's number of it."""

_draw = random.SystemRandom()


class Trail:
    """What a unit leaves behind, and what is known of its COMMIT. Belongs to its holding."""

    __slots__ = ("asked_at", "attempt", "backend", "key", "result", "sent", "server", "sure", "unit", "wrote")

    def __init__(self, key: str | None) -> None:
        self.key = unit_ids.key_id(key) if key is not None else ""
        self.attempt = str(uuid.uuid4()) if self.key else ""
        self.unit = ""
        """The id in its row; empty as long as no row was sent."""
        self.server = 0
        self.backend = 0
        self.asked_at = 0.0
        """When the database began to be asked, in seconds of `time.monotonic()`."""
        self.sent = False
        """COMMIT, or the message that it is in, has left."""
        self.wrote = False
        """A statement that may change something was seen."""
        self.sure = False
        """One that surely changes something, or makes COMMIT do something though nothing was changed: PostgreSQL's
        NOTIFY."""
        self.result: str | None = None
        """What is kept with the key."""

    def begun(self, connection: Connection, *, ours: bool) -> None:
        """The unit's session took its connection."""
        info = connection.info
        known = info.get(SERVER)
        if known is None:
            identity = connection.exec_driver_sql(marker_of(connection.dialect).server).scalar()
            number = connection_number(connection.connection.driver_connection)
            known = info[SERVER] = unit_ids.server_print(str(identity or "")), number
        self.server, self.backend = known
        if not ours:  # an engine of ours does it where COMMIT is sent
            event.listen(connection, "commit", self._mark)

    def saw(self, statement: str) -> None:
        """A statement is to be sent."""
        changes, surely = _judge(statement)
        self.wrote = self.wrote or changes
        self.sure = self.sure or surely

    def commit(self, connection: Any, dialect: Any, do_commit: Callable[[Any], None], statements: int) -> None:
        """Send the row and COMMIT; `connection` as `Dialect.do_commit` gets it."""
        driver = connection.driver_connection
        self._prepare()
        marker = marker_of(dialect)
        write = self._text(marker, in_doubt=statements == 0)
        with patience(driver, ANSWER_WITHIN):
            self._send(connection, dialect, do_commit, marker, write)
        if write:
            _tidy(connection, dialect, do_commit, marker)

    def _send(
        self, connection: Any, dialect: Any, do_commit: Callable[[Any], None], marker: Marker, write: str
    ) -> None:
        """The row and COMMIT, in one message if there is one."""
        driver = connection.driver_connection
        together = marker.with_commit(write) if write else ""
        if not write:
            self.sent = True
            do_commit(connection)
        elif hasattr(driver, "polysession_marker"):
            self.sent = True
            driver.polysession_marker = write
            try:
                do_commit(connection)
            finally:
                driver.polysession_marker = ""
        elif together and dialect.driver != "asyncpg":
            self.sent = True
            _send_all(connection, dialect, together)
        else:
            say(connection.cursor(), write)
            self.sent = True
            do_commit(connection)

    def _mark(self, connection: Connection) -> None:
        """The same before COMMIT of an engine that is not of our making."""
        if self.sent:
            return
        raw: Any = connection.connection
        self._prepare()
        write = self._text(marker_of(connection.dialect), in_doubt=True)
        if write:
            say(raw.cursor(), write)
        self.sent = True

    def _prepare(self) -> None:
        self.unit = self.key or unit_ids.new_id(time.time(), _draw.getrandbits(44), self.server)

    def _text(self, marker: Marker, *, in_doubt: bool) -> str:
        if self.key:
            return ""  # its row is there since the beginning
        if marker.if_wrote:
            return marker.write(self.unit, sure=self.sure)
        if self.wrote or in_doubt:
            return marker.write(self.unit)
        self.unit = ""
        return ""

    def claim(self, connection: Connection) -> None:
        """Write the row of the key; the database's error if it is there."""
        marker = marker_of(connection.dialect)
        answer = connection.exec_driver_sql(marker.claim(self.key, self.attempt))
        if marker.claimed:
            self.backend = int(answer.scalar_one())

    def record(self, connection: Connection) -> None:
        """Keep the result with the key."""
        connection.execute(text(marker_of(connection.dialect).record(self.key)), {"result": self.result})


_EVERY = 1000
_MOST = 2000
"""One unit in so many deletes at most so many old rows: more than have come since, so they cannot pile up."""


def _tidy(connection: Any, dialect: Any, do_commit: Callable[[Any], None], marker: Marker) -> None:
    """After the COMMIT of one unit in a thousand of an engine, on its connection: delete rows that are too old."""
    count = dialect.__dict__["polysession_rows"] = dialect.__dict__.get("polysession_rows", 0) + 1
    if count % _EVERY:
        return
    before = unit_ids.before(time.time(), unit_ids.KEPT)
    try:
        with patience(connection.driver_connection, ANSWER_WITHIN):  # the unit has committed: nobody waits for long
            say(connection.cursor(), marker.forget(before, unit_ids.KEPT, _MOST))
            do_commit(connection)
    except Exception:
        _log.exception("old rows of the table of outcomes could not be deleted")
        with suppress(Exception):  # a broken connection is found broken when it is given back
            dialect.do_rollback(connection)


def marker_of(dialect: Any) -> Marker:
    """The texts for a SQLAlchemy dialect; a mysql:// URL may lead to MariaDB."""
    return dialects.of("mariadb" if getattr(dialect, "is_mariadb", False) else dialect.name).marker


def _send_all(connection: Any, dialect: Any, text: str) -> None:
    """Send a text of several statements. By psycopg without a cursor, which takes longer than the server."""
    driver = connection.driver_connection
    if dialect.driver != "psycopg" or driver.pgconn.pipeline_status:
        say(connection.cursor(), text)
    elif dialect.is_async:
        await_only(_exchange(driver, text))
    else:
        with driver.lock:
            driver.wait(_answers(driver.pgconn, text))


async def _exchange(driver: Any, text: str) -> None:
    async with driver.lock:
        await driver.wait(_answers(driver.pgconn, text))


def _answers(pgconn: Any, text: str) -> Any:
    """A generator for psycopg's `Connection.wait`: one simple query, of which every answer must be good.

    So psycopg sends its own COMMIT (`BaseConnection._exec_command`), which wants a single answer.
    """
    from psycopg import errors, generators, pq

    pgconn.send_query(text.encode())
    for answer in (yield from generators.execute(pgconn)):
        if answer.status not in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK):
            raise errors.error_from_result(answer)


def connection_number(driver: Any) -> int:
    """The server's number of a driver's connection; 0 if it has none. Sends nothing."""
    try:
        info = getattr(driver, "info", None)
        if info is not None and hasattr(info, "backend_pid"):
            return int(info.backend_pid)
        for name in ("get_server_pid", "thread_id"):
            if hasattr(driver, name):
                return int(getattr(driver, name)())
    except Exception:
        return 0  # it is closed: then nobody has to know its number
    return 0


@functools.lru_cache(maxsize=1024)
def _judge(statement: str) -> tuple[bool, bool]:
    return may_change(statement), surely_changes(statement) or "notify" in statement.lower()


@functools.cache
def marking_connection() -> Any:
    """asyncpg's connection, whose transaction sends a row with its COMMIT.

    asyncpg's `Transaction.commit` sends its text by the connection's public `execute` (asyncpg, transaction.py), which
    without arguments is a simple query and may have several statements (asyncpg documentation, Connection.execute).
    """
    import asyncpg

    class MarkingConnection(asyncpg.Connection):  # type: ignore[misc]  # the driver's stubs are optional
        """For writes."""

        __slots__ = ("polysession_marker",)

        def __init__(self, *args: Any, **named: Any) -> None:
            self.polysession_marker = ""
            super().__init__(*args, **named)

        async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:
            """As `asyncpg.Connection.execute`."""
            if not self.polysession_marker or query != "COMMIT;":
                return str(await super().execute(query, *args, timeout=timeout))
            try:
                return str(await super().execute(f"{self.polysession_marker}; COMMIT", timeout=timeout))
            except asyncpg.PostgresError:
                # the driver takes its transaction for ended, but COMMIT was not reached if the row was refused
                if self.is_in_transaction() and not self.is_closed():
                    await super().execute("ROLLBACK")
                raise

    return MarkingConnection
