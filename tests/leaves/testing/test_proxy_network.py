"""The proxy between two sockets of the test: what passes, what breaks, what is left. No database."""

from __future__ import annotations

import gc
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from polysession.testing.proxy import (
    Cut,
    Delay,
    Direction,
    Ended,
    Ending,
    Event,
    Fault,
    FaultProxy,
    Fired,
    Freeze,
    Hole,
    Message,
    Opened,
    ProtocolError,
    ProxyClosed,
    Side,
    answer,
    message,
    request,
    stream,
)

from .conftest import PATIENCE, Lab, is_silent, receive, send
from .streams import pg, pg_start, rfq

SERVER, CLIENT = Direction.TO_SERVER, Direction.TO_CLIENT
COMMIT = pg("Q", b"COMMIT\0")
DONE = pg("C", b"COMMIT\0") + rfq()


def test_everything_passes(lab: Lab) -> None:
    """Bytes pass in both directions as they are, and both ends of a connection."""
    proxy = lab.proxy()
    client, server = lab.pair(proxy)
    send(client, server, b"hello")
    send(server, client, b"world")
    client.shutdown(socket.SHUT_WR)
    assert server.recv(1) == b""
    send(server, client, b"still")
    server.close()
    assert client.recv(1) == b""
    assert proxy.sever() == 0


def test_a_server_with_a_unix_socket(tmp_path: Path) -> None:
    """The server may listen on a path; while nothing listens there a client is reset, and is served afterwards."""
    path = str(tmp_path / "socket")
    with FaultProxy(path, "raw") as proxy:
        for _ in range(2):  # there is no such path; then there is one where nobody listens
            # it may hear of it as soon as it has connected
            with pytest.raises(ConnectionResetError), socket.create_connection(proxy.address, PATIENCE) as client:
                receive(client, 1)
            if not Path(path).exists():
                with socket.socket(socket.AF_UNIX) as closed:
                    closed.bind(path)
        Path(path).unlink()
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()
            listener.settimeout(PATIENCE)
            with socket.create_connection(proxy.address, PATIENCE) as client:
                server, _ = listener.accept()
                with server:
                    send(client, server, b"hello")
                    send(server, client, b"world")
                    proxy.sever()
                    with pytest.raises(ConnectionResetError):
                        receive(client, 1)
                    assert server.recv(1) == b""


def test_much_passes_slowly(lab: Lab) -> None:
    """A reader that does not keep up slows its writer; nothing is lost."""
    client, server = lab.pair(lab.proxy())
    data = os.urandom(1 << 20) * 24
    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(client.sendall, data)
        assert is_silent(client)
        assert not sent.done()
        assert receive(server, len(data)) == data
        sent.result()


def test_a_reset_passes(lab: Lab) -> None:
    """A client that resets its connection resets the server's; the log has it."""
    proxy = lab.proxy()
    client, server = lab.pair(proxy)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    with pytest.raises(ConnectionResetError):
        server.recv(1)
    ended = proxy.wait_for(Ended, 5)
    assert (ended.connection, ended.side, ended.ending) == (1, Side.CLIENT, Ending.RST)
    assert proxy.sever() == 0


def test_a_reset_while_frozen(lab: Lab) -> None:
    """A side that is found gone only when it is written to is gone for the other side too."""
    proxy = lab.proxy()
    client, server = lab.pair(proxy)
    proxy.freeze()
    client.sendall(b"for nobody")
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    server.close()
    proxy.thaw()
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    assert proxy.sever() == 0


def test_no_server(lab: Lab) -> None:
    """Where no server listens, the client is reset."""
    proxy = lab.proxy()
    lab.listener.close()
    with pytest.raises(ConnectionResetError):
        lab.connect(proxy).recv(1)
    assert proxy.wait_for(Ended, 5).side is Side.SERVER


