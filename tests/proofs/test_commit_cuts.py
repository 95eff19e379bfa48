"""Cuts of the exchange of COMMIT, and kills of a process, in the short profile."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from proofs.kills import run_kills
from sqlalchemy.pool import NullPool

from polysession import Outcome
from polysession.testing.proxy import request
from proofs import commit_cuts, commit_cuts_trials
from tests.engines.targets import Servers

_NEVER = ("wrong", "unknown", "doubled", "lost")


@pytest.mark.parametrize(
    ("target", "kind", "driver"),
    [
        pytest.param("pg18", "sync", "psycopg", marks=pytest.mark.pg),
        pytest.param("pg15", "async", "asyncpg", marks=pytest.mark.pg),
        pytest.param("pgbouncer", "sync", "psycopg", marks=pytest.mark.pgbouncer),
        pytest.param("mariadb", "sync", "pymysql", marks=pytest.mark.mariadb),
        pytest.param("galera", "async", "asyncmy", marks=pytest.mark.galera),
    ],
)
def test_every_verdict_is_the_truth(servers: Servers, target: str, kind: str, driver: str) -> None:
    """Whatever is cut and where: what is said of each attempt is true, nothing is done twice, nothing is lost."""
    row = commit_cuts.run_cuts(servers, target, kind, driver, 18, 7, full=False)
    assert {name: row[name] for name in _NEVER} == dict.fromkeys(_NEVER, 0), row
    assert row["asked"] > 0


@pytest.mark.pg
def test_the_usual_rule_does_work_twice(servers: Servers) -> None:
    """The control: plain SQLAlchemy, and what failed at COMMIT is repeated."""
    assert commit_cuts.run_control(servers, "pg18", "psycopg", 20, 7)["doubled"] > 0


def test_a_killed_process(servers: Servers) -> None:
    """What a killed process had heard of is there, and of its last unit the answer is true."""
    row = run_kills(servers, 6, 7)
    assert {name: row[name] for name in _NEVER} == dict.fromkeys(_NEVER, 0), row


def test_a_wrong_word_is_told(tmp_path: Path) -> None:
    """The check can fail: rows that contradict what was said are counted."""
    witness = sa.create_engine(f"sqlite:///{tmp_path / 'done.db'}", poolclass=NullPool)
    commit_cuts_trials.DONE.create(witness)
    with witness.begin() as connection:
        connection.execute(commit_cuts_trials.DONE.insert(), [{"trial": 1, "attempt": 0}, {"trial": 1, "attempt": 1}])
    place = request("COMMIT")
    plan = [commit_cuts_trials.Trial(1, place, "rst", 1), commit_cuts_trials.Trial(2, place, "rst", 1)]
    heard = commit_cuts_trials.Heard()
    heard.ends = {
        "1": [Outcome.ROLLED_BACK, Outcome.COMMITTED],
        "2": [Outcome.COMMITTED],
    }
    row = commit_cuts._row("here", plan, 1, heard, witness)
    assert (row["wrong"], row["doubled"], row["lost"]) == (2, 1, 1)
