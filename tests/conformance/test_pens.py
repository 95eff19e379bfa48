"""The row and COMMIT in one message: what is prepared for it, and what keeps COMMIT from being reached"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from polysession import AsyncSessions, Outcome, Sessions, outcome_of
from polysession._shell import marking, pens
from polysession.testing.proxy import Fault, FaultProxy, Hole, answer
from tests.engines.targets import ASYNC_DRIVERS, SYNC_DRIVERS, FreshDatabase

DRIVERS = [
    (target, driver, asynchronous)
    for target, mark in (("sqlite", "sqlite"), ("pg18", "pg"), ("mariadb", "mariadb"))
    for asynchronous, drivers in ((False, SYNC_DRIVERS), (True, ASYNC_DRIVERS))
    for driver in drivers[mark]
]


class Units:
    """Runs exact units, one after the other, at a door of either kind with one connection."""

    def __init__(self, url: str, *, asynchronous: bool, **table: Any) -> None:
        self.url = url
        self.asynchronous = asynchronous
        self.table = {"outcome": "exact", "pool": {"size": 1}, **table}
        self._runner = asyncio.Runner()
        self._numbers = iter(range(1, 1000))

    def __enter__(self) -> Units:
        settings = {"databases": {"main": {"url": self.url, **self.table}}}
        self.door: Any = (AsyncSessions if self.asynchronous else Sessions).from_mapping(settings)
        return self

    def __exit__(self, *_: object) -> None:
        ended = self.door.close()
        if self.asynchronous:
            self._runner.run(ended)
        self._runner.close()

    def write(self, *statements: str) -> Any:
        """A unit that writes a row and then sends these; the answer of the last one, if it has rows."""
        texts = [f"insert into item (id) values ({next(self._numbers)})", *statements]
        return self.run(*texts)

    def run(self, *statements: str) -> Any:
        """A unit that sends these."""
        if self.asynchronous:
            return self._runner.run(self._awaited(statements))
        with self.door.begin() as session:
            for statement in statements:
                answered = session.execute(sa.text(statement))
                found = answered.scalars().all() if answered.returns_rows else None
        return found

    async def _awaited(self, statements: tuple[str, ...]) -> Any:
        async with self.door.begin() as session:
            for statement in statements:
                answered = await session.execute(sa.text(statement))
                found = answered.scalars().all() if answered.returns_rows else None
        return found


def make_table(database: FreshDatabase) -> None:
    """The table that units write."""
    engine = sa.create_engine(database.url())
    with engine.begin() as connection:
        connection.execute(sa.text("create table item (id int primary key)"))
    engine.dispose()


def asked(database: FreshDatabase, statement: str) -> Any:
    """What a connection of its own is answered."""
    engine = sa.create_engine(database.url())
    with engine.connect() as connection:
        found = connection.execute(sa.text(statement)).scalars().all()
    engine.dispose()
    return found


NAMES = "select name from pg_prepared_statements where from_sql"


@pytest.mark.parametrize("target", ["pg15", "pg18"])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_row_is_prepared_once(database: FreshDatabase, asynchronous: bool) -> None:
    """With psycopg the statement of the row is prepared by the first unit, and executed by the next ones."""
    make_table(database)
    with Units(database.url("psycopg"), asynchronous=asynchronous) as units:
        assert units.write(NAMES) == []
        (name,) = units.write(NAMES)
        assert name.startswith("polysession_")
        for _ in range(5):
            units.write()
        assert units.write(NAMES) == [name]
    assert asked(database, "select count(*) from polysession_commit") == [8]


@pytest.mark.parametrize("target", ["pg15", "pg18"])
@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize(
    "forget",
    ["select 1 / 0", "deallocate all", "discard plans", "set work_mem = '1MB'", "prepare mine as select 1", "select 1"],
)
def test_what_is_prepared_may_be_forgotten(database: FreshDatabase, asynchronous: bool, forget: str) -> None:
    """Whatever makes the server forget what was prepared, in a unit that fails or not, the next ones have their row."""
    make_table(database)
    with Units(database.url("psycopg"), asynchronous=asynchronous) as units:
        written = 0
        for _ in range(3):
            units.write()
            written += 1
            try:
                units.write(forget)
                written += 1
            except DBAPIError:
                assert forget == "select 1 / 0"
    assert asked(database, "select count(*) from polysession_commit") == [written]


@pytest.mark.parametrize("target", ["pg18"])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_forgotten_behind_the_drivers_back(database: FreshDatabase, asynchronous: bool) -> None:
    """Who lets the server forget in a way that the driver cannot see has a unit that is rolled back, and is known to
    be; the next one has its row."""
    make_table(database)
    with Units(database.url("psycopg"), asynchronous=asynchronous) as units:
        units.write()
        with pytest.raises(DBAPIError) as caught:
            units.write("do $$ begin execute 'deallocate all'; end $$")
        assert outcome_of(caught.value) is Outcome.ROLLED_BACK
        units.write()
    assert asked(database, "select count(*) from polysession_commit") == [2]
    assert asked(database, "select count(*) from item") == [2]


@pytest.mark.pgbouncer
@pytest.mark.parametrize("pooler", ["transaction", "none"])
def test_nothing_is_prepared_behind_a_pooler(fresh_database: Callable[[str], FreshDatabase], pooler: str) -> None:
    """Behind a pooler, also one of which the configuration says nothing, the row goes as a text."""
    database = fresh_database("pgbouncer")
    make_table(database)
    with Units(database.url("psycopg"), asynchronous=False, pooler=pooler) as units:
        for _ in range(4):
            units.write()
        assert units.write(f"{NAMES} and name like 'polysession%'") == []
    assert asked(database, "select count(*) from polysession_commit") == [5]


@pytest.mark.parametrize(("target", "driver", "asynchronous"), DRIVERS)
def test_a_row_that_is_refused(
    database: FreshDatabase, driver: str, asynchronous: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a fence was quicker than the row COMMIT is not reached: the unit is rolled back, and the next one has its row.

    A fence's row is there for the id that the unit is to have.
    """
    make_table(database)
    with Units(database.url(driver), asynchronous=asynchronous) as units:
        units.write()
        made = marking._new_id
        fenced = made(0)
        units.write(f"insert into polysession_commit (unit, verdict) values ('{fenced}', 'a')")
        monkeypatch.setattr(marking, "_new_id", lambda server: fenced)
        for _ in range(2):
            with pytest.raises(DBAPIError) as caught:
                units.write()
            assert outcome_of(caught.value) is Outcome.ROLLED_BACK
        monkeypatch.setattr(marking, "_new_id", made)
        assert units.write("select count(*) from item") == [3]
    assert asked(database, "select count(*) from polysession_commit where verdict = 'c'") == [3]


@pytest.mark.parametrize("target", ["pg18"])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_answer_that_does_not_come(database: FreshDatabase, asynchronous: bool) -> None:
    """psycopg is waited for no longer than for other drivers, though no socket is shut by another thread."""
    make_table(database)
    with (
        FaultProxy.before(database.url("psycopg")) as proxy,
        Units(proxy.url, asynchronous=asynchronous) as units,
    ):
        units.write()
        proxy.plan(Fault(Hole(), answer("COMMIT")))
        began = time.monotonic()
        units.write()
        took = time.monotonic() - began
    assert pens.ANSWER_WITHIN <= took < pens.ANSWER_WITHIN + 3.0
    assert asked(database, "select count(*) from item") == [2]
