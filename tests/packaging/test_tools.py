"""The commands that fetch engines and make environments: quiet when done, one sentence when they cannot."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tools import engines, environment

from tests.engines import finders


@pytest.fixture
def empty_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Nothing is found, and what is fetched goes to a folder of the test, which is returned."""

    def find(engine: str) -> finders.Binaries:
        raise finders.EngineMissing(finders.missing(engine))

    monkeypatch.setattr(finders, "find", find)
    monkeypatch.setattr(finders, "find_all_postgres", tuple)
    monkeypatch.setattr(finders, "forget", lambda: None)
    monkeypatch.setattr(engines, "STORE", tmp_path)
    monkeypatch.setattr(engines, "STAMP", tmp_path / "stamp.json")
    return tmp_path


@pytest.mark.usefixtures("empty_machine")
class TestWithoutApt:
    """A machine without apt, as most are."""

    @pytest.fixture(autouse=True)
    def no_apt(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """No program is found."""
        monkeypatch.setattr(shutil, "which", lambda name: None)

    @pytest.mark.parametrize(("words", "code"), [(["fetch"], 1), (["fetch", "--optional"], 0)])
    def test_fetch_says_so_in_one_sentence(
        self, words: list[str], code: int, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """It fails, unless the engines were optional."""
        assert engines.main(words) == code
        said = capsys.readouterr().err
        assert said.startswith("apt-get is not on this machine, so ")
        assert said.count("\n") == 1


@pytest.mark.usefixtures("empty_machine")
def test_list_says_how_to_get_each(capsys: pytest.CaptureFixture[str]) -> None:
    """One line for each engine, with the command that brings it."""
    assert engines.main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["pg15", "pg18", "mariadb", "galera", "pgbouncer"]
    assert all("get it: python " in line for line in lines)


def test_what_the_packages_lack_is_asked_for_once(
    empty_machine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The stamp remembers it, so that the next run needs no network; `--again` asks anew."""
    asked: list[tuple[str, ...]] = []

    def bring(names: list[str]) -> dict[str, str]:
        asked.append(tuple(names))
        return dict.fromkeys(names, "apt knows no such package")

    monkeypatch.setattr(engines, "_bring", bring)
    assert engines.main(["fetch"]) == 1
    assert engines.main(["fetch", "--optional"]) == 0
    assert asked == [tuple(engines.PACKAGES)]
    assert "pg15 is not obtainable here: apt knows no such package" in capsys.readouterr().err
    assert engines.main(["fetch", "--again"]) == 1
    assert len(asked) == 2
    assert (empty_machine / "stamp.json").exists()


def test_nothing_is_fetched_when_all_is_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Then neither apt nor network is touched."""
    monkeypatch.setattr(engines, "STORE", tmp_path)
    monkeypatch.setattr(engines, "STAMP", tmp_path / "stamp.json")
    monkeypatch.setattr(engines, "_is_found", lambda engine: True)
    monkeypatch.setattr(engines, "_bring", lambda names: pytest.fail("fetched again"))
    assert engines.main(["fetch"]) == 0


def test_the_pythons_are_supported_ones_and_run() -> None:
    """Each path answers with a supported version, one for each version, oldest first."""
    found = environment.pythons()
    said = [subprocess.run([p, "-V"], capture_output=True, text=True, check=True).stdout.split()[1] for p in found]
    versions = [".".join(version.split(".")[:2]) for version in said]
    assert versions == [version for version in environment.SUPPORTED if version in versions]
    assert ".".join(map(str, sys.version_info[:2])) in versions


def test_a_folder_of_another_user_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """PYENV_ROOT may have come along through `su`; the Pythons of the PATH are found all the same."""

    def refused(folder: Path, pattern: str) -> list[Path]:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(Path, "glob", refused)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin")
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    found = [
        subprocess.run([path, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
        for path in environment.pythons()
    ]
    assert ".".join(map(str, sys.version_info[:2])) in found


def test_an_environment_that_is_up_to_date_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second call starts no process; a changed list of packages installs again."""
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("")
    calls: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        return subprocess.CompletedProcess(command, 0, stdout="pip 26.0 from here", stderr="")

    monkeypatch.setattr(subprocess, "run", run)
    assert environment.make(tmp_path / "venv", requirements) == 0
    assert any("--require-hashes" in call for call in calls)
    calls.clear()
    assert environment.make(tmp_path / "venv", requirements) == 0
    assert calls == []
    requirements.write_text("anyio==4.16.0\n")
    assert environment.make(tmp_path / "venv", requirements) == 0
    assert calls != []
    assert "installing requirements.txt into venv/" in capsys.readouterr().out
