"""Units in generators"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from polysession import AsyncSessions
from polysession.errors import JoinRefused, NoUnit, SessionEnded, SessionMisuse, UnitRolledBack

from .cells import Cell, line
from .doors import real
from .schema import Item


def item(number: int) -> Item:
    """A row."""
    return Item(id=number, name=str(number))


def sessions_of(door: AsyncSessions, **asked: Any) -> AsyncIterator[AsyncSession]:
    """A generator that has a unit open where it is suspended, three times."""

    async def rows() -> AsyncIterator[AsyncSession]:
        async with door.begin(**asked) as session:
            for _ in range(3):
                yield session

    return rows()


async def collected(door: AsyncSessions, cell: Cell, held: int = 0) -> None:
    """Run the garbage collector and let the loop end what it has found."""
    gc.collect()
    if cell.is_async:
        async with asyncio.timeout(5):
            while len(door.held()) > held:  # noqa: ASYNC110  # the loop tells nobody when it has closed a generator
                await asyncio.sleep(0)


async def test_a_suspended_generator_is_not_joined(door: AsyncSessions, cell: Cell) -> None:
    """begin beside a suspended generator opens a unit of its own, which commits whatever becomes of the generator."""
    rows = sessions_of(door)
    theirs = await anext(rows)
    theirs.add(item(1))
    async with door.begin() as mine:
        assert real(mine) is not real(theirs)
        assert real(door.current()) is real(mine)
        mine.add(item(2))
    assert cell.witness.items() == [2]
    await rows.aclose()  # type: ignore[attr-defined]  # it is a generator
    assert cell.witness.items() == [2]


async def test_inside_of_a_generator(door: AsyncSessions, cell: Cell) -> None:
    """Inside of a generator its own unit is the current one and is joined, also where another unit runs it."""

    async def rows() -> AsyncIterator[None]:
        async with door.begin() as session:
            yield
            assert real(door.current()) is real(session)
            async with door.begin() as inner:
                assert real(inner) is real(session)
                inner.add(item(1))

    generator = rows()
    await anext(generator)
    async with door.begin() as mine:
        await anext(generator, None)
        assert cell.witness.items() == [1]
        assert real(door.current()) is real(mine)
        mine.add(item(2))
    assert cell.witness.items() == [1, 2]


async def test_a_generator_joins(door: AsyncSessions, cell: Cell) -> None:
    """A generator that is run inside of a unit joins it, and what is done between its items is part of the unit too."""
    async with door.begin() as mine:
        async for theirs in sessions_of(door):
            assert real(theirs) is real(mine)
            async with door.begin() as inner:
                assert real(inner) is real(mine)
        mine.add(item(1))
    assert cell.witness.items() == [1]


async def test_nothing_is_current_beside_a_generator(door: AsyncSessions) -> None:
    """current() and on_commit() beside a suspended generator raise NoUnit, and the text names the unit that is open."""
    opened = line() + 3

    async def exported() -> AsyncIterator[None]:
        async with door.begin(name="export"):
            yield

    rows = exported()
    await anext(rows)
    for asked in (door.current, lambda: door.on_commit(print)):
        with pytest.raises(NoUnit) as caught:
            asked()
        assert f"unit 'export', opened at {__file__}:{opened}" in str(caught.value)
        assert "is open only inside of its generator, which is suspended" in str(caught.value)
    await rows.aclose()  # type: ignore[attr-defined]


async def test_a_mandatory_unit_beside_a_suspended_generator(door: AsyncSessions) -> None:
    """A mandatory unit beside a suspended generator is refused, and the text names the unit that is open there."""
    rows = sessions_of(door, name="rows")
    await anext(rows)
    with pytest.raises(JoinRefused) as caught:
        async with door.begin(propagation="mandatory"):
            pass
    assert "no unit of work is open here" in caught.value.what
    assert "unit 'rows', opened at" in caught.value.why
    assert "is open only inside of its generator, which is suspended" in caught.value.why
    with pytest.raises(JoinRefused, match="is suspended"):
        await door.run(add_nothing, propagation="mandatory")
    await rows.aclose()  # type: ignore[attr-defined]  # it is a generator
    with pytest.raises(JoinRefused) as caught:
        async with door.begin(propagation="mandatory"):
            pass
    assert "suspended" not in str(caught.value)
    assert not door.held()


async def add_nothing(_: AsyncSession) -> None:
    """Work that does nothing."""


async def test_the_block_of_a_context_manager(door: AsyncSessions, cell: Cell) -> None:
    """Inside the block of a @contextmanager that opens a unit, begin joins it: a dependency of a framework is one."""

    @asynccontextmanager
    async def scope() -> AsyncIterator[AsyncSession]:
        async with door.begin() as session:
            yield session

    async with scope() as outer, door.begin() as inner:
        assert real(inner) is real(outer)
        inner.add(item(1))
    async with AsyncExitStack() as stack:
        outer = await stack.enter_async_context(scope())
        assert real(door.current()) is real(outer)
        async with door.begin() as inner:
            assert real(inner) is real(outer)
            inner.add(item(2))
        assert cell.witness.items() == [1]
    assert cell.witness.items() == [1, 2]


async def test_a_context_manager_in_a_generator(door: AsyncSessions, cell: Cell) -> None:
    """A unit of a @contextmanager whose block is in a generator is open in that generator, and not beside it."""

    @asynccontextmanager
    async def scope() -> AsyncIterator[AsyncSession]:
        async with door.begin() as session:
            yield session

    async def rows() -> AsyncIterator[None]:
        async with scope() as session:
            yield
            async with door.begin() as inner:
                assert real(inner) is real(session)
                inner.add(item(1))

    generator = rows()
    await anext(generator)
    async with door.begin() as mine:
        mine.add(item(2))
    assert cell.witness.items() == [2]
    assert await anext(generator, "ended") == "ended"
    assert cell.witness.items() == [1, 2]


@pytest.mark.parametrize("way", ["closed", "dropped", "in a cycle"])
async def test_a_generator_that_is_not_exhausted(door: AsyncSessions, cell: Cell, way: str) -> None:
    """A generator that is closed early or dropped rolls its unit back; in a cycle, as soon as the collector has run."""
    gc.collect()
    rows: Any = sessions_of(door)
    session = await anext(rows)
    session.add(item(1))
    await session.flush()
    if way == "closed":
        await rows.aclose()
    elif way == "in a cycle":
        knot: list[Any] = [rows]
        knot.append(knot)
        del knot, rows
        with pytest.raises(NoUnit):
            door.current()
    else:
        del rows
    await collected(door, cell)
    assert door.held() == ()
    assert door._connections_out() == 0
    with pytest.raises(NoUnit, match="no unit of work over 'default' is open here") as caught:
        door.current()
    assert "suspended" not in str(caught.value)
    async with door.begin() as mine:
        mine.add(item(2))
    assert cell.witness.items() == [2]
    with pytest.raises(SessionEnded):
        await session.flush()


async def test_generators_that_take_turns(door: AsyncSessions) -> None:
    """Units that do not end in the order in which they were opened leave nothing behind."""
    running: list[Any] = []
    for _ in range(20):
        running.append(sessions_of(door))
        await anext(running[-1])
        if len(running) > 3:
            await running.pop(0).aclose()
        assert len(door.held()) == len(running)
        assert len(door._current.get()) <= len(running) + 1
    while running:
        await running.pop(0).aclose()
    assert door.held() == ()


async def test_a_joined_unit_is_open_at_the_end(door: AsyncSessions, cell: Cell) -> None:
    """A unit that ends while one that joined it is open commits nothing and says so; that one says so at its end."""
    rows = sessions_of(door, name="inner")
    with pytest.raises(SessionMisuse, match="ends, and a unit inside of it is still open") as caught:
        async with door.begin() as mine:
            mine.add(item(1))
            theirs = await anext(rows)
    assert str(caught.value).count(f"{__file__}:") == 2
    with pytest.raises(SessionEnded):
        await theirs.flush()
    with pytest.raises(UnitRolledBack, match="was rolled back with the unit that it had joined, which ended before it"):
        async for _ in rows:
            pass
    assert cell.witness.items() == []


async def test_a_savepoint_is_open_at_the_end(door: AsyncSessions, cell: Cell) -> None:
    """The same with propagation='nested'; and when the unit around it has failed."""
    rows = sessions_of(door, propagation="nested")
    with pytest.raises(SessionMisuse, match="ends, and a unit inside of it is still open"):
        async with door.begin() as mine:
            mine.add(item(1))
            await anext(rows)
    with pytest.raises(UnitRolledBack):
        async for _ in rows:
            pass
    rows = sessions_of(door, propagation="nested")
    with pytest.raises(KeyError):
        async with door.begin():
            await anext(rows)
            raise KeyError
    with pytest.raises(UnitRolledBack):
        async for _ in rows:
            pass
    assert cell.witness.items() == []


async def test_a_reader_may_stay_open(door: AsyncSessions, cell: Cell) -> None:
    """A read unit may end while a generator that joined it is open, or was closed early: there is nothing to lose."""

    async def rows() -> AsyncIterator[AsyncSession]:
        async with door.read() as session:
            for _ in range(3):
                yield session

    kept = rows()
    async with door.read():
        await anext(kept)
        early: Any = rows()
        await anext(early)
        await early.aclose()
    with pytest.raises(SessionEnded):
        await (await anext(kept)).get(Item, 1)
    await kept.aclose()  # type: ignore[attr-defined]
    assert cell.witness.items() == []


async def test_a_failed_close_of_a_generator(door: AsyncSessions, cell: Cell) -> None:
    """A generator that had joined and is closed early dooms a unit that writes: nobody knows what it left half done."""
    with pytest.raises(UnitRolledBack) as caught:
        async with door.begin() as mine:
            mine.add(item(1))
            rows: Any = sessions_of(door)
            await anext(rows)
            await rows.aclose()
    assert isinstance(caught.value.__cause__, GeneratorExit)
    assert cell.witness.items() == []
