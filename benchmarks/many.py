"""Many databases in one process: what one more takes, beside a plain engine of SQLAlchemy's for each.

For each side as many engines as `ENGINES` or `FEWER` says, on one server, as if each were a database of its own. Each
is used once (a row by its key, three further statements), then its connection is closed: what stays is the engine. Told
are the memory that Python has taken for each (`tracemalloc`; ours with its part of the door's configuration), the time
of a first use with making and connecting, and the round trips of a first connection, counted by a proxy.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from statistics import quantiles
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session

from polysession import AsyncSessions, Sessions
from polysession.testing.proxy import FaultProxy

from .table import Item, make_table

__all__ = ["COLUMNS", "ENGINES", "FEWER", "PLAIN", "SIDES", "Side", "measure", "memory", "trips"]

ENGINES: Final = 1000
FEWER: Final = 40
"""Of SQLAlchemy's own, whose first uses take long."""
_TIMED: Final = 20
_TARGETS: Final = ("pg18", "mariadb")
COLUMNS: Final = ("where", "side", "round trips", "KiB each", "first use, ms")

Row = dict[str, object]
Use = Callable[..., Any]
"""Uses so many engines once each, and answers what keeps them; calls something before and after each use."""


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
                rows += _threads(f"{target}, {driver}", database.url(driver))
            for driver in ASYNC_DRIVERS[mark_of(target)]:
                rows += _tasks(f"{target}, {driver}, asyncio", database.url(driver))
    finally:
        servers.close()
    return rows


# -- threads


def _threads(where: str, url: str) -> list[Row]:
    return [
        {
            "where": where,
            "side": name,
            "round trips": trips(url, side.connect),
            "KiB each": round(memory(side.use(url), FEWER if name == PLAIN else ENGINES) / 1024, 1),
            "first use, ms": round(_time(side.use(url)) * 1000, 1),
        }
        for name, side in SIDES.items()
    ]


def _work(session: Session) -> None:
    session.get(Item, 1)
    session.execute(sa.select(Item.value).where(Item.id == 1)).all()
    session.scalars(sa.select(Item).where(Item.value > 3)).all()
    session.execute(sa.select(sa.func.count()).select_from(Item)).scalar()


def _ours(url: str, kind: str) -> Use:
    def use(many: int, note: Callable[[], object] = lambda: None) -> Any:
        names = [f"db{number}" for number in range(many)]
        door = Sessions(dict.fromkeys(names, url))
        for name in names:
            note()
            with getattr(door, kind)(name) as session:
                _work(session)
                engine: Any = session.get_bind()
            note()
            engine.dispose()
        return door

    return use


def _plain(url: str) -> Use:
    def use(many: int, note: Callable[[], object] = lambda: None) -> Any:
        engines = []
        for _ in range(many):
            note()
            engine = sa.create_engine(url)
            engines.append(engine)
            with Session(engine) as session:
                _work(session)
            note()
            engine.dispose()
        return engines

    return use


def memory(use: Use, many: int) -> float:
    """Bytes for each; what is the same for all is there before."""
    others = use(3)
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        kept = use(many)
        gc.collect()
        taken = (tracemalloc.get_traced_memory()[0] - before) / many
    finally:
        tracemalloc.stop()
    _close(others, kept)
    return taken


def _time(use: Use) -> float:
    """Seconds until one more was used, from its making on; the lower quartile."""
    others = use(3)
    times: list[float] = []
    kept = use(_TIMED, lambda: times.append(time.perf_counter()))
    _close(others, kept)
    return quantiles([end - start for start, end in zip(times[::2], times[1::2], strict=True)], n=4)[0]


def _close(*kept: Any) -> None:
    for one in kept:
        if not isinstance(one, list):
            one.close()


def trips(url: str, connect: Callable[[str], object]) -> int:
    """The round trips of what `connect` does with a URL."""
    with FaultProxy.before(url) as proxy:
        with proxy.counting() as counted:
            connect(proxy.url)
        return counted.round_trips


def _connect(url: str, kind: str) -> None:
    with Sessions(url) as door, getattr(door, kind)() as session:
        session.connection().connection.cursor().close()


def _connect_plain(url: str) -> None:
    engine = sa.create_engine(url)
    engine.connect().close()
    engine.dispose()


class Side(NamedTuple):
    """Who makes engines: how they are used behind a URL, and how one connects."""

    use: Callable[[str], Use]
    connect: Callable[[str], object]


PLAIN: Final = "SQLAlchemy"
SIDES: Final = {
    "polysession, begin": Side(lambda url: _ours(url, "begin"), lambda url: _connect(url, "begin")),
    "polysession, read": Side(lambda url: _ours(url, "read"), lambda url: _connect(url, "read")),
    PLAIN: Side(_plain, _connect_plain),
}


# -- tasks


def _tasks(where: str, url: str) -> Sequence[Row]:
    async def ours(url: str, kind: str) -> None:
        async with AsyncSessions(url) as door, getattr(door, kind)() as session:
            await session.run_sync(lambda s: s.connection().connection.cursor().close())

    async def plain(url: str) -> None:
        engine = create_async_engine(url)
        async with engine.connect():
            pass
        await engine.dispose()

    sides: dict[str, Callable[[str], object]] = {
        "polysession, begin": lambda url: asyncio.run(ours(url, "begin")),
        "polysession, read": lambda url: asyncio.run(ours(url, "read")),
        "AsyncSession's engine": lambda url: asyncio.run(plain(url)),
    }
    return [{"where": where, "side": side, "round trips": trips(url, connect)} for side, connect in sides.items()]
