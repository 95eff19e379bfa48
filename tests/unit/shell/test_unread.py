"""An answer on SQLite that was not read to its end keeps nothing from who has its connection next."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from polysession import AsyncSessions, Sessions

FIRST = sa.text("select n from item where id = 1")
ALL = sa.text("select id from item").execution_options(yield_per=2)
ONE_MORE = sa.text("update item set n = n + 1 where id = 1")


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A file with a few rows."""
    with Sessions(f"sqlite:///{tmp_path / 'a.db'}") as door, door.begin() as session:
        session.execute(sa.text("create table item (id integer primary key, n integer)"))
        session.execute(sa.text("insert into item values (:id, 0)"), [{"id": number} for number in range(1, 100)])
    return f"sqlite:///{tmp_path / 'a.db'}"


@pytest.fixture
def other(url: str) -> Iterator[Sessions]:
    """Somebody else, who writes."""
    with Sessions(url) as door:
        yield door


def write(door: Sessions) -> None:
    """A unit."""
    with door.begin() as session:
        session.execute(ONE_MORE)


@pytest.mark.parametrize("fails", [False, True])
def test_of_a_unit_that_writes(url: str, other: Sessions, *, fails: bool) -> None:
    """The next one, on the same connection, writes after others have written."""
    kept = []

    def stream(door: Sessions) -> None:
        with door.begin() as session:
            kept.append(session.execute(ALL))
            kept[0].fetchone()
            if fails:
                raise KeyError

    with Sessions(url) as door:
        try:
            stream(door)
        except KeyError:
            assert fails
        write(other)
        write(door)
        with door.read() as session:
            assert session.scalar(FIRST) == 2


def test_of_a_unit_that_reads(url: str, other: Sessions) -> None:
    """The next one sees what others have written meanwhile."""
    with Sessions(url) as door:
        with door.read(snapshot=True) as session:
            kept = session.execute(ALL)
            kept.fetchone()
        write(other)
        for snapshot in (True, False):
            with door.read(snapshot=snapshot) as session:
                assert session.scalar(FIRST) == 1


def test_of_a_session(url: str, other: Sessions) -> None:
    """It may be read on after a commit, as long as nobody else has the connection."""
    with Sessions(url) as door:
        with door.open() as session:
            kept = session.execute(ALL)
            kept.fetchone()
            session.commit()
            session.execute(ONE_MORE)
            session.commit()
            assert len(kept.fetchall()) == 98
            kept = session.execute(ALL)
            kept.fetchone()
            session.commit()
            write(other)
            with door.open() as second:
                second.execute(ONE_MORE)
                second.commit()
            with pytest.raises(sa.exc.ProgrammingError, match="closed cursor"):
                kept.fetchall()
        write(door)


def test_of_a_stream_in_asyncio(url: str, other: Sessions) -> None:
    """The same."""

    async def stream() -> None:
        async with AsyncSessions(url.replace("sqlite", "sqlite+aiosqlite")) as door:
            async with door.begin() as session:
                kept = await session.stream(ALL)
                await kept.fetchone()
            write_by_another = asyncio.to_thread(write, other)
            await write_by_another
            async with door.begin() as session:
                await session.execute(ONE_MORE)
            assert await door.run_sync(lambda session: session.scalar(FIRST)) == 2

    asyncio.run(stream())
