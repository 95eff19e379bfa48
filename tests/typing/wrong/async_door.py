"""Wrong uses of `AsyncSessions` that the type checkers refuse, each with the errors that they must find.

`# error: mypy[code] pyright[rule]` stands on the line of a wrong use. A line without it must have no error.
"""

from __future__ import annotations

import asyncio

from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from polysession import AsyncSessions

sessions = AsyncSessions("sqlite://")
AsyncSessions(create_engine("sqlite://"))  # error: mypy[arg-type] pyright[reportArgumentType]
AsyncSessions("sqlite://", in_event_loop="allow")  # error: mypy[call-arg] pyright[reportCallIssue]


async def doors() -> None:
    """The asynchronous door is no synchronous one."""
    with sessions.begin():  # error: mypy[attr-defined*2] pyright[reportGeneralTypeIssues*2]
        pass
    with sessions:  # error: mypy[attr-defined*2] pyright[reportGeneralTypeIssues*2]
        pass
    sessions.close()  # error: mypy[unused-coroutine] pyright[reportUnusedCoroutine]
    async for attempt in sessions.attempts():  # error: mypy[attr-defined] pyright[reportGeneralTypeIssues]
        del attempt


async def units() -> None:
    """What has to be awaited is not there before."""
    async with sessions.begin() as session:
        session.get(Session, 1)  # error: mypy[unused-coroutine] pyright[reportUnusedCoroutine]
        session.scalars("select 1")  # error: mypy[call-overload] pyright[reportCallIssue,reportArgumentType]


@sessions.unit()
async def place(session: AsyncSession, text: str, number: int = 1) -> int:
    """A unit."""
    return number


def waits_for_nothing(session: AsyncSession) -> int:
    """An ordinary function."""
    return 1


async def of_the_other_door(session: Session) -> int:
    """It wants another session than it would get."""
    return 1


async def works() -> None:
    """Parameters and results are known; a unit here is a coroutine function."""
    place("a")  # error: mypy[unused-coroutine] pyright[reportUnusedCoroutine]
    await place()  # error: mypy[call-arg] pyright[reportCallIssue]
    await place(1)  # error: mypy[arg-type] pyright[reportArgumentType]
    text: str = await place("a")  # error: mypy[assignment] pyright[reportAssignmentType]
    number: int = place("a")  # error: mypy[assignment] pyright[reportAssignmentType]
    sessions.unit()(waits_for_nothing)  # error: mypy[arg-type] pyright[reportArgumentType]
    sessions.unit()(of_the_other_door)  # error: mypy[arg-type] pyright[reportArgumentType]
    await sessions.run(waits_for_nothing)  # error: mypy[arg-type] pyright[reportArgumentType]
    await sessions.run(place("a"))  # error: mypy[arg-type] pyright[reportArgumentType]
    await sessions.gather(waits_for_nothing)  # error: mypy[arg-type] pyright[reportArgumentType]
    await asyncio.create_task(place)  # error: mypy[arg-type] pyright[reportArgumentType]
    del text, number


def free() -> None:
    """Only session classes make sessions."""
    sessions.open(class_=Session)  # error: mypy[type-var] pyright[reportArgumentType,reportCallIssue]
    sessions.sessionmaker(class_=Session)  # error: mypy[type-var] pyright[reportArgumentType,reportCallIssue]


async def sent(order: int, text: str = "") -> None:
    """A hook."""


def hooks() -> None:
    """A hook gets what it can take, and is not called where it is registered."""
    sessions.on_commit(sent)  # error: mypy[arg-type] pyright[reportArgumentType]
    sessions.on_commit(sent, "a")  # error: mypy[arg-type] pyright[reportArgumentType]
    sessions.on_commit(sent(1))  # error: mypy[arg-type] pyright[reportArgumentType]
