"""The thread that ends waits: at its time, not before, and not what was freed."""

from __future__ import annotations

import gc
import math
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from tests.engines.process import wait_until

from polysession._shell import watchdog
from polysession._shell.watchdog import bound, free


class Held:
    """Something with a time."""

    def __init__(self) -> None:
        self.bound_at = math.inf
        self.severed = threading.Event()

    def sever(self) -> None:
        """Note it, and fail as a link may."""
        self.severed.set()
        raise OSError


def test_it_is_severed_when_its_time_is_up() -> None:
    """Also if the one before it failed; once only."""
    first, second = Held(), Held()
    bound(first, time.monotonic())
    bound(second, time.monotonic())
    assert first.severed.wait(10)
    assert second.severed.wait(10)
    second.severed.clear()
    third = Held()
    bound(third, time.monotonic())
    assert third.severed.wait(10)
    assert not second.severed.is_set()


def test_a_thread_that_dies_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is bound after that has its time, too."""
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    dying = Held()
    monkeypatch.setattr(dying, "sever", sys.exit)
    dog = watchdog._current.dog
    bound(dying, time.monotonic())
    wait_until(lambda: not dog.runs, what="the thread has died")
    after = Held()
    bound(after, time.monotonic())
    assert after.severed.wait(10)


def test_a_look_bears_what_is_bound_in_the_midst_of_it() -> None:
    """Where the collector of garbage runs, which lets others have a turn."""
    dog = watchdog._current.dog
    many = [Held() for _ in range(3000)]  # more than the tuples that Python keeps for reuse
    late = [Held() for _ in range(200)]
    spare = iter(late)

    def bind_another(phase: str, _: object) -> None:
        is_its = threading.current_thread().name == "polysession-watchdog"
        if phase == "start" and is_its and (held := next(spare, None)) is not None:
            bound(held, time.monotonic() + 100)

    usual = gc.get_threshold()
    gc.callbacks.append(bind_another)
    try:
        gc.set_threshold(1)
        for held in many:
            bound(held, time.monotonic() + 0.3)
        assert all(held.severed.wait(10) for held in many)
    finally:
        gc.set_threshold(*usual)
        gc.callbacks.remove(bind_another)
        for held in late:
            free(held)
    assert dog.runs
    assert next(spare, None) is None


def test_what_is_freed_is_left_alone() -> None:
    """And what is bound to a later time has that."""
    freed, later, witness = Held(), Held(), Held()
    at = time.monotonic() + 0.2
    bound(freed, at)
    bound(later, at)
    free(freed)
    free(freed)
    bound(later, at + 100)
    bound(witness, at + 0.05)
    assert witness.severed.wait(10)
    assert not freed.severed.is_set()
    assert not later.severed.is_set()
    free(later)


def test_the_thread_ends_when_there_is_nothing_to_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    """And another one is begun when there is."""
    dog = watchdog._Watchdog()
    monkeypatch.setattr(watchdog._current, "dog", dog)
    monkeypatch.setattr(watchdog, "_IDLE", 0.01)
    monkeypatch.setattr(watchdog, "_LINGER", 0.01)
    for _ in range(2):
        held = Held()
        bound(held, time.monotonic())
        assert held.severed.wait(10)
        wait_until(lambda: not dog.runs, what="the thread ended")


@pytest.mark.parametrize("verb", ["begin", "read"])
def test_a_program_ends_though_a_unit_is_open(tmp_path: Path, verb: str) -> None:
    """A unit in a suspended generator is ended by the interpreter's own end, where no thread starts any more."""
    program = f"""
from polysession import Sessions
from sqlalchemy import text

door = Sessions("sqlite:///{tmp_path / "x.db"}")

def numbers():
    with door.{verb}() as session:
        yield from session.scalars(text("select 1"))

kept = numbers()
print(next(kept))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "1\n")
