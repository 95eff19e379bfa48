"""The turns of units that clash: which of them goes first. Waits for nothing and decides nothing else; the shell waits.

Units of one name on the same databases that failed because they met one another stand in a line. The first one goes
again, the others let it. Without a line the one that came last wins most often, since those that failed before it are
still waiting: on one hot row a few units would take it all and others would never have their turn.

A place in the line is advice, not a lock: whoever waits goes on by itself if the line stands still, so nothing depends
on a unit that hangs or was lost. Thread-safe. A place that nobody holds any more is forgotten.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Hashable

__all__ = ["Turn", "Turns"]

_MEMORY = 4
"""Over how many attempts the pace of a line is averaged."""


class Turn:
    """One repeated unit and its place in the line. Used by the thread or task of that unit; woken by others."""

    __slots__ = ("__weakref__", "beaten", "key", "turns", "wake")

    def __init__(self, turns: Turns, key: Hashable) -> None:
        self.turns = turns
        self.key = key
        self.beaten = 0
        """How often it failed when it was the first, the failure that made it so included."""
        self.wake: Callable[[], None] | None = None
        """How its waiter is told that its turn has come; from any thread."""

    def clashed(self, took: float = 0.0) -> int:
        """It failed because it met others, after an attempt of `took` seconds: it stands in the line, at its old place
        if it has one. Answers `beaten`; 0 if others come first."""
        with self.turns.lock:
            line = self.turns.lines.setdefault(self.key, Line(took))
            line.pace += (took - line.pace) / _MEMORY
            if not any(place() is self for place in line.places):
                line.places.append(weakref.ref(self))
            if not self.is_first:
                return 0
            self.beaten += 1
            return self.beaten

    def queue(self) -> bool:
        """Whether a unit that has not failed yet must let others go first: the first one was beaten again. Then it
        stands in the line too."""
        if self.key not in self.turns.lines:
            return False
        with self.turns.lock:
            first = self.turns.first(self.key)
            if first is None or first.beaten < 2:
                return False
            self.turns.lines[self.key].places.append(weakref.ref(self))
            return True

    @property
    def is_first(self) -> bool:
        """Nobody comes before it."""
        return self.turns.first(self.key) in (self, None)

    @property
    def pace(self) -> float:
        """The seconds that an attempt takes here, by the last few that failed; 0 without a line."""
        line = self.turns.lines.get(self.key)
        return line.pace if line is not None else 0.0

    @property
    def moved(self) -> int:
        """How many have left the line so far: as long as it grows, waiting is worth it."""
        line = self.turns.lines.get(self.key)
        return line.moved if line is not None else -1

    def await_call(self, wake: Callable[[], None]) -> bool:
        """Let `wake` be called when its turn has come; False if it has come already."""
        with self.turns.lock:
            if self.is_first:
                return False
            self.wake = wake
            return True

    def leave(self) -> None:
        """It has ended: the next one is called. A second call does nothing."""
        if self.key not in self.turns.lines:
            return
        with self.turns.lock:
            line = self.turns.lines.get(self.key)
            if line is None or not any(place() is self for place in line.places):
                return
            line.places = deque(place for place in line.places if place() is not self)
            line.moved += 1
            first = self.turns.first(self.key)
            wake = first.wake if first is not None else None
        if wake is not None:
            wake()


class Line:
    """Those who clash over one thing, in the order in which they came."""

    __slots__ = ("moved", "pace", "places")

    def __init__(self, pace: float) -> None:
        self.pace = pace
        self.places: deque[weakref.ref[Turn]] = deque()
        self.moved = 0


class Turns:
    """All lines of a door. A line exists as long as somebody stands in it."""

    __slots__ = ("lines", "lock")

    def __init__(self) -> None:
        self.lines: dict[Hashable, Line] = {}
        self.lock = threading.RLock()  # the garbage collector may end a unit in the middle of our own work

    def forked(self) -> None:
        """In a forked child: nobody of those who stood in a line is here, nor whoever had the lock."""
        self.lock, self.lines = threading.RLock(), {}

    def first(self, key: Hashable) -> Turn | None:
        """Who comes first; None if nobody waits. To be called under the lock, or as a hint."""
        line = self.lines.get(key)
        while line is not None:
            try:
                first = line.places[0]()
            except IndexError:
                self.lines.pop(key, None)
                return None
            if first is not None:
                return first
            with self.lock:
                if line.places and line.places[0]() is None:
                    line.places.popleft()
        return None
