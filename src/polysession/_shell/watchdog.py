"""Bounds for threads: a thread that waits for a server's answer can be helped by another thread only.

Neither a deadline nor a timeout of the server or of TCP ends the wait for a server that is frozen: its machine goes on
to acknowledge what it receives. So one thread looks, a few times a second, whether the time of a holding is up, and
then breaks the links of its connections; the driver's call ends with a lost link. The thread is started when the first
holding has a bound, and ends when there has been none for a while. After a fork there is another one.

It must never wait for what itself would have to end: not for a lock that is held by one who waits for a server, and not
in a unit that the garbage collector ends in this thread, where another one takes its place.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import suppress
from threading import get_ident
from typing import Protocol

from .threads import Bell, start

__all__ = ["Bounded", "bound", "free"]

_EVERY = 0.1
"""Seconds between two looks at most: a bound that is shorter is overrun by so much at most, others are not."""
_LINGER = 1.0
"""Seconds after the last bound for which the thread goes on to look: to wake it costs more than most bounds last."""
_IDLE = 10.0
"""Seconds without a bound after which the thread ends."""


class Bounded(Protocol):
    """What has a time that can be up."""

    bound_at: float
    """In seconds of `time.monotonic()`; infinity for none."""

    def sever(self) -> object:
        """End its waits; called in the watching thread, once unless it raises `BlockingIOError`: what it needs is in
        use, and its turn comes again soon."""


class _Watchdog:
    def __init__(self) -> None:
        self.watched: dict[int, Bounded] = {}
        self.looks = False
        """The thread will look at what is watched before it sleeps for long."""
        self.was_used = False
        """Something was bound since it looked."""
        self._bell = Bell()
        self._lock = threading.RLock()  # the garbage collector may end a unit, which binds it, in the same thread
        self.runs = False
        self.thread = 0
        """The number of the one that looks; if there are several, of one of them."""

    def rouse(self) -> None:
        """There is something to be watched now."""
        if sys.is_finalizing():
            return  # no thread runs any more: who starts one would wait for it for ever, as for a lock that one had
        self._bell.ring()
        with self._lock:
            if not self.runs:
                start(self._keep, "polysession-watchdog")
                self.runs = True  # an interrupt before this leaves two, which do no harm to each other

    def relieve(self) -> None:
        """Have another thread look. In the one that looks itself the garbage collector ends a unit that somebody has
        dropped: it waits for the server, and for its own help."""
        self.thread = 0
        if not sys.is_finalizing():
            start(self._keep, "polysession-watchdog")

    def _keep(self) -> None:
        try:
            self._run()
        except BaseException:
            self.looks = self.runs = False  # the next that is bound has another thread
            raise

    def _run(self) -> None:
        lingers_until = 0.0
        while True:
            self.thread = get_ident()
            self.looks = True
            self._bell.heard(0.0)
            now = time.monotonic()
            next_at = now + _EVERY
            if self.was_used:
                self.was_used = False
                lingers_until = now + _LINGER
            for held in list(self.watched.values()):  # not of the pairs: to make those lets other threads have a turn
                if held.bound_at <= now:
                    self.watched.pop(id(held), None)
                    with suppress(Exception):
                        try:
                            held.sever()
                        except BlockingIOError:
                            self.watched[id(held)] = held
                elif held.bound_at < next_at:
                    next_at = held.bound_at
            if self.watched or now < lingers_until:
                time.sleep(max(0.0, next_at - time.monotonic()))
                continue
            self.looks = False
            if self.watched or self._bell.heard(_IDLE):
                continue
            with self._lock:
                if not self.watched and not self._bell.heard(0.0):
                    self.runs = False
                    return


class _Current:
    """Holds the watchdog, because a name imported from a module cannot be rebound after a fork."""

    def __init__(self) -> None:
        self.dog = _Watchdog()

    def renew(self) -> None:
        """In a forked child there is no thread, and what its parent holds is not its own."""
        self.dog = _Watchdog()


_current = _Current()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_current.renew)


def bound(held: Bounded, at: float) -> None:
    """Sever `held` at this moment of `time.monotonic()`, unless it is freed or bound anew before."""
    dog = _current.dog
    held.bound_at = at
    dog.watched[id(held)] = held
    dog.was_used = True
    if dog.thread == get_ident():
        dog.relieve()
    elif not dog.looks:
        dog.rouse()


def free(held: Bounded) -> None:
    """Let `held` have its time. A second call does nothing."""
    _current.dog.watched.pop(id(held), None)
