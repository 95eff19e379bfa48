"""What each database can do and how it is asked: tables and SQL text. No I/O, no SQLAlchemy, no driver.

`of` finds the dialect of a database by the name that SQLAlchemy gives to its backend.
"""

from __future__ import annotations

from ..errors import RequestRefused
from .base import Dialect
from .mysql import MARIADB, MARIADB_GALERA, MYSQL, MYSQL_GALERA
from .postgresql import POSTGRESQL
from .sqlite import SQLITE

__all__ = ["of"]

_DIALECTS: dict[str, Dialect] = {dialect.name: dialect for dialect in (POSTGRESQL, MYSQL, MARIADB, SQLITE)}
_GALERA: dict[str, Dialect] = {dialect.name: dialect for dialect in (MYSQL_GALERA, MARIADB_GALERA)}


def of(backend_name: str, *, galera: bool = False) -> Dialect:
    """The dialect for SQLAlchemy's backend name ("postgresql", "mysql", "mariadb", "sqlite"); `galera` if the server
    was found to be a node of a Galera cluster.

    Raises `RequestRefused` for any other backend. There is no generic dialect on purpose: without a table nothing is
    known about an error at COMMIT, about lost updates or about read-only access, and a door that promises these would
    break its promise in silence.
    """
    dialect = (_GALERA if galera else _DIALECTS).get(backend_name)
    if dialect is not None:
        return dialect
    known = _GALERA if galera else _DIALECTS
    raise RequestRefused(
        f"polysession does not know the database {backend_name!r}{' on Galera' if galera else ''}",
        why=f"it knows: {', '.join(known)}; elsewhere it could not say what an error at COMMIT means",
        do=("use one of these", "use SQLAlchemy's own sessionmaker for this database"),
        backend=backend_name,
    )
