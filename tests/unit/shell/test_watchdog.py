"""The thread that ends waits: at its time, not before, and not what was freed."""

from __future__ import annotations

import gc
import math
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from tests.conformance.freezing import frozen
from tests.engines.process import wait_until
from tests.engines.server import Server
from tests.engines.targets import FreshDatabase

from polysession import Sessions
from polysession._shell import grace, watchdog
from polysession._shell.room import Room
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


def test_it_does_not_wait_for_itself() -> None:
    """The garbage collector may end a unit in its thread, which waits for a server until the watchdog helps."""
    inner, outer = Held(), Held()
    helped: list[bool] = []

    def collect() -> None:
        bound(inner, time.monotonic())
        helped.append(inner.severed.wait(10))

    for _ in range(2):  # the one that was relieved goes on too
        inner.severed.clear()
        outer.sever = collect  # type: ignore[method-assign]  # in place of what the collector does
        bound(outer, time.monotonic())
        wait_until(lambda: helped, timeout=20, what="it was helped")
        assert helped.pop()


@pytest.mark.parametrize("target", ["pg18", "mariadb"])
def test_what_the_collector_ends_in_its_thread_waits_no_longer_than_elsewhere(
    target: str, private_server: Callable[[str], Server]
) -> None:
    """A unit that was dropped, on a server that is frozen."""
    with frozen_unit(target, private_server(target)):
        collector, witness = Held(), Held()
        collected: list[float] = []

        def collect() -> None:
            began = time.monotonic()
            gc.collect()
            collected.append(time.monotonic() - began)

        collector.sever = collect  # type: ignore[method-assign]  # as the collector does it now and then
        bound(collector, time.monotonic())
        bound(witness, time.monotonic() + 0.5)
        assert witness.severed.wait(3)
        wait_until(lambda: collected, timeout=15, what="it was collected")
        assert 0.5 < collected[0] < 10


@contextmanager
def frozen_unit(target: str, server: Server) -> Iterator[None]:
    """A unit that was dropped, but not collected yet, on a server that does not answer any more."""
    server.create_database("frozen")
    database = FreshDatabase(target, "frozen", server)
    with Sessions(database.url()) as door:

        def numbers() -> Iterator[int]:
            with door.begin() as session:
                yield from session.scalars(text("select 1"))

        kept: list[Any] = [numbers()]
        assert next(kept[0]) == 1
        gc.collect()
        gc.disable()
        kept.append(kept)  # a circle
        del kept
        try:
            with frozen(database), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        finally:
            gc.enable()


def test_it_waits_for_no_lock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of a pool in whose midst somebody waits for a server, in what the garbage collector ends there: he needs help
    too. The unit has its turn afterwards."""
    monkeypatch.setattr(grace, "GRACE", 0.05)
    has_it, may_end, witness = threading.Event(), threading.Event(), Held()
    with Sessions(f"sqlite:///{tmp_path / 'x.db'}") as door:

        def keep(room: Room) -> None:
            with room.lock:
                has_it.set()
                may_end.wait(60)

        with suppress(Exception), door.begin(deadline=0.2) as session:
            session.execute(text("select 1"))
            holding: Any = session._polysession_holding  # type: ignore[attr-defined]  # the guarded class has it
            (room,) = {engine.pool.room for engine in holding.engines.values()}
            other = threading.Thread(target=keep, args=(room,))
            other.start()
            try:
                assert has_it.wait(10)
                wait_until(lambda: time.monotonic() > holding.seen.bound_at + 0.2, what="its time is up")
                bound(witness, time.monotonic())
                helped = witness.severed.wait(5)
                assert not holding.seen.severed
            finally:
                may_end.set()
                other.join()
            wait_until(lambda: holding.seen.severed, what="it is severed")
    assert helped


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
