"""The command `polysession` itself: it names the commands and imports none of them before it is run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from polysession.cli import main


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a new interpreter."""
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


def test_without_cyclopts_the_command_that_installs_it_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2 and the pip command; no traceback."""
    monkeypatch.setitem(sys.modules, "cyclopts", None)
    with pytest.raises(SystemExit) as ended:
        main.run()
    assert ended.value.code == 2
    assert 'pip install "polysession[cli]"' in capsys.readouterr().err


def test_importing_it_needs_no_optional_package() -> None:
    """The module can be imported where cyclopts and rich are not installed."""
    code = "import sys; sys.modules.update(cyclopts=None, rich=None); import polysession.cli.main"
    result = python(code)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize(("option", "text"), [("--version", version("polysession")), ("--help", "demo")])
def test_commands_are_imported_when_they_are_run(option: str, text: str) -> None:
    """--version and --help answer without importing a command."""
    code = (
        "import atexit, sys; from polysession.cli.main import run\n"
        "commands = ('polysession.demo', 'polysession.cli.check')\n"
        "atexit.register(lambda: print([name for name in sys.modules if name.startswith(commands)]))\n"
        "run()"
    )
    result = python(code, option)
    assert (result.returncode, result.stderr) == (0, "")
    assert text in result.stdout
    assert result.stdout.rstrip().endswith("[]")


def test_the_exit_code_of_a_command_is_the_exit_code() -> None:
    """What a command returns is how the process ends, and its options are checked."""
    run = "from polysession.cli.main import run; run()"
    refused = python(run, "demo", "--databases", "0")
    assert refused.returncode == 2
    assert "--databases: expected" in refused.stderr
    assert python(run, "demo", "--no-such-option").returncode != 0


@pytest.mark.parametrize("command", ["check", "explain", "init-db", "outcome"])
def test_the_configuration_has_one_name(command: str, tmp_path: Path) -> None:
    """Whatever the command: who knows one of them knows all."""
    words = ["some-unit"] if command == "outcome" else []
    said = python(
        "from polysession.cli.main import run; run()", command, *words, "--config", str(tmp_path / "nowhere.toml")
    )
    assert "nowhere.toml" in said.stdout + said.stderr
    assert "option" not in said.stdout + said.stderr


@pytest.mark.parametrize("number", ["1.5", "2.0", "1e3", "inf", "many"])
def test_whole_numbers(number: str) -> None:
    """What is no whole number is refused where one is expected, and not rounded."""
    refused = python("from polysession.cli.main import run; run()", "demo", "--sessions", number)
    assert refused.returncode == 2
    assert f'expected a whole number, found "{number}"' in refused.stderr + refused.stdout


@pytest.mark.parametrize(("words", "code"), [(["check", "--frob"], 2), (["outcome", "--frob"], 4), (["frob"], 2)])
def test_the_exit_code_for_words_that_are_not_known(words: list[str], code: int) -> None:
    """It is none by which a command says what it found: 2 from `outcome` means that the unit is lost."""
    assert python("from polysession.cli.main import run; run()", *words).returncode == code


def test_a_reader_that_goes_away_causes_no_traceback() -> None:
    """`polysession demo --help | head -0` ends quietly."""
    run = "from polysession.cli.main import run; run()"
    with subprocess.Popen(
        [sys.executable, "-c", run, "demo", "--scale", "0.001", "--seconds", "0.1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert "Traceback" not in process.stderr.read()
        assert process.wait() == 128 + signal.SIGPIPE


def test_a_command_that_broke_is_not_taken_for_one_that_warns() -> None:
    """Where the output cannot be written the code is none of those that a command's findings have."""
    run = "from polysession.cli.main import run; run()"
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [sys.executable, "-c", run, "check", "sqlite://"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert result.returncode == 70
    assert "No space left on device" in result.stderr


def test_no_output_at_all() -> None:
    """With a closed standard output there is still the exit code."""
    run = "import sys; sys.stdout = None; from polysession.cli.main import run; run()"
    result = python(run, "check", "sqlite://")
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
@pytest.mark.parametrize("more", [(), ("--async",)], ids=["threads", "tasks"])
def test_a_signal_ends_what_was_started(tmp_path: Path, number: signal.Signals, more: tuple[str, ...]) -> None:
    """A demonstration that is ended by a signal removes its files and says by its exit code which it was."""
    run = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    run += "signal.signal(signal.SIGHUP, signal.SIG_DFL); "  # ignored by whatever is run by nohup
    run += "from polysession.cli.main import run; run()"
    with subprocess.Popen(
        [sys.executable, "-c", run, "demo", "--seconds", "60", "--scale", "0.001", "--sessions", "2", *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as process:
        assert process.stdout is not None
        assert any("running" in line for line in process.stdout)
        assert list(tmp_path.iterdir())
        process.send_signal(number)
        process.stdout.read()
        assert process.wait() == 128 + number
    assert list(tmp_path.iterdir()) == []
