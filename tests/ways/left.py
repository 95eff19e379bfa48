"""What is found on a connection that another unit has used: settings, locks, cursors, temporary objects.

It is asked below SQLAlchemy, on the driver's own connection, as the next unit would find it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from sqlalchemy.orm import Session

from .way import done, driver_of, on_driver

__all__ = ["Found", "found_on"]

Found = frozenset[str]
"""What a connection has, one text for each thing."""


def found_on(session: Session) -> Found:
    """What the connection of a session has now."""
    backend = session.get_bind().dialect.name
    driver = driver_of(session)
    return frozenset(_rows(backend, driver)) | frozenset(_of_the_object(driver))


def _rows(backend: str, driver: Any) -> list[str]:
    query = _QUERIES["mysql" if backend == "mariadb" else backend]
    if backend == "sqlite":
        pragmas = [(name, _sqlite(driver, f"pragma {name}")) for name in _PRAGMAS]
        return [str(row) for row in (*pragmas, *_sqlite(driver, query))]
    if backend == "postgresql" and hasattr(driver, "fetch"):
        return [str(tuple(row)) for row in done(driver.fetch(query))]
    if backend == "postgresql":
        return [str(row) for row in done(done(driver.execute(query)).fetchall())]
    return [str(row) for row in on_driver(driver, query)]


def _sqlite(driver: Any, statement: str) -> list[Any]:
    return list(done(done(driver.execute(statement)).fetchall()))


def _of_the_object(driver: Any) -> list[str]:
    """What is set on the driver's object itself; of that in a transaction, the status."""
    return [f"{name}: {tell(driver)}" for name, tell in _OBJECT.items() if hasattr(driver, name.partition(" ")[0])]


_OBJECT: Final[Mapping[str, Callable[[Any], object]]] = {
    "autocommit of psycopg": lambda driver: getattr(driver, "autocommit", None) is True,
    "isolation_level": lambda driver: driver.isolation_level,
    "in_transaction": lambda driver: driver.in_transaction,
    "is_in_transaction": lambda driver: driver.is_in_transaction(),
    "get_transaction_status": lambda driver: driver.get_transaction_status(),
}

_POSTGRESQL: Final = """
select 'setting' as kind, name as what, setting as value from pg_settings
    where setting is distinct from reset_val and name not like 'transaction%'
union all select 'own setting', 'app.tenant', coalesce(nullif(current_setting('app.tenant', true), ''), 'none')
union all select 'listens', channel, '' from pg_listening_channels() as channel
union all select 'prepared', name, '' from pg_prepared_statements where from_sql
union all select 'cursor', name, '' from pg_cursors where is_holdable
union all select 'lock', locktype, mode from pg_locks where pid = pg_backend_pid() and locktype = 'advisory'
union all select 'role', current_user::text, session_user::text
union all select 'read-only', current_setting('default_transaction_read_only'), ''
union all select 'temporary', relname, '' from pg_class where relnamespace = pg_my_temp_schema()
"""

_MARIADB: Final = """
select 'setting', variable_name, variable_value from information_schema.session_variables
    where variable_name not in ('TIMESTAMP', 'RAND_SEED1', 'RAND_SEED2', 'PSEUDO_THREAD_ID', 'WARNING_COUNT',
    'ERROR_COUNT', 'LAST_INSERT_ID', 'IDENTITY', 'INSERT_ID', 'LAST_GTID', 'GTID_SEQ_NO', 'IN_TRANSACTION')
    and variable_name not like 'GTID%' and variable_name not like 'INNODB%'
union all select 'variable', variable_name, cast(variable_value as char) from information_schema.user_variables
union all select 'lock', 'a', coalesce(is_used_lock('a') = connection_id(), 0)
union all select 'role', coalesce(current_role(), ''), database()
"""

_SQLITE: Final = """
select 'database', name, case name when 'main' then '' else file end from pragma_database_list
union all select 'function', name, '' from pragma_function_list where not builtin
union all select 'temporary', name, '' from sqlite_temp_master
"""

_QUERIES: Final = {"postgresql": _POSTGRESQL, "mysql": _MARIADB, "sqlite": _SQLITE}

_PRAGMAS: Final = (
    "query_only",
    "foreign_keys",
    "busy_timeout",
    "synchronous",
    "cache_size",
    "mmap_size",
    "temp_store",
    "writable_schema",
    "recursive_triggers",
    "defer_foreign_keys",
    "locking_mode",
    "ignore_check_constraints",
    "trusted_schema",
    "legacy_alter_table",
    "reverse_unordered_selects",
    "journal_mode",
)
