"""What a forked child inherits is its parent's: the child closes its door and ends without a word of it."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, event, text
from sqlalchemy.orm import Session
from tests.engines.targets import FreshDatabase

from polysession import AsyncSessions, Sessions
from polysession._shell import knots, threads
from polysession.pools import FairPool

ONE = text("select 1")

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")


def in_child(work: Callable[[], object]) -> list[str]:
    """The warnings that `work` gives in a forked child; and the error, if it raises one."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        told: list[str] = []
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                work()
                gc.collect()
            told = [str(warning.message) for warning in caught]
        except BaseException as error:
            told = [repr(error)]
        finally:
            os.write(writing, "\n".join(told).encode())
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as pipe:
        told = pipe.read().splitlines()
    os.waitpid(child, 0)
    return told


def test_a_child_that_closes_its_door(tmp_path: Path) -> None:
    """Units and sessions of the parent are not named, and go on; a session of the child's own is."""
    door = Sessions(f"sqlite:///{tmp_path / 'x.db'}")
    maker = door.sessionmaker()

    def own() -> None:
        session = door.open()
        door.close()
        session.close()

    with door.begin(name="parents") as unit, maker() as session:
        unit.execute(ONE)
        session.execute(ONE)
        assert in_child(door.close) == []
        (named,) = in_child(own)
        assert "the door was closed while 1 units or sessions were open: 'test_a_child" in named
        assert "parents" not in named
        assert unit.scalar(ONE) == session.scalar(ONE) == 1
    door.close()


def test_a_child_that_drops_what_it_inherited(tmp_path: Path) -> None:
    """A session and a unit that the child's copy of the program forgets are forgotten by nobody."""
    door = Sessions(f"sqlite:///{tmp_path / 'x.db'}")
    kept: list[Any] = [door.sessionmaker()(), opened(door)]
    session: Session = kept[0]
    session.execute(ONE)
    assert next(kept[1]) == 1
    del session
    assert in_child(kept.clear) == []
    kept[0].close()
    kept[1].close()
    assert not door.held()
    door.close()


def opened(door: Sessions) -> Iterator[int]:
    """A generator in a unit."""
    with door.begin() as unit:
        yield from unit.scalars(ONE)


def test_threads_that_a_child_has_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a forked child the other threads of its parent are gone, and nobody takes back what they held: no thread is
    begun there before the child's own life begins."""
    door = Sessions(f"sqlite:///{tmp_path / 'x.db'}")
    begun, may_end = threading.Event(), threading.Event()

    def unit() -> None:
        with door.begin() as session:
            session.execute(ONE)
            begun.set()
            assert may_end.wait(30)

    def begin_none(_: object, name: str) -> None:
        started.append(name)

    def look() -> None:
        assert started == []

    started: list[str] = []
    other = threading.Thread(target=unit)
    other.start()
    assert begun.wait(30)
    monkeypatch.setattr(threads, "start", begin_none)
    assert in_child(look) == []
    may_end.set()
    other.join()
    assert started == []
    door.close()


def test_locks_that_others_had(tmp_path: Path) -> None:
    """A thread that was in the middle of something when its process forked stops nobody in the child."""
    door = Sessions(f"sqlite:///{tmp_path / 'x.db'}")
    taken, may_end = threading.Event(), threading.Event()
    rooms: Any = door._engines

    def hold() -> None:
        with door._live._lock, door._turns.lock, rooms._lock, door._lock:
            taken.set()
            assert may_end.wait(30)

    def unit() -> None:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(10)
        door.run(lambda session: session.scalar(ONE))
        door.pause()
        door.resume()
        door.counts()
        door.close()
        warnings.warn("done", stacklevel=1)

    other = threading.Thread(target=hold)
    other.start()
    assert taken.wait(30)
    assert in_child(unit) == ["done"]
    may_end.set()
    other.join()
    door.run(lambda session: session.scalar(ONE))
    door.close()


TARGETS = ("pg18", "pg15", "mariadb", "sqlite")
ADD, COUNT = text("insert into inherited values (1)"), text("select count(*) from inherited")


def in_generator(door: Sessions) -> Iterator[Any]:
    """A unit of a generator that is suspended."""
    with door.begin() as session:
        yield session


def of_unit(door: Sessions) -> list[Any]:
    """A session with what keeps it."""
    suspended = in_generator(door)
    return [suspended, next(suspended)]


def of_open(door: Sessions) -> list[Any]:
    """As above."""
    return [None, door.open()]


