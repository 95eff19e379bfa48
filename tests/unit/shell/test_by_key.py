"""Objects by their keys, by the shorter way: what is found, sent and raised is the same as by SQLAlchemy."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import functools
import hashlib
import inspect
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event, orm
from sqlalchemy.engine import Connection, CursorResult
from sqlalchemy.engine import default as engine_default
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, composite, loading, mapped_column, relationship, strategies
from sqlalchemy.orm.context import QueryContext
from sqlalchemy.orm.identity import _WeakInstanceDict
from sqlalchemy.orm.instrumentation import ClassManager
from sqlalchemy.orm.state import InstanceState
from tests.engines.targets import FreshDatabase

from polysession import AsyncSessions, Sessions
from polysession._shell import by_key, known
from polysession.errors import SessionEnded

Fresh = Callable[[str], FreshDatabase]

KNOWN = "798a025a12986e9b"
"""Of the functions of SQLAlchemy that the module takes the place of."""


class Base(DeclarativeBase):
    """Of the tests."""


class Loud(sa.types.TypeDecorator[str]):
    """Converts what is written and what is read; refuses one value."""

    impl = sa.String
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        """Lower case."""
        if value == "refused":
            raise ValueError(value)
        return value if value is None else value.lower()

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        """Upper case."""
        return value if value is None else value.upper()


class Thing(Base):
    """A row with the usual."""

    __tablename__ = "things"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    title: Mapped[str | None] = mapped_column("name", Loud(40))
    price: Mapped[Any] = mapped_column(sa.Numeric(8, 2), nullable=True)
    made: Mapped[Any] = mapped_column(sa.DateTime, nullable=True)
    text: Mapped[str | None] = mapped_column(sa.Text, deferred=True)
    parts: Mapped[list[Part]] = relationship(back_populates="thing")


class Part(Base):
    """A row with a key of two columns."""

    __tablename__ = "parts"
    thing_id: Mapped[int] = mapped_column(sa.ForeignKey("things.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    thing: Mapped[Thing] = relationship(back_populates="parts")


class Named(Base):
    """A row whose key is converted."""

    __tablename__ = "named"
    name: Mapped[str] = mapped_column(Loud(40), primary_key=True)


class Unique(Base):
    """A row with another kind of key."""

    __tablename__ = "uniques"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)


class Eager(Base):
    """Its parts come with it."""

    __tablename__ = "eager"
    id: Mapped[int] = mapped_column(primary_key=True)
    thing_id: Mapped[int] = mapped_column(sa.ForeignKey("things.id"))
    thing: Mapped[Thing] = relationship(lazy="joined")


class Animal(Base):
    """The root of a hierarchy."""

    __tablename__ = "animals"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(sa.String(10))
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}  # noqa: RUF012  # SQLAlchemy's


class Cat(Animal):
    """Below it."""

    __mapper_args__ = {"polymorphic_identity": "cat"}  # noqa: RUF012  # as above


class LooseBase(DeclarativeBase):
    """Of that one."""


class Loose(LooseBase):
    """A row whose key has no constraint, in a table of SQLite that takes an "A" for an "a"."""

    __tablename__ = "loose"
    name: Mapped[str] = mapped_column(sa.String(10), primary_key=True)


class Point:
    """A value of two columns."""

    def __init__(self, x: int, y: int) -> None:
        self.x, self.y = x, y

    def __composite_values__(self) -> tuple[int, int]:
        return self.x, self.y

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Point) and (self.x, self.y) == (other.x, other.y)

    def __hash__(self) -> int:
        return hash((self.x, self.y))


class Place(Base):
    """Has one of these."""

    __tablename__ = "places"
    id: Mapped[int] = mapped_column(primary_key=True)
    x: Mapped[int] = mapped_column()
    y: Mapped[int] = mapped_column()
    point: Mapped[Point] = composite("x", "y")


UUID = uuid.UUID("12345678123456781234567812345678")
PLAIN = [(Thing, 1), (Thing, 2), (Part, (1, 2)), (Named, "ONE"), (Unique, UUID), (Thing, 99), (Part, (1, 99))]
"""Classes and keys that are found by the shorter way."""
OTHERS: list[tuple[type[Any], Any]] = [(Eager, 1), (Animal, 1), (Cat, 1), (Cat, 2), (Animal, 2), (Place, 1)]
"""Those that are not."""


def fill(url: str) -> None:
    """Make the tables and their rows."""
    engine = sa.create_engine(url, hide_parameters=True)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        made = datetime.datetime(2026, 1, 2, 3, 4, 5)
        session.add(Thing(id=1, title="One", price=decimal.Decimal("1.50"), made=made, text="long"))
        session.add(Thing(id=2))
        session.flush()
        session.add_all([Part(thing_id=1, number=1), Part(thing_id=1, number=2), Named(name="one"), Unique(id=UUID)])
        session.add_all([Eager(id=1, thing_id=1), Animal(id=1), Cat(id=2), Place(id=1, x=1, y=2)])
        session.commit()
    engine.dispose()


@pytest.fixture(autouse=True)
def _unheard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what SQLAlchemy leaves on a class for good, when a test has listened to all engines."""
    for kind in (sa.Engine, Connection, engine_default.DefaultDialect):
        monkeypatch.setattr(kind, "_has_events", False)


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Of a database with the tables."""
    address = f"sqlite:///{tmp_path / 'keys.db'}"
    fill(address)
    return address


@pytest.fixture
def door(url: str) -> Iterator[Sessions]:
    """A door to it."""
    with Sessions(url) as sessions:
        yield sessions


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What went SQLAlchemy's way, by the class that was asked for."""
    seen: list[str] = []
    plainly: Any = Session._get_impl

    def noting(self: Session, entity: Any, *args: Any, **named: Any) -> Any:
        seen.append(entity.__name__)
        return plainly(self, entity, *args, **named)

    monkeypatch.setattr(Session, "_get_impl", noting)
    return seen


