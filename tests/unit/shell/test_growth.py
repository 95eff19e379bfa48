"""When a pool opens connections: as late as can be, beside those who wait, and not again and again."""

from __future__ import annotations

import asyncio
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.util import await_only, greenlet_spawn
from tests.engines.process import wait_until

from polysession._core.seats import Seats, Ticket
from polysession._shell import pool as pool_module
from polysession._shell import room as room_module
from polysession._shell.claims import Attempt, Growth
from polysession._shell.liveness import life_of
from polysession._shell.pool import FairPool
from polysession._shell.pool_async import FairAsyncPool
from polysession._shell.room import Room

from .driver import Driver


class Slow(Driver):
    """A driver whose `connect()` waits until it is told to go on; the first one does not."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()
        self.go_on = threading.Event()

    def __call__(self) -> Any:
        if self.made:
            self.asked.set()
            assert self.go_on.wait(30)
        return super().__call__()


def elsewhere(work: Any) -> threading.Thread:
    """Run `work` in a thread."""
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_what_comes_back_goes_to_who_waits_while_another_one_is_opened() -> None:
    """Opening takes long: the waiter has the connection that is returned meanwhile, and the new one is kept."""
    driver = Slow()
    pool = FairPool(driver, pool_size=2, timeout=60.0)
    first = pool.connect()
    got: list[Any] = []
    thread = elsewhere(lambda: got.append(pool.connect()))
    assert driver.asked.wait(30)
    link = first.dbapi_connection
    first.close()
    thread.join()
    assert got[0].dbapi_connection is link
    assert (driver.made, pool.checkedout()) == (1, 2), "one is still being opened"
    assert "a connection that is being opened" in [str(claim) for claim in pool.room.holders()]
    driver.go_on.set()
    got.pop().close()
    wait_until(lambda: pool.checkedin() == 2, what="the new one is kept")
    assert driver.made == 2


def test_one_is_opened_beside_those_who_wait() -> None:
    """Nobody returns anything: the one that is opened goes to the first waiter, and then the next one is opened."""
    driver = Driver(most=3)
    pool = FairPool(driver, pool_size=3, timeout=60.0)
    held = [pool.connect()]
    lock = threading.Lock()

    def work() -> None:
        connection = pool.connect()
        with lock:
            held.append(connection)

    for thread in [elsewhere(work), elsewhere(work)]:
        thread.join()
    assert len({id(connection.dbapi_connection) for connection in held}) == 3
    for connection in held:
        connection.close()
    assert (driver.made, pool.checkedin()) == (3, 3)


def test_who_waits_hears_why_none_can_be_opened() -> None:
    """The error of the server leaves where the connection was asked for, and no seat is lost."""
    driver = Driver()
    pool = FairPool(driver, pool_size=2, timeout=60.0)
    first = pool.connect()
    driver.fails = OSError
    for _ in range(3):
        with pytest.raises(OSError, match="no connection"):
            pool.connect()
    driver.fails = None
    second = pool.connect()
    first.close()
    second.close()
    assert (pool.checkedin(), pool.room.seats.total) == (2, 2)


def alternate(seats: int = 4, threads: int = 8, units: int = 30) -> int:
    """So many connections are opened for units that read and write in turn, in more threads than seats."""
    driver = Driver(most=seats)
    room = Room("orders/primary", seats, 60.0)
    read, write = FairPool(driver), FairPool(driver)
    read.join(room, "read")
    write.join(room, "write")
    pause = threading.Event()

    def work(me: int) -> None:
        for turn in range(units):
            connection = (read if (turn + me) % 2 else write).connect()
            pause.wait(0.0005)  # what the unit does
            connection.close()

    for thread in [elsewhere(lambda me=me: work(me)) for me in range(threads)]:
        thread.join()
    assert (room.seats.out(), driver.open) == (0, room.seats.total)
    return driver.made


def test_kinds_that_take_turns_keep_their_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Units that read and write in turn do not close each other's connections; the control does so all the time."""
    monkeypatch.setattr(room_module, "_LEAST_PATIENCE", 60.0)  # as if opening took long, on a busy machine too
    made = alternate()
    monkeypatch.setattr(Seats, "_must_open", lambda seats, ticket: True)
    closing = alternate()
    assert made * 4 < closing, (made, closing)


async def until(what: Callable[[], bool]) -> None:
    """Let the other tasks run until it is so."""
    for _ in range(10_000):
        if what():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never comes")


