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
import logging
import sqlite3
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy.orm import Session
from tests.engines.mariadb import MariaDB
from tests.engines.process import wait_until
from tests.engines.sqlite import SQLite
from tests.engines.targets import ASYNC_DRIVERS, SYNC_DRIVERS, FreshDatabase, Servers, mark_of

from proofs import exits_tasks, exits_threads
from proofs.results import Profile, Result
from proofs.sides import SIZE, AsyncSide, Ours, OursAsync, Plain, PlainAsync, Side
from proofs.tally import WHICH, Boom, Tally, numbers_in, prepare

__all__ = ["NAME", "TARGETS", "Cell", "Row", "cells", "judge", "judge_controls", "run", "run_cell", "run_forgetful"]

NAME: Final = "exits"
TARGETS: Final = ("sqlite", "pg15", "pg18", "mariadb")
_PATIENCE: Final = 5.0
"""Seconds in which the server must have noticed that a connection ended."""
_SIDES: Final[Mapping[str, Callable[[str], Side]]] = {"ours": Ours, "plain": Plain}
_ASYNC_SIDES: Final[Mapping[str, Callable[[str], AsyncSide]]] = {"ours": OursAsync, "plain": PlainAsync}
_CERTAIN: Final = frozenset({"exception", "generator", "thread death", "left open"})
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
    complaints: int
    """Of the event loop: errors that nobody was told."""
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
    rows: dict[str, list[Row]] = {"ours": [], "plain": []}
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
                for kind, found in rows.items():
                    began = time.monotonic()
                    row = run_cell(cell, servers, kind, profile.units, seed)
                    wrong = judge(row, profile.units) if kind == "ours" else []
                    failures += [f"{cell}: {what}" for what in wrong]
                    found.append(row)
                    profile.say(f"{_line(row)}  {time.monotonic() - began:.1f} s")
                    for what in wrong:
                        profile.say(f"    FAILED: {what}")
        forgetful = run_forgetful(servers)
    finally:
        servers.close()
    failures += judge_controls(rows["plain"], forgetful)
    return Result(
        name=NAME,
        seed=seed,
        profile=profile.name,
        counts={f"{kind}: {what}": count for kind, found in rows.items() for what, count in _totals(found).items()},
        cells=tuple(asdict(row) for row in rows["ours"]),
        control=tuple(asdict(row) for row in (*rows["plain"], forgetful)),
        passed=not failures and bool(rows["ours"]),
        why="; ".join(failures) or f"{len(rows['ours'])} cells{', without ' if skipped else ''}{', '.join(skipped)}",
    )


def run_cell(cell: Cell, servers: Servers, kind: str, units: int, seed: int) -> Row:
    """One cell in a database of its own, with the side that `kind` names."""
    seed = zlib.crc32(f"{cell} {seed}".encode())

    def measure(database: FreshDatabase, tally: Tally) -> dict[str, Any]:
        url = database.url(cell.driver)
        if cell.asynchronous:
            side = _ASYNC_SIDES[kind](url)
            return asyncio.run(_in_tasks(exits_tasks.EXITS[cell.exit], database, side, tally, units, seed))
        return _in_threads(exits_threads.EXITS[cell.exit], database, _SIDES[kind](url), tally, units, seed)

    return _measured(str(cell), kind, servers, cell.target, measure, certain=cell.exit in _CERTAIN)


def run_forgetful(servers: Servers, units: int = 3) -> Row:
    """The control that must fail: our own door, with owners that never close their sessions."""

    def measure(database: FreshDatabase, tally: Tally) -> dict[str, Any]:
        try:
            return _in_threads(_forgotten, database, Ours(database.url()), tally, units, 0)
        finally:
            while _KEPT:
                _KEPT.pop().close()

    return _measured("forgotten sqlite/pysqlite", "ours", servers, "sqlite", measure, certain=True)


def _measured(
    label: str,
    side: str,
    servers: Servers,
    target: str,
    measure: Callable[[FreshDatabase, Tally], dict[str, Any]],
    *,
    certain: bool,
) -> Row:
    database = servers.fresh(target)
    try:
        prepare(database.url())
        tally = Tally()
        with warnings.catch_warnings(record=True) as caught, _silent():
            warnings.simplefilter("always")
            found = measure(database, tally)
            gc.collect()
        return Row(
            cell=label,
            side=side,
            told=tally.compared(numbers_in(database.url()), certain=certain),
            reported_dropped=_count(caught, "was dropped without"),
            collector_warnings=_count(caught, "garbage collector"),
            errors=tuple(f"{count} x {text}" for text, count in tally.unexpected.most_common(5)),
            **found,
        )
    finally:
        servers.drop(database)


def judge(row: Row, units: int) -> list[str]:
    """What is not as promised."""
    told = row.told
    left_open = row.seen.get("left open", 0)
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
        (f"{row.seen.get('blocked for ever', 0)} threads blocked for ever", not row.seen.get("blocked for ever")),
        (f"{row.complaints} errors that only the event loop saw", row.complaints == 0),
        (f"{row.collector_warnings} found by the garbage collector", row.collector_warnings == 0),
    )
    return [what for what, holds in expectations if not holds]


def judge_controls(plain: Iterable[Row], forgetful: Row) -> list[str]:
    """Which control did not fail as it must."""
    wrong = [
        f"the control reported the sessions that were left open in {row.cell}"
        for row in plain
        if row.seen.get("left open") and row.reported_dropped
    ]
    if not (forgetful.held and forgetful.out and forgetful.served < SIZE and judge(forgetful, 0)):
        wrong.append("sessions that nobody closed were not found out")
    return wrong


