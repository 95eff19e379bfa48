"""Many workers at once: how much is read, and how evenly the connections are shared out.

- *rate*: 16 threads or 64 tasks read a row each time in a unit of its own, over 16 connections, 0.5 ms away.
- *turns*: 64 threads over 10 connections, or up to 10,000 tasks over 20. Each takes one, holds it for a millisecond and
  comes again at once; no statement is sent, so that pools are compared and not what is above them.
"""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
    contextmanager,
)
from importlib import import_module
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, Pool, QueuePool
from sqlalchemy.util import greenlet_spawn

from polysession.pools import FairAsyncPool, FairPool

from . import link, tasks, threads
from .effort import Effort
from .tasks import MakeAsync
from .threads import Make
from .timing import entered, entered_async
from .works import READ, Row, native

__all__ = ["CONNECTIONS", "HOLD", "TASKS", "THREADS", "rate", "rate_async", "turns", "turns_async"]

THREADS: Final = 16
TASKS: Final = 64
CONNECTIONS: Final = 16
LINK: Final = 0.5
"""Milliseconds."""
HOLD: Final = 0.001
_RIVALS: Final = 64
_PATIENCE: Final = 600.0
_OURS: Final = (FairPool, FairAsyncPool)


# -- how much is read


def rate(url: str, where: str, sides: Mapping[str, Make], effort: Effort) -> Iterator[Row]:
    """Reads in a second by threads."""
    with link.through(url, LINK / 1000) as through, ExitStack() as stack:
        works = entered(stack, sides, through, CONNECTIONS)
        found: dict[str, list[float]] = {side: [] for side in works}
        for known in works.values():
            _read_for(known[READ], effort.rate_seconds / 5)
        for _ in range(effort.rate_rounds):
            for side, known in works.items():
                found[side].append(_read_for(known[READ], effort.rate_seconds))
        yield from _rate_rows(where, THREADS, found)


def _read_for(read: Callable[[], Any], seconds: float) -> float:
    done, took = _together(THREADS, seconds, lambda _: read())
    return sum(done) / took


def _together(workers: int, seconds: float, turn: Callable[[int], object]) -> tuple[list[int], float]:
    """Threads that take turn after turn, all from one moment on: how many each had, and the seconds that it took."""
    done = [0] * workers
    start = threading.Barrier(workers + 1)
    ends = [0.0]

    def work(me: int) -> None:
        start.wait()
        while time.monotonic() < ends[0]:
            turn(me)
            done[me] += 1

    crowd = [threading.Thread(target=work, args=(me,)) for me in range(workers)]
    for thread in crowd:
        thread.start()
    began = time.monotonic()
    ends[0] = began + seconds
    start.wait()
    for thread in crowd:
        thread.join()
    return done, time.monotonic() - began


async def rate_async(url: str, where: str, sides: Mapping[str, MakeAsync], effort: Effort) -> list[Row]:
    """Reads in a second by tasks."""
    with link.through(url, LINK / 1000) as through:
        async with AsyncExitStack() as stack:
            works = await entered_async(stack, sides, through, CONNECTIONS)
            found: dict[str, list[float]] = {side: [] for side in works}
            for known in works.values():
                await _read_for_async(known[READ], effort.rate_seconds / 5)
            for _ in range(effort.rate_rounds):
                for side, known in works.items():
                    found[side].append(await _read_for_async(known[READ], effort.rate_seconds))
            return list(_rate_rows(where, TASKS, found))


async def _read_for_async(read: Callable[[], Any], seconds: float) -> float:
    done = [0] * TASKS
    began = time.monotonic()
    ends = began + seconds

    async def work(me: int) -> None:
        while time.monotonic() < ends:
            await read()
            done[me] += 1

    await asyncio.gather(*(work(me) for me in range(TASKS)))
    return sum(done) / (time.monotonic() - began)


def _rate_rows(where: str, workers: int, found: Mapping[str, Sequence[float]]) -> Iterator[Row]:
    for side, rates in found.items():
        low, high = min(rates), max(rates)
        row = {"kind": "rate", "work": READ, "where": where, "side": side, "workers": workers}
        yield {**row, "value": round(statistics.median(rates)), "low": round(low), "high": round(high)}


# -- how evenly connections are shared out

Taken = Callable[[], AbstractContextManager[Any]]
TakenAsync = Callable[[], AbstractAsyncContextManager[Any]]


def turns(url: str, where: str, effort: Effort) -> Iterator[Row]:
    """Threads that compete for 10 connections."""
    size = 10
    pools: dict[str, Callable[[], AbstractContextManager[Taken]]] = {
        threads.OURS: lambda: _of_engine(url, FairPool, size),
        "QueuePool": lambda: _of_engine(url, QueuePool, size),
        threads.POOL: lambda: _psycopg_pool(url, size),
    }
    for side, make in pools.items():
        try:
            with make() as take:
                found = _compete(take, size, effort.turns_seconds)
        except ImportError:
            continue
        yield _turns_row(where, side, size, *found)


