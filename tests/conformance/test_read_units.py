"""Read units"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from polysession import AsyncSessions
from polysession.errors import ReadOnlyUnit, RequestRefused
from tests.engines.mariadb import MariaDB

from .cells import Cell, also_pooled
from .schema import Item

VALUE = sa.text("select value from item where id = 1")


@pytest.fixture(autouse=True)
def _one_item(cell: Cell) -> None:
    cell.witness.do("insert into item (id, name, value) values (1, 'one', 10)")


def in_transaction(cell: Cell) -> list[Any]:
    """The transactions that the server sees in the database."""
    if cell.is_postgres:
        return [backend for backend in cell.database.census() if "transaction" in backend.state]
    assert isinstance(cell.database.server, MariaDB)
    return cell.database.server.ask(
        "select trx_id from information_schema.innodb_trx join information_schema.processlist"
        " on id = trx_mysql_thread_id where db = %s",
        cell.database.name,
    )


@also_pooled
async def test_sees_what_is_committed(door: AsyncSessions, cell: Cell) -> None:
    """A read unit sees committed rows, as objects too."""
    async with door.read() as session:
        assert await session.scalar(VALUE) == 10
        item = await session.get(Item, 1)
        assert item is not None
        assert item.value == 10
        assert (await session.scalars(sa.select(Item.name))).all() == ["one"]


@also_pooled
async def test_holds_no_transaction(door: AsyncSessions, cell: Cell) -> None:
    """Between two statements a read unit holds no transaction, and sees what others committed meanwhile."""
    async with door.read() as session:
        for value in (10, 11, 12):
            assert await session.scalar(VALUE) == value
            if cell.engine == "sqlite":
                # a reader's transaction would keep the log from being emptied
                assert cell.witness.ask("pragma wal_checkpoint(truncate)")[0][0] == 0
            elif cell.engine == "pgbouncer":
                cell.differs("through a pooler a read unit is one READ ONLY transaction at READ COMMITTED")
            elif cell.engine in ("pg", "mariadb"):
                assert in_transaction(cell) == []
            cell.witness.do("update item set value = value + 1 where id = 1")


async def test_a_snapshot_is_one_moment(door: AsyncSessions, cell: Cell) -> None:
    """With snapshot=True all statements of a read unit see the moment of the first one."""
    async with door.read(snapshot=True) as session:
        assert await session.scalar(VALUE) == 10
        cell.witness.do("update item set value = 11 where id = 1")
        assert await session.scalar(VALUE) == 10
        assert await session.scalar(sa.select(Item.value).where(Item.id == 1)) == 10
    async with door.read(snapshot=True) as session:
        assert await session.scalar(VALUE) == 11


async def add(session: AsyncSession) -> None:
    """Add an object."""
    session.add(Item(id=2, name="two"))
    await session.flush()


async def change(session: AsyncSession) -> None:
    """Change one."""
    item = await session.get(Item, 1)
    assert item is not None
    item.value = 99
    await session.flush()


async def delete(session: AsyncSession) -> None:
    """Delete one."""
    await session.delete(await session.get(Item, 1))
    await session.flush()


async def autoflush(session: AsyncSession) -> None:
    """Add one, and let a query send it."""
    session.add(Item(id=2, name="two"))
    await session.scalars(sa.select(Item))


async def left_to_the_end(session: AsyncSession) -> None:
    """Add one, and let the unit's end send it."""
    session.add(Item(id=2, name="two"))


def execute(statement: Any) -> Callable[[AsyncSession], Any]:
    """Execute a statement."""
    return lambda session: session.execute(statement)


@pytest.mark.parametrize("snapshot", [False, True], ids=["", "snapshot"])
@pytest.mark.parametrize(
    "write",
    [
        add,
        change,
        delete,
        autoflush,
        left_to_the_end,
        execute(sa.insert(Item).values(id=2, name="two")),
        execute(sa.update(Item).values(value=99)),
        execute(sa.delete(Item)),
    ],
    ids=["add", "change", "delete", "autoflush", "end", "core-insert", "core-update", "core-delete"],
)
async def test_refuses_writes(door: AsyncSessions, cell: Cell, write: Any, snapshot: bool) -> None:
    """A read unit refuses changes of objects and SQLAlchemy's INSERT, UPDATE and DELETE: ReadOnlyUnit."""
    with pytest.raises(ReadOnlyUnit, match="read unit of default cannot write") as caught:
        async with door.read(snapshot=snapshot) as session:
            await write(session)
    assert f"{__file__}:" in str(caught.value)
    assert cell.witness.ask("select id, value from item") == [(1, 10)]


