"""The vocabulary of the core: what a driver is asked to do next.

A core generator yields one step at a time and is sent its result, or has the step's error thrown into it. Only a
driver (`_shell.drive`, `_shell.drive_async`) or the scripted player of the tests advances such a generator, and each
drains it. Entering and leaving are separate generators, so none is suspended while the user's code runs.

A `Holding` is opaque here: the shell's object with the session in it.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeAlias, TypeVar

import msgspec

from ..failures import Phase

__all__ = [
    "Body",
    "Call",
    "Classify",
    "Close",
    "Commit",
    "Draw",
    "Flush",
    "Holding",
    "Open",
    "Pause",
    "Release",
    "Restore",
]
__all__ += ["Rollback", "Savepoint", "Step", "Steps"]

T = TypeVar("T")
Holding: TypeAlias = Any


class Open(msgspec.Struct, frozen=True):
    """Make the session of a new unit. Answer: the `Holding`. Touches no server.

    The performer puts it into `scope.holding` as soon as it is made: an interrupt before the answer then loses nothing.
    """

    scope: Any
    transaction: bool


class Flush(msgspec.Struct, frozen=True):
    """Send the work that is pending in the session. An error here is certainly before COMMIT."""

    holding: Holding


class Commit(msgspec.Struct, frozen=True):
    """Commit one database of the unit. Shielded: a cancellation waits for its end. An error here is at COMMIT."""

    holding: Holding
    database: str


class Rollback(msgspec.Struct, frozen=True):
    """Roll back. Shielded; if the server does not answer in time the connection is closed by force."""

    holding: Holding


class Close(msgspec.Struct, frozen=True):
    """End the session for good and give its connection back. Shielded; `broken` connections are thrown away."""

    holding: Holding
    broken: bool = False


class Savepoint(msgspec.Struct, frozen=True):
    """Set a savepoint in the open unit. Answer: the savepoint."""

    holding: Holding


class Release(msgspec.Struct, frozen=True):
    """Release a savepoint: its work now belongs to the unit around it. Flushes first."""

    savepoint: Any


class Restore(msgspec.Struct, frozen=True):
    """Return to a savepoint: the work since then is undone."""

    savepoint: Any


class Body(msgspec.Struct, frozen=True):
    """Run the user's function with the unit's session. Answer: what it returned."""

    session: Any


class Classify(msgspec.Struct, frozen=True):
    """Say what an error means. Answer: a `Failure`."""

    error: BaseException
    phase: Phase
    database: str
    holding: Holding = None


class Call(msgspec.Struct, frozen=True):
    """Call a hook and wait for it if it is a coroutine. Shielded; what a robust one raises is logged."""

    hook: Any
    args: tuple[Any, ...]


class Pause(msgspec.Struct, frozen=True):
    """Let time pass, in seconds. A cancellation ends it."""

    seconds: float


class Draw(msgspec.Struct, frozen=True):
    """Answer: a random number in [0, 1) and the seconds left until the deadline (infinity if there is none)."""

    deadline_at: float | None


Step = Open | Flush | Commit | Rollback | Close | Savepoint | Release | Restore | Body | Call | Classify | Pause | Draw
Steps = Generator[Step, Any, T]
