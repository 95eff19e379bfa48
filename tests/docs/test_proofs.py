"""The pages of the experiments say what was recorded, and nothing else."""

from __future__ import annotations

import proofs.pages as proof_pages
import pytest
from proofs.__main__ import experiments

FOUND = experiments()


@pytest.mark.parametrize("name", FOUND)
def test_page_is_of_its_record(name: str) -> None:
    """The page of an experiment is what `python -m proofs --pages` makes of its recorded result."""
    result = proof_pages.recorded(name)
    path = proof_pages.PAGES / f"{name}.md"
    if result is None:
        assert not path.exists(), "a page without a recorded result"
        return
    assert result["profile"] == "full", "only full runs are recorded"
    assert path.read_text("utf-8") == proof_pages.page(FOUND[name], result)


def test_index_lists_every_experiment() -> None:
    """The index has a row for each experiment, with the verdict of its recorded result."""
    assert (proof_pages.PAGES / "index.md").read_text("utf-8") == proof_pages.index_page(FOUND)


def test_nothing_recorded_is_left_over() -> None:
    """Every recorded result and every page belongs to an experiment that is there."""
    found = {path.stem for path in (*proof_pages.RECORDED.glob("*.json"), *proof_pages.PAGES.glob("*.md"))}
    assert found - {"index"} <= FOUND.keys()
