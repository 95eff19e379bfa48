"""A storm of cancellations, signals and deadlines: no connection is lost, and nobody is told a wrong outcome.

For each driver, 10,000 units through the asynchronous door are cancelled in time: at the k-th suspension, after a
random time, twice, by `asyncio.timeout`, by a failing sibling of a `TaskGroup`, by a scope of anyio that cancels again
and again, by their own deadline. And 10,000 through the synchronous door are interrupted: by real signals that raise
KeyboardInterrupt or SystemExit at a random time or at the k-th line after their door, and by their own deadlines in
other threads. Eight workers share a pool of five. Units have several shapes: a block, a block with savepoints, a
repeatable function; for tasks also a block that streams, and a session that its owner ends.

While the storm blows a census is taken of the server's connections, 50 times a second. When it is over the pool must
serve all its connections at once; one second later none may be idle in a transaction. The truth about each unit is then
read on a connection of its own, and compared with the outcome that its error told (`outcome_of`). A unit writes two
rows, so that a half shows.

The control is the same storm over SQLAlchemy's `sessionmaker` and `async_sessionmaker` with SQLAlchemy's pools. It has
no outcome to tell; a storm that leaves too many honest units waiting in vain for a connection or a lock ends early.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any, Final

import pytest
from tests.engines.process import wait_until
from tests.engines.targets import ASYNC_DRIVERS, SYNC_DRIVERS, FreshDatabase, Servers, mark_of

from proofs.census import Census
from proofs.exits import _connections as connections
from proofs.exits import _transactions as transactions
from proofs.results import Profile, Result
from proofs.sides import SIZE, AsyncSide, Ours, OursAsync, Plain, PlainAsync, Side
from proofs.storm_tasks import TaskStorm
from proofs.storm_threads import ThreadStorm
from proofs.tally import Tally, numbers_in, prepare

__all__ = ["NAME", "TABLE", "TARGETS", "Cell", "Row", "cells", "judge", "run", "run_cell"]

NAME: Final = "cancel_storm"
TARGETS: Final = ("sqlite", "pg15", "pg18", "mariadb")
_SIDES: Final[Mapping[str, Callable[[str], Side]]] = {"ours": Ours, "plain": Plain}
_ASYNC_SIDES: Final[Mapping[str, Callable[[str], AsyncSide]]] = {"ours": OursAsync, "plain": PlainAsync}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One storm: by tasks or threads, on one engine by one driver."""

    target: str
    driver: str
    asynchronous: bool

    def __str__(self) -> str:
        return f"{'tasks' if self.asynchronous else 'threads'} {self.target}/{self.driver}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What was found during a storm and after it."""

    cell: str
    side: str
    told: Mapping[str, int]
    """What the units were told, beside the table's rows."""
    seen: Mapping[str, int]
    """How the storm went; it differs from run to run."""
    steps: Mapping[str, int]
    """For signals: what the units did when they came."""
    halves: int
    """Units of which one row is there and the other is not."""
    ended_early: bool
    lost_slots: int
    held: int
    out: int
    idle: int
    at_server: int
    in_transaction: int
    """Sessions in a transaction at the server, one second after the storm."""
    after_close: int
    samples: int
    most_at_server: int
    samples_above: int
    samples_idle_in_transaction: int
    noise: Mapping[str, int]
    """Lines in the log, and complaints of event loops."""
    slowest_ms: int
    errors: tuple[str, ...]
    """Of units that nothing had been done to."""


def cells(target: str) -> Iterator[Cell]:
    """All cells of a target."""
    for drivers, asynchronous in ((SYNC_DRIVERS, False), (ASYNC_DRIVERS, True)):
        for driver in drivers[mark_of(target)]:
            yield Cell(target=target, driver=driver, asynchronous=asynchronous)


