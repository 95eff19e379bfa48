"""Round trips to the server, counted by a proxy: the same work by units of ours, SQLAlchemy's sessions and raw pools.

A round trip is one wait for the server's answer: messages that leave together count once. The counts are the same on
every machine. The sides are those of `peers`, which is about PostgreSQL and has more of them; here they are counted on
every server and driver.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable
from typing import Any, Final

from .peers import tasks, threads, timing
from .peers.works import WORKS
from .table import make_table

__all__ = ["WORKS", "measure"]

_TARGETS: Final = ("pg18", "mariadb")
_SIDES: Final = (threads.OURS, threads.ONE_FLIGHT, threads.SESSION, threads.PING)
_SIDES_ASYNC: Final = (tasks.OURS, tasks.ONE_FLIGHT, tasks.SESSION, tasks.PING)
_RAW: Final = {"psycopg": threads.POOL, "psycopg, asyncio": tasks.PSYCOPG_POOL, "asyncpg, asyncio": tasks.ASYNCPG_POOL}

Row = dict[str, Any]


def measure(rounds: int) -> list[Row]:
    """The rows of the table, for the servers that are here. One round is enough."""
    import pytest
    from tests.engines.targets import ASYNC_DRIVERS, SYNC_DRIVERS, Servers, mark_of

    rows: list[Row] = []
    servers = Servers()
    try:
        for target in _TARGETS:
            try:
                database = servers.fresh(target)
            except pytest.skip.Exception as missing:
                print(missing, file=sys.stderr)
                continue
            make_table(database.url())
            for driver in SYNC_DRIVERS[mark_of(target)]:
                sides = {side: threads.SIDES[side] for side in (*_SIDES, _RAW.get(driver)) if side is not None}
                rows += _table(timing.trips(database.url(driver), f"{target}, {driver}", sides))
            for driver in ASYNC_DRIVERS[mark_of(target)]:
                known, where = tasks.sides(driver), f"{driver}, asyncio"
                several = {side: known[side] for side in (*_SIDES_ASYNC, _RAW.get(where)) if side is not None}
                counted = timing.trips_async(database.url(driver), f"{target}, {where}", several)
                rows += _table(asyncio.run(counted))
    finally:
        servers.close()
    return rows


def _table(counted: Iterable[Row]) -> list[Row]:
    """A row for each side, with the count of each work; what a side has nothing of its own for is left out."""
    rows: dict[tuple[str, str], Row] = {}
    for one in counted:
        row = rows.setdefault((one["where"], one["side"]), {"where": one["where"], "side": one["side"]})
        row[one["work"]] = one["value"]
    return list(rows.values())
