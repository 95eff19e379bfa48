"""Ways to the errors of SQLite."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from polysession import AsyncSessions
from tests.conformance.cells import Cell
from tests.conformance.schema import Item
from tests.engines.sqlite import SQLite

from .ways import says, way

LITE = "sqlite"
ONE = sa.text("select 1")


def path_of(cell: Cell) -> Path:
    """The file of the cell's database."""
    server = cell.database.server
    assert isinstance(server, SQLite)
    return server.path(cell.database.name)


async def raw(session: Any) -> Any:
    """Python's connection below a session."""
    from polysession._shell.sqlite import RAW

    return await session.run_sync(lambda sync: sync.connection().info[RAW])


@way(LITE, "5", settings={"connect": {"timeout": 0.05}})
async def locked(cell: Cell, door: AsyncSessions) -> None:
    """Another connection has begun to write."""
    with closing(sqlite3.connect(path_of(cell), isolation_level=None)) as other:
        other.execute("begin immediate")
        async with door.begin() as session:
            await session.execute(sa.select(Item))


@way(LITE, "517", settings={"connect": {"timeout": 0.05}})
async def stale_snapshot(cell: Cell, door: AsyncSessions) -> None:
    """A session that its owner ends reads, another connection writes, and then it wants to write."""
    try:
        async with door.open() as session:
            await session.execute(sa.select(Item))
            cell.witness.do("insert into item (id, name, value) values (1, 'one', 0)")
            await session.execute(sa.insert(Item).values(id=2, name="two", value=0))
    finally:
        cell.witness.empty_tables()


@way(LITE, "9")
async def interrupted(cell: Cell, door: AsyncSessions) -> None:
    """A statement that runs past the unit's deadline, below the unit's own report."""
    async with door.begin() as session:
        connection = await raw(session)
        connection.stop_at(0.0)
        endless = "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n"
        await session.execute(sa.text(endless))


@way(LITE, "13")
async def full(_: Cell, door: AsyncSessions) -> None:
    """The database may not grow any further."""
    async with door.begin() as session:
        pages = (await session.execute(sa.text("pragma page_count"))).scalar_one()
        await session.execute(sa.text(f"pragma max_page_count = {pages}"))
        try:
            await session.execute(sa.text("create table big as select zeroblob(1000000) as b"))
        finally:
            (await raw(session)).execute("pragma max_page_count = 1073741823")


# aiosqlite's thread reports the end of a connection that was never used to an event loop that has ended by then
@way(LITE, "26", drivers=("pysqlite",))
async def no_database(cell: Cell, _: AsyncSessions) -> None:
    """The file holds something else."""
    file = path_of(cell).with_suffix(".text")
    file.write_text("this is no database, but it is long enough to be looked at as if it were one" * 50)
    async with cell.door({"default": f"{cell.url.partition('://')[0]}:///{file}"}).begin() as session:
        await session.execute(ONE)


@way(LITE, "14", nothing_sent=True, drivers=("pysqlite",))
async def no_folder(cell: Cell, _: AsyncSessions) -> None:
    """The file cannot be made."""
    file = path_of(cell).parent / "nowhere" / "there.db"
    async with cell.door({"default": f"{cell.url.partition('://')[0]}:///{file}"}).begin() as session:
        await session.execute(ONE)


@way(LITE, "8")
async def read_only_file(cell: Cell, _: AsyncSessions) -> None:
    """The database was opened to be read."""
    url = f"{cell.url.partition('://')[0]}:///file:{path_of(cell)}?mode=ro&uri=true"
    async with cell.door({"default": url}).begin() as session:
        await session.execute(sa.insert(Item).values(id=1, name="one", value=0))


way(LITE, "1555")(says("insert into item (id, name, value) values (1, 'one', 0), (1, 'two', 0)"))
way(LITE, "2067")(says("insert into item (id, name, value) values (1, 'one', 0), (2, 'one', 0)"))
way(LITE, "2579")(says("create temp table t (n)", "insert into t (rowid, n) values (1, 1), (1, 2)"))
way(LITE, "787")(says("pragma defer_foreign_keys = off", "insert into part (id, invoice_id) values (1, 1)"))
way(LITE, "19")(says("insert into item (id, name, value) values (1, null, 0)"))
way(LITE, "20")(says("insert into item (id, name, value) values ('one', 'one', 0)"))
way(LITE, "18")(says("select zeroblob(2000000000)"))
way(LITE, "1")(says("select nothing from nowhere"))


@way(LITE, "6")
async def table_in_use(_: Cell, door: AsyncSessions) -> None:
    """A statement of this connection is still reading the table that is to be dropped."""
    async with door.begin() as session:
        await session.execute(sa.text("create temp table used (n)"))
        await session.execute(sa.text("insert into used values (1), (2), (3)"))
        reading = (await raw(session)).execute("select * from used")
        reading.fetchone()
        try:
            await session.execute(sa.text("drop table used"))
        finally:
            reading.close()


@way(LITE, "11")
async def damaged(cell: Cell, _: AsyncSessions) -> None:
    """Somebody has written into the file."""
    file = path_of(cell).with_suffix(".damaged")
    file.unlink(missing_ok=True)  # of the other door
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("create table many (n text)")
        connection.executemany("insert into many values (?)", [("x" * 500,)] * 100)
        connection.commit()
    whole = bytearray(file.read_bytes())
    whole[4096:] = b"\xff" * (len(whole) - 4096)
    file.write_bytes(whole)
    async with cell.door({"default": f"{cell.url.partition('://')[0]}:///{file}"}).begin() as session:
        await session.execute(sa.text("select count(n) from many"))


@way(LITE, "23")
async def not_authorized(_: Cell, door: AsyncSessions) -> None:
    """An authorizer refuses the statement."""
    async with door.begin() as session:
        connection = await raw(session)
        connection.set_authorizer(lambda *_: sqlite3.SQLITE_DENY)
        try:
            await session.execute(sa.select(Item))
        finally:
            connection.set_authorizer(None)


@way(LITE, "", says="cannot operate on a closed database", drivers=("pysqlite",))
@way(LITE, "", says="no active connection", drivers=("aiosqlite",))
async def closed_before(cell: Cell, door: AsyncSessions) -> None:
    """Somebody has closed the driver's connection below the session."""
    async with door.begin() as session:
        await session.execute(ONE)
        driver: Any = await session.run_sync(lambda sync: sync.connection().connection.driver_connection)
        closing_ = driver.close()
        if closing_ is not None:
            await closing_
        await session.execute(sa.text("select 2"))
