"""Who waits for a connection, in the order in which they are served. No lock, no clock, no I/O.

First come, first served; only when a kind begins to be overloaded the newest of its kind go before (`overload`).
Joining, leaving and asking whether somebody waits take the same time however many wait; in an overload who comes counts
those of its kind. An interrupt may end any method between two instructions: each changes the queue by one call.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Protocol, TypeVar

from .overload import Load

__all__ = ["Queue", "Waiter"]


class Waiter(Protocol):
    """Somebody who waits."""

    kind: str
    asked_at: float
    """In seconds of the caller's clock."""


W = TypeVar("W", bound=Waiter)


class Queue(OrderedDict[W, None]):
    """Those who wait. Iterating gives them in the order of being served; it must not be changed meanwhile.

    An ordered dict, so that looking whether somebody waits, as everybody does, calls nothing.
    """

    __slots__ = ("_loads", "is_bounded")

    def __init__(self, *, is_bounded: bool = True) -> None:
        super().__init__()
        self._loads: dict[str, Load] = {}
        self.is_bounded = is_bounded
        """It is kept short by refusing when there is too much to do."""

    def __iter__(self) -> Iterator[W]:
        if not self._loads or not any(load.newest_first for load in self._loads.values()):
            return super().__iter__()
        return self._newest_first()

    def _newest_first(self) -> Iterator[W]:
        """Each place in the line stays with its kind; in an overloaded kind the newest have the first ones."""
        last = {
            kind: (waiter for waiter in reversed(self) if waiter.kind == kind)
            for kind, load in self._loads.items()
            if load.newest_first
        }
        for waiter in self._by_age():
            turned = last.get(waiter.kind)
            yield waiter if turned is None else next(turned)

    def _by_age(self) -> Iterator[W]:
        return super().__iter__()

    def join(self, waiter: W) -> None:
        """It waits from now on."""
        load = self._loads.get(waiter.kind)
        if load is not None:
            load.asked += 1
        self[waiter] = None

    def leave(self, waiter: W) -> None:
        """It gives up, or was refused. A second call does nothing."""
        self.pop(waiter, None)

    def served(self, waiter: W) -> None:
        """It has got what it waited for."""
        load = self._loads.get(waiter.kind)
        if load is not None:
            load.served += 1
        self.pop(waiter, None)

    def returned(self, kind: str, held: float, now: float, seats: int) -> bool:
        """A connection comes back that was held so long: whether some of those who wait are to be refused."""
        if not self.is_bounded:
            return False
        load = self._loads.get(kind)
        if load is None:
            if not self:
                return False
            load = self._loads[kind] = Load()
        load.returned(held)
        oldest = next((waiter for waiter in self._by_age() if waiter.kind == kind), None)
        load.look(now, None if oldest is None else oldest.asked_at, seats)
        return load.sheds

    def hopeless(self, kind: str, now: float) -> list[W]:
        """Those of a kind who are to be refused, the oldest first."""
        load = self._loads.get(kind)
        found: list[W] = []
        if load is None or not load.sheds:
            return found
        for waiter in self._by_age():
            if waiter.kind != kind:
                continue
            if not load.hopeless(waiter.asked_at, now):
                break
            found.append(waiter)
        return found

    def turns_away(self, waiter: W, seats: int) -> bool:
        """Whether it is to be refused at once, since too many of its kind wait already. Then it must not join."""
        load = self._loads.get(waiter.kind)
        if load is None or not load.sheds:
            return False
        waiting = sum(other.kind == waiter.kind for other in self._by_age())
        return load.turns_away(waiter.asked_at, waiting, seats)

    def target(self, kind: str) -> float:
        """How long a wait for this kind may be before it counts as too long."""
        return (self._loads.get(kind) or Load()).target
