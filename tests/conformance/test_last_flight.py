"""COMMIT in the flight of the last statement: whatever comes of a unit without it comes of it with it"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, cast

import psycopg
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship
from sqlalchemy.orm.exc import StaleDataError

from polysession import AsyncSessions, Outcome, Sessions
from polysession._shell import first_flight, known, last_flight
from polysession.errors import CommitUnknown, DeadlineExceeded
from polysession.facts import outcome_of
from polysession.testing.proxy import Cut, Fault, FaultProxy, answer
from polysession.topology import Certainty
from tests.engines.pgbouncer import PgBouncer
from tests.engines.process import wait_until
from tests.engines.targets import FreshDatabase, Servers

from .doors import as_async, finish

PLACES = ("psycopg sync", "psycopg async", "asyncpg async")
EARLY, PLAIN = Certainty.EARLY, Certainty.PLAIN


class Base(DeclarativeBase):
    """Of all mapped classes here."""


class Thing(Base):
    """One table, its key given."""

    __tablename__ = "thing"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(unique=True)
    value: Mapped[int] = mapped_column(default=0)


class Note(Base):
    """Key and time are the server's."""

    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    stamp: Mapped[Any] = mapped_column(sa.DateTime, server_default=sa.func.now(), onupdate=sa.func.now())


class Counted(Base):
    """Has a counter of versions."""

    __tablename__ = "counted"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    value: Mapped[int]
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012  # as SQLAlchemy wants it


class Late(Base):
    """That its thing exists is checked at COMMIT."""

    __tablename__ = "late"
    id: Mapped[int] = mapped_column(primary_key=True)
    thing_id: Mapped[int] = mapped_column(sa.ForeignKey("thing.id", deferrable=True, initially="DEFERRED"))


class Owner(Base):
    """Has others."""

    __tablename__ = "owner"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str]
    owned: Mapped[list[Owned]] = relationship(back_populates="owner", cascade="all, delete-orphan")


class Owned(Base):
    """Is another's."""

    __tablename__ = "owned"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int] = mapped_column(sa.ForeignKey("owner.id"))
    owner: Mapped[Owner] = relationship(back_populates="owned")


class Loose(Base):
    """Nobody counts what is deleted."""

    __tablename__ = "loose"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    __mapper_args__ = {"confirm_deleted_rows": False}  # noqa: RUF012  # as above


class Heard(Thing):
    """Two tables, and somebody listens to what is done with it."""

    __tablename__ = "heard"
    id: Mapped[int] = mapped_column(sa.ForeignKey("thing.id"), primary_key=True)


class Told(Base):
    """Somebody listens, and writes."""

    __tablename__ = "told"
    id: Mapped[int] = mapped_column(primary_key=True)


@sa.event.listens_for(Told, "after_insert")
def _told(_: Any, connection: sa.Connection, __: Any) -> None:
    connection.execute(sa.text("update thing set value = value + 1000 where id = 1"))


SETUP = """
    truncate thing, note, counted, late, owner, owned, loose, heard, told restart identity;
    insert into thing values (1, 'one', 1), (2, 'two', 2), (9, 'nine', 9);
    insert into note (text, stamp) values ('first', '2000-01-01');
    insert into counted values (1, 1, 1);
    insert into owner values (1, 'one');
    insert into owned (owner_id) values (1);
    insert into loose values (1), (9);
"""


class Witness:
    """Looks from outside, and does what others do meanwhile."""

    def __init__(self, database: FreshDatabase) -> None:
        self.engine = sa.create_engine(
            database.url("psycopg"), isolation_level="AUTOCOMMIT", connect_args={"options": "-c lock_timeout=5000"}
        )
        Base.metadata.create_all(self.engine, tables=[t for t in Base.metadata.sorted_tables if t.name != "waited"])

    def do(self, text: str) -> None:
        """Run statements."""
        with self.engine.connect() as connection:
            connection.exec_driver_sql(text)

    def rows(self) -> dict[str, list[tuple[Any, ...]]]:
        """All that is there, but for times, which are never the same."""
        with self.engine.connect() as connection:
            return {
                table.name: sorted(
                    tuple(row) for row in connection.execute(sa.select(*[c for c in table.c if c.name != "stamp"]))
                )
                for table in Base.metadata.sorted_tables
                if sa.inspect(connection).has_table(table.name)
            }


Do = Callable[[Any, Witness], Awaitable[Any]]


