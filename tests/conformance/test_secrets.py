"""Secrets"""

from __future__ import annotations

import logging
import pickle
import socket
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from polysession import AsyncSessions
from polysession.errors import ConfigError, PolysessionError
from tests.engines.process import wait_until

from .cells import Cell
from .doors import real

PASSWORD = "pa55-w0rd"  # noqa: S105 - not a real one
HERE = str(Path(__file__).parent)
WITHOUT = "SQLite has no password; a file that cannot be opened raises the driver's error"


def url_with_password(cell: Cell) -> str:
    """The test's database, where nobody listens and with a password."""
    scheme, _, rest = cell.url.partition("://")
    _, _, place = rest.rpartition("@")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        return f"{scheme}://app:{PASSWORD}@127.0.0.1:{nobody.getsockname()[1]}/{place.partition('/')[2]}"


def chain(error: BaseException) -> Iterator[BaseException]:
    """The error, all that it came from, and the driver's own errors inside."""
    seen: set[int] = set()
    left: list[Any] = [error]
    while left:
        current = left.pop()
        if isinstance(current, BaseException) and id(current) not in seen:
            seen.add(id(current))
            yield current
            left += [current.__cause__, current.__context__, getattr(current, "orig", None)]


def shown(error: BaseException) -> str:
    """All that a report of an error with the locals of every frame shows, except those of the suite itself."""
    texts = []
    for each in chain(error):
        report = traceback.TracebackException.from_exception(each, capture_locals=True)
        texts += [repr(each), str(each), repr(each.args), repr(getattr(each, "__dict__", ""))]
        texts += report.format_exception_only()
        texts += [f"{frame.name}: {frame.locals}" for frame in report.stack if HERE not in frame.filename]
    return "\n".join(texts)


async def fails(door: AsyncSessions) -> BaseException:
    """What the first statement raises."""
    # asyncpg lets the operating system's error through, and SQLAlchemy lets asyncpg's
    with pytest.raises((sa.exc.DBAPIError, OSError)) as caught:
        async with door.begin() as session:
            await session.execute(sa.text("select 1"))
    return caught.value


async def cannot_open(cell: Cell) -> None:
    """What SQLite has in place of a server that refuses."""
    error = await fails(cell.door(cell.url.replace(".db", "/nowhere/x.db")))
    assert "unable to open database file" in str(error)
    if cell.is_async:
        # aiosqlite's thread reports its end to the event loop, which must not be closed before
        wait_until(lambda: not any("_connection_worker" in thread.name for thread in threading.enumerate()))


async def test_a_refused_connection(cell: Cell) -> None:
    """No text, argument or local variable in the whole chain of a failed connection's error holds the password."""
    if cell.engine == "sqlite":
        cell.differs(WITHOUT)
        await cannot_open(cell)
        return
    for databases in (
        url_with_password(cell),
        {"default": {"url": url_with_password(cell).replace(f":{PASSWORD}", ""), "connect": {"password": PASSWORD}}},
        url_with_password(cell).replace(f":{PASSWORD}", "") + f"?password={PASSWORD}",
    ):
        error = await fails(cell.door(databases))
        assert PASSWORD not in shown(error)
        assert "127.0.0.1" in shown(error)  # it is the error of that place


async def test_a_wrong_password(cell: Cell) -> None:
    """Nor does the error of a server that refuses the password hold it."""
    if cell.engine == "sqlite":
        cell.differs(WITHOUT)
        await cannot_open(cell)
        return
    if cell.is_postgres:
        # the test server trusts everybody: a user that does not exist is refused whatever the password
        url = cell.url.replace("//app@", f"//nobody:{PASSWORD}@")
    else:
        url = cell.url.replace("//app:app@", f"//app:{PASSWORD}@")
    error = await fails(cell.door(url))
    assert PASSWORD not in shown(error)


async def test_a_door_does_not_show_it(cell: Cell) -> None:
    """No repr of a door, its engines and its sessions, and no pickled error, holds the password."""
    if cell.engine == "sqlite":
        cell.differs(WITHOUT)
        return
    for url in (
        url_with_password(cell),
        url_with_password(cell).replace(f":{PASSWORD}", "") + f"?password={PASSWORD}",
    ):
        await is_hidden(cell.door(url))


async def is_hidden(door: AsyncSessions) -> None:
    """Nothing that can be had from the door has the password in its repr."""
    async with door.begin() as session:
        with pytest.raises(PolysessionError) as caught:
            await session.commit()
        for thing in (real(door), vars(real(door)), real(session), session.sync_session.get_bind(), door.held()):
            assert PASSWORD not in repr(thing)
        assert PASSWORD.encode() not in pickle.dumps(caught.value)
    engine = session.sync_session.bind
    assert PASSWORD not in str(getattr(engine, "url", ""))


async def test_a_refused_configuration(cell: Cell) -> None:
    """A URL that cannot be honoured is refused without its password, also in the locals of the traceback."""
    url = url_with_password(cell).replace("://", "x://", 1)
    with pytest.raises(ConfigError) as caught:
        cell.bare_door(url)
    del url
    assert PASSWORD not in shown(caught.value)


async def test_parameters_are_hidden(door: AsyncSessions, cell: Cell) -> None:
    """The parameters of a statement that fails are not in the text of its error."""
    with pytest.raises(sa.exc.DBAPIError) as caught:
        async with door.begin() as session:
            await session.execute(sa.text("select :secret from nowhere"), {"secret": PASSWORD})
    assert PASSWORD not in str(caught.value)
    assert "nowhere" in str(caught.value)


async def test_rows_are_not_logged(door: AsyncSessions, caplog: pytest.LogCaptureFixture) -> None:
    """With SQLAlchemy's logger at DEBUG neither parameters nor rows are in its log, which names the endpoint."""
    statement = sa.text("select cast(:secret as char(100)) as found")
    with caplog.at_level(logging.DEBUG, "sqlalchemy.engine"):
        for verb in (door.read, door.begin):
            async with verb() as session:
                assert await session.scalar(statement, {"secret": PASSWORD}) is not None
    logged = [record for record in caplog.records if record.name.startswith("sqlalchemy.engine")]
    assert [record for record in logged if "row hidden" in record.getMessage()]
    assert {record.name for record in logged} == {"sqlalchemy.engine.Engine.default/primary"}
    assert PASSWORD not in "".join(record.getMessage() for record in logged)
