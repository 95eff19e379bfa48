"""What an owner leaves open"""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from polysession import AsyncSessions, Sessions
from polysession.errors import SessionEnded, UnitRolledBack

from .cells import Cell, line
from .schema import Item

ONE = sa.text("select 1")


async def _until(cell: Cell, true: Callable[[], bool]) -> None:
    """Let others run until something is true."""
    until = time.monotonic() + 10.0
    while not true():
        assert time.monotonic() < until, "it never came true"
        await asyncio.sleep(0.001) if cell.is_async else threading.Event().wait(0.001)


async def test_a_unit_that_its_owner_left_is_rolled_back(cell: Cell, recwarn: pytest.WarningsRecorder) -> None:
    """A unit that its thread or task has not left when it ends is rolled back at once and reported with its line."""
    door = cell.door(pool={"size": 1})
    kept: list[Any] = []

    async def forgets() -> int:
        opened = line() + 1
        unit = door.begin(name="forgotten")
        kept.append(unit)
        session = await unit.__aenter__()
        session.add(Item(id=1, name="one"))
        await session.flush()
        return opened

    opened = await cell.elsewhere(forgets)
    await _until(cell, lambda: not door.connections() and not door.held())
    await _until(cell, lambda: len(recwarn) > 0)
    text = str(recwarn.pop(ResourceWarning).message)
    assert text.startswith("polysession: unit 'forgotten' was left open by ")
    assert f"opened at {__file__}:{opened} in " in text
    assert cell.witness.items() == []
    assert door.counts().rolled_back == 1
    with pytest.raises(UnitRolledBack, match=r"'forgotten' was rolled back: .* ended before its block"):
        await kept[0].__aexit__(None, None, None)


async def test_a_session_that_its_owner_left_is_closed(cell: Cell, recwarn: pytest.WarningsRecorder) -> None:
    """A session of open() that is not closed when its thread or task ends is; used afterwards it is said where."""
    door = cell.door(pool={"size": 1})
    kept: list[Any] = []

    async def forgets() -> None:
        session = door.open()
        kept.append(session)
        session.add(Item(id=1, name="one"))
        await session.flush()

    await cell.elsewhere(forgets)
    await _until(cell, lambda: not door.connections() and not door.held())
    await _until(cell, lambda: len(recwarn) > 0)
    assert "session" in str(recwarn.pop(ResourceWarning).message)
    assert door.counts().dropped == 1
    assert cell.witness.items() == []
    with pytest.raises(SessionEnded, match=r"ended .dropped."):
        await kept[0].execute(ONE)


async def test_what_was_taken_over_is_left_alone(cell: Cell) -> None:
    """A unit that another thread or task has taken over goes on when the one that opened it ends."""
    door = cell.door()
    kept: list[Any] = []
    taken = threading.Event()

    async def opens() -> None:
        unit = door.begin()
        session = await unit.__aenter__()
        session.add(Item(id=1, name="one"))
        await session.flush()
        kept.extend((unit, session))
        await _until(cell, taken.is_set)

    async def goes_on() -> None:
        await _until(cell, lambda: len(kept) == 2)
        door.take_over(getattr(kept[1], "real", kept[1]))
        taken.set()
        await _until(cell, ended.is_set)
        await kept[1].execute(ONE)
        await kept[0].__aexit__(None, None, None)

    ended = threading.Event()

    async def opens_and_ends() -> None:
        await cell.elsewhere(opens)
        ended.set()

    assert await cell.together(opens_and_ends, goes_on) == [None, None]
    assert cell.witness.items() == [1]


async def test_a_session_of_a_maker_may_outlive_its_opener(cell: Cell) -> None:
    """A sessionmaker's session that somebody still refers to goes on when the thread or task that opened it ends."""
    door = cell.door()
    kept: list[Any] = []

    async def opens() -> None:
        session = door.sessionmaker()()
        kept.append(session)
        session.add(Item(id=1, name="one"))
        await session.flush()

    await cell.elsewhere(opens)
    await asyncio.sleep(0.01) if cell.is_async else threading.Event().wait(0.01)
    assert len(door.connections()) == 1
    await kept[0].commit()
    await kept[0].close()
    assert cell.witness.items() == [1]


async def test_what_was_ended_is_not_reported(door: AsyncSessions, cell: Cell) -> None:
    """The end of a thread or task that has ended what it opened says nothing."""

    async def unit() -> None:
        async with door.begin() as session:
            await session.execute(ONE)
        async with door.open() as free:
            await free.execute(ONE)
        async with door.read() as reader:
            await reader.execute(ONE)

    for _ in range(3):
        await cell.elsewhere(unit)


@pytest.fixture
def no_collection_by_itself() -> Iterator[None]:
    """Let the garbage collector run only if it is asked to."""
    before = gc.get_threshold()
    gc.set_threshold(0)
    yield
    gc.set_threshold(*before)


@pytest.mark.usefixtures("no_collection_by_itself")
def test_a_session_in_a_circle_is_no_deadlock(tmp_path: Path) -> None:
    """A session that was dropped in a circle of objects gives its connection to the same function's next one."""
    with Sessions({"default": {"url": f"sqlite:///{tmp_path}/x.db", "pool": {"size": 1}}}) as door:

        def use(*, drop: bool) -> None:
            session = door.open()
            session.execute(ONE)
            if drop:
                session.info["circle"] = session
            else:
                session.close()

        use(drop=True)
        with pytest.warns(ResourceWarning, match=r"was dropped without close\(\)"):
            use(drop=False)
        assert door._connections_out() == 0
