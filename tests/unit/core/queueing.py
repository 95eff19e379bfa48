"""Plays a trace of arrivals against `Seats`, with a clock of its own: what the queue does with a load, in no time."""

from __future__ import annotations

import heapq
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from polysession._core import overload, queue
from polysession._core.seats import Grow, Handed, Refuse, Seats, Ticket

__all__ = ["MUTANTS", "Course", "mutated", "play", "rate"]


@dataclass
class Course:
    """What came of a trace. All times are seconds."""

    waits: list[float] = field(default_factory=list)
    """Of those who were served in time, in the order of being served."""
    order: list[int] = field(default_factory=list)
    """Their numbers."""
    refused: list[float] = field(default_factory=list)
    """How long they had waited."""
    turned_away: list[float] = field(default_factory=list)
    """When those came who were refused at once."""
    late: int = 0
    """Gave up when their time was over."""
    busy: float = 0.0
    """Seconds of all seats together."""

    def percentile(self, share: float) -> float:
        """Of the waits."""
        waits = sorted(self.waits)
        return waits[min(len(waits) - 1, int(share * len(waits)))]


def rate(per_second: float, seconds: float, begin: float = 0.0) -> Iterator[float]:
    """Moments at even distances."""
    for number in range(round(per_second * seconds)):
        yield begin + number / per_second


def play(
    arrivals: Iterable[float],
    *,
    size: int = 5,
    takes: float = 0.02,
    patience: float = 1.0,
    again: float | None = None,
    until: float = 60.0,
    make: Callable[[], Any] = queue.Queue,
) -> Course:
    """Let one caller come at each of `arrivals`, hold a connection for `takes`, and give up after `patience`. With
    `again`, each comes again so many seconds after it was served, until `until`."""
    seats: Seats[int] = Seats(size)
    seats.waiters = make()
    course = Course()
    numbers: dict[int, int] = {}
    since: dict[int, float] = {}
    events: list[tuple[float, int, str, Any]] = []
    count = 0

    def plan(at: float, what: str, who: Any) -> None:
        nonlocal count
        count += 1
        heapq.heappush(events, (at, count, what, who))

    def start(ticket: Ticket[int], now: float) -> None:
        course.waits.append(now - ticket.asked_at)
        course.order.append(numbers[id(ticket)])
        course.busy += takes
        since[id(ticket)] = now
        plan(now + takes, "back", ticket)

    kept = []
    for number, at in enumerate(arrivals):
        plan(at, "ask", number)
    while events:
        now, _, what, who = heapq.heappop(events)
        if what == "ask":
            ticket: Ticket[int] = Ticket("any", now)
            kept.append(ticket)
            numbers[id(ticket)] = who
            ticket.impatient = True  # connections are opened at once here
            answer = seats.ask(ticket)
            if isinstance(answer, Grow):
                ticket.connection = len(kept)
                seats.opened(ticket)
            if isinstance(answer, Refuse):
                course.turned_away.append(now)
            elif seats.seated(ticket):
                start(ticket, now)
            else:
                plan(now + patience, "give up", ticket)
        elif what == "give up":
            course.late += seats.withdraw(who)
        else:
            sheds = seats.waiters.returned("any", now - since[id(who)], now, size)
            passed_on = seats.back(who.connection)
            if isinstance(passed_on, Handed):
                start(passed_on.ticket, now)
            if sheds:
                for ticket in seats.waiters.hopeless("any", now):
                    course.refused.append(now - ticket.asked_at)
                    seats.withdraw(ticket)
            if again is not None and now + again < until:
                plan(now + again, "ask", numbers[id(who)])
    return course


