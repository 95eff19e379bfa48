"""MariaDB, MySQL and Galera: their capabilities and texts. The meaning of their errors is in `mysql_rows`. Pure.

Sources: MariaDB documentation (SET TRANSACTION, START TRANSACTION, max_statement_time, InnoDB System Variables, XA
Transactions); MySQL Reference Manual (the same chapters, and max_execution_time); Galera Cluster documentation,
Differences from a Standalone MySQL Server.
"""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import ClassVar, Final

import msgspec

from ..options import Access, Isolation
from . import implicit
from .base import Capabilities, Dialect, Setting, StatementTimeout
from .marker import Marker
from .mysql_rows import TABLE
from .numbers import checked, milliseconds, whole_seconds
from .reading import MYSQL as READING
from .reading import Reading
from .rows import ErrorSigns, ErrorTable
from .traces import MYSQL as TRACES
from .traces import Traces

__all__ = ["MARIADB", "MARIADB_GALERA", "MYSQL", "MYSQL_GALERA", "MariaDB", "MySQL"]

_INNODB = Capabilities(
    isolation=MappingProxyType({level: level for level in Isolation}),
    default_isolation=Isolation.REPEATABLE_READ,
    repeatable_isolation=None,
    errors_abort=False,
    transactional_ddl=False,
    two_phase=True,
    concurrent_writers=True,
    statement_timeout=StatementTimeout.SESSION,
)

_MOST_LOCK_WAIT: Final = 2**30
"""The largest useful value of innodb_lock_wait_timeout, in seconds."""
_MOST_STATEMENT_TIME: Final = 31_536_000
"""The largest value of MariaDB's max_statement_time, in seconds."""

_SNAPSHOT_ISOLATION_SINCE: Final = {
    (10, 6): 18,
    (10, 11): 8,
    (11, 0): 6,
    (11, 1): 5,
    (11, 2): 4,
    (11, 4): 2,
}
"""For each release series the first release that knows innodb_snapshot_isolation; all series from 11.5 know it."""


_MARKER: Final = Marker(
    uuid_type="char(36) CHARACTER SET ascii COLLATE ascii_bin",
    now="UNIX_TIMESTAMP()",
    tail=" ENGINE=InnoDB",
    forget_rows="DELETE FROM {table} WHERE {old} ORDER BY unit LIMIT {most}",
    server="SELECT CONCAT_WS('/', @@server_uuid, DATABASE())",
    # ids of connections are never given twice while the server runs; an own one that is lower tells of a restart
    blocker=(
        "SELECT CASE WHEN COMMAND = 'Sleep' THEN 'idle' ELSE 'running' END FROM information_schema.PROCESSLIST "
        "WHERE ID = {backend} AND ID < CONNECTION_ID() AND DB = DATABASE()"
    ),
    evict="KILL {backend}",
)


class MySQL(Dialect):
    """MySQL 8.0 and later, with InnoDB; `galera` for a node of a Galera cluster, which has no XA transactions.

    A repeatable unit keeps the server's level: REPEATABLE READ here loses updates without an error (see
    `lost_update_guard` for MariaDB). SERIALIZABLE, FOR UPDATE or a version column helps everywhere.
    """

    name: ClassVar[str] = "mysql"
    table: ClassVar[ErrorTable] = TABLE
    reads: ClassVar[Reading] = READING
    marker: ClassVar[Marker] = _MARKER
    traces: ClassVar[Traces] = TRACES
    server_sql: ClassVar[str] = (
        "SELECT VERSION(), REPLACE(@@transaction_isolation, '-', ' '), @@max_connections, @@global.read_only, NULL"
    )

    def __init__(self, *, galera: bool = False) -> None:
        self.galera: bool = galera
        self.capabilities: Capabilities = self._capabilities()

    def __repr__(self) -> str:
        return f"<dialect {self.name}{', galera' if self.galera else ''}>"

    def commits_before(self, text: str) -> str | None:
        """As `implicit.commits_before`."""
        return implicit.commits_before(text)

    def begin(self, *, access: Access, isolation: Isolation | None = None, snapshot: bool = False) -> tuple[str, ...]:
        """The level is set for the next transaction only. READ WRITE is never said: a read-only server would refuse it
        even to a unit that only reads. WITH CONSISTENT SNAPSHOT takes the snapshot now; it exists at REPEATABLE READ
        only, and at SERIALIZABLE the locks of the reads do the same."""
        level = self.given(isolation, snapshot=snapshot)
        words = []
        if snapshot and level is Isolation.REPEATABLE_READ:
            words.append("WITH CONSISTENT SNAPSHOT")
        if access is Access.READ:
            words.append("READ ONLY")
        start = " ".join(("START TRANSACTION", ", ".join(words))).rstrip()
        return (start,) if level is None else (f"SET TRANSACTION ISOLATION LEVEL {level}", start)

    def read_only(self) -> Setting:
        """Holds for statements outside of a transaction too: each is a transaction of its own."""
        return Setting("SET SESSION TRANSACTION READ ONLY", "SET SESSION TRANSACTION READ WRITE")

    def statement_timeout(self, seconds: float, *, in_transaction: bool = True) -> Setting:
        """MySQL binds SELECT only. Whole milliseconds; at least one, because 0 would mean no limit."""
        return Setting(
            f"SET SESSION max_execution_time = {milliseconds(seconds)}", "SET SESSION max_execution_time = DEFAULT"
        )

    def lock_timeout(self, seconds: float) -> Setting:
        """Row locks of InnoDB, in whole seconds; at least one."""
        return Setting(
            f"SET SESSION innodb_lock_wait_timeout = {whole_seconds(seconds, _MOST_LOCK_WAIT)}",
            "SET SESSION innodb_lock_wait_timeout = DEFAULT",
        )

    def _capabilities(self) -> Capabilities:
        return msgspec.structs.replace(
            _INNODB, two_phase=not self.galera, statement_timeout=StatementTimeout.SESSION_READS
        )

    def _codes(self, signs: ErrorSigns) -> tuple[str, ...]:
        number = () if signs.errno is None else (str(signs.errno),)
        state = (f"#{signs.sqlstate}", f"#{signs.sqlstate[:2]}") if signs.sqlstate else ()
        return (*number, *state)


