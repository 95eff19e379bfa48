"""Which texts leave something behind in the session of the server, told by their words. Pure, no I/O.

A pooled connection is used by one unit after the other. What a statement sets for the session, and not for its
transaction, would be found there by the next unit: a role, a setting, a lock, a temporary table. What is looked for is
the words of statements that leave *nothing*; what is not known to leave nothing counts as having left something, so
that nothing hangs on a complete list of what does. Within those statements the functions are looked for that are known
to leave something. A function that somebody wrote can hide one of them: that is not seen here.

Two kinds of trace are not set by anybody and still pass on: numbers that a sequence or an auto-increment column gave
last (`currval`, `LAST_INSERT_ID()`). Every INSERT leaves some, so nothing is reset for them; the statement that asks
for them is known instead, and they are forgotten before it if the unit has none of its own.

Sources: PostgreSQL documentation, DISCARD (what a session holds), SET, "System Administration Functions" (advisory
locks, set_config); its source, `guc_tables.c` (GUC_NO_RESET_ALL); MariaDB documentation, COM_RESET_CONNECTION, SET,
User-Defined Variables, GET_LOCK, LOCK TABLES, HANDLER; sqlite.org/lang.html, sqlite.org/pragma.html.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from enum import StrEnum
from typing import ClassVar, Final

import msgspec

from .reading import _FIRST, _GAP, MYSQL, POSTGRESQL, SQLITE, Reading, _word, reads_pragma

__all__ = ["MYSQL_REMAINS", "POSTGRESQL_REMAINS", "REMAINS", "SQLITE_REMAINS", "Found", "Remains", "Trace"]


class Trace(StrEnum):
    """What is left behind."""

    SETTING = "a setting of the session"
    TEMPORARY = "a temporary table"
    LOCK = "a lock of the session"
    LISTENING = "a channel that is listened to"
    PREPARED = "a prepared statement"
    CURSOR = "a cursor that outlives its transaction"
    UNKNOWN = "what cannot be told"
    LASTING = "what only the end of the connection undoes"
    NUMBERS = "the last number of a sequence"
    """Seen only by who asks for it."""
    ASKS = "nothing, but it asks for the last number of a sequence"


class Found(msgspec.Struct, frozen=True):
    """A trace, the words that leave it, and what does the same for one transaction, if anything does."""

    trace: Trace
    words: str
    cure: str = ""


_NUMBERS: Final = Found(Trace.NUMBERS, "")
_OUTRANKS: Final = (Trace.UNKNOWN, Trace.NUMBERS, Trace.ASKS)
"""What says less than any other trace in the same text."""
_CALL: Final = rf'(?="?{_GAP}*\()'
"""Behind the name of a function."""


def _pattern(words: str) -> re.Pattern[str]:
    return re.compile(words, re.IGNORECASE | re.DOTALL)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


class Remains(ABC):
    """The traces of one kind of server. Instances have no state and may be shared between threads."""

    reads: ClassVar[Reading]
    words: ClassVar[frozenset[str]]
    """First words of statements that leave nothing, but by a function in them."""
    hints: ClassVar[tuple[str, ...]]
    """Without one of these, in small letters, no function in a text leaves anything: a look that costs less than the
    patterns."""
    forget: ClassVar[tuple[str, ...]]
    """The statements after which nobody's numbers are left."""
    _changes: ClassVar[frozenset[str]] = _words("INSERT UPDATE DELETE MERGE REPLACE LOAD COPY")

    def found(self, text: str) -> Found | None:
        """What a text leaves behind, as the errors name it; None if it leaves nothing. Never raises."""
        reads = self.reads
        if ";" not in text or not reads._several(text):
            return self._one(text)
        several = Found(Trace.UNKNOWN, "several statements in one text")
        for part in text.split(";"):  # a string that is split here can only add to what is found
            found = self._one(part)
            if found is not None and found.trace not in _OUTRANKS:
                return found
        return several

    def _one(self, text: str) -> Found | None:
        reads = self.reads
        first = _FIRST.match(text)
        start = first.start(1) if first else reads._code(text, 0)
        word = _word(text, start)
        if not word:
            return None if reads._only_ends(text, start) else Found(Trace.UNKNOWN, "a text that cannot be judged")
        found = None
        if word not in self.words:
            found = self._special(word, text, start + len(word))
        if found is None or found.trace is Trace.UNKNOWN:
            small = text.lower()
            if any(hint in small for hint in self.hints):
                inside = self._inside(word, text)
                if inside is not None and (found is None or inside.trace not in _OUTRANKS):
                    found = inside
        if found is None and word in self._changes:
            return _NUMBERS
        return found

    @abstractmethod
    def _special(self, word: str, text: str, at: int) -> Found | None:
        """Judge a statement whose first word does not decide; `at` is behind that word."""

    @abstractmethod
    def _inside(self, word: str, text: str) -> Found | None:
        """Judge what a statement that leaves nothing by itself calls or makes."""

    def _unknown(self, word: str) -> Found:
        return Found(Trace.UNKNOWN, word)


