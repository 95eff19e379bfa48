"""What every pool of SQLAlchemy does: one suite over ours and, as the control, over SQLAlchemy's own.

Each is used as by an application, below a plain engine over SQLite; for asyncio the same code runs in SQLAlchemy's
greenlets. What only ours promises comes last, and there the control must fail.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import AsyncAdaptedQueuePool, Pool, QueuePool
from sqlalchemy.util import await_only, greenlet_spawn

from polysession import Sessions
from polysession._core.overload import WINDOWS
from polysession._shell.room import Room
from polysession.errors import CheckoutTimeout, ConfigError, DoorClosed, Overloaded
from polysession.pools import FairAsyncPool, FairPool

POOLS: tuple[type[Pool], ...] = (FairPool, FairAsyncPool, QueuePool, AsyncAdaptedQueuePool)
TIME_IS_UP = (TimeoutError, PoolTimeout)
ONE = sa.text("select 1")


class Bench:
    """Engines over one pool class, and others that use them at the same time: threads or tasks."""

    def __init__(self, pool: type[Pool], folder: Path) -> None:
        self.pool = pool
        self.is_async = pool in (FairAsyncPool, AsyncAdaptedQueuePool)
        self.is_ours = pool in (FairPool, FairAsyncPool)
        self.path = folder / "pools.db"
        self.engines: list[sa.Engine] = []

    def engine(self, size: int = 1, timeout: float = 30.0, **more: Any) -> sa.Engine:
        """One with so many connections at most."""
        arguments: dict[str, Any] = {"poolclass": self.pool, "pool_size": size, "pool_timeout": timeout, **more}
        if not self.is_ours:
            arguments["max_overflow"] = 0
        if self.is_async:
            made = create_async_engine(f"sqlite+aiosqlite:///{self.path}", **arguments).sync_engine
        else:
            made = sa.create_engine(f"sqlite:///{self.path}", **arguments)
        self.engines.append(made)
        return made

    def run(self, work: Callable[[Bench], None]) -> None:
        """Do it here, or in an event loop."""

        def all_of_it() -> None:
            try:
                work(self)
            finally:
                for engine in self.engines:
                    engine.dispose()

        if self.is_async:
            asyncio.run(greenlet_spawn(all_of_it))
        else:
            all_of_it()

    def start(self, work: Callable[[], None]) -> Callable[[], None]:
        """Begin it beside; the answer waits for its end."""
        if self.is_async:
            task = asyncio.get_running_loop().create_task(greenlet_spawn(work))
            return lambda: await_only(task)
        thread = threading.Thread(target=work)
        thread.start()
        return thread.join

    def pause(self) -> None:
        """Let the others run."""
        if self.is_async:
            await_only(asyncio.sleep(0))
        else:
            time.sleep(0)

    def until_waiting(self, engine: sa.Engine, number: int = 1) -> None:
        """Until so many wait for a connection."""
        pool: Any = engine.pool
        if self.is_ours:
            while len(pool.room.seats.waiters) < number:
                self.pause()
        elif self.is_async:
            while len(pool._pool._queue._getters) < number:
                self.pause()
        else:
            while len(pool._pool.not_empty._waiters) < number:
                self.pause()


@pytest.fixture(params=POOLS, ids=lambda pool: pool.__name__)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    """One for each pool."""
    return Bench(request.param, tmp_path)


def suite(work: Callable[[Bench], None]) -> Callable[[Bench], None]:
    """A test that runs where its pool belongs."""

    def test(bench: Bench) -> None:
        bench.run(work)

    test.__doc__, test.__name__ = work.__doc__, work.__name__
    return test


def driver_of(connection: sa.Connection) -> Any:
    """The driver's own connection."""
    return connection.connection.driver_connection


@suite
def test_one_after_the_other_uses_one_connection(bench: Bench) -> None:
    """A connection that came back is used again, and the counts say so."""
    engine = bench.engine(3)
    seen = set()
    for _ in range(5):
        with engine.connect() as connection:
            seen.add(id(driver_of(connection)))
    pool: Any = engine.pool
    assert len(seen) == 1
    assert (pool.size(), pool.checkedin(), pool.checkedout()) == (3, 1, 0)
    assert "1" in pool.status()


