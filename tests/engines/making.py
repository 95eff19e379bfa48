"""Makes the server of a target. Apart from `targets`, so that tests without a server load no driver."""

from __future__ import annotations

from collections.abc import Callable

from .finders import find, find_all_postgres
from .galera import Galera
from .mariadb import MariaDB
from .pgbouncer import PgBouncer
from .postgres import Postgres
from .server import Server
from .sqlite import SQLite

__all__ = ["make"]


def make(target: str, shared: Callable[[str], Server]) -> Server:
    """A server that is not started yet; one that stands in front of another takes that from `shared`.

    Raises `EngineMissing`.
    """
    match target:
        case "sqlite":
            return SQLite()
        case "mariadb":
            return MariaDB()
        case "galera":
            return Galera()
        case "pgbouncer":
            find("pgbouncer")  # before a server is started in vain
            behind = shared(_newest_postgres())
            assert isinstance(behind, Postgres)
            return PgBouncer(behind)
        case _:
            return Postgres(target)


def _newest_postgres() -> str:
    """The newest PostgreSQL here: most tests use it, so it runs already. Raises `EngineMissing`."""
    engines = [pg.engine for pg in find_all_postgres()]
    return max(engines, key=lambda engine: int(engine[2:])) if engines else find("pg18").engine
