"""One run of the demo without the waiting: what each terminal does next, what is counted, what an error means.

Both kinds of terminals, threads and tasks, are driven with it (`workload`). The methods that take a session are steps
of units of work, written for a plain `Session`. An error of a terminal is counted and shown and the terminal goes on;
after fifty the run ends early.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from random import Random
from types import TracebackType
from typing import Final, Protocol, Self

from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from ..options import Isolation
from .conditions import ConditionResult, check
from .defects import ForgetfulPayments
from .faults import Faults
from .findings import Found, find
from .inputs import Constants, Inputs, Kind, PaymentInputs, Terminal
from .plan import Plan
from .populate import fill_items, fill_warehouse
from .results import Result, RolledBackByDesign
from .schema import Schema, make_schema
from .size import Size
from .tally import Snapshot, Tally
from .transactions import perform

__all__ = ["Outcome", "Stage", "Turn", "Watcher"]

_ENOUGH_FAILURES: Final = 50
_READS: Final = frozenset({Kind.ORDER_STATUS, Kind.STOCK_LEVEL})
_WAITS: Final = frozenset({Kind.PAYMENT, Kind.DELIVERY})

Step = Callable[[Session], None]


class Watcher(Protocol):
    """Is told how the run goes on, always by the thread that started it."""

    def phase(self, text: str) -> None:
        """Something else begins now."""

    def tick(self, snapshot: Snapshot, units: int) -> None:
        """The terminals are at work; so many units of work are open just now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run did and what was found afterwards."""

    rows: dict[str, int]
    """Rows inserted at first, by table."""
    load_seconds: float
    snapshot: Snapshot
    conditions: dict[str, list[ConditionResult]]
    """By database."""
    found: dict[str, int]
    """Orders, payments and deliveries in the tables that were not there at first."""
    unreported: dict[str, int]
    """Of these, those that no terminal was told of; counted where things break."""
    missing: dict[str, int]
    """What a terminal was told of and is not in the tables; counted where things break."""
    broken: dict[str, int]
    """What was broken on purpose, and what came of it."""


class Stage:
    """One run: the tables, the terminals, the tally. The methods that take a session are steps of units of work."""

    def __init__(self, plan: Plan, watcher: Watcher) -> None:
        self.plan = plan
        self.watcher = watcher
        self.size: Size = plan.size
        self.schema: Schema = make_schema(plan.prefix)
        self.tally: Tally = Tally(remembers=plan.faults)
        self.notes: Counter[str] = Counter()
        """What terminals had to do where things break."""
        self.rows: dict[str, int] = {}
        self.load_seconds: float = 0.0
        self.conditions: dict[str, list[ConditionResult]] = {}
        self._found: dict[str, Found] = {}
        self.waiting_isolation: dict[str, Isolation | None] = {}
        """By database, the level of payments and deliveries; None: that of repeatable units.

        All payments of a warehouse change the same row, and a delivery is long and changes thirty. At the level of
        repeatable units (REPEATABLE READ on PostgreSQL) most of them fail where they meet and are repeated; at READ
        COMMITTED they wait for each other. They lock what they change, so that is as safe (see `transactions`). With 64
        terminals on 6 warehouses it is the difference between no failed unit and one in fifty that fails eight times.
        New-Orders meet less often and rely on repetition.
        """
        self._constants = Constants.draw(Random(f"{plan.seed}/constants"), self.size)
        self._payment = ForgetfulPayments() if plan.defect is not None else None
        self._ended = threading.Event()
        self._deadline = float("inf")

    def loading(self, database: str) -> Iterator[Step]:
        """The steps that make and fill the tables of one database; a unit of work for each."""
        started = time.monotonic()
        yield partial(self._create, database)
        yield self._fill_items
        for w_id in self.plan.warehouses_of(database):
            yield partial(self._fill_warehouse, w_id)
        self.load_seconds += time.monotonic() - started

    def start(self) -> None:
        """The terminals start now."""
        self.tally.start()
        if self.plan.transactions is None:
            self._deadline = time.monotonic() + self.plan.seconds

    def end(self) -> None:
        """Every terminal ends after the unit of work that it is in; the last call ends the measured time."""
        self.tally.end()
        self._ended.set()

    def draws(self, number: int) -> Iterator[Inputs]:
        """What terminal `number` does, until the end."""
        plan = self.plan
        w_id, d_id = plan.home_of(number)
        terminal = Terminal(
            Random(f"{plan.seed}/terminal/{number}"),
            self._constants,
            self.size,
            w_id=w_id,
            d_id=d_id,
            remote=plan.warehouses_of(plan.database_of(w_id)),
        )
        left = plan.share_of(number)
        while left != 0 and not self._ended.is_set() and time.monotonic() < self._deadline:
            yield terminal.draw()
            left = None if left is None else left - 1

    def tick(self, units: int) -> None:
        """Tell the watcher how far it is."""
        self.watcher.tick(self.tally.snapshot(), units)

    def perform(self, session: Session, inputs: Inputs) -> Result:
        """One attempt of one transaction."""
        if self._payment is not None and isinstance(inputs, PaymentInputs):
            return self._payment(session, self.schema, inputs)
        return perform(session, self.schema, inputs)

    def examine(self, database: str, session: Session) -> None:
        """Check the twelve conditions, and count what the terminals have added. It can be done again."""
        self.conditions[database] = check(session, self.schema, self.size)
        warehouses = len(self.plan.warehouses_of(database))
        self._found[database] = find(session, self.schema, self.size, warehouses, names=self.plan.faults)

    def drop(self, session: Session) -> None:
        """Remove the tables."""
        self.schema.metadata.drop_all(session.connection())

    def outcome(self, faults: Faults | None = None) -> Outcome:
        """All of it."""
        snapshot = self.tally.snapshot()
        found = sum(self._found.values(), Found())
        return Outcome(
            rows=dict(self.rows),
            load_seconds=self.load_seconds,
            snapshot=snapshot,
            conditions=self.conditions,
            found=dict(found.counts),
            unreported=found.beyond(snapshot) if self.plan.faults else {},
            missing=found.short_of(snapshot) if self.plan.faults else {},
            broken=dict(self.notes + faults.broken) if faults is not None else {},
        )

    def _create(self, database: str, session: Session) -> None:
        # SQLite has one writer at a time and one isolation level.
        one_writer = session.connection().dialect.name == "sqlite"
        self.waiting_isolation[database] = None if one_writer else Isolation.READ_COMMITTED
        # Tables of this prefix are ours: an earlier run may have kept them.
        self.drop(session)
        self.schema.metadata.create_all(session.connection())

    def _fill_items(self, session: Session) -> None:
        self._count(fill_items(session, self.schema, self.size, seed=self.plan.seed))

    def _fill_warehouse(self, w_id: int, session: Session) -> None:
        now, seed = datetime.now(UTC), self.plan.seed
        self._count(fill_warehouse(session, self.schema, self.size, self._constants, w_id=w_id, seed=seed, now=now))

    def _count(self, rows: dict[str, int]) -> None:
        for table, count in rows.items():
            self.rows[table] = self.rows.get(table, 0) + count


class Turn:
    """One transaction of one terminal, from its inputs to the tally. Used as `with`, it swallows and counts errors."""

    def __init__(self, stage: Stage, inputs: Inputs) -> None:
        self.kind: Kind = inputs.kind
        self.database: str = stage.plan.database_of(inputs.w_id)
        self.reads: bool = inputs.kind in _READS
        self.isolation: Isolation | None = stage.waiting_isolation[self.database] if inputs.kind in _WAITS else None
        self._stage = stage
        self._inputs = inputs
        self._attempts = 0
        self._result: Result | None = None
        self._started = time.perf_counter()

    def attempt(self, session: Session) -> None:
        """Run the transaction in the session of a unit of work."""
        self._attempts += 1
        self._result = self._stage.perform(session, self._inputs)

    async def attempt_async(self, session: AsyncSession) -> None:
        """The same code in an asynchronous session."""
        await session.run_sync(self.attempt)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> bool:
        tally, attempts = self._stage.tally, self._attempts
        if error is None:
            seconds = time.perf_counter() - self._started
            place = (self._inputs.w_id, getattr(self._inputs, "d_id", 0))
            tally.committed(self.kind, self.database, self._result, attempts=attempts, seconds=seconds, place=place)
        elif isinstance(error, RolledBackByDesign):
            tally.rolled_back(self.kind, attempts=attempts)
        elif isinstance(error, Exception):
            frames_text = "".join(traceback.format_exception(error))
            if tally.failed(self.kind, frames_text, attempts=attempts) >= _ENOUGH_FAILURES:
                self._stage.end()
        return isinstance(error, Exception)
