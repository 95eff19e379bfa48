"""From a stream of bytes to messages: what both protocols share, and the one for bytes that nobody understands.

A `Wire` knows one connection, in both directions. It is fed what was read and answers with the messages that are now
whole, however the bytes were split. It performs no I/O and changes no byte: the `data` of its messages, and `rest`,
are together what it was fed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

from .events import Direction, Transaction

__all__ = ["ProtocolError", "RawWire", "Seen", "Wire"]


class ProtocolError(ValueError):
    """Bytes that cannot be of the protocol the proxy was made for."""


class Seen(NamedTuple):
    """A message and what it means; the proxy adds when and where (see `Message` for the fields of the same name)."""

    data: bytes
    kind: str
    exchange: int | None = 0
    text: str = ""
    verbs: tuple[str, ...] = ()
    transaction: Transaction | None = None
    hold: bool = False
    """A client's message that belongs to a request whose end is still to come: nothing is answered until then."""
    asks: bool = True
    """A client's message after which the client may wait for the server."""
    ends: bool = False
    """The last message of a request, or of an answer."""


class Wire(ABC):
    """One connection's protocol. Not thread-safe."""

    def __init__(self) -> None:
        self._inbox = {direction: _Inbox() for direction in Direction}
        self._opaque: RawWire | None = None

    def feed(self, direction: Direction, data: bytes) -> list[Seen]:
        """The messages that became whole by `data`. Raises `ProtocolError` for what cannot be this protocol."""
        inbox = self._inbox[direction]
        if self._opaque is not None:
            return self._opaque.feed(direction, inbox.take() + data)
        if not inbox.add(data):
            return []
        seen: list[Seen] = []
        at, data = 0, inbox.data
        while at < len(data):
            size = self._size(direction, data, at)
            if size == 0 or at + size > len(data):
                inbox.keep(at, size or len(data) - at + 1)
                return seen
            seen.append(self._see(direction, data[at : at + size]))
            at += size
            if self._opaque is not None and at < len(data):
                seen += self._opaque.feed(direction, data[at:])
                at = len(data)
        inbox.keep(at, 1)
        return seen

    def rest(self, direction: Direction) -> bytes:
        """The bytes of a message that is not whole; for when the sender has ended. The wire forgets them."""
        return self._inbox[direction].take()

    def _turn_opaque(self, exchange: int) -> None:
        """From now on, in both directions, there are only bytes: encrypted or compressed."""
        self._opaque = RawWire(exchange)

    @abstractmethod
    def _size(self, direction: Direction, data: bytes, at: int) -> int:
        """How long the message is that begins at `at`; 0 if that cannot be told yet."""

    @abstractmethod
    def _see(self, direction: Direction, data: bytes) -> Seen:
        """Understand one whole message."""


class RawWire(Wire):
    """No protocol: what is read at once is a message, and a request is what a client sends after a server has sent."""

    def __init__(self, exchange: int = 0) -> None:
        super().__init__()
        self._exchange = exchange
        self._server_spoke = True

    def _size(self, direction: Direction, data: bytes, at: int) -> int:
        return len(data) - at

    def _see(self, direction: Direction, data: bytes) -> Seen:
        if direction is Direction.TO_CLIENT:
            self._server_spoke = True
            return Seen(data, "Bytes", self._exchange, ends=True)
        if self._server_spoke:
            self._exchange += 1
            self._server_spoke = False
        return Seen(data, "Bytes", self._exchange, ends=True)


class _Inbox:
    """The bytes of one direction that wait for the rest of their message. Joins them once, however many came."""

    def __init__(self) -> None:
        self.data = b""
        self._parts: list[bytes] = []
        self._have = 0
        self._need = 1

    def add(self, data: bytes) -> bool:
        """Take `data`; True, with all in `self.data`, if a whole message may be there now."""
        self._have += len(data)
        if self._have < self._need:
            self._parts.append(data)
            return False
        self.data = b"".join((*self._parts, data)) if self._parts else data
        self._parts.clear()
        return True

    def keep(self, at: int, need: int) -> None:
        """Forget what is before `at`; a further look is worth it with `need` bytes."""
        left = self.data[at:]
        self._parts = [left] if left else []
        self._have = len(left)
        self._need = need
        self.data = b""

    def take(self) -> bytes:
        """Give away what waits."""
        left = b"".join(self._parts)
        self._parts.clear()
        self._have, self._need = 0, 1
        return left
