"""What a unit of work costs over `sessionmaker().begin()`: CPU time, both in turns in one process, on SQLite.

An empty unit sends nothing at either side. With a statement our unit begins and ends a real transaction, which
SQLAlchemy's default mode does not for a SELECT; the row "statement" therefore compares one further statement inside a
unit, not the unit around it.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import sessionmaker

from polysession import AsyncSessions, Sessions

__all__ = ["measure"]

UNITS = 500
STATEMENTS = 20
_ONE = text("select 1")

Row = dict[str, object]


def measure(rounds: int) -> list[Row]:
    """The rows of the table: microseconds of CPU, the difference and the ratio, by medians of `rounds` rounds."""
    with tempfile.TemporaryDirectory() as folder:
        url = str(Path(folder) / "benchmark.db")
        return [
            *_with_threads(f"sqlite:///{url}", rounds),
            *asyncio.run(_with_tasks(f"sqlite+aiosqlite:///{url}", rounds)),
        ]


def _with_threads(url: str, rounds: int) -> list[Row]:
    engine = create_engine(url)
    plain = sessionmaker(engine)
    with Sessions(url) as sessions:

        def empty_unit() -> None:
            with sessions.begin():
                pass

        def empty_read_unit() -> None:
            with sessions.read():
                pass

        def empty_plain() -> None:
            with plain.begin():
                pass

        rows = [
            _row("empty unit, Sessions", rounds, UNITS, empty_unit, empty_plain),
            _row("empty read unit, Sessions", rounds, UNITS, empty_read_unit, empty_plain),
        ]
        with sessions.begin() as ours, plain.begin() as theirs:
            ours.execute(_ONE)
            theirs.execute(_ONE)
            rows.append(
                _row(
                    "statement, Sessions",
                    rounds,
                    UNITS,
                    lambda: ours.execute(_ONE),
                    lambda: theirs.execute(_ONE),
                )
            )
    engine.dispose()
    return rows


async def _with_tasks(url: str, rounds: int) -> list[Row]:
    engine = create_async_engine(url)
    plain = async_sessionmaker(engine)
    async with AsyncSessions(url) as sessions:

        async def empty_unit() -> None:
            async with sessions.begin():
                pass

        async def empty_plain() -> None:
            async with plain.begin():
                pass

        ours: list[float] = []
        theirs: list[float] = []
        for _ in range(rounds):
            ours.append(await _timed_async(empty_unit, UNITS))
            theirs.append(await _timed_async(empty_plain, UNITS))
    await engine.dispose()
    return [_told("empty unit, AsyncSessions", ours, theirs)]


def _row(name: str, rounds: int, times: int, ours: Callable[[], object], theirs: Callable[[], object]) -> Row:
    mine: list[float] = []
    plain: list[float] = []
    for _ in range(rounds):  # in turns, so that whatever else the machine does meets both alike
        mine.append(_timed(ours, times))
        plain.append(_timed(theirs, times))
    return _told(name, mine, plain)


def _timed(work: Callable[[], object], times: int) -> float:
    began = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - began) / times * 1e6


async def _timed_async(work: Callable[[], Awaitable[None]], times: int) -> float:
    began = time.process_time()
    for _ in range(times):
        await work()
    return (time.process_time() - began) / times * 1e6


def _told(name: str, ours: list[float], theirs: list[float]) -> Row:
    mine, plain = statistics.median(ours), statistics.median(theirs)
    return {
        "what": name,
        "polysession_us": round(mine, 1),
        "sqlalchemy_us": round(plain, 1),
        "more_us": round(mine - plain, 1),
        "ratio": round(mine / plain, 2),
        "spread_us": round(max(ours) - min(ours), 1),
    }
