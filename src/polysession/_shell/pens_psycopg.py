"""The pen of psycopg: the row is executed as a prepared statement, in one simple query with COMMIT.

It is prepared by SQL, since the server takes longer to plan it than to write it. The driver knows of it as of its own
statements: it forgets all of them where it lets the server forget them, with a ROLLBACK for instance. It is not
prepared where the driver prepares nothing, nor behind a pooler, where the next COMMIT may reach another connection of
the server: the configuration tells, or that the server has another number for the connection than the driver was told.
"""

from __future__ import annotations

import functools
import math
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sqlalchemy.engine import Connection
from sqlalchemy.util import await_only

from ..dialects.marker import Marker
from .parting import link_of
from .pens import ANSWER_WITHIN, Commit, Pen

if TYPE_CHECKING:
    from .marking import Trail

__all__ = ["pen"]


def pen(asynchronous: bool) -> Any:
    """The class of the pen for connections of either kind."""
    return _Tasks if asynchronous else _Threads


class _Threads(Pen):
    """Without a cursor, and bounded by the driver's own waiting."""

    __slots__ = ("prepared",)

    def __init__(self, connection: Connection, backend: int, server: int, *, is_ours: bool, is_direct: bool) -> None:
        super().__init__(connection, backend, server, is_ours=is_ours)
        self.prepared: Any = self.driver._prepared if is_direct else None
        """The driver's knowledge of what is prepared; None where nothing may be."""

    def commit(self, trail: Trail, connection: Any, do_commit: Commit) -> None:
        """As `Pen.commit`."""
        driver = self.driver
        if driver.pgconn.pipeline_status:  # somebody has begun one on the driver's connection: it takes one by one
            super().commit(trail, connection, do_commit)
            return
        prepared = self.prepared
        if prepared is None or prepared.prepare_threshold is None:
            text = self.marker.with_commit(self.marker.write(trail.unit, sure=trail.sure)).encode()
            trail.sent = True
            self._exchange(text)
            return
        names = prepared._names
        key, definition = _prepared(self.marker, trail.sure)
        name = names.get(key)
        if name is not None:
            names.move_to_end(key)
            trail.sent = True
            self._exchange(b"EXECUTE %b('%b'); COMMIT" % (name, trail.unit.encode()))
            return
        name = b"polysession_%d" % prepared._prepared_idx
        prepared._prepared_idx += 1
        trail.sent = True
        prepare = b"PREPARE %b(uuid) AS %b; " % (name, definition)
        self._exchange(prepare + b"EXECUTE %b('%b'); COMMIT" % (name, trail.unit.encode()))
        names[key] = name

    def _exchange(self, text: bytes) -> None:
        driver = self.driver
        with driver.lock:
            driver.wait(_answering()(driver, text))


class _Tasks(_Threads):
    """The same below asyncio."""

    __slots__ = ()

    def _exchange(self, text: bytes) -> None:
        await_only(self._await(text))

    async def _await(self, text: bytes) -> None:
        driver = self.driver
        async with driver.lock:
            await driver.wait(_answering()(driver, text))


@functools.cache
def _prepared(marker: Marker, sure: bool) -> tuple[tuple[bytes, tuple[int, ...]], bytes]:
    """The key by which the driver knows the row's statement, which no text of the application has, and its text."""
    text = marker.written("$1", sure=sure).encode()
    return (b"polysession " + text, ()), text


@functools.cache
def _answering() -> Callable[[Any, bytes], Any]:
    """What makes a generator for psycopg's `Connection.wait`: one simple query, of which every answer must be good.

    So psycopg sends its own COMMIT (`BaseConnection._exec_command`), which wants a single answer. The driver's wait
    comes back some times a second, with nothing (psycopg, generators.py): then is looked whether the time is up.
    """
    from psycopg import errors, generators, pq

    good = pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK
    execute = generators.execute

    def answers(driver: Any, text: bytes) -> Any:
        driver.pgconn.send_query(text)
        until = time.monotonic() + ANSWER_WITHIN
        answering = execute(driver.pgconn)
        try:
            wanted = next(answering)
            while True:
                ready = yield wanted
                if not ready and time.monotonic() > until:
                    until = math.inf
                    _shut(driver)  # the next look finds a lost link
                wanted = answering.send(ready)
        except StopIteration as end:
            found = end.value
        for answer in found:
            if answer.status not in good:
                raise errors.error_from_result(answer)

    return answers


def _shut(driver: Any) -> None:
    link = link_of(driver)
    if link is not None:
        with suppress(OSError):
            link.shutdown(socket.SHUT_RDWR)
        link.close()
