"""When connections are reset on their way back, and when they are closed; what is set is tried in `proofs/state.py`."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
import sqlalchemy as sa
from proofs.exits_tasks import stepped
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError
from tests.engines.targets import FreshDatabase

from polysession import AsyncSessions, Sessions
from polysession._shell import hygiene, resetting
from polysession.errors import RequestRefused
from polysession.testing.proxy import Cut, Fault, FaultProxy, Fired, Freeze, Message, request

Fresh = Callable[[str], FreshDatabase]
ONE = sa.text("select 1")
PROCESS = sa.text("select pg_backend_pid()")
TOUCH = sa.text("set lock_timeout = '7s'")
LOOK = sa.text("show lock_timeout")


@pytest.fixture
def resets(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was found each time when a connection was reset or closed."""
    seen: list[str] = []
    real = resetting.reset

    def noted(engine: Any, connection: Any, record: Any, found: Any) -> bool:
        seen.append(found.words)
        return real(engine, connection, record, found)

    monkeypatch.setattr(hygiene, "reset", noted)
    return seen


def table(url: str, **pool: Any) -> dict[str, Any]:
    """One database with one connection."""
    return {"databases": {"main": {"url": url, "pool": {"size": 1, **pool}}}}


def sqlite(folder: Path, **pool: Any) -> Sessions:
    """A door to a file."""
    return Sessions.from_mapping(table(f"sqlite:///{folder / 'state.db'}", **pool))


def test_what_leaves_nothing_is_not_reset(tmp_path: Path, resets: list[str]) -> None:
    """Constructs, DDL, savepoints, deadlines, errors, `session.connection()`: the connection goes back as it is."""
    item = sa.Table("item", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True))
    with sqlite(tmp_path) as door:
        with door.begin() as session:
            item.metadata.create_all(session.connection())
            session.execute(sa.insert(item), [{"id": 1}, {"id": 2}])
        with door.begin(deadline=60) as session, session.begin_nested():
            session.execute(sa.update(item).values(id=item.c.id + 10))
        with pytest.raises(DBAPIError), door.begin() as session:
            session.execute(sa.insert(item), [{"id": 11}])
        with door.read() as session:
            session.execute(sa.select(item)).all()
        with door.open() as session:
            session.execute(sa.select(item)).all()
            sa.inspect(session.connection()).get_columns("item")
            session.commit()
    assert resets == []


@pytest.mark.parametrize(("how", "found"), [("touched", 0), ("always", 2), ("never", 0)])
def test_the_setting(tmp_path: Path, resets: list[str], how: str, found: int) -> None:
    """`reset` says whether a unit that left nothing is reset too, and whether anything ever is."""
    with sqlite(tmp_path, reset=how) as door:
        for _ in range(2):
            with door.begin() as session:
                session.execute(ONE)
        assert len(resets) == found
        with door.begin() as session:
            session.execute(sa.text("pragma cache_size = 7"))
        with door.begin() as session:
            cache = session.scalar(sa.text("pragma cache_size"))
    assert (cache == 7) is (how == "never")


def test_the_drivers_connection(tmp_path: Path) -> None:
    """Who takes it out of the session gets it, and nobody after him."""
    with sqlite(tmp_path) as door:
        with door.begin() as session:
            taken: Any = session.connection().connection.driver_connection
            taken.create_function("mine", 0, lambda: 1)
            assert session.scalar(sa.text("select mine()")) == 1
        with door.begin() as session:
            assert session.connection().connection.driver_connection is not taken
        assert door.ready().endpoints[0].out == 0


def test_a_use_without_a_session(tmp_path: Path, resets: list[str]) -> None:
    """A connection of the engine itself is not known to have been left clean."""
    with sqlite(tmp_path) as door:
        with door.begin() as session:
            session.execute(ONE)
            engine = session.get_bind()
        assert isinstance(engine, Engine)
        raw = engine.raw_connection()
        raw.cursor().execute("pragma cache_size = 7")
        raw.close()
        assert len(resets) == 1
        with door.begin() as session:
            assert session.scalar(sa.text("pragma cache_size")) != 7


def test_numbers_of_others(tmp_path: Path, resets: list[str]) -> None:
    """A unit is told its own last number, and none of an earlier unit; nothing is reset for that."""
    last = sa.text("select last_insert_rowid()")
    with sqlite(tmp_path) as door:
        with door.begin() as session:
            session.execute(sa.text("create table item (id integer primary key)"))
        with door.begin() as session:
            session.execute(sa.text("insert into item values (7)"))
            assert session.scalar(last) == 7
        with door.begin() as session:
            assert session.scalar(last) == 0
            session.execute(sa.text("insert into item values (8)"))
            assert session.scalar(last) == 8
        with door.begin() as session:
            session.execute(sa.text("delete from item where id = 8"))
            assert session.scalar(last) == 0
    assert resets == []


@pytest.mark.pg
def test_the_same_connection_goes_on(fresh_database: Fresh, resets: list[str]) -> None:
    """After a reset it is used again, with the driver's prepared statements; a deadlock of two resets is none."""
    prepared = sa.text("select count(*) from pg_prepared_statements where not from_sql")
    with Sessions.from_mapping(table(fresh_database("pg18").url("psycopg"))) as door:
        seen = set()
        for _ in range(8):
            with door.begin() as session:
                seen.add(session.scalar(PROCESS))
                session.execute(TOUCH)
        with door.begin() as session:
            assert session.scalar(LOOK) == "0"
            assert session.scalar(prepared)
        assert len(seen) == 1
        assert resets == ["SET"] * 8


