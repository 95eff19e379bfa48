"""A file that cannot be opened leaves no thread of aiosqlite behind, which would answer to a loop that is closed."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from polysession import AsyncSessions


@pytest.mark.parametrize("verb", ["begin", "read"])
def test_no_thread_is_left_of_a_file_that_cannot_be_opened(tmp_path: Path, verb: str) -> None:
    """It has ended when the error reaches the caller, whatever the loop does next."""
    before = set(threading.enumerate())
    left: list[threading.Thread] = []

    async def fail() -> None:
        async with AsyncSessions(f"sqlite+aiosqlite:///{tmp_path}/no/such/folder.db") as sessions:
            with pytest.raises(OperationalError):
                async with getattr(sessions, verb)() as session:
                    await session.execute(sa.text("select 1"))
            left.extend(set(threading.enumerate()) - before)

    for _ in range(50):
        asyncio.run(fail())
    assert not left
