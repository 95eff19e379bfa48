"""Units that wait for each other's connections: one is refused at once, and nobody by mistake."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from polysession import AsyncSessions, Sessions
from polysession._shell import knots
from polysession._shell.room import Room
from polysession.errors import CheckoutTimeout, PoolDeadlock

ONE = sa.text("select 1")
SOON = 10
"""Seconds: half of what they would wait. How soon it really is, `proofs/deadlocks.py` measures."""


def table(folder: Path, *names: str, size: int = 1, timeout: str = "20s") -> dict[str, Any]:
    """Databases with so many connections each."""
    pool = {"size": size, "checkout_timeout": timeout}
    return {"databases": {name: {"url": f"sqlite:///{folder / name}.db", "pool": pool} for name in names}}


def waits(door: Sessions | AsyncSessions, count: int) -> bool:
    """So many wait for a connection of this door."""
    return sum(endpoint.waiting for endpoint in door.ready().endpoints) == count


def until(check: Callable[[], bool]) -> None:
    """Look again until it is so."""
    ends = time.monotonic() + 10
    while not check():
        assert time.monotonic() < ends
        time.sleep(0.001)  # the other threads' turn


def test_a_unit_inside_of_itself(tmp_path: Path) -> None:
    """It is refused at once with both places, and the outer unit goes on."""
    with Sessions.from_mapping(table(tmp_path, "a")) as door:
        with door.begin(name="outer") as session:
            session.execute(ONE)
            began = time.monotonic()
            with pytest.raises(PoolDeadlock) as caught, door.begin(propagation="requires_new", name="inner") as inner:
                inner.execute(ONE)
            assert time.monotonic() - began < SOON
            session.execute(ONE)
        assert isinstance(caught.value, CheckoutTimeout)
        assert "'inner' opened at" in caught.value.why
        assert "unit 'outer' opened at" in caught.value.why
        assert caught.value.why.count("test_knots.py:") == 2
        assert "pool.size" not in str(caught.value)  # SQLite has one that writes, whatever the size
        assert (door.held(), door._connections_out()) == ((), 0)
    assert not knots._waits


def test_a_session_inside_of_a_session(tmp_path: Path) -> None:
    """Sessions that their owner ends are found too, as long as the function that opened them runs."""
    with Sessions.from_mapping(table(tmp_path, "a")) as door, door.open() as session:
        session.execute(ONE)
        with pytest.raises(PoolDeadlock), door.open() as inner:
            inner.execute(ONE)


@pytest.mark.parametrize("ring", [2, 3, 4])
def test_a_ring_of_threads(tmp_path: Path, ring: int) -> None:
    """Each holds one database and wants the next: exactly one is refused, all others commit."""
    names = "abcd"[:ring]
    with Sessions.from_mapping(table(tmp_path, *names)) as door:
        start = threading.Barrier(ring)

        def one(number: int) -> str:
            try:
                with door.begin(names[number]) as session:
                    session.execute(ONE)
                    start.wait()
                    with door.begin(names[(number + 1) % ring]) as inner:
                        inner.execute(ONE)
            except PoolDeadlock as error:
                return f"refused, {error.why.count('waits for')} wait"
            return "committed"

        began = time.monotonic()
        with ThreadPoolExecutor(ring) as pool:
            ends = sorted(pool.map(one, range(ring)))
        assert time.monotonic() - began < SOON
        assert ends == ["committed"] * (ring - 1) + [f"refused, {ring} wait"]
        assert door._connections_out() == 0


@pytest.mark.parametrize("ring", [2, 3])
def test_a_ring_of_tasks(tmp_path: Path, ring: int) -> None:
    """The same with tasks of one event loop."""
    names = "abc"[:ring]

    async def run() -> list[str]:
        async with AsyncSessions.from_mapping(table(tmp_path, *names)) as door:
            there, start = 0, asyncio.Event()

            async def one(number: int) -> str:
                nonlocal there
                try:
                    async with door.begin(names[number]) as session:
                        await session.execute(ONE)
                        there += 1
                        if there == ring:
                            start.set()
                        await start.wait()
                        async with door.begin(names[(number + 1) % ring]) as inner:
                            await inner.execute(ONE)
                except PoolDeadlock:
                    return "refused"
                return "committed"

            return sorted(await asyncio.gather(*map(one, range(ring))))

    assert asyncio.run(run()) == ["committed"] * (ring - 1) + ["refused"]


def test_a_task_that_waits_inside_of_wait_for(tmp_path: Path) -> None:
    """The unit of the outer task is found below `asyncio.wait_for`, which before Python 3.12 makes another task."""

    async def run() -> None:
        made = AsyncSessions.from_mapping(table(tmp_path, "a"))
        async with made as door, door.open() as inner, door.begin() as session:
            await session.execute(ONE)
            with pytest.raises(PoolDeadlock):
                await asyncio.wait_for(inner.execute(ONE), 20)

    asyncio.run(run())


def test_a_holder_that_is_alive(tmp_path: Path) -> None:
    """Somebody else has the second connection and does not wait: it gives back, and nobody is refused."""
    with Sessions.from_mapping(table(tmp_path, "a", size=2)) as door:
        there, leave = threading.Event(), threading.Event()

        def alive() -> None:
            with door.open() as session:
                session.execute(ONE)
                there.set()
                leave.wait(10)

        other = threading.Thread(target=alive)
        other.start()
        there.wait(10)

        def release() -> None:
            until(lambda: waits(door, 1))
            leave.set()

        helper = threading.Thread(target=release)
        helper.start()
        with door.open() as session:
            session.execute(ONE)
            with door.open() as inner:
                inner.execute(ONE)
        other.join()
        helper.join()


def test_a_session_that_others_may_end(tmp_path: Path) -> None:
    """One of a sessionmaker may change hands: another thread ends it, and the thread that made it is served."""
    with Sessions.from_mapping(table(tmp_path, "a")) as door:
        session = door.sessionmaker()()
        session.execute(ONE)

        def end() -> None:
            until(lambda: waits(door, 1))
            session.close()

        helper = threading.Thread(target=end)
        helper.start()
        with door.open() as mine:
            mine.execute(ONE)
        helper.join()


def test_a_session_that_is_handed_over(tmp_path: Path) -> None:
    """A thread of a framework's pool opened it for another thread, and works for somebody else now."""
    with Sessions.from_mapping(table(tmp_path, "a")) as door:

        def opened() -> Session:
            session = door.open()
            session.execute(ONE)
            return session

        session = opened()

        def finish() -> None:
            until(lambda: waits(door, 1))
            door.take_over(session)
            session.execute(ONE)
            session.close()

        helper = threading.Thread(target=finish)
        helper.start()
        with door.begin() as mine:
            mine.execute(ONE)
        helper.join()


