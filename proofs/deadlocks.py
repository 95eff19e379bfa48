"""Units that wait for each other's connections: one is refused at once, and none that did not have to be.

Each case has up to twelve owners over two to four pools of one to three connections. Every owner holds a connection and
asks for another one, so that all wait for each other; or one of them is alive, and ends when all others wait: a near
case, in which nobody may be refused. Some who hold nothing wait as well. Owners are threads, or tasks of an event
loop; cases of both kinds run at the same time. They use units or sessions of their own, by turns.

In a true case exactly one owner must be refused, within 100 ms of the beginning of its wait, with the places of all who
hold something in it, and all others must end well. On the path of who gets a connection without waiting nothing is
called. What is there when the cases begin is frozen for the garbage collector, as servers do it after their start: its
own look at everything would stop all who wait, and be measured here.

The control is the same with SQLAlchemy's sessions over `QueuePool`: there everything waits for the pool's timeout.
"""

from __future__ import annotations

import asyncio
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import sessionmaker
from sqlalchemy.pool import QueuePool
from tests.engines.targets import Servers

from polysession import AsyncSessions, Sessions
from polysession._shell import knots
from polysession.errors import PoolDeadlock
from proofs.deadlocks_cases import POOLS, Case, cases
from proofs.frozen import frozen
from proofs.results import Profile, Result, Row

__all__ = ["NAME", "TARGETS", "run"]

NAME: Final = "deadlocks"
TARGETS: Final = ("sqlite", "pg18")
SOON: Final = 0.1
"""Seconds within which the refusal must come."""
_PATIENCE: Final = 30.0
"""Longest wait of our pools, and of who is alive for the others: never reached."""
_TURN: Final = 0.001
"""Seconds that the others get between two looks at their queues."""
_CONTROL: Final = 0.5
"""Longest wait of the control's pools."""
_ONE: Final = text("select 1")


class _Course:
    """How one case went: one entry for each owner and bystander. Thread-safe."""

    def __init__(self, case: Case, door: Any) -> None:
        self.case = case
        self.door = door
        self.started = 0
        self.ends: Counter[str] = Counter()
        self.refused_after: list[float] = []
        """Seconds between the beginning of a wait and its refusal, in the thread or task that waits."""
        self.named: list[int] = []
        self.lock = threading.Lock()

    @property
    def all_wait(self) -> bool:
        """Everybody is in a queue but the one that is alive."""
        expected = len(self.case.holds) + len(self.case.bystanders) - 1
        return expected <= sum(int(endpoint.waiting) for endpoint in self.door.ready().endpoints)

    def refused(self, error: PoolDeadlock, me: object) -> None:
        """Somebody is told."""
        now = time.monotonic()
        with self.lock:
            self.refused_after.append(now - _began[me])
            self.named.append(len(error.facts["holders"]))

    def ended(self, error: Exception | None) -> None:
        """Somebody is done."""
        with self.lock:
            if isinstance(error, PoolDeadlock):
                self.ends["refused"] += 1
            else:
                self.ends["ended well" if error is None else f"{type(error).__name__}: {error}"[:300]] += 1


_began: dict[object, float] = {}
"""When the last wait of a thread or task began."""


@contextmanager
def _timed() -> Iterator[None]:
    """Note when waits begin."""
    real = knots.begins
    seen: set[Any] = set()

    def begins(claim: Any) -> Any:
        if claim not in seen:  # a later look is at the same wait
            seen.add(claim)
            _began[_me()] = time.monotonic()
        return real(claim)

    with patch.object(knots, "begins", begins):
        yield
    _began.clear()


def _me() -> object:
    with suppress(RuntimeError):
        if (task := asyncio.current_task()) is not None:
            return task
    return threading.get_ident()


def run(profile: Profile, seed: int) -> Result:
    """200 true and 200 near cases on each engine in the full profile, ours; then the control."""
    many = {"quick": 20, "full": 200}.get(profile.name, profile.units)
    with frozen():
        return _run(profile, seed, many)


