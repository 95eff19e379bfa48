"""The workload of lists: seeded transactions that read and append, through either door, and the record of them.

Each attempt of a unit is a transaction of its own in the record, with values that no other attempt appends; one that
the door repeated was rolled back. Nothing is judged here.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from polysession import AsyncSessions, Sessions
from polysession.facts import Outcome, outcome_of
from proofs.anomalies import Append, Op, Read, Told, Transaction
from proofs.tally import Boom

__all__ = [
    "LISTS",
    "Attempt",
    "Do",
    "Kept",
    "Plan",
    "Record",
    "final",
    "perform",
    "plan",
    "prepare",
    "unit",
    "unit_async",
]


class Base(DeclarativeBase):
    """Of the one table."""


class Kept(Base):
    """A list, as text: `,1,5,7`."""

    __tablename__ = "kept"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    items: Mapped[str] = mapped_column(sa.String(1000))


LISTS: Final = 6
"""Lists in use at the same time: few, so that transactions meet."""
_LENGTH: Final = 30
"""Appends after which a list is put aside and a new one used in its place: what is read stays short."""


class Do(Enum):
    """What a transaction does with a list."""

    READ = "read"
    APPEND = "append in SQL"
    REWRITE = "read the object, and write it with one more value"


_WEIGHTS: Final = {Do.READ: 9, Do.APPEND: 5, Do.REWRITE: 6}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a unit does, and what happens to it."""

    steps: tuple[tuple[Do, int], ...]
    """What is done with which of the lists in use."""
    repeats: bool
    """By `run()`, else by `begin()`."""
    boom_at: int | None
    """Before this step the unit's own code raises."""
    deadline: float | None
    """Seconds, so few that they often do not suffice."""
    cancel_after: float | None
    """Seconds after which the task is cancelled."""
    exact: bool
    """The unit asks for an exact outcome."""


def plan(seed: int, number: int, *, asynchronous: bool, begins: bool, exact: bool = False) -> Plan:
    """The plan of a unit, always the same for the same seed and number.

    `begins`: some units are not repeated. `exact`: every other one asks for an exact outcome.
    """
    draw = random.Random(f"{seed}/{number}")
    length = draw.randint(1, 4)
    steps = tuple(
        (draw.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0], draw.randrange(LISTS)) for _ in range(length)
    )
    fate = draw.random()
    return Plan(
        steps=steps,
        repeats=not begins or draw.random() < 0.7,
        boom_at=draw.randrange(length) if fate < 0.05 else None,
        deadline=draw.uniform(0.0005, 0.03) if 0.05 <= fate < 0.1 else None,
        cancel_after=draw.uniform(0.0, 0.03) if 0.1 <= fate < 0.16 and asynchronous else None,
        exact=exact and draw.random() < 0.5,
    )


@dataclass(slots=True)
class Attempt:
    """One transaction that runs."""

    number: int
    ops: list[Op] = field(default_factory=list)


