"""What a unit of work and a statement cost over SQLAlchemy's own session: CPU time of this process, and calls.

Both sides run in turns in one process: a turn times a few units of ours and as many of SQLAlchemy's, in changing order,
so that whatever else the machine does in these few milliseconds meets both. What counts is the median of the
differences within the turns, with the interval in which the median of very many turns lies in 95 of 100 cases (by their
ranks; nothing is assumed about how they are spread). Beside the time stand the calls of Python functions and the
bytecodes, counted once by the interpreter: they are the same on every machine, and a test holds them.

An empty unit sends nothing at either side. Rows of statements compare one further statement inside a unit, not the unit
around it, with one in a session of `sessionmaker().begin()` on the same server. A read unit runs its statements each on
its own, so its statements are compared with those of a session on an engine in AUTOCOMMIT, which does the same. Whole
units of one and of ten statements are compared with `sessionmaker().begin()` in any case: what a program would have
written without us. On SQLite the driver begins no transaction for a query, so there a write unit that only reads does
more than the session beside it; one that writes does the same.
"""

from __future__ import annotations

import asyncio
import gc
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import sessionmaker

import polysession
from polysession import AsyncSessions, Sessions

__all__ = ["BOUNDS", "Counted", "Pair", "count", "count_async", "measure", "places", "with_tasks", "with_threads"]

TURNS: Final = 40
"""Turns in each round; ten where a unit has ten statements."""
UNITS: Final = 10
"""Units or statements of each side in a turn; three units where they have ten statements."""
BOUNDS: Final = {"unit": 25.0, "statement": 2.0, "unit of 1": 27.0, "unit of 10": 45.0}
"""Microseconds of CPU that may be added."""
LENGTHS: Final = (1, 10)
"""Statements of the whole units."""
_ONE = text("select 1")
_PATIENT: Final = {"checkout_timeout": 120.0}
"""Where instructions are counted, a connection takes many seconds to be opened."""
_TABLE = (
    "drop table if exists measured",
    "create table measured (id integer primary key, value integer)",
    "insert into measured values (1, 0)",
)
_CHANGE = text("update measured set value = value + 1 where id = 1")
_OWN = str(Path(polysession.__file__).parent)

T = TypeVar("T")
Row = dict[str, object]
Turn = tuple[float, float]
"""What a unit took in one turn, ours and SQLAlchemy's."""
Work = Callable[[], object]
Pair = tuple[str, str, Any, Any]
"""What is compared: its name, its bound, ours, SQLAlchemy's."""


def measure(rounds: int) -> list[Row]:
    """The rows of the table, for SQLite and for the servers that are there."""
    rows: list[Row] = []
    for name, sync, asynchronous in places():
        if sync is not None:
            with with_threads(sync) as pairs:
                rows += [_row(f"{what}, {name}", bound, rounds, ours, plain) for what, bound, ours, plain in pairs]
        if asynchronous is not None:
            rows += asyncio.run(_measure_tasks(name, asynchronous, rounds))
    return rows


def places() -> Iterator[tuple[str, str | None, str | None]]:
    """What is measured: its name, and the addresses for the two doors."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "benchmark.db"
        yield "SQLite", f"sqlite:///{path}", f"sqlite+aiosqlite:///{path}"
    for target, drivers in _SERVERS.items():
        with _server(target) as database:
            for driver, has_sync, has_async in drivers if database is not None else ():
                url = database.url(driver)
                yield f"{_NAMES[target]} by {driver}", url if has_sync else None, url if has_async else None


_SERVERS: Final = {
    "pg18": (("psycopg", True, True), ("asyncpg", False, True)),
    "mariadb": (("pymysql", True, False), ("asyncmy", False, True)),
}
_NAMES: Final = {"pg18": "PostgreSQL", "mariadb": "MariaDB"}


@contextmanager
def _server(target: str) -> Iterator[Any]:
    """A database of a server of the tests' own; None if there is no server."""
    import pytest
    from tests.engines.targets import Servers

    servers = Servers()
    try:
        yield servers.fresh(target)
    except pytest.skip.Exception as missing:
        print(missing, file=sys.stderr)
        yield None
    finally:
        servers.close()


