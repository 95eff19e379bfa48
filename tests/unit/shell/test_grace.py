"""Ends that must come: cancelled again and again, forced when the time is up, left alone when that does not help."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Coroutine, Generator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.util import await_only, greenlet_spawn

from polysession import AsyncSessions
from polysession._shell import grace
from polysession._shell.grace import await_end, finishing, to_its_end

pytestmark = pytest.mark.asyncio


@types.coroutine
def step() -> Generator[None, None, None]:
    """One turn of the loop."""
    yield


async def steps(number: int, answer: Any = None) -> Any:
    """So many turns of the loop."""
    for _ in range(number):
        await step()
    return answer


async def storm(task: asyncio.Task[Any]) -> None:
    """Cancel at every turn, as a scope of anyio does."""
    while not task.done():
        task.cancel()
        await step()


async def test_the_first_cancellation_is_remembered() -> None:
    """Work goes on under a storm of cancellations; its result and the first of them are answered."""
    ended = asyncio.create_task(to_its_end(steps(20, "done")))
    await step()
    await storm(ended)
    value, error, cancelled = await ended
    assert (value, error) == ("done", None)
    assert isinstance(cancelled, asyncio.CancelledError)


async def test_orders_when_the_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """First the link is broken; what still waits is cancelled; what ignores that is left alone."""
    monkeypatch.setattr(grace, "_LAST", 0.0)
    said: list[str] = []
    never = asyncio.Event()

    async def stubborn() -> None:
        while not never.is_set():
            try:
                await never.wait()
            except asyncio.CancelledError:
                said.append("cancelled")

    value, error, cancelled = await to_its_end(stubborn(), within=0.0, give_up=lambda: said.append("broken"))
    assert said == ["broken", "cancelled"]
    assert (value, cancelled) == (None, None)
    assert isinstance(error, TimeoutError)
    never.set()
    await steps(5)


async def test_a_broken_link_is_enough() -> None:
    """What fails when its link is broken is not cancelled, and its own error is answered."""
    broken = asyncio.Event()

    async def read() -> None:
        await broken.wait()
        raise ConnectionResetError

    _, error, _ = await to_its_end(read(), within=0.0, give_up=broken.set)
    assert isinstance(error, ConnectionResetError)


async def test_finishing_is_told_once() -> None:
    """A coroutine that is cancelled cleans up to its end, however often it is cancelled."""
    cleaned: list[int] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            for number in range(5):
                await step()
                cleaned.append(number)
            raise

    async def patient() -> None:
        await finishing(work(), lambda: None)

    task = asyncio.create_task(patient())
    await step()
    await storm(task)
    assert cleaned == [0, 1, 2, 3, 4]
    assert task.cancelled()


async def test_the_control_is_told_again() -> None:
    """Without it the second cancellation interrupts the clean-up after the first."""
    cleaned: list[int] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            for number in range(5):
                await step()
                cleaned.append(number)
            raise

    task = asyncio.create_task(work())
    await step()
    await storm(task)
    assert len(cleaned) < 5


async def test_finishing_lets_results_and_errors_through() -> None:
    """What is not cancelled is awaited as ever."""
    assert await finishing(steps(3, "result"), lambda: None) == "result"

    async def fails() -> None:
        await step()
        raise ValueError

    with pytest.raises(ValueError):  # it has no text
        await finishing(fails(), lambda: None)


async def test_a_cancellation_comes_again_after_the_end() -> None:
    """Below SQLAlchemy the end is complete, and the cancellation arrives with the next wait; it counts once."""
    seen: list[str] = []

    def synchronous() -> None:
        seen.append(await_end(steps(5, "ended"), lambda: None))
        await_only(steps(1))
        seen.append("went on")

    async def work() -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            await greenlet_spawn(synchronous)
        except asyncio.CancelledError:
            seen.append(f"cancelled {task.cancelling()}")

    task = asyncio.create_task(work())
    await steps(2)
    task.cancel()
    await task
    assert seen == ["ended", "cancelled 1"]


SLOW = sa.text("with recursive c(n) as (select 1 union all select n + 1 from c limit 200000) select count(*) from c")
"""Lasts until another task waits."""


async def cancelled_as_it_closes(door: AsyncSessions, kind: str, work: Coroutine[Any, Any, Any]) -> bool:
    """Do `work` in a task that is cancelled when it closes a connection: whether it was told so before it ended.
    What the task awaits afterwards must not be interrupted by it."""
    ends: list[bool] = []

    async def victim() -> None:
        try:
            await work
        except asyncio.CancelledError:
            ends.append(True)
        else:
            ends.append(False)
        await steps(3)

    task = asyncio.create_task(victim())
    engines: Any = door._engines
    engine = engines.engine(engines.topology.databases["default"].writable(), kind).sync_engine
    sa.event.listen(engine.pool, "close", lambda *_: task.cancel())
    with suppress(asyncio.CancelledError):
        await task
    assert not task.cancelled(), "interrupted by what was meant for its end"
    return ends[0]


async def test_who_lets_go_of_a_lease_hears_it(tmp_path: Path) -> None:
    """A read unit whose connection goes to another one after a statement, and is closed there, is told of its
    cancellation by the statement."""
    async with AsyncSessions({"default": {"url": f"sqlite:///{tmp_path}/a.db", "pool": {"size": 1}}}) as door:

        async def reads() -> None:
            async with door.read() as session:
                await session.execute(SLOW)

        async def writes() -> None:
            async with door.begin() as session:
                await session.execute(sa.text("select 1"))

        async def comes() -> None:
            while not (door.stats() and door.stats()[0].out):
                await step()
            writer = asyncio.create_task(writes())
            while not door.stats()[0].waiting:
                await step()
            door.renew()
            await writer

        other = asyncio.create_task(comes())
        assert await cancelled_as_it_closes(door, "read", reads())
        await other


@pytest.mark.parametrize("verb", ["drain", "close"])
async def test_who_closes_what_is_idle_hears_it(verb: str, tmp_path: Path) -> None:
    """So is who drains a door, or closes it, when all is closed."""
    door = AsyncSessions({"default": f"sqlite:///{tmp_path}/a.db"})
    async with door.begin() as session:
        await session.execute(sa.text("select 1"))
    assert await cancelled_as_it_closes(door, "write", getattr(door, verb)())
    assert door.stats() == () or door.stats()[0].idle == 0
    await door.close()