@pytest.mark.pg
@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_a_cancellation_does_not_interrupt_a_reset(
    fresh_database: Fresh, driver: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It does not outlive its scope, the next session finds a clean connection, and nothing is logged."""
    url = fresh_database("pg18").url(driver)

    async def touch(door: AsyncSessions) -> None:
        session = door.open()
        try:
            await session.execute(TOUCH)
        finally:
            await session.close()

    async def cancelled_at(door: AsyncSessions, step: int) -> int:
        with anyio.CancelScope() as scope:  # which cancels again and again
            return await stepped(touch(door), step, scope.cancel)
        return step

    async def at_each_step() -> int:
        async with AsyncSessions.from_mapping(table(url)) as door:
            await touch(door)
            step = 0
            while await cancelled_at(door, step := step + 1) >= step:
                async with door.begin() as session:
                    assert await session.scalar(LOOK) == "0"
            return step

    assert asyncio.run(at_each_step()) > 3
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.pg
def test_a_listener_of_the_application(fresh_database: Fresh) -> None:
    """What a `connect` listener has set would be lost by a reset: the connection is closed instead."""

    def listener(connection: Any, record: Any) -> None:
        connection.execute("set work_mem = '7MB'")
        connection.commit()

    sa.event.listen(Engine, "connect", listener)
    try:
        with Sessions.from_mapping(table(fresh_database("pg18").url("psycopg"))) as door:
            seen = []
            for _ in range(2):
                with door.begin() as session:
                    seen.append(session.scalar(PROCESS))
                    assert session.scalar(sa.text("show work_mem")) == "7MB"
                    session.execute(TOUCH)
            assert seen[0] != seen[1]
    finally:
        sa.event.remove(Engine, "connect", listener)


def _resets(message: Message) -> bool:
    return message.kind == "COM_RESET_CONNECTION" or "RESET ALL" in message.text.upper()


LINKS = [
    ("pg18", "psycopg", False),
    ("pg18", "psycopg", True),
    ("pg18", "asyncpg", True),
    pytest.param("mariadb", "pymysql", False, marks=pytest.mark.mariadb),
    pytest.param("mariadb", "asyncmy", True, marks=pytest.mark.mariadb),
]


@pytest.mark.pg
@pytest.mark.parametrize("action", [Freeze(), Cut()], ids=["frozen", "cut"])
@pytest.mark.parametrize(("target", "driver", "asynchronous"), LINKS)
def test_a_reset_that_is_not_answered(
    fresh_database: Fresh,
    monkeypatch: pytest.MonkeyPatch,
    target: str,
    driver: str,
    asynchronous: bool,
    action: Freeze | Cut,
) -> None:
    """It is given up after a bounded time; the unit has committed all the same, and the next one is served."""
    monkeypatch.setattr(resetting, "LONGEST", 0.3)
    question = "select count(*) from item"
    touch = "set lock_timeout = '7s'" if target == "pg18" else "set @mine = 7"
    with FaultProxy.before(fresh_database(target).url(driver)) as proxy:
        fault = Fault(action, request(when=_resets))

        def sync() -> float:
            with Sessions.from_mapping(table(proxy.url)) as door:
                with door.begin() as session:
                    session.execute(sa.text("create table item (id integer)"))
                proxy.plan(fault)
                began = time.monotonic()
                with door.begin() as session:
                    session.execute(sa.text("insert into item values (1)"))
                    session.execute(sa.text(touch))
                took = time.monotonic() - began
                with door.begin() as session:
                    assert session.scalar(sa.text(question)) == 1
                return took

        async def together() -> float:
            async with AsyncSessions.from_mapping(table(proxy.url)) as door:
                async with door.begin() as session:
                    await session.execute(sa.text("create table item (id integer)"))
                proxy.plan(fault)
                began = time.monotonic()
                async with door.begin() as session:
                    await session.execute(sa.text("insert into item values (1)"))
                    await session.execute(sa.text(touch))
                took = time.monotonic() - began
                async with door.begin() as session:
                    assert await session.scalar(sa.text(question)) == 1
                return took

        took = asyncio.run(together()) if asynchronous else sync()
        assert took < 0.3 + 2.0
        proxy.wait_for(Fired, 5)  # the reset was sent


@pytest.mark.pg
@pytest.mark.pgbouncer
def test_behind_a_pooler(fresh_database: Fresh) -> None:
    """What would last is refused with its cure before it is sent, unless the statement says that it may."""
    url = fresh_database("pgbouncer").url("psycopg")
    with Sessions.from_mapping({"databases": {"main": {"url": url, "pooler": "transaction"}}}) as door:
        with pytest.raises(RequestRefused) as caught, door.begin() as session:
            session.execute(sa.text("select pg_advisory_lock(7)"))
        assert "pg_advisory_lock() cannot be sent behind a pooler in transaction mode" in caught.value.what
        assert caught.value.do[0] == "use pg_advisory_xact_lock()"
        assert "test_hygiene.py" in caught.value.why
        with door.begin() as session:
            session.execute(sa.text("set local lock_timeout = '7s'"))
            session.execute(sa.text("select pg_advisory_xact_lock(7)"))
            session.execute(sa.text("create temporary table mine (a integer) on commit drop"))
            wanted = {hygiene.LEAVES_STATE: True}
            session.execute(sa.text("select pg_advisory_lock(8)"), execution_options=wanted)
            session.execute(sa.text("select pg_advisory_unlock(8)"))
