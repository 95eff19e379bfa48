"""What is opened and registered inside of a unit: behind savepoints, in listeners, over one of its databases."""

from __future__ import annotations

import asyncio
import contextvars
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from polysession import AsyncSessions, Sessions
from polysession._shell.guard import holding_of
from polysession.errors import (
    DeadlineExceeded,
    JoinRefused,
    PartialCommit,
    RequestRefused,
    SessionMisuse,
    UnitRolledBack,
)
from polysession.facts import Outcome

COUNT = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < {}) SELECT max(x) FROM c"
SLOW = sa.text(COUNT.format(50_000_000))
RATHER_SLOW = sa.text(COUNT.format(3_000_000))
"""For where nobody interrupts it: it runs to its end."""


def engines_of(session: Session) -> Any:
    """The engines of a unit, by the names of its databases."""
    holding = holding_of(session)
    assert holding is not None
    return holding.engines


class Base(DeclarativeBase):
    """Of this module."""


class Item(Base):
    """A row."""

    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Sessions]:
    """Over two files."""
    with Sessions({name: f"sqlite:///{tmp_path / name}.db" for name in ("a", "b")}) as made:
        for name in made.names:
            with made.begin(name) as session:
                Base.metadata.create_all(session.connection())
        yield made


def ids(door: Sessions, name: str = "a") -> list[int]:
    """The rows that are there."""
    with door.read(name) as session:
        return list(session.scalars(sa.select(Item.id).order_by(Item.id)))


def test_a_part_has_no_more_time_than_the_part_around_it(door: Sessions) -> None:
    """A deadline is compared with the soonest around it: of a joined unit, of what is around a savepoint, of the unit
    in whose time an independent one was opened."""
    ways: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
        ({}, {"deadline": 0.5}),
        ({"deadline": 0.5}, {"propagation": "nested"}),
        ({"deadline": 0.5}, {"propagation": "requires_new"}),
    )
    for around, between in ways:
        with door.begin("a", **around), door.begin("a", **between):
            with pytest.raises(JoinRefused, match="its deadline differs"), door.begin("a", deadline=60):
                raise AssertionError
            with door.begin("a", deadline=0.1):
                pass
    with door.begin("a", deadline=0.5), door.begin("b", deadline=60):
        with door.begin("b", deadline=30):
            pass
        with pytest.raises(JoinRefused, match="its deadline differs"), door.begin("a", deadline=30):
            raise AssertionError


def test_a_savepoint_whose_time_is_up(door: Sessions) -> None:
    """It is returned to, and what is around it goes on in its own time; the report is about the part's time."""

    def take_too_long() -> None:
        with door.begin("a", name="part", deadline=0.1, propagation="nested") as session:
            session.add(Item(id=1))
            session.flush()
            session.execute(SLOW)

    with door.begin("a", deadline=60) as session:
        session.add(Item(id=2))
        with pytest.raises(DeadlineExceeded, match=r"unit 'part' took longer than its 0\.1 s: 0\.\d+ s"):
            take_too_long()
        session.add(Item(id=3))
    assert ids(door) == [2, 3]


def test_an_engine_of_a_unit_over_several(door: Sessions) -> None:
    """A statement that names one of them in its bind arguments runs in the unit's transaction there: the databases
    commit one after the other, and what has committed is told."""

    def write() -> None:
        with door.begin("a", "b", atomic=False) as session:
            engines = engines_of(session)
            for name, statement in (
                ("b", "insert into item values (1)"),
                ("a", "insert into item values (1)"),
                ("b", "create table part (item integer references item (id) deferrable initially deferred)"),
                ("b", "insert into part values (7)"),
            ):
                session.execute(sa.text(statement), bind_arguments={"bind": engines[name]})

    with pytest.raises(PartialCommit, match="committed on a, not on b"):
        write()
    assert (ids(door, "a"), ids(door, "b")) == ([1], [])


def test_a_savepoint_has_what_the_unit_around_it_has(door: Sessions) -> None:
    """Inside of a nested unit one may ask for what the unit around it was asked for."""
    with (
        door.begin("a", isolation="SERIALIZABLE"),
        door.begin("a", propagation="nested"),
        door.begin("a", isolation="SERIALIZABLE"),
    ):
        pass
    with (
        door.read("a", snapshot=True),
        door.read("a", propagation="nested"),
        door.read("a", snapshot=True),
    ):
        pass

    def work(session: Session) -> str:
        with door.begin("a", propagation="nested"):
            return door.run(lambda inner: "joined" if inner is session else "", "a")

    assert door.run(work, "a") == "joined"


