"""Behind a pooler

What there is only there; what holds everywhere is shown through pgbouncer by the rest of the suite. What a unit leaves
in a session of the server is looked for without a pooler, where one connection is one session.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NamedTuple, cast

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from polysession import AsyncSessions, Sessions
from polysession.errors import ConfigError, DeadlineExceeded, RequestRefused, UnitRolledBack
from tests.engines.pgbouncer import PgBouncer
from tests.engines.postgres import Postgres
from tests.engines.process import wait_until
from tests.engines.server import Server
from tests.engines.targets import FreshDatabase

from .doors import as_async, finish, together

Fresh = Callable[[str], FreshDatabase]
Private = Callable[[str], Server]
Test = Callable[[AsyncSessions], Coroutine[Any, Any, None]]

WORKERS = 8
UNITS = 40
SESSIONS = 3
"""Of the server, which all workers share."""


class Place(NamedTuple):
    """A door and a driver."""

    door: str
    driver: str

    def over(self, url: str, test: Test, **keys: Any) -> None:
        """Run `test` with a door over `url` as the database "orders", with further keys of its table."""
        databases = {"orders": {"url": url, **keys}}
        if self.door == "sync":
            with Sessions(databases) as sessions:
                finish(test(as_async(sessions)))
                assert (sessions.held(), sessions._connections_out()) == ((), 0)
            return

        async def run() -> None:
            async with AsyncSessions(databases) as sessions:
                await test(sessions)
                assert (sessions.held(), sessions._connections_out()) == ((), 0)

        asyncio.run(run())


PLACES = [Place("sync", "psycopg"), Place("async", "psycopg"), Place("async", "asyncpg")]
pytestmark = [pytest.mark.pg, pytest.mark.parametrize("place", PLACES, ids="-".join)]

SETTINGS = "select name, setting from pg_settings where name in ('statement_timeout', 'lock_timeout', \
'default_transaction_read_only', 'default_transaction_isolation', 'search_path', 'jit') order by name"
LOOK = "select pg_backend_pid() as process, current_setting('app.mine', true) as mine, \
current_setting('transaction_read_only') as read_only, current_setting('statement_timeout') as statement_timeout"
READ_ONLY = sa.text("show transaction_read_only")
LEVEL = sa.text("show transaction_isolation")
ONE = sa.text("select 1 + :one").bindparams(one=0)


@pytest.mark.pgbouncer
def test_a_pooler_that_is_not_configured(place: Place, fresh_database: Fresh) -> None:
    """A read unit is refused with the key that is missing, and has sent nothing; a write unit works."""
    database = fresh_database("pgbouncer")

    async def test(door: AsyncSessions) -> None:
        with pytest.raises(ConfigError) as caught:
            async with door.read() as session:
                await session.execute(ONE)
        assert caught.value.facts["path"] == "databases.orders.pooler"
        assert 'set pooler = "transaction" in [databases.orders]' in str(caught.value)
        assert database.census() == []
        async with door.begin() as session:
            assert await session.scalar(READ_ONLY) == "off"

    place.over(database.url(place.driver), test)


@pytest.mark.pgbouncer
def test_a_startup_parameter_of_the_configuration(place: Place, fresh_database: Fresh) -> None:
    """What the pooler refuses of the configuration's own arguments is refused with their key."""
    given = {"server_settings": {"jit": "off"}} if place.driver == "asyncpg" else {"options": "-c jit=off"}

    async def test(door: AsyncSessions) -> None:
        for unit in (door.read(), door.begin()):
            with pytest.raises(ConfigError) as caught:
                async with unit as session:
                    await session.execute(ONE)
            assert caught.value.facts["path"] == "databases.orders.connect"

    place.over(fresh_database("pgbouncer").url(place.driver), test, pooler="transaction", connect=given)


@pytest.mark.pgbouncer
def test_a_read_unit_is_one_read_only_transaction(place: Place, fresh_database: Fresh) -> None:
    """It begins with the first statement and ends with the unit; no option makes it write; AUTOCOMMIT is refused."""
    database = fresh_database("pgbouncer")
    behind = cast("PgBouncer", database.server).behind

    behind.ask("create table item (id integer)", database=database.name)
    behind.ask(
        "create function hidden() returns integer language sql security definer"
        " as 'insert into item values (1) returning id'",
        database=database.name,
    )

    def states() -> list[str]:
        return [backend.state for backend in behind.census(database.name) if "transaction" in backend.state]

    async def test(door: AsyncSessions) -> None:
        async with door.read() as session:
            assert [row.state for row in door.held()] == ["no connection"]
            assert states() == []
            assert await session.scalar(READ_ONLY) == "on"
            assert states() == ["idle in transaction"]
            assert [row.state for row in door.held()] == ["in transaction"]
        wait_until(lambda: states() == [], what="the transaction has ended")
        with pytest.raises(DBAPIError, match="read-only transaction"):
            async with door.read() as session:
                await session.execute(sa.text("select hidden()"))
        for option in ({"postgresql_readonly": True}, {"postgresql_readonly": False}, {}):
            async with door.read() as session:
                await session.connection(execution_options=option)
                assert await session.scalar(READ_ONLY) == "on"
        with pytest.raises(RequestRefused, match="AUTOCOMMIT cannot be had in a read unit"):
            async with door.read() as session:
                await session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})

    place.over(database.url(place.driver), test, pooler="transaction", pool={"size": 1})


