"""Histories of units are as isolated as each unit asked for, and every outcome that was told is true.

Eight threads or tasks read and append to six lists in seeded transactions of one to four steps, at one isolation level
for each cell, half of the appends in SQL and half by writing an object that was read. Some units raise, some get a
deadline of a few milliseconds, some tasks are cancelled; once in 40 units a connection is killed at the server; and in
the cells "cut" a proxy breaks links at COMMIT, before the server gets it or after it took effect, while every other
unit asks for an exact outcome. Every attempt is recorded with what it read and what its caller was told. An independent
checker (`proofs/anomalies.py`, tested on histories made by hand) infers the order of versions and looks for what the
level does not allow, and for outcomes that are not true: a unit of unknown outcome may be there or not, but wholly.

What each level promises to prevent, and where that is written:

| engine, level | prevented | source |
|---|---|---|
| PostgreSQL SERIALIZABLE | everything | documentation, 13.2.3: as if one at a time |
| PostgreSQL REPEATABLE READ | all but G2-item (write skew) | documentation, 13.2.2: snapshot isolation |
| PostgreSQL READ COMMITTED | G0, G1 | documentation, 13.2.1: each statement sees what was committed before it |
| MariaDB SERIALIZABLE | everything | documentation, SET TRANSACTION: reads lock as LOCK IN SHARE MODE |
| MariaDB REPEATABLE READ as `run()` asks for it | G0, G1, lost update | documentation, innodb_snapshot_isolation |
| MariaDB READ COMMITTED | G0, G1 | documentation, SET TRANSACTION: a snapshot for each read |
| SQLite | everything | sqlite.org/isolation.html: serializable |

MariaDB's REPEATABLE READ is weaker than its name: it is documented as snapshot isolation with
`innodb_snapshot_isolation`, but read skew and changing reads have been shown (Jepsen, "MySQL 8.0.34", 2023, which holds
for MariaDB too; Percona, "MariaDB's Snapshot Isolation", 2026), and about one lost update in 150,000 commits under
heavy contention is an open bug (MDEV-39263). So what it does not prevent is counted and shown, and a lost update there
counts as a broken promise. Where a level allows lost updates, a commit that is not there counts as one if anybody wrote
the list anew from a read that lacked it. What no level allows: a value twice, from nowhere, or not seen by its own
transaction.

The controls: the levels that allow an anomaly must show it, at random and in pairs of units that are interleaved by
hand (write skew at REPEATABLE READ, lost updates at READ COMMITTED and at MariaDB's REPEATABLE READ without the guard);
SQLAlchemy's own session on SQLite must lose updates; and of a clean history told wrongly every lie must be found.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing.util
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import pytest
from tests.engines.mariadb import MariaDB
from tests.engines.postgres import Postgres
from tests.engines.process import wait_until
from tests.engines.targets import ASYNC_DRIVERS, SYNC_DRIVERS, FreshDatabase, Servers, mark_of

from polysession import AsyncSessions, Sessions
from polysession.testing.proxy import Cut, Fault, FaultProxy, Fired, answer, request
from proofs.anomalies import Anomaly, Told, check
from proofs.appending import Record, final, plan, prepare, unit, unit_async
from proofs.pages import Columns
from proofs.results import Profile, Result
from proofs.staged import staged

__all__ = ["CONTROL_TABLE", "NAME", "TABLE", "Cell", "allowed", "cells", "run"]

NAME: Final = "outcome_history"
WORKERS: Final = 8
_UNITS: Final = {"quick": 150, "full": 500}
"""Units of each cell."""
_TIMES: Final[Mapping[str, float]] = {"pysqlite": 24, "aiosqlite": 12, "pymysql": 0.6, "asyncmy": 0.6}
"""By driver, where there are more, since a unit costs less there, or fewer."""
_TIMES_QUICK: Final = {**_TIMES, "pysqlite": 8, "aiosqlite": 4}
_PARTS: Final[Mapping[str, int]] = {"pysqlite": 6, "aiosqlite": 3}
"""Cells of the full profile with seeds of their own, by driver: they run side by side."""
_AT_A_TIME: Final = 6
"""Cells of the full profile that run side by side, each in a process of its own."""
_QUICK: Final = frozenset(
    {
        "pg15/psycopg SERIALIZABLE, cut",
        "pg18/asyncpg (async) REPEATABLE READ, cut",
        "mariadb/pymysql SERIALIZABLE, cut",
        "mariadb/asyncmy (async) REPEATABLE READ, cut",
        "sqlite/pysqlite SERIALIZABLE",
        "sqlite/aiosqlite (async) SERIALIZABLE",
    }
)
_EVERY: Final = 40
"""Units between two kills at the server."""

TABLE: Columns = {
    "cell": "cell",
    "units": "units",
    "transactions": "transactions",
    "committed": "told.committed",
    "rolled back": "told.rolled back",
    "unknown (there)": lambda row: f"{row['told']['unknown']} ({row['unknown_there']})",
    "asked for exact (unknown)": lambda row: f"{row['exact']} ({row['exact_unknown']})",
    "cancelled": "errors.CancelledError",
    "killed": "killed",
    "cut": "cut",
    "not allowed": "wrong",
    "allowed, and seen": lambda row: (
        "; ".join(f"{name}: {count}" for name, count in row["allowed"].items()) or "nothing"
    ),
}

CONTROL_TABLE: Columns = {"history": "cell", "expected": "expected", "of": "of", "found": "found"}

_ALWAYS: Final = frozenset(Anomaly) - {
    Anomaly.ORDERS, Anomaly.FUZZY, Anomaly.LOST_UPDATE, Anomaly.G_SINGLE, Anomaly.G_NONADJACENT, Anomaly.G2_ITEM,
}  # fmt: skip
"""What no level above READ UNCOMMITTED allows."""
_PREVENTED: Final[Mapping[tuple[str, str], frozenset[Anomaly]]] = {
    ("pg", "SERIALIZABLE"): frozenset(Anomaly),
    ("pg", "REPEATABLE READ"): frozenset(Anomaly) - {Anomaly.G2_ITEM},
    ("pg", "READ COMMITTED"): _ALWAYS,
    ("mariadb", "SERIALIZABLE"): frozenset(Anomaly),
    ("mariadb", "REPEATABLE READ"): _ALWAYS | {Anomaly.LOST_UPDATE, Anomaly.ORDERS},
    ("mariadb", "READ COMMITTED"): _ALWAYS,
    ("sqlite", "SERIALIZABLE"): frozenset(Anomaly),
}


def allowed(target: str, level: str) -> frozenset[Anomaly]:
    """What an engine's level does not promise to prevent."""
    return frozenset(Anomaly) - _PREVENTED[mark_of(target), level]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One level on one engine by one driver; `cut`: through a proxy that breaks links at COMMIT."""

    target: str
    driver: str
    asynchronous: bool
    level: str
    cut: bool
    part: int = 1

    def __str__(self) -> str:
        door = " (async)" if self.asynchronous else ""
        part = f", part {self.part}" if self.part > 1 else ""
        return f"{self.target}/{self.driver}{door} {self.level}{', cut' if self.cut else ''}{part}"

    @property
    def guarded(self) -> bool:
        """Only repeated units are told by MariaDB of lost updates at this level."""
        return self.target == "mariadb" and self.level == "REPEATABLE READ"

    @property
    def asked(self) -> dict[str, Any]:
        """What the units ask for."""
        return {} if self.guarded else {"isolation": self.level}


def cells(profile: Profile) -> Iterator[Cell]:
    """What is run: each level at each place, one of them through the proxy."""
    for target in ("mariadb", "pg15", "pg18", "sqlite"):
        levels = [level for mark, level in _PREVENTED if mark == mark_of(target)]
        for drivers, asynchronous in ((SYNC_DRIVERS, False), (ASYNC_DRIVERS, True)):
            for driver in drivers[mark_of(target)]:
                for number, level in enumerate(levels):
                    cut = target != "sqlite" and number == asynchronous
                    for part in range(1, _PARTS.get(driver, 1) + 1):
                        cell = Cell(
                            target=target, driver=driver, asynchronous=asynchronous, level=level, cut=cut, part=part
                        )
                        if profile.wants(str(cell)) and (profile.name != "quick" or str(cell) in _QUICK):
                            yield cell


def run(profile: Profile, seed: int) -> Result:
    """All cells that can be run here, and the controls."""
    rows: list[dict[str, Any]] = []
    control: list[dict[str, Any]] = []
    failures: list[str] = []
    skipped: set[str] = set()
    for cell, row in _rows(profile, seed):
        if row is None:
            skipped.add(cell.target)
            continue
        rows.append(row)
        failures += [f"{cell}: {what}" for what in row["failures"]]
        profile.say(_line(row))
    servers = Servers()
    try:
        for row in staged(servers, skipped):
            control.append(row)
            failures += [f"control {row['cell']}: {row['expected']} was not found"] if not row["found"] else []
            profile.say(f"control: {row}")
    finally:
        servers.close()
    seen = Counter[str]()
    for row in rows:
        seen.update({f"{row['level']}: {name}": count for name, count in row["allowed"].items()})
    if profile.name == "full" and not profile.only:
        failures += [
            f"control: no {anomaly.value} at any {level}"
            for level, anomaly in (("REPEATABLE READ", Anomaly.G2_ITEM), ("READ COMMITTED", Anomaly.LOST_UPDATE))
            if not seen[f"{level}: {anomaly.value}"]
        ]
    counts = {
        what: sum(int(row[what]) for row in rows)
        for what in ("units", "transactions", "wrong", "killed", "cut", "exact", "exact_unknown")
    }
    counts |= {f"told {told}": sum(row["told"][told.value] for row in rows) for told in Told}
    counts |= {f"allowed and seen, {what}": count for what, count in seen.items()}
    return Result(
        name=NAME,
        seed=seed,
        profile=profile.name,
        counts=counts,
        cells=tuple(rows),
        control=tuple(control),
        passed=not failures and bool(rows),
        why="; ".join(failures)
        or f"{counts['transactions']} transactions of {counts['units']} units, nothing that their levels do not allow, "
        f"every told outcome true{'; without ' if skipped else ''}{', '.join(sorted(skipped))}",
    )


def _rows(profile: Profile, seed: int) -> Iterator[tuple[Cell, dict[str, Any] | None]]:
    """The cells and what was found, None where the engine is missing; a few at a time in the full profile."""
    chosen = [(cell, _size(profile, cell)) for cell in cells(profile)]
    if profile.name != "full":
        servers = Servers()
        try:
            for cell, units in chosen:
                yield cell, _tried(cell, servers, units, seed)
        finally:
            servers.close()
        return
    with ProcessPoolExecutor(_AT_A_TIME, mp_context=multiprocessing.get_context("spawn")) as pool:
        known = {cell: profile.recall(str(cell)) for cell, _ in chosen}
        under_way = {cell: pool.submit(_alone, cell, units, seed) for cell, units in chosen if known[cell] is None}
        for cell, _ in chosen:
            row = known[cell]
            if row is None and (row := under_way[cell].result()) is not None:
                profile.keep(str(cell), row)
            yield cell, row


def _size(profile: Profile, cell: Cell) -> int:
    times = _TIMES_QUICK if profile.name == "quick" else _TIMES
    return round(_UNITS.get(profile.name, 150) * times.get(cell.driver, 1))


def _alone(cell: Cell, units: int, seed: int) -> dict[str, Any] | None:
    """A cell in a process that has servers of its own, for all cells that it is given."""
    return _tried(cell, _servers(), units, seed)


@cache
def _servers() -> Servers:
    servers = Servers()
    multiprocessing.util.Finalize(None, servers.close, exitpriority=10)
    return servers


def _tried(cell: Cell, servers: Servers, units: int, seed: int) -> dict[str, Any] | None:
    try:
        servers.shared(cell.target)
    except pytest.skip.Exception:
        return None
    with _silent():
        return run_cell(cell, servers, units, seed)


# -- a cell


def run_cell(cell: Cell, servers: Servers, units: int, seed: int) -> dict[str, Any]:
    """One cell, in a database of its own."""
    seed += 1_000 * (cell.part - 1)
    database = servers.fresh(cell.target)
    try:
        prepare(database.url(), lists=8 + units * 20 // 20)
        record = Record()
        began = time.monotonic()
        with ExitStack() as stack:
            proxy = stack.enter_context(_proxy(cell, database, seed))
            broken = stack.enter_context(_killing(record, database, seed))
            url = proxy.url if proxy is not None else database.url(cell.driver)
            settings = {"databases": {"main": {"url": url, "pool": {"size": WORKERS}}}}
            if cell.asynchronous:
                asyncio.run(_tasks(cell, settings, record, units, seed))
            else:
                _threads(cell, settings, record, units, seed)
            broken["cut"] = sum(isinstance(event, Fired) for event in proxy.events) if proxy is not None else 0
        if cell.target != "sqlite":
            # a statement whose client is gone may wait for a lock for as long as the server lets it
            wait_until(lambda: not database.census(), 60, what="no transaction is under way any more")
        seconds = time.monotonic() - began
        return _told(cell, record, final(database.url()), broken, seconds)
    finally:
        servers.drop(database)


def _threads(cell: Cell, settings: dict[str, Any], record: Record, units: int, seed: int) -> None:
    numbers = iter(range(units))
    lock = threading.Lock()
    with Sessions.from_mapping(settings) as door:

        def work() -> None:
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                what = plan(seed, number, asynchronous=False, begins=not cell.guarded, exact=cell.cut)
                unit(door, record, what, cell.asked)

        workers = [threading.Thread(target=work) for _ in range(WORKERS)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert door.held() == ()


async def _tasks(cell: Cell, settings: dict[str, Any], record: Record, units: int, seed: int) -> None:
    numbers = iter(range(units))
    async with AsyncSessions.from_mapping(settings) as door:

        async def work() -> None:
            for number in numbers:
                what = plan(seed, number, asynchronous=True, begins=not cell.guarded, exact=cell.cut)
                await unit_async(door, record, what, cell.asked)

        await asyncio.gather(*(work() for _ in range(WORKERS)))
        assert door.held() == ()


def _proxy(cell: Cell, database: FreshDatabase, seed: int) -> Any:
    """A proxy that breaks about one COMMIT in thirty: before it reaches the server, after it did, or in its answer."""
    if not cell.cut:
        return nullcontext()
    proxy = FaultProxy.before(database.url(cell.driver), keep=500_000)
    for number, place in enumerate((request("COMMIT"), request("COMMIT", passed="all"), answer("COMMIT"))):
        proxy.plan(Fault(Cut(), place, times=None, probability=0.012, seed=seed + number))
    return proxy


@contextmanager
def _killing(record: Record, database: FreshDatabase, seed: int) -> Iterator[Counter[str]]:
    """End a connection at the server now and then, whatever it does."""
    killed: Counter[str] = Counter()
    server = database.server
    if not isinstance(server, (Postgres, MariaDB)):
        yield killed
        return
    draw = random.Random(f"{seed} kills")
    over = threading.Event()

    def kill() -> None:
        after = _EVERY
        while not over.wait(0.01):
            if record.units < after:
                continue
            after += draw.randint(1, 2 * _EVERY)
            there = database.census()
            if there:
                server.terminate(draw.choice(there))
                killed["killed"] += 1

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield killed
    finally:
        over.set()
        killer.join()


def _told(
    cell: Cell, record: Record, lists: dict[int, tuple[int, ...]], broken: Counter[str], seconds: float
) -> dict[str, Any]:
    history = record.transactions
    findings = check(history, lists)
    may_be = allowed(cell.target, cell.level)
    wrong = [finding for finding in findings if finding.anomaly not in may_be]
    there = {value for values in lists.values() for value in values}
    unknown = [one for one in history if one.told is Told.UNKNOWN]
    return {
        "cell": str(cell),
        "level": cell.level,
        "units": record.units,
        "transactions": len(history),
        "told": {told.value: sum(one.told is told for one in history) for told in Told},
        "unknown_there": sum(any(getattr(op, "value", None) in there for op in one.ops) for one in unknown),
        "exact": sum(record.exact.values()),
        "exact_unknown": record.exact[Told.UNKNOWN.value],
        "errors": dict(record.errors.most_common()),
        "killed": broken["killed"],
        "cut": broken["cut"],
        "appends": len(there),
        "wrong": len(wrong),
        "allowed": _by_kind(finding for finding in findings if finding.anomaly in may_be),
        "seconds": round(seconds, 1),
        "failures": [
            *(f"{finding.anomaly.value}: {finding.what}" for finding in wrong[:5]),
            *(f"an outcome was not told: {what}" for what in record.untold[:5]),
        ],
    }


@contextmanager
def _silent() -> Iterator[None]:
    """What pools and event loops log about connections that were ended by force is not shown."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _by_kind(findings: Any) -> dict[str, int]:
    return dict(Counter(finding.anomaly.value for finding in findings))


def _line(row: Mapping[str, Any]) -> str:
    told = ", ".join(f"{count} {name}" for name, count in row["told"].items())
    seen = ", ".join(f"{name} {count}" for name, count in row["allowed"].items())
    return (
        f"{row['cell']:<46} {row['units']:>6} units, {row['transactions']:>6} transactions: {told}"
        f" ({row['unknown_there']} there); {row['killed']} killed, {row['cut']} cut; {row['wrong']} wrong; {seen}"
        f"  {row['seconds']} s {'; '.join(row['failures'])}"
    )
