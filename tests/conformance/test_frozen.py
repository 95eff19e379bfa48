"""A frozen server

Nothing ends a wait for an answer that does not come but the client's own doing. The grace is cut short here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable
from contextlib import ExitStack, suppress
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from polysession import AsyncSessions, Sessions, outcome_of
from polysession._shell import grace
from polysession.errors import CommitUnknown, DeadlineExceeded
from polysession.facts import Outcome
from tests.engines.process import wait_until
from tests.engines.server import Server
from tests.engines.targets import FreshDatabase

from .doors import as_async, finish
from .freezing import frozen

Private = Callable[[str], Server]
Test = Callable[[AsyncSessions, FreshDatabase], Coroutine[Any, Any, None]]

GRACE = 0.5
DEADLINE = 2.0
"""More than a busy machine needs up to where the server is frozen."""
ENOUGH = 20.0
"""Seconds in which a unit of that deadline and grace is over on a busy machine; frozen is the server until then."""
INSERT = sa.text("insert into t values (1)")


class Base(DeclarativeBase):
    """Of this module's class."""


class Row(Base):
    """What is flushed."""

    __tablename__ = "t"
    id: Mapped[int] = mapped_column(primary_key=True)


COUNT = sa.text("select count(*) from t")


class Place(NamedTuple):
    """A door, a server and a driver."""

    door: str
    target: str
    driver: str

    def over(self, database: FreshDatabase, test: Test) -> None:
        """Run `test` with a door over `database`; at its end nothing may be left."""
        databases = {"orders": {"url": database.url(self.driver), "pool": {"size": 2}}}
        if self.door == "sync":
            with Sessions(databases) as sessions:
                finish(test(as_async(sessions), database))
                assert (sessions.held(), sessions._connections_out()) == ((), 0)
        else:

            async def run() -> None:
                async with AsyncSessions(databases) as sessions:
                    await test(sessions, database)
                    assert (sessions.held(), sessions._connections_out()) == ((), 0)

            asyncio.run(run())
        wait_until(lambda: not database.census(), what="the server has closed its sessions too")


PLACES = [
    Place("sync", "pg15", "psycopg"),
    Place("async", "pg15", "psycopg"),
    Place("async", "pg15", "asyncpg"),
    Place("sync", "pg18", "psycopg"),
    Place("async", "pg18", "psycopg"),
    Place("async", "pg18", "asyncpg"),
    Place("sync", "mariadb", "pymysql"),
    Place("async", "mariadb", "asyncmy"),
]


def marked(places: Iterable[Place]) -> list[Any]:
    """With the marks of their engines."""
    return [pytest.param(p, id="-".join(p), marks=getattr(pytest.mark, p.target.rstrip("0123456789"))) for p in places]


