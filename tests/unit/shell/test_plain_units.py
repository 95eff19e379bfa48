"""Units that ask for nothing: opened and ended in one go, they are what they would be step by step."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from polysession import AsyncSessions, Sessions
from polysession.errors import SessionEnded

from .driver import EVENTS, interrupt_at

ONE = text("select 1")
OWN = {"id", "opened_at", "origin", "ended_at", "name", "scope", "session", "sync", "_seen", "watched"}
"""What differs from one unit to the next."""
WAY = (
    "sessions.py", "_shell/door.py", "_shell/holding.py", "_core/scope.py", "observe/live.py", "_shell/guard.py",
    "_shell/finish.py", "_shell/engines.py",
)  # fmt: skip


class Base(DeclarativeBase):
    """Of the tests."""


class Thing(Base):
    """A row."""

    __tablename__ = "plain_things"

    id: Mapped[int] = mapped_column(primary_key=True)


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Sessions]:
    """Over a database with a table; each verb was used already."""
    with Sessions(f"sqlite:///{tmp_path / 'plain.db'}") as door:
        with door.begin() as session:
            Base.metadata.create_all(session.connection())
        for verb in (door.begin, door.read):
            with verb() as session:
                session.execute(ONE)
        yield door


def parts(struct: Any) -> dict[str, Any]:
    """Its attributes, but for those that differ from one unit to the next."""
    return {name: getattr(struct, name, "gone") for name in struct.__struct_fields__ if name not in OWN}


def enter(unit: Any) -> Any:
    """Open it in another function than the one that made it: it goes step by step."""
    return unit.__enter__()


def spied(door: Sessions, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The units that are opened step by step from here on."""
    found: list[str] = []
    scope = door._scope

    def stepwise(options: Any, name: Any, *args: Any) -> Any:
        found.append("stepwise")
        return scope(options, name, *args)

    monkeypatch.setattr(door, "_scope", stepwise)
    return found


@pytest.mark.parametrize("verb", ["begin", "read"])
def test_it_is_what_it_would_be_step_by_step(door: Sessions, monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    """Every attribute of the unit and of what holds its session, while it is open and after its end; used or not."""
    getattr(door, verb)()  # the first one that a function asks for is not plain
    stepwise = spied(door, monkeypatch)
    for used in (False, True):
        plain, steps = getattr(door, verb)(), getattr(door, verb)()
        found: list[list[Any]] = []
        with plain as session:
            assert stepwise == []
            scope, holding = plain._scope, plain._scope.holding
            if used:
                session.execute(ONE)
            found.append([parts(scope) | {"holding": None}, parts(holding) | {"leases": None}, parts(holding.seen)])
        found.append([parts(scope) | {"holding": None}, parts(holding) | {"leases": None}])
        session = enter(steps)
        assert stepwise == ["stepwise"]
        stepwise.clear()
        scope, holding = steps._scope, steps._scope.holding
        if used:
            session.execute(ONE)
        own = [parts(scope) | {"holding": None}, parts(holding) | {"leases": None}, parts(holding.seen)]
        steps.__exit__(None, None, None)
        ended = [parts(scope) | {"holding": None}, parts(holding) | {"leases": None}]
        for mine, other in zip([*found[0], *found[1]], [*own, *ended], strict=True):
            alike = {"began", "ended", "in_database", "timed", "holding", "direct", "direct_reads", "connections"}
            assert {k: v for k, v in mine.items() if k not in alike} == {
                k: v for k, v in other.items() if k not in alike
            }


def test_what_is_not_plain_goes_step_by_step(door: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside of another unit; in a generator, which may be suspended; entered by a function for its caller."""
    door.begin()  # the first one that a function asks for is not plain
    stepwise = spied(door, monkeypatch)
    with door.begin() as outer:
        assert stepwise == []
        with door.begin() as inner:
            assert inner is outer
    assert stepwise == ["stepwise"]

    def generate() -> Generator[Any, None, None]:
        with door.read() as session:
            yield session

    generator = generate()
    session = next(generator)
    with door.read() as beside:
        assert beside is not session
    generator.close()
    with contextlib.ExitStack() as stack:
        stack.enter_context(door.read())
        assert len(door.held()) == 1
    assert len(stepwise) == 4
    assert door.held() == ()


def test_it_is_held_until_its_end(door: Sessions) -> None:
    """Who has it, where and since when, though nothing was done in it; and its session is ended with it."""
    with door.read() as session:
        (row,) = door.held()
        assert (row.name, row.state, row.statements) == ("test_it_is_held_until_its_end", "no connection", 0)
        assert row.place.endswith("in test_it_is_held_until_its_end")
        assert row.owner.thread_name == "MainThread"
        assert door.current() is session
    assert door.held() == ()
    with pytest.raises(SessionEnded, match=r"opened at .*test_plain_units.*ended \(committed\) at .*test_plain_units"):
        session.execute(ONE)


@pytest.mark.parametrize("use", [lambda session: session.get_bind(), lambda session: session.begin_nested()])
def test_a_session_that_was_used_is_not_plain(door: Sessions, use: Callable[[Any], object]) -> None:
    """What has asked for a bind, or begun something, ends as before."""
    with door.begin() as session:
        kept = use(session)
        if kept is not None and hasattr(kept, "commit"):
            kept.commit()
    assert door.held() == ()
    with door.begin() as session:
        session.add(Thing(id=1))
    with door.read() as session:
        assert session.scalars(select(Thing.id)).all() == [1]


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("verb", ["begin", "read"])
def test_an_interrupt_leaves_nothing(door: Sessions, verb: str, event: str) -> None:
    """Wherever it comes: no row, no unit that is open here, and every one that was opened has ended."""

    def work() -> None:
        with getattr(door, verb)():
            pass

    number = 1
    while interrupt_at(number, WAY, work, event=event):
        assert door.held() == (), number
        assert [scope for scope in door._current.get() if scope.is_open] == [], number
        counts = door.counts()
        assert counts.opened == counts.committed + counts.rolled_back + counts.dropped, (number, counts)
        with door.read() as session:
            assert session.scalar(ONE) == 1
        number += 1
    assert number > 50


def test_units_of_tasks(tmp_path: Path) -> None:
    """The same for asyncio: opened in one go, held, and owned by the task."""

    async def work() -> None:
        async with AsyncSessions(f"sqlite+aiosqlite:///{tmp_path / 'plain.db'}") as door:
            for number in range(3):
                async with door.read() as session:
                    (row,) = door.held()
                    assert row.name == "test_units_of_tasks.<locals>.work"
                    assert row.owner.task_name == "the task"
                    assert door.current() is session
                    if number == 2:
                        assert (await session.execute(ONE)).scalar() == 1
                assert door.held() == ()
            assert door.counts().committed == 3

    async def main() -> None:
        task = asyncio.create_task(work(), name="the task")
        await task

    asyncio.run(main())
