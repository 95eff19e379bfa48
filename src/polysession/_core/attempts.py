"""The repetition of a whole unit: open, run the body, leave, and once more if the policy says so.

A new session for each attempt; only when the outcome of the failed one is known to be "not committed".
"""

from __future__ import annotations

from typing import Any, Protocol

from ..facts import Outcome
from ..failures import Failure, Phase
from ..policy.retry import Backoff, GiveUp, RetryAfter
from .hooks import hook_steps
from .scope import Scope, enter_steps, leave_steps
from .steps import Body, Classify, Draw, Pause, Steps

__all__ = ["Runner", "attempt_steps"]


class Runner(Protocol):
    """What the shell does around each attempt; nothing here waits."""

    def fresh(self) -> Scope:
        """A new scope for the next attempt."""

    def opened(self, scope: Scope) -> Any:
        """Make `scope` the current one; its session."""

    def ended(self, scope: Scope) -> None:
        """Undo `opened` and note the end."""

    def failed(self, scope: Scope, attempt: int, failure: Failure, wait: float | None) -> None:
        """Tell the observers."""


def attempt_steps(runner: Runner, policy: Backoff, *, deadline_at: float | None) -> Steps[Any]:
    """Run the unit until it commits or the policy gives up. Result: what the body returned.

    The last error leaves as it is, with a note that says why it is not repeated.
    """
    attempt = 0
    while True:
        attempt += 1
        scope = runner.fresh()
        try:
            yield from enter_steps(scope)
            value = yield from _one_attempt(runner, scope)
        except Exception as error:
            if scope.holding is None or not scope.decides:
                raise  # it never began, or it joined another unit and is repeated with that one
            failure: Failure = yield Classify(error, _phase(scope), scope.options.databases[0])
            jitter, time_left = yield Draw(deadline_at)
            again = policy.decide(failure, attempt=attempt, time_left=time_left, jitter=jitter)
            wait = again.delay if isinstance(again, RetryAfter) else None
            runner.failed(scope, attempt, failure, wait)
            if isinstance(again, GiveUp):
                yield from _told(scope, error)
                if attempt > 1 or failure.transient:
                    error.add_note(f"polysession: unit {scope.name!r} is not repeated: {again.reason}")
                raise
            yield Pause(again.delay)  # the hooks of an attempt that is repeated are forgotten with it
        except BaseException as error:
            yield from _told(scope, error)
            raise
        else:
            yield from _told(scope, None)
            return value


def _told(scope: Scope, leaving: BaseException | None) -> Steps[None]:
    """Call the hooks of a unit that is not repeated."""
    if scope.hooks and scope.outcome is not None:
        yield from hook_steps(scope.hooks, scope.outcome, leaving)


def _one_attempt(runner: Runner, scope: Scope) -> Steps[Any]:
    session = runner.opened(scope)
    try:
        try:
            value = yield Body(session)
        except BaseException as error:
            yield from leave_steps(scope, error)
            raise
        yield from leave_steps(scope, None)
        return value
    finally:
        runner.ended(scope)


def _phase(scope: Scope) -> Phase:
    """What the server may have done: only a unit with an unknown or partial outcome can have committed."""
    uncertain = scope.outcome in (Outcome.UNKNOWN, Outcome.PARTIAL)
    return Phase.COMMIT_SENT if uncertain else Phase.BODY
