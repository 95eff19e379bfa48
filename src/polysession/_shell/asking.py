"""From the arguments of a door's verb to what is asked for beyond the usual. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, TypeVar

from ..errors import RequestRefused
from ..options import Isolation, Propagation

__all__ = ["called", "extra_options"]

E = TypeVar("E", bound=StrEnum)


def extra_options(propagation: Propagation | str, isolation: Isolation | str | None) -> dict[str, Any]:
    """The keywords of `UnitOptions` that differ from its defaults. Raises `RequestRefused` for an unknown word."""
    extra: dict[str, Any] = {}
    if propagation is not Propagation.REQUIRED:
        extra["propagation"] = _word(Propagation, propagation, "propagation")
    if isolation is not None:
        extra["isolation"] = _word(Isolation, str(isolation).upper().replace("_", " "), "isolation")
    return extra


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


def called(work: Any) -> str:
    """The name of a unit that is a function."""
    return str(getattr(work, "__qualname__", None) or type(work).__qualname__)
