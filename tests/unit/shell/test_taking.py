"""The connection of a unit that goes the shorter way: what is made is what SQLAlchemy makes."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import inspect
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, event, select, text
from sqlalchemy.engine import Connection
from sqlalchemy.engine.base import RootTransaction, Transaction
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.event.base import _Dispatch, dispatcher
from sqlalchemy.event.registry import _EventKey
from sqlalchemy.exc import InvalidRequestError, OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, SessionTransaction, mapped_column, object_session
from sqlalchemy.orm.session import SessionTransactionState
from sqlalchemy.sql import coercions

from polysession import AsyncSessions, Sessions, outcome_of
from polysession._core.scope import end_at_once
from polysession._shell import door as door_module
from polysession._shell import finish, known, taking
from polysession._shell.guard import Guarded, Shorter, guarded
from polysession._shell.taking import Taken
from polysession.errors import SessionMisuse

KNOWN = "cfdda5126d771660"
"""Of the functions of SQLAlchemy that the module takes the place of."""
ONE = text("select 1")


class Base(DeclarativeBase):
    """Of the tests."""


class Thing(Base):
    """A row."""

    __tablename__ = "things"

    id: Mapped[int] = mapped_column(primary_key=True)


def read_for_it() -> str:
    """The functions of SQLAlchemy whose way was read for the shorter one, as one number."""
    ways: list[Any] = [
        Session.__init__,
        Session._close_impl,
        Session.expunge_all,
        Session._autoflush,
        Session._is_clean,
        Session._autobegin_t,
        Session._execute_internal,
        Session._connection_for_bind,
        SessionTransaction.__init__,
        SessionTransaction._take_snapshot,
        SessionTransaction._connection_for_bind,
        SessionTransaction.close,
        Connection.__init__,
        Connection._begin_impl,
        Connection.close,
        RootTransaction,
        Transaction.__init__,
        DefaultDialect.do_execute,
        coercions.expect,
        coercions.StatementImpl,
        dispatcher,
        _Dispatch,
        _EventKey.listen,
        _EventKey.base_listen,
    ]
    return hashlib.sha256("".join(map(inspect.getsource, ways)).encode()).hexdigest()[:16]


def test_sqlalchemy_is_the_one_that_was_read() -> None:
    """A version that does it in another way has to be read: then `known.VERSIONS` and this number are changed."""
    assert known.IS_KNOWN
    assert read_for_it() == KNOWN


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Of a database with a table."""
    address = f"sqlite:///{tmp_path / 'taking.db'}"
    engine = create_engine(address)
    Base.metadata.create_all(engine)
    engine.dispose()
    return address


@pytest.fixture
def door(url: str) -> Iterator[Sessions]:
    """A door to it."""
    with Sessions(url) as sessions:
        yield sessions


def parts(session: Session) -> tuple[Any, Any, Any]:
    """The transaction of a session, its connection and the transaction of that."""
    transaction: Any = session.get_transaction()
    connection, root, _, _ = next(iter(transaction._connections.values()))
    return transaction, connection, root


def state(thing: Any) -> dict[str, Any]:
    """What it has: every attribute that SQLAlchemy's own one has, too; of other things their kind only."""
    names = set(vars(thing)) if hasattr(thing, "__dict__") else set()
    for cls in type(thing).__mro__:
        names |= {name for name in getattr(cls, "__slots__", ()) if name not in ("__weakref__", "__dict__")}
    return {name: shown(getattr(thing, name)) for name in names if hasattr(thing, name)}


def shown(value: Any) -> Any:
    """A value that can be compared between two engines."""
    if value is None or isinstance(value, (bool, int, str, SessionTransactionState)):
        return value
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return "options"
    if isinstance(value, weakref.WeakKeyDictionary):
        return len(value)
    if isinstance(value, dict):
        return sorted(kind_of(key) for key in value)
    return kind_of(value)


def kind_of(value: Any) -> str:
    """Its kind; a session and a connection of ours count as SQLAlchemy's."""
    kinds = (Session, SessionTransaction, Connection, RootTransaction)
    name = next((kind.__name__ for kind in kinds if isinstance(value, kind)), type(value).__name__)
    return "pooled" if name in ("Lease", "Proxied", "_ConnectionFairy") else name


