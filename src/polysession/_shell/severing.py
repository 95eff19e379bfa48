"""How the link of a driver's connection is broken at once, so that whatever waits for the server's answer ends.

Drivers that block in C, or in a system call, cannot be told to stop; their socket can. A connection whose socket was
shut down for both directions reads the end of the stream and writes into nothing (POSIX, shutdown()), which every
driver reports as a lost link. The socket stays open, so its number cannot come to mean another one meanwhile; the
driver closes it. SQLite has no link: there the statement that runs is interrupted (sqlite.org/c3ref/interrupt.html).
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from .parting import link_of

__all__ = ["sever"]


def sever(driver: Any) -> None:
    """Break the link of `driver`, a driver's own connection. Waits for nothing; a second call does no harm.

    Connections of asyncpg and asyncmy may be severed in their event loop only, others from any thread. Does nothing for
    a driver that is not known and has no `fileno()`.
    """
    with suppress(Exception):  # it is closed already, or is not open yet
        for base in type(driver).__mro__:
            how = _HOW.get(base.__module__.partition(".")[0])
            if how is not None:
                how(driver)
                return
        link = link_of(driver)  # a number of our own for the same socket: the driver may close its own meanwhile
        if link is not None:
            try:
                link.shutdown(socket.SHUT_RDWR)  # fails for one that the other side has reset
            finally:
                link.close()


def _asyncmy(driver: Any) -> None:
    driver.close()
    link = getattr(driver, "polysession_link", None)
    if link is not None:  # on which the server's end would be awaited (`parting`)
        with suppress(OSError):
            link.shutdown(socket.SHUT_RDWR)


_HOW: Final[Mapping[str, Callable[[Any], object]]] = {
    "sqlite3": lambda driver: driver.interrupt(),
    "aiosqlite": lambda driver: driver._conn.interrupt(),  # its own would wait for its turn behind what runs
    "asyncpg": lambda driver: driver.terminate(),
    "asyncmy": _asyncmy,
    "pymysql": lambda driver: driver._sock.shutdown(socket.SHUT_RDWR),  # it has no fileno()
}
"""By the package of a driver's connection; others are asked for the number of their socket."""
