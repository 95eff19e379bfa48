"""Contention: 32 workers on one row all end committed, none starves, at twice the rate of repeating at once.

Each unit reads the row as an object, adds a seeded amount and writes it, at a level where a lost update is an error; so
of the units that overlap one commits and the others fail. Three ways of going on are compared in the same run, with the
same amounts, workers and connections:

- *turns*: `run()` as it is. Units of one name take turns.
- *alone*: `run()` with a name of its own for each worker, so that each waits for itself, for a random time that
  doubles.
- *at once*: SQLAlchemy's `sessionmaker` in a loop that repeats at once until the deadline: the control. It must be
  less than half as fast, over all cells and in each in which units fail at all; in the short profile it must need
  twice the attempts, since rates say little on a machine that is busy with other things.

At MariaDB's REPEATABLE READ a lost update is an error only with `innodb_snapshot_isolation`, which `run()` sets and the
control is given too; what happens without it is the last control. With FOR UPDATE, and on SQLite with BEGIN IMMEDIATE
and the door's queue of writers, no unit of ours ever fails. SQLite's control is told not to wait for its lock, since
waiting is not repeating at once. At last 64 tasks and 64 threads write at once to SQLite, beside SQLAlchemy's recipe
for transactions that begin with BEGIN.

A unit is counted as starved if it took more than a third of its deadline. "Attempts" and "waits" are those of units;
"of a worker" is the mean over its units, of the worker that fared best, of the middle one and of the worst.
"""

from __future__ import annotations

import asyncio
import math
import random
import statistics
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker
from tests.engines.targets import ASYNC_DRIVERS, SYNC_DRIVERS, FreshDatabase, Servers, mark_of

from polysession import AsyncSessions, Sessions, is_transient
from proofs.pages import Columns
from proofs.results import Profile, Result

__all__ = ["CONTROL_TABLE", "NAME", "TABLE", "Cell", "cells", "run"]

NAME: Final = "contention"
WORKERS: Final = 32
WRITERS: Final = 64
"""Tasks or threads that write at once to SQLite."""
DEADLINE: Final = 30.0
"""Seconds for each unit, all attempts together."""
_STARVED: Final = DEADLINE / 3
_UNITS_EACH: Final = {"quick": 5, "full": 25}
"""Units of each worker."""
_CONTROL_SECONDS: Final = {"quick": 1.5, "full": 8.0}
"""After these the other ways begin no further unit; their rate is known by then."""
_FASTER: Final = 2.0

TABLE: Columns = {
    "cell": "cell",
    "way": "way",
    "units": "units",
    "committed": "committed",
    "starved": "starved",
    "sum is right": "sum_is_right",
    "per second": "per_second",
    "times the control": "times_control",
    "attempts: mean, most": lambda row: f"{row['attempts_mean']}, {row['attempts_most']}",
    "attempts of a worker: best, middle, worst": lambda row: ", ".join(map(str, row["worker_attempts"])),
    "waits in ms: middle, of 99 %, most": lambda row: ", ".join(map(str, row["waits_ms"])),
    "waits of a worker in ms: best, middle, worst": lambda row: ", ".join(map(str, row["worker_waits_ms"])),
}
CONTROL_TABLE: Columns = {**TABLE, "database is locked": "locked"}


class Base(DeclarativeBase):
    """Of the one table."""


