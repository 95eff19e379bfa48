"""Deadlines"""

from __future__ import annotations

import time

import pytest
import sqlalchemy as sa

from polysession import AsyncSessions
from polysession.errors import DeadlineExceeded, JoinRefused
from polysession.testing.proxy import FaultProxy

from .cells import Cell
from .schema import Item

LONG = {
    "pg": "select pg_sleep(10)",
    "pgbouncer": "select pg_sleep(10)",
    "mariadb": "select sleep(10)",
    "sqlite": "with recursive n(i) as (select 1 union all select i + 1 from n where i < 1e9) select count(*) from n",
}


async def test_a_long_statement(door: AsyncSessions, cell: Cell) -> None:
    """A statement that outlasts the unit's deadline is ended, and the unit rolled back: DeadlineExceeded."""
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        async with door.begin(deadline=0.3) as session:
            session.add(Item(id=1, name="one"))
            await session.flush()
            await session.execute(sa.text(LONG[cell.engine]))
    assert time.monotonic() - began < 5
    assert cell.witness.items() == []


async def test_a_deadline_is_the_units_alone(cell: Cell) -> None:
    """The next unit on the connection of one that overran its deadline has no limit any more."""
    door = cell.door(pool={"size": 1})
    with pytest.raises(DeadlineExceeded):
        async with door.begin(deadline=0.2) as session:
            await session.execute(sa.text(LONG[cell.engine]))
    short = LONG[cell.engine].replace("(10)", "(0.3)").replace("1e9", "2e6")
    async with door.begin() as session:
        await session.execute(sa.text(short))
        session.add(Item(id=1, name="one"))
    assert cell.witness.items() == [1]


async def test_a_limit_that_is_undone_stays_undone(cell: Cell) -> None:
    """The limit of a unit without a transaction reaches none that follows, whatever becomes of the one in between."""
    if cell.engine in ("sqlite", "pgbouncer"):
        cell.differs("the limit is the driver's" if cell.engine == "sqlite" else "such a unit cannot have a deadline")
        return
    door = cell.door(pool={"size": 1})
    limit = sa.text("show statement_timeout" if cell.is_postgres else "select @@max_statement_time")
    async with door.begin() as session:
        none = await session.scalar(limit)
    for between in (None, 60.0):
        async with door.begin(propagation="not_supported", deadline=3) as session:
            assert await session.scalar(limit) != none
        with pytest.raises(ZeroDivisionError):
            async with door.begin(deadline=between) as session:
                assert (await session.scalar(limit) == none) is (between is None)
                raise ZeroDivisionError
        async with door.begin() as session:
            assert await session.scalar(limit) == none
        async with door.begin(propagation="not_supported") as session:
            assert await session.scalar(limit) == none


async def test_a_limit_is_said_once(cell: Cell) -> None:
    """Units that follow each other with the same deadline tell the server of it once, where it outlives a unit."""
    if cell.engine in ("sqlite", "pgbouncer"):
        cell.differs("the limit is the driver's" if cell.engine == "sqlite" else "it ends with the transaction")
        return
    with FaultProxy.before(cell.url) as proxy:
        door = cell.door({"default": cell.table(url=proxy.url, pool={"size": 1})})

        async def unit(deadline: float | None) -> int:
            with proxy.counting() as count:
                async with door.read(deadline=deadline) as session:
                    await session.execute(sa.text("select 1"))
            return count.round_trips

        for _ in range(8):  # statements are prepared, and remembered
            await unit(None)
            await unit(60)
        assert [await unit(60) for _ in range(5)] == [1] * 5
        assert [await unit(None) for _ in range(3)] == [2, 1, 1]
        await door.close()


async def test_a_deadline_before_commit(door: AsyncSessions, cell: Cell) -> None:
    """A unit whose deadline passes in its own code is not committed."""
    with pytest.raises(DeadlineExceeded):
        async with door.begin(deadline=0.05) as session:
            session.add(Item(id=1, name="one"))
            await session.flush()
            until = time.monotonic() + 0.06
            while time.monotonic() < until:
                pass  # busy: the unit's own code takes the time
    assert cell.witness.items() == []


async def test_a_join_that_asks_for_more_time(door: AsyncSessions) -> None:
    """A unit that would join one with less time left than it asks for is refused."""
    async with door.begin(deadline=5):
        with pytest.raises(JoinRefused, match="its deadline differs"):
            async with door.begin(deadline=50):
                pass
        async with door.begin(propagation="nested"):
            with pytest.raises(JoinRefused, match="its deadline differs"):
                async with door.begin(deadline=50):
                    pass


async def test_a_savepoint_whose_time_is_up(door: AsyncSessions, cell: Cell) -> None:
    """A nested unit whose own deadline passes in a statement is undone alone; the unit around it goes on."""
    began = time.monotonic()
    async with door.begin(deadline=30) as session:
        session.add(Item(id=1, name="one"))
        with pytest.raises(DeadlineExceeded) as caught:
            async with door.begin(name="part", propagation="nested", deadline=0.3):
                session.add(Item(id=2, name="two"))
                await session.flush()
                await session.execute(sa.text(LONG[cell.engine]))
        assert caught.value.facts["unit"] == "part"
        assert time.monotonic() - began < 5
        session.add(Item(id=3, name="three"))
    assert cell.witness.items() == [1, 3]


async def test_an_own_unit_inside(door: AsyncSessions, cell: Cell) -> None:
    """A unit of its own inside one with a deadline is bound by it, and the report names the outer one."""
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded) as caught:
        async with (
            door.read(name="outer", deadline=0.3),
            door.begin(name="inner", propagation="requires_new") as session,
        ):
            await session.execute(sa.text(LONG[cell.engine]))
    assert caught.value.facts["unit"] == "outer"
    assert time.monotonic() - began < 5


async def test_an_own_unit_with_a_deadline_of_its_own(door: AsyncSessions, cell: Cell) -> None:
    """A unit of its own keeps the deadline that it asked for, also a later one; the outer one is told at its end."""
    with pytest.raises(DeadlineExceeded) as caught:
        async with (
            door.begin(name="outer", deadline=0.1),
            door.read(name="inner", propagation="requires_new", deadline=30) as session,
        ):
            until = time.monotonic() + 0.11
            while time.monotonic() < until:
                pass  # busy: the inner unit's own code takes the time
            assert await session.get(Item, 1) is None
    assert caught.value.facts["unit"] == "outer"
    assert door.counts().committed == 1
