"""Engines of the application's own"""

from __future__ import annotations

import gc
import time
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from polysession.errors import ConfigError, DeadlineExceeded, ReadOnlyUnit

from .cells import Cell, Refused
from .schema import Item, Witness
from .test_deadlines import LONG
from .test_lost_links import link
from .test_run import EXCLUSIVE


async def test_units_over_a_given_engine(cell: Cell) -> None:
    """An Engine or AsyncEngine is taken wherever a URL is: units commit and roll back through its own pool."""
    engine = cell.given_engine()
    door = cell.door(engine)
    async with door.begin() as session:
        session.add(Item(id=1, name="one"))
    with pytest.raises(Refused):
        async with door.begin() as session:
            session.add(Item(id=2, name="two"))
            await session.flush()
            raise Refused
    async with door.open() as session:
        session.add(Item(id=3, name="three"))
        await session.commit()
    assert cell.witness.items() == [1, 3]


async def test_close_leaves_the_engine(cell: Cell) -> None:
    """The door does not dispose of an engine that it was given."""
    engine = cell.given_engine()
    door = cell.door(engine)
    async with door.begin() as session:
        await session.execute(sa.text("select 1"))
    await door.close()
    pool = engine.sync_engine.pool if cell.is_async else engine.pool
    assert pool.checkedin() == 1
    assert len(cell.database.census()) == 1


async def test_read_units_over_a_given_engine(cell: Cell) -> None:
    """A read unit over a given engine is one read-only transaction, and leaves nothing behind."""
    engine = cell.given_engine(**({"isolation_level": "READ COMMITTED"} if cell.engine != "sqlite" else {}))
    door = cell.door(engine)
    cell.witness.do("insert into item (id, name, value) values (1, 'one', 10)")
    async with door.read() as session:
        assert (await session.scalars(sa.select(Item.value))).all() == [10]
        cell.witness.do("update item set value = 11")
        assert await session.scalar(sa.select(Item.value)) == 11
        with pytest.raises(ReadOnlyUnit):
            await session.execute(sa.insert(Item).values(id=2, name="two"))
    async with door.begin() as session:
        session.add(Item(id=3, name="three"))
    assert cell.witness.items() == [1, 3]


async def test_a_snapshot_over_a_given_engine(cell: Cell) -> None:
    """snapshot=True over a given engine: all statements of the read unit see one moment."""
    door = cell.door(cell.given_engine())
    cell.witness.do("insert into item (id, name, value) values (1, 'one', 10)")
    async with door.read(snapshot=True) as session:
        assert await session.scalar(sa.select(Item.value)) == 10
        cell.witness.do("update item set value = 11")
        assert await session.scalar(sa.select(Item.value)) == 10
    async with door.read(snapshot=True) as session:
        assert await session.scalar(sa.select(Item.value)) == 11


_LONGER = {name: text.replace("(10)", "(0.4)").replace("1e9", "2e6") for name, text in LONG.items()}
"""Takes longer than the deadlines here."""


@pytest.mark.parametrize("access", ["begin", "read"])
async def test_a_deadline_over_a_given_engine(cell: Cell, access: str) -> None:
    """A statement that outlasts the deadline of a unit over a given engine is ended; who comes next has no limit."""
    engine = cell.given_engine(pool_size=1, max_overflow=0)
    door = cell.door(engine)
    open_unit = getattr(door, access)
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded, match=r"in a statement|while it waited"):
        async with open_unit(deadline=0.3) as session:
            assert await session.scalar(sa.select(sa.func.count()).select_from(Item)) == 0
            await session.execute(sa.text(LONG[cell.engine]))
    assert time.monotonic() - began < 5
    gc.collect()  # the error has the driver's cursor, which keeps the file of a closed connection open
    async with open_unit(deadline=30) as session:
        await session.execute(sa.text("select 1"))
    await _plainly(engine, _LONGER[cell.engine])
    limit = {"pg": "show statement_timeout", "pgbouncer": "show statement_timeout", "sqlite": "select 0"}.get(
        cell.engine, "select @@max_statement_time"
    )
    assert str(await _plainly(engine, limit)) in ("0", "0.0", "0.000000")


