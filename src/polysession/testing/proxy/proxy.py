"""`FaultProxy`: the public face. It asks the proxy's thread, and waits for nothing but for that and for events."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, Self, TypeAlias, TypeVar, overload
from urllib.parse import urlsplit, urlunsplit

from .events import Counts, Direction, Ended, Ending, Event, Fired, Message, Opened
from .faults import Fault
from .log import Count, Log
from .loop import Loop
from .mysql import MySQLWire
from .plan import Planned
from .postgresql import PostgresWire
from .wire import RawWire, Wire

__all__ = ["FaultProxy", "Protocol"]

E = TypeVar("E", Message, Opened, Ended, Fired)
Protocol: TypeAlias = Literal["postgresql", "mysql", "raw"]
_WIRES: dict[str, Callable[[], Wire]] = {"postgresql": PostgresWire, "mysql": MySQLWire, "raw": RawWire}
_SCHEMES = {"postgresql": ("postgresql", 5432), "mysql": ("mysql", 3306), "mariadb": ("mysql", 3306)}


class FaultProxy:
    """Stands between clients and one database server, sees every message, and breaks what it was told to break.

    It works from its making to `close`, on a port of the loopback, in a thread of its own, so synchronous and
    asynchronous clients can be tested. Without faults and latency it changes, drops and reorders nothing. It passes on
    whole messages, and whole requests where the client sends one in several messages, so that the place of a fault is
    exact. All methods may be called from any thread and return when they have taken effect; they wait only for the
    proxy's thread, which never waits for a client or a server. After `close` they raise `ProxyClosed`.

    It is for tests: it understands no TLS (inside it, only `stream` places work), and one connection costs two sockets.
    """

    def __init__(
        self,
        upstream: tuple[str, int] | str,
        protocol: Protocol,
        *,
        latency: float = 0.0,
        host: str = "127.0.0.1",
        port: int = 0,
        keep: int = 10_000,
    ) -> None:
        """Listen on `host` and `port` (0: a free one) and forward to `upstream`: a numeric address and a port, or the
        path of a Unix socket.

        `latency`: see `set_latency`. `keep`: how many events the log holds; older ones are forgotten, counters are not.
        Raises `ValueError` for a protocol that is not known, and `OSError` if the port cannot be had.
        """
        if protocol not in _WIRES:
            raise ValueError(f"no protocol is called {protocol!r}; there are {', '.join(_WIRES)}")
        _check_seconds(latency)
        self.upstream = upstream
        self.protocol = protocol
        self._url: str | None = None
        self._log = Log(keep)
        self._zero = Counts()
        # Keeps the port while clients are refused: a bound socket that does not listen answers them with RST.
        self._holder = _bound(host, port)
        self.address: tuple[str, int] = self._holder.getsockname()[:2]
        """Where clients connect: host and port."""
        try:
            self._loop = Loop(self._listener(), upstream, _WIRES[protocol], self._log)
        except BaseException:
            self._holder.close()
            raise
        self._closing = threading.Lock()
        if latency:
            self.set_latency(latency)

    @classmethod
    def before(cls, url: str, *, latency: float = 0.0, keep: int = 10_000) -> Self:
        """A proxy for the server of a SQLAlchemy URL with a numeric host; `proxy.url` leads through it.

        Raises `ValueError` for a dialect that is neither PostgreSQL's nor MySQL's or MariaDB's.
        """
        parts = urlsplit(url)
        protocol, port = _SCHEMES.get(parts.scheme.partition("+")[0], ("", 0))
        if not protocol:
            raise ValueError(f"no protocol is known for URLs of {parts.scheme!r}")
        upstream = (
            "127.0.0.1" if parts.hostname in {None, "", "localhost"} else str(parts.hostname),
            parts.port or port,
        )
        proxy = cls(upstream, protocol, latency=latency, keep=keep)  # type: ignore[arg-type]  # the table has no others
        account, at, _ = parts.netloc.rpartition("@")
        proxy._url = urlunsplit(parts._replace(netloc=f"{account}{at}{proxy.host}:{proxy.port}"))
        return proxy

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._end(raises=error is None)

    def close(self) -> None:
        """End every connection by FIN, the thread and the sockets; a second call does nothing.

        Raises the first error that happened in the thread: of a predicate, or `ProtocolError`.
        """
        self._end(raises=True)

    @property
    def host(self) -> str:
        """The host of `address`."""
        return self.address[0]

    @property
    def port(self) -> int:
        """The port of `address`."""
        return self.address[1]

    @property
    def url(self) -> str:
        """The URL given to `before`, with this proxy in the place of the server."""
        if self._url is None:
            raise ValueError("this proxy was not made from a URL; use its `host` and `port`")
        return self._url

    # Faults

    def plan(self, *faults: Fault) -> None:
        """Add faults. They strike what is read from now on."""
        planned = [Planned(fault) for fault in faults]
        self._loop.call(lambda: self._loop.plan.extend(planned))

    def clear(self) -> None:
        """Forget all faults that have not matched yet."""
        self._loop.call(self._loop.plan.clear)

    def sever(self, ending: Ending = Ending.RST) -> int:
        """End all open connections, on both sides; returns how many there were."""
        return self._loop.call(lambda: self._loop.each(lambda link: link.cut(Ending(ending))))

    def freeze(self) -> None:
        """Pass nothing on any more, in no direction, until `thaw`; new clients are accepted and get no answer."""

        def freeze() -> None:
            self._loop.frozen = True
            self._loop.each(lambda link: link.proceed())

        self._loop.call(freeze)

    def thaw(self) -> None:
        """Go on after `freeze`, and on the connections that a fault has frozen; nothing was lost."""

        def thaw() -> None:
            self._loop.frozen = False
            self._loop.each(lambda link: link.thaw())

        self._loop.call(thaw)

    def refuse(self, *, reset: bool = False) -> None:
        """Refuse new clients: "connection refused", or with `reset` accept them and send RST at once."""

        def refuse() -> None:
            self._loop.resets_on_accept = reset
            if not reset:
                self._loop.listen(None)
            elif not self._loop.listens:
                self._loop.listen(self._listener())

        self._loop.call(refuse)

    def accept(self) -> None:
        """Accept new clients again, on the same port."""

        def accept() -> None:
            self._loop.resets_on_accept = False
            if not self._loop.listens:
                self._loop.listen(self._listener())

        self._loop.call(accept)

    def set_latency(self, seconds: float, direction: Direction | None = None) -> None:
        """Pass on everything so many seconds later, in one direction or in each; the order stays.

        With both, a round trip takes twice as much longer. What was read before keeps its time. 0 switches it off.
        """
        _check_seconds(seconds)
        changed = dict.fromkeys(Direction if direction is None else (direction,), seconds)
        self._loop.call(lambda: self._loop.latency.update(changed))

    # What was seen

    @property
    def events(self) -> tuple[Event, ...]:
        """The log, the oldest event first. What a hole or a cut swallowed is not in it."""
        return self._log.events()

    @property
    def newest(self) -> int:
        """The number of the newest event, 0 before the first; `wait_for(..., after=newest)` waits for the next."""
        return self._log.newest

    @property
    def counts(self) -> Counts:
        """What was counted since the beginning or the last `reset_counts`.

        An answer is counted before the client gets it, so what a client has seen is in it.
        """
        return self._log.counts() - self._zero

    @property
    def round_trips(self) -> int:
        """The round trips of `counts`."""
        return self.counts.round_trips

    def reset_counts(self) -> None:
        """Let `counts` begin at zero. The numbers of connections and events go on."""
        self._zero = self._log.counts()

    @contextmanager
    def counting(self) -> Iterator[Count]:
        """Count what happens in the block; after it the counts stand still."""
        count = Count(self._log)
        try:
            yield count
        finally:
            count.stop()

    @overload
    def wait_for(self, match: type[E], timeout: float, *, after: int = 0) -> E: ...
    @overload
    def wait_for(self, match: Callable[[Event], bool], timeout: float, *, after: int = 0) -> Event: ...
    def wait_for(self, match: type[E] | Callable[[Event], bool], timeout: float, *, after: int = 0) -> Event:
        """The first event that matches, a class or a question, numbered above `after`; waits for it if need be.

        With `after=0` an event of long ago will do, if it is still kept. The question is asked under the log's lock.
        Raises `TimeoutError` after `timeout` seconds, or when the proxy is closed. Blocks: in a coroutine use
        `await asyncio.to_thread(proxy.wait_for, ...)`.
        """
        if isinstance(match, type):
            kind = match
            return self._log.wait_for(lambda event: isinstance(event, kind), timeout, after)
        return self._log.wait_for(match, timeout, after)

    def _listener(self) -> socket.socket:
        listener = _bound(*self.address)
        listener.listen(1024)
        return listener

    def _end(self, *, raises: bool) -> None:
        with self._closing:
            self._loop.stop()
            self._holder.close()
            errors, self._loop.errors = self._loop.errors, []
        if raises and errors:
            raise errors[0]


def _bound(host: str, port: int) -> socket.socket:
    """A socket with this address, which it may share with others of this process."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, port))
    except BaseException:
        sock.close()
        raise
    return sock


def _check_seconds(seconds: float) -> None:
    if not seconds >= 0:
        raise ValueError(f"a latency is 0 or more seconds, not {seconds!r}")