def learned(door: Any, *pairs: tuple[type[Any], Any]) -> None:
    """Let the door have met these."""
    for entity, ident in pairs or tuple(PLAIN):
        for opened in (door.read(), door.begin()):
            with opened as session:
                session.get(entity, ident)


def shown(found: Any) -> Any:
    """What is known of an object: its values, and all that its state has."""
    if found is None:
        return None
    state: Any = sa.inspect(found)
    noted = {name: value for name, value in vars(state).items() if name not in ITS_OWN}
    values = {name: plainly(value) for name, value in vars(found).items() if name != "_sa_instance_state"}
    kept = dict(state.committed_state), set(state.expired_attributes), state.modified, state.expired, state.persistent
    return type(found), values, noted, kept, set(state.unloaded), state.identity_key


def plainly(value: Any) -> Any:
    """An attribute that can be compared between two sessions."""
    if isinstance(value, list):
        return [plainly(one) for one in value]
    return sa.inspect(value).identity_key if isinstance(value, Base) else value


ITS_OWN = {
    "_instance_dict", "_pending_mutations", "_strong_obj", "committed_state", "expired_attributes", "mapper", "obj",
    "runid", "session_id",
}  # fmt: skip
"""Of each object alone, or compared by itself."""


def outcome(get: Callable[[], Any]) -> Any:
    """What it answers or raises."""
    try:
        return shown(get())
    except Exception as error:
        kept = {name: getattr(error, name, None) for name in ("statement", "params", "connection_invalidated")}
        return type(error).__mro__[-4:], str(error), kept


def read_for_it() -> str:
    """The functions of SQLAlchemy whose way was read for the shorter one, as one number."""
    ways: list[Any] = [
        Session.get,
        Session.get_one,
        Session._get_impl,
        Session._identity_lookup,
        loading.get_from_identity,
        loading._load_on_pk_identity,
        loading._set_get_options,
        loading.instances,
        loading._instance_processor,
        loading._populate_full,
        strategies._LazyLoader.create_row_processor,
        strategies._ColumnLoader,
        strategies._DeferredColumnLoader,
        QueryContext,
        ClassManager.new_instance,
        InstanceState.__init__,
        _WeakInstanceDict,
        Connection._execute_clauseelement,
        Connection._execute_context,
        Connection._exec_single_context,
        CursorResult._init_metadata,
        engine_default.DefaultExecutionContext,
        sa.sql.elements.ClauseElement._compile_w_cache,
    ]
    return hashlib.sha256("".join(map(inspect.getsource, ways)).encode()).hexdigest()[:16]


