"""The ways in: a TOML file, a mapping of the same shape, or what a door was given.

These are the functions that raise, and therefore they forget what they were given before they do: a traceback shows
their frames.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigError, MissingExtra
from ..topology import DEFAULT, Topology
from .problems import Problem, report
from .reading import read

__all__ = ["from_databases", "from_mapping", "load_toml"]

_HARMLESS = re.compile(r"(?:[A-Za-z ,/-]|'\\?.')+")
"""Words, and single characters in quotes."""

_Outcome = Topology | ConfigError | MissingExtra


def load_toml(
    path: str | os.PathLike[str], *, environ: Mapping[str, str] | None = None, asynchronous: bool | None = None
) -> Topology:
    """The topology that a TOML file describes; its shape is at the head of this package.

    `asynchronous` is the door that the drivers must fit, the asynchronous or the synchronous one; None: either.
    `${NAME}` is looked up in `environ`, by default `os.environ`, now and not again. Connects to nothing. A relative
    path in an SQLite URL is relative to the current directory, not to the file.

    Raises `ConfigError` if the file cannot be read, is not TOML, or has keys that cannot be honoured (all of them are
    told at once), and `MissingExtra` if nothing is wrong but driver packages that are not installed.
    """
    outcome = _load(path, environ, asynchronous)
    del environ
    return _settle(outcome)


def from_mapping(
    mapping: Mapping[str, Any], *, environ: Mapping[str, str] | None = None, asynchronous: bool | None = None
) -> Topology:
    """The topology that a mapping of the same shape as the TOML file describes.

    For settings that another library has read: the `model_dump()` of a pydantic model, or msgspec's `to_builtins`. A
    value of None is the same as none given; URL objects of SQLAlchemy and pydantic, `SecretStr`, `timedelta` and, where
    a URL is expected, engines are taken as they are. `${NAME}` in texts is looked up in `environ`, by default
    `os.environ`.

    Raises as `load_toml` does.
    """
    outcome = read(mapping, os.environ if environ is None else environ, asynchronous=asynchronous)
    del mapping, environ
    return _settle(outcome)


def from_databases(given: object, *, asynchronous: bool | None = None) -> Topology:
    """The topology that a door's argument describes.

    That is a URL or an engine, for one database named "default"; or a mapping of names to URLs, engines or tables as in
    the file. A URL is a text, an `Address`, or SQLAlchemy's `URL`; any other object is kept as the endpoint's engine,
    for the shell to check. Texts are taken as they are: `${NAME}` has no meaning here.

    Raises as `load_toml` does.
    """
    databases = given if isinstance(given, Mapping) else {DEFAULT: given}
    outcome = read({"databases": databases}, None, asynchronous=asynchronous)
    if isinstance(outcome, ConfigError) and _has_the_shape_of_a_file(given):
        outcome.do += ("give a mapping of the file's shape to from_mapping",)
    del given, databases
    return _settle(outcome)


def _has_the_shape_of_a_file(given: object) -> bool:
    """A mapping whose only databases would be called "databases" and "defaults"."""
    return isinstance(given, Mapping) and "databases" in given and set(given) <= {"databases", "defaults"}


def _settle(outcome: _Outcome) -> Topology:
    if isinstance(outcome, Topology):
        return outcome
    raise outcome


def _load(path: str | os.PathLike[str], environ: Mapping[str, str] | None, asynchronous: bool | None) -> _Outcome:
    source = os.fspath(path)
    given = _parse(source)
    if isinstance(given, Problem):
        return report((given,), source=source)
    return read(given, os.environ if environ is None else environ, source=source, asynchronous=asynchronous)


def _parse(source: str) -> dict[str, Any] | Problem:
    """What the file says, or what was found in its place."""
    import tomllib  # 2 ms that only those pay who have a file

    try:
        # A byte order mark, as some editors write it, is no fault.
        return tomllib.loads(Path(source).read_text("utf-8-sig"))
    except IsADirectoryError:
        return _unreadable("a directory", "name the file in it")
    except OSError as error:
        return _unreadable((error.strerror or type(error).__name__).lower())
    except UnicodeDecodeError:
        return _unreadable("bytes that are not UTF-8", "save it as UTF-8")
    except tomllib.TOMLDecodeError as error:
        return _unreadable(f"text that is not TOML{_told_by(error)}", "correct that place; texts stand in quotes")
    except RecursionError:
        return _unreadable("lists or tables nested too deeply", "take the outer ones away")
    except ValueError:
        # int() refuses more than 4300 digits, and tomllib passes that on.
        return _unreadable("a number that is too long", "correct it")


def _unreadable(found: str, *do: str) -> Problem:
    return Problem(path="", expected="a TOML file that can be read", found=found, do=do)


def _told_by(error: ValueError) -> str:
    """What the reader of TOML says, where that can be shown: some of its texts repeat a key, which may be anything."""
    what, _, place = str(error).rpartition(" (at ")
    return f"{f': {what}' if _HARMLESS.fullmatch(what) else ''} (at {place}"