@suite
def test_nobody_shares_a_connection(bench: Bench) -> None:
    """Many at once never have more connections than there may be, and never one of them twice."""
    engine = bench.engine(3)
    used: set[int] = set()
    most: list[int] = []

    def work() -> None:
        for _ in range(20):
            with engine.connect() as connection:
                mine = id(driver_of(connection))
                assert mine not in used
                used.add(mine)
                most.append(len(used))
                bench.pause()
                used.remove(mine)

    for ends in [bench.start(work) for _ in range(8)]:
        ends()
    assert len(most) == 160
    assert max(most) <= 3


@suite
def test_who_waits_is_served(bench: Bench) -> None:
    """Whoever finds none waits, and gets the one that comes back."""
    engine = bench.engine()
    first = engine.connect()
    mine, theirs = id(driver_of(first)), []

    def work() -> None:
        with engine.connect() as connection:
            theirs.append(id(driver_of(connection)))

    ends = bench.start(work)
    bench.until_waiting(engine)
    first.close()
    ends()
    assert theirs == [mine]


@suite
def test_the_wait_is_bounded(bench: Bench) -> None:
    """Nothing comes back: an error when the time is up, and nothing is lost by it."""
    engine = bench.engine(timeout=0.05)
    with engine.connect():
        began = time.monotonic()
        with pytest.raises(TIME_IS_UP):
            engine.connect()
        assert time.monotonic() - began >= 0.04
    with engine.connect() as connection:
        assert connection.scalar(ONE) == 1


@suite
def test_what_was_not_committed_is_gone(bench: Bench) -> None:
    """What one user leaves uncommitted is rolled back before the next one has the connection."""
    engine = bench.engine()
    with engine.begin() as connection:
        connection.execute(sa.text("create table item (id int)"))
    with engine.connect() as connection:
        connection.execute(sa.text("insert into item values (1)"))
    with engine.connect() as connection:
        assert connection.scalar(sa.text("select count(*) from item")) == 0


@suite
def test_the_isolation_level_of_one_user_is_gone(bench: Bench) -> None:
    """A level that one user asked for does not reach the next one."""
    engine = bench.engine()
    with engine.connect() as connection:
        before = connection.get_isolation_level()
    with engine.connect().execution_options(isolation_level="READ UNCOMMITTED") as connection:
        assert connection.get_isolation_level() == "READ UNCOMMITTED" != before
    with engine.connect() as connection:
        assert connection.get_isolation_level() == before


@suite
def test_an_invalidated_connection_is_replaced(bench: Bench) -> None:
    """Its seat is not lost, and what was noted on it is forgotten."""
    engine = bench.engine()
    with engine.connect() as connection:
        first = driver_of(connection)
        connection.info["note"] = 1
        connection.invalidate()
    with engine.connect() as connection:
        assert driver_of(connection) is not first
        assert "note" not in connection.info
        assert connection.scalar(ONE) == 1


@suite
def test_what_is_noted_on_a_connection_stays(bench: Bench) -> None:
    """`info` goes with the connection of the driver."""
    engine = bench.engine()
    with engine.connect() as connection:
        connection.info["note"] = 1
    with engine.connect() as connection:
        assert connection.info["note"] == 1


@suite
def test_a_detached_connection_is_its_owners(bench: Bench) -> None:
    """It does not count any more, and another one may be opened."""
    engine = bench.engine(timeout=1.0)
    own = engine.connect()
    own.detach()
    with engine.connect() as connection:
        assert driver_of(connection) is not driver_of(own)
    own.close()


@suite
def test_a_connection_that_cannot_be_opened(bench: Bench) -> None:
    """The driver's error reaches whoever asked; the seat is free again."""
    engine = bench.engine(timeout=1.0)
    fails = [True]

    @event.listens_for(engine, "do_connect")
    def connects(*_: Any) -> None:
        if fails[0]:
            raise OSError("no route to host")

    for _ in range(3):
        with pytest.raises(OSError, match="no route"):
            engine.connect()
    fails[0] = False
    with engine.connect() as connection:
        assert connection.scalar(ONE) == 1


