"""Ways to the errors of PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from polysession import AsyncSessions
from polysession.options import Access
from polysession.testing.proxy import Cut, Direction, Ending, Fault, FaultProxy, message, request
from tests.conformance.cells import Cell
from tests.conformance.schema import Item
from tests.engines.postgres import Postgres
from tests.engines.process import wait_until

from .ways import says, way

PG = "postgresql"
ONE = sa.text("select 1")
DEADLOCK_AT = "200ms"


def server_of(cell: Cell) -> Postgres:
    """The server of a cell."""
    server = cell.database.server
    assert isinstance(server, Postgres)
    return server


def lasting(cell: Cell, setting: str) -> None:
    """A setting of the test's database; it lasts until `forgotten`."""
    server_of(cell).ask(f'alter database "{cell.database.name}" set {setting}')


def forgotten(cell: Cell) -> None:
    """Undo all `lasting`."""
    server_of(cell).ask(f'alter database "{cell.database.name}" reset all')


# -- what units do to one another


@way(PG, "40001")
async def serialization_failure(cell: Cell, door: AsyncSessions) -> None:
    """Two units change one row at REPEATABLE READ."""
    cell.witness.do("insert into item (id, name, value) values (1, 'one', 0)")
    try:
        async with door.begin(isolation="REPEATABLE READ") as session:
            await session.execute(sa.select(Item))
            cell.witness.do("update item set value = 1")
            await session.execute(sa.update(Item).values(value=2))
    finally:
        cell.witness.empty_tables()


@way(PG, "40001")
async def write_skew_at_commit(cell: Cell, door: AsyncSessions) -> None:
    """Two serializable units, each of which reads what the other writes: the error comes with COMMIT."""
    async with door.begin(isolation="SERIALIZABLE") as one:
        await one.execute(sa.select(sa.func.count()).select_from(Item))
        async with door.begin(isolation="SERIALIZABLE", propagation="requires_new") as two:
            await two.execute(sa.select(sa.func.count()).select_from(Item))
            await one.execute(sa.insert(Item).values(id=1, name="one", value=0))
            await two.execute(sa.insert(Item).values(id=2, name="two", value=0))
        cell.witness.empty_tables()


@way(PG, "40P01")
async def deadlock(cell: Cell, door: AsyncSessions) -> None:
    """Two units lock two rows, each in its own order."""
    cell.witness.do("insert into item (id, name, value) values (1, 'one', 0), (2, 'two', 0)")
    lasting(cell, f"deadlock_timeout = '{DEADLOCK_AT}'")
    reached: set[int] = set()

    async def lock(first: int, second: int) -> None:
        async with door.begin() as session:
            await session.execute(sa.update(Item).where(Item.id == first).values(value=first))
            reached.add(first)
            while len(reached) < 2:  # of the other thread or task
                await asyncio.sleep(0) if cell.is_async else time.sleep(0.001)  # noqa: ASYNC251
            await session.execute(sa.update(Item).where(Item.id == second).values(value=first))

    try:
        answers = await cell.together(lambda: lock(1, 2), lambda: lock(2, 1))
    finally:
        forgotten(cell)
        cell.witness.empty_tables()
    (failed,) = [answer for answer in answers if isinstance(answer, BaseException)]
    raise failed


@way(PG, "55P03")
async def lock_not_had(cell: Cell, door: AsyncSessions) -> None:
    """FOR UPDATE NOWAIT of a row that another unit holds."""
    cell.witness.do("insert into item (id, name, value) values (1, 'one', 0)")
    try:
        async with door.begin() as session:
            await session.execute(sa.select(Item).with_for_update())
            async with door.begin(propagation="requires_new") as other:
                await other.execute(sa.select(Item).with_for_update(nowait=True))
    finally:
        cell.witness.empty_tables()


@way(PG, "55P03")
async def lock_not_in_time(cell: Cell, door: AsyncSessions) -> None:
    """lock_timeout passes while another unit holds the row."""
    cell.witness.do("insert into item (id, name, value) values (1, 'one', 0)")
    try:
        async with door.begin() as session:
            await session.execute(sa.select(Item).with_for_update())
            async with door.begin(propagation="requires_new") as other:
                await other.execute(sa.text("set local lock_timeout = '10ms'"))
                await other.execute(sa.select(Item).with_for_update())
    finally:
        cell.witness.empty_tables()


