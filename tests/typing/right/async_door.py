"""What `AsyncSessions` gives: only type-checked, never run. Everything a user gets has the type asserted here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, assert_type

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlmodel.ext.asyncio.session import AsyncSession as SqlmodelSession

from polysession import AsyncSessions, Outcome
from polysession.sessions_async import AsyncUnit

sessions = AsyncSessions("sqlite+aiosqlite://")


class Base(DeclarativeBase):
    """The base of the example."""


class Order(Base):
    """A mapped class, as the application has them."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


class OwnSession(AsyncSession):
    """A session class of the application."""

    async def orders(self) -> list[Order]:
        """All orders."""
        return list(await self.scalars(select(Order)))


async def doors(engine: AsyncEngine) -> None:
    """A door is made from a URL, an engine, a mapping of either, nothing, or a configuration."""
    assert_type(AsyncSessions(), AsyncSessions)
    assert_type(AsyncSessions(engine), AsyncSessions)
    assert_type(AsyncSessions({"orders": "sqlite://", "billing": engine}), AsyncSessions)
    assert_type(AsyncSessions.from_toml("polysession.toml"), AsyncSessions)
    assert_type(AsyncSessions.from_mapping({"databases": {"orders": "sqlite://"}}), AsyncSessions)
    async with AsyncSessions(create_async_engine("sqlite+aiosqlite://")) as door:
        assert_type(door, AsyncSessions)
    assert_type(await door.close(), None)


async def units() -> int:
    """A unit gives an `AsyncSession`; no exception is swallowed, so a block that returns is enough for the checkers."""
    async with sessions.begin() as session:
        assert_type(session, AsyncSession)
    async with sessions.read("orders", snapshot=True, role="replica") as session:
        assert_type(session, AsyncSession)
        assert_type(await session.get(Order, 1), Order | None)
    assert_type(sessions.begin("a", "b", atomic=False), AsyncUnit[AsyncSession])
    async with sessions.begin("orders", propagation="nested", isolation="SERIALIZABLE", deadline=2.0):
        assert_type(sessions.current("orders"), AsyncSession)
        return 1


async def loops() -> None:
    """The loop is an ordinary one; each turn is a unit."""
    turns = sessions.attempts("orders", retry=3)
    assert_type(turns, Iterator[AsyncUnit[AsyncSession]])
    for attempt in turns:
        async with attempt as session:
            assert_type(session, AsyncSession)


@sessions.unit("orders", retry=5)
async def place(session: AsyncSession, text: str, *, number: int = 1) -> Order:
    """The session is given by the unit; parameters and result are kept."""
    assert_type(session, AsyncSession)
    return Order(text=text * number)


async def count(session: AsyncSession) -> int:
    """A work."""
    return len((await session.scalars(select(Order))).all())


async def text_of(session: AsyncSession, order: int, *, default: str = "") -> str:
    """A work with parameters."""
    found = await session.get(Order, order)
    return found.text if found else default


def numbers(session: Session) -> list[int]:
    """A work that is an ordinary function."""
    return list(session.scalars(select(Order.id)))


async def works() -> None:
    """What a coroutine function returns is what its caller gets, and what it makes is a coroutine, fit for a task."""
    assert_type(await place("pencil"), Order)
    make: Callable[[str], Coroutine[Any, Any, Order]] = place
    assert_type(await make("pencil"), Order)
    assert_type(asyncio.create_task(place("pencil")), asyncio.Task[Order])
    async with asyncio.TaskGroup() as group:
        assert_type(group.create_task(place("pencil")), asyncio.Task[Order])
    assert_type(await sessions.run(count), int)
    assert_type(await sessions.run_sync(lambda session: session.get(Order, 1), "orders"), Order | None)
    assert_type(await sessions.run_sync(numbers, access="read", deadline=1.0), list[int])
    assert_type(await sessions.run(lambda session: session.get(Order, 1), "orders", retry=1), Order | None)
    later = sessions.task(text_of, "orders")
    assert_type(await later(1, default="none"), str)
    assert_type(asyncio.create_task(later(1)), asyncio.Task[str])


async def many() -> None:
    """What was gathered has one type; with errors in their places, these too."""
    assert_type(await sessions.gather(count, count, limit=2), list[int])
    assert_type(await sessions.gather(count, return_errors=True), list[int | BaseException])
    assert_type(await sessions.gather(count, databases=["orders", "billing"]), list[int])


def free() -> None:
    """Independent sessions, of any class."""
    assert_type(sessions.open(), AsyncSession)
    assert_type(sessions.open("orders", autoflush=False), AsyncSession)
    assert_type(sessions.open(class_=OwnSession), OwnSession)
    sessions.take_over(sessions.open())


async def factories() -> None:
    """A real `async_sessionmaker`, of any class, where one is wanted."""
    assert_type(sessions.sessionmaker(), async_sessionmaker[AsyncSession])
    assert_type(await sessions.sessionmaker(class_=OwnSession)().orders(), list[Order])
    make = sessions.sessionmaker(class_=SqlmodelSession)
    assert_type(make, async_sessionmaker[SqlmodelSession])
    async with make.begin() as session:
        assert_type(session, SqlmodelSession)


async def sent(order: int, text: str = "") -> None:
    """A hook that waits."""


def told(outcome: Outcome, order: int) -> None:
    """A hook for every outcome."""


def hooks() -> None:
    """Hooks get what is given after them; here they may wait."""
    assert_type(sessions.on_commit(sent, 1), None)
    sessions.on_commit(sent, 1, "text", database="orders", robust=True)
    sessions.on_rollback(sent, 1)
    sessions.on_outcome(told, 1)


def either(wanted: Callable[[], AsyncSession]) -> None:
    """A factory of sessions is what a function wants that makes sessions."""
    either(sessions.sessionmaker())
    either(sessions.open)
