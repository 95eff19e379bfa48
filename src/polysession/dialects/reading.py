"""Which texts only read, told by their first words. Pure, no I/O.

In a read unit the server is the judge of what a statement does inside: it refuses a write in a CTE, in a function, in
EXPLAIN ANALYZE. What is decided here keeps the way to that judge open: no transaction control, no setting that switches
it off, nothing that it lets pass although it lasts (ALTER SYSTEM, COMMIT PREPARED, VACUUM, CALL ...), and no second
statement behind the first. The words are those of *reads*: what is not known to read is refused, so that nothing hangs
on a complete list of writes.

Where a text can be understood in two ways (settings of the server decide how a backslash in a string is read), it is
refused if either way is. A refusal is never a promise that the text writes; a passage never one that it does not.

Sources: PostgreSQL documentation, "Lexical Structure" and SET TRANSACTION (what a read-only transaction refuses), and
its source, `ClassifyUtilityCommandAsReadOnly` (what it does not); MariaDB documentation, "Comment Syntax", SET
STATEMENT, SET TRANSACTION; MySQL reference manual, the same; sqlite.org/lang.html, sqlite.org/pragma.html.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar, Final

__all__ = ["MYSQL", "POSTGRESQL", "SQLITE", "Reading", "reads_pragma"]

_FIRST = re.compile(r"[\s(]*([A-Za-z_]+)")
_WORD = re.compile(r"[A-Za-z_]+")
_GAP = r"(?>\s|/\*.*?\*/|--[^\n]*\n|\#[^\n]*\n)"
"""What may stand between two words, wide enough for every server."""

SEVERAL: Final = "several statements in one text"


_CONTROLS: Final[dict[str, tuple[str, ...]]] = {
    "BEGIN": (),
    "START": ("TRANSACTION",),
    "COMMIT": (),
    "END": (),
    "ABORT": (),
    "ROLLBACK": (),
    "PREPARE": ("TRANSACTION",),
    "SET": ("AUTOCOMMIT",),
    "XA": ("START", "BEGIN", "END", "PREPARE", "COMMIT", "ROLLBACK"),
}
"""First words that begin or end a transaction on some server, and for some of them the word that must follow."""
_AUTOCOMMIT: Final = re.compile(
    rf"(?:(?<=set)|,){_GAP}*(?:(?:session|local){_GAP}+|@@(?:(?:session|local){_GAP}*\.{_GAP}*)?)?`?autocommit`?{_GAP}*:?=",
    re.IGNORECASE | re.DOTALL,
)
"""One of the assignments of a SET, in each of its spellings (MariaDB documentation, "SET", "SET Variable"). A global
one is for connections that are made later."""


class Reading(ABC):
    """The reads of one kind of server. Instances have no state and may be shared between threads."""

    words: ClassVar[frozenset[str]]
    """First words of statements that read, or that the server judges itself."""
    hidden: ClassVar[re.Pattern[str]]
    """What the server would let pass inside of a read although it lasts."""
    hints: ClassVar[tuple[str, ...]] = ()
    """Without one of these, in small letters, nothing is hidden: a look that costs less than the pattern."""

    def refusal(self, text: str, *, from_driver: bool = False) -> str | None:
        """What a read unit must not send, as its error names it; None if the text may be sent. Never raises.

        `from_driver`: the text came on the driver's connection, by which some drivers and SQLAlchemy send their own
        BEGIN, COMMIT and ROLLBACK.
        """
        found = _FIRST.match(text)
        start = found.start(1) if found else self._code(text, 0)
        if start >= len(text):
            return None  # nothing but space and comments
        word = _word(text, start)
        if not word:
            return None if self._only_ends(text, start) else _shown(text, start)
        if word not in self.words:
            refused = self._special(word, text, start + len(word), from_driver=from_driver)
            if refused is not None:
                return refused
        if ";" in text and self._several(text):
            return SEVERAL
        small = text.lower()
        for hint in self.hints:
            if hint in small and (found := self.hidden.search(text)) is not None:
                return _WORD.sub(lambda word: word[0].upper(), found[1])
        return None

    def control(self, text: str) -> str | None:
        """The words by which a text begins or ends a transaction, as an error names them; None if it does neither.

        For units that may write. Savepoints are let pass. Of several statements in one text only the first is looked
        at: what the others say cannot be told from the body of a function without the server's own parser.
        """
        found = _FIRST.match(text)
        start = found.start(1) if found else self._code(text, 0)
        word = _word(text, start)
        if word not in _CONTROLS:
            return None
        behind = start + len(word)
        if word in ("PREPARE", "START", "SET", "XA"):
            follows = self._next(text, behind)
            if word == "SET" and _AUTOCOMMIT.search(text, behind):
                follows = "AUTOCOMMIT"
            return f"{word} {follows}" if follows in _CONTROLS[word] else None
        if word == "ROLLBACK" and self._returns(word, text, behind):
            return None
        return word

    @abstractmethod
    def _special(self, word: str, text: str, at: int, *, from_driver: bool) -> str | None:
        """Judge a statement whose first word does not decide; `at` is behind that word."""

    @abstractmethod
    def _comment(self, text: str, at: int) -> int:
        """The end of the comment that begins at `at`; `at` itself if none does."""

    @abstractmethod
    def _several(self, text: str) -> bool:
        """Another statement may follow the first one."""

    def _code(self, text: str, at: int) -> int:
        """Where code begins, behind space, comments and opening parentheses."""
        end = len(text)
        while at < end:
            if text[at].isspace() or text[at] == "(":
                at += 1
                continue
            behind = self._comment(text, at)
            if behind == at:
                break
            at = behind
        return at

    def _next(self, text: str, at: int) -> str:
        """The word that follows, in capitals; empty if none does."""
        return _word(text, self._code(text, at))

    def _only_ends(self, text: str, at: int) -> bool:
        """Nothing but space, comments and semicolons follow."""
        while at < len(text):
            if text[at] == ";":
                at += 1
            at = self._code(text, at)
            if at < len(text) and text[at] != ";":
                return False
        return True

    def _second(self, lexer: re.Pattern[str], text: str) -> bool:
        """A statement follows a semicolon that is neither in a string nor in a comment."""
        at = 0
        while (token := lexer.search(text, at)) is not None:
            if token[0] == ";":
                return not self._only_ends(text, token.start())
            at = max(token.end(), self._comment(text, token.start()))
        return False

    def _returns(self, word: str, text: str, at: int) -> bool:
        """It sets a savepoint, gives it up or returns to it: SQLAlchemy's `begin_nested` sends these."""
        if word in ("SAVEPOINT", "RELEASE"):
            return True
        follows = self._next(text, at)
        if word == "ROLLBACK" and follows in ("WORK", "TRANSACTION"):
            follows = self._next(text, self._code(text, at) + len(follows))
        return word == "ROLLBACK" and follows == "TO"


