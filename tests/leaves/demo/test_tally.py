"""Counting: outcomes, times, and what the database must hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polysession.demo.inputs import Kind
from polysession.demo.results import DeliveryResult, NewOrderResult, PaymentResult
from polysession.demo.tally import Tally, Times, total


@given(st.lists(st.floats(1e-4, 100.0), min_size=1), st.floats(1, 100))
def test_a_percentile_is_at_most_five_percent_too_high(seconds: list[float], percent: float) -> None:
    """The answer lies between the true percentile and 5 % more."""
    times = Times()
    for each in seconds:
        times.add(each)
    rank = -(-len(seconds) * percent // 100)
    true = sorted(seconds)[int(rank) - 1]
    found = times.percentile(percent)
    assert found is not None
    assert true * 0.999 <= found <= true * 1.051


def test_no_times_have_no_percentile() -> None:
    """Nothing was counted, so there is nothing to say; the very short and the very long are counted too."""
    assert Times().percentile(50) is None
    times = Times()
    times.add(0.0)
    times.add(1e9)
    assert times.count == 2


def test_outcomes_are_counted_apart() -> None:
    """Committed, rolled back and failed units each have their number; attempts after the first count as repeated."""
    tally = Tally()
    tally.committed(Kind.PAYMENT, "db1", PaymentResult(1, 0), attempts=3, seconds=0.1)
    tally.committed(Kind.NEW_ORDER, "db2", NewOrderResult(1, 0), attempts=1, seconds=0.2)
    tally.committed(Kind.DELIVERY, "db2", DeliveryResult({1: 2, 3: 4}), attempts=1, seconds=0.2)
    tally.rolled_back(Kind.NEW_ORDER, attempts=2)
    tally.failed(Kind.PAYMENT, "first", attempts=8)
    tally.failed(Kind.PAYMENT, "second", attempts=0)
    snapshot = tally.snapshot()
    payments, all_ = snapshot.figures[Kind.PAYMENT], total(snapshot.figures.values())
    assert (payments.committed, payments.repeated, payments.failed) == (1, 9, 2)
    assert (all_.committed, all_.rolled_back, all_.repeated, all_.failed) == (3, 1, 10, 2)
    assert snapshot.databases == {"db1": 1, "db2": 2}
    assert snapshot.told == {"orders": 1, "payments": 1, "deliveries": 2}
    assert (snapshot.failures, snapshot.traceback) == (2, "first")
    assert payments.times.percentile(50) == pytest.approx(0.1, rel=0.051)


def test_a_snapshot_does_not_change() -> None:
    """What is counted later is in the next snapshot only."""
    tally = Tally()
    before = tally.snapshot()
    tally.rolled_back(Kind.NEW_ORDER, attempts=1)
    assert before.figures[Kind.NEW_ORDER].rolled_back == 0
    assert tally.snapshot().figures[Kind.NEW_ORDER].rolled_back == 1
