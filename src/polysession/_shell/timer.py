"""The deadline of a unit under asyncio: its task is cancelled in time, and the cancellation is taken back."""

from __future__ import annotations

import asyncio
import time
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .watch import Watch

__all__ = ["NO_TIMER", "Timer"]


class Timer:
    """Cancels the task that started it at a moment of `time.monotonic()`; as `asyncio.timeout`, but can be stopped.

    While a unit with a later deadline is open inside, the timers around it rest: that unit was promised its time. A
    savepoint's statement is left to the server's own limit first (`seen`): to cancel it would close the connection, to
    which the unit around it means to return.
    """

    __slots__ = ("_at", "_cancelling", "_fired", "_handle", "_resting", "_seen", "_task")

    def __init__(self, at: float | None, seen: Watch | None = None) -> None:
        self._at = at
        self._seen = seen
        self._handle: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[Any] | None = None
        self._fired = False
        self._cancelling = 0
        self._resting: list[Timer] = []

    def start(self) -> None:
        """Begin to watch; nothing without a deadline."""
        if self._at is None:
            return
        self._task = asyncio.current_task()
        assert self._task is not None
        self._cancelling = self._task.cancelling()
        running = _TIMERS.setdefault(self._task, [])
        self._resting = [timer for timer in running if timer._rest(self._at)]
        running.append(self)
        self._wind()

    def stop(self) -> None:
        """Cancel nothing from here on."""
        if self._handle is None or self._task is None:
            return
        self._handle.cancel()
        self._handle = None
        running = _TIMERS.get(self._task, [])
        if self in running:
            running.remove(self)
        for timer in self._resting:
            if timer in running:
                timer._wind()
        self._resting = []

    def _wind(self) -> None:
        assert self._at is not None
        left = max(0.0, self._at - time.monotonic())
        self._handle = asyncio.get_running_loop().call_later(left, self._fire)

    def _rest(self, until: float) -> bool:
        """Stand still if it would fire before `until`; whether it did not before."""
        assert self._at is not None
        if self._at >= until or self._handle is None or self._handle.cancelled() or self._fired:
            return False
        self._handle.cancel()
        return True

    async def take_back(self) -> bool:
        """Stop; whether the task was cancelled by this timer and by nobody else, and then it is not any more."""
        self.stop()
        if not self._fired or self._task is None:
            return False
        self._fired = False
        if self._task.uncancel() > self._cancelling:
            return False
        try:
            # a cancellation that is to come again (`grace`) outlives `uncancel` before Python 3.13: it comes here
            await asyncio.sleep(0)
        except asyncio.CancelledError as cancelled:
            if self._task.cancelling() > self._cancelling:  # somebody else's, just now: it is for what comes next
                self._task.uncancel()
                self._task.cancel(*cancelled.args[:1])  # by its message anyio knows whether it is its own
                return False
        return True

    def _fire(self) -> None:
        assert self._task is not None
        seen, self._seen = self._seen, None
        if seen is not None and (late := seen.late):
            self._handle = asyncio.get_running_loop().call_later(late, self._fire)
            return
        self._fired = True
        self._task.cancel()


NO_TIMER = Timer(None)
"""That of a unit without a deadline."""
_TIMERS: weakref.WeakKeyDictionary[asyncio.Task[Any], list[Timer]] = weakref.WeakKeyDictionary()
"""The timers of each task that watch a deadline, or rest."""
