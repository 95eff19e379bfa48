"""The proxy between real drivers and real servers: the truth, read past the proxy, is what each fault promises."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from tests.engines.process import wait_until
from tests.engines.targets import FreshDatabase, mark_of

from polysession.testing.proxy import (
    Cut,
    Delay,
    Direction,
    Ending,
    Fault,
    FaultProxy,
    Fired,
    Freeze,
    Hole,
    Message,
    Place,
    Side,
    Transaction,
    answer,
    commit_exchange_bytes,
    message,
    request,
    stream,
)

from .drivers import DRIVERS, Driver, connect

SERVER, CLIENT = Direction.TO_SERVER, Direction.TO_CLIENT


class Bench:
    """A database with a table, the proxy before it, and a witness past the proxy."""

    def __init__(self, database: FreshDatabase, driver: str, stack: ExitStack) -> None:
        self.database = database
        self.driver = driver
        self._stack = stack
        self.url = database.url()
        self.proxy = stack.enter_context(FaultProxy.before(self.url))
        self.witness = connect("psycopg" if "postgresql" in self.url else "pymysql", self.url, autocommit=True)
        stack.callback(self.witness.close)
        self.witness.run("create table t (n int primary key)")

    def client(self, *, autocommit: bool = False) -> Driver:
        """A connection through the proxy."""
        client = connect(self.driver, self.url, self.proxy.port, autocommit=autocommit)
        self._stack.callback(client.close)
        return client

    def rows(self) -> int:
        """How many rows are committed."""
        return int(self.witness.run("select count(*) from t"))

    def quiet(self) -> None:
        """Wait until the server has noticed the end of every connection but the witness's."""
        wait_until(lambda: len(self.database.census()) <= 1, what="only the witness is left")


@pytest.fixture(
    params=[pytest.param(name, marks=getattr(pytest.mark, mark_of(target))) for name, target in DRIVERS.items()]
)
def bench(request: pytest.FixtureRequest, fresh_database: Callable[[str], FreshDatabase]) -> Iterator[Bench]:
    """One for each driver."""
    with ExitStack() as stack:
        yield Bench(fresh_database(DRIVERS[request.param]), request.param, stack)


def told(client: Driver) -> str:
    """What the client learns from its COMMIT."""
    try:
        client.commit()
    except Exception:
        return "error"
    return "committed"


def test_passthrough(bench: Bench) -> None:
    """Without faults everything works, large values included, and the log knows the transaction's state."""
    client = bench.client()
    client.run("insert into t values (1)")
    assert bench.rows() == 0
    client.commit()
    assert bench.rows() == 1
    assert len(client.run("select repeat('x', 5000000)")) == 5_000_000
    states = [event.transaction for event in bench.proxy.events if isinstance(event, Message) and event.transaction]
    assert Transaction.OPEN in states
    assert not [event for event in bench.proxy.events if isinstance(event, Message) and event.kind == "Unknown"]


PLACES = [
    (request("COMMIT"), "error", 0),
    (request("COMMIT", passed=5), "error", 0),
    (request("COMMIT", passed="all"), "error", 1),
    (answer("COMMIT"), "error", 1),
    (answer("COMMIT", passed=5), "error", 1),
    (answer("COMMIT", passed="all"), "committed", 1),
]


@pytest.mark.parametrize("ending", list(Ending))
@pytest.mark.parametrize(("place", "verdict", "rows"), PLACES, ids=str)
def test_cut_at_commit(bench: Bench, place: Place, verdict: str, rows: int, ending: Ending) -> None:
    """A COMMIT that reached the server whole is committed, whatever the client hears; any other did nothing."""
    client = bench.client()
    bench.proxy.plan(Fault(Cut(ending), place))
    client.run("insert into t values (1)")
    assert told(client) == verdict
    bench.quiet()
    assert bench.rows() == rows
    fired = bench.proxy.wait_for(Fired, 5)
    assert fired.message is not None
    assert fired.message.verbs == ("COMMIT",)


