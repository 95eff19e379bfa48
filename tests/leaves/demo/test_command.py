"""`polysession demo` from its options to its exit code."""

from __future__ import annotations

import json
import re
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from io import StringIO
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.engines.targets import Servers

from polysession.demo import faults
from polysession.demo.command import demo
from polysession.demo.defects import VARIABLE, ForgetfulPayments
from polysession.demo.servers import ServerFailed, postgres_server

QUICK: dict[str, Any] = {"scale": 0.01, "sessions": 4, "seconds": 0.4}


@pytest.fixture(autouse=True)
def own_temporary_folder(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the demo puts its files, so that a test sees what it leaves; short enough for the path of a socket."""
    tmp_path_factory.getbasetemp()  # pytest's own folder is not to be made in this one, which goes with the test
    with tempfile.TemporaryDirectory(prefix="ps", dir="/tmp") as folder:
        monkeypatch.setattr("tempfile.tempdir", folder)
        yield Path(folder)


def document(capsys: pytest.CaptureFixture[str], **options: Any) -> tuple[int, dict[str, Any]]:
    """The exit code and the JSON document."""
    code = demo(json=True, **QUICK, **options)
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("async_", [False, True], ids=["threads", "tasks"])
def test_json_says_everything(capsys: pytest.CaptureFixture[str], async_: bool, own_temporary_folder: Path) -> None:
    """One document with the figures, the twelve conditions and what was left; nothing is left on disk."""
    code, found = document(capsys, async_=async_)
    assert code == 0
    assert found["ok"] is True
    assert found["problems"] == []
    assert found["door"] == ("AsyncSessions" if async_ else "Sessions")
    assert found["databases"] == ["db1", "db2"]
    assert [condition["number"] for condition in found["conditions"]] == list(range(1, 13))
    assert all(condition["holds"] for condition in found["conditions"])
    assert set(found["transactions"]) == {"new_order", "payment", "order_status", "delivery", "stock_level"}
    assert set(found["total"]) == {"committed", "rolled_back", "repeated", "failed", "p50", "p95"}
    assert found["total"]["committed"] == sum(found["committed_by_database"].values()) > 0
    assert found["told"] == found["found"]
    for left in ("sessions_left_open", "connections_left_checked_out", "connections_left_open"):
        assert found[left] == 0
    assert found["server_connections_left"] is None
    assert found["first_failure"] is None
    assert list(own_temporary_folder.iterdir()) == []


def test_a_defect_ends_with_exit_code_1(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The check can fail: the document names the conditions, and the rows with the numbers that disagree."""
    monkeypatch.setenv(VARIABLE, "warehouse-ytd")
    monkeypatch.setattr(ForgetfulPayments, "every", 1)
    code, found = document(capsys)
    assert code == 1
    assert found["ok"] is False
    failed = [condition for condition in found["conditions"] if not condition["holds"]]
    assert [condition["number"] for condition in failed] == [1, 8]
    assert all(condition["violations"] >= len(condition["examples"]) > 0 for condition in failed)
    assert set(failed[0]["examples"][0]) == {"database", "w_id", "w_ytd", "sum_d_ytd"}
    assert "condition 1 is violated" in found["problems"][0]


def test_text_ends_with_the_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    """Where there is no terminal: plain lines, one for each condition, the verdict last."""
    assert demo(**QUICK) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "Remote warehouses are taken from the same database" in lines[1]
    assert sum(line.startswith("PASS") for line in lines) == 12
    assert lines[-1] == "OK: 12 of 12 conditions hold"


def test_text_shows_what_is_wrong(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A violated condition says FAIL and shows the rows; the verdict says what is not as it must be."""
    monkeypatch.setenv(VARIABLE, "warehouse-ytd")
    monkeypatch.setattr(ForgetfulPayments, "every", 1)
    assert demo(**QUICK, databases=1) == 1
    out = capsys.readouterr().out
    assert "Remote warehouses" not in out
    assert re.findall(r"^FAIL +(\d+)", out, re.MULTILINE) == ["1", "8"]
    assert "condition 1: database db1, w_id 1, w_ytd" in out
    assert out.splitlines()[-1].startswith("NOT OK: 10 of 12 conditions hold; condition 1 is violated by")


def test_a_terminal_gets_live_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal the figures and the conditions come as tables of rich."""
    output = Terminal()
    monkeypatch.setattr(sys, "stdout", output)
    monkeypatch.setenv("TERM", "xterm")
    assert demo(**QUICK) == 0
    shown = output.getvalue()
    assert "New-Order" in shown
    assert "3.3.2" in shown
    assert "12 of 12 conditions hold" in shown


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"databases": 0}, "--databases"),
        ({"databases": 3, "warehouses": 2}, "--warehouses"),
        ({"scale": -1.0}, "--scale"),
        ({"sessions": 0}, "--sessions"),
        ({"seconds": 0.0}, "--seconds"),
        ({"engine": "oracle"}, "--engine"),
        ({"engine": "postgres", "keep": True}, "--keep"),
        ({"faults": True}, "--faults"),
        ({"faults": True, "engine": "sqlite"}, "--faults"),
    ],
)
def test_wrong_options_are_refused_before_anything_starts(
    capsys: pytest.CaptureFixture[str], own_temporary_folder: Path, options: dict[str, Any], complaint: str
) -> None:
    """Exit code 2 and a sentence that names the option; no file was made."""
    assert demo(**{**QUICK, **options}) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert f"{complaint}: expected" in told.err
    assert list(own_temporary_folder.iterdir()) == []


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration file with two SQLite databases of the user's own."""
    file = tmp_path / "polysession.toml"
    file.write_text(f'[databases]\nshop = "sqlite:///{tmp_path}/shop.db"\nstock = "sqlite:///{tmp_path}/stock.db"\n')
    return file


