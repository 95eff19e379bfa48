"""One direction of one connection: what was read and is not yet written, in order, each with the time it is due.

It writes to a socket that does not block, and leaves to its link what a strike or an end means. Proxy's thread only.
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from typing import Final, TypeAlias

from .events import Direction, Ending, Side
from .plan import Strike

__all__ = ["HIGH_WATER", "RESET_ON_CLOSE", "End", "Item", "Lane"]

HIGH_WATER: Final = 1 << 20
"""Bytes that may wait in a lane before its source is no longer read."""
RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: `close` sends RST (socket(7))."""
Item: TypeAlias = memoryview | Strike | Ending | None
"""Bytes; a fault that takes effect; the end of the source, to be passed on; or nothing, which only takes time."""


class End:
    """The socket on one side of a connection."""

    __slots__ = ("connecting", "events", "side", "sock", "spoke")

    def __init__(self, side: Side, sock: socket.socket) -> None:
        self.side: Side = side
        self.sock: socket.socket | None = sock
        self.connecting: bool = False
        self.spoke: bool = True
        """It may still send."""
        self.events: int = 0
        """What the selector watches for."""


class Lane:
    """From `source` to `target`."""

    def __init__(self, direction: Direction, source: End, target: End) -> None:
        self.direction: Direction = direction
        self.source: End = source
        self.target: End = target
        self.queue: deque[tuple[float, Item]] = deque()
        self.waiting: int = 0
        self.blocked: bool = False
        self.swallows: bool = False
        self.wakes_at: float = 0.0

    def put(self, item: Item, due: float) -> None:
        """Add to the end. What swallows takes nothing."""
        if not self.swallows:
            self.queue.append((due, item))
            if isinstance(item, memoryview):
                self.waiting += len(item)

    def swallow(self) -> None:
        """From now on nothing leaves this lane; what waited in it is lost."""
        self.swallows = True
        self.blocked = False
        self.waiting = 0
        self.queue.clear()

    def write(self, data: memoryview) -> bool:
        """Write what the target takes of the first item; True if it took all. Raises `OSError` if it is gone."""
        assert self.target.sock is not None
        try:
            written = self.target.sock.send(data)
        except BlockingIOError:
            written = 0
        self.waiting -= written
        self.blocked = written < len(data)
        if self.blocked:
            self.queue[0] = (0.0, data[written:])
        return not self.blocked