async def test_a_nested_deadline_over_a_given_engine(cell: Cell) -> None:
    """A nested unit over a given engine whose deadline passes in a statement is undone alone; the outer one goes on."""
    door = cell.door(cell.given_engine())
    async with door.begin() as session:
        session.add(Item(id=1, name="one"))
        await session.flush()
        with pytest.raises(DeadlineExceeded):
            async with door.begin(propagation="nested", deadline=0.3):
                await session.execute(sa.text(LONG[cell.engine]))
        await session.execute(sa.text(_LONGER[cell.engine]))
        session.add(Item(id=2, name="two"))
    assert cell.witness.items() == [1, 2]


async def test_a_deadline_that_has_passed_sends_nothing_there(cell: Cell) -> None:
    """A unit over a given engine sends no statement after its deadline."""
    door = cell.door(cell.given_engine())
    with pytest.raises(DeadlineExceeded, match=r"before a statement|while it waited"):
        async with door.begin(deadline=0.1) as session:
            await session.execute(sa.text("select 1"))
            deadline = time.monotonic() + 0.1
            while time.monotonic() < deadline:
                pass
            await session.execute(sa.insert(Item).values(id=1, name="one"))
    assert cell.witness.items() == []


async def test_what_was_set_on_two_given_engines(cell: Cell) -> None:
    """What a read unit over two given engines sets on their connections is undone on both."""
    engines = {"orders": cell.given_engine(pool_size=1, max_overflow=0)}
    engines["billing"] = cell.given_engine(cell.other_url, pool_size=1, max_overflow=0)
    door = cell.door(engines)
    async with door.read("orders", "billing") as session:
        for engine in engines.values():
            await session.execute(sa.text("select 1"), bind_arguments={"bind": getattr(engine, "sync_engine", engine)})
    for engine, witness in zip(engines.values(), (cell.witness, cell.other_witness), strict=True):
        await _plainly(engine, "insert into item (id, name, value) values (1, 'one', 0)")
        assert witness.items() == [1]


_SET = {"pg": "set statement_timeout = '7s'", "mariadb": "set max_statement_time = 7"}
_SHOW = {
    "pg": "select extract(epoch from cast(current_setting('statement_timeout') as interval))",
    "mariadb": "select @@max_statement_time",
}
_PID = {"pg": "select pg_backend_pid()", "mariadb": "select connection_id()"}


def _limited(cell: Cell) -> Any:
    """A given engine with one connection, on which the application lets a statement take 7 s."""
    engine = cell.given_engine(pool_size=1, max_overflow=0)

    def limit(connection: Any, _: object) -> None:
        cursor = connection.cursor()
        cursor.execute(_SET[cell.engine])
        cursor.close()
        connection.commit()

    sa.event.listen(getattr(engine, "sync_engine", engine), "connect", limit)
    return engine


