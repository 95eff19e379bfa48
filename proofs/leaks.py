"""What is forgotten is found when its owner ends, with the right line of code, and its connection is taken back.

Each kind forgets a session or a unit in its own way, with threads and with tasks: a close that never comes, a generator
left hanging, a task that is dropped, a thread that dies, a fork, an exception in `__exit__`, a lazy load after the end,
a stream of which half is read. Then its thread or task ends. Within 100 ms of that moment a warning must have the line
that opened what was forgotten, and the connection must be back in a pool of which nobody else takes one.

The control is the same with SQLAlchemy's sessions over `QueuePool` and `AsyncAdaptedQueuePool`.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import sessionmaker
from sqlalchemy.pool import AsyncAdaptedQueuePool, QueuePool
from tests.engines.targets import Servers

from polysession import AsyncSessions, Sessions
from proofs.leaks_kinds import ASYNC, SYNC, Pen, seed
from proofs.results import Profile, Result, Row

__all__ = ["NAME", "TARGETS", "run"]

NAME: Final = "leaks"
TARGETS: Final = ("sqlite", "pg18", "mariadb")
SOON: Final = 0.1
"""Seconds after the end of the owner within which it must be found."""
_AT_LAST: Final = 2.0
"""Seconds after which nobody looks any more."""
_CONTROL: Final = 0.2
"""The same for the control, of which nothing is expected."""


class _Ear:
    """Hears the warnings, and when they came."""

    def __init__(self) -> None:
        self.heard: list[tuple[float, str]] = []

    def told(self, place: str) -> float | None:
        """When this place was named."""
        return next((at for at, text in list(self.heard) if place in text), None)


@contextmanager
def _listening() -> Iterator[_Ear]:
    ear = _Ear()

    def show(message: Any, *_: Any, **__: Any) -> None:
        ear.heard.append((time.monotonic(), str(message)))

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = show
        yield ear


class _Plain:
    """SQLAlchemy's own sessions, asked as a door is."""

    def __init__(self, engine: Any, maker: Any) -> None:
        self.engine = engine
        self.maker = maker

    def open(self) -> Any:
        """A session."""
        return self.maker()

    def sessionmaker(self) -> Any:
        """What makes them."""
        return self.maker

    def begin(self) -> Any:
        """A block that commits."""
        return self.maker.begin()

    def read(self, **_: Any) -> Any:
        """A session as a block, as far as it goes."""
        return self.maker()

    @property
    def out(self) -> int:
        """Connections that are out."""
        return int(getattr(self.engine, "sync_engine", self.engine).pool.checkedout())


def _out(door: Any) -> int:
    return door.out if isinstance(door, _Plain) else len(door.connections()) + len(door.held())


