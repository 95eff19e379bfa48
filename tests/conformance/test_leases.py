"""Read units between two statements"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, StatementError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from polysession import AsyncSessions
from polysession.errors import CheckoutTimeout
from polysession.testing.proxy import FaultProxy

from .cells import Cell
from .doors import real
from .schema import Item

VALUE = sa.text("select value from item where id = 1")
WAITS = 30.0
"""Seconds after which a test that waits for others has failed."""


class Base(DeclarativeBase):
    """Of the classes here, over the suite's tables."""


class Invoice(Base):
    """Has parts, which are loaded when they are asked for."""

    __tablename__ = "invoice"
    id: Mapped[int] = mapped_column(primary_key=True)
    parts: Mapped[list[Part]] = relationship(primaryjoin="Invoice.id == foreign(Part.invoice_id)", viewonly=True)


class Part(Base):
    """Of an invoice."""

    __tablename__ = "part"
    id: Mapped[int] = mapped_column(primary_key=True)
    invoice_id: Mapped[int]


@pytest.fixture(autouse=True)
def _one_item(cell: Cell) -> None:
    cell.witness.do("insert into item (id, name, value) values (1, 'one', 10)")


def pooled(cell: Cell, size: int, **table: Any) -> AsyncSessions:
    """A door with so many connections, that does not wait for ever."""
    return cell.door(pool={"size": size, "checkout_timeout": WAITS}, **table)


def is_pinned(cell: Cell) -> bool:
    """Through a pooler a read unit is a transaction: it keeps what it has, and the test looks for nothing else."""
    if cell.engine == "pgbouncer":
        cell.differs("through a pooler a read unit is one READ ONLY transaction, and keeps its connection to its end")
        return True
    return False


class Meeting:
    """Something that is not the database, for which all wait until the last one is there."""

    def __init__(self, cell: Cell, number: int) -> None:
        self._barrier: Any = asyncio.Barrier(number) if cell.is_async else threading.Barrier(number)

    async def all_are_here(self) -> None:
        """Wait for the others."""
        if isinstance(self._barrier, asyncio.Barrier):
            async with asyncio.timeout(WAITS):
                await self._barrier.wait()
        else:
            self._barrier.wait(WAITS)


async def in_another_unit(cell: Cell, door: AsyncSessions) -> Any:
    """Read in a unit of another task or thread: it needs a connection of its own."""

    async def work() -> Any:
        async with door.read() as session:
            return await session.scalar(VALUE)

    return await cell.elsewhere(work)


async def test_units_that_wait_do_not_block_each_other(cell: Cell) -> None:
    """Ten read units, each of which waits for the nine others between two statements, need one connection."""
    number = 10
    door = pooled(cell, number if is_pinned(cell) else 1)
    meeting = Meeting(cell, number)

    async def work() -> list[Any]:
        async with door.read() as session:
            before = await session.scalar(VALUE)
            await meeting.all_are_here()
            return [before, await session.scalar(VALUE), (await session.get_one(Item, 1)).name]

    assert await cell.together(*[work] * number) == [[10, 10, "one"]] * number


async def test_nested_read_units_need_one_connection(cell: Cell) -> None:
    """A read unit of its own inside of a read unit takes the connection that the outer one does not use just now."""
    door = pooled(cell, 2 if is_pinned(cell) else 1)
    async with door.read() as outer:
        assert await outer.scalar(VALUE) == 10
        async with door.read(propagation="requires_new") as inner:
            assert inner is not outer
            assert await inner.scalar(VALUE) == 10
            assert await outer.scalar(VALUE) == 10
            assert await inner.scalar(VALUE) == 10
        assert await outer.scalar(VALUE) == 10


async def test_a_write_unit_gets_what_a_read_unit_does_not_use(cell: Cell) -> None:
    """Over one connection: a write unit inside of a read unit, that sees the write at its next statement."""
    door = pooled(cell, 2 if is_pinned(cell) else 1)
    async with door.read() as outer:
        assert await outer.scalar(VALUE) == 10
        async with door.begin(propagation="requires_new") as inner:
            (await inner.get_one(Item, 1)).value = 11
        assert await outer.scalar(VALUE) == 11


