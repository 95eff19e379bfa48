"""Exact outcomes"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from polysession import AsyncSessions, Outcome, outcome_of, unit_id_of
from polysession.errors import AlreadyCommitted, CommitUnknown, JoinRefused, RequestRefused
from polysession.testing.proxy import Cut, Fault, FaultProxy, Fired, Hole, Place, answer, request

from .cells import Cell, also_pooled
from .schema import Item

NO_LINK = "SQLite has no link that could be cut: there is nothing to lose between COMMIT and its answer"


@asynccontextmanager
async def through(cell: Cell) -> AsyncIterator[tuple[AsyncSessions, FaultProxy]]:
    """A door whose links can be cut, with the table of outcomes and a connection that is used already."""
    with FaultProxy.before(cell.url) as proxy:
        table = {"url": proxy.url, "outcome": "exact"}
        door = cell.door({"default": {**table, "pooler": "transaction"} if cell.engine == "pgbouncer" else table})
        await door.run(ready)
        yield door, proxy


async def ready(session: AsyncSession) -> None:
    """Have a connection."""
    await session.execute(sa.select(Item.id))


def rows(cell: Cell) -> int:
    """How many rows the table of outcomes has."""
    return int(cell.witness.ask("select count(*) from polysession_commit")[0][0])


@also_pooled
async def test_leaves_a_row(cell: Cell) -> None:
    """A unit with an exact outcome leaves one row, and none if it changed nothing."""
    door = cell.door()
    async with door.begin(outcome="exact") as session:
        await session.execute(sa.select(Item))
    before = rows(cell)
    async with door.begin(outcome="exact") as session:
        session.add(Item(id=1, name="one"))
    assert rows(cell) == before + 1
    async with door.begin(outcome="exact") as session:
        assert (await session.scalars(sa.select(Item.id))).all() == [1]
    async with door.begin() as session:
        session.add(Item(id=2, name="two"))
    with pytest.raises(DBAPIError):
        async with door.begin(outcome="exact") as session:
            session.add(Item(id=1, name="again"))
    assert rows(cell) == before + 1
    async with door.begin(outcome="exact") as session:
        await session.execute(sa.update(Item).values(value=7).where(Item.id == 2))
    assert rows(cell) == before + 2
    if cell.is_postgres:
        async with door.begin(outcome="exact") as session:
            await session.execute(sa.update(Item).values(value=7).where(Item.id == 99))
        assert rows(cell) == before + 2  # the server was asked whether anything had changed


async def lose(cell: Cell, place: Place) -> tuple[int, BaseException | None]:
    """The rows that are there after a unit whose link was cut at `place`, and what left it."""
    async with through(cell) as (door, proxy):
        proxy.plan(Fault(Cut(), place))
        try:
            async with door.begin() as session:
                session.add(Item(id=1, name="one"))
                await session.flush()
        except DBAPIError as error:
            return len(cell.witness.items()), error
        return len(cell.witness.items()), None


@also_pooled
async def test_an_answer_that_is_lost(cell: Cell) -> None:
    """If the answer to COMMIT is lost and the unit has committed, the block ends as if nothing had happened."""
    if cell.engine == "sqlite":
        cell.differs(NO_LINK)
        return
    assert await lose(cell, answer("COMMIT")) == (1, None)


@also_pooled
async def test_a_commit_that_never_arrived(cell: Cell) -> None:
    """If COMMIT never reached the server the unit ends with the link's error, and is known to have not committed."""
    if cell.engine == "sqlite":
        cell.differs(NO_LINK)
        return
    rows_there, error = await lose(cell, request("COMMIT"))
    assert rows_there == 0
    assert isinstance(error, DBAPIError)
    assert error.unit_outcome is Outcome.ROLLED_BACK  # type: ignore[attr-defined]  # marked by the door


@also_pooled
async def test_run_repeats_only_what_has_not_committed(cell: Cell) -> None:
    """run() repeats a unit whose COMMIT was lost on its way, not one whose answer was; hooks run once in both."""
    if cell.engine == "sqlite":
        cell.differs(NO_LINK)
        return
    called: list[str] = []

    async with through(cell) as (door, proxy):

        async def write(session: AsyncSession) -> int:
            number = len(cell.witness.items()) + 1
            session.add(Item(id=number, name=str(number)))
            await session.flush()
            door.on_commit(called.append, str(number))
            return number

        proxy.plan(Fault(Cut(), request("COMMIT"), times=2))
        assert await door.run(write) == 1
        proxy.plan(Fault(Cut(), answer("COMMIT")))
        assert await door.run(write) == 2
        assert door.counts().repeated in (1, 2)  # the fence itself may have been what was cut
    assert cell.witness.items() == [1, 2]
    assert called == ["1", "2"]


