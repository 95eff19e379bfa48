"""Links: severed at once, and closed only when the other side has closed too."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from polysession._shell import parting as module
from polysession._shell.parting import gone, link_of, parting
from polysession._shell.pymysql_tls import sharing
from polysession._shell.severing import sever


class Driver:
    """A connection of a driver that blocks."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def fileno(self) -> int:
        """Of its socket; -1 when it is closed."""
        return self.sock.fileno()

    def close(self) -> None:
        """Say good-bye and close."""
        self.sock.sendall(b"bye")
        self.sock.close()


@pytest.fixture
def ends() -> Iterator[tuple[Driver, socket.socket]]:
    """A driver's connection and the server's end of it."""
    ours, theirs = socket.socketpair()
    with closing(ours), closing(theirs):
        yield Driver(ours), theirs


def serving(theirs: socket.socket, order: list[str], may_close: threading.Event | None = None) -> threading.Thread:
    """A server that closes its end when it has read all that comes, and may; it says so in `order`."""

    def serve() -> None:
        while theirs.recv(100):
            continue
        assert may_close is None or may_close.wait(10)
        order.append("the server closed")
        theirs.close()

    server = threading.Thread(target=serve)
    server.start()
    return server


def test_severing_ends_a_wait(ends: tuple[Driver, socket.socket]) -> None:
    """A thread that waits for an answer reads the end of the stream; a second call does no harm."""
    driver, _ = ends
    read: list[bytes] = []
    waiting = threading.Thread(target=lambda: read.append(driver.sock.recv(1)))
    waiting.start()
    sever(driver)
    waiting.join(10)
    sever(driver)
    assert read == [b""]
    assert driver.fileno() >= 0  # the driver closes it


def test_what_cannot_be_severed_is_left_alone() -> None:
    """Nothing, something without a socket, a connection that is closed."""
    with socket.socket() as closed:
        pass
    for driver in (None, object(), Driver(closed)):
        sever(driver)
        assert link_of(driver) is None


def test_closing_waits_for_the_server(ends: tuple[Driver, socket.socket]) -> None:
    """The close returns when the server has read the good-bye and closed its end."""
    driver, theirs = ends
    order: list[str] = []
    server = serving(theirs, order)
    parting(lambda connection: connection.close())(driver)
    order.append("the driver returned")
    server.join(10)
    assert order == ["the server closed", "the driver returned"]


@pytest.mark.parametrize("where", ["before the driver", "in the driver", "behind the driver"])
def test_an_interrupt_cannot_leave_the_server_its_session(
    where: str, ends: tuple[Driver, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it comes, the server has closed its end before the interrupt goes on and the seat is somebody else's."""
    driver, theirs = ends
    order: list[str] = []

    def interrupted(call: Any) -> Any:
        def once(argument: Any) -> Any:
            monkeypatch.undo()
            raise KeyboardInterrupt

        return once if call.__name__ == at else call

    def close(connection: Driver) -> None:
        connection.close()

    at = {"before the driver": "link_of", "in the driver": "close", "behind the driver": "_await_end"}[where]
    monkeypatch.setattr(module, "link_of", interrupted(module.link_of))
    monkeypatch.setattr(module, "_await_end", interrupted(module._await_end))
    server = serving(theirs, order)
    with pytest.raises(KeyboardInterrupt):
        parting(interrupted(close))(driver)
    order.append("the interrupt went on")
    server.join(10)
    assert order == ["the server closed", "the interrupt went on"]


class Hasty:
    """A connection as PyMySQL has it: what goes wrong in the middle of an answer closes it without a word."""

    _closed = False

    def __init__(self, sock: socket.socket) -> None:
        self._sock: socket.socket | None = sock

    def read(self) -> None:
        """An answer in the middle of which an interrupt comes."""
        try:
            raise KeyboardInterrupt
        except BaseException:
            self._force_close()
            raise

    def close(self) -> None:
        """Close; a second time for who does not know of the first."""
        self._closed = True
        self._force_close()

    def _force_close(self) -> None:
        if self._sock is not None:
            self._sock.close()
        self._sock = None

    __del__ = _force_close


@pytest.mark.parametrize("is_kept", [True, False], ids=["ours", "the control"])
def test_what_the_driver_has_closed_without_a_word_is_waited_for(
    is_kept: bool, ends: tuple[Driver, socket.socket]
) -> None:
    """Its seat is free when the server has closed its end; by the driver's own class it was free before."""
    ours, theirs = ends
    driver: Any = (sharing(Hasty) if is_kept else Hasty)(ours.sock)
    may_close = threading.Event()
    order: list[str] = []
    server = serving(theirs, order, may_close)
    with pytest.raises(KeyboardInterrupt):
        driver.read()
    if is_kept:
        may_close.set()
    parting(lambda connection: connection.close())(driver)
    order.append("the seat is free")
    may_close.set()
    server.join(10)
    assert order == (
        ["the server closed", "the seat is free"] if is_kept else ["the seat is free", "the server closed"]
    )
    assert link_of(driver) is None, "nothing is kept open"


def test_what_is_dropped_keeps_nothing_open(ends: tuple[Driver, socket.socket]) -> None:
    """Of a connection that its driver has closed, and that nobody closes once more."""
    ours, theirs = ends
    driver: Any = sharing(Hasty)(ours.sock)
    with pytest.raises(KeyboardInterrupt):
        driver.read()
    del driver
    gc.collect()
    assert theirs.recv(100) == b""


def test_the_wait_is_bounded(ends: tuple[Driver, socket.socket], monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that does not close is not waited for for ever."""
    monkeypatch.setattr(module, "PARTING", 0.01)
    driver, theirs = ends
    parting(lambda connection: connection.close())(driver)
    assert theirs.recv(100) == b"bye"
    assert theirs.recv(100) == b""  # nothing was kept open


def test_closing_waits_in_a_loop_too(ends: tuple[Driver, socket.socket]) -> None:
    """The same with asyncio."""
    driver, theirs = ends
    order: list[str] = []

    async def close() -> None:
        link = link_of(driver)
        assert link is not None
        driver.close()
        loop = asyncio.get_running_loop()

        def serve() -> None:
            order.append("the server closed")
            theirs.close()

        loop.call_soon(loop.call_soon, serve)
        await gone(link)
        link.close()
        order.append("gone")

    asyncio.run(close())
    assert order == ["the server closed", "gone"]


def test_a_connection_that_cannot_be_asked_is_just_closed() -> None:
    """A driver without a socket of its own."""
    closed: list[Any] = []
    parting(closed.append)("connection")
    assert closed == ["connection"]
