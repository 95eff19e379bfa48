"""Makes a virtual environment with pinned packages and polysession itself, and finds the Pythons of this machine.

    python tools/environment.py make .venv requirements-dev.txt    nothing to do, and no network, when it is up to date
    python tools/environment.py pythons                            a path for each Python 3.11 to 3.13, one a line

The environment is of the Python that runs this file. Neither root nor `ensurepip` is needed: where a pip exists for
any Python here, it installs into the new environment from outside. polysession is installed as a link to `src/`,
built by the pinned hatchling. Only the standard library is used.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator, Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
SUPPORTED = ("3.11", "3.12", "3.13")
OUTER_PIP = (22, 3)
"""The first pip with `--python` (its changelog, 22.3)."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(description="Virtual environments for the Makefile.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("pythons", help="print the path of each supported Python")
    make_parser = commands.add_parser("make", help="make or update an environment")
    make_parser.add_argument("folder", type=Path)
    make_parser.add_argument("requirements", type=Path)
    options = parser.parse_args(argv)
    if options.command == "pythons":
        print("\n".join(pythons()))
        return 0
    if sys.version_info < (3, 11):  # noqa: UP036 - whoever has an older one shall read a sentence
        print(f"polysession needs Python 3.11 or newer; this is {sys.version.split()[0]}", file=sys.stderr)
        return 1
    return make(options.folder.absolute(), options.requirements.absolute())


def make(folder: Path, requirements: Path) -> int:
    """Make `folder` or bring it up to date; its stamp tells what it was made of. Returns an exit code."""
    stamp = folder / "made-of"
    wanted = _digest(requirements, PROJECT / "pyproject.toml")
    if stamp.exists() and stamp.read_text() == wanted:
        return 0
    python = folder / "bin" / "python"
    if not (python.exists() and _runs([str(python), "--version"])):
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, symlinks=True)
    pip = pip_for(python)
    if pip is None:
        print(
            "no pip was found: install it for any Python here (Debian: python3-pip or python3-venv), then try again",
            file=sys.stderr,
        )
        return 1
    print(f"installing {requirements.name} into {folder.name}/", flush=True)
    quiet = ["install", "--quiet", "--disable-pip-version-check", "--no-warn-script-location"]
    own = ["--no-deps", "--no-build-isolation", "--no-index", "--editable", str(PROJECT)]
    # The list is complete, so nothing is resolved: pip 23.2 asks for a hash of the newest `coverage[toml]` otherwise.
    pinned = ["--no-deps", "--require-hashes", "--requirement", str(requirements)]
    for words in (pinned, own):
        done = subprocess.run([*pip, *quiet, *words], check=False)
        if done.returncode != 0:
            return done.returncode
    stamp.write_text(wanted)
    return 0


def pip_for(python: Path) -> list[str] | None:
    """A command that installs into the environment of `python`; the environment's own pip is the last choice."""
    for outer in (sys.executable, *pythons(), "python3"):
        if _pip_version(outer) >= OUTER_PIP:
            return [outer, "-m", "pip", "--python", str(python)]
    if _runs([str(python), "-m", "ensurepip"]):
        return [str(python), "-m", "pip"]
    return None


def _pip_version(python: str) -> tuple[int, ...]:
    try:
        said = subprocess.run([python, "-m", "pip", "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ()
    return tuple(int(part) for part in said.split()[1].split(".")[:2] if part.isdigit())


def pythons() -> list[str]:
    """The path of one interpreter for each supported version that runs here, oldest first."""
    found: dict[str, str] = {}
    for version, path in _candidates():
        if version not in found and _runs(
            [path, "-c", f"import sys; assert '%d.%d' % sys.version_info[:2] == {version!r}"]
        ):
            found[version] = path
    return [found[version] for version in SUPPORTED if version in found]


def _candidates() -> Iterator[tuple[str, str]]:
    """Names on PATH first; then the folders of pyenv, whose shims answer for the selected versions only."""
    home = Path(os.environ.get("PYENV_ROOT") or Path(os.path.expanduser("~")) / ".pyenv")  # noqa: PTH111 - Path.home raises where there is none
    for version in SUPPORTED:
        if path := shutil.which(f"python{version}"):
            yield version, path
        try:
            folders = sorted(home.glob(f"versions/{version}.*"), reverse=True)
        except OSError:  # a folder of another user, which Python 3.12 and older do not pass over
            continue
        for folder in folders:
            yield version, str(folder / "bin" / "python")


def _runs(command: Sequence[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _digest(*paths: Path) -> str:
    """What an environment is made of: the content of `paths`, this Python, and this folder."""
    digest = hashlib.sha256(f"{sys.version} {sys.base_prefix} {PROJECT}".encode())
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest() + "\n"


if __name__ == "__main__":
    sys.exit(main())