def test_sqlalchemy_is_the_one_that_was_read() -> None:
    """A version that does it in another way has to be read: then `known.VERSIONS` and this number are changed."""
    assert known.IS_KNOWN
    assert read_for_it() == KNOWN


@pytest.mark.parametrize("verb", ["begin", "read"])
@pytest.mark.parametrize(("entity", "ident"), PLAIN + OTHERS)
def test_an_object_is_the_one_that_sqlalchemy_makes(
    door: Sessions, url: str, taken: list[str], verb: str, entity: type[Any], ident: Any
) -> None:
    """All that is known of it; and the class goes the shorter way from its second object on, or never."""
    engine = sa.create_engine(url, hide_parameters=True)
    for times in range(3):
        with Session(engine, expire_on_commit=False) as plain:
            expected = shown(plain.get(entity, ident))
        taken.clear()
        with getattr(door, verb)() as session:
            found = session.get(entity, ident)
            assert session.get(entity, ident) is found
            with Session(engine, expire_on_commit=False) as plain:
                expected = shown(plain.get(entity, ident))
                assert shown(found) == expected
        goes = times > 0 and (entity, ident) in PLAIN
        assert (taken.count(entity.__name__) == 1) is goes  # that of `plain`
    engine.dispose()


def sent_by(session: Session, entity: Any, ident: Any) -> list[tuple[str, Any]]:
    """The statements that the driver is given."""
    session.execute(sa.text("select 1"))
    transaction: Any = session.get_transaction()
    connection = next(iter(transaction._connections.values()))[0]._dbapi_connection.driver_connection
    texts: list[Any] = []
    connection.set_trace_callback(texts.append)
    session.get(entity, ident)
    connection.set_trace_callback(None)
    return [one for one in texts if one != "BEGIN IMMEDIATE"]


def test_the_statement_is_that_of_sqlalchemy(door: Sessions, url: str, taken: list[str]) -> None:
    """Letter by letter, with its parameters."""
    engine = sa.create_engine(url, hide_parameters=True)
    learned(door)
    for entity, ident in PLAIN:
        with Session(engine) as plain, door.begin() as session:
            expected = sent_by(plain, entity, ident)
            taken.clear()
            assert sent_by(session, entity, ident) == expected
            assert len(expected) == 1
            assert taken == []
    engine.dispose()


def test_what_is_not_loaded_is_loaded_later(door: Sessions, taken: list[str]) -> None:
    """A deferred column and a relationship, as of any object; and a change is written."""
    learned(door)
    taken.clear()
    with door.begin() as session:
        thing = session.get_one(Thing, 1)
        assert sa.inspect(thing).unloaded == {"text", "parts"}
        assert thing.text == "long"
        assert [part.number for part in thing.parts] == [1, 2]
        assert thing.parts[0].thing is thing
        thing.title = "two"
    assert taken == []
    with door.read() as session:
        assert session.get_one(Thing, 1).title == "TWO"


def test_what_is_in_the_session_is_not_asked_for_again(door: Sessions, taken: list[str]) -> None:
    """One that has expired is loaded anew, one that was deleted is not there."""
    learned(door)
    taken.clear()
    with door.begin() as session:
        thing = session.get_one(Thing, 2)
        assert session.get(Thing, 2) is thing
        assert taken == []
        session.execute(sa.text("update things set name = 'new' where id = 2"))
        assert session.get_one(Thing, 2).title is None
        session.expire(thing)
        assert session.get(Thing, 2) is thing
        assert thing.title == "NEW"
        session.expire(thing)
        session.execute(sa.text("delete from things where id = 2"))
        assert session.get(Thing, 2) is None
        del thing
        assert session.get(Thing, 2) is None