STEPS: dict[str, Do] = {}


def step(do: Do) -> Do:
    """One of what a unit may do; answers the object, to look at it when the unit is over."""
    STEPS[do.__name__[1:]] = do
    return do


@step
async def _new_thing(session: Any, _: Witness) -> Any:
    session.add(thing := Thing(id=5, name="five"))
    return thing


@step
async def _duplicate_key(session: Any, _: Witness) -> Any:
    session.add(thing := Thing(id=2, name="another"))
    return thing


@step
async def _duplicate_name(session: Any, _: Witness) -> Any:
    session.add(thing := Thing(id=6, name="two"))
    return thing


@step
async def _new_note(session: Any, _: Witness) -> Any:
    session.add(note := Note(text="more"))
    return note


@step
async def _new_by_expression(session: Any, _: Witness) -> Any:
    session.add(note := Note(text=sa.func.upper("loud")))
    return note


@step
async def _change(session: Any, _: Witness) -> Any:
    thing = await session.get_one(Thing, 1)
    thing.value += 1
    return thing


@step
async def _change_by_expression(session: Any, _: Witness) -> Any:
    thing = await session.get_one(Thing, 2)
    thing.value = Thing.value + 1
    return thing


@step
async def _change_nothing(session: Any, _: Witness) -> Any:
    thing = await session.get_one(Thing, 1)
    thing.value = thing.value + 0
    return thing


@step
async def _change_key(session: Any, _: Witness) -> Any:
    loose = await session.get_one(Loose, 1)
    loose.id = 4
    return loose


@step
async def _change_note(session: Any, _: Witness) -> Any:
    note = await session.get_one(Note, 1)
    note.text = "changed"
    return note


@step
async def _change_counted(session: Any, _: Witness) -> Any:
    counted = await session.get_one(Counted, 1)
    counted.value += 1
    return counted


@step
async def _delete(session: Any, _: Witness) -> Any:
    await session.delete(await session.get_one(Thing, 2))


@step
async def _delete_loose(session: Any, _: Witness) -> Any:
    await session.delete(await session.get_one(Loose, 1))


@step
async def _stale(session: Any, witness: Witness) -> Any:
    thing = await session.get_one(Thing, 9)
    witness.do("delete from thing where id = 9")
    thing.value += 1
    return thing


@step
async def _stale_loose(session: Any, witness: Witness) -> Any:
    loose = await session.get_one(Loose, 9)
    witness.do("delete from loose where id = 9")
    await session.delete(loose)


@step
async def _late_and_good(session: Any, _: Witness) -> Any:
    session.add(late := Late(thing_id=1))
    return late


@step
async def _late_and_bad(session: Any, _: Witness) -> Any:
    session.add(late := Late(thing_id=77))
    return late


@step
async def _owner(session: Any, _: Witness) -> Any:
    owner = await session.get_one(Owner, 1)
    owner.name = "another"
    return owner


@step
async def _owner_with_owned(session: Any, _: Witness) -> Any:
    session.add(owner := Owner(id=2, name="two", owned=[Owned()]))
    return owner


@step
async def _owned_by_key(session: Any, _: Witness) -> Any:
    session.add(owned := Owned(owner_id=1))
    return owned


@step
async def _owned_by_object(session: Any, _: Witness) -> Any:
    session.add(owned := Owned(owner=await session.get_one(Owner, 1)))
    return owned


@step
async def _two_tables(session: Any, _: Witness) -> Any:
    session.add(heard := Heard(id=7, name="seven"))
    return heard


@step
async def _told_object(session: Any, _: Witness) -> Any:
    session.add(told := Told())
    return told


@step
async def _statement(session: Any, _: Witness) -> Any:
    await session.execute(sa.text("update thing set value = value + 10 where id = 2"))


@dataclass(frozen=True)
class Story:
    """A unit that is run both ways."""

    steps: tuple[tuple[str, str], ...]
    """What is done, and where."""
    heard: str = ""
    isolation: str | None = None
    outcome: str | None = None
    fails: bool = False


