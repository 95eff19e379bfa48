"""The SQL of the marker by which the outcome of a COMMIT is found out. Pure text; sends nothing.

The unit writes a row with its id and the verdict "committed" in its own transaction. Whoever lost the answer to COMMIT
writes the same id with the verdict "aborted" on a new connection, in a transaction of its own (the *fence*). It waits
while the lost transaction is open. If it succeeds and commits, the lost transaction never will; if it fails on the
key, the row is read: its verdict decides. Reading without writing first decides nothing, because a transaction that is
still open shows no row. (The method is that of a unique row in the same transaction, as in the PostgreSQL-based
"Transaction traceability" and in Oracle's Transaction Guard, which names the race of a mere look-up.)

Parameters are named as SQLAlchemy's `text()` takes them: `:unit`, `:verdict`, `:age` in seconds.
"""

from __future__ import annotations

import msgspec

__all__ = ["ABORTED", "COMMITTED", "TABLE_NAME", "MarkerSql", "marker_sql"]

TABLE_NAME = "polysession_commit"
COMMITTED = "c"
"""The verdict written by the unit itself."""
ABORTED = "a"
"""The verdict written by a fence."""


class MarkerSql(msgspec.Struct, frozen=True, kw_only=True):
    """The statements of one dialect."""

    create: str
    """Makes the table if it is missing."""
    write: str
    """`:unit`, `:verdict`. Waits for a transaction that is writing the id. `Kind.DUPLICATE` if it is there."""
    read: str
    """`:unit`. The verdict, or no row."""
    forget: str
    """`:age`. Deletes rows older than this, by the server's clock. Only rows nobody can ask for any more may go."""


def marker_sql(*, key_type: str, now: str, tail: str = "") -> MarkerSql:
    """The statements for a server with this type for keys, this expression for seconds of its clock, and these table
    options. The key must compare byte by byte: two ids that differ in case are two ids."""
    return MarkerSql(
        create=(
            f"CREATE TABLE IF NOT EXISTS {TABLE_NAME} ("
            f"unit {key_type} NOT NULL PRIMARY KEY, "
            "verdict char(1) NOT NULL, "
            f"written_at bigint NOT NULL DEFAULT ({now}))"
            f"{tail}"
        ),
        write=f"INSERT INTO {TABLE_NAME} (unit, verdict) VALUES (:unit, :verdict)",  # noqa: S608  # a constant name
        read=f"SELECT verdict FROM {TABLE_NAME} WHERE unit = :unit",  # noqa: S608  # a constant name
        forget=f"DELETE FROM {TABLE_NAME} WHERE written_at < {now} - :age",  # noqa: S608  # constant texts
    )
