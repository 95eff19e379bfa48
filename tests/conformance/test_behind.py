"""COMMIT in the flight of the last statement, with asyncpg: what only there can be seen; the rest is in
test_last_flight"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from polysession import AsyncSessions, Outcome
from polysession._shell import adapted, ahead, known
from polysession._shell.last_flight import LastFlight
from polysession.errors import CommitUnknown
from polysession.facts import outcome_of
from polysession.testing.proxy import Delay, Direction, Fault, FaultProxy, Hole, answer
from polysession.topology import Certainty
from tests.engines.targets import FreshDatabase

pytestmark = pytest.mark.parametrize("target", ["pg15", "pg18"])

SETUP = """
    create table item (id int primary key, name text not null, made text default repeat('m', 200000));
    insert into item (id, name) values (1, 'one');
    create function told() returns trigger language plpgsql as $$
    begin
        if new.name like 'late %' then
            raise exception 'not %', new.name using errcode = '23514', detail = 'a detail', hint = 'a hint';
        end if;
        raise notice '% of %', tg_name, new.name;
        if new.name like 'tell%' then
            perform pg_notify('heard', new.name);
            perform set_config('application_name', tg_name, false);
        end if;
        return new;
    end $$;
    create trigger before before insert or update on item for each row when (new.name not like 'late %')
    execute function told();
    create constraint trigger after after insert or update on item deferrable initially deferred
    for each row execute function told();
"""


class Base(DeclarativeBase):
    """Of what is mapped here."""


class Item(Base):
    """One row."""

    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str]
    made: Mapped[str] = mapped_column(server_default=sa.FetchedValue())


Use = Callable[[AsyncSessions, asyncpg.Connection], Coroutine[Any, Any, Any]]


@pytest.fixture
def use(database: FreshDatabase) -> Callable[..., Any]:
    """Runs what is given with a door whose units commit early if they can, and with somebody who looks from outside."""

    def run(work: Use, *, size: int = 1, early: bool = True, url: str = "", **connect: Any) -> Any:
        async def use() -> Any:
            observer = await asyncpg.connect(database.url("asyncpg").replace("+asyncpg", ""))
            await observer.execute(f"drop table if exists item cascade; drop function if exists told; {SETUP}")
            table = {
                "url": url or database.url("asyncpg"),
                "outcome": Certainty.EARLY if early else Certainty.PLAIN,
                "pool": {"size": size},
                "connect": connect,
            }
            try:
                async with AsyncSessions({"default": table}) as door:
                    return await work(door, observer)
            finally:
                await observer.close()

        return asyncio.run(use())

    return run


class Flights:
    """How many there were."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        leaves = LastFlight.leaves

        def counted(flight: LastFlight) -> None:
            self.count += 1
            leaves(flight)

        monkeypatch.setattr(LastFlight, "leaves", counted)


@pytest.fixture
def flights(monkeypatch: pytest.MonkeyPatch) -> Flights:
    """Counts them."""
    return Flights(monkeypatch)


async def driver_of(door: AsyncSessions) -> Any:
    """The connection of asyncpg that comes next."""
    async with door.begin() as session:
        await session.execute(sa.text("select 1"))
        # past the guard: who is seen with a connection in his hands has it closed
        return await session.run_sync(lambda sync: Session.connection(sync).connection.driver_connection)


async def add(door: AsyncSessions, number: int, name: str, **asked: Any) -> str:
    """Write a row; what the server has made for it."""
    async with door.begin(**asked) as session:
        session.add(item := Item(id=number, name=name))
    return item.made


async def name(door: AsyncSessions, number: int, name: str) -> None:
    """Change one."""
    async with door.begin() as session:
        (await session.get_one(Item, number)).name = name


def test_what_the_server_says_meanwhile(use: Callable[..., Any], flights: Flights) -> None:
    """Notices, notifications and settings, of the statement and of COMMIT, are heard by who listens to the driver."""

    async def work(door: AsyncSessions, _: asyncpg.Connection) -> Any:
        driver = await driver_of(door)
        said: list[Any] = []
        driver.add_log_listener(lambda _, told: said.append(told.message))
        await driver.add_listener("heard", lambda *told: said.append(told[-1]))
        protocol = driver._protocol
        for number in (2, 3):
            await add(door, number, f"tell {number}")
            said.append(driver.get_settings().application_name)
        await name(door, 1, "tell two")
        assert driver._transport.get_protocol() is protocol
        assert not driver.is_in_transaction()
        return said

    early = use(work)
    assert flights.count == 3
    assert [str(each) for each in early] == [str(each) for each in use(work, early=False)]
    assert early[:3] == ["before of tell 2", "after of tell 2", "tell 2"]


