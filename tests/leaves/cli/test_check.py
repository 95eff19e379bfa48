"""The command without a server: SQLite, configurations that are wrong, ports where nobody answers."""

from __future__ import annotations

import json
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from polysession.cli.check import check
from polysession.errors import MissingExtra

PASSWORD = "hunter2%3Ap4ss"  # as a URL has it  # noqa: S105  # it opens nothing
SECRETS = ("hunter2", "p4ss")
Run = Callable[..., tuple[int, str]]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty current directory, and an environment that names no configuration."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("POLYSESSION_CONFIG", raising=False)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """The exit code and the output of a run; no output has any part of the password."""

    def run(file: str | None = None, **options: Any) -> tuple[int, str]:
        code = check(file, **options)
        output = capsys.readouterr()
        assert not output.err
        assert not [secret for secret in SECRETS if secret in output.out]
        return code, output.out

    return run


@pytest.fixture
def closed_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    return port


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections and never says a word; at the end the waiting threads are let go."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(8)
        yield listening.getsockname()[1]
    for thread in threading.enumerate():
        if thread.name.startswith("inspect "):
            thread.join(20)


def write(path: Path, text: str) -> str:
    """The path of a new file with this text."""
    path.write_text(text)
    return str(path)


def test_a_file_that_is_well(run: Run, tmp_path: Path) -> None:
    """Everything is told of an SQLite database that is there, and nothing about it changes."""
    file = tmp_path / "shop.db"
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    before = file.read_bytes(), sorted(tmp_path.iterdir())
    code, output = run(f"sqlite:///{file}")
    assert code == 0
    assert f"  engine       SQLite {sqlite3.sqlite_version}\n" in output
    assert f"  file         {file}, {file.stat().st_size} bytes, journal rollback\n" in output
    assert output.endswith("\nok: 1 endpoint\n")
    assert (file.read_bytes(), sorted(tmp_path.iterdir())) == before


@pytest.mark.parametrize(
    ("url", "code", "expected"),
    [
        ("sqlite://", 0, "in memory"),
        ("sqlite:///new.db", 0, "new.db, not there yet"),
        ("sqlite:///file:new.db?uri=true", 0, "new.db, not there yet"),
        ("sqlite:///file:a%2520b.db?uri=true", 0, "a b.db, not there yet"),
        ("sqlite:///gone/new.db", 2, "error [sqlite-folder] default/primary: there is no folder "),
        ("sqlite:///text.db", 2, "error [sqlite-not-a-database] default/primary: "),
        ("sqlite:///folder", 2, "error [sqlite-not-a-database] default/primary: "),
        ("sqlite:///empty.db", 0, "empty.db, 0 bytes\n"),
        ("sqlite+aiosqlite:///new.db", 0, "AsyncSessions: by aiosqlite"),
    ],
)
def test_a_file(run: Run, tmp_path: Path, url: str, code: int, expected: str) -> None:
    """What may be found in the place of an SQLite file; none is made."""
    (tmp_path / "text.db").write_text("not a database")
    (tmp_path / "empty.db").touch()
    (tmp_path / "folder").mkdir()
    found, output = run(url)
    assert found == code
    assert expected in output
    assert not (tmp_path / "new.db").exists()


def test_which_configuration(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The argument goes before the environment, and that before the file in the current directory."""
    write(tmp_path / "polysession.toml", '[databases]\nhere = "sqlite://"\n')
    assert "here/primary" in run()[1]
    monkeypatch.setenv("POLYSESSION_CONFIG", write(tmp_path / "other.toml", '[databases]\nother = "sqlite://"\n'))
    assert "other/primary" in run()[1]
    assert "third/primary" in run(write(tmp_path / "third.toml", '[databases]\nthird = "sqlite://"\n'))[1]
    monkeypatch.setenv("POLYSESSION_CONFIG", "sqlite://")
    assert "default/primary" in run()[1]
    monkeypatch.setenv("POLYSESSION_CONFIG", "")
    assert "here/primary" in run()[1]


