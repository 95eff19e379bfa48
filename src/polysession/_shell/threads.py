"""Threads and calls between threads that a KeyboardInterrupt cannot leave half done; and a look at another thread.

Python raises it between any two steps of the main thread, also inside of its own `threading`: `Thread.start` waits on a
condition until the new thread has said that it runs, and `Event.set` notifies by one. An interrupt that comes when the
condition's lock was taken and the block that gives it back was not yet entered leaves it taken for good (CPython 3.11,
Lib/threading.py, `Condition.__enter__`), and the other thread waits for it for ever: a connection that it was to open
is never opened, a unit that it was to end never ends. Nothing here takes more than one step of the interpreter.
"""

from __future__ import annotations

import _thread
import gc
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Final

__all__ = ["Bell", "frame_of", "start"]

_STOPS_ALL: Final = sys.version_info < (3, 11, 9)
"""See `frame_of`."""


def start(work: Callable[[], object], name: str) -> None:
    """Have `work` done in a daemon thread with this name. Raises `RuntimeError` if no thread can be started.

    The named thread is started by a nameless one, in which no interrupt is raised.
    """
    _thread.start_new_thread(_start, (work, name))


def _start(work: Callable[[], object], name: str) -> None:
    try:
        threading.Thread(target=work, name=name, daemon=True).start()
    except RuntimeError:  # there is no room for one more, but there is this one
        work()


class Bell:
    """Wakes one thread that waits. Any thread may ring; rung several times before it is heard, it was rung once."""

    __slots__ = ("_silence",)

    def __init__(self) -> None:
        self._silence = threading.Lock()
        self._silence.acquire()

    def ring(self) -> None:
        """Wake who waits, or who waits next."""
        with suppress(RuntimeError):  # it was rung, and nobody has heard it yet
            self._silence.release()

    def heard(self, seconds: float) -> bool:
        """Wait for `seconds` at most; whether it was rung since it was heard the last time."""
        return self._silence.acquire(timeout=min(max(0.0, seconds), threading.TIMEOUT_MAX))


class _Look:
    """One look at the threads at a time, for which the collector of garbage waits."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.keeps_waiting = False

    def frames(self) -> dict[int, FrameType]:
        """Where each thread is."""
        with self.lock:
            if self.keeps_waiting:  # a signal's handler looks, in the midst of a look of its thread
                gc.disable()
                return sys._current_frames()
            self.keeps_waiting = gc.isenabled()
            try:
                gc.disable()
                return sys._current_frames()
            finally:
                self._end()

    def renew(self) -> None:
        """In a forked child: the thread that looked is not here."""
        self.lock = threading.RLock()
        self._end()

    def _end(self) -> None:
        if self.keeps_waiting:
            gc.enable()
            self.keeps_waiting = False


_look: Final = _Look()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_look.renew)


def frame_of(thread: int) -> FrameType | None:
    """Where the thread of this number is just now; None if there is none.

    Python before 3.11.9 gathers the frames of all threads with a lock of its own and the GIL in its hand. Making them
    may run the collector of garbage; if what that ends gives up the GIL, and the next thread needs the lock too, all
    threads wait for ever (CPython issue 106883). So the collector waits meanwhile.
    """
    frames = _look.frames() if _STOPS_ALL else sys._current_frames()
    return frames.get(thread)
