"""An end to waiting for an answer that does not come: after a time the socket is shut, and the driver finds out.

Few drivers bound the wait for an answer. A link that is cut is told by the operating system; one that leads nowhere any
more, and a server that is frozen, tell nothing. The watchdog, one thread of this process, ends such a wait; it touches
no driver's object, only a duplicate of the socket, which `shutdown` ends for everybody who has it (POSIX, `shutdown`).
So it works for drivers that block and for those that are awaited. Only the time of the wait is bounded: the connection
is of no use afterwards.
"""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from typing import Any

from .parting import link_of
from .watchdog import bound, free

__all__ = ["patience"]


class patience:  # noqa: N801  # it is used as a function is
    """Shut the socket of a driver's connection if the block takes longer; nothing for one that has none, or None.

    Who takes the link out of `links` has it: one shuts it, or the other closes it unshut.
    """

    __slots__ = ("_seconds", "bound_at", "links")

    def __init__(self, driver_connection: Any, seconds: float | None) -> None:
        link = link_of(driver_connection) if seconds is not None else None
        self.links = [link] if link is not None else []
        self.bound_at = 0.0
        self._seconds = seconds or 0.0

    def __enter__(self) -> None:
        if self.links:
            bound(self, time.monotonic() + self._seconds)

    def __exit__(self, *_: object) -> None:
        free(self)
        if self.links:  # else the time was up meanwhile
            with suppress(IndexError):
                self.links.pop().close()

    def sever(self) -> None:
        """The time is up."""
        with suppress(IndexError):
            link = self.links.pop()
            with suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
            link.close()
