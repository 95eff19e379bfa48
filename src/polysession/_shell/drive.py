"""The driver with threads: performs the core's steps one after another, blocking where it has to wait."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from .._core.steps import Steps

__all__ = ["Closing", "drive"]

T = TypeVar("T")


class Closing(BaseException):
    """A `GeneratorExit` on its way through the core: generators would take it for an order to themselves."""


def drive(steps: Steps[T], perform: Callable[[Any], Any]) -> T:
    """Perform `steps` to their end and answer their result.

    Whatever is raised while a step is performed, or between two steps (a KeyboardInterrupt can come anywhere), is
    thrown into the generator, which cleans up. The generator is always drained.
    """
    error: BaseException | None = None
    while True:
        try:
            return _advance(steps, perform, error)
        except BaseException as raised:
            if inspect.getgeneratorstate(steps) == inspect.GEN_CLOSED:
                raise
            error = raised  # an interrupt came while no step was performed


def _advance(steps: Steps[T], perform: Callable[[Any], Any], error: BaseException | None) -> T:
    value: Any = None
    thrown: BaseException | None = None
    while True:
        try:
            if error is None:
                try:
                    step = steps.send(value)
                except StopIteration as end:  # nothing else makes a generator raise one
                    return end.value  # type: ignore[no-any-return]  # it is the generator's result
            else:
                thrown, error = error, None
                step = steps.throw(Closing() if isinstance(thrown, GeneratorExit) else thrown)
            value = perform(step)
        except BaseException as raised:
            if inspect.getgeneratorstate(steps) == inspect.GEN_CLOSED:  # by returning, or with this very error
                if isinstance(raised, StopIteration):
                    return raised.value  # type: ignore[no-any-return]  # it is the generator's result
                if thrown is not None and _is_disguised(raised, thrown):
                    raise thrown from None
                raise
            error = raised


def _is_disguised(raised: BaseException, thrown: BaseException) -> bool:
    """It is what was thrown in, in the form in which generators let it out (PEP 479 for `StopIteration`)."""
    if isinstance(raised, Closing):
        return isinstance(thrown, GeneratorExit)
    return isinstance(raised, RuntimeError) and isinstance(thrown, StopIteration) and raised.__cause__ is thrown
