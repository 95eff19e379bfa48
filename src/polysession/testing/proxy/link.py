"""One client, its connection to the server, and what happens between them: bytes, ends and faults.

What is read goes through the intake into a lane; the lane is written as far as its times, the sockets and a freeze
allow. Proxy's thread only. Linux gives a reader what arrived before an RST, so what was passed on before a cut is seen
by the other side.
"""

from __future__ import annotations

import socket
import time
from selectors import EVENT_READ, EVENT_WRITE
from typing import Protocol

from .events import BOTH_SIDES, Direction, Ended, Ending, Fired, Side
from .faults import Cut, Delay, Freeze, Hole
from .intake import Intake, Passage
from .lane import HIGH_WATER, RESET_ON_CLOSE, End, Lane
from .log import Log
from .plan import Strike

__all__ = ["Host", "Link"]

_CHUNK = 1 << 16


class Host(Protocol):
    """The loop, as its links see it."""

    log: Log
    frozen: bool
    latency: dict[Direction, float]

    def watch(self, link: Link, end: End, events: int) -> None:
        """Call `link.ready(end, ...)` when one of `events` is there; no events: not any more."""

    def wake(self, link: Link, lane: Lane, due: float) -> None:
        """Call `link.flush(lane)` at `due`."""

    def forget(self, link: Link) -> None:
        """Both sockets of `link` are closed."""


