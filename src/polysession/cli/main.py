"""The command `polysession`: names the commands and hands over. It does nothing itself.

A command is imported when it is run, so that `polysession --version` needs nothing and one command's packages are never
asked for by another. cyclopts is imported when the command line is used, not before.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from cyclopts import App

__all__ = ["make_app", "run"]


def make_app() -> App:
    """The application with all commands. Raises ImportError if cyclopts is not installed."""
    from cyclopts import App, Parameter

    app = App(
        name="polysession",
        help="Units of work over named databases: the session layer for SQLAlchemy.",
        default_parameter=Parameter(negative=(), converter=_convert),
        version=lambda: version("polysession"),
    )
    app.command(
        "polysession.demo.command:demo",
        name="demo",
        help="Run the TPC-C workload over several databases and check its twelve consistency conditions.",
    )
    app.command(
        "polysession.cli.check:check",
        name="check",
        help="Read a configuration, reach every database, and say what polysession can do there.",
    )
    app.command(
        "polysession.cli.explain:explain",
        name="explain",
        help="Say which shorter ways polysession goes at each database, what they need, and what is done if not.",
    )
    app.command(
        "polysession.cli.init_db:init_db",
        name="init-db",
        help="Make the table in which units with an exact outcome leave their rows, or show its SQL.",
    )
    app.command(
        "polysession.cli.outcome:outcome",
        name="outcome",
        help="Say whether a unit of work committed, by its id or its key.",
    )
    return app


def _convert(kind: Any, tokens: Sequence[Any]) -> Any:
    """As cyclopts does; but what is no whole number is refused where one is expected, and not rounded."""
    from cyclopts import convert

    if kind is int and tokens and not _WHOLE.fullmatch(tokens[0].value):
        raise ValueError(f'expected a whole number, found "{tokens[0].value}".')
    return convert(kind, tokens)


_WHOLE = re.compile(r"[+-]?[0-9]+")
_WRONG_WORDS = {"outcome": 4}
"""By command, the exit code for words that it does not know, where 2 says what it found."""

BROKEN = 70
"""The exit code of a command that broke; its own codes begin at 0 and say what it found (sysexits.h, EX_SOFTWARE)."""


def run() -> None:
    """The entry point. Ends the process with the command's exit code.

    2 for words that are not known (4 from `outcome`) and if the command line's packages are missing, 70 if the command
    broke, and 128 with the number of the signal that ended it: 130 for Ctrl-C, 141 when whoever read our output has
    gone. What a command has started is ended first.
    """
    if sys.stdout is None:
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  # it is ours to the end
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _end)
    try:
        app = make_app()
        _hand_over(app)
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "cyclopts":
            traceback.print_exc()
            sys.exit(BROKEN)
        sys.stderr.write('the command line of polysession needs cyclopts; install it: pip install "polysession[cli]"\n')
        sys.exit(_wrong_words())
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:
        # Without this the interpreter complains once more when it flushes at exit
        # (Python's documentation of the module signal, "Note on SIGPIPE").
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except Exception:
        traceback.print_exc()
        sys.exit(BROKEN)


def _hand_over(app: App) -> None:
    from cyclopts import CycloptsError

    try:
        app(exit_on_error=False)
    except CycloptsError:  # it has said what
        sys.exit(_wrong_words())


def _wrong_words() -> int:
    return _WRONG_WORDS.get(sys.argv[1] if len(sys.argv) > 1 else "", 2)


def _end(number: int, _: FrameType | None) -> NoReturn:
    sys.exit(128 + number)