def test_much(use: Callable[..., Any], flights: Flights) -> None:
    """A row of three million bytes leaves whole before COMMIT, and so does its answer come."""

    async def work(door: AsyncSessions, observer: asyncpg.Connection) -> Any:
        for number in (2, 3):
            assert len(await add(door, number, "x" * 3_000_000)) == 200_000
        await name(door, 1, "y" * 3_000_000)
        return [tuple(row) for row in await observer.fetch("select id, length(name) from item order by id")]

    assert use(work) == [(1, 3_000_000), (2, 3_000_000), (3, 3_000_000)]
    assert flights.count == 3


@pytest.mark.parametrize("change", [False, True])
def test_an_error_of_commit(use: Callable[..., Any], flights: Flights, change: bool) -> None:
    """It is the one that a COMMIT of its own raises: class, text, place, and all that the driver says of it."""

    async def work(door: AsyncSessions, observer: asyncpg.Connection) -> Any:
        come: list[Any] = []
        for number in (2, 3):
            with pytest.raises(DBAPIError) as raised:
                await (name(door, 1, f"late {number}") if change else add(door, number, f"late {number}"))
            error, orig = raised.value, raised.value.orig
            assert orig is not None
            cause = orig.__cause__
            assert isinstance(cause, asyncpg.PostgresError)
            told = {key: value for key, value in cause.as_dict().items() if not key.startswith("server_source_line")}
            come.append((type(error), error.args, type(orig), orig.args, type(cause), str(cause), told))
            come += [error.connection_invalidated, outcome_of(error), error.statement]
            assert not (await driver_of(door)).is_in_transaction()
        return come, [row["name"] for row in await observer.fetch("select name from item")]

    early = use(work)
    assert flights.count == 2
    assert early == use(work, early=False)
    assert early[1] == ["one"]


def test_the_round_trip_after_an_error(use: Callable[..., Any], database: FreshDatabase) -> None:
    """COMMIT has ended the transaction that the statement has left in error: no ROLLBACK follows."""
    with FaultProxy.before(database.url("asyncpg")) as proxy:

        async def work(door: AsyncSessions, observer: asyncpg.Connection) -> Any:
            said: list[str] = []
            found = []
            (await driver_of(door)).add_log_listener(lambda _, told: said.append(told.message))
            for _ in range(3):
                with proxy.counting() as count, pytest.raises(sa.exc.IntegrityError) as raised:
                    await add(door, 1, "again")
                assert outcome_of(raised.value) is Outcome.ROLLED_BACK
                found.append(count.round_trips)
            await add(door, 2, "two")
            assert [each for each in said if "of" not in each] == []
            return found, await observer.fetchval("select count(*) from item")

        assert use(work, url=proxy.url) == ([3, 1, 1], 2)


def test_parameters_that_cannot_be_sent(use: Callable[..., Any], flights: Flights) -> None:
    """Nothing has left then, with BEGIN or without: the unit is rolled back, and the next one is a good one."""

    async def work(door: AsyncSessions, observer: asyncpg.Connection) -> Any:
        await add(door, 2, "two")
        for _ in range(2):
            wrong: Any = "no number"
            with pytest.raises(DBAPIError) as raised:
                await add(door, wrong, "wrong")
            assert outcome_of(raised.value) is Outcome.ROLLED_BACK
            driver = await driver_of(door)
            assert driver._transport.get_protocol() is driver._protocol
            assert not driver.is_in_transaction()
        await add(door, 3, "three")
        return [row["id"] for row in await observer.fetch("select id from item order by id")]

    assert use(work) == [1, 2, 3]
    assert flights.count == 2


def test_a_timeout_of_the_driver(use: Callable[..., Any], database: FreshDatabase, flights: Flights) -> None:
    """asyncpg waits for no answer when its own time is up: as for a COMMIT that was sent alone, nobody knows."""
    with FaultProxy.before(database.url("asyncpg")) as proxy:

        async def work(door: AsyncSessions, observer: asyncpg.Connection) -> Any:
            await add(door, 2, "two")
            for verb, number in (("INSERT", 3), ("COMMIT", 4)):
                proxy.plan(Fault(Hole(frozenset({Direction.TO_CLIENT})), answer(verb)))
                with pytest.raises(CommitUnknown) as raised:
                    await add(door, number, "late")
                assert outcome_of(raised.value) is Outcome.UNKNOWN
                proxy.sever()
                assert door.held() == ()
                await add(door, number + 10, "next")
            return [row["id"] for row in await observer.fetch("select id from item order by id")]

        assert use(work, url=proxy.url, command_timeout=0.5) == [1, 2, 3, 4, 13, 14]
    assert flights.count == 5