# -- schema


way(PG, "0A000", says="cached plan must not change result type", drivers=("psycopg",))(
    says(
        "create temporary table shape (a int)", "prepare shaped as select * from shape", "execute shaped",
        "alter table shape add column b int", "execute shaped",
    )
)  # fmt: skip


@way(PG, "0A000", raised="InvalidCachedStatementError", drivers=("asyncpg",))
async def shape_changed(cell: Cell, door: AsyncSessions) -> None:
    """A statement that asyncpg has prepared, after its table got another column."""
    cell.witness.do("create table shape (a int)")
    try:
        async with door.begin(isolation="READ COMMITTED") as session:
            await session.execute(sa.text("select * from shape"))
        cell.witness.do("alter table shape add column b int")
        async with door.begin(isolation="READ COMMITTED") as session:
            await session.execute(sa.text("select * from shape"))
    finally:
        cell.witness.do("drop table shape")


# -- the outcome is not what it looks like

way(PG, "22023", says="is in the future")(says("select pg_xact_status(cast('99999999' as xid8))"))

# -- the link and the server


async def in_a_statement(cell: Cell, door: AsyncSessions, act: Any) -> None:
    """Do `act` to the connection of a unit, and send a statement after it."""
    async with door.begin() as session:
        pid = (await session.execute(sa.text("select pg_backend_pid()"))).scalar_one()
        act(pid)
        await session.execute(ONE)


@way(PG, "57P01", drivers=("psycopg",))
@way(PG, "08003", says="administrator command", raised="ConnectionDoesNotExistError", drivers=("asyncpg",))
async def terminated(cell: Cell, door: AsyncSessions) -> None:
    """pg_terminate_backend, by an operator."""
    await in_a_statement(cell, door, lambda _: ended(cell))


def ended(cell: Cell) -> None:
    """All connections to the database are gone."""
    cell.database.cut()
    wait_until(lambda: not cell.database.census(), what="the connections are gone")


@way(PG, "57P05", drivers=("psycopg",))
async def idle_for_too_long(cell: Cell, door: AsyncSessions) -> None:
    """idle_session_timeout ends a connection that is used without a transaction; one in the pool is replaced."""
    lasting(cell, "idle_session_timeout = '50ms'")
    try:
        async with door.begin(propagation="not_supported") as session:
            await session.execute(ONE)
            wait_until(lambda: not cell.database.census(), what="the server has ended the connection")
            await session.execute(ONE)
    finally:
        forgotten(cell)


@way(PG, "25P03", drivers=("psycopg",))
@way(PG, "08003", says="idle-in-transaction timeout", raised="ConnectionDoesNotExistError", drivers=("asyncpg",))
async def idle_in_transaction(cell: Cell, door: AsyncSessions) -> None:
    """idle_in_transaction_session_timeout."""
    async with door.begin() as session:
        await session.execute(sa.text("set local idle_in_transaction_session_timeout = '30ms'"))
        wait_until(lambda: not cell.database.census(), what="the server has ended the connection")
        await session.execute(ONE)


@way(PG, "25P04", targets=("pg18",), drivers=("psycopg",))
@way(
    PG,
    "08003",
    says="due to transaction timeout",
    raised="ConnectionDoesNotExistError",
    targets=("pg18",),
    drivers=("asyncpg",),
)
async def transaction_too_long(cell: Cell, door: AsyncSessions) -> None:
    """transaction_timeout, which servers know from version 17 on."""
    async with door.begin() as session:
        await session.execute(sa.text("set local transaction_timeout = '100ms'"))
        await session.execute(sa.text("select pg_sleep(10)"))


@way(PG, "57014")
async def cancelled(cell: Cell, door: AsyncSessions) -> None:
    """pg_cancel_backend."""
    async with door.begin() as session:
        cancels = "select pg_cancel_backend(pg_backend_pid()), pg_sleep(10)"
        await session.execute(sa.text(cancels))


