"""The work of a unit of asyncio that a thread does: cancelled, given up, waiting, and where a thread cannot do it."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_asyncio
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session

from polysession import AsyncSessions
from polysession._shell import in_thread, sqlite_async, workers
from polysession._shell.finish import Finish
from polysession.errors import DeadlineExceeded, RequestRefused, UnitRolledBack, WrongDoor, WrongOwner
from polysession.facts import Outcome, outcome_of

pytestmark = pytest.mark.asyncio

SLOW = sa.text("with recursive n(i) as (select 1 union all select i + 1 from n where i < 1e10) select count(*) from n")
WRITE = sa.text("insert into item values (1)")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database with an empty table."""
    made = tmp_path / "shop.db"
    connection = sqlite3.connect(made)
    connection.execute("create table item (id integer)")
    connection.close()
    return made


@pytest_asyncio.fixture
async def door(path: Path) -> AsyncIterator[AsyncSessions]:
    """A door that is left empty."""
    async with AsyncSessions(f"sqlite+aiosqlite:///{path}") as door:
        yield door
        assert door.held() == ()
        assert door._connections_out() == 0


def rows(path: Path) -> int:
    """How many there are for others."""
    connection = sqlite3.connect(path)
    try:
        return int(connection.execute("select count(*) from item").fetchone()[0])
    finally:
        connection.close()


async def until(holds: Callable[[], bool]) -> None:
    """Let the others run until it holds."""
    for _ in range(20_000):
        if holds():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it does not come to hold")


async def test_this_adapter_is_known() -> None:
    """The versions of SQLAlchemy and aiosqlite that are here were read; another one has to be."""
    assert sqlite_async.is_known()


async def test_a_thread_does_it(door: AsyncSessions) -> None:
    """The work runs in a thread, by the driver's own connection, and the next one in the same thread."""
    names = []

    def work(session: Session) -> None:
        raw: Any = session.connection().connection.dbapi_connection
        assert isinstance(raw.cursor(), sqlite3.Cursor)
        names.append(threading.current_thread().name)

    await door.run_sync(work)
    await door.run_sync(work, access="read")
    assert names[0].startswith("polysession unit")
    assert names[0] == names[1]


async def test_a_cancelled_statement(door: AsyncSessions, path: Path) -> None:
    """A cancellation interrupts the statement; when it leaves, the unit is rolled back and the thread is done."""
    begun, ended = threading.Event(), []

    def work(session: Session) -> None:
        session.execute(WRITE)
        begun.set()
        try:
            session.execute(SLOW)
        finally:
            ended.append(rows(path))

    task = asyncio.create_task(door.run_sync(work))
    await until(begun.is_set)
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert outcome_of(caught.value) is Outcome.ROLLED_BACK
    assert ended == [0]
    assert door.held() == ()
    assert rows(path) == 0
    await door.run_sync(lambda session: session.execute(WRITE).close())
    assert rows(path) == 1


async def test_a_cancellation_between_statements(door: AsyncSessions, path: Path) -> None:
    """The next statement is refused; work that swallows even that does not commit."""
    begun, go_on, seen = threading.Event(), threading.Event(), []

    def work(session: Session) -> None:
        session.execute(WRITE)
        begun.set()
        assert go_on.wait(20)
        try:
            session.execute(WRITE)
        except UnitRolledBack as error:
            seen.append(error)

    task = asyncio.create_task(door.run_sync(work))
    await until(begun.is_set)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert outcome_of(caught.value) is Outcome.ROLLED_BACK
    assert "was cancelled, or its time is up" in str(seen)
    assert rows(path) == 0


