"""What each database can do and how it is asked: tables and SQL text. No I/O, no SQLAlchemy, no driver.

`of` finds the dialect of a database by the name that SQLAlchemy gives to its backend.
"""

from __future__ import annotations

import importlib

from ..errors import RequestRefused
from .base import Dialect

__all__ = ["of"]

_WHERE = {
    ("postgresql", False): ("postgresql", "POSTGRESQL"),
    ("mysql", False): ("mysql", "MYSQL"),
    ("mysql", True): ("mysql", "MYSQL_GALERA"),
    ("mariadb", False): ("mysql", "MARIADB"),
    ("mariadb", True): ("mysql", "MARIADB_GALERA"),
    ("sqlite", False): ("sqlite", "SQLITE"),
}
"""By name, and whether it is Galera: the module and the dialect in it. A program loads the tables that it uses."""
_found: dict[tuple[str, bool], Dialect] = {}


def of(backend_name: str, *, galera: bool = False) -> Dialect:
    """The dialect for SQLAlchemy's backend name ("postgresql", "mysql", "mariadb", "sqlite"); `galera` if the server
    was found to be a node of a Galera cluster.

    Raises `RequestRefused` for any other backend. There is no generic dialect on purpose: without a table nothing is
    known about an error at COMMIT, about lost updates or about read-only access, and a door that promises these would
    break its promise in silence.
    """
    key = (backend_name, galera)
    dialect = _found.get(key)
    if dialect is not None:
        return dialect
    if key in _WHERE:
        module, name = _WHERE[key]
        return _found.setdefault(key, getattr(importlib.import_module(f".{module}", __name__), name))
    known = [name for name, is_galera in _WHERE if is_galera is galera]
    raise RequestRefused(
        f"polysession does not know the database {backend_name!r}{' on Galera' if galera else ''}",
        why=f"it knows: {', '.join(known)}; elsewhere it could not say what an error at COMMIT means",
        do=("use one of these", "use SQLAlchemy's own sessionmaker for this database"),
        backend=backend_name,
    )
