"""Pauses between attempts: plain ones, and waiting for one's turn, with threads and with asyncio."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import pytest

from polysession._core.steps import Pause
from polysession._core.turns import Turn, Turns
from polysession._shell.pausing import pause, pause_async

LONG = 60.0


def wait(step: Pause) -> None:
    """With threads."""
    pause(step)


def wait_async(step: Pause) -> None:
    """With asyncio."""
    asyncio.run(pause_async(step))


BOTH = pytest.mark.parametrize("door", [wait, wait_async])
Door = Callable[[Pause], None]


def two() -> tuple[Turn, Turn]:
    """The first and the second of a line."""
    turns = Turns()
    made = Turn(turns, "hot"), Turn(turns, "hot")
    for turn in made:
        turn.clashed()
    return made


@BOTH
def test_a_plain_pause(door: Door) -> None:
    """Time passes; as much as was said."""
    began = time.monotonic()
    door(Pause(0.02))
    assert time.monotonic() - began >= 0.02
    first, _ = two()
    began = time.monotonic()
    door(Pause(0.02, first))
    assert time.monotonic() - began >= 0.02, "the first one's pause is a plain one"


@BOTH
def test_a_turn_that_has_come_is_not_waited_for(door: Door) -> None:
    """It came between the decision and the wait."""
    first, second = two()
    first.leave()
    door(Pause(LONG, second))


@BOTH
def test_who_is_called_goes(door: Door) -> None:
    """As soon as the one before has left, from whatever thread."""
    first, second = two()

    def leave_when_waited_for() -> None:
        while second.wake is None:
            pass
        first.leave()

    leaver = threading.Thread(target=leave_when_waited_for)
    leaver.start()
    door(Pause(LONG, second))
    leaver.join()
    assert second.is_first
    assert second.wake is None


@BOTH
def test_a_line_that_stands_still_is_not_waited_for(door: Door) -> None:
    """After the time that was said the unit goes on, and keeps its place."""
    first, second = two()
    began = time.monotonic()
    door(Pause(0.03, second))
    assert 0.03 <= time.monotonic() - began < LONG
    assert not second.is_first
    assert second.clashed() == 0
    assert first.is_first


@BOTH
def test_a_line_that_moves_is_waited_for(door: Door) -> None:
    """Longer than it may stand still."""
    turns = Turns()
    made = [Turn(turns, "hot") for _ in range(20)]
    for turn in made:
        turn.clashed()

    def move() -> None:
        while made[-1].wake is None:
            pass
        for turn in made[:-1]:
            threading.Event().wait(0.02)  # the units of this line take some time each
            turn.leave()

    mover = threading.Thread(target=move)
    mover.start()
    began = time.monotonic()
    door(Pause(0.25, made[-1]))
    mover.join()
    assert made[-1].is_first
    assert time.monotonic() - began > 0.25


@BOTH
def test_the_deadline_ends_it(door: Door) -> None:
    """Whatever the line does."""
    _, second = two()
    door(Pause(LONG, second, time.monotonic() + 0.02))
    door(Pause(LONG, second, time.monotonic() - 1))


@pytest.mark.asyncio
async def test_a_cancellation_ends_it() -> None:
    """And the place can be left as ever."""
    first, second = two()
    task = asyncio.create_task(pause_async(Pause(LONG, second)))
    await asyncio.sleep(0)
    assert second.wake is not None
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    second.leave()
    first.leave()
    assert first.turns.lines == {}


def test_a_loop_that_has_ended_is_not_called() -> None:
    """Its waiter is gone; who leaves does not pay for it."""
    first, second = two()

    async def leave_in_the_middle() -> None:
        asyncio.get_running_loop().call_soon(asyncio.get_running_loop().stop)
        await pause_async(Pause(LONG, second))

    loop = asyncio.new_event_loop()
    task = loop.create_task(leave_in_the_middle())
    loop.run_forever()
    waker = second.wake
    assert waker is not None
    task.cancel()
    loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    loop.close()
    waker()
    first.leave()


def test_who_leaves_is_told_nothing_of_a_loop_that_is_closed_just_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one waited in it, and was to be woken."""
    _, second = two()
    loop = asyncio.new_event_loop()
    waiting = loop.create_task(pause_async(Pause(LONG, second)))
    loop.run_until_complete(asyncio.sleep(0))
    wake = second.wake
    assert wake is not None
    waiting.cancel()
    loop.run_until_complete(asyncio.wait((waiting,)))
    loop.close()
    monkeypatch.setattr(loop, "is_closed", lambda: False)  # as for one who has looked before
    wake()
    monkeypatch.undo()
