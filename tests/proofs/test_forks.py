"""Forked children and event loops end their units well and leave nothing; SQLAlchemy's engine mixes them up."""

from __future__ import annotations

from dataclasses import replace

import pytest
from proofs.results import QUICK

from proofs import forks


def tried(target: str) -> None:
    """The short profile."""
    result = forks.run(replace(QUICK, only=(target,), say=lambda _: None), seed=20)
    assert result.passed, (result.why, result.cells, result.control)
    assert result.counts["children"] == 14


def test_on_sqlite() -> None:
    """Without a server."""
    tried("sqlite")


@pytest.mark.slow
@pytest.mark.pg
def test_on_postgresql() -> None:
    """With sockets that a child could use, and a control that does."""
    tried("pg18")
