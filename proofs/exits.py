"""Every way out of a unit, thousands of times on every engine and driver: nothing stays held, pool and server agree.

For each cell (exit, engine, driver) the units insert a row and read it back, over a pool of five that several workers
share, and end in one way only. Afterwards nothing may be held, no connection out, the pool must serve all its
connections at once, the server must have as many as the pool thinks and none of them in a transaction, none after
close, and the rows in the table must be those of the units that reported a commit.

Two controls. The same cells with SQLAlchemy's session factories and pools: its figures stand beside ours, and sessions
that a dying thread leaves behind must go unreported there. And our own door with owners that never close their
sessions: the check must find those.

A unit that was interrupted or cancelled may have committed all the same. It counts as "not told" if its error does not
carry the outcome, and fails the cell if the error denies the commit.
"""

from __future__ import annotations

import asyncio
import gc
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import pytest
from tests.engines.sqlite import SQLite
from tests.engines.targets import ASYNC_DRIVERS, SYNC_DRIVERS, FreshDatabase, Servers, mark_of

from proofs import exits_tasks, exits_threads
from proofs.results import Profile, Result
from proofs.sides import SIZE, Ours, OursAsync, Plain, PlainAsync
from proofs.tally import Boom, Tally, numbers_in, prepare

__all__ = ["NAME", "TARGETS", "Cell", "Row", "cells", "judge", "run", "run_cell"]

NAME: Final = "exits"
TARGETS: Final = ("sqlite", "pg15", "pg18", "mariadb")
_PATIENCE: Final = 10.0
"""Seconds in which the server must have noticed that a connection ended."""
_CERTAIN: Final = frozenset({"exception", "generator", "thread death"})
"""Exits after which a unit cannot have committed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One exit on one engine by one driver."""

    exit: str
    target: str
    driver: str
    asynchronous: bool

    def __str__(self) -> str:
        return f"{self.exit} {self.target}/{self.driver}{' (async)' if self.asynchronous else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What was found when all units of a cell had ended."""

    cell: str
    side: str
    told: Mapping[str, int]
    """What the units were told, beside the table's rows."""
    seen: Mapping[str, int]
    """How the exit went; for interrupts and cancellations it differs from run to run."""
    held: int
    out: int
    served: int
    idle: int
    at_server: int
    in_transaction: int
    after_close: int
    reported_dropped: int
    """ResourceWarnings of polysession."""
    collector_warnings: int
    """Warnings of SQLAlchemy that the garbage collector found a connection."""
    errors: tuple[str, ...]
    """Of units that nothing had been done to."""


def cells(target: str) -> Iterator[Cell]:
    """All cells of a target."""
    for drivers, exits, asynchronous in (
        (SYNC_DRIVERS, exits_threads.EXITS, False),
        (ASYNC_DRIVERS, exits_tasks.EXITS, True),
    ):
        for driver in drivers[mark_of(target)]:
            for name in exits:
                yield Cell(exit=name, target=target, driver=driver, asynchronous=asynchronous)


def run(profile: Profile, seed: int) -> Result:
    """All cells that can be run here, ours and the control's."""
    ours: list[Row] = []
    plain: list[Row] = []
    failures: list[str] = []
    skipped: list[str] = []
    servers = Servers()
    try:
        for target in TARGETS:
            wanted = [cell for cell in cells(target) if profile.wants(str(cell))]
            try:
                if wanted:
                    servers.shared(target)
            except pytest.skip.Exception as missing:
                profile.say(f"{target}: skipped, {missing}")
                skipped.append(target)
                continue
            for cell in wanted:
                for side, rows in (("ours", ours), ("plain", plain)):
                    began = time.monotonic()
                    row = run_cell(cell, servers, side, profile.units, seed)
                    found = judge(row, profile.units) if side == "ours" else []
                    failures += [f"{cell}: {what}" for what in found]
                    rows.append(row)
                    profile.say(f"{_line(row)}  {time.monotonic() - began:.1f} s{'  FAILED' if found else ''}")
        leaking = _forgetful(servers)
        if not judge(leaking, leaking.told["raised"]):
            failures.append("the control with forgotten sessions was not found out")
    finally:
        servers.close()
    silent = [row.cell for row in plain if row.seen.get("threads that leaves") and row.reported_dropped]
    failures += [f"the control reported dropped sessions in {cell}" for cell in silent]
    return Result(
        name=NAME,
        seed=seed,
        profile=profile.name,
        counts={f"{side}: {key}": value for side, rows in (("ours", ours), ("plain", plain)) for key, value in
                _totals(rows).items()},
        cells=tuple(asdict(row) for row in ours),
        control=tuple(asdict(row) for row in (*plain, leaking)),
        passed=not failures and bool(ours),
        why="; ".join(failures) or f"{len(ours)} cells" + (f", without {', '.join(skipped)}" if skipped else ""),
    )


