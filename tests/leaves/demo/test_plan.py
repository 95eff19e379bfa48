"""What a run is to do: checked before anything starts, and the same for all who ask."""

from __future__ import annotations

from typing import Any

import pytest

from polysession.demo.plan import Plan
from polysession.errors import ConfigError

TWO = ("db1", "db2")


@pytest.mark.parametrize(
    ("option", "wrong"),
    [
        ("databases", {"databases": ()}),
        ("warehouses", {"warehouses": 1}),
        ("scale", {"scale": 0.0}),
        ("scale", {"scale": -1.0}),
        ("scale", {"scale": float("nan")}),
        ("sessions", {"sessions": 0}),
        ("seconds", {"seconds": 0.0}),
        ("seconds", {"seconds": float("inf")}),
    ],
)
def test_what_cannot_be_done_is_refused(option: str, wrong: dict[str, Any]) -> None:
    """The error names the option, what was expected and what was found."""
    with pytest.raises(ConfigError, match=f"--{option}: expected .*, found") as caught:
        Plan(**{"databases": TWO, **wrong})
    assert caught.value.facts["path"] == f"--{option}"


def test_warehouses_and_terminals_are_dealt_in_turn() -> None:
    """Warehouses go to the databases in turn, terminals to the warehouses; each database knows its own."""
    plan = Plan(databases=TWO, warehouses=5, sessions=12)
    assert [plan.database_of(w_id) for w_id in range(1, 6)] == ["db1", "db2", "db1", "db2", "db1"]
    assert plan.warehouses_of("db1") == (1, 3, 5)
    assert plan.warehouses_of("db2") == (2, 4)
    assert [plan.home_of(terminal) for terminal in (0, 4, 5, 11)] == [(1, 1), (5, 1), (1, 2), (2, 3)]


@pytest.mark.parametrize("transactions", [0, 1, 7, 100])
def test_the_shares_add_up(transactions: int) -> None:
    """Together the terminals do exactly as many transactions as were asked for."""
    plan = Plan(databases=TWO, sessions=7, transactions=transactions)
    shares = [plan.share_of(terminal) for terminal in range(7)]
    assert sum(share for share in shares if share is not None) == transactions


def test_without_a_count_there_are_no_shares() -> None:
    """A run by time ends by time."""
    assert Plan(databases=TWO).share_of(0) is None