def compared(ours: tuple[Any, Any, Any], theirs: tuple[Any, Any, Any]) -> None:
    """Every attribute of SQLAlchemy's own is there and the same, asked for from outside as SQLAlchemy asks."""
    for mine, one in zip(ours, theirs, strict=True):
        expected = state(one)
        found = {name: shown(getattr(mine, name)) for name in expected}
        assert found == expected, type(one).__name__
        extra = set(vars(mine)) - set(expected) if hasattr(mine, "__dict__") else set()
        assert not {name for name in extra if not name.startswith("_polysession")}


@pytest.mark.parametrize("verb", ["begin", "read"])
def test_the_session_is_the_one_that_sqlalchemy_makes(door: Sessions, url: str, verb: str) -> None:
    """Before its first use, also what is made only when it is asked for; and no two units share any of it."""
    plain = Session(create_engine(url), close_resets_only=False, expire_on_commit=False)
    expected = {name: shown(value) for name, value in vars(plain).items()}
    with getattr(door, verb)() as one, getattr(door, verb)(propagation="requires_new") as other:
        assert type(one) is Shorter
        found = {name: getattr(one, name) for name in expected}
        others = {name: getattr(other, name) for name in expected}
        assert found["hash_key"] != others.pop("hash_key") != expected.pop("hash_key")
        assert isinstance(found.pop("hash_key"), int)
        assert {name: shown(value) for name, value in found.items()} == expected
        assert set(vars(one)) - {"hash_key", "_polysession_holding", "dispatch"} == set(expected)
        assert isinstance(one.dispatch, type(plain.dispatch))
        shared = {name for name, value in found.items() if value is others[name]}
        assert {type(found[name]).__name__ for name in shared} <= UNCHANGEABLE
    plain.close()


UNCHANGEABLE = {"Engine", "NoneType", "_SessionCloseState", "bool", "immutabledict", "str", "type"}
"""What two sessions may share."""


