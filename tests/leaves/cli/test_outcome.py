"""`polysession init-db` and `polysession outcome`: the table is made or shown, units are asked for by id and key."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from polysession import Sessions
from polysession.cli.init_db import init_db
from polysession.cli.outcome import outcome
from polysession.policy import unit_ids


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Of an empty database."""
    return f"sqlite:///{tmp_path / 'shop.db'}"


def test_the_table_is_made(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A first run makes it, a second one changes nothing, and units use it."""
    for _ in range(2):
        assert init_db(url) == 0
        assert "polysession_commit is there" in capsys.readouterr().out
    with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
        assert connection.execute("select count(*) from polysession_commit").fetchall() == [(0,)]
    connection.close()


def test_the_table_is_shown(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """--print shows the SQL of each database and makes nothing."""
    assert init_db(url, print=True) == 0
    assert "CREATE TABLE IF NOT EXISTS polysession_commit" in capsys.readouterr().out
    assert not Path(url.removeprefix("sqlite:///")).exists()
    assert init_db("postgresql+asyncpg://db1/shop", print=True) == 0
    assert "unit uuid NOT NULL PRIMARY KEY" in capsys.readouterr().out


def test_an_asynchronous_driver_will_do(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The configuration of an application for asyncio is taken as it is."""
    assert init_db(url.replace("sqlite:", "sqlite+aiosqlite:")) == 0
    assert "is there" in capsys.readouterr().out


def test_wrong_words_are_told(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing file, an unknown database, and what is no id end in their own exit codes."""
    assert init_db(str(tmp_path / "none.toml")) == 2
    assert init_db(url, database="orders") == 2
    capsys.readouterr()
    assert init_db(f"sqlite:///{tmp_path}/no/such/folder.db") == 1
    said = capsys.readouterr().err
    assert said == "default: unable to open database file\n  do:  see what is wrong there: polysession check\n"
    assert init_db(url) == 0
    capsys.readouterr()
    cases: tuple[tuple[dict[str, Any], str], ...] = (
        ({"unit_id": "x"}, "is not the id of a unit"),
        ({}, "expected the id of a unit or its key"),
        ({"unit_id": "x", "key": "y"}, "and not both"),
        ({"key": "x", "timeout": 0.0}, "--timeout: expected seconds above 0, found 0"),
        ({"key": "x", "timeout": float("nan")}, "--timeout: expected seconds above 0, found nan"),
    )
    for words, told in cases:
        assert outcome(config=url, **words) == 4
        assert told in capsys.readouterr().err


@pytest.mark.parametrize("wrong", ["sqlite:///{}/none.db", "sqlite+aiosqlite:///{}/none.db", "sqlite://"])
def test_a_database_that_is_not_there(wrong: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A path with a mistake in it says nothing of a unit, and no file is made."""
    assert outcome(key="order-1", config=wrong.format(tmp_path)) == 4
    assert "there is no database at sqlite" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_not_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no configuration is found it is said how to name one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("POLYSESSION_CONFIG", raising=False)
    assert outcome(key="order-1") == 4
    assert "name it: --config" in capsys.readouterr().err
    assert init_db() == 2
    assert "name it: polysession init-db" in capsys.readouterr().err
    assert init_db("none.toml") == 2
    assert "do:  correct the path" in capsys.readouterr().err


def test_tenants(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The table is made, or shown, for each tenant; a unit is asked for in the database of the tenant that is named."""
    file = tmp_path / "polysession.toml"
    urls = {name: f"sqlite:///{tmp_path / name}.db" for name in ("acme", "globex")}
    file.write_text("[databases.app.tenants]\n" + "".join(f'{name} = "{url}"\n' for name, url in urls.items()))
    config = str(file)
    assert init_db(config) == 0
    made = "app/tenant-acme: the table polysession_commit is there\napp/tenant-globex: the table"
    assert capsys.readouterr().out.startswith(made)
    assert init_db(config, print=True) == 0
    assert "-- app/tenant-globex, sqlite\n" in capsys.readouterr().out
    with Sessions.from_toml(config) as sessions, sessions.begin(tenant="globex", key="order-1"):
        pass
    assert outcome(key="order-1", config=config, tenant="globex") == 0
    assert outcome(key="order-1", config=config, tenant="acme") == 1
    capsys.readouterr()
    assert outcome(key="order-1", config=config) == 4
    assert "no tenant was named" in capsys.readouterr().err
    assert outcome(key="order-1", config=config, tenant="initech") == 4
    assert "'app' has no tenant 'initech'" in capsys.readouterr().err
    assert outcome(key="order-1", config=urls["acme"], tenant="acme") == 4
    assert "'default' has no tenants" in capsys.readouterr().err


def test_what_came_of_a_unit(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """By its key or its id: committed, or rolled back; who was asked for never commits afterwards."""
    with Sessions(url) as sessions, sessions.begin(key="order-1"):
        pass
    assert outcome(key="order-1", config=url) == 0
    assert capsys.readouterr().out.startswith("committed")
    assert outcome(key="order-2", config=url) == 1
    unit = unit_ids.new_id(time.time(), 1, 0)
    for _ in range(2):
        assert outcome(unit, config=url) == 1
        assert capsys.readouterr().out.startswith("rolled back")
