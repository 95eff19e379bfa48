"""From the signs of an error to its meaning: the rows of a table and the one way to look one up. Pure.

A row says what one code, class of codes, message or driver exception means, and where that is documented. The tables
are in `postgresql_rows`, `mysql_rows` and `sqlite_rows`. Nothing here imports a driver: the shell extracts an
`ErrorSigns` from the exception it caught.

The rule that must not change: an error before COMMIT was sent is certainly not committed; an error at COMMIT is so
only if its row says so and the server said it over a live connection. What no row says is unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum

import msgspec

from ..failures import Failure, Kind, Phase
from ..options import Access

__all__ = ["COMMON", "AtCommit", "ErrorRow", "ErrorSigns", "ErrorTable"]


class AtCommit(StrEnum):
    """What an error that came as the answer to COMMIT says about the transaction."""

    ROLLED_BACK = "rolled back"
    """The server has rolled back, certainly."""
    STILL_OPEN = "still open"
    """COMMIT did nothing; the transaction waits for another COMMIT or a ROLLBACK."""
    UNKNOWN = "unknown"
    """It may have committed."""


class ErrorSigns(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of an error, without its exception. What the driver does not tell stays at its default."""

    sqlstate: str | None = None
    errno: int | None = None
    """The error number of MySQL and MariaDB."""
    sqlite_code: int | None = None
    """The extended result code of SQLite (`sqlite_errorcode`)."""
    class_names: tuple[str, ...] = ()
    """The names of the exception's classes, from the raised one upwards, the driver's own exception first."""
    message: str = ""
    connection_closed: bool = False
    """The driver says that its connection is closed or broken."""
    nothing_sent: bool = False
    """The driver vouches that no byte of the failed request left. At COMMIT: COMMIT was not sent."""
    access: Access | None = None
    """What the unit was opened for; None if the error came outside of one."""
    replica_wait: bool = False
    """The failed statement was our own wait for a replica to catch up."""


class ErrorRow(msgspec.Struct, frozen=True):
    """What one code means. `says`, `raised`, `closed`, `access` and `replica_wait` narrow it down; all must hold."""

    code: str
    """A code or class of codes in the spelling of its dialect; empty: known by message or class alone."""
    kind: Kind
    note: str
    """Why, as a clause for people."""
    source: str
    says: str = ""
    """A fragment of the message, in lower case. Servers may translate messages: a code is always the better key."""
    raised: str = ""
    """The name of a class of the exception."""
    closed: bool | None = None
    """Holds only if the connection is closed (True) or alive (False)."""
    access: Access | None = None
    replica_wait: bool = False
    transient: bool = False
    at_commit: AtCommit = AtCommit.UNKNOWN
    closes: bool = False
    """The connection cannot, or must not, be used again."""
    loses_transaction: bool = False
    """The server has, or may have, rolled back the whole transaction and left the connection open."""

    @property
    def key(self) -> tuple[object, ...]:
        """What tells this row from all others of its table."""
        return (self.code, self.says, self.raised, self.closed, self.access, self.replica_wait)

    @property
    def precision(self) -> tuple[int, int]:
        """How closely it describes an error: by the driver's own words and classes first, by circumstances second. Of
        the rows that hold, the most precise one wins."""
        words = bool(self.says) + bool(self.raised)
        return words, (self.closed is not None) + (self.access is not None) + self.replica_wait

    def holds(self, signs: ErrorSigns, message: str) -> bool:
        """Whether all conditions beside the code hold; `message` is the message in lower case."""
        return (
            (not self.says or self.says in message)
            and (not self.raised or self.raised in signs.class_names)
            and (self.closed is None or self.closed is signs.connection_closed)
            and (self.access is None or self.access is signs.access)
            and (not self.replica_wait or signs.replica_wait)
        )


_PEP249 = "PEP 249, Exceptions"
_PYTHON = "Python library reference, built-in exceptions"

