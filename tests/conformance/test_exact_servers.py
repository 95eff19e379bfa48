"""Exact outcomes: what servers do"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from polysession import Outcome, Sessions, outcome_of
from polysession._shell import marking
from polysession.facts import Fact, OutcomeFound
from polysession.policy import unit_ids
from polysession.testing.proxy import Fault, Hole, request
from tests.engines.postgres import Postgres
from tests.engines.targets import Servers

from .cells import Cell
from .schema import Item
from .test_exact_outcome import NO_LINK, through

DAY = 86_400


async def test_old_rows_are_deleted(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Units delete rows that are old by their id and by the server's clock; those of keys stay."""
    monkeypatch.setattr(marking, "_EVERY", 2)
    door = cell.door()

    async def write(number: int) -> None:
        async def work(session: AsyncSession) -> None:
            session.add(Item(id=number, name=str(number)))

        await door.run(work, outcome="exact")

    await write(1)
    now = int(time.time())
    past = now - 2 * DAY
    old = [unit_ids.new_id(past, uuid.uuid4().int, 0) for _ in range(4)]
    skewed, key = unit_ids.new_id(past, uuid.uuid4().int, 0), unit_ids.key_id(f"order-{uuid.uuid4()}")
    for unit, verdict, written_at in (
        *((unit, verdict, past) for unit, verdict in zip(old, "caca", strict=True)),
        (skewed, "c", now),  # made by a clock that is wrong
        (key, "k", past),
    ):
        row = f"'{unit}', '{verdict}', {written_at}"
        cell.witness.do(f"insert into polysession_commit (unit, verdict, written_at) values ({row})")
    await write(2)
    left = {str(unit) for (unit,) in cell.witness.ask("select unit from polysession_commit")}
    assert not left & set(old)
    assert {skewed, key} < left


async def test_a_connection_that_holds_a_key(cell: Cell) -> None:
    """A key is held by a connection whose client is gone, and whose server has not noticed: the server ends it, the
    unit has not committed, and the key is free."""
    if cell.engine == "sqlite":
        cell.differs(NO_LINK)
        return
    key = f"order-{uuid.uuid4()}"
    async with through(cell) as (door, proxy):

        async def work(session: AsyncSession) -> None:
            session.add(Item(id=1, name="one"))

        proxy.plan(Fault(Hole(), request("COMMIT")))
        with pytest.raises(DBAPIError) as caught:
            async with door.begin(key=key) as session:
                await work(session)
        assert outcome_of(caught.value) is Outcome.ROLLED_BACK
        await door.run(work, key=key)
    assert cell.witness.items() == [1]


class Found:
    """Remembers what was found out."""

    def __init__(self) -> None:
        self.facts: list[OutcomeFound] = []

    def tell(self, fact: Fact) -> None:
        """As an observer."""
        if isinstance(fact, OutcomeFound):
            self.facts.append(fact)


def wait_for_standby(server: Postgres, name: str) -> None:
    """COMMIT waits from now on for a standby of this name, or for none."""
    server.ask(f"alter system set synchronous_standby_names = '{name}'")
    server.ask("select pg_reload_conf()")


@pytest.fixture
def primary(servers: Servers) -> Iterator[Postgres]:
    """A server of the test's own, with a database "shop" that has the tables."""
    with servers.private("pg18") as server:
        assert isinstance(server, Postgres)
        server.create_database("shop")
        engine = sa.create_engine(server.url("shop"))
        Item.metadata.create_all(engine)
        engine.dispose()
        yield server
        wait_for_standby(server, "")


@pytest.mark.pg
def test_a_standby_that_does_not_answer(primary: Postgres, caplog: pytest.LogCaptureFixture) -> None:
    """A COMMIT that waits for a standby is committed on the primary; its connection is not ended, and the log says that
    no standby has confirmed it."""
    heard = Found()
    with Sessions(primary.url("shop"), observers=[heard]) as door:
        door.run(lambda session: None, outcome="exact")
        wait_for_standby(primary, "nobody")
        with caplog.at_level(logging.WARNING, "polysession"), door.begin(outcome="exact", deadline=3.0) as session:
            session.add(Item(id=1, name="one"))
        (fact,) = heard.facts
        assert fact.outcome is Outcome.COMMITTED
        assert fact.reason in caplog.text
        assert "no standby has confirmed it" in fact.reason
        waiting = "select count(*) from pg_stat_activity where wait_event = 'SyncRep'"
        assert primary.ask(waiting) == [(1,)]
        assert door.outcome(fact.unit, within=1.0) is Outcome.UNKNOWN  # who asks later does not know its connection
        wait_for_standby(primary, "")
        assert door.outcome(fact.unit) is Outcome.COMMITTED
    assert primary.ask("select id from item", database="shop") == [(1,)]


@pytest.mark.pg
def test_a_standby_that_answers_late(primary: Postgres) -> None:
    """If the standby answers while the database is asked, the unit has committed, and nothing more is to be said."""
    heard = Found()
    with Sessions(primary.url("shop"), observers=[heard]) as door:
        door.run(lambda session: None, outcome="exact")
        wait_for_standby(primary, "nobody")
        answered = threading.Timer(2.5, wait_for_standby, (primary, ""))
        with door.begin(outcome="exact") as session:
            session.add(Item(id=1, name="one"))
            session.flush()
            answered.start()
        answered.join()
        (fact,) = heard.facts
        assert (fact.outcome, fact.reason) == (Outcome.COMMITTED, "its row is there")
    assert primary.ask("select id from item", database="shop") == [(1,)]
