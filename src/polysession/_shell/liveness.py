"""Whether a connection that was idle can still be used, without asking the server where that can be.

An idle connection has nothing to say. If its socket can be read, the server has closed it or is about to: MySQL and
MariaDB send nothing of their own accord; PostgreSQL may, so there the server is asked. What the operating system does
not know, a link that leads nowhere any more, is found by TCP's keepalive, which is switched on here, and by a question
to the server after long idleness, whose answer is waited for a bounded time.

Sources: poll(2); tcp(7); PostgreSQL documentation, "Asynchronous Operations" of the message flow; MySQL and MariaDB,
client/server protocol.
"""

from __future__ import annotations

import random
import select
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import util

from .grace import await_end
from .parting import link_of
from .patience import patience
from .severing import sever

__all__ = [
    "KEEPALIVE",
    "LIFE",
    "PING",
    "Fitness",
    "Life",
    "answers",
    "answers_async",
    "keep_alive",
    "life_of",
    "listens",
]

LIFE: Final = "polysession_life"
"""Where a connection keeps what is known of its life."""
PING: Final = 1.0
"""Seconds in which a server must answer the question whether it is there."""
JITTER: Final = 0.1
"""The part of its lifetime by which a connection may end earlier, so that those that began together do not end so."""


class Fitness(StrEnum):
    """What can be said of an idle connection without asking the server."""

    FIT = "fit"
    DOUBTFUL = "doubtful"
    """The server has to be asked."""
    DEAD = "dead"
    """The server has closed it."""
    OLD = "old"
    """It has lived as long as it may."""
    REPLACED = "replaced"
    """All connections of its time are replaced."""


class Life:
    """Of one connection: since when, until when, and whether its link is quiet. Used by whoever has the connection."""

    __slots__ = ("born_at", "driver", "ends_at", "is_lost", "is_quiet", "may_speak", "used_at")

    def __init__(self, driver: Any, lifetime: float, born_at: float | None = None) -> None:
        self.driver = driver
        """The driver's connection."""
        now = time.monotonic()
        self.born_at = now if born_at is None else born_at
        """When its opening was begun, in seconds of `time.monotonic()`, like the others. It is replaced
        with what was replaced meanwhile: it may have been for another server or password."""
        self.used_at = now
        """When it last came back."""
        # spreads load, guards nothing
        self.ends_at = now + lifetime * (1 - JITTER * random.random()) if lifetime > 0 else float("inf")  # noqa: S311
        self.is_quiet, self.may_speak = _listener(driver)
        self.is_lost = False
        """Its link is of no use: nobody says good-bye on it."""

    def is_fit(self, now: float, ask_after: float, doubted_at: float, replaced_at: float) -> bool:
        """Whether `fitness` says `FIT`."""
        return (
            replaced_at < self.born_at
            and now < self.ends_at
            and (
                self.is_quiet is None
                or (self.is_quiet() and doubted_at < self.used_at and not 0 < ask_after < now - self.used_at)
            )
        )

    def fitness(self, *, ask_after: float, doubted_at: float, replaced_at: float) -> Fitness:
        """What it is now. `ask_after`: seconds of idleness, 0 for never; the other two: points in time."""
        if self.born_at <= replaced_at:
            return Fitness.REPLACED
        if self.is_quiet is None:
            return Fitness.FIT if time.monotonic() < self.ends_at else Fitness.OLD
        if not self.is_quiet():
            return Fitness.DOUBTFUL if self.may_speak else Fitness.DEAD
        now = time.monotonic()
        if now >= self.ends_at:
            return Fitness.OLD
        if self.used_at <= doubted_at or (0 < ask_after < now - self.used_at):
            return Fitness.DOUBTFUL
        return Fitness.FIT


def life_of(record: Any) -> Life | None:
    """What is known of the life of a connection of the pool; None for one that was not opened by it."""
    found: Life | None = record.info.get(LIFE)
    return found


def is_dead(record: Any) -> bool:
    """The server has closed this idle connection, or says something; it is lost then."""
    life = life_of(record)
    if life is None or life.is_quiet is None or life.is_quiet():
        return False
    life.is_lost = True
    return True


def close(record: Any) -> None:
    """Close a connection of the pool for good. Waits for the server's end of one that is not lost, for a bounded time.

    An error of the driver is told to SQLAlchemy's log only.
    """
    life = life_of(record)
    if life is not None and life.is_lost:
        sever(record.driver_connection)
        record.invalidate()
    else:
        record.close()


# -- listening


