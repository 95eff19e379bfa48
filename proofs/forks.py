"""Forks and event loops: a child never touches its parent's connections, and no loop those of another one.

A door is made and used before the processes are made, as gunicorn does it with preloaded applications, as
`multiprocessing` does it by forking, and as Celery does it with a pool of children that are replaced after a few tasks.
The parent goes on to work, with a unit open across each fork. Then 1,000 event loops, one after the other, and eight
threads with a loop each use one asynchronous door. Every unit must end well with its own data; afterwards no connection
may be left, as the server counts them.

The control is the same with SQLAlchemy's engine, as it is without `dispose()` in each child or loop.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from tests.engines.targets import Servers

from polysession import AsyncSessions, Sessions
from proofs.results import Profile, Result, Row

__all__ = ["NAME", "TARGETS", "run"]

NAME: Final = "forks"
TARGETS: Final = ("sqlite", "pg18", "mariadb")
_LASTS: Final = 20.0
"""Seconds after which a child or thread counts as hanging."""
_CONTROL_LASTS: Final = 5.0
"""The same for the control in the quick profile; it hangs nearly always."""
_ASK: Final = sa.text("select cast(:number as integer)")

Unit = Callable[[int], int]
"""Does one unit and answers what it was given."""


class Tally:
    """What came of the units of one cell."""

    def __init__(self) -> None:
        self.ends: Counter[str] = Counter()

    def note(self, unit: Unit, number: int) -> None:
        """Do a unit."""
        try:
            found = unit(number)
        except Exception as error:
            self.ends["errors"] += 1
            self.ends[f"{type(error).__name__}"] += 1
        else:
            self.ends["units"] += 1
            self.ends["mixed up"] += found != number


def _child(work: Callable[[Tally], None]) -> tuple[int, int]:
    """Fork; the child's number, and the end of a pipe that its tally comes by."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads
        child = os.fork()
    if child:
        os.close(writing)
        return child, reading
    tally = Tally()
    signal.alarm(round(_LASTS) + 5)  # whoever made it may not be there any more to end it
    try:
        os.close(reading)
        work(tally)
    except BaseException:
        tally.ends["errors"] += 1
        traceback.print_exc(file=sys.stderr)
    finally:
        with suppress(OSError):
            os.write(writing, json.dumps(tally.ends).encode())
        os._exit(0)


def _gather(
    children: list[tuple[int, int]],
    tally: Tally,
    lasts: float = _LASTS,
    kill: Callable[[int, int], None] = os.kill,
) -> None:
    for child, reading in children:
        until = time.monotonic() + lasts
        while not os.waitpid(child, os.WNOHANG)[0]:
            if time.monotonic() > until:
                kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                tally.ends["errors"] += 1
                tally.ends["hangs"] += 1
                break
            time.sleep(0.002)
        told = os.read(reading, 65536)
        os.close(reading)
        tally.ends.update(json.loads(told) if told else {})
        tally.ends["children"] += 1