def run(profile: Profile, seed: int) -> Result:
    """All cells that can be run here, ours and the control's."""
    rows: dict[str, list[Row]] = {"ours": [], "plain": []}
    failures: list[str] = []
    skipped: list[str] = []
    seconds = 0.0
    servers = Servers()
    try:
        for target in TARGETS:
            for cell, kind in product(filter(lambda cell: profile.wants(str(cell)), cells(target)), rows):
                found = _kept(profile, cell, kind, seed)
                if found is None:
                    try:
                        servers.shared(target)
                    except pytest.skip.Exception as missing:
                        profile.say(f"{target}: skipped, {missing}")
                        skipped.append(target)
                        break
                    began = time.monotonic()
                    found = run_cell(cell, servers, kind, profile.units, seed), time.monotonic() - began
                    profile.keep(f"storm {cell} {kind} {seed}", asdict(found[0]) | {"seconds": found[1]})
                row, took = found
                seconds += took
                wrong = judge(row, profile.units) if kind == "ours" else []
                failures += [f"{cell}: {what}" for what in wrong]
                rows[kind].append(row)
                profile.say(f"{_line(row)}  {took:.1f} s")
                for what in wrong:
                    profile.say(f"    FAILED: {what}")
    finally:
        servers.close()
    failures += judge_control(rows["plain"])
    return Result(
        name=NAME,
        seed=seed,
        profile=profile.name,
        counts={f"{kind}: {what}": count for kind, found in rows.items() for what, count in _totals(found).items()},
        cells=tuple(asdict(row) for row in rows["ours"]),
        control=tuple(asdict(row) for row in rows["plain"]),
        passed=not failures and bool(rows["ours"]),
        why="; ".join(failures) or f"{len(rows['ours'])} cells{', without ' if skipped else ''}{', '.join(skipped)}",
        seconds=seconds,
    )


def _kept(profile: Profile, cell: Cell, kind: str, seed: int) -> tuple[Row, float] | None:
    """What came of the cell in an earlier run, and the seconds that it took."""
    found = profile.recall_timed(f"storm {cell} {kind} {seed}")
    return found and (Row(**found[0] | {"errors": tuple(found[0]["errors"])}), found[1])


def run_cell(cell: Cell, servers: Servers, kind: str, units: int, seed: int) -> Row:
    """One cell in a database of its own, with the side that `kind` names."""
    seed = zlib.crc32(f"{cell} {seed}".encode())
    database = servers.fresh(cell.target)
    try:
        prepare(database.url())
        tally = Tally()
        with _counted() as noise, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if cell.asynchronous:
                found = asyncio.run(
                    _in_tasks(database, _ASYNC_SIDES[kind](database.url(cell.driver)), tally, units, seed)
                )
            else:
                found = _in_threads(database, _SIDES[kind](database.url(cell.driver)), tally, units, seed)
            gc.collect()
        noise.update(tally.complaints)
        there = numbers_in(database.url())
        whole = {n for n in there if 0 < n < 1_000_000_000}
        return Row(
            cell=str(cell),
            side=kind,
            told=tally.compared(whole, certain=False),
            halves=len({-n for n in there if n < 0} ^ whole) + sum(n > 1_000_000_000 for n in there),
            ended_early=tally.starved,
            errors=tuple(f"{count} x {text}" for text, count in tally.unexpected.most_common(5)),
            noise=dict(noise.most_common(12)),
            **found,
        )
    finally:
        servers.drop(database)


