"""What a driver says of arguments that it cannot take, as a report with the key under which they were configured.

Most drivers look at their arguments only when they connect, and say what is wrong in the words of Python. The driver's
own words stay in the report. Opens nothing.

Sources of the table: asyncpg documentation, `connect`; PyMySQL documentation, "Connection Object"; PostgreSQL
documentation, "Parameter Key Words".
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from sqlalchemy.engine import URL

from ..config.problems import closest, join
from ..errors import ConfigError
from ..topology import Endpoint, Role

__all__ = ["path_of_url", "refused_argument", "unreadable_query"]

_SERVER_SETTING = "write it in the table [{table}.server_settings]"
_MEANT: Mapping[tuple[str, str], str] = {
    ("asyncpg", "sslmode"): "write `ssl`, which takes the same words: asyncpg has no `sslmode`",
    ("asyncpg", "connect_timeout"): "write `timeout`, in seconds, in [{table}]",
    ("asyncpg", "application_name"): _SERVER_SETTING,
    ("asyncpg", "options"): _SERVER_SETTING,
    ("psycopg", "server_settings"): 'write options = "-c name=value"',
    ("psycopg", "ssl"): "write `sslmode`",
    ("psycopg", "timeout"): "write `connect_timeout`, in seconds",
    ("pymysql", "timeout"): "write `connect_timeout`, in seconds",
    ("asyncmy", "timeout"): "write `connect_timeout`, in seconds",
}
"""By driver and what was written: the driver's own word for what was meant."""


def path_of_url(endpoint: Endpoint) -> str:
    """The key in the configuration that holds the URL of `endpoint`."""
    database = join("databases", endpoint.database)
    if endpoint.tenant is not None:
        return join(f"{database}.tenants", endpoint.tenant)
    return f"{database}.url" if endpoint.role is Role.PRIMARY else f"{database}.replicas[{endpoint.number - 1}]"


def unreadable_query(error: Exception, endpoint: Endpoint, url: URL) -> ConfigError | None:
    """The report, if SQLAlchemy's dialect raised `error` for an item of the query of `url`; else None."""
    dialect = url.get_dialect()()
    wrong = next((key for key in url.query if not _can_be_read(dialect, url, key)), None)
    return None if wrong is None else _report(error, endpoint, path_of_url(endpoint), wrong, dialect)


def refused_argument(error: BaseException, endpoint: Endpoint, url: URL, dialect: Any) -> ConfigError | None:
    """The report, if `error` came at connect because of an argument that is configured; else None.

    Where the driver does not say which one it is, `error` gets a note of what was configured.
    """
    is_refused = isinstance(error, (TypeError, ValueError)) or _is_of_libpq(error, dialect)
    if not is_refused and not isinstance(error, (AttributeError, LookupError)):
        return None
    places = {
        **dict.fromkeys(url.query, path_of_url(endpoint)),
        **dict.fromkeys(endpoint.connect, f"{join('databases', endpoint.database)}.connect"),
    }
    said = str(error)
    for key, path in places.items():
        if is_refused and re.search(rf"(?<!\w){re.escape(key)}(?!\w)", said):
            return _report(error, endpoint, path, key, dialect)
    if places:
        given = "; ".join(f"`{key}` of {path}" for key, path in places.items())
        error.add_note(f"polysession: it came from connect() of {dialect.driver}, which was given {given}")
    return None


def _is_of_libpq(error: BaseException, dialect: Any) -> bool:
    """psycopg found it in the arguments: the server had no part in it."""
    is_psycopg = dialect.driver == "psycopg" and isinstance(error, dialect.loaded_dbapi.ProgrammingError)
    return is_psycopg and getattr(error, "sqlstate", None) is None


def _report(error: BaseException, endpoint: Endpoint, path: str, key: str, dialect: Any) -> ConfigError:
    driver = dialect.driver
    table = f"{join('databases', endpoint.database)}.connect"
    in_url = path != table
    where = f"`{key}` in the query of {path}" if in_url else join(path, key)
    meant = _MEANT.get((driver, key), "").format(table=table)
    near = None if meant else closest(key, _known(dialect))
    do = [meant] if meant else [f"write `{near}`"] if near and near != key else []
    return ConfigError(
        f"{where}: {driver} does not take what is written there",
        why=f"{driver} says: {str(error).strip()}",
        do=(*do, "correct it, or take it out", f"see which arguments connect() of {driver} takes"),
        path=path if in_url else join(path, key),
        argument=key,
    )


def _can_be_read(dialect: Any, url: URL, key: str) -> bool:
    try:
        dialect.create_connect_args(url.set(query={key: url.query[key]}))
    except (TypeError, ValueError):
        return False
    return True


def _known(dialect: Any) -> Iterable[str]:
    """The arguments of the driver's `connect()`, where it tells them."""
    module = dialect.dbapi
    with suppress(AttributeError, TypeError, ValueError):
        return inspect.signature(getattr(module, dialect.driver, module).connect).parameters
    return ()
