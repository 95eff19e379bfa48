"""Many workers over few connections: as much is done as with the best of the other pools, and nobody is left behind.

200 threads share 10 connections, and 10,000 tasks share 20. Each takes a connection, holds it for 10 ms, gives it back
and comes again at once. The pools take turns, several times and each time beginning with another one, so that what else
the machine does meets all of them. Ours must do as much as the best of the others (within 1 %, which the clock alone
makes), and its slowest worker must have at least 80 % of the turns that the worker in the middle has.

Every pool opens its connections before the clock runs, as those of psycopg and asyncpg do by themselves: how soon one
grows is asked elsewhere (`proofs/spike.py`, `proofs/outage.py`).

The others are SQLAlchemy's `QueuePool` and `AsyncAdaptedQueuePool`, both pools of `psycopg_pool`, and the pool of
asyncpg, whose workers wait without a limit, as is usual there. A round is long enough that each of the 10,000 has six
turns: where each has three, one who misses the last of them, because the round ends, has 67 %. What a connection is
held for is simulated by a sleep, so that pools are compared and not what is above them.
"""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import asyncpg
import psycopg_pool
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, QueuePool
from tests.engines.targets import Servers

from polysession._shell.pool import FairPool
from polysession._shell.pool_async import FairAsyncPool
from proofs.results import Profile, Result, Row

__all__ = ["NAME", "run"]

NAME: Final = "throughput"
HOLD: Final = 0.010
NOISE: Final = 0.01
FAIR: Final = 0.8
_WAITS: Final = 120.0

T = TypeVar("T")
Taken = Callable[[], AbstractContextManager[Any]]
TakenAsync = Callable[[], AbstractAsyncContextManager[Any]]


@dataclass
class _Course:
    """What the workers of one pool have done."""

    pool: str
    turns: list[int] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, turns: list[int], seconds: float) -> None:
        """One more round."""
        self.turns = turns if not self.turns else [a + b for a, b in zip(self.turns, turns, strict=True)]
        self.seconds += seconds

    def row(self, side: str) -> Row:
        """For the record."""
        median = statistics.median(self.turns)
        return {
            "side": side,
            "pool": self.pool,
            "workers": len(self.turns),
            "units": sum(self.turns),
            "units in a second": round(sum(self.turns) / self.seconds),
            "turns, fewest": min(self.turns),
            "turns, median": round(median),
            "turns, most": max(self.turns),
        }


# -- threads


def _round(take: Taken, workers: int, seconds: float) -> list[int]:
    turns = [0] * workers
    start = threading.Barrier(workers + 1)
    ends = [float("inf")]

    def work(me: int) -> None:
        start.wait()
        while time.monotonic() < ends[0]:
            with take():
                time.sleep(HOLD)
            turns[me] += 1

    threads = [threading.Thread(target=work, args=(me,), daemon=True) for me in range(workers)]
    for thread in threads:
        thread.start()
    ends[0] = time.monotonic() + seconds
    start.wait()
    for thread in threads:
        thread.join()
    return turns


@contextmanager
def _of_engine(url: str, pool: Any, size: int) -> Iterator[Taken]:
    alone = {} if issubclass(pool, FairPool) else {"max_overflow": 0}
    engine = sa.create_engine(url, poolclass=pool, pool_size=size, pool_timeout=_WAITS, **alone)

    @contextmanager
    def take() -> Iterator[Any]:
        connection = engine.raw_connection()
        try:
            yield connection
        finally:
            connection.close()

    try:
        for connection in [engine.raw_connection() for _ in range(size)]:
            connection.close()
        yield take
    finally:
        engine.dispose()


@contextmanager
def _of_psycopg(url: str, size: int) -> Iterator[Taken]:
    plain = sa.make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg_pool.ConnectionPool(plain, min_size=size, max_size=size, timeout=_WAITS) as pool:
        pool.wait()
        yield pool.connection


# -- tasks


async def _round_async(take: TakenAsync, workers: int, seconds: float) -> list[int]:
    turns = [0] * workers
    ends = time.monotonic() + seconds

    async def work(me: int) -> None:
        while time.monotonic() < ends:
            async with take():
                await asyncio.sleep(HOLD)
            turns[me] += 1

    await asyncio.gather(*(work(me) for me in range(workers)))
    return turns


@asynccontextmanager
async def _of_async_engine(url: str, pool: Any, size: int) -> AsyncIterator[TakenAsync]:
    alone = {} if issubclass(pool, FairPool) else {"max_overflow": 0}
    engine = create_async_engine(url, poolclass=pool, pool_size=size, pool_timeout=_WAITS, **alone)

    @asynccontextmanager
    async def take() -> AsyncIterator[Any]:
        connection = await engine.raw_connection()
        try:
            yield connection
        finally:
            await asyncio.shield(_closed(connection))

    try:
        for connection in [await engine.raw_connection() for _ in range(size)]:
            await _closed(connection)
        yield take
    finally:
        await engine.dispose()