def test_what_is_pending_is_sent_first(door: Sessions) -> None:
    """As by each query; not where the session was told not to."""
    learned(door)
    with door.begin() as session:
        session.add(Thing(id=5, title="five"))
        found = session.get_one(Thing, 5)
        assert found in session
        session.delete(found)
        assert session.get(Thing, 5) is found
        session.flush()
        assert session.get(Thing, 5) is None
    with door.begin() as session:
        session.autoflush = False
        session.add(Thing(id=6))
        assert session.get(Thing, 6) is None
        session.autoflush = True


ASKED: list[dict[str, Any]] = [
    {"options": [orm.undefer(Thing.text)]},
    {"options": [orm.joinedload(Thing.parts)]},
    {"populate_existing": True},
    {"with_for_update": {"read": True}},
    {"identity_token": "elsewhere"},
    {"execution_options": {"populate_existing": True}},
]


@pytest.mark.parametrize("asked", ASKED, ids=[next(iter(each)) for each in ASKED])
def test_whatever_is_asked_for_goes_sqlalchemys_way(
    door: Sessions, url: str, taken: list[str], asked: dict[str, Any]
) -> None:
    """And is honoured."""
    learned(door)
    engine = sa.create_engine(url, hide_parameters=True)
    taken.clear()
    with door.begin() as session, Session(engine) as plain:
        assert shown(session.get(Thing, 1, **asked))[1] == shown(plain.get(Thing, 1, **asked))[1]
    assert taken == ["Thing", "Thing"]
    engine.dispose()


WRONG: list[tuple[Any, Any]] = [
    (Thing, (1, 2)),
    (Part, 1),
    (Part, (1,)),
    (Thing, None),
    (Thing, {"id": 1}),
    (Thing, {"wrong": 1}),
    (Part, {"thing_id": 1, "number": 2}),
    (Thing, [1]),
    (Thing, "1"),
    (Thing, 1.0),
    (Thing, True),
    (Named, "refused"),
    (Named, "one"),
    (Thing, 2**70),
    (int, 1),
    ([], 1),
    (None, 1),
]


@pytest.mark.filterwarnings("ignore:fully NULL primary key")
@pytest.mark.parametrize(("entity", "ident"), WRONG)
def test_other_keys_are_answered_as_sqlalchemy_answers(door: Sessions, url: str, entity: Any, ident: Any) -> None:
    """The object, or the error with its text, statement and parameters."""
    learned(door)
    engine = sa.create_engine(url, hide_parameters=True)
    with Session(engine) as plain:
        expected = outcome(lambda: plain.get(entity, ident))
    for verb in ("begin", "read"):
        try:
            with getattr(door, verb)() as session:
                assert outcome(functools.partial(session.get, entity, ident)) == expected
        except OverflowError:
            assert ident == 2**70
    engine.dispose()


def test_an_error_of_the_database_is_that_of_sqlalchemy(door: Sessions, url: str) -> None:
    """With its text, statement and parameters, and told to who listens to errors."""
    learned(door)
    engine = sa.create_engine(url, hide_parameters=True)
    heard: list[Any] = []

    def listener(context: Any) -> None:
        heard.append((context.statement, context.parameters, type(context.original_exception)))

    with engine.begin() as connection:
        connection.execute(sa.text("alter table things rename to gone"))
    with Session(engine) as plain, door.read() as session:
        expected = outcome(lambda: plain.get(Thing, 1))
        assert outcome(lambda: session.get(Thing, 1)) == expected
        assert "no such table" in expected[1]
        event.listen(session.get_bind(), "handle_error", listener)
        event.listen(engine, "handle_error", listener)
        assert outcome(lambda: session.get(Thing, 1)) == outcome(lambda: plain.get(Thing, 1))
    assert len(heard) == 2
    assert heard[0] == heard[1]
    engine.dispose()