@contextmanager
def with_threads(url: str) -> Iterator[Iterator[Pair]]:
    """What is compared at the synchronous door; the statements' units are open while their pair is used."""
    engine = create_engine(url)
    plain = sessionmaker(engine)
    alone_engine = create_engine(url, isolation_level="AUTOCOMMIT")
    alone = sessionmaker(alone_engine)
    with Sessions({"default": {"url": url, "pool": _PATIENT}}) as sessions:

        def whole(door: Any, number: int) -> Work:
            def unit() -> None:
                with door() as session:
                    for _ in range(number):
                        session.execute(_ONE).all()

            return unit

        def changing(door: Any) -> Work:
            def unit() -> None:
                with door() as session:
                    session.execute(_CHANGE)

            return unit

        def pairs() -> Iterator[Pair]:
            verbs = (("begin", sessions.begin, plain), ("read", sessions.read, alone))
            for what, verb, _ in verbs:
                yield f"unit, {what}", "unit", whole(verb, 0), whole(plain.begin, 0)
            for what, verb, like in verbs:
                with verb() as ours, like.begin() as theirs:
                    yield f"statement, {what}", "statement", _executing(ours), _executing(theirs)
            for number in LENGTHS:
                for what, verb, _ in verbs:
                    name = f"unit of {number}"
                    yield f"{name}, {what}", name, whole(verb, number), whole(plain.begin, number)
            with alone_engine.connect() as connection:
                for statement in _TABLE:
                    connection.exec_driver_sql(statement)
            yield "unit of 1 that writes, begin", "unit of 1", changing(sessions.begin), changing(plain.begin)

        try:
            yield pairs()
        finally:
            engine.dispose()
            alone_engine.dispose()


def _executing(session: Any) -> Work:
    session.execute(_ONE).all()
    return lambda: session.execute(_ONE).all()


async def with_tasks(url: str, use: Callable[[Pair], Awaitable[None]]) -> None:
    """The same at the asynchronous door: each pair is given to `use`."""
    engine = create_async_engine(url)
    plain = async_sessionmaker(engine)
    alone_engine = create_async_engine(url, isolation_level="AUTOCOMMIT")
    alone = async_sessionmaker(alone_engine)
    async with AsyncSessions({"default": {"url": url, "pool": _PATIENT}}) as sessions:

        def whole(door: Any, number: int) -> Callable[[], Awaitable[None]]:
            async def unit() -> None:
                async with door() as session:
                    for _ in range(number):
                        (await session.execute(_ONE)).all()

            return unit

        def changing(door: Any) -> Callable[[], Awaitable[None]]:
            async def unit() -> None:
                async with door() as session:
                    await session.execute(_CHANGE)

            return unit

        verbs = (("async begin", sessions.begin, plain), ("async read", sessions.read, alone))
        for what, verb, _ in verbs:
            await use((f"unit, {what}", "unit", whole(verb, 0), whole(plain.begin, 0)))
        for what, verb, like in verbs:
            async with verb() as ours, like.begin() as theirs:
                pair = await _awaiting(ours), await _awaiting(theirs)
                await use((f"statement, {what}", "statement", *pair))
        for number in LENGTHS:
            for what, verb, _ in verbs:
                name = f"unit of {number}"
                await use((f"{name}, {what}", name, whole(verb, number), whole(plain.begin, number)))
        async with alone_engine.connect() as connection:
            for statement in _TABLE:
                await connection.exec_driver_sql(statement)
        pair = changing(sessions.begin), changing(plain.begin)
        await use(("unit of 1 that writes, async begin", "unit of 1", *pair))
    await engine.dispose()
    await alone_engine.dispose()


async def _awaiting(session: Any) -> Callable[[], Awaitable[Any]]:
    async def execute() -> None:
        (await session.execute(_ONE)).all()

    await execute()
    return execute


