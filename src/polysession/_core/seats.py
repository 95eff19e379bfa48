"""Who gets a connection: seats, idle connections and a fair queue, as one state machine. No lock, no clock, no I/O.

The pools of the shell call it under their lock and do what it answers: use a connection, open one, close one first,
or wait. A returned connection goes straight to the first waiter (no barging: a thread that returns a connection and
asks again queues behind those who waited).

Connections come in *kinds* ("write", "read") that cannot serve each other; all kinds share `size` seats, and a kind
may have a smaller limit of its own. When the first waiter needs another kind, a connection is closed to make room.

There is no counter that could go wrong: a seat is taken as long as its ticket is in `taken`, and a connection that
nobody uses is in `idle`. An interrupt can end a method between any two instructions, so each change is ordered such
that a connection is rather in two places than in none, one store moves a seat from hand to hand, and `repair` mends
what was left half done.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Generic, TypeVar

import msgspec

__all__ = ["Grow", "Handed", "Keep", "Retire", "Seats", "Ticket", "Use", "Wait"]

R = TypeVar("R")


class Ticket(Generic[R]):
    """One request for a connection, from asking to giving back. Made by the shell, which may add to it."""

    __slots__ = ("connection", "kind", "victim")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.connection: R | None = None
        """Its connection; None while it waits, or while it opens one on the seat it was given."""
        self.victim: R | None = None
        """A connection that its owner closes before opening one, to keep to the number of seats."""


class Use(msgspec.Struct, Generic[R], frozen=True):
    """Take this idle connection."""

    connection: R


class Grow(msgspec.Struct, Generic[R], frozen=True):
    """Open a connection; first close `victim`, an idle one of another kind, if there is one."""

    victim: R | None = None


class Wait(msgspec.Struct, Generic[R], frozen=True):
    """Queue up with this ticket."""

    ticket: Ticket[R]


class Keep(msgspec.Struct, frozen=True):
    """The returned connection is idle now."""


class Handed(msgspec.Struct, Generic[R], frozen=True):
    """The connection, or a seat on which to open one, went to this waiter: wake it."""

    ticket: Ticket[R]


class Retire(msgspec.Struct, frozen=True):
    """Close the returned connection: nobody counts on it, its seat was given to somebody else."""


class Seats(Generic[R]):
    """The state of one endpoint's connections. Not thread-safe: the caller holds the lock."""

    __slots__ = ("idle", "limits", "size", "taken", "waiters")

    def __init__(self, size: int, limits: Mapping[str, int] | None = None) -> None:
        self.size = size
        self.limits = dict(limits or {})
        self.idle: dict[str, list[R]] = {}
        self.taken: dict[int, Ticket[R]] = {}
        """Who has a seat, by the identity of the connection, or of the ticket while it opens one."""
        self.waiters: deque[Ticket[R]] = deque()

    @property
    def total(self) -> int:
        """Seats taken: connections that are open or being opened."""
        return len(self.taken) + sum(map(len, self.idle.values()))

    def out(self, kind: str | None = None) -> int:
        """Connections that somebody uses or opens just now."""
        return len(self.taken) if kind is None else sum(ticket.kind == kind for ticket in self.taken.values())

    def seated(self, ticket: Ticket[R]) -> bool:
        """It has a connection, or a seat on which to open one."""
        taken = self.taken
        return taken.get(id(ticket.connection)) is ticket or taken.get(id(ticket)) is ticket

    def ask(self, ticket: Ticket[R]) -> Use[R] | Grow[R] | Wait[R]:
        """What a caller who wants a connection of the ticket's kind does."""
        # nobody who waits could use what is free now, or would have been served: taking it passes nobody by
        idle = self.idle.get(ticket.kind)
        if idle:
            connection = ticket.connection = idle[-1]
            self.taken[id(connection)] = ticket
            idle.pop()
            return Use(connection)
        if self._seat(ticket):
            return Grow(ticket.victim)
        self.waiters.append(ticket)
        return Wait(ticket)

    def opened(self, ticket: Ticket[R]) -> None:
        """The owner of a seat has opened the connection that the ticket now has."""
        self.taken[id(ticket.connection)] = ticket
        self.taken.pop(id(ticket), None)
        ticket.victim = None

    def back(self, connection: R) -> Keep | Handed[R] | Retire:
        """A connection comes back in good order."""
        ticket = self.taken.get(id(connection))
        if ticket is None:
            return Retire()
        for waiter in self._waiting():
            if waiter.kind == ticket.kind:
                waiter.connection = connection
                self.taken[id(connection)] = waiter
                self.waiters.remove(waiter)
                return Handed(waiter)
            if self._has_room(waiter.kind):
                waiter.connection = None
                waiter.victim = connection
                self.taken[id(waiter)] = waiter
                del self.taken[id(connection)]
                self.waiters.remove(waiter)
                return Handed(waiter)
        self.idle.setdefault(ticket.kind, []).append(connection)
        del self.taken[id(connection)]
        return Keep()

    def gone(self, ticket: Ticket[R]) -> list[Ticket[R]]:
        """The ticket's connection does not exist any more, or was never opened. Those who are served now: wake them."""
        for key in (id(ticket.connection), id(ticket)):
            if self.taken.get(key) is ticket:
                del self.taken[key]
        return self.serve()

    def withdraw(self, ticket: Ticket[R]) -> bool:
        """A waiter gives up. False: it does not wait, or was served meanwhile and has something to give back."""
        if self.seated(ticket) or ticket not in self.waiters:
            return False
        self.waiters.remove(ticket)
        return True

    def serve(self) -> list[Ticket[R]]:
        """Give what is free to those who wait, the first ones first. Those who were served: wake them."""
        served = []
        for waiter in self._waiting():
            idle = self.idle.get(waiter.kind)
            if idle:
                waiter.connection = idle[-1]
                self.taken[id(waiter.connection)] = waiter
                idle.pop()
            elif not self._seat(waiter):
                continue
            self.waiters.remove(waiter)
            served.append(waiter)
        return served

    def drain(self, kind: str) -> R | None:
        """Take one idle connection of a kind out, for closing; None if there is none left."""
        idle = self.idle.get(kind)
        return idle.pop() if idle else None

    def repair(self) -> None:
        """Mend what an interrupt left half done: no seat counts twice, nobody waits for what he has."""
        idle = {id(connection) for connections in self.idle.values() for connection in connections}
        for key, ticket in list(self.taken.items()):
            if key in idle:
                del self.taken[key]  # it was on its way into the idle ones, or was not taken out of them yet
            elif key == id(ticket) and ticket.connection is not None:
                self.taken[id(ticket.connection)] = ticket
                del self.taken[key]
        for waiter in list(self.waiters):
            if self.seated(waiter):
                self.waiters.remove(waiter)

    def _waiting(self) -> list[Ticket[R]]:
        return [ticket for ticket in self.waiters if not self.seated(ticket)] if self.waiters else []

    def _seat(self, ticket: Ticket[R]) -> bool:
        """Give it a seat on which to open a connection, if there is one."""
        if not self._has_room(ticket.kind):
            return False
        if self.total < self.size:
            ticket.connection = ticket.victim = None
            self.taken[id(ticket)] = ticket
            return True
        for kind, idle in self.idle.items():
            if idle and kind != ticket.kind:
                ticket.connection = None
                ticket.victim = idle[0]
                self.taken[id(ticket)] = ticket
                del idle[0]
                return True
        return False

    def _has_room(self, kind: str) -> bool:
        limit = self.limits.get(kind)
        return limit is None or self.out(kind) + len(self.idle.get(kind, ())) < limit