def test_several_at_once(use: Callable[..., Any], flights: Flights) -> None:
    """Each on its own connection."""

    async def work(door: AsyncSessions, observer: asyncpg.Connection) -> Any:
        async with asyncio.TaskGroup() as group:
            for number in range(2, 42):
                group.create_task(add(door, number, str(number)))
        async with asyncio.TaskGroup() as group:
            for number in range(2, 42):
                group.create_task(name(door, number, f"+{number}"))
        return await observer.fetchval("select count(*) from item where name = '+' || id")

    assert use(work, size=4) == 40
    assert flights.count == 80


@pytest.mark.parametrize("passed", [0, 1, 4, 5, 9, 14, 20, 26, 31, 40])
@pytest.mark.parametrize("verb", ["INSERT", "COMMIT"])
def test_answers_that_come_in_pieces(
    use: Callable[..., Any], database: FreshDatabase, flights: Flights, verb: str, passed: int
) -> None:
    """Wherever they are cut."""
    with FaultProxy.before(database.url("asyncpg")) as proxy:

        async def work(door: AsyncSessions, observer: asyncpg.Connection) -> Any:
            await add(door, 2, "two")
            proxy.plan(Fault(Delay(0.002), answer(verb, passed=passed)))
            await add(door, 3, "three")
            await name(door, 3, "four")
            return await observer.fetchval("select name from item where id = 3")

        assert use(work, url=proxy.url) == "four"
    assert flights.count == 3


def test_a_transaction_around_it(use: Callable[..., Any], flights: Flights) -> None:
    """Whoever has begun one by the driver itself ends it himself."""

    async def work(door: AsyncSessions, observer: asyncpg.Connection) -> Any:
        await add(door, 2, "two")
        driver = await driver_of(door)
        own = driver.transaction()
        await own.start()
        await add(door, 3, "three")
        seen = await observer.fetchval("select count(*) from item")
        await own.rollback()
        return seen, await observer.fetchval("select count(*) from item")

    assert use(work) == use(work, early=False)
    assert flights.count == 1


@pytest.fixture
def forgotten() -> Iterator[None]:
    """What was made of the driver's cursors is made anew."""
    yield
    adapted.asyncpg_cursors.cache_clear()


@pytest.mark.usefixtures("forgotten")
@pytest.mark.parametrize("unknown", ["driver", "SQLAlchemy", "class", "protocol", ""])
def test_what_it_needs(
    use: Callable[..., Any],
    database: FreshDatabase,
    monkeypatch: pytest.MonkeyPatch,
    flights: Flights,
    unknown: str,
) -> None:
    """With a driver or a SQLAlchemy that was not read, a connection of the application's, and where somebody else
    stands before the driver's protocol, COMMIT goes alone."""
    match unknown:
        case "driver":
            monkeypatch.setattr(ahead, "is_known", lambda: False)
        case "SQLAlchemy":
            monkeypatch.setattr(known, "IS_KNOWN", False)
            monkeypatch.setattr(ahead, "is_known", ahead.is_known.__wrapped__)
    adapted.asyncpg_cursors.cache_clear()

    class Own(asyncpg.Connection):  # type: ignore[misc]  # the driver's stubs are optional
        """The application's."""

    class Between(asyncio.Protocol):
        """Somebody else's."""

        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def data_received(self, data: bytes) -> None:
            self.inner.data_received(data)

        def connection_lost(self, exc: Exception | None) -> None:
            self.inner.connection_lost(exc)

    with FaultProxy.before(database.url("asyncpg")) as proxy:

        async def work(door: AsyncSessions, _: asyncpg.Connection) -> int:
            if unknown == "protocol":
                driver = await driver_of(door)
                driver._transport.set_protocol(Between(driver._protocol))
            for number in range(2, 6):
                await name(door, 1, str(number))
            with proxy.counting() as count:
                await name(door, 1, "last")
            return count.round_trips

        connect = {"connection_class": Own} if unknown == "class" else {}
        trips = use(work, url=proxy.url, **connect)
    assert trips == {"driver": 4, "SQLAlchemy": 4, "class": 4, "protocol": 3, "": 2}[unknown]
    assert (flights.count > 0) is (unknown == "")


def test_nothing_is_left_booked(use: Callable[..., Any]) -> None:
    """A flush that sends nothing, or fails before it sends anything, leaves the driver's connection as it was."""

    async def work(door: AsyncSessions, _: asyncpg.Connection) -> None:
        driver = await driver_of(door)
        async with door.begin() as session:
            item = await session.get_one(Item, 1)
            item.name = str(item.name)
        assert driver.polysession_flight is None
        with pytest.raises(sa.exc.StatementError):
            await add(door, 2, sa.bindparam("unbound", required=True))  # type: ignore[arg-type]
        assert driver.polysession_flight is None
        assert await driver_of(door) is driver

    use(work)
