"""Twice as many units as can be served, for a minute: who is served is served soon, and no connection stands still.

Five connections, units that hold one for 20 ms, and 500 units a second, each with a deadline of a second. Nobody may
be served after his deadline; 99 of 100 who are served have to be within 150 ms; and of what can be served, 95 % has to
be. A burst of the same height that ends within two seconds must lose nobody, though there is no deadline then but the
pool's timeout.

What can be served is less than the 250 units of the arithmetic: a unit takes and ends its connection too, and threads
wait for the interpreter. So it is measured: before and after, with half as many units, all of whom wait.

What the units do is simulated by a sleep, after one statement on SQLite. The control is the same trace with
SQLAlchemy's `QueuePool` and `AsyncAdaptedQueuePool`, whose timeout is the deadline.
"""

from __future__ import annotations

import asyncio
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, QueuePool

from polysession import AsyncSessions, Sessions
from polysession.errors import Overloaded
from proofs.results import Profile, Result, Row

__all__ = ["NAME", "run"]

NAME: Final = "overload"
SIZE: Final = 5
TAKES: Final = 0.020
FULL: Final = round(SIZE / TAKES)
"""Units in a second that five connections could serve if nothing but the units took time."""
DEADLINE: Final = 1.0
SOON: Final = 0.150
BUSY: Final = 0.95
BURST: Final = 1.9
"""Seconds."""
_CALM: Final = 10.0
"""Seconds for which what can be served is measured, twice."""
_PATIENCE: Final = 20.0
_STOPPED: Final = 0.02
"""Seconds for which a machine may stop a thread between the look at the clock and the statement."""
_ONE: Final = sa.text("select 1")


@dataclass(frozen=True)
class _Load:
    """What a trace does."""

    seconds: float
    times: int = 2
    """So often as much as could be served."""
    deadline: float | None = None
    overload: str = "shed"

    @property
    def patience(self) -> float:
        """The pool's timeout."""
        return self.deadline or _PATIENCE

    def moments(self) -> Iterator[float]:
        """When units come, in seconds from the beginning."""
        per_second = self.times * FULL
        return (number / per_second for number in range(round(per_second * self.seconds)))


class _Course:
    """What came of a trace. Thread-safe by the interpreter: each entry is one call."""

    def __init__(self, load: _Load) -> None:
        self.load = load
        self.until = time.perf_counter() + load.seconds
        self.waits: list[float] = []
        """Seconds, of those who were served."""
        self.refused: list[float] = []
        self.timed_out: list[float] = []
        self.held: list[float] = []
        """Seconds, of those who had ended when the last unit came: what is served of a queue afterwards is no merit."""
        self.late = 0
        """Were served after their deadline."""
        self.other: list[str] = []

    def served(self, asked: float, sent: float, until: float | None) -> None:
        """A unit has its connection and its statement was sent."""
        self.waits.append(sent - asked)
        self.late += until is not None and sent > until + _STOPPED

    def done(self, began: float) -> None:
        """A unit has had its connection since `began`."""
        now = time.perf_counter()
        if now <= self.until:
            self.held.append(now - began)

    def ended(self, error: Exception, waited: float) -> None:
        """A unit that was not served."""
        if isinstance(error, Overloaded):
            self.refused.append(waited)
        elif isinstance(error, TimeoutError | PoolTimeout):
            self.timed_out.append(waited)
        else:
            self.other.append(f"{type(error).__name__}: {error}"[:200])

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
            "units": len(waits) + len(self.refused) + len(self.timed_out) + len(self.other),
            "served": len(waits),
            "of them within 150 ms": soon,
            "of them after their deadline": self.late,
            "refused": len(self.refused),
            "timed out": len(self.timed_out),
            "other errors": len(self.other),
            "ms of the wait of 99 in 100": round(1000 * waits[int(0.99 * (len(waits) - 1))]) if waits else 0,
            "ended well in a second": round(self.in_a_second, 1),
            "per mille of the connections' time": round(1000 * sum(self.held) / (SIZE * self.load.seconds)),
            **(
                {}
                if can is None
                else {"could have in a second": round(can, 1), _USED: round(1000 * self.in_a_second / can)}
            ),
        }


def _by_threads(unit: Callable[[_Course, float], None], load: _Load) -> _Course:
    course = _Course(load)
    began = time.perf_counter()
    threads: list[threading.Thread] = []
    for moment in load.moments():
        at = began + moment
        if (left := at - time.perf_counter()) > 0:
            time.sleep(left)
        thread = threading.Thread(target=unit, args=(course, time.perf_counter()), daemon=True)
        thread.start()
        threads.append(thread)
    for thread in threads:
        thread.join()
    return course


async def _by_tasks(unit: Callable[[_Course, float], Any], load: _Load) -> _Course:
    course = _Course(load)
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


def _sent_at(session: Any) -> tuple[float, float | None]:
    """When the statement of this session was sent, and its deadline, by the clock of the experiment."""
    seen = session._polysession_holding.seen
    until = None if seen.deadline_at is None else seen.deadline_at - time.monotonic() + time.perf_counter()
    return seen.began, until


