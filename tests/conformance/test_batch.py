"""Several queries in one flight"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from polysession.errors import ReadOnlyUnit, RequestRefused, SessionEnded
from polysession.testing.proxy import FaultProxy

from .cells import Cell, also_pooled
from .schema import Item

COUNT = sa.select(sa.func.count()).select_from(Item)
ITEMS = sa.select(Item).order_by(Item.id)
NAME = sa.select(Item.name).where(Item.id == sa.bindparam("which"))
WRONG = sa.text("select nothing_like_it from item")


@pytest.fixture(autouse=True)
def _items(cell: Cell) -> None:
    for number, name in enumerate(("one", "two"), 1):
        cell.witness.do(f"insert into item (id, name, value) values ({number}, '{name}', {number * 10})")


@also_pooled
@pytest.mark.parametrize("verb", ["read", "begin"])
async def test_batch(cell: Cell, verb: str) -> None:
    """Each result is what the session's own `execute` gives, in any unit; the objects are those of the session."""
    door = cell.door()
    async with getattr(door, verb)() as session:
        items, count, none = await door.batch(session, ITEMS, COUNT, ITEMS.where(Item.id > 5))
        found = items.scalars().all()
        assert [(item.id, item.name, item.value) for item in found] == [(1, "one", 10), (2, "two", 20)]
        assert count.scalar_one() == 2
        assert none.all() == []
        assert await session.get(Item, 2) is found[1]
        (once_more,) = await door.batch(session, NAME.params(which=1))
        assert once_more.scalars().all() == ["one"]
        assert await door.batch(session) == []
    assert door.held() == ()


async def test_batch_flies_together(cell: Cell) -> None:
    """With psycopg so many queries as there are cost one round trip; with other drivers at least one each."""
    if cell.engine == "sqlite":
        cell.differs("SQLite has no round trips")
        return
    with FaultProxy.before(cell.url) as proxy:
        door = cell.door({"default": cell.table(url=proxy.url)})
        queries = [sa.select(Item.value).where(Item.id == sa.bindparam("id")).params(id=id) for id in (1, 2, 3, 1, 2)]
        for _ in range(8):  # statements are prepared, and remembered
            async with door.read() as session:
                await door.batch(session, *queries)
        async with door.read() as session:
            await door.batch(session, COUNT)
            with proxy.counting() as count:
                results = await door.batch(session, *queries)
        assert [result.scalar() for result in results] == [10, 20, None, 10, 20]
        flies = cell.place.driver == "psycopg" and cell.engine != "pgbouncer"
        assert count.round_trips == 1 if flies else count.round_trips >= len(queries)
        await door.close()


async def test_one_of_a_batch_fails(cell: Cell) -> None:
    """The others are executed all the same, and the unit goes on."""
    door = cell.door()
    async with door.read() as session:
        with pytest.raises(DBAPIError, match="nothing_like_it"):
            await door.batch(session, COUNT, WRONG, ITEMS, WRONG)
        if cell.engine == "pgbouncer":
            cell.differs("through a pooler a read unit is one transaction, which an error ends on PostgreSQL")
            return
        (count,) = await door.batch(session, COUNT)
        assert count.scalar() == 2
        counted, items = await door.batch(session, COUNT, ITEMS)
        assert (counted.scalar(), len(items.all())) == (2, 2)
    assert door.counts().committed == 1


async def test_a_batch_does_not_write(cell: Cell) -> None:
    """What a read unit refuses is refused there, too: by the unit, and by the server."""
    door = cell.door()
    async with door.read() as session:
        with pytest.raises(ReadOnlyUnit):
            await door.batch(session, COUNT, sa.update(Item).values(value=0))
    with suppress(DBAPIError, ReadOnlyUnit):
        async with door.read() as session:
            await door.batch(session, COUNT, sa.text("update item set value = 0"), COUNT)
    assert [cell.witness.value(number) for number in (1, 2)] == [10, 20]
    assert door.held() == ()


async def test_the_link_is_lost_in_a_batch(cell: Cell) -> None:
    """Its unit is told so, and the next one has another connection."""
    if cell.engine == "sqlite":
        cell.differs("SQLite has no link")
        return
    door = cell.door(pool={"size": 1})
    async with door.read() as session:
        await door.batch(session, COUNT, COUNT)
        cell.database.cut()
        with pytest.raises(DBAPIError):
            await door.batch(session, ITEMS, COUNT)
    async with door.read() as session:
        counts = await door.batch(session, COUNT, COUNT)
        assert [count.scalar() for count in counts] == [2, 2]


async def test_a_batch_is_cancelled(cell: Cell) -> None:
    """What its statements have begun is ended, and the connection is not used further in the middle of an answer."""
    if not cell.is_async:
        return
    if cell.engine == "sqlite":
        cell.differs("SQLite does not sleep")
        return
    door = cell.door(pool={"size": 1})
    # for less than the grace: a server that hears of the cancellation before it sleeps does not care, and sleeps
    sleep = sa.text("select pg_sleep(4)" if cell.is_postgres else "select sleep(4)")

    async def work() -> None:
        async with door.read() as session:
            await door.batch(session, COUNT, sleep, COUNT)

    task = asyncio.create_task(work())
    while not any(held.in_database for held in door.held()):  # noqa: ASYNC110 - nobody tells that one was sent
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert door.held() == ()
    async with door.read() as session:
        (count, again) = await door.batch(session, COUNT, COUNT)
        assert (count.scalar(), again.scalar()) == (2, 2)


async def test_batch_of_what_is_no_session(cell: Cell) -> None:
    """The door wants the session of a unit that is open, and statements."""
    door = cell.door()
    wrong: Any = "select 1"
    with pytest.raises(RequestRefused, match=r"batch\(\) was given str where its (Async)?Session is expected"):
        await door.batch(wrong)
    async with door.read() as session:
        with pytest.raises(sa.exc.ArgumentError):
            await door.batch(session, wrong, wrong)
        kept: AsyncSession = session
    with pytest.raises(SessionEnded):
        await door.batch(kept, COUNT, COUNT)
