"""Again or not, and after how long: cases and laws of the retry policy."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polysession.errors import RequestRefused
from polysession.failures import Failure, Kind, Phase
from polysession.policy.retry import Backoff, GiveUp, RetryAfter

TRANSIENT = Failure(
    kind=Kind.SERIALIZATION,
    code="40001",
    phase=Phase.BODY,
    transient=True,
    certainly_not_committed=True,
    connection_usable=True,
    reason="another transaction changed what this one had read (40001)",
    source="PostgreSQL documentation, Appendix A",
)
FINAL = msgspec.structs.replace(TRANSIENT, kind=Kind.CONSTRAINT, transient=False, reason="a constraint said no")
OPEN = msgspec.structs.replace(
    TRANSIENT,
    kind=Kind.CONNECTION_LOST,
    phase=Phase.COMMIT_SENT,
    transient=False,
    certainly_not_committed=False,
    reason="the link was lost",
)


@pytest.mark.parametrize(
    ("failure", "attempt", "time_left", "again"),
    [
        (TRANSIENT, 1, math.inf, RetryAfter(0.5, TRANSIENT.reason)),
        (TRANSIENT, 2, math.inf, RetryAfter(1.0, TRANSIENT.reason)),
        (TRANSIENT, 3, math.inf, RetryAfter(1.5, TRANSIENT.reason)),
        (TRANSIENT, 1, 0.6, RetryAfter(0.5, TRANSIENT.reason)),
        (TRANSIENT, 1, 0.5, GiveUp("only 0.5 s are left and the next attempt is 0.5 s away")),
        (TRANSIENT, 1, -1.0, GiveUp("only 0 s are left and the next attempt is 0.5 s away")),
        (TRANSIENT, 4, math.inf, GiveUp(f"4 of 4 attempts were made; the last ended in: {TRANSIENT.reason}")),
        (FINAL, 1, math.inf, GiveUp("constraint violated: it does not go away by repeating: a constraint said no")),
        (
            OPEN, 1, math.inf,
            GiveUp("it may have committed, and repeating it could do the work twice: the link was lost"),
        ),
    ],
)  # fmt: skip
def test_decide(failure: Failure, attempt: int, time_left: float, again: RetryAfter | GiveUp) -> None:
    """The policy repeats what is transient and not committed, within its attempts and its time, and says why not."""
    policy = Backoff(first=1.0, cap=3.0, attempts=4)
    assert policy.decide(failure, attempt=attempt, time_left=time_left, jitter=0.5) == again


def test_a_failure_that_contradicts_itself_is_not_repeated() -> None:
    """Even if something claims to be transient: what may have committed is not run again."""
    failure = msgspec.structs.replace(OPEN, transient=True)
    again = Backoff().decide(failure, attempt=1, time_left=math.inf, jitter=0.0)
    assert isinstance(again, GiveUp)
    assert "twice" in again.reason


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"attempts": 0}, "attempts"),
        ({"attempts": -1}, "attempts"),
        ({"attempts": True}, "attempts"),
        ({"attempts": 2.0}, "attempts"),
        ({"attempts": "5"}, "attempts"),
        ({"attempts": None}, "attempts"),
        ({"first": 0}, "first"),
        ({"first": -0.1}, "first"),
        ({"first": math.inf}, "first"),
        ({"first": math.nan}, "first"),
        ({"first": "1"}, "first"),
        ({"first": True}, "first"),
        ({"cap": 0.001}, "cap"),
        ({"cap": math.inf}, "cap"),
        ({"cap": math.nan}, "cap"),
        ({"cap": None}, "cap"),
    ],
)
def test_values_that_make_no_sense(values: dict[str, Any], name: str) -> None:
    """A policy that makes no sense cannot be made; the error is a `ValueError` that names the value and a remedy."""
    with pytest.raises(RequestRefused, match=f"retry: {name}=") as caught:
        Backoff(**values)
    assert isinstance(caught.value, ValueError)
    assert caught.value.why.startswith(f"{name} must be")
    assert caught.value.do


def test_of() -> None:
    """A number means so many attempts, the first included; a policy is taken as it is."""
    policy = Backoff(first=1.0, cap=2.0)
    assert Backoff.of(policy) is policy
    assert Backoff.of(5) == Backoff(attempts=5)
    with pytest.raises(RequestRefused, match="retry: attempts=0"):
        Backoff.of(0)
    with pytest.raises(RequestRefused, match="retry: attempts=True"):
        Backoff.of(True)


def test_one_attempt_is_no_repetition() -> None:
    """`retry=1` runs the unit once."""
    assert isinstance(Backoff.of(1).decide(TRANSIENT, attempt=1, time_left=math.inf, jitter=0.0), GiveUp)


def test_the_usual_waits_outlast_a_restart() -> None:
    """The usual attempts wait for more than a second in all on average, and never for more than five."""
    usual = Backoff()
    bounds = [usual.bound(attempt) for attempt in range(1, usual.attempts)]
    assert sum(bounds) / 2 > 1.0
    assert sum(bounds) < 5.0


POLICIES = st.builds(
    lambda first, factor, attempts: Backoff(first=first, cap=first * factor, attempts=attempts),
    st.floats(min_value=1e-6, max_value=1e6),
    st.floats(min_value=1.0, max_value=1e6),
    st.integers(min_value=1, max_value=10**6),
)
ATTEMPTS = st.integers(min_value=1, max_value=10**9)
JITTERS = st.floats(min_value=0.0, max_value=1.0, exclude_max=True)
TIMES = st.floats(allow_nan=False)
FAILURES = st.sampled_from([TRANSIENT, FINAL, OPEN])


@given(POLICIES, FAILURES, ATTEMPTS, TIMES, JITTERS)
def test_waits_stay_within_their_bounds(
    policy: Backoff, failure: Failure, attempt: int, time_left: float, jitter: float
) -> None:
    """A wait is never negative, never above the cap, and always ends before the deadline."""
    again = policy.decide(failure, attempt=attempt, time_left=time_left, jitter=jitter)
    if isinstance(again, RetryAfter):
        assert 0 <= again.delay <= policy.bound(attempt) <= policy.cap
        assert again.delay < time_left
        assert attempt < policy.attempts
        assert failure is TRANSIENT
    assert again.reason


PACES = st.floats(min_value=0.0, max_value=1e6)


@given(POLICIES, ATTEMPTS, st.integers(min_value=0, max_value=100), PACES, JITTERS)
def test_waits_of_units_that_take_turns(policy: Backoff, attempt: int, beaten: int, pace: float, jitter: float) -> None:
    """The first one never waits longer than it would without a line, and not at all when it became the first; the
    others wait as long as two attempts take and one to two bounds, so that those who came together do not lose patience
    together."""
    again = policy.decide(TRANSIENT, attempt=attempt, time_left=math.inf, jitter=jitter)
    if isinstance(again, GiveUp):
        return
    wait = policy.in_turn(again, attempt=attempt, beaten=beaten, pace=pace, jitter=jitter).delay
    if beaten:
        assert 0 <= wait <= again.delay
        assert beaten > 1 or wait == 0
    else:
        assert policy.patience(attempt, pace) == policy.bound(attempt) + 2 * pace
        assert policy.patience(attempt, pace) <= wait <= policy.patience(attempt, pace) + policy.bound(attempt)


@given(POLICIES, st.sampled_from([FINAL, OPEN]), ATTEMPTS, TIMES, JITTERS)
def test_what_is_not_transient_is_given_up(
    policy: Backoff, failure: Failure, attempt: int, time_left: float, jitter: float
) -> None:
    """No policy, time or draw repeats what is not transient or may have committed."""
    assert isinstance(policy.decide(failure, attempt=attempt, time_left=time_left, jitter=jitter), GiveUp)


@given(POLICIES, ATTEMPTS)
def test_the_bound_never_falls(policy: Backoff, attempt: int) -> None:
    """Each further failure allows a wait at least as long as the one before."""
    assert policy.bound(attempt) <= policy.bound(attempt + 1)


@given(POLICIES, ATTEMPTS, st.tuples(JITTERS, JITTERS))
def test_a_larger_draw_never_waits_less(policy: Backoff, attempt: int, draws: tuple[float, float]) -> None:
    """The wait grows with the random number and with nothing else."""
    low, high = sorted(draws)
    waits = [policy.decide(TRANSIENT, attempt=attempt, time_left=math.inf, jitter=draw) for draw in (low, high)]
    if all(isinstance(wait, RetryAfter) for wait in waits):
        assert [wait.delay for wait in waits if isinstance(wait, RetryAfter)] == sorted(
            wait.delay for wait in waits if isinstance(wait, RetryAfter)
        )
