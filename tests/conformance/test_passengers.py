"""What is kept from one flight to the next: greenlets, and nothing of what they did"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import sys
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from polysession import AsyncSessions, Sessions
from polysession._shell import together
from tests.engines.targets import FreshDatabase

pytestmark = pytest.mark.parametrize("target", ["pg18"])

HERE: contextvars.ContextVar[str] = contextvars.ContextVar("here", default="nowhere")
CARRIED: contextvars.ContextVar[Any] = contextvars.ContextVar("carried")
WRONG = sa.text("select nothing_like_it")


class Carried:
    """A value whose end can be seen."""


def queries(number: int) -> list[Any]:
    """So many of them."""
    return [sa.select(sa.literal(each)) for each in range(number)]


def kept() -> list[Any]:
    """Those of this thread."""
    return together._kept.passengers


@pytest.fixture
def door(database: FreshDatabase) -> Iterator[Sessions]:
    """Over psycopg."""
    kept().clear()
    with Sessions(database.url("psycopg")) as door:
        yield door
    kept().clear()


def test_they_are_used_again(door: Sessions) -> None:
    """And no more are kept than there may be."""
    for number in (3, 2, together._MOST + 4, 3):
        before = list(kept())
        with door.read() as session:
            found = door.batch(session, *queries(number))
            assert [result.scalar_one() for result in found] == list(range(number))
        assert set(before) <= set(kept())
        assert len(kept()) == min(max(len(before), number), together._MOST)


def test_nothing_of_a_unit_is_kept(door: Sessions) -> None:
    """Neither its session, nor its statements, nor its context, nor an error."""
    gone: list[weakref.ref[Any]] = []

    def work() -> None:
        carried = Carried()
        CARRIED.set(carried)
        with door.read() as session:
            door.batch(session, *queries(3))
            gone.extend((weakref.ref(session), weakref.ref(carried)))
        with pytest.raises(DBAPIError), door.read() as session:
            door.batch(session, WRONG, *queries(2))
        gone.append(weakref.ref(session))

    contextvars.copy_context().run(work)
    assert len(kept()) == 3
    gc.collect()
    assert [ref() for ref in gone] == [None] * 3
    assert all(passenger.gr_context is None for passenger in kept())


def test_each_is_in_the_context_of_who_asks(database: FreshDatabase, door: Sessions) -> None:
    """Also if it was used in another one."""
    seen: list[str] = []

    def work(where: str) -> None:
        HERE.set(where)
        with door.read() as session:
            sa.event.listen(session, "do_orm_execute", lambda _: seen.append(HERE.get()))
            door.batch(session, *queries(2))

    for where in ("one", "two"):
        contextvars.copy_context().run(work, where)
    assert seen == ["one", "one", "two", "two"]

    async def tasks() -> None:
        async with AsyncSessions(database.url("psycopg")) as sessions:

            async def task(where: str) -> None:
                HERE.set(where)
                async with sessions.read() as session:
                    sa.event.listen(session.sync_session, "do_orm_execute", lambda _: seen.append(HERE.get()))
                    for _ in range(3):
                        await sessions.batch(session, *queries(2))

            await asyncio.gather(*(task(f"task {number}") for number in range(4)))

    asyncio.run(tasks())
    assert sorted(seen[4:]) == sorted(f"task {number}" for number in range(4) for _ in range(6))


def test_an_interrupt(door: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who was under way is not kept, and who comes next finds the others."""

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt), door.read() as session:
        door.batch(session, *queries(2))
        patched.setattr(together, "fly", interrupted)
        door.batch(session, *queries(3))
    assert not kept()
    with door.read() as session:
        assert [result.scalar_one() for result in door.batch(session, *queries(3))] == [0, 1, 2]


def test_threads_end(door: Sessions) -> None:
    """With what they have kept."""
    gone: list[weakref.ref[Any]] = []

    def work() -> None:
        with door.read() as session:
            door.batch(session, *queries(4))
        gone.extend(weakref.ref(passenger) for passenger in kept())

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(gone) == 32
    gc.collect()
    assert not any(ref() for ref in gone)
    assert not kept()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork()")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_fork(door: Sessions) -> None:
    """The child goes on with those that its thread had."""
    with door.read() as session:
        door.batch(session, *queries(3))
    others, ended = threading.Event(), threading.Event()

    def work() -> None:
        with door.read() as session:
            door.batch(session, *queries(3))
        others.set()
        ended.wait()

    thread = threading.Thread(target=work)
    thread.start()
    others.wait()
    child = os.fork()
    if not child:
        wrong: list[Any] = []
        sys.unraisablehook = wrong.append
        try:
            with door.read() as session:
                found = [result.scalar_one() for result in door.batch(session, *queries(5))]
            gc.collect()
            os._exit(0 if found == list(range(5)) and not wrong else 1)
        finally:
            os._exit(2)
    ended.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with door.read() as session:
        assert len(door.batch(session, *queries(3))) == 3