@pytest.mark.parametrize(
    ("place", "rows"), [(request("COMMIT"), 0), (request("COMMIT", passed=5), 0), (answer("COMMIT"), 1)], ids=str
)
def test_black_hole_at_commit(bench: Bench, place: Place, rows: int) -> None:
    """The client hangs while its connection is open; the server has done what reached it, and no more after the end."""
    client = bench.client()
    bench.proxy.plan(Fault(Hole(), place))
    client.run("insert into t values (1)")
    with in_thread(client.commit) as commit:
        bench.proxy.wait_for(Fired, 5)
        with pytest.raises(TimeoutError):
            commit.result(0.3)
        assert bench.rows() == rows
        assert len(bench.database.census()) == 2
        bench.proxy.sever()
        with pytest.raises(Exception, match=r"."):
            commit.result(10)
    bench.quiet()
    assert bench.rows() == rows


def test_client_gone_and_server_not_told(bench: Bench) -> None:
    """When only the client is told of a cut, the server keeps the transaction and its locks until it is severed."""
    client = bench.client()
    bench.proxy.plan(Fault(Cut(sides=frozenset({Side.CLIENT})), request("COMMIT")))
    client.run("insert into t values (1)")
    assert told(client) == "error"
    assert len(bench.database.census()) == 2
    with in_thread(lambda: bench.witness.run("insert into t values (1)")) as blocked:
        with pytest.raises(TimeoutError):
            blocked.result(0.2)
        bench.proxy.sever()
        blocked.result(10)
    assert bench.rows() == 1


def test_delay_at_commit(bench: Bench) -> None:
    """A delayed answer comes later, and COMMIT is told as committed."""
    client = bench.client()
    bench.proxy.plan(Fault(Delay(0.2), answer("COMMIT", passed=3)))
    client.run("insert into t values (1)")
    begin = time.monotonic()
    assert told(client) == "committed"
    assert time.monotonic() - begin >= 0.2


def test_freeze_and_thaw(bench: Bench) -> None:
    """A frozen COMMIT waits; after the thaw it is done as if nothing had happened."""
    client = bench.client()
    client.run("insert into t values (1)")
    bench.proxy.freeze()
    with in_thread(client.commit) as commit:
        with pytest.raises(TimeoutError):
            commit.result(0.2)
        assert bench.rows() == 0
        bench.proxy.thaw()
        commit.result(10)
    assert bench.rows() == 1


def test_something_happens_at_an_exact_place(bench: Bench) -> None:
    """A test can stop a connection at a place, do what it likes, and let it go on: here the server kills it."""
    client = bench.client()
    bench.proxy.plan(Fault(Freeze(), request("COMMIT")))
    client.run("insert into t values (1)")
    with in_thread(client.commit) as commit:
        bench.proxy.wait_for(Fired, 5)
        bench.database.cut()
        wait_until(lambda: not bench.database.census(), what="the connections are gone")
        bench.proxy.thaw()
        with pytest.raises(Exception, match=r"."):
            commit.result(10)


def test_refuse(bench: Bench) -> None:
    """New connections are refused, or reset in the log-in; the open one works; then they are accepted again."""
    client = bench.client()
    for reset in (False, True):
        bench.proxy.refuse(reset=reset)
        with pytest.raises(Exception, match=r"(?i)refused|reset|lost|clos|end|unexpected|connect"):
            bench.client()
    client.run("insert into t values (1)")
    client.commit()
    bench.proxy.accept()
    bench.client().run("select 1")


@pytest.mark.parametrize("direction", list(Direction))
def test_cut_in_mid_handshake(bench: Bench, direction: Direction) -> None:
    """A log-in that is cut at a byte fails, and the next one works."""
    places = [stream(direction, passed=passed, nth=nth) for nth, passed in enumerate((0, 1, 5, 20, 30), 1)]
    bench.proxy.plan(*(Fault(Cut(), place) for place in places))
    for _ in places:
        with pytest.raises(Exception, match=r"."):
            bench.client()
    bench.client().run("select 1")
    assert len([event for event in bench.proxy.events if isinstance(event, Fired)]) == 5


EXACT = {
    "psycopg": (1, 3),
    "asyncpg": (2, 4),
    "pymysql": (1, 2),
    "asyncmy": (1, 2),
}
"""Round trips of a SELECT in autocommit, of an INSERT and its COMMIT in a new transaction.

asyncpg prepares a statement in a round trip of its own; the MySQL drivers begin no transaction (autocommit is off since
the log-in).
"""