async def test_a_cancellation_in_the_commit(door: AsyncSessions, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that comes when COMMIT is next waits for it: committed, and told so."""
    begun, go_on = threading.Event(), threading.Event()
    commit = Finish.commit

    def slow(*args: Any) -> None:
        begun.set()
        assert go_on.wait(20)
        commit(*args)

    monkeypatch.setattr(Finish, "commit", slow)
    told: list[Outcome] = []

    def work(session: Session) -> None:
        session.execute(WRITE)
        door.on_outcome(told.append)

    task = asyncio.create_task(door.run_sync(work))
    await until(begun.is_set)
    task.cancel()
    await asyncio.sleep(0.1)
    go_on.set()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert outcome_of(caught.value) is Outcome.COMMITTED
    assert told == [Outcome.COMMITTED]
    assert rows(path) == 1


async def test_a_deadline_that_passes_in_the_commit(
    door: AsyncSessions, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A unit that was in time is not cut short in its COMMIT, and answers what its work returned."""
    commit = Finish.commit

    def slow(holding: Any, database: str) -> None:
        threading.Event().wait(0.3)
        commit(holding, database)

    monkeypatch.setattr(Finish, "commit", slow)
    assert await door.run_sync(lambda session: session.scalar(sa.text("select 1")), deadline=0.2) == 1
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_deadline_while_the_work_does_something_else(door: AsyncSessions, path: Path) -> None:
    """The thread cannot be left; when it is done the unit is rolled back, and the deadline is told."""

    def work(session: Session) -> None:
        session.execute(WRITE)
        threading.Event().wait(0.4)

    with pytest.raises(DeadlineExceeded):
        await door.run_sync(work, deadline=0.2)
    assert rows(path) == 0


async def test_nobody_waits_any_more(door: AsyncSessions, path: Path) -> None:
    """If the coroutine is closed, which can wait for nothing, the thread ends the unit by itself."""
    begun, go_on = threading.Event(), threading.Event()
    await door.run_sync(lambda session: session.scalar(sa.text("select 1")))

    def work(session: Session) -> None:
        session.execute(WRITE)
        begun.set()
        assert go_on.wait(20)

    unit = door.run_sync(work)
    unit.send(None)
    await until(begun.is_set)
    unit.close()
    go_on.set()
    await until(lambda: door.held() == () and door._connections_out() == 0)
    assert rows(path) == 0


async def test_writers_wait_without_threads(door: AsyncSessions) -> None:
    """One writes, others wait for it as tasks; readers read meanwhile."""
    begun, go_on = threading.Event(), threading.Event()

    def hold(session: Session) -> None:
        session.execute(WRITE)
        begun.set()
        assert go_on.wait(20)

    def write(session: Session) -> None:
        session.execute(WRITE)

    first = asyncio.create_task(door.run_sync(hold))
    await until(begun.is_set)
    others = [asyncio.create_task(door.run_sync(write)) for _ in range(20)]
    (room,) = door._ready_engines.rooms()
    await until(lambda: len(room.seats.waiters) == 20)
    threads = sum(thread.name.startswith("polysession unit") for thread in threading.enumerate())
    counted = await door.run_sync(lambda session: session.scalar(sa.text("select count(*) from item")), access="read")
    assert counted == 0
    assert sum(thread.name.startswith("polysession unit") for thread in threading.enumerate()) <= threads + 1
    others[7].cancel()
    go_on.set()
    await first
    ends = await asyncio.gather(*others, return_exceptions=True)
    assert [number for number, end in enumerate(ends) if end is not None] == [7]


async def test_a_thread_waits_in_the_pool(door: AsyncSessions, monkeypatch: pytest.MonkeyPatch) -> None:
    """If another one was faster the thread waits in the same queue, beside tasks; a cancellation ends that."""
    monkeypatch.setattr(in_thread.Seat, "perform", lambda self: None)
    await door.run_sync(lambda session: session.execute(WRITE).close())
    (room,) = door._ready_engines.rooms()

    def write(session: Session) -> str:
        session.execute(WRITE)
        return "written"

    async with door.begin() as session:
        await session.execute(WRITE)
        waiting = asyncio.create_task(door.run_sync(write, propagation="requires_new"))
        cancelled = asyncio.create_task(door.run_sync(write, propagation="requires_new"))
        await until(lambda: len(room.seats.waiters) == 2)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await cancelled
        assert outcome_of(caught.value) is Outcome.ROLLED_BACK
    assert await waiting == "written"


async def test_a_thread_has_a_connection_opened(door: AsyncSessions, monkeypatch: pytest.MonkeyPatch) -> None:
    """If there is none the loop opens it, for the thread that waits."""
    monkeypatch.setattr(in_thread.Seat, "perform", lambda self: None)
    assert await door.run_sync(lambda session: session.scalar(sa.text("select 1"))) == 1
    works = [door.run_sync(lambda session: session.scalar(sa.text("select 2")), access="read") for _ in range(4)]
    assert await asyncio.gather(*works) == [2] * 4


async def test_a_broken_connection_is_closed_by_the_thread(door: AsyncSessions, path: Path) -> None:
    """What a thread throws away is closed at once, with its locks; a later unit has another one."""

    def work(session: Session) -> int:
        session.execute(WRITE)
        session.connection().invalidate()
        probe = sqlite3.connect(path, timeout=0)
        probe.execute("begin immediate")
        probe.close()
        raise RuntimeError

    with pytest.raises(RuntimeError):
        await door.run_sync(work)
    await door.run_sync(lambda session: session.execute(WRITE).close())
    assert rows(path) == 1


async def test_one_owner(door: AsyncSessions) -> None:
    """The session is the thread's: a task that gets hold of it is refused; the door's own verbs are, in the thread."""
    begun, go_on, sessions = threading.Event(), threading.Event(), []

    def work(session: Session) -> None:
        sessions.append(session)
        with pytest.raises(WrongDoor):
            door.begin()
        begun.set()
        assert go_on.wait(20)

    task = asyncio.create_task(door.run_sync(work))
    await until(begun.is_set)
    with pytest.raises(WrongOwner):
        sessions[0].get_bind()
    go_on.set()
    await task


@pytest.mark.parametrize("error", [StopIteration, GeneratorExit])
async def test_errors_that_end_generators(door: AsyncSessions, error: type[BaseException]) -> None:
    """They leave as they leave a coroutine: below a RuntimeError."""

    def work(session: Session) -> None:
        raise error

    with pytest.raises(RuntimeError, match=error.__name__) as caught:
        await door.run_sync(work)
    assert isinstance(caught.value.__cause__, error)


async def test_an_interrupt_of_the_work(door: AsyncSessions, path: Path) -> None:
    """What is no Exception leaves as it is, too, from a unit that is rolled back."""

    class Interrupt(BaseException):
        pass

    def work(session: Session) -> None:
        session.execute(WRITE)
        raise Interrupt

    with pytest.raises(Interrupt) as caught:
        await door.run_sync(work)
    assert outcome_of(caught.value) is Outcome.ROLLED_BACK
    assert rows(path) == 0


async def test_no_thread_can_be_started(door: AsyncSessions, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the unit fails, and leaves nothing behind."""

    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(workers, "begin", refuse)
    with pytest.raises(RuntimeError, match="thread") as caught:
        await door.run_sync(lambda session: session.execute(WRITE).close())
    assert outcome_of(caught.value) is Outcome.ROLLED_BACK


async def test_what_is_refused(door: AsyncSessions) -> None:
    """A coroutine function, and a read unit with an outcome; nothing is sent."""

    async def work(session: Session) -> None:
        raise AssertionError

    with pytest.raises(RequestRefused, match="coroutine"):
        await door.run_sync(cast("Any", work))
    with pytest.raises(RequestRefused, match="access='read'"):
        await door.run_sync(lambda session: None, access="read", key="order-1")


@pytest.mark.parametrize("why", ["unknown", "exact", "given", "two"])
async def test_where_a_thread_cannot_do_it(path: Path, monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    """Elsewhere the work runs in the loop, below the session of asyncio, and is the same for its author."""
    databases: Any = f"sqlite+aiosqlite:///{path}"
    names: tuple[str, ...] = ()
    asked: dict[str, Any] = {}
    if why == "unknown":
        monkeypatch.setattr(sqlite_async, "is_known", lambda: False)
    elif why == "exact":
        asked["outcome"] = "exact"
    elif why == "given":
        databases = create_async_engine(databases)
    else:
        databases, names = {"orders": databases, "stock": "sqlite+aiosqlite://"}, ("orders", "stock")
        asked["isolation"] = None
    threads: list[str] = []

    def work(session: Session) -> None:
        threads.append(threading.current_thread().name)
        if not names:
            session.execute(WRITE)

    async with AsyncSessions(databases) as door:
        if names:
            await door.run_sync(work, *names, access="read")
        else:
            await door.run_sync(work, **asked)
    if why == "given":
        await databases.dispose()
    assert threads == [threading.main_thread().name]
    assert rows(path) == (0 if names else 1)


async def test_threads_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that had nothing to do for a while ends; the next work starts another."""
    monkeypatch.setattr(workers, "_IDLE", 0.01)
    done = asyncio.Event()
    loop = asyncio.get_running_loop()
    workers._idle.clear()
    seen: list[threading.Thread] = []
    workers.begin(lambda: seen.append(threading.current_thread()), lambda: loop.call_soon_threadsafe(done.set))
    await done.wait()
    await until(lambda: not seen[0].is_alive())
    assert workers._idle == []