class Counter(Base):
    """The hot row."""

    __tablename__ = "counter"
    id: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One engine, driver and way to keep updates from being lost."""

    target: str
    driver: str
    asynchronous: bool
    level: str
    """An isolation level, or what stands in its place."""

    def __str__(self) -> str:
        return f"{self.target}/{self.driver}{' (async)' if self.asynchronous else ''} {self.level}"

    @property
    def isolation(self) -> str | None:
        """What `run()` is told; None: it knows by itself."""
        return self.level if self.level == "SERIALIZABLE" else None

    @property
    def lock(self) -> bool:
        """The row is read FOR UPDATE."""
        return self.level == _FOR_UPDATE


_FOR_UPDATE: Final = "FOR UPDATE"
_IMMEDIATE: Final = "BEGIN IMMEDIATE"
_LEVELS: Final[Mapping[str, tuple[str, ...]]] = {
    "pg15": ("SERIALIZABLE",),
    "pg18": ("SERIALIZABLE", "REPEATABLE READ"),
    "mariadb": ("REPEATABLE READ", "SERIALIZABLE", _FOR_UPDATE),
    "sqlite": (_IMMEDIATE,),
}
_QUICK: Final = frozenset(
    {
        "sqlite/pysqlite BEGIN IMMEDIATE",
        "sqlite/aiosqlite (async) BEGIN IMMEDIATE",
        "pg15/psycopg SERIALIZABLE",
        "mariadb/asyncmy (async) REPEATABLE READ",
    }
)
"""The cells of the quick profile."""


def cells(profile: Profile) -> Iterator[Cell]:
    """What is run."""
    for target, levels in _LEVELS.items():
        for drivers, asynchronous in ((SYNC_DRIVERS, False), (ASYNC_DRIVERS, True)):
            for driver in drivers[mark_of(target)]:
                for level in levels:
                    cell = Cell(target=target, driver=driver, asynchronous=asynchronous, level=level)
                    if profile.wants(str(cell)) and (profile.name != "quick" or str(cell) in _QUICK):
                        yield cell


@dataclass(slots=True)
class Course:
    """What came of the units, as their workers saw it. Each worker writes to its own list."""

    amounts: list[list[int]]
    attempts: list[list[int]] = field(default_factory=list)
    waits: list[list[float]] = field(default_factory=list)
    committed: int = 0
    added: int = 0
    """What the committed units added."""
    locked: int = 0
    errors: list[str] = field(default_factory=list)
    seconds: float = 0.0
    most: float = math.inf
    """No unit is begun after so many seconds: what is only compared need not come to an end."""

    def __post_init__(self) -> None:
        self.attempts = [[] for _ in self.amounts]
        self.waits = [[] for _ in self.amounts]

    def collect(self, worker: int, amount: int, tries: int, began: float, error: Exception | None) -> None:
        """A unit has ended."""
        self.attempts[worker].append(tries)
        self.waits[worker].append(time.monotonic() - began)
        with _COLLECTING:
            if error is None:
                self.committed += 1
                self.added += amount
            else:
                self.errors.append(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")

    def note(self, error: BaseException) -> None:
        """An attempt has failed."""
        if "database is locked" in str(error):
            with _COLLECTING:
                self.locked += 1


_COLLECTING = threading.Lock()


def _amounts(workers: int, each: int, seed: int) -> list[list[int]]:
    draw = random.Random(seed)
    return [[draw.randint(1, 100) for _ in range(each)] for _ in range(workers)]


def run(profile: Profile, seed: int) -> Result:
    """All cells that can be run here, in each way, and the controls."""
    each = _UNITS_EACH.get(profile.name, 5)
    ours: list[dict[str, Any]] = []
    control: list[dict[str, Any]] = []
    failures: list[str] = []
    skipped: set[str] = set()
    servers = Servers()
    try:
        for cell in cells(profile):
            try:
                servers.shared(cell.target)
            except pytest.skip.Exception:
                skipped.add(cell.target)
                continue
            amounts = _amounts(WORKERS, each, seed)
            rows = {way: _found(cell, way, servers, amounts, profile) for way in ("turns", "alone", "at once")}
            for way, row in rows.items():
                row["times_control"] = round(row["per_second"] / rows["at once"]["per_second"], 1)
                (control if way == "at once" else ours).append(row)
                profile.say(_line(row))
            failures += judge(rows["turns"], rows["at once"], strictly=profile.name == "full")
        for asynchronous in (False, True):
            row, beside = (_write_at_once(servers, way, asynchronous, each, seed) for way in ("turns", "recipe"))
            ours.append(row)
            control.append(beside)
            failures += judge_writers(row, beside)
        if "mariadb" not in skipped:
            control.append(_unguarded(servers, each, seed))
            failures += [] if not control[-1]["sum_is_right"] else ["MariaDB lost no update without its guard"]
        at_once = [row for row in control if row["way"] == "at once"]
        failures += _judge_all(ours, at_once) if profile.name == "full" else judge_attempts(ours, at_once)
    finally:
        servers.close()
    counts = {
        f"{way}: {what}": sum(int(row[what]) for row in rows if row["way"] == way)
        for rows in (ours, control)
        for way in dict.fromkeys(str(row["way"]) for row in rows)
        for what in ("units", "committed", "starved", "locked")
    }
    return Result(
        name=NAME,
        seed=seed,
        profile=profile.name,
        counts=counts,
        cells=tuple(ours),
        control=tuple(control),
        passed=not failures and bool(ours),
        why="; ".join(failures) or _praise(ours, skipped),
    )


def judge(turns: Mapping[str, Any], at_once: Mapping[str, Any], *, strictly: bool) -> list[str]:
    """What is not as promised in a cell."""
    slow = strictly and at_once["attempts_mean"] > 1.5 and turns["times_control"] < _FASTER
    expectations = (
        (
            f"{turns['committed']} of {turns['units']} committed: {turns['errors']}",
            turns["committed"] == turns["units"],
        ),
        (f"{turns['starved']} starved", turns["starved"] == 0),
        ("the sum is wrong", turns["sum_is_right"]),
        (f"only {turns['times_control']} times as fast as repeating at once", not slow),
    )
    return [f"{turns['cell']}: {what}" for what, holds in expectations if not holds]


def judge_writers(row: Mapping[str, Any], recipe: Mapping[str, Any]) -> list[str]:
    """What is not as promised of many writers to SQLite, and whether the control failed as it must."""
    wrong = judge(row, recipe, strictly=False)
    if row["locked"]:
        wrong.append(f"{row['cell']}: {row['locked']} times 'database is locked'")
    if not recipe["locked"]:
        wrong.append(f"{recipe['cell']}: the recipe met no lock")
    return wrong


def _judge_all(ours: Iterable[Mapping[str, Any]], control: Sequence[Mapping[str, Any]]) -> list[str]:
    """Over all cells, so that slow ones count for more."""
    turns = [row for row in ours if row["way"] == "turns" and row["times_control"]]
    each = [sum(row["committed"] for row in rows) / sum(row["seconds"] for row in rows) for rows in (turns, control)]
    return [] if each[0] >= _FASTER * each[1] else [f"{each[0]:.0f} per second over all cells, at once {each[1]:.0f}"]


def judge_attempts(ours: Iterable[Mapping[str, Any]], control: Iterable[Mapping[str, Any]]) -> list[str]:
    """The same by attempts for each unit: on a machine that is busy with other things rates say little, and whoever
    keeps more processes busy gets more of it."""
    wasted = {row["cell"]: row["attempts_mean"] for row in control if row["attempts_mean"] > 1.5}
    return [
        f"{row['cell']}: {row['attempts_mean']} attempts for each unit, at once {wasted[row['cell']]}"
        for row in ours
        if row["way"] == "turns" and row["attempts_mean"] * _FASTER > wasted.get(row["cell"], math.inf)
    ]


def _praise(ours: Iterable[Mapping[str, Any]], skipped: Iterable[str]) -> str:
    turns = [row for row in ours if row["way"] == "turns"]
    slowest = max(row["waits_ms"][-1] for row in turns)
    times = sorted(row["times_control"] for row in turns if row["times_control"])
    without = f"; without {', '.join(sorted(skipped))}" if skipped else ""
    return (
        f"all {sum(row['units'] for row in turns)} units that took turns committed, the slowest after {slowest} ms, "
        f"at {times[0]} to {times[-1]} times the rate of repeating at once{without}"
    )


# -- a cell


def _found(cell: Cell, way: str, servers: Servers, amounts: list[list[int]], profile: Profile) -> dict[str, Any]:
    label = f"{cell} {way}"
    row = profile.recall(label)
    if row is None:
        row = _row(cell, way, servers, amounts, profile)
        profile.keep(label, row)
    return row


def _row(cell: Cell, way: str, servers: Servers, amounts: list[list[int]], profile: Profile) -> dict[str, Any]:
    with _database(cell.target, servers) as (database, total):
        course = Course(amounts)
        if way != "turns":
            course.most = _CONTROL_SECONDS.get(profile.name, 3.0)
        if way == "at once":
            _in_tasks_at_once(cell, database, course) if cell.asynchronous else _at_once(cell, database, course)
        elif cell.asynchronous:
            asyncio.run(_run_async(cell, database, course, alone=way == "alone"))
        else:
            _run(cell, database, course, alone=way == "alone")
        return _told(str(cell), way, course, total())


class _database:  # noqa: N801  # a context manager
    """A database with the row, and a question for its value."""

    def __init__(self, target: str, servers: Servers) -> None:
        self._servers = servers
        self._database = servers.fresh(target)
        self._engine = sa.create_engine(self._database.url(), poolclass=sa.NullPool)

    def __enter__(self) -> tuple[FreshDatabase, Callable[[], int]]:
        Base.metadata.create_all(self._engine)
        with self._engine.begin() as connection:
            connection.execute(sa.insert(Counter).values(id=1, value=0))
        if self._engine.dialect.name == "sqlite":
            with self._engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        return self._database, self._total

    def _total(self) -> int:
        with self._engine.connect() as connection:
            return int(connection.scalar(sa.select(Counter.value)) or 0)

    def __exit__(self, *_: object) -> None:
        self._engine.dispose()
        self._servers.drop(self._database)


def _settings(database: FreshDatabase, cell: Cell, size: int) -> dict[str, Any]:
    pool = {"size": size, "checkout_timeout": DEADLINE}
    return {"databases": {"main": {"url": database.url(cell.driver), "pool": pool}}}


def _run(cell: Cell, database: FreshDatabase, course: Course, *, alone: bool) -> None:
    with Sessions.from_mapping(_settings(database, cell, len(course.amounts))) as door:

        def unit(worker: int, amount: int) -> None:
            tries = 0

            def add(session: Session) -> None:
                nonlocal tries
                tries += 1
                row = session.get_one(Counter, 1, with_for_update=cell.lock or None)
                row.value += amount

            began = time.monotonic()
            failed: Exception | None = None
            try:
                name = f"add {worker}" if alone else None
                door.run(add, isolation=cell.isolation, deadline=DEADLINE, name=name)
            except Exception as error:
                course.note(error)
                failed = error
            course.collect(worker, amount, tries, began, failed)

        _in_threads(course, unit)


async def _run_async(cell: Cell, database: FreshDatabase, course: Course, *, alone: bool) -> None:
    async with AsyncSessions.from_mapping(_settings(database, cell, len(course.amounts))) as door:

        async def unit(worker: int, amount: int) -> None:
            tries = 0

            async def add(session: Any) -> None:
                nonlocal tries
                tries += 1
                row = await session.get_one(Counter, 1, with_for_update=cell.lock or None)
                row.value += amount

            began = time.monotonic()
            failed: Exception | None = None
            try:
                name = f"add {worker}" if alone else None
                await door.run(add, isolation=cell.isolation, deadline=DEADLINE, name=name)
            except Exception as error:
                course.note(error)
                failed = error
            course.collect(worker, amount, tries, began, failed)

        await _in_tasks(course, unit)


def _in_threads(course: Course, unit: Callable[[int, int], None]) -> None:
    together = threading.Barrier(len(course.amounts) + 1)

    def work(worker: int) -> None:
        together.wait()
        until = time.monotonic() + course.most
        for amount in course.amounts[worker]:
            if time.monotonic() < until:
                unit(worker, amount)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(len(course.amounts))]
    for thread in threads:
        thread.start()
    together.wait()
    began = time.monotonic()
    for thread in threads:
        thread.join()
    course.seconds = time.monotonic() - began


async def _in_tasks(course: Course, unit: Callable[[int, int], Awaitable[None]]) -> None:
    async def work(worker: int) -> None:
        for amount in course.amounts[worker]:
            if time.monotonic() < began + course.most:
                await unit(worker, amount)

    began = time.monotonic()
    await asyncio.gather(*map(work, range(len(course.amounts))))
    course.seconds = time.monotonic() - began


# -- the controls


def _plain(
    cell: Cell, database: FreshDatabase, size: int, *, immediate: bool = True, guarded: bool = True
) -> dict[str, Any]:
    """Arguments for SQLAlchemy's own engine that gives the same isolation."""
    arguments: dict[str, Any] = {"pool_size": size, "max_overflow": 0, "pool_timeout": DEADLINE}
    if cell.target == "sqlite":
        arguments["connect_args"] = {"timeout": 0} if immediate else {}
    elif not cell.lock:
        arguments["isolation_level"] = cell.level
    return arguments