class _Count:
    """How one kind went."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind
        self.ends: Counter[str] = Counter()

    def judge(self, ended: float, told: float | None, back: float | None) -> None:
        """One leak."""
        self.ends["leaks"] += 1
        self.ends["named"] += told is not None
        self.ends["taken back"] += back is not None
        if told is not None and back is not None:
            self.ends["in time"] += max(told, back) - ended <= SOON

    def row(self, target: str, owner: str) -> Row:
        """For the record."""
        names = ("leaks", "named", "taken back", "in time")
        return {
            "target": target,
            "owner": owner,
            "kind": (self.kind.__doc__ or "").partition("\n")[0],
            **{name: self.ends[name] for name in names},
        }


def _by_threads(door: Any, times: int, lasts: float) -> list[_Count]:
    counts = []
    for kind in SYNC:
        count = _Count(kind)
        for _ in range(times):
            _one_thread(door, kind, count, lasts)
        counts.append(count)
    return counts


def _one_thread(door: Any, kind: Callable[[Any, Pen], None], count: _Count, lasts: float) -> None:
    pen, ends = Pen(), [0.0]

    def owner() -> None:
        try:
            kind(door, pen)
        except KeyError:
            pass
        finally:
            ends[0] = time.monotonic()

    with _listening() as ear:
        thread = threading.Thread(target=owner)
        thread.start()
        thread.join()
        back = None
        while time.monotonic() - ends[0] < lasts:
            if back is None and not _out(door):
                back = time.monotonic()
            if back is not None and ear.told(pen.place) is not None:
                break
            time.sleep(0.0005)
        count.judge(ends[0], ear.told(pen.place), back)
        _clear(pen)


def _clear(pen: Pen) -> None:
    for kept in pen.kept:
        close = getattr(kept, "close", None)
        if close is not None and not asyncio.iscoroutinefunction(close):
            with suppress(Exception):  # it was taken back
                close()
    pen.kept.clear()
    gc.collect()


async def _by_tasks(door: Any, times: int, lasts: float) -> list[_Count]:
    counts = []
    for kind in ASYNC:
        count = _Count(kind)
        for _ in range(times):
            await _one_task(door, kind, count, lasts)
        counts.append(count)
    return counts


async def _one_task(door: Any, kind: Callable[[Any, Pen], Any], count: _Count, lasts: float) -> None:
    pen, ends = Pen(), [0.0]

    async def owner() -> None:
        try:
            await kind(door, pen)
        except KeyError:
            pass
        finally:
            ends[0] = time.monotonic()

    with _listening() as ear:
        await asyncio.wait((asyncio.create_task(owner()),))
        back = None
        while time.monotonic() - ends[0] < lasts:
            if back is None and not _out(door):
                back = time.monotonic()
            if back is not None and ear.told(pen.place) is not None:
                break
            await asyncio.sleep(0.0005)
        count.judge(ends[0], ear.told(pen.place), back)
        for kept in pen.kept:
            close = getattr(kept, "close", None) or getattr(kept, "aclose", None)
            if asyncio.iscoroutinefunction(close):
                with suppress(Exception):  # it was taken back
                    await close()
        pen.kept.clear()
        gc.collect()
        await asyncio.sleep(0.01)


def run(profile: Profile, seed: int) -> Result:
    """Every kind, some times, on each engine; then the control."""
    times = {"quick": 1, "full": 10}.get(profile.name, max(1, profile.units // 500))
    cells: list[Row] = []
    control: list[Row] = []
    servers = Servers()
    loops = logging.getLogger("asyncio")
    loops.disabled = True  # of tasks that are dropped on purpose
    try:
        for target in TARGETS:
            if not profile.wants(target):
                continue
            with tempfile.TemporaryDirectory() as folder:
                try:
                    url = _url(target, servers, Path(folder))
                except pytest.skip.Exception as missing:
                    profile.say(f"{target}: skipped, {missing}")
                    continue
                cells += _ours(target, url, times)
                control += _theirs(target, url, 1 if profile.name == "quick" else 2)
                for row in cells[-len(SYNC) - len(ASYNC) :]:
                    profile.say(f"{row['in time']} of {row['leaks']} in time: {target}, {row['owner']}, {row['kind']}")
    finally:
        loops.disabled = False
        servers.close()
    counts = {
        "leaks": sum(row["leaks"] for row in cells),
        "found with their line": sum(row["named"] for row in cells),
        "taken back": sum(row["taken back"] for row in cells),
        "both within 100 ms": sum(row["in time"] for row in cells),
        "kinds": len({(row["owner"], row["kind"]) for row in cells}),
        "leaks of the control": sum(row["leaks"] for row in control),
        "of them found with their line": sum(row["named"] for row in control),
        "of them taken back": sum(row["taken back"] for row in control),
    }
    all_found = counts["leaks"] == counts["found with their line"] == counts["taken back"] > 0
    return Result(
        name=NAME,
        seed=seed,
        profile=profile.name,
        counts=counts,
        cells=tuple(cells),
        control=tuple(control),
        passed=all_found
        and counts["both within 100 ms"] == counts["leaks"]
        and not counts["of them found with their line"]
        and counts["of them taken back"] < counts["leaks of the control"],
        why=f"{counts['both within 100 ms']} of {counts['leaks']} leaks of {counts['kinds']} kinds were found with "
        f"their line, and their connection was back, within 100 ms of their owner's end; SQLAlchemy's pools got "
        f"{counts['of them taken back']} of {counts['leaks of the control']} back within "
        f"{_CONTROL * 1000:.0f} ms and named no line",
    )


def _url(target: str, servers: Servers, folder: Path) -> str:
    return f"sqlite:///{folder / 'leaks.db'}" if target == "sqlite" else servers.fresh(target).url()


def _settings(url: str) -> dict[str, Any]:
    return {"databases": {"leaks": {"url": url, "pool": {"size": 3, "checkout_timeout": "5s"}}}}


def _ours(target: str, url: str, times: int) -> list[Row]:
    with Sessions.from_mapping(_settings(url)) as door:
        with door.open() as session:
            seed(session.get_bind().engine)
        gc.collect()
        rows = [count.row(target, "thread") for count in _by_threads(door, times, _AT_LAST)]

    made = sa.make_url(url)
    driver = _DRIVERS[made.get_backend_name()][1]
    of_tasks = made.set(drivername=driver).render_as_string(hide_password=False)

    async def tasks() -> list[_Count]:
        async with AsyncSessions.from_mapping(_settings(of_tasks)) as door:
            return await _by_tasks(door, times, _AT_LAST)

    return rows + [count.row(target, "task") for count in asyncio.run(tasks())]


_DRIVERS: Final = {
    "sqlite": ("sqlite", "sqlite+aiosqlite"),
    "postgresql": ("postgresql+psycopg", "postgresql+asyncpg"),
    "mysql": ("mysql+pymysql", "mysql+asyncmy"),
    "mariadb": ("mariadb+pymysql", "mariadb+asyncmy"),
}


def _theirs(target: str, url: str, times: int) -> list[Row]:
    made = sa.make_url(url)
    of_threads, of_tasks = _DRIVERS[made.get_backend_name()]
    pool = {"pool_size": 2, "max_overflow": 100}
    engine = sa.create_engine(made.set(drivername=of_threads), poolclass=QueuePool, **pool)
    logging.getLogger(
        "sqlalchemy.pool.impl.AsyncAdaptedQueuePool"
    ).disabled = True  # it says that it ends what the collector has found
    with _listening():
        rows = [
            count.row(target, "thread") for count in _by_threads(_Plain(engine, sessionmaker(engine)), times, _CONTROL)
        ]
        gc.collect()
        engine.dispose()

    async def tasks() -> list[_Count]:
        engine = create_async_engine(made.set(drivername=of_tasks), poolclass=AsyncAdaptedQueuePool, **pool)
        try:
            return await _by_tasks(_Plain(engine, async_sessionmaker(engine)), times, _CONTROL)
        finally:
            gc.collect()
            await engine.dispose()

    with _listening():
        rows += [count.row(target, "task") for count in asyncio.run(tasks())]
        gc.collect()
    pools = logging.getLogger("sqlalchemy.pool.impl.AsyncAdaptedQueuePool")
    pools.disabled = True  # it says that it ends what the collector has found
    return rows
