"""What is to be done when a unit has ended, and for which end. Decides; calls nothing itself.

Hooks are kept in the order in which they were registered, on the unit that decides. A savepoint that is undone takes
its hooks' work with it: for them the unit was rolled back, whatever becomes of the rest. They run after the outermost
end, when the session is closed and its connection is back, at most once: a process that dies in between runs none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

from ..facts import Outcome
from .steps import Call, Steps

__all__ = ["Hook", "Moment", "due", "hook_steps"]


class Moment(Enum):
    """For which end a hook is meant."""

    COMMIT = "on_commit"
    ROLLBACK = "on_rollback"
    OUTCOME = "on_outcome"


class Hook:
    """A function to call when the work that registered it is decided."""

    __slots__ = ("args", "call", "moment", "robust", "undone")

    def __init__(self, moment: Moment, call: Callable[..., Any], args: tuple[Any, ...], *, robust: bool) -> None:
        self.moment = moment
        self.call = call
        self.args = args
        self.robust = robust
        """What it raises is logged and stays without consequence."""
        self.undone = False
        """The savepoint in which it was registered was rolled back."""

    def __repr__(self) -> str:
        return (
            f"{self.moment.value}({getattr(self.call, '__qualname__', self.call)!s}, {', '.join(map(repr, self.args))})"
        )


def due(hooks: Sequence[Hook], outcome: Outcome) -> list[tuple[Hook, tuple[Any, ...]]]:
    """The hooks that `outcome` calls for, with their arguments, in order.

    An unknown outcome is neither a commit nor a rollback: only `on_outcome` hooks are told.
    """
    calls: list[tuple[Hook, tuple[Any, ...]]] = []
    for hook in hooks:
        its = Outcome.ROLLED_BACK if hook.undone else outcome
        match hook.moment:
            case Moment.COMMIT if its is Outcome.COMMITTED:
                calls.append((hook, hook.args))
            case Moment.ROLLBACK if its is Outcome.ROLLED_BACK:
                calls.append((hook, hook.args))
            case Moment.OUTCOME:
                calls.append((hook, (its, *hook.args)))
            case _:
                pass
    return calls


def hook_steps(hooks: Sequence[Hook], outcome: Outcome, leaving: BaseException | None) -> Steps[None]:
    """Call what is due. One that raises keeps no other from running; what they raised leaves at the end.

    Raises the only error as it is, several as an `ExceptionGroup`. While another error is `leaving` the unit, that one
    goes first and the hooks' errors are noted on it.
    """
    errors: list[Exception] = []
    for hook, args in due(hooks, outcome):
        try:
            yield Call(hook, args)
        except Exception as error:
            if not hook.robust:
                errors.append(error)
    if leaving is not None:
        for failed in errors:
            leaving.add_note(f"polysession: a hook failed after the unit had ended: {type(failed).__name__}: {failed}")
    elif len(errors) == 1:
        raise errors[0]
    elif errors:
        raise ExceptionGroup(f"{len(errors)} hooks failed after the unit had ended: {outcome}", errors)