def test_a_session_class_that_somebody_has_patched(door: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does something whenever a session is made is called for those of units, too."""
    made: list[Session] = []
    plainly = Session.__init__

    def noting(self: Session, *args: Any, **named: Any) -> None:
        made.append(self)
        plainly(self, *args, **named)

    monkeypatch.setattr(Session, "__init__", noting)
    with door.begin() as session:
        assert made == [session]


def test_a_session_is_found_by_its_objects(door: Sessions) -> None:
    """It is entered where SQLAlchemy looks for it when it gets its first object, by whatever way."""
    with door.begin() as session:
        assert "hash_key" not in vars(session)
        assert not session.new
        assert not session.dirty
        thing = Thing(id=1)
        session.add_all([thing])
        assert object_session(thing) is session
        session.flush()
        assert session.get(Thing, 1) is thing
    assert object_session(thing) is None
    with door.read() as session, door.read(propagation="requires_new") as other:
        found = session.get_one(Thing, 1)
        assert object_session(found) is session
        with pytest.raises(SessionMisuse):
            other.add(found)


def test_a_result_that_is_read_after_the_end_is_refused(door: Sessions) -> None:
    """As by SQLAlchemy's own that was closed."""
    with door.begin() as session:
        session.add(Thing(id=1))
    with door.read() as session:
        result = session.scalars(select(Thing))
    with pytest.raises(InvalidRequestError, match="no longer valid"):
        result.all()
    assert not session.identity_map


@pytest.mark.parametrize("verb", ["begin", "read"])
def test_what_is_made_is_what_sqlalchemy_makes(door: Sessions, url: str, verb: str) -> None:
    """While the unit is open, and when it has ended."""
    engine = create_engine(url)
    with Session(engine) as plain, getattr(door, verb)() as session:
        for one in (plain, session):
            one.execute(ONE)
        ours, theirs = parts(session), parts(plain)
        assert type(ours[1]) is Taken
        assert type(ours[0]) is not SessionTransaction
        compared(ours, theirs)
        assert ours[1].dispatch.parent is ours[1].engine.dispatch
        assert ours[0].session is session
        assert session.get_transaction() is ours[0]
        plain.commit()
    compared(ours, theirs)
    assert ours[1].closed
    assert session.get_transaction() is None
    engine.dispose()


def test_nothing_of_a_unit_waits_for_the_garbage_collector(door: Sessions) -> None:
    """As with SQLAlchemy's own objects."""
    gc.collect()
    gc.disable()
    try:
        with door.begin() as session:
            session.execute(ONE)
            left = [weakref.ref(part) for part in parts(session)[:2]]
        del session
        assert [part() for part in left] == [None, None]
    finally:
        gc.enable()


def hears(listener: list[Any]) -> Callable[..., None]:
    """Notes that it was called."""
    return lambda *_: listener.append(1)


@pytest.mark.parametrize(
    ("whose", "name"),
    [
        ("engine", "begin"),
        ("engine", "commit"),
        ("engine", "engine_connect"),
        ("class", "commit"),
        ("session", "after_begin"),
        ("session", "after_transaction_create"),
    ],
)
def test_who_listens_is_told(door: Sessions, whose: str, name: str) -> None:
    """It goes SQLAlchemy's way then."""
    heard: list[Any] = []
    listener = hears(heard)
    with door.begin() as session:
        on: Any = {"engine": session.get_bind(), "class": Connection, "session": session}[whose]
        event.listen(on, name, listener)
        try:
            session.execute(ONE)
            assert not isinstance(parts(session)[1], Taken)
        finally:
            if name != "commit":
                event.remove(on, name, listener)
    if name == "commit":
        event.remove(on, name, listener)
        Connection._has_events = False
    assert heard == [1]


@pytest.mark.parametrize(("whose", "name"), [("engine", "commit"), ("session", "after_transaction_end")])
def test_who_begins_to_listen_in_the_unit_is_told_of_its_end(door: Sessions, whose: str, name: str) -> None:
    """Though its connection was taken by the shorter way."""
    heard: list[Any] = []
    with door.begin() as session:
        session.execute(ONE)
        assert type(parts(session)[1]) is Taken
        event.listen({"engine": session.get_bind(), "session": session}[whose], name, hears(heard))
    assert heard == [1]


def test_a_listener_of_one_session_hears_that_one_alone(door: Sessions) -> None:
    """Though all sessions know in one place who listens to them."""
    heard: list[Any] = []
    with door.read() as session, door.read(propagation="requires_new") as other:
        assert session.dispatch is other.dispatch
        event.listen(session, "do_orm_execute", hears(heard))
        event.listen(session, "before_commit", hears(heard), once=True)
        assert session.dispatch is not other.dispatch
        other.execute(ONE)
        assert heard == []
        session.execute(ONE)
        assert heard == [1]
    assert heard == [1, 1]
    with door.begin() as session:
        assert session.dispatch is other.dispatch
        session.execute(ONE)
    assert heard == [1, 1]


def test_a_listener_of_the_class_hears_all_sessions(door: Sessions) -> None:
    """Also those that are open, and not any more when he is removed."""
    heard: list[Any] = []
    listener = hears(heard)
    with door.begin() as session:
        session.execute(ONE)
        event.listen(Session, "do_orm_execute", listener)
        try:
            session.execute(ONE)
        finally:
            event.remove(Session, "do_orm_execute", listener)
        session.execute(ONE)
    assert heard == [1]


def test_a_listener_of_one_connection_hears_that_one_alone(door: Sessions) -> None:
    """Its listeners are its own, joined with those of its engine."""
    heard: list[Any] = []
    with door.begin() as session:
        session.execute(ONE)
        event.listen(parts(session)[1], "before_cursor_execute", hears(heard))
        session.execute(ONE)
    assert heard == [1]
    with door.begin() as session:
        session.execute(ONE)
    assert heard == [1]


@pytest.mark.parametrize("verb", ["begin", "read"])
def test_a_listener_of_one_connection_is_told_of_its_commit(door: Sessions, verb: str) -> None:
    """Also where each statement has run on its own, and whoever listens found the connection in the transaction."""
    heard: list[Any] = []
    with getattr(door, verb)() as session:
        session.execute(ONE)
        assert type(parts(session)[1]) is Taken
        (connection,) = session.get_transaction().connections
        event.listen(connection, "commit", hears(heard))
    assert heard == [1]


def test_a_session_class_of_another_kind_keeps_its_ways() -> None:
    """One that overrides what is passed by is asked as before."""

    class Counting(Session):
        def flush(self, objects: Any = None) -> None:
            """Its own."""
            super().flush(objects)

    class Beginning(Session):
        def _autobegin_t(self, begin: bool = False) -> SessionTransaction:
            return super()._autobegin_t(begin)

    class Plain(Session):
        pass

    assert issubclass(guarded(Plain), Shorter)
    assert not issubclass(guarded(Beginning), Shorter)
    assert issubclass(guarded(Counting), Guarded)
    assert not issubclass(guarded(Counting), Shorter)


def test_another_sqlalchemy_keeps_its_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is passed by of a version that was not read."""
    monkeypatch.setattr(known, "IS_KNOWN", False)

    class Unread(Session):
        pass

    assert not issubclass(guarded(Unread), Shorter)


@pytest.mark.parametrize("verb", ["begin", "read"])
def test_before_transactions_told_their_connections(door: Sessions, monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    """They do since SQLAlchemy 2.1.7; nothing here needs it."""
    monkeypatch.delattr(SessionTransaction, "connections")
    with getattr(door, verb)() as session:
        assert [held.state for held in door.held()] == ["no connection"]
        session.execute(ONE)
        assert [held.state for held in door.held()] != ["no connection"]
    assert not door.connections()


def test_objects_are_undone_with_their_savepoint_and_their_unit(door: Sessions) -> None:
    """What the transaction notes of them is made when there are any."""
    first, second = Thing(id=1), Thing(id=2)

    def in_savepoint(session: Session) -> None:
        with session.begin_nested():
            session.add(second)
            session.flush()
            assert second in session
            raise KeyError

    def work() -> None:
        with door.begin() as session:
            session.execute(ONE)
            assert not {"_new", "_deleted"} & set(vars(parts(session)[0]))
            session.add(first)
            session.flush()
            with pytest.raises(KeyError):
                in_savepoint(session)
            assert second not in session
            assert first in session
            assert list(parts(session)[0]._new)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert object_session(first) is None
    with door.read() as reader:
        assert reader.scalars(text("select count(*) from things")).one() == 0


def test_pending_work_is_sent_before_a_query(door: Sessions) -> None:
    """What has changed is seen by a few comparisons, too."""
    with door.begin() as session:
        session.execute(ONE)
        session.add(Thing(id=1))
        assert session.scalars(text("select id from things")).all() == [1]
        session.get_one(Thing, 1).id = 2
        assert session.scalars(text("select id from things")).all() == [2]
        session.delete(session.get_one(Thing, 2))
        assert session.scalars(text("select id from things")).all() == []
        with session.no_autoflush:
            session.add(Thing(id=3))
            assert session.scalars(text("select id from things")).all() == []


def test_a_failed_connection_leaves_a_session_that_can_be_used(door: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is SQLAlchemy's, and the next statement asks again."""
    with door.begin() as session:
        engine: Any = session.get_bind()
        error = engine.dialect.loaded_dbapi.OperationalError("no")

        def refuse(_: object) -> None:
            raise error

        with monkeypatch.context() as patched:
            patched.setattr(engine.pool, "check_out", refuse)
            with pytest.raises(OperationalError) as caught:
                session.execute(ONE)
        assert caught.value.orig is error
        assert session.get_transaction() is not None
        assert session.scalars(ONE).one() == 1
    assert not door.connections()


@pytest.mark.parametrize("verb", ["begin", "read"])
def test_a_begin_that_fails_gives_the_connection_back(
    door: Sessions, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """And the session can be used."""
    with getattr(door, verb)() as session:
        session.execute(ONE)  # the first connection gets to know the database
    with getattr(door, verb)() as session:
        engine: Any = session.get_bind()

        def refuse(_: object) -> None:
            raise engine.dialect.loaded_dbapi.OperationalError("no")

        with monkeypatch.context() as patched:
            patched.setattr(engine.dialect, "do_begin", refuse)
            with pytest.raises(OperationalError):
                session.execute(ONE)
            assert not door.connections()
        assert session.scalars(ONE).one() == 1


@pytest.mark.parametrize("verb", ["begin", "read"])
def test_a_connection_that_was_detached_is_closed(door: Sessions, verb: str) -> None:
    """With the unit's end: it is nobody's any more."""
    closed: list[Any] = []
    with getattr(door, verb)() as session:
        event.listen(session.get_bind().pool, "close_detached", closed.append)
        session.execute(ONE)
        session.connection().detach()
        session.execute(ONE)
    assert len(closed) == 1


def test_whoever_takes_the_driver_s_connection_is_noticed(door: Sessions) -> None:
    """The connection that is handed out is watched from then on, and goes back SQLAlchemy's way."""
    with door.begin() as session:
        session.execute(ONE)
        connection = session.connection()
        assert isinstance(connection, Taken)
        assert type(connection) is not Taken
        assert connection.connection.driver_connection is not None


def test_with_asyncio(url: str) -> None:
    """Below an `AsyncSession` it is the same."""

    async def main() -> None:
        async with AsyncSessions(url.replace("sqlite:", "sqlite+aiosqlite:")) as door:
            for verb in (door.begin, door.read):
                async with verb() as session:
                    await session.execute(ONE)
                    assert type(parts(session.sync_session)[1]) is Taken

    asyncio.run(main())


@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt])
def test_what_fails_while_a_unit_ends_at_once_leaves_it(
    door: Sessions, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]
) -> None:
    """Its connection is back or closed, nothing is held, and the next unit works."""

    def failing(*given: Any) -> bool:
        taking.give_back(*given)
        raise kind

    def work() -> None:
        with door.read() as session:
            session.execute(ONE).all()
            monkeypatch.setattr(finish, "give_back", failing)

    with pytest.raises(kind):
        work()
    monkeypatch.undo()
    assert door.held() == ()
    assert door.connections() == ()
    with door.read() as session:
        assert session.scalar(ONE) == 1


