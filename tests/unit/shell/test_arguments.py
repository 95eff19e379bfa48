"""An argument that a driver does not take is refused with its key and with the driver's own words."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import text

from polysession import AsyncSessions, Sessions
from polysession.errors import ConfigError

NOWHERE = "127.0.0.1:1/x"
"""Nobody listens there: what is refused is refused before that is found out."""


def fails(url: str, connect: dict[str, Any], *, asynchronous: bool) -> BaseException:
    """What the first statement raises."""
    given = {"databases": {"x": {"url": url, "connect": connect}}}

    async def main() -> None:
        async with AsyncSessions.from_mapping(given) as door, door.begin() as session:
            await session.execute(text("select 1"))

    def work() -> None:
        if asynchronous:
            asyncio.run(main())
            return
        with Sessions.from_mapping(given) as door, door.begin() as session:
            session.execute(text("select 1"))

    with pytest.raises(Exception) as caught:  # any: the tests look at it
        work()
    return caught.value


DRIVERS = [
    ("mysql+pymysql", False, "unexpected keyword argument 'frob'"),
    ("mysql+asyncmy", True, "unexpected keyword argument 'frob'"),
    ("postgresql+asyncpg", True, "unexpected keyword argument 'frob'"),
    ("postgresql+psycopg", False, 'invalid connection option "frob"'),
    ("postgresql+psycopg", True, 'invalid connection option "frob"'),
]


@pytest.mark.parametrize(("scheme", "asynchronous", "words"), DRIVERS)
def test_an_unknown_item_of_the_query(scheme: str, asynchronous: bool, words: str) -> None:
    """It names the URL, the item, and what the driver said."""
    error = fails(f"{scheme}://{NOWHERE}?frob=1", {}, asynchronous=asynchronous)
    assert isinstance(error, ConfigError)
    assert error.what.startswith("`frob` in the query of databases.x.url: ")
    assert error.facts["path"] == "databases.x.url"
    assert words in error.why
    assert words in str(error.__cause__)


@pytest.mark.parametrize(("scheme", "asynchronous", "words"), DRIVERS)
def test_an_unknown_argument(scheme: str, asynchronous: bool, words: str) -> None:
    """It names the key in the table, and what the driver said."""
    error = fails(f"{scheme}://{NOWHERE}", {"frob": 1}, asynchronous=asynchronous)
    assert isinstance(error, ConfigError)
    assert error.facts["path"] == "databases.x.connect.frob"
    assert words in error.why


@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_argument_that_sqlite_does_not_take(asynchronous: bool) -> None:
    """The same for SQLite, which has no server."""
    error = fails("sqlite://", {"frob": 1}, asynchronous=asynchronous)
    assert isinstance(error, ConfigError)
    assert error.facts["path"] == "databases.x.connect.frob"


@pytest.mark.parametrize(
    ("scheme", "key", "do"),
    [
        ("postgresql+asyncpg", "sslmode", "write `ssl`"),
        ("postgresql+asyncpg", "application_name", "[databases.x.connect.server_settings]"),
        ("postgresql+asyncpg", "comand_timeout", "write `command_timeout`"),
        ("mysql+asyncmy", "timeout", "write `connect_timeout`"),
    ],
)
def test_what_was_meant(scheme: str, key: str, do: str) -> None:
    """Another driver's word for it, and a misspelt one, come with the right one."""
    error = fails(f"{scheme}://{NOWHERE}?{key}=1", {}, asynchronous=True)
    assert isinstance(error, ConfigError)
    assert do in error.do[0]


def test_an_item_of_the_wrong_type() -> None:
    """What SQLAlchemy cannot read in the query is named as well; only that item."""
    url = f"mysql+pymysql://{NOWHERE}?charset=utf8mb4&connect_timeout=soon"
    error = fails(url, {}, asynchronous=False)
    assert isinstance(error, ConfigError)
    assert error.facts["argument"] == "connect_timeout"
    assert "invalid literal for int()" in error.why


def test_a_driver_that_does_not_say_which() -> None:
    """Its error stays what it is, with a note of what was configured and where."""
    error = fails(f"mysql+asyncmy://{NOWHERE}?charset=utf8mb4", {"connect_timeout": "soon"}, asynchronous=True)
    assert isinstance(error, TypeError)
    (note,) = error.__notes__
    assert "`charset` of databases.x.url; `connect_timeout` of databases.x.connect" in note


def test_a_replica() -> None:
    """The URL of a replica is named by its place."""
    given = {
        "databases": {"x": {"url": f"mysql+pymysql://{NOWHERE}", "replicas": [f"mysql+pymysql://{NOWHERE}?frob=1"]}}
    }
    with Sessions.from_mapping(given) as door:
        with pytest.raises(ConfigError) as caught, door.read(role="replica") as session:
            session.execute(text("select 1"))
        assert caught.value.facts["path"] == "databases.x.replicas[0]"
