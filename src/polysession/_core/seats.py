"""Who gets a connection: seats, idle connections and a fair queue, as one state machine. No lock, no clock, no I/O.

The pools of the shell call it under their lock and do what it answers: use a connection, open one, close one first,
or wait. A returned connection goes straight to the first waiter (no barging: a thread that returns a connection and
asks again queues behind those who waited).

Connections come in *kinds* ("write", "read") that cannot serve each other; all kinds share `size` seats, and a kind
may have a smaller limit of its own. When the first waiter needs another kind, a connection is closed to make room.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Generic, TypeVar

import msgspec

__all__ = ["Grow", "Handed", "Keep", "Retire", "Seats", "Ticket", "Use", "Wait"]

R = TypeVar("R")


class Ticket(Generic[R]):
    """One waiter's place in the queue; `connection` or `may_open` is set when it is served."""

    __slots__ = ("connection", "kind", "may_open", "parked", "who")

    def __init__(self, kind: str, who: object = None) -> None:
        self.kind = kind
        self.who = who
        """For whom; opaque here."""
        self.connection: R | None = None
        self.may_open = False
        self.parked: object = None
        """What the shell parks the waiter on: a lock or a future."""

    @property
    def served(self) -> bool:
        """It has been given a connection or the right to open one."""
        return self.may_open or self.connection is not None


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
    """The returned connection, or the seat, went to this waiter: wake it."""

    ticket: Ticket[R]


class Retire(msgspec.Struct, Generic[R], frozen=True):
    """Close the returned connection; then wake this waiter, who may open one of its kind. None: nobody waits."""

    ticket: Ticket[R] | None


class Seats(Generic[R]):
    """The state of one endpoint's connections. Not thread-safe: the caller holds the lock."""

    __slots__ = ("idle", "limits", "open", "size", "waiters")

    def __init__(self, size: int, limits: Mapping[str, int] | None = None) -> None:
        self.size = size
        self.limits = dict(limits or {})
        self.idle: dict[str, list[R]] = {}
        self.open: dict[str, int] = {}
        self.waiters: deque[Ticket[R]] = deque()

    @property
    def total(self) -> int:
        """Seats taken: connections that are open or being opened."""
        return sum(self.open.values())

    def ask(self, kind: str, who: object = None) -> Use[R] | Grow[R] | Wait[R]:
        """What a caller who wants a connection of `kind` does; `who` is kept on the ticket if it must wait."""
        idle = self.idle.get(kind)
        if idle:
            # idle and waiting exclude each other within a kind, so taking from the stack passes nobody by
            return Use(idle.pop())
        if not self._somebody_before(kind) and self._has_room(kind):
            if self.total < self.size:
                self._sit(kind)
                return Grow()
            victim_kind = self._idle_kind_other_than(kind)
            if victim_kind is not None:
                victim = self.idle[victim_kind].pop(0)
                self.open[victim_kind] -= 1
                self._sit(kind)
                return Grow(victim)
        ticket: Ticket[R] = Ticket(kind, who)
        self.waiters.append(ticket)
        return Wait(ticket)

    def back(self, kind: str, connection: R) -> Keep | Handed[R] | Retire[R]:
        """A connection of `kind` comes back in good order."""
        for ticket in self.waiters:
            if ticket.kind == kind:
                self.waiters.remove(ticket)
                ticket.connection = connection
                return Handed(ticket)
            if self._has_room(ticket.kind):
                self.waiters.remove(ticket)
                self.open[kind] -= 1
                self._sit(ticket.kind)
                ticket.may_open = True
                return Retire(ticket)
        if self.total > self.size:
            self.open[kind] -= 1
            return Retire(None)
        self.idle.setdefault(kind, []).append(connection)
        return Keep()

    def gone(self, kind: str) -> Handed[R] | None:
        """A connection of `kind` does not exist any more; the first waiter who may open one gets its seat."""
        self.open[kind] -= 1
        for ticket in self.waiters:
            if self._has_room(ticket.kind) and self.total < self.size:
                self.waiters.remove(ticket)
                self._sit(ticket.kind)
                ticket.may_open = True
                return Handed(ticket)
        return None

    def withdraw(self, ticket: Ticket[R]) -> bool:
        """A waiter gives up. False: it was served meanwhile, and what it got must be passed on by the caller."""
        if ticket.served:
            return False
        self.waiters.remove(ticket)
        return True

    def drain(self) -> list[R]:
        """Take all idle connections out, for closing."""
        taken: list[R] = []
        for kind, idle in self.idle.items():
            self.open[kind] -= len(idle)
            taken += idle
            idle.clear()
        return taken

    def out(self, kind: str | None = None) -> int:
        """Connections that somebody uses or opens just now."""
        kinds = self.open if kind is None else (kind,)
        return sum(self.open.get(k, 0) - len(self.idle.get(k, ())) for k in kinds)

    def _sit(self, kind: str) -> None:
        self.open[kind] = self.open.get(kind, 0) + 1

    def _has_room(self, kind: str) -> bool:
        limit = self.limits.get(kind)
        return limit is None or self.open.get(kind, 0) < limit

    def _somebody_before(self, kind: str) -> bool:
        """A waiter of this kind, or one who could use the seat, came earlier."""
        return any(ticket.kind == kind or self._has_room(ticket.kind) for ticket in self.waiters)

    def _idle_kind_other_than(self, kind: str) -> str | None:
        return next((k for k, idle in self.idle.items() if idle and k != kind), None)
