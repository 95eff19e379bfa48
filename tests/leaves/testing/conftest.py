"""A server that the test itself plays, and the proxy before it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from polysession.testing.proxy import FaultProxy

from .streams import auth_ok, pg_start

PATIENCE = 10.0
"""Seconds after which a socket of the tests gives up; only a failing test waits so long."""


class Lab:
    """Both ends of the proxy in the hands of one thread."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.listener.settimeout(PATIENCE)
        self.proxies: list[FaultProxy] = []

    def proxy(self, protocol: str = "raw", **words: float) -> FaultProxy:
        """A proxy before the listener."""
        address = self.listener.getsockname()[:2]
        proxy = FaultProxy(address, protocol, **words)  # type: ignore[arg-type]  # tests name protocols that do not exist
        return self._stack.enter_context(proxy)

    def connect(self, proxy: FaultProxy) -> socket.socket:
        """A client."""
        return self._stack.enter_context(socket.create_connection(proxy.address, PATIENCE))

    def pair(self, proxy: FaultProxy) -> tuple[socket.socket, socket.socket]:
        """A client, and the server's socket for it."""
        client = self.connect(proxy)
        server, _ = self.listener.accept()
        server.settimeout(PATIENCE)
        return client, self._stack.enter_context(server)

    def logged_in(self, proxy: FaultProxy) -> tuple[socket.socket, socket.socket]:
        """The same, after the log-in of PostgreSQL."""
        client, server = self.pair(proxy)
        send(client, server, pg_start())
        send(server, client, auth_ok())
        return client, server


def send(source: socket.socket, target: socket.socket, data: bytes) -> None:
    """Send `data`, and see it arrive."""
    source.sendall(data)
    assert receive(target, len(data)) == data


def receive(sock: socket.socket, size: int) -> bytes:
    """So many bytes, or what came before the end."""
    data = b""
    while len(data) < size and (part := sock.recv(size - len(data))):
        data += part
    return data


def is_silent(sock: socket.socket, seconds: float = 0.05) -> bool:
    """Whether nothing comes, no end either. The one thing that can be known only by waiting."""
    sock.settimeout(seconds)
    try:
        sock.recv(1)
    except TimeoutError:
        return True
    finally:
        sock.settimeout(PATIENCE)
    return False


@pytest.fixture
def lab() -> Iterator[Lab]:
    """Sockets and proxies, ended with the test."""
    with ExitStack() as stack:
        yield Lab(stack)
