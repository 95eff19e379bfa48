"""The experiment with outages, in its quick profile."""

from __future__ import annotations

from dataclasses import replace

import pytest
from proofs.results import QUICK

from proofs import outage


@pytest.mark.slow
@pytest.mark.pg
@pytest.mark.parametrize("driver", ["sync psycopg", "async asyncpg"])
def test_each_outage_is_survived(driver: str) -> None:
    """After one of each kind work goes on, nothing is out, and every seat is usable. How soon is judged by the full
    profile, on a machine that has time for it."""
    result = outage.run(replace(QUICK, only=(driver,), say=lambda _: None), 20)
    (row,) = result.cells
    assert row["outages"] == 2 * len(outage.KINDS)
    assert row["lost"] == 0
    assert row["recovery"] < 10
    assert row["ends"]["done"] > 10
    assert row["slowest"] < 5


@pytest.mark.slow
@pytest.mark.pg
def test_the_control_waits_for_what_does_not_come() -> None:
    """SQLAlchemy's pool has no bound for opening a connection."""
    result = outage.run(replace(QUICK, only=("control",), say=lambda _: None), 20)
    assert result.counts["late in the control"] > 0