@pytest.mark.asyncio
async def test_a_task_opens_beside_those_who_wait() -> None:
    """The same with tasks: the returned connection goes to the waiter, the new one is kept; none is left at the end."""
    go_on = asyncio.Event()
    driver = Driver()

    def connect() -> Any:
        if driver.made:
            await_only(go_on.wait())
        return driver()

    pool = FairAsyncPool(connect, pool_size=2, timeout=60.0)
    first: Any = await greenlet_spawn(pool.connect)
    waiter = asyncio.create_task(greenlet_spawn(pool.connect))
    await until(lambda: pool.checkedout() == 2)
    first.close()
    second: Any = await waiter
    assert (driver.made, pool.checkedout()) == (1, 2)
    go_on.set()
    second.close()
    await until(lambda: pool.checkedin() == 2 and not pool._besides)
    assert driver.made == 2


@pytest.mark.asyncio
async def test_a_task_that_opens_and_is_cancelled_loses_no_seat() -> None:
    """At the end of an event loop all tasks are cancelled."""
    driver = Driver()

    def connect() -> Any:
        if driver.made:
            await_only(asyncio.Event().wait())
        return driver()

    pool = FairAsyncPool(connect, pool_size=2, timeout=60.0)
    first: Any = await greenlet_spawn(pool.connect)
    waiter = asyncio.create_task(greenlet_spawn(pool.connect))
    await until(lambda: bool(pool._besides))
    (opener,) = pool._besides
    opener.cancel()
    first.close()
    second: Any = await waiter
    second.close()
    await until(lambda: not pool._besides)
    assert (pool.checkedin(), pool.room.seats.total) == (1, 1)


def test_an_interrupt_as_an_opening_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python tells nobody of an interrupt that comes in a callback for something that is gone, which was not done then.
    The control is a `WeakSet`: what it should have forgotten is in it for ever."""
    ignored: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", ignored.append)

    def interrupt(frame: Any, event: str, argument: Any) -> None:
        if frame.f_code.co_filename.endswith("_weakrefset.py"):
            raise KeyboardInterrupt

    growth = Growth()
    control = weakref.WeakSet([growth])
    sys.settrace(interrupt)
    del growth
    sys.settrace(None)
    assert len(control) == len(ignored) == 1

    pool = FairPool(Driver(), pool_size=1)
    attempt = Attempt()
    claim = attempt.claims(pool, None)
    pool.room.ask(claim)
    growth = pool.room.grows(claim)
    assert claim.is_opening
    sys.settrace(interrupt)
    del growth
    sys.settrace(None)
    assert not claim.is_opening
    del attempt
    assert pool.room.audit() == ([], []), "seen once"
    claim.missing_since = float("-inf")
    assert pool.room.audit() == ([claim], [])


def test_so_many_are_kept_open() -> None:
    """Whoever comes first has the others opened beside; one that ends is opened anew by who comes next."""
    driver = Driver()
    pool = FairPool(driver, pool_size=5, timeout=60.0)
    pool.room.floor = 3
    first = pool.connect()
    wait_until(lambda: pool.room.seats.total == 3 and pool.checkedin() == 2, what="two more are opened")
    first.invalidate()
    first.close()
    pool.connect().close()
    wait_until(lambda: pool.checkedin() == 3, what="another one is opened")
    assert driver.open == 3


def test_a_floor_above_the_size() -> None:
    """There are never more than the size; a pool that is paused opens none."""
    driver = Driver(most=2)
    pool = FairPool(driver, pool_size=2, timeout=60.0)
    pool.room.floor = 9
    pool.connect().close()
    wait_until(lambda: pool.checkedin() == 2, what="it is full")
    pool.room.pause()
    assert not pool.room.seats.prepare(Ticket("any"), 9)


def test_idle_ones_above_the_floor_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """After long idleness, when another one comes back; the floor stays, and what was used just now."""
    driver = Driver()
    pool = FairPool(driver, pool_size=5, timeout=60.0)
    for connection in [pool.connect() for _ in range(5)]:
        connection.close()
    for record in pool.room.seats.idle["any"][:4]:
        life = life_of(record)
        assert life is not None
        life.used_at -= 601.0
    pool.connect().close()
    assert driver.open == 5, "it was looked at a moment ago"
    monkeypatch.setattr(pool_module, "TRIM", 0.0)
    pool.room.floor = 2
    pool.connect().close()
    assert (driver.open, pool.checkedin()) == (2, 2)