@pytest.mark.pgbouncer
def test_the_level_of_a_read_unit(place: Place, fresh_database: Fresh) -> None:
    """Each statement sees what is committed when it runs, also where the server's default is another level."""
    database = fresh_database("pgbouncer")
    behind = cast("PgBouncer", database.server).behind
    behind.ask(f"alter database {database.name} set default_transaction_isolation = 'serializable'")

    async def test(door: AsyncSessions) -> None:
        async with door.begin() as session:
            assert await session.scalar(LEVEL) == "serializable"
        async with door.read() as session:
            assert await session.scalar(LEVEL) == "read committed"
        async with door.read(isolation="REPEATABLE READ") as session:
            assert await session.scalar(LEVEL) == "repeatable read"
        async with door.read(snapshot=True) as session:
            assert await session.scalar(LEVEL) == "repeatable read"
        async with door.read() as session:
            assert await session.scalar(LEVEL) == "read committed"

    place.over(database.url(place.driver), test, pooler="transaction", pool={"size": 1})


@pytest.mark.pgbouncer
def test_an_error_ends_its_statement_only(place: Place, fresh_database: Fresh) -> None:
    """A read unit goes on after an error that was swallowed, under its deadline; in a snapshot it cannot."""
    wrong, limit = sa.text("select 1 / :zero").bindparams(zero=0), sa.text("show statement_timeout")

    async def test(door: AsyncSessions) -> None:
        async with door.read(deadline=30) as session:
            assert await session.scalar(limit) != "0"
            for _ in range(2):
                with pytest.raises(DBAPIError, match="division by zero"):
                    await session.execute(wrong)
                assert await session.scalar(READ_ONLY) == "on"
                assert await session.scalar(LEVEL) == "read committed"
                assert await session.scalar(limit) != "0"
        async with door.read() as session:
            async with session.begin_nested() as savepoint:
                with pytest.raises(DBAPIError, match="division by zero"):
                    await session.execute(wrong)
                await savepoint.rollback()
            assert await session.scalar(READ_ONLY) == "on"
        for options in ({"isolation": "REPEATABLE READ"}, {"snapshot": True}):
            with pytest.raises((DBAPIError, UnitRolledBack), match=r"aborted|rolled back"):
                async with door.read(**options) as session:
                    with pytest.raises(DBAPIError, match="division by zero"):
                        await session.execute(wrong)
                    await session.execute(ONE)

    place.over(fresh_database("pgbouncer").url(place.driver), test, pooler="transaction", pool={"size": 1})


@pytest.mark.pgbouncer
def test_a_deadline_outlives_a_savepoint(place: Place, fresh_database: Fresh) -> None:
    """What a return to a savepoint undoes is said to the server again."""
    limit = sa.text("show statement_timeout")

    async def test(door: AsyncSessions) -> None:
        async with door.begin(deadline=30) as session:
            async with session.begin_nested() as savepoint:
                assert await session.scalar(limit) != "0"
                await savepoint.rollback()
            assert await session.scalar(limit) != "0"

    place.over(fresh_database("pgbouncer").url(place.driver), test, pooler="transaction")


@pytest.mark.pgbouncer
def test_units_without_a_transaction(place: Place, fresh_database: Fresh) -> None:
    """With psycopg each statement commits by itself; asyncpg would need several round trips for one, and is refused."""

    async def test(door: AsyncSessions) -> None:
        if place.driver == "asyncpg":
            with pytest.raises(RequestRefused, match="AUTOCOMMIT cannot be had by asyncpg"):
                async with door.begin(propagation="never"):
                    pass
            async with door.open() as session:
                with pytest.raises(RequestRefused, match="AUTOCOMMIT cannot be had by asyncpg"):
                    await session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
        else:
            async with door.begin(propagation="never") as session:
                await session.execute(sa.text("vacuum"))
            with pytest.raises(RequestRefused, match="cannot have a deadline"):
                async with door.begin(propagation="never", deadline=5):
                    pass
        async with door.read(propagation="never", deadline=5) as session:
            assert await session.scalar(READ_ONLY) == "on"
            assert await session.scalar(sa.text("show statement_timeout")) != "0"

    place.over(fresh_database("pgbouncer").url(place.driver), test, pooler="transaction")


Opened = Callable[..., Any]


async def work(session: Any) -> None:
    """Runs a statement often enough for a driver to prepare it, and one whose type asyncpg has to ask for."""
    for _ in range(10):
        await session.execute(ONE)
    assert await session.scalar(sa.text("select cast('good' as mood)")) == "good"


