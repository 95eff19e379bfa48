"""What the units of a cell were told, to be compared with what is in the table. Thread-safe."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Column, Integer, MetaData, NullPool, Table, create_engine, insert, select

from polysession.facts import Outcome, outcome_of

__all__ = ["METADATA", "ROW", "WHICH", "Boom", "Tally", "numbers_in", "prepare"]

METADATA = MetaData()
_UNITS: Final = Table("units", METADATA, Column("n", Integer, primary_key=True, autoincrement=False))
ROW: Final = insert(_UNITS)
"""A unit's row, for `{"n": number}`."""
_ENOUGH: Final = 5
_HERE: Final = f"{Path(__file__).resolve().parents[1]}/"
"""What a recorded text does not have: where the project lies."""
WHICH: Final = select(_UNITS.c.n)


class Boom(Exception):
    """What a unit's own code raises."""


class Tally:
    """Numbers for units, and how each of them ended as its caller saw it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self.reported: set[int] = set()
        """Left their block without an error: they say that they committed."""
        self.raised: dict[int, Outcome | None] = {}
        """Left with an error, and the outcome that this error carries."""
        self.owned: set[int] = set()
        """Of these, what their owner committed himself: nobody promised to tell him what became of it."""
        self.wrong = 0
        """Answers that belong to another question: a connection that was given on out of step."""
        self.unexpected: Counter[str] = Counter()
        """Errors of units that nothing had been done to."""
        self.complaints: Counter[str] = Counter()
        """Of event loops: errors that nobody was told."""
        self.begun = 0
        self.starved = False
        """Too many honest units failed, most of them after a long wait: nothing more can be learned here."""

    def number(self) -> int:
        """A number that no other unit has."""
        with self._lock:
            self.begun += 1
            return next(self._numbers)

    def answered(self, n: int, answer: Any) -> None:
        """A unit asked for its own row."""
        if answer != n:
            with self._lock:
                self.wrong += 1

    def ended(self, n: int, error: BaseException | None = None, *, expected: bool = True) -> None:
        """A unit is over, by `error` if there is one."""
        with self._lock:
            if error is None:
                self.reported.add(n)
                return
            self.raised[n] = outcome_of(error)
            if not expected:
                text = " ".join(str(error).replace(_HERE, "").split())[:200]
                self.unexpected[f"{type(error).__name__}: {text}"] += 1
                self.starved = self.unexpected.total() >= _ENOUGH

    def complain(self, loop: object, context: Mapping[str, Any]) -> None:
        """An event loop's handler of errors that nobody awaits."""
        with self._lock:
            self.complaints[f"{context['message']}: {context.get('exception')!r}".replace(_HERE, "")[:200]] += 1

    def compared(self, present: Iterable[int], *, certain: bool) -> dict[str, int]:
        """What was told beside the rows that are there; `certain` if a unit that raised cannot have committed."""
        there = set(present)
        left = there & self.raised.keys()
        told = {n for n in left if self.raised[n] is Outcome.COMMITTED}
        claimed = {n for n, outcome in self.raised.items() if outcome is Outcome.COMMITTED}
        denied = {n for n in left if self.raised[n] is Outcome.ROLLED_BACK}
        unknown = {n for n in left if self.raised[n] is Outcome.UNKNOWN}
        return {
            "reported": len(self.reported),
            "raised": len(self.raised),
            "rows": len(there),
            "lost": len(self.reported - there),
            "stray": len(left) if certain else 0,
            "nobodys": len(there - self.reported - self.raised.keys()),
            "committed_and_told": len(told),
            "committed_and_unknown": len(unknown),
            "committed_not_told": len(left - told - denied - unknown - self.owned),
            "committed_but_denied": len(denied),
            "claimed_but_missing": len(claimed - there),
            "wrong_answers": self.wrong,
            "unexpected_errors": self.unexpected.total(),
        }


def prepare(url: str) -> None:
    """Make the table, and on SQLite the write-ahead log, for both sides alike."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        METADATA.create_all(connection)
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")


def numbers_in(url: str) -> set[int]:
    """The units whose row is there, read on a connection of its own."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        return set(connection.scalars(WHICH))
