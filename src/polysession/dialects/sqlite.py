"""SQLite: its capabilities and texts. The meaning of its errors is in `sqlite_rows`. Pure, no I/O.

Sources: sqlite.org/lang_transaction.html, sqlite.org/isolation.html, sqlite.org/pragma.html, sqlite.org/wal.html.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import ClassVar

from ..options import Access, Isolation
from .base import Capabilities, Dialect, Setting, StatementTimeout
from .marker import Marker
from .numbers import milliseconds
from .reading import SQLITE as READING
from .reading import Reading
from .rows import ErrorSigns, ErrorTable
from .sqlite_rows import TABLE
from .traces import SQLITE as TRACES
from .traces import Traces

__all__ = ["SQLITE", "SQLite"]


class SQLite(Dialect):
    """SQLite 3.35 and later, in WAL mode.

    Transactions are serializable whatever level is asked for: a stricter level honours the request. Write units begin
    with BEGIN IMMEDIATE: a transaction that reads first and writes later fails when another one wrote in between, and
    waiting does not help it (SQLITE_BUSY_SNAPSHOT).
    """

    name: ClassVar[str] = "sqlite"
    table: ClassVar[ErrorTable] = TABLE
    reads: ClassVar[Reading] = READING
    traces: ClassVar[Traces] = TRACES
    capabilities: Capabilities = Capabilities(
        isolation=MappingProxyType(dict.fromkeys(Isolation, Isolation.SERIALIZABLE)),
        default_isolation=Isolation.SERIALIZABLE,
        repeatable_isolation=Isolation.SERIALIZABLE,
        errors_abort=False,
        transactional_ddl=True,
        two_phase=False,
        concurrent_writers=False,
        statement_timeout=StatementTimeout.CLIENT,
    )
    marker: ClassVar[Marker] = Marker(
        uuid_type="varchar(36) COLLATE BINARY",
        now="CAST(strftime('%s', 'now') AS INTEGER)",
        tail=" WITHOUT ROWID",  # one tree instead of a table and its index (sqlite.org/withoutrowid.html)
        forget_rows=(
            "DELETE FROM {table} WHERE unit IN (SELECT unit FROM {table} WHERE {old} ORDER BY unit LIMIT {most})"
        ),
        server="SELECT file FROM pragma_database_list WHERE name = 'main'",
    )
    server_sql: ClassVar[str] = (
        "SELECT sqlite_version(), 'serializable', NULL, (SELECT query_only FROM pragma_query_only), 0"
    )

    def begin(self, *, access: Access, isolation: Isolation | None = None, snapshot: bool = False) -> tuple[str, ...]:
        """A write unit takes the lock at once. A read unit takes its snapshot at its first SELECT."""
        self.given(isolation, snapshot=snapshot)
        return ("BEGIN IMMEDIATE" if access is Access.WRITE else "BEGIN",)

    def read_only(self) -> Setting:
        """Binds changes of the data. It does not bind ATTACH and PRAGMA, nor who turns it off again."""
        return Setting("PRAGMA query_only = ON", "PRAGMA query_only = OFF")

    def statement_timeout(self, seconds: float, *, in_transaction: bool = True) -> None:
        """None: SQL cannot say it. The shell sets a progress handler on the driver's connection."""
        milliseconds(seconds)

    def lock_timeout(self, seconds: float) -> Setting:
        """Whole milliseconds; at least one. `undo` stops the waiting; the shell sets its own value again."""
        return Setting(f"PRAGMA busy_timeout = {milliseconds(seconds)}", "PRAGMA busy_timeout = 0")

    def _codes(self, signs: ErrorSigns) -> tuple[str, ...]:
        if signs.sqlite_code is None:
            return ()
        return (str(signs.sqlite_code), str(signs.sqlite_code & 0xFF))


SQLITE = SQLite()
