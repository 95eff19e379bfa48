"""The scripted player: advances a generator of steps as a driver would, with answers and errors from a script.

It performs nothing, waits for nothing and needs no database. The whole conversation is recorded, and the generator is
always drained: whatever the script raises is thrown into it, and it is advanced until it ends. Not thread-safe; one
call plays one generator.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeAlias, TypeVar

import msgspec

from .._core.steps import Steps

__all__ = ["Answer", "Played", "Said", "Script", "Unscripted", "play"]

T = TypeVar("T")

Answer: TypeAlias = Any
"""A value to send; an exception (instance or class) to throw; a function of the step that returns or raises; or a list
of these, of which each step of the kind takes the next."""
Script: TypeAlias = Mapping[type, Answer] | Callable[[Any], Any]
"""Answers by the class of a step, or one function that performs every step."""


class Unscripted(AssertionError):
    """A step came for which the script has no answer, or more steps than any unit takes."""


class Said(msgspec.Struct, frozen=True):
    """One exchange: the step, and what came of it. Exactly one of `answer` and `error` counts."""

    step: Any
    answer: Any = None
    error: BaseException | None = None


class Played(msgspec.Struct, Generic[T]):
    """A conversation that has come to its end: what was said, and the generator's result or the error that left it."""

    said: list[Said]
    result: T | None = None
    error: BaseException | None = None

    @property
    def steps(self) -> list[Any]:
        """The steps, in order."""
        return [said.step for said in self.said]

    @property
    def names(self) -> str:
        """The classes of the steps in one line, as in `"Open Flush Commit Close"`; a `!` marks a step that failed."""
        return " ".join(type(said.step).__name__ + ("!" if said.error is not None else "") for said in self.said)

    def value(self) -> T:
        """The result; raises the error that left the generator, if one did."""
        if self.error is not None:
            raise self.error
        return self.result  # type: ignore[return-value]  # a generator that ended without error has its result here


def play(steps: Steps[T], script: Script, *, most: int = 1000) -> Played[T]:
    """Play `steps` to their end. Raises `Unscripted`, after draining, if the script has no answer for a step.

    Every other error, those that are no `Exception` included, is part of the play: it is thrown into the generator, and
    if it leaves it, it stands in `Played.error`. `most` bounds the number of steps.
    """
    lists = {} if callable(script) else {kind: list(said) for kind, said in script.items() if isinstance(said, list)}
    played: Played[T] = Played([])
    unscripted: Unscripted | None = None
    error: BaseException | None = None
    answer: Any = None
    while True:
        try:
            step = steps.send(answer) if error is None else steps.throw(error)
        except StopIteration as end:
            played.result = end.value
            break
        except BaseException as left:
            played.error = left
            break
        if len(played.said) >= 2 * most:
            raise Unscripted(f"the generator does not end; its last steps were {played.names[-200:]}")
        if len(played.said) >= most and unscripted is None:
            unscripted = Unscripted(f"more than {most} steps")
        try:
            if unscripted is not None:
                raise unscripted
            answer, error = _answer(step, script, lists), None
        except Unscripted as missing:
            unscripted = error = missing
        except BaseException as raised:
            error = raised
        played.said.append(Said(step, answer, None) if error is None else Said(step, None, error))
    assert inspect.getgeneratorstate(steps) == inspect.GEN_CLOSED
    if unscripted is not None:
        raise unscripted
    return played


def _answer(step: Any, script: Script, lists: dict[type, list[Any]]) -> Any:
    kind = type(step)
    if callable(script):
        return script(step)
    if kind not in script:
        raise Unscripted(f"the script has no answer for {step!r}")
    answer = script[kind]
    if kind in lists:
        if not lists[kind]:
            raise Unscripted(f"the script has no further answer for {step!r}")
        answer = lists[kind].pop(0)
    if isinstance(answer, BaseException) or (isinstance(answer, type) and issubclass(answer, BaseException)):
        raise answer
    return answer(step) if callable(answer) else answer
