"""What a database can do and how it is asked: capabilities, SQL text, the meaning of its errors. Pure, no I/O.

A `Dialect` is a value without state: one instance per kind of server, shared by all threads. It knows texts and tables
only; the shell sends the texts and extracts the signs of errors. It imports neither SQLAlchemy nor a driver.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from enum import StrEnum
from typing import ClassVar

import msgspec

from ..errors import RequestRefused
from ..failures import Failure, Phase
from ..options import Access, Isolation
from .marker import Marker
from .reading import Reading
from .rows import AtCommit, ErrorSigns, ErrorTable
from .traces import Traces

__all__ = ["Capabilities", "Dialect", "Setting", "StatementTimeout"]


class StatementTimeout(StrEnum):
    """How the server can be told to end a statement that takes too long."""

    TRANSACTION = "per transaction"
    """A setting that ends with the transaction."""
    SESSION = "per session"
    """A setting of the session that has to be undone."""
    SESSION_READS = "per session, SELECT only"
    """A setting of the session that has to be undone and does not bind writes."""
    CLIENT = "in this process"
    """Not by SQL: the database runs in this process and asks a callback."""


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What this kind of server can do, as `check` shows it and the doors need it. Immutable."""

    isolation: Mapping[Isolation, Isolation]
    """For each level that may be asked for the level that is given: the same or a stricter one, never a weaker."""
    default_isolation: Isolation
    """What the server gives if nothing is asked for and nobody changed its settings."""
    repeatable_isolation: Isolation | None
    """What a repeatable unit gets, so that a lost update is an error and the repetition mends it; None: the server's
    own level, which may lose updates in silence."""
    errors_abort: bool
    """After any error the server refuses every further statement of the transaction and answers COMMIT with a rollback
    that no driver reports as an error; only a return to an earlier savepoint mends it. False: a unit that swallows an
    error may go on, unless `Failure.transaction_lost`."""
    transactional_ddl: bool
    """CREATE, ALTER and DROP belong to the transaction; False: each commits what came before it."""
    two_phase: bool
    """A transaction can be prepared and committed later by any session."""
    concurrent_writers: bool
    """Several connections may write at once; False: write units take turns."""
    statement_timeout: StatementTimeout


class Setting(msgspec.Struct, frozen=True):
    """Text that changes a setting, and text that undoes it; `undo` is empty if it ends with the transaction."""

    apply: str
    undo: str = ""


class Dialect(ABC):
    """One kind of server. Instances have no state and may be shared between threads."""

    name: ClassVar[str]
    capabilities: Capabilities
    table: ClassVar[ErrorTable]
    marker: ClassVar[Marker]
    reads: ClassVar[Reading]
    """Judges the texts of read units."""
    traces: ClassVar[Traces]
    """Says of a text that may be sent whether it leaves something on its connection."""
    server_sql: ClassVar[str]
    """A query for one row of facts: version, isolation level, most connections (NULL: no limit), read-only (a truth
    value), most prepared transactions (NULL: no limit; 0: none can be prepared)."""

    def __repr__(self) -> str:
        return f"<dialect {self.name}>"

    def classify(self, signs: ErrorSigns, phase: Phase) -> Failure:
        """What an error with these signs means in this phase. Never raises."""
        return self.table.classify(signs, phase, self._codes(signs))

    def at_commit(self, signs: ErrorSigns) -> AtCommit:
        """What an error that came as the answer to COMMIT says about the transaction; UNKNOWN unless it is certain."""
        row = self.table.find(signs, self._codes(signs))
        failure = self.table.classify(signs, Phase.COMMIT_SENT, self._codes(signs))
        return row.at_commit if failure.certainly_not_committed else AtCommit.UNKNOWN

    def given(self, isolation: Isolation | None, *, snapshot: bool) -> Isolation | None:
        """The level to ask the server for; None: its own.

        A snapshot over several statements needs REPEATABLE READ at least. Raises `RequestRefused` if a level was asked
        for that cannot give it.
        """
        level = None if isolation is None else self.capabilities.isolation[isolation]
        if not snapshot:
            return level
        if level is None:
            return self.capabilities.isolation[Isolation.REPEATABLE_READ]
        if level in (Isolation.REPEATABLE_READ, Isolation.SERIALIZABLE):
            return level
        raise RequestRefused(
            f"one snapshot over all statements cannot be had at isolation level {level}",
            why="at that level each statement has a snapshot of its own",
            do=("leave out the isolation level", f"ask for {Isolation.REPEATABLE_READ}", "leave out snapshot=True"),
            isolation=str(level),
        )

    def commits_before(self, text: str) -> str | None:
        """Names a text that commits by itself what came before it; None for all others, and where there is none."""
        return None

    @abstractmethod
    def begin(self, *, access: Access, isolation: Isolation | None = None, snapshot: bool = False) -> tuple[str, ...]:
        """The statements that begin a transaction with these attributes, in order. Raises `RequestRefused` if
        `snapshot` contradicts `isolation`."""

    @abstractmethod
    def read_only(self) -> Setting:
        """The session refuses writes, also outside of a transaction."""

    reports_mode: ClassVar[str | None] = None
    """After this statement each answer of the server says whether the session's access mode was changed; None if there
    is no such statement."""

    @abstractmethod
    def statement_timeout(self, seconds: float, *, in_transaction: bool = True) -> Setting | None:
        """The server ends a statement after this time; for a transaction, if there is one and `capabilities` say so,
        else for the session. None if SQL cannot say it. Raises `ValueError` for a time that is not positive and
        finite."""

    @abstractmethod
    def lock_timeout(self, seconds: float) -> Setting:
        """The server gives up waiting for a lock after this time, rounded up to what it can measure. Raises
        `ValueError` for a time that is not positive and finite."""

    def lost_update_guard(self, version: tuple[int, ...]) -> Setting | None:
        """What makes lost updates an error at `repeatable_isolation` on a server of this version, if it takes a setting
        of the session; None: nothing is needed, or nothing helps."""
        del version
        return None

    @abstractmethod
    def _codes(self, signs: ErrorSigns) -> tuple[str, ...]:
        """The codes to look up, the most specific one first."""