way(PG, "57014", says="statement timeout")(says("set local statement_timeout = '10ms'", "select pg_sleep(10)"))
way(PG, "25006", access=Access.WRITE)(
    says("set transaction read only", "insert into item (id, name, value) values (1, 'one', 0)")
)


@way(PG, "25006", access=Access.WRITE)
async def demoted(cell: Cell, door: AsyncSessions) -> None:
    """The operator has made the database read-only, as tools do to a former primary."""
    lasting(cell, "default_transaction_read_only = on")
    try:
        async with door.begin() as session:
            await session.execute(sa.insert(Item).values(id=1, name="one", value=0))
    finally:
        forgotten(cell)


@way(PG, "25006", asks=Access.READ)
async def write_in_a_read_unit(cell: Cell, door: AsyncSessions) -> None:
    """A write that hides in a function, at the server."""
    cell.witness.do(
        "create function adds() returns int language sql as"
        " 'insert into item (id, name, value) values (1, ''one'', 0) returning id'"
    )
    try:
        async with door.read() as session:
            await session.execute(sa.text("select adds()"))
    finally:
        cell.witness.do("drop function adds()")


# -- connecting


async def connects(door: AsyncSessions) -> None:
    """A unit that needs a connection."""
    async with door.begin() as session:
        await session.execute(ONE)


def elsewhere(cell: Cell, **changed: Any) -> AsyncSessions:
    """A door to the same database by another URL."""
    url = sa.make_url(cell.url).set(**changed)
    return cell.door({"default": {"url": url.render_as_string(hide_password=False)}})


@way(PG, "53300", drivers=("asyncpg",), nothing_sent=True)
@way(PG, "", says="too many connections for", drivers=("psycopg",), nothing_sent=True)
async def limit_of_the_database(cell: Cell, _: AsyncSessions) -> None:
    """ALTER DATABASE ... CONNECTION LIMIT."""
    name = cell.database.name
    server_of(cell).ask(f'alter database "{name}" connection limit 1')
    try:
        door = cell.door()
        async with door.begin() as session:
            await session.execute(ONE)
            async with door.begin(propagation="requires_new") as second:
                await second.execute(ONE)
    finally:
        server_of(cell).ask(f'alter database "{name}" connection limit -1')


@way(PG, "3D", drivers=("asyncpg",), nothing_sent=True)
@way(PG, "", says="does not exist", raised="OperationalError", drivers=("psycopg",), nothing_sent=True)
async def no_such_database(cell: Cell, _: AsyncSessions) -> None:
    """A database that is not there."""
    await connects(elsewhere(cell, database="nowhere"))


@way(PG, "", says="failed to resolve host", drivers=("psycopg",), nothing_sent=True)
async def no_such_host(cell: Cell, _: AsyncSessions) -> None:
    """A name that cannot be resolved (RFC 6761 keeps ".invalid" free of names)."""
    await connects(elsewhere(cell, host="nowhere.invalid"))


@way(PG, "", says="connection failed:", drivers=("psycopg",), nothing_sent=True)
@way(PG, "", raised="ConnectionRefusedError", drivers=("asyncpg",), nothing_sent=True)
async def refused(cell: Cell, _: AsyncSessions) -> None:
    """Nobody listens there."""
    with FaultProxy.before(cell.url) as proxy:
        proxy.refuse()
        await connects(cell.door({"default": {"url": proxy.url}}))


@way(PG, "", raised="ConnectionTimeout", drivers=("psycopg",))
@way(PG, "", raised="TimeoutError", drivers=("asyncpg",), nothing_sent=True)
async def not_in_time(cell: Cell, _: AsyncSessions) -> None:
    """A server that accepts and says nothing, and a pool that tries once: ours goes on trying, and says so."""
    bound = {"timeout": 0.3} if cell.place.driver == "asyncpg" else {"connect_timeout": 2}
    with FaultProxy.before(cell.url) as proxy:
        proxy.freeze()
        given: Any = (create_async_engine if cell.is_async else sa.create_engine)(proxy.url, connect_args=bound)
        ours = {"url": proxy.url, "connect": bound}
        try:
            await connects(cell.door({"default": ours if cell.place.driver == "asyncpg" else given}))
        finally:
            proxy.thaw()
            ending = given.dispose()
            if cell.is_async:
                await ending


