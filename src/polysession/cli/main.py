"""The command `polysession`: names the commands and hands over. It does nothing itself.

A command is imported when it is run, so that `polysession --version` needs nothing and one command's packages are never
asked for by another. cyclopts is imported when the command line is used, not before.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cyclopts import App

__all__ = ["make_app", "run"]


def make_app() -> App:
    """The application with all commands. Raises ImportError if cyclopts is not installed."""
    from cyclopts import App, Parameter

    app = App(
        name="polysession",
        help="Units of work over named databases: the session layer for SQLAlchemy.",
        default_parameter=Parameter(negative=()),
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
    return app


def run() -> None:
    """The entry point. Ends the process with the command's exit code; 2 if the command line's packages are missing."""
    try:
        app = make_app()
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "cyclopts":
            raise
        sys.stderr.write('the command line of polysession needs cyclopts; install it: pip install "polysession[cli]"\n')
        sys.exit(2)
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output has gone; without this the interpreter complains once more when it flushes at exit
        # (Python's documentation of the module signal, "Note on SIGPIPE").
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
