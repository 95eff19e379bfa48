"""`polysession check`: reads a configuration, reaches every endpoint, and says what is there and what that means.

It only puts together: the configuration is read by `config`, the endpoints are asked by the shell, the facts are
judged by `judgement`, and `report` has the words. It changes nothing on any database.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable
from typing import TextIO

import msgspec

from .. import config
from .._shell.inspect import inspect
from ..config.problems import Problem
from ..errors import ConfigError, MissingExtra
from ..topology import DEFAULT, Topology, mask
from .report import Line, Report, lines, make, to_json

__all__ = ["ENVIRONMENT", "FILE", "check"]

ENVIRONMENT = "POLYSESSION_CONFIG"
FILE = "polysession.toml"

_URL = "give the URL of one database: polysession check sqlite:///shop.db"
_WHEN_NAMED = ("correct the path", _URL)
_WHEN_SET = (f"correct {ENVIRONMENT}, which names it", "name a file: polysession check FILE")
_WHEN_NOT_SAID = ("name a file: polysession check FILE", f"set {ENVIRONMENT}", _URL)
_LONGEST = 3600.0
_NARROWEST = 60


def check(config: str | None = None, *, json: bool = False, timeout: float = 5.0) -> int:
    """Read a configuration, reach every database, and say what polysession can and cannot do there.

    Exit code: 0 all is well, 1 warnings, 2 errors, 3 a database could not be reached. Nothing is changed anywhere.

    Parameters
    ----------
    config
        A configuration file, or the URL of one database. By default $POLYSESSION_CONFIG, else polysession.toml.
        In a URL too, ${NAME} stands for a variable of the environment, which keeps a password out of the list of
        processes.
    json
        Print one JSON document instead of text.
    timeout
        Seconds within which every database must have answered; all are asked at the same time.
    """
    source = config or os.environ.get(ENVIRONMENT) or FILE
    report = _report(source, timeout, _WHEN_NAMED if config else _WHEN_SET if source != FILE else _WHEN_NOT_SAID)
    if json:
        sys.stdout.write(f"{to_json(report)}\n")
    else:
        _write(lines(report), sys.stdout)
    sys.stdout.flush()
    return int(report.exit_code)


def _report(source: str, timeout: float, sources: tuple[str, ...]) -> Report:
    shown = _shown(source)
    if not 0 < timeout <= _LONGEST:
        wrong = Problem(path="--timeout", expected=f"seconds above 0, at most {_LONGEST:g}", found=f"{timeout:g}")
        return Report(source=shown, problems=(wrong,))
    topology = _read(source, sources)
    if not isinstance(topology, Topology):
        return Report(source=shown, problems=topology)
    endpoints = [endpoint for database in topology.databases.values() for endpoint in database.endpoints]
    return make(shown, inspect(endpoints, timeout=timeout))


def _read(source: str, sources: tuple[str, ...]) -> Topology | tuple[Problem, ...]:
    """The topology, or what is wrong; `sources` is what to do if there is no such file.

    The error itself is dropped: its text is for code that cannot go on.
    """
    try:
        if "://" in source:
            return config.from_mapping({"databases": {DEFAULT: source}})
        return config.load_toml(source)
    except (ConfigError, MissingExtra) as error:
        problems: tuple[Problem, ...] = error.facts["problems"]
    if problems[0].path or problems[0].do:
        return problems
    return (msgspec.structs.replace(problems[0], do=sources),)


def _shown(source: str) -> str:
    """The source without a password: a URL that was mistyped is taken for the name of a file."""
    if "://" in source:
        return mask(source)
    return "***" if "@" in source or ":" in source else source


def _write(report: Iterable[Line], stream: TextIO) -> None:
    """Painted and wrapped on a terminal, if rich is there; plain, a fact a line, for everything else."""
    if stream.isatty():
        try:
            _paint(report, stream)
        except ImportError:
            pass
        else:
            return
    for line in report:
        stream.write(f"{line.text}\n")


def _paint(report: Iterable[Line], stream: TextIO) -> None:
    from rich.console import Console  # an optional package
    from rich.text import Text  # as above

    console = Console(file=stream)
    width = max(shutil.get_terminal_size().columns, _NARROWEST)
    for line in report:
        console.print(Text(line.wrapped(width), style=line.style), soft_wrap=True)
