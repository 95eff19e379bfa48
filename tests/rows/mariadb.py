"""Ways to the errors of MariaDB."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import sqlalchemy as sa

from polysession import AsyncSessions
from polysession.options import Access
from polysession.testing.proxy import Cut, Ending, Fault, FaultProxy, answer
from tests.conformance.cells import Cell
from tests.conformance.schema import Item
from tests.engines.mariadb import MariaDB
from tests.engines.process import wait_until

from .ways import says, way

MY = "mariadb"
ONE = sa.text("select 1")


def server_of(cell: Cell) -> MariaDB:
    """The server of a cell."""
    server = cell.database.server
    assert isinstance(server, MariaDB)
    return server


# -- what units do to one another


@way(MY, "1213")
async def deadlock(cell: Cell, door: AsyncSessions) -> None:
    """Two units lock two rows, each in its own order."""
    cell.witness.do("insert into item (id, name, value) values (1, 'one', 0), (2, 'two', 0)")
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
        cell.witness.empty_tables()
    (failed,) = [answer for answer in answers if isinstance(answer, BaseException)]
    raise failed


@way(MY, "1020")
async def changed_since_the_snapshot(cell: Cell, door: AsyncSessions) -> None:
    """A repeatable unit writes to a row that was changed after its snapshot."""
    cell.witness.do("insert into item (id, name, value) values (1, 'one', 0)")

    async def work(session: Any) -> None:
        await session.execute(sa.select(Item))
        cell.witness.do("update item set value = value + 1")
        await session.execute(sa.update(Item).values(value=7))

    try:
        await door.run(work, retry=1)
    finally:
        cell.witness.empty_tables()


@way(MY, "1205")
async def lock_not_had(cell: Cell, door: AsyncSessions) -> None:
    """FOR UPDATE NOWAIT of a row that another unit holds."""
    cell.witness.do("insert into item (id, name, value) values (1, 'one', 0)")
    try:
        async with door.begin() as session:
            await session.execute(sa.select(Item).with_for_update())
            async with door.begin(propagation="requires_new") as other:
                await other.execute(sa.text("select * from item for update nowait"))
    finally:
        cell.witness.empty_tables()


@way(MY, "1205")
async def lock_not_in_time(cell: Cell, door: AsyncSessions) -> None:
    """innodb_lock_wait_timeout passes while another unit holds the row."""
    cell.witness.do("insert into item (id, name, value) values (1, 'one', 0)")
    try:
        async with door.begin() as session:
            await session.execute(sa.select(Item).with_for_update())
            async with door.begin(propagation="requires_new") as other:
                await other.execute(sa.text("select * from item for update wait 1"))
    finally:
        cell.witness.empty_tables()


@way(MY, "1412")
async def table_changed(cell: Cell, door: AsyncSessions) -> None:
    """A table that was changed after the snapshot of a transaction."""
    cell.witness.do("create table shape (a int)")
    try:
        async with door.begin(isolation="REPEATABLE READ") as session:
            await session.execute(sa.select(Item))
            cell.witness.do("alter table shape force")
            await session.execute(sa.text("select * from shape"))
    finally:
        cell.witness.do("drop table shape")


# -- read-only servers

way(MY, "1792", access=Access.WRITE)(
    says("set transaction read only", "insert into item (id, name, value) values (1, 'one', 0)")
)


@way(MY, "1792", asks=Access.READ)
async def write_in_a_read_unit(cell: Cell, door: AsyncSessions) -> None:
    """A write that hides in a function, at the server."""
    server_of(cell).ask(
        f"create function {cell.database.name}.adds() returns int deterministic modifies sql data"
        " begin insert into item (id, name, value) values (1, 'one', 0); return 1; end",
        database=cell.database.name,
    )
    try:
        async with door.read() as session:
            await session.execute(sa.text("select adds()"))
    finally:
        cell.witness.do("drop function adds")


@way(MY, "1290", says="read-only", access=Access.WRITE)
async def demoted(cell: Cell, door: AsyncSessions) -> None:
    """The operator has made the server read-only, as tools do to a former primary."""
    server_of(cell).ask("set global read_only = 1")
    try:
        async with door.begin() as session:
            await session.execute(sa.insert(Item).values(id=1, name="one", value=0))
    finally:
        server_of(cell).ask("set global read_only = 0")


# -- the link and the server


@way(MY, "2003", drivers=("pymysql", "asyncmy"), nothing_sent=True)
async def refused(cell: Cell, _: AsyncSessions) -> None:
    """Nobody listens there."""
    with FaultProxy.before(cell.url) as proxy:
        proxy.refuse()
        await connects(cell.door({"default": {"url": proxy.url}}))


async def connects(door: AsyncSessions) -> None:
    """A unit that needs a connection."""
    async with door.begin() as session:
        await session.execute(ONE)


async def through(cell: Cell, fault: Fault) -> None:
    """A unit whose second statement goes through a proxy that breaks the link there."""
    with FaultProxy.before(cell.url) as proxy:
        door = cell.door({"default": {"url": proxy.url}})
        async with door.begin() as session:
            await session.execute(sa.text("select 7"))
            proxy.plan(fault)
            await session.execute(sa.text("select 8"))


@way(MY, "2013")
async def closed_in_a_statement(cell: Cell, _: AsyncSessions) -> None:
    """The link ends while an answer is waited for."""
    await through(cell, Fault(Cut(Ending.FIN), answer(when=lambda m: bool(m.exchange))))


@way(MY, "2013")
async def killed_in_a_statement(cell: Cell, door: AsyncSessions) -> None:
    """KILL CONNECTION while a statement runs."""
    async with door.begin() as session:
        number = (await session.execute(sa.text("select connection_id()"))).scalar_one()
        server = server_of(cell)
        running = f"select 1 from information_schema.processlist where id = {number:d} and info like '%%sleep(20)%%'"

        def kill() -> None:
            wait_until(lambda: bool(server.ask(running)), what="the statement runs")
            server.ask(f"kill connection {number:d}")

        killer = threading.Thread(target=kill)
        killer.start()
        try:
            await session.execute(sa.text("select sleep(20)"))
        finally:
            killer.join()


@way(MY, "1040", nothing_sent=True)
async def no_free_slot(cell: Cell, _: AsyncSessions) -> None:
    """max_connections; the account has no right to the one that is kept for administrators."""
    server = server_of(cell)
    ((before,),) = server.ask("select @@global.max_connections")
    server.ask("set global max_connections = 10")
    held = []
    try:
        while True:  # administrators have one slot more
            held.append(sa.create_engine(cell.database.url("pymysql"), poolclass=sa.NullPool).connect())
    except sa.exc.OperationalError:
        await connects(cell.door())
    finally:
        for connection in held:
            connection.close()
        server.ask(f"set global max_connections = {before:d}")


@way(MY, "1226", nothing_sent=True)
async def no_slot_for_the_user(cell: Cell, _: AsyncSessions) -> None:
    """MAX_USER_CONNECTIONS of the account."""
    server = server_of(cell)
    server.ask("grant usage on *.* to app with max_user_connections 1")
    try:
        door = cell.door()
        async with door.begin() as session:
            await session.execute(ONE)
            async with door.begin(propagation="requires_new") as second:
                await second.execute(ONE)
    finally:
        server.ask("grant usage on *.* to app with max_user_connections 0")


# -- time and cancellation


@way(MY, "1317")
async def cancelled(cell: Cell, door: AsyncSessions) -> None:
    """KILL QUERY while a statement runs."""
    async with door.begin() as session:
        number = (await session.execute(sa.text("select connection_id()"))).scalar_one()
        server = server_of(cell)
        counts = "select count(*) from seq_1_to_100000000 as a where a.seq % 7 = 3"
        running = f"select 1 from information_schema.processlist where id = {number:d} and info like '%%seq_1_to%%'"

        def kill() -> None:
            wait_until(lambda: bool(server.ask(running)), what="the statement runs")
            server.ask(f"kill query {number:d}")

        killer = threading.Thread(target=kill)
        killer.start()
        try:
            await session.execute(sa.text(counts))
        finally:
            killer.join()


way(MY, "1969")(
    says(
        "set statement max_statement_time = 0.05 for select count(*) from seq_1_to_1000000000 as a where a.seq % 7 = 3"
    )
)

# -- the work itself

way(MY, "1062")(says("insert into item (id, name, value) values (1, 'one', 0), (1, 'two', 0)"))
way(MY, "1364")(says("insert into item (id, name) values (1, 'one')"))
way(MY, "4025")(says("create temporary table small (n int check (n < 5))", "insert into small values (7)"))
way(MY, "1644")(says("signal sqlstate '45000' set message_text = 'no'"))
way(MY, "1366")(says("insert into item (id, name, value) values ('x', 'one', 0)"))
way(MY, "1235")(says("select * from item where id in (select id from item limit 1)"))
way(MY, "#23")(says("insert into part (id, invoice_id) values (1, 1)"))
way(MY, "#22")(says("insert into item (id, name, value) values (1, 'one', 99999999999)"))
way(MY, "#42")(says("select nothing from nowhere"))
way(MY, "1227")(says("set global max_connections = 10"))


@way(MY, "1045", nothing_sent=True)
async def wrong_password(cell: Cell, _: AsyncSessions) -> None:
    """The server does not accept it."""
    url = sa.make_url(cell.url).set(password="wrong")  # noqa: S106  # it is
    await connects(cell.door({"default": {"url": url.render_as_string(hide_password=False)}}))


@way(MY, "0", drivers=("pymysql",))
async def closed_before(cell: Cell, door: AsyncSessions) -> None:
    """Somebody has closed the driver's connection below the session."""
    async with door.begin() as session:
        await session.execute(ONE)
        driver: Any = await session.run_sync(lambda sync: sync.connection().connection.driver_connection)
        closing = driver.close()
        if closing is not None:
            await closing
        await session.execute(sa.text("select 2"))