def test_a_key_that_the_database_takes_for_another_one(tmp_path: Path) -> None:
    """Where the row has another key than was asked for, and where several rows have it."""
    address = f"sqlite:///{tmp_path / 'loose.db'}"
    engine = sa.create_engine(address, hide_parameters=True)

    with engine.begin() as connection:
        connection.execute(sa.text("create table loose (name varchar(10) collate nocase)"))
        connection.execute(sa.text("insert into loose values ('a'), ('B'), ('b')"))
    with Sessions(address) as door:
        learned(door, (Loose, "a"))
        with door.read() as session, Session(engine) as plain:
            for get in (session, plain):
                found = get.get_one(Loose, "A")
                assert found.name == "a"
                assert get.get(Loose, "a") is found
                assert get.get(Loose, "A") is found
            assert outcome(lambda: session.get(Loose, "b")) == outcome(lambda: plain.get(Loose, "b"))
    engine.dispose()


def test_who_listens_is_told(door: Sessions, taken: list[str]) -> None:
    """Of statements of the session, of what is loaded, of what the engine sends; from then on, and before."""
    learned(door)
    told: list[str] = []

    def on_execute(state: Any) -> None:
        told.append("statement")

    def on_load(target: Any, context: Any) -> None:
        told.append("load")

    def on_persistent(session: Any, instance: Any) -> None:
        told.append("persistent")

    def on_cursor(*_: Any) -> None:
        told.append("cursor")

    for target, name, listener in (
        (Session, "do_orm_execute", on_execute),
        (Thing, "load", on_load),
        (Session, "loaded_as_persistent", on_persistent),
    ):
        event.listen(target, name, listener)
        try:
            with door.read() as session:
                session.get_one(Thing, 1)
        finally:
            event.remove(target, name, listener)
    assert told == ["statement", "load", "persistent"]
    with door.read() as session:
        event.listen(session, "loaded_as_persistent", on_persistent)
        session.get_one(Thing, 1)
        assert told[3:] == ["persistent"]
    with door.read() as session:
        session.get_one(Thing, 1)
        event.listen(session.get_bind(), "before_cursor_execute", on_cursor)
        session.get_one(Thing, 2)
        assert told[4:] == ["cursor"]
        event.remove(session.get_bind(), "before_cursor_execute", on_cursor)


def test_a_class_that_is_mapped_otherwise_later(door: Sessions) -> None:
    """An attribute that is added, and a class that is mapped anew, are seen."""
    registry = orm.registry()
    table = sa.Table("things", registry.metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("name"))

    class Again:
        """Mapped by hand."""

    registry.map_imperatively(Again, table, include_properties=["id"])
    learned(door, (Again, 1), (Again, 1))
    registry.dispose()
    registry.map_imperatively(Again, table)
    with door.read() as session:
        again: Any = session.get_one(Again, 1)
        assert again.name == "one"
    learned(door, (Again, 1))
    registry.dispose()
    with door.read() as session, pytest.raises(sa.exc.NoInspectionAvailable):
        session.get(Again, 1)


