"""What an experiment is given and what it answers. Measures nothing."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeAlias

__all__ = ["FULL", "QUICK", "Profile", "Result", "Row"]

Row: TypeAlias = Mapping[str, Any]
"""One cell as plain data; every figure in it is a count, so that another machine can be expected to agree."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How much of an experiment is run."""

    name: str
    units: int
    """Units of work for each cell."""
    only: tuple[str, ...] = ()
    """Cells whose label has one of these texts; all if there is none."""
    kept: Path | None = None
    """A folder for cells that were run before and are not run again, of experiments that can be run in parts."""
    say: Callable[[str], None] = field(default=print, compare=False)
    """Is told one line for each cell."""

    def wants(self, label: str) -> bool:
        """Whether the cell of this label is run."""
        return not self.only or any(text in label for text in self.only)

    def recall(self, label: str) -> dict[str, Any] | None:
        """What `keep` was given for this label by an earlier run; None if there is nothing."""
        file = self._file(label)
        if file is None or not file.exists():
            return None
        found: dict[str, Any] = json.loads(file.read_text("utf-8"))
        return found

    def recall_timed(self, label: str) -> tuple[dict[str, Any], float] | None:
        """As `recall`, and the `seconds` that were kept with it."""
        found = self.recall(label)
        return None if found is None else (found, found.pop("seconds"))

    def keep(self, label: str, found: Row) -> None:
        """Let a later run of the same profile recall this; nothing without `kept`."""
        file = self._file(label)
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(found), "utf-8")

    def _file(self, label: str) -> Path | None:
        return self.kept and self.kept / f"{re.sub(r'[^a-z0-9]+', '-', label.lower())}-{self.units}.json"


QUICK = Profile(name="quick", units=200)
FULL = Profile(name="full", units=10_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How an experiment ended."""

    name: str
    seed: int
    profile: str
    counts: Mapping[str, int]
    """Totals over all cells."""
    cells: tuple[Row, ...]
    control: tuple[Row, ...]
    """The same with what others do, or with a seeded defect: the check must be able to fail."""
    passed: bool
    why: str
    seconds: float | None = None
    """How long all parts took together, if it was run in parts."""

    def write(self, folder: Path, seconds: float) -> Path:
        """Put it into `folder` as `<name>.json`, with what it was run on and how long it took; the path."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.json"
        whole = asdict(self) | {"made": _made(self.seconds or seconds)}
        del whole["seconds"]
        path.write_text(json.dumps(whole, indent=1, sort_keys=True, default=str) + "\n", "utf-8")
        return path


_PACKAGES = ("SQLAlchemy", "psycopg", "asyncpg", "PyMySQL", "mysqlclient", "asyncmy", "aiosqlite")


def _made(seconds: float) -> Row:
    return {
        "day": datetime.now(UTC).date().isoformat(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "seconds": round(seconds),
        "versions": {name: found for name in _PACKAGES if (found := _version(name)) is not None},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
