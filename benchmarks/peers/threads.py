"""How each side does the work with threads and psycopg: polysession, SQLAlchemy and psycopg's own pool.

Each as its documentation has it. Who maps objects reads an object, the others a row. Every side has as many
connections as is said, and may be used by as many threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import Session, sessionmaker

from polysession import Sessions

from ..table import Item
from .frameworks import FRAMEWORKS
from .works import AT_ONCE, CHANGE, NOTHING, NUMBERS, QUERY, READ, TEN, WRITE, Works, native, texts

__all__ = ["ALONE", "CORE", "ONE_FLIGHT", "OURS", "PING", "POOL", "SESSION", "SIDES", "Make"]

Make = Callable[[str, int], AbstractContextManager[Works]]
"""A side behind this URL, with so many connections. Raises `ImportError` if it is not installed."""

OURS: Final = "polysession"
ONE_FLIGHT: Final = "polysession, one flight"
"""Units that ask for it: the last statement together with COMMIT."""
POOL: Final = "psycopg_pool"
ALONE: Final = "psycopg_pool, autocommit"
CORE: Final = "SQLAlchemy Core"
SESSION: Final = "Session"
PING: Final = "Session, pre_ping"


@contextmanager
def _ours(url: str, size: int, outcome: str = "plain") -> Iterator[Works]:
    with Sessions({"default": {"url": url, "pool": {"size": size}, "outcome": outcome}}) as door:

        def nothing() -> None:
            with door.read():
                pass

        def read() -> None:
            with door.read() as session:
                session.get_one(Item, 1)

        def write() -> None:
            with door.begin() as session:
                session.add(Item(id=next(NUMBERS)))

        def change() -> None:
            with door.begin() as session:
                session.get_one(Item, 1).value += 1

        def ten() -> None:
            with door.read() as session:
                for _ in range(10):
                    session.execute(QUERY).all()

        def at_once() -> None:
            with door.read() as session:
                for result in door.batch(session, *[QUERY] * 10):
                    result.all()

        yield {NOTHING: nothing, READ: read, WRITE: write, CHANGE: change, TEN: ten, AT_ONCE: at_once}


@contextmanager
def _session(url: str, size: int, **options: Any) -> Iterator[Works]:
    engine = sa.create_engine(url, pool_size=size, max_overflow=0, **options)
    maker = sessionmaker(engine)
    try:
        yield works_of_sessions(maker.begin, maker)
    finally:
        engine.dispose()


def works_of_sessions(
    writing: Callable[[], AbstractContextManager[Any]], reading: Callable[[], AbstractContextManager[Any]]
) -> Works:
    """The works with sessions of SQLAlchemy: one that commits at its end, and one that only reads."""

    def nothing() -> None:
        with reading():
            pass

    def read() -> None:
        with reading() as session:
            session.get_one(Item, 1)

    def write() -> None:
        with writing() as session:
            session.add(Item(id=next(NUMBERS)))

    def change() -> None:
        session: Session
        with writing() as session:
            session.get_one(Item, 1).value += 1

    def ten() -> None:
        with reading() as session:
            for _ in range(10):
                session.execute(QUERY).all()

    return {NOTHING: nothing, READ: read, WRITE: write, CHANGE: change, TEN: ten}


@contextmanager
def _core(url: str, size: int) -> Iterator[Works]:
    engine = sa.create_engine(url, pool_size=size, max_overflow=0)
    table = Item.__table__
    insert = sa.insert(Item)
    change_one = sa.update(Item).where(table.c.id == 1).values(value=table.c.value + 1)

    def nothing() -> None:
        with engine.connect():
            pass

    def reading(times: int) -> None:
        with engine.connect() as connection:
            for _ in range(times):
                connection.execute(QUERY).all()

    def write() -> None:
        with engine.begin() as connection:
            connection.execute(insert, {"id": next(NUMBERS), "value": 0})

    def change() -> None:
        with engine.begin() as connection:
            connection.execute(QUERY).all()
            connection.execute(change_one)

    try:
        yield {NOTHING: nothing, READ: lambda: reading(1), WRITE: write, CHANGE: change, TEN: lambda: reading(10)}
    finally:
        engine.dispose()


@contextmanager
def _psycopg_pool(url: str, size: int) -> Iterator[Works]:
    pools: Any = import_module("psycopg_pool")
    with pools.ConnectionPool(native(url), min_size=size, max_size=size, timeout=120) as pool:
        pool.wait()

        def scope(*statements: str) -> Callable[[], None]:
            def run() -> None:
                with pool.connection() as connection:
                    for statement in statements:
                        number = next(NUMBERS) if statement.startswith("insert") else 1
                        cursor = connection.execute(statement, (number,))
                        if statement.startswith("select"):
                            cursor.fetchall()

            return run

        def at_once() -> None:
            with pool.connection() as connection:
                _pipelined(connection)

        yield {work: scope(*statements) for work, statements in texts("%s").items()} | {AT_ONCE: at_once}


def _pipelined(connection: Any) -> None:
    (read,) = texts("%s")[READ]
    with connection.pipeline():
        for cursor in [connection.execute(read, (1,)) for _ in range(10)]:
            cursor.fetchall()


@contextmanager
def _psycopg_pool_alone(url: str, size: int) -> Iterator[Works]:
    """Without transactions: what only reads, or has one statement."""
    pools: Any = import_module("psycopg_pool")
    options = {"min_size": size, "max_size": size, "timeout": 120, "kwargs": {"autocommit": True}}
    with pools.ConnectionPool(native(url), **options) as pool:
        pool.wait()
        known = texts("%s")

        def nothing() -> None:
            with pool.connection():
                pass

        def reading(times: int) -> None:
            with pool.connection() as connection:
                for _ in range(times):
                    connection.execute(known[READ][0], (1,)).fetchall()

        def write() -> None:
            with pool.connection() as connection:
                connection.execute(known[WRITE][0], (next(NUMBERS),))

        def at_once() -> None:
            with pool.connection() as connection:
                _pipelined(connection)

        reads = {READ: lambda: reading(1), TEN: lambda: reading(10), AT_ONCE: at_once}
        yield {NOTHING: nothing, WRITE: write, **reads}


SIDES: Final[dict[str, Make]] = {
    OURS: _ours,
    ONE_FLIGHT: lambda url, size: _ours(url, size, "early"),
    POOL: _psycopg_pool,
    ALONE: _psycopg_pool_alone,
    CORE: _core,
    SESSION: _session,
    PING: lambda url, size: _session(url, size, pool_pre_ping=True),
    **FRAMEWORKS,
}
