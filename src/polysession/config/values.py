"""Single values: the keys of a pool, and the objects that may stand where a URL is expected.

Sizes and times are read from what TOML, an environment variable or another settings library gives. URL objects and
secrets of SQLAlchemy and pydantic are known by their methods; neither is imported. Pure.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Protocol, runtime_checkable

from ..topology import Address, Overload, Reset

__all__ = ["NOT_ENGINES", "POOL", "as_url", "floor", "overload", "reset", "reveal", "seconds", "size", "wait"]

_DURATION = re.compile(r"(?P<number>[0-9]{1,12}(?:\.[0-9]{1,9})?) ?(?P<unit>ms|s|m|h)?")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_LONGEST = 10 * 365 * 86400.0
"""Ten years: longer than any process lives, and far below what waiting on a lock can take."""

_NUMBERS = (int, float, complex)
_BUILTINS = (bytes, bytearray, list, tuple, set, frozenset, type, type(None))
NOT_ENGINES = (*_NUMBERS, *_BUILTINS, Mapping, os.PathLike)
"""What is surely no engine; whether anything else is one, the shell finds out."""


def size(value: object, from_environment: bool) -> int | str:
    """A whole number of at least 1, or the sentence that says so."""
    if from_environment and isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return int(value)
    return "a whole number of at least 1"


def floor(value: object, from_environment: bool) -> int | str:
    """A whole number of at least 0, or the sentence that says so."""
    if from_environment and isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return int(value)
    return "a whole number of at least 0"


def seconds(value: object, from_environment: bool) -> float | str:
    """Seconds from a number, a timedelta or a text with its unit, or the sentence that says so."""
    if isinstance(value, str) and (written := _DURATION.fullmatch(value)) and (written["unit"] or from_environment):
        value = float(written["number"]) * _UNITS[written["unit"] or "s"]
    elif isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _LONGEST:
        return float(value)
    return 'seconds as a number of at least 0, or a text with the unit ms, s, m or h ("5s", "30m")'


def wait(value: object, from_environment: bool) -> float | str:
    """As `seconds`, but not 0."""
    outcome = seconds(value, from_environment)
    return "a time above 0" if outcome == 0 else outcome


def reset(value: object, from_environment: bool) -> Reset | str:
    """A word of `Reset`, or the sentence with those that there are."""
    del from_environment
    if isinstance(value, str) and value in list(Reset):
        return Reset(value)
    return " or ".join(f'"{word}"' for word in Reset)


def overload(value: object, from_environment: bool) -> Overload | str:
    """A word of `Overload`, or the sentence with those that there are."""
    del from_environment
    if isinstance(value, str) and value in list(Overload):
        return Overload(value)
    return " or ".join(f'"{word}"' for word in Overload)


POOL: Mapping[str, Callable[[object, bool], float | str]] = {
    "size": size,
    "floor": floor,
    "checkout_timeout": wait,
    "max_lifetime": seconds,
    "ping_after": seconds,
    "reset": reset,
    "overload": overload,
    "idle_warning": seconds,
}
"""The reader of each field of `PoolOptions`: it returns the value, or what it expected as a sentence."""


@runtime_checkable
class _SqlalchemyUrl(Protocol):
    def render_as_string(self, hide_password: bool) -> str: ...


@runtime_checkable
class _PydanticUrl(Protocol):
    def unicode_string(self) -> str: ...


@runtime_checkable
class _PydanticSecret(Protocol):
    def get_secret_value(self) -> object: ...


def reveal(given: object) -> object:
    """What pydantic's `SecretStr` and its like hold; anything else as it is."""
    # A class has the method too, but nothing to give out.
    return given.get_secret_value() if isinstance(given, _PydanticSecret) and not isinstance(given, type) else given


def as_url(given: object) -> str | None:
    """The URL that an object of a known kind holds: ours, SQLAlchemy's `URL`, or one of pydantic's."""
    url: object = None
    match given:
        case type():
            pass
        case Address():
            url = given.reveal()
        case _SqlalchemyUrl():
            url = given.render_as_string(hide_password=False)
        case _PydanticUrl():
            url = given.unicode_string()
        case _:
            url = reveal(given)
    return url if isinstance(url, str) else None