_ALL = _pattern(r"\ball\b")
_TEMPORARY = _pattern(rf"\bcreate{_GAP}+(?:or{_GAP}+replace{_GAP}+)?(?:(?:local|global){_GAP}+)?temp(?:orary)?\b")


class _PostgreSQL(Remains):
    reads: ClassVar[Reading] = POSTGRESQL
    words: ClassVar[frozenset[str]] = _words(
        "SELECT INSERT UPDATE DELETE MERGE WITH VALUES TABLE SHOW EXPLAIN COPY BEGIN START COMMIT END ABORT ROLLBACK "
        "SAVEPOINT RELEASE CREATE ALTER DROP TRUNCATE COMMENT GRANT REVOKE REASSIGN SECURITY IMPORT ANALYZE VACUUM "
        "CLUSTER REINDEX REFRESH CHECKPOINT LOCK NOTIFY UNLISTEN FETCH MOVE CLOSE"
    )
    hints: ClassVar[tuple[str, ...]] = (
        "set_config",
        "advisory",
        "setseed",
        "dblink",
        "val",
        "temp",
        'u&"',
        "origin_session",
        "insert",
    )
    forget: ClassVar[tuple[str, ...]] = ("DISCARD SEQUENCES",)
    _set_config = _pattern(rf"\bset_config{_CALL}")
    _set_local = _pattern(r"\bset_config\"?\s*\((?:'[^']*'|%\(\w+\)s|[^'()])*,\s*true\s*\)")
    _advisory = _pattern(rf"\b(pg_(?:try_)?advisory_lock(?:_shared)?){_CALL}")
    _lasting = _pattern(rf"\b(setseed|dblink_connect(?:_u)?|pg_replication_origin_session_setup){_CALL}")
    _asks = _pattern(rf"\b(?:currval|lastval){_CALL}")
    _gives = _pattern(rf"\b(?:nextval|setval){_CALL}|\A[\s(]*with\b.*\b(?:insert|update|merge)\b")
    _into = _pattern(rf"\binto{_GAP}+(?:(?:local|global){_GAP}+)?temp(?:orary)?\b")
    _own_schema = _pattern(r"\bpg_temp\b")
    _dropped = _pattern(rf"\bon{_GAP}+commit{_GAP}+drop\b")
    _hold = _pattern(rf"\bwith{_GAP}+hold\b")

    def _special(self, word: str, text: str, at: int) -> Found | None:
        following = self.reads._next(text, at)
        match word:
            case "SET":
                return self._set(following, text)
            case "LISTEN":
                return Found(Trace.LISTENING, word, "listen on a connection of your own to the server itself")
            case "PREPARE":
                prepares = following != "TRANSACTION"
                return Found(Trace.PREPARED, word, "leave it out: drivers prepare by themselves") if prepares else None
            case "DECLARE":
                held = self._hold.search(text)
                return Found(Trace.CURSOR, "DECLARE ... WITH HOLD", "leave WITH HOLD out") if held else None
            case "DEALLOCATE" | "DISCARD":
                # the driver's own prepared statements are gone, and it does not know
                return Found(Trace.LASTING, f"{word} ALL") if _ALL.search(text) is not None else None
            case "LOAD":
                return Found(Trace.LASTING, word)
            case _:
                return self._unknown(word)

    def _set(self, following: str, text: str) -> Found | None:
        if following in ("LOCAL", "TRANSACTION", "CONSTRAINTS"):
            return None
        words = text.split()
        if following == "ROLE" or (following == "SESSION" and len(words) > 2 and words[2].upper() == "ROLE"):
            return Found(Trace.SETTING, "SET ROLE", "SET LOCAL ROLE")
        if following == "SESSION" and len(words) > 2 and words[2].upper() == "AUTHORIZATION":
            return Found(Trace.SETTING, "SET SESSION AUTHORIZATION", "SET LOCAL SESSION AUTHORIZATION")
        if following == "SESSION" and len(words) > 2 and words[2].upper() == "CHARACTERISTICS":
            return Found(Trace.SETTING, "SET SESSION CHARACTERISTICS", "ask at the door: isolation=..., read()")
        return Found(Trace.SETTING, "SET", "SET LOCAL")

    def _inside(self, word: str, text: str) -> Found | None:
        if word == "CREATE" and _TEMPORARY.search(text) is not None:
            dropped = self._dropped.search(text)
            return None if dropped else Found(Trace.TEMPORARY, "CREATE TEMPORARY", "the same with ON COMMIT DROP")
        if word in ("CREATE", "ALTER", "SELECT", "WITH", "INSERT") and self._own_schema.search(text):
            return Found(Trace.TEMPORARY, "pg_temp", "CREATE TEMPORARY TABLE ... ON COMMIT DROP")
        if word in ("SELECT", "WITH") and self._into.search(text) is not None:
            return Found(Trace.TEMPORARY, "INTO TEMPORARY", "CREATE TEMPORARY TABLE ... ON COMMIT DROP AS")
        if (called := len(self._set_config.findall(text))) > len(self._set_local.findall(text)):
            plural = " everywhere" if called > 1 else ""
            return Found(Trace.SETTING, "set_config()", f"write its third argument as true{plural}, in the text itself")
        if (lock := self._advisory.search(text)) is not None:
            return Found(Trace.LOCK, f"{lock[1].lower()}()", lock[1].lower().replace("_lock", "_xact_lock") + "()")
        if (lasting := self._lasting.search(text)) is not None:
            return Found(Trace.LASTING, f"{lasting[1].lower()}()")
        if 'u&"' in text.lower():
            return Found(Trace.UNKNOWN, 'U&"..."')
        if self._asks.search(text) is not None:
            return Found(Trace.ASKS, "currval()")
        return _NUMBERS if self._gives.search(text) is not None else None


