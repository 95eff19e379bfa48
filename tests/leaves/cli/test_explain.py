"""`polysession explain` says which shorter ways are gone, and what it says is what happens."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session
from sqlalchemy.pool import Pool
from tests.engines.targets import FreshDatabase

from polysession import Sessions
from polysession._shell import first_flight, known
from polysession.cli.explain import explain
from polysession.testing.proxy import FaultProxy

BEGIN = "BEGIN in the flight of the first statement"
NO_ROLLBACK = "no ROLLBACK after COMMIT"
PLAIN_READS = "reads without a transaction"
ONE_QUESTION = "one question at the first connection"
LISTENER = "one listener for the connections of all engines"
SHORT = "untouched connections go back without being looked at by the pool"
TAKEN = "a unit's connection taken and given back past SQLAlchemy's tables"
PLAIN_COMMIT = "COMMIT past the session's own steps"
EARLY = "COMMIT in the flight of the last statement, for units that ask for it"
TOGETHER = "the queries of batch() in one flight"
GIVES_WAY = "prepared reads that give way to other threads only while they wait"
PREPARED = "the row of an exact outcome prepared"
ONE_THREAD = "the whole unit of run_sync() in one thread"


def told(capsys: pytest.CaptureFixture[str], source: str) -> dict[str, bool]:
    """Which ways are in use, by their names."""
    assert explain(source, json=True) == 0
    return {one["shortcut"]: one["used"] for one in json.loads(capsys.readouterr().out)}


def test_what_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Each way has a line, with what it needs and what is done instead; no password is shown; nothing is connected."""
    file = tmp_path / "polysession.toml"
    file.write_text(
        '[databases]\norders = "postgresql+psycopg://app:hunter2@nowhere.invalid/orders"\n'
        'stock = "postgresql+asyncpg://app:hunter2@nowhere.invalid/stock"\n'
    )
    assert explain(str(file)) == 0
    output = capsys.readouterr().out
    assert "hunter2" not in output
    assert output.startswith("orders/primary  postgresql+psycopg://app:***@nowhere.invalid/orders\n")
    assert f"  in use       {BEGIN}: psycopg in a version whose cursor was read" in output
    assert f"  in use       {BEGIN}: " in output.partition("stock/primary")[2]


def test_tenants(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Each has a part of its own, also where their drivers are for different doors."""
    file = tmp_path / "polysession.toml"
    file.write_text(
        '[databases.app.tenants]\nacme = "postgresql+psycopg://nowhere.invalid/acme"\n'
        'globex = "postgresql+asyncpg://nowhere.invalid/globex"\n'
    )
    assert explain(str(file)) == 0
    output = capsys.readouterr().out
    assert output.startswith("app/tenant-acme  postgresql+psycopg://nowhere.invalid/acme\n")
    assert "\napp/tenant-globex  postgresql+asyncpg://nowhere.invalid/globex\n" in output


def test_a_configuration_that_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    """It is told on the error channel, with the exit code 2."""
    assert explain("nothing.toml") == 2
    assert "nothing.toml" in capsys.readouterr().err


def test_a_pooler_and_a_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Behind a pooler read units have transactions; a file has no link and no questions that take a round trip."""
    file = tmp_path / "polysession.toml"
    file.write_text('[databases.orders]\nurl = "postgresql+psycopg://nowhere.invalid/o"\npooler = "transaction"\n')
    assert told(capsys, str(file))[PLAIN_READS] is False
    of_file = told(capsys, f"sqlite:///{tmp_path / 'shop.db'}")
    assert (of_file[PLAIN_READS], of_file[BEGIN], of_file[ONE_QUESTION]) == (True, False, False)


def test_which_driver(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """COMMIT leaves early by psycopg and asyncpg; one flight, a prepared row and reads that give way in one place are
    psycopg's, without a pooler; one thread for a unit is aiosqlite's."""
    url = "postgresql+{}://nowhere.invalid/orders"
    file = tmp_path / "polysession.toml"
    file.write_text(f'[databases.orders]\nurl = "{url.format("psycopg")}"\npooler = "transaction"\n')
    ways = (EARLY, TOGETHER, PREPARED, GIVES_WAY, ONE_THREAD)
    for source, used in {
        url.format("psycopg"): (True, True, True, True, False),
        str(file): (True, False, False, False, False),
        url.format("asyncpg"): (True, False, False, False, False),
        "sqlite+aiosqlite://": (False, False, False, False, True),
        "sqlite+pysqlite://": (False, False, False, False, False),
    }.items():
        said = told(capsys, source)
        assert tuple(said[way] for way in ways) == used


def test_who_listens(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Who listens to all pools, or to the commits of all sessions, is noticed."""
    said = told(capsys, "sqlite://")
    assert (said[SHORT], said[PLAIN_COMMIT]) == (True, True)

    def hear(*_: object) -> None:
        """Listens."""

    assert said[TAKEN] is True
    for target, name, way in ((Pool, "checkin", SHORT), (Session, "after_commit", PLAIN_COMMIT)):
        sa.event.listen(target, name, hear)
        try:
            said = told(capsys, "sqlite://")
        finally:
            sa.event.remove(target, name, hear)
        assert said.pop(way) is False
    assert told(capsys, "sqlite://")[SHORT] is True
    monkeypatch.setattr(sa.Engine, "_has_events", True)  # as a listener to all engines leaves it for good
    assert told(capsys, "sqlite://")[TAKEN] is False


def test_an_unknown_sqlalchemy(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is used with known versions only is told so."""
    assert told(capsys, "sqlite://")[LISTENER] is True
    monkeypatch.setattr(known, "IS_KNOWN", False)
    assert told(capsys, "sqlite://")[LISTENER] is False


@pytest.mark.pg
@pytest.mark.parametrize("known", [True, False])
def test_it_is_what_happens(
    fresh_database: Callable[[str], FreshDatabase],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    known: bool,
) -> None:
    """Each way that is said to be in use spares its round trips, and none that is not."""
    from polysession._shell import meeting

    if not known:
        monkeypatch.setattr(first_flight, "is_known", lambda: False)
        monkeypatch.delitem(meeting.ASKS, "psycopg")  # a plain dict
    with FaultProxy.before(fresh_database("pg18").url("psycopg")) as proxy:
        said = told(capsys, proxy.url)
        assert (said[BEGIN], said[EARLY], said[ONE_QUESTION]) == (known, known, known)
        assert said[PLAIN_READS] is said[NO_ROLLBACK] is True
        with Sessions(proxy.url) as door:

            def trips(kind: str) -> int:
                unit: Any = getattr(door, kind)
                with proxy.counting() as counted, unit() as session:
                    session.execute(sa.text("select 1"))
                return counted.round_trips

            first = trips("begin")
            assert (first <= 5) is said[ONE_QUESTION]
            assert trips("begin") == (2 if said[BEGIN] else 3)
            trips("read")
            assert trips("read") == 1
