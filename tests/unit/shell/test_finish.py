"""The end of a unit: what a plain one leaves out, and who is told all the same."""

from __future__ import annotations

import asyncio
import hashlib
import inspect as inspect_module
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, inspect, select, text
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, SessionTransaction, mapped_column

from polysession import AsyncSessions, Sessions
from polysession._shell import known

READ = "c3381cbaafbb457f"
"""Of the source of what was read in SQLAlchemy."""


class Base(DeclarativeBase):
    """Of the tests' own."""


class Item(Base):
    """Something to be written."""

    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Sessions]:
    """A door with a table."""
    with Sessions(f"sqlite:///{tmp_path / 'finish.db'}") as sessions:
        with sessions.begin() as session:
            Base.metadata.create_all(session.connection())
        yield sessions


def names(door: Sessions) -> list[str]:
    """What has committed."""
    with door.read() as session:
        return [name for (name,) in session.execute(text("select name from item order by id"))]


def commits_of_sqlalchemy(door: Sessions) -> int:
    """How many commits go SQLAlchemy's way in a unit of one new object: its flush is one."""
    found = 0

    def seen(frame: Any, what: str, _: object) -> None:
        nonlocal found
        found += what == "call" and frame.f_code.co_qualname == "SessionTransaction._prepare_impl"

    sys.setprofile(seen)
    try:
        with door.begin() as session:
            session.add(Item(name="added"))
    finally:
        sys.setprofile(None)
    return found


def test_a_plain_unit_commits(door: Sessions) -> None:
    """Its objects are written, it goes the shorter way, and they belong to nobody then."""
    item = Item(name="first")
    with door.begin() as session:
        session.add(item)
    assert names(door) == ["first"]
    assert inspect(item).detached
    assert item.name == "first"
    assert commits_of_sqlalchemy(door) == 1


@pytest.mark.parametrize("name", ["before_commit", "after_commit", "after_transaction_end", "after_flush"])
@pytest.mark.parametrize("on_class", [False, True], ids=["session", "class"])
def test_whoever_listens_is_told(door: Sessions, name: str, on_class: bool) -> None:
    """Once, whether he listens to one session or to all."""
    told: list[str] = []

    def listen(*_: object) -> None:
        told.append(name)

    if on_class:
        event.listen(Session, name, listen)
    try:
        with door.begin() as session:
            if not on_class:
                event.listen(session, name, listen)
            session.add(Item(name="heard"))
    finally:
        if on_class:
            event.remove(Session, name, listen)
    assert name in told
    assert told.count(name) == (2 if name == "after_transaction_end" else 1)  # the flush has one of its own
    assert names(door) == ["heard"]


def test_what_a_listener_adds_before_the_commit_is_written(door: Sessions) -> None:
    """The flush that the commit itself makes is not left out."""

    def add(session: Session) -> None:
        session.add(Item(name="by a listener"))

    with door.begin() as session:
        event.listen(session, "before_commit", add)
        session.add(Item(name="by the unit"))
    assert names(door) == ["by the unit", "by a listener"]


@pytest.mark.parametrize("on_class", [False, True], ids=["session", "class"])
def test_what_a_listener_adds_to_a_unit_that_did_nothing_is_written(door: Sessions, on_class: bool) -> None:
    """As with `sessionmaker().begin()`: such a listener may write down that there was a unit at all."""

    def add(session: Session) -> None:
        session.add(Item(name="by a listener"))

    if on_class:
        event.listen(Session, "before_commit", add)
    try:
        with door.begin() as session:
            if not on_class:
                event.listen(session, "before_commit", add)
        with door.read():
            pass
    finally:
        if on_class:
            event.remove(Session, "before_commit", add)
    assert names(door) == ["by a listener"]


def test_what_a_listener_adds_is_written_below_asyncio(tmp_path: Path) -> None:
    """The same where the server has to be waited for."""

    def add(session: Session) -> None:
        session.add(Item(name="by a listener"))

    async def use() -> list[str]:
        async with AsyncSessions(f"sqlite+aiosqlite:///{tmp_path / 'finish.db'}") as door:
            async with door.begin() as session:
                await session.run_sync(lambda sync: Base.metadata.create_all(sync.connection()))
            async with door.begin() as session:
                event.listen(session.sync_session, "before_commit", add)
            async with door.read() as session:
                return list((await session.scalars(select(Item.name))).all())

    assert asyncio.run(use()) == ["by a listener"]


