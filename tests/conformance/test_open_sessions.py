"""Sessions that their owner ends"""

from __future__ import annotations

import asyncio
import gc
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, SAWarning
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, sessionmaker
from sqlmodel import Session as ModelSession
from sqlmodel.ext.asyncio.session import AsyncSession as AsyncModelSession

from polysession import AsyncSessions, Sessions
from polysession._shell import guard
from polysession.errors import RequestRefused, SessionEnded
from polysession.facts import HoldKind

from .cells import Cell, line
from .doors import real
from .schema import Item


async def test_two_sessions_are_independent(door: AsyncSessions, cell: Cell) -> None:
    """Of two sessions from open(), each sees the other's work after its commit and not before."""
    one, two = door.open(), door.open()
    one.add(Item(id=1, name="one"))
    await one.flush()
    assert await two.scalar(sa.select(sa.func.count(Item.id))) == 0
    await two.commit()
    await one.commit()
    assert await two.scalar(sa.select(sa.func.count(Item.id))) == 1
    two.add(Item(id=2, name="two"))
    await two.flush()
    await two.rollback()
    assert await one.scalar(sa.select(sa.func.count(Item.id))) == 1
    await one.close()
    await two.close()
    assert cell.witness.items() == [1]


async def test_close_is_final(door: AsyncSessions, cell: Cell) -> None:
    """close() ends a session for good: later use raises SessionEnded, a second close() does nothing."""
    opened = line() + 1
    session = door.open()
    session.add(Item(id=1, name="one"))
    await session.flush()
    await session.close()
    await session.close()
    assert cell.witness.items() == []
    for use in (
        lambda: session.execute(sa.text("select 1")),
        session.commit,
        lambda: session.get(Item, 1),
        lambda: session.run_sync(lambda sync: sync.add(Item(id=2, name="two"))),
    ):
        with pytest.raises(SessionEnded) as caught:
            await use()
        assert f"{__file__}:{opened} in test_close_is_final, and ended (closed) at {__file__}:{opened + 3}" in str(
            caught.value
        )


async def test_a_session_is_held(door: AsyncSessions) -> None:
    """held() has a session from open() until it is closed, by close() or by the end of its own `with` block."""
    opened = line() + 1
    async with door.open() as session:
        (row,) = door.held()
        assert (row.kind, row.name, row.state) == (HoldKind.SESSION, "test_a_session_is_held", "no connection")
        assert row.place.startswith(f"{__file__}:{opened} in ")
        await session.execute(sa.text("select 1"))
        assert door.held()[0].state == "in transaction"
    assert door.held() == ()
    assert door.counts().closed == 1


async def test_begin_on_an_open_session(door: AsyncSessions, cell: Cell) -> None:
    """An independent session keeps SQLAlchemy's own verbs: begin() blocks, commit(), rollback(), and use after them."""
    async with door.open() as session:
        async with session.begin():
            session.add(Item(id=1, name="one"))
        session.add(Item(id=2, name="two"))
        await session.rollback()
        session.add(Item(id=3, name="three"))
        await session.commit()
    assert cell.witness.items() == [1, 3]


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
async def test_dropped_without_close(door: AsyncSessions, cell: Cell, warm: bool) -> None:
    """A session dropped without close() is reported with the line that opened it; its connection is back."""
    opened = line() + 4

    async def forget() -> None:
        """Open a session, use it, drop it."""
        session = door.open()
        if warm:
            session.add(Item(id=1, name="one"))
            await session.flush()

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        await forget()
        gc.collect()
    (warning,) = [each for each in seen if each.category is ResourceWarning and "polysession" in str(each.message)]
    assert f"{__file__}:{opened} in " in str(warning.message)
    assert {each.category for each in seen} <= {ResourceWarning, SAWarning}
    assert door.held() == ()
    assert door.counts().dropped == 1
    until = time.monotonic() + 10
    while door._connections_out() and time.monotonic() < until:  # noqa: ASYNC110  # nothing tells when
        await asyncio.sleep(0)
    assert door._connections_out() == 0
    async with door.begin() as session:
        session.add(Item(id=2, name="two"))
    assert door._connections_out() == 0
    assert cell.witness.items() == [2]


async def test_sessionmaker_is_sqlalchemys(door: AsyncSessions, cell: Cell) -> None:
    """sessionmaker() answers an instance of SQLAlchemy's own, whose sessions are of SQLAlchemy's class."""
    maker = door.sessionmaker()
    assert isinstance(real(maker), async_sessionmaker if cell.is_async else sessionmaker)
    async with maker() as session:
        assert isinstance(real(session), AsyncSession if cell.is_async else Session)
        session.add(Item(id=1, name="one"))
        await session.commit()
    assert cell.witness.items() == [1]


