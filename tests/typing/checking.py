"""Runs mypy --strict and pyright over the files beside this one and compares what they find with what the files say.

A comment `# error: mypy[code,code] pyright[rule*2]` stands on the line of a wrong use; other lines have no error.
`python -m tests.typing.checking` does it from the command line: exit code 1 and a line for each difference.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["CHECKERS", "FOLDER", "Found", "compare", "expected", "files"]

FOLDER = Path(__file__).resolve().parent
PROJECT = FOLDER.parents[1]
_MARK = re.compile(r"# error: (?P<errors>[\w-]+\[.*\])$")
_OF_ONE = re.compile(r"(?P<checker>\w+)\[(?P<codes>[\w,*-]+)\]")


class Found(NamedTuple):
    """An error: the file's name in its folder, the line, and the checker's word for it."""

    file: str
    line: int
    code: str


def files() -> list[Path]:
    """What is checked."""
    return sorted((FOLDER / "right").glob("*.py")) + sorted((FOLDER / "wrong").glob("*.py"))


def expected(checker: str, paths: list[Path]) -> Counter[Found]:
    """What the files say that `checker` finds. Raises `ValueError` for a mark that cannot be read."""
    wanted: Counter[Found] = Counter()
    for path in paths:
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            if "# error:" not in line or line.startswith("`"):
                continue
            mark = _MARK.search(line)
            if mark is None:
                raise ValueError(f"{path.name}:{number}: this mark cannot be read")
            for one in _OF_ONE.finditer(mark["errors"]):
                if one["checker"] == checker:
                    for code in one["codes"].split(","):
                        word, _, times = code.partition("*")
                        wanted[Found(_name(path), number, word)] += int(times or 1)
    return wanted


def by_mypy(paths: list[Path]) -> Counter[Found]:
    """What mypy finds. Raises `RuntimeError` if it could not check."""
    said = _run("mypy", "--strict", "--output=json", *map(str, paths))
    rows = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    return Counter(
        Found(_name(Path(row["file"])), row["line"], row["code"]) for row in rows if row["severity"] == "error"
    )


def by_pyright(paths: list[Path]) -> Counter[Found]:
    """What pyright finds. Raises `RuntimeError` if it could not check."""
    rows: list[dict[str, Any]] = json.loads(_run("pyright", "--outputjson", *map(str, paths)))["generalDiagnostics"]
    return Counter(
        Found(_name(Path(row["file"])), row["range"]["start"]["line"] + 1, row.get("rule", "syntax")) for row in rows
    )


CHECKERS: dict[str, Callable[[list[Path]], Counter[Found]]] = {"mypy": by_mypy, "pyright": by_pyright}


def compare(checker: str, paths: list[Path]) -> list[str]:
    """A sentence for each difference between what the files say and what `checker` finds."""
    wanted, got = expected(checker, paths), CHECKERS[checker](paths)
    return [f"{row.file}:{row.line}: {checker} does not find {row.code}" for row in (wanted - got).elements()] + [
        f"{row.file}:{row.line}: {checker} finds {row.code}, which is not expected" for row in (got - wanted).elements()
    ]


def _name(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _run(module: str, *words: str) -> str:
    here = str(Path(sys.executable).parent)  # pyright looks for the packages of the first python of the PATH
    environment = {**os.environ, "PATH": os.pathsep.join((here, os.environ.get("PATH", "")))}
    done = subprocess.run(
        [sys.executable, "-m", module, *words],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in {0, 1}:  # 1: errors were found; more: nothing was checked
        raise RuntimeError(f"{module} ended with {done.returncode}: {done.stderr or done.stdout}")
    return done.stdout


def main() -> int:
    """Print the differences; returns the exit code."""
    differences = [line for checker in CHECKERS for line in compare(checker, files())]
    wanted = {checker: expected(checker, files()).total() for checker in CHECKERS}
    print("\n".join([*differences, f"{len(files())} files, expected errors: {wanted}"]))  # noqa: T201  # a command
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