def _prepared(engine: sa.Engine, cell: Cell, begin: str, *, guarded: bool = True) -> None:
    if cell.target == "sqlite":

        @sa.event.listens_for(engine, "connect")
        def leave_transactions_to_us(connection: Any, _: Any) -> None:
            connection.isolation_level = None

        @sa.event.listens_for(engine, "begin")
        def say_begin(connection: sa.Connection) -> None:
            connection.exec_driver_sql(begin)

    elif cell.target == "mariadb" and cell.level == "REPEATABLE READ" and guarded:

        @sa.event.listens_for(engine, "connect")
        def refuse_lost_updates(connection: Any, _: Any) -> None:
            cursor = connection.cursor()
            cursor.execute("SET SESSION innodb_snapshot_isolation = ON")
            cursor.close()


def _at_once(
    cell: Cell,
    database: FreshDatabase,
    course: Course,
    *,
    begin: str = _IMMEDIATE,
    guarded: bool = True,
    repeats: bool = True,
) -> None:
    arguments = _plain(cell, database, len(course.amounts), immediate=begin == _IMMEDIATE)
    engine = sa.create_engine(database.url(cell.driver), **arguments)
    _prepared(engine, cell, begin, guarded=guarded)
    maker = sessionmaker(engine)

    def unit(worker: int, amount: int) -> None:
        tries, began = 0, time.monotonic()
        failed: Exception | None = None
        while True:
            tries += 1
            try:
                with maker.begin() as session:
                    session.get_one(Counter, 1, with_for_update=cell.lock or None).value += amount
            except Exception as error:
                course.note(error)
                if repeats and _goes_on(error, began):
                    continue
                failed = error
            break
        course.collect(worker, amount, tries, began, failed)

    _in_threads(course, unit)
    engine.dispose()


