"""What a server is asked to say about itself, and how its answers are read: SQL text and facts. Pure, no I/O.

One `Inquiry` per kind of server, without a privilege that an ordinary account lacks and without a change of anything.
What the facts mean for polysession is judged elsewhere. SQLite is not asked: its file is looked at, so that a check
neither makes a file nor takes a lock.

Sources: PostgreSQL documentation, Connections and Authentication (max_connections, superuser_reserved_connections,
reserved_connections), CREATE ROLE and ALTER DATABASE (CONNECTION LIMIT; superusers are not bound), The Cumulative
Statistics System (pg_stat_activity: of other accounts' sessions all may see that they are there), System Information
Functions. MariaDB documentation, Server System Variables (max_user_connections: the session's value is the account's
own limit if it has one; read_only), GRANT (READ ONLY ADMIN, CONNECTION ADMIN); MySQL Reference Manual, the same
chapters and super_read_only. SQLite, sqlite.org/fileformat2.html, section 1.3, The Database Header.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from ..options import Isolation
from .inspection import FileFacts, Limit, ServerFacts

__all__ = ["Answers", "Inquiry", "inquiry", "refuses_writes", "sqlite_facts", "sqlite_header"]

Answers = Sequence[Sequence[Mapping[str, Any]]]
"""The rows of each statement of an inquiry, by the names of their columns in lower case."""


class Inquiry(msgspec.Struct, frozen=True, kw_only=True):
    """The questions for one kind of server, and the reader of the answers. No text holds a percent sign."""

    statements: tuple[str, ...]
    read: Callable[[Answers], ServerFacts]
    probe: str
    """For the connection of a read unit; `refuses_writes` reads its answer."""
    process: str = ""
    """For the number of the process that answers, where the login tells it too; empty: it does not."""


def inquiry(backend: str) -> Inquiry:
    """The questions for `postgresql`, `mysql` or `mariadb`. Raises `KeyError` for any other backend."""
    return _INQUIRIES[backend]


def refuses_writes(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the answer to a probe says that the server refuses writes on that connection."""
    return bool(rows) and str(rows[0]["value"]).upper() in ("ON", "1")


# -- PostgreSQL

_POSTGRESQL_FACTS = """
SELECT pg_is_in_recovery() AS in_recovery,
    CAST(session_user AS text) AS account,
    CAST(current_database() AS text) AS database,
    CAST(EXTRACT(EPOCH FROM pg_postmaster_start_time()) AS text) AS started,
    role.rolsuper AS is_superuser,
    role.rolconnlimit AS role_limit,
    db.datconnlimit AS database_limit,
    (SELECT pg_has_role(session_user, oid, 'USAGE') FROM pg_roles
        WHERE rolname = 'pg_use_reserved_connections') AS uses_reserved,
    used.total AS total, used.of_role AS of_role, used.of_database AS of_database
FROM pg_roles AS role, pg_database AS db, (
    SELECT count(*) AS total,
        count(*) FILTER (WHERE usename = session_user) AS of_role,
        count(*) FILTER (WHERE datname = current_database()) AS of_database
    FROM pg_stat_activity
    WHERE datid IS NOT NULL AND pid <> pg_backend_pid()
        AND COALESCE(backend_type, 'client backend') = 'client backend'
) AS used
WHERE role.rolname = session_user AND db.datname = current_database()
"""

_POSTGRESQL_SETTINGS = """
SELECT name, setting AS value FROM pg_settings WHERE name IN ('server_version', 'server_version_num', 'port',
    'default_transaction_isolation', 'default_transaction_read_only', 'max_connections',
    'superuser_reserved_connections', 'reserved_connections', 'max_prepared_transactions', 'statement_timeout',
    'idle_in_transaction_session_timeout')
"""