@pytest.fixture
def database(place: Place, private_server: Private) -> FreshDatabase:
    """A database with a table, on a server of this test's own."""
    server = private_server(place.target)
    server.create_database("frozen")
    database = FreshDatabase(place.target, "frozen", server)
    engine = sa.create_engine(database.url(), poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.execute(sa.text("create table t (id integer)"))
    wait_until(lambda: not database.census(), what="the connection is gone")
    return database


@pytest.fixture(autouse=True)
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests have less patience than people."""
    monkeypatch.setattr(grace, "GRACE", GRACE)
    monkeypatch.setattr(grace, "_LAST", 0.2)


async def works(door: AsyncSessions, rows: int) -> None:
    """A server that has thawed is used again; the table has so many rows then."""
    with suppress(DBAPIError):  # another connection of the pool was frozen with it
        async with door.read() as session:
            await session.scalar(COUNT)
    async with door.read() as session:
        assert await session.scalar(COUNT) == rows


@pytest.mark.parametrize("place", marked(PLACES))
def test_frozen_in_a_statement(place: Place, database: FreshDatabase) -> None:
    """A unit with a deadline is told so, at most the grace after it, and was rolled back."""

    async def test(door: AsyncSessions, database: FreshDatabase) -> None:
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded) as caught:
            async with door.begin(deadline=DEADLINE) as session:
                await session.execute(INSERT)
                with frozen(database):
                    await session.execute(INSERT)
        assert time.monotonic() - began < ENOUGH
        assert outcome_of(caught.value) is Outcome.ROLLED_BACK
        await works(door, 0)

    place.over(database, test)


@pytest.mark.parametrize("place", marked(PLACES))
def test_frozen_when_a_session_is_closed(place: Place, database: FreshDatabase) -> None:
    """close() of a session that its owner ends takes the grace at most: its connection is closed, not kept."""

    async def test(door: AsyncSessions, database: FreshDatabase) -> None:
        session = door.open()
        await session.execute(INSERT)
        began = time.monotonic()
        with frozen(database), suppress(DBAPIError):  # SQLAlchemy tells of a rollback that failed, or does not
            await session.close()
        assert time.monotonic() - began < ENOUGH
        (endpoint,) = door.ready().endpoints
        assert (endpoint.out, endpoint.idle) == (0, 0)
        await works(door, 0)

    place.over(database, test)


@pytest.mark.parametrize("place", marked(PLACES))
@pytest.mark.parametrize("by", ["begin", "nested", "nested with a deadline", "run"])
def test_frozen_in_the_flush_at_the_end(place: Place, database: FreshDatabase, by: str) -> None:
    """As in a statement of the block."""

    async def test(door: AsyncSessions, database: FreshDatabase) -> None:
        ice = ExitStack()

        async def work(session: AsyncSession) -> None:
            await session.execute(INSERT)
            session.add(Row(id=2))
            ice.enter_context(frozen(database))

        began = time.monotonic()
        with ice, pytest.raises(DeadlineExceeded) as caught:
            if by == "run":
                await door.run(work, deadline=DEADLINE, retry=1)
            elif by == "begin":
                async with door.begin(deadline=DEADLINE) as session:
                    await work(session)
            elif by == "nested":
                async with door.begin(deadline=DEADLINE), door.begin(propagation="nested") as session:
                    await work(session)
            else:
                async with door.begin(), door.begin(propagation="nested", deadline=DEADLINE) as session:
                    await work(session)
        assert time.monotonic() - began < ENOUGH
        assert outcome_of(caught.value) is Outcome.ROLLED_BACK
        await works(door, 0)

    place.over(database, test)


@pytest.mark.parametrize("place", marked(PLACES))
def test_frozen_at_commit(place: Place, database: FreshDatabase) -> None:
    """A unit with a deadline is told that it is not known whether it committed, at most the grace after it."""

    async def test(door: AsyncSessions, database: FreshDatabase) -> None:
        began = time.monotonic()
        with ExitStack() as ice, pytest.raises(CommitUnknown) as caught:
            async with door.begin(deadline=DEADLINE) as session:
                await session.execute(INSERT)
                ice.enter_context(frozen(database))
        assert time.monotonic() - began < ENOUGH
        assert outcome_of(caught.value) is Outcome.UNKNOWN

    place.over(database, test)


@pytest.mark.parametrize("place", marked(PLACES))
def test_frozen_at_rollback(place: Place, database: FreshDatabase) -> None:
    """The error of a block leaves it after the grace at most, deadline or not; the unit was rolled back."""

    async def test(door: AsyncSessions, database: FreshDatabase) -> None:
        began = time.monotonic()
        with ExitStack() as ice, pytest.raises(KeyError) as caught:
            async with door.begin() as session:
                await session.execute(INSERT)
                ice.enter_context(frozen(database))
                raise KeyError
        assert time.monotonic() - began < ENOUGH
        assert outcome_of(caught.value) is Outcome.ROLLED_BACK
        await works(door, 0)

    place.over(database, test)


@pytest.mark.parametrize("place", marked(place for place in PLACES if place.door == "async"))
def test_cancelled_while_it_is_frozen(place: Place, database: FreshDatabase) -> None:
    """`asyncio.timeout` around a unit returns after the grace at most, in a statement and at COMMIT."""

    async def test(door: AsyncSessions, database: FreshDatabase) -> None:
        outcomes = []
        for at_commit in (False, True):
            began = time.monotonic()
            with ExitStack() as ice, pytest.raises(TimeoutError) as caught:
                async with asyncio.timeout(DEADLINE), door.begin() as session:
                    await session.execute(INSERT)
                    ice.enter_context(frozen(database))
                    if not at_commit:
                        await session.execute(INSERT)
            assert time.monotonic() - began < ENOUGH
            outcomes.append(outcome_of(caught.value))
        assert outcomes == [Outcome.ROLLED_BACK, Outcome.UNKNOWN]

    place.over(database, test)