@suite
def test_disposing_of_an_engine(bench: Bench) -> None:
    """Idle connections are closed; one that is out works until it comes back; the engine works on with new ones."""
    engine = bench.engine(2)
    closed: list[int] = []
    event.listen(engine, "close", lambda driver, _: closed.append(1))
    out, idle, before = engine.connect(), engine.connect(), engine.pool
    idle.close()
    engine.dispose()
    assert len(closed) == 1
    assert out.scalar(ONE) == 1
    with engine.connect() as connection:
        assert driver_of(connection) is not driver_of(out)
    out.close()
    assert len(closed) == (2 if bench.is_ours else 1)  # SQLAlchemy leaves that one to a pool that nobody uses any more
    before.dispose()
    assert len(closed) == 2


@suite
def test_events(bench: Bench) -> None:
    """Listeners hear the same in the same order."""
    engine = bench.engine()
    heard: list[str] = []
    for name in ("first_connect", "connect", "checkout", "checkin", "reset", "invalidate", "close", "detach"):
        event.listen(engine, name, lambda *_, name=name: heard.append(name))
    with engine.connect() as connection:
        connection.scalar(ONE)
    assert heard == ["first_connect", "connect", "checkout", "reset", "checkin"]
    heard.clear()
    with engine.connect() as connection:
        connection.invalidate()
    assert heard == ["checkout", "invalidate", "close", "checkin"]
    heard.clear()
    with engine.connect() as connection:
        connection.detach()
    assert [name for name in heard if name != "close"] == ["connect", "checkout", "detach", "reset"]


@suite
def test_a_listener_that_refuses_a_connection(bench: Bench) -> None:
    """`DisconnectionError` at checkout: another one is opened in its place."""
    engine = bench.engine()
    with engine.connect() as connection:
        refused = driver_of(connection)

    @event.listens_for(engine, "checkout")
    def checks(driver: Any, record: Any, _: Any) -> None:
        if record.driver_connection is refused:
            raise DisconnectionError

    with engine.connect() as connection:
        assert driver_of(connection) is not refused
        assert connection.scalar(ONE) == 1


@suite
def test_a_connection_that_has_died(bench: Bench) -> None:
    """With `pool_pre_ping` one that died while it was idle is never seen."""
    engine = bench.engine(pool_pre_ping=True)
    with engine.connect() as connection:
        dead = driver_of(connection)
    if bench.is_async:
        await_only(dead.close())
    else:
        dead.close()
    with engine.connect() as connection:
        assert driver_of(connection) is not dead
        assert connection.scalar(ONE) == 1


@suite
def test_a_pool_made_anew(bench: Bench) -> None:
    """`recreate()` answers one of the same kind and size that knows the listeners."""
    engine = bench.engine(2)
    heard: list[int] = []
    event.listen(engine, "checkout", lambda *_: heard.append(1))
    fresh: Any = engine.pool.recreate()
    assert fresh.size() == 2
    assert type(fresh) is bench.pool
    fresh.connect().close()
    assert heard == [1]
    fresh.dispose()


# -- what only ours does


@suite
def test_nobody_is_passed_by(bench: Bench) -> None:
    """Who gives a connection back and asks again queues behind who waits. (SQLAlchemy's: takes it away from him.)"""
    engine = bench.engine()
    passed_by = 0
    for _ in range(100):
        order: list[str] = []

        def work(order: list[str] = order) -> None:
            with engine.connect():
                order.append("waited")

        mine = engine.connect()
        ends = bench.start(work)
        bench.until_waiting(engine)
        mine.close()
        with engine.connect():
            order.append("came again")
        ends()
        passed_by += order[0] == "came again"
        if passed_by:
            break
    assert bool(passed_by) is not bench.is_ours


@suite
def test_the_error_names_who_holds(bench: Bench) -> None:
    """The error of who gets none says who has them. (SQLAlchemy's: says how many there may be.)"""
    engine = bench.engine(timeout=0.01)
    with engine.connect(), contextlib.ExitStack() as stack:
        caught = stack.enter_context(pytest.raises(TIME_IS_UP))
        engine.connect()
    owner = "task 'Task-" if bench.is_async else "thread 'MainThread'"
    assert (owner in str(caught.value)) is bench.is_ours


