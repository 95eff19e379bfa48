"""Counts connections from outside: by SQLAlchemy's own pool events, and by the server's own list.

What the doors say about themselves is worth little as a proof; these two are told by others.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

from sqlalchemy import event
from sqlalchemy.pool import Pool

__all__ = ["Witness"]


class Witness:
    """Knows which connections of this process are open and which are out, for all pools made and used meanwhile.

    Used as `with`, it listens to the events of SQLAlchemy's `Pool` (its documentation, "Core Events", "Connection Pool
    Events"). Thread-safe.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: set[int] = set()
        self._out: set[int] = set()
        self.most_out: int = 0
        """The most connections that were out at once."""
        self._listeners: Final[dict[str, Callable[..., None]]] = {
            "connect": self._connected,
            "checkout": self._checked_out,
            "checkin": self._checked_in,
            "close": self._closed,
        }

    @property
    def out(self) -> int:
        """Connections that are checked out just now."""
        return len(self._out)

    @property
    def open(self) -> int:
        """Connections that are open just now, out or idle."""
        return len(self._open)

    def __enter__(self) -> Self:
        for name, listener in self._listeners.items():
            event.listen(Pool, name, listener)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        for name, listener in self._listeners.items():
            event.remove(Pool, name, listener)

    def _connected(self, _connection: Any, record: Any) -> None:
        with self._lock:
            self._open.add(id(record))

    def _checked_out(self, _connection: Any, record: Any, _proxy: Any) -> None:
        with self._lock:
            self._out.add(id(record))
            self.most_out = max(self.most_out, len(self._out))

    def _checked_in(self, _connection: Any, record: Any) -> None:
        with self._lock:
            self._out.discard(id(record))

    def _closed(self, _connection: Any, record: Any) -> None:
        with self._lock:
            self._open.discard(id(record))
