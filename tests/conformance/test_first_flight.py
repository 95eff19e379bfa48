"""BEGIN in the flight of the first statement: whatever psycopg shows of a first statement it shows of this one too"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from psycopg.pq import TransactionStatus
from sqlalchemy.orm import Session

from polysession import AsyncSessions, Sessions
from polysession._shell import first_flight
from polysession.testing.proxy import Cut, Fault, FaultProxy, Place, answer, request
from tests.engines.process import wait_until
from tests.engines.targets import FreshDatabase

pytestmark = pytest.mark.parametrize("target", ["pg15", "pg18"])

MANY = 70_000
"""More parameters than a statement can have."""
SETUP = """
    create table item (id int primary key, name text);
    insert into item values (1, 'one');
    create table late (id int primary key deferrable initially deferred);
    create function warn() returns int language plpgsql as $$ begin raise notice 'mind'; return 1; end $$
"""

ONE = sa.text("select 1")
FIRST: dict[str, tuple[Any, ...]] = {
    "rows": ("select id, name from item where id = %s", (1,)),
    "no parameters": ("select id, name from item",),
    "a semicolon at the end": ("select id from item ; ",),
    "a semicolon in a string": ("select ';'",),
    "several statements": ("select 1; select 2",),
    "nothing": ("",),
    "a write": ("insert into item values (2, 'two')",),
    "a write that answers": ("insert into item values (%s, %s) returning id", (2, "two")),
    "much": ("select n, repeat('x', 100) from generate_series(1, %s) n", (20_000,)),
    "much is sent": ("select length(%s)", ("x" * 3_000_000,)),
    "a notice": ("select warn()",),
    "a message": ("notify here, 'you'",),
    "the transaction's own level": ("set transaction isolation level serializable",),
    "a savepoint": ("savepoint one",),
    "commit": ("commit",),
    "begin": ("begin",),
    "no such table": ("select * from nowhere",),
    "no such table, with a parameter": ("select * from nowhere where id = %s", (1,)),
    "no SQL": ("selekt 1",),
    "a duplicate": ("insert into item values (%s, 'again')", (1,)),
    "division by zero": ("select 1 / %s", (0,)),
    "not in a transaction": ("vacuum item",),
    "into a file": ("copy item to stdout",),
    "too few parameters": ("select %s, %s", (1,)),
    "too many parameters": (f"select {', '.join(['%s'] * MANY)}", tuple(range(MANY))),
    "a type that is not known": ("select %s", (object(),)),
    "the server ends it": ("select pg_terminate_backend(pg_backend_pid())",),
    "the server cancels it": ("select pg_cancel_backend(pg_backend_pid()), pg_sleep(60)",),
}
"""What may come first in a transaction."""


def seen(error: BaseException) -> tuple[Any, ...]:
    """What a caller sees of an error."""
    words = str(error).replace("the connection is closed", "the connection is lost")
    return type(error), getattr(error, "sqlstate", None), words


def answered(cursor: Any, rows: Any) -> tuple[Any, ...]:
    """What a caller sees of an answer."""
    names = None if cursor.description is None else [(column.name, column.type_code) for column in cursor.description]
    return rows, names, cursor.rowcount, cursor.statusmessage, cursor.pgresult.status


def left(connection: Any) -> tuple[Any, ...]:
    """What is left of a connection."""
    pgconn = connection.pgconn
    return connection.closed, connection.broken, TransactionStatus(pgconn.transaction_status), pgconn.pipeline_status


def tried(connection: Any, *arguments: Any, **named: Any) -> tuple[Any, ...]:
    """What comes of a statement, and what it leaves."""
    try:
        cursor = connection.cursor()
        cursor.execute(*arguments, **named)
        come = answered(cursor, cursor.fetchall() if cursor.description else None)
    except Exception as error:
        come = seen(error)
    return come, left(connection)


async def awaited(connection: Any, *arguments: Any, **named: Any) -> tuple[Any, ...]:
    """The same for asyncio."""
    try:
        cursor = connection.cursor()
        await cursor.execute(*arguments, **named)
        come = answered(cursor, await cursor.fetchall() if cursor.description else None)
    except Exception as error:
        come = seen(error)
    return come, left(connection)


def ended(connection: Any) -> tuple[Any, ...]:
    """What comes of the transaction's end."""
    try:
        connection.rollback()
    except psycopg.Error as error:
        return seen(error)
    return left(connection)


async def end_awaited(connection: Any) -> tuple[Any, ...]:
    """The same for asyncio."""
    try:
        await connection.rollback()
    except psycopg.Error as error:
        return seen(error)
    return left(connection)


@pytest.fixture
def address(database: FreshDatabase) -> str:
    """The database's address for libpq, with the tables of this file."""
    address = database.url("psycopg").replace("+psycopg", "")
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(SETUP)
    return address


