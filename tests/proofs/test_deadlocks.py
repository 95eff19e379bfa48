"""Deadlocks of pools are broken at once and nobody else is refused; SQLAlchemy's pool waits, so it can be told."""

from __future__ import annotations

from dataclasses import replace

import pytest
from proofs.deadlocks_cases import POOLS, cases
from proofs.results import QUICK

from proofs import deadlocks


def tried(target: str, seed: int) -> None:
    """The short profile; how soon a refusal comes is judged by the full one, on a machine that has time for it."""
    result = deadlocks.run(replace(QUICK, only=(target,), say=lambda _: None), seed=seed)
    counts = result.counts
    assert counts["broken"] == counts["true_cases"] > 0, result.why
    assert counts["control_waited_the_timeout"] == counts["control_cases"] > 0, result.why
    for name in ("false_victims", "other_errors", "unnamed", "calls_without_waiting"):
        assert counts[name] == 0, (name, result.cells)


def test_on_sqlite() -> None:
    """Without a server."""
    tried("sqlite", 20)


@pytest.mark.slow
@pytest.mark.pg
def test_on_postgresql() -> None:
    """With units that write over pools of several connections."""
    tried("pg18", 21)


def test_what_is_drawn() -> None:
    """True cases hold all connections of two to four pools, near ones have one owner that is alive."""
    for case in cases(50, False, 1):
        assert 2 <= len(case.pools) <= 4
        assert len(case.holds) == sum(POOLS[pool] for pool in case.pools)
        assert set(case.wants) <= set(case.pools)
        assert case.alive is None
    assert all(case.alive is not None for case in cases(50, True, 1))
    assert len({case.holds for case in cases(50, False, 2)}) > 20