async def test_a_link_that_leads_nowhere(cell: Cell) -> None:
    """If no answer comes, for whatever reason, the database is asked on another connection, within two seconds."""
    if cell.engine == "sqlite":
        cell.differs(NO_LINK)
        return
    async with through(cell) as (door, proxy):
        proxy.plan(Fault(Hole(), answer("COMMIT")))
        async with door.begin() as session:
            session.add(Item(id=1, name="one"))
        proxy.plan(Fault(Hole(), request("COMMIT")))
        with pytest.raises(DBAPIError):
            async with door.begin() as session:
                session.add(Item(id=2, name="two"))
        assert door.counts().rolled_back == 1
    assert cell.witness.items() == [1]


async def test_nobody_to_ask(cell: Cell) -> None:
    """If the database cannot be asked in time the outcome is unknown; it can be asked for later, by the unit's id."""
    if cell.engine == "sqlite":
        cell.differs(NO_LINK)
        return
    async with through(cell) as (door, proxy):
        proxy.plan(Fault(Cut(), answer("COMMIT")))
        with pytest.raises(CommitUnknown) as caught:
            async with door.begin(deadline=0.5) as session:
                session.add(Item(id=1, name="one"))
                await session.flush()
                proxy.refuse()
        unit = caught.value.facts["unit_id"]
        assert unit_id_of(caught.value) == unit
        assert unit in str(caught.value)
        assert await door.outcome(unit, within=0.1) is Outcome.UNKNOWN
        proxy.accept()
        assert await door.outcome(unit) is Outcome.COMMITTED
        assert await door.outcome(unit) is Outcome.COMMITTED
    assert cell.witness.items() == [1]