def run_cell(cell: Cell, servers: Servers, side: str, units: int, seed: int) -> Row:
    """One cell in a database of its own."""
    database = servers.fresh(cell.target)
    seed = zlib.crc32(f"{cell} {seed}".encode())
    try:
        prepare(database.url())
        tally = Tally()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            if cell.asynchronous:
                found = asyncio.run(_in_tasks(cell, database, side, tally, units, seed))
            else:
                found = _in_threads(cell, database, side, tally, units, seed)
            gc.collect()
        told = tally.compared(numbers_in(database.url()), certain=cell.exit in _CERTAIN)
        return Row(
            cell=str(cell),
            side=side,
            told=told,
            reported_dropped=_count(caught, "polysession: "),
            collector_warnings=_count(caught, "garbage collector"),
            errors=tuple(f"{count} x {text}" for text, count in tally.unexpected.most_common(5)),
            **found,
        )
    finally:
        servers.drop(database)


def judge(row: Row, units: int) -> list[str]:
    """What is not as promised."""
    told = row.told
    left_open = row.seen.get("threads that leaves", 0)
    expectations: tuple[tuple[str, bool], ...] = (
        (f"{row.held} still held", row.held == 0),
        (f"{row.out} connections still out", row.out == 0),
        (f"the pool serves {row.served} of {SIZE}", row.served == SIZE),
        (f"the pool has {row.idle} connections, the server {row.at_server}", row.idle == row.at_server),
        (f"{row.in_transaction} in a transaction at the server", row.in_transaction == 0),
        (f"{row.after_close} at the server after close", row.after_close == 0),
        (f"{told['lost']} reported and lost", told["lost"] == 0),
        (f"{told['stray']} committed by units that failed", told["stray"] == 0),
        (f"{told['nobodys']} rows that nobody reported", told["nobodys"] == 0),
        (f"{told['committed_but_denied']} committed and denied", told["committed_but_denied"] == 0),
        (f"{told['wrong_answers']} answers to another question", told["wrong_answers"] == 0),
        (f"{told['unexpected_errors']} errors out of the blue: {'; '.join(row.errors)}", not row.errors),
        (f"only {told['reported'] + told['raised']} units", told["reported"] + told["raised"] >= units),
        (f"{row.reported_dropped} of {left_open} dropped reported", row.reported_dropped == left_open),
        (f"{row.collector_warnings} found by the garbage collector", row.collector_warnings == 0),
    )
    return [what for what, holds in expectations if not holds]


# -- measuring


def _in_threads(
    cell: Cell, database: FreshDatabase, kind: str, tally: Tally, units: int, seed: int
) -> dict[str, Any]:
    side = _SIDES[kind](database.url(cell.driver))
    seen = exits_threads.EXITS[cell.exit](side, tally, units, seed)
    gc.collect()
    found: dict[str, Any] = {"seen": dict(seen), "held": side.held(), "out": side.out(), "served": side.served()}
    found |= _until_agreed(side.idle, database, time.sleep)
    side.close()
    del side
    gc.collect()
    return found | {"after_close": _settled(lambda: _connections(database), 0)}


async def _in_tasks(
    cell: Cell, database: FreshDatabase, kind: str, tally: Tally, units: int, seed: int
) -> dict[str, Any]:
    side = _ASYNC_SIDES[kind](database.url(cell.driver))
    seen = await exits_tasks.EXITS[cell.exit](side, tally, units, seed)
    gc.collect()
    await asyncio.sleep(0)
    found: dict[str, Any] = {"seen": dict(seen), "held": side.held(), "out": side.out(), "served": await side.served()}
    found |= await asyncio.to_thread(_agreed, side.idle(), database)
    await side.close()
    del side
    gc.collect()
    return found | {"after_close": await asyncio.to_thread(_settled, lambda: _connections(database), 0)}
