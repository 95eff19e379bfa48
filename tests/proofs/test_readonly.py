"""Read-only means read-only: the quick profile of `proofs.readonly`, engine by engine."""

from __future__ import annotations

import pytest
from proofs.results import QUICK

from proofs import readonly
from tests.engines.targets import Servers
from tests.ways import trying
from tests.ways.grounds import ground
from tests.ways.trying import Plain, ReadUnits
from tests.ways.way import driver_of


@pytest.mark.parametrize("target", readonly.TARGETS)
def test_nothing_is_changed_and_nothing_left(servers: Servers, target: str) -> None:
    """No way to write changes anything in a read unit or leaves something; every text that reads is let through."""
    cells, control = readonly.run_target(servers, target, QUICK, seed=20)
    assert readonly.judge(cells, control, whole=False) == []
    assert sum(row["changed"] for row in control) > 0


def test_the_check_can_fail(servers: Servers) -> None:
    """A session without a guard is found to have changed something, and each way is told apart from the others."""
    place = ground(servers, "sqlite")
    try:
        ways = [way for way in trying.all_ways(place, "pysqlite", ()) if way.name in ("insert", "for update", "update")]
        tried = list(
            trying.try_all(
                place, ways, lambda: Plain(place.url("pysqlite"), asynchronous=False, kind="transaction"), together=3
            )
        )
    finally:
        place.close()
    assert {found.way.name: bool(found.changed) for found in tried} == {
        "insert": True,
        "update": True,
        "for update": False,
    }


def test_what_is_left_is_found(servers: Servers) -> None:
    """A unit that leaves something on its connection without saying it in a text is found by those that come next."""
    place = ground(servers, "sqlite")
    side = ReadUnits(place.url("pysqlite"), asynchronous=False)
    try:
        before = side.found()
        with side.door.read() as session:
            driver_of(session).create_function("left_here", 0, lambda: 1)
            session.connection().info.pop("polysession_found")  # as if nobody had noticed
        after = side.found()
    finally:
        side.close()
        place.close()
    assert after - before == {"('function', 'left_here', '')"}
