"""SQLite connections with real transactions, that leave nothing behind when they are closed.

Python's driver in its legacy mode begins a transaction before INSERT, UPDATE and DELETE only, so a SELECT runs outside
of it and a read-modify-write loses updates without an error (Python documentation, sqlite3, "Transaction control").
Here the driver is in autocommit and this module says BEGIN before the first statement, in the mode the unit needs:
IMMEDIATE for write units (an upgrade from a read lock cannot wait, sqlite.org/lang_transaction.html), DEFERRED for
sessions whose intent is not known, none for read units, whose statements stand alone.

`close()` finishes open cursors first: with an unfinished statement `sqlite3_close_v2` keeps the handle, and with it
its locks, until the cursor is collected (sqlite.org/c3ref/close.html). So does who takes a connection after somebody
else: an answer that was not read to its end keeps its snapshot also after COMMIT (sqlite.org/lang_transaction.html),
and the next unit would read the past and not be let write.
"""

from __future__ import annotations

import re
import sqlite3
import time
import weakref
from collections.abc import Iterable
from enum import Enum
from typing import Any, Final, Self

__all__ = ["PROGRESS", "RAW", "Begin", "Connection", "connection_factory", "driver_cursor"]

RAW: Final = "polysession_sqlite"
"""Where a connection of the pool keeps the connection of this module that is below it."""


class Begin(Enum):
    """How a connection begins its next transaction."""

    NONE = ""
    DEFERRED = "BEGIN DEFERRED"
    IMMEDIATE = "BEGIN IMMEDIATE"


_STANDS_ALONE = re.compile(r"\s*(?:BEGIN|COMMIT|END|ROLLBACK|PRAGMA|VACUUM|ATTACH|DETACH)\b", re.IGNORECASE)
"""Statements that control transactions themselves or cannot run inside one."""


_MANY = 64
"""Cursors that a connection knows before it looks which of them are still there."""
PROGRESS: Final = 10_000
"""Instructions of SQLite's virtual machine between two looks at the clock: a fraction of a millisecond."""


_NONE: Final = Begin.NONE
"""Of an enumeration, whose members Python looks for at each use."""
_execute = sqlite3.Cursor.execute
_make_cursor = sqlite3.Connection.cursor
"""On the path of every statement: `super()` is looked up each time before Python 3.12."""


class Cursor(sqlite3.Cursor):
    """A cursor that begins the connection's transaction before its first statement."""

    connection: Connection

    def execute(self, sql: str, parameters: Any = (), /) -> Self:
        """As `sqlite3.Cursor.execute`."""
        connection = self.connection
        if connection.begin is not _NONE and not connection.in_transaction:
            self._begin(sql)
        _execute(self, sql, parameters)
        return self

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> Self:
        """As `sqlite3.Cursor.executemany`."""
        connection = self.connection
        if connection.begin is not _NONE and not connection.in_transaction:
            self._begin(sql)
        super().executemany(sql, parameters)
        return self

    def _begin(self, sql: str) -> None:
        if not _STANDS_ALONE.match(sql):
            super().execute(self.connection.begin.value)


class Connection(sqlite3.Connection):
    """A connection in driver autocommit that begins transactions as `begin` says."""

    begin: Begin = Begin.DEFERRED
    is_open = True
    holder = 0
    """The number of who has had it last."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["isolation_level"] = None
        self._timeout = float(kwargs.get("timeout", 5.0))
        super().__init__(*args, **kwargs)
        self.cursors: list[weakref.ref[sqlite3.Cursor]] = []
        """Those that were made since `finish`, and not many dead ones. A `WeakSet` would cost two calls for each."""

    @property
    def patience(self) -> float:
        """Seconds for which it waits for a lock."""
        return self._timeout

    def cursor(self, factory: Any = None) -> Any:
        """As `sqlite3.Connection.cursor`; the cursor is known to the connection until it is closed."""
        cursor = _make_cursor(self, Cursor if factory is None else factory)
        cursors = self.cursors
        if len(cursors) >= _MANY:
            cursors[:] = [known for known in cursors if known() is not None]
        cursors.append(weakref.ref(cursor))
        return cursor

    def stop_at(self, deadline_at: float) -> None:
        """Interrupt statements that run past this moment of `time.monotonic()`, and end waiting for a lock there too.

        See sqlite.org/c3ref/progress_handler.html and sqlite.org/pragma.html, busy_timeout.
        """
        self.set_progress_handler(lambda: time.monotonic() >= deadline_at, PROGRESS)
        left = max(1, int((deadline_at - time.monotonic()) * 1000))
        super().execute(f"PRAGMA busy_timeout = {left}")

    def never_stop(self) -> None:
        """Undo `stop_at`."""
        self.set_progress_handler(None, 0)
        super().execute(f"PRAGMA busy_timeout = {int(self._timeout * 1000)}")

    def execute(self, sql: str, parameters: Any = (), /) -> Any:
        """As `sqlite3.Connection.execute`, which would pass our cursor by."""
        return self.cursor().execute(sql, parameters)

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> Any:
        """As `sqlite3.Connection.executemany`."""
        return self.cursor().executemany(sql, parameters)

    def commit_with(self, sql: str, parameters: tuple[Any, ...]) -> None:
        """Commit together with one statement more, which answers no rows; if it fails nothing is committed."""
        _execute(_make_cursor(self), sql, parameters)
        self.commit()

    def belong(self, holder: int) -> None:
        """From here on it is that of `holder`: what others have not read to its end is not read any more."""
        if self.cursors and self.holder != holder:
            self.finish()
        self.holder = holder

    def finish(self) -> None:
        """Close every cursor that is still open, so that no statement holds a lock."""
        cursors, self.cursors = self.cursors, []
        for known in cursors:
            cursor = known()
            if cursor is None:
                continue
            try:
                cursor.close()
            except sqlite3.Error:
                continue  # the statement of this very cursor failed: it holds nothing

    def close(self) -> None:
        """Finish all statements, roll back, close. A second call does nothing."""
        if not self.is_open:
            return
        self.is_open = False
        try:
            self.finish()
            if self.in_transaction:
                super().rollback()
        finally:
            super().close()


def driver_cursor(connection: Connection) -> sqlite3.Cursor:
    """A cursor for one statement, to be sent now: the driver's own if no transaction has to begin for it. It is closed
    with the connection, too."""
    if connection.in_transaction or connection.begin is _NONE:
        cursor = _make_cursor(connection)
    else:
        cursor = _make_cursor(connection, Cursor)
    cursors = connection.cursors
    if len(cursors) >= _MANY:
        cursors[:] = [known for known in cursors if known() is not None]
    cursors.append(weakref.ref(cursor))
    return cursor


def connection_factory(made: list[Connection], cls: type[Connection] = Connection) -> Any:
    """A `factory=` for `sqlite3.connect` that also puts the connection into `made`, where an adapter hides it."""

    def make(*args: Any, **kwargs: Any) -> Connection:
        connection = cls(*args, **kwargs)
        made.append(connection)
        return connection

    return make
