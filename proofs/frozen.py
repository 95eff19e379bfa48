"""What is there before an experiment is kept from the garbage collector while it runs, as servers do it."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["frozen"]

_within: list[None] = []
"""One for each that runs. Not `gc.get_freeze_count()`: Python 3.12 begins with some that are kept."""


@contextmanager
def frozen() -> Iterator[None]:
    """The collector looks only at what is made from here on: a look at all that was imported stops everybody.

    Within another one, what was made meanwhile is kept from it too, until the outermost ends.
    """
    gc.collect()
    gc.freeze()
    _within.append(None)
    try:
        yield
    finally:
        _within.pop()
        if not _within:
            gc.unfreeze()
