"""From the arguments of a door's verb to what is asked for beyond the usual. Pure."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from datetime import timedelta
from enum import StrEnum
from typing import Any, ParamSpec, TypeVar

from ..errors import ConfigError, MissingExtra, RequestRefused
from ..options import Isolation, Propagation

__all__ = ["called", "collect", "extra_options", "without_frames"]

E = TypeVar("E", bound=StrEnum)
P = ParamSpec("P")
T = TypeVar("T")


def without_frames(call: Callable[P, T]) -> Callable[P, T]:
    """Let a refused configuration out without the frames in which its passwords are local variables."""

    @functools.wraps(call)
    def outermost(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return call(*args, **kwargs)
        except (ConfigError, MissingExtra) as error:
            refused = error.with_traceback(None)
        del args, kwargs
        raise refused

    return outermost


def extra_options(
    propagation: Propagation | str, isolation: Isolation | str | None, deadline: float | timedelta | None = None
) -> dict[str, Any]:
    """The keywords of `UnitOptions` that differ from its defaults. Raises `RequestRefused` for an unknown word."""
    extra: dict[str, Any] = {}
    if propagation is not Propagation.REQUIRED:
        extra["propagation"] = _word(Propagation, propagation, "propagation")
    if isolation is not None:
        extra["isolation"] = _word(Isolation, str(isolation).upper().replace("_", " "), "isolation")
    if deadline is not None:
        extra["deadline"] = _seconds(deadline)
    return extra


def _seconds(given: float | timedelta) -> float:
    seconds = given.total_seconds() if isinstance(given, timedelta) else given
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < math.inf:
        raise RequestRefused(
            f"deadline={given!r} is not a positive number of seconds",
            do=("give seconds as a number, or a timedelta", "leave it out for no deadline"),
            attribute="deadline",
        )
    return float(seconds)


def _word(words: type[E], given: str, attribute: str) -> E:
    try:
        return words(given)
    except ValueError:
        raise RequestRefused(
            f"{attribute}={given!r} is not known",
            why=f"the words are {', '.join(repr(word.value) for word in words)}",
            do=("use one of them",),
            attribute=attribute,
        ) from None


def collect(ends: list[Any], *, return_errors: bool) -> list[Any]:
    """What all branches returned; their errors together, as a group, unless they are wanted in their places."""
    errors = [end for end in ends if isinstance(end, BaseException)]
    if errors and not return_errors:
        raise BaseExceptionGroup(f"{len(errors)} of {len(ends)} branches failed", errors)
    return ends


def called(work: Any) -> str:
    """The name of a unit that is a function."""
    return str(getattr(work, "__qualname__", None) or type(work).__qualname__)