def tables(tmp_path: Path) -> set[str]:
    """The names of the tables in the user's first database."""
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        return {name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")}


@pytest.mark.parametrize("keep", [False, True], ids=["removed", "kept"])
def test_own_databases_get_prefixed_tables(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, config: Path, keep: bool
) -> None:
    """The user's own tables are left alone; the demo's carry a prefix and go at the end unless they are to stay."""
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        connection.execute("create table orders (mine)")
    code, found = document(capsys, config=config, keep=keep)
    assert code == 0
    assert found["databases"] == ["shop", "stock"]
    left = tables(tmp_path)
    assert "orders" in left
    assert sum(name.startswith("psdemo_") for name in left) == (9 if keep else 0)
    assert left - {"orders"} == {name for name in left if name.startswith("psdemo_")}


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"databases": 3}, "--databases: expected at most 2"),
        ({"databases": 0}, "--databases: expected at least 1, found 0"),
        ({"databases": -1}, "--databases: expected at least 1, found -1"),
        ({"engine": "sqlite"}, "--engine: expected nothing"),
    ],
)
def test_a_file_and_the_options_must_agree(
    capsys: pytest.CaptureFixture[str], config: Path, options: dict[str, Any], complaint: str
) -> None:
    """What the file says cannot be asked for otherwise."""
    assert demo(config=config, **QUICK, **options) == 2
    assert complaint in capsys.readouterr().err


