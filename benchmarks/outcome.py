"""What an exact outcome costs: units with it and without it, side by side, and their round trips.

Two doors to the same server, each with one connection, take turns in one process: a few units of one, then as many of
the other, in changing order, some hundred times. Of all times the twentieth part that is lowest counts, because
whatever else a machine does only adds. The time is that of the wall, since the server works for it as well. "Synced"
servers have their data on the disk and write each commit to it, as in earnest; the others sync nothing, so that a unit
is cheap and a row more weighs most. Round trips are counted by a proxy, and calls of Python functions by the
interpreter; both are the same on every machine. A unit writes one row, or is a read-only unit and reads one.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal, Self

import sqlalchemy as sa

from benchmarks.overhead import Counted
from polysession import AsyncSessions, Sessions
from polysession.testing.proxy import FaultProxy

__all__ = ["BOUND", "Tasks", "Threads", "count", "make_table", "measure"]

UNITS: Final = 4
BATCHES: Final = 20
"""Units that are timed at once, and how often that is done in each round."""
BOUND: Final = 0.85
"""The least throughput of units that write one row, in parts of that without an exact outcome. There is one connection,
so that the throughput is one unit in the time of a unit."""
_TARGETS: Final = ("pg18 synced", "mariadb synced", "pg18", "pg15", "mariadb", "sqlite")
_WORKS: Final = ("write", "read")

ITEM = sa.Table("item", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True, autoincrement=False))
_numbers = itertools.count(1)

Row = dict[str, object]
Kind = Literal["plain", "exact"]
_KINDS: Final[tuple[Kind, Kind]] = ("plain", "exact")


class Threads:
    """Units of the synchronous door."""

    def __init__(self, url: str, kind: Kind) -> None:
        self._door: Sessions = Sessions.from_mapping(_settings(url, kind))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._door.close()

    def run(self, work: str, units: int) -> None:
        """So many units that do this."""
        for _ in range(units):
            if work == "write":
                with self._door.begin() as session:
                    session.execute(_insert())
            else:
                with self._door.read() as session:
                    session.execute(_SELECT)


class Tasks:
    """Units of the asynchronous door."""

    def __init__(self, url: str, kind: Kind) -> None:
        self._runner = asyncio.Runner()
        self._door: AsyncSessions = AsyncSessions.from_mapping(_settings(url, kind))

    def __enter__(self) -> Self:
        self._runner.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._door.close())
        self._runner.close()

    def run(self, work: str, units: int) -> None:
        """So many units that do this."""
        self._runner.run(self._run(work, units))

    async def _run(self, work: str, units: int) -> None:
        for _ in range(units):
            if work == "write":
                async with self._door.begin() as session:
                    await session.execute(_insert())
            else:
                async with self._door.read() as session:
                    await session.execute(_SELECT)


def measure(rounds: int) -> list[Row]:
    """The rows of the table, for every server that is here."""
    import pytest
    from tests.engines.targets import ASYNC_DRIVERS, SYNC_DRIVERS, mark_of

    rows: list[Row] = []
    for place in _TARGETS:
        target = place.partition(" ")[0]
        try:
            with _database(target, synced=place != target) as url:
                for driver in SYNC_DRIVERS[mark_of(target)]:
                    rows += _compared(f"{place}, {driver}", Threads, url(driver), rounds)
                for driver in ASYNC_DRIVERS[mark_of(target)]:
                    rows += _compared(f"{place}, {driver}, async", Tasks, url(driver), rounds)
        except pytest.skip.Exception as missing:
            print(missing, file=sys.stderr)
    return rows


@contextmanager
def _database(target: str, *, synced: bool) -> Iterator[Callable[[str], str]]:
    """The URLs of an empty database, by driver, with the table."""
    from tests.engines import folders
    from tests.engines.mariadb import MariaDB
    from tests.engines.postgres import Postgres
    from tests.engines.targets import Servers

    servers = Servers()
    memory = folders.SHARED_MEMORY
    try:
        if not synced:
            database = servers.fresh(target)
            make_table(database.url())
            yield database.url
            return
        servers.private(target)  # or it is skipped
        folders.SHARED_MEMORY = Path("/nowhere")  # the data go to the disk, as if there were no such folder
        folders.base_folder.cache_clear()
        made: Postgres | MariaDB = (
            MariaDB(target, options=lambda: _SYNCED_MARIADB)
            if target == "mariadb"
            else Postgres(target, settings={"fsync": "on"})
        )
        with made as server:
            server.create_database("cost")
            make_table(server.url("cost"))
            yield lambda driver: server.url("cost", driver)
    finally:
        folders.SHARED_MEMORY = memory
        folders.base_folder.cache_clear()
        servers.close()


_SYNCED_MARIADB: Final = ("--innodb-flush-log-at-trx-commit=1", "--sync-binlog=1")


def make_table(url: str) -> None:
    """The table that is written and read."""
    engine = sa.create_engine(url)
    ITEM.metadata.create_all(engine)
    engine.dispose()


def _settings(url: str, kind: Kind) -> dict[str, Any]:
    return {"databases": {"main": {"url": url, "pool": {"size": 1}, "outcome": kind}}}


def _insert() -> Any:
    return ITEM.insert().values(id=next(_numbers))


_SELECT = sa.select(ITEM.c.id).limit(1)


def _compared(name: str, make: type[Threads | Tasks], url: str, rounds: int) -> Iterator[Row]:
    trips = {} if url.startswith("sqlite") else {kind: _trips(make, url, kind) for kind in _KINDS}
    with make(url, "plain") as plain, make(url, "exact") as exact:
        sides = {"plain": plain, "exact": exact}
        for work in _WORKS:
            for side in sides.values():
                side.run(work, 50)  # statements are prepared
            times: dict[str, list[float]] = {"plain": [], "exact": []}
            for number in range(rounds * BATCHES):
                for kind in _KINDS if number % 2 else reversed(_KINDS):
                    began = time.perf_counter()
                    sides[kind].run(work, UNITS)
                    times[kind].append((time.perf_counter() - began) / UNITS * 1e6)
            found = {kind: statistics.quantiles(times[kind], n=20)[0] for kind in _KINDS}
            calls = {kind: count(sides[kind], work) for kind in _KINDS}
            yield {
                "what": f"{work}, {name}",
                "plain_us": round(found["plain"]),
                "exact_us": round(found["exact"]),
                "throughput": round(found["plain"] / found["exact"], 3),
                "plain_trips": trips["plain"][work] if trips else 0.0,
                "exact_trips": trips["exact"][work] if trips else 0.0,
                "plain_calls": calls["plain"],
                "exact_calls": calls["exact"],
            }


def count(side: Threads | Tasks, work: str) -> int:
    """The calls of Python functions of one unit; the least of some, as a unit may find something to tidy."""
    found = []
    for _ in range(3):
        with Counted() as counted:
            side.run(work, 1)
        found.append(counted.calls)
    return min(found)


def _trips(make: type[Threads | Tasks], url: str, kind: Kind) -> dict[str, float]:
    """Round trips of one unit, by what it does."""
    found = {}
    with FaultProxy.before(url) as proxy, make(proxy.url, kind) as side:
        for work in _WORKS:
            side.run(work, 10)
            with proxy.counting() as counted:
                side.run(work, 10)
            found[work] = counted.round_trips / 10
    return found
