"""SQLite under asyncio: units by `run_sync`, which one thread does whole, and blocks, beside AsyncSession.

The same work on one file, in one process: a round times some units of each side, in turns. Told are the microseconds of
a unit, by the clock and of CPU (of all threads of the process), each the lower quartile of the rounds, and their ratio
to the control, `AsyncSession` with aiosqlite and nothing of ours.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from statistics import quantiles
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session

from polysession import AsyncSessions

from .table import Item, make_table

__all__ = ["SIDES", "WORKS", "measure"]

WORKS: Final = ("read a row", "read ten times", "read and change")
SIDES: Final = ("polysession, run_sync", "polysession, a block", "AsyncSession")
"""The last one is the control."""
_UNITS: Final = 100

Row = dict[str, object]
Unit = Callable[[], Awaitable[object]]


def measure(rounds: int) -> list[Row]:
    """The rows of the table."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "one_thread.db"
        make_table(f"sqlite:///{path}")
        return asyncio.run(_measure(f"sqlite+aiosqlite:///{path}", rounds))


async def _measure(url: str, rounds: int) -> list[Row]:
    engine = create_async_engine(url)
    rows: list[Row] = []
    async with AsyncSessions(url) as door:
        maker = async_sessionmaker(engine)
        made = (_in_thread(door), _blocks(door.begin, door.read), _blocks(maker.begin, maker))
        for number, work in enumerate(WORKS):
            rows += await _compared(
                work, {side: units[number] for side, units in zip(SIDES, made, strict=True)}, rounds
            )
    await engine.dispose()
    return rows


async def _compared(work: str, sides: dict[str, Unit], rounds: int) -> list[Row]:
    found: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
    for unit in sides.values():
        await _timed(unit)
    for _ in range(max(2, rounds)):
        for side, unit in sides.items():
            found[side].append(await _timed(unit))
    control = [_lower_quartile(times) for times in zip(*found[SIDES[-1]], strict=True)]
    rows: list[Row] = []
    for side, pairs in found.items():
        wall, cpu = (_lower_quartile(times) for times in zip(*pairs, strict=True))
        rows.append(
            {
                "work": work,
                "side": side,
                "wall_us": round(wall),
                "cpu_us": round(cpu),
                "wall_ratio": round(wall / control[0], 2),
                "cpu_ratio": round(cpu / control[1], 2),
            }
        )
    return rows


def _lower_quartile(times: Sequence[float]) -> float:
    return quantiles(times, n=4)[0]


async def _timed(unit: Unit) -> tuple[float, float]:
    began, used = time.perf_counter_ns(), time.process_time_ns()
    for _ in range(_UNITS):
        await unit()
    wall, cpu = time.perf_counter_ns() - began, time.process_time_ns() - used
    return wall / _UNITS / 1000, cpu / _UNITS / 1000


def _in_thread(door: AsyncSessions) -> tuple[Unit, Unit, Unit]:
    def read(session: Session) -> None:
        session.get_one(Item, 1)

    def read_ten(session: Session) -> None:
        for _ in range(10):
            session.get_one(Item, 1, populate_existing=True)

    def change(session: Session) -> None:
        session.get_one(Item, 1).value += 1

    return (
        lambda: door.run_sync(read, access="read"),
        lambda: door.run_sync(read_ten, access="read"),
        lambda: door.run_sync(change),
    )


def _blocks(write: Callable[[], Any], read: Callable[[], Any]) -> tuple[Unit, Unit, Unit]:
    async def reading(times: int) -> None:
        session: AsyncSession
        async with read() as session:
            for _ in range(times):
                await session.get_one(Item, 1, populate_existing=True)

    async def change() -> None:
        async with write() as session:
            (await session.get_one(Item, 1)).value += 1

    return lambda: reading(1), lambda: reading(10), change