@pytest.fixture
def connect(address: str) -> Iterator[Callable[[bool], Any]]:
    """Opens a connection, with the driver's cursor or with ours."""
    opened = []

    def make(ours: bool) -> Any:
        factory = first_flight.beginning_cursor(False) if ours else psycopg.Cursor
        opened.append(psycopg.connect(address, cursor_factory=factory))
        return opened[-1]

    yield make
    for connection in opened:
        connection.close()


@pytest.mark.parametrize("what", FIRST)
def test_the_first_statement(connect: Callable[[bool], Any], what: str) -> None:
    """Its answer or its error, the transaction after it, and how that ends, are those of psycopg."""

    def work(connection: Any) -> Any:
        notices: list[str] = []
        connection.add_notice_handler(lambda notice: notices.append(str(notice.message_primary)))
        statements = FIRST[what], ("select count(*) from item",)
        come = [tried(connection, *each) for each in statements]
        return [*come, ended(connection), notices]

    assert unbegun(work(connect(False))) == work(connect(True))


@pytest.mark.parametrize("what", FIRST)
def test_the_first_statement_of_asyncio(address: str, what: str) -> None:
    """The same."""

    async def work(ours: bool) -> Any:
        factory = first_flight.beginning_cursor(True) if ours else psycopg.AsyncCursor
        connection = await psycopg.AsyncConnection.connect(address, cursor_factory=factory)
        try:
            statements = FIRST[what], ("select count(*) from item",)
            come = [await awaited(connection, *each) for each in statements]
            return [*come, await end_awaited(connection)]
        finally:
            await connection.close()

    assert unbegun(asyncio.run(work(False))) == asyncio.run(work(True))


def unbegun(come: list[Any]) -> list[Any]:
    """As it is with our cursor: what the driver cannot turn into a statement begins no transaction."""
    (first, (closed, broken, status, pipeline)), *rest = come
    if first[:2] == (psycopg.ProgrammingError, None) and status is TransactionStatus.INTRANS:
        status = TransactionStatus.IDLE
    return [(first, (closed, broken, status, pipeline)), *rest]


@pytest.mark.parametrize(
    "text", ["select name from item where id = %s", "insert into item values (%s, 'again')", "select nowhere(%s)"]
)
def test_what_is_prepared(connect: Callable[[bool], Any], text: str) -> None:
    """Statements are prepared when psycopg would prepare them, and nothing piles up on the server if they fail."""

    def work(connection: Any) -> Any:
        come: list[Any] = []
        for prepare in (*[None] * 8, True):
            come.append(tried(connection, text, (1,), prepare=prepare))
            connection.commit()
            prepared = connection.execute("select statement from pg_prepared_statements order by 1").fetchall()
            connection.commit()
            come.append(prepared)
        return come

    assert work(connect(False)) == work(connect(True))


def test_how_it_begins(connect: Callable[[bool], Any]) -> None:
    """BEGIN says what it is told to say."""

    def work(connection: Any) -> Any:
        connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        connection.read_only, connection.deferrable = True, True
        names = ("transaction_isolation", "transaction_read_only", "transaction_deferrable")
        found = [connection.execute(f"select current_setting('{name}')").fetchone() for name in names]
        return found, tried(connection, "insert into item values (2, 'two')")

    assert work(connect(False)) == work(connect(True))


def test_a_transaction_that_cannot_begin(connect: Callable[[bool], Any]) -> None:
    """The error is that of BEGIN, nothing is done, and the connection can be used."""

    def work(connection: Any) -> Any:
        connection._begin_statement = b"begin isolation level nonsense"
        return tried(connection, "insert into item values (%s, 'two')", (2,)), tried(connection, "select 1")

    assert work(connect(False)) == work(connect(True))