async def test_what_is_held_is_told(cell: Cell) -> None:
    """held() says of a unit whose connection was taken back that it has none; the count of what is out agrees."""
    door = pooled(cell, 1)
    async with door.read() as session:
        assert door.held()[0].state == "no connection"
        assert await session.scalar(VALUE) == 10
        if is_pinned(cell):
            return
        assert (door.held()[0].state, door._connections_out()) == ("has a connection", 1)
        assert await in_another_unit(cell, door) == 10
        assert (door.held()[0].state, door._connections_out()) == ("no connection", 0)
        assert await session.scalar(VALUE) == 10
        assert (door.held()[0].state, door._connections_out()) == ("has a connection", 1)
        assert await in_another_unit(cell, door) == 10
    assert door._connections_out() == 0


async def test_lazy_loads_come_when_the_connection_was_taken_back(cell: Cell) -> None:
    """An attribute that is loaded late takes a connection for itself, also if the unit has none just then."""
    door = pooled(cell, 2 if is_pinned(cell) else 1)
    cell.witness.do("insert into invoice (id) values (7)")
    cell.witness.do("insert into part (id, invoice_id) values (1, 7), (2, 7)")
    async with door.read() as session:
        invoice = await session.get_one(Invoice, 7)
        assert await in_another_unit(cell, door) == 10
        parts = await session.run_sync(lambda _: [part.id for part in invoice.parts])
        assert sorted(parts) == [1, 2]


@pytest.mark.parametrize("begun_before", [False, True], ids=["", "after another statement"])
async def test_a_stream_holds_nothing(cell: Cell, begun_before: bool) -> None:
    """Rows that are asked for in parts are objects in parts; between two of them others have the connection."""
    door = pooled(cell, 2 if is_pinned(cell) else 1)
    cell.witness.do("delete from item")
    async with door.begin() as session:
        session.add_all([Item(id=number, name=str(number), value=10) for number in range(1, 51)])
    statement = sa.select(Item).order_by(Item.id).execution_options(yield_per=10)
    seen: list[int] = []
    async with door.read() as session:
        if begun_before:
            await session.scalar(VALUE)
        if cell.is_async:
            async for item in await session.stream_scalars(statement):
                seen.append(item.id)
                if item.id % 20 == 1:
                    assert await in_another_unit(cell, door) == 10
        else:
            for item in real(session).scalars(statement):
                seen.append(item.id)
                if item.id % 20 == 1:
                    assert await in_another_unit(cell, door) == 10
        assert len(session.sync_session.identity_map) < 50, "they are made in parts"
    assert seen == list(range(1, 51))


async def test_an_answer_that_is_not_looked_at_yet_holds_nothing(cell: Cell) -> None:
    """What was executed and not fetched is here already: objects, rows, one by one, or none."""
    door = pooled(cell, 2 if is_pinned(cell) else 1)
    cell.witness.do("insert into item (id, name, value) values (2, 'two', 20), (3, 'three', 30)")
    async with door.read() as session:
        objects = await session.scalars(sa.select(Item).order_by(Item.id))
        rows = await session.execute(sa.text("select id, name from item order by id"))
        nothing = await session.execute(sa.text("select id from item where id = 77"))
        assert await in_another_unit(cell, door) == 10
        assert [item.name for item in objects] == ["one", "two", "three"]
        assert rows.keys() == ["id", "name"]
        assert rows.fetchone() == (1, "one")
        assert rows.fetchmany(1) == [(2, "two")]
        assert rows.all() == [(3, "three")]
        assert rows.fetchone() is None
        assert nothing.first() is None


