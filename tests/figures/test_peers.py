"""The comparison with others: each part of it works; the round trips and instructions of it are known. Times are not
looked at."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from benchmarks.peers import PARTS, SMOKE, measure, versions
from benchmarks.peers.bars import ASYNCPG, BARS, PSYCOPG, SYNC, Bar, judge
from benchmarks.peers.plot import Panel, drawn
from benchmarks.peers.works import WORKS

TRIPS: dict[tuple[str, str], tuple[float | None, ...]] = {
    (SYNC, "polysession"): (0, 1, 2, 3, 10, 1),
    (SYNC, "polysession, one flight"): (0, 1, 1, 2, 10, 1),
    (SYNC, "psycopg_pool"): (0, 3, 3, 4, 12, 4),
    (SYNC, "psycopg_pool, autocommit"): (0, 1, 1, None, 10, 2),
    (SYNC, "SQLAlchemy Core"): (0, 3, 3, 4, 14, None),
    (SYNC, "Session"): (0, 3, 3, 4, 14, None),
    (SYNC, "Session, pre_ping"): (0, 4, 4, 5, 15, None),
    (SYNC, "Flask-SQLAlchemy"): (0, 3, 3, 4, 14, None),
    (SYNC, "advanced-alchemy"): (0, 3, 3, 4, 14, None),
    (SYNC, "oslo.db"): (0, 4, 4, 5, 15, None),
    (SYNC, "Django"): (0, 1, 3, 4, 10, None),
    (PSYCOPG, "polysession"): (0, 1, 2, 3, 10, 1),
    (PSYCOPG, "polysession, one flight"): (0, 1, 1, 2, 10, 1),
    (PSYCOPG, "psycopg_pool"): (0, 3, 3, 4, 12, 4),
    (PSYCOPG, "AsyncSession"): (0, 3, 3, 4, 14, None),
    (PSYCOPG, "AsyncSession, pre_ping"): (0, 4, 4, 5, 15, None),
    (PSYCOPG, "advanced-alchemy"): (0, 3, 3, 4, 14, None),
    (ASYNCPG, "polysession"): (0, 1, 2, 3, 10, 10),
    (ASYNCPG, "polysession, one flight"): (0, 1, 1, 2, 10, 10),
    (ASYNCPG, "asyncpg's pool"): (1, 2, 4, 5, 11, None),
    (ASYNCPG, "AsyncSession"): (0, 3, 3, 4, 12, None),
    (ASYNCPG, "AsyncSession, pre_ping"): (0, 6, 6, 7, 15, None),
    (ASYNCPG, "advanced-alchemy"): (0, 3, 3, 4, 12, None),
}
"""Round trips of each work, in the order of `WORKS`."""

INSTRUCTIONS = {
    (SYNC, "nothing"): 45,
    (SYNC, "read a row"): 410,
    (SYNC, "who opened a unit"): 4,
    (PSYCOPG, "nothing"): 76,
    (PSYCOPG, "read a row"): 840,
    (ASYNCPG, "nothing"): 76,
    (ASYNCPG, "read a row"): 730,
}
"""Thousands that a unit of ours may take, with Python 3.11; they repeat within a few percent."""


@pytest.mark.pg
@pytest.mark.parametrize("part", [part for part in PARTS if part not in {"trips", "instructions"}])
def test_each_part_is_measured(part: str) -> None:
    """Every part gives a positive figure for polysession and for others, and every bar finds its own."""
    rows = needing_a_server(measure(SMOKE, [part]))
    assert any(row["side"].startswith("polysession") for row in rows)
    assert any(not row["side"].startswith("polysession") for row in rows)
    # a server's clock may not be readable, and so few engines take less than what is freed meanwhile
    assert [row for row in rows if row["value"] <= 0 and row["kind"] != "cpu" and row["work"] != "memory"] == []
    for judged in judge(rows, [bar for bar in BARS if bar.kind == part and bar.link_ms in {None, *SMOKE.links}]):
        assert judged.ours is not None, judged.bar.figure


@pytest.mark.pg
def test_round_trips_of_everybody() -> None:
    """They are those that were written down before."""
    rows = needing_a_server(measure(SMOKE, ["trips"]))
    found: dict[tuple[str, str], dict[str, float]] = {}
    for row in rows:
        found.setdefault((row["where"], row["side"]), {})[row["work"]] = row["value"]
    counted = {place: tuple(works.get(work) for work in WORKS) for place, works in found.items()}
    assert counted == {place: TRIPS[place] for place in counted}
    assert {place for place in TRIPS if place[1] == "polysession"} <= counted.keys()


@pytest.mark.pg
@pytest.mark.slow
def test_instructions_of_units() -> None:
    """A unit takes no more than it is known to need."""
    effort = dataclasses.replace(SMOKE, counted=20, counts_others=False)
    rows = needing_a_server(measure(effort, ["instructions"]))
    counted = {(row["where"], row["work"]): row["value"] for row in rows if row["side"] == "polysession"}
    assert counted.keys() == INSTRUCTIONS.keys()
    assert {place: value for place, value in counted.items() if value > INSTRUCTIONS[place]} == {}


def needing_a_server(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows; skips the test if there are none, because nothing is here that can be measured."""
    if not rows:
        pytest.skip("the server is missing, or valgrind")
    return rows


def test_a_bar_is_met_missed_or_not_measured() -> None:
    """Ours against the bar, by its figure or by its ratio to the peer's; what was not measured is not met."""
    rows = [
        {"kind": "wall", "work": "read", "where": "here", "side": "polysession", "link_ms": 0.5, "value": 5.0},
        {"kind": "wall", "work": "read", "where": "here", "side": "other", "link_ms": 0.5, "value": 10.0},
    ]

    def found(**changed: Any) -> tuple[float | None, float | None, bool]:
        plain: dict[str, Any] = {"figure": "time", "kind": "wall", "work": "read", "where": "here"}
        bar = Bar(**plain | {"bar": 5.0, "link_ms": 0.5} | changed)
        (judged,) = judge(rows, [bar])
        return judged.ours, judged.ratio, judged.met

    assert found() == (5.0, None, True)
    assert found(bar=4.9) == (5.0, None, False)
    assert found(bar=0.5, of="ratio", peer="other") == (5.0, 0.5, True)
    assert found(bar=0.6, of="ratio", peer="other", most=False) == (5.0, 0.5, False)
    assert found(bar=0.5, of="ratio", peer="missing") == (5.0, None, False)
    assert found(link_ms=2.0) == (None, None, False)


def test_a_plot_shows_every_bar() -> None:
    """The longest has the most room, and what is said is escaped."""
    text = drawn("two bars", [Panel("time", "µs", [("ours", 1234.0), ("a & b", 617.0)])], "ours")
    widths = [float(part.split('"')[0]) for part in text.split('width="')[2:]]
    assert widths[0] == 2 * widths[1]
    assert "1,234 µs" in text
    assert "a &amp; b" in text


def test_versions_are_told() -> None:
    """Of everything that is compared, also of what is missing."""
    found = versions()
    assert found["psycopg"] != "missing"
    assert "django" in found
