"""A unit inside a unit"""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from polysession import AsyncSessions
from polysession.errors import JoinRefused, PoolDeadlock, RequestRefused

from .cells import Cell, Refused
from .doors import real
from .schema import Item

ONE_WRITER = (
    "SQLite has one writer at a time: an independent unit that writes inside of one that has written would wait for "
    "its own caller, and ends in PoolDeadlock"
)
SEVERAL_TRIPS = (
    "asyncpg speaks to the server several times for a statement, each time perhaps by another connection of the "
    "pooler, so a unit without a transaction is refused"
)


async def add(session: AsyncSession, number: int) -> None:
    """Write one row now."""
    session.add(Item(id=number, name=str(number)))
    await session.flush()


async def is_a_unit_of_its_own(door: AsyncSessions, cell: Cell, mode: str) -> None:
    """Outside of any unit, `mode` opens one that commits, or rolls back, as a whole."""
    with pytest.raises(Refused):
        async with door.begin(propagation=mode) as session:
            await add(session, 90)
            raise Refused
    assert cell.witness.items() == []
    async with door.begin(propagation=mode) as session:
        await add(session, 91)
        assert cell.witness.items() == []
    assert cell.witness.items() == [91]
    cell.witness.empty_tables()


async def has_no_transaction(door: AsyncSessions, cell: Cell, mode: str) -> None:
    """With `mode` each statement commits by itself, whatever becomes of the block."""
    with pytest.raises(Refused):
        async with door.begin(propagation=mode) as session:
            await add(session, 90)
            assert 90 in cell.witness.items()
            raise Refused
    assert 90 in cell.witness.items()
    cell.witness.do("delete from item where id = 90")


async def is_refused_here(door: AsyncSessions, cell: Cell, mode: str) -> bool:
    """Whether `mode` cannot be had here without a transaction; then that is shown, inside of a unit and outside."""
    if cell.place[1:] != ("pgbouncer", "asyncpg"):
        return False
    cell.differs(SEVERAL_TRIPS)
    with pytest.raises(RequestRefused, match="AUTOCOMMIT cannot be had by asyncpg"):
        async with door.begin(propagation=mode):
            pass
    async with door.begin() as outer:
        if mode == "supports":
            async with door.begin(propagation=mode) as inner:
                assert real(inner) is real(outer)
        else:
            with pytest.raises(JoinRefused if mode == "never" else RequestRefused):
                async with door.begin(propagation=mode):
                    pass
        await add(outer, 1)
    assert cell.witness.items() == [1]
    return True


async def test_required(door: AsyncSessions, cell: Cell) -> None:
    """required (the default): joins inside; outside, a unit of its own."""
    await is_a_unit_of_its_own(door, cell, "required")
    with pytest.raises(Refused):
        async with door.begin() as outer:
            await add(outer, 1)
            async with door.begin(propagation="required") as inner:
                assert real(inner) is real(outer)
                await add(inner, 2)
            raise Refused
    assert cell.witness.items() == []


async def test_requires_new(cell: Cell) -> None:
    """requires_new: always a unit of its own, whatever becomes of the outer one."""
    door = cell.door(pool={"size": 3, "checkout_timeout": "500ms"})
    await is_a_unit_of_its_own(door, cell, "requires_new")
    with pytest.raises(Refused):
        async with door.begin() as outer:
            async with door.begin(propagation="requires_new") as inner:
                assert real(inner) is not real(outer)
                assert real(door.current()) is real(inner)
                await add(inner, 1)
            assert real(door.current()) is real(outer)
            assert cell.witness.items() == [1]
            await add(outer, 2)
            if cell.engine == "sqlite":
                cell.differs(ONE_WRITER)
                with pytest.raises(PoolDeadlock, match="test_requires_new"):
                    async with door.begin(propagation="requires_new") as inner:
                        await add(inner, 3)
            else:
                async with door.begin(propagation="requires_new") as inner:
                    await add(inner, 3)
                assert cell.witness.items() == [1, 3]
            raise Refused
    assert cell.witness.items() == ([1] if cell.engine == "sqlite" else [1, 3])


async def test_nested(door: AsyncSessions, cell: Cell) -> None:
    """nested: a savepoint inside, whose error undoes only its own work; outside, a unit of its own."""
    await is_a_unit_of_its_own(door, cell, "nested")
    async with door.begin() as outer:
        await add(outer, 1)
        with pytest.raises(Refused):
            async with door.begin(propagation="nested") as inner:
                assert real(inner) is real(outer)
                await add(inner, 2)
                raise Refused
        async with door.begin(propagation="nested") as inner:
            await add(inner, 3)
        assert cell.witness.items() == []
    assert cell.witness.items() == [1, 3]
    with pytest.raises(Refused):
        async with door.begin() as outer:
            async with door.begin(propagation="nested") as inner:
                await add(inner, 4)
            raise Refused
    assert cell.witness.items() == [1, 3]


