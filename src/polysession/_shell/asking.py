"""From the arguments of a door's verb to what is asked for beyond the usual. Pure."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final, ParamSpec, TypeVar

import msgspec

from ..errors import ConfigError, MissingExtra, RequestRefused
from ..options import Isolation, Propagation
from ..policy import unit_ids
from ..topology import Certainty

__all__ = [
    "as_result",
    "called",
    "check_record",
    "collect",
    "extra_options",
    "flag",
    "seconds_of",
    "tenant_of",
    "without_frames",
    "word",
]

_REQUIRED: Final = Propagation.REQUIRED
"""A member of an enumeration, which Python 3.11 looks for at each use: it is that of nearly every unit."""

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
    propagation: Propagation | str,
    isolation: Isolation | str | None,
    deadline: float | timedelta | None = None,
    outcome: Certainty | str | None = None,
    key: str | None = None,
    *,
    name: str | None = None,
    tenant: str | None = None,
) -> dict[str, Any]:
    """The keywords of `UnitOptions` that differ from its defaults; `name` is none of them, and only looked at.

    Raises `RequestRefused` for an unknown word, and for a name or tenant that is no text.
    """
    extra: dict[str, Any] = {}
    if tenant is not None:
        extra["tenant"] = tenant_of(tenant)
    if name is not None and not (name and isinstance(name, str)):
        raise RequestRefused(
            f"name={name!r} is no text of at least one character",
            why="it is how the unit is called in reports, in held() and in errors",
            do=("give a text", "leave it out: the unit is then called like the function that opens it"),
            attribute="name",
        )
    if propagation is not _REQUIRED:
        extra["propagation"] = word(Propagation, propagation, "propagation")
    if isolation is not None:
        extra["isolation"] = word(Isolation, str(isolation).upper().replace("_", " "), "isolation")
    if deadline is not None:
        extra["deadline"] = seconds_of(deadline, "deadline")
    if outcome is not None:
        certainty = word(Certainty, outcome, "outcome")
        extra["exact"] = extra["exact_asked"] = certainty is Certainty.EXACT
        extra["early"] = certainty is Certainty.EARLY
    if key is not None:
        unit_ids.key_id(key)
        if extra.get("exact") is False:
            raise RequestRefused(
                f"outcome={str(outcome)!r} was asked for together with a key",
                why="of all units with the same key one commits: that needs to know which one has",
                do=("leave out outcome", "leave out the key"),
                attribute="outcome",
            )
        extra |= {"key": key, "exact": True, "exact_asked": True}
    return extra


def tenant_of(given: str | None) -> str | None:
    """`given` as a plain text: one of an enumeration's is shown, formatted and even compared as it likes. Raises
    `RequestRefused` for what is no text: a number would be looked up in vain, as an unknown name."""
    if given is not None and not isinstance(given, str):
        raise RequestRefused(
            f"a tenant was named by {type(given).__name__}, not by its name",
            why="tenants are known by the names that they have in the configuration",
            do=("give the name as text: tenant='acme'",),
            attribute="tenant",
        )
    return None if given is None else str.__str__(given)


def flag(given: bool, attribute: str) -> bool:
    """`given`. Raises `RequestRefused` for what is neither True nor False: a word such as "no" would count as yes."""
    if not isinstance(given, bool):
        raise RequestRefused(
            f"{attribute}={given!r} is neither True nor False", do=("give one of the two",), attribute=attribute
        )
    return given


MOST_RESULT = 8192
"""Bytes of JSON that are kept with a key at most: a receipt, not a document."""


def check_record(record: bool, key: str | None) -> None:
    """Raise `RequestRefused` for a result that has nothing with which it could be kept."""
    if flag(record, "record") and key is None:
        raise RequestRefused(
            "record=True was asked for without a key",
            why="the result is kept with the key, for the next one who comes with it",
            do=("give the unit a key", "leave out record"),
            attribute="record",
        )


def as_result(value: Any) -> str:
    """What is kept of a function's result. Raises `RequestRefused` if it cannot be."""
    try:
        text = msgspec.json.encode(value).decode()
        why = f"it takes {len(text.encode())} bytes of JSON, more than {MOST_RESULT}"
    except (TypeError, ValueError, NotImplementedError) as error:
        text, why = "", f"it cannot be written as JSON: {error}"
    if not text or len(text.encode()) > MOST_RESULT:
        raise RequestRefused(
            f"the result of the unit, {type(value).__name__}, cannot be kept with its key",
            why=why,
            do=("return what identifies the result: a number, a text, a small dict", "leave out record"),
            attribute="record",
        )
    return text


def seconds_of(given: float | timedelta, attribute: str, *, none_at_all: bool = False) -> float:
    """The seconds that were given. Raises `RequestRefused` unless they are above 0; 0 will do with `none_at_all`."""
    seconds = given.total_seconds() if isinstance(given, timedelta) else given
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not is_number or not 0 <= seconds < math.inf or (seconds == 0 and not none_at_all):
        kind = "a number of seconds from 0" if none_at_all else "a positive number of seconds"
        raise RequestRefused(
            f"{attribute}={given!r} is not {kind}",
            do=("give seconds as a number, or a timedelta", f"leave it out for {_LEFT_OUT[attribute]}"),
            attribute=attribute,
        )
    return float(seconds)


_LEFT_OUT = {"deadline": "no deadline", "within": "the usual time"}


def word(words: type[E], given: str, attribute: str) -> E:
    """The one of `words` that was given. Raises `RequestRefused` with all of them for another."""
    try:
        return words(given)
    except ValueError:
        raise RequestRefused(
            f"{attribute}={given!r} is not known",
            why=f"the words are {', '.join(repr(word.value) for word in words)}",
            do=("use one of them",),
            attribute=attribute,
        ) from None


def collect(ends: Sequence[tuple[Any] | BaseException], *, return_errors: bool) -> list[Any]:
    """What all branches returned, each in a tuple: it may be an error, too. What they raised together, as a group,
    unless it is wanted in its places."""
    errors = [end for end in ends if isinstance(end, BaseException)]
    if errors and not return_errors:
        raise BaseExceptionGroup(f"{len(errors)} of {len(ends)} branches failed", errors)
    return [end if isinstance(end, BaseException) else end[0] for end in ends]


def called(work: Any) -> str:
    """The name of a unit that is a function."""
    return str(getattr(work, "__qualname__", None) or type(work).__qualname__)
