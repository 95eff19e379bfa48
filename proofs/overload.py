"""Twice as many units as can be served, for a minute: who is served is served soon, and no connection stands still.

Five connections, units that hold one for 20 ms, and 500 units a second, each with a deadline of a second. Nobody may
be served after his deadline; 99 of 100 who are served have to be within 150 ms; and of what can be served, 95 % has to
be. A burst of the same height that ends within two seconds must lose nobody, though there is no deadline then but the
pool's timeout.

What can be served is less than the 250 units of the arithmetic: a unit takes its connection and gives it back, too. So
it is measured: before and after, with the very same units and settings, but with five workers of whom each comes again
at once when it was served. There is no queue then, and nobody has to be refused. The rows say as well for how much of
their time the connections were at work for a unit that ended well.

What a unit does is a sleep of the server, PostgreSQL, which is a process of its own. What is left in the process of
the experiment is what a service has there too: 500 units are made in a second, and most of them refused. With a sleep
in that process, after a statement of SQLite, each unit went ten times between two threads, and it was measured how
soon a busy machine wakes a thread.

The control is the same trace with SQLAlchemy's `QueuePool` and `AsyncAdaptedQueuePool`, whose timeout is the deadline.
"""

from __future__ import annotations

import asyncio
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from queue import SimpleQueue
from typing import Any, Final

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, QueuePool
from tests.engines.targets import Servers

from polysession import AsyncSessions, Sessions
from polysession._shell.threads import frame_of
from polysession.errors import Overloaded
from proofs.results import Profile, Result, Row

__all__ = ["NAME", "run"]

NAME: Final = "overload"
SIZE: Final = 5
TAKES: Final = 0.020
_FEW: Final = 2, 0.050
"""Of the short profile: connections, and seconds of a unit. A busy machine has a fifth of the threads to run."""
DEADLINE: Final = 1.0
SOON: Final = 0.150
BUSY: Final = 0.95
BURST: Final = 1.9
"""Seconds."""
_CALM: Final = 10.0
"""Seconds for which what can be served is measured, twice."""
_PATIENCE: Final = 20.0
_ENDS: Final = 120.0
"""Seconds in which all units that have come must have ended, which takes as long as their patience at most."""
_STOPPED: Final = 0.02
"""Seconds for which a machine may stop a thread between the look at the clock and the statement."""
_SERVER: Final = "pg18"


@dataclass(frozen=True)
class _Load:
    """What a trace does."""

    seconds: float
    times: int = 2
    """So often as much as could be served."""
    workers: int = 0
    """Instead: so many workers, of whom each comes again at once when it was served."""
    deadline: float | None = None
    overload: str = "shed"
    size: int = SIZE
    """Connections."""
    takes: float = TAKES
    """Seconds of a unit."""

    @property
    def per_second(self) -> int:
        """Units that come in a second."""
        return round(self.times * self.size / self.takes)

    @property
    def threads(self) -> int:
        """As many as come within twice the deadline: who comes finds one that is free."""
        return min(round(2 * DEADLINE * self.per_second), sum(1 for _ in self.moments()))

    @cached_property
    def work(self) -> sa.TextClause:
        """The statement of a unit."""
        return sa.text(f"select pg_sleep({self.takes})")

    @property
    def patience(self) -> float:
        """The pool's timeout."""
        return self.deadline or _PATIENCE

    def moments(self) -> Iterator[float]:
        """When units come, in seconds from the beginning."""
        return (number / self.per_second for number in range(round(self.per_second * self.seconds)))