def _word(text: str, at: int) -> str:
    found = _WORD.match(text, at)
    return found[0].upper() if found else ""


def _shown(text: str, at: int) -> str:
    shown = " ".join(text[at : at + 40].split())
    return repr(shown[:20]) + ("..." if len(shown) > 20 else "")


def _lexer(single: str, double: str, *others: str) -> re.Pattern[str]:
    """Finds strings, names, comments and semicolons; a quote that is never closed is passed by."""
    return re.compile("|".join((single, double, *others, "/[*]", ";")), re.DOTALL)


_PLAIN, _ESCAPES = r"(?:[^{0}]|{0}{0})*+", r"(?:[^{0}\\]|\\.|{0}{0})*+"


def _quoted(quote: str, inside: str) -> str:
    return quote + inside.format(quote) + quote


class _PostgreSQL(Reading):
    words: ClassVar[frozenset[str]] = frozenset(
        ("SELECT", "WITH", "VALUES", "TABLE", "SHOW", "DECLARE", "FETCH", "MOVE", "CLOSE")
    )
    hidden: ClassVar[re.Pattern[str]] = re.compile(
        # until version 16 a read-only transaction may change large objects; statistics it may change in 18
        r"\b((?:lo_(?:creat|create|from_bytea|import|export|put|truncate|truncate64|unlink)|lowrite"
        r"|pg_(?:restore|clear)_(?:relation|attribute)_stats|pg_notify|pg_logical_emit_message"
        # what they are told to run on another connection is judged by nobody
        r"|dblink(?:_\w+)?"
        # the owner of an index may have it worked on
        r"|brin_(?:de)?summarize_(?:new_values|range)|gin_clean_pending_list)"
        rf'(?="?{_GAP}*\()|u&")',
        re.IGNORECASE | re.DOTALL,
    )
    hints: ClassVar[tuple[str, ...]] = (
        *("lo_", "lowrite", "_stats", "pg_notify", "emit_message", 'u&"'),
        *("dblink", "summarize_", "pending_list"),
    )
    _switch = re.compile(r'transaction_read_only|\bwrite\b|\bprepared\b|\bu&"', re.IGNORECASE)
    _control = frozenset(("BEGIN", "START", "COMMIT", "END", "ABORT", "ROLLBACK"))
    _others = (r"[eE]" + _quoted("'", _ESCAPES), r"(\$(?:[^\W\d]\w*)?\$).*?\1", r"[^\W\d][\w$]*", r"--[^\r\n]*")
    _lexers = (
        _lexer(_quoted("'", _PLAIN), _quoted('"', _PLAIN), *_others),
        _lexer(_quoted("'", _ESCAPES), _quoted('"', _PLAIN), *_others),
    )

    def _special(self, word: str, text: str, at: int, *, from_driver: bool) -> str | None:
        switch = self._switch.search(text, at)
        if word in ("SET", "RESET"):
            if switch is not None:
                return f"{word} ... {switch[0].upper()}"
            return "RESET ALL" if word == "RESET" and self._next(text, at) == "ALL" else None
        if self._returns(word, text, at):
            return None
        if word in self._control and from_driver and switch is None:
            return None
        if word == "EXPLAIN":
            return self._explains(text, at)
        if word == "COPY" and all(self._copies_out.match(code) for code in self._codes(text)):
            return None
        return word

    _copies_out = re.compile(r"(?!.*\bprogram\b).*\bto\s+stdout\b", re.IGNORECASE | re.DOTALL)
    _explained = re.compile(r"\s*(?:\([^()]*\)|(?:(?:analy[sz]e|verbose)\b\s*)*)[\s(]*(\w*)", re.IGNORECASE)

    def _explains(self, text: str, at: int) -> str | None:
        """What EXPLAIN ANALYZE runs is judged by the server, but for one: it lets a new table pass.

        PostgreSQL 15 to 18, measured: in a read-only transaction EXPLAIN ANALYZE CREATE TABLE AS makes the table.
        """
        for code in self._codes(text[at:]):
            found = self._explained.match(code)
            word = found[1].upper() if found else ""
            if word not in _EXPLAINED:
                return f"EXPLAIN ... {word}".rstrip()
            if word in self.words and re.search(r"\binto\b", code, re.IGNORECASE):
                return "EXPLAIN ... INTO"
        return None

    def _codes(self, text: str) -> Iterator[str]:
        """The text without its strings, quoted names and comments, in each way in which it can be read."""
        for lexer in self._lexers if "\\" in text else self._lexers[:1]:
            parts, at = [], 0
            while (token := lexer.search(text, at)) is not None:
                parts.append(text[at : token.start()])
                at = max(token.end(), self._comment(text, token.start()))
                keeps = token[0] == ";" or token[0][0].isalpha() or token[0][0] == "_"
                parts.append(token[0] if keeps and "'" not in token[0] else " ")
            yield "".join((*parts, text[at:]))

    def _comment(self, text: str, at: int) -> int:
        if text.startswith("--", at):
            ends = [end for end in (text.find("\n", at), text.find("\r", at)) if end >= 0]
            return min(ends, default=len(text))
        if not text.startswith("/*", at):
            return at
        depth, at = 1, at + 2
        while depth and at < len(text):
            if text.startswith("/*", at):
                depth, at = depth + 1, at + 2
            elif text.startswith("*/", at):
                depth, at = depth - 1, at + 2
            else:
                at += 1
        return at

    def _several(self, text: str) -> bool:
        lexers = self._lexers if "\\" in text else self._lexers[:1]
        return any(self._second(lexer, text) for lexer in lexers)