def test_every_endpoint(run: Run, tmp_path: Path) -> None:
    """Every database and every replica is looked at; a replica that is its primary is told."""
    file = write(
        tmp_path / "polysession.toml",
        '[databases.a]\nurl = "sqlite:///a.db"\nreplicas = ["sqlite:///./a.db"]\n[databases.b]\nurl = "sqlite:///b.db"\n',
    )
    code, output = run(file, json=True)
    assert code == 1
    read = json.loads(output)
    assert [endpoint["endpoint"] for endpoint in read["endpoints"]] == ["a/primary", "a/replica-1", "b/primary"]
    assert [finding["code"] for finding in read["findings"]] == ["replica-is-primary"]
    assert (read["source"], read["verdict"]) == (file, "warnings")


WRONG = [
    ("", "databases: expected at least one database, found none"),
    ("[databases", "expected a TOML file that can be read, found text that is not TOML"),
    (
        f'[databases]\na = "postgres://u:{PASSWORD}@h/d"\nb = "sqlite://"\nc.url = 5\n',
        "databases.a: expected a known backend",
    ),
    (f'[databases]\na = "postgresql://u:{PASSWORD}/x@h/d"\n', "databases.a: expected a single @, before the host"),
    ('[databases.a]\nurl = "sqlite://"\npool = { size = 0 }\n', "databases.a.pool.size: expected a whole number"),
    ('[databases]\na = "${NOT_SET}"\n', "databases.a: expected the environment variable NOT_SET"),
]


@pytest.mark.parametrize(("toml", "expected"), WRONG)
def test_a_wrong_configuration(run: Run, tmp_path: Path, toml: str, expected: str) -> None:
    """Each key that is wrong is named with its path, nothing is reached, and the exit code is 2."""
    code, output = run(write(tmp_path / "x.toml", toml))
    assert code == 2
    assert expected in output
    assert output.startswith(f"{tmp_path / 'x.toml'}: no database was asked\n")


def test_all_problems_at_once(run: Run, tmp_path: Path) -> None:
    """A configuration with two wrong keys tells both, in the document too."""
    file = write(tmp_path / "x.toml", f'[databases]\na = "postgres://u:{PASSWORD}@h/d"\nc.url = 5\n')
    code, output = run(file, json=True)
    read = json.loads(output)
    assert (code, read["exit_code"], read["endpoints"]) == (2, 2, [])
    assert [problem["path"] for problem in read["problems"]] == ["databases.a", "databases.c.url"]


@pytest.mark.parametrize(
    ("source", "variable", "do"),
    [
        ("gone.toml", "", "correct the path; or give the URL of one database: polysession check sqlite:///shop.db"),
        (f"postgresql:u:{PASSWORD}@h", "", "correct the path; or give the URL of one database"),
        (None, "", "name a file: polysession check FILE; or set POLYSESSION_CONFIG; or give the URL of one database"),
        (None, "gone.toml", "correct POLYSESSION_CONFIG, which names it; or name a file: polysession check FILE"),
        (".", "", "name the file in it"),
        ("broken.toml", "", "correct that place; texts stand in quotes"),
    ],
)
def test_no_configuration(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str | None, variable: str, do: str
) -> None:
    """No file, a folder, a mistyped URL, no TOML: what to do depends on who named it, and a URL is not repeated."""
    (tmp_path / "broken.toml").write_text("[databases")
    monkeypatch.setenv("POLYSESSION_CONFIG", variable)
    code, output = run(source)
    assert code == 2
    assert f"  do:  {do}" in output


