"""Isolation levels"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from polysession import AsyncSessions, Sessions
from polysession.errors import ConfigError, RequestRefused
from tests.engines.targets import FreshDatabase

from .cells import Cell
from .schema import Item

WITHOUT = "the argument is refused: its driver has none, or polysession says it itself"
REFUSED = "AUTOCOMMIT cannot be had by asyncpg behind a pooler"


async def fails(door: AsyncSessions, *, asked: bool = False) -> Exception:
    """What the first statement of a unit raises. `asked`: the unit asks for autocommit itself."""
    with pytest.raises((RequestRefused, ConfigError)) as caught:
        async with door.begin() as session:
            if asked:
                await session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
            session.add(Item(id=1, name="one"))
            await session.flush()
    assert door._connections_out() == 0
    assert not door.held()
    return caught.value


async def test_an_argument_that_makes_it_so(cell: Cell) -> None:
    """A unit whose connection is made in autocommit is refused, and not told to be rolled back while its rows stay."""
    if cell.engine == "sqlite":
        cell.differs(WITHOUT)
        with pytest.raises(ConfigError, match="polysession says it itself"):
            cell.door(connect={"autocommit": True})
        return
    error = await fails(cell.door(connect={"autocommit": True}))
    if cell.place.driver == "asyncpg":
        cell.differs(WITHOUT)
        assert isinstance(error, ConfigError)
    else:
        assert "its connection is in autocommit" in str(error)
    assert cell.witness.items() == []


async def test_a_unit_that_asks_for_it(door: AsyncSessions, cell: Cell) -> None:
    """A unit that asks for autocommit by the options of its connection is refused; the next one has a transaction."""
    error = await fails(door, asked=True)
    assert "autocommit" in str(error).lower()  # behind a pooler asyncpg is refused it altogether
    with pytest.raises(KeyError):
        async with door.begin() as session:
            session.add(Item(id=2, name="two"))
            await session.flush()
            raise KeyError
    assert cell.witness.items() == []


async def test_without_a_transaction(door: AsyncSessions, cell: Cell) -> None:
    """Without a transaction a unit commits each statement, and a session that its owner ends may have autocommit."""
    if cell.engine == "pgbouncer" and cell.place.driver == "asyncpg":
        cell.differs(REFUSED)
        with pytest.raises(RequestRefused):
            async with door.begin(propagation="not_supported"):
                pass
        return
    async with door.begin(propagation="not_supported") as session:
        await session.execute(sa.insert(Item).values(id=1, name="one", value=0))
        assert cell.witness.items() == [1]
    async with door.open() as mine:
        await mine.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
        await mine.execute(sa.insert(Item).values(id=2, name="two", value=0))
        await mine.commit()
    assert cell.witness.items() == [1, 2]


@pytest.mark.mariadb
def test_after_a_reset(fresh_database: Callable[[str], FreshDatabase]) -> None:
    """A connection that was reset is not taken for one in autocommit, in which it is for a moment meanwhile."""
    url = fresh_database("mariadb").url("asyncmy")

    async def use() -> list[int]:
        numbers: list[int] = []
        async with AsyncSessions({"default": {"url": url, "pool": {"size": 1}}}) as door:
            for _ in range(3):
                async with door.begin() as session:
                    numbers.append(await session.scalar(sa.text("select connection_id()")))
                    await session.execute(sa.text("select get_lock('left', 0)"))
        return numbers

    assert len(set(asyncio.run(use()))) == 1


@pytest.mark.parametrize(
    "target",
    ["sqlite", pytest.param("pg18", marks=pytest.mark.pg), pytest.param("mariadb", marks=pytest.mark.mariadb)],
)
def test_a_read_unit_over_a_given_engine(fresh_database: Callable[[str], FreshDatabase], target: str) -> None:
    """Over an engine of the application that is in autocommit there is no transaction by which a read unit could be
    kept from writing, so it is refused; SQLite is told of it in another way, and a snapshot has a transaction."""
    engine = sa.create_engine(fresh_database(target).url(), isolation_level="AUTOCOMMIT")
    one = sa.text("select 1")
    with Sessions(engine) as door:
        if target == "sqlite":
            with door.read() as session:
                assert session.scalar(one) == 1
        else:
            with (
                pytest.raises(RequestRefused, match="cannot be kept from writing: its connection is in autocommit"),
                door.read() as session,
            ):
                session.scalar(one)
        with door.read(snapshot=True) as session:
            assert session.scalar(one) == 1
        assert not door.held()
    engine.dispose()