async def test_what_must_stay_is_not_taken_back(cell: Cell) -> None:
    """A snapshot, a connection that somebody took out of the session, and one with a trace of the unit stay with it."""
    door = cell.door(pool={"size": 1, "checkout_timeout": 0.25})

    async def snapshot(session: Any) -> None:
        await session.scalar(VALUE)

    async def taken_out(session: Any) -> None:
        await session.connection()

    async def savepoint(session: Any) -> None:
        with suppress(DBAPIError):  # PostgreSQL takes none outside of a transaction
            await session.execute(sa.text("savepoint here"))

    async def setting(session: Any) -> None:
        await session.execute(sa.text(SETTINGS[cell.engine]))

    async def function(session: Any) -> None:
        with suppress(DBAPIError):
            await session.execute(sa.text("select made_by_the_application(1)"))

    marks: list[tuple[Callable[[Any], Awaitable[None]], bool]] = [
        (snapshot, True),
        (taken_out, False),
        (savepoint, False),
        (setting, False),
    ]
    if cell.engine != "sqlite":
        marks.append((function, False))
    for mark, is_snapshot in marks:
        async with door.read(snapshot=is_snapshot) as session:
            await mark(session)
            with pytest.raises(CheckoutTimeout, match="1 of 1 are out"):
                await in_another_unit(cell, door)
            assert door._connections_out() == 1
        assert await in_another_unit(cell, door) == 10


SETTINGS = {
    "sqlite": "pragma cache_size = 100",
    "pg": "select set_config('application_name', 'mine', false)",
    "mariadb": "select @mine := 1",
}
SETTINGS["pgbouncer"] = "select set_config('application_name', 'mine', true)"
"""What lasts longer is refused there."""


async def test_a_setting_holds_for_the_whole_unit(cell: Cell) -> None:
    """What a unit sets on its connection, it finds there at its next statement, whoever waits meanwhile."""
    if cell.engine == "sqlite":
        cell.differs("nothing can be set on SQLite that a read would see")
        return
    door = cell.door(pool={"size": 1, "checkout_timeout": 0.5})
    setting, asked = (
        (f"select set_config('my.tenant', '7', {str(is_pinned(cell)).lower()})", "select current_setting('my.tenant')")
        if cell.is_postgres
        else ("select @tenant := '7'", "select @tenant")
    )
    async with door.read() as session:
        await session.execute(sa.text(setting))
        with pytest.raises(CheckoutTimeout):
            await in_another_unit(cell, door)
        assert await session.scalar(sa.text(asked)) == "7"


async def test_no_statement_is_added(cell: Cell) -> None:
    """Statements of two units that take turns over one connection are the only messages that the server gets."""
    if cell.engine == "sqlite":
        cell.differs("SQLite has no server")
        return
    if is_pinned(cell):
        return
    with FaultProxy.before(cell.url) as proxy:
        door = cell.door({"default": {"url": proxy.url, "pool": {"size": 1, "checkout_timeout": WAITS}}})
        async with door.read() as outer, door.read(propagation="requires_new") as inner:
            for session in (outer, inner, outer, inner):  # drivers prepare what comes again
                for _ in range(6):
                    await session.scalar(VALUE)
            with proxy.counting() as count:
                for _ in range(10):
                    assert await outer.scalar(VALUE) == 10
                    assert await inner.scalar(VALUE) == 10
        assert (count.round_trips, count.connections) == (20, 0)
        await door.close()


async def test_a_deadline_moves_with_the_unit(cell: Cell) -> None:
    """A unit with a deadline tells it to each connection that it gets; a unit without one is not bound by it."""
    if cell.engine == "sqlite" or is_pinned(cell):
        cell.differs("the limit is the driver's" if cell.engine == "sqlite" else "a read unit keeps its connection")
        return
    limit = sa.text("show statement_timeout" if cell.is_postgres else "select @@max_statement_time")
    door = pooled(cell, 1)
    async with door.read() as free, door.read(propagation="requires_new", deadline=100.0) as bound:
        none = await free.scalar(limit)
        for _ in range(3):
            assert await bound.scalar(limit) not in (none, None)
            assert await free.scalar(limit) == none


