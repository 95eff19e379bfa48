"""Connections"""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from polysession import AsyncSessions
from polysession.errors import CheckoutTimeout

from .cells import Cell, also_pooled, line
from .schema import Item

ONE = sa.text("select 1")


@also_pooled
async def test_a_full_pool_names_the_holders(cell: Cell) -> None:
    """When no connection is had in time, CheckoutTimeout names every holder's unit, owner and code line."""
    door = cell.door(pool={"size": 1, "checkout_timeout": "500ms"})
    async with door.begin(name="import") as session:
        opened = line() - 1
        await session.execute(ONE)

        async def other() -> str:
            async with door.open() as session:
                with pytest.raises(CheckoutTimeout) as caught:
                    await session.execute(ONE)
            return str(caught.value)

        (text,) = await cell.together(other)
    assert "no connection to default/primary within " in text
    assert "1 of 1 are out" in text
    assert f"unit 'import' opened at {__file__}:{opened} in test_a_full_pool_names_the_holders" in text
    assert ("task" if cell.is_async else "thread 'MainThread'") in text


async def test_what_would_help_those_who_wait(cell: Cell) -> None:
    """CheckoutTimeout advises a larger pool only where it would help: SQLite has one unit that writes at a time."""
    size = 3 if cell.engine == "sqlite" else 1
    door = cell.door(pool={"size": size, "checkout_timeout": "500ms"})
    async with door.begin() as session:
        await session.execute(ONE)

        async def other() -> str:
            with pytest.raises(CheckoutTimeout) as caught:
                async with door.begin() as session:
                    await session.execute(ONE)
            return str(caught.value)

        (text,) = await cell.together(other)
    assert ("raise pool.size" in text) is (cell.engine != "sqlite")
    assert ("only one unit at a time writes" in text) is (cell.engine == "sqlite")


async def test_a_connection_is_handed_on(cell: Cell) -> None:
    """Whoever waits gets the connection that comes back: many units finish over a pool of one."""
    door = cell.door(pool={"size": 1, "checkout_timeout": "5s"})

    async def unit(number: int) -> None:
        async with door.begin() as session:
            session.add(Item(id=number, name=str(number)))

    answers = await cell.together(*[lambda number=number: unit(number) for number in range(10)])
    assert answers == [None] * 10
    assert len(cell.database.census()) == 1
    assert cell.witness.items() == list(range(10))


@also_pooled
async def test_size_bounds_the_connections(cell: Cell) -> None:
    """pool.size bounds the connections of an endpoint as the server counts them: of write and read units together."""
    door = cell.door(pool={"size": 2, "checkout_timeout": "5s"})

    async def unit(number: int) -> None:
        async with door.begin() if number % 2 else door.read() as session:
            await session.execute(ONE)
            assert sum(endpoint.out for endpoint in door.ready().endpoints) <= 2
            # a server takes a moment to let go of one that was closed to make room
            await cell.until(lambda: len(cell.database.census()) <= 2, "the server counts two connections at most")

    answers = await cell.together(*[lambda number=number: unit(number) for number in range(12)])
    assert answers == [None] * 12


@also_pooled
async def test_close_ends_the_connections(cell: Cell) -> None:
    """close() ends the idle connections at once: afterwards the server counts none."""
    door = cell.door()
    async with door.begin() as session:
        await session.execute(ONE)
    async with door.open() as free:
        await free.execute(ONE)
    assert cell.database.census() != []
    await door.close()
    await cell.until(lambda: not cell.database.census(), "the server counts no connection")


async def test_close_while_a_unit_is_open(cell: Cell) -> None:
    """close() names the units that are still open in a ResourceWarning; they end as they would."""
    door = cell.door()
    async with door.begin(name="late") as session:
        session.add(Item(id=1, name="one"))
        await session.flush()
        with pytest.warns(ResourceWarning, match="'late' opened at"):
            await door.close()
    assert cell.witness.items() == [1]
    assert door.held() == ()
    await cell.until(lambda: not cell.database.census(), "the server counts no connection")


async def test_ready(door: AsyncSessions, cell: Cell) -> None:
    """ready() tells from memory whether the process can work, and the counts of each endpoint."""
    assert door.ready()
    async with door.begin() as session:
        await session.execute(ONE)
        (endpoint,) = door.ready().endpoints
        assert (endpoint.endpoint, endpoint.out, endpoint.waiting) == ("default/primary", 1, 0)
    assert door.ready().endpoints[0].out == 0
    await door.close()
    assert not door.ready()
    assert door.ready().reason == "closed"
