"""The pages of costs say what was recorded, and nothing else."""

from __future__ import annotations

from types import ModuleType

import pytest
from benchmarks import many_page, outcome_page, pages, peers_page, trips_page


@pytest.mark.parametrize(
    "made", [pages, outcome_page, trips_page, many_page, peers_page], ids=lambda made: made.PAGE.stem
)
def test_page_is_of_its_record(made: ModuleType) -> None:
    """Each page is what `python -m benchmarks NAME --record` makes of the recorded figures."""
    if not made.RECORDED.exists():
        assert not made.PAGE.exists(), "a page without recorded figures"
        return
    assert made.PAGE.read_text("utf-8") == made.page(made.recorded())


def test_plots_are_of_their_record() -> None:
    """So are the plots, and there are no others."""
    made = peers_page.plots(peers_page.recorded()) if peers_page.RECORDED.exists() else {}
    assert {path: path.read_text("utf-8") for path in peers_page.PLOTS.glob("*")} == made
