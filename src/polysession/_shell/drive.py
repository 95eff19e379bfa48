"""The driver with threads: performs the core's steps one after another, blocking where it has to wait."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from .._core.steps import Steps

__all__ = ["drive"]

T = TypeVar("T")


def drive(steps: Steps[T], perform: Callable[[Any], Any]) -> T:
    """Perform `steps` to their end and answer their result.

    Whatever is raised while a step is performed, or between two steps (a KeyboardInterrupt can come anywhere), is
    thrown into the generator, which cleans up. The generator is always drained.
    """
    value: Any = None
    error: BaseException | None = None
    while True:
        try:
            if error is None:
                step = steps.send(value)
            else:
                thrown, error = error, None
                step = steps.throw(thrown)
            value = perform(step)
        except BaseException as raised:
            if (
                inspect.getgeneratorstate(steps) == inspect.GEN_CLOSED
            ):  # the generator has ended: by returning or with this very error
                if isinstance(raised, StopIteration):
                    return raised.value  # type: ignore[no-any-return]  # it is the generator's result
                raise
            error = raised
