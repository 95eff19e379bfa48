"""What breaks on purpose while the terminals work: links at COMMIT, backends, the server, tasks.

Links are cut by a proxy before the server, so that either COMMIT or its answer is lost; which ones is drawn from the
seed. A thread ends the connections of clients (`pg_terminate_backend`), one after the other, and from time to time ends
the server at once and starts it again. Tasks are cancelled by a task of their loop. Everything is counted.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from random import Random
from types import TracebackType
from typing import Any, Final, Protocol, Self

from ..facts import Fact, OutcomeFound
from ..testing.proxy import Cut, Fault, FaultProxy, Fired, answer, request

__all__ = ["Breakable", "Faults"]

_SHARE: Final = 0.05
"""Of all COMMITs, how many are lost; and as many answers to one."""
_EVERY: Final = 10
_PAUSE: Final = 0.1
"""Units that are done, and seconds that pass at least, from one backend's end to the next one's: a machine that is slow
breaks less, so that the longest transactions come to their end there too."""
_RESTART_EVERY: Final = 100
_RESTART_PAUSE: Final = 3.0
"""The same from the server's being back to its next end. The first one comes when a quarter of the time is over."""
_CANCEL: Final = 2
"""Units that are done from one cancellation to the next."""


class Breakable(Protocol):
    """A server of our own."""

    def restart(self) -> None:
        """End it at once and start it again."""

    def end_backend(self) -> int:
        """End a client's connection; how many were ended."""


class Faults:
    """While it is entered, and for so many seconds at most, things break: what is begun then comes to its end in peace.

    `broken` says how often what; it is an observer of doors as well.
    """

    def __init__(self, server: Breakable, proxy: FaultProxy, seed: int, seconds: float) -> None:
        self.broken: Counter[str] = Counter()
        self._lock = threading.Lock()  # guards `broken`
        self._server = server
        self._proxy = proxy
        self._seed = seed
        self._seconds = seconds
        self._done: Callable[[], int] = int
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._break, name="polysession demo faults")
        self._failed: Exception | None = None

    def among(self, done: Callable[[], int]) -> Self:
        """To be entered; `done` says how many units have been done so far."""
        self._done = done
        return self

    def __enter__(self) -> Self:
        lost = Fault(Cut(), request("COMMIT"), times=None, probability=_SHARE, seed=self._seed)
        unheard = Fault(Cut(), answer("COMMIT"), times=None, probability=_SHARE, seed=self._seed + 1)
        self._proxy.plan(lost, unheard)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        if self._failed is not None and error is None:
            raise self._failed

    def tell(self, fact: Fact) -> None:
        """As an observer: count what was found out."""
        if isinstance(fact, OutcomeFound):
            self._note("outcomes asked for")
            self._note(f"found {fact.outcome}")

    def _note(self, what: str, count: int = 1) -> None:
        with self._lock:
            self.broken[what] += count

    async def cancel(self, running: set[asyncio.Task[Any]]) -> None:
        """Cancel one after the other of the tasks that run, until this is cancelled."""
        draw = Random(self._seed)
        done = 0
        while not self._over.is_set():
            await asyncio.sleep(draw.random() * _PAUSE)
            if running and self._done() >= done + _CANCEL:
                done = self._done()
                self._note("tasks cancelled", draw.choice(sorted(running, key=id)).cancel())

    def _break(self) -> None:
        began = time.monotonic()
        restart_at, restart_after = began + self._seconds / 4, 0
        done = seen = 0
        try:
            while not self._over.wait(_PAUSE) and time.monotonic() < began + self._seconds:
                seen = self._count(seen)
                if time.monotonic() >= restart_at and self._done() >= restart_after:
                    self._server.restart()
                    self._note("server restarts")
                    restart_at, restart_after = time.monotonic() + _RESTART_PAUSE, self._done() + _RESTART_EVERY
                elif self._done() >= done + _EVERY:
                    done = self._done()
                    with suppress(Exception):  # it may have gone by itself
                        self._note("backends ended", self._server.end_backend())
        except Exception as error:
            self._failed = error
        self._over.set()
        self._proxy.clear()
        self._count(seen)

    def _count(self, seen: int) -> int:
        """Count the links that were cut since the event of the number `seen`."""
        events = [event for event in self._proxy.events if event.number > seen]
        self._note("links cut at COMMIT", sum(isinstance(event, Fired) for event in events))
        return events[-1].number if events else seen