def test_a_database_that_cannot_be_reached_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A database that cannot even be filled ends the run with its error and exit code 1."""
    file = tmp_path / "polysession.toml"
    file.write_text(f'[databases]\nshop = "sqlite:///{tmp_path}/missing/shop.db"\n')
    assert demo(config=file, **QUICK) == 1
    assert "unable to open database file" in capsys.readouterr().err


def test_kept_files_are_named(capsys: pytest.CaptureFixture[str], own_temporary_folder: Path) -> None:
    """With --keep the SQLite files stay where the document says."""
    _, found = document(capsys, keep=True)
    assert Path(found["kept"]).parent == own_temporary_folder
    assert {file.name for file in Path(found["kept"]).glob("*.db")} == {"db1.db", "db2.db"}


@pytest.fixture
def programs(servers: Servers) -> None:
    """The programs of PostgreSQL are here; without them the test is skipped, or fails where they are demanded."""
    servers.private("pg18")


@pytest.mark.pg
@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize("async_", [False, True], ids=["threads", "tasks"])
def test_postgres_is_started_and_stopped(
    capsys: pytest.CaptureFixture[str], own_temporary_folder: Path, async_: bool
) -> None:
    """A private server with two databases: consistent, and the server itself says that nobody is connected."""
    code, found = document(capsys, engine="postgres", async_=async_)
    assert found["problems"] == []
    assert code == 0
    assert found["server_connections_left"] == 0
    assert found["connections_left_open"] == 0
    assert list(own_temporary_folder.iterdir()) == []


BROKEN: dict[str, Any] = {"engine": "postgres", "faults": True, "seed": 3}


@pytest.mark.pg
@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize("async_", [False, True], ids=["threads", "tasks"])
def test_what_is_reported_is_there_whatever_breaks(
    capsys: pytest.CaptureFixture[str], own_temporary_folder: Path, monkeypatch: pytest.MonkeyPatch, async_: bool
) -> None:
    """Links, backends, the server and tasks break; with exact outcomes each transaction is done once."""
    monkeypatch.setattr(faults, "_SHARE", 0.15)
    monkeypatch.setitem(QUICK, "seconds", 4.0)
    code, found = document(capsys, async_=async_, **BROKEN)
    assert found["problems"] == []
    assert code == 0
    assert found["outcome"] == "exact"
    assert found["told"] == found["found"]
    broken = found["faults"]["broken"]
    happened = ["links cut at COMMIT", "backends ended", "server restarts", "found committed", "found rolled back"]
    assert all(broken[what] > 0 for what in happened), broken
    assert (broken.get("tasks cancelled", 0) > 0) is async_
    assert found["server_connections_left"] == 0
    assert list(own_temporary_folder.iterdir()) == []


@pytest.mark.pg
@pytest.mark.usefixtures("programs")
def test_what_breaks_is_done_twice_without_exact_outcomes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: the same run without exact outcomes. The conditions hold as well, and work was done twice."""
    monkeypatch.setattr(faults, "_SHARE", 0.15)
    monkeypatch.setitem(QUICK, "seconds", 4.0)
    code, found = document(capsys, outcome="plain", **BROKEN)
    assert code == 1
    assert all(condition["holds"] for condition in found["conditions"])
    assert sum(found["faults"]["unreported"].values()) > 0
    assert sum(found["faults"]["missing"].values()) == 0
    assert "done twice" in found["problems"][-1]


def test_outcomes_can_be_exact_where_nothing_breaks(capsys: pytest.CaptureFixture[str]) -> None:
    """--outcome exact alone: the same run, with a row for each unit."""
    code, found = document(capsys, outcome="exact")
    assert code == 0
    assert (found["outcome"], found["faults"]) == ("exact", None)


@pytest.mark.pg
@pytest.mark.usefixtures("programs")
def test_the_server_is_stopped_when_the_run_breaks_off(own_temporary_folder: Path) -> None:
    """Whatever leaves the block, the server is stopped and its folder removed."""
    server = postgres_server(["a"])
    place = server.__enter__()
    assert place.census is not None
    assert place.census() == 0
    assert list(own_temporary_folder.iterdir()) != []
    assert not server.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    with pytest.raises(psycopg.OperationalError):
        place.census()
    assert list(own_temporary_folder.iterdir()) == []


def test_a_server_that_does_not_start_is_told(
    own_temporary_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error has the end of the server's own words; nothing is left."""
    for name, words in (("initdb", "exit 0"), ("postgres", "echo no such luck; exit 1")):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\n{words}\n")
        program.chmod(0o755)
    monkeypatch.setenv("POLYSESSION_PG_BIN", str(tmp_path))
    with pytest.raises(ServerFailed, match="no such luck"), postgres_server(["a"]):
        pass
    assert list(own_temporary_folder.iterdir()) == []


class Terminal(StringIO):
    """An output that says it is a terminal."""

    def isatty(self) -> bool:
        """It is."""
        return True


@pytest.mark.parametrize("async_", [False, True], ids=["threads", "tasks"])
def test_a_server_that_is_down(capsys: pytest.CaptureFixture[str], tmp_path: Path, async_: bool) -> None:
    """It cannot be filled: exit code 1, what the driver says, the command that says more; no traceback, no password."""
    file = tmp_path / "down.toml"
    file.write_text('[databases]\na = "postgresql://app:hunter2@127.0.0.1:1/d"\n')  # nobody listens on port 1
    assert demo(config=file, async_=async_, **QUICK) == 1
    said = capsys.readouterr().err
    assert said.startswith("polysession demo: OperationalError: ")
    assert said.endswith(f"  do:  polysession check {file}\n")
    assert "Traceback" not in said
    assert "hunter2" not in said