@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt])
def test_what_fails_while_a_unit_of_tasks_ends_at_once_leaves_it(
    url: str, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]
) -> None:
    """The same, where it has no connection."""

    def failing(*_: Any) -> bool:
        raise kind

    async def work(door: AsyncSessions) -> None:
        async with door.read():
            monkeypatch.setattr(finish.Finish, "at_once", failing)

    async def run() -> None:
        async with AsyncSessions(url.replace("sqlite", "sqlite+aiosqlite")) as door:
            with pytest.raises(kind):
                await work(door)
            monkeypatch.undo()
            assert door.held() == ()
            async with door.read() as session:
                assert await session.scalar(ONE) == 1

    asyncio.run(run())


@pytest.fixture(params=["before", "after", "behind its end"])
def breaking(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[type[BaseException]], str]:
    """Lets an error come while units are ended at once; their outcome then."""
    at_once = finish.Finish.at_once

    def make(kind: type[BaseException]) -> str:
        def failing(holding: Any) -> bool:
            if request.param == "after":
                at_once(holding)
            raise kind

        def failing_behind(scope: Any) -> None:
            end_at_once(scope)
            raise kind

        if request.param == "behind its end":
            monkeypatch.setattr(door_module, "end_at_once", failing_behind)
            return "committed"
        monkeypatch.setattr(finish.Finish, "at_once", failing)
        return "rolled back"

    return make