def _read_postgresql(answers: Answers) -> ServerFacts:
    ((facts,), settings) = answers[0], _pairs(answers[1], "name")
    number = int(settings["server_version_num"])
    identity = f"{facts['started']}:{settings['port']}"
    limits = [_postgresql_server_limit(facts, settings, identity)]
    for kind, name, setting in (
        ("ROLE", facts["account"], facts["role_limit"]),
        ("DATABASE", facts["database"], facts["database_limit"]),
    ):
        if setting >= 0 and not facts["is_superuser"]:
            limits.append(
                Limit(
                    key=f"{kind}:{identity}/{name}",
                    name=f'CONNECTION LIMIT of {kind.lower()} "{name}"',
                    setting=setting,
                    most=setting,
                    in_use=facts[f"of_{kind.lower()}"],
                    cure=f'ALTER {kind} "{name}" CONNECTION LIMIT {{number}}',
                )
            )
    return ServerFacts(
        engine="PostgreSQL",
        version=settings["server_version"].partition(" ")[0],
        version_number=(number // 10000, number % 10000),
        isolation=settings["default_transaction_isolation"].upper(),
        read_only=settings["default_transaction_read_only"] == "on",
        in_recovery=facts["in_recovery"],
        identity=identity,
        account=facts["account"],
        limits=tuple(limits),
        statement_timeout=int(settings["statement_timeout"]) / 1000,
        idle_in_transaction_timeout=int(settings["idle_in_transaction_session_timeout"]) / 1000,
        prepared_transactions=int(settings["max_prepared_transactions"]),
    )


def _postgresql_server_limit(facts: Mapping[str, Any], settings: Mapping[str, str], identity: str) -> Limit:
    setting = int(settings["max_connections"])
    reserved = 0
    if not facts["is_superuser"]:
        reserved += int(settings["superuser_reserved_connections"])
        if not facts["uses_reserved"]:  # the setting is there since PostgreSQL 16
            reserved += int(settings.get("reserved_connections", 0))
    return Limit(
        key=f"server:{identity}",
        name=f"max_connections of the server ({setting}{f', {reserved} of them reserved' if reserved else ''})",
        setting=setting,
        most=setting - reserved,
        in_use=facts["total"],
        cure="max_connections = {number} on the server, and a restart",
    )


# -- MySQL and MariaDB

_MYSQL_SETTINGS = """
SHOW SESSION VARIABLES WHERE Variable_name IN ('version', 'hostname', 'port', 'datadir', 'server_uuid',
    'tx_isolation', 'transaction_isolation', 'read_only', 'super_read_only', 'max_connections',
    'max_user_connections', 'max_statement_time', 'max_execution_time', 'idle_transaction_timeout',
    'default_storage_engine', 'innodb_snapshot_isolation', 'wsrep_on')
"""

_MYSQL_ACCOUNT = """
SELECT CURRENT_USER() AS account,
    (SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = SUBSTRING_INDEX(USER(), '@', 1)) AS of_account,
    (SELECT GROUP_CONCAT(REPLACE(PRIVILEGE_TYPE, '_', ' ')) FROM information_schema.USER_PRIVILEGES
        WHERE GRANTEE = CONCAT('''', SUBSTRING_INDEX(CURRENT_USER(), '@', 1), '''@''',
            SUBSTRING_INDEX(CURRENT_USER(), '@', -1), '''')
        AND REPLACE(PRIVILEGE_TYPE, '_', ' ') IN ('SUPER', 'READ ONLY ADMIN', 'CONNECTION ADMIN')) AS privileges
"""

_MYSQL_STATUS = "SHOW GLOBAL STATUS WHERE Variable_name = 'Threads_connected'"

_NEVER_READ_ONLY: Final = ("OFF", "0")
_NOT_EVEN_ADMINS: Final = "NO_LOCK_NO_ADMIN"
"""MariaDB 12 has four values for read_only; with this one no privilege helps."""


def _read_mysql(answers: Answers) -> ServerFacts:
    settings = _pairs(answers[0], "variable_name")
    (account,) = answers[1]
    in_use = int(_pairs(answers[2], "variable_name")["Threads_connected"]) - 1
    is_mariadb = "mariadb" in settings["version"].lower()
    identity = ":".join(settings.get(name, "") for name in ("hostname", "port", "datadir", "server_uuid"))
    privileges = tuple(sorted((account["privileges"] or "").split(","))) if account["privileges"] else ()
    limits = [
        Limit(
            key=f"server:{identity}",
            name=f"max_connections of the server ({settings['max_connections']})",
            setting=int(settings["max_connections"]),
            most=int(settings["max_connections"]),
            in_use=in_use,
            cure="SET GLOBAL max_connections = {number}",
        )
    ]
    most = int(settings["max_user_connections"])
    if most > 0 and not {"SUPER", "CONNECTION ADMIN"} & set(privileges):
        limits.append(
            Limit(
                key=f"account:{identity}/{account['account']}",
                name=f"max_user_connections of {account['account']}",
                setting=most,
                most=most,
                in_use=account["of_account"] - 1,
                cure=f"ALTER USER {_quoted(account['account'])} WITH MAX_USER_CONNECTIONS {{number}}",
            )
        )
    admins_bound = settings.get("super_read_only") == "ON" or settings["read_only"] == _NOT_EVEN_ADMINS
    lets_write = {"SUPER", "READ ONLY ADMIN"} if is_mariadb else {"SUPER", "CONNECTION ADMIN"}
    snapshot = settings.get("innodb_snapshot_isolation")
    return ServerFacts(
        engine="MariaDB" if is_mariadb else "MySQL",
        version=".".join(map(str, _numbers(settings["version"]))),
        version_number=_numbers(settings["version"]),
        isolation=(settings.get("transaction_isolation") or settings["tx_isolation"]).replace("-", " "),
        read_only=settings["read_only"] not in _NEVER_READ_ONLY,
        identity=identity,
        account=account["account"],
        limits=tuple(limits),
        write_privileges=() if admins_bound else tuple(name for name in privileges if name in lets_write),
        statement_timeout=float(settings["max_statement_time"])
        if is_mariadb
        else float(settings.get("max_execution_time", 0)) / 1000,
        idle_in_transaction_timeout=float(settings["idle_transaction_timeout"])
        if "idle_transaction_timeout" in settings
        else None,
        storage_engine=settings.get("default_storage_engine", ""),
        snapshot_isolation=None if snapshot is None else snapshot == "ON",
        galera=settings.get("wsrep_on") == "ON",
    )


def _quoted(account: str) -> str:
    """`app@%` as the server wants it: 'app'@'%'."""
    user, _, host = account.rpartition("@")
    return f"'{user}'@'{host}'"


def _pairs(rows: Sequence[Mapping[str, Any]], name: str) -> dict[str, str]:
    return {row[name]: str(row["value"]) for row in rows}


def _numbers(version: str) -> tuple[int, ...]:
    """The numbers at the head of a version."""
    return tuple(int(number) for number in re.findall(r"\d+", re.match(r"[\d.]*", version)[0]))  # type: ignore[index]  # it matches the empty text too


_MYSQL = Inquiry(
    statements=(_MYSQL_SETTINGS, _MYSQL_ACCOUNT, _MYSQL_STATUS),
    read=_read_mysql,
    probe="SHOW SESSION VARIABLES WHERE Variable_name IN ('transaction_read_only', 'tx_read_only')",
)

_INQUIRIES: Final = {
    "postgresql": Inquiry(
        statements=(_POSTGRESQL_FACTS, _POSTGRESQL_SETTINGS),
        read=_read_postgresql,
        probe="SELECT current_setting('transaction_read_only') AS value",
        process="SELECT pg_backend_pid()",
    ),
    "mysql": _MYSQL,
    "mariadb": _MYSQL,
}

# -- SQLite

_MAGIC: Final = b"SQLite format 3\x00"
_READ_VERSION: Final = 19


def sqlite_header(head: bytes) -> tuple[bool, str]:
    """Whether a file with this head is a database, and its journal: `wal` or `rollback`. An empty file is one too."""
    if not head:
        return True, ""
    if not head.startswith(_MAGIC) or len(head) <= _READ_VERSION:
        return False, ""
    return True, "wal" if head[_READ_VERSION] == 2 else "rollback"


def sqlite_facts(version: str, file: FileFacts) -> ServerFacts:
    """What there is to say about an SQLite database in this process."""
    return ServerFacts(
        engine="SQLite",
        version=version,
        version_number=_numbers(version),
        isolation=str(Isolation.SERIALIZABLE),
        read_only=not file.writable,
        identity=file.path,
    )
