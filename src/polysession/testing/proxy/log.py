"""The proxy's memory: events in order, counters, and threads that wait for an event. Decides nothing.

The proxy's thread writes; any thread may read and wait. What a client is about to feel is written before it is done.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from itertools import islice

from .events import Counts, Direction, Event, Message

__all__ = ["Count", "Log"]


class Log:
    """Thread-safe. Keeps the newest `most` events; the counters forget nothing."""

    def __init__(self, most: int) -> None:
        self._events: deque[Event] = deque(maxlen=most)
        self._changed = threading.Condition()  # of an RLock: a match may ask for the counters
        self._waiting = 0
        self._over: str | None = None
        self._connections = 0
        self._round_trips = 0
        self._bytes = dict.fromkeys(Direction, 0)
        self._kinds: dict[Direction, Counter[str]] = {direction: Counter() for direction in Direction}
        self._next = 1  # drawn by the proxy's thread alone

    def draw(self, many: int = 1) -> int:
        """The number of the next event, and of as many as will be added at once. For the proxy's thread."""
        number = self._next
        self._next += many
        return number

    def add(self, event: Event, *, connections: int = 0) -> None:
        """Write one event that is no message."""
        with self._changed:
            self._events.append(event)
            self._connections += connections
            if self._waiting:
                self._changed.notify_all()

    def add_messages(self, messages: Sequence[Message], *, round_trips: int = 0) -> None:
        """Write messages of one direction."""
        direction = messages[0].direction
        with self._changed:
            self._events.extend(messages)
            self._round_trips += round_trips
            kinds = self._kinds[direction]
            for message in messages:
                self._bytes[direction] += message.size
                kinds[message.kind] += 1
            if self._waiting:
                self._changed.notify_all()

    def events(self) -> tuple[Event, ...]:
        """What is kept, the oldest first."""
        with self._changed:
            return tuple(self._events)

    @property
    def newest(self) -> int:
        """The number of the newest event, 0 before the first."""
        with self._changed:
            return self._events[-1].number if self._events else 0

    def counts(self) -> Counts:
        """The counters now."""
        with self._changed:
            return Counts(
                self._connections,
                self._round_trips,
                self._bytes[Direction.TO_SERVER],
                self._bytes[Direction.TO_CLIENT],
                dict(self._kinds[Direction.TO_SERVER]),
                dict(self._kinds[Direction.TO_CLIENT]),
            )

    def wait_for(self, match: Callable[[Event], bool], timeout: float, after: int) -> Event:
        """The first event above number `after` that matches; see `FaultProxy.wait_for`."""
        end = time.monotonic() + timeout
        with self._changed:
            self._waiting += 1
            try:
                while True:
                    for event in self._since(after):
                        after = event.number
                        if match(event):
                            return event
                    left = end - time.monotonic()
                    if self._over is not None or left <= 0 or not self._changed.wait(left):
                        raise TimeoutError(self._missed(timeout, after))
            finally:
                self._waiting -= 1

    def _since(self, after: int) -> list[Event]:
        """The kept events above number `after`; their numbers have no gaps."""
        if not self._events:
            return []
        return list(islice(self._events, max(0, after + 1 - self._events[0].number), None))

    def finish(self, why: str) -> None:
        """Nothing will be written any more; who waits is told."""
        with self._changed:
            self._over = why
            self._changed.notify_all()

    def _missed(self, timeout: float, after: int) -> str:
        last = self._events[-1] if self._events else "nothing"
        why = self._over or f"it did not come within {timeout:g} s"
        return f"the event that was waited for is not there: {why}; {after} events were seen, the last: {last!r}"


class Count:
    """What was counted since it was made, up to now or to `stop`. Thread-safe."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._begin = log.counts()
        self._counted: Counts | None = None

    def stop(self) -> None:
        """Count no further."""
        self._counted = self.counts

    @property
    def counts(self) -> Counts:
        """All of it."""
        return self._counted or self._log.counts() - self._begin

    @property
    def round_trips(self) -> int:
        """The round trips."""
        return self.counts.round_trips

    @property
    def connections(self) -> int:
        """The clients that were accepted."""
        return self.counts.connections