def of_engine(door: Sessions) -> list[Any]:
    """As above, of the application that uses the door's engine by itself."""
    with door.open() as session:
        engine: Any = session.get_bind()
    return [None, engine.connect()]


def of_heard_engine(door: Sessions) -> list[Any]:
    """As above, where SQLAlchemy's own pool hands it out, since somebody listens."""
    kept = of_engine(door)
    kept[1].close()
    event.listen(kept[1].engine, "checkout", lambda *_: None)
    return [None, kept[1].engine.connect()]


@pytest.mark.parametrize("of", [of_unit, of_open, of_engine, of_heard_engine], ids=lambda of: of.__name__)
@pytest.mark.parametrize("target", TARGETS)
def test_a_child_that_drops_a_connection_sends_nothing_on_it(
    database: FreshDatabase, of: Callable[[Sessions], list[Any]]
) -> None:
    """Its parent goes on in its transaction, and commits what it has done before the fork."""
    with Sessions(database.url()) as door:
        with door.begin() as session:
            session.execute(text("create table inherited (number integer)"))
        kept = of(door)
        kept[1].execute(ADD)
        assert in_child(kept.clear) == []
        suspended, session = kept
        session.execute(ADD)
        assert session.scalar(COUNT) == 2
        if suspended is None:
            session.commit()
            session.close()
        else:
            assert next(suspended, None) is None
        with door.read() as session:
            assert session.scalar(COUNT) == 2


@pytest.mark.parametrize(
    ("target", "driver"),
    [("pg18", "psycopg"), ("pg15", "asyncpg"), ("mariadb", "asyncmy"), ("sqlite", "aiosqlite")],
)
def test_a_child_that_drops_a_connection_of_asyncio_sends_nothing_on_it(database: FreshDatabase, driver: str) -> None:
    """The same with asyncio."""

    async def main() -> None:
        async with AsyncSessions(database.url(driver)) as door:
            async with door.begin() as session:
                await session.execute(text("create table inherited (number integer)"))
            async with door.open() as session:
                engine: Any = session.bind
            kept = [await engine.connect()]
            await kept[0].execute(ADD)
            assert in_child(kept.clear) == []
            await kept[0].execute(ADD)
            assert await kept[0].scalar(COUNT) == 2
            await kept[0].commit()
            await kept[0].close()

    asyncio.run(main())


@pytest.mark.parametrize("verb", ["begin", "read"])
def test_a_child_does_not_wait_for_a_thread_that_it_has_not(tmp_path: Path, verb: str) -> None:
    """One that was in the middle of the pool's work when the parent forked; what it had there is dropped."""
    door = Sessions(f"sqlite:///{tmp_path / 'x.db'}")

    def numbers() -> Iterator[int]:
        with getattr(door, verb)() as unit:
            yield from unit.scalars(ONE)

    kept = [numbers()]
    assert next(kept[0]) == 1

    def drop() -> None:
        signal.alarm(20)
        kept.clear()

    with in_the_middle():
        assert in_child(drop) == []
    assert next(kept[0], None) is None
    door.close()


def test_a_child_that_uses_a_pool_alone(tmp_path: Path) -> None:
    """The engine of the application goes on to be used: with connections of the child's own, and none of them lost."""
    engine = create_engine(f"sqlite:///{tmp_path / 'x.db'}", poolclass=FairPool, pool_size=1, pool_timeout=0)
    parents = [engine.connect()]
    parents[0].execute(ONE)

    def use() -> None:
        signal.alarm(20)
        with engine.connect() as connection:
            assert connection.scalar(ONE) == 1
        kept = [engine.connect()]
        kept[0].execute(ONE)
        kept.clear()  # dropped
        gc.collect()
        parents[0].close()
        parents.clear()
        with engine.connect() as connection:
            assert connection.scalar(ONE) == 1

    with in_the_middle():
        assert in_child(use) == []
    assert parents[0].scalar(ONE) == 1
    parents[0].close()
    engine.dispose()


@contextmanager
def in_the_middle() -> Iterator[None]:
    """Another thread has the locks of all pools."""
    has_them, may_end = threading.Event(), threading.Event()

    def work() -> None:
        with ExitStack() as stack:
            for room in knots._all_rooms():
                stack.enter_context(room.lock)
            has_them.set()
            assert may_end.wait(60)

    other = threading.Thread(target=work)
    other.start()
    assert has_them.wait(30)
    try:
        yield
    finally:
        may_end.set()
        other.join()