COMMON = (
    ErrorRow("", Kind.CONNECTION_LOST, "the driver's connection is closed", "each driver's own flag; see the shell",
             closed=True, transient=True, closes=True),
    ErrorRow("", Kind.CANCELLED, "the task was cancelled while the driver waited", _PYTHON,
             raised="CancelledError", closes=True),
    # TimeoutError is an OSError: it comes first. Whether the server still works on the statement is not known.
    ErrorRow("", Kind.STATEMENT_TIMEOUT, "the driver stopped waiting for an answer", _PYTHON,
             raised="TimeoutError", closes=True),
    ErrorRow("", Kind.CONNECT_FAILED, "nobody listens at the server's address", _PYTHON,
             raised="ConnectionRefusedError", transient=True, closes=True),
    ErrorRow("", Kind.CONNECT_FAILED, "the host name was not found", "Python library reference, socket.gaierror",
             raised="gaierror", transient=True, closes=True),
    ErrorRow("", Kind.CONNECTION_LOST, "the operating system reported the link as broken", _PYTHON,
             raised="OSError", transient=True, closes=True),
    ErrorRow("", Kind.CONNECTION_LOST, "the stream ended in the middle of an answer", _PYTHON,
             raised="EOFError", transient=True, closes=True),
    ErrorRow("", Kind.CONSTRAINT, "a constraint refused the change", _PEP249, raised="IntegrityError"),
    ErrorRow("", Kind.DATA, "a value does not fit", _PEP249, raised="DataError"),
    ErrorRow("", Kind.UNSUPPORTED, "the database cannot do this", _PEP249, raised="NotSupportedError"),
    ErrorRow("", Kind.PROGRAMMING, "the statement or the call was wrong", _PEP249, raised="ProgrammingError"),
    ErrorRow("", Kind.OTHER, "an error that no table knows", "none: nothing is assumed"),
)  # fmt: skip
"""The last rows of every table; the very last one holds for everything."""

_BEFORE_ANY_BYTE = {Kind.CONNECTION_LOST, Kind.SHARD_DOWN, Kind.STATEMENT_TIMEOUT}
"""What is a failure to connect if it came while connecting."""


class ErrorTable:
    """The rows of one dialect, by code. Immutable; may be shared between threads.

    Two rows with one key, or a lost connection that claims to know the outcome of COMMIT, are refused when the table
    is made: they would be our own mistakes.
    """

    __slots__ = ("_by_code", "rows")

    rows: tuple[ErrorRow, ...]

    def __init__(self, rows: Iterable[ErrorRow]) -> None:
        self.rows = (*rows, *COMMON)
        self._by_code: dict[str, list[ErrorRow]] = {}
        keys = set()
        for row in self.rows:
            if row.key in keys:
                raise AssertionError(f"two rows for {row.key}")
            if row.kind is Kind.CONNECTION_LOST and row.at_commit is not AtCommit.UNKNOWN:
                raise AssertionError(f"a lost connection leaves the outcome of COMMIT unknown: {row.key}")
            keys.add(row.key)
            self._by_code.setdefault(row.code, []).append(row)
        for bucket in self._by_code.values():
            bucket.sort(key=lambda row: row.precision, reverse=True)

    def find(self, signs: ErrorSigns, codes: Sequence[str]) -> ErrorRow:
        """The row for an error with these codes, the most specific code first. There is always one."""
        message = signs.message.lower()
        for code in (*codes, ""):
            for row in self._by_code.get(code, ()):
                if row.holds(signs, message):
                    return row
        raise AssertionError("the last row holds for everything")

    def classify(self, signs: ErrorSigns, phase: Phase, codes: Sequence[str]) -> Failure:
        """What the error means in this phase. Never raises, whatever the signs."""
        row = self.find(signs, codes)
        if phase is Phase.COMMIT_SENT and signs.nothing_sent:
            phase = Phase.BODY  # COMMIT did not leave: the open transaction dies with its connection
        safe = phase is not Phase.COMMIT_SENT or (
            row.at_commit is not AtCommit.UNKNOWN and (row.closes or not signs.connection_closed)
        )
        kind = Kind.CONNECT_FAILED if phase is Phase.NOTHING_SENT and row.kind in _BEFORE_ANY_BYTE else row.kind
        code = next((code for code in codes if code), "")
        return Failure(
            kind=kind,
            code=code.removeprefix("#"),
            phase=phase,
            transient=safe and (row.transient or (kind is not row.kind and row.kind is Kind.STATEMENT_TIMEOUT)),
            certainly_not_committed=safe,
            connection_usable=safe and not row.closes and not signs.connection_closed and kind is row.kind,
            transaction_lost=row.loses_transaction,
            reason=f"{row.note} ({code.removeprefix('#')})" if code else row.note,
            source=row.source,
        )
