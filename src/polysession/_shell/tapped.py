"""Between a transport and asyncpg's protocol while COMMIT is on its way behind a statement.

The server answers each of the two with a ReadyForQuery of its own, and asyncpg takes the first one for the end of what
it waits for. So for the time of the flight a protocol of ours stands before asyncpg's (`BaseTransport.set_protocol`).
It hands through all that answers the statement but that ReadyForQuery, keeps what answers COMMIT, and hands on the last
ReadyForQuery: asyncpg hears of one statement, after which there is no transaction. What the server says at any time
(notices, notifications, its settings) passes in its place. Then asyncpg's protocol stands where it stood before, at the
end of a message; what lies behind it is asyncpg's.

A message may be cut anywhere: what passes does so as it comes, what is looked at waits until it is whole (PostgreSQL
documentation, "Message Formats": a letter, and four bytes with the length of what follows, with themselves).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["Tap", "fields"]

_READY: Final = ord("Z")
_ERROR: Final = ord("E")
_AT_ANY_TIME: Final = frozenset(b"NSA")
"""NoticeResponse, ParameterStatus, NotificationResponse."""
_HEAD: Final = 5
"""Bytes before what a message says."""


class Tap(asyncio.Protocol):
    """For one flight. In the event loop of its transport only."""

    __slots__ = ("_error", "_has_erred", "_inner", "_is_ready", "_left", "_rest", "_transport", "failed", "is_over")

    def __init__(self, transport: Any, inner: Any) -> None:
        self._transport = transport
        self._inner = inner
        self._rest = b""
        """The beginning of a message that is not whole."""
        self._left = 0
        """Bytes that are still to come of one that passes."""
        self._has_erred = self._is_ready = False
        self._error = b""
        self.failed = False
        """It is certain that the server has refused what was sent before COMMIT."""
        self.is_over = False
        """All was answered."""

    @property
    def refused(self) -> Mapping[str, str] | None:
        """What the server had against COMMIT; None if nothing."""
        return fields(self._error[_HEAD:]) if self._error else None

    def stand_between(self) -> None:
        """From here on it hears what comes."""
        self._transport.set_protocol(self)

    def step_aside(self) -> None:
        """Nothing has left that would have to be kept from asyncpg."""
        if self._transport.get_protocol() is self:
            self._transport.set_protocol(self._inner)

    def data_received(self, data: bytes) -> None:
        """As `asyncio.Protocol`."""
        data, self._rest = self._rest + data if self._rest else data, b""
        at = min(self._left, len(data))
        self._left -= at
        kept_to = 0
        while len(data) - at >= _HEAD:
            kind = data[at]
            end = at + 1 + int.from_bytes(data[at + 1 : at + _HEAD])
            is_kept = kind == _READY or (self._is_ready and kind not in _AT_ANY_TIME)
            if (is_kept or kind == _ERROR) and end > len(data):
                break
            if is_kept:
                self._hand(data[kept_to:at])
                kept_to = end
                if kind == _READY and self._is_ready:
                    self.is_over = True
                    self.step_aside()
                    self._hand(data[at:])
                    return
                self._keep(kind, data[at:end])
            elif kind == _ERROR:
                self._has_erred = True
                # a pooler, which knows less, tells of no place in PostgreSQL's source
                self.failed = self.failed or "R" in fields(data[at + _HEAD : end])
            at = min(end, len(data))
            self._left = end - at
        self._hand(data[kept_to:at])
        self._rest = data[at:]

    def _keep(self, kind: int, message: bytes) -> None:
        if kind == _READY:
            self._is_ready = True
            self.failed = self._has_erred  # the server goes on, so that it is its own word
        elif kind == _ERROR:
            self._error = message

    def _hand(self, data: bytes) -> None:
        if data:
            self._inner.data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """As `asyncio.Protocol`. With an error of COMMIT asyncpg tells why, as for a COMMIT that was sent alone."""
        self._hand(self._error)
        self._inner.connection_lost(exc)

    def eof_received(self) -> bool | None:
        """As `asyncio.Protocol`."""
        answer: bool | None = self._inner.eof_received()
        return answer

    def pause_writing(self) -> None:
        """As `asyncio.BaseProtocol`."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """As `asyncio.BaseProtocol`."""
        self._inner.resume_writing()


def fields(body: bytes) -> dict[str, str]:
    """What an ErrorResponse says, by its letters."""
    return {chr(part[0]): part[1:].decode(errors="replace") for part in body.split(b"\0") if part}
