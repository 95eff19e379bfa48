"""What an interrupt leaves behind in Python's own logging."""

from __future__ import annotations

import logging
from typing import Any

__all__ = ["free_logging"]


def free_logging() -> None:
    """Give back logging's lock if an interrupt has left it with this thread, where all others would wait for it.

    `logging` takes it in one line and begins the `try` that gives it back in the next (CPython 3.11,
    Lib/logging/__init__.py, `Manager.getLogger`). It is asked for whenever an engine is made.
    """
    lock: Any = logging._lock  # type: ignore[attr-defined]  # it has no public name
    while lock._is_owned():
        lock.release()