KINDS = pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt])


@KINDS
def test_who_asked_is_told_of_what_fails_while_a_unit_ends_at_once(
    door: Sessions, monkeypatch: pytest.MonkeyPatch, breaking: Any, kind: type[BaseException]
) -> None:
    """The error knows the outcome, its hook is called once, and nothing is held."""
    told: list[str] = []

    def work() -> None:
        with door.begin():
            door.on_commit(told.append, "committed")
            door.on_rollback(told.append, "rolled back")
            outcomes.append(breaking(kind))

    outcomes: list[str] = []
    with pytest.raises(kind) as caught:
        work()
    monkeypatch.undo()
    assert [str(outcome_of(caught.value))] == told == outcomes
    assert door.held() == ()
    with door.read() as session:
        assert session.scalar(ONE) == 1


@KINDS
def test_who_asked_is_told_of_what_fails_while_a_unit_of_tasks_ends_at_once(
    url: str, monkeypatch: pytest.MonkeyPatch, breaking: Any, kind: type[BaseException]
) -> None:
    """The same."""
    told: list[str] = []
    outcomes: list[str] = []

    async def work(door: AsyncSessions) -> None:
        async with door.begin():
            door.on_commit(told.append, "committed")
            door.on_rollback(told.append, "rolled back")
            outcomes.append(breaking(kind))

    async def run() -> None:
        async with AsyncSessions(url.replace("sqlite", "sqlite+aiosqlite")) as door:
            with pytest.raises(kind) as caught:
                await work(door)
            monkeypatch.undo()
            assert [str(outcome_of(caught.value))] == told == outcomes
            assert door.held() == ()
            async with door.read() as session:
                assert await session.scalar(ONE) == 1

    asyncio.run(run())
