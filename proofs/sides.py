"""The two sides of a comparison, with the same verbs: our doors, and SQLAlchemy's session factories and pools.

Both have a pool of `SIZE` connections and no overflow. Nothing is measured here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, suppress
from typing import Any, Final, Protocol, cast

from sqlalchemy import Engine
from sqlalchemy.engine import create_engine
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import QueuePool

from polysession import AsyncSessions, Sessions
from proofs.tally import WHICH

__all__ = ["SIZE", "AsyncSide", "Ours", "OursAsync", "Plain", "PlainAsync", "Side"]

SIZE: Final = 5
"""Connections of each pool."""
_PATIENCE: Final = 5.0
"""Seconds that a unit waits for a connection or a lock: longer than any honest wait here."""
_BRIEF: Final = 3.0
"""The same when nobody else works: longer than the pool takes to find a connection that was lost."""


class _Known(Protocol):
    """What can be read of either side at any time."""

    stuck: bool
    """Threads wait in it for ever: nothing can be asked of it any more."""
    writers: int
    """Threads or tasks with open transactions that get along: SQLite lets one write, and others ask again and again."""

    def held(self) -> int:
        """Units and sessions that have not ended, as far as the side knows."""

    def out(self) -> int:
        """Connections that are out of the pool."""

    def idle(self) -> int:
        """Connections that wait in the pool."""


class Side(_Known, Protocol):
    """One side for threads."""

    def begin(self) -> AbstractContextManager[Session]:
        """A unit of work."""

    def within(self, seconds: float) -> AbstractContextManager[Session]:
        """A unit of work that may take so long, as far as the side can say that."""

    def run(self, work: Callable[[Session], None]) -> None:
        """Run a function as a unit of work, and again where the side does that."""

    def open(self) -> Session:
        """A session that its owner ends."""

    def served(self) -> int:
        """How many sessions get a connection at the same time, up to `SIZE`."""

    def close(self) -> None:
        """The end of the side."""


class AsyncSide(_Known, Protocol):
    """One side for asyncio."""

    def begin(self) -> AbstractAsyncContextManager[AsyncSession]:
        """A unit of work."""

    def within(self, seconds: float) -> AbstractAsyncContextManager[AsyncSession]:
        """A unit of work that may take so long, as far as the side can say that."""

    async def run(self, work: Callable[[AsyncSession], Awaitable[None]]) -> None:
        """Run a function as a unit of work, and again where the side does that."""

    def open(self) -> AsyncSession:
        """A session that its owner ends."""

    async def served(self) -> int:
        """How many sessions get a connection at the same time, up to `SIZE`."""

    async def close(self) -> None:
        """The end of the side."""


class _OurCounts:
    stuck = False
    door: Sessions | AsyncSessions

    def held(self) -> int:
        return len(self.door.held())

    def out(self) -> int:
        return self.door._connections_out()

    def idle(self) -> int:
        return sum(endpoint.idle for endpoint in self.door.ready().endpoints)

    def be_brief(self) -> None:
        """All waits are over: a connection that does not come soon is lost."""
        for room in self.door._ready_engines.rooms():
            room.timeout = _BRIEF


class Ours(_OurCounts):
    """`Sessions`."""

    def __init__(self, url: str) -> None:
        self.door: Sessions = Sessions.from_mapping(_settings(url))
        self.writers = _writers(url)

    def begin(self) -> AbstractContextManager[Session]:
        return self.door.begin()

    def within(self, seconds: float) -> AbstractContextManager[Session]:
        return self.door.begin(deadline=seconds)

    def run(self, work: Callable[[Session], None]) -> None:
        self.door.run(work)

    def open(self) -> Session:
        return self.door.open()

    def served(self) -> int:
        self.be_brief()
        return _served(self)

    def close(self) -> None:
        self.door.close()


class OursAsync(_OurCounts):
    """`AsyncSessions`."""

    def __init__(self, url: str) -> None:
        self.door: AsyncSessions = AsyncSessions.from_mapping(_settings(url))
        self.writers = _writers(url)

    def begin(self) -> AbstractAsyncContextManager[AsyncSession]:
        return self.door.begin()

    def within(self, seconds: float) -> AbstractAsyncContextManager[AsyncSession]:
        return self.door.begin(deadline=seconds)

    async def run(self, work: Callable[[AsyncSession], Awaitable[None]]) -> None:
        await self.door.run(work)

    def open(self) -> AsyncSession:
        return self.door.open()

    async def served(self) -> int:
        self.be_brief()
        return await _served_async(self)

    async def close(self) -> None:
        await self.door.close()


class _PlainCounts:
    stuck = False
    engine: Engine | AsyncEngine

    def held(self) -> int:
        return 0  # nobody keeps count

    def out(self) -> int:
        return cast("QueuePool", self.engine.pool).checkedout()

    def idle(self) -> int:
        return cast("QueuePool", self.engine.pool).checkedin()

    def be_brief(self) -> None:
        """All waits are over: a connection that does not come soon is lost."""
        cast("QueuePool", self.engine.pool)._timeout = _BRIEF


class Plain(_PlainCounts):
    """`sessionmaker` over `create_engine`, whose pool is SQLAlchemy's `QueuePool`."""

    def __init__(self, url: str) -> None:
        self.engine: Engine = create_engine(url, poolclass=QueuePool, **_ENGINE)
        self._maker = sessionmaker(self.engine)
        self.writers = _writers(url)

    def begin(self) -> AbstractContextManager[Session]:
        return self._maker.begin()

    def within(self, seconds: float) -> AbstractContextManager[Session]:
        return self._maker.begin()  # it cannot say it

    def run(self, work: Callable[[Session], None]) -> None:
        with self._maker.begin() as session:
            work(session)

    def open(self) -> Session:
        return self._maker()

    def served(self) -> int:
        self.be_brief()
        return _served(self)

    def close(self) -> None:
        self.engine.dispose()


