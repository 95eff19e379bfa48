"""Cuts of the flight of COMMIT and the last statement, in the short profile."""

from __future__ import annotations

import pytest

from proofs import early_cuts
from tests.engines.targets import Servers


@pytest.mark.parametrize(
    ("target", "kind", "driver", "way"),
    [
        pytest.param("pg18", "sync", "psycopg", "insert", marks=pytest.mark.pg),
        pytest.param("pg15", "async", "psycopg", "insert", marks=pytest.mark.pg),
        pytest.param("pg15", "sync", "psycopg", "update", marks=pytest.mark.pg),
        pytest.param("pg18", "async", "psycopg", "update", marks=pytest.mark.pg),
        pytest.param("pg18", "async", "asyncpg", "insert", marks=pytest.mark.pg),
        pytest.param("pg15", "async", "asyncpg", "update", marks=pytest.mark.pg),
        pytest.param("pgbouncer", "sync", "psycopg", "insert", marks=pytest.mark.pgbouncer),
        pytest.param("pgbouncer", "async", "psycopg", "update", marks=pytest.mark.pgbouncer),
        pytest.param("pgbouncer", "async", "asyncpg", "update", marks=pytest.mark.pgbouncer),
    ],
)
def test_nothing_wrong_is_said(servers: Servers, target: str, kind: str, driver: str, way: str) -> None:
    """Whatever is cut and where: what was told as committed is there, what was told as rolled back is not."""
    row = early_cuts.run_cuts(servers, target, kind, driver, way, 60, 7)
    assert {name: row[name] for name in early_cuts.NEVER} == dict.fromkeys(early_cuts.NEVER, 0), row
    assert row["unknown"] > 0
    assert row["unknown"] > row["unknown_there"] > 0  # cuts on both sides of what the server does


@pytest.mark.pg
def test_who_does_not_note_it_does_work_twice(servers: Servers) -> None:
    """The control: an error of the flight is taken for one before COMMIT."""
    with early_cuts.unnoted():
        row = early_cuts.run_cuts(servers, "pg18", "sync", "psycopg", "insert", 60, 7)
    assert row["doubled"] > 0
    assert row["wrong"] > 0
