"""Threads that are started and woken by one who is interrupted: they run, and nobody waits for ever."""

from __future__ import annotations

import gc
import itertools
import subprocess
import sys
import threading
from functools import partial
from typing import Any

import pytest

from polysession._shell import threads
from polysession._shell.threads import Bell, frame_of, start

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


LOOKS = """
import gc, sys, threading, time
from polysession._shell.threads import frame_of

class Circle:
    def __init__(self):
        self.me = self
    def __del__(self):
        time.sleep(0)  # lets others run

def look(frame_of=frame_of):
    for _ in range(100):
        for _ in range(20):
            Circle()
        assert frame_of(threading.get_ident()) is not None

def park():
    lock = threading.Lock()
    lock.acquire()
    while True:
        (lambda: lock.acquire(timeout=0.02))()  # a new frame each time, of which a look makes an object

parked = [threading.Thread(target=park, daemon=True) for _ in range(100)]
looking = [threading.Thread(target=look, args=({how},), daemon=True) for _ in range(4)]
gc.set_threshold(150)
for thread in parked + looking:
    thread.start()
for thread in looking:
    thread.join()
print(gc.isenabled())
"""


def _looks(how: str, seconds: float) -> str:
    program = [sys.executable, "-c", LOOKS.format(how=how)]
    return subprocess.run(program, capture_output=True, text=True, timeout=seconds, check=True).stdout


def test_a_look_at_other_threads_stops_nobody() -> None:
    """Though the collector of garbage has much to do meanwhile, which goes on afterwards."""
    assert _looks("frame_of", 120) == "True\n"


@pytest.mark.skipif(sys.version_info >= (3, 11, 9), reason="mended in Python 3.11.9")
def test_control_pythons_own_look_stops_all_threads() -> None:
    """For ever."""
    with pytest.raises(subprocess.TimeoutExpired):
        _looks("lambda thread: sys._current_frames().get(thread)", 5)


def test_a_look_is_at_one_thread() -> None:
    """Of a thread that has ended there is none."""
    here = frame_of(threading.get_ident())
    assert here is not None
    assert "frame_of" in here.f_code.co_name or here.f_code.co_name == "frames"
    ended = threading.Thread(target=int)
    ended.start()
    ended.join()
    assert frame_of(ended.ident or 0) is None


@pytest.mark.parametrize("collects", [True, False])
def test_a_child_of_a_look_collects_as_its_parent_did(monkeypatch: pytest.MonkeyPatch, *, collects: bool) -> None:
    """Forked in the midst of it."""
    look = threads._Look()
    seen: list[tuple[bool, bool]] = []

    def fork() -> dict[int, Any]:
        before = gc.isenabled()
        look.renew()
        seen.append((before, gc.isenabled()))
        return {}

    monkeypatch.setattr(sys, "_current_frames", fork)
    try:
        if not collects:
            gc.disable()
        assert look.frames() == {}
        assert seen == [(False, collects)]
        assert gc.isenabled() == collects
    finally:
        gc.enable()


@pytest.mark.parametrize("collects", [True, False])
def test_a_look_in_the_midst_of_a_look(monkeypatch: pytest.MonkeyPatch, *, collects: bool) -> None:
    """As of a signal's handler that reports an error: the collector goes on afterwards, if it did before."""
    look, depth = threads._Look(), itertools.count()
    seen: list[bool] = []

    def again() -> dict[int, Any]:
        seen.append(gc.isenabled())
        if next(depth) == 0:
            look.frames()
            seen.append(gc.isenabled())
        return {}

    monkeypatch.setattr(sys, "_current_frames", again)
    try:
        if not collects:
            gc.disable()
        look.frames()
        assert gc.isenabled() == collects
        assert seen == [False] * 3
    finally:
        gc.enable()