def test_round_trips(bench: Bench) -> None:
    """Known exchanges have their exact number of round trips, the same with a latency."""
    select, transaction = EXACT[bench.driver]
    for latency in (0.0, 0.002):
        bench.proxy.set_latency(latency)
        client = bench.client(autocommit=True)
        with bench.proxy.counting() as count:
            assert client.run("select 1") == 1
        assert count.round_trips == select
        client.close()
        client = bench.client()
        with bench.proxy.counting() as count:
            begin = time.monotonic()
            client.run(f"insert into t values ({int(latency * 1000)})")
            client.commit()
            took = time.monotonic() - begin
        assert count.round_trips == transaction
        assert took >= transaction * 2 * latency
        client.close()
    assert bench.rows() == 2


@pytest.mark.parametrize("ending", list(Ending))
def test_every_byte_of_the_exchange(bench: Bench, ending: Ending) -> None:
    """COMMIT is done just if all of its bytes reached the server, and told as done just if all of the answer came."""
    client = bench.client()
    client.run("insert into t values (0)")
    client.commit()
    client.close()
    exchange = commit_exchange_bytes(bench.proxy.events)
    wrong = []
    for number, place in enumerate(exchange.places(), 1):
        client = connect(bench.driver, bench.url, bench.proxy.port)
        bench.proxy.plan(Fault(Cut(ending), place))
        client.run(f"insert into t values ({number})")
        heard = told(client)
        client.close()
        bench.quiet()
        there = bool(bench.witness.run(f"select count(*) from t where n = {number}"))
        reached = place.direction is CLIENT or place.passed == exchange.to_server
        hears = "committed" if place == answer("COMMIT", passed=exchange.to_client) else "error"
        if (there, heard) != (reached, hears):
            wrong.append((str(place), there, heard))
    assert not wrong


@pytest.mark.pg
def test_commit_bundled_with_others(fresh_database: Callable[[str], FreshDatabase]) -> None:
    """COMMIT in a pipeline, in the extended protocol, and behind another statement of one text, is found and cut."""
    import psycopg

    database = fresh_database("pg18")

    def pipeline(connection: Any) -> None:
        with connection.pipeline():
            connection.execute("insert into t values (%s)", (1,))
            connection.commit()

    def text(connection: Any) -> None:
        connection.execute("begin; insert into t values (1); commit")

    def extended(connection: Any) -> None:
        connection.execute("begin")
        connection.execute("insert into t values (1)")
        connection.execute("commit", prepare=True)

    with ExitStack() as stack:
        bench = Bench(database, "psycopg", stack)
        for work, autocommit in ((pipeline, False), (text, True), (extended, True)):
            for place, rows in ((request("COMMIT"), 0), (answer("COMMIT"), 1)):
                client = bench.client(autocommit=autocommit)
                bench.proxy.plan(Fault(Cut(), place))
                with pytest.raises(psycopg.OperationalError):
                    work(client.connection)
                client.close()
                bench.quiet()
                assert bench.rows() == rows
                bench.witness.run("truncate t")


@pytest.mark.pg
def test_two_phase_commit_postgresql(fresh_database: Callable[[str], FreshDatabase]) -> None:
    """PREPARE TRANSACTION and COMMIT PREPARED are places of their own."""
    with ExitStack() as stack:
        bench = Bench(fresh_database("pg18"), "psycopg", stack)
        client = bench.client(autocommit=True)
        client.run("begin")
        client.run("insert into t values (1)")
        bench.proxy.plan(Fault(Cut(), answer("PREPARE TRANSACTION")), Fault(Cut(), request("COMMIT PREPARED")))
        with pytest.raises(Exception, match=r"."):
            client.run("prepare transaction 'one'")
        bench.quiet()
        assert bench.witness.run("select count(*) from pg_prepared_xacts where gid = 'one'") == 1
        with pytest.raises(Exception, match=r"."):
            bench.client(autocommit=True).run("commit prepared 'one'")
        assert bench.rows() == 0
        bench.client(autocommit=True).run("commit prepared 'one'")
        assert bench.rows() == 1