def _in_tasks_at_once(
    cell: Cell, database: FreshDatabase, course: Course, *, begin: str = _IMMEDIATE, repeats: bool = True
) -> None:
    async def run() -> None:
        arguments = _plain(cell, database, len(course.amounts), immediate=begin == _IMMEDIATE)
        engine: AsyncEngine = create_async_engine(database.url(cell.driver), **arguments)
        _prepared(engine.sync_engine, cell, begin)
        maker = async_sessionmaker(engine)

        async def unit(worker: int, amount: int) -> None:
            tries, began = 0, time.monotonic()
            failed: Exception | None = None
            while True:
                tries += 1
                try:
                    async with maker.begin() as session:
                        (await session.get_one(Counter, 1, with_for_update=cell.lock or None)).value += amount
                except Exception as error:
                    course.note(error)
                    if repeats and _goes_on(error, began):
                        continue
                    failed = error
                break
            course.collect(worker, amount, tries, began, failed)

        await _in_tasks(course, unit)
        await engine.dispose()

    asyncio.run(run())


def _goes_on(error: Exception, began: float) -> bool:
    """As the caller of SQLAlchemy's sessions would: everything that may vanish, a conflict at COMMIT included."""
    passing = is_transient(error) or getattr(getattr(error, "orig", None), "sqlstate", "") == "40001"
    return passing and time.monotonic() - began < DEADLINE


