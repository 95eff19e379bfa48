"""Deadlines"""

from __future__ import annotations

import time

import pytest
import sqlalchemy as sa

from polysession import AsyncSessions
from polysession.errors import DeadlineExceeded, JoinRefused

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
