"""Every way out of a unit, thousands of times on every engine and driver: nothing stays held, pool and server agree.

For each cell (exit, engine, driver) the units insert a row and read it back, over a pool of five that several workers
share, and end in one way only. Afterwards nothing may be held, no connection out, the pool must serve all its
connections at once, the server must have as many as the pool thinks and none of them in a transaction, none after
close, and the rows in the table must be those of the units that reported a commit.

Two controls. The same cells with SQLAlchemy's session factories and pools: its figures stand beside ours, and sessions
that a dying thread leaves behind must go unreported there. It ends early when too many honest units have failed; its
interrupts in PyMySQL can block for ever, so the recorded row of that cell was made with 200 units. And our own door
with owners that never close their sessions: the check must find those.

A unit that was interrupted or cancelled may have committed all the same. It counts as "not told" if its error does not
carry the outcome, and fails the cell if the error denies the commit. A signal between the end of `__enter__` and the
block leaves a unit that nobody can leave any more: it is dropped, rolled back and reported, and its connection is back.

An event loop may complain of an error that nobody was told; that fails the cell, but for one complaint. asyncpg makes a
future for the answer about TLS before it waits for it; a cancellation in between leaves the future with the error of
the connection that was closed (asyncpg 0.32, connect_utils.py, TLSUpgradeProto). Nothing is lost by it. Those are
counted, with the control's beside.
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
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any, Final, cast

import pytest
from sqlalchemy.orm import Session
from tests.engines.mariadb import MariaDB
from tests.engines.process import wait_until
from tests.engines.sqlite import SQLite
from tests.engines.targets import ASYNC_DRIVERS, SYNC_DRIVERS, FreshDatabase, Servers, mark_of

from proofs import exits_tasks, exits_threads
from proofs.frozen import frozen
from proofs.pages import Columns
from proofs.results import Profile, Result
from proofs.sides import SIZE, AsyncSide, Ours, OursAsync, Plain, PlainAsync, Side
from proofs.tally import WHICH, Boom, Tally, numbers_in, prepare

__all__ = [
    "NAME",
    "TABLE",
    "TARGETS",
    "Cell",
    "Row",
    "built",
    "cells",
    "judge",
    "judge_controls",
    "run",
    "run_cell",
    "run_forgetful",
]

NAME: Final = "exits"
TARGETS: Final = ("sqlite", "pg15", "pg18", "mariadb")
TABLE: Final[Columns] = {
    "exit, server and driver": "cell",
    "side": "side",
    "committed": "told.reported",
    "ended by an error": "told.raised",
    "of these committed, and told": "told.committed_and_told",
    "and not told": "told.committed_not_told",
    "lost": "told.lost",
    "out of the blue": "told.unexpected_errors",
    "held": "held",
    "out": "out",
    "served at once": "served",
    "in the pool": "idle",
    "at the server": "at_server",
    "in a transaction": "in_transaction",
    "after close": "after_close",
    "dropped, reported": "reported_dropped",
    "complaints of asyncpg": lambda row: sum(row["complaints"].values()),
}
_PATIENCE: Final = 5.0
"""Seconds in which the server must have noticed that a connection ended."""
_KNOWN: Final = 1.0
"""Seconds in which the end of an owner must be known."""
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
    complaints: Mapping[str, int]
    """Of event loops: errors that nobody was told."""
    errors: tuple[str, ...]
    """Of units that nothing had been done to."""


def cells(target: str) -> Iterator[Cell]:
    """All cells of a target."""
    mark = mark_of(target)
    for drivers, exits, asynchronous in (
        ((*SYNC_DRIVERS[mark], *built(mark)), exits_threads.EXITS, False),
        (ASYNC_DRIVERS[mark], exits_tasks.EXITS, True),
    ):
        for driver in drivers:
            for name in exits:
                yield Cell(exit=name, target=target, driver=driver, asynchronous=asynchronous)


def built(mark: str) -> tuple[str, ...]:
    """Drivers that need a compiler, where they are installed."""
    return ("mysqldb",) if mark == "mariadb" and find_spec("MySQLdb") is not None else ()


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
                    profile.keep(f"{cell} {kind} {seed}", asdict(found[0]) | {"seconds": found[1]})
                row, took = found
                seconds += took
                wrong = judge(row, profile.units) if kind == "ours" else []
                failures += [f"{cell}: {what}" for what in wrong]
                rows[kind].append(row)
                profile.say(f"{_line(row)}  {took:.1f} s")
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
        seconds=seconds,
    )


def _kept(profile: Profile, cell: Cell, kind: str, seed: int) -> tuple[Row, float] | None:
    """What came of the cell in an earlier run, and the seconds that it took."""
    found = profile.recall_timed(f"{cell} {kind} {seed}")
    return found and (Row(**found[0] | {"errors": tuple(found[0]["errors"])}), found[1])


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
        with _counted() as caught, _silent(), frozen():  # the collector runs after many of the units
            found = measure(database, tally)
            gc.collect()
        return Row(
            cell=label,
            side=side,
            told=tally.compared(numbers_in(database.url()), certain=certain),
            reported_dropped=caught["was dropped without"] + caught["was left open by"],
            collector_warnings=caught["garbage collector"],
            errors=tuple(f"{count} x {text}" for text, count in tally.unexpected.most_common(5)),
            **found,
        )
    finally:
        servers.drop(database)


def judge(row: Row, units: int) -> list[str]:
    """What is not as promised."""
    told = row.told
    complaints = [what for what in row.complaints if not _is_of_the_driver(what)]
    left_open = row.seen.get("left open", 0)
    in_the_gap = row.seen.get("interrupted on the way in", 0)  # at most: after __enter__, before the block
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
        (
            f"{row.reported_dropped} of {left_open} dropped reported",
            left_open <= row.reported_dropped <= left_open + in_the_gap,
        ),
        (f"{row.seen.get('blocked for ever', 0)} threads blocked for ever", not row.seen.get("blocked for ever")),
        (f"errors that only an event loop saw: {complaints}", not complaints),
        (f"{row.collector_warnings} found by the garbage collector", row.collector_warnings == 0),
    )
    return [what for what, holds in expectations if not holds]


def _is_of_the_driver(complaint: str) -> bool:
    return "ConnectionError('unexpected connection_lost() call')" in complaint


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
    found: dict[str, Any] = {"seen": dict(seen), "complaints": {}}
    if side.stuck:  # whoever asks it anything now waits for ever too
        found |= {"held": side.held(), "out": SIZE, "served": 0} | _agreed(0, database)
        return found | {"after_close": _connections(database)}
    # the end of a thread that left something is known a little after it was joined; a connection that was being opened
    # for a waiter comes to rest in its own time
    held = _settled(side.held, 0, _KNOWN) if seen.get("left open") else side.held()
    found |= {"held": held, "out": _settled(side.out, 0)}
    found["served"] = side.served()
    found |= _agreed(side.idle(), database)
    side.close()
    gc.collect()
    return found | {"after_close": _settled(lambda: _connections(database), 0)}


async def _in_tasks(
    leave: exits_tasks.Exit, database: FreshDatabase, side: AsyncSide, tally: Tally, units: int, seed: int
) -> dict[str, Any]:
    asyncio.get_running_loop().set_exception_handler(tally.complain)
    seen = await leave(side, tally, units, seed)
    gc.collect()
    await _quiet(side)
    found: dict[str, Any] = {"seen": dict(seen), "held": side.held(), "out": side.out()}
    found["served"] = await side.served()
    found |= await asyncio.to_thread(_agreed, side.idle(), database)
    await side.close()
    gc.collect()
    found["complaints"] = dict(tally.complaints)
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


def _settled(count: Callable[[], int], wanted: int, seconds: float | None = None) -> int:
    """What `count` says when it says `wanted`, or when the time is up: a server ends connections in its own time."""
    try:
        wait_until(lambda: count() == wanted, _PATIENCE if seconds is None else seconds, every=0.02)
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


_WORDS: Final = ("was dropped without", "was left open by", "garbage collector")


@contextmanager
def _counted() -> Iterator[Counter[str]]:
    """How many warnings had each of these words. Not the warnings: the collector would look at them again and again."""
    said: Counter[str] = Counter()

    def count(message: Warning | str, *_: object) -> None:
        said.update(words for words in _WORDS if words in str(message))

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = cast("Any", count)
        yield said


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