class _MySQL(Remains):
    reads: ClassVar[Reading] = MYSQL
    words: ClassVar[frozenset[str]] = _words(
        "SELECT INSERT UPDATE DELETE REPLACE LOAD WITH VALUES TABLE SHOW EXPLAIN DESCRIBE DESC HELP CHECKSUM ANALYZE "
        "OPTIMIZE REPAIR CHECK BEGIN START COMMIT ROLLBACK SAVEPOINT RELEASE XA CREATE ALTER DROP TRUNCATE RENAME "
        "GRANT REVOKE KILL UNLOCK"
    )
    hints: ClassVar[tuple[str, ...]] = (
        "get_lock",
        ":=",
        "@",
        "temporary",
        "last_insert_id",
        "val",
        "value",
        "identity",
        "found_rows",
        "/*",
    )
    forget: ClassVar[tuple[str, ...]] = ("SELECT LAST_INSERT_ID(0)",)
    _variable = _pattern(r":=|\binto\b.*?(?<!@)@(?!@)|\A[\s(]*load\b.*@")
    _get_lock = _pattern(rf"\bget_lock{_CALL}")
    _numbers = _pattern(r"\blast_insert_id\s*\(\s*[^\s)]")
    _asks = _pattern(rf"\b(?:last_insert_id|found_rows){_CALL}|@@(?:session\.|local\.)?(?:last_insert_id|identity)\b")
    _sequence = _pattern(
        rf"\b(nextval|setval|lastval){_CALL}|\b(?:next|previous){_GAP}+value{_GAP}+for\b|\.(?:nextval|currval)\b"
    )
    _locks = _pattern(rf"\bread{_GAP}+lock\b|\bfor{_GAP}+export\b")

    def _special(self, word: str, text: str, at: int) -> Found | None:
        match word:
            case "SET":
                return Found(Trace.SETTING, word)
            case "USE":
                return Found(Trace.SETTING, word)
            case "LOCK" | "BACKUP" | "HANDLER":
                return Found(Trace.LOCK, word)
            case "FLUSH":
                return Found(Trace.LOCK, word) if self._locks.search(text) is not None else None
            case "PREPARE":
                return Found(Trace.PREPARED, word)
            case _:
                return self._unknown(word)

    def _inside(self, word: str, text: str) -> Found | None:
        if self.reads._runs.search(text) is not None:  # type: ignore[attr-defined]  # MySQL's reading has it
            return Found(Trace.UNKNOWN, "/*! ... */")
        if word == "CREATE" and _TEMPORARY.search(text) is not None:
            return Found(Trace.TEMPORARY, "CREATE TEMPORARY")
        if self._get_lock.search(text) is not None:
            return Found(Trace.LOCK, "GET_LOCK()")
        if self._variable.search(text) is not None:
            return Found(Trace.SETTING, "@ := ...")
        if self._sequence.search(text) is not None:
            return Found(Trace.UNKNOWN, "the number of a sequence")
        if self._numbers.search(text) is not None:
            return _NUMBERS
        return Found(Trace.ASKS, "LAST_INSERT_ID()") if self._asks.search(text) is not None else None


