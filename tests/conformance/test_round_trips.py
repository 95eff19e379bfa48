"""Round trips"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import sqlalchemy as sa

from polysession import AsyncSessions, Sessions
from polysession.testing.proxy import FaultProxy
from polysession.topology import Certainty
from tests.engines.targets import FreshDatabase

from .cells import Cell
from .schema import Item

TRIPS = {
    ("pg", "psycopg"): (0, 2, 3, 1, 2, 0, 1),
    ("pg", "asyncpg"): (0, 2, 3, 1, 2, 0, 1),
    ("mariadb", "pymysql"): (0, 2, 3, 2, 3, 0, 1),
    ("mariadb", "asyncmy"): (0, 2, 3, 2, 3, 0, 1),
    ("pgbouncer", "psycopg"): (0, 2, 3, 1, 2, 0, 2),
    ("pgbouncer", "asyncpg"): (0, 4, 6, 3, 5, 0, 4),
}
"""By engine and driver: for a unit that does nothing, writes a row, reads a row and changes it, does these two and may
commit early; for a read unit that does nothing, reads a row."""


async def test_round_trips(cell: Cell) -> None:
    """A unit that does nothing sends nothing; on PostgreSQL BEGIN takes no round trip; all others are known, too."""
    if cell.engine == "sqlite":
        cell.differs("SQLite has no round trips")
        return
    numbers = itertools.count(1)
    with FaultProxy.before(cell.url) as proxy:
        door = cell.door({"default": cell.table(url=proxy.url)})

        async def nothing() -> None:
            async with door.begin():
                pass

        async def write(outcome: Certainty = Certainty.PLAIN) -> None:
            number = next(numbers)
            async with door.begin(outcome=outcome) as session:
                session.add(Item(id=number, name=str(number)))

        async def change(outcome: Certainty = Certainty.PLAIN) -> None:
            async with door.begin(outcome=outcome) as session:
                item = await session.get_one(Item, 1)
                item.value += 1

        def write_early() -> Awaitable[None]:
            return write(Certainty.EARLY)

        def change_early() -> Awaitable[None]:
            return change(Certainty.EARLY)

        async def read_nothing() -> None:
            async with door.read():
                pass

        async def read() -> None:
            async with door.read() as session:
                await session.get_one(Item, 1)

        async def trips(unit: Callable[[], Awaitable[None]]) -> int:
            for _ in range(8):  # statements are prepared, and remembered
                await unit()
            with proxy.counting() as count:
                await unit()
            return count.round_trips

        await write()
        found = [await trips(unit) for unit in (nothing, write, change, write_early, change_early, read_nothing, read)]
        assert tuple(found) == TRIPS[cell.engine, cell.place.driver]
        await door.close()


@pytest.mark.mariadb
def test_what_was_not_committed_is_ended(fresh_database: Callable[[str], FreshDatabase]) -> None:
    """A session that is closed, and a unit that fails, leave nothing open, whatever they did before."""
    url = fresh_database("mariadb").url("pymysql")
    with Sessions({"default": {"url": url, "pool": {"size": 1}}}) as door:
        with door.begin() as session:
            session.execute(sa.text("create table item (id int)"))
        with door.open() as session:
            for end in (session.commit, session.rollback, session.close):
                session.execute(sa.text("insert into item values (1)"))
                end()
        with pytest.raises(ZeroDivisionError), door.begin() as session:
            session.execute(sa.text("insert into item values (2)"))
            raise ZeroDivisionError
        with door.begin() as session:
            assert session.scalars(sa.text("select id from item")).all() == [1]


@pytest.mark.mariadb
@pytest.mark.parametrize("reset", ["touched", "never"])
def test_what_was_sent_past_the_session_is_ended(fresh_database: Callable[[str], FreshDatabase], reset: str) -> None:
    """What a cursor of the driver's wrote after a COMMIT of the connection is rolled back with its session."""
    url = fresh_database("mariadb").url("asyncmy")

    async def use() -> None:
        async with AsyncSessions({"default": {"url": url, "pool": {"size": 1, "reset": reset}}}) as door:
            async with door.begin() as session:
                await session.execute(sa.text("create table item (id int)"))
            async with door.open() as session:
                connection = await session.connection()
                await connection.execute(sa.text("select 1"))
                await connection.commit()
                raw: Any = await connection.get_raw_connection()
                async with raw.driver_connection.cursor() as cursor:
                    await cursor.execute("insert into item values (1)")
            async with door.begin() as session:
                assert (await session.scalars(sa.text("select id from item"))).all() == []

    asyncio.run(use())