def _compete(take: Taken, size: int, seconds: float) -> tuple[list[int], list[float], float]:
    waits: list[list[float]] = [[] for _ in range(_RIVALS)]
    _all_at_once(take, size)

    def turn(me: int) -> None:
        asked = time.monotonic()
        with take():
            waits[me].append(time.monotonic() - asked)
            time.sleep(HOLD)

    done, took = _together(_RIVALS, seconds, turn)
    return done, [wait for mine in waits for wait in mine], took


def _all_at_once(take: Taken, size: int) -> None:
    """Open all connections before the clock runs."""
    with ExitStack() as stack:
        for _ in range(size):
            stack.enter_context(take())


@contextmanager
def _given_back(take: Callable[[], Any]) -> Iterator[Any]:
    connection = take()
    try:
        yield connection
    finally:
        connection.close()


def _bounded(pool: type[Pool]) -> dict[str, int]:
    """What a pool has to be told so that it opens no more connections than its size."""
    return {} if pool in _OURS else {"max_overflow": 0}


@contextmanager
def _of_engine(url: str, pool: type[Pool], size: int) -> Iterator[Taken]:
    engine = sa.create_engine(url, poolclass=pool, pool_size=size, pool_timeout=_PATIENCE, **_bounded(pool))
    try:
        yield lambda: _given_back(engine.raw_connection)
    finally:
        engine.dispose()


@contextmanager
def _psycopg_pool(url: str, size: int) -> Iterator[Taken]:
    pools: Any = import_module("psycopg_pool")
    with pools.ConnectionPool(native(url), min_size=size, max_size=size, timeout=_PATIENCE) as pool:
        yield pool.connection


async def turns_async(url: str, where: str, effort: Effort) -> list[Row]:
    """Tasks that compete for 20 connections."""
    size = 20
    pools: dict[str, Callable[[], AbstractAsyncContextManager[TakenAsync]]] = {
        tasks.OURS: lambda: _of_engine_async(url, FairAsyncPool, size),
        "AsyncAdaptedQueuePool": lambda: _of_engine_async(url, AsyncAdaptedQueuePool, size),
        tasks.ASYNCPG_POOL: lambda: _asyncpg_pool(url, size),
    }
    rows: list[Row] = []
    for side, make in pools.items():
        async with make() as take:
            found = await _compete_async(take, size, effort)
        rows.append(_turns_row(where, side, size, *found))
    return rows


async def _compete_async(take: TakenAsync, size: int, effort: Effort) -> tuple[list[int], list[float], float]:
    done = [0] * effort.tasks
    waits: list[float] = []
    async with AsyncExitStack() as stack:
        for _ in range(size):
            await stack.enter_async_context(take())
    began = time.monotonic()
    ends = began + effort.tasks_seconds

    async def work(me: int) -> None:
        while (asked := time.monotonic()) < ends:
            async with take():
                waits.append(time.monotonic() - asked)
                await asyncio.sleep(HOLD)
            done[me] += 1

    await asyncio.gather(*(work(me) for me in range(effort.tasks)))
    return done, waits, time.monotonic() - began


@asynccontextmanager
async def _given_back_async(engine: Any) -> AsyncIterator[Any]:
    connection = await engine.raw_connection()
    try:
        yield connection
    finally:
        await greenlet_spawn(connection.close)


@asynccontextmanager
async def _of_engine_async(url: str, pool: type[Pool], size: int) -> AsyncIterator[TakenAsync]:
    engine = create_async_engine(url, poolclass=pool, pool_size=size, pool_timeout=_PATIENCE, **_bounded(pool))
    try:
        yield lambda: _given_back_async(engine)
    finally:
        await engine.dispose()


@asynccontextmanager
async def _asyncpg_pool(url: str, size: int) -> AsyncIterator[TakenAsync]:
    import asyncpg

    async with asyncpg.create_pool(native(url), min_size=size, max_size=size) as pool:
        yield pool.acquire


def _turns_row(where: str, side: str, size: int, done: Sequence[int], waits: Sequence[float], seconds: float) -> Row:
    ranked = sorted(waits)
    return {
        "kind": "turns",
        "work": "hold",
        "where": where,
        "side": side,
        "workers": len(done),
        "connections": size,
        "value": round(max(done) / max(1, statistics.median(done)), 2),
        "none": sum(not each for each in done),
        "per_second": round(sum(done) / seconds),
        "wait_99_ms": round(ranked[int(len(ranked) * 0.99)] * 1000, 1),
        "wait_most_ms": round(ranked[-1] * 1000, 1),
    }
