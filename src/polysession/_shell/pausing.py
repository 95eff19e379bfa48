"""Letting time pass between two attempts: a plain pause, or waiting for one's turn as long as the line moves."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any

from .._core.steps import Pause
from .threads import Bell

__all__ = ["pause", "pause_async"]


def pause(step: Pause) -> None:
    """With threads."""
    turn = step.turn
    bell = Bell()
    if turn is None or turn.beaten:
        time.sleep(step.seconds)
        return
    if not turn.await_call(bell.ring):
        return  # its turn has come meanwhile
    try:
        while (left := _left(step)) > 0:
            moved = turn.moved
            if bell.heard(left) or turn.moved == moved or turn.is_first:
                return
    finally:
        turn.wake = None


async def pause_async(step: Pause) -> None:
    """With asyncio."""
    turn = step.turn
    loop = asyncio.get_running_loop()
    called = asyncio.Event()

    def wake() -> None:
        with suppress(RuntimeError):  # the loop was closed, perhaps just now: nobody waits
            loop.call_soon_threadsafe(called.set)

    if turn is None or turn.beaten:
        await asyncio.sleep(step.seconds)
        return
    if not turn.await_call(wake):
        return  # its turn has come meanwhile
    try:
        while (left := _left(step)) > 0:
            moved = turn.moved
            if await _within(called, left) or turn.moved == moved or turn.is_first:
                return
    finally:
        turn.wake = None


def _left(step: Pause) -> float:
    """The longest wait before the line is looked at again."""
    if step.deadline_at is None:
        return step.seconds
    return min(step.seconds, step.deadline_at - time.monotonic())


async def _within(called: asyncio.Event, seconds: float) -> bool:
    waiting: asyncio.Task[Any] = asyncio.ensure_future(called.wait())
    try:
        done, _ = await asyncio.wait((waiting,), timeout=seconds)
    finally:
        waiting.cancel()
    return bool(done)