# -- measuring


def _in_threads(
    leave: exits_threads.Exit, database: FreshDatabase, side: Side, tally: Tally, units: int, seed: int
) -> dict[str, Any]:
    seen = leave(side, tally, units, seed)
    gc.collect()
    found: dict[str, Any] = {"seen": dict(seen), "complaints": 0}
    if side.stuck:  # whoever asks it anything now waits for ever too
        found |= {"held": side.held(), "out": SIZE, "served": 0} | _agreed(0, database)
        return found | {"after_close": _connections(database)}
    found |= {"held": side.held(), "out": side.out()}
    found["served"] = side.served()
    found |= _agreed(side.idle(), database)
    side.close()
    gc.collect()
    return found | {"after_close": _settled(lambda: _connections(database), 0)}


async def _in_tasks(
    leave: exits_tasks.Exit, database: FreshDatabase, side: AsyncSide, tally: Tally, units: int, seed: int
) -> dict[str, Any]:
    unseen: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unseen.append(context))
    seen = await leave(side, tally, units, seed)
    gc.collect()
    await _quiet(side)
    found: dict[str, Any] = {"seen": dict(seen), "held": side.held(), "out": side.out()}
    found["served"] = await side.served()
    found |= await asyncio.to_thread(_agreed, side.idle(), database)
    await side.close()
    gc.collect()
    found["complaints"] = len(unseen) + seen["complaints of loops"]
    return found | {"after_close": await asyncio.to_thread(_settled, lambda: _connections(database), 0)}


async def _quiet(side: AsyncSide) -> None:
    """Return when nothing is held, or when the time is up: a loop ends what was dropped in its own time."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_PATIENCE):
            while side.held() or side.out():  # noqa: ASYNC110  # nothing tells when
                await asyncio.sleep(0.01)


def _agreed(idle: int, database: FreshDatabase) -> dict[str, int]:
    """The pool's figure and the server's, when they agree or the time is up."""
    at_server = _settled(lambda: _connections(database), idle)
    return {
        "idle": idle,
        "at_server": at_server,
        "in_transaction": _settled(lambda: _transactions(database), 0),
    }


def _settled(count: Callable[[], int], wanted: int) -> int:
    """What `count` says when it says `wanted`, or when the time is up: a server ends connections in its own time."""
    try:
        wait_until(lambda: count() == wanted, _PATIENCE, every=0.02)
    except TimeoutError:
        return count()
    return wanted


def _connections(database: FreshDatabase) -> int:
    """The connections that are open at the server; for SQLite, those that have read the write-ahead log.

    A file that was closed while another connection has locks on it stays open until those are gone, its log does not
    (SQLite source, os_unix.c, "Posix Advisory Locking"), so descriptors of the log are the true count.
    """
    server = database.server
    if not isinstance(server, SQLite):
        return len(database.census())
    log = f"{server.path(database.name)}-wal"
    return sum(target == log for target in map(_target, Path("/proc/self/fd").iterdir()))


def _target(entry: Path) -> str:
    try:
        return str(entry.readlink())
    except FileNotFoundError:
        return ""  # the descriptor that lists this folder


def _transactions(database: FreshDatabase) -> int:
    """The connections that are in a transaction; for SQLite, 1 if there are any."""
    server = database.server
    if isinstance(server, SQLite):
        with closing(sqlite3.connect(server.path(database.name), timeout=0)) as connection:
            (busy, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            return int(busy)
    if isinstance(server, MariaDB):
        ((count,),) = server.ask(_INNODB, database.name)
        return int(count)
    return sum(backend.state != "idle" for backend in database.census())


_INNODB: Final = (
    "select count(*) from information_schema.innodb_trx as t join information_schema.processlist as p"
    " on p.id = t.trx_mysql_thread_id where p.db = %s"
)


def _forgotten(side: Side, tally: Tally, units: int, seed: int) -> Counter[str]:
    """Sessions whose owner lives and never closes them."""
    for _ in range(units):
        session = side.open()
        _KEPT.append(session)
        n = tally.number()
        session.execute(WHICH)
        tally.ended(n, Boom())
    return Counter()


_KEPT: Final[list[Session]] = []


@contextmanager
def _silent() -> Iterator[None]:
    """What pools and event loops log about units that were ended by force is counted here, not shown."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _count(caught: Iterable[warnings.WarningMessage], words: str) -> int:
    return sum(words in str(warning.message) for warning in caught)


def _totals(rows: Iterable[Row]) -> Counter[str]:
    totals: Counter[str] = Counter()
    for row in rows:
        totals.update({"units": row.told["reported"] + row.told["raised"], "lost slots": SIZE - row.served})
        totals.update({key: row.told[key] for key in ("lost", "committed_and_told", "committed_not_told")})
        totals.update({"held": row.held, "out": row.out, "dropped and reported": row.reported_dropped})
    return totals


def _line(row: Row) -> str:
    told = row.told
    return (
        f"{row.cell:<40} {row.side:<5} {told['reported']:>6} reported {told['raised']:>6} raised"
        f" ({told['committed_and_told']} committed, told; {told['committed_not_told']} not told)"
        f"  held {row.held} out {row.out} serves {row.served} pool {row.idle} server {row.at_server}"
        f" after close {row.after_close}"
    )
