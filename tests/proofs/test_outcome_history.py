"""Units are as isolated as they asked for and their outcomes are true; the checker finds what is not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from proofs.anomalies import Anomaly, Append, Read, Told, Transaction
from proofs.results import FULL, QUICK
from proofs.staged import lied

from proofs import appending, outcome_history

SILENT = replace(QUICK, say=lambda _: None)


@pytest.mark.slow
@pytest.mark.pg
@pytest.mark.mariadb
def test_outcome_history() -> None:
    """The short profile, the controls included."""
    result = outcome_history.run(SILENT, seed=20)
    assert result.passed, result.why
    assert result.counts["told committed"] > 500
    assert all(row["found"] for row in result.control)


def test_the_cells() -> None:
    """Every level at every place, both doors through the proxy; the short profile's are among them."""
    labels = [str(cell) for cell in outcome_history.cells(FULL)]
    assert len(labels) == len(set(labels)) == 33
    assert {str(cell) for cell in outcome_history.cells(QUICK)} == outcome_history._QUICK
    assert sum("cut" in label for label in labels) == 8


@pytest.mark.parametrize("target", ["sqlite", "pg15", "mariadb"])
def test_nothing_is_allowed_at_the_strictest_level(target: str) -> None:
    """And no level allows what makes a lie of an outcome."""
    assert outcome_history.allowed(target, "SERIALIZABLE") == frozenset()
    for mark, level in outcome_history._PREVENTED:
        if target.startswith(mark):
            lies = {Anomaly.LOST, Anomaly.DENIED, Anomaly.TORN, Anomaly.DUPLICATE, Anomaly.NOBODYS, Anomaly.G1A}
            assert not outcome_history.allowed(target, level) & lies


def test_plans_are_seeded() -> None:
    """The same seed and number give the same plan, and every fate is met."""
    plans = [appending.plan(1, number, asynchronous=True, begins=True) for number in range(500)]
    assert plans == [appending.plan(1, number, asynchronous=True, begins=True) for number in range(500)]
    assert {step[0] for plan in plans for step in plan.steps} == set(appending.Do)
    assert any(plan.boom_at is not None for plan in plans)
    assert any(plan.deadline is not None for plan in plans)
    assert any(plan.cancel_after is not None for plan in plans)
    assert {plan.repeats for plan in plans} == {True, False}


def test_lies() -> None:
    """So many outcomes are turned around, of transactions that appended something."""
    history = [
        Transaction(1, (Read(1, ()),), Told.COMMITTED),
        Transaction(2, (Append(1, 1),), Told.COMMITTED),
        Transaction(3, (Append(1, 2),), Told.ROLLED_BACK),
    ]
    told, liars = lied(history, 5)
    assert liars == {2, 3}
    assert [one.told for one in told] == [Told.COMMITTED, Told.ROLLED_BACK, Told.COMMITTED]