def _run(profile: Profile, seed: int, many: int) -> Result:
    cells: list[Row] = []
    control: list[Row] = []
    servers = Servers()
    try:
        for target in TARGETS:
            if not profile.wants(target):
                continue
            with tempfile.TemporaryDirectory() as folder:
                try:
                    urls = _urls(target, servers, Path(folder))
                except pytest.skip.Exception as missing:
                    profile.say(f"{target}: skipped, {missing}")
                    continue
                for near in (False, True):
                    cells += _ours(target, urls, many, near, seed)
                    profile.say(f"{cells[-2]}\n{cells[-1]}")
                control.append(_theirs(target, urls, many if profile.name == "full" else many // 4, seed))
                profile.say(f"control {control[-1]}")
    finally:
        servers.close()
    counts: Counter[str] = Counter()
    for row in cells:
        counts.update({name: row[name] for name in ("cases", "broken", "late", "false_victims", "other_errors")})
        counts["near_cases" if row["near"] else "true_cases"] += row["cases"]
        counts["unnamed"] += row["unnamed"]
    counts["control_cases"] = sum(row["cases"] for row in control)
    counts["control_waited_the_timeout"] = sum(row["waited_the_timeout"] for row in control)
    counts["calls_without_waiting"] = _calls_without_waiting()
    good = counts["broken"] == counts["true_cases"] > 0 == counts["late"]
    clean = not any(counts[name] for name in ("false_victims", "other_errors", "unnamed", "calls_without_waiting"))
    caught = counts["control_waited_the_timeout"] == counts["control_cases"] > 0
    return Result(
        name=NAME,
        seed=seed,
        profile=profile.name,
        counts=dict(counts),
        cells=tuple(cells),
        control=tuple(control),
        passed=good and clean and caught,
        why=f"{counts['broken']} of {counts['true_cases']} deadlocks were broken, {counts['late']} of them later than "
        f"{SOON * 1000:.0f} ms; in these and {counts['near_cases']} near cases {counts['false_victims']} were refused "
        f"without need; with QueuePool {counts['control_waited_the_timeout']} of {counts['control_cases']} deadlocks "
        "lasted for the pool's whole timeout",
    )


def _urls(target: str, servers: Servers, folder: Path) -> dict[str, str]:
    if target == "sqlite":
        return {name: f"sqlite:///{folder / name}.db" for name in POOLS}
    url = servers.fresh(target).url()
    return dict.fromkeys(POOLS, url)


def _settings(urls: dict[str, str], timeout: float) -> dict[str, Any]:
    pool = {name: {"size": size, "checkout_timeout": timeout} for name, size in POOLS.items()}
    return {"databases": {name: {"url": url, "pool": pool[name]} for name, url in urls.items()}}


def _ours(target: str, urls: dict[str, str], many: int, near: bool, seed: int) -> list[Row]:
    """Threads and tasks at the same time, each half of the cases."""
    drawn = list(cases(many, near, seed))
    with _timed(), ThreadPoolExecutor(2) as both:
        threads = both.submit(_by_threads, target, urls, drawn[::2])
        tasks = both.submit(lambda: asyncio.run(_by_tasks(target, urls, drawn[1::2])))
        return [
            _row(target, owners, near, courses.result()) for owners, courses in (("threads", threads), ("tasks", tasks))
        ]


def _row(target: str, owners: str, near: bool, courses: Iterable[_Course]) -> Row:
    done = list(courses)
    right = [course for course in done if course.ends["refused"] == (0 if near else 1)]
    errors = Counter(what for course in done for what in course.ends if what not in ("refused", "ended well"))
    times = [seconds for course in done for seconds in course.refused_after]
    return {
        "target": target,
        "owners": owners,
        "near": near,
        "cases": len(done),
        "broken": 0 if near else sum(course.ends["refused"] > 0 for course in done),
        "late": sum(seconds > SOON for seconds in times),
        "false_victims": sum(max(0, course.ends["refused"] - (0 if near else 1)) for course in done),
        "right": len(right),
        "unnamed": sum(count < len(course.case.holds) for course in done for count in course.named),
        "other_errors": errors.total(),
        "errors": sorted(errors)[:3],
    }


def _taker(door: Any, target: str, *, sessions: bool) -> Callable[[str], Any]:
    """What takes a connection of its own; on SQLite a pool has one only for units that write, whatever its size."""
    return door.open if sessions or target == "sqlite" else partial(door.begin, propagation="requires_new")


# -- ours, by threads


def _by_threads(target: str, urls: dict[str, str], drawn: list[Case]) -> list[_Course]:
    with Sessions.from_mapping(_settings(urls, _PATIENCE)) as door:
        return [_thread_case(door, target, case) for case in drawn]


def _thread_case(door: Sessions, target: str, case: Case) -> _Course:
    course = _Course(case, door)
    everybody = len(case.holds) + len(case.bystanders)
    start = threading.Barrier(everybody)
    with ThreadPoolExecutor(everybody) as pool:
        owners = [pool.submit(_thread_owner, course, target, start, number) for number in range(len(case.holds))]
        others = [pool.submit(_thread_bystander, course, start, want) for want in case.bystanders]
        for one in owners + others:
            one.result()
    return course


def _thread_owner(course: _Course, target: str, start: threading.Barrier, number: int) -> None:
    case, door = course.case, course.door
    take = _taker(door, target, sessions=case.kinds[number])
    failed = None
    try:
        with take(case.holds[number]) as session:
            session.execute(_ONE)
            start.wait()
            if number == case.alive:
                for _ in range(round(_PATIENCE / _TURN)):
                    if course.all_wait:
                        break
                    time.sleep(_TURN)
                return
            try:
                with take(case.wants[number]) as inner:
                    inner.execute(_ONE)
            except PoolDeadlock as refusal:
                course.refused(refusal, _me())
                raise
    except Exception as error:
        failed = error
    finally:
        course.ended(failed)


def _thread_bystander(course: _Course, start: threading.Barrier, want: str) -> None:
    start.wait()
    failed = None
    try:
        with course.door.open(want) as session:
            session.execute(_ONE)
    except Exception as error:
        failed = error
    course.ended(failed)


# -- ours, by tasks


async def _by_tasks(target: str, urls: dict[str, str], drawn: list[Case]) -> list[_Course]:
    async with AsyncSessions.from_mapping(_settings(urls, _PATIENCE)) as door:
        return [await _task_case(door, target, case) for case in drawn]


async def _task_case(door: AsyncSessions, target: str, case: Case) -> _Course:
    course = _Course(case, door)
    start = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for number in range(len(case.holds)):
            group.create_task(_task_owner(course, target, start, number))
        for want in case.bystanders:
            group.create_task(_task_bystander(course, start, want))
    return course


async def _all_there(course: _Course, start: asyncio.Event) -> None:
    course.started += 1
    if course.started == len(course.case.holds) + len(course.case.bystanders):
        start.set()
    await start.wait()


async def _task_owner(course: _Course, target: str, start: asyncio.Event, number: int) -> None:
    case, door = course.case, course.door
    take = _taker(door, target, sessions=case.kinds[number])
    failed = None
    try:
        async with take(case.holds[number]) as session:
            await session.execute(_ONE)
            await _all_there(course, start)
            if number == case.alive:
                for _ in range(round(_PATIENCE / _TURN)):
                    if course.all_wait:
                        break
                    await asyncio.sleep(_TURN)
                return
            try:
                async with take(case.wants[number]) as inner:
                    await inner.execute(_ONE)
            except PoolDeadlock as refusal:
                course.refused(refusal, _me())
                raise
    except Exception as error:
        failed = error
    finally:
        course.ended(failed)


async def _task_bystander(course: _Course, start: asyncio.Event, want: str) -> None:
    await _all_there(course, start)
    failed = None
    try:
        async with course.door.open(want) as session:
            await session.execute(_ONE)
    except Exception as error:
        failed = error
    course.ended(failed)


# -- the control


def _theirs(target: str, urls: dict[str, str], many: int, seed: int) -> Row:
    engines = {
        name: create_engine(url, poolclass=QueuePool, pool_size=POOLS[name], max_overflow=0, pool_timeout=_CONTROL)
        for name, url in urls.items()
    }
    waited = timed_out = 0
    for case in cases(many, False, seed):
        start = threading.Barrier(len(case.holds))

        def owner(number: int, case: Case = case, start: threading.Barrier = start) -> float | None:
            with sessionmaker(engines[case.holds[number]])() as session:
                session.execute(_ONE)
                start.wait()
                asked = time.monotonic()
                with sessionmaker(engines[case.wants[number]])() as inner:
                    try:
                        inner.execute(_ONE)
                    except PoolTimeout:
                        return time.monotonic() - asked
            return None

        with ThreadPoolExecutor(len(case.holds)) as pool:
            times = [seconds for seconds in pool.map(owner, range(len(case.holds))) if seconds is not None]
        timed_out += len(times)
        waited += bool(times) and min(times) >= _CONTROL
    for engine in engines.values():
        engine.dispose()
    return {"target": target, "owners": "threads", "cases": many, "waited_the_timeout": waited, "timed_out": timed_out}


# -- what it costs


def _calls_without_waiting() -> int:
    """How often units that need not wait, one inside of the other, come to where deadlocks are looked for."""
    with tempfile.TemporaryDirectory() as folder, _counted() as calls:
        urls = {name: f"sqlite:///{Path(folder) / name}.db" for name in ("a", "b")}
        with Sessions(urls) as door:
            for _ in range(100):
                with door.begin("a") as outer, door.begin("b") as inner:
                    outer.execute(_ONE)
                    inner.execute(_ONE)
        return calls.total()


@contextmanager
def _counted() -> Iterator[Counter[str]]:
    calls: Counter[str] = Counter()

    def noted(name: str) -> Any:
        real = getattr(knots, name)

        def call(*args: Any) -> Any:
            calls[name] += 1
            return real(*args)

        return call

    with patch.object(knots, "begins", noted("begins")), patch.object(knots, "ends", noted("ends")):
        yield calls
