"""Reads that give way to other threads only while they wait: what psycopg shows of a statement they show too"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from polysession import Sessions
from polysession._shell import giving_way
from polysession.testing.proxy import Cut, Fault, FaultProxy, Place, answer, request
from tests.engines.process import wait_until
from tests.engines.targets import FreshDatabase

from .test_first_flight import _interruptible, answered, left, seen

__all__ = ["_interruptible"]

pytestmark = pytest.mark.parametrize("target", ["pg15", "pg18"])

SETUP = """
    create table item (id int primary key, name text);
    insert into item values (1, 'one'), (2, 'two');
    create function warn() returns int language plpgsql as $$ begin raise notice 'mind'; return 1; end $$;
    create function divide(n int) returns int language plpgsql as $$ begin return 1 / n; end $$
"""
OFTEN = 8
"""Times after which psycopg has prepared a statement."""
READS: dict[str, list[tuple[str, Any]]] = {
    "rows": [("select id, name from item where id = %s", (1,))],
    "no row": [("select id, name from item where id = %s", (9,))],
    "no parameters": [("select id, name from item order by id", None)],
    "named parameters": [("select id, name from item where id = %(id)s", {"id": 2})],
    "other types of parameters": [("select %s", (1,)), ("select %s", ("one",)), ("select %s", (None,))],
    "much": [("select n, repeat('x', 100) from generate_series(1, %s) n", (20_000,))],
    "much is sent": [("select length(%s)", ("x" * 3_000_000,))],
    "a notice": [("select warn()", None)],
    "nothing": [("", None)],
    "no answer": [("set application_name to 'one'", None)],
    "several statements": [("select 1; select 2", None)],
    "an error after rows": [("select divide(3 - n) from generate_series(1, %s) n", (5,))],
    "no such table": [("select * from nowhere where id = %s", (1,))],
    "division by zero": [("select 1 / %s", (1,)), ("select 1 / %s", (0,))],
    "too few parameters": [("select %s, %s", (1, 2)), ("select %s, %s", (1,))],
    "a type that is not known": [("select %s", (1,)), ("select %s", (object(),))],
    "the server cancels it": [
        ("select pg_cancel_backend(pg_backend_pid()), pg_sleep(%s * 60)", (0,)),
        ("select pg_cancel_backend(pg_backend_pid()), pg_sleep(%s * 60)", (1,)),
    ],
    "the server ends it": [
        ("select case when %s > 1 then pg_terminate_backend(pg_backend_pid()) end", (1,)),
        ("select case when %s > 1 then pg_terminate_backend(pg_backend_pid()) end", (2,)),
    ],
}
"""Statements that are executed often; and often again, one after the other."""


def tried(connection: Any, cursor: Any, *arguments: Any) -> tuple[Any, ...]:
    """What comes of a statement, and what it leaves."""
    made = cursor(connection)
    try:
        made.execute(*arguments)
        come = answered(made, made.fetchall() if made.description else None)
    except Exception as error:
        come = seen(error)
    return come, left(connection)


@pytest.fixture
def connect(database: FreshDatabase) -> Iterator[Callable[[], Any]]:
    """Opens a connection in autocommit."""
    opened = []

    def make(address: str = database.url("psycopg").replace("+psycopg", "")) -> Any:
        opened.append(psycopg.connect(address, autocommit=True))
        return opened[-1]

    make().execute(SETUP)
    yield make
    for connection in opened:
        connection.close()


CURSORS = (psycopg.Cursor, giving_way.waiting_cursor(psycopg.Cursor))


PLACES = (
    *(request("SELECT", passed=count) for count in (0, 1, 20, 40)),
    *(answer("SELECT", passed=count) for count in (0, 1, 5, 15, 40, 80, 120)),
)


def test_it_is_gone(connect: Callable[[], Any]) -> None:
    """What follows compares two ways."""
    assert giving_way.gives_way()
    assert CURSORS[0] is not CURSORS[1]
    assert giving_way.waiting_cursor(psycopg.ClientCursor) is psycopg.ClientCursor
    connection = connect()
    for number in range(OFTEN):
        tried(connection, CURSORS[1], *READS["rows"][0])
        assert hasattr(connection, "polysession_look") is (number > connection.prepare_threshold)


@pytest.mark.parametrize("what", READS)
def test_a_statement(connect: Callable[[], Any], what: str) -> None:
    """Its answer or its error, what is left of the connection and what is prepared are those of psycopg."""

    def work(cursor: Any) -> Any:
        connection = connect()
        notices: list[str] = []
        connection.add_notice_handler(lambda notice: notices.append(str(notice.message_primary)))
        come: list[Any] = []
        for statement in READS[what]:
            come += [tried(connection, cursor, *statement) for _ in range(OFTEN)]
        names = list(connection._prepared._names.values())
        come.append(tried(connection, cursor, "select statement from pg_prepared_statements order by 1"))
        return come, names, notices

    plain, ours = map(work, CURSORS)
    assert plain == ours


def test_in_a_transaction_or_pipeline(connect: Callable[[], Any]) -> None:
    """There it goes psycopg's way."""

    def work(cursor: Any) -> Any:
        connection = connect()
        text = "select id from item where id = %s", (1,)
        come = [tried(connection, cursor, *text) for _ in range(OFTEN)]
        connection.autocommit = False
        come.append(tried(connection, cursor, *text))
        come.append(tried(connection, cursor, *text))
        connection.rollback()
        connection.autocommit = True
        come.append(tried(connection, cursor, *text))
        with connection.pipeline():
            come.append(tried(connection, cursor, *text))
        connection.prepare_threshold = None
        come.append(tried(connection, cursor, *text))
        connection.prepare_threshold, connection.prepared_max = 0, 1
        come += [tried(connection, cursor, f"select {number}, %s", (1,)) for number in range(3) for _ in range(3)]
        connection.close()
        return [*come, tried(connection, cursor, *text)]

    plain, ours = map(work, CURSORS)
    assert plain == ours


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_a_lost_link(database: FreshDatabase, connect: Any, place: Place) -> None:
    """The error and the connection are those of psycopg, wherever the link is cut."""
    words: list[Any] = []
    for cursor in CURSORS:
        with FaultProxy.before(database.url("psycopg")) as proxy:
            connection = connect(proxy.url.replace("+psycopg", ""))
            text = "select name, repeat('x', 50) from item where id = %s", (1,)
            for _ in range(OFTEN):
                tried(connection, cursor, *text)
            proxy.plan(Fault(Cut(), place))
            words.append([tried(connection, cursor, *text), tried(connection, cursor, *text)])
    plain, ours = words
    # as it happens, psycopg sees the socket's end first, and not what has come before it
    assert plain == ours or plain[0][0][2] == "connection socket closed"
    assert ours[0][0][0] is psycopg.OperationalError


