"""SQLite under asyncio: a row is read in a unit of its own, beside AsyncSession with aiosqlite and aiosqlite itself."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session

from polysession import AsyncSessions

from ..table import Item, make_table
from .effort import Effort
from .tasks import OURS, SESSION
from .timing import Spread
from .works import READ, Row, texts

__all__ = ["DRIVER", "RUN_SYNC", "measure"]

DRIVER: Final = "aiosqlite"
RUN_SYNC: Final = f"{OURS}, run_sync"


async def measure(effort: Effort) -> list[Row]:
    """Microseconds of each side's unit."""
    import aiosqlite

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "peers.db"
        make_table(f"sqlite:///{path}")
        url = f"sqlite+aiosqlite:///{path}"
        engine = create_async_engine(url)
        maker = async_sessionmaker(engine)
        async with AsyncSessions(url) as door, aiosqlite.connect(path) as connection:

            async def ours() -> None:
                async with door.read() as session:
                    await session.get_one(Item, 1)

            def read(session: Session) -> None:
                session.get_one(Item, 1)

            async def in_thread() -> None:
                await door.run_sync(read, access="read")

            async def plain() -> None:
                async with maker() as session:
                    await session.get_one(Item, 1)

            async def raw() -> None:
                async with connection.execute(texts("?")[READ][0], (1,)) as cursor:
                    await cursor.fetchall()

            sides: dict[str, Callable[[], Any]] = {
                RUN_SYNC: in_thread,
                OURS: ours,
                SESSION: plain,
                f"{DRIVER}, one connection": raw,
            }
            found: dict[str, list[float]] = {side: [] for side in sides}
            for run in sides.values():
                for _ in range(effort.warm):
                    await run()
            for _ in range(effort.rounds):
                for side, run in sides.items():
                    began = time.perf_counter_ns()
                    for _ in range(effort.units):
                        await run()
                    found[side].append((time.perf_counter_ns() - began) / effort.units / 1000)
        await engine.dispose()
    return [
        {"kind": "sqlite", "work": READ, "where": DRIVER, "side": side, **Spread(times)}
        for side, times in found.items()
    ]
