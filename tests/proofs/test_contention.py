"""Units that clash over one row all commit, and faster than by repeating at once; the judge can say no."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from proofs.results import QUICK

from proofs import contention

SILENT = replace(QUICK, say=lambda _: None)


@pytest.mark.slow
@pytest.mark.pg
@pytest.mark.mariadb
def test_contention() -> None:
    """The short profile."""
    result = contention.run(SILENT, seed=20)
    assert result.passed, result.why


def row(**changed: Any) -> dict[str, Any]:
    """A cell in which all is well."""
    good = {
        "cell": "here", "units": 10, "committed": 10, "starved": 0, "sum_is_right": True, "times_control": 2.0,
        "attempts_mean": 5.0, "locked": 0, "errors": [],
    }  # fmt: skip
    return good | changed


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"committed": 9}, "9 of 10 committed"),
        ({"starved": 1}, "1 starved"),
        ({"sum_is_right": False}, "the sum is wrong"),
        ({"times_control": 1.9}, "only 1.9 times"),
    ],
)
def test_the_judge(changed: dict[str, Any], what: str) -> None:
    """Each of the promises is looked at."""
    assert contention.judge(row(), row(), strictly=True) == []
    (found,) = contention.judge(row(**changed), row(), strictly=True)
    assert what in found


def test_the_judge_of_writers() -> None:
    """Ours must meet no lock, the control must."""
    assert contention.judge_writers(row(), row(locked=3)) == []
    assert contention.judge_writers(row(locked=1), row(locked=3))
    assert contention.judge_writers(row(), row())


def test_the_judge_of_attempts() -> None:
    """Twice as many for each unit must be needed at once, where units fail at all."""
    ours, control = row(way="turns", attempts_mean=1.6), row(attempts_mean=3.2)
    assert contention.judge_attempts([ours], [control]) == []
    assert contention.judge_attempts([ours], [row(attempts_mean=1.0)]) == []
    (found,) = contention.judge_attempts([ours], [row(attempts_mean=3.1)])
    assert "1.6 attempts for each unit, at once 3.1" in found
