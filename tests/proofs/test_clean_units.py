"""Units that do nothing wrong are told of nothing wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest
from proofs.results import QUICK

from proofs import clean_units


@pytest.mark.slow
def test_clean_units() -> None:
    """The short profile: 0 false alarms, and every misuse of the control is noticed."""
    result = clean_units.run(replace(QUICK, say=lambda _: None), seed=20)
    assert result.passed, result.why
    assert result.counts["units"] == 2_000
    assert result.control[0]["tried"] == 8
