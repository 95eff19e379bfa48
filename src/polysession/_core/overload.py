"""When a queue is overloaded: more come than are served, and not for a moment only. Pure: it is told the time.

The rule is CoDel's (K. Nichols and V. Jacobson, "Controlling Queue Delay", ACM Queue 10(5), 2012): a queue is judged
by how long it *stands*, not by how long it is. It stands while the one who waits longest has waited for longer than the
target. A queue that stands is no overload as long as it goes down, or as many come as are served, as with a fixed
number of workers who wait for each other all day. So it is looked at in windows, and a window in which clearly more
came than were served counts as one of *growth*.

After one such window the newest are served first ("adaptive LIFO": B. Maurer, "Fail at Scale", ACM Queue 13(8), 2015):
they are the ones whose callers still wait. A window without growth, or a queue that stands no more, ends it. After five
in a row, 2.5 seconds at least, those are refused who have waited for twice the target, since they would only be served
when nobody wants it any more; and whoever comes when more wait than are served within the target is refused at once,
so that the queue is short, and first come, first served again.

From then on a queue that stands no more says nothing. Refusing ends as slowly as it began: after five windows in a row
in which nobody had to be refused, and no more came than were served. A moment in which the machine lets nobody run, or
nobody come, is not the end of an overload.

The target is 50 ms, or as long as a connection is held on the average if that is longer: where a unit takes a second, a
wait of a second is nothing special.
"""

from __future__ import annotations

from typing import Final

__all__ = ["LEAST_TARGET", "WINDOWS", "Load"]

LEAST_TARGET: Final = 0.05
"""Seconds. The target of Ecto's pool (db_connection, `queue_target`)."""
_WINDOW: Final = 10
"""A window, in targets: half a second at least."""
WINDOWS: Final = 5
"""Windows of growth after which the hopeless are refused, and windows of rest after which nobody is any more."""
_HOPELESS: Final = 2
"""The wait after which nobody is served in time, in targets."""
_LATE: Final = 16
"""The average of how long connections are held is one of about so many."""


class Load:
    """How one queue goes. Not thread-safe: the caller holds the lock. All times are seconds."""

    __slots__ = ("asked", "growth", "held", "pressed", "rest", "served", "window_at")

    def __init__(self) -> None:
        self.asked = 0
        """Of this window."""
        self.served = 0
        self.growth = 0
        """Windows in a row in which more came than were served."""
        self.pressed = False
        """Somebody had to be refused in this window."""
        self.rest = 0
        """Windows in a row in which nobody had to be refused, while it sheds."""
        self.window_at: float | None = None
        """When the window began; None while the queue does not stand."""
        self.held = 0.0
        """How long a connection is held, on the average of late."""

    @property
    def target(self) -> float:
        """How long a wait may be."""
        return max(LEAST_TARGET, self.held)

    @property
    def newest_first(self) -> bool:
        """Whoever came last is served first."""
        return 0 < self.growth < WINDOWS

    @property
    def sheds(self) -> bool:
        """The hopeless are refused."""
        return self.growth >= WINDOWS

    def hopeless(self, asked_at: float, now: float) -> bool:
        """Who asked then will not be served in time."""
        return self.sheds and now - asked_at > _HOPELESS * self.target

    def turns_away(self, now: float, waiting: int, seats: int) -> bool:
        """Who comes now is refused at once, since so many wait already for so many seats."""
        if not self.sheds or waiting * self.held <= seats * self.target or self._passed(now) > WINDOWS:
            return False  # after so long a time in which nobody waited it is over, though nobody has looked yet
        self.pressed = True
        return True

    def returned(self, held: float) -> None:
        """A connection comes back that was held so long."""
        self.held += (held - self.held) / _LATE

    def look(self, now: float, oldest_at: float | None, seats: int) -> None:
        """A connection comes back while `oldest_at` has waited longest (None: nobody waits). `seats` bounds by how many
        those who come and those who are served can differ where each comes again when it was served."""
        passed = self._passed(now)
        if self.sheds:
            self.pressed = self.pressed or (oldest_at is not None and self.hopeless(oldest_at, now))
            if passed:
                self._rests(passed, seats)
                self._begin(now)
        elif oldest_at is None or now - oldest_at <= self.target:
            self.growth = 0
            self._begin(None)
        elif self.window_at is None:
            self._begin(now)
        elif passed:
            self.growth = self.growth + 1 if self._grew(seats) else 0
            self._begin(now)

    def _passed(self, now: float) -> int:
        """Windows since the last one began."""
        return 0 if self.window_at is None else int((now - self.window_at) / (_WINDOW * self.target))

    def _grew(self, seats: int) -> bool:
        return self.asked - self.served > seats

    def _rests(self, passed: int, seats: int) -> None:
        """A window ends in which the hopeless were refused; several, since nobody looks while nobody waits."""
        self.rest = passed - 1 if self.pressed or self._grew(seats) else self.rest + passed
        if self.rest >= WINDOWS:
            self.growth = self.rest = 0

    def _begin(self, now: float | None) -> None:
        """A window begins; None: there is none while the queue does not stand."""
        self.window_at, self.asked, self.served, self.pressed = now, 0, 0, False
