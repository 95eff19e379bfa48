"""What the terminals did, counted: units by transaction and outcome, times, and what the database must now hold.

Thread-safe; a snapshot is a value of its own. Times are kept in buckets that grow by 5 %, so a long run takes no more
memory than a short one and a percentile is at most 5 % too high.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final, TypeAlias

from .inputs import Kind
from .results import DeliveryResult, NewOrderResult, PaymentResult, Result

__all__ = ["Figures", "Name", "Snapshot", "Tally", "Times", "total"]

Name: TypeAlias = tuple[int, int, int]
"""Warehouse, district and number of an order."""

_SHORTEST: Final = 1e-5
_GROWTH: Final = math.log(1.05)
_BUCKETS: Final = 400


class Times:
    """How often something took how long."""

    __slots__ = ("_buckets", "count")

    def __init__(self, buckets: Iterable[int] = ()) -> None:
        self._buckets = list(buckets) or [0] * _BUCKETS
        self.count: int = sum(self._buckets)

    def add(self, seconds: float) -> None:
        """Count one more; from 10 microseconds to 50 minutes."""
        bucket = math.ceil(math.log(max(seconds, _SHORTEST) / _SHORTEST) / _GROWTH)
        self._buckets[min(bucket, _BUCKETS - 1)] += 1
        self.count += 1

    def percentile(self, percent: float) -> float | None:
        """The time in seconds that `percent` of all took at most; None if nothing was counted."""
        if not self.count:
            return None
        needed = math.ceil(self.count * percent / 100)
        bucket = next(number for number, sum_so_far in enumerate(accumulate(self._buckets)) if sum_so_far >= needed)
        return _SHORTEST * math.exp(bucket * _GROWTH)

    def __add__(self, other: Times) -> Times:
        return Times(mine + yours for mine, yours in zip(self._buckets, other._buckets, strict=True))


@dataclass(slots=True)
class Figures:
    """The figures of one transaction. `repeated` counts attempts after the first; `times` are of committed units."""

    committed: int = 0
    rolled_back: int = 0
    repeated: int = 0
    failed: int = 0
    times: Times = field(default_factory=Times)

    def __add__(self, other: Figures) -> Figures:
        return Figures(
            self.committed + other.committed,
            self.rolled_back + other.rolled_back,
            self.repeated + other.repeated,
            self.failed + other.failed,
            self.times + other.times,
        )


def total(figures: Iterable[Figures]) -> Figures:
    """All of them together."""
    return sum(figures, Figures())


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The figures at one moment."""

    elapsed: float
    """Seconds since the terminals started, or from then to their end."""
    figures: Mapping[Kind, Figures]
    databases: Mapping[str, int]
    """Committed units by database."""
    told: Mapping[str, int]
    """What the terminals were told is committed: orders, payments, deliveries."""
    named: Mapping[str, frozenset[Name]]
    """Which orders and deliveries these were, if they are remembered."""
    failures: int
    traceback: str | None
    """Of the first failure."""


class Tally:
    """Counts what ends. Every method may be called from any thread."""

    def __init__(self, *, remembers: bool = False) -> None:
        self._remembers = remembers
        self._named: dict[str, set[Name]] = {"orders": set(), "deliveries": set()}
        self._lock = threading.Lock()  # protects everything below; held for a few additions only
        self._figures = {kind: Figures() for kind in Kind}
        self._databases: Counter[str] = Counter()
        self._told: dict[str, int] = dict.fromkeys(("orders", "payments", "deliveries"), 0)
        self._traceback: str | None = None
        self._started = time.monotonic()
        self._ended: float | None = None

    @property
    def done(self) -> int:
        """How many units were committed so far."""
        return self._databases.total()

    def start(self) -> None:
        """The terminals start now."""
        self._started = time.monotonic()

    def end(self) -> None:
        """The terminals have ended."""
        self._ended = time.monotonic()

    def committed(
        self,
        kind: Kind,
        database: str,
        result: Result | None,
        *,
        attempts: int,
        seconds: float,
        place: tuple[int, int] = (0, 0),
    ) -> None:
        """A unit was committed and gave `result`; `place` is its warehouse and district."""
        with self._lock:
            figures = self._figures[kind]
            figures.committed += 1
            figures.repeated += attempts - 1
            figures.times.add(seconds)
            self._databases[database] += 1
            match result:
                case NewOrderResult(o_id):
                    self._told["orders"] += 1
                    self._remember("orders", (*place, o_id))
                case PaymentResult():
                    self._told["payments"] += 1
                case DeliveryResult(delivered):
                    self._told["deliveries"] += len(delivered)
                    self._remember("deliveries", *((place[0], d_id, o_id) for d_id, o_id in delivered.items()))

    def _remember(self, what: str, *names: Name) -> None:
        if self._remembers:
            self._named[what].update(names)

    def rolled_back(self, kind: Kind, *, attempts: int) -> None:
        """A unit was rolled back as the standard wants it."""
        with self._lock:
            self._figures[kind].rolled_back += 1
            self._figures[kind].repeated += attempts - 1

    def failed(self, kind: Kind, traceback: str, *, attempts: int) -> int:
        """A unit failed; the first traceback is kept. Returns how many have failed so far."""
        with self._lock:
            self._figures[kind].failed += 1
            self._figures[kind].repeated += max(0, attempts - 1)
            self._traceback = self._traceback or traceback
            return sum(figures.failed for figures in self._figures.values())

    def snapshot(self) -> Snapshot:
        """The figures of now."""
        with self._lock:
            figures = {kind: row + Figures() for kind, row in self._figures.items()}
            return Snapshot(
                elapsed=(self._ended or time.monotonic()) - self._started,
                figures=figures,
                databases=dict(sorted(self._databases.items())),
                told=dict(self._told),
                named={what: frozenset(names) for what, names in self._named.items()},
                failures=sum(row.failed for row in figures.values()),
                traceback=self._traceback,
            )
