"""What is said to code that takes a unit of work for its session, leaves one that is not open, or mistakes the door."""

from __future__ import annotations

from typing import Any, NoReturn

from .._core.scope import Scope
from .._core.states import State
from ..errors import SessionMisuse, UnitFailed, WrongDoor
from ..facts import Origin, Outcome
from .places import caller

__all__ = ["UnitNotOpened", "leave_again", "refuse_attributes", "refuse_door", "refuse_leaving"]


class UnitNotOpened(SessionMisuse, AttributeError):
    """The unit has no such attribute; the session that it opens has."""


class _OfTheSession:
    """A public attribute that the session has, asked of its unit."""

    __slots__ = ("_name", "_word")

    def __init__(self, name: str, word: str) -> None:
        self._name = name
        self._word = word

    def __get__(self, unit: Any, kind: type) -> NoReturn:
        name = self._name
        if unit is None:
            raise AttributeError(f"type object {kind.__name__!r} has no attribute {name!r}", name=name, obj=kind)
        raise UnitNotOpened(
            f"{name} was asked of a unit of work; it is the session that has it",
            why=f"the unit was made at {unit._origin} and gives its session to a block; this was at {caller()}",
            do=(
                f"write `{self._word} sessions.begin() as session:` and use session",
                "open() a session that you end yourself",
            ),
            attribute=name,
        )


def refuse_attributes(unit: type, session: type, word: str) -> None:
    """Let whoever asks a `unit` for what `session` has meet `UnitNotOpened`.

    A `__getattr__` would say the same, but Python cannot adapt itself then to the attributes that the unit has.
    """
    for name in dir(session):
        if not name.startswith("_") and not hasattr(unit, name):
            setattr(unit, name, _OfTheSession(name, word))


def refuse_leaving(origin: Origin) -> NoReturn:
    """Raise `SessionMisuse` for a unit that is left and was never entered."""
    raise SessionMisuse(
        "a unit of work was left that was not opened",
        why=f"it was made at {origin}; left at {caller()}",
        do=("open it with a `with` block", "enter it: ExitStack.enter_context(unit), not push(unit)"),
    )


def leave_again(scope: Scope, error: BaseException | None) -> None:
    """A unit that has ended is left once more; a second call does nothing.

    Raises `UnitFailed` where nobody would learn otherwise that it did not commit: the first call was made elsewhere.
    """
    if error is not None or scope.outcome is Outcome.COMMITTED or scope.state is State.HANDED_OVER:
        return
    raise UnitFailed(
        f"unit {scope.name!r} did not commit: it was ended before its block was left",
        why=(
            f"it was opened at {scope.origin} and is {scope.outcome or 'being rolled back'}; another task or thread "
            f"left it, and was refused; this was at {caller()}"
        ),
        do=("leave a unit where it was opened, by the end of its block", "call take_over() where it is to be left"),
        name=scope.name,
    )


def refuse_door(door: object, word: str) -> NoReturn:
    """Raise `WrongDoor` for the other door's way to open a block over this one."""
    awaited = word == "async with"
    wrong, other = ("with", "Sessions") if awaited else ("async with", "AsyncSessions")
    raise WrongDoor(
        f"{wrong!r} was used on {type(door).__name__}",
        why=f"its close() is {'awaited' if awaited else 'not awaited'}; this was at {caller()}",
        do=(f"write {word!r}", f"use {other}"),
    )