_NEWEST = "return 0 < self.growth < WINDOWS"
_AWAY = "waiting * self.held <= seats * self.target"
_GREW = "self.asked - self.served > seats"
_TARGET = "return max(LEAST_TARGET, self.held)"
_OLDEST = "        for waiter in self._by_age():\n            if waiter.kind != kind:"
_FIRST = "oldest = next((waiter for waiter in self._by_age()"
_ALL = "            found.append(waiter)\n"
MUTANTS: tuple[tuple[str, str, str], ...] = (
    ("nobody is ever refused", "return self.growth >= WINDOWS", "return False"),
    ("whoever waits is refused after the first window", "return self.growth >= WINDOWS", "return self.growth >= 1"),
    ("the oldest are always served first", _NEWEST, "return False"),
    ("the newest are served first at once", _NEWEST, "return self.window_at is not None"),
    ("the newest go first only when somebody is refused", _NEWEST, "return self.sheds"),
    ("a queue that goes down counts as growing", f"return {_GREW}", "return True"),
    ("as many coming as are served counts as growth", _GREW, "self.asked >= self.served"),
    ("a window without growth ends nothing", "if self._grew(seats) else 0", "if self._grew(seats) else self.growth"),
    ("windows do not end", "        elif passed:", "        elif False:"),
    ("refusing ends as soon as the queue is short", "        if self.sheds:\n", "        if False:\n"),
    ("one window of rest ends refusing", "if self.rest >= WINDOWS:", "if self.rest >= 1:"),
    ("refusing never ends", "if self.rest >= WINDOWS:", "if False:"),
    ("time in which nobody came is no rest", "else self.rest + passed", "else self.rest + 1"),
    ("who had to be refused does not count", "if self.pressed or self._grew(seats) else", "if False else"),
    ("a window is a fifth of what it is", "_WINDOW: Final = 10", "_WINDOW: Final = 2"),
    ("a window is five times as long", "_WINDOW: Final = 10", "_WINDOW: Final = 50"),
    ("the hopeless are refused ten times later", "_HOPELESS: Final = 2", "_HOPELESS: Final = 20"),
    ("even those who have just come are refused", "_HOPELESS: Final = 2", "_HOPELESS: Final = 0"),
    ("long units do not raise the target", _TARGET, "return LEAST_TARGET"),
    ("short units lower the target", _TARGET, "return self.held"),
    ("arrivals are not counted", "            load.asked += 1\n", "            load.asked += 0\n"),
    ("who is served is not counted", "            load.served += 1\n", "            load.served += 0\n"),
    ("the newest are refused, not the oldest", _OLDEST, _OLDEST.replace("self._by_age()", "reversed(self)")),
    ("nobody is turned away", _AWAY, "True"),
    ("everybody is turned away", _AWAY, "False"),
    ("twice as many may wait", _AWAY, "waiting * self.held <= 2 * seats * self.target"),
    ("who is turned away is no sign of an overload", "        self.pressed = True\n        return", "        return"),
    ("long after an overload some are turned away", " or self._passed(now) > WINDOWS", ""),
    ("those of other kinds are counted", "other.kind == waiter.kind for other", "True for other"),
    ("only one is refused at a time", _ALL, _ALL + "            break\n"),
    ("the newest is taken for the oldest", _FIRST, _FIRST.replace("self._by_age()", "reversed(self)")),
)


@contextmanager
def mutated(before: str, after: str) -> Iterator[Callable[[], Any]]:
    """The queue of a copy of `overload` and `queue` in which `before` reads `after`."""
    sources = {module: inspect.getsource(module) for module in (overload, queue)}
    places = [module for module, source in sources.items() if before in source]
    assert len(places) == 1, f"the text of this mutant is in {len(places)} modules: {before!r}"
    assert sources[places[0]].count(before) == 1, f"the text of this mutant is there more than once: {before!r}"
    sources[places[0]] = sources[places[0]].replace(before, after)
    sources[queue] = sources[queue].replace("from .overload import", "from .overload_mutated import")
    made: dict[ModuleType, ModuleType] = {}
    try:
        for real, source in sources.items():
            module = ModuleType(f"{real.__name__}_mutated")
            module.__package__ = real.__package__
            sys.modules[module.__name__] = module
            exec(compile(source, f"<mutated {real.__name__}>", "exec"), module.__dict__)  # noqa: S102  # our own source
            made[real] = module
        yield made[queue].Queue
    finally:
        for real in sources:
            sys.modules.pop(f"{real.__name__}_mutated", None)
