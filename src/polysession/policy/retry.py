"""Whether a unit of work that failed is run again, and after how long. Pure: no clock, no random number, no I/O.

The whole unit is repeated or nothing is, and only when it is known that it has not committed. What is transient comes
from the tables in `dialects`, as a `Failure`.
"""

from __future__ import annotations

import math

import msgspec

from ..errors import RequestRefused
from ..failures import Failure, Kind

__all__ = ["CLASHES", "Again", "Backoff", "GiveUp", "RetryAfter"]

CLASHES = frozenset({Kind.SERIALIZATION, Kind.DEADLOCK, Kind.LOCK_TIMEOUT, Kind.BUSY})
"""What a unit fails with because it met other units, which may meet again: they take turns."""


class RetryAfter(msgspec.Struct, frozen=True):
    """Run the whole unit again, with a new session, after `delay` seconds."""

    delay: float
    reason: str


class GiveUp(msgspec.Struct, frozen=True):
    """Do not run it again; the error leaves the unit."""

    reason: str


Again = RetryAfter | GiveUp


class Backoff(msgspec.Struct, frozen=True, kw_only=True):
    """Waits that double, with full jitter: each is drawn evenly between 0 and its bound. All times are seconds.

    Full jitter spreads the units that failed together (Brooker, "Exponential Backoff And Jitter", AWS Architecture
    Blog, 2015). Units of one process that clash take turns instead (`in_turn`), so that the attempts suffice on one hot
    row as well: `proofs/contention.py` measures it. The waits of ten attempts add up to 2.1 s on average and 4.3 s at
    most, so they outlast a server that restarts.

    Raises `RequestRefused` (a `ValueError`) when made from values that make no sense.
    """

    first: float = 0.02
    """The bound of the wait after the first failure; it doubles with each further one."""
    cap: float = 1.0
    """No wait is longer."""
    attempts: int = 10
    """How often the unit is run at most, the first time included; 1 means never again."""

    def __post_init__(self) -> None:
        if not _is_number(self.attempts, int) or self.attempts < 1:
            raise _refused("attempts", self.attempts, "a whole number from 1; 1 means that nothing is repeated")
        if not _is_number(self.first, (int, float)) or not 0 < self.first < math.inf:
            raise _refused("first", self.first, "a positive number of seconds")
        if not _is_number(self.cap, (int, float)) or not self.first <= self.cap < math.inf:
            raise _refused("cap", self.cap, f"a number of seconds not below first, which is {self.first!r}")

    @classmethod
    def of(cls, given: int | Backoff) -> Backoff:
        """The policy for `retry=`: a number means so many attempts, the first one included, with the usual waits."""
        return given if isinstance(given, Backoff) else cls(attempts=given)

    def bound(self, attempt: int) -> float:
        """The longest wait after the `attempt`-th failure, counted from 1. Never falls, never above `cap`."""
        return min(self.cap, self.first * 2.0 ** min(attempt - 1, 1000))  # 2.0 ** 1024 would overflow

    def decide(self, failure: Failure, *, attempt: int, time_left: float, jitter: float) -> Again:
        """Again or not, now that the `attempt`-th try failed, counted from 1.

        `time_left` is what the deadline leaves, `math.inf` if there is none; `jitter` in [0, 1) is drawn by the driver.
        The wait is shorter than `time_left`, or there is none.
        """
        if not failure.certainly_not_committed:
            return GiveUp(f"it may have committed, and repeating it could do the work twice: {failure.reason}")
        if not failure.transient:
            return GiveUp(f"{failure.kind}: it does not go away by repeating: {failure.reason}")
        if attempt >= self.attempts:
            return GiveUp(f"{attempt} of {self.attempts} attempts were made; the last ended in: {failure.reason}")
        delay = jitter * self.bound(attempt)
        if delay >= time_left:
            return GiveUp(f"only {max(time_left, 0.0):.3g} s are left and the next attempt is {delay:.3g} s away")
        return RetryAfter(delay, failure.reason)

    def in_turn(self, again: RetryAfter, *, attempt: int, beaten: int, pace: float, jitter: float) -> RetryAfter:
        """`again` for a unit that takes turns with those it clashed with.

        `beaten` is how often it failed although it came first, the failure that made it the first included; 0 if others
        come first. The first one goes again at once: who beat it has ended. If it is beaten again, by another process
        or by units of another name, it waits as ever, from the shortest wait on. The others wait for their turn, for as
        long as the line moves: see `patience`.
        """
        if beaten == 0:
            return RetryAfter(self.patience(attempt, pace) + again.delay, again.reason)
        return RetryAfter(0.0 if beaten == 1 else min(again.delay, jitter * self.bound(beaten - 1)), again.reason)

    def patience(self, attempt: int, pace: float) -> float:
        """How long a line may stand still in which an attempt takes `pace` seconds: its first one may need two."""
        return self.bound(attempt) + 2 * pace


def _is_number(value: object, kind: type | tuple[type, ...]) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _refused(name: str, value: object, expected: str) -> RequestRefused:
    return RequestRefused(
        f"retry: {name}={value!r} is not possible",
        why=f"{name} must be {expected}",
        do=("give a number of attempts, for example retry=5", "give a policy, for example retry=Backoff(attempts=5)"),
        **{name: value},
    )
