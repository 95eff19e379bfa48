"""`polysession demo`: from the options to an exit code. It checks, starts, runs, closes, and says what was left."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Final, Literal, TypeAlias

from sqlalchemy.exc import SQLAlchemyError

from ..errors import PolysessionError
from ..sessions import Sessions
from ..sessions_async import AsyncSessions
from ..topology import Certainty
from .defects import VARIABLE, Defect
from .display import choose
from .faults import Faults
from .plan import Plan, refuse
from .report import Report
from .servers import Place, postgres_server, sqlite_files
from .size import DEFAULT_SCALE
from .stage import Outcome, Watcher
from .witness import Witness
from .workload import run_async, run_threads

__all__ = ["demo"]

Engine: TypeAlias = Literal["sqlite", "postgres"]

_LABELS: Final = {"sqlite": "SQLite", "postgres": "PostgreSQL"}
_PREFIX: Final = "psdemo_"
"""What the names of the tables begin with in a user's own databases."""


def demo(
    *,
    engine: Engine | None = None,
    databases: int | None = None,
    warehouses: int | None = None,
    scale: float = DEFAULT_SCALE,
    sessions: int = 16,
    seconds: float = 10.0,
    async_: bool = False,
    outcome: Literal["plain", "exact"] | None = None,
    faults: bool = False,
    config: Path | None = None,
    keep: bool = False,
    seed: int = 1,
    json: bool = False,
) -> int:
    """Run the TPC-C workload over several databases at once and check the standard's twelve consistency conditions.

    Exit code 0: everything holds; 1: a condition is violated, a unit failed, or a session or connection was left;
    2: an option cannot be honoured; 130: interrupted.

    Parameters
    ----------
    engine
        sqlite: files in a temporary folder (the default); postgres: a private server. Both are removed at the end.
    databases
        How many databases; 2 by default, with --config all of the file.
    warehouses
        How many warehouses over all databases; 2 for each database by default.
    scale
        Rows per warehouse as a fraction of the standard's; 1.0 is the standard's half a million.
    sessions
        How many terminals work at once, each with one session at a time.
    seconds
        How long they work.
    async_
        Use AsyncSessions and tasks, not Sessions and threads.
    outcome
        exact: units that write find out whether they committed when the answer to COMMIT is lost; plain: they do not.
        By default plain, and exact with --faults.
    faults
        Break things meanwhile: links at COMMIT, connections at the server, the server itself, with --async tasks too.
        Needs --engine postgres. With --outcome plain a transaction that failed at COMMIT is taken for rolled back and
        done again, as is usual: this is the control, and is to end with exit code 1.
    config
        A configuration file: use its databases, in tables that begin with psdemo_ and are removed at the end.
    keep
        Leave the tables or the SQLite files where they are.
    seed
        The same seed gives the same rows and, to each terminal, the same inputs.
    json
        Print one JSON document and nothing else.
    """
    try:
        with ExitStack() as stack:
            given = _from_file(config, asynchronous=async_) if config is not None else None
            names = _names(given, engine, databases)
            plan = Plan(
                databases=names,
                warehouses=2 * len(names) if warehouses is None else warehouses,
                scale=scale,
                sessions=sessions,
                seconds=seconds,
                seed=seed,
                asynchronous=async_,
                prefix=_PREFIX if given is not None else "",
                keep=keep,
                defect=_defect(),
                outcome=Certainty(outcome or ("exact" if faults else "plain")),
                faults=faults,
            )
            if faults and engine != "postgres":
                raise refuse("faults", "--engine postgres, as it breaks a private server", engine or "no --engine")
            place = stack.enter_context(_place(engine or "sqlite", plan)) if given is None else Place(databases={})
            observers = () if place.faults is None else (place.faults,)
            door = given or (AsyncSessions if async_ else Sessions)(place.databases, observers=observers)
            label = "these databases" if given is not None else _LABELS[engine or "sqlite"]
            witness = stack.enter_context(Witness())
            display = stack.enter_context(choose(plan, label, witness, as_json=json))
            ended, left, out = _run(plan, door, display, witness, place.faults)
            report = Report(
                plan=plan,
                engine=label,
                outcome=ended,
                sessions_left=left,
                connections_out=out,
                connections_open=witness.open,
                server_connections=place.census() if place.census is not None else None,
                most_out=witness.most_out,
                kept=_kept(plan, place),
            )
            display.finish(report)
            return 0 if report.ok else 1
    except PolysessionError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except SQLAlchemyError as error:
        # What a terminal meets is in the report; this is a database that could not even be filled or checked.
        sys.stderr.write(f"polysession demo: {type(error).__name__}: {error}\n")
        if config is not None:
            sys.stderr.write(f"  do:  polysession check {config}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130


def _names(given: Sessions | AsyncSessions | None, engine: Engine | None, databases: int | None) -> tuple[str, ...]:
    """The databases to use: those of the file, or as many of our own."""
    if databases is not None and databases < 1:
        raise refuse("databases", "at least 1", databases)
    if given is None:
        if engine not in (None, *_LABELS):
            raise refuse("engine", " or ".join(_LABELS), engine)
        return tuple(f"db{number}" for number in range(1, (2 if databases is None else databases) + 1))
    if engine is not None:
        raise refuse("engine", "nothing together with --config, whose file names the engines", engine)
    if databases is not None and databases > len(given.names):
        raise refuse("databases", f"at most {len(given.names)}, as the file has no more", databases)
    return given.names[:databases]


def _from_file(config: Path, *, asynchronous: bool) -> Sessions | AsyncSessions:
    return AsyncSessions.from_toml(config) if asynchronous else Sessions.from_toml(config)


def _defect() -> Defect | None:
    """The defect that a test asks for."""
    name = os.environ.get(VARIABLE)
    return Defect(name) if name else None


def _place(engine: Engine, plan: Plan) -> AbstractContextManager[Place]:
    if engine == "sqlite":
        return sqlite_files(plan.databases, keep=plan.keep)
    if plan.keep:
        raise refuse("keep", "SQLite or --config, as the private server is removed", "--engine postgres")
    return postgres_server(plan.databases, breaks=(plan.seed, plan.seconds) if plan.faults else None)


def _kept(plan: Plan, place: Place) -> str | None:
    if place.kept is not None:
        return str(place.kept)
    return f"the tables {plan.prefix}*" if plan.keep else None


def _run(
    plan: Plan, door: Sessions | AsyncSessions, watcher: Watcher, witness: Witness, faults: Faults | None
) -> tuple[Outcome, int, int]:
    """The run, what the door held and how many connections were out after it; closes the door in every case."""
    if isinstance(door, AsyncSessions):
        return asyncio.run(_run_async(plan, door, watcher, witness, faults))
    with door:
        return run_threads(plan, door, watcher, faults), len(door.held()), witness.out


async def _run_async(
    plan: Plan, door: AsyncSessions, watcher: Watcher, witness: Witness, faults: Faults | None
) -> tuple[Outcome, int, int]:
    async with door:
        return await run_async(plan, door, watcher, faults), len(door.held()), witness.out
