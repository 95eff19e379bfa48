"""One owner"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from polysession import AsyncSessions
from polysession.errors import NoUnit, WrongOwner

from .cells import Cell, line
from .doors import real
from .schema import Item


async def test_another_owner_is_refused(door: AsyncSessions, cell: Cell) -> None:
    """A session used in another thread or task raises WrongOwner, which names both; its owner can use it on."""
    mine = asyncio.current_task().get_name() if cell.is_async else threading.current_thread().name  # type: ignore[union-attr]
    opened = line() + 1
    async with door.begin() as session:
        session.add(Item(id=1, name="one"))
        for use in (
            lambda: session.execute(sa.text("select 1")),
            session.flush,
            lambda: session.get(Item, 1),
        ):
            with pytest.raises(WrongOwner) as caught:
                await cell.elsewhere(use)
            assert f"belongs to {'task' if cell.is_async else 'thread'} {mine!r}" in str(caught.value)
            assert "'worker 0' used it" in str(caught.value)
            assert f"{__file__}:{opened} in " in str(caught.value)
    assert cell.witness.items() == [1]


async def test_one_session_in_several_at_once_is_refused(door: AsyncSessions, cell: Cell) -> None:
    """One session in several threads, or in asyncio.gather, is refused each time, also when it has a connection."""
    async with door.begin() as session:
        await session.execute(sa.text("select 1"))
        answers = await cell.together(*[lambda: session.execute(sa.text("select 1"))] * 4)
        assert [type(answer) for answer in answers] == [WrongOwner] * 4
        await session.execute(sa.text("select 1"))


async def test_an_open_session_has_one_owner(door: AsyncSessions, cell: Cell) -> None:
    """A session from open() belongs to the thread or task that opened it; any may close it."""
    session = door.open()
    await session.execute(sa.text("select 1"))
    with pytest.raises(WrongOwner):
        await cell.elsewhere(lambda: session.execute(sa.text("select 1")))
    await cell.elsewhere(session.close)
    assert door.held() == ()


async def test_a_timeout_around_a_statement(door: AsyncSessions, cell: Cell) -> None:
    """asyncio.wait_for around a statement is no false alarm, though it runs in a task of its own before Python 3.12."""
    async with door.begin() as session:
        session.add(Item(id=1, name="one"))
        if cell.is_async:
            assert await asyncio.wait_for(session.scalar(sa.text("select 1")), 5) == 1
            await asyncio.wait_for(session.flush(), 5)
        else:
            cell.differs("a thread has no wait_for; a statement moved to another thread is another owner's: WrongOwner")
            with pytest.raises(WrongOwner):
                await cell.elsewhere(lambda: session.scalar(sa.text("select 1")))
    assert cell.witness.items() == [1]


async def test_current_is_the_units_session(door: AsyncSessions, cell: Cell) -> None:
    """current() answers the session of the unit that is open here, and raises NoUnit where there is none."""
    with pytest.raises(NoUnit, match="no unit of work over 'default' is open here"):
        door.current()
    async with door.begin() as session:
        assert real(door.current()) is real(session)
        assert real(door.current("default")) is real(session)
    with pytest.raises(NoUnit):
        door.current()


async def test_current_is_not_inherited(door: AsyncSessions, cell: Cell) -> None:
    """A unit is not current in the tasks and threads that are started inside it: there begin opens another."""

    async def ask() -> object:
        return door.current()

    async def begin() -> object:
        async with door.begin() as inner:
            return real(inner)

    async with door.begin() as session:
        with pytest.raises(WrongOwner if cell.is_async else NoUnit):
            await cell.elsewhere(ask)
        assert await cell.elsewhere(begin) is not real(session)
        assert real(door.current()) is real(session)


async def test_gather(door: AsyncSessions, cell: Cell) -> None:
    """gather() runs each function in a unit, a session and a task or thread of its own, and answers in their order."""
    cell.witness.do("insert into item (id, name, value) values (1, 'one', 10)")
    sessions: list[object] = []

    def reading(number: int) -> Callable[[AsyncSession], Any]:
        async def work(session: AsyncSession) -> int:
            sessions.append(real(session))
            return number + int(await session.scalar(sa.select(Item.value)) or 0)

        return work

    assert await door.gather(*map(reading, range(4))) == [10, 11, 12, 13]
    assert len(set(map(id, sessions))) == 4
    async with door.begin() as session:
        assert await door.gather(reading(0)) == [10]
        assert real(session) not in sessions[4:]


async def test_task(door: AsyncSessions, cell: Cell) -> None:
    """task() makes a function that runs in a unit of its own wherever it is called, also inside of another unit."""

    async def write(session: AsyncSession, number: int) -> object:
        session.add(Item(id=number, name=str(number)))
        return real(session)

    later = door.task(write)
    async with door.begin() as session:
        assert await later(1) is not real(session)
        assert cell.witness.items() == [1]
    await cell.elsewhere(lambda: later(2))
    assert cell.witness.items() == [1, 2]


async def test_cancelled_in_the_body(door: AsyncSessions, cell: Cell) -> None:
    """A unit that is cancelled in its body, while it waits for the server too, is rolled back and holds nothing."""

    async def unit() -> None:
        async with door.begin() as session:
            session.add(Item(id=1, name="one"))
            await session.flush()
            if cell.is_async:
                started.set()
                await session.execute(sa.text(_LONG[cell.engine]))
            raise KeyboardInterrupt

    if cell.is_async:
        started = asyncio.Event()
        task = asyncio.create_task(unit())
        task.add_done_callback(lambda _: started.set())  # it may fail before
        await started.wait()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    else:
        cell.differs("a thread cannot be cancelled; a KeyboardInterrupt in the body does the same")
        with pytest.raises(KeyboardInterrupt):
            await unit()
    assert cell.witness.items() == []
    assert door.held() == ()
    assert door._connections_out() == 0
    async with door.begin() as session:
        session.add(Item(id=1, name="one"))
    assert cell.witness.items() == [1]


_LONG = {
    "pg": "select pg_sleep(10)",
    "mariadb": "select sleep(0.5)",
    "sqlite": "with recursive n(i) as (select 1 union all select i + 1 from n where i < 3e6) select count(*) from n",
}
"""Statements that outlast the test unless they are cancelled; those of SQLite and MariaDB cannot be and are shorter."""
