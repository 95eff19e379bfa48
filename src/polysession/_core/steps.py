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
from .turns import Turn

__all__ = [
    "Body",
    "Call",
    "Classify",
    "Close",
    "Commit",
    "Dial",
    "Draw",
    "Evict",
    "Fence",
    "Flush",
    "HangUp",
    "Holding",
    "Look",
    "Open",
    "Pause",
    "ReadVerdict",
    "Ready",
    "Recall",
    "Release",
    "Rest",
    "Restore",
    "Rollback",
    "Savepoint",
    "Seal",
    "Step",
    "Steps",
    "TakeKey",
]

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
    """Let time pass, in seconds. A cancellation ends it.

    With a `turn` that is not the first of its line: wait until it is; in vain for `seconds` in which the line stands
    still, or until the deadline.
    """

    seconds: float
    turn: Turn | None = None
    deadline_at: float | None = None


class Draw(msgspec.Struct, frozen=True):
    """Answer: a random number in [0, 1) and the seconds left until the deadline (infinity if there is none)."""

    deadline_at: float | None


# -- for units that know their outcome. From `Recall` on all are shielded: a cancelled task still hears what came of its
# COMMIT.


class Ready(msgspec.Struct, frozen=True):
    """See to it that the table of outcomes is there, on a connection of its own. Once for each process and engine."""

    databases: tuple[str, ...]
    tenant: str | None = None


class TakeKey(msgspec.Struct, frozen=True):
    """Take the connection and write the row of the unit's key. Waits for a unit that has it; `AlreadyCommitted`."""

    holding: Holding


class Recall(msgspec.Struct, frozen=True):
    """What is known of a COMMIT whose answer was lost. Answer: a `Marked`; None: it has never left. Reads memory."""

    holding: Holding
    database: str
    deadline_at: float | None
    interrupted: bool
    """The caller is in a hurry: an interrupt or a cancellation is on its way."""


class Dial(msgspec.Struct, frozen=True):
    """Make a new connection to the primary, for asking. Answer: the link; it knows the server that it leads to.

    A question on it that waits for no lock is answered within `seconds`, or the link is shut.
    """

    database: str
    seconds: float
    tenant: str | None = None


class Fence(msgspec.Struct, frozen=True):
    """Write the unit's id on the link, with the verdict "aborted". Waits for a lock at most so long.

    Where the driver can send both in one message it is committed, too: then no fence is left half done on a server that
    has not heard that its client is gone. A caller's key is never committed.
    """

    link: Any
    unit: str
    seconds: float


class Seal(msgspec.Struct, frozen=True):
    """Commit the fence, if it is not yet: from here on the unit can never commit."""

    link: Any


class ReadVerdict(msgspec.Struct, frozen=True):
    """Read the unit's row. Answer: verdict and attempt, each a text; None if there is no row."""

    link: Any
    unit: str


class Look(msgspec.Struct, frozen=True):
    """What the unit's own connection does on the server. Answer: a `Doing`."""

    link: Any
    backend: int


class Evict(msgspec.Struct, frozen=True):
    """Let the server end the unit's own connection."""

    link: Any
    backend: int


class HangUp(msgspec.Struct, frozen=True):
    """Close the link, and with it what was not committed on it."""

    link: Any


class Rest(msgspec.Struct, frozen=True):
    """As `Pause`, but not ended by a cancellation. Answer: whether one waits for the end of all this."""

    seconds: float


Step = (
    Open
    | Flush
    | Commit
    | Rollback
    | Close
    | Savepoint
    | Release
    | Restore
    | Body
    | Call
    | Classify
    | Pause
    | Draw
    | Ready
    | TakeKey
    | Recall
    | Dial
    | Fence
    | Seal
    | ReadVerdict
    | Look
    | Evict
    | HangUp
    | Rest
)
Steps = Generator[Step, Any, T]
