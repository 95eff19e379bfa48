"""Wrong uses of `Sessions` that the type checkers refuse, each with the errors that they must find.

`# error: mypy[code] pyright[rule]` stands on the line of a wrong use. A line without it must have no error.
"""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from polysession import Sessions

sessions = Sessions("sqlite://")
Sessions(create_async_engine("sqlite+aiosqlite://"))  # error: mypy[arg-type] pyright[reportArgumentType]
Sessions("sqlite://", in_event_loop="perhaps")  # error: mypy[arg-type] pyright[reportArgumentType]


def units() -> None:
    """Words, numbers and kinds of `with`."""
    sessions.begin(databases=["orders"])  # error: mypy[call-arg] pyright[reportCallIssue]
    sessions.begin(isolation=3)  # error: mypy[arg-type] pyright[reportArgumentType]
    sessions.begin(deadline="1 s")  # error: mypy[arg-type] pyright[reportArgumentType]
    sessions.begin(snapshot=True)  # error: mypy[call-arg] pyright[reportCallIssue]
    sessions.read(role="backup")  # error: mypy[arg-type] pyright[reportArgumentType]
    sessions.read(atomic=False)  # error: mypy[call-arg] pyright[reportCallIssue]
    with sessions.begin() as session:
        session.ad(1)  # error: mypy[attr-defined] pyright[reportAttributeAccessIssue]


async def doors() -> None:
    """The synchronous door is no asynchronous one."""
    async with sessions.begin():  # error: mypy[attr-defined*2] pyright[reportGeneralTypeIssues*2]
        pass
    async with sessions:  # error: mypy[attr-defined*2] pyright[reportGeneralTypeIssues*2]
        pass


@sessions.unit()
def place(session: Session, text: str, number: int = 1) -> int:
    """A unit."""
    return number


def no_session() -> int:
    """Nobody could give it the session."""
    return 1


def works() -> None:
    """Parameters and results are known."""
    place()  # error: mypy[call-arg] pyright[reportCallIssue]
    place(1)  # error: mypy[arg-type] pyright[reportArgumentType]
    place("a", count=1)  # error: mypy[call-arg] pyright[reportCallIssue]
    with sessions.begin() as session:
        place(session, "a")  # error: mypy[arg-type*2] pyright[reportArgumentType*2]
    text: str = place("a")  # error: mypy[assignment] pyright[reportAssignmentType]
    sessions.unit()(no_session)  # error: mypy[arg-type] pyright[reportArgumentType]
    sessions.run(no_session)  # error: mypy[arg-type] pyright[reportArgumentType]
    sessions.run(print, retry="often")  # error: mypy[arg-type] pyright[reportArgumentType]
    sessions.run(text)  # error: mypy[arg-type] pyright[reportArgumentType]
    sessions.gather(no_session)  # error: mypy[arg-type] pyright[reportArgumentType]
    for attempt in sessions.attempts():
        attempt.add(1)  # error: mypy[attr-defined] pyright[reportAttributeAccessIssue]


def free() -> None:
    """Only session classes make sessions."""
    sessions.open(class_=int)  # error: mypy[type-var] pyright[reportArgumentType,reportCallIssue]
    sessions.sessionmaker(class_=AsyncSession)  # error: mypy[type-var] pyright[reportArgumentType,reportCallIssue]


def sent(order: int, text: str = "") -> None:
    """A hook."""


def hooks() -> None:
    """A hook gets what it can take."""
    sessions.on_commit(sent)  # error: mypy[arg-type] pyright[reportArgumentType]
    sessions.on_commit(sent, "a")  # error: mypy[arg-type] pyright[reportArgumentType]
    sessions.on_commit(sent(1))  # error: mypy[func-returns-value,arg-type] pyright[reportArgumentType]
    sessions.on_rollback(sent, 1, "a", 2)  # error: mypy[arg-type] pyright[reportArgumentType]
    sessions.on_commit(sent, 1, outside="ignore")  # error: mypy[arg-type] pyright[reportArgumentType]
