"""The flight of COMMIT and the last statement, cut at every byte: what is said of a unit is never wrong

Units with `outcome="early"` send the statement of their last flush and COMMIT together. A proxy that knows the protocol
breaks that flight at one place in each trial: before its first byte, between any two bytes, after its last, in each
direction; by RST or by FIN. "insert": BEGIN, an INSERT and COMMIT leave together. "update": the unit has written its
row before, and an UPDATE of it leaves with COMMIT, counted by the server. Every second pair of trials runs on a
connection on which the statement is prepared; by asyncpg it is prepared in the others before the flight, and not cut
there. Units are repeated by `run`. When all is quiet the truth is read on a
connection of its own: what was told as committed is there, what was told as rolled back is not; that an outcome is not
known may be said in this way of committing, and nothing is repeated then; of each trial it is counted how often its
work was done.

The control is the same with a seeded defect: the unit does not note that COMMIT has left with its statement, so an
error of the link is one before COMMIT. It does work twice.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, registry
from sqlalchemy.pool import NullPool
from tests.engines.targets import FreshDatabase, Servers

from polysession import AsyncSessions, Outcome, Sessions
from polysession._shell.last_flight import LastFlight
from polysession.errors import UnitFailed
from polysession.testing.proxy import FaultProxy, Place, commit_exchange_bytes, request
from proofs.commit_cuts_trials import Heard, Trial
from proofs.results import Profile, Result, Row

__all__ = ["NAME", "run", "run_cuts"]

NAME: Final = "early_cuts"
TABLE: Final = {
    "where": "where",
    "trials": "trials",
    "places": "places",
    "said committed": "committed",
    "said rolled back": "rolled_back",
    "said unknown": "unknown",
    "of these there": "unknown_there",
    "wrong": "wrong",
    "doubled": "doubled",
    "lost": "lost",
}
CELLS: Final = tuple(
    itertools.product(
        ("pg15", "pg18", "pgbouncer"),
        (("sync", "psycopg"), ("async", "psycopg"), ("async", "asyncpg")),
        ("insert", "update"),
    )
)
NEVER: Final = ("wrong", "doubled", "lost")
_CONTROL: Final = ("pg18", ("sync", "psycopg"), "insert")
_ENDINGS: Final = ("rst", "fin")
_ASKS: Final = {"insert": ("INSERT", "COMMIT"), "update": ("WITH", "COMMIT")}
"""The requests of a flight of asyncpg, each with an answer of its own; psycopg's is one."""
_WORKERS: Final = 4
_WARM: Final = 6
"""So often psycopg executes a statement until it is prepared."""
_warm: Final = itertools.count(1)
"""Numbers what is done before the trials."""


class Done:
    """A row of work."""

    def __init__(self, trial: int, attempt: int) -> None:
        self.trial, self.attempt = trial, attempt
        self.note = 0


DONE = sa.Table(
    "done",
    sa.MetaData(),
    sa.Column("trial", sa.Integer, index=True),
    sa.Column("attempt", sa.Integer),
    sa.Column("note", sa.Integer),
)  # no key: work that is done twice must be seen
registry().map_imperatively(Done, DONE, primary_key=[DONE.c.trial, DONE.c.attempt])


