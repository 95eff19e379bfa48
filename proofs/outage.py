"""The database is down and comes back, 100 times: who asks is answered in his time, no seat is lost, work goes on soon.

Five kinds of outage take turns. *Frozen*: all processes of the server are stopped (SIGSTOP), its machine acknowledges.
*Hole*: what is sent is lost, on old and new connections, and stays lost when the outage is over. Every second time of
these two, the links that there are break as they begin, so that new ones have to be opened. *Reset*: links are broken
and every new one is reset (RST). *Refused*: links are ended and nobody listens. *Handshake*: links are broken, and
every new one somewhere in its log-in.

Meanwhile four threads or tasks do one unit after the other, which asks for 1. Every call that takes a connection from
the pool must end within `checkout_timeout` (0.5 s), well or not, give or take 0.1 s; the first unit that ends well must
end within a second after the server is back; at the end nothing may be out, and all seats of the pool must be usable at
once. Units have a deadline of 0.6 s, and the grace after it is cut to 0.2 s here: how long a statement waits that was
lost is not what is measured. The garbage collector leaves out what was imported: it stops all threads for a while.

It judges times, so it wants a machine of its own: when three cells ran at once on two cores that had other work, 2 of
21,508 acquires by PyMySQL were late, which were 0 of 23,512 alone. The recorded cells were run in parts (`--resume`),
with raised priority.

The control does the same with SQLAlchemy's sessions over `QueuePool`, with a timeout of 0.5 s as well. There a
connection that is being opened is waited for as long as the driver waits, and so is an answer that does not come.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
import signal
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final
from unittest.mock import patch

import sqlalchemy as sa
from sqlalchemy.orm import sessionmaker
from sqlalchemy.pool import Pool, QueuePool
from tests.engines.process import wait_until
from tests.engines.targets import FreshDatabase, Servers

from polysession import AsyncSessions, Sessions
from polysession._shell import grace
from polysession._shell.pool import FairPool
from polysession.testing.proxy import Cut, Direction, Ending, Fault, FaultProxy, Hole, request, stream
from proofs.frozen import frozen
from proofs.results import Profile, Result, Row

__all__ = ["NAME", "run"]

NAME: Final = "outage"
TABLE: Final = {
    "where": "where",
    "outages": "outages",
    "acquires": "acquires",
    "late": "late",
    "slowest acquire s": "slowest",
    "seats lost": "lost",
    "late recoveries": "late_recoveries",
    "slowest recovery s": "recovery",
}
KINDS: Final = ("frozen", "hole", "reset", "refused", "handshake")
CELLS: Final = (
    ("pg18", "sync", "psycopg"),
    ("pg18", "async", "psycopg"),
    ("pg18", "async", "asyncpg"),
    ("mariadb", "sync", "pymysql"),
    ("mariadb", "async", "asyncmy"),
)
SIZE: Final = 4
TIMEOUT: Final = 0.5
SLACK: Final = 0.1
SOON: Final = 1.0
"""Seconds after the server is back."""
_DEADLINE: Final = 0.6
"""Seconds after which a unit gives up the statement that is lost in a hole: else it would look like a late recovery."""
_GRACE: Final = 0.2
_PACE: Final = 0.004
"""Seconds between two units of a worker."""
_LASTS: Final = (0.3, 1.0)
"""Seconds of an outage."""
_PATIENCE: Final = 15.0
"""Seconds for which a recovery is waited for at most."""
_ONE: Final = sa.text("select 1")


class _Heard:
    """What the workers tell. Thread-safe."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.acquires: list[float] = []
        self.succeeded_at = 0.0
        self.ends: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def timing(self, pool: type[Pool], method: str) -> Iterator[None]:
        """Note how long it takes to get a connection of such a pool, or to hear that there is none."""
        real = getattr(pool, method)

        def timed(*args: Any) -> Any:
            began = time.monotonic()
            try:
                return real(*args)
            finally:
                self.acquires.append(time.monotonic() - began)

        with patch.object(pool, method, timed):
            yield

    def ended(self, error: Exception | None) -> None:
        """A unit is over."""
        now = time.monotonic()
        with self._lock:
            self.ends["done" if error is None else type(error).__name__] += 1
            if error is None:
                self.succeeded_at = now


