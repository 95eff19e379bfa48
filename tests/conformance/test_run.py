"""Repeatable units"""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import AsyncSession

from polysession import AsyncSessions
from polysession.errors import UnitRolledBack

from .cells import Cell, Refused, also_pooled
from .doors import real
from .schema import Item

EXCLUSIVE = (
    "a unit that may write locks the SQLite database for itself: the other session cannot write until it ends, and "
    "gets SQLite's BUSY error after its timeout"
)


@pytest.fixture
def one(cell: Cell) -> None:
    """An item whose value is 0."""
    cell.witness.do("insert into item (id, name, value) values (1, 'one', 0)")


async def value(session: AsyncSession) -> int:
    """Read the item, as an object."""
    item = await session.get(Item, 1)
    assert item is not None
    return item.value


async def increment(session: AsyncSession) -> int:
    """Read the item, and write what was read plus one."""
    item = await session.get(Item, 1)
    assert item is not None
    item.value += 1
    return item.value


@also_pooled
async def test_answers_what_the_function_returns(door: AsyncSessions, cell: Cell) -> None:
    """run() runs a function of the session as a unit, commits, and answers what the function returned."""

    async def write(session: AsyncSession) -> str:
        session.add(Item(id=1, name="one"))
        assert real(door.current()) is real(session)
        assert door.held()[0].name.endswith("write")
        return "done"

    assert await door.run(write) == "done"
    assert cell.witness.items() == [1]


async def test_a_decorated_function(door: AsyncSessions, cell: Cell) -> None:
    """@unit makes a function a unit: it is called without the session, runs anew each time, and joins an open one."""

    @door.unit()
    async def write(session: AsyncSession, number: int, *, name: str = "") -> int:
        session.add(Item(id=number, name=name or str(number)))
        await session.flush()
        return number

    assert await write(1) == 1
    assert await write(2, name="two") == 2
    assert write.__name__ == "write"
    assert cell.witness.items() == [1, 2]

    @door.unit()
    async def both(session: AsyncSession) -> None:
        await write(3)
        await write(4)
        assert cell.witness.items() == [1, 2]

    await both()
    assert cell.witness.items() == [1, 2, 3, 4]


async def test_a_programs_error_is_not_repeated(door: AsyncSessions, cell: Cell) -> None:
    """An error that does not go away by repeating leaves at once, as it is: the function's own, and the database's."""
    calls = 0

    async def fail(session: AsyncSession) -> None:
        nonlocal calls
        calls += 1
        session.add(Item(id=1, name="one"))
        await session.flush()
        raise error

    error = ValueError()
    with pytest.raises(ValueError) as caught:  # its text is empty
        await door.run(fail)
    assert caught.value is error
    assert calls == 1

    async def err(session: AsyncSession) -> None:
        nonlocal calls
        calls += 1
        await session.execute(sa.text("select nothing from nowhere"))

    with pytest.raises(DBAPIError):
        await door.run(err)
    assert calls == 2
    assert cell.witness.items() == []
    assert door.counts().repeated == 0


@also_pooled
async def test_a_conflict_is_repeated(cell: Cell, one: None) -> None:
    """If another session changes what run() has read, the unit runs again in a new session, and is right."""
    door = cell.door(**({"connect": {"timeout": 0.1}} if cell.engine == "sqlite" else {}))
    sessions: list[object] = []

    async def work(session: AsyncSession) -> int:
        sessions.append(real(session))
        before = await value(session)
        if len(sessions) == 1:
            async with door.open() as other:
                if cell.engine == "sqlite":
                    cell.differs(EXCLUSIVE)
                    with pytest.raises(OperationalError, match="locked"):
                        await other.execute(sa.update(Item).values(value=Item.value + 10))
                else:
                    await other.execute(sa.update(Item).values(value=Item.value + 10))
                    await other.commit()
        await session.execute(sa.update(Item).values(value=before + 1))
        return before + 1

    expected = 1 if cell.engine == "sqlite" else 11
    assert await door.run(work) == expected
    assert cell.witness.value(1) == expected
    assert len(set(map(id, sessions))) == (1 if cell.engine == "sqlite" else 2)
    assert door.counts().repeated == (0 if cell.engine == "sqlite" else 1)


async def test_attempts(cell: Cell, one: None) -> None:
    """attempts() does for a block what run() does for a function: a new session for each turn, until one commits."""
    door = cell.door(**({"connect": {"timeout": 0.1}} if cell.engine == "sqlite" else {}))
    sessions: list[object] = []
    for attempt in door.attempts():
        async with attempt as session:
            sessions.append(real(session))
            before = await value(session)
            if len(sessions) == 1 and cell.engine != "sqlite":
                cell.witness.do("update item set value = value + 10")
            await session.execute(sa.update(Item).values(value=before + 1))
    if cell.engine == "sqlite":
        cell.differs(EXCLUSIVE)
    assert (len(set(map(id, sessions))), cell.witness.value(1)) == ((1, 1) if cell.engine == "sqlite" else (2, 11))
    with pytest.raises(Refused):
        for attempt in door.attempts():
            async with attempt:
                raise Refused


