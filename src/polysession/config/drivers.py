"""Which driver speaks to which database, through which door, and which package brings it.

A table and the choice from it. Whether a package is there is asked of the import system without importing it
(`importlib.util.find_spec`). Never imports a driver.

Names and doors of the drivers: the dialects of SQLAlchemy 2.1, `sqlalchemy/dialects/*/__init__.py` and
https://docs.sqlalchemy.org/en/21/dialects/ (a driver without an asyncio dialect there cannot serve the asynchronous
door).
"""

from __future__ import annotations

import importlib.util

import msgspec

from .problems import Problem, closest, report

__all__ = ["BACKENDS", "DRIVERS", "Driver", "choose", "resolve_driver"]


class Driver(msgspec.Struct, frozen=True, kw_only=True):
    """A driver for a backend, as SQLAlchemy names it, and the package that brings it."""

    backend: str
    name: str
    module: str
    """What must be importable."""
    package: str
    """What pip is asked for: one of our extras where there is one; empty if it comes with Python."""
    synchronous: bool = False
    asynchronous: bool = False
    default: bool = True
    """Chosen where the URL names no driver; the first of these that is importable, in the table's order."""

    @property
    def scheme(self) -> str:
        """`postgresql+psycopg`: what stands before `://`, and SQLAlchemy's `URL.drivername`."""
        return f"{self.backend}+{self.name}"

    @property
    def install(self) -> str:
        """The command that brings it; empty if it comes with Python."""
        if not self.package:
            return ""
        quoted = f'"{self.package}"' if "[" in self.package else self.package
        return f"pip install {quoted}"

    @property
    def importable(self) -> bool:
        """Whether its module is there; asked anew each time, imports nothing."""
        try:
            return importlib.util.find_spec(self.module) is not None
        except ValueError:
            # A stand-in that a test put into sys.modules has no spec; it is there all the same.
            return True

    def fits(self, asynchronous: bool | None) -> bool:
        """Whether it can serve the asynchronous door, the synchronous one, or (None) any."""
        if asynchronous is None:
            return True
        return self.asynchronous if asynchronous else self.synchronous


def _mysql(backend: str) -> tuple[Driver, ...]:
    return (
        Driver(backend=backend, name="pymysql", module="pymysql", package="polysession[mysql]", synchronous=True),
        Driver(backend=backend, name="mysqldb", module="MySQLdb", package="polysession[mysqlclient]", synchronous=True),
        Driver(backend=backend, name="asyncmy", module="asyncmy", package="polysession[mysql]", asynchronous=True),
        Driver(
            backend=backend, name="aiomysql", module="aiomysql", package="aiomysql", asynchronous=True, default=False
        ),
    )


DRIVERS: tuple[Driver, ...] = (
    Driver(
        backend="postgresql",
        name="psycopg",
        module="psycopg",
        package="polysession[postgres]",
        synchronous=True,
        asynchronous=True,
    ),
    Driver(
        backend="postgresql",
        name="asyncpg",
        module="asyncpg",
        package="polysession[asyncpg]",
        asynchronous=True,
        default=False,
    ),
    *_mysql("mysql"),
    *_mysql("mariadb"),
    Driver(backend="sqlite", name="pysqlite", module="sqlite3", package="", synchronous=True),
    Driver(backend="sqlite", name="aiosqlite", module="aiosqlite", package="polysession[sqlite]", asynchronous=True),
)
"""All known drivers; of one backend, the default first."""

BACKENDS: tuple[str, ...] = tuple(dict.fromkeys(driver.backend for driver in DRIVERS))

_OTHERS = ("mssql", "oracle", "cockroachdb", "redshift", "snowflake", "db2", "ibm_db_sa", "firebird")
"""Backends that SQLAlchemy has a dialect for, or somebody else has, and this package has no table for."""

_ELSEWHERE = "use SQLAlchemy's own sessionmaker for that database: what its errors mean is not known here"

_DOORS = {True: "AsyncSessions", False: "Sessions", None: "either door"}


def resolve_driver(backend: str, driver: str | None, *, asynchronous: bool, path: str = "") -> Driver:
    """The driver for a URL's `backend[+driver]` at a door; where the URL names none, the door's default.

    The defaults: psycopg for PostgreSQL at both doors; pymysql, else mysqldb, and asyncmy for MySQL and MariaDB;
    pysqlite and aiosqlite for SQLite. `path` is the key that the error names (`databases.orders.url`).

    Raises `ConfigError` for an unknown backend or driver, or a driver that cannot serve this door, and `MissingExtra`
    with the command that installs it for one that is not importable. Imports no driver.
    """
    chosen = choose(backend, driver, asynchronous=asynchronous, path=path)
    if isinstance(chosen, Problem):
        raise report((chosen,))
    return chosen


def choose(
    backend: str, driver: str | None, *, asynchronous: bool | None, path: str, shown: str = ""
) -> Driver | Problem:
    """As `resolve_driver`, but returns the problem; with `asynchronous=None`, what serves any door is good.

    `shown` is what a problem says it found; by default backend and driver.
    """
    of_backend = [known for known in DRIVERS if known.backend == backend]
    if not of_backend:
        near = closest(backend, BACKENDS) if backend not in _OTHERS else None
        return Problem(
            path=path,
            expected=f"a known backend ({', '.join(BACKENDS)})",
            found=shown or f'"{backend}"',
            do=(f'write "{near}://"',) if near else (_ELSEWHERE,) if backend in _OTHERS else (),
        )
    door = _DOORS[asynchronous]
    known_as = f'"{backend}+{driver}"'
    fitting = [known for known in of_backend if known.fits(asynchronous)]
    offered = f"a driver of {backend} for {door} ({', '.join(known.name for known in fitting)})"
    if driver is None:
        candidates = [known for known in fitting if known.default]
    else:
        candidates = [known for known in of_backend if known.name == driver]
    if not candidates:
        near = closest(driver, (known.name for known in fitting))
        meant = next((known for known in fitting if known.name == near), fitting[0])
        return Problem(path=path, expected=offered, found=shown or known_as, do=_instead(meant))
    if not candidates[0].fits(asynchronous):
        return Problem(
            path=path,
            expected=offered,
            found=f"{shown or known_as}, which only {_DOORS[not asynchronous]} can use",
            do=(*_instead(fitting[0]), f"use {_DOORS[not asynchronous]}"),
        )
    return next((known for known in candidates if known.importable), None) or _missing(candidates[0], fitting, path)


def _instead(driver: Driver) -> tuple[str, ...]:
    """What to write, and what to install for it if that is missing."""
    write = f'write "{driver.scheme}://"'
    return (write,) if driver.importable or not driver.install else (f"{write} and {driver.install}",)


def _missing(wanted: Driver, fitting: list[Driver], path: str) -> Problem:
    """`wanted` is not importable; others that are and would do are named too."""
    others = [known for known in fitting if known is not wanted and known.importable]
    return Problem(
        path=path,
        expected=f'the package "{wanted.module}" for {wanted.scheme}',
        found="no such package",
        do=(
            wanted.install or "use a Python that has it",
            *(f'write "{other.scheme}://", whose package is installed' for other in others),
        ),
        install=wanted.install,
    )
