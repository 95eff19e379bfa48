"""Lost links"""

from __future__ import annotations

import socket
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, OperationalError, PendingRollbackError
from sqlalchemy.ext.asyncio import AsyncSession

from polysession import AsyncSessions, Backoff, Outcome, is_transient, outcome_of
from polysession.errors import CommitUnknown, UnitRolledBack

from .cells import Cell
from .schema import Item

NO_LINK = "SQLite has no link that could be cut; the driver's connection is closed below the session instead"


async def link(session: AsyncSession) -> Any:
    """The driver's connection of a session."""
    return await session.run_sync(lambda sync: sync.connection().connection.driver_connection)


async def cut(driver: Any, cell: Cell) -> None:
    """End a connection from the other side."""
    if cell.engine == "sqlite":
        cell.differs(NO_LINK)
        closing = driver.close()
        if cell.is_async:
            await closing
    else:
        cell.database.cut()
        await cell.until(lambda: not cell.database.census(), "the connections are gone")


async def works(door: AsyncSessions, cell: Cell) -> None:
    """The next unit works."""
    async with door.begin() as session:
        session.add(Item(id=2, name="two"))
    assert cell.witness.items() == [2]


async def test_cut_in_the_body(door: AsyncSessions, cell: Cell) -> None:
    """A connection that is cut while the body runs raises the database's error; the unit is rolled back."""
    with pytest.raises(DBAPIError):
        async with door.begin() as session:
            session.add(Item(id=1, name="one"))
            await session.flush()
            await cut(await link(session), cell)
            await session.execute(sa.text("select 1"))
    assert door.counts().rolled_back == 1
    assert cell.witness.items() == []
    await works(door, cell)


async def test_cut_and_swallowed(door: AsyncSessions, cell: Cell) -> None:
    """A body that swallows the error of a lost connection does not end as committed."""
    with pytest.raises((UnitRolledBack, DBAPIError, PendingRollbackError)):
        async with door.begin() as session:
            session.add(Item(id=1, name="one"))
            await session.flush()
            await cut(await link(session), cell)
            with pytest.raises(DBAPIError):
                await session.execute(sa.text("select 1"))
    assert door.counts().committed == 0
    assert cell.witness.items() == []
    await works(door, cell)


async def test_cut_before_commit(door: AsyncSessions, cell: Cell) -> None:
    """COMMIT on a connection that was cut never ends as committed: CommitUnknown, since its answer is lost."""
    with pytest.raises((CommitUnknown, DBAPIError)):
        async with door.begin() as session:
            session.add(Item(id=1, name="one"))
            await session.flush()
            await cut(await link(session), cell)
    assert door.counts().committed == 0
    assert cell.witness.items() == []
    await works(door, cell)


async def test_cut_while_idle(door: AsyncSessions, cell: Cell) -> None:
    """A connection that was cut in the pool costs one unit its database error at most; run() repeats that unit."""

    async def write(session: AsyncSession) -> None:
        session.add(Item(id=2, name="two"))

    await cut(await door.run(link), cell)
    await door.run(write)
    assert cell.witness.items() == [2]
    assert door.counts().repeated <= 1


async def test_a_server_that_is_not_there(cell: Cell) -> None:
    """A server that cannot be reached is SQLAlchemy's OperationalError by every driver, and the unit is repeated."""
    if cell.engine == "sqlite":
        cell.differs("a file is always there; one that cannot be opened is the same error, which is not repeated")
        door = cell.door("sqlite:////nowhere/at/all.db")
    else:
        with socket.create_server(("127.0.0.1", 0)) as nobody:  # bound, and closed before anyone asks
            port = nobody.getsockname()[1]
        url = sa.make_url(cell.url).set(port=port).render_as_string(hide_password=False)
        door = cell.door({"default": {**cell.table(), "url": url}})
    attempts = 0

    async def work(session: AsyncSession) -> None:
        nonlocal attempts
        attempts += 1
        await session.execute(sa.text("select 1"))

    with pytest.raises(OperationalError) as caught:
        await door.run(work, retry=Backoff(first=0.001, cap=0.001, attempts=3))
    assert attempts == (1 if cell.engine == "sqlite" else 3)
    assert outcome_of(caught.value) is Outcome.ROLLED_BACK
    assert is_transient(caught.value) is (cell.engine != "sqlite")
