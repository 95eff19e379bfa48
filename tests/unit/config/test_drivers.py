"""The driver for a URL at a door, or the sentence that says what to write or install."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy.dialects import registry

from polysession import AsyncSessions
from polysession.config import DRIVERS, Driver, from_databases, resolve_driver
from polysession.errors import ConfigError, MissingExtra

from .conftest import Install


@pytest.mark.parametrize(
    ("backend", "driver", "asynchronous", "scheme"),
    [
        ("postgresql", None, False, "postgresql+psycopg"),
        ("postgresql", None, True, "postgresql+psycopg"),
        ("postgresql", "psycopg", False, "postgresql+psycopg"),
        ("postgresql", "psycopg", True, "postgresql+psycopg"),
        ("postgresql", "asyncpg", True, "postgresql+asyncpg"),
        ("mysql", None, False, "mysql+pymysql"),
        ("mysql", None, True, "mysql+asyncmy"),
        ("mysql", "mysqldb", False, "mysql+mysqldb"),
        ("mysql", "aiomysql", True, "mysql+aiomysql"),
        ("mariadb", None, False, "mariadb+pymysql"),
        ("mariadb", None, True, "mariadb+asyncmy"),
        ("sqlite", None, False, "sqlite+pysqlite"),
        ("sqlite", None, True, "sqlite+aiosqlite"),
    ],
)
def test_the_driver_of_a_door(backend: str, driver: str | None, asynchronous: bool, scheme: str) -> None:
    """A URL's own driver is kept if it fits; without one, the door's default is chosen."""
    assert resolve_driver(backend, driver, asynchronous=asynchronous).scheme == scheme


def test_the_default_falls_back_to_what_is_installed(install: Install) -> None:
    """For MySQL without PyMySQL, mysqlclient is the default."""
    install("MySQLdb")
    assert resolve_driver("mysql", None, asynchronous=False).name == "mysqldb"


@pytest.mark.parametrize(
    ("backend", "driver", "asynchronous", "texts"),
    [
        (
            "postgresql",
            "asyncpg",
            False,
            (
                "for Sessions (psycopg)",
                "only AsyncSessions can use",
                'write "postgresql+psycopg://"; or use AsyncSessions',
            ),
        ),
        ("sqlite", "pysqlite", True, ("for AsyncSessions (aiosqlite)", "only Sessions can use", "use Sessions")),
        ("mysql", "pymysql", True, ("for AsyncSessions (asyncmy, aiomysql)", 'write "mysql+asyncmy://"')),
        ("postgresql", "psycopg2", False, ("for Sessions (psycopg)", 'write "postgresql+psycopg://"')),
        ("sqlite", "apsw", False, ("for Sessions (pysqlite)", 'write "sqlite+pysqlite://"')),
        ("postgres", None, False, ("postgresql, mysql, mariadb, sqlite", 'write "postgresql://"')),
        ("oracle", None, False, ("a known backend", "use SQLAlchemy's own sessionmaker")),
        ("mssql", None, True, ("a known backend", "use SQLAlchemy's own sessionmaker")),
    ],
)
def test_a_driver_that_does_not_fit_is_refused(
    backend: str, driver: str | None, asynchronous: bool, texts: tuple[str, ...]
) -> None:
    """An unknown backend or driver, or one for the other door, is refused with what to write instead."""
    with pytest.raises(ConfigError) as caught:
        resolve_driver(backend, driver, asynchronous=asynchronous, path="databases.orders.url")
    assert caught.value.facts["path"] == "databases.orders.url"
    for text in texts:
        assert text in str(caught.value)


@pytest.mark.parametrize(
    ("backend", "driver", "asynchronous", "command"),
    [
        ("postgresql", None, False, 'pip install "polysession[postgres]"'),
        ("postgresql", "asyncpg", True, 'pip install "polysession[asyncpg]"'),
        ("mysql", None, False, 'pip install "polysession[mysql]"'),
        ("mysql", "mysqldb", False, 'pip install "polysession[mysqlclient]"'),
        ("mariadb", None, True, 'pip install "polysession[mysql]"'),
        ("mariadb", "aiomysql", True, "pip install aiomysql"),
        ("sqlite", None, True, 'pip install "polysession[sqlite]"'),
    ],
)
def test_a_missing_package_comes_with_its_command(
    install: Install, backend: str, driver: str | None, asynchronous: bool, command: str
) -> None:
    """A driver that is not installed is refused with the one command that installs it."""
    install()
    with pytest.raises(MissingExtra) as caught:
        resolve_driver(backend, driver, asynchronous=asynchronous)
    assert caught.value.do == (command,)
    assert caught.value.facts["install"] == command


def test_a_missing_package_names_the_others_that_are_there(install: Install) -> None:
    """Where another driver of this door is installed, the error says how to use it."""
    install("asyncpg")
    with pytest.raises(MissingExtra) as caught:
        resolve_driver("postgresql", None, asynchronous=True, path="databases.orders.url")
    assert str(caught.value) == (
        '[missing-extra] databases.orders.url: expected the package "psycopg" for postgresql+psycopg, '
        "found no such package\n"
        '  do:  pip install "polysession[postgres]"; or write "postgresql+asyncpg://", whose package is installed\n'
        "  see: https://polysession.readthedocs.io/en/stable/errors/missing-extra"
    )


@pytest.mark.parametrize("given", ["mysql+mysqldb://h/x", {"orders": {"url": "mysql+mysqldb://h/x"}}])
def test_a_driver_of_the_other_door_that_is_missing_too(install: Install, given: Any) -> None:
    """Installing it would not help: the advice is the driver of this door, with the command that brings it."""
    install()
    with pytest.raises(ConfigError) as caught:
        AsyncSessions(given)
    assert caught.value.do == (
        'write "mysql+asyncmy://" and pip install "polysession[mysql]"',
        "use Sessions",
    )
    assert "mysqlclient" not in str(caught.value)
    install("asyncmy")
    with pytest.raises(ConfigError) as caught:
        AsyncSessions.from_mapping({"databases": {"orders": given if isinstance(given, str) else given["orders"]}})
    assert caught.value.do[0] == 'write "mysql+asyncmy://"'


def test_either_door(install: Install) -> None:
    """Where no door is meant, the driver of either one is good."""
    install("asyncmy")
    assert from_databases("mysql+asyncmy://h/x").databases


def test_a_python_without_sqlite_is_told_so(install: Install) -> None:
    """What comes with Python is not offered as a package."""
    install()
    with pytest.raises(ConfigError, match="use a Python that has it"):
        resolve_driver("sqlite", None, asynchronous=False)


def test_drivers_are_looked_for_and_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resolving imports nothing, and a stand-in module in the place of a driver counts as one."""
    monkeypatch.undo()
    before = set(sys.modules)
    for driver in DRIVERS:
        assert driver.importable in (True, False)
    assert set(sys.modules) == before
    monkeypatch.setitem(sys.modules, "stand_in", ModuleType("stand_in"))
    assert Driver(backend="x", name="y", module="stand_in", package="z").importable


@pytest.mark.parametrize("driver", DRIVERS, ids=lambda driver: driver.scheme)
def test_the_table_agrees_with_sqlalchemy(driver: Driver) -> None:
    """Every driver is a dialect of SQLAlchemy, and serves a door exactly if SQLAlchemy has such a dialect."""
    dialect = registry.load(f"{driver.backend}.{driver.name}")
    assert (dialect.is_async, not dialect.is_async) == (
        driver.asynchronous and not driver.synchronous,
        driver.synchronous,
    )
    if driver.synchronous and driver.asynchronous:
        assert dialect.get_async_dialect_cls(None).is_async