@pytest.mark.parametrize("passed", range(len(COMMIT) + 1))
@pytest.mark.parametrize("ending", list(Ending))
def test_cut_in_a_request(lab: Lab, ending: Ending, passed: int) -> None:
    """The server gets exactly the bytes that were to pass, and both sides see how it ends."""
    proxy = lab.proxy("postgresql")
    client, server = lab.logged_in(proxy)
    proxy.plan(Fault(Cut(ending), request("COMMIT", passed=passed)))
    client.sendall(COMMIT)
    assert receive(server, passed) == COMMIT[:passed]
    for sock in (client, server):
        if ending is Ending.FIN:
            assert sock.recv(1) == b""
            for _ in range(3):
                sock.sendall(b"nobody reads this, and nobody resets because of it")
        else:
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
    assert proxy.wait_for(Fired, 5).connection == 1


@pytest.mark.parametrize("passed", range(len(DONE) + 1))
@pytest.mark.parametrize("ending", list(Ending))
def test_cut_in_an_answer(lab: Lab, ending: Ending, passed: int) -> None:
    """The client gets exactly the bytes that were to pass, of an answer that was sent byte by byte."""
    proxy = lab.proxy("postgresql")
    client, server = lab.logged_in(proxy)
    proxy.plan(Fault(Cut(ending), answer("COMMIT", passed=passed)))
    send(client, server, COMMIT)
    server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for at in range(len(DONE)):
        try:
            server.send(DONE[at : at + 1])
        except OSError:
            break  # cut already
    assert receive(client, passed) == DONE[:passed]
    if ending is Ending.FIN:
        assert client.recv(1) == b""
    else:
        with pytest.raises(ConnectionResetError):
            client.recv(1)


@pytest.mark.parametrize("side", list(Side))
def test_cut_one_side(lab: Lab, side: Side) -> None:
    """A cut that is told to one side leaves the other's connection open and silent, until it is severed."""
    proxy = lab.proxy("postgresql")
    client, server = lab.logged_in(proxy)
    proxy.plan(Fault(Cut(sides=frozenset({side})), request("COMMIT")))
    client.sendall(COMMIT)
    told, other = (client, server) if side is Side.CLIENT else (server, client)
    with pytest.raises(ConnectionResetError):
        told.recv(1)
    assert is_silent(other)
    other.sendall(b"into nothing")
    assert proxy.sever(Ending.FIN) == 1
    assert other.recv(1) == b""


@pytest.mark.parametrize("direction", [SERVER, CLIENT, None])
def test_hole(lab: Lab, direction: Direction | None) -> None:
    """A hole swallows everything in its directions, ends included; the other direction goes on."""
    proxy = lab.proxy("postgresql")
    client, server = lab.logged_in(proxy)
    hole = Hole() if direction is None else Hole(frozenset({direction}))
    proxy.plan(Fault(hole, request("COMMIT", passed=4)))
    client.sendall(COMMIT)
    if direction is CLIENT:
        assert receive(server, len(COMMIT)) == COMMIT
    else:
        assert receive(server, 4) == COMMIT[:4]
        assert is_silent(server)
    server.sendall(DONE)
    if direction is SERVER:
        assert receive(client, len(DONE)) == DONE
    else:
        assert is_silent(client)
    client.close()
    assert is_silent(server) == (direction is not CLIENT)


def test_hole_in_an_answer(lab: Lab) -> None:
    """The bytes before the hole arrive."""
    proxy = lab.proxy("postgresql")
    client, server = lab.logged_in(proxy)
    proxy.plan(Fault(Hole(), answer("COMMIT", passed=7)))
    send(client, server, COMMIT)
    server.sendall(DONE)
    assert receive(client, 7) == DONE[:7]
    assert is_silent(client)