async def test_a_unit_goes_on_after_it_got_no_connection(cell: Cell) -> None:
    """CheckoutTimeout between two statements of a read unit names the holder; when there is one again, it goes on."""
    door = cell.door(pool={"size": 1, "checkout_timeout": 0.5})
    if is_pinned(cell):
        return
    async with door.read() as session:
        assert await session.scalar(VALUE) == 10
        async with door.begin(propagation="requires_new", name="the holder") as writer:
            await writer.scalar(VALUE)
            with pytest.raises(CheckoutTimeout, match="the holder"):
                await session.scalar(VALUE)
        assert await session.scalar(VALUE) == 10


async def test_a_unit_that_is_cancelled_while_it_waits_leaves_nothing(cell: Cell) -> None:
    """A unit that is cancelled while it asks for a connection again leaves nothing behind."""
    if not cell.is_async:
        cell.differs("threads are not cancelled")
        return
    if is_pinned(cell):
        return
    door = pooled(cell, 1)
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def read() -> None:
        async with door.read() as session:
            await session.scalar(VALUE)
            begun.set()
            await go_on.wait()
            await session.scalar(VALUE)

    task = asyncio.create_task(read())
    await begun.wait()
    async with door.begin() as writer:
        await writer.scalar(VALUE)
        go_on.set()
        for _ in range(1000):
            if door.ready().endpoints[0].waiting:
                break
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (door._connections_out(), door.ready().endpoints[0].waiting) == (1, 0)
    assert await in_another_unit(cell, door) == 10


async def test_a_resting_connection_that_died_is_replaced(cell: Cell) -> None:
    """What the server ends while nobody uses it is an error of the next statement, and its seat is not lost."""
    if cell.engine == "sqlite" or is_pinned(cell):
        cell.differs("there is no link" if cell.engine == "sqlite" else "a read unit keeps its connection")
        return
    door = pooled(cell, 1)
    with pytest.raises(DBAPIError):
        async with door.read() as session:
            process = await session.scalar(
                sa.text("select pg_backend_pid()" if cell.is_postgres else "select connection_id()")
            )
            cell.witness.do(f"select pg_terminate_backend({process}, 5000)" if cell.is_postgres else f"kill {process}")
            await session.scalar(VALUE)
    assert door._connections_out() == 0
    assert await in_another_unit(cell, door) == 10


async def test_an_error_of_a_statement_lets_go_of_the_connection(cell: Cell) -> None:
    """After a statement that failed others may have the connection, and the unit goes on."""
    door = pooled(cell, 2 if is_pinned(cell) else 1)
    async with door.read() as session:
        for wrong in (sa.text("select nothing from item"), sa.select(sa.literal(object(), sa.JSON()))):
            with pytest.raises((StatementError, TypeError)):  # where the driver makes the JSON
                await session.execute(wrong)
            assert await in_another_unit(cell, door) == 10
            assert await session.scalar(VALUE) == 10


async def test_readers_and_writers_over_two_connections(cell: Cell) -> None:
    """Fifty readers with pauses and five writers over two connections: no error, and nobody sees a wrong answer."""
    readers, writers, turns = (20 if cell.engine == "pgbouncer" else 50), 5, 4
    door = pooled(cell, 2)
    here = threading.Event()

    async def pause() -> None:
        if cell.is_async:
            await asyncio.sleep(0)
        else:
            here.wait(0.0001)

    async def read() -> list[int]:
        seen = []
        async with door.read() as session:
            for _ in range(turns):
                seen.append(int(await session.scalar(VALUE) or 0))
                await pause()
                await session.scalar(sa.select(sa.func.count()).select_from(Item))
        return seen

    async def write() -> None:
        for _ in range(turns):
            async with door.begin() as session:
                await session.execute(sa.update(Item).where(Item.id == 1).values(value=Item.value + 1))

    works: list[Callable[[], Awaitable[Any]]] = [read] * readers
    for number in range(writers):
        works.insert(number * (readers // writers), write)
    for answer in await cell.together(*works):
        assert not isinstance(answer, BaseException), answer
        if answer is not None:
            assert answer == sorted(answer)
            assert 10 <= answer[0] <= answer[-1] <= 10 + writers * turns
    assert cell.witness.value(1) == 10 + writers * turns
