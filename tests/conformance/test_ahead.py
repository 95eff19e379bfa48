"""BEGIN in the flight of the first statement, with asyncpg: what comes of a unit is what came of it without"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from polysession import AsyncSessions
from polysession._shell import adapted, ahead
from polysession.facts import outcome_of
from polysession.testing.proxy import Cut, Fault, FaultProxy, Place, answer, request
from tests.engines.targets import FreshDatabase

pytestmark = pytest.mark.parametrize("target", ["pg15", "pg18"])

SETUP = (
    "create table item (id int primary key, name text)",
    "insert into item values (1, 'one')",
    "create table late (id int primary key, other int references item deferrable initially deferred)",
    "create function warn() returns int language plpgsql as $$ begin raise notice 'mind'; return 1; end $$",
)
Work = Callable[[AsyncSession], Coroutine[Any, Any, Any]]


def said(*texts: str, swallow: bool = False, **parameters: Any) -> Work:
    """A body that executes these texts one after another and answers their rows; errors are swallowed, or not."""

    async def work(session: AsyncSession) -> Any:
        found: list[Any] = []
        for text in texts:
            named = {name: value for name, value in parameters.items() if f":{name}" in text}
            try:
                result: Any = await session.execute(sa.text(text), named)
            except SQLAlchemyError as error:
                if not swallow:
                    raise
                found.append(type(error))
            else:
                found.append(result.all() if result.returns_rows else result.rowcount)
        return found

    return work


async def wrong_and_wrong_again(session: AsyncSession) -> None:
    """Nothing was answered yet when the driver breaks many statements off, and looks whether a transaction is open."""
    with suppress(SQLAlchemyError):
        await session.execute(sa.text("select cast(:id as int)"), {"id": "no number"})
    many: list[dict[str, Any]] = [{"id": number} for number in range(100, 103)]
    with suppress(SQLAlchemyError):
        await session.execute(sa.text("insert into item values (cast(:id as int), '')"), [*many, {"id": "no number"}])
    await session.execute(sa.text("insert into item values (7, 'seven')"))
    raise LookupError


WORKS: dict[str, tuple[Work, dict[str, Any]]] = {
    "rows": (said("select id, name from item where id = :id", id=1), {}),
    "a write": (said("update item set name = 'two' where id = :id", id=1), {}),
    "a write that answers": (said("insert into item values (2, 'two') on conflict do nothing returning id"), {}),
    "several statements": (said("select 1", "update item set name = 'x'", "select name from item"), {}),
    "much": (said("select n, repeat('x', 100) from generate_series(1, 20000) n"), {}),
    "much is sent": (said("select length(:text)", text="x" * 3_000_000), {}),
    "a notice": (said("select warn()"), {}),
    "a level of its own": (said("select current_setting('transaction_isolation')"), {"isolation": "SERIALIZABLE"}),
    "a savepoint": (said("savepoint one"), {}),
    "a duplicate": (said("insert into item values (:id, 'again')", id=1), {}),
    "a duplicate, swallowed": (said("insert into item values (:id, 'again')", "select 1", id=1, swallow=True), {}),
    "division by zero": (said("select 1 / :id", id=0), {}),
    "a wrong parameter": (said("select cast(:id as int)", id="no number"), {}),
    "one that is swallowed": (
        said("select cast(:id as int)", "update item set name = 'y'", "select 17", id="no", swallow=True),
        {},
    ),
    "two that are swallowed": (wrong_and_wrong_again, {}),
    "refused at COMMIT": (said("insert into late values (1, 99) on conflict do nothing"), {}),
    "not in a transaction": (said("vacuum item"), {}),
    "the server cancels it": (said("select pg_cancel_backend(pg_backend_pid()), pg_sleep(60)"), {}),
    "the server ends it": (said("select pg_terminate_backend(pg_backend_pid())"), {}),
}
"""Bodies of units, and what is asked of the units."""


async def come_of(door: AsyncSessions, observer: asyncpg.Connection, work: Work, asked: dict[str, Any]) -> Any:
    """What can be seen of a unit: its answer or its error, how it ended, and what it has left."""
    try:
        async with door.begin(**asked) as session:
            come: Any = await work(session)
    except Exception as error:
        come = type(error), getattr(getattr(error, "orig", None), "sqlstate", None), outcome_of(error)
    rows = await observer.fetch("select id, name from item order by id")
    assert door.held() == ()
    return come, [tuple(row) for row in rows], await begun(observer)


async def begun(observer: asyncpg.Connection) -> int:
    """Transactions that are open on the server."""
    text = "select count(*) from pg_stat_activity where xact_start is not null and pid <> pg_backend_pid()"
    return int(await observer.fetchval(f"{text} and datname = current_database()"))


@pytest.fixture
def address(database: FreshDatabase) -> str:
    """The database's address for asyncpg, with the tables of this file."""

    async def make() -> None:
        connection = await asyncpg.connect(found)
        for statement in SETUP:
            await connection.execute(statement)
        await connection.close()

    found = database.url("asyncpg").replace("+asyncpg", "")
    asyncio.run(make())
    return found


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Has doors that are made from here on send BEGIN alone."""

    def forget() -> None:
        monkeypatch.setattr(ahead, "is_known", lambda: False)
        adapted.asyncpg_cursors.cache_clear()

    yield forget
    monkeypatch.undo()
    adapted.asyncpg_cursors.cache_clear()


@pytest.mark.parametrize("what", WORKS)
def test_what_comes_of_a_unit(database: FreshDatabase, address: str, plain: Callable[[], None], what: str) -> None:
    """The same as without, whatever its first statement is and whatever comes of that; also of the unit after it."""
    work, asked = WORKS[what]

    async def seen() -> list[Any]:
        observer = await asyncpg.connect(address)
        await observer.execute("delete from item where id > 1; update item set name = 'one'")
        try:
            async with AsyncSessions({"default": {"url": database.url("asyncpg"), "pool": {"size": 1}}}) as door:
                again = said("select 4", "update item set name = name || '!'")
                found = []
                for _ in range(3):  # it is prepared by the first
                    found += [await come_of(door, observer, each, its) for each, its in ((work, asked), (again, {}))]
                return found
        finally:
            await observer.close()

    with_it = asyncio.run(seen())
    plain()
    assert with_it == asyncio.run(seen())


def test_round_trips(database: FreshDatabase, plain: Callable[[], None]) -> None:
    """A statement that is prepared takes BEGIN along; one that is not, one of executemany and one for a cursor of the
    server do not."""

    async def many(session: AsyncSession) -> None:
        await session.execute(sa.text("select :id"), [{"id": "1"}, {"id": "2"}])

    async def streamed(session: AsyncSession) -> None:
        async for _ in await session.stream(sa.text("select 2")):
            pass

    async def trips() -> list[int]:
        with FaultProxy.before(database.url("asyncpg")) as proxy:
            async with AsyncSessions(proxy.url) as door:
                found = []
                for work in (said("select 3"), said("select 3"), said("select 3"), many, many, streamed, streamed):
                    with proxy.counting() as count:
                        async with door.begin() as session:
                            await work(session)
                    found.append(count.round_trips)
                return found[1:]

    with_it = asyncio.run(trips())
    plain()
    without = asyncio.run(trips())
    assert with_it[:2] == [2, 2]
    assert without[:2] == [3, 3]
    assert with_it[2:] == without[2:]


def test_a_cancellation(database: FreshDatabase, address: str) -> None:
    """Of a task whose first statement is under way: it is rolled back, and its connection is used again or closed."""

    async def work() -> None:
        observer = await asyncpg.connect(address)

        async def sleeping() -> bool:
            text = "select count(*) from pg_stat_activity where query like '%pg_sleep(%' and state = 'active'"
            return bool(await observer.fetchval(f"{text} and pid <> pg_backend_pid()"))

        async with AsyncSessions(database.url("asyncpg")) as door:

            async def sleep(seconds: float) -> None:
                async with door.begin() as session:
                    await session.execute(sa.text("select pg_sleep(:seconds)"), {"seconds": seconds})

            await sleep(0)
            for _ in range(3):
                task = asyncio.create_task(sleep(60))
                async with asyncio.timeout(30):
                    while not await sleeping():  # noqa: ASYNC110  # the server is asked each time
                        await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert not await sleeping()
                assert await begun(observer) == 0
            assert door.held() == ()
            async with door.begin() as session:
                assert await session.scalar(sa.text("select 1")) == 1
        await observer.close()

    asyncio.run(work())


PLACES = (
    *(request("BEGIN", passed=count) for count in (0, 1, 10, 30, 50, 80)),
    *(answer("BEGIN", passed=count) for count in (0, 1, 5, 15, 30, 40)),
)


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_a_link_that_is_cut(database: FreshDatabase, address: str, place: Place) -> None:
    """Wherever the link is cut, the unit fails as one whose connection was lost before COMMIT, and can be repeated."""

    async def work() -> list[Any]:
        tries: list[int] = []

        async def write(session: AsyncSession) -> None:
            tries.append(1)
            await session.execute(sa.text("insert into item values (:id, 'new')"), {"id": len(done) + 2})

        done: list[int] = []
        with FaultProxy.before(database.url("asyncpg")) as proxy:
            async with AsyncSessions({"default": {"url": proxy.url, "pool": {"size": 1}}}) as door:
                for _ in range(2):
                    await door.run(write)
                    done.append(1)
                tries.clear()
                proxy.plan(Fault(Cut(), place))
                await door.run(write)
                assert len(tries) == 2
                assert door.held() == ()
        observer = await asyncpg.connect(address)
        try:
            return [row["id"] for row in await observer.fetch("select id from item order by id")]
        finally:
            await observer.close()

    assert asyncio.run(work()) == [1, 2, 3, 4]
