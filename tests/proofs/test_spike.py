"""The experiment with bursts, in its quick profile."""

from __future__ import annotations

from dataclasses import replace

import pytest
from proofs.results import QUICK

from proofs import spike


@pytest.mark.pg
def test_a_burst_opens_hardly_a_connection() -> None:
    """Some burst ends with one more connection than there were, which none of the control's does."""
    result = spike.run(replace(QUICK, say=lambda _: None), 20)
    assert all(row["connections, fewest"] <= spike.MOST for row in result.cells)
    assert all(row["connections, fewest"] > 4 * spike.MOST for row in result.control)