HOW = ("", "then flush", "in a savepoint", "in a unit inside", "in a nested unit")
HEARD = ("after_flush", "after_flush_postexec", "before_commit", "before_flush", "pending_to_persistent")
STORIES = st.builds(
    Story,
    steps=st.lists(
        st.tuples(st.sampled_from(sorted(STEPS)), st.sampled_from((HOW[0], HOW[0], HOW[0], *HOW))),
        min_size=1,
        max_size=3,
    ).map(tuple),
    heard=st.sampled_from(("",) * 6 + HEARD),
    isolation=st.sampled_from((None, None, "REPEATABLE READ", "SERIALIZABLE")),
    outcome=st.sampled_from((None, None, None, None, "exact", "plain")),
    fails=st.sampled_from((False,) * 7 + (True,)),
)


class Refused(Exception):
    """Raised by the body."""


def hear(session: Session, event: str) -> None:
    """Let somebody send a statement when the session says so."""
    done: list[int] = []

    def told(*_: object) -> None:
        if not done:
            done.append(1)
            session.connection().exec_driver_sql("update thing set value = value + 100 where id = 1")

    sa.event.listen(session, event, told)


async def tell(door: AsyncSessions, story: Story, witness: Witness) -> Any:
    """What came of it, for whoever looks."""
    objects: list[Any] = []
    asked: dict[str, Any] = {} if story.outcome is None else {"outcome": story.outcome}
    failed: Any = None
    try:
        async with door.begin(isolation=story.isolation, **asked) as session:
            if story.heard:
                hear(session.sync_session, story.heard)
            for name, how in story.steps:
                do = STEPS[name]
                match how:
                    case "in a savepoint":
                        async with session.begin_nested():
                            objects.append(await do(session, witness))
                    case "in a unit inside":
                        async with door.begin() as inner:
                            objects.append(await do(inner, witness))
                    case "in a nested unit":
                        async with door.begin(propagation="nested") as inner:
                            objects.append(await do(inner, witness))
                    case _:
                        objects.append(await do(session, witness))
                        if how:
                            await session.flush()
            if story.fails:
                raise Refused
    except Exception as error:
        failed = type(error), type(getattr(error, "orig", None)), outcome_of(error), words(error)
    loaded = [
        None
        if each is None
        else {
            k: str(v) if hasattr(v, "compile") else v for k, v in vars(each).items() if k[0] != "_" and k not in HIDDEN
        }
        for each in objects
    ]
    states = [None if each is None else sa.inspect(each).detached for each in objects]
    return failed, loaded, states, witness.rows(), door.held(), door._connections_out()


HIDDEN = ("stamp", "owner", "owned")
"""Times, and objects."""


def words(error: Exception) -> str:
    """Its text, but for places and what is said of the text that was sent."""
    text = str(error).partition("\n[SQL")[0].partition("\n  why")[0]
    return re.sub(r"0x[0-9a-f]+", "", text)


@pytest.fixture
def witness(database: FreshDatabase) -> Iterator[Witness]:
    """Of the test's database, with the tables."""
    witness = Witness(database)
    yield witness
    witness.engine.dispose()


def doors(database: FreshDatabase, place: str) -> tuple[AsyncSessions, AsyncSessions]:
    """One whose units commit early if they can, and one whose units do not."""
    driver, _, kind = place.partition(" ")

    def door(outcome: Certainty) -> AsyncSessions:
        table = {"default": {"url": database.url(driver), "outcome": outcome, "pool": {"size": 2}}}
        return AsyncSessions(table) if kind == "async" else as_async(Sessions(table))

    return door(EARLY), door(PLAIN)


class Counting:
    """How many flights there were."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.flown = 0
        leaves = last_flight.LastFlight.leaves

        def counted(flight: last_flight.LastFlight) -> None:
            self.flown += 1
            leaves(flight)

        monkeypatch.setattr(last_flight.LastFlight, "leaves", counted)


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Counting:
    """Counts flights."""
    return Counting(monkeypatch)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("target", ["pg15", "pg18"])
def test_what_comes_of_it(database: FreshDatabase, witness: Witness, place: str, counting: Counting) -> None:
    """Whatever a unit does: rows, outcome, error, objects, and what is held are those of the plain way."""
    early, plain = doors(database, place)
    examples = 0
    with asyncio.Runner() as runner:
        run = runner.run if place.endswith("async") else finish

        @settings(
            max_examples=120, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
        )
        @given(STORIES)
        def told_alike(story: Story) -> None:
            nonlocal examples
            examples += 1
            come = []
            for door in (plain, early):
                witness.do(SETUP)
                come.append(run(tell(door, story, witness)))
            assert come[0] == come[1]

        try:
            told_alike()
            for name in STEPS:
                for heard in ("", "after_flush"):
                    before = counting.flown
                    come = []
                    for door in (plain, early):
                        witness.do(SETUP)
                        come.append(run(tell(door, Story(((name, ""),), heard), witness)))
                    assert come[0] == come[1], name
                    flies = name in FLIES and not heard
                    assert counting.flown - before == flies, name
        finally:
            for door in (early, plain):
                run(door.close())
    assert counting.flown > examples / 10


FLIES = {
    "new_thing",
    "duplicate_key",
    "duplicate_name",
    "new_note",
    "new_by_expression",
    "change",
    "change_by_expression",
    "change_note",
    "delete_loose",
    "stale",
    "stale_loose",
    "late_and_good",
    "late_and_bad",
    "owner",
    "owned_by_key",
}
"""What is one statement, if it is done alone."""


# -- one unit at a time


SLOW = """
    create function wait() returns trigger language plpgsql as $$
    begin perform pg_sleep(new.value); return new; end $$;
    create trigger waits before insert on thing for each row execute function wait();
    create table waited (id int primary key, value int);
    create constraint trigger waits_late after insert on waited deferrable initially deferred
    for each row execute function wait();
