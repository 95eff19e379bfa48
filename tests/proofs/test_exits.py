"""Every exit of a unit, on every kind of server and through both doors: nothing stays held; the judge can say no."""

from __future__ import annotations

import gc
import sys
import threading
from dataclasses import replace
from typing import Any

import pytest
from proofs.exits import Cell, Row, cells, judge, judge_controls
from proofs.sides import SIZE

from polysession._shell import generators
from proofs import exits
from tests.engines.targets import Servers

UNITS = 60
"""For each cell: all of them take about 30 seconds of one core."""
LOST_FOR_EVER = 0.5
"""Seconds that a control waits for what does not come."""


def quick(target: str) -> list[Cell]:
    """Every exit of a target through each door, by one driver."""
    found: dict[tuple[str, bool], Cell] = {}
    for cell in cells(target):
        found.setdefault((cell.exit, cell.asynchronous), cell)
    return list(found.values())


CELLS = [
    pytest.param(cell, id=str(cell), marks=[] if mark is None else [getattr(pytest.mark, mark)])
    for target, mark in (("sqlite", None), ("pg18", "pg"), ("mariadb", "mariadb"))
    for cell in quick(target)
]


@pytest.mark.slow
@pytest.mark.filterwarnings(  # of PyMySQL, if it is interrupted while it makes one
    "ignore:Exception ignored in. <function MySQLResult:pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.parametrize("cell", CELLS)
def test_exit(cell: Cell, servers: Servers) -> None:
    """All units of the cell end, and nothing of them is left in the pool, at the server or in what is held."""
    row = exits.run_cell(cell, servers, "ours", UNITS, seed=20)
    assert judge(row, UNITS) == []


@pytest.mark.slow
@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_defect_is_found(monkeypatch: pytest.MonkeyPatch, servers: Servers, asynchronous: bool) -> None:
    """The control: where the unit of a suspended generator can be joined, the units beside it are lost."""
    monkeypatch.setattr(generators, "home", lambda _: None)
    (cell,) = (cell for cell in quick("sqlite") if cell.exit == "generator" and cell.asynchronous is asynchronous)
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)  # what the defect leads to
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    monkeypatch.setattr(exits, "_PATIENCE", LOST_FOR_EVER)
    wrong = judge(exits.run_cell(cell, servers, "ours", UNITS, seed=20), UNITS)
    gc.collect()
    assert wrong


def test_sessions_that_nobody_closes_are_found(monkeypatch: pytest.MonkeyPatch, servers: Servers) -> None:
    """The control: our own door, with owners that keep their sessions."""
    monkeypatch.setattr(exits, "_PATIENCE", LOST_FOR_EVER)
    row = exits.run_forgetful(servers)
    assert row.held
    assert judge_controls([], row) == []
    assert judge_controls([], good()) == ["sessions that nobody closed were not found out"]


TOLD = dict.fromkeys(
    (
        "reported",
        "raised",
        "rows",
        "lost",
        "stray",
        "nobodys",
        "committed_and_told",
        "committed_and_unknown",
        "committed_not_told",
        "committed_but_denied",
        "wrong_answers",
        "unexpected_errors",
    ),
    0,
)


def good(**changed: Any) -> Row:
    """A cell in which all is well."""
    told = TOLD | {"reported": 10}
    return replace(
        Row(
            cell="here", side="ours", told=told, seen={}, held=0, out=0, served=SIZE, idle=5, at_server=5,
            in_transaction=0, after_close=0, reported_dropped=0, collector_warnings=0, complaints={}, errors=(),
        ),
        **changed,
    )  # fmt: skip


@pytest.mark.parametrize(
    "changed",
    [
        {"held": 1},
        {"out": 1},
        {"served": 4},
        {"at_server": 4},
        {"in_transaction": 1},
        {"after_close": 1},
        {"reported_dropped": 1},
        {"collector_warnings": 1},
        {"complaints": {"Task exception was never retrieved": 1}},
        {"errors": ("1 x KeyError",)},
        {"seen": {"left open": 1}},
        {"seen": {"blocked for ever": 1}},
        *({"told": TOLD | {"reported": 10, key: 1}} for key in ("lost", "stray", "nobodys", "wrong_answers")),
        {"told": TOLD | {"reported": 10, "committed_but_denied": 1}},
        {"told": TOLD | {"reported": 9}},
    ],
    ids=str,
)
def test_the_judge(changed: dict[str, Any]) -> None:
    """Each of the promises is looked at."""
    assert judge(good(), 10) == []
    assert judge(good(reported_dropped=1, seen={"interrupted on the way in": 2}), 10) == []
    assert len(judge(good(**changed), 10)) == 1