async def test_a_cancelled_unit_that_nobody_could_ask_for(cell: Cell) -> None:
    """A cancellation at COMMIT that comes when nobody can be asked carries the unit's id, to be asked for later."""
    if cell.engine == "sqlite":
        cell.differs(NO_LINK)
        return
    if not cell.is_async:
        cell.differs("threads are not cancelled")
        return
    async with through(cell) as (door, proxy):

        async def unit() -> None:
            async with door.begin() as session:
                session.add(Item(id=1, name="one"))
                await session.flush()
                proxy.refuse()

        proxy.plan(Fault(Hole(), answer("COMMIT")))
        task = asyncio.create_task(unit())
        await asyncio.to_thread(proxy.wait_for, Fired, 10.0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert outcome_of(caught.value) is Outcome.UNKNOWN
        unit_id = unit_id_of(caught.value)
        assert unit_id is not None
        assert unit_id in str(caught.value.__cause__)
        proxy.accept()
        assert await door.outcome(unit_id) is Outcome.COMMITTED
    assert cell.witness.items() == [1]


@also_pooled
async def test_once_by_key(cell: Cell) -> None:
    """Of all units with the same key one commits; the next one hears what it recorded."""
    door = cell.door()
    key = f"order-{uuid.uuid4()}"

    async def write(session: AsyncSession) -> dict[str, int]:
        session.add(Item(id=1, name="one"))
        return {"id": 1}

    assert await door.run(write, key=key, record=True) == {"id": 1}
    with pytest.raises(AlreadyCommitted) as caught:
        await door.run(write, key=key)
    assert caught.value.result == {"id": 1}
    with pytest.raises(AlreadyCommitted):
        async with door.begin(key=key):
            raise AssertionError("the block was run")
    assert cell.witness.items() == [1]
    assert await door.outcome(key=key) is Outcome.COMMITTED
    assert await door.outcome(key=f"{key}-other") is Outcome.ROLLED_BACK


async def test_a_key_of_a_unit_that_failed(cell: Cell) -> None:
    """A key is free again if its unit has not committed."""
    door = cell.door()
    key = f"order-{uuid.uuid4()}"
    with pytest.raises(ZeroDivisionError):
        async with door.begin(key=key) as session:
            session.add(Item(id=1, name="one"))
            raise ZeroDivisionError
    async with door.begin(key=key) as session:
        session.add(Item(id=2, name="two"))
    assert cell.witness.items() == [2]


async def test_two_with_one_key_at_once(cell: Cell) -> None:
    """While a unit with the key is in flight another one waits; then it is told, and has done nothing."""
    door = cell.door()
    key = f"order-{uuid.uuid4()}"

    async def place() -> None:
        async def write(session: AsyncSession) -> None:
            await session.execute(sa.update(Item).values(value=Item.value + 1))

        await door.run(write, key=key)

    cell.witness.do("insert into item (id, name, value) values (1, 'one', 0)")
    ends = await cell.together(*[place] * 6)
    assert sorted(type(end).__name__ for end in ends) == ["AlreadyCommitted"] * 5 + ["NoneType"]
    assert cell.witness.value(1) == 1


async def test_a_key_over_a_lost_answer(cell: Cell) -> None:
    """A unit with a key knows its outcome too: it is repeated after a lost COMMIT, and not after a lost answer."""
    if cell.engine == "sqlite":
        cell.differs(NO_LINK)
        return
    async with through(cell) as (door, proxy):
        for number, place in enumerate((request("COMMIT"), answer("COMMIT"))):
            key = f"order-{uuid.uuid4()}"

            async def write(session: AsyncSession, number: int = number) -> int:
                session.add(Item(id=number, name=str(number)))
                return number

            proxy.plan(Fault(Cut(), place))
            assert await door.run(write, key=key, record=True) == number
            assert await door.outcome(key=key) is Outcome.COMMITTED
        assert door.counts().repeated == 1
    assert cell.witness.items() == [0, 1]


async def test_what_is_refused(cell: Cell) -> None:
    """What cannot be honoured is refused before any SQL: joins, several databases, words, ids, results."""
    door = cell.two()
    async with door.begin("orders"):
        with pytest.raises(JoinRefused, match="outcome"):
            async with door.begin("orders", outcome="exact"):
                pass
        with pytest.raises(JoinRefused, match="key"):
            async with door.begin("orders", key="one"):
                pass
    with pytest.raises(RequestRefused, match="exact outcome"):
        door.begin("orders", "billing", atomic=False, outcome="exact")
    with pytest.raises(RequestRefused, match="exakt"):
        door.begin("orders", outcome="exakt")  # type: ignore[arg-type]  # what is shown
    with pytest.raises(RequestRefused, match="plain"):
        door.begin("orders", outcome="plain", key="one")
    with pytest.raises(RequestRefused, match="early"):
        door.begin("orders", outcome="early", key="one")
    with pytest.raises(RequestRefused, match="key"):
        door.begin("orders", key="")
    with pytest.raises(RequestRefused, match="without a key"):
        await door.run(ready, "orders", record=True)
    for wrong in ("", "x", str(uuid.uuid4())):
        with pytest.raises(RequestRefused, match="id of a unit"):
            await door.outcome(wrong, "orders")
    with pytest.raises(RequestRefused, match="either"):
        await door.outcome(database="orders")
    with pytest.raises(RequestRefused, match="too long"):
        await door.outcome("0193d2a4-7c00-7abc-8def-0123456789ab", "orders")

    async def large(session: AsyncSession) -> str:
        return "x" * 10_000

    with pytest.raises(RequestRefused, match="8192"):
        await door.run(large, "orders", key=f"order-{uuid.uuid4()}", record=True)


@also_pooled
async def test_an_id_of_another_database(cell: Cell) -> None:
    """Where a unit never was nobody says that it was rolled back: the id knows its database, and the answer is LOST."""
    door = cell.two()
    async with door.begin("orders", outcome="exact") as session:
        session.add(Item(id=1, name="one"))
    text = "cast(unit as char(36))"
    ids = f"select max({text}) from polysession_commit where {text} < 'f'"
    unit = str(cell.witness.ask(ids)[0][0])
    assert await door.outcome(unit, "orders") is Outcome.COMMITTED
    assert await door.outcome(unit, "billing") is Outcome.LOST


async def test_the_row_costs_no_round_trip(cell: Cell) -> None:
    """The row goes in the message of COMMIT: a unit with an exact outcome takes as many round trips as another one."""
    if cell.engine == "sqlite":
        cell.differs(NO_LINK)
        return
    async with through(cell) as (door, proxy):

        async def trips(number: int, outcome: Literal["plain", "exact"], *, write: bool) -> int:
            with proxy.counting() as count:
                async with door.begin(outcome=outcome) as session:
                    await session.execute(sa.select(Item.id).limit(1))
                    if write:
                        await session.execute(sa.insert(Item).values(id=number, name=str(number)))
            return count.round_trips

        for write in (False, True):
            first = 10 if write else 100
            for number in range(8):  # statements are prepared, and remembered
                await trips(first + number, "exact", write=write)
            assert await trips(first + 8, "exact", write=write) == await trips(first + 9, "plain", write=write)
