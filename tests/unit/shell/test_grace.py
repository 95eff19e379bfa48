"""Ends that must come: cancelled again and again, forced when the time is up, left alone when that does not help."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Generator
from typing import Any

import pytest
from sqlalchemy.util import await_only, greenlet_spawn

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
