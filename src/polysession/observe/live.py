"""Who holds what, since when, opened where: the facts folded into the present. Thread-safe."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Protocol

import msgspec

from ..facts import (
    AttemptFailed,
    Fact,
    HoldEnded,
    HoldId,
    HoldKind,
    HoldOpened,
    Observer,
    Origin,
    Outcome,
    Owner,
    TransactionIdled,
)
from ..options import Access

__all__ = ["Checkout", "Counts", "Held", "Live", "PoolCounts", "PoolStats", "Progress", "Readiness", "Relay"]

_log = logging.getLogger("polysession.observe")


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """One unit of work or independent session that has not ended yet."""

    id: HoldId
    kind: HoldKind
    name: str
    databases: tuple[str, ...]
    endpoints: tuple[str, ...]
    tenant: str | None = None
    """In whose database it works; None where that has no tenants."""
    access: Access
    owner: Owner
    place: str
    """`file:line in function` of the code that opened it."""
    since: datetime
    age: float
    """Seconds since it was opened."""
    state: str
    """`no connection`, `has a connection`, `in transaction` (it has one, with a transaction open), or `ended`."""
    statements: int | None
    """Statements that were sent; None if it is not seen, for an engine that the application made."""
    in_database: float | None
    """Seconds in which statements were under way, with the one that is; None if it is not seen."""
    waited: float
    """Seconds spent waiting for connections."""
    idle: float
    """Seconds since its last statement was over, while it has a connection; 0 while a statement is under way."""


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """What the shell knows of a unit or session at this moment; the fields are those of `Held`."""

    state: str
    statements: int | None = None
    in_database: float | None = None
    waited: float = 0.0
    idle: float = 0.0


class Checkout(msgspec.Struct, frozen=True, kw_only=True):
    """One connection that is out of its pool, and for whom. All times are seconds."""

    endpoint: str
    hold: HoldId | None
    """The unit or session that has it: the `id` of its row in `held()`. None for who uses the engine itself."""
    kind: HoldKind | None
    name: str
    """The unit's or session's name; else what it is: `a use without a session`, for example."""
    owner: str
    """The thread or task, `thread 'MainThread'`; nobody's is a connection that is being opened for whoever waits."""
    place: str
    """`file:line in function` of the code that opened it; empty if nobody knows."""
    since: datetime
    age: float
    """Since the connection was taken."""
    statements: int
    """Sent on it for this owner. In a unit over several databases: on all of its connections."""
    in_database: float
    """Of that age, what the database worked or its answer was under way."""
    idle: float
    """Since the last statement was over; 0 while one is under way."""
    now: str
    """`file:line in function` where its owner is just now, while no statement is under way; empty if not known."""

    def __str__(self) -> str:
        if self.kind is None:
            return f"{self.age:.1f} s by {self.owner}"
        statements = "1 statement" if self.statements == 1 else f"{self.statements} statements"
        now = f", now at {self.now}" if self.now else ""
        return (
            f"{self.age:.1f} s by {self.owner}, {self.kind} {self.name!r} opened at {self.place} "
            f"({self.in_database:.1f} s of it in the database, {statements}{now})"
        )


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """How many units and sessions were opened and how they ended, since the door was made."""

    opened: int
    committed: int
    rolled_back: int
    unknown: int
    lost: int
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


class PoolStats(msgspec.Struct, frozen=True, kw_only=True):
    """What the pool of one endpoint is doing, and what it has done in this process (and event loop). Numbers only."""

    endpoint: str
    size: int
    """Most connections at once."""
    paused: bool
    """Nobody is given one."""
    out: int
    opening: int
    idle: int
    waiting: int
    """Units and sessions that wait for a connection."""
    asked: int
    """How often one was asked for; as all that follow, since the pool was made."""
    waits: int
    """How often there was none at once."""
    waited: float
    """Seconds, all of these waits together."""
    timeouts: int
    """Waits that ended without a connection, and who was refused at once in an overload."""
    opened: int
    failed: int
    """Connections that could not be opened."""
    old: int
    """Idle connections that had lived as long as they may, and were replaced."""
    dead: int
    """Idle connections that the server had closed."""
    unanswered: int
    """Idle connections on which the server did not answer."""
    replaced: int
    """Idle connections that were replaced because all were."""


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """Whether this process can do work now, and why not. True in a condition if it can."""

    ok: bool
    reason: str
    endpoints: tuple[PoolCounts, ...]

    def __bool__(self) -> bool:
        return self.ok


class Opening(Protocol):
    """What is held, and makes the fact of its beginning when that is asked for."""

    @property
    def opening(self) -> HoldOpened:
        """That fact."""