def _write_at_once(servers: Servers, way: str, asynchronous: bool, each: int, seed: int) -> dict[str, Any]:
    """Many writers to SQLite: ours by `begin()`, which repeats nothing, beside SQLAlchemy's recipe."""
    driver = (ASYNC_DRIVERS if asynchronous else SYNC_DRIVERS)["sqlite"][0]
    cell = Cell(target="sqlite", driver=driver, asynchronous=asynchronous, level=f"{WRITERS} at once")
    with _database("sqlite", servers) as (database, total):
        course = Course(_amounts(WRITERS, each, seed))
        if way == "recipe":
            (_in_tasks_at_once if asynchronous else _at_once)(cell, database, course, begin="BEGIN", repeats=False)
        elif asynchronous:
            asyncio.run(_begin_async(cell, database, course))
        else:
            _begin(cell, database, course)
        return _told(str(cell), way, course, total()) | {"times_control": ""}


def _begin(cell: Cell, database: FreshDatabase, course: Course) -> None:
    with Sessions.from_mapping(_settings(database, cell, len(course.amounts))) as door:

        def unit(worker: int, amount: int) -> None:
            began = time.monotonic()
            failed: Exception | None = None
            try:
                with door.begin(deadline=DEADLINE) as session:
                    session.get_one(Counter, 1).value += amount
            except Exception as error:
                course.note(error)
                failed = error
            course.collect(worker, amount, 1, began, failed)

        _in_threads(course, unit)