def test_a_patched_get_is_called(door: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    """What somebody has put in the place of `Session.get` is asked, and so is what a session class has."""
    learned(door)
    asked: list[Any] = []
    plainly = Session.get

    def noting(self: Session, entity: Any, ident: Any, **named: Any) -> Any:
        asked.append(entity)
        return plainly(self, entity, ident, **named)

    monkeypatch.setattr(Session, "get", noting)
    with door.read() as session:
        session.get(Thing, 1)
    assert asked == [Thing]


def test_a_session_after_its_end(door: Sessions) -> None:
    """Nothing is found in it."""
    learned(door)
    with door.read() as session:
        thing = session.get_one(Thing, 1)
    for ident in (1, 2):
        with pytest.raises(SessionEnded):
            session.get(Thing, ident)
    assert thing.title == "ONE"


def test_a_session_of_its_own_goes_sqlalchemys_way(door: Sessions, taken: list[str]) -> None:
    """One that its owner ends may change hands."""
    learned(door)
    taken.clear()
    session = door.open()
    try:
        assert session.get_one(Thing, 1).title == "ONE"
    finally:
        session.close()
    assert taken == ["Thing"]


def test_inside_of_a_savepoint(door: Sessions) -> None:
    """What is found there is what is there."""
    learned(door)
    with door.begin() as session:
        nested = session.begin_nested()
        session.execute(sa.text("update things set name = 'x' where id = 1"))
        assert session.get_one(Thing, 1).title == "X"
        nested.rollback()
        assert session.get_one(Thing, 1).title == "ONE"


def test_engines_that_are_alike_share_what_is_known(door: Sessions, tmp_path: Path, taken: list[str]) -> None:
    """The second one need not look for it again; one that is alone goes SQLAlchemy's way."""
    other = f"sqlite:///{tmp_path / 'other.db'}"
    fill(other)
    learned(door)
    with Sessions(other) as second, second.read() as session:
        session.scalar(sa.text("select 1"))
        taken.clear()
        assert session.get_one(Thing, 1).title == "ONE"
        assert taken == []
        assert (
            getattr(session.get_bind().dialect, by_key.PLANS)[Thing]
            is getattr(engine_of(door).dialect, by_key.PLANS)[Thing]
        )


def engine_of(door: Sessions) -> Any:
    """That of its read units."""
    with door.read() as session:
        return session.get_bind()


def test_no_more_plans_than_so_many(door: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that maps its classes anew all the time does not fill the memory."""
    learned(door)
    getattr(engine_of(door).dialect, by_key.PLANS).clear()  # of other doors, too
    monkeypatch.setattr(by_key, "_MOST", 2)
    learned(door, *PLAIN, *OTHERS)
    assert 0 < len(getattr(engine_of(door).dialect, by_key.PLANS)) <= 2


@pytest.mark.pg
def test_on_postgresql_for_threads(fresh_database: Fresh, taken: list[str]) -> None:
    """Objects and errors are those of SQLAlchemy."""
    address = fresh_database("pg18").url("psycopg")
    fill(address)
    engine = sa.create_engine(address, hide_parameters=True)
    with Sessions(address) as door:
        for times, (entity, ident) in turns():
            with Session(engine) as plain, door.read() as session:
                taken.clear()
                found = session.get(entity, ident)
                assert times == 0 or (taken == []) is ((entity, ident) in PLAIN)
                assert shown(found) == shown(plain.get(entity, ident))
        for entity, ident in ((Named, "refused"), (Thing, 2**70), (Thing, "one")):
            with Session(engine) as plain, door.read() as session:
                mine, theirs = (functools.partial(each.get, entity, ident) for each in (session, plain))
                assert outcome(mine) == outcome(theirs)
    engine.dispose()


@pytest.mark.pg
@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_on_postgresql_for_tasks(fresh_database: Fresh, taken: list[str], driver: str) -> None:
    """The same."""
    database = fresh_database("pg18")
    fill(database.url("psycopg"))

    async def failing(session: AsyncSession, entity: Any, ident: Any) -> Any:
        try:
            return shown(await session.get(entity, ident))
        except Exception as error:
            return outcome(functools.partial(raise_, error))

    async def run() -> None:
        engine = create_async_engine(database.url(driver), hide_parameters=True)
        async with AsyncSessions(database.url(driver)) as door:
            for times, (entity, ident) in turns():
                async with AsyncSession(engine) as plain, door.read() as session:
                    taken.clear()
                    found = await session.get(entity, ident)
                    assert times == 0 or (taken == []) is ((entity, ident) in PLAIN)
                    assert shown(found) == shown(await plain.get(entity, ident))
            for entity, ident in ((Named, "refused"), (Thing, 2**70), (Thing, "one")):
                async with AsyncSession(engine) as plain, door.read() as session:
                    assert await failing(session, entity, ident) == await failing(plain, entity, ident)
        await engine.dispose()

    asyncio.run(run())


def raise_(error: BaseException) -> None:
    """Raise it."""
    raise error


def turns() -> Iterator[tuple[int, tuple[type[Any], Any]]]:
    """Every class and key twice."""
    for times in range(2):
        for pair in PLAIN + OTHERS:
            yield times, pair
