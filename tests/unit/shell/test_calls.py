"""What units and statements cost, as calls of Python functions: the same on every machine, unlike the time they take.

`benchmarks/overhead.py` counts them and measures the time. The bounds are those of Python 3.11; later versions inline
some calls and need fewer.
"""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest
from benchmarks import outcome, overhead

from .driver import EVENTS

MORE = {
    "unit, begin": -76,
    "unit, read": -79,
    "statement, begin": -12,
    "statement, read": -11,
    "unit of 1, begin": -51,
    "unit of 1, read": -91,
    "unit of 10, begin": -157,
    "unit of 10, read": -188,
    "unit, async begin": -188,
    "unit, async read": -191,
}
"""Calls that may be added to those of SQLAlchemy's own session on SQLite. Of a statement of aiosqlite nothing is said:
how often its thread is looked for depends on when it is done."""
OWN = {
    "unit, begin": 19,
    "unit, read": 18,
    "statement, begin": 4,
    "statement, read": 5,
    "unit of 1, begin": 107,
    "unit of 1, read": 71,
    "unit of 10, begin": 145,
    "unit of 10, read": 118,
    "unit of 1 that writes, begin": 108,
    "unit, async begin": 30,
    "unit, async read": 29,
    "statement, async begin": 5,
    "statement, async read": 8,
    "unit of 1, async begin": 142,
    "unit of 1, async read": 156,
    "unit of 10, async begin": 190,
    "unit of 10, async read": 232,
    "unit of 1 that writes, async begin": 143,
}
"""Calls of functions of this package. Those of a statement are exact; a unit has a little room."""


def test_calls_at_the_synchronous_door(tmp_path: Path) -> None:
    """A unit and a statement make no more calls than they are known to need."""
    with overhead.with_threads(f"sqlite:///{tmp_path / 'calls.db'}") as pairs:
        counted = {what: (overhead.count(ours), overhead.count(plain)) for what, _, ours, plain in pairs}
    assert counted.keys() == {what for what in OWN if "async" not in what}
    assert too_many(counted) == {}


def test_calls_at_the_asynchronous_door(tmp_path: Path) -> None:
    """The same for asyncio."""
    counted: dict[str, tuple[overhead.Counted, overhead.Counted]] = {}

    async def use(pair: overhead.Pair) -> None:
        what, _, ours, plain = pair
        counted[what] = await overhead.count_async(ours), await overhead.count_async(plain)

    asyncio.run(overhead.with_tasks(f"sqlite+aiosqlite:///{tmp_path / 'calls.db'}", use))
    assert counted.keys() == {what for what in OWN if "async" in what}
    assert too_many(counted) == {}


def test_calls_of_an_exact_outcome(tmp_path: Path) -> None:
    """A unit that writes makes few calls more if it knows its outcome: it is opened step by step, since the table of
    outcomes has to be there; and one that reads makes none."""
    url = f"sqlite:///{tmp_path / 'calls.db'}"
    outcome.make_table(url)
    with outcome.Threads(url, "plain") as plain, outcome.Threads(url, "exact") as exact:
        for side in (plain, exact):
            side.run("write", 20)
            side.run("read", 20)
        written, read = (outcome.count(exact, work) - outcome.count(plain, work) for work in ("write", "read"))
    assert 0 < written <= 43
    assert read <= 0


def too_many(counted: dict[str, tuple[overhead.Counted, overhead.Counted]]) -> dict[str, tuple[int, int]]:
    """What has called too much: so many calls more than SQLAlchemy alone, and so many of this package's functions."""
    found = {what: (ours.calls - plain.calls, ours.own) for what, (ours, plain) in counted.items()}
    return {what: (more, own) for what, (more, own) in found.items() if own > OWN[what] or more > MORE.get(what, more)}


@pytest.mark.parametrize("calls", [1, 7])
def test_the_counter_counts(calls: int) -> None:
    """The control: work of which the calls are known, and that needs as many bytecodes for each of them."""

    def leaf() -> None:
        """Is called."""

    def work(times: int = calls) -> None:
        for _ in range(times):
            leaf()

    counted = overhead.count(work)
    more = [overhead.count(partial(work, calls * times)).bytecodes for times in (1, 2, 3)]
    assert (counted.calls, counted.own) == (calls + 1, 0)
    assert more[2] - more[1] == more[1] - more[0]
    assert more[1] - more[0] > calls or "opcode" not in EVENTS  # then only some are traced
