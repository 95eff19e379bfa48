"""What happened, as frozen values, and the protocol of those who are told.

Facts go out, decisions do not come back: an observer cannot steer, and what it raises is logged and dropped. A fact
holds names, numbers and places; never a statement's parameters, a URL or a live session. Stamps are seconds of
`time.monotonic()`. Pure.
"""

from __future__ import annotations

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
    "Owner",
    "mark_outcome",
    "outcome_of",
]

HoldId = NewType("HoldId", int)
"""Identifies one unit of work or one independent session within this process."""


class Outcome(StrEnum):
    """How a unit or session ended."""

    COMMITTED = "committed"
    ROLLED_BACK = "rolled back"
    UNKNOWN = "unknown"
    """COMMIT was sent and its acknowledgement was lost."""
    PARTIAL = "partial"
    """Several databases without atomicity: some committed, some not."""
    CLOSED = "closed"
    """An independent session was closed by its owner, who alone knows what it committed."""
    DROPPED = "dropped"
    """Nobody ended it: it was reclaimed when its last reference or its owner was gone."""


_MARK = "unit_outcome"


def mark_outcome(error: BaseException, outcome: Outcome) -> None:
    """Let an error that leaves a unit carry how the unit ended, as its attribute `unit_outcome`."""
    try:
        setattr(error, _MARK, outcome)
    except (AttributeError, TypeError):
        return  # a class that takes no attributes; its error is told by the observers


def outcome_of(error: BaseException) -> Outcome | None:
    """How the unit ended that `error` left, or that an error it came from left; None if none did.

    A `TimeoutError` of `asyncio.timeout` comes from the `CancelledError` that left the unit, for example.
    """
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        found = getattr(current, _MARK, None)
        if isinstance(found, Outcome):
            return found
        current = current.__cause__ or current.__context__
    return None


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


Fact = HoldOpened | HoldEnded | AttemptFailed


class Observer(Protocol):
    """Is told every fact, in the thread or task where it happened; must be quick, and cannot steer."""

    def tell(self, fact: Fact) -> None:
        """Take note of `fact`. What this raises is logged once and dropped."""
