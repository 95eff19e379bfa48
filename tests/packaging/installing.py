"""New environments with the built wheel: with what one extra declares, and nothing else. Needs no network.

The wheel is built and installed by pip. The packages that it declares are taken from the environment that runs the
tests, file by file as their own records list them.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tools.environment import pip_for

from tests.engines.finders import PROJECT

__all__ = ["Environment", "build", "closure", "install"]


class Environment:
    """A virtual environment in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "bin" / "python"

    @property
    def packages(self) -> Path:
        """Where its packages are."""
        return next((self.folder / "lib").glob("python*")) / "site-packages"

    @property
    def own(self) -> Distribution:
        """Ours, as it is installed there."""
        (found,) = self.packages.glob("polysession-*.dist-info")
        return Distribution.at(found)

    def run(self, *words: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a program of this environment in an empty place: no `PYTHON...` of the caller's, warnings are errors."""
        cwd = self.folder / "here"
        cwd.mkdir(exist_ok=True)
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "POLYSESSION"))}
        program, *rest = words
        return subprocess.run(
            [self.folder / "bin" / program, *rest],
            cwd=cwd,
            env={**clean, "PYTHONWARNINGS": "error", **variables},
            capture_output=True,
            text=True,
            check=False,
        )

    def python_says(self, code: str, *words: str) -> str:
        """What `code` prints. Raises `AssertionError` with its complaint if it fails or complains."""
        done = self.run("python", "-c", code, *words)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr or done.stdout
        return done.stdout

    def pip(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """Run pip for this environment, from outside of it and without an index."""
        return subprocess.run(
            [*_pip(), "--python", str(self.python), *words],
            env={**os.environ, "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
            capture_output=True,
            text=True,
            check=False,
        )


def build(folder: Path) -> Path:
    """The wheel of the project, built into `folder` by the pinned build system."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def install(wheel: Path, folder: Path, extra: str = "") -> Environment:
    """A new environment with the wheel, and what it declares for `extra`; for "" what it declares at any rate."""
    venv.create(folder, symlinks=True)
    made = Environment(folder)
    done = made.pip("install", "--no-deps", wheel)
    assert done.returncode == 0, done.stderr
    for name in sorted(closure(made.own.requires or [], extra)):
        _place(distribution(name), made.packages)
    return made


@functools.cache
def _pip() -> tuple[str, ...]:
    """A pip that installs into other environments: that of any Python here, or one that is unpacked for it."""
    found = pip_for(Path(sys.executable))
    assert found is not None
    return tuple(found[:3])


def closure(requirements: list[str], extra: str) -> set[str]:
    """The normal names of all packages that `requirements`, and what these require, name for this Python.

    Raises `PackageNotFoundError` for one that is not in the environment that runs the tests.
    """
    found: set[str] = set()
    seen: set[tuple[str, str]] = set()
    own = list(requirements)
    left = [(own, extra)]
    while left:
        lines, asked = left.pop()
        for name, wanted in _named(lines, asked):
            if (name, wanted) in seen:
                continue
            seen.add((name, wanted))
            if name == "polysession":  # an extra of our own that includes another
                left.append((own, wanted))
                continue
            found.add(name)
            left.append((distribution(name).requires or [], wanted))
    return found


def _named(lines: list[str], extra: str) -> Iterator[tuple[str, str]]:
    """Each name with each of the extras that it is wanted with; "" for the package itself."""
    for line in lines:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            for wanted in ("", *requirement.extras):
                yield canonicalize_name(requirement.name), wanted


def _place(package: Distribution, packages: Path) -> None:
    """Link the files of an installed package, the compiled ones too, into another environment; else copy them."""
    for file in package.files or ():
        source = Path(str(package.locate_file(file)))
        if ".." in file.parts or not source.exists():
            continue
        target = packages / file
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            continue  # packages of one namespace
        try:
            target.hardlink_to(source)
        except OSError:
            shutil.copy2(source, target)
