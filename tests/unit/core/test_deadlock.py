"""Who can never be served: tables of cases, and the same answer as two models that are too slow to use."""

from __future__ import annotations

import itertools
import random
from collections import deque
from collections.abc import Mapping, Sequence

import pytest

from polysession._core.deadlock import blockers, stuck
from polysession._core.seats import Seats, Ticket

Needs = Mapping[str, Sequence[str | None]]
Waits = Mapping[str, str]

CASES: list[tuple[str, Needs, Waits, set[str]]] = [
    ("nobody waits", {}, {}, set()),
    ("one waits for itself", {"a": ["1"]}, {"1": "a"}, {"a"}),
    ("there is room", {"a": []}, {"1": "a"}, set()),
    ("a holder that is not known", {"a": [None]}, {"1": "a"}, set()),
    ("a holder that does not wait", {"a": ["2"]}, {"1": "a"}, set()),
    ("two wait for each other", {"a": ["2"], "b": ["1"]}, {"1": "a", "2": "b"}, {"a", "b"}),
    ("the other one of two seats is alive", {"a": ["2", "3"], "b": ["1"]}, {"1": "a", "2": "b"}, set()),
    ("both holders of two seats wait", {"a": ["2", "3"], "b": ["1"]}, {"1": "a", "2": "b", "3": "b"}, {"a", "b"}),
    ("two inside one pool", {"a": ["1", "2"]}, {"1": "a", "2": "a"}, {"a"}),
    ("one of two inside one pool", {"a": ["1", "2"]}, {"1": "a"}, set()),
    ("a chain with a living end", {"a": ["2"], "b": ["3"]}, {"1": "a", "2": "b"}, set()),
    ("a chain that hangs on a knot", {"a": ["2"], "b": ["2"]}, {"1": "a", "2": "b"}, {"a", "b"}),
    (
        "a knot and a living pair beside it",
        {"a": ["2"], "b": ["1"], "c": ["4"], "d": ["5"]},
        {"1": "a", "2": "b", "3": "c", "4": "d"},
        {"a", "b"},
    ),
]


@pytest.mark.parametrize(("needs", "waits", "found"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_cases(needs: Needs, waits: Waits, found: set[str]) -> None:
    """Only those are stuck whose every holder is stuck."""
    assert stuck(needs, waits) == found


def greatest(needs: Needs, waits: Waits) -> set[str]:
    """The definition: the union of all sets of groups whose every holder waits inside of the set."""
    union: set[str] = set()
    for size in range(1, len(needs) + 1):
        for groups in itertools.combinations(needs, size):
            if all(needs[group] and all(waits.get(o or "") in groups for o in needs[group]) for group in groups):
                union |= set(groups)
    return union


def played(needs: Needs, waits: Waits) -> set[str]:
    """What happens: owners that do not wait end and give back, who comes first is served, until nothing moves."""
    holders = {group: deque(owners) for group, owners in needs.items()}
    queues = {group: deque(owner for owner, where in waits.items() if where == group) for group in needs}
    waiting = dict(waits)
    moved = True
    while moved:
        moved = False
        for group, held in holders.items():
            for owner in list(held):
                if owner is None or owner not in waiting:
                    held.remove(owner)
                    moved = True
            while queues[group] and len(held) < max(1, len(needs[group])):
                served = queues[group].popleft()
                del waiting[served]
                held.append(served)
                moved = True
    return {group for group in needs if queues[group]}


@pytest.mark.parametrize("seed", range(20))
def test_the_same_as_the_models(seed: int) -> None:
    """The quick answer is that of the definition, and that of owners who end one after the other."""
    draw = random.Random(seed)
    knots = 0
    for _ in range(200):
        groups = "abcde"[: draw.randint(1, 5)]
        owners = "123456789"[: draw.randint(1, 9)]
        waits = {owner: draw.choice(groups) for owner in owners if draw.random() < 0.8}
        pools = {group: draw.randint(1, 3) for group in groups}
        needs = {
            group: [draw.choice([*owners, None] if draw.random() < 0.1 else list(owners)) for _ in range(pools[group])]
            for group in set(waits.values())
        }
        found = stuck(needs, waits)
        assert found == greatest(needs, waits) == played(needs, waits)
        knots += bool(found)
    assert 0 < knots < 200


def test_what_blocks_a_kind() -> None:
    """A free seat or an idle connection blocks nobody; a kind at its limit is blocked by its own kind alone."""
    seats: Seats[object] = Seats(3, {"write": 1})
    write, read, other = Ticket[object]("write"), Ticket[object]("read"), Ticket[object]("read")
    for ticket in (write, read):
        seats.ask(ticket)
        ticket.connection = object()
        seats.opened(ticket)
    assert blockers(seats, "read") == ()
    assert blockers(seats, "write") == (write,)
    seats.ask(other)
    assert blockers(seats, "read") == (), "there is a seat for it when it has waited long enough"
    assert seats.insist(other)
    assert blockers(seats, "read") == (write, read, other)
    assert blockers(seats, "write") == (write,)
    assert write.connection is not None
    seats.back(write.connection)
    assert blockers(seats, "read") == ()
    assert blockers(seats, "write") == ()