_EXPLAINED: Final = frozenset(("SELECT", "WITH", "VALUES", "TABLE", "INSERT", "UPDATE", "DELETE", "MERGE"))


class _MySQL(Reading):
    words: ClassVar[frozenset[str]] = frozenset(
        ("SELECT", "WITH", "VALUES", "TABLE", "EXPLAIN", "DESCRIBE", "DESC", "SHOW", "HELP", "CHECKSUM")
    )
    hidden: ClassVar[re.Pattern[str]] = re.compile(rf"\binto{_GAP}+(outfile|dumpfile)\b", re.IGNORECASE | re.DOTALL)
    hints: ClassVar[tuple[str, ...]] = ("outfile", "dumpfile")
    _switch = re.compile(
        r"(?:tx|transaction)_read_only|session_track|\b(?:write|global|persist|persist_only|password|autocommit)\b|/\*M?!",
        re.IGNORECASE,
    )
    _runs = re.compile(r"/\*M?!")
    """A comment that the server may run as code, depending on its version."""
    _others = (r"`(?:[^`]|``)*+`", r"#[^\n]*", r"--(?=[\x00-\x20]|\Z)[^\n]*")
    _lexers = (
        _lexer(_quoted("'", _ESCAPES), _quoted('"', _ESCAPES), *_others),
        _lexer(_quoted("'", _ESCAPES), _quoted('"', _PLAIN), *_others),
        _lexer(_quoted("'", _PLAIN), _quoted('"', _PLAIN), *_others),
    )

    def _special(self, word: str, text: str, at: int, *, from_driver: bool) -> str | None:
        switch = self._switch.search(text, at)
        if word == "SET":
            if switch is not None:
                return f"SET ... {switch[0].upper()}"
            return self._set_for(text, at) if self._next(text, at) == "STATEMENT" else None
        if self._returns(word, text, at):
            return None
        if word == "ANALYZE":  # of a statement: it is run, and the server judges it; of a table: it lasts
            analyzed = self._next(text, at)
            return None if analyzed in ("FORMAT", "SELECT", "WITH", "VALUES") else f"ANALYZE {analyzed}".rstrip()
        ends = from_driver and word in ("COMMIT", "ROLLBACK") and self._only_ends(text, at)
        return None if ends else word

    def _set_for(self, text: str, at: int) -> str | None:
        """SET STATEMENT ... FOR a statement: whatever follows any FOR must read."""
        for found in re.finditer(r"\bfor\b", text[at:], re.IGNORECASE):
            word = self._next(text, at + found.end())
            if word not in self.words:
                return f"SET STATEMENT ... FOR {word}".rstrip()
        return None

    def _comment(self, text: str, at: int) -> int:
        if text.startswith("#", at) or (
            text.startswith("--", at) and (len(text) == at + 2 or ord(text[at + 2]) <= ord(" "))
        ):
            end = text.find("\n", at)
            return len(text) if end < 0 else end
        if not text.startswith("/*", at) or self._runs.match(text, at):
            return at
        end = text.find("*/", at + 2)
        return len(text) if end < 0 else end + 2

    def _several(self, text: str) -> bool:
        escapes = "\\" in text
        if self._runs.search(text) or (escapes and not text.isascii()):
            # code or comment, that depends on the version; escape or half of a character, on the character set
            return not self._only_ends(text, text.index(";"))
        lexers = self._lexers if escapes else self._lexers[:1]
        return any(self._second(lexer, text) for lexer in lexers)