class Record:
    """All transactions of a cell. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._values = itertools.count(1)
        self._lists = list(range(LISTS))
        self._next_list = LISTS
        self._appended: Counter[int] = Counter()
        self.transactions: list[Transaction] = []
        self.units = 0
        self.errors: Counter[str] = Counter()
        """By class, of units that did not commit."""
        self.exact: Counter[str] = Counter()
        """What was told of the units that asked for an exact outcome."""
        self.untold: list[str] = []
        """Errors that left a unit and do not say how it ended."""

    def begin(self) -> Attempt:
        """A transaction begins."""
        with self._lock:
            return Attempt(next(self._numbers))

    def in_use(self, place: int) -> int:
        """The list that is in use in this place."""
        return self._lists[place]

    def append(self, attempt: Attempt, key: int) -> int:
        """A new value for a list; noted before it is sent, so that none can be there that nobody knows of."""
        with self._lock:
            value = next(self._values)
            self._appended[key] += 1
            if self._appended[key] >= _LENGTH and key in self._lists:
                self._lists[self._lists.index(key)] = self._next_list
                self._next_list += 1
        attempt.ops.append(Append(key, value))
        return value

    def ended(self, what: Plan | None, attempts: list[Attempt], error: BaseException | None) -> None:
        """A unit is over, after these attempts; by `error` if there is one."""
        outcome = Outcome.COMMITTED if error is None else outcome_of(error)
        told = _TOLD.get(outcome) if outcome is not None else None
        with self._lock:
            self.units += 1
            if what is not None and what.exact:
                self.exact[str(told)] += 1
            if error is not None:
                self.errors[type(error).__name__] += 1
            if told is None and attempts:
                self.untold.append(f"{outcome}: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
            for attempt in attempts:
                its = told if attempt is attempts[-1] else Told.ROLLED_BACK
                if its is not None:
                    self.transactions.append(Transaction(attempt.number, tuple(attempt.ops), its))


_TOLD: Final = {
    Outcome.COMMITTED: Told.COMMITTED,
    Outcome.ROLLED_BACK: Told.ROLLED_BACK,
    Outcome.UNKNOWN: Told.UNKNOWN,
}


def perform(session: Session, record: Record, attempt: Attempt, do: Do, key: int) -> None:
    """One step of a transaction."""
    if do is Do.APPEND:
        value = record.append(attempt, key)
        grown = sa.update(Kept).where(Kept.id == key).values(items=Kept.items + f",{value}")
        session.execute(grown, execution_options={"synchronize_session": False})
        return
    row = session.get_one(Kept, key, populate_existing=True)
    attempt.ops.append(Read(key, _values(row.items)))
    if do is Do.REWRITE:
        row.items += f",{record.append(attempt, key)}"
        session.flush()


def unit(door: Sessions, record: Record, what: Plan, asked: dict[str, Any]) -> None:
    """One unit through the synchronous door; whatever becomes of it is noted."""
    attempts: list[Attempt] = []

    def body(session: Session) -> None:
        attempts.append(record.begin())
        for number, (do, place) in enumerate(what.steps):
            if number == what.boom_at:
                raise Boom
            perform(session, record, attempts[-1], do, record.in_use(place))

    asked = asked | {"outcome": "exact"} if what.exact else asked
    failed: BaseException | None = None
    try:
        if what.repeats:
            door.run(body, deadline=what.deadline, retry=20, **asked)
        else:
            with door.begin(deadline=what.deadline, **asked) as session:
                body(session)
    except Exception as error:
        failed = error
    record.ended(what, attempts, failed)


async def unit_async(door: AsyncSessions, record: Record, what: Plan, asked: dict[str, Any]) -> None:
    """The same through the asynchronous one, in a task of its own that may be cancelled."""
    attempts: list[Attempt] = []

    async def body(session: Any) -> None:
        attempts.append(record.begin())
        for number, (do, place) in enumerate(what.steps):
            if number == what.boom_at:
                raise Boom
            await session.run_sync(perform, record, attempts[-1], do, record.in_use(place))

    asked = asked | {"outcome": "exact"} if what.exact else asked

    async def work() -> None:
        if what.repeats:
            await door.run(body, deadline=what.deadline, retry=20, **asked)
        else:
            async with door.begin(deadline=what.deadline, **asked) as session:
                await body(session)

    task = asyncio.get_running_loop().create_task(work())
    if what.cancel_after is not None:
        asyncio.get_running_loop().call_later(what.cancel_after, task.cancel)
    failed: BaseException | None = None
    try:
        await task
    except (Exception, asyncio.CancelledError) as error:
        failed = error
    record.ended(what, attempts, failed)


def prepare(url: str, lists: int) -> None:
    """Make the table, and so many empty lists."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        Base.metadata.create_all(connection)
        connection.execute(sa.insert(Kept), [{"id": key, "items": ""} for key in range(lists)])
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")


def final(url: str) -> dict[int, tuple[int, ...]]:
    """What is in each list now."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        return {key: _values(items) for key, items in connection.execute(sa.select(Kept.id, Kept.items)) if items}


def _values(items: str) -> tuple[int, ...]:
    return tuple(int(value) for value in items.split(",") if value)