def test_a_savepoint_is_one_over_all_databases(door: Sessions) -> None:
    """What is done over another database of the unit, behind a savepoint over the first, is undone with it, and its
    hooks are told so."""
    seen: list[object] = []

    def fail_behind_a_savepoint() -> None:
        with door.begin("a", propagation="nested"):
            with door.begin("b") as session:
                engine = engines_of(session)["b"]
                session.execute(sa.insert(Item).values(id=1), bind_arguments={"bind": engine})
                door.on_commit(seen.append, "committed", database="b")
                door.on_outcome(seen.append, database="b")
            raise KeyError

    with door.begin("a", "b", atomic=False), pytest.raises(KeyError):
        fail_behind_a_savepoint()
    assert seen == [Outcome.ROLLED_BACK]
    assert ids(door, "b") == []


def test_who_takes_a_unit_over_has_its_savepoint_too(door: Sessions) -> None:
    """What is opened and registered after it is behind the savepoint that was open."""
    seen: list[str] = []
    unit, part = door.begin("a"), door.begin("a", propagation="nested")
    session = unit.__enter__()
    session.execute(sa.select(Item)).all()
    part.__enter__()

    def go_on() -> None:
        door.take_over(session)
        with door.begin("a") as joined:
            joined.add(Item(id=1))
            door.on_commit(seen.append, "committed", database="a")
            door.on_rollback(seen.append, "rolled back", database="a")
        part.__exit__(KeyError, KeyError(), None)
        unit.__exit__(None, None, None)

    run = contextvars.copy_context().run
    thread = threading.Thread(target=lambda: run(go_on))
    thread.start()
    thread.join()
    assert seen == ["rolled back"]
    assert ids(door) == []


def test_hooks_behind_a_savepoint_of_the_session(door: Sessions) -> None:
    """begin_nested() that is undone takes the hooks with it that were registered behind it, also behind savepoints in
    it that were released; one that is released keeps them."""
    seen: list[str] = []

    def fail(session: Session) -> None:
        with session.begin_nested():
            door.on_commit(seen.append, "third", database="a")
            session.execute(sa.insert(Item), [{"id": 1}, {"id": 1}])

    def fail_to_flush(session: Session) -> None:
        with session.begin_nested():
            door.on_commit(seen.append, "fourth", database="a")
            session.add_all([Item(id=1), Item(id=1)])
            session.flush()

    with door.begin("a") as session:
        savepoint = session.begin_nested()
        door.on_commit(seen.append, "first", database="a")
        with session.begin_nested():
            door.on_commit(seen.append, "inside the first", database="a")
        with door.begin("a", propagation="nested"):
            door.on_commit(seen.append, "a unit in the first", database="a")
        savepoint.rollback()
        with session.begin_nested():
            door.on_commit(seen.append, "second", database="a")
        with pytest.raises(sa.exc.IntegrityError):
            fail(session)
        with pytest.raises(sa.exc.IntegrityError):
            fail_to_flush(session)
        door.on_commit(seen.append, "last", database="a")
    assert seen == ["second", "last"]


def test_a_unit_is_open_for_the_listeners_of_its_last_flush(door: Sessions) -> None:
    """What they open joins it, and what they register is called after its commit, as in any other flush."""
    seen: list[object] = []
    for explicitly in (True, False):
        with door.begin("a") as session:

            @event.listens_for(session, "before_flush")
            def flushing(flushed: Session, *_: Any) -> None:
                with door.begin("a") as inner:
                    seen.append(inner is flushed is door.current("a"))
                door.on_commit(seen.append, "committed", database="a")

            session.add(Item(id=1 + explicitly))
            if explicitly:
                session.flush()
    assert seen == [True, "committed"] * 2
    assert ids(door) == [1, 2]


def test_the_listeners_of_the_last_flush_in_asyncio(tmp_path: Path) -> None:
    """As in a thread."""
    asyncio.run(flush_in_asyncio(tmp_path))