async def test_a_limit_of_the_application_s_own(cell: Cell) -> None:
    """A limit of statements that the application has set on the connections of its engine holds in a unit with a later
    deadline, and again after the unit, however that ends; the connection is kept."""
    if cell.engine not in _SET:
        cell.differs("there is no such limit, or it is not the connection's")
        return
    engine = _limited(cell)
    door = cell.door(engine)

    async def limit(session: Any) -> float:
        return float(await session.scalar(sa.text(_SHOW[cell.engine])))

    number = await _plainly(engine, _PID[cell.engine])
    for asked in ({}, {"access": "read"}, {"propagation": "not_supported"}):
        open_unit = getattr(door, asked.pop("access", "begin"))
        async with open_unit(deadline=30, **asked) as session:
            assert await limit(session) == 7
            if not asked:
                async with open_unit(deadline=3):
                    assert 2 < await limit(session) < 3.5
                assert await limit(session) == 7
                async with open_unit(deadline=3, propagation="nested"):
                    assert 2 < await limit(session) < 3.5
                assert await limit(session) == 7
        assert float(await _plainly(engine, _SHOW[cell.engine])) == 7
        async with open_unit(deadline=5, **asked) as session:
            assert 4 < await limit(session) < 5.5
        assert float(await _plainly(engine, _SHOW[cell.engine])) == 7
        with pytest.raises(DBAPIError):
            async with open_unit(deadline=5, **asked) as session:
                await session.execute(sa.text("select * from nowhere"))
        assert float(await _plainly(engine, _SHOW[cell.engine])) == 7
        if not cell.is_async:  # there the statement is cancelled, and its connection closed
            with pytest.raises(DeadlineExceeded):
                async with open_unit(deadline=0.3, **asked) as session:
                    await session.execute(sa.text(LONG[cell.engine]))
            assert float(await _plainly(engine, _SHOW[cell.engine])) == 7
        assert await _plainly(engine, _PID[cell.engine]) == number
    if cell.is_postgres:
        async with door.begin(deadline=30) as session:
            await session.execute(sa.text("set transaction isolation level serializable"))
            assert await session.scalar(sa.text("show transaction_isolation")) == "serializable"
    async with door.begin() as session:
        async with door.begin(deadline=3):
            assert 2 < await limit(session) < 3.5
        assert await limit(session) == 7
    assert float(await _plainly(engine, _SHOW[cell.engine])) == 7


@pytest.mark.parametrize("first", [False, True], ids=["", "first"])
async def test_a_listener_of_the_commit_sets_no_limit(cell: Cell, first: bool) -> None:
    """What a listener of the commit of a unit with a deadline sends sets no limit on a given engine's connection that
    would be left there."""
    engine = cell.given_engine(pool_size=1, max_overflow=0)
    door = cell.door(engine)
    heard: list[str] = []

    def late(session: Any) -> None:
        time.sleep(0.6)
        session.execute(sa.text("select 1"))
        heard.append("commit")

    async with door.begin(deadline=1) as session:
        if not first:
            await session.execute(sa.text("select 1"))
        sa.event.listen(getattr(session, "sync_session", session), "before_commit", late)
    assert heard == ["commit"]
    await _plainly(engine, _LONGER[cell.engine])
    shown = _SHOW.get("mariadb" if cell.is_mariadb else "pg" if cell.is_postgres else "", "select 0")
    assert float(await _plainly(engine, shown)) == 0


async def test_a_read_unit_out_of_time_keeps_its_connection(cell: Cell) -> None:
    """A read unit over a given engine whose time is up leaves a connection that goes on: a database in memory is still
    there."""
    if cell.engine != "sqlite" or cell.is_async:
        cell.differs("the server has the database, not the connection")
        return
    engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool, connect_args={"check_same_thread": False})
    await _plainly(engine, "create table kept (id integer)")
    door = cell.door(engine)
    with pytest.raises(DeadlineExceeded):
        async with door.read(deadline=0.2) as session:
            await session.execute(sa.text(LONG[cell.engine]))
    assert await _plainly(engine, "select count(*) from kept") == 0
    await _plainly(engine, "insert into kept values (1)")
    engine.dispose()


async def test_a_link_lost_before_commit_was_sent(cell: Cell) -> None:
    """If the link is lost while the deadline is undone on a given engine's connection, the unit is known not to have
    committed: COMMIT was not sent."""
    if not cell.is_mariadb:
        cell.differs("nothing is sent before COMMIT")
        return
    door = cell.door(cell.given_engine())
    with pytest.raises(OperationalError):
        async with door.begin(deadline=30) as session:
            session.add(Item(id=1, name="one"))
            number = await session.scalar(sa.text(_PID["mariadb"]))
            cell.witness.do(f"kill {number}")
    assert cell.witness.items() == []


async def _plainly(engine: Any, statement: str) -> Any:
    """What a statement answers that the application sends by its engine, without the door."""

    def run(connection: sa.Connection) -> Any:
        result = connection.execute(sa.text(statement))
        return result.scalar() if result.returns_rows else None

    if isinstance(engine, sa.Engine):
        with engine.begin() as connection:
            return run(connection)
    async with engine.begin() as connection:
        return await connection.run_sync(run)


