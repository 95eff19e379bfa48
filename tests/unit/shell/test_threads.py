"""Threads that are started and woken by one who is interrupted: they run, and nobody waits for ever."""

from __future__ import annotations

import itertools
import threading
from functools import partial
from typing import Any

import pytest

from polysession._shell import threads
from polysession._shell.threads import Bell, start

from .driver import EVENTS, interrupt_at

FILES = ("polysession/_shell/threads.py", "/threading.py")
NAME = "a thread of test_threads"


class Started:
    """What `work` did, and in which thread."""

    def __init__(self) -> None:
        self.thread: threading.Thread | None = None
        self.done = threading.Event()

    def work(self) -> None:
        """Note it."""
        self.thread = threading.current_thread()
        self.done.set()


def test_the_work_is_done_in_a_daemon_thread_with_a_name() -> None:
    """As `threading.Thread` would do it."""
    started = Started()
    start(started.work, NAME)
    assert started.done.wait(10)
    assert started.thread is not None
    assert started.thread.name == NAME
    assert started.thread.daemon


def test_it_is_done_without_a_thread_of_its_own_name_if_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """What starts the named one does it then."""

    def no_room(_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_room)
    started = Started()
    threads._start(started.work, NAME)
    assert started.done.is_set()


@pytest.mark.parametrize("event", EVENTS)
def test_an_interrupt_of_who_starts_it_does_not_keep_it_from_running(event: str) -> None:
    """Anywhere in our code and in Python's: no place is left where a thread was begun and never runs."""
    places = 0
    for number in itertools.count(1):
        started = Started()
        if not interrupt_at(number, FILES, partial(start, started.work, NAME), event=event):
            assert started.done.wait(10)
            break
        places += 1
        assert not any(_is_stuck(thread) for thread in threading.enumerate())
    assert places >= 1


def _is_stuck(thread: threading.Thread) -> bool:
    """Whether the lock that it needs to say that it runs was taken and is never given back."""
    if thread.name != NAME:
        return False
    says: Any = thread._started._cond  # type: ignore[attr-defined]  # that lock
    if not says.acquire(timeout=0.5):
        return True
    says.release()
    return False


@pytest.mark.parametrize("event", EVENTS)
def test_an_interrupt_of_who_rings_or_waits_takes_no_lock(event: str) -> None:
    """Whoever rings afterwards is not kept waiting, and is heard."""
    for act in (lambda bell: bell.ring(), lambda bell: bell.heard(0.0)):
        for number in itertools.count(1):
            bell = Bell()
            reached = interrupt_at(number, FILES, partial(act, bell), event=event)
            others = threading.Thread(target=bell.ring, daemon=True)
            others.start()
            others.join(10)
            assert not others.is_alive()
            assert bell.heard(10)
            if not reached:
                break


@pytest.mark.skipif("opcode" not in EVENTS, reason="the lock is left between two opcodes, which are not traced")
def test_an_interrupt_of_who_sets_an_event_keeps_others_waiting() -> None:
    """The control: `threading.Event`, by which a new thread says that it runs, too."""
    taken = 0
    for number in itertools.count(1):
        event = threading.Event()
        reached = interrupt_at(number, FILES, event.set, event="opcode")
        lock = event._cond  # type: ignore[attr-defined]  # where others would wait
        if lock.acquire(blocking=False):
            lock.release()
        else:
            taken += 1
        if not reached:
            break
    assert taken > 0


def test_a_bell_is_heard_once() -> None:
    """However often it was rung before; and not when it was not rung."""
    bell = Bell()
    assert not bell.heard(0.0)
    bell.ring()
    bell.ring()
    assert bell.heard(0.0)
    assert not bell.heard(-1.0)


def test_a_bell_that_is_waited_for_without_end() -> None:
    """More seconds than the operating system counts are as many as it does."""
    bell = Bell()
    bell.ring()
    assert bell.heard(1e300)
