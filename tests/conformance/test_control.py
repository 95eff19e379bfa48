"""Steering pools"""

from __future__ import annotations

import inspect
import threading
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from polysession import AsyncSessions, Sessions
from polysession.errors import CheckoutTimeout, DeadlineExceeded, RequestRefused, UnknownDatabase

from .cells import Cell, also_pooled

ONE = sa.text("select 1")


async def one(door: AsyncSessions) -> int:
    """A unit that asks for a connection."""
    async with door.begin() as session:
        return int(await session.scalar(ONE) or 0)


def stats(door: AsyncSessions) -> Any:
    """Of the only endpoint."""
    (found,) = door.stats()
    return found


@also_pooled
async def test_a_paused_database_serves_nobody(cell: Cell) -> None:
    """Who asks waits within his time and is told that it is paused; what is out goes on; resume() serves who waits."""
    door = cell.door(pool={"size": 2, "checkout_timeout": "20s"})
    async with door.begin() as session:
        await session.execute(ONE)
        door.pause("default")
        door.pause()
        await session.execute(ONE)
        with pytest.raises(DeadlineExceeded):
            async with door.read(deadline=0.05, propagation="requires_new") as other:
                await other.execute(ONE)
    assert stats(door).paused

    async def resume() -> int:
        await cell.until(lambda: stats(door).waiting == 2, "two wait")
        door.resume()
        return 0

    assert await cell.together(lambda: one(door), lambda: one(door), resume) == [1, 1, 0]
    assert not stats(door).paused


async def test_a_pause_is_told_when_the_time_is_up(cell: Cell) -> None:
    """A pool that is paused before its first use is paused as well; the timeout says so."""
    door = cell.door(pool={"size": 1, "checkout_timeout": "50ms"})
    door.pause()
    with pytest.raises(CheckoutTimeout, match="its pool is paused"):
        await one(door)
    door.resume()
    door.resize("default", 2)
    assert door.stats()[0].size == 2


@also_pooled
async def test_drained(cell: Cell) -> None:
    """drain() closes what is idle, waits for what is out, for its time, and says how many are left; at its end the
    server counts none, and none is opened until resume()."""
    door = cell.door(pool={"size": 3})
    async with door.read(propagation="requires_new") as idle:
        await idle.execute(ONE)
    async with door.begin() as session:
        await session.execute(ONE)
        assert await finished(door.drain(within=0)) == 1
    assert await finished(door.drain("default", within=timedelta(seconds=20))) == 0
    if cell.engine != "pgbouncer":
        await cell.until(lambda: not cell.database.census(), "the server counts no connection")
    assert (stats(door).out, stats(door).idle, stats(door).paused) == (0, 0, True)
    door.resume()
    assert await one(door) == 1


async def finished(answer: Any) -> Any:
    """What a verb of either door answers."""
    return await answer if inspect.isawaitable(answer) else answer


async def test_drain_waits_for_what_is_out(cell: Cell) -> None:
    """It returns when the last connection has come back."""
    door = cell.door(pool={"size": 3})
    begun, may_end = threading.Event(), threading.Event()

    async def unit() -> None:
        async with door.begin() as session:
            await session.execute(ONE)
            begun.set()
            await cell.until(may_end.is_set, "the drain has begun")

    async def drain() -> Any:
        await cell.until(begun.is_set, "the unit has its connection")
        return await finished(door.drain(within=20))

    async def end() -> None:
        await cell.until(lambda: begun.is_set() and stats(door).paused, "the drain has begun")
        may_end.set()

    assert await cell.together(unit, drain, end) == [None, 0, None]
    door.resume()


async def test_resized(cell: Cell) -> None:
    """A larger pool serves who waits at once; a smaller one closes connections as they come back."""
    door = cell.door(pool={"size": 1, "checkout_timeout": "20s"})
    async with door.begin() as session:
        await session.execute(ONE)

        async def grow() -> None:
            await cell.until(lambda: stats(door).waiting > 0, "the other one waits")
            door.resize("default", 3)

        async def other() -> int:
            async with door.read() as session:
                return int(await session.scalar(ONE) or 0)

        assert await cell.together(grow, other) == [None, 1]
    assert stats(door).size == 3
    door.resize("default", 1)
    async with door.read() as session:
        await session.execute(ONE)
    assert stats(door).idle <= 1
    with pytest.raises(RequestRefused, match="at least one"):
        door.resize("default", 0)
    with pytest.raises(UnknownDatabase):
        door.resize("orders", 5)


@also_pooled
async def test_renewed(cell: Cell) -> None:
    """renew() has idle connections replaced before their next use, and others when they come back; no unit notices."""
    door = cell.door(pool={"size": 2})
    async with door.begin() as session:
        await session.execute(ONE)
        door.renew()
        await session.execute(ONE)
    assert stats(door).idle == 0
    assert await one(door) == 1
    door.renew("default")
    assert await one(door) == 1
    assert (stats(door).opened, stats(door).replaced) == (3, 1)


@also_pooled
async def test_counted(cell: Cell) -> None:
    """stats() counts what was asked for, waited for and opened, without asking the server."""
    door = cell.door(pool={"size": 1, "checkout_timeout": "20s"})
    assert door.stats() == ()
    for _ in range(3):
        assert await one(door) == 1
    found = stats(door)
    assert (found.endpoint, found.size, found.asked, found.opened, found.waits) == ("default/primary", 1, 3, 1, 0)
    assert (found.out, found.opening, found.idle, found.waiting, found.failed, found.timeouts) == (0, 0, 1, 0, 0, 0)


async def test_an_engine_that_was_given(cell: Cell) -> None:
    """Its pool is the application's: what is said of it by name is refused, and it is left alone by what is said of
    all."""
    door = cell.door({"default": cell.given_engine()})
    for verb in (door.pause, door.resume, door.renew):
        with pytest.raises(RequestRefused, match="pool of its own"):
            verb("default")
        verb()
    assert await one(door) == 1
    assert door.stats() == ()


def test_both_doors_are_steered_alike() -> None:
    """The same verbs with the same parameters."""
    for name in ("stats", "pause", "resume", "drain", "resize", "renew"):
        ours, theirs = (inspect.signature(getattr(door, name)) for door in (Sessions, AsyncSessions))
        assert ours == theirs, name