def _settings(folder: Path, load: _Load) -> dict[str, Any]:
    pool = {"size": SIZE, "checkout_timeout": load.patience, "idle_warning": 0, "overload": load.overload}
    return {"databases": {"load": {"url": f"sqlite:///{folder / 'load.db'}", "pool": pool}}}


def _ours_by_threads(folder: Path, load: _Load) -> _Course:
    with Sessions.from_mapping(_settings(folder, load)) as door:

        def unit(course: _Course, asked: float) -> None:
            try:
                with door.begin(propagation="not_supported", deadline=load.deadline) as session:
                    session.execute(_ONE)
                    course.served(asked, *_sent_at(session))
                    began = time.perf_counter()
                    time.sleep(TAKES)
                    course.done(began)
            except Exception as error:
                course.ended(error, time.perf_counter() - asked)

        return _by_threads(unit, load)


def _ours_by_tasks(folder: Path, load: _Load) -> _Course:
    async def main() -> _Course:
        async with AsyncSessions.from_mapping(_settings(folder, load)) as door:

            async def unit(course: _Course, asked: float) -> None:
                try:
                    async with door.begin(propagation="not_supported", deadline=load.deadline) as session:
                        await session.execute(_ONE)
                        course.served(asked, *_sent_at(session.sync_session))
                        began = time.perf_counter()
                        await asyncio.sleep(TAKES)
                        course.done(began)
                except Exception as error:
                    course.ended(error, time.perf_counter() - asked)

            return await _by_tasks(unit, load)

    return asyncio.run(main())


def _theirs_by_threads(folder: Path, load: _Load) -> _Course:
    engine = sa.create_engine(
        f"sqlite:///{folder / 'load.db'}",
        poolclass=QueuePool,
        pool_size=SIZE,
        max_overflow=0,
        pool_timeout=load.patience,
    )

    def unit(course: _Course, asked: float) -> None:
        try:
            with engine.connect() as connection:
                connection.execute(_ONE)
                began = time.perf_counter()
                course.served(asked, began, asked + load.patience)
                time.sleep(TAKES)
                course.done(began)
        except Exception as error:
            course.ended(error, time.perf_counter() - asked)

    try:
        return _by_threads(unit, load)
    finally:
        engine.dispose()


def _theirs_by_tasks(folder: Path, load: _Load) -> _Course:
    async def main() -> _Course:
        engine = create_async_engine(
            f"sqlite+aiosqlite:///{folder / 'load.db'}",
            poolclass=AsyncAdaptedQueuePool,
            pool_size=SIZE,
            max_overflow=0,
            pool_timeout=load.patience,
        )

        async def unit(course: _Course, asked: float) -> None:
            try:
                async with engine.connect() as connection:
                    await connection.execute(_ONE)
                    began = time.perf_counter()
                    course.served(asked, began, asked + load.patience)
                    await asyncio.sleep(TAKES)
                    course.done(began)
            except Exception as error:
                course.ended(error, time.perf_counter() - asked)

        try:
            return await _by_tasks(unit, load)
        finally:
            with suppress(Exception):
                await engine.dispose()

    return asyncio.run(main())


Trace = Callable[[Path, _Load], _Course]
_SIDES: Final[dict[str, tuple[Trace, Trace]]] = {
    "threads": (_ours_by_threads, _theirs_by_threads),
    "tasks": (_ours_by_tasks, _theirs_by_tasks),
}


def run(profile: Profile, seed: int) -> Result:
    """A long overload and bursts, with threads and tasks; then the control."""
    quick = profile.name == "quick"
    # in the quick profile few enough threads that they do not keep each other from running on a busy machine
    overload = _Load(3.0, deadline=DEADLINE) if quick else _Load(60.0, deadline=DEADLINE)
    calm = _Load(1.0 if quick else _CALM, times=1, overload="wait")
    bursts = 1 if quick else 5
    long: list[Row] = []
    short: list[Row] = []
    control: list[Row] = []
    for side, (ours, theirs) in _SIDES.items():
        if not profile.wants(side):
            continue
        with tempfile.TemporaryDirectory() as folder:
            before = ours(Path(folder), calm).in_a_second
            course = ours(Path(folder), overload)
            can = (before + ours(Path(folder), calm).in_a_second) / 2
            long.append(course.row(f"{side}, overload", can))
            profile.say(str(long[-1]))
            for _ in range(bursts):
                short.append(ours(Path(folder), _Load(BURST / 2 if quick else BURST)).row(f"{side}, burst"))
                profile.say(str(short[-1]))
            control.append(theirs(Path(folder), overload).row(f"{side}, overload"))
            profile.say(f"control: {control[-1]}")
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
        passed=kept and fails and not lost and not counts["other errors"],
        why=f"of {counts['served']} units that were served under twice the load {counts['served within 150 ms']} were "
        f"within 150 ms and {counts['served after their deadline']} after their deadline; units that ended well "
        f"were {min(row[_USED] for row in long) / 10:.1f} % at least of what could be served; bursts lost {lost} of "
        f"{counts['units of bursts']} units; of the control's {counts['served by the control']} "
        f"{counts['served by the control within 150 ms']} were within 150 ms",
    )


_USED: Final = "per mille of what could"
