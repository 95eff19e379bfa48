"""Statements of MariaDB and MySQL that commit by themselves what came before them. Pure.

Sources: MariaDB documentation and MySQL Reference Manual, "Statements That Cause an Implicit Commit". Statements that
begin a transaction do so as well; they are refused in a unit in any case (`reading`). What a stored procedure or a
prepared statement does is not told by the text that calls it.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["commits_before"]

_GAP: Final = r"(?>\s|/\*M?!\d*|\*/|/\*(?!M?!).*?\*/|--[^\n]*\n|\#[^\n]*\n)"
"""What may stand between two words. The text in a comment that begins with `!` is executed (MariaDB documentation,
"Comment Syntax")."""
_AROUND: Final = re.compile(
    rf"{_GAP}*(?:SET{_GAP}+STATEMENT\b.*?\bFOR\b|EXECUTE{_GAP}+IMMEDIATE{_GAP}*['\"])", re.IGNORECASE | re.DOTALL
)
"""What has another statement behind it (MariaDB documentation, "SET STATEMENT", "EXECUTE IMMEDIATE")."""
_WORDS: Final = re.compile(rf"{_GAP}*([A-Za-z]+)" + rf"(?:{_GAP}+([A-Za-z_]+))?" * 3, re.DOTALL)
_ALWAYS: Final = frozenset(
    """
    ALTER RENAME TRUNCATE INSTALL UNINSTALL GRANT REVOKE CACHE CHECK FLUSH OPTIMIZE REPAIR RESET LOCK UNLOCK STOP CHANGE
    BACKUP
    """.split()  # noqa: SIM905  # a list of texts would fill a page
)
_WITH: Final = {
    "ANALYZE": ("TABLE", "TABLES"),
    "LOAD": ("INDEX",),
    "START": ("SLAVE", "REPLICA", "GROUP_REPLICATION"),
}
"""First words that do so with one of these behind them."""


def commits_before(text: str) -> str | None:
    """The words by which a text commits what came before it, as an error names them; None if it does not."""
    while (around := _AROUND.match(text)) is not None:
        text = text[around.end() :]
    found = _WORDS.match(text)
    if found is None:
        return None
    words = [word.upper() for word in found.groups() if word is not None]
    first, others = words[0], words[1:]
    if first in ("CREATE", "DROP"):
        if "TEMPORARY" in others or others[:1] == ["PREPARE"]:
            return None
    elif first == "SET":
        if others[:1] != ["PASSWORD"] and others[:2] != ["DEFAULT", "ROLE"]:
            return None
    elif first not in _ALWAYS and not any(word in _WITH.get(first, ()) for word in others):
        return None
    return " ".join(words[:2])
