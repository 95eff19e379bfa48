"""Whether a statement changes something, judged by its text. Pure.

A unit that surely changed nothing needs no row by which its outcome could be found out. Only texts of the databases
whose server cannot be asked are judged so: MariaDB, MySQL and SQLite. PostgreSQL is asked, unless a text says that
something was surely changed: the question costs the server as much as the row.
"""

from __future__ import annotations

import re

__all__ = ["may_change", "surely_changes"]

_GAP = r"(?>\s|/\*(?!M?!).*?\*/|--[^\n]*\n|\#[^\n]*\n)*"
"""Space and comments, but for those whose text is executed."""
_READS = re.compile(
    _GAP + r"(?:SELECT|WITH|SHOW|DESC|DESCRIBE|EXPLAIN|VALUES|TABLE|SAVEPOINT|RELEASE|ROLLBACK\s+TO"
    r"|SET(?!\s+(?:STATEMENT|PASSWORD|DEFAULT)\b))\b",
    re.IGNORECASE | re.DOTALL,
)
_CHANGES = re.compile(r"\b(?:INSERT|UPDATE|DELETE|REPLACE|INTO|CALL|DO)\b", re.IGNORECASE)
_CALLED = re.compile(r"([\w.`]+)\s*\(")
_HARMLESS = frozenset(
    """
    abs all and any as avg between by case cast ceil char_length coalesce concat connection_id count current_user
    database date day distinct else exists extract floor from get_lock greatest group_concat having if ifnull in
    is_free_lock is_used_lock join least left length like limit lower ltrim max min mod month not now nullif offset on
    or order over partition release_lock right round row_number rtrim schema select session_user substr substring sum
    then trim union upper user using values version when where with year
    """.split()  # noqa: SIM905  # a list of texts would fill a page
)
"""What may stand before an opening bracket: words of SQL, and functions of the server that change nothing."""


_INSERTS = re.compile(r"\s*INSERT\s+INTO\s+[\w.\"]+\s*(?:\([^()]*\)\s*)?VALUES\s*\(", re.IGNORECASE)
_UNLESS = re.compile(r"\bON\s+CONFLICT\b", re.IGNORECASE)


def surely_changes(statement: str) -> bool:
    """True for a text that adds a row if it does not fail; in doubt False. A rule or trigger may still keep it out."""
    return bool(_INSERTS.match(statement)) and not _UNLESS.search(statement)


def may_change(statement: str) -> bool:
    """False only for a text that surely changes nothing: a SELECT that calls no function but those known here, or a SET
    of variables that calls none."""
    if not _READS.match(statement) or _CHANGES.search(statement):
        return True
    return any(name.lower() not in _HARMLESS for name in _CALLED.findall(statement))