def test_a_unit_that_is_handed_over(tmp_path: Path) -> None:
    """The same with a unit that was entered in this thread, whose block another one ends."""
    with Sessions.from_mapping(table(tmp_path, "a")) as door:
        unit = door.begin()

        def enter() -> Session:
            session = unit.__enter__()
            session.execute(ONE)
            return session

        session = contextvars.copy_context().run(enter)  # as frameworks do for each request

        def finish() -> None:
            until(lambda: waits(door, 1))
            door.take_over(session)
            unit.__exit__(None, None, None)

        helper = threading.Thread(target=finish)
        helper.start()
        with door.begin() as mine:
            mine.execute(ONE)
        helper.join()


def test_who_does_not_wait_does_not_come_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The path of who gets a connection at once has nothing of it."""
    monkeypatch.setattr(knots, "begins", None)
    monkeypatch.setattr(knots, "ends", None)
    with Sessions.from_mapping(table(tmp_path, "a", "b", size=2)) as door, door.begin("a") as outer:
        outer.execute(ONE)
        with door.begin("b") as inner:
            inner.execute(ONE)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_child_has_no_waits(tmp_path: Path) -> None:
    """A wait of the parent's thread is not the child's, even if another thread was looking when it forked."""
    knots._waits[object()] = knots._Wait(None, frozenset())  # type: ignore[arg-type]  # nobody looks at it here
    try:
        with knots._lock:
            child = os.fork()
            if child == 0:
                os._exit(0 if not knots._waits and knots._lock.acquire(blocking=False) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        knots._waits.clear()


def test_rooms_are_made_while_others_wait() -> None:
    """Who begins to wait looks at all rooms; that other threads make some meanwhile is no error."""
    stop = threading.Event()
    failed: list[BaseException] = []

    def make() -> None:
        while not stop.is_set():
            kept = [Room(str(number), 1, 0.0) for number in range(50)]
            del kept

    def look() -> None:
        try:
            for _ in range(300):
                knots._all_rooms()
        except BaseException as error:
            failed.append(error)

    makers = [threading.Thread(target=make, daemon=True) for _ in range(2)]
    lookers = [threading.Thread(target=look, daemon=True) for _ in range(2)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in (*makers, *lookers):
            thread.start()
        for thread in lookers:
            thread.join()
    finally:
        stop.set()
        sys.setswitchinterval(before)
        for thread in makers:
            thread.join()
    assert failed == []


def count_collections(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When the garbage collector was asked to run, from now on."""
    collected: list[float] = []
    collect = gc.collect

    def counted(*generation: int) -> int:
        collected.append(time.monotonic())
        return collect(*generation)

    monkeypatch.setattr(gc, "collect", counted)
    return collected


def test_what_runs_is_not_looked_for_among_the_garbage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deadlock of units whose functions run is told without a collection, which may take long; what was dropped in a
    circle is found by one, and whoever waits for it is served."""
    collected = count_collections(monkeypatch)
    with Sessions.from_mapping(table(tmp_path, "a")) as door:
        with door.begin() as outer:
            outer.execute(ONE)
            with pytest.raises(PoolDeadlock), door.begin(propagation="requires_new") as inner:
                inner.execute(ONE)
        assert collected == []

        def drop() -> None:
            unit = door.begin()
            circle: list[Any] = [unit, unit.__enter__()]
            circle[1].execute(ONE)
            circle.append(circle)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            drop()
            with door.begin(propagation="requires_new") as inner:
                inner.execute(ONE)
        assert collected != []


def test_the_same_among_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task's sessions are found in the variables of its coroutines, which run above SQLAlchemy's greenlet."""
    collected = count_collections(monkeypatch)

    async def main() -> None:
        async with AsyncSessions.from_mapping(table(tmp_path, "a")) as door, door.begin() as outer:
            await outer.execute(ONE)
            with pytest.raises(PoolDeadlock):
                async with door.begin(propagation="requires_new") as inner:
                    await inner.execute(ONE)

    asyncio.run(main())
    assert collected == []
