"""Who gets a connection: seats, idle connections and a fair queue, as one state machine. No lock, no clock, no I/O.

The pools of the shell call it under their lock and do what it answers: use a connection, open one, close one first,
or wait. A returned connection goes straight to the first waiter (no barging: a thread that returns a connection and
asks again queues behind those who waited).

Connections come in *kinds* ("write", "read") that cannot serve each other; all kinds share `size` seats, and a kind
may have a smaller limit of its own.

A connection is opened as late as can be. While one of the kind is out it may come back any moment, sooner than another
one is opened: so who asks waits, and one connection at a time is opened for all who wait (`help`); it goes to whoever
is first when it is there. Who has waited for longer than it takes to open one is *impatient*. Only for such a one, or
where nothing can come back, a connection of another kind is closed to make room.

There is no counter that could go wrong: a seat is taken as long as its ticket is in `taken`, and a connection that
nobody uses is in `idle`. An interrupt can end a method between any two instructions, so each change is ordered such
that a connection is rather in two places than in none, one store moves a seat from hand to hand, and `repair` mends
what was left half done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final, Generic, TypeVar

import msgspec

from .queue import Queue

__all__ = ["Grow", "Handed", "Keep", "Refuse", "Retire", "Seats", "Ticket", "Use", "Wait"]

R = TypeVar("R")


class Ticket(msgspec.Struct, Generic[R], eq=False):
    """One request for a connection, from asking to giving back. Made by the shell, which may add to it."""

    kind: str
    asked_at: float = 0.0
    impatient: bool = False
    """It has waited for longer than opening one takes."""
    is_slow: bool = False
    """It opens a connection for so long that nobody counts on it."""
    is_orphan: bool = False
    """And nobody waits for that one any more."""
    connection: R | None = None
    """Its connection; None while it waits, or while it opens one on the seat it was given."""
    victim: R | None = None
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


class Refuse(msgspec.Struct, frozen=True):
    """Too many wait already: there is no use in waiting."""


_REFUSE: Final = Refuse()


class Keep(msgspec.Struct, frozen=True):
    """The returned connection is idle now."""


_KEEP: Final = Keep()


class Handed(msgspec.Struct, Generic[R], frozen=True):
    """The connection, or a seat on which to open one, went to this waiter: wake it."""

    ticket: Ticket[R]


class Retire(msgspec.Struct, frozen=True):
    """Close the returned connection: nobody counts on it, its seat was given to somebody else."""


class Seats(Generic[R]):
    """The state of one endpoint's connections. Not thread-safe: the caller holds the lock."""

    __slots__ = ("holds_back", "idle", "limits", "paused", "size", "taken", "waiters")

    def __init__(self, size: int, limits: Mapping[str, int] | None = None) -> None:
        self.size = size
        self.limits = dict(limits or {})
        self.paused = False
        """Nobody is served: who asks waits."""
        self.holds_back = False
        """That has to be looked at, or whether there are more connections than seats: what is idle may have to stay so.
        One flag for both, since everybody who asks looks at it."""
        self.idle: dict[str, list[R]] = {}
        self.taken: dict[int, Ticket[R]] = {}
        """Who has a seat, by the identity of the connection, or of the ticket while it opens one."""
        self.waiters: Queue[Ticket[R]] = Queue(is_bounded=False)

    @property
    def total(self) -> int:
        """Seats taken: connections that are open or being opened."""
        return len(self.taken) + sum(map(len, self.idle.values()))

    def out(self, kind: str | None = None) -> int:
        """Connections that somebody uses or opens just now."""
        return len(self.taken) if kind is None else sum(ticket.kind == kind for ticket in self.taken.values())

    def pause(self) -> None:
        """Serve nobody until `resume`."""
        self.paused = self.holds_back = True

    def resume(self) -> None:
        """Serve again, from the next `serve` on."""
        self.paused = False

    def resize(self, size: int) -> None:
        """So many seats from now on; of more connections that there are, no more than that are out at a time."""
        self.size = size
        self.holds_back = True

    def has_idle(self, kind: str) -> bool:
        """Who asks for this kind now has an idle connection. A hint, without the lock."""
        return bool(self.idle.get(kind)) and not self.paused and len(self.taken) < self.size

    def all_out(self, kind: str) -> bool:
        """Every seat has a connection of this kind that is out: nothing can be opened, nothing be closed for it.

        A hint, that those who wait ask for without the lock.
        """
        if len(self.taken) < self.size:
            return False
        tickets = list(self.taken.values())  # others change it meanwhile
        return all(ticket.kind == kind and ticket.connection is not None for ticket in tickets)

    def seated(self, ticket: Ticket[R]) -> bool:
        """It has a connection, or a seat on which to open one."""
        taken = self.taken
        return taken.get(id(ticket.connection)) is ticket or taken.get(id(ticket)) is ticket

    def ask(self, ticket: Ticket[R]) -> Use[R] | Grow[R] | Wait[R] | Refuse:
        """What a caller who wants a connection of the ticket's kind does."""
        if self.holds_back and not self._serves():
            self.waiters.join(ticket)
            return Wait(ticket)
        # nobody who waits could use what is free now, or would have been served: taking it passes nobody by
        idle = self.idle.get(ticket.kind)
        if idle:
            connection = ticket.connection = idle[-1]
            self.taken[id(connection)] = ticket
            idle.pop()
            return Use(connection)
        if self._must_open(ticket) and self._seat(ticket):
            return Grow(ticket.victim)
        if self.waiters and self.waiters.turns_away(ticket, self.limits.get(ticket.kind, self.size)):
            return _REFUSE
        self.waiters.join(ticket)
        return Wait(ticket)

    def help(self, ticket: Ticket[R]) -> bool:
        """Give `ticket` a seat on which to open a connection for those of its kind who wait; one at a time, and nothing
        is closed for it. Its owner opens the connection and gives it back. False: nobody needs it, or there is no room.
        """
        kind = ticket.kind
        if self.total >= self.size or not self._has_room(kind):
            return False
        if not any(waiter.kind == kind for waiter in self._waiting()):
            return False
        return not self._opening(kind) and self._seat(ticket)

    def prepare(self, ticket: Ticket[R], floor: int) -> bool:
        """Give `ticket` a seat on which to open a connection because there are less than `floor`; one at a time."""
        if self.paused or self.total >= min(floor, self.size) or self._opening(ticket.kind):
            return False
        return self._seat(ticket)

    def insist(self, ticket: Ticket[R], *, beside: int = 0) -> bool:
        """A waiter becomes impatient; True: it is served now. It gets a seat to open one for itself if no more than
        `beside` others of its kind are being opened."""
        ticket.impatient = True
        if self.seated(ticket):
            return True
        if self.paused or ticket not in self.waiters:
            return False
        if self._coming(ticket.kind) and self._opening(ticket.kind) > beside:
            return False
        if not self._seat(ticket):
            return False
        self.waiters.served(ticket)
        return True

    def opened(self, ticket: Ticket[R]) -> None:
        """The owner of a seat has opened the connection that the ticket now has."""
        self.taken[id(ticket.connection)] = ticket
        self.taken.pop(id(ticket), None)
        ticket.victim = None

    def replace(self, ticket: Ticket[R]) -> None:
        """The owner of a connection closes it, and opens another one on its seat."""
        ticket.victim = ticket.connection
        self.taken[id(ticket)] = ticket
        self.taken.pop(id(ticket.connection), None)
        ticket.connection = None  # last: until then `repair` takes it back to what it was

    def arrived(self, ticket: Ticket[R], connection: R) -> Ticket[R] | None:
        """A connection was opened for `ticket`, perhaps not the only one, and perhaps when its seat was another's
        already. Who has it now: `ticket`, or else another one of its kind who opens one and has closed what had its
        seat; None: it is one too many."""
        owner: Ticket[R] | None = ticket
        if self.taken.get(id(ticket)) is not ticket or ticket.connection is not None:
            owner = next(
                (
                    other
                    for key, other in self.taken.items()
                    if key == id(other) and other.kind == ticket.kind and other.connection is other.victim is None
                ),
                None,
            )
        if owner is not None:
            owner.connection = connection
            self.opened(owner)
        return owner

    def exchange(self, ticket: Ticket[R]) -> R | None:
        """The owner of a connection has no use for it: it gets another idle one, and closes the one that is answered;
        None: there is none, it closes its own and opens another one on its seat."""
        idle = self.idle.get(ticket.kind)
        if not idle:
            self.replace(ticket)
            return None
        useless = ticket.victim = ticket.connection
        self.taken[id(idle[-1])] = ticket
        ticket.connection = idle[-1]
        idle.pop()
        self.taken.pop(id(useless), None)
        ticket.victim = None
        return useless

    def sort_out(self, useless: Callable[[R], bool]) -> list[R]:
        """Take out the idle connections that are `useless`, for closing."""
        found: list[R] = []
        for idle in self.idle.values():
            for connection in idle.copy():
                if useless(connection):
                    found.append(connection)
                    idle.remove(connection)
        return found

    def back(self, connection: R) -> Keep | Handed[R] | Retire:
        """A connection comes back in good order."""
        key, taken = id(connection), self.taken
        ticket = taken.get(key)
        if ticket is None:
            return Retire()
        if self.waiters:
            for waiter in self._waiting():
                if waiter.kind == ticket.kind:
                    waiter.connection = connection
                    taken[key] = waiter
                    self.waiters.served(waiter)
                    return Handed(waiter)
                if self._takes_other(waiter):
                    waiter.connection = None
                    waiter.victim = connection
                    taken[id(waiter)] = waiter
                    del taken[key]
                    self.waiters.served(waiter)
                    return Handed(waiter)
        self.idle.setdefault(ticket.kind, []).append(connection)
        del taken[key]
        return _KEEP

    def wanted(self, kind: str) -> bool:
        """Somebody waits who would be served if a connection of this kind came back."""
        return any(waiter.kind == kind or self._takes_other(waiter) for waiter in self._waiting())

    def could_serve(self, kind: str, waiting: str) -> bool:
        """A connection of `kind` that comes back, or its seat, is of use to who waits for one of the kind `waiting`."""
        return waiting == kind or self._has_room(waiting)

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
        self.waiters.leave(ticket)
        return True

    def serve(self) -> list[Ticket[R]]:
        """Give what is free to those who wait, the first ones first. Those who were served: wake them."""
        served: list[Ticket[R]] = []
        if self.paused or not self.waiters or (self.total >= self.size and not any(self.idle.values())):
            return served  # with many waiters, looking at each of them would take long
        unserved: set[tuple[str, bool]] = set()
        """What is not to be had for one of a kind, is not for the next one who is as patient."""
        for waiter in list(self.waiters):
            if (waiter.kind, waiter.impatient) in unserved or self.seated(waiter):
                continue
            idle = self.idle.get(waiter.kind)
            if idle and len(self.taken) < self.size:
                waiter.connection = idle[-1]
                self.taken[id(waiter.connection)] = waiter
                idle.pop()
            elif not self._must_open(waiter) or not self._seat(waiter):
                unserved.add((waiter.kind, waiter.impatient))
                continue
            self.waiters.served(waiter)
            served.append(waiter)
        return served

    def drain(self, kind: str) -> R | None:
        """Take one idle connection of a kind out, for closing; None if there is none left."""
        idle = self.idle.get(kind)
        return idle.pop() if idle else None

    def repair(self) -> None:
        """Mend what an interrupt left half done: no seat counts twice, nobody waits for what he has. Takes the
        same time however many wait."""
        idle = {id(connection) for connections in self.idle.values() for connection in connections}
        for key, ticket in list(self.taken.items()):
            if key in idle:
                del self.taken[key]  # it was on its way into the idle ones, or was not taken out of them yet
            elif key not in (id(ticket), id(ticket.connection)):
                del self.taken[key]  # it was exchanged for another one
            elif key == id(ticket) and ticket.connection is not None:
                self.taken[id(ticket.connection)] = ticket
                del self.taken[key]
        for ticket in self.taken.values():
            self.waiters.leave(ticket)

    def _serves(self) -> bool:
        """Somebody who asks may have what is free."""
        self.holds_back = self.paused or self.total > self.size
        return not self.paused and (not self.holds_back or len(self.taken) < self.size)

    def _waiting(self) -> Iterator[Ticket[R]]:
        """Those who are served next, the first ones first; looked at one by one, since there may be very many."""
        if self.paused:
            return iter(())
        return (ticket for ticket in self.waiters if not self.seated(ticket))

    def _must_open(self, ticket: Ticket[R]) -> bool:
        """Nothing of its kind is out that could come back to it; or it has waited long enough for that, and none is
        being opened."""
        return not self._coming(ticket.kind) or (ticket.impatient and not self._opening(ticket.kind))

    def _coming(self, kind: str) -> bool:
        """One of this kind may come back, or be open soon."""
        return any(
            ticket.kind == kind and not (ticket.is_slow and key == id(ticket)) for key, ticket in self.taken.items()
        )

    def _opening(self, kind: str) -> int:
        """So many connections of this kind are being opened just now, and should be open soon."""
        return sum(
            ticket.kind == kind and key == id(ticket) and not ticket.is_slow for key, ticket in self.taken.items()
        )

    def _takes_other(self, waiter: Ticket[R]) -> bool:
        """It would have a connection of another kind closed for its seat."""
        return self._must_open(waiter) and self._has_room(waiter.kind)

    def _seat(self, ticket: Ticket[R]) -> bool:
        """Give it a seat on which to open a connection, if there is one."""
        if not self._has_room(ticket.kind):
            return False
        if self.total < self.size:
            ticket.connection = ticket.victim = None
            self.taken[id(ticket)] = ticket
            return True
        for kind, idle in self.idle.items():
            if idle and kind != ticket.kind and len(self.taken) < self.size:
                ticket.connection = None
                ticket.victim = idle[0]
                self.taken[id(ticket)] = ticket
                del idle[0]
                return True
        for key, other in self.taken.items():
            if other.is_slow and other.is_orphan and key == id(other):  # if it is opened after all, see `arrived`
                ticket.connection = ticket.victim = None
                self.taken[id(ticket)] = ticket
                del self.taken[key]
                return True
        return False

    def _has_room(self, kind: str) -> bool:
        limit = self.limits.get(kind)
        return limit is None or self.out(kind) + len(self.idle.get(kind, ())) < limit
