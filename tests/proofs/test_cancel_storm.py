"""The storm of cancellations, signals and deadlines in short, and that its judge can say no."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from proofs.cancel_storm import Cell, Row, judge, judge_control, run_cell

from tests.engines.targets import Servers

UNITS = 60

CELLS = [
    Cell(target="sqlite", driver="pysqlite", asynchronous=False),
    Cell(target="sqlite", driver="aiosqlite", asynchronous=True),
    Cell(target="pg18", driver="psycopg", asynchronous=False),
    Cell(target="pg18", driver="psycopg", asynchronous=True),
    Cell(target="pg18", driver="asyncpg", asynchronous=True),
    Cell(target="mariadb", driver="pymysql", asynchronous=False),
    Cell(target="mariadb", driver="asyncmy", asynchronous=True),
]


def marked(cell: Cell) -> Any:
    """With the mark of its engine."""
    name = cell.target.rstrip("0123456789")
    return pytest.param(cell, id=str(cell), marks=[] if name == "sqlite" else [getattr(pytest.mark, name)])


@pytest.mark.slow
@pytest.mark.parametrize("cell", [marked(cell) for cell in CELLS])
def test_the_storm(servers: Servers, cell: Cell) -> None:
    """No connection is lost, nobody is told a wrong outcome."""
    row = run_cell(cell, servers, "ours", UNITS, seed=20)
    assert judge(row, UNITS) == []


@pytest.mark.slow
@pytest.mark.pg
def test_the_control(servers: Servers) -> None:
    """The same storm over `async_sessionmaker` does not pass: no error of it tells an outcome."""
    cell = Cell(target="pg18", driver="psycopg", asynchronous=True)
    row = run_cell(cell, servers, "plain", UNITS, seed=20)
    assert any("without an outcome" in what for what in judge(row, UNITS))


TOLD = dict.fromkeys(
    ("lost", "claimed_but_missing", "committed_but_denied", "committed_not_told", "nobodys", "wrong_answers"), 0
)
GOOD = Row(
    cell="tasks here/driver", side="ours", told=TOLD | {"unexpected_errors": 0}, seen={"in time": 10}, steps={},
    halves=0, ended_early=False, lost_slots=0, held=0, out=0, idle=5, at_server=5, in_transaction=0, after_close=0,
    samples=9, most_at_server=5, samples_above=0, samples_idle_in_transaction=0, noise={}, slowest_ms=1, errors=(),
)  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"lost_slots": 1}, "1 connections lost"),
        ({"out": 1}, "1 connections out"),
        ({"at_server": 6}, "the server 6"),
        ({"in_transaction": 1}, "one second later"),
        ({"most_at_server": 6}, "6 connections at the server"),
        ({"halves": 1}, "1 halves"),
        ({"seen": {"in time": 9}}, "only 9 of 10"),
        ({"seen": {"in time": 10, "swallowed": 1}}, "1 cancellations swallowed"),
        ({"seen": {"in time": 10, "not told": 1}}, "1 without an outcome"),
        ({"noise": {"asyncio: never retrieved": 1}}, "noise"),
        *(({"told": {**GOOD.told, key: 1}}, "1 ") for key in TOLD),
    ],
)
def test_the_judge(changed: dict[str, Any], what: str) -> None:
    """Each of the promises is looked at."""
    assert judge(GOOD, 10) == []
    (found,) = judge(dataclasses.replace(GOOD, **changed), 10)
    assert what in found


def test_the_judge_of_the_control() -> None:
    """A control that told every outcome would show nothing."""
    assert judge_control([GOOD])
    assert not judge_control([dataclasses.replace(GOOD, told={**GOOD.told, "committed_not_told": 1})])
