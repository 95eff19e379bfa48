"""The proxy's thread: it accepts, waits for sockets and times, and does what other threads ask for.

Everything about links happens here, so nothing there needs a lock. A call from another thread returns when its work is
done. An error (of a user's predicate, or bytes of another protocol) resets its connection, and is kept to be raised
when the proxy is closed.
"""

from __future__ import annotations

import errno
import heapq
import itertools
import os
import select
import selectors
import socket
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeAlias, TypeVar

from .events import Direction, Ending, Opened
from .intake import Intake
from .lane import RESET_ON_CLOSE, End, Lane
from .link import Link
from .log import Log
from .plan import Course, Planned
from .wire import Wire

__all__ = ["Loop", "ProxyClosed", "Upstream"]

T = TypeVar("T")
Upstream: TypeAlias = tuple[str, int] | str
"""Where a server listens: a numeric address and a port, or the path of a Unix socket."""
_IDLE_WAIT = 3600.0
_SELECT_LIMIT = 1024  # FD_SETSIZE: select(2) knows no larger file descriptors


class ProxyClosed(RuntimeError):
    """The proxy was closed, or belongs to the process that this one was forked from."""


class Loop:
    """Runs from its making to `stop`. All methods but `call` and `stop` are for its own thread."""

    def __init__(self, listener: socket.socket, upstream: Upstream, wire: Callable[[], Wire], log: Log) -> None:
        self.log = log
        self.frozen: bool = False
        self.resets_on_accept: bool = False
        self.latency: dict[Direction, float] = dict.fromkeys(Direction, 0.0)
        self.plan: list[Planned] = []
        self.links: dict[int, Link] = {}
        self.errors: list[Exception] = []
        self._upstream = upstream
        self._wire = wire
        self._listener: socket.socket | None = None
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Link, Lane]] = []
        self._tie = itertools.count()
        self._numbers = itertools.count(1)
        self._calls: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._gate = threading.Lock()  # guards `_calls` and `_over` against each other
        self._over: str | None = None
        self._waker, self._woken = socket.socketpair()
        self._waker.setblocking(False)
        self._woken.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ, lambda _: self._answer_calls())
        self.listen(listener)
        self._thread = threading.Thread(target=self._run, name="polysession fault proxy", daemon=True)
        _loops.add(self)
        self._thread.start()

    def call(self, function: Callable[[], T]) -> T:
        """Let the thread run `function`, and return what it returns. Raises `ProxyClosed`, and what it raises."""
        if threading.current_thread() is self._thread:
            return function()
        future: Future[T] = Future()
        with self._gate:
            if self._over is not None:
                raise ProxyClosed(self._over)
            self._calls.append((function, future))
            self._wake_up()
        return future.result()

    def stop(self) -> None:
        """End the thread and close every socket; a second call does nothing."""
        with self._gate:
            if self._over is None:
                self._over = "the proxy was closed"
                self._wake_up()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def listen(self, listener: socket.socket | None) -> None:
        """Accept from `listener`, or from none: then clients are refused."""
        if self._listener is not None:
            self._selector.unregister(self._listener)
            self._listener.close()
        self._listener = listener
        if listener is not None:
            listener.setblocking(False)
            self._selector.register(listener, selectors.EVENT_READ, lambda _: self._accept())

    @property
    def listens(self) -> bool:
        """Whether there is a socket to accept from."""
        return self._listener is not None

    def watch(self, link: Link, end: End, events: int) -> None:
        """See `Host`."""
        assert end.sock is not None
        if events == end.events:
            return
        if not events:
            self._selector.unregister(end.sock)
        elif end.events:
            self._selector.modify(end.sock, events, (link, end))
        else:
            self._selector.register(end.sock, events, (link, end))
        end.events = events

    def wake(self, link: Link, lane: Lane, due: float) -> None:
        """See `Host`."""
        if lane.wakes_at != due:
            lane.wakes_at = due
            heapq.heappush(self._timers, (due, next(self._tie), link, lane))

    def forget(self, link: Link) -> None:
        """See `Host`."""
        self.links.pop(link.number, None)

    def each(self, act: Callable[[Link], object]) -> int:
        """Do something with every open link; returns how many there were."""
        links = list(self.links.values())
        for link in links:
            self._guarded(link, act, link)
        return len(links)

    def _run(self) -> None:
        try:
            while self._over is None:
                for key, events in self._poll():
                    if callable(key.data):
                        key.data(events)
                    else:
                        link, end = key.data
                        if events & end.events:  # what came before in this round may have changed it
                            self._guarded(link, link.ready, end, events & end.events)
                self._run_timers()
        except Exception as error:
            self.errors.append(error)
        finally:
            self._finish()

    def _poll(self) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready; waits at most until the next timer. epoll counts milliseconds, select(2) microseconds."""
        if not self._timers:
            return self._selector.select(_IDLE_WAIT)
        left = self._timers[0][0] - time.monotonic()
        if left <= 0:
            return self._selector.select(0)
        fileno = getattr(self._selector, "fileno", None)
        if fileno is None or fileno() >= _SELECT_LIMIT:
            return self._selector.select(left)
        select.select([fileno()], [], [], left)
        return self._selector.select(0)

    def _run_timers(self) -> None:
        while self._timers and self._timers[0][0] <= time.monotonic():
            _, _, link, lane = heapq.heappop(self._timers)
            lane.wakes_at = 0.0
            self._guarded(link, link.flush, lane)

    def _accept(self) -> None:
        while self._listener is not None:
            with _forks:
                try:
                    client, _ = self._listener.accept()
                except (BlockingIOError, ConnectionError):
                    return
                if self.resets_on_accept:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                    client.close()
                    continue
                link, reached = self._link(client)
            self._guarded(link, link.begin)
            if not reached:
                self._guarded(link, link.unreached)

    def _link(self, client: socket.socket) -> tuple[Link, bool]:
        server = socket.socket(_family(self._upstream))
        for sock in (client, server):
            sock.setblocking(False)
            if sock.family is not socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reached = server.connect_ex(self._upstream) in (0, errno.EINPROGRESS)
        number = next(self._numbers)
        self.log.add(Opened(self.log.draw(), time.monotonic(), number), connections=1)
        intake = Intake(number, self._wire(), Course(self.plan, number), self.log)
        link = self.links[number] = Link(self, number, client, server, intake)
        return link, reached

    def _guarded(self, link: Link, act: Callable[..., object], *args: object) -> None:
        try:
            act(*args)
        except Exception as error:
            error.add_note(f"on connection {link.number} of the fault proxy")
            self.errors.append(error)
            link.cut(Ending.RST)

    def _answer_calls(self) -> None:
        try:
            while self._woken.recv(4096):
                pass
        except BlockingIOError:
            pass
        while self._calls:
            function, future = self._calls.popleft()
            try:
                future.set_result(function())
            except Exception as error:
                future.set_exception(error)

    def _wake_up(self) -> None:
        try:
            self._waker.send(b"\0")
        except BlockingIOError:
            return  # so much is there to be read that it wakes up anyway

    def _finish(self) -> None:
        with self._gate:
            self._over = self._over or f"the proxy failed: {self.errors[-1]!r}"
            while self._calls:
                self._calls.popleft()[1].set_exception(ProxyClosed(self._over))
        self.log.finish(self._over)
        for link in list(self.links.values()):
            link.close()
        self.listen(None)
        self._selector.close()
        self._woken.close()
        self._waker.close()
        _loops.discard(self)

    def after_fork(self) -> None:
        """In a child process: give up the sockets, which are the parent's, without a word to anybody."""
        self._gate = threading.Lock()
        self._over = "the proxy belongs to the parent process"
        ends = [end for link in self.links.values() for end in link.ends]
        for sock in (self._waker, self._woken, self._listener, *(end.sock for end in ends)):
            if sock is not None:
                sock.close()
        self._selector.close()


def _family(upstream: Upstream) -> socket.AddressFamily:
    if isinstance(upstream, str):
        return socket.AF_UNIX
    return socket.AF_INET6 if ":" in upstream[0] else socket.AF_INET


_forks = threading.RLock()  # no fork between the making of a socket and its registration: the child would keep it
_loops: weakref.WeakSet[Loop] = weakref.WeakSet()


def _after_fork() -> None:
    _forks.release()
    for loop in list(_loops):
        loop.after_fork()


os.register_at_fork(before=_forks.acquire, after_in_parent=_forks.release, after_in_child=_after_fork)