async def _measure_tasks(name: str, url: str, rounds: int) -> list[Row]:
    rows: list[Row] = []

    async def use(pair: Pair) -> None:
        what, bound, ours, plain = pair
        turns: list[Turn] = []
        for number, units in _turns(bound, rounds):
            first, second = _order(number, ours, plain)
            turns.append(_order(number, await _timed_async(first, units), await _timed_async(second, units)))
        calls = (await count_async(ours), await count_async(plain))
        rows.append(_told(f"{what}, {name}", bound, turns, calls))

    await with_tasks(url, use)
    return rows


def _row(name: str, bound: str, rounds: int, ours: Work, plain: Work) -> Row:
    turns: list[Turn] = []
    for number, units in _turns(bound, rounds):
        first, second = _order(number, ours, plain)
        turns.append(_order(number, _timed(first, units), _timed(second, units)))
    return _told(name, bound, turns, (count(ours), count(plain)))


def _turns(bound: str, rounds: int) -> Iterator[tuple[int, int]]:
    """The number of each turn, and how many units each side does in it."""
    number, units = (TURNS // 4, 3) if bound == "unit of 10" else (TURNS, UNITS)
    return ((turn, units) for turn in range(rounds * number))


def _order(number: int, ours: T, plain: T) -> tuple[T, T]:
    """Every other turn begins with SQLAlchemy's; called once more, it puts what came of it back into order."""
    return (ours, plain) if number % 2 == 0 else (plain, ours)


def _timed(work: Work, units: int) -> float:
    began = time.process_time_ns()
    for _ in range(units):
        work()
    return (time.process_time_ns() - began) / units / 1000


async def _timed_async(work: Callable[[], Awaitable[object]], units: int) -> float:
    began = time.process_time_ns()
    for _ in range(units):
        await work()
    return (time.process_time_ns() - began) / units / 1000


class Counted:
    """What Python does in this thread while it is entered: the bytecodes that it executes, the calls of Python
    functions, and those of them that are this package's own."""

    def __init__(self) -> None:
        self.bytecodes = 0
        self.calls = 0
        self.own = 0
        self._collects = False

    def __enter__(self) -> Counted:
        self._collects = gc.isenabled()
        gc.disable()  # what it calls belongs to nobody
        sys.settrace(self._seen)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)
        if self._collects:
            gc.enable()

    def _seen(self, frame: Any, event: str, argument: Any) -> Any:
        if event == "call":
            if frame.f_code is Counted.__exit__.__code__:
                return None
            self.calls += 1
            self.own += frame.f_code.co_filename.startswith(_OWN)
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        elif event == "opcode":
            self.bytecodes += 1
        return self._seen


def count(work: Work) -> Counted:
    """The calls and bytecodes of one unit or statement, when everything that is cached is."""
    for _ in range(3):
        work()
    with Counted() as counted:
        work()
    return counted


async def count_async(work: Callable[[], Awaitable[object]]) -> Counted:
    """The same for asyncio; a task that is resumed counts as a call."""
    for _ in range(3):
        await work()
    with Counted() as counted:
        await work()
    return counted


def _told(name: str, bound: str, turns: Sequence[Turn], calls: tuple[Counted, Counted]) -> Row:
    mine, plain = (statistics.median(side) for side in zip(*turns, strict=True))
    more, least, most = _median([ours - theirs for ours, theirs in turns])
    return {
        "what": name,
        "polysession_us": round(mine, 1),
        "sqlalchemy_us": round(plain, 1),
        "more_us": round(more, 1),
        "least_us": round(least, 1),
        "most_us": round(most, 1),
        "bound_us": BOUNDS[bound],
        "ratio": round(mine / plain, 2),
        "bytecodes": calls[0].bytecodes,
        "sqlalchemy_bytecodes": calls[1].bytecodes,
        "calls": calls[0].calls,
        "own_calls": calls[0].own,
        "sqlalchemy_calls": calls[1].calls,
    }


def _median(values: Sequence[float]) -> tuple[float, float, float]:
    """The median, and the bounds within which it lies in 95 of 100 cases: by the ranks of the values around it."""
    ordered = sorted(values)
    middle, aside = len(ordered) / 2, 0.98 * math.sqrt(len(ordered))
    least, most = max(0, math.floor(middle - aside)), min(len(ordered) - 1, math.ceil(middle + aside))
    return statistics.median(ordered), ordered[least], ordered[most]