class PlainAsync(_PlainCounts):
    """`async_sessionmaker` over `create_async_engine`, whose pool is SQLAlchemy's `AsyncAdaptedQueuePool`."""

    def __init__(self, url: str) -> None:
        self.engine: AsyncEngine = create_async_engine(url, **_ENGINE)
        self._maker = async_sessionmaker(self.engine, expire_on_commit=False)
        self.writers = _writers(url)

    def begin(self) -> AbstractAsyncContextManager[AsyncSession]:
        return self._maker.begin()

    @asynccontextmanager
    async def within(self, seconds: float) -> AsyncIterator[AsyncSession]:
        async with asyncio.timeout(seconds), self._maker.begin() as session:
            yield session

    async def run(self, work: Callable[[AsyncSession], Awaitable[None]]) -> None:
        async with self._maker.begin() as session:
            await work(session)

    def open(self) -> AsyncSession:
        return self._maker()

    async def served(self) -> int:
        self.be_brief()
        return await _served_async(self)

    async def close(self) -> None:
        await self.engine.dispose()


_ENGINE: Final[dict[str, Any]] = {"pool_size": SIZE, "max_overflow": 0, "pool_timeout": _PATIENCE}


def _writers(url: str) -> int:
    return 2 if url.startswith("sqlite") else 2 * SIZE


def _settings(url: str) -> dict[str, Any]:
    return {"databases": {"main": {"url": url, "pool": {"size": SIZE, "checkout_timeout": _PATIENCE}}}}


def _served(side: Side) -> int:
    sessions: list[Session] = []
    with suppress(Exception):  # whatever keeps a session from its connection
        for _ in range(SIZE):
            session = side.open()
            session.execute(WHICH.limit(1)).all()
            sessions.append(session)
    for session in sessions:
        session.close()
    return len(sessions)


async def _served_async(side: AsyncSide) -> int:
    sessions: list[AsyncSession] = []
    with suppress(Exception):
        for _ in range(SIZE):
            session = side.open()
            (await session.execute(WHICH.limit(1))).all()
            sessions.append(session)
    for session in sessions:
        with suppress(Exception):
            await session.close()
    return len(sessions)
