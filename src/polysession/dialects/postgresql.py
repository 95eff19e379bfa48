"""PostgreSQL: its capabilities and texts. The meaning of its errors is in `postgresql_rows`. Pure, no I/O.

Sources: PostgreSQL documentation, SQL Commands (BEGIN, SET, SET TRANSACTION), chapter Transaction Isolation, chapter
Client Connection Defaults.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import ClassVar

from ..options import Access, Isolation
from .base import Capabilities, Dialect, Setting, StatementTimeout
from .marker import TABLE_NAME, Marker
from .numbers import milliseconds
from .postgresql_rows import TABLE
from .reading import POSTGRESQL as READING
from .reading import Reading
from .rows import ErrorSigns, ErrorTable
from .traces import POSTGRESQL as TRACES
from .traces import Traces

__all__ = ["POSTGRESQL", "PostgreSQL"]


class PostgreSQL(Dialect):
    """PostgreSQL 15 and later.

    A repeatable unit gets REPEATABLE READ: there a write to a row that another transaction changed since this one's
    snapshot is error 40001 instead of a lost update. READ UNCOMMITTED gives READ COMMITTED, as the server does.
    """

    name: ClassVar[str] = "postgresql"
    table: ClassVar[ErrorTable] = TABLE
    reads: ClassVar[Reading] = READING
    traces: ClassVar[Traces] = TRACES
    capabilities: Capabilities = Capabilities(
        isolation=MappingProxyType(
            {
                Isolation.READ_UNCOMMITTED: Isolation.READ_COMMITTED,
                Isolation.READ_COMMITTED: Isolation.READ_COMMITTED,
                Isolation.REPEATABLE_READ: Isolation.REPEATABLE_READ,
                Isolation.SERIALIZABLE: Isolation.SERIALIZABLE,
            }
        ),
        default_isolation=Isolation.READ_COMMITTED,
        repeatable_isolation=Isolation.REPEATABLE_READ,
        errors_abort=True,
        transactional_ddl=True,
        two_phase=True,
        concurrent_writers=True,
        statement_timeout=StatementTimeout.TRANSACTION,
    )
    marker: ClassVar[Marker] = Marker(
        uuid_type="uuid",
        now="CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS bigint)",
        # a simple Query of several statements ends at the first error ("Message Flow", Multiple Statements in a Simple
        # Query); inside of a transaction block nothing of it is committed before its COMMIT
        together="{write}; COMMIT",
        claimed=" RETURNING pg_backend_pid()",
        # asks for the number of the top transaction, which any change takes (System Information Functions). It is
        # evaluated before the row is inserted, so the marker itself is not taken for a change
        if_wrote="pg_current_xact_id_if_assigned() IS NOT NULL",
        forget_rows=(
            "DELETE FROM {table} WHERE unit IN "
            "(SELECT unit FROM {table} WHERE {old} ORDER BY unit LIMIT {most} FOR UPDATE SKIP LOCKED)"
        ),
        # the timeline of the control file lags behind a promotion, the name of the WAL file does not
        server=(
            "SELECT CONCAT((SELECT system_identifier FROM pg_control_system()), '/', "
            "SUBSTR(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8), '/', current_database()), pg_backend_pid()"
        ),
        # its lock on the table says that it is still the connection that wrote a marker, and no other with its number
        blocker=(
            "SELECT CASE WHEN a.wait_event = 'SyncRep' THEN 'replicating' "  # noqa: S608  # constant texts
            "WHEN SUBSTR(a.state, 1, 4) = 'idle' THEN 'idle' ELSE 'running' END "
            "FROM pg_stat_activity a JOIN pg_locks l ON l.pid = a.pid "
            f"WHERE a.pid = {{backend}} AND l.relation = '{TABLE_NAME}'::regclass AND l.granted LIMIT 1"
        ),
        evict=(
            "SELECT pg_terminate_backend(pid) FROM pg_locks "  # noqa: S608  # constant texts
            f"WHERE pid = {{backend}} AND relation = '{TABLE_NAME}'::regclass AND granted LIMIT 1"
        ),
    )
    server_sql: ClassVar[str] = (
        "SELECT current_setting('server_version'), current_setting('default_transaction_isolation'), "
        "CAST(current_setting('max_connections') AS integer), "
        "pg_is_in_recovery() OR CAST(current_setting('default_transaction_read_only') AS boolean), "
        "CAST(current_setting('max_prepared_transactions') AS integer)"
    )

    def begin(self, *, access: Access, isolation: Isolation | None = None, snapshot: bool = False) -> tuple[str, ...]:
        """One BEGIN with all attributes. READ WRITE is never said: the server's own default stays in force."""
        level = self.given(isolation, snapshot=snapshot)
        words = ["BEGIN"]
        if level is not None:
            words.append(f"ISOLATION LEVEL {level}")
        if access is Access.READ:
            words.append("READ ONLY")
        return (" ".join(words),)

    def read_only(self) -> Setting:
        """Holds for statements outside of a transaction too: each is a transaction of its own."""
        return Setting("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "RESET default_transaction_read_only")

    def statement_timeout(self, seconds: float, *, in_transaction: bool = True) -> Setting:
        """Whole milliseconds; at least one, because 0 would mean no limit."""
        if in_transaction:
            return Setting(f"SET LOCAL statement_timeout = {milliseconds(seconds)}")
        return Setting(f"SET statement_timeout = {milliseconds(seconds)}", "RESET statement_timeout")

    def lock_timeout(self, seconds: float) -> Setting:
        """Whole milliseconds; at least one, because 0 would mean no limit."""
        return Setting(f"SET LOCAL lock_timeout = {milliseconds(seconds)}")

    def _codes(self, signs: ErrorSigns) -> tuple[str, ...]:
        return (signs.sqlstate, signs.sqlstate[:2]) if signs.sqlstate else ()


POSTGRESQL = PostgreSQL()
