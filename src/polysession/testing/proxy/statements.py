"""From the text of a request to what its statements do: one verb each, in one spelling. Pure.

It splits at semicolons outside of strings, names and comments, and looks at the first words. It does not see what a
function, a procedure or an anonymous block does inside. Sources: PostgreSQL manual, "Lexical Structure" and the pages
of the commands; MariaDB manual, "Comment Syntax", "String Literals", "XA Transactions".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

__all__ = ["verbs_of"]

_SPECIAL = re.compile(r"""['"`;#]|--|/\*|\$(?:[A-Za-z_]\w*)?\$""")
_WORD = re.compile(r"[A-Za-z_]+")
_QUOTED = {
    "'": re.compile(r"'(?:[^']|'')*'"),
    '"': re.compile(r'"(?:[^"]|"")*"'),
    "`": re.compile(r"`(?:[^`]|``)*`"),
}
_ESCAPED = {
    "'": re.compile(r"'(?:[^'\\]|''|\\.)*'", re.DOTALL),
    '"': re.compile(r'"(?:[^"\\]|""|\\.)*"', re.DOTALL),
    "`": _QUOTED["`"],
}
_COMMENT = re.compile(r"/\*|\*/")
_SPELLINGS = {"END": "COMMIT", "ABORT": "ROLLBACK"}
_NOISE = frozenset({"WORK", "TRANSACTION", "TRAN"})
_BODIES = frozenset({"PROCEDURE", "FUNCTION", "TRIGGER", "EVENT", "PACKAGE"})


@lru_cache(maxsize=4096)
def verbs_of(sql: str, *, mysql: bool = False) -> tuple[str, ...]:
    """The verb of each statement of `sql`, in capitals: ("BEGIN", "INSERT", "COMMIT").

    A verb is the first word, and two words where they are another command: PREPARE TRANSACTION, COMMIT PREPARED,
    ROLLBACK PREPARED, ROLLBACK TO, XA START, XA END, XA PREPARE, XA COMMIT, XA ROLLBACK, XA RECOVER. START TRANSACTION
    is BEGIN, XA BEGIN is XA START, END is COMMIT, ABORT is ROLLBACK, RELEASE SAVEPOINT is RELEASE. Empty statements
    have none.
    """
    verbs = []
    for bare in _statements(sql, mysql):
        words = [word.upper() for word in _WORD.findall(bare[:200])]
        if words:
            verbs.append(_verb(words))
            if words[0] == "CREATE" and _BODIES.intersection(words[1:8]):
                break  # the rest of the text is its body
    return tuple(verbs)


def _verb(words: list[str]) -> str:
    first, then = words[0], words[1] if len(words) > 1 else ""
    if first == "XA":
        return "XA START" if then == "BEGIN" else f"XA {then}"
    if first == "START":
        return "BEGIN" if then == "TRANSACTION" else first
    if first == "PREPARE":
        return "PREPARE TRANSACTION" if then == "TRANSACTION" else first
    if first in {"COMMIT", "ROLLBACK"} and then == "PREPARED":
        return f"{first} PREPARED"
    verb = _SPELLINGS.get(first, first)
    if verb == "ROLLBACK" and "TO" in words[1:3] and set(words[1 : words.index("TO")]) <= _NOISE:
        return "ROLLBACK TO"
    return verb


def _statements(sql: str, mysql: bool) -> Iterator[str]:
    """The statements without comments and with all that is quoted taken out."""
    bare: list[str] = []
    at = 0
    while found := _SPECIAL.search(sql, at):
        start, mark = found.start(), found.group()
        bare.append(sql[at:start])
        at = found.end()
        if mark == ";":
            yield "".join(bare)
            bare = []
        elif mark == "--" or (mark == "#" and mysql):
            end = sql.find("\n", at)
            at = len(sql) if end < 0 else end
        elif mark == "/*":
            bare.append(" ")
            at = _after_comment(sql, at, nested=not mysql)
        elif mark in _QUOTED:
            escaped = mysql or (mark == "'" and sql[start - 1 : start] in {"e", "E"})
            quoted = (_ESCAPED if escaped else _QUOTED)[mark].match(sql, start)
            bare.append("''")
            at = quoted.end() if quoted else len(sql)
        elif mark[0] == "$" and not mysql:
            end = sql.find(mark, at)
            bare.append("''")
            at = len(sql) if end < 0 else end + len(mark)
        else:
            bare.append(mark)
    bare.append(sql[at:])
    yield "".join(bare)


def _after_comment(sql: str, at: int, *, nested: bool) -> int:
    depth = 1
    while depth and (found := _COMMENT.search(sql, at)):
        depth += -1 if found.group() == "*/" else nested
        at = found.end()
    return len(sql) if depth else at
