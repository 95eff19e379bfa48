"""The lock that an interrupt leaves with its thread."""

from __future__ import annotations

import logging
import threading
from typing import Any

from proofs.interrupted_logging import free_logging


def test_the_lock_is_given_back() -> None:
    """However often it was taken; others can have it then."""
    lock: Any = logging._lock  # type: ignore[attr-defined]  # it has no public name
    lock.acquire()
    lock.acquire()
    free_logging()
    got: list[bool] = []
    other = threading.Thread(target=lambda: got.append(lock.acquire(timeout=5) and lock.release() is None))
    other.start()
    other.join(10)
    assert got == [True]
    free_logging()  # there is nothing to give back
