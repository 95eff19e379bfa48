"""Engines that are alike share a dialect and the cache of compiled statements; those that are not keep their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.sql.compiler import SQLCompiler

from polysession import Sessions
from polysession._shell import alike


class Base(DeclarativeBase):
    """Of the one table."""


class Item(Base):
    """A row."""

    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Sessions]:
    """A door over three databases, each with its table."""
    with Sessions({name: f"sqlite:///{tmp_path / name}.db" for name in ("one", "two", "three")}) as door:
        for name in ("one", "two", "three"):
            with door.begin(name) as session:
                Base.metadata.create_all(session.connection())
                session.add(Item(id=1, name=name))
        yield door


def engine_of(session: Session) -> Any:
    """The engine below a session."""
    return session.connection().engine


def test_they_are_equal(door: Sessions) -> None:
    """Engines of one kind of use have equal dialects and one cache; those for reads have another one."""
    with door.begin("one") as one, door.begin("two") as two, door.read("three") as three:
        first, second, reading = engine_of(one), engine_of(two), engine_of(three)
    assert first.dialect is not second.dialect
    assert first.dialect == second.dialect
    assert hash(first.dialect) == hash(second.dialect)
    assert first.dialect != reading.dialect
    assert alike.is_shared(first.dialect)
    assert set(vars(first.dialect)) <= {"default_schema_name"}
    caches = [engine.get_execution_options()["compiled_cache"] for engine in (first, second, reading)]
    assert caches[0] is caches[1]
    assert caches[0] is not caches[2]


def test_a_statement_is_compiled_once(door: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was compiled for one database is used for another, and finds the other's rows."""
    compiled = []
    compile_ = SQLCompiler.__init__

    def noted(self: Any, *args: Any, **named: Any) -> None:
        compiled.append(args[1])
        compile_(self, *args, **named)

    monkeypatch.setattr(SQLCompiler, "__init__", noted)
    for kind in ("begin", "read"):
        compiled.clear()
        for name in ("one", "two", "three"):
            with getattr(door, kind)(name) as session:
                found = session.scalars(sa.select(Item).where(Item.name != "nobody")).one()
                assert found.name == name
        assert len(compiled) == 1


def test_a_listener_hears_its_own_engine(door: Sessions) -> None:
    """SQLAlchemy attaches it to the dialect; it hears nothing of a database that is alike."""
    heard: list[str] = []
    with door.begin("one") as session:
        engine = engine_of(session)
    event.listen(engine, "handle_error", lambda context: heard.append(context.engine.url.database))
    for name in ("two", "one"):
        with pytest.raises(sa.exc.OperationalError), door.begin(name) as session:
            session.execute(sa.text("select nothing from nowhere"))
    assert [Path(name).stem for name in heard] == ["one"]


def test_a_listener_of_all_engines_hears_all(door: Sessions) -> None:
    """One for the class of engines was attached to all dialects, and is heard as before."""
    heard: list[str] = []

    def listener(context: Any) -> None:
        heard.append(context.engine.url.database)

    event.listen(sa.Engine, "handle_error", listener)
    try:
        for name in ("two", "one"):
            with pytest.raises(sa.exc.OperationalError), door.begin(name) as session:
                session.execute(sa.text("select nothing from nowhere"))
    finally:
        event.remove(sa.Engine, "handle_error", listener)
    assert [Path(name).stem for name in heard] == ["two", "one"]


def made(**options: Any) -> Any:
    """An engine with its dialect, that is said to have met a server."""
    engine = sa.create_engine("postgresql+psycopg://db/orders", **options)
    dialect: Any = engine.dialect
    dialect.initialize = lambda connection: dialect.__dict__.update(server_version_info=(18, 1))
    alike.share(engine, "test")
    dialect.initialize(sa.engine.mock.create_mock_engine("postgresql://", lambda *_: None))
    return engine


def test_what_differs_is_not_shared() -> None:
    """A setting, a server of another version, a conversion of psycopg: each makes another kind of its own."""
    import psycopg
    from psycopg.types.string import TextLoader

    plain, same = made(), made()
    assert plain.dialect == same.dialect
    assert plain.dialect._psycopg_adapters_map is same.dialect._psycopg_adapters_map
    assert made(insertmanyvalues_page_size=7).dialect not in (plain.dialect, made(label_length=9).dialect)
    kept = psycopg.adapters.get_loader(1700, psycopg.pq.Format.TEXT)
    assert kept is not None
    psycopg.adapters.register_loader(1700, TextLoader)
    try:
        assert made().dialect != plain.dialect
    finally:
        psycopg.adapters.register_loader(1700, kept)
    assert made().dialect == plain.dialect


def test_what_is_not_known_is_not_shared() -> None:
    """An attribute that nobody has thought of, or a listener: the engine keeps its dialect and a cache of its own."""
    engine = sa.create_engine("postgresql+psycopg://db/orders")
    dialect: Any = engine.dialect
    dialect.initialize = lambda connection: dialect.__dict__.update(server_version_info=(18, 1), strange=object())
    alike.share(engine, "test")
    shared = engine.get_execution_options()["compiled_cache"]
    dialect.initialize(sa.engine.mock.create_mock_engine("postgresql://", lambda *_: None))
    assert not alike.is_shared(dialect)
    assert alike.why_alone(dialect) == "its attribute strange is of a kind that is not known here"
    assert engine.get_execution_options()["compiled_cache"] is not shared
    heard = sa.create_engine("postgresql+psycopg://db/orders")
    event.listen(heard, "handle_error", lambda context: None)
    alike.share(heard, "test")
    assert "compiled_cache" not in heard.get_execution_options()
    assert heard.get_execution_options()["polysession"] is True


def test_an_error_is_asked_again() -> None:
    """Whose first connection fails is as it was, and the next one asks."""
    engine = sa.create_engine("postgresql+psycopg://db/orders")
    dialect: Any = engine.dialect
    answers: list[Any] = [ConnectionError(), None]

    def initialize(connection: Any) -> None:
        answer = answers.pop(0)
        if answer is not None:
            raise answer

    dialect.initialize = initialize
    alike.share(engine, "again")
    mock = sa.engine.mock.create_mock_engine("postgresql://", lambda *_: None)
    with pytest.raises(ConnectionError):
        dialect.initialize(mock)
    assert not alike.is_shared(dialect)
    dialect.initialize(mock)
    assert alike.is_shared(dialect)
