"""A burst opens hardly a connection: 50 requests at once over 5 idle connections, where opening one takes 150 ms.

A query takes 2 ms, so five connections answer all requests in a fraction of the time that opening a sixth one takes. A
pool that opens a connection for everybody who finds none idle makes them wait for the server's login, and leaves the
server with ten times the connections. The control is SQLAlchemy's own pool, for threads and for asyncio.

A `creator` sleeps before it connects to PostgreSQL, and the query is a sleep of the server. With a statement of SQLite
under asyncio each request went several times between two threads, and it was measured how soon the machine wakes one.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import asyncpg
import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, Pool, QueuePool
from tests.engines.targets import Servers

from polysession._shell.pool import FairPool
from polysession._shell.pool_async import FairAsyncPool
from proofs.results import Profile, Result, Row

__all__ = ["NAME", "run"]

NAME = "spike"
REQUESTS: Final = 50
IDLE: Final = 5
CONNECT: Final = 0.150
QUERY: Final = 0.002
SOON: Final = 0.060
"""Seconds within which every request has to be answered."""
MOST: Final = IDLE + 1
"""Connections that may be there at the end."""
_WAITS: Final = 30.0
_WORK: Final = f"select pg_sleep({QUERY})"


class Link:
    """What connects, and how long that takes just now."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.takes = 0.0
        self.made = 0

    def connect(self) -> Any:
        """As a driver of DBAPI."""
        self.made += 1
        time.sleep(self.takes)
        return psycopg.connect(self.url)

    async def connect_async(self) -> Any:
        """As a driver of asyncio."""
        self.made += 1
        await asyncio.sleep(self.takes)
        return await asyncpg.connect(self.url)


def _threads(url: str, pool: type[Pool]) -> tuple[int, list[float]]:
    """Connections at the end, and the seconds that each request took, with threads."""
    link = Link(url)
    engine = sa.create_engine(
        "postgresql+psycopg://",
        creator=link.connect,
        poolclass=pool,
        pool_size=REQUESTS,
        pool_timeout=_WAITS,
        **_alone(pool),
    )
    for held in [engine.connect() for _ in range(IDLE)]:
        held.exec_driver_sql(_WORK)
        held.close()
    link.takes = CONNECT
    took = [0.0] * REQUESTS
    start = threading.Barrier(REQUESTS)

    def request(number: int) -> None:
        start.wait()
        began = time.perf_counter()
        with engine.connect() as connection:
            connection.exec_driver_sql(_WORK)
        took[number] = time.perf_counter() - began

    threads = [threading.Thread(target=request, args=(number,)) for number in range(REQUESTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    time.sleep(CONNECT)  # what is being opened just now counts too
    engine.dispose()
    return link.made, took


def _tasks(url: str, pool: type[Pool]) -> tuple[int, list[float]]:
    """The same with tasks of one event loop."""

    async def measure() -> tuple[int, list[float]]:
        link = Link(url)
        engine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=link.connect_async,
            poolclass=pool,
            pool_size=REQUESTS,
            pool_timeout=_WAITS,
            **_alone(pool),
        )
        for held in [await engine.connect() for _ in range(IDLE)]:
            await held.exec_driver_sql(_WORK)
            await held.close()
        link.takes = CONNECT

        async def request() -> float:
            began = time.perf_counter()
            async with engine.connect() as connection:
                await connection.exec_driver_sql(_WORK)
            return time.perf_counter() - began

        took = await asyncio.gather(*(request() for _ in range(REQUESTS)))
        await asyncio.sleep(CONNECT)
        await engine.dispose()
        return link.made, list(took)

    return asyncio.run(measure())


def _alone(pool: type[Pool]) -> dict[str, Any]:
    return {} if issubclass(pool, FairPool) else {"max_overflow": 0}


Burst = Callable[[str, type[Pool]], tuple[int, list[float]]]
_SIDES: Final[dict[str, tuple[Burst, type[Pool], type[Pool]]]] = {
    "threads": (_threads, FairPool, QueuePool),
    "asyncio": (_tasks, FairAsyncPool, AsyncAdaptedQueuePool),
}


def _cell(url: str, name: str, burst: Burst, pool: type[Pool], times: int) -> Row:
    """Counts over some bursts. A machine that is busy with other things makes any pool late: so each burst counts."""
    made, late, slowest = [], [], []
    for _ in range(times):
        connections, took = burst(url, pool)
        made.append(connections)
        late.append(sum(seconds > SOON for seconds in took))
        slowest.append(round(max(took) * 1000))
    both = zip(made, late, strict=True)
    return {
        "cell": f"{name} {pool.__name__}",
        "bursts": times,
        "as promised": sum(connections <= MOST and not after for connections, after in both),
        "connections, fewest": min(made),
        "connections, most": max(made),
        "late, fewest": min(late),
        "ms of the slowest, best burst": min(slowest),
        "ms of the slowest, worst burst": max(slowest),
    }


def run(profile: Profile, seed: int) -> Result:
    """Bursts for both pools and their controls."""
    times = 3 if profile.name == "quick" else 20
    ours: list[Row] = []
    theirs: list[Row] = []
    servers = Servers()
    try:
        url = sa.make_url(servers.fresh("pg18").url()).set(drivername="postgresql")
        plain = url.render_as_string(hide_password=False)
        for name, (burst, pool, control) in _SIDES.items():
            if not profile.wants(name):
                continue
            for kind, rows in ((pool, ours), (control, theirs)):
                rows.append(row := _cell(plain, name, burst, kind, times))
                profile.say(
                    f"{row['cell']:<30} {row['as promised']} of {times} bursts as promised; connections: "
                    f"{row['connections, fewest']} to {row['connections, most']}; the slowest answer of the best burst "
                    f"after {row['ms of the slowest, best burst']} ms, of the worst after "
                    f"{row['ms of the slowest, worst burst']} ms"
                )
    except pytest.skip.Exception as missing:
        profile.say(f"skipped, {missing}")
    finally:
        servers.close()
    return Result(
        name=NAME,
        seed=seed,
        profile=profile.name,
        counts={
            "bursts": sum(row["bursts"] for row in ours),
            "bursts as promised": sum(row["as promised"] for row in ours),
            "bursts of the control": sum(row["bursts"] for row in theirs),
            "bursts of the control as promised": sum(row["as promised"] for row in theirs),
        },
        cells=tuple(ours),
        control=tuple(theirs),
        passed=bool(ours)
        and all(row["as promised"] == times for row in ours)
        and not any(row["as promised"] for row in theirs),
        why=(
            f"a burst of {REQUESTS} requests is answered within {SOON * 1000:.0f} ms and ends with {MOST} connections "
            f"at most; the control never does"
        ),
    )