def judge(row: Row, units: int) -> list[str]:
    """What is not as promised."""
    told, seen = row.told, row.seen
    # an interrupt in one of SQLAlchemy's own blocks, inside of the unit's, can come out of it as an AssertionError
    another = seen.get("came out as another error") if row.cell.startswith("tasks") else 0
    expectations: tuple[tuple[str, bool], ...] = (
        (f"{row.lost_slots} connections lost from the pool", row.lost_slots == 0),
        (f"{row.held} still held, {row.out} connections out", row.held == row.out == 0),
        (f"the pool has {row.idle} connections, the server {row.at_server}", row.idle == row.at_server),
        (f"{row.in_transaction} in a transaction at the server one second later", row.in_transaction == 0),
        (
            f"{row.samples_idle_in_transaction} samples with one idle in transaction",
            not row.samples_idle_in_transaction,
        ),
        (f"{row.most_at_server} connections at the server in {row.samples_above} samples", row.most_at_server <= SIZE),
        (f"{row.after_close} at the server after close", row.after_close == 0),
        (f"{row.samples} samples only", row.samples > 0),
        (f"{told['lost']} reported and lost", told["lost"] == 0),
        (f"{told['claimed_but_missing']} told as committed and missing", told["claimed_but_missing"] == 0),
        (f"{told['committed_but_denied']} committed and denied", told["committed_but_denied"] == 0),
        (f"{told['committed_not_told']} committed and not told", told["committed_not_told"] == 0),
        (f"{seen.get('not told', 0)} without an outcome", not seen.get("not told")),
        (f"{told['nobodys']} rows that nobody reported", told["nobodys"] == 0),
        (f"{row.halves} halves", row.halves == 0),
        (f"{told['wrong_answers']} answers to another question", told["wrong_answers"] == 0),
        (f"{told['unexpected_errors']} errors out of the blue: {'; '.join(row.errors)}", not row.errors),
        (f"only {seen.get('in time', 0)} of {units} interrupted", seen.get("in time", 0) >= units),
        (f"{seen.get('swallowed', 0)} cancellations swallowed", not seen.get("swallowed")),
        (f"{seen.get('left cancelling', 0)} tasks left cancelling", not seen.get("left cancelling")),
        (f"{seen.get('blocked for ever', 0)} threads blocked for ever", not seen.get("blocked for ever")),
        (
            f"{seen.get('came out as another error', 0)} came out as another error",
            not another,
        ),
        # an interrupt may come while a connection is reset, and SQLAlchemy says so: that is no noise
        (f"noise: {dict(row.noise)}", not row.noise or row.cell.startswith("threads")),
    )
    return [what for what, holds in expectations if not holds]


def judge_control(plain: list[Row]) -> list[str]:
    """What the control does not show."""
    if not plain:
        return []
    return [] if sum(row.told["committed_not_told"] for row in plain) else ["the control told every outcome"]


# -- measuring


def _in_threads(database: FreshDatabase, side: Side, tally: Tally, units: int, seed: int) -> dict[str, Any]:
    storm = ThreadStorm(side, tally, units, seed)
    with Census(database, SIZE) as census:
        storm.run()
        gc.collect()
    found = _counts(census) | {"seen": _sorted(storm.seen), "steps": _sorted(storm.steps), "slowest_ms": 0}
    in_transaction = _settled(lambda: transactions(database), 0, 1.0)
    if side.stuck:  # whoever asks it anything now waits for ever too
        found |= {"held": side.held(), "out": SIZE, "lost_slots": SIZE, "idle": 0}
        return found | {"at_server": connections(database), "in_transaction": in_transaction, "after_close": 0}
    found |= {"held": side.held(), "lost_slots": SIZE - side.served(), "out": _settled(side.out, 0)}
    found |= _agreed(side.idle(), database) | {"in_transaction": in_transaction}
    side.close()
    gc.collect()
    return found | {"after_close": _settled(lambda: connections(database), 0)}


async def _in_tasks(database: FreshDatabase, side: AsyncSide, tally: Tally, units: int, seed: int) -> dict[str, Any]:
    asyncio.get_running_loop().set_exception_handler(tally.complain)
    storm = TaskStorm(side, tally, units, seed)
    with Census(database, SIZE) as census:
        await storm.run()
        gc.collect()
    found = _counts(census) | {"seen": _sorted(storm.seen), "steps": {}, "slowest_ms": round(storm.slowest * 1000)}
    in_transaction = await asyncio.to_thread(_settled, lambda: transactions(database), 0, 1.0)
    found |= {"held": side.held(), "lost_slots": SIZE - await side.served()}
    found |= {"out": await asyncio.to_thread(_settled, side.out, 0)}
    found |= await asyncio.to_thread(_agreed, side.idle(), database)
    found |= {"in_transaction": in_transaction}
    await side.close()
    gc.collect()
    return found | {"after_close": await asyncio.to_thread(_settled, lambda: connections(database), 0)}


