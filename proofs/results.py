"""What an experiment is given and what it answers. Measures nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
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
    say: Callable[[str], None] = field(default=print, compare=False)
    """Is told one line for each cell."""

    def wants(self, label: str) -> bool:
        """Whether the cell of this label is run."""
        return not self.only or any(text in label for text in self.only)


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

    def write(self, folder: Path) -> Path:
        """Put it into `folder` as `<name>.json`; the path."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.json"
        path.write_text(json.dumps(asdict(self), indent=1, sort_keys=True, default=str) + "\n")
        return path