class _SQLite(Reading):
    words: ClassVar[frozenset[str]] = frozenset(("SELECT", "WITH", "VALUES"))
    _pragma = re.compile(
        r"""(?:["\[`]?\w+["\]`]?\s*\.\s*)?["\[`]?(?P<name>\w+)["\]`]?\s*(?P<value>[=(].*)?[;\s]*\Z""", re.DOTALL
    )

    def _special(self, word: str, text: str, at: int, *, from_driver: bool) -> str | None:
        if word == "EXPLAIN":
            start = self._code(text, at)
            plan = re.compile(r"query\s+plan\b", re.IGNORECASE).match(text, start)
            return self.refusal(text[plan.end() if plan else start :], from_driver=from_driver)
        if word == "PRAGMA":
            found = self._pragma.match(text, self._code(text, at))
            if found is None:
                return word
            argument = found["value"]
            return None if reads_pragma(found["name"], argument) else f"PRAGMA {found['name']}"
        return None if self._returns(word, text, at) else word

    def _comment(self, text: str, at: int) -> int:
        if text.startswith("--", at):
            end = text.find("\n", at)
            return len(text) if end < 0 else end
        if not text.startswith("/*", at):
            return at
        end = text.find("*/", at + 2)
        return len(text) if end < 0 else end + 2

    def _several(self, text: str) -> bool:
        return False  # Python's driver refuses a second statement itself


