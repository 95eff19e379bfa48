"""What a door tells of its pools from outside of its work, and to the logs."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest
from sqlalchemy import text

from polysession import AsyncSessions, Sessions

ONE = text("select 1")


def test_an_asynchronous_door_tells_its_readiness_in_a_thread(tmp_path: Path) -> None:
    """A health check may run in a thread: it sees the counts of the loops that live; in a loop, only those of it."""

    async def out(door: AsyncSessions) -> int:
        async with door.begin() as session:
            await session.execute(ONE)
            inside = door.ready()
            assert [counts.out for counts in inside.endpoints] == [1]
            outside = await asyncio.to_thread(door.ready)
            assert outside == inside
        return len(door.ready().endpoints)

    async def main() -> None:
        async with AsyncSessions(f"sqlite:///{tmp_path}/a.db") as door:
            assert (await asyncio.to_thread(door.ready)).endpoints == ()
            assert await out(door) == 1
            elsewhere = await asyncio.to_thread(asyncio.run, in_another_loop(door))
            assert elsewhere == 1
        assert (await asyncio.to_thread(door.ready)).reason == "closed"

    async def in_another_loop(door: AsyncSessions) -> int:
        assert door.ready().endpoints == ()
        found = await out_of_two(door)
        await door.close()
        return found

    async def out_of_two(door: AsyncSessions) -> int:
        async with door.begin() as session:
            await session.execute(ONE)
            assert len((await asyncio.to_thread(door.ready)).endpoints) == 2
            return len(door.ready().endpoints)

    asyncio.run(main())


@pytest.mark.parametrize(("level", "heard"), [(logging.NOTSET, []), (logging.DEBUG, ["sqlalchemy.pool.FairPool"])])
def test_the_pool_is_as_quiet_as_sqlalchemys(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, level: int, heard: list[str]
) -> None:
    """A program that logs at DEBUG hears nothing of checkouts and ends, unless it asks for `sqlalchemy.pool`."""
    caplog.set_level(logging.DEBUG)
    if level:
        caplog.set_level(level, "sqlalchemy.pool")
    with Sessions(f"sqlite:///{tmp_path}/a.db") as door, door.begin() as session:
        session.execute(ONE)
    assert sorted({record.name for record in caplog.records if record.name != "asyncio"}) == heard
