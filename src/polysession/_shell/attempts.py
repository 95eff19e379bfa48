"""What is done around each attempt of a unit that may be repeated."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from .._core.scope import Scope
from .._core.turns import Turn
from ..errors import DeadlineExceeded
from ..facts import Origin, Outcome, mark_outcome
from ..failures import Failure
from ..options import UnitOptions
from . import places

if TYPE_CHECKING:
    from .door import Door

__all__ = ["Attempts"]


class Attempts:
    """What the shell does around each attempt of a repeatable unit."""

    __slots__ = ("_door", "_last", "_name", "_options", "_origin", "began_at", "deadline_at", "outcome", "turn")

    def __init__(self, door: Door, options: UnitOptions, name: str, origin: Origin) -> None:
        self.deadline_at = None if options.deadline is None else time.monotonic() + options.deadline
        self.outcome: Outcome | None = None
        """How the last attempt ended; None if it joined another unit or none was made."""
        self._last: Scope | None = None
        self._door = door
        self._options = options
        self._name = name
        self._origin = origin
        self.began_at = 0.0
        self.turn = Turn(door._turns, (places.PROCESS.process, options.databases, options.tenant, name))

    def fresh(self) -> Scope:
        """A new scope for the next attempt, under the deadline of all attempts."""
        scope = self._door._scope(self._options, self._name, self._origin)
        scope.deadline_at = self.deadline_at
        scope.repeats = self.turn
        self.began_at = time.monotonic()
        return scope

    def took(self) -> float:
        """The seconds since the last attempt was begun."""
        return time.monotonic() - self.began_at

    def opened(self, scope: Scope) -> Any:
        """Make `scope` the current one; its session."""
        return self._door._entered(scope)

    def ended(self, scope: Scope) -> None:
        """Undo `opened` and note the end."""
        self._door._left(scope)
        if scope.holding is None:
            self.outcome = Outcome.ROLLED_BACK  # nothing was begun
        else:
            self.outcome = scope.outcome if scope.decides else None
        self._last = scope

    def overrun(self, error: BaseException, *, timed_out: bool = False) -> DeadlineExceeded | None:
        """Mark `error`, which leaves the unit, with its outcome; the report if it was the deadline that ended it."""
        found = None
        if self._last is None:
            mark_outcome(error, Outcome.ROLLED_BACK)  # nothing was begun
        else:
            found = self._door._overrun(self._last, error, timed_out=timed_out)
            if self.outcome is not None:
                mark_outcome(found or error, self.outcome, self._last.unit_id)
        return found

    def refuse_late(self) -> None:
        """Raise `DeadlineExceeded` if what runs now is a part of another unit and has overrun its own deadline."""
        here = self._door._here()
        late = self._door._late(here[0]) if here else None
        if late is not None:
            raise late

    def failed(self, scope: Scope, attempt: int, failure: Failure, wait: float | None) -> None:
        """Tell the observers."""
        self._door._failed(scope, attempt, failure, wait)
