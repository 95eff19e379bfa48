"""The page of this suite"""

from __future__ import annotations

import os

import pytest

from .cells import PLACES, POOLED
from .table import PAGE, Outcomes, behaviours


def rows(page: str) -> list[str]:
    """Titles, headings and first columns of a page: all but the cells and the notes."""
    return [
        line if line.startswith(("#", "|  |")) else line.split(" | ")[0]
        for line in page.splitlines()
        if line.startswith(("#", "|"))
    ]


@pytest.mark.skipif("POLYSESSION_WRITE_TABLE" in os.environ, reason="the page is written at the end of this run")
def test_the_page_has_the_suites_rows_and_columns() -> None:
    """docs/conformance.md has a row for each behaviour and a column for each place; if not, write it anew."""
    written = PAGE.read_text("utf-8")
    assert rows(written) == rows(Outcomes().page())
    assert "| - |" not in written
    assert "| no |" not in written


def test_every_behaviour_is_a_row_of_its_own() -> None:
    """No two behaviours have one name or one sentence, so that each finds its row."""
    found = behaviours()
    assert len({row.name for row in found}) == len(found)
    assert len({row.sentence for row in found}) == len(found)
    assert PLACES
    assert POOLED
