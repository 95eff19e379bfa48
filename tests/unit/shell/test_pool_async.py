"""The pool for asyncio: the same order and bounds, and waiters that are cancelled."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.util import await_only, greenlet_spawn

from polysession import AsyncSessions
from polysession._shell import room as room_module
from polysession._shell.pool_async import FairAsyncPool
from polysession.errors import CheckoutTimeout

from .driver import Driver, Line

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
    """Who waits is served in the order of asking; never more than 10 connections at once."""
    pool = FairAsyncPool(Driver(most=10), pool_size=10, timeout=60.0)
    held = [await connect(pool) for _ in range(10)]
    line = pool.room.seats.waiters = Line()
    total = iter(range(4000))

    async def work() -> None:
        for _ in total:
            proxy = await connect(pool)
            await asyncio.sleep(0)
            proxy.close()

    tasks = [asyncio.create_task(work()) for _ in range(200)]
    await until_waiting(pool, 200)
    for proxy in held:
        proxy.close()
    await asyncio.gather(*tasks)
    assert len(line.served_in_turn) >= 200
    assert line.served_in_turn == line.asked_in_turn
    assert pool.room.seats.total == pool.checkedin() == 10


async def test_thousands_who_wait_share_a_few_timers() -> None:
    """They are woken together to look again; who was served or has left sleeps no more."""
    pool = FairAsyncPool(Driver(most=1), pool_size=1, timeout=60.0)
    first = await connect(pool)

    async def work() -> None:
        (await connect(pool)).close()

    tasks = [asyncio.create_task(work()) for _ in range(1000)]
    await until_waiting(pool, 1000)
    assert sum(len(bell.sleepers) for bell in pool._bells.values()) == 1000
    assert len(pool._bells) < 200
    for task in tasks[:500]:
        task.cancel()
    first.close()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert ends == [*(end for end in ends[:500] if isinstance(end, asyncio.CancelledError)), *[None] * 500]
    assert not any(bell.sleepers for bell in pool._bells.values())


async def test_nobody_sleeps_by_the_timer_of_a_closed_loop() -> None:
    """What was to be woken in a loop that was closed is not taken for a timer of this one."""
    pool = FairAsyncPool(Driver(most=1), pool_size=1, timeout=60.0)
    closed, loop = asyncio.new_event_loop(), asyncio.get_running_loop()
    closed.call_later = closed.call_at = lambda *_: None  # type: ignore[assignment] # it never rings
    theirs = [pool._bell(closed, seconds) for seconds in (1.0, 1.0 + 1 / 32, 1.0 + 2 / 32)]
    closed.close()
    assert not any(pool._bell(loop, 1.0) is sleepers for sleepers in theirs)


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


class SlowDriver(Driver):
    """Connects when it is told to."""

    def __init__(self) -> None:
        super().__init__(most=1)
        self.go_on = asyncio.Event()
        self.interrupted = False

    def __call__(self) -> Any:
        """Connect. A cancellation would interrupt it."""
        try:
            await_only(self.go_on.wait())
        except asyncio.CancelledError:
            self.interrupted = True
            raise
        return super().__call__()


async def test_a_cancellation_does_not_interrupt_the_opening() -> None:
    """Whoever asked leaves at once; the connection comes into the pool when it is open; its seat is taken till then."""
    driver = SlowDriver()
    pool = FairAsyncPool(driver, pool_size=1, timeout=60.0)
    first = asyncio.create_task(connect(pool))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait((first,))
    assert first.cancelled()
    assert pool.room.seats.total == 1
    second = asyncio.create_task(connect(pool))
    await until_waiting(pool, 1)
    driver.go_on.set()
    (await second).close()
    assert (driver.made, driver.interrupted, pool.checkedin()) == (1, False, 1)


async def test_an_opening_that_fails_for_nobody_frees_its_seat() -> None:
    """The next one opens a connection of its own."""
    driver = SlowDriver()
    pool = FairAsyncPool(driver, pool_size=1, timeout=60.0)
    first = asyncio.create_task(connect(pool))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait((first,))
    second = asyncio.create_task(connect(pool))
    await until_waiting(pool, 1)
    driver.fails = OSError
    driver.go_on.set()
    with pytest.raises(OSError, match="no connection"):
        await second  # it opened on the seat that came free, and failed on its own account
    assert pool.room.seats.total == 0


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
    monkeypatch.setattr(room_module, "_SURELY_LOST", 0.0)
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
    for task in tasks:  # as for one who has looked before it was closed
        monkeypatch.setattr(task.get_loop(), "is_closed", lambda: False)
    first.close()
    monkeypatch.undo()
    monkeypatch.setattr(room_module, "_SURELY_LOST", 0.0)
    assert pool.checkedout() == 1, "it was handed to a waiter that is gone"
    pool.look_for_lost()
    pool.look_for_lost()
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
    assert pool.checkedout() == 0
    assert 1 <= pool.checkedin() <= 2, "a second one is opened only if none comes back before"
    async with engine.connect() as connection:
        await connection.scalar(text("select 1"))
        await engine.dispose()
    assert pool.room.seats.total == 0


async def test_who_connects_first_lets_the_loop_run(tmp_path: Path) -> None:
    """Two first connections of an engine wait for each other, and nobody else waits for them."""
    async with AsyncSessions(f"sqlite+aiosqlite:///{tmp_path / 'first.db'}") as door:
        async with door.begin():
            engine = next(iter(door._ready_engines._sets[0].engines.values()))
        pool: Any = getattr(engine, "sync_engine", engine).pool
        async with asyncio.timeout(30):
            both = await asyncio.gather(*(greenlet_spawn(pool._create_connection) for _ in range(2)))
        for record in both:
            await greenlet_spawn(record.close)