def test_what_a_hook_of_the_flush_adds_is_written(door: Sessions) -> None:
    """SQLAlchemy flushes until nothing is left."""
    added: list[Item] = []

    def add(session: Session, _: object) -> None:
        if not added:
            added.append(Item(name="by the flush"))
            session.add(added[0])

    with door.begin() as session:
        event.listen(session, "after_flush_postexec", add)
        session.add(Item(name="by the unit"))
    assert names(door) == ["by the unit", "by the flush"]


def test_objects_expire_if_that_is_wanted(door: Sessions) -> None:
    """Whoever sets `expire_on_commit` has his objects expired."""
    item = Item(name="expires")
    with door.begin() as session:
        session.expire_on_commit = True
        session.add(item)
    assert inspect(item).expired_attributes


def test_a_commit_that_fails(door: Sessions) -> None:
    """It is rolled back, and the connection can be used again."""
    with door.begin() as session:
        session.execute(text("create table parent (id integer primary key)"))
        session.execute(text("create table child (id integer references parent deferrable initially deferred)"))
    with pytest.raises(Exception, match="FOREIGN KEY"), door.begin() as session:
        session.execute(text("insert into child values (1)"))
    with door.begin() as session:
        assert session.execute(text("select count(*) from child")).scalar() == 0
    assert door.held() == ()


def test_a_result_that_is_read_after_the_end(door: Sessions) -> None:
    """It loads nothing into a session that has ended, also if that had no objects."""
    with door.begin() as session:
        session.add(Item(name="late"))
    with door.begin() as session:
        late = session.scalars(select(Item))
    with pytest.raises(InvalidRequestError, match="no longer valid"):
        late.all()
    assert list(session) == []


def test_a_session_without_objects(door: Sessions) -> None:
    """`expunge_all` makes its map anew, but not at the end of its unit."""
    with door.begin() as session:
        before = session.identity_map
        session.expunge_all()
        assert session.identity_map is not before
        before = session.identity_map
        pending = Item(name="never")
        session.add(pending)
        session.expunge_all()
        assert pending not in session
        before = session.identity_map
    assert session.identity_map is before
    assert names(door) == []


def test_what_a_session_class_does_itself(door: Sessions) -> None:
    """A method of the application's own class is called, also if there are no objects."""
    called: list[str] = []

    class Own(Session):
        """Counts."""

        def expunge_all(self) -> None:
            """As `Session.expunge_all`."""
            called.append("expunge_all")
            super().expunge_all()

    with door.sessionmaker(class_=Own)():
        pass
    assert called == ["expunge_all"]


def test_half_of_a_unit_does_not_commit(door: Sessions) -> None:
    """What was done on a link that is lost is gone: what came after it, in another transaction, does not commit."""
    with pytest.raises(InvalidRequestError, match="inactive"):
        go_on_after_a_loss(door)
    assert names(door) == []
    assert door.held() == ()


def go_on_after_a_loss(door: Sessions) -> None:
    """A unit whose link is lost, and that begins another transaction."""
    with door.begin() as session:
        connection = session.connection()
        connection.execute(text("insert into item (name) values ('first')"))
        connection.invalidate()
        connection.rollback()
        connection.execute(text("insert into item (name) values ('second')"))


def test_sqlalchemy_is_the_one_that_was_read() -> None:
    """A version that does it in another way has to be read: then `known.VERSIONS` and this number are changed."""
    assert known.IS_KNOWN
    of_transaction = (SessionTransaction._connection_for_bind, SessionTransaction.commit, SessionTransaction.close)
    ways: list[Any] = [Session._is_clean, Session.commit, SessionTransaction._prepare_impl, *of_transaction]
    assert hashlib.sha256("".join(map(inspect_module.getsource, ways)).encode()).hexdigest()[:16] == READ


def test_a_version_that_is_not_known(door: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    """The session commits by its own steps, and what is pending is sent."""
    before = commits_of_sqlalchemy(door)
    monkeypatch.setattr(known, "IS_KNOWN", False)
    assert commits_of_sqlalchemy(door) > before
    assert names(door) == ["added", "added"]
    with door.begin():
        pass
