"""Opening beside: whoever asks waits no longer than he has, and what is opened too late is of use to somebody else."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.util import await_only, greenlet_spawn
from tests.engines.process import wait_until

from polysession._shell import growing
from polysession._shell import room as room_module
from polysession._shell.control import close_idle
from polysession._shell.pool import FairPool
from polysession._shell.pool_async import FairAsyncPool
from polysession.errors import CheckoutTimeout

from .driver import Connection, Driver


class Stuck(Driver):
    """Does not answer whoever connects until it is told to; `stuck` says how many it keeps waiting from now on."""

    def __init__(self, stuck: int) -> None:
        super().__init__()
        self.stuck = stuck
        self.go_on = threading.Event()

    def __call__(self) -> Connection:
        if self.stuck > 0:
            self.stuck -= 1
            assert self.go_on.wait(30)
        return super().__call__()


class StuckAsync(Stuck):
    """The same for asyncio."""

    def __call__(self) -> Connection:
        if self.stuck > 0:
            self.stuck -= 1
            await_only(asyncio.to_thread(self.go_on.wait, 30))
        return Driver.__call__(self)


def threads(driver: Driver, size: int = 1, timeout: float = 60.0) -> FairPool:
    """A pool whose connections are opened beside, as those to a server are."""
    pool = FairPool(driver, pool_size=size, timeout=timeout)
    pool.opens_here = False
    return pool


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one is begun after a moment."""
    monkeypatch.setattr(growing, "AGAIN", 0.02)


@pytest.fixture
def soon_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody counts on what was begun a moment ago, and no other one is begun beside it."""
    monkeypatch.setattr(room_module, "_SLOW", 0.02)
    monkeypatch.setattr(growing, "AGAIN", 60.0)


def test_who_has_no_more_time_leaves_and_the_connection_comes_into_the_pool() -> None:
    """The error says that the server does not answer; the seat is taken until the connection is there."""
    driver = Stuck(9)
    pool = threads(driver, timeout=0.05)
    began = time.monotonic()
    with pytest.raises(CheckoutTimeout, match="the server does not answer"):
        pool.connect()
    assert time.monotonic() - began < 5
    assert (pool.room.seats.total, pool.checkedin()) == (1, 0)
    driver.go_on.set()
    wait_until(lambda: pool.checkedin() == 1, what="it is there")
    pool.connect().close()
    assert (driver.made, driver.open) == (1, 1)


def test_who_waits_behind_it_is_told_so_too() -> None:
    """Who has no seat is not told that all are out and that more would help, while the server lets nobody in."""
    driver = Stuck(9)
    pool = threads(driver)
    opener = threading.Thread(target=lambda: pool.connect().close())
    opener.start()
    wait_until(lambda: pool.room.stats().opening == 1, what="one is being opened")
    pool.room.timeout = 0.05
    with pytest.raises(CheckoutTimeout, match="1 of 1 is being opened, one for") as told:
        pool.connect()
    assert "and the server does not answer" in str(told.value)
    assert "0 of 1 are out: none" in str(told.value)
    assert "polysession check" in str(told.value)
    assert "raise pool.size" not in str(told.value)
    driver.go_on.set()
    opener.join()


def test_what_is_opened_too_late_is_closed_if_all_was_replaced_meanwhile() -> None:
    """Its opening was begun before, perhaps at another server or with another password: a pool that was drained stays
    empty."""
    driver = Stuck(9)
    pool = threads(driver, timeout=0.05)
    with pytest.raises(CheckoutTimeout):
        pool.connect()
    close_idle([pool.room])
    driver.go_on.set()
    wait_until(lambda: pool.room.seats.total == 0, what="it was there, and was closed")
    assert driver.made >= 1
    assert (driver.open, pool.checkedin()) == (0, 0)


@pytest.mark.usefixtures("short")
def test_another_one_is_begun_beside_one_that_does_not_come() -> None:
    """What is opened first is used; the other one is closed when it is opened after all."""
    driver = Stuck(1)
    pool = threads(driver)
    connection = pool.connect()
    assert driver.made == 1
    driver.go_on.set()
    wait_until(lambda: driver.made == 2, what="the first one is opened too")
    wait_until(lambda: driver.open == 1, what="and closed")
    connection.close()
    assert (pool.checkedin(), pool.room.seats.total) == (1, 1)


@pytest.mark.usefixtures("soon_slow")
def test_nobody_waits_behind_an_opening_that_nobody_waits_for() -> None:
    """Its seat goes to who asks next; if it is opened after all before another one, it serves him."""
    driver = Stuck(1)
    pool = threads(driver, timeout=0.001)
    with pytest.raises(CheckoutTimeout):
        pool.connect()
    pool.room.timeout = 60.0
    pool.connect().close()
    assert (driver.made, pool.checkedin()) == (1, 1)
    driver.go_on.set()
    wait_until(lambda: (driver.made, driver.open) == (2, 1), what="the first one is opened too, and closed")
    assert pool.room.seats.total == 1


@pytest.mark.usefixtures("soon_slow")
def test_a_late_connection_serves_who_waits_for_a_later_one() -> None:
    """The second one who asks has taken the seat, and is stuck as well: he gets the connection of the first."""
    driver = Stuck(99)
    pool = threads(driver, timeout=0.001)
    with pytest.raises(CheckoutTimeout):
        pool.connect()
    pool.room.timeout = 60.0
    got: list[Any] = []
    second = threading.Thread(target=lambda: got.append(pool.connect()))
    second.start()
    wait_until(lambda: driver.stuck == 97, what="he opens too")
    driver.stuck = 0
    driver.go_on.set()
    second.join()
    wait_until(lambda: driver.open == 1, what="the others are closed")
    got.pop().close()
    assert (pool.checkedin(), pool.room.seats.total) == (1, 1)


def test_a_refusal_is_told_at_once() -> None:
    """The driver's error leaves; no seat is lost."""
    driver = Driver()
    driver.fails = OSError
    pool = threads(driver)
    for _ in range(3):
        with pytest.raises(OSError, match="no connection"):
            pool.connect()
    driver.fails = None
    pool.connect().close()
    assert pool.room.seats.total == 1


