"""Isolation levels"""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from polysession import AsyncSessions, Isolation
from polysession.errors import RequestRefused

from .cells import Cell, also_pooled

ALWAYS_SERIALIZABLE = "every transaction of SQLite is serializable, which honours each level"


async def level(session: AsyncSession, cell: Cell) -> str:
    """What the server says of the transaction that runs."""
    asked = {"sqlite": "pragma read_uncommitted", "mariadb": "select @@tx_isolation", "galera": "select @@tx_isolation"}
    answer = await session.scalar(sa.text(asked.get(cell.engine, "show transaction_isolation")))
    if cell.engine == "sqlite":
        cell.differs(ALWAYS_SERIALIZABLE)
        assert answer == 0
        return "SERIALIZABLE"
    return str(answer).upper().replace("-", " ")


def default(cell: Cell) -> str:
    """The server's own level."""
    if cell.engine == "sqlite":
        return "SERIALIZABLE"
    return "READ COMMITTED" if cell.is_postgres else "REPEATABLE READ"


@also_pooled
@pytest.mark.parametrize("asked", list(Isolation), ids=str)
async def test_the_level_asked_for(cell: Cell, asked: Isolation) -> None:
    """A unit has the level it asks for, as the server reports it; the next one has the default again."""
    door = cell.door(pool={"size": 1})
    expected = "SERIALIZABLE" if cell.engine == "sqlite" else str(asked)
    if cell.is_postgres and asked is Isolation.READ_UNCOMMITTED:
        cell.differs("PostgreSQL has no READ UNCOMMITTED: READ COMMITTED honours it")
        expected = "READ COMMITTED"
    async with door.begin(isolation=asked) as session:
        assert await level(session, cell) == expected
    async with door.begin() as session:
        assert await level(session, cell) == default(cell)
    async with door.begin(isolation=str(asked).lower().replace(" ", "_")) as session:
        assert await level(session, cell) == expected
    async with door.open() as session:
        assert await level(session, cell) == default(cell)


async def test_the_level_after_an_error(cell: Cell) -> None:
    """Also after a unit that failed the next one on its connection has the default."""
    door = cell.door(pool={"size": 1})
    for statement in ("select nothing from nowhere", "select 1"):
        with pytest.raises((sa.exc.DBAPIError, ZeroDivisionError)):
            async with door.begin(isolation="SERIALIZABLE") as session:
                await session.execute(sa.text(statement))
                raise ZeroDivisionError
        async with door.begin() as session:
            assert await level(session, cell) == default(cell)


async def test_the_level_of_repeatable_units(door: AsyncSessions, cell: Cell) -> None:
    """run() uses the level at which lost updates are errors, unless another is asked for."""

    async def ask(session: AsyncSession) -> str:
        return await level(session, cell)

    assert await door.run(ask) == ("SERIALIZABLE" if cell.engine == "sqlite" else "REPEATABLE READ")
    asked = "SERIALIZABLE" if cell.engine == "sqlite" else "READ COMMITTED"
    assert await door.run(ask, isolation="READ COMMITTED") == asked


async def test_a_level_of_a_snapshot(door: AsyncSessions, cell: Cell) -> None:
    """A read unit with snapshot=True has a level that gives one; a level that cannot is refused before any SQL."""
    async with door.read(snapshot=True) as session:
        assert await level(session, cell) == ("SERIALIZABLE" if cell.engine == "sqlite" else "REPEATABLE READ")
    if cell.engine == "sqlite":
        async with door.read(snapshot=True, isolation="READ COMMITTED") as session:
            assert await level(session, cell) == "SERIALIZABLE"
    else:
        with pytest.raises(RequestRefused, match="snapshot"):
            door.read(snapshot=True, isolation="READ COMMITTED")


async def test_a_word_that_is_no_level(door: AsyncSessions) -> None:
    """An unknown level or mode is refused before any SQL, with the words that are known."""
    with pytest.raises(RequestRefused, match="'READ COMMITTED'"):
        door.begin(isolation="chaos")
    with pytest.raises(RequestRefused, match="'requires_new'"):
        door.begin(propagation="sometimes")
    assert door.counts().opened == 0