def run(profile: Profile, seed: int) -> Result:
    """100 outages by each driver in the full profile; then the control."""
    full = profile.name == "full"
    cycles = 100 if full else 2 * len(KINDS)
    rows: list[Row] = []
    control: list[Row] = []
    servers = Servers()
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)  # it complains of every connection that was broken
    try:
        for target, kind, driver in CELLS if full else (CELLS[0], CELLS[2]):
            label = f"{target} {kind} {driver}"
            if profile.wants(label):
                row = profile.recall(f"{NAME} {label} {seed}") or _cell(servers, target, kind, driver, cycles, seed)
                profile.keep(f"{NAME} {label} {seed}", row)
                profile.say(str(row))
                rows.append(row)
        if profile.wants("control"):
            row = profile.recall(f"{NAME} control {seed}") or _control(servers, 2 * len(KINDS), seed)
            profile.keep(f"{NAME} control {seed}", row)
            profile.say(str(row))
            control.append(row)
    finally:
        servers.close()
        logging.getLogger("sqlalchemy.pool").setLevel(logging.NOTSET)
    counts = {
        name: sum(int(row[name]) for row in rows) for name in ("outages", "acquires", "late", "lost", "late_recoveries")
    }
    # what it promises nobody is kept in two ways: an acquire that ends late, or work that goes on late
    counts["late in the control"] = sum(int(row["late"]) + int(row["late_recoveries"]) for row in control)
    bad = [f"{counts[name]} {name}" for name in ("late", "lost", "late_recoveries") if counts[name]]
    if control and not counts["late in the control"]:
        bad.append("the control was never late")
    return Result(
        name=NAME,
        seed=seed,
        profile=profile.name,
        counts=counts,
        cells=tuple(rows),
        control=tuple(control),
        passed=not bad,
        why="; ".join(bad) or "every acquire ended in its time, no seat was lost, and work went on within a second",
        seconds=sum(float(row["seconds"]) for row in (*rows, *control)),
    )


# -- one cell


def _cell(servers: Servers, target: str, kind: str, driver: str, cycles: int, seed: int) -> Row:
    database = servers.fresh(target)
    began = time.monotonic()
    with warnings.catch_warnings():  # of connections that the control of another experiment has dropped
        warnings.simplefilter("ignore")
        gc.collect()
    try:
        with (
            frozen(),
            FaultProxy.before(database.url(driver), keep=100) as proxy,
            patch.object(grace, "GRACE", _GRACE),
        ):
            table: dict[str, Any] = {"url": proxy.url, "pool": {"size": SIZE, "checkout_timeout": TIMEOUT}}
            if driver == "pymysql":
                table["connect"] = {"ssl_disabled": True}  # it loads all certificates for each connection
            work = _threads if kind == "sync" else _tasks
            heard = _Heard()
            recoveries: list[float] = []

            def cycle() -> None:
                recoveries.extend(_outages(database, proxy, heard, cycles, f"{seed}/{target}/{driver}"))

            with heard.timing(FairPool, "check_out"):
                lost = work({"orders": table}, heard, cycle)
    finally:
        servers.drop(database)
    return _row(f"{target} {kind} {driver}", heard, recoveries, lost, time.monotonic() - began)


def _row(where: str, heard: _Heard, recoveries: list[float], lost: int, seconds: float) -> Row:
    return {
        "where": where,
        "outages": len(recoveries),
        "acquires": len(heard.acquires),
        "late": sum(took > TIMEOUT + SLACK for took in heard.acquires),
        "slowest": round(max(heard.acquires), 3),
        "lost": lost,
        "late_recoveries": sum(took > SOON for took in recoveries),
        "recovery": round(max(recoveries), 3),
        "ends": dict(heard.ends),
        "seconds": round(seconds, 1),
    }


def _threads(databases: dict[str, Any], heard: _Heard, cycle: Callable[[], None]) -> int:
    """Units of threads during the outages; the seats that are lost at the end."""
    with Sessions.from_mapping({"databases": databases}) as door:

        def work() -> None:
            while not heard.stop.wait(_PACE):
                failed = None
                try:
                    with door.begin(deadline=_DEADLINE) as session:
                        session.execute(_ONE)
                except Exception as error:
                    failed = error
                heard.ended(failed)

        _beside(work, heard, cycle)
        wait_until(lambda: door._connections_out() == 0, what="nothing is out")
        held = [door.open() for _ in range(SIZE)]
        usable = 0
        for session in held:
            with suppress(Exception):
                usable += session.scalar(_ONE)
        for session in held:
            session.close()
        return SIZE - usable


def _tasks(databases: dict[str, Any], heard: _Heard, cycle: Callable[[], None]) -> int:
    """The same with tasks."""

    async def units(door: AsyncSessions) -> None:
        while not heard.stop.is_set():
            await asyncio.sleep(_PACE)
            failed = None
            try:
                async with door.begin(deadline=_DEADLINE) as session:
                    await session.execute(_ONE)
            except Exception as error:
                failed = error
            heard.ended(failed)

    async def measure() -> int:
        async with AsyncSessions.from_mapping({"databases": databases}) as door:
            workers = [asyncio.create_task(units(door)) for _ in range(SIZE)]
            try:
                await asyncio.to_thread(cycle)
            finally:
                heard.stop.set()
                await asyncio.gather(*workers)
            await asyncio.to_thread(wait_until, lambda: door._connections_out() == 0, what="nothing is out")
            held = [door.open() for _ in range(SIZE)]
            usable = 0
            for session in held:
                with suppress(Exception):
                    usable += await session.scalar(_ONE)
            for session in held:
                await session.close()
            return SIZE - usable

    return asyncio.run(measure())