def test_an_interrupt_leaves_the_opening_alone() -> None:
    """Ctrl-C while it is waited for: the connection comes into the pool."""
    driver = Stuck(1)
    pool = threads(driver)

    def interrupted(claim: Any, seconds: float) -> bool:
        wait_until(lambda: claim.begun, what="somebody is at it")
        raise KeyboardInterrupt

    pool.park = interrupted  # type: ignore[method-assign]  # stands for Ctrl-C
    with pytest.raises(KeyboardInterrupt):
        pool.connect()
    del pool.park
    driver.go_on.set()
    wait_until(lambda: pool.checkedin() == 1, what="it is there")
    assert (driver.made, pool.room.seats.total) == (1, 1)


def test_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then it is opened by who asks."""
    pool = threads(Driver())

    def none_left(work: Callable[[], object], name: str) -> object:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(pool, "beside", none_left)
    pool.connect().close()
    assert pool.checkedin() == 1


@pytest.mark.asyncio
async def test_a_task_that_has_no_more_time_leaves() -> None:
    """The same for asyncio."""
    driver = StuckAsync(9)
    pool = FairAsyncPool(driver, pool_size=1, timeout=0.05)
    with pytest.raises(CheckoutTimeout, match="the server does not answer"):
        await greenlet_spawn(pool.connect)
    assert (pool.room.seats.total, pool.checkedin()) == (1, 0)
    driver.go_on.set()
    await asyncio.wait(pool._besides)
    (await greenlet_spawn(pool.connect)).close()
    assert (driver.made, driver.open, pool.checkedin()) == (1, 1, 1)


@pytest.mark.asyncio
@pytest.mark.usefixtures("short")
async def test_tasks_begin_another_one_beside() -> None:
    """The same for asyncio; the one too many is closed."""
    driver = StuckAsync(1)
    pool = FairAsyncPool(driver, pool_size=1, timeout=60.0)
    connection = await greenlet_spawn(pool.connect)
    driver.go_on.set()
    await asyncio.wait(pool._besides)
    assert (driver.made, driver.open) == (2, 1)
    connection.close()
    assert (pool.checkedin(), pool.room.seats.total) == (1, 1)


@pytest.mark.asyncio
@pytest.mark.usefixtures("soon_slow")
async def test_no_task_waits_behind_an_opening_that_nobody_waits_for() -> None:
    """The same for asyncio."""
    driver = StuckAsync(1)
    pool = FairAsyncPool(driver, pool_size=1, timeout=0.001)
    with pytest.raises(CheckoutTimeout):
        await greenlet_spawn(pool.connect)
    pool.room.timeout = 60.0
    (await greenlet_spawn(pool.connect)).close()
    driver.go_on.set()
    await asyncio.wait(pool._besides)
    assert (driver.made, driver.open, pool.checkedin(), pool.room.seats.total) == (2, 1, 1, 1)
