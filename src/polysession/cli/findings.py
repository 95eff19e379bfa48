"""What `check` can find: the codes, and for each how bad it is, why it matters and what to do. A table; pure.

Texts in braces are filled in by whoever found it. Sources: PostgreSQL documentation (Client Connection Defaults,
CREATE ROLE, Hot Standby); MariaDB documentation (read_only, GRANT, default_storage_engine, innodb_snapshot_isolation)
and MySQL Reference Manual (super_read_only); pgbouncer, "Features" (SQL feature map for pooling modes); SQLite,
sqlite.org/wal.html.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

import msgspec

from ..dialects.inspection import EndpointFacts

__all__ = ["RULES", "Code", "Finding", "Rule", "Severity", "found"]


class Severity(StrEnum):
    """How bad a finding is, the worst first."""

    ERROR = "error"
    """It does not work as it is configured."""
    WARNING = "warning"
    """It works until something happens that will happen."""
    INFO = "info"
    """Worth knowing; changes no exit code."""


class Code(StrEnum):
    """What a finding is about; stable, for scripts and for looking it up."""

    PRIMARY_READ_ONLY = "primary-read-only"
    POOL_OVER_LIMIT = "pool-over-limit"
    POOL_OVER_FREE = "pool-over-free"
    READ_UNITS_FAIL = "read-units-fail"
    READS_MAY_WRITE = "reads-may-write"
    POOLER_UNSET = "pooler-unset"
    REPLICA_IS_PRIMARY = "replica-is-primary"
    REPLICA_TAKES_WRITES = "replica-takes-writes"
    REPLICA_PRIVILEGED = "replica-privileged"
    SERVER_TOO_OLD = "server-too-old"
    STORAGE_ENGINE = "storage-engine"
    SQLITE_TOO_OLD = "sqlite-too-old"
    SQLITE_FOLDER = "sqlite-folder"
    SQLITE_NOT_A_DATABASE = "sqlite-not-a-database"
    SQLITE_NOT_WRITABLE = "sqlite-not-writable"
    LOST_UPDATES = "lost-updates"
    NO_TIMEOUTS = "no-timeouts"
    BACKEND_NAME = "backend-name"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that somebody should know, and what to do about it, in order of likelihood."""

    code: Code
    severity: Severity
    endpoints: tuple[str, ...]
    fact: str
    why: str
    do: tuple[str, ...]


class Rule(msgspec.Struct, frozen=True):
    """What is said of every finding with one code. `do` for all engines, or by the engine's name."""

    severity: Severity
    why: str
    do: tuple[str, ...] | Mapping[str, tuple[str, ...]]

    def cures(self, engine: str) -> tuple[str, ...]:
        """What to do on this engine."""
        return self.do if isinstance(self.do, tuple) else self.do[engine]


def found(code: Code, one: EndpointFacts, fact: str, /, **details: Any) -> Finding:
    """The finding about one endpoint; `details` fill the places in its rule."""
    rule = RULES[code]
    return Finding(
        code=code,
        severity=rule.severity,
        endpoints=(one.endpoint,),
        fact=fact,
        why=rule.why.format(**details),
        do=tuple(cure.format(**details) for cure in rule.cures(one.server.engine)),
    )


_POOL_WHY = (
    "that is for one process, each further one has pools of its own; when the server has none left, a unit fails at "
    "once instead of waiting for its turn"
)
_POOL_DO = ("{sizes}", "raise the limit: {raised}")
_POOLER = ("{cure}", "reach the server itself, not through a pooler")
_REAL_PRIMARY = "give the url of the real primary"
_REAL_REPLICA = "give the url of the real replica"
_LOCK_OR_VERSION = "read with with_for_update(), or map a version column (version_id_col)"
_NEITHER_READ = "see what stands between here and the server"