@pytest.mark.parametrize("snapshot", [False, True], ids=["", "snapshot"])
@pytest.mark.parametrize("first", [True, False], ids=["first", "second"])
async def test_the_server_refuses_writes_there_too(cell: Cell, first: bool, snapshot: bool) -> None:
    """In a read unit over a given engine a text that writes is refused, as first statement and later."""
    door = cell.door(cell.given_engine())
    hidden = "explain " if cell.is_mariadb else "with one as (select 1) "
    insert = "insert into item (id, name, value) values (1, 'one', 0)"
    for statement, refusal in ((insert, ReadOnlyUnit), (hidden + insert, DBAPIError)):
        with pytest.raises(refusal):
            async with door.read(snapshot=snapshot) as session:
                if not first:
                    await session.execute(sa.text("select 1"))
                await session.execute(sa.text(statement))
    assert cell.witness.items() == []
    async with door.begin() as session:
        session.add(Item(id=2, name="two"))
    assert cell.witness.items() == [2]


async def test_run_over_a_given_engine(cell: Cell) -> None:
    """run() over a given engine repeats a unit that read what another session has changed; no update is lost."""
    engine = cell.given_engine()
    door = cell.door(engine)
    cell.witness.do("insert into item (id, name, value) values (1, 'one', 0)")
    at_once: dict[str, Any] = {"connect_args": {"timeout": 0}} if cell.engine == "sqlite" else {}
    impatient = Witness(cell.database.url(), **at_once)
    attempts = 0

    async def work(session: AsyncSession) -> None:
        nonlocal attempts
        attempts += 1
        before = await session.scalar(sa.select(Item.value))
        if attempts == 1:
            try:
                impatient.do("update item set value = value + 10")
            except OperationalError:
                assert cell.engine == "sqlite"
        await session.execute(sa.update(Item).values(value=(before or 0) + 1))

    await door.run(work)
    if cell.engine == "sqlite":
        cell.differs(EXCLUSIVE)
        assert (attempts, cell.witness.value(1)) == (1, 1)
    else:
        assert (attempts, cell.witness.value(1)) == (2, 11)


async def test_a_given_engine_is_left_as_it_was(cell: Cell) -> None:
    """What run() asks of a given engine's connection ends with the unit: the next one has what the server gives."""
    engine = cell.given_engine(pool_size=1, max_overflow=0)
    door = cell.door(engine)
    question, asked, usual = (
        ("select @@innodb_snapshot_isolation", 1, 0)
        if cell.is_mariadb
        else ("show transaction_isolation", "repeatable read", "read committed")
        if cell.is_postgres
        else ("pragma query_only", 0, 0)
    )

    async def setting(session: AsyncSession) -> Any:
        if cell.engine == "sqlite":
            driver = await link(session)
            assert driver.in_transaction is (door.held()[0].name == "repeated")
        return await session.scalar(sa.text(question))

    assert await door.run(setting, name="repeated") == asked
    async with door.begin(name="plain") as session:
        assert await setting(session) == usual


async def test_an_engine_of_the_other_kind(cell: Cell) -> None:
    """An Engine at the asynchronous door, and an AsyncEngine at the synchronous one, are refused."""
    wrong = sa.create_engine("sqlite://") if cell.is_async else create_async_engine("sqlite+aiosqlite://")
    with pytest.raises(ConfigError, match="expected a URL or"):
        cell.bare_door(wrong)


async def test_an_engine_beside_a_url(cell: Cell) -> None:
    """A project can move over piece by piece: one database by engine, one by URL."""
    door = cell.door({"orders": cell.given_engine(), "billing": cell.other_url})
    async with door.begin("orders") as session:
        session.add(Item(id=1, name="one"))
        async with door.begin("billing") as other:
            other.add(Item(id=2, name="two"))
    assert cell.witness.items() == [1]
    assert cell.other_witness.items() == [2]
