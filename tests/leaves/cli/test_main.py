"""The command `polysession` itself: it names the commands and imports none of them before it is run."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

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
        assert process.wait() == 1
