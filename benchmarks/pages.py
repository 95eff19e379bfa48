"""`docs/cost.md`: made from the recorded figures (`benchmarks/recorded`) and from nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

__all__ = ["PAGE", "PARTS", "RECORDED", "page", "recorded", "write"]

PROJECT: Final = Path(__file__).resolve().parents[1]
RECORDED: Final = PROJECT / "benchmarks" / "recorded" / "overhead.json"
PAGE: Final = PROJECT / "docs" / "cost.md"

PARTS: Final = frozenset(("overhead", "instructions", "import_cost"))
"""What is recorded for the page."""

_HEAD: Final = """\
# What a unit of work costs

CPU time of one process, in microseconds, beside SQLAlchemy's own session on the same server. The bounds are 25 µs for a
unit and 2 µs for each statement in it: 2 for a statement, 27 for a unit of one, 45 for one of ten.

```console
$ make bench ARGS="overhead instructions import_cost --record"
```

- **unit**: an empty unit, beside `sessionmaker().begin()`. It sends nothing at either side.
- **statement**: one more `select 1` inside of a unit. Of a write unit beside one in `sessionmaker().begin()`. A read
  unit runs each statement on its own, without a transaction, and so does the session beside it, on an engine in
  `AUTOCOMMIT`.
- **unit of 1, unit of 10**: a whole unit of so many statements, beside `sessionmaker().begin()` in both cases: what a
  program would have written instead. A read unit sends no BEGIN and no ROLLBACK, which is why it can cost less.

Both sides run in turns of a few units each in one process. "More" is the median of the differences within the turns,
and after it stands where the median of very many turns lies in 95 of 100 cases. "Above" is marked what is above its
bound in that whole interval, "perhaps" what may lie on either side of it. The figures are those of one machine. What
Python executes is the same everywhere: the bytecodes of a unit or statement, and those of SQLAlchemy's session; the
calls of Python functions, those of them that are this package's own, and those of SQLAlchemy's session. A test holds
the calls (`tests/unit/shell/test_calls.py`).
"""

_COLUMNS: Final = {
    "what": "what",
    "polysession": "polysession_us",
    "SQLAlchemy": "sqlalchemy_us",
    "more": "more_us",
    "ratio": "ratio",
    "bytecodes": "bytecodes",
    "of SQLAlchemy": "sqlalchemy_bytecodes",
    "calls": "calls",
    "own": "own_calls",
    "calls of SQLAlchemy": "sqlalchemy_calls",
}

_INSTRUCTIONS: Final = """
## The same in instructions

Thousand instructions of the process, counted by callgrind: the same on a busy machine. What the kernel and the server
do is not in them. The last column says what the difference is in microseconds where SQLAlchemy's own statement on
SQLite takes its {us} µs for its {ki} thousand instructions, as it did above; by it a bound can be judged on a busy
machine, and what is above its bound is marked.

"""

_COUNTED: Final = {
    "what": "what",
    "polysession": "polysession_ki",
    "SQLAlchemy": "sqlalchemy_ki",
    "more": "more_ki",
    "ratio": "ratio",
}

_IMPORT: Final = """
## What importing costs

`import polysession` after SQLAlchemy's ORM and its asyncio part, in fresh processes in turns; the median of the
differences. The bound is 60 ms, and no optional package.

| more | spread | these themselves | modules | optional packages |
|---|---|---|---|---|
"""


def recorded() -> Mapping[str, Any]:
    """The recorded figures."""
    found: Mapping[str, Any] = json.loads(RECORDED.read_text("utf-8"))
    return found


def page(found: Mapping[str, Any]) -> str:
    """The page of these figures."""
    rows: Sequence[Mapping[str, Any]] = found.get("overhead", ())
    lines = [f"| {' | '.join(_COLUMNS)} |", "|---" * len(_COLUMNS) + "|"]
    for row in rows:
        cells = [f"{row[key]}{_judged(row) if key == 'more_us' else ''}" for key in _COLUMNS.values()]
        lines.append(f"| {' | '.join(cells)} |")
    made = (
        f"Measured with Python {found['python']} and SQLAlchemy {found['sqlalchemy']} on {found['machine']}, "
        f"{found['cores']} cores, for which {found['load']} processes waited on average (the machine's load)."
    )
    counted = _counted(found, rows)
    imports = [
        f"| {row['more_ms']} ms | {row['spread_ms']} ms | {row['orm_ms']} ms | {row['modules']} | {row['optional']} |"
        for row in found.get("import_cost", ())
    ]
    text = "\n".join([_HEAD, made, "", *lines]) + "\n" + counted
    return text + (_IMPORT + "\n".join(imports) + "\n" if imports else "")


def _judged(row: Mapping[str, Any]) -> str:
    """The interval of a difference, and whether it is above its bound."""
    above = "" if row["most_us"] <= row["bound_us"] else ", above" if row["least_us"] > row["bound_us"] else ", perhaps"
    return f" ({row['least_us']} to {row['most_us']}{above})"


def _counted(found: Mapping[str, Any], timed: Sequence[Mapping[str, Any]]) -> str:
    """The part about instructions; empty where they were not counted."""
    rows: Sequence[Mapping[str, Any]] = found.get("instructions", ())
    if not rows or not timed:
        return ""
    bounds = {row["what"]: row["bound_us"] for row in timed}
    one = "statement, begin, SQLite"
    us = next(row["sqlalchemy_us"] for row in timed if row["what"] == one)
    ki = next(row["sqlalchemy_ki"] for row in rows if row["what"] == one)
    lines = [f"| {' | '.join(_COUNTED)} | about |", "|---" * (len(_COUNTED) + 1) + "|"]
    for row in rows:
        about = round(row["more_ki"] * us / ki, 1)
        above = " (above)" if about > bounds[row["what"]] else ""
        lines.append(f"| {' | '.join(str(row[key]) for key in _COUNTED.values())} | {about} µs{above} |")
    return _INSTRUCTIONS.format(us=us, ki=ki) + "\n".join(lines) + "\n"


def write(found: Mapping[str, Any]) -> None:
    """Record the figures and make the page anew. What was not measured this time stays as it was recorded."""
    before = dict(recorded()) if RECORDED.exists() else {}
    measured = {key: value for key, value in found.items() if key in PARTS}
    # the rest says where and under which load the times were taken
    found = {**before, **measured} if "overhead" in before and "overhead" not in measured else {**before, **found}
    RECORDED.parent.mkdir(exist_ok=True)
    RECORDED.write_text(json.dumps(found, indent=2) + "\n", "utf-8")
    PAGE.write_text(page(found), "utf-8")
