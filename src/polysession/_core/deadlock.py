"""Who waits for a connection that can never come: units that hold one and wait for another, in a cycle. Pure, no I/O.

A waiter is served as soon as *any* of those who hold what it needs gives it back, and an owner gives back when
*nothing* of its own waits any more. So a group of waiters is stuck if every holder that could serve it belongs to an
owner who waits in a group that is stuck too: the greatest set with this property (E. Knapp, "Deadlock detection in
distributed databases", ACM Computing Surveys 19, 1987: the OR model). Whoever holds something and does not wait is
alive: it may give back at any time, and what it frees goes round the queue until all waiters were served.

A deadlock stays one. So it is enough to look when somebody begins to wait: a deadlock that was not there before
contains who came last.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from typing import TypeVar

from .seats import Seats, Ticket

__all__ = ["blockers", "stuck"]

G = TypeVar("G", bound=Hashable)
O = TypeVar("O", bound=Hashable)  # noqa: E741  # beside G it is clear: groups and owners
R = TypeVar("R")


def stuck(needs: Mapping[G, Collection[O | None]], waits: Mapping[O, G]) -> frozenset[G]:
    """The groups of waiters of whom nobody can ever be served.

    `needs` has for each group those who hold what could serve it: None stands for somebody who may give back at any
    time, and an empty collection for room that is free. `waits` has for each owner who waits the group that it is in.
    """
    left = set(needs)
    while True:
        served = {
            group
            for group in left
            if not needs[group] or any(owner is None or waits.get(owner) not in left for owner in needs[group])
        }
        if not served:
            return frozenset(left)
        left -= served


def blockers(seats: Seats[R], kind: str) -> tuple[Ticket[R], ...]:
    """The tickets of which one must come back before somebody who waits for this kind is served; none if none must."""
    serves = len(seats.taken) < seats.size  # else what is idle stays so until fewer are out
    if serves and seats.idle.get(kind):
        return ()
    limit = seats.limits.get(kind)
    taken = tuple(seats.taken.values())
    if limit is not None and seats.out(kind) >= limit:
        return tuple(ticket for ticket in taken if ticket.kind == kind)
    return () if seats.total < seats.size or (serves and any(seats.idle.values())) else taken