def test_delay(lab: Lab) -> None:
    """A delay holds what follows in its direction for its time, and what comes after it waits behind it."""
    proxy = lab.proxy("postgresql")
    client, server = lab.logged_in(proxy)
    proxy.plan(Fault(Delay(0.15), answer("COMMIT", passed=5)))
    send(client, server, COMMIT)
    begin = time.monotonic()
    server.sendall(DONE)
    server.sendall(DONE)
    assert receive(client, 5) == DONE[:5]
    assert time.monotonic() - begin < 0.15
    assert receive(client, 2 * len(DONE) - 5) == DONE[5:] + DONE
    assert time.monotonic() - begin >= 0.15


def test_freeze_at_a_place_and_thaw(lab: Lab) -> None:
    """A connection that a fault froze stands still while others go on, and loses nothing."""
    proxy = lab.proxy("postgresql")
    client, server = lab.logged_in(proxy)
    proxy.plan(Fault(Freeze(), request("COMMIT", passed=3)))
    client.sendall(COMMIT)
    assert proxy.wait_for(Fired, 5).message is not None
    assert receive(server, 3) == COMMIT[:3]
    server.sendall(pg("N", b"\0"))
    assert is_silent(client)
    lab.logged_in(proxy)
    proxy.thaw()
    assert receive(server, len(COMMIT) - 3) == COMMIT[3:]
    assert receive(client, 6) == pg("N", b"\0")


def test_freeze_and_thaw(lab: Lab) -> None:
    """A frozen proxy accepts and passes on nothing; after the thaw everything arrives in order."""
    proxy = lab.proxy()
    client, server = lab.pair(proxy)
    proxy.freeze()
    client.sendall(b"one")
    late, late_server = lab.pair(proxy)
    late.sendall(b"two")
    server.shutdown(socket.SHUT_WR)
    assert is_silent(client)
    assert is_silent(server)
    assert is_silent(late_server)
    proxy.thaw()
    assert client.recv(1) == b""
    assert receive(server, 3) == b"one"
    assert receive(late_server, 3) == b"two"


def test_sever_what_is_frozen(lab: Lab) -> None:
    """A frozen connection can be cut, by RST and by FIN."""
    proxy = lab.proxy()
    for ending in Ending:
        client, _ = lab.pair(proxy)
        proxy.freeze()
        assert proxy.sever(ending) >= 1
        if ending is Ending.RST:
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        else:
            assert client.recv(1) == b""
        proxy.thaw()


def test_refuse_and_accept(lab: Lab) -> None:
    """A proxy that refuses keeps its port and its connections, and can accept again; each word may come twice."""
    proxy = lab.proxy()
    client, server = lab.pair(proxy)
    for _ in range(2):
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            lab.connect(proxy)
    send(client, server, b"still here")
    for _ in range(2):
        proxy.refuse(reset=True)
        with pytest.raises(ConnectionResetError):
            lab.connect(proxy).recv(1)
    for _ in range(2):
        proxy.accept()
        client, server = lab.pair(proxy)
        send(client, server, b"again")
    assert proxy.counts.connections == 3


def test_a_place_in_the_stream(lab: Lab) -> None:
    """A connection can be cut at a byte whatever the bytes are, or before the first one."""
    proxy = lab.proxy()
    proxy.plan(Fault(Cut(), stream(SERVER, passed=5)), Fault(Cut(Ending.FIN), stream(CLIENT), connection=2))
    client, server = lab.pair(proxy)
    send(client, server, b"123")
    client.sendall(b"456")
    assert receive(server, 2) == b"45"
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    client = lab.connect(proxy)
    assert client.recv(1) == b""


def test_what_is_not_whole_passes_at_the_end(lab: Lab) -> None:
    """Part of a message, and a request without its Sync, reach the server when the client ends."""
    proxy = lab.proxy("postgresql")
    client, server = lab.logged_in(proxy)
    half = pg("P", b"\0commit\0" + bytes(2)) + COMMIT[:5]
    client.sendall(half)
    assert is_silent(server)
    client.shutdown(socket.SHUT_WR)
    assert receive(server, len(half) + 1) == half