def run(profile: Profile, seed: int) -> Result:
    """All cells one after the other, then the control."""
    full = profile.name == "full"
    trials = 0 if full else max(20, profile.units // 8)
    servers = Servers()
    cells: list[Row] = []
    control: list[Row] = []
    try:
        for target, (kind, driver), way in CELLS:
            label = f"{target} {kind} {driver} {way}"
            if profile.wants(label):
                began = time.monotonic()
                row = profile.recall(f"{NAME} {label} {seed}")
                if row is None:
                    row = {**run_cuts(servers, target, kind, driver, way, trials, seed)}
                    row["seconds"] = round(time.monotonic() - began)
                    profile.keep(f"{NAME} {label} {seed}", row)
                    profile.say(str(row))
                cells.append(row)
        target, (kind, driver), way = _CONTROL
        with unnoted():
            control.append(run_cuts(servers, target, kind, driver, way, trials or 400, seed))
    finally:
        servers.close()
    bad = [
        f"{cell['where']}: {', '.join(f'{cell[name]} {name}' for name in NEVER if cell[name])}"
        for cell in cells
        if any(cell[name] for name in NEVER)
    ]
    if not all(cell["unknown"] > cell["unknown_there"] > 0 for cell in cells):
        bad.append("the flight was not cut on both sides of what the server does")
    if not sum(cell["doubled"] for cell in control):
        bad.append("the control doubled nothing")
    names = ("trials", "committed", "rolled_back", "unknown", "unknown_there", *NEVER)
    counts = {name: sum(int(cell[name]) for cell in cells) for name in names}
    counts["doubled in the control"] = sum(int(cell["doubled"]) for cell in control)
    return Result(
        name=NAME,
        seed=seed,
        profile=profile.name,
        counts=counts,
        cells=tuple(cells),
        control=tuple(control),
        passed=not bad,
        why="; ".join(bad) or "nothing that was said was wrong, nothing was done twice or lost",
        seconds=sum(float(cell["seconds"]) for cell in cells) or None,
    )


@contextmanager
def unnoted() -> Iterator[None]:
    """The defect of the control."""
    leaves = LastFlight.leaves
    LastFlight.leaves = lambda flight: setattr(flight, "has_left", True)  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        LastFlight.leaves = leaves  # type: ignore[method-assign]


def run_cuts(servers: Servers, target: str, kind: str, driver: str, way: str, trials: int, seed: int) -> Row:
    """So many trials, or, if 0, one for each place and ending."""
    database = servers.fresh(target)
    try:
        witness = sa.create_engine(database.url("psycopg"), poolclass=NullPool)
        DONE.create(witness)
        work = _threads if kind == "sync" else _tasks
        table: dict[str, Any] = {"outcome": "early", "pool": {"size": 1}}
        if target == "pgbouncer":
            table["pooler"] = "transaction"
        places = _places(database, driver, work, way, table)
        plan = _plan(places, trials, f"{seed}/{target}/{kind}/{driver}/{way}")
        heard = Heard()
        todo, lock = iter(plan), threading.Lock()

        def take() -> Trial | None:
            with lock:
                return next(todo, None)

        with ThreadPoolExecutor(_WORKERS) as pool:
            url = database.url(driver)
            for done in [pool.submit(work, FaultProxy.before(url), take, heard, way, table) for _ in range(_WORKERS)]:
                done.result()
        return _row(f"{target} {kind} {driver} {way}", plan, len(places), heard, witness)
    finally:
        servers.drop(database)


def _plan(places: Sequence[Place], trials: int, seed: str) -> list[Trial]:
    every = list(itertools.product(places, _ENDINGS))
    random.Random(seed).shuffle(every)  # repeatable, not secret
    return [Trial(number, *each, 1) for number, each in enumerate(every[: trials or None], start=1)]


def _places(database: FreshDatabase, driver: str, work: Any, way: str, table: dict[str, Any]) -> list[Place]:
    """Every place in the flight, as a run without faults shows it; that of a statement which is not prepared is the
    longer one."""
    proxy = FaultProxy.before(database.url(driver))
    one = iter([Trial(0, request("COMMIT"), "", 0)])
    found: list[Place] = []
    verbs = _ASKS[way] if driver == "asyncpg" else ("COMMIT",)
    work(proxy, lambda: next(one, None), Heard(), way, table, lambda: found.extend(_seen(proxy, verbs)))
    return found


def _seen(proxy: FaultProxy, verbs: Sequence[str]) -> list[Place]:
    return [place for verb in verbs for place in commit_exchange_bytes(proxy.events, verb).places()]


def _row(where: str, plan: Sequence[Trial], places: int, heard: Heard, witness: sa.Engine) -> Row:
    with witness.connect() as connection:
        rows = [
            (int(trial), int(attempt)) for trial, attempt in connection.execute(sa.select(DONE.c.trial, DONE.c.attempt))
        ]
    there, times = set(rows), Counter(trial for trial, _ in rows)
    said: Counter[Outcome] = Counter()
    wrong = lost = unknown_there = 0
    for trial in plan:
        ends = heard.ends[str(trial.number)]
        for attempt, outcome in enumerate(ends):
            said[outcome] += 1
            is_there = (trial.number, attempt) in there
            wrong += outcome is Outcome.COMMITTED and not is_there
            wrong += outcome is Outcome.ROLLED_BACK and is_there
            wrong += outcome not in (Outcome.COMMITTED, Outcome.ROLLED_BACK, Outcome.UNKNOWN)
            unknown_there += outcome is Outcome.UNKNOWN and is_there
        lost += ends[-1] is Outcome.COMMITTED and not times[trial.number]
    return {
        "where": where,
        "trials": len(plan),
        "places": places,
        "committed": said[Outcome.COMMITTED],
        "rolled_back": said[Outcome.ROLLED_BACK],
        "unknown": said[Outcome.UNKNOWN],
        "unknown_there": unknown_there,
        "wrong": wrong,
        "doubled": sum(1 for trial in plan if times[trial.number] > 1),
        "lost": lost,
    }


Take = Callable[[], Trial | None]


def _nothing() -> None:
    """Nobody looks."""


def _threads(
    proxy: FaultProxy, take: Take, heard: Heard, way: str, table: dict[str, Any], end: Callable[[], None] = _nothing
) -> None:
    """One worker of the synchronous door, behind a proxy of its own."""
    with proxy, Sessions({"main": {**table, "url": proxy.url}}, observers=[heard]) as door:

        def write(trial: int, session: Session) -> None:
            session.add(done := Done(trial, heard.attempt(str(trial))))
            if way == "update":
                session.flush()
                done.note = 1

        while (trial := take()) is not None:
            if trial.is_warm:
                for _ in range(_WARM):
                    door.run(partial(write, -next(_warm)))
            else:
                door.run(lambda session: session.scalar(sa.select(sa.literal(1))))
            if trial.times:
                proxy.plan(trial.fault())
            with suppress(UnitFailed):  # its outcome is in the facts
                door.run(partial(write, trial.number), name=str(trial.number))
            proxy.clear()
        end()


def _tasks(
    proxy: FaultProxy, take: Take, heard: Heard, way: str, table: dict[str, Any], end: Callable[[], None] = _nothing
) -> None:
    """The same of the asynchronous door, in an event loop of its own."""

    async def worker() -> None:
        async with AsyncSessions({"main": {**table, "url": proxy.url}}, observers=[heard]) as door:

            async def write(trial: int, session: AsyncSession) -> None:
                session.add(done := Done(trial, heard.attempt(str(trial))))
                if way == "update":
                    await session.flush()
                    done.note = 1

            while (trial := take()) is not None:
                if trial.is_warm:
                    for _ in range(_WARM):
                        await door.run(partial(write, -next(_warm)))
                else:
                    await door.run(lambda session: session.scalar(sa.select(sa.literal(1))))
                if trial.times:
                    proxy.plan(trial.fault())
                with suppress(UnitFailed):
                    await door.run(partial(write, trial.number), name=str(trial.number))
                proxy.clear()
            end()

    with proxy:
        asyncio.run(worker())
