"""A unit leaves nothing behind that only the garbage collector could find: its memory is free when it has ended."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from polysession import AsyncSessions, Sessions
from polysession.errors import DeadlineExceeded

ONE = text("select 1")
UNITS = 5


class Boom(Exception):
    """What a body raises."""


@contextmanager
def collecting() -> Iterator[list[str]]:
    """What of this package the garbage collector alone would have freed, by the names of its classes."""
    found: list[str] = []
    gc.collect()
    gc.disable()
    before = gc.get_debug()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield found
        gc.collect()
        found += [type(each).__name__ for each in gc.garbage if type(each).__module__.startswith("polysession.")]
    finally:
        gc.set_debug(before)
        gc.garbage.clear()
        gc.enable()


def plain(door: Sessions) -> None:
    """A unit with a statement."""
    with door.begin() as session:
        session.execute(ONE).all()


def reading(door: Sessions) -> None:
    """A unit that reads."""
    with door.read() as session:
        session.execute(ONE).all()


def empty(door: Sessions) -> None:
    """A unit in which nothing is done."""
    with door.begin():
        pass


def timed(door: Sessions) -> None:
    """A unit with a deadline, and a part of it with one of its own."""
    with door.begin(deadline=60) as session:
        session.execute(ONE).all()
        with door.begin(deadline=30):
            session.execute(ONE).all()


def inside(door: Sessions) -> None:
    """Units inside of a unit: one that joins and one with a savepoint."""
    with door.begin() as session:
        with door.begin():
            session.execute(ONE).all()
        with door.begin(propagation="nested"):
            session.execute(ONE).all()


def failing(door: Sessions) -> None:
    """A unit that is rolled back."""
    with suppress(Boom), door.begin() as session:
        session.execute(ONE).all()
        raise Boom


def repeated(door: Sessions) -> None:
    """A repeatable function."""
    door.run(lambda session: session.execute(ONE).all())


def late(door: Sessions) -> None:
    """A part of a unit that takes longer than it may."""
    unit: Any = door.begin(propagation="nested", deadline=60)
    with door.begin(), suppress(DeadlineExceeded), unit:
        unit._scope.deadline_at = 0.0


SYNC = (plain, reading, empty, timed, inside, failing, repeated, late)


@pytest.mark.parametrize("work", SYNC, ids=lambda work: work.__name__)
def test_a_unit_leaves_no_circle(work: Callable[[Sessions], None], tmp_path: Path) -> None:
    """Nothing of ours refers to itself when the unit is over."""
    with Sessions(f"sqlite:///{tmp_path / 'garbage.db'}") as door:
        work(door)
        with collecting() as found:
            for _ in range(UNITS):
                work(door)
        assert found == []


async def plain_async(door: AsyncSessions) -> None:
    """A unit with a statement."""
    async with door.begin() as session:
        (await session.execute(ONE)).all()


async def reading_async(door: AsyncSessions) -> None:
    """A unit that reads."""
    async with door.read() as session:
        (await session.execute(ONE)).all()


async def timed_async(door: AsyncSessions) -> None:
    """A unit with a deadline."""
    async with door.begin(deadline=60) as session:
        (await session.execute(ONE)).all()


async def failing_async(door: AsyncSessions) -> None:
    """A unit that is rolled back."""
    with suppress(Boom):
        async with door.begin() as session:
            await session.execute(ONE)
            raise Boom


async def late_async(door: AsyncSessions) -> None:
    """A unit whose time is up."""
    with suppress(DeadlineExceeded):
        async with door.begin(deadline=0.001):
            await asyncio.sleep(5)


async def late_repeated_async(door: AsyncSessions) -> None:
    """A repeatable function whose time is up."""

    async def work(_: AsyncSession) -> None:
        await asyncio.sleep(5)

    with suppress(DeadlineExceeded):
        await door.run(work, deadline=0.001)


ASYNC = (plain_async, reading_async, timed_async, failing_async, late_async, late_repeated_async)


@pytest.mark.parametrize("work", ASYNC, ids=lambda work: work.__name__)
def test_an_asynchronous_unit_leaves_no_circle(work: Callable[[AsyncSessions], Awaitable[Any]], tmp_path: Path) -> None:
    """The same for asyncio."""

    async def units() -> list[str]:
        async with AsyncSessions(f"sqlite+aiosqlite:///{tmp_path / 'garbage.db'}") as door:
            await work(door)
            with collecting() as found:
                for _ in range(UNITS):
                    await work(door)
            return found

    assert asyncio.run(units()) == []


def test_a_circle_would_be_found(tmp_path: Path) -> None:
    """The control: a holding that refers to itself."""
    with Sessions(f"sqlite:///{tmp_path / 'garbage.db'}") as door:
        with collecting() as found, door.begin() as session:
            holding: Any = session._polysession_holding  # type: ignore[attr-defined]  # the guarded class has it
            holding.repeated = holding
            del holding, session
        assert "Holding" in found
