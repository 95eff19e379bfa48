"""What is there before an experiment is kept from the garbage collector while it runs, as servers do it."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["frozen"]


@contextmanager
def frozen() -> Iterator[None]:
    """The collector looks only at what is made from here on: a look at all that was imported stops everybody."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