async def test_sessionmakers_sessions_are_held_and_final(door: AsyncSessions) -> None:
    """A sessionmaker's sessions are in held() with the line that made them, and end for good with close()."""
    maker = door.sessionmaker()
    session = maker()
    assert door.held()[0].place.startswith(f"{__file__}:{line() - 1} in ")
    await session.execute(sa.text("select 1"))
    await session.close()
    await session.close()
    assert door.held() == ()
    with pytest.raises(SessionEnded):
        await session.execute(sa.text("select 1"))


async def test_sessionmaker_begin(door: AsyncSessions, cell: Cell) -> None:
    """sessionmaker().begin() is a block that commits, or rolls back on an exception, and closes its session."""
    maker = door.sessionmaker()
    async with maker.begin() as session:
        session.add(Item(id=1, name="one"))
    with pytest.raises(DBAPIError):
        async with maker.begin() as session:
            session.add(Item(id=2, name="two"))
            await session.flush()
            await session.execute(sa.text("select nothing from nowhere"))
    assert cell.witness.items() == [1]
    assert door.held() == ()


async def test_sessionmaker_options(door: AsyncSessions) -> None:
    """sessionmaker() passes on what SQLAlchemy's takes: options, configure(), and info merged as there."""
    maker = door.sessionmaker(info={"a": 1, "b": 1}, autoflush=False)
    async with maker(info={"b": 2}) as session:
        assert session.info == {"a": 1, "b": 2}
        assert session.sync_session.autoflush is False
    maker.configure(autoflush=True, info={"c": 3})
    async with maker(expire_on_commit=True) as session:
        assert session.info == {"c": 3}  # configure replaces it, as in SQLAlchemy
        assert session.sync_session.autoflush is True
        assert session.sync_session.expire_on_commit is True


async def test_sessionmaker_class(door: AsyncSessions, cell: Cell) -> None:
    """sessionmaker(class_=...) gives sessions of that class: SQLModel's, or one of your own."""
    of_sqlmodel: Any = AsyncModelSession if cell.is_async else ModelSession
    maker = door.sessionmaker(class_=of_sqlmodel)
    async with maker() as session:
        assert isinstance(real(session), of_sqlmodel)
        found = await exec_(session, sa.select(Item))
        assert found.all() == []
    with pytest.raises(SessionEnded):
        await exec_(session, sa.select(Item))

    class Own(of_sqlmodel):  # type: ignore[misc]  # of either door
        """With a method of its own."""

        def greet(self) -> str:
            return "hello"

    async with door.open(class_=Own) as session:
        assert isinstance(real(session), Own)
        assert real(session).greet() == "hello"


async def exec_(session: Any, statement: Any) -> Any:
    """SQLModel's own verb."""
    answer = real(session).exec(statement)
    return await answer if hasattr(answer, "__await__") else answer


async def test_a_sessionmakers_session_may_change_hands(door: AsyncSessions, cell: Cell) -> None:
    """As with SQLAlchemy's, a sessionmaker's session may be handed from thread to thread, or task to task, in turn."""
    session = door.sessionmaker()()
    session.add(Item(id=1, name="one"))
    await cell.elsewhere(session.flush)
    await session.commit()
    await cell.elsewhere(session.close)
    assert cell.witness.items() == [1]


@pytest.mark.parametrize("option", ["bind", "binds", "close_resets_only"])
async def test_an_option_that_cannot_be_honoured(door: AsyncSessions, cell: Cell, option: str) -> None:
    """Where a session would go to another database, or begin anew after its end, it is refused, never ignored."""
    engine = cell.given_engine()
    options: dict[str, Any] = {"bind": engine, "binds": {Item: engine}, "close_resets_only": True}
    given = {option: options[option]}
    maker = door.sessionmaker()
    configured = door.sessionmaker()
    real(configured).configure(**given)
    for use in (
        lambda: door.open(**given),
        lambda: door.sessionmaker(**given),
        lambda: maker(**given),
        configured,
    ):
        with pytest.raises(RequestRefused) as caught:
            use()
        assert option in str(caught.value)
    assert door.held() == ()
    async with door.open(binds={}, bind=None, close_resets_only=False) as session:
        session.add(Item(id=1, name="one"))
        await session.commit()
    assert cell.witness.items() == [1]


async def test_a_bind_that_says_the_same(cell: Cell) -> None:
    """`bind` may say once more which engine was given for the database, as a line that was left in the code does."""
    engine = cell.given_engine()
    door = cell.door(engine)
    for session in (door.open(bind=engine), door.sessionmaker(bind=engine)()):
        assert await session.scalar(sa.select(sa.func.count(Item.id))) == 0
        await session.close()


def test_an_interrupt_when_its_objects_are_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt at the beginning of close() leaves nothing held, and no connection out."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(guard, "mark_objects", interrupted)
    with Sessions(f"sqlite:///{tmp_path}/x.db") as door:
        session = door.open()
        session.execute(sa.text("select 1"))
        with pytest.raises(KeyboardInterrupt):
            session.close()
        assert not door.held()
        assert door._connections_out() == 0