class _SQLite(Remains):
    reads: ClassVar[Reading] = SQLITE
    words: ClassVar[frozenset[str]] = _words(
        "SELECT INSERT UPDATE DELETE REPLACE WITH VALUES EXPLAIN BEGIN COMMIT END ROLLBACK SAVEPOINT RELEASE CREATE "
        "ALTER DROP REINDEX ANALYZE VACUUM"
    )
    hints: ClassVar[tuple[str, ...]] = ("temp", "load_extension", "rowid", "changes")
    forget: ClassVar[tuple[str, ...]] = (
        "CREATE TEMPORARY TABLE polysession_nothing (n INTEGER)",
        "INSERT INTO temp.polysession_nothing (rowid) VALUES (0)",
        "DROP TABLE temp.polysession_nothing",
    )
    _pragma = re.compile(
        r"""(?:["\[`]?\w+["\]`]?\s*\.\s*)?["\[`]?(?P<name>\w+)["\]`]?\s*(?P<value>[=(].*)?[;\s]*\Z""", re.DOTALL
    )
    _own_schema = _pattern(r"\btemp(?:orary)?\b")
    _asks = _pattern(rf"\b(?:last_insert_rowid|changes|total_changes){_CALL}")
    _tune = frozenset(("busy_timeout", "cache_size", "mmap_size", "threads"))

    def _special(self, word: str, text: str, at: int) -> Found | None:
        if word == "PRAGMA":
            found = self._pragma.match(text, self.reads._code(text, at))
            if found is None:
                return Found(Trace.SETTING, word)
            name, value = found["name"].lower(), found["value"]
            only_asks = reads_pragma(name, value) and (value is None or name not in self._tune)
            return None if only_asks else Found(Trace.SETTING, f"PRAGMA {name}")
        if word in ("ATTACH", "DETACH"):
            return Found(Trace.SETTING, word)
        return self._unknown(word)

    def _inside(self, word: str, text: str) -> Found | None:
        if word == "CREATE" and self._own_schema.search(text) is not None:
            return Found(Trace.TEMPORARY, "CREATE TEMPORARY")
        if "load_extension" in text.lower():
            return Found(Trace.LASTING, "load_extension()")
        return Found(Trace.ASKS, "last_insert_rowid()") if self._asks.search(text) is not None else None


POSTGRESQL_REMAINS = _PostgreSQL()
MYSQL_REMAINS = _MySQL()
SQLITE_REMAINS = _SQLite()
REMAINS: Final[dict[str, Remains]] = {
    "postgresql": POSTGRESQL_REMAINS,
    "mysql": MYSQL_REMAINS,
    "mariadb": MYSQL_REMAINS,
    "sqlite": SQLITE_REMAINS,
}
"""By the name of SQLAlchemy's dialect."""