def _preloaded(make: Callable[[], Any], times: int) -> Tally:
    """gunicorn: the application is loaded and has used its database; workers are forked, and each has threads."""
    side = make()
    tally = Tally()
    tally.note(side.unit, -1)

    def worker(own: Tally) -> None:
        def requests(first: int) -> None:
            for number in range(first, first + 5):
                own.note(side.unit, number)

        threads = [threading.Thread(target=requests, args=(100 * each,)) for each in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    for _ in range(times):
        children = [_child(worker) for _ in range(4)]
        for number in range(20):
            tally.note(side.unit, number)
        _gather(children, tally)
    side.close()
    return tally


def _across(make: Callable[[], Any], times: int) -> Tally:
    """multiprocessing: children are forked in the middle of a unit, which the parent ends afterwards."""
    side = make()
    tally = Tally()
    for number in range(times):

        def parent(number: int) -> int:
            def between() -> None:
                _gather([_child(lambda own: own.note(side.unit, number + 1))], tally)

            return int(side.around(number, between))

        tally.note(parent, number)
    side.close()
    return tally


def _replaced(make: Callable[[], Any], times: int) -> Tally:
    """Celery: a few children at a time, each for a few tasks, then another one takes its place."""
    side = make()
    tally = Tally()
    tally.note(side.unit, -1)

    def tasks(own: Tally) -> None:
        for number in range(3):
            own.note(side.unit, number)

    for _ in range(times):
        _gather([_child(tasks) for _ in range(2)], tally)
        tally.note(side.unit, 7)
    side.close()
    return tally


class _Door:
    """A door, and what the experiment does with it."""

    def __init__(self, url: str) -> None:
        self.door = Sessions.from_mapping({"databases": {"forks": {"url": url, "pool": {"size": 3}}}})

    def unit(self, number: int) -> int:
        """Ask the database for a number."""
        with self.door.begin() as session:
            return int(session.execute(_ASK, {"number": number}).scalar_one())

    def around(self, number: int, between: Callable[[], None]) -> int:
        """The same, with something done in the middle of it."""
        with self.door.read(snapshot=True) as session:  # on SQLite the children could not write beside a writer
            session.execute(_ASK, {"number": 0})
            between()
            return int(session.execute(_ASK, {"number": number}).scalar_one())

    def close(self) -> None:
        """Close all."""
        self.door.close()


class _Engine:
    """SQLAlchemy's own engine."""

    def __init__(self, url: str) -> None:
        self.engine = sa.create_engine(url, pool_size=3, max_overflow=0, pool_timeout=5)

    def unit(self, number: int) -> int:
        """Ask the database for a number."""
        with self.engine.connect() as connection:
            return int(connection.execute(_ASK, {"number": number}).scalar_one())

    def around(self, number: int, between: Callable[[], None]) -> int:
        """The same, with something done in the middle of it."""
        with self.engine.connect() as connection:
            connection.execute(_ASK, {"number": 0})
            between()
            return int(connection.execute(_ASK, {"number": number}).scalar_one())

    def close(self) -> None:
        """Close all."""
        with suppress(Exception):
            self.engine.dispose()


async def _ask(side: AsyncSessions | AsyncEngine, number: int) -> int:
    if isinstance(side, AsyncSessions):
        async with side.begin() as session:
            return int((await session.execute(_ASK, {"number": number})).scalar_one())
    async with side.connect() as connection:
        return int((await connection.execute(_ASK, {"number": number})).scalar_one())


async def _few(side: AsyncSessions | AsyncEngine, number: int) -> int:
    """Three units at once in one loop; the number if all are right."""
    found = await asyncio.gather(*(_ask(side, number + each) for each in range(3)))
    return number if found == [number, number + 1, number + 2] else -1


def _loops_in_a_row(side: AsyncSessions | AsyncEngine, times: int) -> Tally:
    """`asyncio.run`, one after the other."""
    tally = Tally()
    for number in range(times):
        tally.note(lambda each: asyncio.run(asyncio.wait_for(_few(side, each), _LASTS)), number)
    return tally


def _loops_side_by_side(side: AsyncSessions | AsyncEngine, times: int) -> Tally:
    """Eight threads with a loop each."""
    tally = Tally()

    def thread(first: int) -> None:
        for number in range(first, first + times):
            tally.note(lambda each: asyncio.run(asyncio.wait_for(_few(side, each), _LASTS)), number)

    threads = [threading.Thread(target=thread, args=(1000 * each,), daemon=True) for each in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(_LASTS * times)
    return tally


def run(profile: Profile, seed: int) -> Result:
    """Each way to fork, and both ways with loops, on each engine; then the control."""
    forks, row_of_loops, beside = (2, 20, 3) if profile.name == "quick" else (10, 1000, 20)
    lasts = _CONTROL_LASTS if profile.name == "quick" else _LASTS
    cells: list[Row] = []
    control: list[Row] = []
    servers = Servers()
    try:
        for target in TARGETS:
            if not profile.wants(target):
                continue
            with tempfile.TemporaryDirectory() as folder:
                try:
                    fresh = None if target == "sqlite" else servers.fresh(target)
                except pytest.skip.Exception as missing:
                    profile.say(f"{target}: skipped, {missing}")
                    continue
                url = f"sqlite:///{Path(folder) / 'forks.db'}" if fresh is None else fresh.url()
                count = _files(url) if fresh is None else fresh.census

                def judge(way: str, rows: list[Row], tally: Tally, target: str = target, count: Any = count) -> None:
                    until = time.monotonic() + 5.0
                    while len(left := list(count())) and time.monotonic() < until:
                        time.sleep(0.01)
                    names = ("units", "errors", "mixed up", "hangs", "children")
                    rows.append(
                        {"target": target, "way": way, **{name: tally.ends[name] for name in names}, "left": len(left)}
                    )
                    profile.say(f"{'control ' if rows is control else ''}{rows[-1]}")

                for way in (_preloaded, _across, _replaced):
                    judge(_said(way), cells, way(partial(_Door, url), forks))
                of_tasks = url if fresh is None else _driver(url, 1)
                door = AsyncSessions.from_mapping({"databases": {"forks": {"url": of_tasks, "pool": {"size": 3}}}})
                judge(_said(_loops_in_a_row), cells, _loops_in_a_row(door, row_of_loops))
                judge(_said(_loops_side_by_side), cells, _loops_side_by_side(door, beside))
                if target != "sqlite":  # a file has no other side that a child could confuse
                    judge(
                        _said(_preloaded),
                        control,
                        _apart(partial(_preloaded, partial(_Engine, _driver(url, 0)), 1), lasts),
                    )
                    engine = create_async_engine(_driver(url, 1), pool_size=3)
                    judge(_said(_loops_in_a_row), control, _apart(partial(_loops_in_a_row, engine, 5), lasts))
    finally:
        servers.close()
    counts = {
        name: sum(row[name] for row in cells) for name in ("units", "errors", "mixed up", "hangs", "children", "left")
    }
    counts["units of the control"] = sum(row["units"] for row in control)
    counts["errors of the control"] = sum(row["errors"] + row["mixed up"] for row in control)
    good = counts["units"] > 0 and not any(counts[name] for name in ("errors", "mixed up", "hangs", "left"))
    return Result(
        name=NAME,
        seed=seed,
        profile=profile.name,
        counts=counts,
        cells=tuple(cells),
        control=tuple(control),
        passed=good and (counts["errors of the control"] > 0 or not control),
        why=f"{counts['units']} units in {counts['children']} children and in event loops ended with "
        f"{counts['errors']} errors and {counts['mixed up']} wrong answers, and left {counts['left']} connections; "
        f"SQLAlchemy's engine, used in the same way, had {counts['errors of the control']} errors or wrong answers "
        f"beside {counts['units of the control']} units that ended well",
    )


def _apart(way: Callable[[], Tally], lasts: float) -> Tally:
    """Run the control in a process of its own, since it may hang or be broken afterwards."""
    tally = Tally()

    def work(own: Tally) -> None:
        os.setpgrp()  # ended with its own children: they have the other end of the pipe
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, 2)
        own.ends.update(way().ends)

    _gather([_child(work)], tally, lasts, os.killpg)
    return tally


def _said(way: Any) -> str:
    return str((way.__doc__ or "").partition("\n")[0].rstrip("."))


def _files(url: str) -> Callable[[], list[str]]:
    """The open files of this process that are the database's."""
    path = url.removeprefix("sqlite:///")

    def count() -> list[str]:
        found = []
        for name in Path("/proc/self/fd").iterdir():
            with suppress(OSError):
                if str(name.readlink()).startswith(path):
                    found.append(name.name)
        return found

    return count


_DRIVERS: Final = {
    "postgresql": ("postgresql+psycopg", "postgresql+asyncpg"),
    "mysql": ("mysql+pymysql", "mysql+asyncmy"),
    "mariadb": ("mariadb+pymysql", "mariadb+asyncmy"),
}


def _driver(url: str, which: int) -> str:
    made = sa.make_url(url)
    return made.set(drivername=_DRIVERS[made.get_backend_name()][which]).render_as_string(hide_password=False)