@also_pooled
@pytest.mark.parametrize("snapshot", [False, True], ids=["", "snapshot"])
async def test_the_server_refuses_writes(door: AsyncSessions, cell: Cell, snapshot: bool) -> None:
    """A text that writes is refused: by the unit if its first word tells, by the server if a read hides it."""
    hidden = {
        True: "explain insert into item (id, name, value) values (2, 'two', 0)",
        False: "with two as (select 2 as id) insert into item (id, name, value) select id, 'two', 0 from two",
    }
    async with door.read(snapshot=snapshot) as session:
        assert await session.scalar(VALUE) == 10
    for statement, refusal in (
        ("insert into item (id, name, value) values (2, 'two', 0)", ReadOnlyUnit),
        ("create table made (id integer)", ReadOnlyUnit),
        ("drop table part", ReadOnlyUnit),
        (hidden[cell.is_mariadb], DBAPIError),
    ):
        for read_before in (False, True):
            with pytest.raises(refusal):
                async with door.read(snapshot=snapshot) as session:
                    if read_before:
                        await session.scalar(VALUE)
                    await session.execute(sa.text(statement))
    assert cell.witness.items() == [1]
    assert "made" not in cell.witness.tables()
    assert "part" in cell.witness.tables()


@pytest.mark.parametrize("snapshot", [False, True], ids=["", "snapshot"])
async def test_read_only_cannot_be_switched_off(door: AsyncSessions, cell: Cell, snapshot: bool) -> None:
    """A text that would let the rest of a read unit write is refused before it is sent: ReadOnlyUnit."""
    for statement in SWITCHES[cell.engine]:
        with pytest.raises(ReadOnlyUnit):
            async with door.read(snapshot=snapshot) as session:
                await session.execute(sa.text(statement))
    async with door.read(snapshot=snapshot) as session:
        for statement in SWITCHES[cell.engine]:
            with pytest.raises(ReadOnlyUnit):
                await session.execute(sa.text(statement))
        with pytest.raises((DBAPIError, ReadOnlyUnit)):
            await session.execute(sa.text("insert into item (id, name, value) values (2, 'two', 0)"))
    assert cell.witness.items() == [1]


SWITCHES = {
    "sqlite": ("pragma query_only = off", "pragma query_only(0)", "attach ':memory:' as more", "commit"),
    "pg": ("set transaction read write", "set default_transaction_read_only = off", "reset all", "commit"),
    "mariadb": ("set session transaction read write", "set tx_read_only = 0", "start transaction", "commit"),
}
"""What would switch off the refusal, or end the transaction that has it."""
SWITCHES["pgbouncer"] = SWITCHES["pg"]


LETS_WRITE = {
    "pg": "create or replace function lets_write() returns int language plpgsql as "
    "$$ begin perform set_config('default_transaction_read_only', 'off', false); return 1; end $$",
    "mariadb": "create or replace function lets_write() returns int deterministic "
    "begin set session transaction read write; return 1; end",
}
"""A function that switches off the refusal for the session of the server."""


async def test_what_a_function_lets_write_is_not_used_again(cell: Cell) -> None:
    """The connection is closed or set right when it comes back: the next read unit has one that refuses writes."""
    if cell.engine in ("sqlite", "pgbouncer"):
        cell.differs("there are no functions of the server, or every transaction says READ ONLY by itself")
        return
    server: Any = cell.database.server
    server.ask(LETS_WRITE["mariadb" if cell.is_mariadb else "pg"], database=cell.database.name)
    door = cell.door(pool={"size": 1})
    async with door.read() as session:
        await session.execute(sa.text("select lets_write()"))
    mode = "select @@tx_read_only" if cell.is_mariadb else "show default_transaction_read_only"
    async with door.read() as session:
        assert await session.scalar(sa.text(mode)) in (1, "on")
    server.ask("drop function lets_write", database=cell.database.name)


async def test_a_read_unit_leaves_nothing_behind(door: AsyncSessions, cell: Cell) -> None:
    """After a read unit, also after a refused write, the next write unit can write."""
    with pytest.raises(ReadOnlyUnit):
        async with door.read() as session:
            await session.execute(sa.text("insert into item (id, name, value) values (2, 'two', 0)"))
    async with door.begin() as session:
        session.add(Item(id=3, name="three"))
    assert cell.witness.items() == [1, 3]


async def test_a_replica_must_exist(door: AsyncSessions) -> None:
    """role="replica" on a database without replicas is refused before any SQL."""
    with pytest.raises(RequestRefused, match="has no replica"):
        door.read(role="replica")
    assert door.counts().opened == 0