class MariaDB(MySQL):
    """MariaDB 10.6 and later, with InnoDB."""

    name: ClassVar[str] = "mariadb"
    marker: ClassVar[Marker] = msgspec.structs.replace(
        _MARKER,
        # a compound statement is one statement, so no connection has to allow several of them (MariaDB documentation,
        # BEGIN END, NOT ATOMIC); it ends at the first error, and COMMIT is allowed in it
        together="BEGIN NOT ATOMIC {write}; COMMIT; END",
        # a cluster has one history, whichever node is asked
        server=(
            "SELECT CONCAT_WS('/', COALESCE(NULLIF((SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS "
            "WHERE VARIABLE_NAME = 'WSREP_CLUSTER_STATE_UUID'), ''), CONCAT_WS('/', @@hostname, @@port, @@server_id)), "
            "DATABASE())"
        ),
    )
    server_sql: ClassVar[str] = (
        "SELECT VERSION(), REPLACE(@@tx_isolation, '-', ' '), @@max_connections, @@global.read_only, NULL"
    )

    reports_mode: ClassVar[str | None] = (
        "SET SESSION session_track_system_variables = 'tx_read_only,session_track_system_variables'"
    )
    """MariaDB documentation, session_track_system_variables; also behind rows, as a status bit: seen on 10.11.19."""

    def statement_timeout(self, seconds: float, *, in_transaction: bool = True) -> Setting:
        """Binds every statement. Seconds with six decimals; at least a microsecond, because 0 would mean no limit."""
        limit = min(math.ceil(checked(seconds) * 1_000_000) / 1_000_000, _MOST_STATEMENT_TIME)
        return Setting(f"SET SESSION max_statement_time = {limit:.6f}", "SET SESSION max_statement_time = DEFAULT")

    def lost_update_guard(self, version: tuple[int, ...]) -> Setting | None:
        """innodb_snapshot_isolation: at REPEATABLE READ a write to a row that changed since the snapshot is error 1020
        instead of a lost update. None where the server does not know it.

        Measured on 10.11.19, 8 threads, 4 rows, read-modify-write with repetition: no update lost in 6,000 transfers,
        and many in 480 without it. Not a proof: anomalies that remain are reported (Percona, "MariaDB's Snapshot
        Isolation", 2026; MDEV-38977 for Galera). SERIALIZABLE, FOR UPDATE or a version column stays the strict way.
        """
        major, minor, release = (*version, 0, 0, 0)[:3]
        if (major, minor) < (11, 5) and release < _SNAPSHOT_ISOLATION_SINCE.get((major, minor), math.inf):
            return None
        return Setting("SET SESSION innodb_snapshot_isolation = ON", "SET SESSION innodb_snapshot_isolation = DEFAULT")

    def _capabilities(self) -> Capabilities:
        return msgspec.structs.replace(_INNODB, two_phase=not self.galera)


MYSQL = MySQL()
MYSQL_GALERA = MySQL(galera=True)
MARIADB = MariaDB()
MARIADB_GALERA = MariaDB(galera=True)
