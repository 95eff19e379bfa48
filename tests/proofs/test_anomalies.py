"""The checker of histories: each anomaly in a history made by hand, and none where there is none."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping
from typing import TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from proofs.anomalies import Anomaly, Append, Op, Read, Told, Transaction, check
from proofs.graphs import Cycle, Edge, Graph, cycles, parts

Lists: TypeAlias = Mapping[int, tuple[int, ...]]
X, Y, Z = 1, 2, 3
COMMITTED, ROLLED_BACK, UNKNOWN = Told


def a(key: int, value: int) -> Append:
    """An append."""
    return Append(key, value)


def r(key: int, *values: int) -> Read:
    """A read."""
    return Read(key, values)


def t(number: int, *ops: Op, told: Told = COMMITTED) -> Transaction:
    """A transaction."""
    return Transaction(number, ops, told)


CASES: dict[str, tuple[list[Transaction], Lists, set[Anomaly]]] = {
    "told committed and not there": ([t(1, a(X, 1))], {X: ()}, {Anomaly.LOST}),
    "told committed and a part of it not there": ([t(1, a(X, 1), a(Y, 2))], {X: (1,)}, {Anomaly.LOST}),
    "told rolled back and there": ([t(1, a(X, 1), told=ROLLED_BACK)], {X: (1,)}, {Anomaly.DENIED}),
    "unknown, and a part of it is there": ([t(1, a(X, 1), a(Y, 2), told=UNKNOWN)], {X: (1,)}, {Anomaly.TORN}),
    "unknown, seen, and gone": (
        [t(1, a(X, 1), told=UNKNOWN), t(2, r(X, 1))], {X: ()}, {Anomaly.TORN, Anomaly.ORDERS},
    ),
    "twice in the end": ([t(1, a(X, 1))], {X: (1, 1)}, {Anomaly.DUPLICATE}),
    "read twice in a list": (
        [t(1, a(X, 1)), t(2, r(X, 1, 1))], {X: (1,)}, {Anomaly.DUPLICATE, Anomaly.ORDERS},
    ),
    "nobody's value": ([], {X: (7,)}, {Anomaly.NOBODYS}),
    "in the wrong list": ([t(1, a(X, 1))], {Y: (1,)}, {Anomaly.NOBODYS}),
    "not its own append": ([t(1, a(X, 1), r(X))], {X: (1,)}, {Anomaly.INTERNAL}),
    "its own append not at the end": (
        [t(1, a(X, 1), r(X, 1, 2)), t(2, a(X, 2))], {X: (1, 2)},
        {Anomaly.INTERNAL, Anomaly.ORDERS},
    ),
    "two orders": (
        [t(1, a(X, 1)), t(2, a(X, 2)), t(3, r(X, 2, 1))], {X: (1, 2)}, {Anomaly.ORDERS},
    ),
    "dirty write": (
        [t(1, a(X, 1), a(Y, 1001)), t(2, a(X, 2), a(Y, 1002))], {X: (1, 2), Y: (1002, 1001)}, {Anomaly.G0},
    ),
    "aborted read": ([t(1, a(X, 1), told=ROLLED_BACK), t(2, r(X, 1))], {X: ()}, {Anomaly.G1A}),
    "aborted read by one that was rolled back": (
        [t(1, a(X, 1), told=ROLLED_BACK), t(2, r(X, 1), told=ROLLED_BACK)], {}, {Anomaly.G1A},
    ),
    "intermediate read": (
        [t(1, a(X, 1), a(X, 2)), t(2, r(X, 1))], {X: (1, 2)}, {Anomaly.G1B, Anomaly.G_SINGLE},
    ),
    "circular information flow": (
        [t(1, a(X, 1), r(Y, 2)), t(2, a(Y, 2), r(X, 1))], {X: (1,), Y: (2,)}, {Anomaly.G1C},
    ),
    "circular by ww and wr": (
        [t(1, a(X, 1), r(Y, 3)), t(2, a(X, 2), a(Y, 3))], {X: (1, 2), Y: (3,)}, {Anomaly.G1C},
    ),
    "changed between two reads": (
        [t(1, r(X), r(X, 1)), t(2, a(X, 1))], {X: (1,)}, {Anomaly.FUZZY, Anomaly.G_SINGLE},
    ),
    "changed before its own append": (
        [t(1, r(X), a(X, 2), r(X, 1, 2)), t(2, a(X, 1))], {X: (1, 2)}, {Anomaly.FUZZY, Anomaly.G_SINGLE},
    ),
    "lost update, overwritten": (
        [t(1, r(X), a(X, 1)), t(2, r(X), a(X, 2))], {X: (2,)}, {Anomaly.LOST_UPDATE},
    ),
    "lost update, of one that did not read": (
        [t(1, a(X, 1)), t(2, r(X), a(X, 2))], {X: (2,)}, {Anomaly.LOST_UPDATE},
    ),
    "lost update, and what came after it": (
        [t(1, r(X), a(X, 1)), t(3, r(X, 1), a(X, 3)), t(2, r(X), a(X, 2))], {X: (2,)},
        {Anomaly.LOST_UPDATE, Anomaly.ORDERS},
    ),
    "lost update, of one whose own read was overwritten before": (
        [
            t(1, r(X, 9), a(X, 1)), t(9, r(X), a(X, 9)), t(2, r(X), a(X, 2)), t(3, r(X, 2), a(X, 3)),
        ],
        {X: (2, 3)}, {Anomaly.LOST_UPDATE, Anomaly.ORDERS},
    ),
    "lost update, both there": (
        [t(1, r(X), a(X, 1)), t(2, r(X), a(X, 2))], {X: (1, 2)}, {Anomaly.G_SINGLE},
    ),
    "read skew": (
        [t(1, a(X, 1), a(Y, 2)), t(2, r(X, 1), r(Y))], {X: (1,), Y: (2,)}, {Anomaly.G_SINGLE},
    ),
    "read skew by one that is there though its caller does not know": (
        [t(1, a(X, 1), a(Y, 2), told=UNKNOWN), t(2, r(X, 1), r(Y))], {X: (1,), Y: (2,)}, {Anomaly.G_SINGLE},
    ),
    "two readers that disagree": (
        [t(1, a(X, 1)), t(2, a(Y, 2)), t(3, r(X, 1), r(Y)), t(4, r(X), r(Y, 2))],
        {X: (1,), Y: (2,)}, {Anomaly.G_NONADJACENT},
    ),
    "write skew": (
        [t(1, r(X), a(Y, 1)), t(2, r(Y), a(X, 2))], {X: (2,), Y: (1,)}, {Anomaly.G2_ITEM},
    ),
    "write skew of three": (
        [t(1, r(X), a(Y, 1)), t(2, r(Y), a(Z, 2)), t(3, r(Z), a(X, 3))],
        {X: (3,), Y: (1,), Z: (2,)}, {Anomaly.G2_ITEM},
    ),
    "write skew beside something graver": (
        [
            t(1, r(X), a(Y, 1)), t(2, r(Y), a(X, 2)),
            t(3, r(Y, 1), a(Z, 3), r(X, 2)), t(4, r(Z), r(X, 2), a(Z, 4), r(Y, 1)),
        ],
        {X: (2,), Y: (1,), Z: (3, 4)}, {Anomaly.G2_ITEM, Anomaly.G_SINGLE},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_found(name: str) -> None:
    """The checker finds exactly what was put there."""
    history, final, expected = CASES[name]
    assert {finding.anomaly for finding in check(history, final)} == expected


def test_every_anomaly_has_a_case() -> None:
    """None is only believed to be found."""
    assert {anomaly for _, _, expected in CASES.values() for anomaly in expected} == set(Anomaly)


CLEAN: dict[str, tuple[list[Transaction], Lists]] = {
    "nothing": ([], {}),
    "one after the other": (
        [t(1, r(X), a(X, 1), r(X, 1)), t(2, r(X, 1), a(X, 2)), t(3, r(X, 1, 2), r(Y))], {X: (1, 2)},
    ),
    "rolled back and gone": ([t(1, a(X, 1), told=ROLLED_BACK), t(2, r(X))], {X: ()}),
    "unknown and gone": ([t(1, a(X, 1), a(Y, 2), told=UNKNOWN)], {X: ()}),
    "unknown and there": ([t(1, a(X, 1), a(Y, 2), told=UNKNOWN), t(2, r(X, 1))], {X: (1,), Y: (2,)}),
    "unknown, rolled back and skewed": (
        [t(1, a(X, 1), a(Y, 2)), t(2, r(X, 1), r(Y), told=UNKNOWN)], {X: (1,), Y: (2,)},
    ),
    "rolled back and skewed": (
        [t(1, r(X), a(Y, 1)), t(2, r(Y), a(X, 2), told=ROLLED_BACK)], {X: (), Y: (1,)},
    ),
    "several of one transaction": (
        [t(1, a(X, 1), a(X, 2), r(X, 1, 2)), t(2, r(X, 1, 2), a(X, 3))], {X: (1, 2, 3)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CLEAN)
def test_clean(name: str) -> None:
    """Nothing is found where nothing is wrong."""
    history, final = CLEAN[name]
    assert check(history, final) == []


def test_values_must_be_alike_nowhere() -> None:
    """A history in which one value was appended twice says nothing, and is refused."""
    with pytest.raises(ValueError, match="appended twice"):
        check([t(1, a(X, 1)), t(2, a(Y, 1))], {})


def test_a_finding_says_who_and_what() -> None:
    """So that it can be looked at."""
    (finding,) = check([t(7, r(X), a(Y, 1)), t(8, r(Y), a(X, 2))], {X: (2,), Y: (1,)})
    assert finding.what == "7 rw> 8 rw> 7"
    assert finding.transactions == (7, 8)


def serial(draw: random.Random, number: int, keys: int) -> tuple[list[Transaction], dict[int, tuple[int, ...]]]:
    """So many transactions one after the other; some are rolled back, of some it is not known."""
    lists: dict[int, tuple[int, ...]] = {}
    values = itertools.count(1)
    history = []
    for each in range(number):
        told = draw.choice((COMMITTED, COMMITTED, ROLLED_BACK, UNKNOWN))
        before = dict(lists)
        ops: list[Op] = []
        for _ in range(draw.randint(1, 4)):
            key = draw.randrange(keys)
            if draw.random() < 0.5:
                ops.append(Read(key, lists.get(key, ())))
            else:
                value = next(values)
                lists[key] = (*lists.get(key, ()), value)
                ops.append(Append(key, value))
        if told is ROLLED_BACK or (told is UNKNOWN and draw.random() < 0.5):
            lists = before
        history.append(Transaction(each, tuple(ops), told))
    draw.shuffle(history)
    return history, lists


@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(1, 5))
@settings(deadline=None)
def test_what_was_serial_is_clean(seed: int, number: int, keys: int) -> None:
    """Whatever transactions do one after the other, in whatever order the history tells it."""
    history, final = serial(random.Random(seed), number, keys)
    assert check(history, final) == []


def snapshots(draw: random.Random, number: int, keys: int) -> tuple[list[Transaction], Lists]:
    """Pairs of transactions from one snapshot; the second commits if it wrote to nothing that the first wrote to."""
    lists: dict[int, tuple[int, ...]] = {}
    values = itertools.count(1)
    history: list[Transaction] = []
    for each in range(number):
        news: list[dict[int, tuple[int, ...]]] = []
        for half in range(2):
            new: dict[int, tuple[int, ...]] = {}
            ops: list[Op] = []
            for _ in range(draw.randint(1, 3)):
                key = draw.randrange(keys)
                seen = new.get(key, lists.get(key, ()))
                if draw.random() < 0.5:
                    ops.append(Read(key, seen))
                else:
                    new[key] = (*seen, next(values))
                    ops.append(Append(key, new[key][-1]))
            beaten = bool(news) and bool(news[0].keys() & new.keys())
            history.append(Transaction(2 * each + half, tuple(ops), ROLLED_BACK if beaten else COMMITTED))
            news.append({} if beaten else new)
        lists |= news[0] | news[1]
    return history, lists


@given(st.integers(0, 2**32), st.integers(1, 30), st.integers(2, 4))
@settings(deadline=None)
def test_snapshot_isolation_shows_write_skew_and_nothing_else(seed: int, number: int, keys: int) -> None:
    """The law of snapshot isolation: every cycle has two rw edges in a row."""
    history, final = snapshots(random.Random(seed), number, keys)
    assert {finding.anomaly for finding in check(history, final)} <= {Anomaly.G2_ITEM}


def test_snapshot_isolation_does_show_write_skew() -> None:
    """The property above is not empty."""
    assert sum(bool(check(*snapshots(random.Random(seed), 30, 3))) for seed in range(100)) > 10


# -- graphs


def test_parts() -> None:
    """Strongly connected parts, those of one node left out."""
    assert parts({1: [2], 2: [3], 3: [1, 4], 4: [5], 5: []}) == [{1, 2, 3}]
    assert parts({number: [number + 1] for number in range(5000)}) == []
    assert parts({number: [(number + 1) % 5000] for number in range(5000)}) == [set(range(5000))]


@pytest.mark.parametrize(
    ("kinds", "cycle"),
    [
        (("ww", "ww", "ww"), Cycle.WW),
        (("ww", "wr", "ww"), Cycle.WR),
        (("rw", "wr", "ww"), Cycle.SINGLE),
        (("rw", "ww", "rw", "wr"), Cycle.NONADJACENT),
        (("rw", "rw", "ww"), Cycle.ADJACENT),
        (("rw", "ww", "rw"), Cycle.ADJACENT),  # around the corner
        (("rw", "rw"), Cycle.ADJACENT),
    ],
)
def test_kinds_of_cycles(kinds: tuple[str, ...], cycle: Cycle) -> None:
    """By the edges, whichever comes first."""
    for turn in range(len(kinds)):
        turned = kinds[turn:] + kinds[:turn]
        edges = [Edge(number, kind, (number + 1) % len(kinds)) for number, kind in enumerate(turned)]
        ((kind, witness),) = cycles(Graph(edges))
        assert kind is cycle
        assert sorted(witness) == edges