@pytest.mark.usefixtures("_interruptible")
def test_an_interrupt(database: FreshDatabase, connect: Callable[[], Any]) -> None:
    """It ends the statement on the server; the next unit has a good connection."""
    nap = sa.text("select pg_sleep(:seconds) as nap")
    observer = connect()

    def interrupt() -> None:
        wait_until(lambda: sleeping(observer) == 1, what="the statement is under way")
        os.kill(os.getpid(), signal.SIGINT)

    with Sessions(database.url("psycopg")) as door:
        for _ in range(OFTEN):
            with door.read() as session:
                session.execute(nap, {"seconds": 0.0}).all()
        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt), door.read() as session:
            session.execute(nap, {"seconds": 60.0})
        thread.join()
        assert door.held() == ()
        assert not door.connections()
        wait_until(lambda: not sleeping(observer), what="the server has ended it")
        with door.read() as session:
            assert session.execute(nap, {"seconds": 0.0}).all()


@pytest.mark.usefixtures("_interruptible")
def test_an_interrupt_leaves_a_good_connection(connect: Callable[[], Any]) -> None:
    """If the server has ended the statement. (psycopg's own cursor sometimes leaves the end of it unread.)"""
    connection, observer = connect(), connect()
    text = "select pg_sleep(%s) as nap"
    *_, before = [tried(connection, CURSORS[1], text, (0.0,)) for _ in range(OFTEN)]

    def interrupt() -> None:
        wait_until(lambda: sleeping(observer) == 1, what="the statement is under way")
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        tried(connection, CURSORS[1], text, (60.0,))
    thread.join()
    assert left(connection) == before[1] == (False, False, psycopg.pq.TransactionStatus.IDLE, 0)
    assert tried(connection, CURSORS[1], text, (0.0,)) == before


def sleeping(observer: Any) -> int:
    """So many naps are under way."""
    text = "select count(*) from pg_stat_activity where state = 'active' and query like 'select pg_sleep(%% as nap'"
    return int(observer.execute(text.replace("%%", "%")).fetchone()[0])
