"""How each side does the work with asyncio: polysession, SQLAlchemy, advanced-alchemy, and the drivers' own pools."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib import import_module
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from polysession import AsyncSessions

from ..table import Item
from .threads import ONE_FLIGHT
from .works import AT_ONCE, CHANGE, NOTHING, NUMBERS, QUERY, READ, TEN, WRITE, Works, native, texts

__all__ = ["ASYNCPG_POOL", "ONE_FLIGHT", "OURS", "PING", "PSYCOPG_POOL", "SESSION", "MakeAsync", "sides"]

MakeAsync = Callable[[str, int], AbstractAsyncContextManager[Works]]

OURS: Final = "polysession"
ASYNCPG_POOL: Final = "asyncpg's pool"
PSYCOPG_POOL: Final = "psycopg_pool"
SESSION: Final = "AsyncSession"
PING: Final = "AsyncSession, pre_ping"


def sides(driver: str) -> dict[str, MakeAsync]:
    """The sides for this driver."""
    return {
        OURS: _ours,
        ONE_FLIGHT: lambda url, size: _ours(url, size, "early"),
        **_RAW.get(driver, {}),
        SESSION: _session,
        PING: lambda url, size: _session(url, size, pool_pre_ping=True),
        "advanced-alchemy": _advanced_alchemy,
    }


@asynccontextmanager
async def _ours(url: str, size: int, outcome: str = "plain") -> AsyncIterator[Works]:
    async with AsyncSessions({"default": {"url": url, "pool": {"size": size}, "outcome": outcome}}) as door:

        async def write() -> None:
            async with door.begin() as session:
                session.add(Item(id=next(NUMBERS)))

        async def change() -> None:
            async with door.begin() as session:
                (await session.get_one(Item, 1)).value += 1

        async def at_once() -> None:
            async with door.read() as session:
                for result in await door.batch(session, *[QUERY] * 10):
                    result.all()

        yield {**_reads(door.read), WRITE: write, CHANGE: change, AT_ONCE: at_once}


@asynccontextmanager
async def _session(url: str, size: int, **options: Any) -> AsyncIterator[Works]:
    engine = create_async_engine(url, pool_size=size, max_overflow=0, **options)
    maker = async_sessionmaker(engine)

    async def write() -> None:
        async with maker.begin() as session:
            session.add(Item(id=next(NUMBERS)))

    async def change() -> None:
        session: AsyncSession
        async with maker.begin() as session:
            (await session.get_one(Item, 1)).value += 1

    try:
        yield {**_reads(maker), WRITE: write, CHANGE: change}
    finally:
        await engine.dispose()


def _reads(reading: Callable[[], AbstractAsyncContextManager[Any]]) -> Works:
    async def nothing() -> None:
        async with reading():
            pass

    async def read() -> None:
        async with reading() as session:
            await session.get_one(Item, 1)

    async def ten() -> None:
        async with reading() as session:
            for _ in range(10):
                (await session.execute(QUERY)).all()

    return {NOTHING: nothing, READ: read, TEN: ten}


@asynccontextmanager
async def _advanced_alchemy(url: str, size: int) -> AsyncIterator[Works]:
    package: Any = import_module("advanced_alchemy.config")
    options = package.EngineConfig(pool_size=size, max_overflow=0)
    config = package.SQLAlchemyAsyncConfig(connection_string=url, engine_config=options)

    async def write() -> None:
        async with config.get_session() as session:
            session.add(Item(id=next(NUMBERS)))
            await session.commit()

    async def change() -> None:
        async with config.get_session() as session:
            (await session.get_one(Item, 1)).value += 1
            await session.commit()

    try:
        yield {**_reads(config.get_session), WRITE: write, CHANGE: change}
    finally:
        await config.get_engine().dispose()


@asynccontextmanager
async def _asyncpg_pool(url: str, size: int) -> AsyncIterator[Works]:
    import asyncpg

    async with asyncpg.create_pool(native(url), min_size=size, max_size=size) as pool:

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
                    number = next(NUMBERS) if statement.startswith("insert") else 1
                    await connection.fetch(statement, number)

            return run

        yield {work: scope(*statements) for work, statements in texts("$1").items()}


@asynccontextmanager
async def _psycopg_pool(url: str, size: int) -> AsyncIterator[Works]:
    pools: Any = import_module("psycopg_pool")
    async with pools.AsyncConnectionPool(native(url), min_size=size, max_size=size, timeout=120) as pool:
        await pool.wait()

        def scope(*statements: str) -> Callable[[], Awaitable[None]]:
            async def run() -> None:
                async with pool.connection() as connection:
                    for statement in statements:
                        number = next(NUMBERS) if statement.startswith("insert") else 1
                        cursor = await connection.execute(statement, (number,))
                        if statement.startswith("select"):
                            await cursor.fetchall()

            return run

        async def at_once() -> None:
            (read,) = texts("%s")[READ]
            async with pool.connection() as connection, connection.pipeline():
                for cursor in [await connection.execute(read, (1,)) for _ in range(10)]:
                    await cursor.fetchall()

        yield {work: scope(*statements) for work, statements in texts("%s").items()} | {AT_ONCE: at_once}


_RAW: Final[dict[str, dict[str, MakeAsync]]] = {
    "asyncpg": {ASYNCPG_POOL: _asyncpg_pool},
    "psycopg": {PSYCOPG_POOL: _psycopg_pool},
}
