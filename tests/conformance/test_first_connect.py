"""The first connection of an engine: what it asks its server, in how many round trips, and who shares the answers."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session

from polysession import AsyncSessions, Sessions
from polysession._shell import alike, meeting
from polysession.testing.proxy import FaultProxy
from tests.engines.targets import FreshDatabase

from .schema import Item

Fresh = Callable[[str], FreshDatabase]

DRIVERS = [
    pytest.param(target, driver, marks=getattr(pytest.mark, mark), id=f"{target}-{driver}")
    for target, driver, mark in (
        ("pg18", "psycopg", "pg"),
        ("pg15", "psycopg", "pg"),
        ("pg18", "psycopg_async", "pg"),
        ("pg18", "asyncpg", "pg"),
        ("pg15", "asyncpg", "pg"),
        ("mariadb", "pymysql", "mariadb"),
        ("mariadb", "asyncmy", "mariadb"),
        ("pgbouncer", "psycopg", "pgbouncer"),
        ("pgbouncer", "asyncpg", "pgbouncer"),
    )
]
CONNECT = {"psycopg": 2, "asyncpg": 2, "pymysql": 4, "asyncmy": 3}
"""Round trips that connecting takes by itself: PostgreSQL is asked for TLS first; MariaDB is told of the driver's
character set and transactions, and by SQLAlchemy of the character set once more."""
READ_ONLY = {"pymysql": 3, "asyncmy": 3}
"""Round trips by which a connection for reads is made one."""
COMMITS = {"pymysql": 1, "asyncmy": 1}
"""Round trips of the unit itself, whose COMMIT these drivers send although it has sent nothing."""


def is_asynchronous(driver: str) -> bool:
    """It is used through the asynchronous door."""
    return driver in ("asyncpg", "asyncmy", "psycopg_async")


def connect(url: str, driver: str, kind: str, *names: str) -> list[Any]:
    """The dialects of the engines for a kind of use, after each has connected once; one for each name."""
    config: Any = dict.fromkeys(names or ("default",), url) if isinstance(url, str) else url

    async def within() -> list[Any]:
        async with AsyncSessions(config) as door:
            found = []
            for name in config:
                async with getattr(door, kind)(name) as session:
                    connection = await session.connection()
                    if kind == "read":
                        await session.run_sync(lambda s: s.connection().connection.cursor().close())
                    found.append(connection.dialect)
            return found

    if is_asynchronous(driver):
        return asyncio.run(within())
    with Sessions(config) as door:
        found = []
        for name in config:
            with getattr(door, kind)(name) as session:
                found.append(session.connection().dialect)
        return found


def plainly(url: str, driver: str) -> Any:
    """The dialect of SQLAlchemy's own engine, after it has connected."""

    async def within() -> Any:
        engine = create_async_engine(url)
        async with engine.connect():
            pass
        await engine.dispose()
        return engine.dialect

    if is_asynchronous(driver):
        return asyncio.run(within())
    engine = sa.create_engine(url)
    engine.connect().close()
    engine.dispose()
    return engine.dialect


_PLAIN = (bool, int, str, tuple, dict, type(None))
_OTHERWISE = {"_on_connect_isolation_level", "skip_autocommit_rollback"}
"""What engines for reads are given."""


def known(dialect: Any, names: Any) -> dict[str, Any]:
    """What a dialect knows, as far as it can be compared."""
    return {name: getattr(dialect, name) for name in names}


def comparable(dialect: Any) -> list[str]:
    """The attributes of SQLAlchemy's own dialect to compare."""
    return [name for name, value in vars(dialect).items() if isinstance(value, _PLAIN) and name not in _OTHERWISE]


def url_of(database: FreshDatabase, driver: str) -> str:
    """The database's URL for the driver."""
    return database.url(driver.removesuffix("_async"))


@pytest.mark.parametrize("kind", ["begin", "read"])
@pytest.mark.parametrize(("target", "driver"), DRIVERS)
def test_what_is_known_of_a_server(fresh_database: Fresh, target: str, driver: str, kind: str) -> None:
    """One question tells all that SQLAlchemy asks in several, and what follows from it is the same."""
    database = fresh_database(target)
    url = url_of(database, driver)
    config: Any = {"default": {"url": url, "pooler": "transaction"}} if target == "pgbouncer" else url
    [ours] = connect(config, driver, kind)
    plain = plainly(url, driver)
    names = comparable(plain)
    assert {"server_version_info", "default_schema_name", "default_isolation_level"} <= set(names)
    assert known(ours, names) == known(plain, names)
    assert alike.why_alone(ours) is None
    assert alike.is_shared(ours)


@pytest.mark.parametrize("kind", ["begin", "read"])
@pytest.mark.parametrize(("target", "driver"), [each for each in DRIVERS if each.values[0] != "pgbouncer"])
def test_round_trips_of_the_first_connection(fresh_database: Fresh, target: str, driver: str, kind: str) -> None:
    """Beside connecting it takes one; SQLAlchemy's own takes several more."""
    url = url_of(fresh_database(target), driver)
    name = driver.removesuffix("_async")
    with FaultProxy.before(url) as proxy:
        with proxy.counting() as ours:
            connect(proxy.url, driver, kind)
        with proxy.counting() as control:
            plainly(proxy.url, driver)
    ends = READ_ONLY if kind == "read" else COMMITS
    allowed = CONNECT[name] + 1 + ends.get(name, 0)
    assert ours.round_trips <= allowed
    assert control.round_trips >= CONNECT[name] + 6
    if name in ("psycopg", "asyncpg"):
        assert ours.round_trips <= 3


