"""Seats, idle connections and the fair queue, against a model that is too simple to be wrong."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from polysession._core.seats import Grow, Handed, Keep, Retire, Seats, Ticket, Use, Wait

KINDS = ("write", "read", "free")


class Link:
    """A connection: its kind, and whether it is open."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.open = True


class Machine(RuleBasedStateMachine):
    """Callers ask, open, return, lose and give up in any order."""

    @initialize(size=st.integers(1, 4), limits=st.dictionaries(st.sampled_from(KINDS), st.integers(1, 2), max_size=2))
    def start(self, size: int, limits: dict[str, int]) -> None:
        """A fresh endpoint."""
        self.size = size
        self.limits = limits
        self.seats: Seats[Link] = Seats(size, limits)
        self.waiting: list[Ticket[Link]] = []
        self.opening: list[Ticket[Link]] = []
        self.using: list[Ticket[Link]] = []
        self.idle: list[Link] = []

    # -- the model

    def count(self, kind: str | None = None) -> int:
        """Seats that are taken."""
        links = [ticket.kind for ticket in (*self.opening, *self.using)] + [link.kind for link in self.idle]
        return sum(kind in (None, its) for its in links)

    def has_room(self, kind: str) -> bool:
        """Its own limit allows one more."""
        return self.count(kind) < self.limits.get(kind, self.size)

    def must_open(self, kind: str) -> bool:
        """Nothing of this kind is out that could come back."""
        return all(ticket.kind != kind for ticket in (*self.using, *self.opening))

    def may_open(self, waiter: Ticket[Link]) -> bool:
        """Nothing can come back to it, or it has waited long enough for that and none is being opened."""
        opening = any(ticket.kind == waiter.kind for ticket in self.opening)
        return self.must_open(waiter.kind) or (waiter.impatient and not opening)

    def can_be_served(self, kind: str, *, impatient: bool = False) -> bool:
        """Somebody of this kind gets a connection now."""
        return any(link.kind == kind for link in self.idle) or (
            (impatient or self.must_open(kind))
            and self.has_room(kind)
            and (self.count() < self.size or bool(self.idle))
        )

    def takes(self, waiter: Ticket[Link], kind: str) -> bool:
        """This waiter has a connection of `kind` that comes back, or its seat."""
        return waiter.kind == kind or (self.may_open(waiter) and self.has_room(waiter.kind))

    def served(self, ticket: Ticket[Link]) -> None:
        """A waiter was served: it closes the victim, or has a connection."""
        self.waiting.remove(ticket)
        self.start_with(ticket)

    def start_with(self, ticket: Ticket[Link]) -> None:
        """Do what a caller does with its ticket."""
        assert self.seats.seated(ticket)
        if ticket.connection is not None:
            assert ticket.connection.open
            assert ticket.connection.kind == ticket.kind
            assert all(other.connection is not ticket.connection for other in self.using)
            self.using.append(ticket)
        else:
            if ticket.victim is not None:
                assert ticket.victim.open
                ticket.victim.open = False
            self.opening.append(ticket)

    # -- what callers do

    @rule(kind=st.sampled_from(KINDS))
    def ask(self, kind: str) -> None:
        """Somebody asks; nobody of the same kind who came earlier is passed by."""
        ticket: Ticket[Link] = Ticket(kind)
        expected = self.can_be_served(kind) and all(other.kind != kind for other in self.waiting)
        answer = self.seats.ask(ticket)
        assert isinstance(answer, Wait) != expected
        if isinstance(answer, Wait):
            self.waiting.append(ticket)
            return
        if isinstance(answer, Use):
            assert answer.connection is ticket.connection
            self.idle.remove(answer.connection)
        elif isinstance(answer, Grow):
            assert answer.victim is ticket.victim
            assert self.must_open(kind), "one was opened although one of the kind may come back"
            if answer.victim is not None:
                assert self.count() == self.size, "a connection was closed although there was room"
                self.idle.remove(answer.victim)
        self.start_with(ticket)

    @precondition(lambda self: self.opening)
    @rule(data=st.data())
    def opened(self, data: st.DataObject) -> None:
        """A connection was opened on a seat."""
        ticket = data.draw(st.sampled_from(self.opening))
        ticket.connection = Link(ticket.kind)
        self.seats.opened(ticket)
        self.opening.remove(ticket)
        self.using.append(ticket)
        for served in self.seats.serve():
            assert served.impatient, "it waited only because one was being opened"
            assert served.connection is None
            if served.victim is not None:
                self.idle.remove(served.victim)
            self.served(served)

    @precondition(lambda self: self.using)
    @rule(data=st.data())
    def replace(self, data: st.DataObject) -> None:
        """A connection was too old: its owner opens another one on its seat."""
        ticket = data.draw(st.sampled_from(self.using))
        link = ticket.connection
        assert link is not None
        self.seats.replace(ticket)
        assert (ticket.connection, ticket.victim) == (None, link)
        self.using.remove(ticket)
        self.start_with(ticket)
        assert isinstance(self.seats.back(link), Retire), "nobody counts on the old one"

    @precondition(lambda self: self.using)
    @rule(data=st.data())
    def back(self, data: st.DataObject) -> None:
        """A connection comes back: the first waiter who can use it, or its seat, has it."""
        ticket = data.draw(st.sampled_from(self.using))
        link = ticket.connection
        assert link is not None
        first = next((w for w in self.waiting if self.takes(w, ticket.kind)), None)
        assert self.seats.wanted(ticket.kind) == (first is not None)
        answer = self.seats.back(link)
        self.using.remove(ticket)
        if first is None:
            assert isinstance(answer, Keep)
            self.idle.append(link)
            assert isinstance(self.seats.back(link), Retire), "a second return finds nothing"
        else:
            assert answer == Handed(first)
            assert (first.connection is link) == (first.kind == ticket.kind)
            assert (first.victim is link) == (first.kind != ticket.kind)
            self.served(first)

    @precondition(lambda self: self.using or self.opening)
    @rule(data=st.data())
    def gone(self, data: st.DataObject) -> None:
        """A connection broke, or could not be opened: its seat is used by the first who can."""
        ticket = data.draw(st.sampled_from([*self.using, *self.opening]))
        (self.using if ticket in self.using else self.opening).remove(ticket)
        for served in self.seats.gone(ticket):
            first = next(w for w in self.waiting if self.can_be_served(w.kind, impatient=self.may_open(w)))
            assert served is first
            if served.connection is not None:
                self.idle.remove(served.connection)
            elif served.victim is not None:
                self.idle.remove(served.victim)
            self.served(served)
        assert not self.seats.gone(ticket), "a second time changes nothing"

    @rule(kind=st.sampled_from(KINDS))
    def help(self, kind: str) -> None:
        """One connection at a time is opened for those who wait, and none is closed for it."""
        ticket: Ticket[Link] = Ticket(kind)
        needed = any(other.kind == kind for other in self.waiting) and all(t.kind != kind for t in self.opening)
        expected = needed and self.count() < self.size and self.has_room(kind)
        assert self.seats.help(ticket) == expected
        if expected:
            assert ticket.victim is None
            self.opening.append(ticket)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), beside=st.integers(0, 2))
    def insist(self, data: st.DataObject, beside: int) -> None:
        """Who has waited long enough has a connection opened for itself, if there is room and few are being opened."""
        ticket = data.draw(st.sampled_from(self.waiting))
        few = sum(other.kind == ticket.kind for other in self.opening) <= beside
        expected = self.can_be_served(ticket.kind, impatient=few or self.must_open(ticket.kind))
        assert self.seats.insist(ticket, beside=beside) == expected
        assert ticket.impatient
        if expected:
            if ticket.victim is not None:
                self.idle.remove(ticket.victim)
            self.served(ticket)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        """A waiter gives up."""
        ticket = data.draw(st.sampled_from(self.waiting))
        assert self.seats.withdraw(ticket)
        assert not self.seats.withdraw(ticket)
        self.waiting.remove(ticket)

    @precondition(lambda self: self.using)
    @rule(data=st.data())
    def withdraw_too_late(self, data: st.DataObject) -> None:
        """Who was served can no longer withdraw."""
        assert not self.seats.withdraw(data.draw(st.sampled_from(self.using)))

    @precondition(lambda self: self.idle)
    @rule(kind=st.sampled_from(KINDS))
    def drain(self, kind: str) -> None:
        """The idle connections of one kind are closed."""
        while (link := self.seats.drain(kind)) is not None:
            assert link.kind == kind
            self.idle.remove(link)
        for served in self.seats.serve():
            assert served.impatient, "draining frees nothing else that anybody waits for"
            self.served(served)

    @rule()
    def repair(self) -> None:
        """Where nothing is broken, repairing changes nothing."""
        before = dict(self.seats.taken), list(self.seats.waiters)
        self.seats.repair()
        assert before == (self.seats.taken, list(self.seats.waiters))

    # -- what always holds

    @invariant()
    def bounded(self) -> None:
        """Never more than `size` connections, nor more of a kind than its limit; none is forgotten."""
        if not hasattr(self, "seats"):
            return
        assert self.seats.total == self.count() <= self.size
        assert self.seats.out() == len(self.using) + len(self.opening)
        for kind in KINDS:
            assert self.count(kind) <= self.limits.get(kind, self.size)
            assert self.seats.out(kind) == sum(t.kind == kind for t in (*self.using, *self.opening))
            assert set(self.seats.idle.get(kind, ())) == {link for link in self.idle if link.kind == kind}
        assert list(self.seats.waiters) == self.waiting

    @invariant()
    def nothing_can_be_opened_or_closed_while_all_are_out(self) -> None:
        """`all_out` is true only if every seat has a connection of that kind which somebody uses."""
        for kind in KINDS if hasattr(self, "seats") else ():
            used = [ticket for ticket in self.using if ticket.kind == kind]
            assert self.seats.all_out(kind) == (len(used) == self.count() >= self.seats.size)

    @invariant()
    def nobody_waits_in_vain(self) -> None:
        """No waiter is left while a connection or seat that it could use is free."""
        if hasattr(self, "seats"):
            assert not [ticket.kind for ticket in self.waiting if self.can_be_served(ticket.kind)]


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_all_out_while_others_return() -> None:
    """Who waits asks `all_out` without the lock: that a seat is given back meanwhile is no error."""
    seats: Any = Seats(2)

    class Returning:
        """Another seat is given back while it is looked at."""

        connection = object()

        @property
        def kind(self) -> str:
            """Its kind."""
            seats.taken.pop(2, None)
            return "write"

    seats.taken.update({1: Returning(), 2: Returning()})
    assert seats.all_out("write")


def test_turns_are_taken_in_the_order_of_asking() -> None:
    """Who returns a connection and asks again queues behind those who waited."""
    seats: Seats[Link] = Seats(1)
    first: Ticket[Link] = Ticket("any")
    assert seats.ask(first) == Grow(None)
    first.connection = Link("any")
    seats.opened(first)
    link = first.connection
    waiters: list[Ticket[Link]] = [Ticket("any") for _ in range(3)]
    for ticket in waiters:
        assert seats.ask(ticket) == Wait(ticket)
    turns = []
    for _ in range(9):
        answer = seats.back(link)
        assert isinstance(answer, Handed)
        turns.append(waiters.index(answer.ticket))
        again: Ticket[Link] = Ticket("any")
        waiters[waiters.index(answer.ticket)] = again
        # the ticket in use is answered by its place; the same caller asks again at once
        assert seats.ask(again) == Wait(again)
    assert turns == list(itertools.islice(itertools.cycle(range(3)), 9))