class Live:
    """The observer behind `held()` and `counts()`. `progress_of` asks the shell for what it knows of a holding.

    A beginning and an end take no lock: each is written by steps that threads cannot come between. An end is noted
    before its row goes, so that whoever looks at the rows first and at the ends then misses none; where a holding is
    found in both it has ended.
    """

    __slots__ = ("_counted", "_ends", "_lock", "_progress_of", "_repeated", "rows")

    def __init__(self, progress_of: Callable[[HoldId], Progress]) -> None:
        self.rows: dict[HoldId, HoldOpened | Opening] = {}
        """What is held. The fact of its beginning is made when somebody asks who holds what."""
        self._progress_of = progress_of
        # protects what was counted; the garbage collector may end a dropped session, and tell, while it is held
        self._lock = threading.RLock()
        self._repeated = 0
        self._ends: dict[HoldId, Outcome] = {}
        """Those that are not counted yet."""
        self._counted = dict.fromkeys(Outcome, 0)

    def forked(self) -> None:
        """In a forked child: whoever had the lock is not here and never gives it back."""
        self._lock = threading.RLock()

    def tell(self, fact: Fact) -> None:
        """Fold one fact in."""
        if type(fact) is HoldOpened:
            self.rows[fact.hold] = fact
        elif type(fact) is HoldEnded:
            self.ended(fact.hold, fact.outcome)
        elif isinstance(fact, AttemptFailed) and fact.wait is not None:
            with self._lock:
                self._repeated += 1

    def ended(self, hold: HoldId, outcome: Outcome) -> None:
        """As `tell` of an end. A second one of the same holding changes nothing."""
        rows, ends = self.rows, self._ends
        if hold in rows:
            ends[hold] = outcome
            rows.pop(hold, None)
            if len(ends) > _MOST_ENDS:
                self._count()

    def _count(self) -> None:
        """Count what has ended."""
        with self._lock:
            for hold in list(self._ends):
                if hold not in self.rows and (outcome := self._ends.pop(hold, None)) is not None:
                    self._counted[outcome] += 1

    def held(self) -> tuple[Held, ...]:
        """What is held now, oldest first."""
        now = time.monotonic()
        wall = datetime.now(UTC)
        known = list(self.rows.values())
        rows = [row if isinstance(row, HoldOpened) else row.opening for row in known]
        rows.sort(key=lambda row: row.stamp)
        return tuple(self._held(row, self._progress_of(row.hold), now, wall) for row in rows)

    @staticmethod
    def _held(row: HoldOpened, progress: Progress, now: float, wall: datetime) -> Held:
        return Held(
            id=row.hold,
            kind=row.kind,
            name=row.name,
            databases=row.databases,
            endpoints=row.endpoints,
            tenant=row.tenant,
            access=row.access,
            owner=row.owner,
            place=str(row.origin),
            since=wall - timedelta(seconds=now - row.stamp),
            age=now - row.stamp,
            state=progress.state,
            statements=progress.statements,
            in_database=progress.in_database,
            waited=progress.waited,
            idle=progress.idle,
        )

    def counts(self) -> Counts:
        """Totals since the door was made, all of one moment."""
        with self._lock:
            rows = set(self.rows)
            ends, ended, repeated = dict(self._ends), dict(self._counted), self._repeated
        for outcome in ends.values():
            ended[outcome] += 1
        return Counts(
            opened=len(rows - ends.keys()) + sum(ended.values()),
            committed=ended[Outcome.COMMITTED],
            rolled_back=ended[Outcome.ROLLED_BACK],
            unknown=ended[Outcome.UNKNOWN],
            lost=ended[Outcome.LOST],
            partial=ended[Outcome.PARTIAL],
            closed=ended[Outcome.CLOSED],
            dropped=ended[Outcome.DROPPED],
            repeated=repeated,
        )


class Relay:
    """Passes each fact to all observers. One that raises is logged and left out of no later fact.

    A transaction that idled is logged, once for each line of code that went on with it.
    """

    __slots__ = ("_idled", "_others", "is_alone", "live")

    def __init__(self, live: Live, others: Iterable[Observer]) -> None:
        self.live: Live = live
        self._others = tuple(others)
        self.is_alone: bool = not self._others
        """Nobody but `live` is told: of a beginning or an end no fact is needed."""
        self._idled: set[Origin] = set()

    def opened(self, hold: HoldId, opening: Opening) -> None:
        """Tell of a beginning."""
        self.live.rows[hold] = opening
        if self._others:
            self._pass_on(opening.opening)

    def tell(self, fact: Fact) -> None:
        """Tell everybody."""
        self.live.tell(fact)
        if self._others or type(fact) is TransactionIdled:
            self._pass_on(fact)

    def _pass_on(self, fact: Fact) -> None:
        if isinstance(fact, TransactionIdled) and fact.until not in self._idled and len(self._idled) < _MOST_LINES:
            self._idled.add(fact.until)
            _log.warning(
                "unit %r, opened at %s, held its connection in a transaction for %.1f s without a statement, until %s",
                fact.name,
                fact.origin,
                fact.seconds,
                fact.until,
            )
        for observer in self._others:
            try:
                observer.tell(fact)
            except Exception:
                _log.exception("observer %r raised on %s; the fact is dropped for it", observer, type(fact).__name__)


_MOST_ENDS = 1000
"""That are kept until they are counted."""
_MOST_LINES = 1000
"""Lines that are logged at most: a program makes its code anew only by mistake."""