def test_a_request_too_long_to_be_held(lab: Lab) -> None:
    """A client that sends very much before its Sync is not held up for ever; small requests wait for their Sync."""
    client, server = lab.logged_in(lab.proxy("postgresql"))
    parse = pg("P", b"\0" + b"x" * 100_000 + b"\0" + bytes(2))
    client.sendall(parse * 2)
    assert is_silent(server)
    client.sendall(parse)
    assert receive(server, 3 * len(parse)) == parse * 3


def test_latency(lab: Lab) -> None:
    """Each direction takes its latency longer, a stream of bytes keeps its order, and it can be switched off."""
    proxy = lab.proxy(latency=0.05)
    client, server = lab.pair(proxy)
    begin = time.monotonic()
    send(client, server, b"ask")
    assert 0.05 <= time.monotonic() - begin < 0.1
    send(server, client, b"answer")
    assert 0.1 <= time.monotonic() - begin < 0.2
    proxy.set_latency(0.02, CLIENT)
    for number in range(100):
        client.sendall(bytes([number]))
    assert receive(server, 100) == bytes(range(100))
    proxy.set_latency(0.0)
    begin = time.monotonic()
    send(client, server, b"ask")
    assert time.monotonic() - begin < 0.05
    proxy.set_latency(0.1, SERVER)
    begin = time.monotonic()
    client.shutdown(socket.SHUT_WR)
    assert server.recv(1) == b""
    assert time.monotonic() - begin >= 0.1


def test_short_latency_is_kept_exactly(lab: Lab) -> None:
    """A latency of less than a millisecond is not rounded up to one."""
    proxy = lab.proxy(latency=0.0002)
    client, server = lab.pair(proxy)
    times = []
    for _ in range(50):
        begin = time.monotonic()
        send(client, server, b"ask")
        times.append(time.monotonic() - begin)
    assert 0.0002 <= sorted(times)[10] < 0.001


def test_counting(lab: Lab) -> None:
    """A round trip is a flight of the client after the server spoke; farewells are none; counts can begin anew."""
    proxy = lab.proxy("postgresql")
    client, server = lab.logged_in(proxy)
    assert (proxy.counts.connections, proxy.round_trips) == (1, 1)
    with proxy.counting() as count:
        for _ in range(3):
            send(client, server, COMMIT)
            send(client, server, COMMIT)
            send(server, client, DONE + DONE)
    send(client, server, pg("Q", b"BEGIN\0"))
    send(server, client, DONE)
    assert count.round_trips == 3
    assert count.connections == 0
    assert count.counts.to_server == {"Query": 6}
    assert count.counts.to_client == {"CommandComplete": 6, "ReadyForQuery": 6}
    assert (count.counts.bytes_to_server, count.counts.bytes_to_client) == (6 * len(COMMIT), 6 * len(DONE))
    proxy.reset_counts()
    client.sendall(pg("X"))
    client.close()
    proxy.wait_for(Ended, 5)
    assert proxy.round_trips == 0
    assert proxy.counts.to_server == {"Terminate": 1}


def test_the_log(lab: Lab) -> None:
    """Events come in order, numbered without gaps; the oldest are forgotten, the counters are not."""
    proxy = lab.proxy("postgresql", keep=20)
    client, server = lab.logged_in(proxy)
    opened, start = proxy.events[:2]
    assert isinstance(opened, Opened)
    assert isinstance(start, Message)
    assert (start.number, start.connection, start.direction, start.kind) == (2, 1, SERVER, "StartupMessage")
    for _ in range(30):
        send(client, server, COMMIT)
        send(server, client, DONE)
    numbers = [event.number for event in proxy.events]
    assert numbers == list(range(numbers[-1] - 19, numbers[-1] + 1))
    assert proxy.counts.to_server["Query"] == 30
    assert proxy.wait_for(Message, 0, after=numbers[5]).number == numbers[6]
    assert proxy.wait_for(Message, 0).number == numbers[0]
    assert proxy.events[0].at <= proxy.events[-1].at


