"""Several databases"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from polysession import AsyncSessions
from polysession.errors import AtomicUnavailable, CommitUnknown, DeadlineExceeded, PartialCommit, RequestRefused
from tests.engines.process import wait_until

from .cells import Cell, Refused
from .doors import real
from .schema import Base, Invoice, Item, Part, Witness
from .test_deadlines import LONG


class Declared(Base):
    """Says itself where it lives."""

    __tablename__ = "declared"
    __database__ = "billing"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


@pytest.fixture
def two(cell: Cell) -> AsyncSessions:
    """A door over "orders" and "billing" that knows where the classes live."""
    door = cell.two()
    door.bind(Item, "orders")
    door.bind(Invoice, "billing")
    door.bind(Part, "billing")
    return door


async def test_units_side_by_side(two: AsyncSessions, cell: Cell) -> None:
    """Units over two databases can be open side by side; each has its own session, commit and rollback."""
    with pytest.raises(Refused):
        async with two.begin("orders") as orders:
            orders.add(Item(id=1, name="one"))
            await orders.flush()
            async with two.begin("billing") as billing:
                assert real(billing) is not real(orders)
                billing.add(Invoice(id=1))
            assert [row.databases for row in two.held()] == [("orders",)]
            raise Refused
    assert cell.witness.items() == []
    assert cell.other_witness.ask("select id from invoice") == [(1,)]


async def test_gather_over_databases(two: AsyncSessions, cell: Cell) -> None:
    """gather() runs one function over each of several databases, or each function over its own; an error of one of
    them leaves the others be."""
    cell.witness.do("insert into item (id, name, value) values (1, 'one', 1)")
    cell.other_witness.do("insert into invoice (id) values (1)")
    rows = sa.text("select (select count(*) from item) * 10 + (select count(*) from invoice)")

    async def count(session: AsyncSession) -> int:
        return int(await session.scalar(rows) or 0)

    async def items(session: AsyncSession) -> int:
        return len((await session.scalars(sa.select(Item.id))).all())

    over = ("billing", "orders")
    assert await two.gather(count, databases=over) == [1, 10]
    assert await two.gather(count, items, databases=over, limit=1) == [1, 1]
    failed, found = await two.gather(items, databases=over, return_errors=True)
    assert isinstance(failed, RequestRefused)
    assert found == 1
    with pytest.raises(ExceptionGroup) as raised:
        await two.gather(items, databases=over)
    assert [type(error) for error in raised.value.exceptions] == [RequestRefused]


async def test_a_class_in_the_wrong_unit(two: AsyncSessions, cell: Cell) -> None:
    """A class that was bound to a database is refused in a unit over another one, before any SQL."""
    for target in (Invoice, Declared):
        async with two.begin("orders") as session:
            for use in (
                lambda target=target: session.get(target, 1),
                lambda target=target: session.execute(sa.select(target)),
                lambda target=target: session.execute(sa.insert(target).values(id=1)),
            ):
                with pytest.raises(RequestRefused, match=f"{target.__name__} lives in 'billing', which unit"):
                    await use()
            assert two._connections_out() == 0
    assert cell.database.census() == []


async def test_a_table_in_the_wrong_unit(two: AsyncSessions, cell: Cell) -> None:
    """A table or MetaData can be bound too; a statement over it is refused in a unit over another database."""
    table = sa.Table("elsewhere", sa.MetaData(), sa.Column("id", sa.Integer))
    two.bind(table.metadata, "billing")
    async with two.begin("orders") as session:
        with pytest.raises(RequestRefused, match="lives in 'billing'"):
            await session.execute(sa.select(table))


async def test_atomic_is_refused(two: AsyncSessions, cell: Cell) -> None:
    """A unit over two databases is refused, before any SQL, as long as all-or-nothing cannot be had."""
    with pytest.raises(AtomicUnavailable, match="orders and billing"):
        two.begin("orders", "billing")
    assert two.counts().opened == 0


async def test_both_commit(two: AsyncSessions, cell: Cell) -> None:
    """With atomic=False a unit sends each class to its own database, and commits both at its end."""
    async with two.begin("orders", "billing", atomic=False) as session:
        session.add_all([Item(id=1, name="one"), Invoice(id=1)])
        await session.flush()
        assert await session.get(Invoice, 1) is not None
        assert (await session.scalars(sa.select(Item.id))).all() == [1]
        assert cell.witness.items() == []
        assert cell.other_witness.ask("select id from invoice") == []
    assert cell.witness.items() == [1]
    assert cell.other_witness.ask("select id from invoice") == [(1,)]
    with pytest.raises(Refused):
        async with two.begin("orders", "billing", atomic=False) as session:
            session.add_all([Item(id=2, name="two"), Invoice(id=2)])
            await session.flush()
            raise Refused
    assert cell.witness.items() == [1]
    assert cell.other_witness.ask("select id from invoice") == [(1,)]


async def test_one_of_two_is_used(two: AsyncSessions, cell: Cell) -> None:
    """A unit over two databases that uses one of them, or none, takes no connection of the others and commits."""
    uses: list[list[object]] = [[Item(id=1, name="one")], [Invoice(id=1)], []]
    for number, used in enumerate(uses):
        async with two.begin("orders", "billing", atomic=False) as session:
            session.add_all(used)
            await session.flush()
            assert two._connections_out() == len(used)
        assert two.counts().committed == number + 1
    assert cell.witness.items() == [1]
    assert cell.other_witness.ask("select id from invoice") == [(1,)]


async def test_a_class_without_a_home(two: AsyncSessions, cell: Cell) -> None:
    """In a unit over two databases, what was bound to neither is refused with how to bind it."""
    async with two.begin("orders", "billing", atomic=False) as session:
        with pytest.raises(RequestRefused, match="it is not known in which database this TextClause lives"):
            await session.execute(sa.text("select 1"))


async def test_partial_commit(two: AsyncSessions, cell: Cell) -> None:
    """If the second database refuses to commit after the first has, PartialCommit names both."""
    errors: Any = PartialCommit
    if cell.is_mariadb:
        cell.differs(
            "MariaDB refuses nothing at COMMIT; a link lost before the second COMMIT ends in CommitUnknown, which "
            "names what had committed"
        )
        errors = CommitUnknown
    with pytest.raises(errors) as caught:
        async with two.begin("orders", "billing", atomic=False) as session:
            session.add(Item(id=1, name="one"))
            session.add(Invoice(id=2) if cell.is_mariadb else Part(id=1, invoice_id=7))
            await session.flush()
            if cell.is_mariadb:
                cell.other.cut()
                wait_until(lambda: not cell.other.census(), what="the connections are gone")
    assert caught.value.facts["committed"] == ("orders",)
    if not cell.is_mariadb:
        assert caught.value.facts["not_committed"] == ("billing",)
        assert isinstance(caught.value.__cause__, DBAPIError)
        assert two.counts().partial == 1
    assert cell.witness.items() == [1]
    assert cell.other_witness.ask("select id from part") == []
    assert cell.other_witness.ask("select id from invoice") == []


async def test_the_first_refuses(two: AsyncSessions, cell: Cell) -> None:
    """If the first database refuses to commit, none does, and its own error leaves."""
    two.bind(Part, "orders")
    if cell.is_mariadb:
        cell.differs("MariaDB refuses nothing at COMMIT; the error comes from the statement, and none commits")
    with pytest.raises(DBAPIError) as caught:
        async with two.begin("orders", "billing", atomic=False) as session:
            session.add_all([Part(id=1, invoice_id=7), Invoice(id=1)])
            await session.flush()
    assert isinstance(caught.value, sa.exc.IntegrityError)
    assert two.counts().rolled_back == 1
    assert cell.other_witness.ask("select id from invoice") == []


async def test_read_over_two(two: AsyncSessions, cell: Cell) -> None:
    """A read unit may cover two databases: each class is read from its own, and writes are refused."""
    cell.witness.do("insert into item (id, name, value) values (1, 'one', 0)")
    cell.other_witness.do("insert into invoice (id) values (2)")
    async with two.read("orders", "billing") as session:
        assert (await session.scalars(sa.select(Item.id))).all() == [1]
        assert (await session.scalars(sa.select(Invoice.id))).all() == [2]
        with pytest.raises(PermissionError):
            await session.execute(sa.insert(Invoice).values(id=3))


@pytest.mark.parametrize("first", ["server", "file"])
async def test_databases_of_two_kinds(cell: Cell, tmp_path: Path, first: str) -> None:
    """Each database of a unit begins in its own way and at the level asked for, in whichever order they are named."""
    file, mixed = _mixed(cell, tmp_path, first)
    with pytest.raises(Refused):
        async with mixed.begin("orders", "billing", atomic=False, isolation="SERIALIZABLE") as session:
            session.add_all([Item(id=1, name="one"), Invoice(id=1)])
            await session.flush()
            if cell.is_postgres:
                level = await session.scalar(
                    sa.text("show transaction_isolation"), bind_arguments={"mapper": sa.inspect(Item)}
                )
                assert level == "serializable"
            raise Refused
    assert cell.witness.items() == []
    assert file.ask("select id from invoice") == []
    async with mixed.begin("orders", "billing", atomic=False) as session:
        session.add_all([Item(id=1, name="one"), Invoice(id=1)])
    assert cell.witness.items() == [1]
    assert file.ask("select id from invoice") == [(1,)]
    async with mixed.read("orders", "billing", snapshot=True) as session:
        assert (await session.scalars(sa.select(Item.id))).all() == [1]
        assert (await session.scalars(sa.select(Invoice.id))).all() == [1]


@pytest.mark.parametrize("first", ["server", "file"])
async def test_a_deadline_over_two_databases(cell: Cell, tmp_path: Path, first: str) -> None:
    """A deadline bounds the statements of each database of a unit, in whichever order they are named."""
    _, mixed = _mixed(cell, tmp_path, first)
    for target, long in ((Item, LONG[cell.engine]), (Invoice, LONG["sqlite"])):
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            async with mixed.begin("orders", "billing", atomic=False, deadline=0.3) as session:
                for mapped in (Item, Invoice):
                    await session.get(mapped, 1)
                await session.execute(sa.text(long), bind_arguments={"mapper": sa.inspect(target)})
        assert time.monotonic() - began < 5


def _mixed(cell: Cell, folder: Path, first: str) -> tuple[Witness, AsyncSessions]:
    """A door over the cell's database ("orders") and an SQLite file ("billing"), and who sees what is in the file."""
    path = folder / "billing.db"
    file = Witness(f"sqlite:///{path}")
    file.make_tables()
    tables = {"orders": cell.table(), "billing": {"url": f"sqlite:///{path}"}}
    door = cell.door(tables if first == "server" else dict(reversed(tables.items())))
    door.bind(Item, "orders")
    door.bind(Invoice, "billing")
    return file, door


def test_in_a_second_event_loop(tmp_path: Path) -> None:
    """A read unit over two databases of SQLite sees what is committed meanwhile, in each event loop of a program."""
    door = AsyncSessions({name: f"sqlite:///{tmp_path / name}.db" for name in ("orders", "billing")})
    door.bind(Item, "orders")
    door.bind(Invoice, "billing")

    async def make() -> None:
        for name in ("orders", "billing"):
            async with door.begin(name) as session:
                await session.run_sync(lambda sync: Base.metadata.create_all(sync.connection()))

    async def seen() -> list[int]:
        found: list[int] = []
        async with door.read("orders", "billing") as session:
            for _ in range(2):
                number = len((await session.scalars(sa.select(Item.id))).all())
                found.append(number)
                async with door.begin("orders", propagation="requires_new") as writing:
                    writing.add(Item(id=number, name=str(number)))
        return found

    asyncio.run(make())
    assert asyncio.run(seen()) == [0, 1]
    assert asyncio.run(seen()) == [2, 3]
    asyncio.run(door.close())
