"""Short runs through both doors: consistent afterwards, everything counted, nothing left."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session

from polysession import AsyncSessions, Sessions
from polysession.demo import stage
from polysession.demo.defects import Defect
from polysession.demo.inputs import Inputs, Kind
from polysession.demo.plan import Plan
from polysession.demo.results import Result
from polysession.demo.stage import Outcome
from polysession.demo.tally import Snapshot, total
from polysession.demo.transactions import perform
from polysession.demo.witness import Witness
from polysession.demo.workload import run_async, run_threads

DOORS = pytest.mark.parametrize("asynchronous", [False, True], ids=["threads", "tasks"])


class Notes:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.phases: list[str] = []
        self.snapshots: list[Snapshot] = []

    def phase(self, text: str) -> None:
        """Remember it."""
        self.phases.append(text)

    def tick(self, snapshot: Snapshot, units: int) -> None:
        """Remember it."""
        self.snapshots.append(snapshot)


def run(folder: Path, *, asynchronous: bool, notes: Notes | None = None, **options: Any) -> tuple[Outcome, Witness]:
    """One run over two SQLite files; the door is closed and the witness has seen everything."""
    values = {"scale": 0.01, "sessions": 6, "transactions": 150, **options}
    plan = Plan(databases=("a", "b"), asynchronous=asynchronous, **values)
    urls = {name: f"sqlite:///{folder}/{name}.db" for name in plan.databases}
    watcher = notes or Notes()
    with Witness() as witness:
        if asynchronous:
            return asyncio.run(_run_tasks(plan, urls, watcher)), witness
        with Sessions(urls) as sessions:
            outcome = run_threads(plan, sessions, watcher)
            assert sessions.held() == ()
        return outcome, witness


async def _run_tasks(plan: Plan, urls: dict[str, str], watcher: Notes) -> Outcome:
    async with AsyncSessions(urls) as sessions:
        outcome = await run_async(plan, sessions, watcher)
        assert sessions.held() == ()
        return outcome


def violated(outcome: Outcome) -> set[int]:
    """The numbers of the conditions that do not hold in one of the databases."""
    return {result.number for results in outcome.conditions.values() for result in results if not result.holds}


@DOORS
def test_a_run_ends_consistent(tmp_path: Path, asynchronous: bool) -> None:
    """All conditions hold in both databases, all transactions are accounted for, no connection is left."""
    notes = Notes()
    outcome, witness = run(tmp_path, asynchronous=asynchronous, notes=notes)
    row = total(outcome.snapshot.figures.values())
    assert outcome.snapshot.traceback is None
    assert row.committed + row.rolled_back == 150
    assert violated(outcome) == set()
    assert {name: len(results) for name, results in outcome.conditions.items()} == {"a": 12, "b": 12}
    assert outcome.found == outcome.snapshot.told
    assert outcome.found["orders"] > 0
    assert set(outcome.snapshot.databases) == {"a", "b"}
    assert outcome.rows["warehouse"] == 4
    assert outcome.rows["item"] == 2 * 1_000
    assert notes.phases == ["filling a", "filling b", "running", "checking"]
    assert (witness.out, witness.open) == (0, 0)
    assert witness.most_out > 0


@DOORS
def test_a_defect_makes_conditions_fail(tmp_path: Path, asynchronous: bool) -> None:
    """A payment that forgets W_YTD is found by conditions 1 and 8, and by no other."""
    outcome, _ = run(tmp_path, asynchronous=asynchronous, defect=Defect.WAREHOUSE_YTD, transactions=200)
    assert outcome.snapshot.figures[Kind.PAYMENT].committed >= 50
    assert violated(outcome) == {1, 8}


@DOORS
def test_errors_are_counted_and_the_first_is_kept(
    tmp_path: Path, asynchronous: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A unit that fails is rolled back, counted and shown; the others go on and the database stays consistent."""

    def fail_at_payments(session: Session, schema: Any, inputs: Inputs) -> Result:
        result = perform(session, schema, inputs)
        if inputs.kind is Kind.DELIVERY:
            raise ZeroDivisionError("on purpose")
        return result

    monkeypatch.setattr(stage, "perform", fail_at_payments)
    outcome, witness = run(tmp_path, asynchronous=asynchronous)
    row = total(outcome.snapshot.figures.values())
    assert row.failed == outcome.snapshot.failures == outcome.snapshot.figures[Kind.DELIVERY].failed > 0
    assert row.committed + row.rolled_back + row.failed == 150
    assert "ZeroDivisionError: on purpose" in (outcome.snapshot.traceback or "")
    assert violated(outcome) == set()
    assert (witness.out, witness.open) == (0, 0)


@DOORS
def test_a_run_that_only_fails_ends_early(tmp_path: Path, asynchronous: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """After fifty failures there is nothing more to learn: the run does not last its time."""

    def fail(session: Session, schema: Any, inputs: Inputs) -> Result:
        raise ZeroDivisionError("on purpose")

    monkeypatch.setattr(stage, "perform", fail)
    outcome, _ = run(tmp_path, asynchronous=asynchronous, transactions=None, seconds=250.0)
    assert outcome.snapshot.failures >= 50
    assert outcome.snapshot.elapsed < 100


@DOORS
def test_the_tables_are_removed_unless_kept(tmp_path: Path, asynchronous: bool) -> None:
    """With `keep` the tables stay and the next run fills them anew; without it they go."""
    for keep, tables in ((True, 9), (False, 0)):
        outcome, _ = run(tmp_path, asynchronous=asynchronous, transactions=10, prefix="x_", keep=keep)
        assert violated(outcome) == set()
        assert outcome.found == outcome.snapshot.told
        with Sessions(f"sqlite:///{tmp_path}/a.db") as sessions, sessions.read() as session:
            names = session.connection().exec_driver_sql("select name from sqlite_master where type = 'table'")
            assert sum(name.startswith("x_") for (name,) in names) == tables


def test_the_same_seed_gives_the_same_run(tmp_path: Path) -> None:
    """With one terminal two runs do the same; the counts say so."""
    figures = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        outcome, _ = run(tmp_path / name, asynchronous=False, sessions=1, transactions=60)
        figures.append({kind: row.committed for kind, row in outcome.snapshot.figures.items()} | outcome.found)
    assert figures[0] == figures[1]
