"""What `asyncio.wait_for` does to a unit: before Python 3.12 it runs its coroutine in a task of its own."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from polysession import AsyncSessions

SAME_TASK = sys.version_info >= (3, 12)
"""Python 3.12, "What's New", asyncio: `wait_for` no longer makes a task."""


def test_begin_inside_of_wait_for(tmp_path: Path) -> None:
    """The unit around it is joined where the task is the same one; else the inner one is a unit of its own."""

    async def main() -> None:
        async with AsyncSessions(f"sqlite:///{tmp_path}/a.db") as door:
            async with door.begin() as outer:

                async def inner() -> bool:
                    async with door.begin() as session:
                        assert session is door.current()
                        return session is outer

                assert await asyncio.wait_for(inner(), 20) is SAME_TASK
                assert await inner()
                assert door.current() is outer
            assert door.counts().opened == (1 if SAME_TASK else 2)
            assert door.held() == ()

    asyncio.run(main())


def test_a_unit_that_wait_for_ends(tmp_path: Path) -> None:
    """Cut off by its time limit, a unit in it is rolled back, and nothing is held when `wait_for` returns."""

    async def main() -> None:
        async with AsyncSessions(f"sqlite:///{tmp_path}/a.db") as door:
            entered = asyncio.Event()

            async def work() -> None:
                async with door.begin() as session:
                    await session.connection()
                    entered.set()
                    await asyncio.Event().wait()

            working = asyncio.create_task(work())
            await entered.wait()
            try:
                await asyncio.wait_for(working, 0)
            except TimeoutError:
                assert door.held() == ()
                assert door.counts().rolled_back == 1
            else:
                raise AssertionError("it did not time out")

    asyncio.run(main())
