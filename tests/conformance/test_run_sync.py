"""Units of ordinary functions"""

from __future__ import annotations

import contextvars

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from polysession import AsyncSessions
from polysession.errors import DeadlineExceeded, ReadOnlyUnit, UnitOwnsCommit
from polysession.facts import Outcome, outcome_of
from polysession.policy.retry import Backoff

from .cells import Cell, Refused, also_pooled, line
from .doors import real
from .schema import Item
from .test_deadlines import LONG

SYNC = "the synchronous door has no run_sync: run() and read() do it there"


@pytest.fixture
def one(cell: Cell) -> None:
    """An item whose value is 0."""
    cell.witness.do("insert into item (id, name, value) values (1, 'one', 0)")


@pytest.fixture(autouse=True)
def noted(cell: Cell) -> None:
    """Where another verb does it, the page says so."""
    if not cell.is_async:
        cell.differs(SYNC)


def increment(session: Session) -> int:
    """Read the item, and write what was read plus one."""
    item = session.get_one(Item, 1)
    item.value += 1
    return item.value


@also_pooled
async def test_an_ordinary_function(door: AsyncSessions, cell: Cell) -> None:
    """run_sync() runs an ordinary function of a Session as a unit, commits, and answers what it returned."""

    def write(session: Session) -> Item:
        assert isinstance(session, Session)
        current = real(door.current())
        assert getattr(current, "sync_session", current) is session
        (held,) = door.held()
        assert held.name.endswith("write")
        assert held.place.endswith("test_an_ordinary_function")
        assert f":{where}" in held.place
        item = Item(id=1, name="one")
        session.add(item)
        session.flush()
        assert door._connections_out() == 1
        return item

    where = line() + 1
    item = await door.run_sync(write)
    assert item.name == "one"
    assert door.held() == ()
    assert cell.witness.items() == [1]


@also_pooled
async def test_a_function_that_reads(door: AsyncSessions, cell: Cell, one: None) -> None:
    """With access="read" it is a read unit: what would write is refused, by the unit and by the server."""

    def read(session: Session) -> int:
        return session.get_one(Item, 1).value + len(session.scalars(sa.select(Item)).all())

    def add(session: Session) -> None:
        session.add(Item(id=2, name="two"))
        session.flush()

    def write(session: Session) -> None:
        session.execute(sa.text("delete from item"))

    assert await door.run_sync(read, access="read") == 1
    with pytest.raises(ReadOnlyUnit):
        await door.run_sync(add, access="read")
    with pytest.raises((ReadOnlyUnit, DBAPIError)):
        await door.run_sync(write, access="read")
    assert cell.witness.items() == [1]


async def test_an_ordinary_function_that_fails(door: AsyncSessions, cell: Cell) -> None:
    """Its error leaves as it is, with the unit's outcome, and its work is undone; commit() is refused inside of it."""

    def fail(session: Session) -> None:
        session.add(Item(id=1, name="one"))
        session.flush()
        raise error

    def commit(session: Session) -> None:
        session.commit()

    error = Refused()
    with pytest.raises(Refused) as caught:
        await door.run_sync(fail)
    assert caught.value is error
    assert outcome_of(error) is Outcome.ROLLED_BACK
    with pytest.raises(UnitOwnsCommit):
        await door.run_sync(commit)
    assert cell.witness.items() == []


async def test_hooks_of_an_ordinary_function(door: AsyncSessions, cell: Cell) -> None:
    """What it registers is called after the end; at the asynchronous door that may be a coroutine function."""
    seen: list[object] = []

    async def note(word: str) -> None:
        seen.append((word, cell.witness.items(), door._connections_out()))

    def work(session: Session) -> None:
        session.add(Item(id=1, name="one"))
        if cell.is_async:
            door.on_commit(note, "awaited")
        door.on_commit(seen.append, "called")
        door.on_rollback(seen.append, "rolled back")

    await door.run_sync(work)
    assert seen == ([("awaited", [1], 0), "called"] if cell.is_async else ["called"])


@also_pooled
async def test_no_update_of_ordinary_functions_is_lost(door: AsyncSessions, cell: Cell, one: None) -> None:
    """8 workers increment one row 10 times each by reading and writing it in run_sync(): it ends at 80."""

    async def worker() -> None:
        for _ in range(10):
            await door.run_sync(increment, retry=100)

    assert await cell.together(*[worker] * 8) == [None] * 8
    assert cell.witness.value(1) == 80


async def test_an_ordinary_function_is_repeated(cell: Cell, one: None) -> None:
    """After an error that may vanish it runs again, in a new session; after the last attempt a note says so."""
    door = cell.door(**({"connect": {"timeout": 0.05}} if cell.engine == "sqlite" else {}))
    sessions: list[object] = []

    def conflict(session: Session) -> None:
        sessions.append(session)
        if cell.engine == "sqlite":
            increment(session)
            session.flush()
            return
        before = session.get_one(Item, 1).value
        cell.witness.do("update item set value = value + 10")
        session.execute(sa.update(Item).values(value=before + 1))

    async def three_times() -> None:
        with pytest.raises(DBAPIError) as caught:
            await door.run_sync(conflict, retry=Backoff(first=0.001, cap=0.001, attempts=3))
        assert "3 of 3 attempts were made" in caught.value.__notes__[0]

    if cell.engine == "sqlite":
        async with door.open() as locker:
            await locker.execute(sa.update(Item).values(value=30))
            await three_times()
            await locker.commit()
    else:
        await three_times()
    assert len(set(map(id, sessions))) == 3
    assert cell.witness.value(1) == 30
    assert door.counts().repeated == 2


async def test_an_ordinary_function_joins(door: AsyncSessions, cell: Cell) -> None:
    """Inside of an open unit it joins that: the same session, committed with the outer one, or not at all."""

    def write(session: Session) -> Session:
        session.add(Item(id=1, name="one"))
        session.flush()
        return session

    async def outer(session: AsyncSession) -> None:
        assert await door.run_sync(write) is session.sync_session
        assert cell.witness.items() == []

    async def fail(session: AsyncSession) -> None:
        await door.run_sync(lambda session: session.execute(sa.delete(Item)).close())
        raise Refused

    await door.run(outer)
    assert cell.witness.items() == [1]
    with pytest.raises(Refused):
        await door.run(fail)
    assert cell.witness.items() == [1]
    async with door.read() as reader:
        assert await door.run_sync(lambda session: session, access="read") is reader.sync_session


async def test_the_deadline_of_an_ordinary_function(door: AsyncSessions, cell: Cell) -> None:
    """A statement that runs past the deadline is ended, and the unit is rolled back: DeadlineExceeded."""

    def slow(session: Session) -> None:
        session.add(Item(id=1, name="one"))
        session.flush()
        session.execute(sa.text(LONG[cell.engine])).all()

    with pytest.raises(DeadlineExceeded) as caught:
        await door.run_sync(slow, deadline=0.3)
    assert outcome_of(caught.value) is Outcome.ROLLED_BACK
    assert cell.witness.items() == []


async def test_the_context_of_an_ordinary_function(door: AsyncSessions) -> None:
    """It sees the context variables of who calls it."""
    token = _WORD.set("set by the caller")
    try:
        assert await door.run_sync(lambda session: _WORD.get(), access="read") == "set by the caller"
    finally:
        _WORD.reset(token)


_WORD: contextvars.ContextVar[str] = contextvars.ContextVar("word", default="unset")