RULES: Final[Mapping[Code, Rule]] = {
    Code.PRIMARY_READ_ONLY: Rule(
        Severity.ERROR,
        "every write unit goes there and fails",
        {
            "PostgreSQL": (
                _REAL_PRIMARY,
                "promote it, if it is a standby that should be the primary",
                'ALTER ROLE "{account}" RESET default_transaction_read_only, if it is none',
            ),
            "MariaDB": (_REAL_PRIMARY, "SET GLOBAL read_only = 0, if it is the primary"),
            "MySQL": (_REAL_PRIMARY, "SET GLOBAL super_read_only = 0 and read_only = 0, if it is the primary"),
        },
    ),
    Code.POOL_OVER_LIMIT: Rule(Severity.ERROR, _POOL_WHY, _POOL_DO),
    Code.POOL_OVER_FREE: Rule(Severity.WARNING, _POOL_WHY, _POOL_DO),
    Code.READ_UNITS_FAIL: Rule(
        Severity.ERROR,
        "the connection of a read unit asks the server, when it is made, to refuse writes",
        {
            "PostgreSQL": _POOLER,
            "MariaDB": (_NEITHER_READ,),
            "MySQL": (_NEITHER_READ,),
        },
    ),
    Code.READS_MAY_WRITE: Rule(
        Severity.WARNING,
        "polysession refuses the writes that it can see; SQL text that writes is executed",
        {"PostgreSQL": _POOLER, "MariaDB": (_NEITHER_READ,), "MySQL": (_NEITHER_READ,)},
    ),
    Code.POOLER_UNSET: Rule(
        Severity.WARNING,
        "in transaction mode it gives the connection to another client after each transaction, with whatever was set "
        "on it, and without the statements that were prepared",
        _POOLER,
    ),
    Code.REPLICA_IS_PRIMARY: Rule(
        Severity.WARNING,
        "it takes no load from the primary, and is gone when the primary is",
        (_REAL_REPLICA, "leave the replica out"),
    ),
    Code.REPLICA_TAKES_WRITES: Rule(
        Severity.WARNING,
        "polysession writes nothing there, other programs may, and what they write is not on the primary",
        {
            "PostgreSQL": (
                _REAL_REPLICA,
                "ALTER SYSTEM SET default_transaction_read_only = on, if it is a logical replica",
            ),
            "MariaDB": (_REAL_REPLICA, "SET GLOBAL read_only = 1, and in the server's option file"),
            "MySQL": (_REAL_REPLICA, "SET GLOBAL super_read_only = 1, and in the server's option file"),
            "SQLite": ("take the right to write to the file from this account",),
        },
    ),
    Code.REPLICA_PRIVILEGED: Rule(
        Severity.WARNING,
        "the server's refusal does not hold for whoever has these privileges",
        ("REVOKE {privileges} ON *.* FROM {grantee}", "use an account without them"),
    ),
    Code.SERVER_TOO_OLD: Rule(
        Severity.WARNING, "it is not tested there, and what it uses may be missing", ("move to {oldest} or later",)
    ),
    Code.SQLITE_TOO_OLD: Rule(
        Severity.ERROR,
        "RETURNING is missing there",
        ("use a Python whose sqlite3 module has SQLite {oldest} or later",),
    ),
    Code.STORAGE_ENGINE: Rule(
        Severity.WARNING,
        "it has no transactions: what a unit wrote stays when the unit is rolled back",
        (
            "SET GLOBAL default_storage_engine = InnoDB, and in the server's option file",
            'give mysql_engine="InnoDB" or mariadb_engine="InnoDB" to the tables',
        ),
    ),
    Code.SQLITE_FOLDER: Rule(
        Severity.ERROR,
        "SQLite makes the file of a database, not its folder",
        ("mkdir -p {folder}", "correct the url: three slashes begin a relative path, four an absolute one"),
    ),
    Code.SQLITE_NOT_A_DATABASE: Rule(
        Severity.ERROR,
        "it does not begin like a database, or may not be read",
        ("correct the url", "move it away: a database is made in its place"),
    ),
    Code.SQLITE_NOT_WRITABLE: Rule(
        Severity.ERROR,
        "SQLite writes to the file, and beside it to files whose names end in -wal and -shm",
        ("give this account the right to write to {folder} and to the files of the database in it",),
    ),
    Code.LOST_UPDATES: Rule(
        Severity.INFO,
        "when two units read a row, compute, and write it back, both succeed, and one of the updates is lost in "
        "silence{exception}",
        {
            "PostgreSQL": ("use run() or unit() for such work: their level is {repeatable}", _LOCK_OR_VERSION),
            "MariaDB": (
                "SET GLOBAL innodb_snapshot_isolation = ON (10.6.18, 10.11.8, 11.4.2 and later) at REPEATABLE READ",
                "use isolation='SERIALIZABLE' for such work",
                _LOCK_OR_VERSION,
            ),
            "MySQL": ("use isolation='SERIALIZABLE' for such work", _LOCK_OR_VERSION),
        },
    ),
    Code.NO_TIMEOUTS: Rule(
        Severity.INFO,
        "a program that stops in the middle of a unit keeps its locks until its connection breaks",
        {
            "PostgreSQL": ("ALTER ROLE \"{account}\" SET idle_in_transaction_session_timeout = '60s'",),
            "MariaDB": ("SET GLOBAL idle_transaction_timeout = 60",),
            "MySQL": ("SET GLOBAL max_execution_time = 60000, which binds SELECT only",),
        },
    ),
    Code.BACKEND_NAME: Rule(
        Severity.INFO,
        "polysession goes by the URL, and the settings of the two differ",
        ('begin the URL with "mariadb+{driver}://"',),
    ),
}