_ASK: Final = frozenset(
    [
        "analysis_limit",
        "application_id",
        "auto_vacuum",
        "automatic_index",
        "busy_timeout",
        "cache_size",
        "cache_spill",
        "cell_size_check",
        "checkpoint_fullfsync",
        "collation_list",
        "compile_options",
        "count_changes",
        "data_version",
        "database_list",
        "default_cache_size",
        "defer_foreign_keys",
        "empty_result_callbacks",
        "encoding",
        "foreign_key_check",
        "foreign_keys",
        "freelist_count",
        "full_column_names",
        "fullfsync",
        "function_list",
        "hard_heap_limit",
        "ignore_check_constraints",
        "integrity_check",
        "journal_mode",
        "journal_size_limit",
        "legacy_alter_table",
        "locking_mode",
        "max_page_count",
        "mmap_size",
        "module_list",
        "page_count",
        "page_size",
        "pragma_list",
        "query_only",
        "quick_check",
        "read_uncommitted",
        "recursive_triggers",
        "reverse_unordered_selects",
        "schema_version",
        "secure_delete",
        "short_column_names",
        "soft_heap_limit",
        "synchronous",
        "table_list",
        "temp_store",
        "threads",
        "trusted_schema",
        "user_version",
        "wal_autocheckpoint",
        "writable_schema",
    ]
)
"""Pragmas that without an argument only ask."""
_ASK_ABOUT: Final = frozenset(
    [
        "foreign_key_check",
        "foreign_key_list",
        "index_info",
        "index_list",
        "index_xinfo",
        "integrity_check",
        "quick_check",
        "table_info",
        "table_list",
        "table_xinfo",
    ]
)
"""Pragmas whose argument says what is asked about."""
_TUNE: Final = frozenset(("busy_timeout", "cache_size", "mmap_size", "read_uncommitted", "threads"))
"""Pragmas whose argument changes nothing but the connection's speed and patience. No cache is shared here, so there is
nothing uncommitted to be read either (sqlite.org/sharedcache.html)."""


def reads_pragma(name: str, argument: str | None) -> bool:
    """An SQLite pragma of this name, with or without an argument, changes neither a file nor what is refused.

    Source: sqlite.org/pragma.html. An unknown one does not read.
    """
    name = name.lower()
    return name in _ASK_ABOUT or name in _TUNE or (argument is None and name in _ASK)


POSTGRESQL = _PostgreSQL()
MYSQL = _MySQL()
SQLITE = _SQLite()