def _listener(driver: Any) -> tuple[Callable[[], bool] | None, bool]:
    """The question whether nothing has come on a driver's idle connection, and whether something may come from a
    server that is well. None for a connection without a link, or a driver that is not known."""
    try:
        for base in type(driver).__mro__:
            how = _HOW.get(base.__module__.partition(".")[0])
            if how is not None:
                return how(driver), base.__module__.startswith(_SPEAK)
    except Exception:  # it keeps its socket elsewhere: then it is found out by using it
        return None, False
    return None, False


_SPEAK: Final = ("psycopg", "asyncpg")


def _nothing_at(number: int) -> Callable[[], bool]:
    if not hasattr(select, "poll"):
        return lambda: not select.select((number,), (), (), 0)[0]
    poller = select.poll()
    poller.register(number, select.POLLIN)
    poll = poller.poll
    return lambda: not poll(0)


def _psycopg(driver: Any) -> Callable[[], bool]:
    pgconn, nothing = driver.pgconn, _nothing_at(driver.fileno())
    return lambda: not pgconn.status and nothing()  # a closed one has another number, or somebody else has its


def _asyncpg(driver: Any) -> Callable[[], bool]:
    nothing = _nothing_at(driver._transport.get_extra_info("socket").fileno())
    return lambda: not driver.is_closed() and nothing()


def _pymysql(driver: Any) -> Callable[[], bool]:
    nothing = _nothing_at(driver._sock.fileno())
    return lambda: driver._sock is not None and nothing()


def _asyncmy(driver: Any) -> Callable[[], bool]:
    protocol, transport = driver._proto, driver._transport
    nothing = _nothing_at(transport.get_extra_info("socket").fileno())
    # the loop reads what comes into a buffer of the driver's
    return lambda: not transport.is_closing() and not protocol.eof and protocol.length == protocol.pos and nothing()


def _aiomysql(driver: Any) -> Callable[[], bool]:
    reader, transport = driver._reader, driver._writer.transport
    nothing = _nothing_at(transport.get_extra_info("socket").fileno())
    return lambda: not transport.is_closing() and not reader._buffer and not reader.at_eof() and nothing()


def _mysqldb(driver: Any) -> Callable[[], bool]:
    nothing = _nothing_at(driver.fileno())
    return lambda: bool(driver.open) and nothing()


_HOW: Final[dict[str, Callable[[Any], Callable[[], bool]]]] = {
    "psycopg": _psycopg,
    "asyncpg": _asyncpg,
    "pymysql": _pymysql,
    "MySQLdb": _mysqldb,
    "asyncmy": _asyncmy,
    "aiomysql": _aiomysql,
}
"""By the package of a driver's connection."""


def listens(driver: str) -> bool:
    """Connections of a driver, by SQLAlchemy's name for it, can be listened to."""
    return {"mysqldb": "MySQLdb"}.get(driver, driver) in _HOW


# -- asking


def answers(dialect: Any, record: Any, within: float) -> bool:
    """Ask the server whether it is there; False if it does not answer in time, or not as it should."""
    try:
        with patience(record.driver_connection, within):
            dialect.do_ping(record.dbapi_connection)
    except Exception:
        return False
    return True


def answers_async(dialect: Any, record: Any, within: float) -> bool:
    """The same below SQLAlchemy's adapters. A cancellation does not interrupt it, and comes again afterwards."""
    driver = record.driver_connection
    try:
        await_end(_ask(dialect, record, driver), lambda: sever(driver), within=within)
    except Exception:
        return False
    return True


async def _ask(dialect: Any, record: Any, driver: Any) -> None:
    if dialect.driver == "asyncpg":
        await driver.execute("SELECT 1")  # SQLAlchemy's question is a transaction of three round trips
        return
    await util.greenlet_spawn(dialect.do_ping, record.dbapi_connection)


# -- keeping alive

KEEPALIVE: Final = 30
"""Seconds of silence after which TCP asks whether the other side is there, and seconds in which it, or what was sent
before, must be acknowledged: a dead link is given up after twice that at most."""

_PROBES: Final = 3


def keep_alive(connection: Any) -> None:
    """Let the operating system find out if the link leads nowhere any more; it then breaks it. For a new connection."""
    link = link_of(getattr(connection, "driver_connection", connection))
    if link is None:
        return
    with suppress(OSError):  # it is no TCP link, or the system has no such option
        link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _OPTIONS.items():
            if hasattr(socket, name):
                link.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    link.close()


_OPTIONS: Final = {
    "TCP_KEEPIDLE": KEEPALIVE,
    "TCP_KEEPINTVL": KEEPALIVE // _PROBES,
    "TCP_KEEPCNT": _PROBES,
    "TCP_USER_TIMEOUT": KEEPALIVE * 1000,
}