def test_a_missing_driver(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an error of the configuration, with the command that installs it."""
    monkeypatch.setattr("polysession.config.drivers.Driver.importable", property(lambda driver: not driver.package))
    code, output = run(f"postgresql://u:{PASSWORD}@h/d")
    assert code == 2
    assert 'do:  pip install "polysession[postgres]"' in output


def test_a_driver_that_one_door_lacks(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other door is told what to install; the endpoint is reached all the same."""
    monkeypatch.setattr("polysession.config.drivers.Driver.importable", property(lambda driver: not driver.package))
    code, output = run("sqlite://")
    assert code == 0
    assert "AsyncSessions: its driver is not installed: pip install " in output


@pytest.mark.parametrize("timeout", [0, -1.0, float("nan"), 1e9])
def test_a_wrong_timeout(run: Run, timeout: float) -> None:
    """A time within which nothing can be reached is refused, not tried."""
    code, output = run("sqlite://", timeout=timeout)
    assert code == 2
    assert "--timeout: expected seconds above 0" in output


@pytest.mark.parametrize(
    "driver", ["postgresql+psycopg", "postgresql+asyncpg", "mysql+pymysql", "mysql+asyncmy", "mariadb+pymysql"]
)
def test_nobody_listens(run: Run, closed_port: int, driver: str) -> None:
    """One sentence of the driver, what to do, and exit code 3; nothing of the password."""
    code, output = run(f"{driver}://u:{PASSWORD}@127.0.0.1:{closed_port}/d", json=True, timeout=20)
    assert code == 3
    (endpoint,) = json.loads(output)["endpoints"]
    assert (endpoint["status"], endpoint["kind"]) == ("unreachable", "connect failed")
    assert "refused" in endpoint["reason"].lower()
    assert "\n" not in endpoint["reason"]
    assert endpoint["do"] == ["see that the server runs and that host and port are right and not blocked"]


def test_an_argument_that_the_driver_does_not_take(run: Run, closed_port: int) -> None:
    """The item of the query, the driver's own words, and the word that was meant; nothing of the password."""
    url = f"postgresql+asyncpg://u:{PASSWORD}@127.0.0.1:{closed_port}/d?sslmode=require"
    code, output = run(url, json=True, timeout=20)
    assert code == 3
    (endpoint,) = json.loads(output)["endpoints"]
    assert endpoint["reason"].startswith("`sslmode` in the query of databases.default.url: ")
    assert "unexpected keyword argument 'sslmode'" in endpoint["reason"]
    assert endpoint["do"][0].startswith("write `ssl`")


def test_nobody_answers(run: Run, silent_port: int, tmp_path: Path) -> None:
    """Servers that never answer cost the time once, whatever their driver, and hide nothing of the others."""
    drivers = ("postgresql+psycopg", "postgresql+asyncpg", "mysql+pymysql", "mysql+asyncmy")
    urls = [f'd{n} = "{driver}://u:{PASSWORD}@127.0.0.1:{silent_port}/d"\n' for n, driver in enumerate(drivers)]
    file = write(tmp_path / "x.toml", f'[databases]\nwell = "sqlite://"\n{"".join(urls)}')
    code, output = run(file, json=True, timeout=1.5)
    assert code == 3
    well, *silent = json.loads(output)["endpoints"]
    assert well["status"] == "reached"
    assert [endpoint["reason"] for endpoint in silent] == ["no answer within 1.5 s"] * 4
    assert [endpoint["driver"] for endpoint in silent] == ["psycopg", "asyncpg", "pymysql", "asyncmy"]
    assert silent[0]["do"][-1] == "allow more time with --timeout"


@pytest.fixture
def run_on_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """What a run writes to a terminal of 80 columns."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)

    def run(file: str) -> str:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)  # here: before the test another stream stood there
        check(file)
        return capsys.readouterr().out

    return run


def test_on_a_terminal(run_on_terminal: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is painted and wrapped, unless the environment wants no colours."""
    assert "\x1b[31merror [sqlite-folder]" in run_on_terminal("sqlite:///gone/x.db")
    monkeypatch.setenv("NO_COLOR", "1")
    lines = run_on_terminal("sqlite:///gone/x.db").replace("\x1b[1m", "").replace("\x1b[0m", "").splitlines()
    assert not [line for line in lines if "\x1b" in line or (len(line) > 80 and "/gone" not in line)]


def test_on_a_terminal_without_rich(run_on_terminal: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is written plain."""
    monkeypatch.setitem(sys.modules, "rich.console", None)
    written = run_on_terminal("sqlite://")
    assert "\x1b" not in written
    assert written.endswith("ok: 1 endpoint\n")


def test_the_command_line(tmp_path: Path) -> None:
    """`polysession check FILE --json --timeout 9` ends the process with the exit code."""
    code = "import sys; from polysession.cli.main import run; sys.argv[0] = 'polysession'; run()"
    words = ["check", "sqlite:///gone/x.db", "--json", "--timeout", "9"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert (done.returncode, done.stderr) == (2, "")
    assert json.loads(done.stdout)["verdict"] == "errors"


def test_our_own_mistake_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that no driver raised is none of the server's: it comes out as it is."""

    def fail(*_: object) -> None:
        raise MissingExtra("a mistake of ours")

    monkeypatch.setattr("polysession._shell.inspect._look_at", fail)
    with pytest.raises(MissingExtra, match="a mistake of ours"):
        check("sqlite://")