@way(PG, "57P03", drivers=("asyncpg",), nothing_sent=True)
@way(PG, "", says="the database system is", drivers=("psycopg",), nothing_sent=True)
async def shutting_down(cell: Cell, _: AsyncSessions) -> None:
    """A server that waits for its clients to go and takes no new ones."""
    with Postgres(cell.place.target) as server:
        url = sa.make_url(server.url("postgres", cell.place.driver)).set(username="postgres")
        held = sa.create_engine(sa.make_url(server.url("postgres")).set(username="postgres"), poolclass=sa.NullPool)
        with held.connect() as connection:
            connection.execute(ONE)
            os.kill(int((server.data / "postmaster.pid").read_text().split()[0]), signal.SIGTERM)
            door = cell.door({"default": {"url": url.render_as_string()}})
            wait_until(lambda: "smart shutdown" in server.tail(), what="the server has heard it")
            await connects(door)


@way(PG, "53300", drivers=("asyncpg",), nothing_sent=True)
@way(PG, "", says="remaining connection slots are reserved", drivers=("psycopg",), nothing_sent=True)
async def slots_reserved(cell: Cell, _: AsyncSessions) -> None:
    """All but the administrators' slots of the server are taken."""
    await full(cell, "app")


@way(PG, "53300", drivers=("asyncpg",), nothing_sent=True)
@way(PG, "", says="too many clients already", drivers=("psycopg",), nothing_sent=True)
async def no_slot(cell: Cell, _: AsyncSessions) -> None:
    """Every slot of the server is taken."""
    await full(cell, "postgres")


async def full(cell: Cell, user: str) -> None:
    """A door at a server of its own whose slots for this user are taken."""
    few = {"max_connections": "6", "superuser_reserved_connections": "2", "max_wal_senders": "0", "autovacuum": "off"}
    with Postgres(cell.place.target, settings=few) as server, contextlib.ExitStack() as stack:
        urls = [sa.make_url(server.url("postgres", driver)).set(username=user) for driver in (None, cell.place.driver)]
        holder = sa.create_engine(urls[0], poolclass=sa.NullPool)
        with contextlib.suppress(sa.exc.OperationalError):
            while True:
                stack.enter_context(holder.connect())
        await connects(cell.door({"default": {"url": urls[1].render_as_string()}}))


@way(PG, "28", drivers=("asyncpg",), nothing_sent=True)
@way(PG, "", says="authentication failed", drivers=("psycopg",), nothing_sent=True)
async def wrong_password(cell: Cell, _: AsyncSessions) -> None:
    """The server asks for a password, and this is not it."""
    await at_the_gate(cell, "host all app 127.0.0.1/32 scram-sha-256")


@way(PG, "28", drivers=("asyncpg",), nothing_sent=True)
@way(PG, "", says="no pg_hba.conf entry", drivers=("psycopg",), nothing_sent=True)
async def not_from_here(cell: Cell, _: AsyncSessions) -> None:
    """The server has no rule for this user and address."""
    await at_the_gate(cell, "")


async def at_the_gate(cell: Cell, rule: str) -> None:
    """A door at a server of its own with one rule for "app"."""
    with Postgres(cell.place.target) as server:
        (server.data / "pg_hba.conf").write_text(f"host all postgres 127.0.0.1/32 trust\n{rule}\n")
        server.ask("select pg_reload_conf()")
        wait_until(lambda: "reloading configuration files" in server.tail(), what="the server has heard it")
        url = sa.make_url(server.url("postgres", cell.place.driver)).set(password="wrong")  # noqa: S106  # it is
        await connects(cell.door({"default": {"url": url.render_as_string(hide_password=False)}}))


@way(PG, "", raised="TargetServerAttributeNotMatched", drivers=("asyncpg",), nothing_sent=True)
async def no_standby(cell: Cell, _: AsyncSessions) -> None:
    """A standby was asked for, and there is none."""
    await connects(cell.door({"default": {"url": cell.url, "connect": {"target_session_attrs": "standby"}}}))