def _settled(count: Callable[[], int], wanted: int, seconds: float = 5.0) -> int:
    """What `count` says when it says `wanted`, or when the time is up: a server ends connections in its own time, and
    what was being opened for whoever was interrupted then goes into the pool when it is open."""
    try:
        wait_until(lambda: count() == wanted, seconds, every=0.02)
    except TimeoutError:
        return count()
    return wanted


def _agreed(idle: int, database: FreshDatabase) -> dict[str, int]:
    """The pool's figure and the server's, when they agree or the time is up."""
    return {"idle": idle, "at_server": _settled(lambda: connections(database), idle)}


def _counts(census: Census) -> dict[str, int]:
    return {
        "samples": census.samples,
        "most_at_server": census.most,
        "samples_above": census.above,
        "samples_idle_in_transaction": census.idle_in_transaction,
    }


def _sorted(counter: Counter[str]) -> dict[str, int]:
    return {key: counter[key] for key in sorted(counter)}


@contextmanager
def _counted() -> Iterator[Counter[str]]:
    """What is logged as a warning or an error, counted and not shown."""
    noise: Counter[str] = Counter()

    class Count(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            noise[f"{record.name}: {record.getMessage()[:70]}"] += 1

    handler = Count(logging.WARNING)
    loggers = [logging.getLogger(name) for name in ("", "sqlalchemy", "psycopg", "asyncio", "asyncmy", "polysession")]
    known = [(logger, logger.propagate, logger.handlers[:]) for logger in loggers]
    for logger in loggers:
        logger.handlers = [handler]
        logger.propagate = False
    try:
        yield noise
    finally:
        for logger, propagate, handlers in known:
            logger.handlers, logger.propagate = handlers, propagate


def _totals(rows: list[Row]) -> Counter[str]:
    totals: Counter[str] = Counter()
    for row in rows:
        told = row.told
        totals.update({"units": told["reported"] + told["raised"], "lost slots": row.lost_slots})
        totals.update({"interrupted in time": row.seen.get("in time", 0), "halves": row.halves})
        totals.update({key: told[key] for key in ("committed_and_told", "committed_not_told", "committed_and_unknown")})
        totals.update({"lines of noise": sum(row.noise.values()), "samples above the pool's size": row.samples_above})
        totals.update({"in a transaction one second later": row.in_transaction, "ended early": row.ended_early})
    return totals


def _line(row: Row) -> str:
    told = row.told
    return (
        f"{row.cell:<24} {row.side:<5} {row.seen.get('in time', 0):>6} interrupted, of"
        f" {told['reported'] + told['raised']:>6}; committed {told['committed_and_told']} told"
        f" {told['committed_not_told']} not told; lost slots {row.lost_slots}; server {row.most_at_server}"
        f" ({row.samples_above} of {row.samples} above); in tx {row.in_transaction}; noise {sum(row.noise.values())};"
        f" slowest {row.slowest_ms} ms{'; ENDED EARLY' if row.ended_early else ''}"
    )


def _noise(cell: Mapping[str, Any]) -> int:
    return sum(cell["noise"].values())


def _units(cell: Mapping[str, Any]) -> int:
    return int(cell["told"]["reported"] + cell["told"]["raised"])


TABLE: Final[Mapping[str, Any]] = {
    "storm": "cell",
    "side": "side",
    "units": _units,
    "interrupted in time": "seen.in time",
    "committed and told": "told.committed_and_told",
    "committed, not told": "told.committed_not_told",
    "wrong outcomes": lambda cell: cell["told"]["committed_but_denied"] + cell["told"]["claimed_but_missing"],
    "unknown": "told.committed_and_unknown",
    "halves": "halves",
    "slots lost": "lost_slots",
    "in transaction 1 s later": "in_transaction",
    "most at the server (pool of 5)": "most_at_server",
    "samples above, of": lambda cell: f"{cell['samples_above']} / {cell['samples']}",
    "log lines": _noise,
    "ended early": "ended_early",
}