async def state(opened: Opened) -> tuple[Any, ...]:
    """The server's session of a unit: its process, what is set in it, how many statements it has prepared."""
    async with opened() as session:
        settings = (await session.execute(sa.text(SETTINGS))).all()
        statements = await session.scalar(sa.text("select count(*) from pg_prepared_statements"))
        return await session.scalar(sa.text("select pg_backend_pid()")), settings, statements


def test_nothing_stays_in_the_servers_session(place: Place, fresh_database: Fresh) -> None:
    """Units of every kind, also those that fail or overrun, leave no setting and no prepared statement."""

    async def test(door: AsyncSessions) -> None:
        async with door.begin() as session:
            await session.execute(sa.text("create type mood as enum ('good', 'bad')"))
        kinds: tuple[tuple[Opened, tuple[dict[str, Any], ...]], ...] = (
            (door.read, ({}, {"snapshot": True}, {"deadline": 5})),
            (door.begin, ({}, {"isolation": "SERIALIZABLE"}, {"deadline": 5})),
        )
        for opened, ways in kinds:
            before = await state(opened)
            assert before[-1] == 0
            for way in ways:
                async with opened(**way) as session:
                    await work(session)
                assert await state(opened) == before, way
            for statement, error in (("select pg_sleep(5)", DeadlineExceeded), ("select nothing", DBAPIError)):
                with pytest.raises(error):
                    async with opened(deadline=0.2) as session:
                        await session.execute(sa.text(statement))
                assert (await state(opened))[1:] == before[1:], statement
        before = await state(door.begin)
        await door.run(work, deadline=5)
        assert await state(door.begin) == before

    place.over(fresh_database("pg18").url(place.driver), test, pooler="transaction", pool={"size": 2})


def test_the_configuration_goes_before(place: Place, fresh_database: Fresh) -> None:
    """Arguments of the driver in the configuration override ours: a newer pooler may know prepared statements."""
    numbers = itertools.count()
    name = {"prepared_statement_name_func": lambda: f"mine {next(numbers)}"}
    given = {"prepare_threshold": 0} if place.driver == "psycopg" else name

    async def test(door: AsyncSessions) -> None:
        async with door.begin() as session:
            await session.execute(ONE)
            names = (await session.scalars(sa.text("select name from pg_prepared_statements"))).all()
            assert any(name.startswith("_pg3_" if place.driver == "psycopg" else "mine") for name in names)

    place.over(fresh_database("pg18").url(place.driver), test, pooler="transaction", connect=given)


@pytest.mark.pgbouncer
def test_many_clients_of_few_sessions(place: Place, fresh_database: Fresh, private_server: Private) -> None:
    """Eight workers, forty units each, over three sessions of the server: no error, and none sees what others set."""
    pooler = cast("PgBouncer", private_server("pgbouncer"))
    pooler.set("default_pool_size", SESSIONS)
    behind = fresh_database("pg18")
    shared = cast("Postgres", behind.server)
    assert pooler.behind is shared
    shared.ask("create table item (id integer primary key, value integer not null)", database=behind.name)
    shared.ask("grant all on item to app", database=behind.name)
    seen: set[int] = set()

    async def look(session: Any, *, read_only: bool, limited: bool = False) -> None:
        """The unit has what it asked for and nothing of the others, and then sets something of its own."""
        row = (await session.execute(sa.text(LOOK))).one()
        assert row.mine in (None, "")
        assert (row.read_only == "on", row.statement_timeout != "0") == (read_only, limited)
        if not read_only:
            await session.execute(sa.text("set local app.mine = 'set'"))
            await session.execute(sa.text("create temporary table own (id integer) on commit drop"))
            assert await session.scalar(sa.text("select current_setting('app.mine')")) == "set"
        seen.add(row.process)

    async def test(door: AsyncSessions) -> None:
        async def add(session: Any, number: int) -> None:
            await look(session, read_only=False)
            await session.execute(sa.text("insert into item values (:id, :value)"), {"id": number, "value": 0})

        async def unit(number: int) -> None:
            match number % 4:
                case 0:
                    async with door.begin() as session:
                        await add(session, number)
                case 1:
                    async with door.read() as session:
                        await look(session, read_only=True)
                        statement = sa.text("select value from item where id = :id")
                        assert await session.scalar(statement, {"id": number - 1}) == 0
                case 2:
                    async with door.read(deadline=30, isolation="SERIALIZABLE") as session:
                        await look(session, read_only=True, limited=True)
                case _:
                    await door.run(lambda session: add(session, number))

        async def worker(which: int) -> None:
            for number in range(which * UNITS, (which + 1) * UNITS):
                await unit(number)

        works: list[Callable[[], Awaitable[Any]]] = [functools.partial(worker, which) for which in range(WORKERS)]
        assert await together(works, asynchronous=place.door == "async") == [None] * WORKERS
        assert door.counts().committed == WORKERS * UNITS

    place.over(pooler.url(behind.name, place.driver), test, pooler="transaction", pool={"size": 2 * WORKERS})
    assert shared.ask("select count(*) from item", database=behind.name) == [(WORKERS * UNITS // 2,)]
    pooler.cut(behind.name)
    assert 1 <= len(seen) <= SESSIONS