class _Course:
    """What came of a trace. Thread-safe by the interpreter: each entry is one call."""

    def __init__(self, load: _Load) -> None:
        self.load = load
        self.until = time.perf_counter() + load.seconds
        self.waits: list[float] = []
        """Seconds, of those who were served."""
        self.refused: list[float] = []
        self.timed_out: list[float] = []
        self.cut = 0
        """Those of them who had been served: their time was up before the statement had ended."""
        self.held: list[float] = []
        """Seconds, of those who had ended when the last unit came: what is served of a queue afterwards is no merit."""
        self.late = 0
        """Were served after their deadline."""
        self.other: list[str] = []

    def served(self, asked: float, sent: float, until: float | None) -> None:
        """A unit had its connection and its statement was sent, whatever came of it."""
        self.waits.append(sent - asked)
        self.late += until is not None and sent > until + _STOPPED

    def done(self, began: float) -> None:
        """The statement that was sent then has ended well."""
        now = time.perf_counter()
        if now <= self.until:
            self.held.append(now - began)

    def ended(self, error: Exception, waited: float, *, served: bool) -> None:
        """A unit that was not served, or not to its end."""
        if isinstance(error, Overloaded):
            self.refused.append(waited)
        elif isinstance(error, TimeoutError | PoolTimeout):
            self.timed_out.append(waited)
            self.cut += served
        else:
            self.other.append(f"{type(error).__name__}: {error}"[:1000])

    @property
    def in_a_second(self) -> float:
        """Units that ended well."""
        return len(self.held) / self.load.seconds

    def row(self, cell: str, can: float | None = None) -> Row:
        """For the record; `can`: so many units in a second could have been served."""
        waits = sorted(self.waits)
        soon = sum(wait <= SOON for wait in waits)
        return {
            "cell": cell,
            "units": len(waits) + len(self.refused) + len(self.timed_out) + len(self.other) - self.cut,
            "served": len(waits),
            "of them within 150 ms": soon,
            "of them after their deadline": self.late,
            "refused": len(self.refused),
            "timed out": len(self.timed_out),
            "of them in their statement": self.cut,
            "other errors": len(self.other),
            **({"one of them": self.other[0]} if self.other else {}),
            "ms of the wait of 99 in 100": round(1000 * waits[int(0.99 * (len(waits) - 1))]) if waits else 0,
            "ended well in a second": round(self.in_a_second, 1),
            "per mille of the connections' time": round(1000 * sum(self.held) / (self.load.size * self.load.seconds)),
            **(
                {}
                if can is None
                else {"could have in a second": round(can, 1), _USED: round(1000 * self.in_a_second / can)}
            ),
        }


def _by_threads(unit: Callable[[_Course, float], None], load: _Load) -> _Course:
    crowd = _Crowd(load.workers or load.threads)
    course = _Course(load)
    for _ in range(load.workers):
        crowd.submit(_again, unit, course)
    began = time.perf_counter()
    for moment in () if load.workers else load.moments():
        if (left := began + moment - time.perf_counter()) > 0:
            time.sleep(left)
        crowd.submit(unit, course, time.perf_counter())
    crowd.end()
    return course


