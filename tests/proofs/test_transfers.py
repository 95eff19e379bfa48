"""Bank transfers while everything around them breaks, in the short profile."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from proofs.results import QUICK
from sqlalchemy.pool import NullPool

from proofs import transfers
from tests.engines.targets import Servers


@pytest.mark.pg
def test_each_transfer_is_applied_once(servers: Servers) -> None:
    """Links, backends, tasks and the server break; no transfer is missing or doubled. Plain SQLAlchemy doubles some."""
    servers.private("pg18")  # or the test is skipped
    result = transfers.run(QUICK, 3)
    assert result.passed, result.why
    assert result.control[0]["doubled"] > 0


def test_what_was_doubled_is_told(tmp_path: Path) -> None:
    """The check can fail: transfers that were done twice, or not at all, are counted, and the accounts that show it."""
    witness = sa.create_engine(f"sqlite:///{tmp_path / 'bank.db'}", poolclass=NullPool)
    transfers.ACCOUNT.metadata.create_all(witness)
    moves = [(1, 0, 1, 5), (2, 2, 3, 7)]
    with witness.begin() as connection:
        balances = ((0, -10), (1, 10), (2, 0), (3, 1))
        connection.execute(transfers.ACCOUNT.insert(), [{"id": id, "balance": value} for id, value in balances])
        row = {"number": 1, "source": 0, "target": 1, "amount": 5}
        connection.execute(transfers.MOVE.insert(), [row, row])
    figures = transfers.figures(witness, moves)
    assert figures == {"doubled": 1, "missing": 1, "money created": 1, "accounts that differ": 4}
