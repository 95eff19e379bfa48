"""Several databases: a query over 16 of them, 2 ms away, and what one more of very many takes.

"Side by side" is a read unit in each database at once: in threads, or in tasks.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import sessionmaker

from polysession import AsyncSessions, Sessions

from .. import many
from . import link, tasks, threads
from .effort import Effort
from .timing import Spread
from .works import QUERY, Row

__all__ = ["DATABASES", "LINK", "ONE_BY_ONE", "SIDE_BY_SIDE", "engines", "fan", "fan_async"]

DATABASES: Final = 16
LINK: Final = 2.0
"""Milliseconds."""
ONE_BY_ONE: Final = "one after another"
SIDE_BY_SIDE: Final = "side by side"


def fan(urls: Sequence[str], where: str, effort: Effort) -> Iterator[Row]:
    """A query over all of these databases by threads."""
    with ExitStack() as stack:
        behind = _behind(stack, urls)
        door = stack.enter_context(Sessions(behind))
        workers = stack.enter_context(ThreadPoolExecutor(len(urls)))
        makers = {}
        for name, url in behind.items():
            engine = sa.create_engine(url)
            stack.callback(engine.dispose)
            makers[name] = sessionmaker(engine)

        def ours(name: str) -> None:
            with door.read(name) as session:
                session.execute(QUERY).all()

        def plain(name: str) -> None:
            with makers[name]() as session:
                session.execute(QUERY).all()

        ways: dict[tuple[str, str], Callable[[], object]] = {
            (threads.SESSION, ONE_BY_ONE): lambda: list(map(plain, behind)),
            (threads.OURS, ONE_BY_ONE): lambda: list(map(ours, behind)),
            (threads.SESSION, SIDE_BY_SIDE): lambda: list(workers.map(plain, behind)),
            (threads.OURS, SIDE_BY_SIDE): lambda: list(workers.map(ours, behind)),
        }
        found: dict[tuple[str, str], list[float]] = {way: [] for way in ways}
        for run in ways.values():
            for _ in range(effort.warm):
                run()
        for _ in range(effort.rounds * 2):
            for way, run in ways.items():
                began = time.perf_counter_ns()
                run()
                found[way].append((time.perf_counter_ns() - began) / 1000)
        yield from _fan_rows(where, found)


async def fan_async(urls: Sequence[str], where: str, effort: Effort) -> list[Row]:
    """The same by tasks."""
    with ExitStack() as stack:
        behind = _behind(stack, urls)
        engines = {name: create_async_engine(url) for name, url in behind.items()}
        makers = {name: async_sessionmaker(engine) for name, engine in engines.items()}
        async with AsyncSessions(behind) as door:

            async def ours(name: str) -> None:
                async with door.read(name) as session:
                    (await session.execute(QUERY)).all()

            async def plain(name: str) -> None:
                async with makers[name]() as session:
                    (await session.execute(QUERY)).all()

            async def one_by_one(work: Callable[[str], Any]) -> None:
                for name in behind:
                    await work(name)

            async def side_by_side(work: Callable[[str], Any]) -> None:
                await asyncio.gather(*map(work, behind))

            ways: dict[tuple[str, str], Callable[[], Any]] = {
                (tasks.SESSION, ONE_BY_ONE): lambda: one_by_one(plain),
                (tasks.OURS, ONE_BY_ONE): lambda: one_by_one(ours),
                (tasks.SESSION, SIDE_BY_SIDE): lambda: side_by_side(plain),
                (tasks.OURS, SIDE_BY_SIDE): lambda: side_by_side(ours),
            }
            found: dict[tuple[str, str], list[float]] = {way: [] for way in ways}
            for run in ways.values():
                for _ in range(effort.warm):
                    await run()
            for _ in range(effort.rounds * 2):
                for way, run in ways.items():
                    began = time.perf_counter_ns()
                    await run()
                    found[way].append((time.perf_counter_ns() - began) / 1000)
        for engine in engines.values():
            await engine.dispose()
        return list(_fan_rows(where, found))


def _behind(stack: ExitStack, urls: Sequence[str]) -> dict[str, str]:
    """The databases behind one link, by the names of a door."""
    first = sa.make_url(urls[0])
    near = sa.make_url(stack.enter_context(link.through(urls[0], LINK / 1000)))
    assert all((sa.make_url(url).host, sa.make_url(url).port) == (first.host, first.port) for url in urls)
    return {
        f"db{number}": near.set(database=sa.make_url(url).database).render_as_string(hide_password=False)
        for number, url in enumerate(urls)
    }


def _fan_rows(where: str, found: Mapping[tuple[str, str], Sequence[float]]) -> Iterator[Row]:
    for (side, work), times in found.items():
        yield {"kind": "several", "work": work, "where": where, "side": side, "link_ms": LINK, **Spread(times)}


def engines(url: str, where: str, effort: Effort) -> Iterator[Row]:
    """The memory of an engine that was used once, and the round trips of its first connection."""
    for side, made in many.SIDES.items():
        number = min(effort.engines, many.FEWER) if side == many.PLAIN else effort.engines
        yield {
            "kind": "engines",
            "work": "first connection",
            "where": where,
            "side": side,
            "value": many.trips(url, made.connect),
        }
        memory = round(many.memory(made.use(url), number) / 1024, 1)
        yield {"kind": "engines", "work": "memory", "where": where, "side": side, "engines": number, "value": memory}