def test_waiting_for_an_event(lab: Lab) -> None:
    """An event that was is found at once, one that comes is waited for, one that does not come is a TimeoutError."""
    proxy = lab.proxy("postgresql")
    assert proxy.newest == 0
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(proxy.wait_for, _is_commit, 10)
        client, server = lab.logged_in(proxy)
        send(client, server, COMMIT)
        first = waiting.result(10)
        assert proxy.wait_for(_is_commit, 0) == first
        assert proxy.newest == proxy.events[-1].number
        with pytest.raises(TimeoutError, match=r"did not come within 0\.01 s"):
            proxy.wait_for(_is_commit, 0.01, after=first.number)
        waiting = pool.submit(proxy.wait_for, Fired, 10)
        while not proxy._log._waiting:
            pass
        proxy.close()
        with pytest.raises(TimeoutError, match="was closed"):
            waiting.result(10)


def _is_commit(event: Event) -> bool:
    return isinstance(event, Message) and "COMMIT" in event.verbs


def test_a_predicate_may_ask_and_act(lab: Lab) -> None:
    """A predicate runs in the proxy's thread and may use the proxy."""
    proxy = lab.proxy("postgresql")
    seen: list[tuple[str, int]] = []

    def refuse(one: Message) -> bool:
        seen.append((one.kind, proxy.round_trips))
        proxy.refuse()
        return True

    proxy.plan(Fault(Delay(0.001), message("Query", SERVER, when=refuse)))
    client, server = lab.logged_in(proxy)
    send(client, server, COMMIT)
    assert seen == [("Query", 2)]
    with pytest.raises(ConnectionRefusedError):
        lab.connect(proxy)


def test_an_error_in_a_predicate(lab: Lab) -> None:
    """It resets the connection and is raised when the proxy is closed, once."""
    proxy = lab.proxy("postgresql")
    client, _ = lab.logged_in(proxy)
    proxy.plan(Fault(Cut(), request(when=lambda one: one.nonsense)))  # type: ignore[attr-defined]  # the error is meant
    client.sendall(COMMIT)
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    lab.logged_in(proxy)
    with pytest.raises(AttributeError, match="nonsense"):
        proxy.close()
    proxy.close()


def test_another_protocol(lab: Lab) -> None:
    """Bytes of another protocol reset the connection, and the end of the block says so."""

    def talk() -> None:
        with lab.proxy("postgresql") as proxy:
            client = lab.connect(proxy)
            client.sendall(b"GET / HTTP/1.1\r\n")
            with pytest.raises(ConnectionResetError):
                client.recv(1)

    with pytest.raises(ProtocolError, match="no client of PostgreSQL"):
        talk()


def test_faults_can_be_forgotten(lab: Lab) -> None:
    """After `clear` nothing strikes any more."""
    proxy = lab.proxy("postgresql")
    client, server = lab.logged_in(proxy)
    proxy.plan(Fault(Cut(), request("COMMIT")))
    proxy.clear()
    send(client, server, COMMIT)


def test_a_fault_fires_as_often_as_it_may(lab: Lab) -> None:
    """`times` bounds how often, on every connection or on the one that was named."""
    proxy = lab.proxy("postgresql")
    proxy.plan(Fault(Cut(), request("COMMIT"), times=2), Fault(Cut(), request("BEGIN"), connection=4, times=None))
    told = []
    for sql in (b"COMMIT\0", b"COMMIT\0", b"COMMIT\0", b"BEGIN\0", b"BEGIN\0"):
        client, server = lab.logged_in(proxy)
        client.sendall(pg("Q", sql))
        try:
            told.append(server.recv(1))
        except ConnectionResetError:
            told.append(b"cut")
    assert told == [b"cut", b"cut", b"Q", b"cut", b"Q"]
    fired = [event for event in proxy.events if isinstance(event, Fired)]
    assert [event.connection for event in fired] == [1, 2, 4]


