"""Who holds what, since when, opened where: the facts folded into the present. Thread-safe."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

import msgspec

from ..facts import Fact, HoldEnded, HoldId, HoldKind, HoldOpened, Observer, Outcome, Owner
from ..options import Access

__all__ = ["Counts", "Held", "Live", "PoolCounts", "Readiness", "Relay"]

_log = logging.getLogger("polysession.observe")


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """One unit of work or independent session that has not ended yet."""

    id: HoldId
    kind: HoldKind
    name: str
    databases: tuple[str, ...]
    endpoints: tuple[str, ...]
    access: Access
    owner: Owner
    place: str
    """`file:line in function` of the code that opened it."""
    since: datetime
    age: float
    """Seconds since it was opened."""
    state: str
    """`no connection`, `has a connection`, `in transaction` (it has one, with a transaction open), or `ended`."""


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """How many units and sessions were opened and how they ended, since the door was made."""

    opened: int
    committed: int
    rolled_back: int
    unknown: int
    partial: int
    closed: int
    dropped: int
    repeated: int


class PoolCounts(msgspec.Struct, frozen=True, kw_only=True):
    """The connections of one endpoint in this process (and event loop), read at one moment."""

    endpoint: str
    size: int
    """Most connections at once."""
    out: int
    """In use, or being opened."""
    idle: int
    waiting: int
    """Units and sessions that wait for a connection."""
    stuck: bool
    """All are out, somebody waits, and none has come back for longer than `checkout_timeout`."""


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """Whether this process can do work now, and why not. True in a condition if it can."""

    ok: bool
    reason: str
    endpoints: tuple[PoolCounts, ...]

    def __bool__(self) -> bool:
        return self.ok


class Live:
    """The observer behind `held()` and `counts()`. `state_of` asks the shell for the state of a holding."""

    __slots__ = ("_ended", "_lock", "_opened", "_repeated", "_rows", "_state_of")

    def __init__(self, state_of: Callable[[HoldId], str]) -> None:
        self._rows: dict[HoldId, HoldOpened] = {}
        self._state_of = state_of
        # protects the counts and the rows; the garbage collector may end a dropped session, and tell, while it is held
        self._lock = threading.RLock()
        self._opened = 0
        self._repeated = 0
        self._ended = dict.fromkeys(Outcome, 0)

    def tell(self, fact: Fact) -> None:
        """Fold one fact in."""
        with self._lock:
            if isinstance(fact, HoldOpened):
                self._rows[fact.hold] = fact
                self._opened += 1
            elif isinstance(fact, HoldEnded):
                # a second end of the same holding changes nothing
                if self._rows.pop(fact.hold, None) is not None:
                    self._ended[fact.outcome] += 1
            elif fact.wait is not None:
                self._repeated += 1

    def held(self) -> tuple[Held, ...]:
        """What is held now, oldest first."""
        now = time.monotonic()
        wall = datetime.now(UTC)
        with self._lock:
            rows = list(self._rows.values())
        rows.sort(key=lambda row: row.stamp)
        return tuple(
            Held(
                id=row.hold,
                kind=row.kind,
                name=row.name,
                databases=row.databases,
                endpoints=row.endpoints,
                access=row.access,
                owner=row.owner,
                place=str(row.origin),
                since=wall - timedelta(seconds=now - row.stamp),
                age=now - row.stamp,
                state=self._state_of(row.hold),
            )
            for row in rows
        )

    def counts(self) -> Counts:
        """Totals since the door was made, all of one moment."""
        with self._lock:
            ended, opened, repeated = dict(self._ended), self._opened, self._repeated
        return Counts(
            opened=opened,
            committed=ended[Outcome.COMMITTED],
            rolled_back=ended[Outcome.ROLLED_BACK],
            unknown=ended[Outcome.UNKNOWN],
            partial=ended[Outcome.PARTIAL],
            closed=ended[Outcome.CLOSED],
            dropped=ended[Outcome.DROPPED],
            repeated=repeated,
        )


class Relay:
    """Passes each fact to all observers. One that raises is logged and left out of no later fact."""

    __slots__ = ("_others", "live")

    def __init__(self, live: Live, others: Iterable[Observer]) -> None:
        self.live: Live = live
        self._others = tuple(others)

    def tell(self, fact: Fact) -> None:
        """Tell everybody."""
        self.live.tell(fact)
        for observer in self._others:
            try:
                observer.tell(fact)
            except Exception:
                _log.exception("observer %r raised on %s; the fact is dropped for it", observer, type(fact).__name__)
