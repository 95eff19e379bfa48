"""A link that takes time: a process between clients and a server, which passes all bytes on after a delay.

It is a process of its own, so that it takes no time of the client's interpreter, and does as little as can be: it looks
at no byte and keeps no log. (`polysession.testing.FaultProxy` does both, and counts the round trips.) How long a round
trip over it really takes is measured and stands in the results.
"""

from __future__ import annotations

import select
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy.engine import make_url

__all__ = ["through"]

_CHUNK: Final = 65_536
_FOREVER: Final = 3600.0


@contextmanager
def through(url: str, seconds: float) -> Iterator[str]:
    """The same server behind a link whose round trip takes so many seconds more."""
    place = make_url(url)
    words = [sys.executable, __file__, place.host or "127.0.0.1", str(place.port), str(seconds / 2)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            yield place.set(host="127.0.0.1", port=port).render_as_string(hide_password=False)
        finally:
            process.kill()


class _Link:
    """All connections, both directions. The delay is the same for all, so that what came first leaves first."""

    def __init__(self, upstream: tuple[str, int], delay: float) -> None:
        self._upstream = upstream
        self._delay = delay
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._ready = select.epoll()
        self._ready.register(self._listener, select.EPOLLIN)
        self._to: dict[int, tuple[socket.socket, socket.socket]] = {}
        self._late: deque[tuple[float, socket.socket, bytes]] = deque()

    @property
    def port(self) -> int:
        """Where clients connect."""
        port: int = self._listener.getsockname()[1]
        return port

    def run(self) -> None:
        """Pass on for ever."""
        clock, late, wait = time.monotonic, self._late, select.select
        ready = self._ready
        while True:
            # epoll counts in milliseconds, select in microseconds
            wait((ready,), (), (), max(0.0, late[0][0] - clock()) if late else _FOREVER)
            now = clock()
            while late and late[0][0] <= now:
                _, target, data = late.popleft()
                self._send(target, data)
            for number, _ in ready.poll(0):
                if number == self._listener.fileno():
                    self._accept()
                else:
                    self._read(number)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        server = socket.create_connection(self._upstream)
        for one, other in ((client, server), (server, client)):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._to[one.fileno()] = (one, other)
            self._ready.register(one, select.EPOLLIN)

    def _read(self, number: int) -> None:
        if number not in self._to:
            return  # it ended a moment ago
        source, target = self._to[number]
        try:
            data = source.recv(_CHUNK)
        except ConnectionError:
            data = b""
        if not data:
            self._end(source, target)
        elif self._delay:
            self._late.append((time.monotonic() + self._delay, target, data))
        else:
            self._send(target, data)

    def _send(self, target: socket.socket, data: bytes) -> None:
        try:
            target.sendall(data)
        except OSError:
            return  # closed; its other side will be seen to end

    def _end(self, source: socket.socket, target: socket.socket) -> None:
        for one in (source, target):
            if self._to.pop(one.fileno(), None) is not None:
                self._ready.unregister(one)
            one.close()


def _main(host: str, port: str, delay: str) -> None:
    link = _Link((host, int(port)), float(delay))
    print(link.port, flush=True)
    link.run()


if __name__ == "__main__":
    _main(*sys.argv[1:])