"""
"""What is written takes so many seconds: of a thing at once, of the other one at COMMIT."""


class Waited(Base):
    """Written by COMMIT."""

    __tablename__ = "waited"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    value: Mapped[int]


def until_it_waits(witness: Witness) -> int:
    """Wait until a unit is in its flight, on the server; the number of its connection."""
    found = "select pid from pg_stat_activity where wait_event = 'PgSleep'"

    def ask() -> int | None:
        with witness.engine.connect() as connection:
            return connection.exec_driver_sql(found).scalar()

    wait_until(lambda: ask() is not None, what="the flight is under way")
    pid = ask()
    assert pid is not None
    return pid


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """Of a process that was started in the background SIGINT is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
@pytest.mark.parametrize("target", ["pg18"])
@pytest.mark.parametrize(("kind", "outcome"), [(Thing, Outcome.ROLLED_BACK), (Waited, Outcome.UNKNOWN)])
def test_an_interrupt(database: FreshDatabase, witness: Witness, kind: Any, outcome: Outcome) -> None:
    """An interrupt ends the flight on the server. While the statement runs it is certain that COMMIT does not."""
    witness.do(SLOW)

    def interrupt() -> None:
        until_it_waits(witness)
        os.kill(os.getpid(), signal.SIGINT)

    with Sessions(database.url("psycopg")) as door:
        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt) as raised, door.begin(outcome=EARLY) as session:
            session.add(kind(id=1, value=60, **({"name": "one"} if kind is Thing else {})))
        thread.join()
        assert outcome_of(raised.value) is outcome
        assert door.held() == ()
        assert not witness.rows()["thing"]
        assert not witness.rows()["waited"]
        with door.begin(outcome=EARLY) as session:
            session.add(kind(id=2, value=0, **({"name": "two"} if kind is Thing else {})))
        assert len(witness.rows()[kind.__tablename__]) == 1


@pytest.mark.parametrize("target", ["pg18"])
@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
@pytest.mark.parametrize("kind", [Thing, Waited])
def test_a_cancellation(database: FreshDatabase, witness: Witness, driver: str, kind: Any) -> None:
    """As of COMMIT: the flight goes on to its end, and the cancellation that comes out tells that it has committed."""
    witness.do(SLOW)

    async def unit(door: AsyncSessions) -> None:
        async with door.begin(outcome=EARLY) as session:
            session.add(kind(id=1, value=1, **({"name": "one"} if kind is Thing else {})))

    async def use() -> None:
        async with AsyncSessions(database.url(driver)) as door:
            task = asyncio.create_task(unit(door))
            await asyncio.to_thread(until_it_waits, witness)
            task.cancel()
            with pytest.raises(asyncio.CancelledError) as raised:
                await task
            assert outcome_of(raised.value) is Outcome.COMMITTED
            assert door.held() == ()

    asyncio.run(use())
    assert len(witness.rows()[kind.__tablename__]) == 1


async def fly(door: AsyncSessions, thing: Any, **asked: Any) -> BaseException:
    """What comes of a unit that fails."""
    with pytest.raises(Exception) as raised:  # looked at by the caller
        async with door.begin(outcome=EARLY, **asked) as session:
            session.add(thing)
    return raised.value


