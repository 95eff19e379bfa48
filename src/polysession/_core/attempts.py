"""The repetition of a whole unit: open, run the body, leave, and once more if the policy says so.

A new session for each attempt; only when the outcome of the failed one is known to be "not committed".
"""

from __future__ import annotations

from typing import Any, Protocol

from ..facts import Outcome
from ..failures import Failure, Phase
from ..policy.retry import CLASHES, Backoff, GiveUp, RetryAfter
from .hooks import hook_steps
from .scope import Scope, enter_steps, leave_steps
from .steps import Body, Classify, Draw, Pause, Steps
from .turns import Turn

__all__ = ["Runner", "again_steps", "attempt_steps", "first_steps"]


class Runner(Protocol):
    """What the shell does around each attempt; nothing here waits."""

    def fresh(self) -> Scope:
        """A new scope for the next attempt."""

    def opened(self, scope: Scope) -> Any:
        """Make `scope` the current one; its session."""

    def ended(self, scope: Scope) -> None:
        """Undo `opened` and note the end. May be called twice."""

    def failed(self, scope: Scope, attempt: int, failure: Failure, wait: float | None) -> None:
        """Tell the observers."""

    def took(self) -> float:
        """The seconds since the last attempt was begun."""

    @property
    def turn(self) -> Turn:
        """Its place among the units that it may clash with."""


def attempt_steps(runner: Runner, policy: Backoff, *, deadline_at: float | None) -> Steps[Any]:
    """Run the unit until it commits or the policy gives up. Result: what the body returned.

    The last error leaves as it is, with a note that says why it is not repeated. Repeated is only what opened a session
    of its own: a part of another unit is repeated with that one.
    """
    try:
        return (yield from _attempts(runner, policy, deadline_at))
    finally:
        runner.turn.leave()


def _attempts(runner: Runner, policy: Backoff, deadline_at: float | None) -> Steps[Any]:
    attempt = 0
    while True:
        attempt += 1
        scope = runner.fresh()
        if attempt == 1:
            yield from first_steps(runner, scope, policy, deadline_at)
        try:
            value = yield from _one_attempt(runner, scope)
        except Exception as error:
            if not scope.whole:
                raise
            pause = yield from _decide(runner, scope, policy, error, attempt, deadline_at)
            if pause is None:
                yield from _told(scope, error)
                raise
        except BaseException as error:
            yield from _told(scope, error)
            raise
        else:
            yield from _told(scope, None)
            return value
        yield pause  # the hooks of an attempt that is repeated are forgotten with it


def first_steps(runner: Runner, scope: Scope, policy: Backoff, deadline_at: float | None) -> Steps[None]:
    """Before the first attempt: let those go first who were beaten again and again, for as long as their line moves.

    Not inside of another unit: what that one holds would be held for longer.
    """
    if not scope.outer and runner.turn.queue():
        yield Pause(policy.patience(1, runner.turn.pace), runner.turn, deadline_at)


def _one_attempt(runner: Runner, scope: Scope) -> Steps[Any]:
    try:
        try:
            yield from enter_steps(scope)
            value = yield Body(runner.opened(scope))
        except BaseException as error:
            if scope.holding is not None:
                yield from leave_steps(scope, error)
            raise
        yield from leave_steps(scope, None)
        return value
    finally:
        try:
            if scope.holding is not None and not scope.ended:  # an interrupt came between two steps
                yield from leave_steps(scope, KeyboardInterrupt())
        finally:
            try:
                runner.ended(scope)
            except BaseException:
                runner.ended(scope)  # interrupted; a second call does no harm
                raise


def again_steps(
    runner: Runner, scope: Scope, policy: Backoff, error: Exception, attempt: int, deadline_at: float | None
) -> Steps[bool]:
    """Whether a whole unit that ended in `error` is run again; if so, the pause before it is over."""
    pause = yield from _decide(runner, scope, policy, error, attempt, deadline_at)
    if pause is None:
        return False
    yield pause
    return True


def _decide(
    runner: Runner, scope: Scope, policy: Backoff, error: Exception, attempt: int, deadline_at: float | None
) -> Steps[Pause | None]:
    """The pause before the next attempt; None if there is none, and then `error` says why."""
    if scope.outcome is Outcome.COMMITTED:
        return None  # the error came after COMMIT: repeating the unit would do its work twice
    undone = scope.outcome is Outcome.ROLLED_BACK
    turn: Turn | None = None
    phase = Phase.BODY if undone else Phase.COMMIT_SENT
    try:
        failure: Failure = yield Classify(error, phase, scope.options.databases[0], scope.holding)
    except Exception as unclear:
        error.add_note(f"polysession: the error could not be classified: {type(unclear).__name__}: {unclear}")
        return None
    if undone:
        jitter, time_left = yield Draw(deadline_at)
        again = policy.decide(failure, attempt=attempt, time_left=time_left, jitter=jitter)
        if isinstance(again, RetryAfter) and failure.kind in CLASHES:
            turn = runner.turn
            beaten = turn.clashed(runner.took())
            again = policy.in_turn(again, attempt=attempt, beaten=beaten, pace=turn.pace, jitter=jitter)
    else:
        again = GiveUp(f"its outcome is {str(scope.outcome)!r}, and repeating it could do the work twice")
    wait = again.delay if isinstance(again, RetryAfter) else None
    runner.failed(scope, attempt, failure, wait)
    if isinstance(again, GiveUp) and (attempt > 1 or failure.transient or not undone):
        error.add_note(f"polysession: unit {scope.name!r} is not repeated: {again.reason}")
    return None if wait is None else Pause(wait, turn, deadline_at)


def _told(scope: Scope, leaving: BaseException | None) -> Steps[None]:
    """Call the hooks of a unit that is not repeated."""
    if scope.hooks and scope.outcome is not None:
        yield from hook_steps(scope.hooks, scope.outcome, leaving)
