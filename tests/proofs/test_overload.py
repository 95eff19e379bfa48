"""A burst loses nobody, and whatever comes, nobody is served after his deadline."""

from __future__ import annotations

from dataclasses import replace

import pytest
from proofs.results import QUICK

from proofs import overload


@pytest.mark.pg
@pytest.mark.parametrize("side", ["threads", "tasks"])
def test_an_overload_and_a_burst(side: str) -> None:
    """The short profile; how soon units are served, and whether a busy machine lets enough of them come for some to be
    refused, is judged by the full one and by the laws of `tests/unit/core/test_overload.py`."""
    said: list[str] = []
    counts = overload.run(replace(QUICK, only=(side,), say=said.append), 20).counts
    assert counts["served"] > 0
    assert counts["served after their deadline"] == 0
    assert counts["units of bursts"] == counts["units of bursts that were served"] > 0
    assert counts["other errors"] == 0, said
