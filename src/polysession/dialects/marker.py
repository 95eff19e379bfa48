"""The SQL of the marker by which the outcome of a COMMIT is found out. Pure text; sends nothing.

The unit writes a row with its id and the verdict "committed" in its own transaction. Whoever lost the answer to COMMIT
writes the same id with the verdict "aborted" on a new connection, in a transaction of its own (the *fence*). It waits
while the lost transaction is open. If it succeeds and commits, the lost transaction never will; if it fails on the
key, the row is read: its verdict decides. Reading without writing first decides nothing, because a transaction that is
still open shows no row. (The method is that of a unique row in the same transaction, as in the PostgreSQL-based
"Transaction traceability" and in Oracle's Transaction Guard, which names the race of a mere look-up.)

A caller's key claims its row when the unit begins, so that a second one waits for the first or meets its row. `attempt`
says which unit wrote it: another one's row is no proof that this one has committed. A fence of a claimed key is rolled
back, not committed: the claim was answered before COMMIT could be sent, so once the fence has its lock the unit that
claimed is over, and the key is free for the next one.

The texts have the id in them, since the one that goes with COMMIT must be one message: it is checked to be a UUID.
"""

from __future__ import annotations

import functools
import re

import msgspec

__all__ = ["ABORTED", "CLAIMED", "COMMITTED", "TABLE_NAME", "Marker"]

TABLE_NAME = "polysession_commit"
COMMITTED = "c"
"""The verdict written by the unit itself."""
ABORTED = "a"
"""The verdict written by a fence."""
CLAIMED = "k"
"""The verdict of a unit that has a caller's key."""

_T = TABLE_NAME


class Marker(msgspec.Struct, frozen=True, kw_only=True):
    """The statements of one dialect. `unit` and `attempt` are UUIDs; other texts are refused with `ValueError`."""

    uuid_type: str
    """The type of ids. Two texts that differ are two ids."""
    now: str
    """Whole seconds of the server's clock, which moves on within a transaction."""
    tail: str = ""
    together: str = ""
    """One message that does `{write}` and then COMMIT, and stops at the first error; empty: there is none."""
    claimed: str = ""
    """Makes `claim` answer the server's number of the connection that holds the key now: behind a pooler the driver
    knows another one. Empty: it answers nothing."""
    if_wrote: str = ""
    """A condition that the server answers: the transaction has changed something. Empty: the server cannot say."""
    forget_rows: str = ""
    server: str
    """A query for the history in which commits take place, and for the database: another text after a failover to a
    server that may not have them all, the same text on every server that surely has. PostgreSQL tells its number of the
    connection as well."""
    blocker: str = ""
    """A query for what the connection `{backend}`, which has written a marker, does just now: `idle`, `running`,
    `replicating` (it has committed and waits for a standby); no row if it is not there. Empty: there is none."""
    evict: str = ""
    """Ends the connection `{backend}`."""

    @property
    def exists(self) -> str:
        """Fails if the table is not there."""
        return f"SELECT attempt, result FROM {_T} WHERE 1 = 0"  # noqa: S608  # constants and checked ids

    @property
    def create(self) -> str:
        """Makes the table if it is missing."""
        return (
            f"CREATE TABLE IF NOT EXISTS {_T} (\n"
            f"    unit {self.uuid_type} NOT NULL PRIMARY KEY,\n"
            "    verdict char(1) NOT NULL,\n"
            f"    written_at bigint NOT NULL DEFAULT ({self.now}),\n"
            f"    attempt {self.uuid_type},\n"
            "    result text\n"
            f"){self.tail}"
        )

    def write(self, unit: str, *, sure: bool = False) -> str:
        """The unit's own row; where the server can say, and unless `sure`, only if the transaction changed anything."""
        return _written(self, sure).replace(_ID, _checked(unit))

    def written(self, parameter: str, *, sure: bool = False) -> str:
        """The text of `write` with a parameter, as the database or its driver writes one, in the place of the id."""
        return _written(self, sure).replace(f"'{_ID}'", parameter)

    def with_commit(self, write: str) -> str:
        """`write` and COMMIT in one message; empty if there is no such thing."""
        return self.together.replace("{write}", write)

    def fence(self, unit: str) -> str:
        """The row of whoever asks. Waits for a transaction that is writing the id; fails if the row is there."""
        return f"INSERT INTO {_T} (unit, verdict) VALUES ('{_checked(unit)}', '{ABORTED}')"  # noqa: S608  # constants and checked ids

    def claim(self, unit: str, attempt: str) -> str:
        """The row of a caller's key, at the beginning of its unit."""
        values = f"'{_checked(unit)}', '{CLAIMED}', '{_checked(attempt)}'"
        return f"INSERT INTO {_T} (unit, verdict, attempt) VALUES ({values}){self.claimed}"  # noqa: S608  # constants and checked ids

    def record(self, unit: str) -> str:
        """Keeps a result with a claimed key; has one parameter of SQLAlchemy's `text()`, `:result`."""
        return f"UPDATE {_T} SET result = :result WHERE unit = '{_checked(unit)}'"  # noqa: S608  # constants and checked ids

    def read(self, unit: str) -> str:
        """The verdict, the attempt and the result."""
        return f"SELECT verdict, attempt, result FROM {_T} WHERE unit = '{_checked(unit)}'"  # noqa: S608  # constants and checked ids

    def forget(self, before: str, age: float, most: int) -> str:
        """Deletes at most so many rows with ids below `before` that are older than `age` seconds by the server's
        clock. It reads the beginning of the primary key only, and never a caller's key."""
        old = f"unit < '{_checked(before)}' AND written_at < {self.now} - {int(age)} AND verdict <> '{CLAIMED}'"
        return self.forget_rows.replace("{table}", _T).replace("{old}", old).replace("{most}", str(int(most)))


@functools.cache
def _written(marker: Marker, sure: bool) -> str:
    """The text of `write`, with `_ID` in the place of the id. Each unit needs it: it is made once."""
    if marker.if_wrote and not sure:
        row = f"SELECT CAST('{_ID}' AS {marker.uuid_type}), '{COMMITTED}' WHERE {marker.if_wrote}"
        return f"INSERT INTO {_T} (unit, verdict) {row}"  # constants
    return f"INSERT INTO {_T} (unit, verdict) VALUES ('{_ID}', '{COMMITTED}')"  # noqa: S608  # constants


_ID = "{id}"
_is_id = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch


def _checked(text: str) -> str:
    if not _is_id(text):
        raise ValueError("an id is a UUID in its usual spelling")
    return text