@pytest.mark.mariadb
def test_two_phase_commit_mariadb(fresh_database: Callable[[str], FreshDatabase]) -> None:
    """XA PREPARE and XA COMMIT are places of their own."""
    with ExitStack() as stack:
        bench = Bench(fresh_database("mariadb"), "pymysql", stack)
        client = bench.client(autocommit=True)
        name = f"'{bench.database.name}'"
        for verb in ("start", "end", "prepare"):
            if verb == "end":
                client.run("insert into t values (1)")
            if verb == "prepare":
                bench.proxy.plan(Fault(Cut(), answer("XA PREPARE")), Fault(Cut(), answer("XA COMMIT")))
                with pytest.raises(Exception, match=r"."):
                    client.run(f"xa {verb} {name}")
            else:
                client.run(f"xa {verb} {name}")
        bench.quiet()
        with pytest.raises(Exception, match=r"."):
            bench.client(autocommit=True).run(f"xa commit {name}")
        bench.quiet()
        assert bench.rows() == 1


@pytest.mark.pg
def test_copy_and_notices(fresh_database: Callable[[str], FreshDatabase]) -> None:
    """COPY in both directions, notifications and cancelled statements pass, and their messages are told apart."""
    import psycopg

    with ExitStack() as stack:
        database = fresh_database("pg18")
        bench = Bench(database, "psycopg", stack)
        connection = bench.client(autocommit=True).connection
        for parameters in (None, (0,)):
            bench.witness.run("truncate t")
            query = "copy (select n from t where n > %s) to stdout" if parameters else "copy t to stdout"
            with connection.cursor().copy("copy t from stdin") as copy:
                for number in range(1, 5001):
                    copy.write_row((number,))
            assert bench.rows() == 5000
            with connection.cursor().copy(query, parameters) as copy:
                assert len(list(copy.rows())) == 5000
        connection.execute("listen x")
        bench.witness.run("notify x, 'hello'")
        assert [notice.payload for notice in connection.notifies(timeout=5, stop_after=1)] == ["hello"]
        with in_thread(lambda: connection.execute("select pg_sleep(60)")) as sleeping:
            wait_until(lambda: [b for b in database.census() if b.state == "active" and "pg_sleep" in b.query])
            connection.cancel_safe()
            with pytest.raises(psycopg.errors.QueryCanceled):
                sleeping.result(10)
        kinds = bench.proxy.counts.to_client
        assert kinds["NotificationResponse"] == 1
        assert bench.proxy.counts.to_server["CancelRequest"] == 1
        assert connection.execute("select 1").fetchone() == (1,)
        answers = [
            event for event in bench.proxy.events if isinstance(event, Message) and event.kind == "ReadyForQuery"
        ]
        assert None not in [event.exchange for event in answers]


@pytest.mark.pg
def test_encryption_refused(fresh_database: Callable[[str], FreshDatabase]) -> None:
    """A client that asks for encryption, and is refused by the server, goes on in plain text and is understood."""
    import psycopg

    with ExitStack() as stack:
        bench = Bench(fresh_database("pg18"), "psycopg", stack)
        dsn = bench.proxy.url.replace("+psycopg", "")
        with psycopg.connect(dsn, sslmode="prefer", gssencmode="disable") as connection:
            assert connection.execute("select 1").fetchone() == (1,)
        counts = bench.proxy.counts
        assert (counts.connections, counts.to_server["SSLRequest"], counts.to_client["EncryptionResponse"]) == (1, 1, 1)


@pytest.mark.pg
def test_a_fault_in_the_log_in(fresh_database: Callable[[str], FreshDatabase]) -> None:
    """A message of the log-in is a place too."""
    with ExitStack() as stack:
        bench = Bench(fresh_database("pg18"), "psycopg", stack)
        bench.proxy.plan(Fault(Cut(), message("AuthenticationOk", CLIENT, passed="all")))
        with pytest.raises(Exception, match=r"."):
            bench.client()
        bench.client().run("select 1")


class in_thread:
    """Run something that hangs in a thread that has ended when the block has."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._work = work

    def __enter__(self) -> Future[Any]:
        return self._pool.submit(self._work)

    def __exit__(self, *exc_info: object) -> None:
        self._pool.shutdown()