async def _begin_async(cell: Cell, database: FreshDatabase, course: Course) -> None:
    async with AsyncSessions.from_mapping(_settings(database, cell, len(course.amounts))) as door:

        async def unit(worker: int, amount: int) -> None:
            began = time.monotonic()
            failed: Exception | None = None
            try:
                async with door.begin(deadline=DEADLINE) as session:
                    (await session.get_one(Counter, 1)).value += amount
            except Exception as error:
                course.note(error)
                failed = error
            course.collect(worker, amount, 1, began, failed)

        await _in_tasks(course, unit)


def _unguarded(servers: Servers, each: int, seed: int) -> dict[str, Any]:
    """MariaDB's REPEATABLE READ as it is without the guard: no error, and a wrong sum."""
    cell = Cell(target="mariadb", driver="pymysql", asynchronous=False, level="REPEATABLE READ")
    with _database("mariadb", servers) as (database, total):
        course = Course(_amounts(WORKERS, each, seed))
        _at_once(cell, database, course, guarded=False)
        return _told(f"{cell}, unguarded", "unguarded", course, total()) | {"times_control": ""}


# -- figures


def _told(cell: str, way: str, course: Course, total: int) -> dict[str, Any]:
    attempts = [count for worker in course.attempts for count in worker]
    waits = sorted(wait for worker in course.waits for wait in worker)
    return {
        "cell": cell,
        "way": way,
        "units": len(attempts),
        "committed": course.committed,
        "starved": sum(wait > _STARVED for wait in waits),
        "sum_is_right": total == course.added,
        "seconds": round(course.seconds, 3),
        "per_second": round(course.committed / course.seconds),
        "attempts_mean": round(statistics.mean(attempts), 2),
        "attempts_most": max(attempts),
        "attempts": {str(count): attempts.count(count) for count in sorted(set(attempts))},
        "worker_attempts": _spread([round(statistics.mean(counts), 1) for counts in course.attempts]),
        "waits_ms": [_ms(waits[len(waits) // 2]), _ms(waits[int(len(waits) * 0.99)]), _ms(waits[-1])],
        "worker_waits_ms": _spread([_ms(statistics.mean(each)) for each in course.waits]),
        "locked": course.locked,
        "errors": course.errors[:5],
    }


def _spread(values: Iterable[Any]) -> list[Any]:
    ordered = sorted(values)
    return [ordered[0], ordered[len(ordered) // 2], ordered[-1]]


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _line(row: Mapping[str, Any]) -> str:
    return (
        f"{row['cell']:<48} {row['way']:<8} {row['committed']:>5} of {row['units']:<5} {row['per_second']:>5}/s"
        f" ({row['times_control']} x)  attempts {row['attempts_mean']} (most {row['attempts_most']})"
        f"  waits {row['waits_ms']} ms  {'' if row['sum_is_right'] else 'WRONG SUM'} {'; '.join(row['errors'][:1])}"
    )