async def test_gives_up(cell: Cell, one: None) -> None:
    """After the attempts that were asked for the last error leaves, with a note that says why it is not repeated."""
    door = cell.door(**({"connect": {"timeout": 0.05}} if cell.engine == "sqlite" else {}))
    calls = 0

    async def work(session: AsyncSession) -> None:
        nonlocal calls
        calls += 1
        if cell.engine == "sqlite":
            cell.differs("the conflict is shown by another session that holds the lock: SQLite's BUSY error")
            await session.execute(sa.update(Item).values(value=1))
        before = await value(session)
        async with door.open() as other:
            await other.execute(sa.update(Item).values(value=Item.value + 10))
            await other.commit()
        await session.execute(sa.update(Item).values(value=before + 1))

    async def try_three_times() -> None:
        with pytest.raises(DBAPIError) as caught:
            await door.run(work, retry=3)
        (note,) = caught.value.__notes__
        assert "is not repeated: 3 of 3 attempts were made" in note

    if cell.engine == "sqlite":
        async with door.open() as locker:
            await locker.execute(sa.update(Item).values(value=30))
            await try_three_times()
            await locker.commit()
    else:
        await try_three_times()
    assert calls == 3
    assert cell.witness.value(1) == 30
    assert door.counts().repeated == 2


@also_pooled
async def test_no_update_is_lost(door: AsyncSessions, cell: Cell, one: None) -> None:
    """8 workers increment one row 10 times each by reading and writing it in run(): it ends at 80."""

    async def worker() -> None:
        for _ in range(10):
            await door.run(increment, retry=100)

    assert await cell.together(*[worker] * 8) == [None] * 8
    assert cell.witness.value(1) == 80


async def test_begin_can_lose_an_update(cell: Cell, one: None) -> None:
    """The control: in begin(), at the server's own level, what another session committed meanwhile is overwritten."""
    door = cell.door(**({"connect": {"timeout": 0.1}} if cell.engine == "sqlite" else {}))
    async with door.begin() as session:
        before = await value(session)
        async with door.open() as other:
            if cell.engine == "sqlite":
                cell.differs(EXCLUSIVE)
                with pytest.raises(OperationalError, match="locked"):
                    await other.execute(sa.update(Item).values(value=Item.value + 10))
            else:
                await other.execute(sa.update(Item).values(value=Item.value + 10))
                await other.commit()
        await session.execute(sa.update(Item).values(value=before + 1))
    assert cell.witness.value(1) == 1


async def test_a_joined_run_is_repeated_as_a_whole(door: AsyncSessions, cell: Cell) -> None:
    """run() inside a repeatable unit joins it and is not repeated alone: the outer one is."""
    outer_calls, inner_calls = 0, 0

    async def inner(session: AsyncSession) -> None:
        nonlocal inner_calls
        inner_calls += 1
        raise Refused

    async def outer(session: AsyncSession) -> None:
        nonlocal outer_calls
        outer_calls += 1
        with pytest.raises(Refused):
            await door.run(inner)

    with pytest.raises(UnitRolledBack):
        await door.run(outer)
    assert (outer_calls, inner_calls) == (1, 1)


async def test_a_swallowed_conflict_is_no_commit(cell: Cell, one: None) -> None:
    """If the error by which the server ended the transaction is swallowed, the unit does not end as committed."""
    door = cell.door(**({"connect": {"timeout": 0.1}} if cell.engine == "sqlite" else {}))

    async def work(session: AsyncSession) -> None:
        before = await value(session)
        session.add(Item(id=2, name="two"))
        await session.flush()
        async with door.open() as other:
            if cell.engine == "sqlite":
                cell.differs(EXCLUSIVE + "; the transaction itself goes on, and commits")
                with pytest.raises(OperationalError, match="locked"):
                    await other.execute(sa.update(Item).where(Item.id == 1).values(value=10))
                return
            await other.execute(sa.update(Item).where(Item.id == 1).values(value=10))
            await other.commit()
        with pytest.raises(DBAPIError):
            await session.execute(sa.update(Item).where(Item.id == 1).values(value=before + 1))

    if cell.engine == "sqlite":
        await door.run(work, retry=1)
        assert cell.witness.items() == [1, 2]
    else:
        with pytest.raises(UnitRolledBack, match="rolled back its whole transaction"):
            await door.run(work, retry=1)
        assert door.counts().committed == 0
        assert cell.witness.items() == [1]
