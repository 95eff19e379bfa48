"""The page `docs/conformance.md`: what was shown where, written from the outcome of every cell of a run.

A row is a test function, told by the first sentence of its docstring; a column is a place. With
POLYSESSION_WRITE_TABLE=1 a run over this folder writes the page, and `results/conformance.json` beside it for programs.
"""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.engines.finders import PROJECT

from .cells import PLACES, POOLED, THROUGH, Place

__all__ = ["PAGE", "PROPERTY", "Behaviour", "Outcomes", "behaviours"]

PROPERTY = "conformance"
PAGE = PROJECT / "docs" / "conformance.md"
RESULTS = PROJECT / "results" / "conformance.json"

_ENGINES = {
    "sqlite": "SQLite",
    "pg15": "PG 15",
    "pg18": "PG 18",
    "mariadb": "MariaDB",
    "galera": "Galera",
    "pgbouncer": "pgbouncer",
}

_HEAD = """\
# What holds where

One suite of behaviour, `tests/conformance`, is run through both doors and every engine and driver; this page is written
by that run and not by hand (`make conformance`). Each row is a test, each column a door, an engine and a driver. After
each test nothing is held, no connection is out, and once the door is closed the server counts no connection either.

✓: shown by the test. ✓ (1): the sentence cannot hold there as it stands; the note below the table says what holds in
its place, and the test has shown that. "no": the test failed in the run that wrote this page; "-": it did not run.

PG 15 and PG 18 are PostgreSQL; MariaDB is 10.11; SQLite is the one that Python brings. pgbouncer is in transaction
mode, and the configuration says so (`pooler = "transaction"`). Galera is a cluster of which the tests use one node.
"""

SECTIONS = (
    "Units of work",
    "One owner",
    "A unit inside a unit",
    "Units in generators",
    "Read units",
    "Read units between two statements",
    "Several queries in one flight",
    "Sessions that their owner ends",
    "Repeatable units",
    "Units of ordinary functions",
    "Isolation levels",
    "Deadlines",
    "Lost links",
    "Exact outcomes",
    "Exact outcomes: what servers do",
    "After the end",
    "Several databases",
    "Tenants",
    "Connections",
    "Connections that have died",
    "Round trips",
    "Steering pools",
    "Who holds what",
    "What an owner leaves open",
    "The door",
    "Engines of the application's own",
    "Secrets",
)
"""The first lines of the modules, in the order of the page."""

_POOLED = "Through a pooler, on a cluster"
_THROUGH = "Through a pooler"


class Behaviour(NamedTuple):
    """A row."""

    section: str
    name: str
    sentence: str
    also_pooled: bool


def behaviours() -> list[Behaviour]:
    """Every behaviour of the suite, in the order of the sections and within them of the lines."""
    found = []
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        module = importlib.import_module(f"{__package__}.{path.stem}")
        assert module.__doc__
        found += [
            Behaviour(module.__doc__.strip(), name, _sentence(test), hasattr(test, "also_pooled"))
            for name, test in vars(module).items()
            if name.startswith("test_") and inspect.iscoroutinefunction(test)
        ]
    return sorted(found, key=lambda behaviour: SECTIONS.index(behaviour.section))


def _sentence(test: object) -> str:
    text = inspect.getdoc(test)
    assert text, f"{test} needs a docstring: the sentence that must hold"
    return " ".join(text.partition("\n\n")[0].split())


@dataclass(slots=True)
class Outcomes:
    """What the tests of a run have shown; they may come in any order and from several processes."""

    passed: set[tuple[str, str]] = field(default_factory=set)
    """Behaviour and place."""
    failed: set[tuple[str, str]] = field(default_factory=set)
    differences: dict[tuple[str, str], str] = field(default_factory=dict)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a test; several tests of one behaviour in one place must all pass."""
        for name, value in report.user_properties:
            if name == PROPERTY and report.when == "call":
                behaviour, place, difference = map(str, value)  # type: ignore[call-overload] # made by our conftest
                (self.passed if report.passed else self.failed).add((behaviour, place))
                if difference:
                    self.differences[behaviour, place] = difference

    def pytest_sessionfinish(self) -> None:
        """Write the page."""
        PAGE.write_text(self.page(), "utf-8")
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(self.as_data(), indent=1), "utf-8")

    def word(self, behaviour: Behaviour, place: Place) -> str:
        """What stands in a cell, without its note."""
        key = (behaviour.name, str(place))
        if key in self.failed:
            return "no"
        return "✓" if key in self.passed else "-"

    def as_data(self) -> list[dict[str, object]]:
        """The same for programs."""
        return [
            {
                "section": behaviour.section,
                "name": behaviour.name,
                "sentence": behaviour.sentence,
                "cells": {
                    str(place): {
                        "outcome": self.word(behaviour, place),
                        "difference": self.differences.get((behaviour.name, str(place)), ""),
                    }
                    for place in PLACES + (POOLED if behaviour.also_pooled else THROUGH)
                },
            }
            for behaviour in behaviours()
        ]

    def page(self) -> str:
        """The whole page."""
        rows = behaviours()
        sections = dict.fromkeys(row.section for row in rows)
        parts = [_HEAD]
        parts += [self._table(name, [row for row in rows if row.section == name], PLACES) for name in sections]
        parts.append(self._table(_POOLED, [row for row in rows if row.also_pooled], POOLED))
        parts.append(self._table(_THROUGH, [row for row in rows if not row.also_pooled], THROUGH))
        return "\n".join(parts)

    def _table(self, title: str, rows: Iterable[Behaviour], places: Sequence[Place]) -> str:
        notes: dict[str, int] = {}
        lines = [f"## {title}", "", _row(["", *map(_heading, places)]), "| --- " + "| :-: " * len(places) + "|"]
        for row in rows:
            cells = []
            for place in places:
                note = self.differences.get((row.name, str(place)))
                number = f" ({notes.setdefault(note, len(notes) + 1)})" if note else ""
                cells.append(self.word(row, place) + number)
            lines.append(_row([row.sentence.replace("|", "\\|"), *cells]))
        if notes:
            lines += ["", *(f"{number}. {note[0].upper()}{note[1:]}." for note, number in notes.items())]
        return "\n".join([*lines, ""])


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _heading(place: Place) -> str:
    return f"{place.door} {_ENGINES[place.target]} {place.driver}"
