"""With few connections for many workers the slowest is served nearly as often as the one in the middle."""

from __future__ import annotations

from dataclasses import replace

import pytest
from proofs.results import QUICK

from proofs import throughput


@pytest.mark.pg
def test_tasks() -> None:
    """The short profile; how much is done is judged by the full one, on a machine that has time for it."""
    result = throughput.run(replace(QUICK, only=("tasks",), say=lambda _: None), 20)
    (ours,) = result.cells
    assert ours["units"] > 0
    assert ours["turns, most"] - ours["turns, fewest"] <= 2
