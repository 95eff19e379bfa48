"""Notices that a thread or task has ended that held something, at that moment and not by a timer.

A task says so by itself. A thread does by what is only its own: an object that lives as long as the thread does. What
they held is told then, once; who ends what it holds is never told. Nothing is decided here.

What is told of a thread runs in another one: in a thread that ends, things that belong to a thread come into being anew
and are never cleared away.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from ..facts import Owner
from . import threads
from .places import NOBODY, PROCESS

__all__ = ["THREAD", "Life", "OwnThread", "Owned", "forget", "watch"]


class Owned(Protocol):
    """What somebody holds."""

    watched: dict[int, Owned] | weakref.ref[asyncio.Task[Any]] | None
    """Where it is noted: what its thread holds, or its task; None if nobody watches. Neither the `Life` nor the task
    itself, which must be dropped when nobody else has a use for it."""

    def owner_ended(self, task: object = None) -> None:
        """The thread or task for which it was watched has ended. For a thread, told in another one."""


class Life:
    """Dropped when its thread ends; has what the thread holds."""

    __slots__ = ("held", "process")

    def __init__(self) -> None:
        self.held: dict[int, Owned] = {}
        self.process = os.getpid()
        """A forked child drops the lives of threads that it has not; what they hold is its parent's."""

    def __del__(  # a module may be gone by then
        self, is_finalizing: Callable[[], bool] = sys.is_finalizing, process_now: Callable[[], int] = os.getpid
    ) -> None:
        if not self.held or is_finalizing() or process_now() != self.process:
            return
        left = list(self.held.values())
        try:
            threads.start(partial(_tell, left), "polysession takes back")
        except RuntimeError:  # no thread can be started
            _tell(left)


def _tell(left: list[Owned]) -> None:
    for owned in left:
        owned.owner_ended()


class OwnThread:
    """A thread of this process, as what belongs to it knows it: the same object as long as it lives."""

    __slots__ = ("_known", "_thread", "ident", "process")

    def __init__(self) -> None:
        self.ident = threading.get_ident()
        self.process = PROCESS.process
        self._thread = threading.current_thread()
        self._known = NOBODY

    @property
    def owner(self) -> Owner:
        """Who that is, for people. May be asked from any thread."""
        known, name = self._known, self._thread.name
        if known.thread_name != name or known is NOBODY:
            known = self._known = Owner(self.process.pid, self.ident, name, None)
        return known


class _Thread(threading.local):
    def __init__(self) -> None:  # called in each thread
        self.life = Life()
        self.own = OwnThread()


THREAD = _Thread()
"""Has the life of the thread that runs now. Who is in a hurry puts what it holds there by itself, as `watch` does."""


def _after_fork() -> None:
    THREAD.own = OwnThread()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def watch(owned: Owned, task: asyncio.Task[Any] | None) -> None:
    """Tell `owned` when `task` ends; the thread that runs now if it is None."""
    if task is not None:
        task.add_done_callback(owned.owner_ended)
        owned.watched = weakref.ref(task, lambda _: owned.owner_ended())  # it may be dropped before it has ended
        return
    held = owned.watched = THREAD.life.held
    held[id(owned)] = owned


def forget(owned: Owned) -> None:
    """It has ended, or has another owner. A second call does nothing."""
    watched, owned.watched = owned.watched, None
    if isinstance(watched, dict):
        watched.pop(id(owned), None)
    elif watched is not None and (task := watched()) is not None:
        task.remove_done_callback(owned.owner_ended)
