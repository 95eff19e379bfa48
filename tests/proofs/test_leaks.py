"""What is forgotten is found with its line when its owner ends, and taken back; SQLAlchemy's pool finds no line."""

from __future__ import annotations

from dataclasses import replace

import pytest
from proofs.results import QUICK

from proofs import leaks


def tried(target: str) -> None:
    """The short profile; how soon it is found is judged by the full one, on a machine that has time for it."""
    result = leaks.run(replace(QUICK, only=(target,), say=lambda _: None), seed=20)
    counts = result.counts
    assert counts["kinds"] >= 20
    missed = [row for row in result.cells if row["named"] < row["leaks"] or row["taken back"] < row["leaks"]]
    assert missed == []
    assert counts["of them found with their line"] == 0
    assert counts["of them taken back"] < counts["leaks of the control"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of the control's lost task
def test_on_sqlite() -> None:
    """Without a server."""
    tried("sqlite")


@pytest.mark.slow
@pytest.mark.pg
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_on_postgresql() -> None:
    """With a server that counts connections."""
    tried("pg18")