def test_other_ways_to_send(connect: Callable[[bool], Any]) -> None:
    """What is not executed as one statement begins as it always did."""

    def work(connection: Any) -> Any:
        come: list[Any] = []
        cursor = connection.cursor()
        cursor.executemany("insert into item values (%s, %s)", [(2, "two"), (3, "three")])
        come.append((cursor.rowcount, left(connection)))
        connection.rollback()
        with cursor.copy("copy item from stdin") as copy:
            copy.write_row((4, "four"))
        come.append(left(connection))
        connection.rollback()
        with cursor.copy("copy item to stdout") as copy:
            come.append(list(copy.rows()))
        connection.rollback()
        with connection.cursor("named") as named:
            named.execute("select id from item")
            come.append(named.fetchall())
        connection.rollback()
        come.append(list(cursor.stream("select id from item")))
        connection.rollback()
        with connection.pipeline():
            come.append(connection.execute("select id from item").fetchall())
        connection.rollback()
        with connection.transaction():
            come.append(connection.execute("select id from item").fetchall())
        come.append(cursor.execute("select id from item", binary=True).fetchall())
        connection.rollback()
        connection.autocommit = True
        come.append((connection.execute("select id from item").fetchall(), left(connection)))
        return come

    assert work(connect(False)) == work(connect(True))


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """Of a process that was started in the background SIGINT is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
def test_an_interrupt(database: FreshDatabase, address: str) -> None:
    """An interrupt in the first statement ends it on the server; the next unit has a good connection."""

    def interrupt() -> None:
        with psycopg.connect(address, autocommit=True) as observer:
            wait_until(lambda: _sleeping(observer) == 1, what="the first statement is under way")
        os.kill(os.getpid(), signal.SIGINT)

    with Sessions(database.url("psycopg")) as door, psycopg.connect(address, autocommit=True) as observer:
        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt), door.begin() as session:
            session.connection().exec_driver_sql("select pg_sleep(60)")
        thread.join()
        assert door.held() == ()
        wait_until(lambda: not _sleeping(observer), what="the server has ended it")
        with door.begin() as session:
            assert session.connection().exec_driver_sql("select 1").scalar() == 1


def _sleeping(observer: Any) -> int:
    text = "select count(*) from pg_stat_activity where state = 'active' and query = 'select pg_sleep(60)'"
    return int(observer.execute(text).fetchone()[0])


def test_a_cancellation(database: FreshDatabase, address: str) -> None:
    """The same for a task that is cancelled."""

    async def work() -> None:
        async with AsyncSessions(database.url("psycopg")) as door:

            async def sleep() -> None:
                async with door.begin() as session:
                    await session.execute(sa.text("select pg_sleep(60)"))

            task = asyncio.create_task(sleep())
            with psycopg.connect(address, autocommit=True) as observer:
                under_way = "the first statement is under way"
                await asyncio.to_thread(wait_until, lambda: _sleeping(observer) == 1, what=under_way)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert not _sleeping(observer)
            assert door.held() == ()
            async with door.begin() as session:
                assert await session.scalar(sa.text("select 1")) == 1

    asyncio.run(work())


PLACES = (
    *(request("INSERT", passed=count) for count in (0, 1, 20, 60, 100, 150)),
    *(answer("INSERT", passed=count) for count in (0, 1, 5, 15, 30, 40)),
)


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_a_link_that_is_cut(database: FreshDatabase, address: str, place: Place) -> None:
    """Wherever the link is cut, the unit fails as one whose connection was lost before COMMIT, and can be repeated."""
    with FaultProxy.before(database.url("psycopg")) as proxy, Sessions(proxy.url) as door:
        with door.begin() as session:
            session.execute(ONE)
        proxy.plan(Fault(Cut(), place))
        tries = []

        def write(session: Session) -> None:
            tries.append(1)
            session.execute(sa.text("insert into item values (:id, 'two')"), {"id": 2})

        door.run(write)
        assert len(tries) == 2
        assert door.held() == ()
    with psycopg.connect(address) as observer:
        assert observer.execute("select id from item order by id").fetchall() == [(1,), (2,)]


def test_nothing_is_pending(database: FreshDatabase, address: str) -> None:
    """A transaction is seen on the server from its first statement on, also one of the driver's connection."""
    with Sessions(database.url("psycopg")) as door, psycopg.connect(address, autocommit=True) as observer:

        def begun() -> int:
            text = "select count(*) from pg_stat_activity where xact_start is not null and pid <> pg_backend_pid()"
            row = observer.execute(f"{text} and datname = current_database()").fetchone()
            assert row is not None
            return int(row[0])

        with door.begin() as session:
            driver: Any = session.connection().connection.driver_connection
            assert left(driver)[2] is TransactionStatus.IDLE
            assert begun() == 0
            driver.execute("insert into item values (2, 'two')")
            assert left(driver)[2] is TransactionStatus.INTRANS
            assert begun() == 1
        assert observer.execute("select count(*) from item").fetchone() == (2,)


def test_a_driver_that_is_not_known(database: FreshDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """With it BEGIN is sent in the driver's own way; the same for a cursor that the application has chosen."""

    def trips(**connect: Any) -> int:
        url = database.url("psycopg")
        with FaultProxy.before(url) as proxy, Sessions({"default": {"url": proxy.url, "connect": connect}}) as door:
            for _ in range(2):
                with proxy.counting() as count, door.begin() as session:
                    session.execute(ONE)
            return count.round_trips

    assert trips() == 2
    assert trips(cursor_factory=psycopg.ClientCursor) == 3
    monkeypatch.setattr(first_flight, "is_known", lambda: False)
    assert trips() == 3
