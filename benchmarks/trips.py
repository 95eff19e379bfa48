"""Round trips to the server, counted by a proxy: the same work by units of ours, SQLAlchemy's sessions and raw pools.

A round trip is one wait for the server's answer: messages that leave together count once. The counts are the same on
every machine. Each side does the same to one row of one table, in a scope of its own as its documentation has it: with
SQLAlchemy `sessionmaker().begin()`, or `sessionmaker()()` for what only reads, with and without `pool_pre_ping`; with
psycopg `psycopg_pool.ConnectionPool.connection()`; with asyncpg its pool, and `transaction()` for what writes.

Ten reads at once are those that do not depend on each other: by `batch()`, by psycopg's `pipeline()`, and one after the
other by who has nothing of the kind.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from polysession import AsyncSessions, Sessions
from polysession.testing.proxy import FaultProxy

__all__ = ["WORKS", "Item", "make_table", "measure"]

WORKS: Final = ("nothing", "read a row", "write a row", "read and change", "read ten times", "ten at once")
_TARGETS: Final = ("pg18", "mariadb")
_WARM: Final = 8
"""Times that each work is done before it is counted: statements are prepared by then."""
_TIMES: Final = 4

Row = dict[str, object]


class Base(DeclarativeBase):
    """Of the one table."""


class Item(Base):
    """A row."""

    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    value: Mapped[int] = mapped_column(default=0)


_numbers = itertools.count(2)
_READ: Final = sa.select(Item.value).where(Item.id == 1)
_AT_ONCE: Final = WORKS[-1]

Side = dict[str, Callable[[], Any]]
"""What a side does, by the names of `WORKS`."""


def measure(rounds: int) -> list[Row]:
    """The rows of the table, for the servers that are here. One round is enough."""
    import pytest
    from tests.engines.targets import ASYNC_DRIVERS, SYNC_DRIVERS, Servers, mark_of

    rows: list[Row] = []
    servers = Servers()
    try:
        for target in _TARGETS:
            try:
                database = servers.fresh(target)
            except pytest.skip.Exception as missing:
                print(missing, file=sys.stderr)
                continue
            make_table(database.url())
            for driver in SYNC_DRIVERS[mark_of(target)]:
                rows += _threads(f"{target}, {driver}", database.url(driver))
            for driver in ASYNC_DRIVERS[mark_of(target)]:
                rows += asyncio.run(_tasks(f"{target}, {driver}, asyncio", database.url(driver)))
    finally:
        servers.close()
    return rows


def make_table(url: str) -> None:
    """Make the table, with its one row."""
    engine = sa.create_engine(url)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Item(id=1))
        session.commit()
    engine.dispose()


def _told(where: str, side: str, found: list[float]) -> Row:
    return {"where": where, "side": side} | {work: round(trips, 2) for work, trips in zip(WORKS, found, strict=True)}


# -- threads


def _threads(where: str, url: str) -> Iterator[Row]:
    sides: dict[str, Callable[[str], Any]] = {
        "polysession": _ours,
        "Session": _sessions,
        "Session, pre_ping": lambda url: _sessions(url, pool_pre_ping=True),
    }
    if "+psycopg" in url and find_spec("psycopg_pool") is not None:
        sides["psycopg_pool"] = _raw_psycopg
    for side, make in sides.items():
        with FaultProxy.before(url) as proxy, make(proxy.url) as works:
            found = []
            for work in WORKS:
                for _ in range(_WARM):
                    works[work]()
                with proxy.counting() as counted:
                    for _ in range(_TIMES):
                        works[work]()
                found.append(counted.round_trips / _TIMES)
        yield _told(where, side, found)


def _work(write: Callable[[], Any], read: Callable[[], Any]) -> Side:
    """With the scopes of one side."""

    def nothing() -> None:
        with write():
            pass

    def reading(times: int) -> None:
        with read() as session:
            for _ in range(times):
                session.execute(_READ).all()

    def writing() -> None:
        with write() as session:
            session.add(Item(id=next(_numbers)))

    def changing() -> None:
        with write() as session:
            session.get_one(Item, 1).value += 1

    works = (nothing, lambda: reading(1), writing, changing, lambda: reading(10), lambda: reading(10))
    return dict(zip(WORKS, works, strict=True))


@contextmanager
def _ours(url: str) -> Iterator[Side]:
    with Sessions(url) as door:

        def at_once() -> None:
            with door.read() as session:
                for result in door.batch(session, *[_READ] * 10):
                    result.all()

        yield _work(door.begin, door.read) | {_AT_ONCE: at_once}


@contextmanager
def _sessions(url: str, **options: Any) -> Iterator[Side]:
    engine = sa.create_engine(url, **options)
    maker = sessionmaker(engine)
    try:
        yield _work(maker.begin, maker)
    finally:
        engine.dispose()


@contextmanager
def _raw_psycopg(url: str) -> Iterator[Side]:
    pools: Any = import_module("psycopg_pool")
    with pools.ConnectionPool(_plain(url), min_size=1, max_size=1, open=True) as pool:
        pool.wait()

        def scope(*statements: str) -> Callable[[], None]:
            def run() -> None:
                with pool.connection() as connection:
                    for statement in statements:
                        number = next(_numbers) if "insert" in statement else 1
                        connection.execute(statement, (number,))

            return run

        def at_once() -> None:
            with pool.connection() as connection, connection.pipeline():
                for cursor in [connection.execute(_texts("%s")["read a row"][0], (1,)) for _ in range(10)]:
                    cursor.fetchall()

        yield {work: scope(*statements) for work, statements in _texts("%s").items()} | {_AT_ONCE: at_once}


def _texts(mark: str) -> dict[str, tuple[str, ...]]:
    read = f"select value from item where id = {mark}"
    change = f"update item set value = value + 1 where id = {mark}"
    write = f"insert into item (id, value) values ({mark}, 0)"
    return dict(zip(WORKS, ((), (read,), (write,), (read, change), (read,) * 10, (read,) * 10), strict=True))


def _plain(url: str) -> str:
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


# -- tasks


async def _tasks(where: str, url: str) -> list[Row]:
    sides: dict[str, Callable[[str, _Use], Awaitable[None]]] = {
        "polysession": _ours_async,
        "AsyncSession": _sessions_async,
        "AsyncSession, pre_ping": lambda url, use: _sessions_async(url, use, pool_pre_ping=True),
    }
    if "+asyncpg" in url:
        sides["asyncpg's pool"] = _raw_asyncpg
    rows: list[Row] = []
    for side, with_side in sides.items():
        with FaultProxy.before(url) as proxy:
            found: list[float] = []

            async def use(works: Side, proxy: FaultProxy = proxy, found: list[float] = found) -> None:
                for work in WORKS:
                    for _ in range(_WARM):
                        await works[work]()
                    with proxy.counting() as counted:
                        for _ in range(_TIMES):
                            await works[work]()
                    found.append(counted.round_trips / _TIMES)

            await with_side(proxy.url, use)
        rows.append(_told(where, side, found))
    return rows


_Use = Callable[[Side], Awaitable[None]]


def _work_async(write: Callable[[], Any], read: Callable[[], Any]) -> Side:
    async def nothing() -> None:
        async with write():
            pass

    async def reading(times: int) -> None:
        async with read() as session:
            for _ in range(times):
                (await session.execute(_READ)).all()

    async def writing() -> None:
        async with write() as session:
            session.add(Item(id=next(_numbers)))

    async def changing() -> None:
        session: AsyncSession
        async with write() as session:
            (await session.get_one(Item, 1)).value += 1

    works = (nothing, lambda: reading(1), writing, changing, lambda: reading(10), lambda: reading(10))
    return dict(zip(WORKS, works, strict=True))


async def _ours_async(url: str, use: _Use) -> None:
    async with AsyncSessions(url) as door:

        async def at_once() -> None:
            async with door.read() as session:
                for result in await door.batch(session, *[_READ] * 10):
                    result.all()

        await use(_work_async(door.begin, door.read) | {_AT_ONCE: at_once})


async def _sessions_async(url: str, use: _Use, **options: Any) -> None:
    engine = create_async_engine(url, **options)
    maker = async_sessionmaker(engine)
    try:
        await use(_work_async(maker.begin, maker))
    finally:
        await engine.dispose()


async def _raw_asyncpg(url: str, use: _Use) -> None:
    import asyncpg

    async with asyncpg.create_pool(_plain(url), min_size=1, max_size=1) as pool:

        def scope(*statements: str) -> Callable[[], Awaitable[None]]:
            writes = any(not statement.startswith("select") for statement in statements)

            async def run() -> None:
                async with pool.acquire() as connection:
                    if writes:
                        async with connection.transaction():
                            await send(connection)
                    else:
                        await send(connection)

            async def send(connection: Any) -> None:
                for statement in statements:
                    number = next(_numbers) if "insert" in statement else 1
                    await connection.fetch(statement, number)

            return run

        await use({work: scope(*statements) for work, statements in _texts("$1").items()})
