"""What happened, as frozen values, and the protocol of those who are told.

Facts go out, decisions do not come back: an observer cannot steer, and what it raises is logged and dropped. A fact
holds names, numbers and places; never a statement's parameters, a URL or a live session. Stamps are seconds of
`time.monotonic()`. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from types import CodeType
from typing import NewType, Protocol

import msgspec

from .options import Access

__all__ = [
    "AttemptFailed",
    "Fact",
    "HoldEnded",
    "HoldId",
    "HoldKind",
    "HoldOpened",
    "Observer",
    "Origin",
    "Outcome",
    "OutcomeFound",
    "Owner",
    "TransactionIdled",
    "mark_outcome",
    "outcome_of",
    "unit_id_of",
]

HoldId = NewType("HoldId", int)
"""Identifies one unit of work or one independent session within this process."""


class Outcome(StrEnum):
    """How a unit or session ended."""

    COMMITTED = "committed"
    ROLLED_BACK = "rolled back"
    UNKNOWN = "unknown"
    """COMMIT was sent and its acknowledgement was lost."""
    LOST = "lost"
    """The database has failed over to a server that does not have it, or another one was asked than it ran in: it may
    have been committed there."""
    PARTIAL = "partial"
    """Several databases without atomicity: some committed, some not."""
    CLOSED = "closed"
    """An independent session was closed by its owner, who alone knows what it committed."""
    DROPPED = "dropped"
    """Nobody ended it: it was reclaimed when its last reference or its owner was gone."""


_MARK = "unit_outcome"
_ID = "unit_id"


def mark_outcome(error: BaseException, outcome: Outcome, unit_id: str = "") -> None:
    """Let an error that leaves a unit carry how the unit ended, as its attribute `unit_outcome`; and as `unit_id` the
    id by which one can ask for that, if there is one."""
    try:
        setattr(error, _MARK, outcome)
        if unit_id:
            setattr(error, _ID, unit_id)
    except (AttributeError, TypeError):
        return  # a class that takes no attributes; its error is told by the observers


def outcome_of(error: BaseException) -> Outcome | None:
    """How the unit ended that `error` left, or that an error it came from left; None if none did.

    A `TimeoutError` of `asyncio.timeout` comes from the `CancelledError` that left the unit, for example.
    """
    for one in _chain(error):
        found = getattr(one, _MARK, None)
        if isinstance(found, Outcome):
            return found
    return None


def unit_id_of(error: BaseException) -> str | None:
    """The id of the unit that `error` left, or that an error it came from left, for `outcome(unit_id)`.

    A unit has one if it wanted to know its outcome, sent COMMIT and did not hear the answer. None for all others.
    """
    for one in _chain(error):
        found = getattr(one, _ID, None)
        if isinstance(found, str):
            return found
        if getattr(one, _MARK, None) is not None:
            return None  # it is that unit's error, and there is no id
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """It, and what it came from."""
    seen: set[int] = set()
    current: BaseException | None = error if isinstance(error, BaseException) else None
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


class HoldKind(StrEnum):
    """What is held: a unit of work, or a session that its owner ends."""

    UNIT = "unit"
    SESSION = "session"


class Origin(msgspec.Struct, frozen=True, gc=False):
    """A place in the code, kept as code object and instruction, so that taking it costs almost nothing."""

    code: CodeType
    instruction: int

    @property
    def file(self) -> str:
        """The file's path as the interpreter knows it."""
        return self.code.co_filename

    @property
    def line(self) -> int:
        """The line of the instruction, found when asked for."""
        line = self.code.co_firstlineno
        for start, end, number in self.code.co_lines():
            if start <= self.instruction < end and number is not None:
                line = number
        return line

    @property
    def function(self) -> str:
        """The qualified name of the function."""
        return self.code.co_qualname

    def __str__(self) -> str:
        return f"{self.file}:{self.line} in {self.function}"


class Owner(msgspec.Struct, frozen=True, gc=False):
    """Who holds: a thread, perhaps a task in it, in a process."""

    process: int
    thread: int
    thread_name: str
    task_name: str | None = None

    def __str__(self) -> str:
        return f"task {self.task_name!r}" if self.task_name is not None else f"thread {self.thread_name!r}"


class HoldOpened(msgspec.Struct, frozen=True, gc=False):
    """A unit of work or an independent session began."""

    hold: HoldId
    kind: HoldKind
    name: str
    databases: tuple[str, ...]
    endpoints: tuple[str, ...]
    access: Access
    owner: Owner
    origin: Origin
    stamp: float
    tenant: str | None = None
    """In whose database it works; None where that has no tenants."""


class HoldEnded(msgspec.Struct, frozen=True, gc=False):
    """A unit of work or an independent session ended, and how."""

    hold: HoldId
    outcome: Outcome
    stamp: float


class AttemptFailed(msgspec.Struct, frozen=True, gc=False):
    """A repeatable unit failed; `wait` is the pause in seconds before the next attempt, None if there is none."""

    name: str
    attempt: int
    kind: str
    reason: str
    wait: float | None
    stamp: float


class OutcomeFound(msgspec.Struct, frozen=True, gc=False):
    """The answer to the COMMIT of a unit was lost, and the database was asked what came of it."""

    name: str
    unit: str
    """The unit's id."""
    outcome: Outcome
    reason: str
    seconds: float
    """How long it took to find out."""
    stamp: float


class TransactionIdled(msgspec.Struct, frozen=True, gc=False):
    """A transaction was open, with its connection, for longer than `pool.idle_warning` without a statement."""

    hold: HoldId
    name: str
    databases: tuple[str, ...]
    origin: Origin
    """Where the unit or session was opened."""
    seconds: float
    until: Origin
    """The code that went on with it."""
    stamp: float


Fact = HoldOpened | HoldEnded | AttemptFailed | OutcomeFound | TransactionIdled


class Observer(Protocol):
    """Is told every fact, in the thread or task where it happened; must be quick, and cannot steer."""

    def tell(self, fact: Fact) -> None:
        """Take note of `fact`. What this raises is logged once and dropped."""