async def flush_in_asyncio(tmp_path: Path) -> None:
    """The body of the test."""
    seen: list[object] = []
    async with AsyncSessions(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}") as door:
        async with door.begin() as session:
            await (await session.connection()).run_sync(Base.metadata.create_all)
        async with door.begin() as session:

            @event.listens_for(session.sync_session, "before_flush")
            def flushing(flushed: Session, *_: Any) -> None:
                seen.append(door.current().sync_session is flushed)
                door.on_commit(asyncio.sleep, 0)
                door.on_commit(seen.append, "committed")

            session.add(Item(id=1))
    assert seen == [True, "committed"]


def test_a_part_that_fails_in_the_last_flush_dooms_the_unit(door: Sessions) -> None:
    """Also of a savepoint; and one that is left open there is a misuse, as ever."""

    def fail(*_: Any) -> None:
        with pytest.raises(KeyError), door.begin("a"):
            raise KeyError

    left: list[Any] = []

    def leave_open(*_: Any) -> None:
        left.append(door.begin("a"))
        left[-1].__enter__()

    def write(listener: Any, *, nested: bool = False) -> None:
        with door.begin("a") as session:
            with door.begin("a", propagation="nested" if nested else "required"):
                event.listen(session, "before_flush", listener)
                session.add(Item(id=1))
            if nested:
                event.remove(session, "before_flush", listener)

    with pytest.raises(UnitRolledBack, match="a unit inside it failed"):
        write(fail)
    with pytest.raises(UnitRolledBack, match="a unit inside it failed"):
        write(fail, nested=True)
    with pytest.raises(SessionMisuse, match="a unit inside of it is still open"):
        write(leave_open)
    left[-1].__exit__(KeyError, KeyError(), None)
    assert ids(door) == []


def test_a_unit_of_its_own_in_the_last_flush_has_the_deadline_around_it(door: Sessions) -> None:
    """What is opened in a flush is done in the time of the unit."""

    def reads(*_: Any) -> None:
        with door.read("b") as session:
            session.execute(SLOW)

    def write() -> None:
        with door.begin("a", deadline=0.3) as session:
            event.listen(session, "before_flush", reads)
            session.add(Item(id=1))

    with pytest.raises(DeadlineExceeded):
        write()
    assert ids(door) == []


def test_a_hook_that_answers_a_coroutine_at_the_synchronous_door(door: Sessions) -> None:
    """Nobody awaits it there, nor where it is called outside of a unit: it is an error, not a warning."""

    async def waits() -> None:
        raise AssertionError

    def forgets() -> object:
        return waits()

    with pytest.raises(RequestRefused, match="returned a coroutine"), door.begin("a"):
        door.on_commit(forgets, database="a")
    with pytest.raises(RequestRefused, match="returned a coroutine"):
        door.on_commit(forgets, outside="run")


def test_gathered_works_may_return_errors(door: Sessions) -> None:
    """An error that was returned is a result; one that was raised is none."""
    found = ValueError("found")
    assert door.gather(lambda _: found, database="a") == [found]


async def swallow(url: str, *, goes_on: bool) -> None:
    """Time out in the middle of a statement, and go on."""
    async with AsyncSessions(url) as door, door.begin(name="hasty") as session:
        await session.execute(sa.text("select 1"))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await session.execute(RATHER_SLOW)
        if goes_on:
            await session.execute(sa.text("select 1"))


@pytest.mark.parametrize("goes_on", [False, True])
def test_a_unit_whose_connection_a_timeout_has_closed(tmp_path: Path, *, goes_on: bool) -> None:
    """SQLAlchemy's error says to call rollback(), which a unit refuses: a note says what happened, where, and what to
    do."""
    with pytest.raises(sa.exc.PendingRollbackError) as caught:
        asyncio.run(swallow(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}", goes_on=goes_on))
    (note,) = caught.value.__notes__
    assert re.search(r"unit 'hasty', opened at .*test_inside.py:\d+ in swallow, cannot go on", note)
    assert re.search(r"CancelledError at .*test_inside.py:\d+ in swallow has closed its connection", note)


def test_a_unit_in_which_a_flush_has_failed(door: Sessions) -> None:
    """The same."""

    def swallow() -> None:
        with door.begin("a") as session:
            session.add_all([Item(id=1), Item(id=1)])
            with pytest.raises(sa.exc.IntegrityError):
                session.flush()

    with pytest.raises(sa.exc.PendingRollbackError) as caught:
        swallow()
    assert "a flush has failed and its error was swallowed" in caught.value.__notes__[0]
