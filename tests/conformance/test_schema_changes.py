"""A column whose type was changed while statements that read it were prepared: one error, and the next read is good."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from polysession import AsyncSessions, Sessions, is_transient
from tests.engines.targets import FreshDatabase

pytestmark = pytest.mark.pg
Fresh = Callable[[str], FreshDatabase]

OFTEN = 8
"""Times after which a driver has prepared a statement."""
TWO = 2
"""Connections that have prepared it."""


ITEM = sa.table("item", sa.column("id"), sa.column("size"))
ASKED: list[Any] = [sa.select(ITEM.c.size).where(ITEM.c.id == 1), sa.text("select size from item where id = 1")]
"""Statements that are prepared; the answer is 1."""


class Changing:
    """A database with a table whose column has another type now and then."""

    def __init__(self, database: FreshDatabase) -> None:
        self.database = database
        self.kinds = itertools.cycle(("bigint", "int"))
        self.do("create table item (id int primary key, size int); insert into item values (1, 1)")

    def do(self, text: str) -> None:
        """From beside."""
        with psycopg.connect(self.database.url("psycopg").replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute(text)

    def change(self) -> None:
        """Another type."""
        self.do(f"alter table item alter column size type {next(self.kinds)}")


@pytest.mark.parametrize("verb", ["read", "begin"])
def test_for_threads(fresh_database: Fresh, verb: str) -> None:
    """It says that repeating helps, and it does: on no connection is the statement refused for ever."""
    changing = Changing(fresh_database("pg18"))
    with Sessions(changing.database.url("psycopg")) as door:

        def work(times: int) -> None:
            with ExitStack() as stack:
                opened = getattr(door, verb)
                for session in [stack.enter_context(opened(propagation="requires_new")) for _ in range(TWO)]:
                    for asked in ASKED * times:
                        assert session.scalar(asked) == 1

        work(OFTEN)
        assert len(changing.database.census()) == (TWO if verb == "begin" else 1)
        changing.change()
        with pytest.raises(sa.exc.NotSupportedError, match="cached plan") as caught:
            work(1)
        assert is_transient(caught.value)
        work(OFTEN)
        assert door.held() == ()


@pytest.mark.parametrize("verb", ["read", "begin"])
@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_for_tasks(fresh_database: Fresh, verb: str, driver: str) -> None:
    """The same."""
    changing = Changing(fresh_database("pg18"))

    async def run() -> None:
        async with AsyncSessions(changing.database.url(driver)) as door:

            async def work(times: int) -> None:
                async with AsyncExitStack() as stack:
                    opened = getattr(door, verb)
                    sessions = [await stack.enter_async_context(opened(propagation="requires_new")) for _ in range(TWO)]
                    for session in sessions:
                        for asked in ASKED * times:
                            assert await session.scalar(asked) == 1

            await work(OFTEN)
            assert len(changing.database.census()) == (TWO if verb == "begin" else 1)
            changing.change()
            with pytest.raises(sa.exc.NotSupportedError, match="cached") as caught:
                await work(1)
            assert is_transient(caught.value)
            await work(OFTEN)
            assert door.held() == ()

    asyncio.run(run())


def test_the_unit_goes_on(fresh_database: Fresh) -> None:
    """One without a transaction, with the connection that it has."""
    changing = Changing(fresh_database("pg18"))
    with Sessions(changing.database.url("psycopg")) as door, door.read() as session:
        for asked in ASKED * OFTEN:
            session.scalar(asked)
        changing.change()
        with pytest.raises(sa.exc.NotSupportedError, match="cached plan"):
            session.scalar(ASKED[0])
        assert [session.scalar(asked) for asked in ASKED] == [1, 1]


def test_in_one_flight(fresh_database: Fresh) -> None:
    """Also where the statements leave together."""
    changing = Changing(fresh_database("pg18"))
    with Sessions(changing.database.url("psycopg")) as door, door.read() as session:
        for _ in range(OFTEN):
            door.batch(session, *ASKED)
        changing.change()
        with pytest.raises(sa.exc.NotSupportedError, match="cached plan"):
            door.batch(session, *ASKED)
        assert [result.scalar() for result in door.batch(session, *ASKED)] == [1, 1]