async def through(cell: Cell, fault: Fault, statement: str = "select 1") -> None:
    """A unit whose second statement goes through a proxy that breaks the link there."""
    with FaultProxy.before(cell.url) as proxy:
        door = cell.door({"default": {"url": proxy.url}})
        async with door.begin() as session:
            await session.execute(sa.text("select 7"))
            proxy.plan(fault)
            await session.execute(sa.text(statement))


@way(PG, "", says="server closed the connection unexpectedly", drivers=("psycopg",))
@way(PG, "08003", raised="ConnectionDoesNotExistError", drivers=("asyncpg",))
async def closed_in_a_statement(cell: Cell, _: AsyncSessions) -> None:
    """The link ends by FIN while an answer is waited for."""
    await through(cell, Fault(Cut(Ending.FIN), request(when=lambda m: bool(m.exchange))))


@way(PG, "", says="unexpected connection_lost", drivers=("asyncpg",), nothing_sent=True)
async def lost_at_login(cell: Cell, _: AsyncSessions) -> None:
    """The link ends while the server is about to answer the login."""
    with FaultProxy.before(cell.url) as proxy:
        proxy.plan(Fault(Cut(Ending.FIN), message(None, Direction.TO_CLIENT)))
        await connects(cell.door({"default": {"url": proxy.url}}))


@way(PG, "", says="the connection is closed", drivers=("psycopg",))
@way(PG, "", says="connection is closed", raised="InterfaceError", drivers=("asyncpg",))
async def closed_before(cell: Cell, door: AsyncSessions) -> None:
    """Somebody has closed the driver's connection below the session."""
    async with door.begin() as session:
        await session.execute(ONE)
        driver: Any = await session.run_sync(lambda sync: sync.connection().connection.driver_connection)
        closing = driver.close()
        if closing is not None:
            await closing
        await session.execute(sa.text("select 2"))


@way(PG, "", says="another operation is in progress", drivers=("asyncpg",))
async def two_at_once(cell: Cell, door: AsyncSessions) -> None:
    """Two tasks on one connection of asyncpg, by its own methods."""
    async with door.begin() as session:
        driver: Any = await session.run_sync(lambda sync: sync.connection().connection.driver_connection)
        await session.execute(ONE)
        long = asyncio.ensure_future(driver.fetch("select pg_sleep(0.2)"))
        await asyncio.sleep(0)
        try:
            await session.execute(sa.text("select 2"))
        finally:
            with contextlib.suppress(Exception):
                await long


# -- the work itself

way(PG, "23505")(says("insert into item (id, name, value) values (1, 'one', 0), (1, 'two', 0)"))
way(PG, "23")(says("insert into item (id, name, value) values (1, null, 0)"))
way(PG, "44")(
    says(
        "create temporary table small (n int)",
        "create temporary view smaller as select n from small where n < 5 with check option",
        "insert into smaller values (7)",
    )
)
way(PG, "P0")(says("do $$ begin raise exception 'no'; end $$"))
way(PG, "21")(says("select (select 1 union select 2)"))
way(PG, "22")(says("select 1 / 0"))
way(PG, "25")(
    says("set transaction isolation level serializable", "select 1", "set transaction isolation level read committed")
)
way(PG, "26000")(says("execute nothing"))
way(PG, "42P05")(says("prepare twice as select 1", "prepare twice as select 1"))
way(PG, "42501")(says("select * from pg_authid"))
way(PG, "42")(says("select nothing from nowhere"))
way(PG, "54")(says(f"create temporary table wide ({', '.join(f'c{n} int' for n in range(1700))})"))
way(PG, "0A")(says("select count(*) from item for update"))


@way(PG, "25P02")
async def swallowed(cell: Cell, door: AsyncSessions) -> None:
    """A statement after one that failed and whose error was swallowed."""
    async with door.begin() as session:
        with pytest.raises(sa.exc.DBAPIError):
            await session.execute(sa.text("select 1 / 0"))
        await session.execute(ONE)