def _beside(work: Callable[[], None], heard: _Heard, cycle: Callable[[], None]) -> None:
    workers = [threading.Thread(target=work, daemon=True) for _ in range(SIZE)]
    for worker in workers:
        worker.start()
    try:
        cycle()
    finally:
        heard.stop.set()
        for worker in workers:
            worker.join(2 * _PATIENCE)


# -- outages


def _outages(
    database: FreshDatabase, proxy: FaultProxy, heard: _Heard, cycles: int, seed: str, *, mends: bool = False
) -> Iterator[float]:
    """Let outages come and go; the seconds from the end of each to the first unit that ends well."""
    draw = random.Random(seed)  # repeatable, not secret
    _success_after(heard, time.monotonic())
    for number in range(cycles):
        kind = KINDS[number % len(KINDS)]
        if number // len(KINDS) % 2 and kind in ("frozen", "hole"):
            proxy.sever()  # now all have to be opened anew
        with _outage(kind, database, proxy, draw):
            heard.stop.wait(draw.uniform(*_LASTS))
        back_at = time.monotonic()
        yield _success_after(heard, back_at, proxy if mends else None)
        heard.stop.wait(draw.uniform(0.0, 0.2))


def _success_after(heard: _Heard, at: float, mended: FaultProxy | None = None) -> float:
    """`mended`: links that lead nowhere are broken after a while, for who would wait for ever."""
    until = time.monotonic() + _PATIENCE
    while heard.succeeded_at <= at and time.monotonic() < until:
        heard.stop.wait(0.002)
        if mended is not None and time.monotonic() > at + 3:
            mended.sever()
            mended = None
    return max(0.0, (heard.succeeded_at if heard.succeeded_at > at else time.monotonic()) - at)


@contextmanager
def _outage(kind: str, database: FreshDatabase, proxy: FaultProxy, draw: random.Random) -> Iterator[None]:
    process: Any = database.server.process  # type: ignore[attr-defined]  # those of these targets have one
    if kind == "frozen":
        try:
            for _ in range(2):  # once the first one is stopped there are no new ones
                _signal(process.family(), signal.SIGSTOP)
            yield
        finally:
            _signal(process.family(), signal.SIGCONT)
        return
    if kind == "hole":
        proxy.plan(
            Fault(Hole(), request(), times=None), Fault(Hole(), stream(Direction.TO_SERVER, passed=0), times=None)
        )
    elif kind == "handshake":
        passed = draw.randrange(1, 60)
        proxy.plan(Fault(Cut(Ending.RST), stream(Direction.TO_CLIENT, passed=passed), times=None))
        proxy.sever()
    else:
        proxy.refuse(reset=kind == "reset")
        proxy.sever(Ending.RST if kind == "reset" else Ending.FIN)
    try:
        yield
    finally:
        proxy.clear()
        proxy.accept()


def _signal(processes: Iterable[int], number: signal.Signals) -> None:
    for pid in processes:
        with suppress(ProcessLookupError):  # it has just ended
            os.kill(pid, number)


# -- the control


def _control(servers: Servers, cycles: int, seed: int) -> Row:
    """SQLAlchemy's sessions and pool; `connect_timeout` is the driver's shortest."""
    database = servers.fresh("pg18")
    began = time.monotonic()
    heard = _Heard()
    try:
        with FaultProxy.before(database.url("psycopg"), keep=100) as proxy:
            engine = sa.create_engine(
                proxy.url,
                poolclass=QueuePool,
                pool_size=SIZE,
                max_overflow=0,
                pool_timeout=TIMEOUT,
                connect_args={"connect_timeout": 2},
            )
            factory = sessionmaker(engine)

            def work() -> None:
                while not heard.stop.wait(_PACE):
                    failed = None
                    try:
                        with factory.begin() as session:
                            session.execute(_ONE)
                    except Exception as error:
                        failed = error
                    heard.ended(failed)

            recoveries: list[float] = []
            with heard.timing(QueuePool, "connect"):
                _beside(
                    work,
                    heard,
                    lambda: recoveries.extend(_outages(database, proxy, heard, cycles, f"{seed}", mends=True)),
                )
            proxy.sever()
            engine.dispose()
    finally:
        servers.drop(database)
    return _row("pg18 sync psycopg, QueuePool", heard, recoveries, 0, time.monotonic() - began)
