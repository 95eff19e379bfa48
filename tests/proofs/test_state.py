"""No unit finds what another one has set; with SQLAlchemy's own pool it does, so the experiment can tell."""

from __future__ import annotations

import pytest
from proofs.results import QUICK, Profile

from proofs import state


def quick(*targets: str) -> Profile:
    """The short profile over these."""
    return Profile(name="quick", units=QUICK.units, only=targets, say=lambda _: None)


def test_on_sqlite() -> None:
    """The short profile without a server."""
    result = state.run(quick("sqlite"), seed=20)
    assert result.passed, result.why
    assert result.counts["control_leaked"] >= 30


@pytest.mark.slow
@pytest.mark.pg
@pytest.mark.mariadb
@pytest.mark.pgbouncer
def test_on_servers() -> None:
    """The short profile on PostgreSQL, MariaDB and through a pooler."""
    result = state.run(quick("pg18", "mariadb", "pgbouncer"), seed=20)
    assert result.passed, result.why
    assert {row["target"] for row in result.cells} == {"pg18", "mariadb", "pgbouncer"}
    assert result.counts["refused"] > 100
    for row in result.cells:
        assert row["leaked"] == row.get("settings_lost", 0) == row.get("clean_extra", 0) == 0, row
        if row["target"] == "pgbouncer":
            assert row["hidden_found_if_touched"], "what is hidden in a function is not seen there"
    for row in result.control:
        assert row["leaked"] * 2 > row["tried"], row