@pytest.mark.parametrize("wrong", ["fails", "is not understood", "is not known"])
@pytest.mark.parametrize(("target", "driver"), DRIVERS)
def test_a_question_that_is_not_answered(
    fresh_database: Fresh, target: str, driver: str, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then SQLAlchemy asks in its own way, on the same connection, and knows the same."""

    def fails(dialect: Any, pooled: Any) -> None:
        monkeypatch.setattr(meeting, "_POSTGRESQL", "select no_such_function()")
        if dialect.driver in ("pymysql", "asyncmy"):
            raise LookupError
        plain_asks[dialect.driver](dialect, pooled)

    plain_asks = dict(meeting.ASKS)
    for name in plain_asks:
        if wrong == "is not known":
            monkeypatch.delitem(meeting.ASKS, name)
        else:
            ask: Any = fails if wrong == "fails" else lambda dialect, pooled: None
            monkeypatch.setitem(meeting.ASKS, name, ask)
    url = url_of(fresh_database(target), driver)
    config: Any = {"default": {"url": url, "pooler": "transaction"}} if target == "pgbouncer" else url
    [ours] = connect(config, driver, "begin")
    plain = plainly(url, driver)
    names = comparable(plain)
    assert known(ours, names) == known(plain, names)


@pytest.mark.pg
@pytest.mark.parametrize("driver", ["psycopg", "psycopg_async", "asyncpg"])
def test_databases_of_one_server_that_differ(fresh_database: Fresh, driver: str) -> None:
    """Each knows its own schema; who starts at another isolation level or escapes otherwise shares with nobody."""
    one, same, level, escapes, schema = (fresh_database("pg18") for _ in range(5))
    for database, change in (
        (level, "set default_transaction_isolation = 'serializable'"),
        (escapes, "set standard_conforming_strings = off"),
        (schema, "set search_path = pg_catalog"),
    ):
        alter(database, change)
    config: Any = {
        f"db{number}": url_of(database, driver) for number, database in enumerate((one, same, level, escapes, schema))
    }
    first, second, third, fourth, fifth = connect(config, driver, "begin")
    assert type(first) is type(second) is type(fifth)
    assert first == second == fifth
    assert hash(first) == hash(second)
    assert third != first
    assert fourth not in (first, third)
    assert third.default_isolation_level == "SERIALIZABLE"
    assert (first._backslash_escapes, fourth._backslash_escapes) == (False, True)
    assert (first.default_schema_name, fifth.default_schema_name) == ("public", "pg_catalog")


@pytest.mark.pg
@pytest.mark.parametrize("driver", ["psycopg", "psycopg_async"])
def test_a_type_that_psycopg_has_to_know(fresh_database: Fresh, driver: str) -> None:
    """In a database with a type hstore it is converted; another database of the server knows nothing of it."""
    with_type, without = fresh_database("pg18"), fresh_database("pg18")
    engine = sa.create_engine(with_type.url("psycopg"))
    with engine.begin() as connection:
        # as far as psycopg looks: a type of this name, by text
        connection.execute(sa.text("create domain hstore as text"))
    engine.dispose()
    config: Any = {"with": url_of(with_type, driver), "without": url_of(without, driver)}
    first, second = connect(config, driver, "begin")
    assert first._has_native_hstore is True
    assert second._has_native_hstore is False
    assert first != second
    assert first._psycopg_adapters_map is not second._psycopg_adapters_map


def alter(database: FreshDatabase, change: str) -> None:
    """Change what sessions of a database start with."""
    engine = sa.create_engine(database.url("psycopg"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f'alter database "{engine.url.database}" {change}'))
    engine.dispose()


MANY = 40
MOST = 11 * 1024
"""Bytes for one database after use, its configuration included: the bar is 10 KiB, and a tenth more is noise."""


@pytest.mark.pg
def test_memory_of_many_databases(fresh_database: Fresh) -> None:
    """One more database that is like the others takes little; an engine of SQLAlchemy's own takes many times that."""
    url = fresh_database("pg18").url("psycopg")

    def work(session: Session) -> None:
        session.get(Item, 1)
        session.scalars(sa.select(Item).where(Item.value > 3)).all()
        session.execute(sa.select(Item.value).where(Item.id == 1)).all()
        session.execute(sa.select(sa.func.count()).select_from(Item)).scalar()

    def ours(many: int) -> Any:
        door = Sessions({f"db{number}": url for number in range(many)})
        for number in range(many):
            with door.begin(f"db{number}") as session:
                work(session)
                engine = session.get_bind()
            engine.dispose()  # type: ignore[union-attr]  # an engine
        return door

    def plain(many: int) -> Any:
        engines = [sa.create_engine(url) for _ in range(many)]
        for engine in engines:
            with Session(engine) as session:
                work(session)
            engine.dispose()
        return engines

    prepared = sa.create_engine(url)
    Item.metadata.create_all(prepared)
    prepared.dispose()
    taken = []
    for use in (ours, plain):
        others = use(3)
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        kept = use(MANY)
        gc.collect()
        taken.append((tracemalloc.get_traced_memory()[0] - before) / MANY)
        tracemalloc.stop()
        for door in (kept, others):
            getattr(door, "close", list)()
    assert taken[0] <= MOST
    assert taken[1] >= 5 * MOST