class _Crowd:
    """So many threads that are there already, as in a server."""

    def __init__(self, size: int) -> None:
        self._work: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._threads = [threading.Thread(target=self._run, name="unit", daemon=True) for _ in range(size)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()

    def submit(self, work: Callable[..., object], *args: object) -> None:
        """Have one of them do it."""
        self._work.put(partial(work, *args))

    def end(self) -> None:
        """Return when all was done. Raises if it does not end: what the threads are at is its text."""
        for _ in self._threads:
            self._work.put(None)
        until = time.monotonic() + _ENDS
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        stacks = [
            traceback.extract_stack(frame_of(thread.ident or 0))[:-9:-1]
            for thread in self._threads
            if thread.is_alive()
        ]
        at = Counter(" < ".join(f"{frame.name}:{frame.lineno}" for frame in stack) for stack in stacks)
        if at:
            raise RuntimeError(f"{len(stacks)} threads have not ended {_ENDS:.0f} s after the last unit came: {at}")


def _again(unit: Callable[[_Course, float], None], course: _Course) -> None:
    while (now := time.perf_counter()) < course.until:
        unit(course, now)


async def _by_tasks(unit: Callable[[_Course, float], Any], load: _Load) -> _Course:
    course = _Course(load)
    if load.workers:
        await asyncio.gather(*(_again_async(unit, course) for _ in range(load.workers)))
        return course
    began = time.perf_counter()
    tasks: set[asyncio.Task[None]] = set()
    for moment in load.moments():
        at = began + moment
        await asyncio.sleep(max(0.0, at - time.perf_counter()))
        task = asyncio.ensure_future(unit(course, time.perf_counter()))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    while tasks:
        await asyncio.wait(tasks)
    return course


async def _again_async(unit: Callable[[_Course, float], Any], course: _Course) -> None:
    while (now := time.perf_counter()) < course.until:
        await unit(course, now)


def _sent_at(seen: Any) -> tuple[float, float | None]:
    """When the statement of a unit was sent, and its deadline, by the clock of the experiment."""
    until = None if seen.deadline_at is None else seen.deadline_at - time.monotonic() + time.perf_counter()
    return seen.began, until


def _settings(url: str, load: _Load) -> dict[str, Any]:
    pool = {"size": load.size, "checkout_timeout": load.patience, "idle_warning": 0, "overload": load.overload}
    return {"databases": {"load": {"url": url, "pool": pool}}}


def _ours_by_threads(url: str, load: _Load) -> _Course:
    with Sessions.from_mapping(_settings(url, load)) as door:

        def unit(course: _Course, asked: float) -> None:
            seen: Any = None
            try:
                with door.begin(propagation="not_supported", deadline=load.deadline) as session:
                    seen = session._polysession_holding.seen  # type: ignore[attr-defined]
                    try:
                        session.execute(load.work)
                        course.done(seen.began)
                    finally:
                        if seen.statements:
                            course.served(asked, *_sent_at(seen))
            except Exception as error:
                served = seen is not None and seen.statements > 0
                course.ended(error, time.perf_counter() - asked, served=served)

        return _by_threads(unit, load)


def _ours_by_tasks(url: str, load: _Load) -> _Course:
    async def main() -> _Course:
        async with AsyncSessions.from_mapping(_settings(url, load)) as door:

            async def unit(course: _Course, asked: float) -> None:
                seen: Any = None
                try:
                    async with door.begin(propagation="not_supported", deadline=load.deadline) as session:
                        seen = session.sync_session._polysession_holding.seen  # type: ignore[attr-defined]
                        try:
                            await session.execute(load.work)
                            course.done(seen.began)
                        finally:
                            if seen.statements:
                                course.served(asked, *_sent_at(seen))
                except Exception as error:
                    served = seen is not None and seen.statements > 0
                    course.ended(error, time.perf_counter() - asked, served=served)

            return await _by_tasks(unit, load)

    return asyncio.run(main())


def _theirs_by_threads(url: str, load: _Load) -> _Course:
    engine = sa.create_engine(url, poolclass=QueuePool, pool_size=load.size, max_overflow=0, pool_timeout=load.patience)

    def unit(course: _Course, asked: float) -> None:
        served = False
        try:
            with engine.connect() as connection:
                began, served = time.perf_counter(), True
                course.served(asked, began, asked + load.patience)
                connection.execute(load.work)
                course.done(began)
        except Exception as error:
            course.ended(error, time.perf_counter() - asked, served=served)

    try:
        return _by_threads(unit, load)
    finally:
        engine.dispose()


def _theirs_by_tasks(url: str, load: _Load) -> _Course:
    async def main() -> _Course:
        engine = create_async_engine(
            url, poolclass=AsyncAdaptedQueuePool, pool_size=load.size, max_overflow=0, pool_timeout=load.patience
        )

        async def unit(course: _Course, asked: float) -> None:
            served = False
            try:
                async with engine.connect() as connection:
                    began, served = time.perf_counter(), True
                    course.served(asked, began, asked + load.patience)
                    await connection.execute(load.work)
                    course.done(began)
            except Exception as error:
                course.ended(error, time.perf_counter() - asked, served=served)

        try:
            return await _by_tasks(unit, load)
        finally:
            with suppress(Exception):
                await engine.dispose()

    return asyncio.run(main())


Trace = Callable[[str, _Load], _Course]
_SIDES: Final[dict[str, tuple[str, Trace, Trace]]] = {
    "threads": ("postgresql+psycopg", _ours_by_threads, _theirs_by_threads),
    "tasks": ("postgresql+asyncpg", _ours_by_tasks, _theirs_by_tasks),
}
"""The driver, and what is compared."""


def run(profile: Profile, seed: int) -> Result:
    """A long overload and bursts, with threads and tasks; then the control."""
    quick = profile.name == "quick"
    size, takes = _FEW if quick else (SIZE, TAKES)
    load = _Load(3.0 if quick else 60.0, deadline=DEADLINE, size=size, takes=takes)
    calm = replace(load, seconds=1.0 if quick else _CALM, workers=size)
    burst = replace(load, seconds=BURST / 2 if quick else BURST, deadline=None)
    bursts = 1 if quick else 5
    long: list[Row] = []
    short: list[Row] = []
    control: list[Row] = []
    servers = Servers()
    try:
        fresh = sa.make_url(servers.fresh(_SERVER).url())
        for side, (driver, ours, theirs) in _SIDES.items():
            if not profile.wants(side):
                continue
            url = fresh.set(drivername=driver).render_as_string(hide_password=False)
            before = ours(url, calm).in_a_second
            course = ours(url, load)
            can = (before + ours(url, calm).in_a_second) / 2
            long.append(course.row(f"{side}, overload", can))
            profile.say(str(long[-1]))
            for _ in range(bursts):
                short.append(ours(url, burst).row(f"{side}, burst"))
                profile.say(str(short[-1]))
            control.append(theirs(url, load).row(f"{side}, overload"))
            profile.say(f"control: {control[-1]}")
    except pytest.skip.Exception as missing:
        profile.say(f"skipped, {missing}")
    finally:
        servers.close()
    counts = {
        "units": sum(row["units"] for row in long),
        "served": sum(row["served"] for row in long),
        "served within 150 ms": sum(row["of them within 150 ms"] for row in long),
        "served after their deadline": sum(row["of them after their deadline"] for row in long),
        "refused": sum(row["refused"] for row in long),
        "units of bursts": sum(row["units"] for row in short),
        "units of bursts that were served": sum(row["served"] for row in short),
        "other errors": sum(row["other errors"] for row in (*long, *short, *control)),
        "served by the control": sum(row["served"] for row in control),
        "served by the control within 150 ms": sum(row["of them within 150 ms"] for row in control),
    }
    kept = all(
        row["of them within 150 ms"] >= 0.99 * row["served"]
        and row[_USED] >= 1000 * BUSY
        and not row["of them after their deadline"]
        for row in long
    )
    lost = counts["units of bursts"] - counts["units of bursts that were served"]
    fails = all(row["of them within 150 ms"] < 0.99 * row["served"] for row in control)
    return Result(
        name=NAME,
        seed=seed,
        profile=profile.name,
        counts=counts,
        cells=(*long, *short),
        control=tuple(control),
        passed=bool(long) and kept and fails and not lost and not counts["other errors"],
        why=f"of {counts['served']} units that were served under twice the load {counts['served within 150 ms']} were "
        f"within 150 ms and {counts['served after their deadline']} after their deadline; units that ended well "
        f"were {min((row[_USED] for row in long), default=0) / 10:.1f} % at least of what could be served; bursts lost "
        f"{lost} of {counts['units of bursts']} units; of the control's {counts['served by the control']} "
        f"{counts['served by the control within 150 ms']} were within 150 ms",
    )


_USED: Final = "per mille of what could"