@pytest.mark.parametrize("pool", [FairPool, FairAsyncPool])
def test_who_comes_when_too_many_wait_in_an_overload(pool: type[Pool], tmp_path: Path) -> None:
    """Is refused at once, and counted; who waits already is served, and afterwards everybody is. (SQLAlchemy's pools
    know no overload.)"""
    Bench(pool, tmp_path).run(_turns_away)


def _turns_away(bench: Bench) -> None:
    engine = bench.engine()
    room: Room = engine.pool.room  # type: ignore[attr-defined]
    room.seats.waiters.is_bounded = True
    ends, served = [], []

    def work() -> None:
        with engine.connect():
            served.append(1)

    out = engine.connect()
    for number in range(1, 4):
        ends.append(bench.start(work))
        bench.until_waiting(engine, number)
    out.close()
    while len(served) < 3:
        bench.pause()
    (load,) = room.seats.waiters._loads.values()
    load.growth, load.held, load.window_at = WINDOWS, 1.0, time.monotonic()
    out = engine.connect()
    for number in range(1, 3):
        ends.append(bench.start(work))
        bench.until_waiting(engine, number)
    before = room.stats()
    with pytest.raises(Overloaded, match="refused at once, since too many wait already") as caught:
        engine.connect()
    assert caught.value.facts["waited"] == 0.0
    after = room.stats()
    assert (after.timeouts, after.waits) == (before.timeouts + 1, before.waits)
    assert after.waiting == 2
    out.close()
    for end in ends:
        end()
    assert len(served) == 5
    load.growth = 0
    with engine.connect() as connection:
        assert connection.scalar(ONE) == 1


@pytest.mark.parametrize("pool", [FairPool, FairAsyncPool])
@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("pool_size", value) for value in (0, -1, "5", None, 1.5, math.nan, True)),
        *(("pool_timeout", value) for value in (-1, "5", None, math.nan, math.inf, True)),
    ],
)
def test_wrong_settings_are_refused(pool: Any, key: str, value: Any) -> None:
    """When the engine is made, by the name of the argument: not when the first one waits."""
    make: Any = sa.create_engine if pool is FairPool else create_async_engine
    with pytest.raises(ConfigError, match=f"{key}: expected .*found {value!r}"):
        make("sqlite://" if pool is FairPool else "sqlite+aiosqlite://", poolclass=pool, **{key: value})


@pytest.mark.parametrize("verb", ["pause", "resume", "renew", "drain", "resize"])
def test_a_closed_door_is_steered_no_more(verb: str, tmp_path: Path) -> None:
    """Who resumes or resizes what is gone is told so: nobody will have a connection by that."""
    door = Sessions(f"sqlite:///{tmp_path}/a.db")
    door.close()
    with pytest.raises(DoorClosed):
        getattr(door, verb)(*(("default", 3) if verb == "resize" else ()))


def test_gather_runs_as_many_at_once_as_the_pool_was_resized_to(tmp_path: Path) -> None:
    """Others would only wait for a connection, and perhaps in vain."""
    threads: set[int] = set()

    def work(session: Session) -> None:
        session.scalar(sa.text("select 1"))
        threads.add(threading.get_ident())

    with Sessions(f"sqlite:///{tmp_path}/a.db") as door:
        door.resize("default", 1)
        door.gather(*[work] * 8)
    assert len(threads) == 1


def test_the_settings_have_the_names_that_they_have_there(tmp_path: Path) -> None:
    """A pool alone advises what `create_engine` takes, and that of a door what its configuration has."""
    url = f"sqlite:///{tmp_path / 'names.db'}"
    engine = sa.create_engine(url, poolclass=FairPool, pool_size=1, pool_timeout=0.01)
    with engine.connect(), pytest.raises(CheckoutTimeout) as alone:
        engine.connect()
    engine.dispose()
    assert "raise pool_size" in str(alone.value)
    assert "raise pool_timeout" in str(alone.value)
    assert "pool.size" not in str(alone.value)
    words = ("raise pool.size of the database", "raise pool.checkout_timeout")
    assert Room("orders/primary", 1, 0.01).advice(*words) == words