async def test_nested_in_nested(door: AsyncSessions, cell: Cell) -> None:
    """nested in nested: each savepoint is undone alone, and with the one around it."""
    async with door.begin() as session:
        await add(session, 1)
        with pytest.raises(Refused):
            async with door.begin(propagation="nested"):
                await add(session, 2)
                with pytest.raises(Refused):
                    async with door.begin(propagation="nested"):
                        await add(session, 3)
                        raise Refused
                async with door.begin(propagation="nested"):
                    await add(session, 4)
                raise Refused
        async with door.begin(propagation="nested"), door.begin(propagation="nested"):
            await add(session, 5)
    assert cell.witness.items() == [1, 5]


async def test_mandatory(door: AsyncSessions, cell: Cell) -> None:
    """mandatory: joins inside; refused outside, where there is nothing to be part of."""
    with pytest.raises(JoinRefused, match="no unit of work is open here"):
        async with door.begin(propagation="mandatory"):
            pass
    async with door.begin() as outer, door.begin(propagation="mandatory") as inner:
        assert real(inner) is real(outer)
        await add(inner, 1)
    assert cell.witness.items() == [1]


async def test_never(door: AsyncSessions, cell: Cell) -> None:
    """never: refused inside; outside, each statement commits by itself."""
    if await is_refused_here(door, cell, "never"):
        return
    await has_no_transaction(door, cell, "never")
    async with door.begin() as outer:
        with pytest.raises(JoinRefused, match="'never'"):
            async with door.begin(propagation="never"):
                pass
        await add(outer, 1)
    assert cell.witness.items() == [1]


async def test_supports(door: AsyncSessions, cell: Cell) -> None:
    """supports: joins inside; outside, each statement commits by itself."""
    if await is_refused_here(door, cell, "supports"):
        return
    await has_no_transaction(door, cell, "supports")
    async with door.begin() as outer:
        async with door.begin(propagation="supports") as inner:
            assert real(inner) is real(outer)
            await add(inner, 1)
        assert cell.witness.items() == []
    assert cell.witness.items() == [1]


async def test_not_supported(door: AsyncSessions, cell: Cell) -> None:
    """not_supported: inside it sets the open unit aside, outside there is none; each statement commits by itself."""
    if await is_refused_here(door, cell, "not_supported"):
        return
    await has_no_transaction(door, cell, "not_supported")
    async with door.begin() as outer:
        await has_no_transaction(door, cell, "not_supported")
        async with door.begin(propagation="not_supported") as inner:
            assert real(inner) is not real(outer)
        await add(outer, 1)
        async with door.begin(propagation="not_supported") as inner:
            assert await inner.scalar(sa.text("select count(*) from item")) == 0
    assert cell.witness.items() == [1]


async def test_a_join_that_asks_for_more(door: AsyncSessions, cell: Cell) -> None:
    """What a joining unit asks for and the open one has not is refused before any SQL, each attribute by its name."""

    async def nothing(session: AsyncSession) -> None:
        raise AssertionError

    def write(**asked: Any) -> Any:
        return door.begin(**asked)

    def read(**asked: Any) -> Any:
        return door.read(**asked)

    mismatches: list[tuple[Any, Any, str]] = [
        (write(), read(), "access"),
        (read(), write(), "access"),
        (write(), write(isolation="SERIALIZABLE"), "isolation"),
        (write(isolation="READ COMMITTED"), write(isolation="SERIALIZABLE"), "isolation"),
        (write(isolation="READ COMMITTED"), write(isolation="SERIALIZABLE", propagation="nested"), "isolation"),
        (write(), write(isolation="SERIALIZABLE", propagation="mandatory"), "isolation"),
        (write(), write(isolation="SERIALIZABLE", propagation="supports"), "isolation"),
        (read(), read(snapshot=True), "snapshot"),
    ]
    for outer, inner, attribute in mismatches:
        async with outer as session:
            with pytest.raises(JoinRefused, match=f"its {attribute} differs") as caught:
                async with inner:
                    raise AssertionError
            assert f"{__file__}:" in str(caught.value)
            assert door._connections_out() == 0
            await session.execute(sa.text("select 1"))  # the refusal did no harm to the open unit
    async with door.begin():
        with pytest.raises(JoinRefused, match="its retry differs"):
            await door.run(nothing)
        assert door._connections_out() == 0
    assert door.counts().committed == len(mismatches) + 1


async def test_a_join_over_another_database(cell: Cell) -> None:
    """A unit over a database that the open one does not cover is a unit of its own; one over both is refused."""
    door = cell.two()
    async with door.begin("orders") as outer:
        async with door.begin("billing") as inner:
            assert real(inner) is not real(outer)
            assert real(door.current("orders")) is real(outer)
            assert real(door.current("billing")) is real(inner)
        with pytest.raises(JoinRefused, match="its databases differ"):
            async with door.begin("orders", "billing", atomic=False):
                pass
