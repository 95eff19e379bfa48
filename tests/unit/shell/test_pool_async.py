"""The pool for asyncio: the same order and bounds, and waiters that are cancelled."""

from __future__ import annotations

import asyncio
import statistics
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.util import greenlet_spawn

from polysession._shell import pool as pool_module
from polysession._shell.pool import FairAsyncPool
from polysession.errors import CheckoutTimeout

from .driver import Driver

pytestmark = pytest.mark.asyncio


async def connect(pool: FairAsyncPool) -> Any:
    """Check out, where SQLAlchemy lets its synchronous code wait."""
    return await greenlet_spawn(pool.connect)


async def until_waiting(pool: FairAsyncPool, number: int) -> None:
    """Let the others run until so many wait."""
    for _ in range(1000):
        if len(pool.room.seats.waiters) >= number:
            return
        await asyncio.sleep(0)
    raise AssertionError("they do not wait")


async def test_tasks_are_served_in_the_order_of_asking() -> None:
    """Each returned connection goes to the first waiter."""
    pool = FairAsyncPool(Driver(most=1), pool_size=1, timeout=60.0)
    order: list[int] = []
    first = await connect(pool)

    async def work(me: int) -> None:
        proxy = await connect(pool)
        order.append(me)
        proxy.close()

    tasks = []
    for me in range(5):
        tasks.append(asyncio.create_task(work(me)))
        await until_waiting(pool, me + 1)
    first.close()
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2, 3, 4]


async def test_200_tasks_share_10_connections_fairly() -> None:
    """The slowest task has at least 80 % of the median's turns; never more than 10 connections at once."""
    pool = FairAsyncPool(Driver(most=10), pool_size=10, timeout=60.0)
    turns: Counter[int] = Counter()
    total = iter(range(4000))

    async def work(me: int) -> None:
        for _ in total:
            proxy = await connect(pool)
            await asyncio.sleep(0)
            turns[me] += 1
            proxy.close()

    await asyncio.gather(*(work(me) for me in range(200)))
    assert min(turns[me] for me in range(200)) >= 0.8 * statistics.median(turns.values())
    assert pool.room.seats.total == pool.checkedin() == 10


async def test_the_wait_is_bounded() -> None:
    """After the timeout the error leaves and the waiter is gone from the queue."""
    pool = FairAsyncPool(Driver(), pool_size=1, timeout=0.0)
    first = await connect(pool)
    with pytest.raises(CheckoutTimeout, match="1 of 1 are out"):
        await connect(pool)
    assert not pool.room.seats.waiters
    first.close()


async def test_a_cancelled_waiter_leaves_the_queue() -> None:
    """Those behind it are served as if it had never been there."""
    driver = Driver(most=1)
    pool = FairAsyncPool(driver, pool_size=1, timeout=60.0)
    first = await connect(pool)
    waiters = [asyncio.create_task(connect(pool)) for _ in range(3)]
    await until_waiting(pool, 3)
    waiters[0].cancel()
    waiters[2].cancel()
    await asyncio.wait((waiters[0], waiters[2]))
    assert len(pool.room.seats.waiters) == 1
    first.close()
    (await waiters[1]).close()
    assert (driver.made, pool.checkedin()) == (1, 1)


async def test_a_waiter_that_is_cancelled_when_just_served_passes_the_connection_on() -> None:
    """Served and cancelled in the same turn of the loop: the next one has the connection, and it is still open."""
    driver = Driver(most=1)
    pool = FairAsyncPool(driver, pool_size=1, timeout=60.0)
    first = await connect(pool)
    waiters = [asyncio.create_task(connect(pool)) for _ in range(4)]
    await until_waiting(pool, 4)
    first.close()
    for waiter in waiters[:3]:
        waiter.cancel()
    second = await waiters[3]
    assert [waiter.cancelled() for waiter in waiters[:3]] == [True, True, True]
    assert (driver.made, pool.checkedout()) == (1, 1)
    second.close()


async def test_a_waiter_that_is_cancelled_when_just_given_a_seat_passes_it_on() -> None:
    """The same when it was given the right to open a connection."""
    driver = Driver(most=1)
    pool = FairAsyncPool(driver, pool_size=1, timeout=60.0)
    pool.dispose()  # what comes back is closed, so a seat is handed on
    first = await connect(pool)
    waiters = [asyncio.create_task(connect(pool)) for _ in range(3)]
    await until_waiting(pool, 3)
    first.close()
    waiters[0].cancel()
    waiters[1].cancel()
    (await waiters[2]).close()
    assert (driver.open, pool.room.seats.total) == (0, 0)


async def test_a_connection_returned_by_another_thread_wakes_the_waiter() -> None:
    """The waiter's own loop is woken; nothing waits for the next look."""
    pool = FairAsyncPool(Driver(), pool_size=1, timeout=60.0)
    first = await connect(pool)
    waiter = asyncio.create_task(connect(pool))
    await until_waiting(pool, 1)
    thread = threading.Thread(target=first.close)
    thread.start()
    (await waiter).close()
    thread.join()
    assert pool.checkedin() == 1


async def test_a_waiter_of_a_closed_loop_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its loop is gone: waking it does nothing, and what it was given is taken back."""
    monkeypatch.setattr(pool_module, "_SURELY_LOST", 0.0)
    driver = Driver(most=1)
    pool = FairAsyncPool(driver, pool_size=1, timeout=60.0)
    first = await connect(pool)
    tasks: list[Any] = []

    def elsewhere() -> None:
        loop = asyncio.new_event_loop()
        tasks.append(loop.create_task(connect(pool)))
        loop.run_until_complete(until_waiting(pool, 1))
        loop.close()

    await asyncio.to_thread(elsewhere)
    await asyncio.to_thread(elsewhere)
    tasks[0]._log_destroy_pending = tasks[1]._log_destroy_pending = False  # they never end, on purpose
    first.close()
    assert pool.checkedout() == 1, "it was handed to a waiter that is gone"
    pool._look_for_lost()
    pool._look_for_lost()
    assert not pool.room.seats.waiters
    assert (pool.checkedin(), driver.made) == (1, 1)
    (await connect(pool)).close()


async def test_an_engine_of_sqlalchemy_works_on_it(tmp_path: Path) -> None:
    """With a real driver: more tasks than connections, then dispose closes all, also what comes back later."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}", poolclass=FairAsyncPool, pool_size=2)
    pool = engine.pool
    assert isinstance(pool, FairAsyncPool)

    async def work(number: int) -> int:
        async with engine.connect() as connection:
            return int(await connection.scalar(text(f"select {number}")) or 0)

    assert sum(await asyncio.gather(*map(work, range(20)))) == 190
    assert (pool.checkedin(), pool.checkedout()) == (2, 0)
    async with engine.connect() as connection:
        await connection.scalar(text("select 1"))
        await engine.dispose()
    assert pool.room.seats.total == 0
