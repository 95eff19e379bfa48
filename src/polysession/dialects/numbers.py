"""Times in the units of a server, rounded up so that a limit is never shorter than asked for and never "no limit"."""

from __future__ import annotations

import math

__all__ = ["checked", "milliseconds", "whole_seconds"]

_MOST_MILLISECONDS = 2**31 - 1
"""The largest value of PostgreSQL's timeout settings and of SQLite's busy_timeout: about 24 days."""


def checked(seconds: float) -> float:
    """`seconds`, if it is a positive and finite time; `ValueError` otherwise."""
    if not (math.isfinite(seconds) and seconds > 0):
        raise ValueError(f"a time limit must be positive and finite, not {seconds!r} s")
    return seconds


def milliseconds(seconds: float) -> int:
    """Whole milliseconds, at least 1, at most what the servers take."""
    return min(math.ceil(min(checked(seconds), _MOST_MILLISECONDS) * 1000), _MOST_MILLISECONDS)


def whole_seconds(seconds: float, most: int) -> int:
    """Whole seconds, at least 1, at most `most`."""
    return min(math.ceil(checked(seconds)), most)