class Link:
    """A connection from its acceptance to its end."""

    def __init__(self, host: Host, number: int, client: socket.socket, server: socket.socket, intake: Intake) -> None:
        self.number = number
        self.frozen: bool = False
        self._host = host
        self._intake = intake
        self._client, self._server = End(Side.CLIENT, client), End(Side.SERVER, server)
        self._server.connecting = True
        self._to_server = Lane(Direction.TO_SERVER, self._client, self._server)
        self._to_client = Lane(Direction.TO_CLIENT, self._server, self._client)

    @property
    def ends(self) -> tuple[End, End]:
        """Its two sockets."""
        return self._client, self._server

    def begin(self) -> None:
        """Start to work: what strikes at once, then the first bytes."""
        for strike in self._intake.at_once():
            lane = self._lane(strike.planned.fault.place.direction)
            lane.put(strike, 0.0)
        self.proceed()

    def unreached(self) -> None:
        """The server was not there, and this was known at once; a Unix socket has no answer that is waited for."""
        self._left(self._server, Ending.RST)
        self._server.connecting = False
        self.proceed()

    def proceed(self) -> None:
        """Write and read what may be written and read now; after a thaw, for example."""
        self.flush(self._to_server)
        self.flush(self._to_client)

    def thaw(self) -> None:
        """Go on."""
        self.frozen = False
        self.proceed()

    def ready(self, end: End, events: int) -> None:
        """The socket of `end` can be written or read."""
        if events & EVENT_WRITE:
            if end.connecting:
                self._connected(end)
            else:
                self.flush(self._to_server if end is self._server else self._to_client)
        if events & EVENT_READ and end.sock is not None:
            self._read(end)

    def cut(self, ending: Ending, sides: frozenset[Side] = BOTH_SIDES) -> None:
        """Nothing passes any more; tell these sides. See `Cut`."""
        self.frozen = False
        for lane in (self._to_server, self._to_client):
            lane.swallow()
        for end in (self._client, self._server):
            if end.side in sides:
                self._end(end, ending)
        self._watch()

    def close(self) -> None:
        """Close both sockets; a second call does nothing."""
        for end in (self._client, self._server):
            self._drop(end)
        self._watch()

    def flush(self, lane: Lane) -> None:
        """Write what is due and let strikes and ends take effect, until something has to be waited for."""
        while lane.queue and not (self.frozen or self._host.frozen or lane.target.connecting):
            due, item = lane.queue[0]
            if due and due > time.monotonic():
                self._host.wake(self, lane, due)
                break
            if isinstance(item, memoryview):
                if not self._write(lane, item):
                    break
                continue
            lane.queue.popleft()
            if isinstance(item, Strike):
                self._strike(lane, item)
            elif item is not None:
                self._pass_end(lane, item)
        self._watch()

    def _write(self, lane: Lane, data: memoryview) -> bool:
        if lane.target.sock is not None:
            try:
                if not lane.write(data):
                    return False
            except OSError:
                self._left(lane.target, Ending.RST)
                return True
        lane.queue.popleft()
        return True

    def _connected(self, end: End) -> None:
        assert end.sock is not None
        if end.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._left(end, Ending.RST)
        end.connecting = False
        self.proceed()

    def _read(self, end: End) -> None:
        assert end.sock is not None
        try:
            data = end.sock.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            self._left(end, Ending.RST)
            return
        if not data:
            self._left(end, Ending.FIN)
            return
        lane = self._lane_from(end)
        if lane.swallows:
            return
        self._put(lane, self._intake.read(lane.direction, data))
        self.flush(lane)

    def _put(self, lane: Lane, passage: Passage) -> None:
        due = self._due(lane)
        for item in passage:
            lane.put(item, due)

    def _due(self, lane: Lane) -> float:
        latency = self._host.latency[lane.direction]
        return time.monotonic() + latency if latency else 0.0

    def _strike(self, lane: Lane, strike: Strike) -> None:
        log, fault = self._host.log, strike.planned.fault
        log.add(Fired(log.draw(), time.monotonic(), self.number, fault, strike.message))
        match fault.action:
            case Cut(ending, sides):
                self.cut(ending, sides)
            case Hole(directions):
                for direction in directions:
                    self._lane(direction).swallow()
            case Delay(seconds):
                lane.queue.appendleft((time.monotonic() + seconds, None))
            case Freeze():
                self.frozen = True

    def _left(self, end: End, ending: Ending) -> None:
        """A side ended its connection, or cannot be reached."""
        if end.sock is not None:
            if end.spoke:
                log = self._host.log
                log.add(Ended(log.draw(), time.monotonic(), self.number, end.side, ending))
                end.spoke = False
                lane = self._lane_from(end)
                if not lane.swallows:  # first what the sender did not finish, then its end
                    self._put(lane, self._intake.finish(lane.direction))
                    lane.put(ending, self._due(lane))
            other = self._to_client if end is self._client else self._to_server
            if ending is Ending.RST:
                other.swallow()
            if other.swallows and (ending is Ending.RST or self._lane_from(end).swallows):
                self._drop(end)
        self.flush(self._lane_from(end))

    def _pass_end(self, lane: Lane, ending: Ending) -> None:
        if ending is Ending.RST:
            self._end(lane.target, Ending.RST)
            return
        if lane.target.sock is not None:
            _shut_down(lane.target.sock)
        lane.swallow()
        if not lane.target.spoke and not self._lane_from(lane.target).queue:
            self.close()

    def _end(self, end: End, ending: Ending) -> None:
        if end.sock is None:
            return
        if ending is Ending.RST or end.connecting:
            end.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            self._drop(end)
        elif end.spoke:
            _shut_down(end.sock)  # to close it before it was read to its end would send RST
        else:
            self._drop(end)

    def _drop(self, end: End) -> None:
        if end.sock is not None:
            self._host.watch(self, end, 0)
            end.sock.close()
            end.sock = None

    def _lane(self, direction: Direction) -> Lane:
        return self._to_server if direction is Direction.TO_SERVER else self._to_client

    def _lane_from(self, end: End) -> Lane:
        return self._to_server if end is self._client else self._to_client

    def _watch(self) -> None:
        """Ask for what can go on now."""
        still = self.frozen or self._host.frozen
        for end, out, into in (
            (self._client, self._to_server, self._to_client),
            (self._server, self._to_client, self._to_server),
        ):
            if end.sock is None:
                continue
            if end.connecting:
                events = EVENT_WRITE
            else:
                reads = end.spoke and not still and out.waiting < HIGH_WATER
                events = (EVENT_READ if reads else 0) | (EVENT_WRITE if into.blocked and not still else 0)
            if events != end.events:
                self._host.watch(self, end, events)
        if self._client.sock is None and self._server.sock is None:
            self._host.forget(self)


def _shut_down(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_WR)
    except OSError:
        return  # its peer is gone already
