"""The fair pool for asyncio, for `create_async_engine`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import util
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.util.concurrency import in_greenlet

from .claims import Attempt, Claim
from .liveness import answers_async
from .pool import FairPool
from .room import LOOK_AGAIN
from .waiting import open_for_others

__all__ = ["FairAsyncPool"]

_TICKS = 32
"""In a second."""
_LONGEST_OPENING = 5.0
"""Seconds for which the end of a pool waits for a connection that is being opened."""


class _Bell(NamedTuple):
    """Wakes those who sleep until about the same time."""

    loop: asyncio.AbstractEventLoop
    sleepers: set[asyncio.Future[bool]]


class FairAsyncPool(FairPool):
    """As `FairPool`, for asyncio. One event loop per pool; other threads may only return.

    A connection is opened in a task of its own. Whoever asked for it may be cancelled meanwhile; the opening goes on
    and the connection comes into the pool, so that no driver is interrupted between two words of its handshake, and the
    server never has a connection of which the pool does not know.
    """

    _is_asyncio = True

    def __init__(self, creator: Any, pool_size: int = 10, timeout: float = 5.0, **kw: Any) -> None:
        super().__init__(creator, pool_size, timeout, **kw)
        self.opens_here = False
        self._loop = asyncio._get_running_loop()
        """Where it opens connections, also for a thread that works for a task (`in_thread`)."""
        self._besides: set[asyncio.Task[Any]] = set()
        self._bells: dict[int, _Bell] = {}
        """By the tick at which they ring."""

    def aside(self, attempt: Attempt) -> None:
        """Open connections for others."""
        if self._is_elsewhere(self.aside, attempt):
            return
        task = self.beside(partial(open_for_others, self, attempt), "polysession opens a connection")

        def done(task: asyncio.Task[Any]) -> None:
            claim = attempt.claim
            if (
                claim is not None
                and claim.connection is None
                and not claim.is_opening
                and self.room.seats.seated(claim)
            ):
                self.abandon(claim)  # it was cancelled before it began

        task.add_done_callback(done)

    def beside(self, work: Callable[[], object], name: str) -> asyncio.Task[Any]:
        """Do it in a task of its own."""
        task = asyncio.get_running_loop().create_task(util.greenlet_spawn(work), name=name)
        self._besides.add(task)  # the loop itself keeps no task alive
        task.add_done_callback(self._besides.discard)
        return task

    def answers(self, record: ConnectionPoolEntry, within: float) -> bool:
        """The server answers on this connection within so many seconds."""
        if _running_loop() is None:
            return super().answers(record, within)
        return answers_async(self._dialect, record, within)

    def attempt(self, claim: Claim) -> None:
        """As `FairPool.attempt`, in a task of its own."""
        if self._is_elsewhere(self.attempt, claim):
            return
        growth = self.room.grows(claim)
        begun: list[Claim] = []

        def attempt() -> None:
            begun.append(claim)
            self._attempt(claim, growth)

        def done(task: asyncio.Task[Any]) -> None:
            if not begun:
                self._fell(claim, growth, asyncio.CancelledError("before it began"), surely=True)

        claim.opening = task = self.beside(attempt, "polysession opens a connection")
        task.add_done_callback(done)

    def _is_elsewhere(self, work: Callable[..., object], *args: object) -> bool:
        """A thread asks that has no event loop: have the pool's own do it. Raises `RuntimeError` if that is closed."""
        if self._loop is None or _running_loop() is not None:
            return False
        self._loop.call_soon_threadsafe(work, *args)
        return True

    def dispose(self) -> None:
        """As `FairPool.dispose`; a connection that is being opened is waited for, and closed."""
        super().dispose()
        openers = [task for task in self._besides if task.get_loop() is _running_loop()]
        if openers and in_greenlet():
            util.await_only(asyncio.wait(openers, timeout=_LONGEST_OPENING))

    def park(self, claim: Claim, seconds: float) -> bool:
        loop = _running_loop()
        if loop is None:
            return super().park(claim, seconds)  # a thread that works for a task
        with self.room.lock:
            if self.room.decided(claim):
                return True
            future: asyncio.Future[bool] = loop.create_future()
            claim.parked = future
        if seconds >= LOOK_AGAIN:  # a little less will do as well
            sleepers = self._bell(loop, seconds)
            sleepers.add(future)
            try:
                return util.await_only(future)
            finally:
                sleepers.discard(future)
        timer = loop.call_later(seconds, _settle, future, False)
        try:
            return util.await_only(future)
        finally:
            timer.cancel()

    def _bell(self, loop: asyncio.AbstractEventLoop, seconds: float) -> set[asyncio.Future[bool]]:
        """Who is woken together, within a tick before that time: thousands of timers would cost as much as the work."""
        tick = int((loop.time() + seconds) * _TICKS)
        bell = self._bells.get(tick)
        if bell is None or bell.loop is not loop:  # that of a loop that was closed never rings
            bell = self._bells[tick] = _Bell(loop, set())
            loop.call_at(tick / _TICKS, self._ring, tick)
        return bell.sleepers

    def _ring(self, tick: int) -> None:
        bell = self._bells.get(tick)
        if bell is not None and bell.loop is _running_loop():
            del self._bells[tick]
            for future in bell.sleepers:
                _settle(future, False)

    def wake(self, claim: Claim) -> None:
        self.unpark(claim)

    def unpark(self, claim: Claim) -> bool:
        future = claim.parked
        if not isinstance(future, asyncio.Future):
            return super().unpark(claim)
        loop = future.get_loop()
        if _running_loop() is loop:
            _settle(future, True)
        else:
            with suppress(RuntimeError):  # the loop was closed, perhaps just now: nobody waits
                loop.call_soon_threadsafe(_settle, future, True)
        return True


def _settle(future: asyncio.Future[bool], value: bool) -> None:
    if not future.done():
        future.set_result(value)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