def run_at(place: str, database: FreshDatabase, work: Callable[[AsyncSessions], Coroutine[Any, Any, Any]]) -> Any:
    """What `work` answers with a door of a place."""
    driver, _, kind = place.partition(" ")

    async def use() -> Any:
        async with AsyncSessions(database.url(driver)) as door:
            return await work(door)

    if kind == "async":
        return asyncio.run(use())
    with Sessions(database.url(driver)) as door:
        return finish(work(as_async(door)))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("target", ["pg18"])
def test_a_deadline(database: FreshDatabase, witness: Witness, place: str) -> None:
    """It ends the statement of the flight on the server."""
    witness.do(SLOW)

    async def work(door: AsyncSessions) -> BaseException:
        failed = await fly(door, Thing(id=1, name="one", value=60), deadline=0.3)
        assert door.held() == ()
        return failed

    failed = run_at(place, database, work)
    assert isinstance(failed, DeadlineExceeded)
    assert outcome_of(failed) is Outcome.ROLLED_BACK
    assert not witness.rows()["thing"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("target", ["pg18"])
@pytest.mark.parametrize(("kind", "outcome"), [(Thing, Outcome.ROLLED_BACK), (Waited, Outcome.UNKNOWN)])
def test_the_server_ends_the_connection(
    database: FreshDatabase, witness: Witness, place: str, kind: Any, outcome: Outcome
) -> None:
    """If its last word is an error of the statement, COMMIT was not run; at COMMIT nobody knows."""
    witness.do(SLOW)

    def end() -> None:
        witness.do(f"select pg_terminate_backend({until_it_waits(witness)})")

    async def work(door: AsyncSessions) -> BaseException:
        failed = await fly(door, kind(id=1, value=60, **({"name": "one"} if kind is Thing else {})))
        assert door.held() == ()
        return failed

    thread = threading.Thread(target=end)
    thread.start()
    failed = run_at(place, database, work)
    thread.join()
    assert outcome_of(failed) is outcome
    assert isinstance(failed, CommitUnknown) is (outcome is Outcome.UNKNOWN)


@pytest.mark.pg
@pytest.mark.pgbouncer
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("target", ["pg15"])
@pytest.mark.parametrize("verb", ["INSERT", "COMMIT"])
def test_a_pooler_that_loses_its_server(
    database: FreshDatabase, witness: Witness, servers: Servers, place: str, verb: str
) -> None:
    """What a pooler says of it stands where an error of the statement would, and the server has committed."""
    witness.do(SETUP)
    driver, _, kind = place.partition(" ")
    server = servers.shared("pg15")
    with FaultProxy.before(database.url("psycopg")) as proxy:

        class Behind:
            """The server, by way of the proxy."""

            port = sa.make_url(proxy.url).port

            def __getattr__(self, name: str) -> Any:
                return getattr(server, name)

        with PgBouncer(cast("Any", Behind())) as pooler:
            url = pooler.url(str(sa.make_url(database.url()).database), driver)
            asked: Any = {"default": {"url": url, "pooler": "transaction", "pool": {"size": 1}}}

            async def work(door: AsyncSessions) -> BaseException:
                async with door.begin(outcome=EARLY) as session:
                    session.add(Thing(id=20, name="first"))
                proxy.plan(Fault(Cut(), answer(verb)))
                failed = await fly(door, Thing(id=21, name="second"))
                assert door.held() == ()
                await door.close()
                return failed

            if kind == "async":
                failed = asyncio.run(work(AsyncSessions(asked)))
            else:
                failed = finish(work(as_async(Sessions(asked))))
    assert isinstance(failed, CommitUnknown)
    assert (21, "second", 0) in witness.rows()["thing"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("target", ["pg18"])
def test_what_is_told(database: FreshDatabase, witness: Witness, place: str) -> None:
    """Facts and hooks are those of any unit."""
    driver, _, kind = place.partition(" ")
    told: dict[str, list[Any]] = {}
    for outcome in (EARLY, PLAIN):
        facts: list[Any] = []

        class Observer:
            def tell(self, fact: Any) -> None:
                facts.append(fact)  # noqa: B023  # at once

        async def work(door: AsyncSessions) -> None:
            async with door.begin() as session:
                session.add(Thing(id=5, name="five"))
                door.on_commit(facts.append, "committed")  # noqa: B023  # at once
            with pytest.raises(StaleDataError):
                async with door.begin() as session:
                    thing = await session.get_one(Thing, 9)
                    witness.do("delete from thing where id = 9")
                    thing.value += 1
                    door.on_rollback(facts.append, "rolled back")  # noqa: B023  # at once
            await door.close()

        witness.do(SETUP)
        asked: Any = {"default": {"url": database.url(driver), "outcome": outcome}}
        if kind == "async":
            asyncio.run(work(AsyncSessions(asked, observers=[Observer()])))
        else:
            finish(work(as_async(Sessions(asked, observers=[Observer()]))))
        told[outcome] = [
            fact if isinstance(fact, str) else (type(fact), getattr(fact, "outcome", "")) for fact in facts
        ]
    assert told[EARLY] == told[PLAIN]


# -- what it needs


def early_door(url: str, **connect: Any) -> Sessions:
    """One whose units commit early if they can."""
    return Sessions({"default": {"url": url, "outcome": EARLY, "connect": connect, "pool": {"size": 1}}})


def trips(door: Sessions, proxy: FaultProxy, work: Callable[[Session], object]) -> int:
    """The round trips of a unit, when all is known that can be remembered."""
    for _ in range(8):
        with proxy.counting() as counted, door.begin() as session:
            work(session)
    return counted.round_trips


def change(session: Session) -> None:
    """Read a row and change it."""
    session.get_one(Thing, 1).value += 1


@pytest.mark.parametrize("target", ["pg18"])
@pytest.mark.parametrize("unknown", ["driver", "SQLAlchemy", "cursor", ""])
def test_what_is_not_known(
    database: FreshDatabase, witness: Witness, monkeypatch: pytest.MonkeyPatch, unknown: str
) -> None:
    """With a driver or a SQLAlchemy that was not read, and a cursor of the application's, COMMIT goes alone."""
    witness.do(SETUP)
    match unknown:
        case "driver":
            monkeypatch.setattr(first_flight, "is_known", lambda: False)
        case "SQLAlchemy":
            monkeypatch.setattr(known, "IS_KNOWN", False)
    connect = {"cursor_factory": psycopg.Cursor} if unknown == "cursor" else {}
    with FaultProxy.before(database.url("psycopg")) as proxy, early_door(proxy.url, **connect) as door:
        assert trips(door, proxy, change) == {"driver": 4, "SQLAlchemy": 3, "cursor": 4, "": 2}[unknown]
    assert (1, "one", 9) in witness.rows()["thing"]


@pytest.mark.parametrize("target", ["pg18"])
def test_who_listens(database: FreshDatabase, witness: Witness) -> None:
    """Whoever may send something when the statement has left keeps COMMIT from leaving with it."""
    witness.do(SETUP)

    def hear(*_: object) -> None:
        """Listens."""

    with FaultProxy.before(database.url("psycopg")) as proxy, early_door(proxy.url) as door:
        assert trips(door, proxy, change) == 2
        for target, names in {
            Session: [*last_flight._SILENT, *last_flight._OURS],
            Thing: [*last_flight._OF_OBJECTS, *last_flight._OF_LOADING],
        }.items():
            for name in names:
                sa.event.listen(target, name, hear)
                try:
                    assert trips(door, proxy, change) == 3, name
                finally:
                    sa.event.remove(target, name, hear)
        with door.begin() as session:
            engine: Any = session.get_bind()
        for name in ("after_cursor_execute", "do_execute"):
            assert trips(door, proxy, change) == 2
            sa.event.listen(engine, name, hear)
            assert trips(door, proxy, change) == 3, name
            sa.event.remove(engine, name, hear)
            engine._has_events = False  # SQLAlchemy leaves it


@pytest.mark.parametrize("target", ["pg18"])
def test_nothing_is_left_booked(database: FreshDatabase, witness: Witness) -> None:
    """A flush that sends nothing, or fails before it sends anything, leaves the driver's connection as it was."""
    witness.do(SETUP)
    with early_door(database.url("psycopg")) as door:
        seen = set()

        def look() -> None:
            with door.begin() as session:
                driver: Any = session.connection().connection.driver_connection
                seen.add(driver.cursor_factory)

        look()
        with door.begin() as session:
            thing = session.get_one(Thing, 1)
            thing.value = thing.value + 0
        look()
        with pytest.raises(sa.exc.StatementError), door.begin() as session:
            session.add(Note(text="x", stamp="no time"))
        look()
        assert seen == {first_flight.beginning_cursor(False)}
