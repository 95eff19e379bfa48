"""Statements that go the shorter way: what is sent and what comes back is what SQLAlchemy sends and gives back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, delete, event, func, insert, select, text, union_all, update
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.sql.selectable import Select

from polysession import Sessions
from polysession.errors import ReadOnlyUnit, SessionEnded


class Base(DeclarativeBase):
    """Of the tests."""


class Thing(Base):
    """A row."""

    __tablename__ = "things"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(default="")


TABLE: Any = Thing.__table__


class Narrow(Select[Any]):
    """A statement of somebody else."""

    inherit_cache = True


WORKS: dict[str, Callable[[Any], Any]] = {
    "text": lambda session: session.execute(text("select id, name from things order by id")).all(),
    "text with a value": lambda session: session.execute(
        text("select name from things where id = :id"), {"id": 2}
    ).all(),
    "text for many": lambda session: (
        session.execute(
            text("insert into things values (:id, :name)"), [{"id": 8, "name": "h"}, {"id": 9, "name": "i"}]
        ).rowcount
    ),
    "scalar of text": lambda session: session.scalar(text("select max(id) from things")),
    "scalar of nothing": lambda session: session.scalar(text("select id from things where id = 77")),
    "a table": lambda session: session.execute(select(TABLE).order_by(TABLE.c.id)).all(),
    "scalars of a table": lambda session: session.scalars(select(TABLE.c.name).order_by(TABLE.c.id)).all(),
    "objects": lambda session: [thing.name for thing in session.scalars(select(Thing).order_by(Thing.id))],
    "an object twice": lambda session: session.scalars(select(Thing)).first() is session.get(Thing, 1),
    "scalar of a class": lambda session: session.scalar(select(func.count(Thing.id))),
    "columns of a class": lambda session: session.execute(select(Thing.id, Thing.name).order_by(Thing.id)).all(),
    "with options": lambda session: [
        thing.id
        for thing in session.scalars(select(Thing).order_by(Thing.id), execution_options={"populate_existing": True})
    ],
    "in parts": lambda session: [
        len(part) for part in session.scalars(select(Thing), execution_options={"yield_per": 2}).partitions()
    ],
    "insert": lambda session: session.execute(insert(TABLE).values(id=7, name="g")).inserted_primary_key,
    "insert of a class": lambda session: session.scalars(
        insert(Thing).returning(Thing.name), [{"id": 7, "name": "g"}, {"id": 8, "name": "h"}]
    ).all(),
    "update": lambda session: session.execute(update(TABLE).values(name="z").where(TABLE.c.id > 1)).rowcount,
    "update of a class": lambda session: (
        session.execute(
            update(Thing).values(name="z").where(Thing.id > 1).execution_options(synchronize_session="fetch")
        ).rowcount
    ),
    "update by keys": lambda session: session.execute(update(Thing), [{"id": 1, "name": "y"}]).__class__.__name__,
    "delete": lambda session: session.execute(delete(Thing).where(Thing.id == 1)).rowcount,
    "of several": lambda session: session.execute(
        union_all(select(TABLE.c.id), select(TABLE.c.id)).order_by("id")
    ).all(),
    "a subclass": lambda session: session.execute(Narrow(TABLE.c.id).order_by(TABLE.c.id)).all(),
    "a function": lambda session: session.execute(func.abs(-1)).scalar(),
    "flushed before text": lambda session: (
        session.add(Thing(id=5, name="e")),
        session.scalar(text("select count(*) from things")),
    )[1],
    "flushed before a class": lambda session: (session.add(Thing(id=5)), session.scalar(select(func.count(Thing.id))))[
        1
    ],
}


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Of a database with three rows."""
    address = f"sqlite:///{tmp_path / 'executing.db'}"
    engine = create_engine(address)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(TABLE), [{"id": number, "name": name} for number, name in enumerate("abc", 1)])
    engine.dispose()
    return address


@pytest.fixture
def door(url: str) -> Iterator[Sessions]:
    """A door to it."""
    with Sessions(url) as sessions:
        yield sessions


def told(session: Session, work: Callable[[Session], Any]) -> tuple[Any, list[tuple[str, Any]]]:
    """What it answers as the second thing that a session does, and what was sent for it."""
    sent: list[tuple[str, Any]] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, *rest: Any) -> None:
        sent.append((statement, parameters))

    session.execute(text("select 1"))
    engine = session.connection().engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        return work(session), sent
    finally:
        event.remove(engine, "before_cursor_execute", note)


@pytest.mark.parametrize("what", WORKS)
def test_it_is_as_with_a_session_of_sqlalchemy(what: str, url: str, door: Sessions) -> None:
    """The same statements with the same values, the same answer, and the same rows afterwards."""
    engine = create_engine(url)
    with Session(engine) as session:
        wanted = told(session, WORKS[what])
        rows = session.execute(text("select * from things order by id")).all()
    engine.dispose()
    with door.begin() as session:
        assert told(session, WORKS[what]) == wanted
        assert session.execute(text("select * from things order by id")).all() == rows


def test_listeners_are_told(door: Sessions) -> None:
    """Of every statement, and what they change counts."""
    heard: list[Any] = []
    with door.begin() as session:
        session.execute(text("select 1"))

        def hear(state: Any) -> None:
            heard.append(state.statement)
            state.update_execution_options(heard_of=True)

        event.listen(session, "do_orm_execute", hear)
        statements: list[Any] = [text("select 1"), select(TABLE), select(Thing)]
        results: list[Any] = [session.execute(statement) for statement in statements]
    assert heard == statements
    assert results[0].context.execution_options["heard_of"] is True


def test_options_of_the_session_count(door: Sessions) -> None:
    """Of all its statements."""
    with door.open(execution_options={"mine": 1}) as session:
        for _ in range(2):
            result: Any = session.execute(text("select 1").execution_options(other=2))
            options = result.context.execution_options
            assert (options["mine"], options["other"]) == (1, 2)


@pytest.mark.parametrize("wrong", ["select 1", 1, None, Thing])
def test_what_is_no_statement_is_refused(wrong: Any, door: Sessions) -> None:
    """By SQLAlchemy's error, before it is sent."""
    with door.begin() as session, pytest.raises(ArgumentError, match=r"(?i)executable|textual SQL"):
        session.execute(wrong)


@pytest.mark.parametrize("statement", [insert(TABLE), update(Thing), delete(TABLE)], ids=["insert", "update", "delete"])
def test_a_read_unit_that_has_its_connection_refuses(statement: Any, door: Sessions) -> None:
    """What changes something, by what it is."""
    with door.read() as session:
        session.execute(text("select 1"))
        with pytest.raises(ReadOnlyUnit, match="cannot write"):
            session.execute(statement)


def test_a_session_that_ended_refuses(door: Sessions) -> None:
    """Also where it has executed before."""
    with door.begin() as session:
        session.execute(text("select 1"))
    for statement in (text("select 1"), select(Thing)):
        with pytest.raises(SessionEnded):
            session.execute(statement)
