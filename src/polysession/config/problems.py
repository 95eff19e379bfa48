"""What is wrong with a configuration, as values, and the one builder of the error that tells it.

The readers of this package return problems instead of raising, so that a traceback has no frame in which a URL or a
password lives. Also decided here: how much of a wrong value may be shown. Pure; never sees the value of an environment
variable, and never shows any part of a URL but its scheme.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta

import msgspec

from ..errors import ConfigError, MissingExtra

__all__ = ["Problem", "closest", "join", "kind", "report", "show", "show_key"]

_MOST_SHOWN = 20
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_HARMLESS = re.compile(r"[\w .,+/${}-]{0,40}")
_LARGEST_SHOWN = 10**15


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One key that cannot be honoured: where, what was expected, what was found, what to do."""

    path: str
    """The key as TOML would spell it, `databases.orders.pool.size`; empty if the whole file is meant."""
    expected: str
    found: str
    do: tuple[str, ...] = ()
    """In order of likelihood."""
    install: str = ""
    """The command that installs what is missing, if a package is."""

    def __str__(self) -> str:
        return f"{self.path}{self.path and ': '}expected {self.expected}, found {self.found}"


def report(problems: Sequence[Problem], *, source: str = "") -> ConfigError | MissingExtra:
    """The error that tells all `problems` at once, to be raised by the caller; `source` is the file's name, if any.

    It is `MissingExtra` if nothing is wrong but packages that are missing, else `ConfigError`. `facts` has `path`,
    `expected` and `found` of the first problem, all of them as `problems`, the file as `source`, and for `MissingExtra`
    the command as `install`.
    """
    first = problems[0]
    facts = {"path": first.path, "expected": first.expected, "found": first.found}
    missing = all(problem.install for problem in problems)
    if missing:
        facts["install"] = first.install
    kind_of_error = MissingExtra if missing else ConfigError
    if len(problems) == 1:
        what = f"{source}{source and ': '}{first}"
        return kind_of_error(what, do=first.do, problems=tuple(problems), source=source, **facts)
    lines = [f"{problem}{' -- ' if problem.do else ''}{''.join(problem.do[:1])}" for problem in problems[:_MOST_SHOWN]]
    if len(problems) > _MOST_SHOWN:
        lines.append(f"and {len(problems) - _MOST_SHOWN} more")
    what = f"{source or 'the configuration'} has {len(problems)} problems"
    return kind_of_error(what, why="\n       ".join(lines), problems=tuple(problems), source=source, **facts)


def join(path: str, key: object) -> str:
    """`path` with `key` below it, quoted as TOML would; a key that could be a URL or hold a secret is not shown."""
    shown = show_key(key)
    return f"{path}{path and '.'}{shown}"


def show_key(key: object) -> str:
    """`key` as a part of a path."""
    if not isinstance(key, str):
        return f"<{kind(key)}>"
    if not _HARMLESS.fullmatch(key):
        return "***"
    return str(key) if _BARE_KEY.fullmatch(key) else f'"{key}"'


def closest(given: object, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """The one of `known` that `given` was most likely meant to be, if any is near."""
    if not isinstance(given, str):
        return None
    # A long text is no misspelt key, and comparing it would take long.
    import difflib  # for a wrong word only

    return next(iter(difflib.get_close_matches(given[:64].lower(), tuple(known), 1, cutoff)), None)


def kind(value: object) -> str:
    """What sort of thing `value` is, without anything of what it holds."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case int():
            return "a whole number"
        case float():
            return "a number"
        case str():
            return "text" if value else "empty text"
        case Mapping():
            return "a table"
        case list() | tuple():
            return "a list"
        case _:
            return f"an object of type {type(value).__name__}"


def show(value: object) -> str:
    """`value` itself where it is a number, a time or a short plain text, else what sort of thing it is.

    For keys that hold no secret, such as those of a pool.
    """
    match value:
        case bool():
            return kind(value)
        case int() if abs(value) < _LARGEST_SHOWN:
            return int.__repr__(value)
        case float():
            return float.__repr__(value)
        case timedelta():
            return f"{value.total_seconds()} s"
        case str() if value and _HARMLESS.fullmatch(value):
            return f'"{value}"'
        case _:
            return kind(value)
