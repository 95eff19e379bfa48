"""aiosqlite's worker thread, which is waited for where opening a connection fails.

The thread answers to the event loop once more after the failure has reached the caller, because it is told to stop and
nobody awaits that (aiosqlite 0.22.1, `Connection._connect`). A loop that was closed meanwhile makes it end with an
error of its own.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Final

__all__ = ["waiting_for_worker"]

_LAST: Final = 1.0
"""Seconds that the loop stands still at most for a thread that has only to open a file, or to end."""


def waiting_for_worker(aiosqlite: Any) -> Callable[..., Awaitable[Any]]:
    """What opens a connection for SQLAlchemy's adapter (its `async_creator_fn`) and leaves no thread behind."""
    return functools.partial(_opened, aiosqlite)


async def _opened(aiosqlite: Any, *args: Any, **arguments: Any) -> Any:
    connection = aiosqlite.connect(*args, **arguments)
    # before 0.22 the connection is the thread
    thread = connection if isinstance(connection, threading.Thread) else connection._thread
    thread.daemon = True  # as SQLAlchemy's adapter has it
    try:
        return await connection
    except BaseException:
        thread.join(_LAST)
        raise