async def _closed(connection: Any) -> None:
    from sqlalchemy.util import greenlet_spawn

    await greenlet_spawn(connection.close)


@asynccontextmanager
async def _of_asyncpg(url: str, size: int) -> AsyncIterator[TakenAsync]:
    plain = sa.make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    async with asyncpg.create_pool(plain, min_size=size, max_size=size) as pool:
        yield pool.acquire


@asynccontextmanager
async def _of_psycopg_async(url: str, size: int) -> AsyncIterator[TakenAsync]:
    plain = sa.make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    async with psycopg_pool.AsyncConnectionPool(plain, min_size=size, max_size=size, timeout=_WAITS) as pool:
        await pool.wait()
        yield pool.connection


def _threads(url: str, workers: int, size: int, seconds: float, rounds: int) -> list[Row]:
    driver = sa.make_url(url).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
    pools: dict[str, Callable[[], AbstractContextManager[Taken]]] = {
        "FairPool": lambda: _of_engine(driver, FairPool, size),
        "QueuePool": lambda: _of_engine(driver, QueuePool, size),
        "psycopg_pool": lambda: _of_psycopg(url, size),
    }
    courses = {name: _Course(name) for name in pools}
    for first in range(rounds):
        for name, make in _from(pools, first):
            with make() as take:
                began = time.monotonic()
                turns = _round(take, workers, seconds)
                courses[name].add(turns, time.monotonic() - began)
    return [course.row("threads") for course in courses.values()]


def _tasks(url: str, workers: int, size: int, seconds: float, rounds: int) -> list[Row]:
    driver = sa.make_url(url).set(drivername="postgresql+asyncpg").render_as_string(hide_password=False)
    pools: dict[str, Callable[[], AbstractAsyncContextManager[TakenAsync]]] = {
        "FairAsyncPool": lambda: _of_async_engine(driver, FairAsyncPool, size),
        "AsyncAdaptedQueuePool": lambda: _of_async_engine(driver, AsyncAdaptedQueuePool, size),
        "asyncpg": lambda: _of_asyncpg(url, size),
        "psycopg_pool": lambda: _of_psycopg_async(url, size),
    }
    courses = {name: _Course(name) for name in pools}

    async def main() -> None:
        for first in range(rounds):
            for name, make in _from(pools, first):
                async with make() as take:
                    began = time.monotonic()
                    turns = await _round_async(take, workers, seconds)
                    courses[name].add(turns, time.monotonic() - began)

    asyncio.run(main())
    return [course.row("tasks") for course in courses.values()]


def _from(pools: dict[str, T], first: int) -> list[tuple[str, T]]:
    """In another order in each round, so that none comes always after the same."""
    turns = list(pools.items())
    first %= len(turns)
    return turns[first:] + turns[:first]


def run(profile: Profile, seed: int) -> Result:
    """Threads and tasks, each with all pools by turns."""
    quick = profile.name == "quick"
    rows: list[Row] = []
    servers = Servers()
    try:
        url = servers.fresh("pg18").url()
        if profile.wants("threads"):
            rows += _threads(url, 40 if quick else 200, 10, 1.0 if quick else 5.0, 1 if quick else 8)
        if profile.wants("tasks"):
            rows += _tasks(url, 400 if quick else 10_000, 20, 2.0 if quick else 45.0, 1 if quick else 2)
    except pytest.skip.Exception as missing:
        profile.say(f"skipped, {missing}")
    finally:
        servers.close()
    for row in rows:
        profile.say(str(row))
    ours = [row for row in rows if row["pool"].startswith("Fair")]
    others = [row for row in rows if not row["pool"].startswith("Fair")]
    best = {row["side"]: max(o["units in a second"] for o in others if o["side"] == row["side"]) for row in ours}
    as_much = all(row["units in a second"] >= (1 - NOISE) * best[row["side"]] for row in ours)
    fair = all(row["turns, fewest"] >= FAIR * row["turns, median"] for row in ours)
    # a pool that serves a few over and over leaves the one in the middle with next to nothing too
    unfair = any(row["turns, fewest"] < FAIR * row["units"] / row["workers"] for row in others)
    compared = "; ".join(f"{row['side']} {row['units in a second']} against {best[row['side']]}" for row in ours)
    return Result(
        name=NAME,
        seed=seed,
        profile=profile.name,
        counts={"units": sum(row["units"] for row in ours), "units of the others": sum(row["units"] for row in others)},
        cells=tuple(ours),
        control=tuple(others),
        passed=bool(ours) and as_much and fair and unfair,
        why=f"units in a second beside the best of the others: {compared}; the slowest worker had "
        f"{min((100 * row['turns, fewest'] // max(1, row['turns, median']) for row in ours), default=0)} % of the "
        f"turns in the middle at least; with another pool "
        f"{min((100 * row['turns, fewest'] * row['workers'] // max(1, row['units']) for row in others), default=0)} % "
        "of its share",
    )
