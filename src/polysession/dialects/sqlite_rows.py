"""What the errors of SQLite mean.

A code is a result code of SQLite in decimal, asked first as the extended code, then as the primary one (its low eight
bits). Rows without a code are for what the `sqlite3` module and aiosqlite raise themselves, and for texts of SQLite
whose code was lost on the way; SQLite does not translate its texts.

At COMMIT an error leaves the transaction open where SQLite says so: BUSY (a reader is in the way) and a deferred
constraint. After a failure of the storage the file alone knows: that stays unknown.
"""

from __future__ import annotations

from ..failures import Kind
from .rows import AtCommit, ErrorRow, ErrorTable

__all__ = ["TABLE"]

_CODES = "sqlite.org/rescode.html"
_TRANSACTION = "sqlite.org/lang_transaction.html, Response To Errors Within A Transaction; COMMIT and SQLITE_BUSY"
_AUTOCOMMIT = "sqlite.org/c3ref/get_autocommit.html: the transaction might be rolled back automatically"
_FOREIGN_KEYS = "sqlite.org/foreignkeys.html, Deferred Constraints: COMMIT fails and the transaction remains open"
_MODULE = "CPython source, Modules/_sqlite/connection.c"
_AIOSQLITE = "aiosqlite source, core.py"
_TEXTS = "SQLite source, main.c, sqlite3ErrStr"

_OPEN = AtCommit.STILL_OPEN

# fmt: off
_ROWS = (
    # repeating the whole unit helps
    ErrorRow("5", Kind.BUSY, "another connection holds the lock of the database", _TRANSACTION,
             transient=True, at_commit=_OPEN),
    ErrorRow("261", Kind.BUSY, "another connection is recovering the database", _CODES, transient=True),
    ErrorRow("517", Kind.SERIALIZATION, "another connection wrote after this transaction had read", _CODES,
             transient=True),
    ErrorRow("262", Kind.BUSY, "another connection of this process holds the lock of a table", _CODES, transient=True),
    ErrorRow("518", Kind.BUSY, "a virtual table is locked", _CODES, transient=True),
    ErrorRow("15", Kind.BUSY, "many connections started at once and got into each other's way", _CODES,
             transient=True),
    ErrorRow("17", Kind.SCHEMA_CHANGED, "the schema changed under a prepared statement", _CODES, transient=True),

    # interrupted or out of something: the transaction may be gone
    ErrorRow("4", Kind.CANCELLED, "a callback ended the statement", _CODES),
    ErrorRow("516", Kind.CANCELLED, "a rollback ended the statement", _CODES, loses_transaction=True),
    ErrorRow("9", Kind.CANCELLED, "the statement was interrupted", _AUTOCOMMIT, loses_transaction=True),
    ErrorRow("7", Kind.RESOURCES, "memory ran out", _AUTOCOMMIT, loses_transaction=True),
    ErrorRow("10", Kind.RESOURCES, "the storage failed", _AUTOCOMMIT, loses_transaction=True),
    ErrorRow("13", Kind.RESOURCES, "the disk or the database is full", _AUTOCOMMIT, loses_transaction=True),
    ErrorRow("11", Kind.RESOURCES, "the database file is damaged", _CODES, closes=True),
    ErrorRow("26", Kind.RESOURCES, "the file is not a database", _CODES, closes=True),
    ErrorRow("14", Kind.CONNECT_FAILED, "the database file could not be opened", _CODES, closes=True),
    ErrorRow("1032", Kind.RESOURCES, "the database file was moved or replaced", _CODES, closes=True),

    # the work itself
    ErrorRow("6", Kind.PROGRAMMING, "a statement of this connection is still reading the table", _CODES),
    ErrorRow("8", Kind.READ_ONLY, "the database is read-only", _CODES),
    ErrorRow("1555", Kind.DUPLICATE, "a row with this key exists", _CODES),
    ErrorRow("2067", Kind.DUPLICATE, "a row with this key exists", _CODES),
    ErrorRow("2579", Kind.DUPLICATE, "a row with this rowid exists", _CODES),
    ErrorRow("787", Kind.CONSTRAINT, "a foreign key has no match", _FOREIGN_KEYS, at_commit=_OPEN),
    ErrorRow("19", Kind.CONSTRAINT, "a constraint refused the change", _CODES),
    ErrorRow("20", Kind.DATA, "a value has the wrong type", _CODES),
    ErrorRow("18", Kind.DATA, "a value is too large", _CODES),
    ErrorRow("25", Kind.PROGRAMMING, "a parameter number is out of range", _CODES),
    ErrorRow("1", Kind.PROGRAMMING, "the statement cannot run", _CODES),
    ErrorRow("21", Kind.PROGRAMMING, "the library was called in the wrong way", _CODES),
    ErrorRow("3", Kind.PRIVILEGE, "the file system does not allow it", _CODES),
    ErrorRow("23", Kind.PRIVILEGE, "the authorizer does not allow it", _CODES),

    # without a code
    ErrorRow("", Kind.CONNECTION_LOST, "the connection was closed before", _MODULE,
             says="cannot operate on a closed database", transient=True, closes=True),
    ErrorRow("", Kind.CONNECTION_LOST, "the connection was closed before", _AIOSQLITE,
             says="no active connection", transient=True, closes=True),
    ErrorRow("", Kind.CONNECTION_LOST, "the connection was closed before", _AIOSQLITE,
             says="connection closed", raised="ValueError", transient=True, closes=True),
    ErrorRow("", Kind.PROGRAMMING, "the connection was used in another thread than its own", _MODULE,
             says="can only be used in that same thread"),
    ErrorRow("", Kind.BUSY, "another connection holds the lock of the database", _TEXTS,
             says="database is locked", transient=True),
    ErrorRow("", Kind.PROGRAMMING, "a table is in use", _TEXTS, says="table is locked"),
    ErrorRow("", Kind.READ_ONLY, "the database is read-only", _TEXTS, says="attempt to write a readonly database"),
    ErrorRow("", Kind.CANCELLED, "the statement was interrupted", _TEXTS,
             says="interrupted", raised="OperationalError", loses_transaction=True),
    ErrorRow("", Kind.CONNECT_FAILED, "the database file could not be opened", _TEXTS,
             says="unable to open database file", closes=True),
    ErrorRow("", Kind.RESOURCES, "the storage failed", _TEXTS, says="disk i/o error", loses_transaction=True),
    ErrorRow("", Kind.RESOURCES, "the disk or the database is full", _TEXTS,
             says="database or disk is full", loses_transaction=True),
    ErrorRow("", Kind.RESOURCES, "the database file is damaged", _TEXTS,
             says="database disk image is malformed", closes=True),
    ErrorRow("", Kind.RESOURCES, "the file is not a database", _TEXTS, says="file is not a database", closes=True),
)
# fmt: on

TABLE = ErrorTable(_ROWS)
"""The rows of SQLite, then the common ones."""
