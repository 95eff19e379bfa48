"""Opening a connection for somebody who has a seat: in a thread or task beside, and waited for no longer than he has.

A driver that connects cannot be interrupted, and a server that is away may leave it waiting for long. So whoever asked
leaves when his time is up; the opening goes on, and what comes of it goes into the pool. While it lasts for longer than
opening should, another one is begun beside it, since the first may be lost in a network that is well again. What is
opened first is used, and a connection too many is closed.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Final

from .claims import Claim

if TYPE_CHECKING:
    from .pool import FairPool

__all__ = ["AGAIN", "grow", "time_is_up"]

AGAIN: Final = 0.45
"""Seconds after which another connection is begun beside one that is being opened; up to a third more, drawn."""
_BESIDE: Final = 6
"""So many are being opened at most for one who waits."""
_LEAST: Final = 0.05
"""Seconds that an opening gets in any case, though the time to wait has passed in the queue."""
_UNTIMED: Final = 10.0
"""Seconds for a pool whose waiters do not wait at all."""


def time_is_up(claim: Claim, asked_at: float) -> float:
    """Until when whoever asked waits, in seconds of `time.monotonic()`."""
    until = asked_at + (claim.pool.room.timeout or _UNTIMED)
    deadline = claim.asker.waits_until() if claim.asker is not None else None
    return until if deadline is None else min(until, deadline)


def grow(pool: FairPool, claim: Claim, asked_at: float) -> None:
    """Return when `claim` has a connection. Raises why it has none: the driver's error, or `CheckoutTimeout`."""
    room, asker = pool.room, claim.asker
    began = again_at = time.monotonic()
    until = max(time_is_up(claim, asked_at), began + _LEAST)
    claim.growing = True
    try:
        while not room.decided(claim):
            now = time.monotonic()
            if now >= until and room.leave(claim):
                break
            if now >= again_at:
                if claim.beside < _BESIDE:
                    pool.attempt(claim)
                again_at = time.monotonic() + AGAIN * (1 + random.random() / 3)  # noqa: S311  # spreads load
                continue
            pool.park(claim, max(0.0, min(until, again_at) - now))
    except BaseException:
        room.leave(claim)
        raise
    if claim.left:
        waited = time.monotonic() - asked_at
        room.note(timeouts=1)
        if asker is not None:
            asker.waited(time.monotonic() - began)
        from .exhausted import unanswered  # reports are needed rarely

        raise unanswered(room, waited)
    if claim.error is not None:
        raise claim.taken_error()