def test_close(lab: Lab) -> None:
    """The end closes everything, the thread included; a second one does nothing; a closed proxy says so."""
    proxy = lab.proxy()
    client, server = lab.pair(proxy)
    proxy.refuse()
    proxy.close()
    proxy.close()
    assert client.recv(1) == server.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        lab.connect(proxy)
    with pytest.raises(ProxyClosed, match="was closed"):
        proxy.freeze()
    assert not [thread for thread in threading.enumerate() if "fault proxy" in thread.name]
    assert proxy.counts.connections == 1


def test_nothing_is_left() -> None:
    """Many proxies, made and ended, with connections open, leave no socket, no thread and no warning."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)
        before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0  # noqa: PTH208, PTH112
        for number in range(20):
            with FaultProxy(listener.getsockname()[:2], "raw") as proxy:
                with socket.create_connection(proxy.address) as client, listener.accept()[0] as server:
                    client.sendall(b"x")
                    assert server.recv(1) == b"x"
                    if number % 2:
                        proxy.sever()
                if number % 3:
                    proxy.freeze()
        gc.collect()
        after = len(os.listdir("/proc/self/fd")) if before else 0  # noqa: PTH208
    assert after == before


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # Python 3.12: forking with threads is the test
def test_fork(lab: Lab) -> None:
    """A child process holds none of the proxy's sockets: what the parent closes is closed; its proxy is closed."""
    proxy = lab.proxy()
    client, server = lab.pair(proxy)
    proxy.wait_for(Opened, 5)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            proxy.freeze()
        except ProxyClosed as error:
            os.write(write, b"1" if "parent" in str(error) else b"2")
        os.read(read, 0)
        threading.Event().wait(60)
        os._exit(0)
    try:
        assert os.read(read, 1) == b"1"
        send(client, server, b"the parent goes on")
        server.close()
        proxy.close()
        with pytest.raises(ConnectionRefusedError):
            lab.connect(proxy)
        assert client.recv(1) == b""
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
        os.close(read)
        os.close(write)


def test_a_proxy_before_a_url() -> None:
    """A SQLAlchemy URL gives server and protocol; its own URL differs in the address only."""
    with FaultProxy.before("postgresql+psycopg://app:p%40ss@127.0.0.1:5433/shop?sslmode=disable") as proxy:
        assert proxy.upstream == ("127.0.0.1", 5433)
        assert proxy.protocol == "postgresql"
        assert proxy.url == f"postgresql+psycopg://app:p%40ss@127.0.0.1:{proxy.port}/shop?sslmode=disable"
    with FaultProxy.before("mariadb://localhost/shop") as proxy:
        assert (proxy.upstream, proxy.protocol) == (("127.0.0.1", 3306), "mysql")
    with pytest.raises(ValueError, match="'sqlite'"):
        FaultProxy.before("sqlite:///x")
    with FaultProxy(("127.0.0.1", 1), "raw") as proxy, pytest.raises(ValueError, match="not made from a URL"):
        assert proxy.url


def test_nonsense_is_refused(lab: Lab) -> None:
    """A protocol that is not known, a latency below zero and a port that is taken are refused when asked for."""
    with pytest.raises(ValueError, match="no protocol is called 'http'"):
        lab.proxy("http")
    with pytest.raises(ValueError, match="0 or more seconds"):
        lab.proxy(latency=-1.0)
    with pytest.raises(OSError, match="in use"):
        lab.proxy(port=lab.listener.getsockname()[1])


def test_without_faults_the_startup_is_seen(lab: Lab) -> None:
    """The log-in counts as one round trip, and its messages have their names."""
    proxy = lab.proxy("postgresql")
    client, server = lab.pair(proxy)
    send(client, server, pg_start())
    assert proxy.round_trips == 1
    assert [event.kind for event in proxy.events if isinstance(event, Message)] == ["StartupMessage"]
