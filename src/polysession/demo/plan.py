"""What a run of the demo is to do, as one frozen value: checked when it is made, before anything is started. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from ..errors import ConfigError
from ..topology import Certainty
from .defects import Defect
from .size import DEFAULT_SCALE, DISTRICTS, Size

__all__ = ["Plan", "refuse"]

_MOST_DATABASES: Final = 100
_MOST_SESSIONS: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One run. Raises `ConfigError` naming the option if something cannot be done."""

    databases: tuple[str, ...]
    warehouses: int = 4
    """Over all databases; warehouse 1 lives in the first, 2 in the second, and so on in turn."""
    scale: float = DEFAULT_SCALE
    sessions: int = 16
    """Terminals at work at once, each with one session at a time; at home in warehouse 1, 2, and so on in turn."""
    seconds: float = 10.0
    transactions: int | None = None
    """If given, each terminal ends after its share of so many transactions, and `seconds` means nothing."""
    seed: int = 1
    asynchronous: bool = False
    prefix: str = ""
    """What the names of the tables begin with."""
    keep: bool = False
    """Leave the tables where they are."""
    defect: Defect | None = None
    outcome: Certainty = Certainty.PLAIN
    """What units that write know of their outcome when the answer to COMMIT is lost."""
    faults: bool = False
    """Things break while the terminals work, and each terminal goes on until its transaction was done once."""

    def __post_init__(self) -> None:
        databases = len(self.databases)
        if not 1 <= databases <= _MOST_DATABASES:
            raise refuse("databases", f"1 to {_MOST_DATABASES}", databases)
        if self.warehouses < databases:
            raise refuse("warehouses", f"at least 1 for each of the {databases} databases", self.warehouses)
        if not 0 < self.scale <= 1:
            raise refuse("scale", "more than 0 and at most 1 (the standard's numbers)", self.scale)
        if not 1 <= self.sessions <= _MOST_SESSIONS:
            raise refuse("sessions", f"1 to {_MOST_SESSIONS}", self.sessions)
        if not (self.seconds > 0 and math.isfinite(self.seconds)):
            raise refuse("seconds", "a finite number above 0", self.seconds)

    @property
    def size(self) -> Size:
        """The rows to start with."""
        return Size.at(self.scale)

    def database_of(self, w_id: int) -> str:
        """Where a warehouse lives."""
        return self.databases[(w_id - 1) % len(self.databases)]

    def warehouses_of(self, database: str) -> tuple[int, ...]:
        """The warehouses that live in a database."""
        return tuple(w_id for w_id in range(1, self.warehouses + 1) if self.database_of(w_id) == database)

    def home_of(self, terminal: int) -> tuple[int, int]:
        """Warehouse and district of a terminal; terminals count from 0."""
        return terminal % self.warehouses + 1, terminal // self.warehouses % DISTRICTS + 1

    def share_of(self, terminal: int) -> int | None:
        """How many transactions a terminal does; None: as many as it can in `seconds`."""
        if self.transactions is None:
            return None
        return len(range(terminal, self.transactions, self.sessions))


def refuse(option: str, expected: str, found: object) -> ConfigError:
    """The error for an option that cannot be honoured."""
    return ConfigError(
        f"--{option}: expected {expected}, found {found}", do=("see `polysession demo --help`",), path=f"--{option}"
    )
