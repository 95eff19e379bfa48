"""The exchange of COMMIT, cut at every byte: the verdict is the truth, and nothing is done twice or lost.

A proxy that knows the protocol stands between the units and the server. In each trial it breaks the link at one place
of the exchange in which the unit's row and its COMMIT travel: before its first byte, between any two bytes, after its
last, in each direction; by RST, by FIN, or as a black hole, in which both ends stay open and nothing passes. In every
second trial the fence that finds out is broken at the same place of its own COMMIT as well. Units run with
`outcome="exact"` and are repeated by `run`. When all is quiet the truth is read on a connection of its own: of each
attempt it is compared whether its row is there and what was said of it; of each trial, that its work was done once.

"pgbouncer" is the newest PostgreSQL behind PgBouncer in transaction mode; the proxy stands before the
pooler. mysqlclient ("mysqldb") takes part where it is installed.

SQLite has no link: there the process that runs the units is killed (SIGKILL) at a random moment, and another process
asks for the last unit's outcome by its key.

The control runs the same cuts with plain SQLAlchemy and the usual rule, that a unit whose COMMIT failed was rolled back
and can be repeated. It does work twice.
"""

from __future__ import annotations

import itertools
import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import NullPool
from tests.engines.targets import ASYNC_DRIVERS, SYNC_DRIVERS, FreshDatabase, Servers, mark_of

from polysession import Outcome
from polysession.testing.proxy import FaultProxy, Place, commit_exchange_bytes, request
from proofs.commit_cuts_trials import DONE, Heard, Trial, tasks, threads, without_tls
from proofs.exits import built
from proofs.kills import run_kills
from proofs.results import Profile, Result, Row

__all__ = ["NAME", "run", "run_control", "run_cuts"]

NAME: Final = "commit_cuts"
TARGETS: Final = ("pg15", "pg18", "pgbouncer", "mariadb", "galera")
TABLE: Final = {
    "where": "where",
    "trials": "trials",
    "places": "places",
    "asked": "asked",
    "said committed": "committed",
    "said rolled back": "rolled_back",
    "wrong": "wrong",
    "unknown": "unknown",
    "doubled": "doubled",
    "lost": "lost",
    "p99 s": "p99",
    "p99 s, fence cut too": "p99_twice",
}
CONTROL_TABLE: Final = {"where": "where", "trials": "trials", "doubled": "doubled", "lost": "lost"}
_WORKERS: Final = 6
_NEVER: Final = ("wrong", "unknown", "doubled", "lost")
_LATEST: Final = 2.0
"""Seconds in which 99 of 100 verdicts must be there, counted from the end of the unit's body, where only the unit's own
link was cut. Decides in the full profile only: unlike all else here it depends on what the machine does besides."""
_ENDINGS: Final = ("rst", "fin", "hole")
_TRIALS_OF_FULL: Final = 2600
_KILLS_OF_FULL: Final = 1000


@dataclass(frozen=True, slots=True)
class Part:
    """What is run, and kept, by itself."""

    label: str
    target: str
    measure: Callable[[Servers], Row]
    is_control: bool = False


def run(profile: Profile, seed: int) -> Result:
    """All targets and drivers, then the control; different servers at the same time."""
    full = profile.name == "full"
    parts = _parts(_TRIALS_OF_FULL if full else max(20, profile.units // 8), seed, full=full)
    rows = {part.label: profile.recall(f"{NAME} {part.label} {seed}") for part in parts}
    missing = [part for part in parts if rows[part.label] is None and profile.wants(part.label)]
    servers = Servers()

    def measure(target: str) -> None:
        for part in missing:
            if part.target == target:
                began = time.monotonic()
                row = {**part.measure(servers), "seconds": round(time.monotonic() - began)}
                profile.keep(f"{NAME} {part.label} {seed}", row)
                profile.say(str(row))
                rows[part.label] = row

    targets = list(dict.fromkeys(part.target for part in missing))
    try:
        for target in targets:
            servers.shared(target)  # started one after the other; then all wait at the same time
        with ThreadPoolExecutor(len(TARGETS) + 1) as pool:
            for done in [pool.submit(measure, target) for target in targets]:
                done.result()
    finally:
        servers.close()
    cells, control = (
        [row for part in parts if part.is_control is wanted and (row := rows[part.label]) is not None]
        for wanted in (False, True)
    )
    return _judged(cells, control, seed, profile.name)


def _parts(trials: int, seed: int, *, full: bool) -> list[Part]:
    parts = [Part("sqlite", "sqlite", lambda servers: run_kills(servers, _KILLS_OF_FULL if full else 12, seed))]
    for target in TARGETS:
        drivers = [("sync", driver) for driver in SYNC_DRIVERS[mark_of(target)]]
        drivers += [("async", driver) for driver in ASYNC_DRIVERS[mark_of(target)]]
        each = -(-trials // len(drivers))
        drivers += [("sync", driver) for driver in built(mark_of(target))]
        for kind, driver in drivers:
            cut = partial(
                run_cuts,
                target=target,
                kind=kind,
                driver=driver,
                trials=each,
                seed=seed,
                full=full,
            )
            parts.append(Part(f"{target} {kind} {driver}", target, cut))
        plain = partial(run_control, target=target, driver=drivers[0][1], trials=trials // 4, seed=seed)
        parts.append(Part(f"{target} control", target, plain, is_control=True))
    return parts


def _judged(cells: Sequence[Row], control: Sequence[Row], seed: int, profile: str) -> Result:
    bad = [
        f"{cell['where']}: {', '.join(f'{cell[name]} {name}' for name in _NEVER if cell[name])}"
        for cell in cells
        if any(cell[name] for name in _NEVER)
    ]
    late = [f"{cell['where']} {cell['p99']} s" for cell in cells if profile == "full" and cell["p99"] > _LATEST]
    if late:
        bad.append(f"99 of 100 verdicts took longer than {_LATEST:g} s at {', '.join(late)}")
    if not all(cell["asked"] for cell in cells):
        bad.append("nobody had to ask")
    if not sum(cell["doubled"] for cell in control):
        bad.append("the control doubled nothing")
    names = ("trials", "asked", "committed", "rolled_back", "wrong", "unknown", "doubled", "lost")
    counts = {name: sum(int(cell[name]) for cell in cells) for name in names}
    counts["doubled in the control"] = sum(int(cell["doubled"]) for cell in control)
    return Result(
        name=NAME,
        seed=seed,
        profile=profile,
        counts=counts,
        cells=tuple(cells),
        control=tuple(control),
        passed=not bad,
        why="; ".join(bad) or "every verdict was the truth and came in time, nothing was done twice or lost",
        seconds=sum(float(cell["seconds"]) for cell in (*cells, *control)),
    )


# -- one cell


def run_cuts(servers: Servers, target: str, kind: str, driver: str, trials: int, seed: int, *, full: bool) -> Row:
    """So many trials of one driver; if `full`, at least as many as there are places and endings."""
    database = servers.fresh(target)
    try:
        witness = sa.create_engine(database.url(SYNC_DRIVERS[mark_of(target)][0]), poolclass=NullPool)
        DONE.create(witness)
        pooled = target == "pgbouncer"
        places = _places(database, kind, driver, pooled)
        plan = _plan(places, trials, f"{seed}/{target}/{driver}", full=full)
        heard = Heard()
        todo = iter(plan)
        lock = threading.Lock()

        def take() -> Trial | None:
            with lock:
                return next(todo, None)

        work = threads if kind == "sync" else tasks
        with ThreadPoolExecutor(_WORKERS) as pool:
            for done in [pool.submit(work, database.url(driver), take, heard, pooled) for _ in range(_WORKERS)]:
                done.result()
        return _row(f"{target} {kind} {driver}", plan, len(places), heard, witness)
    finally:
        servers.drop(database)


def _row(where: str, plan: Sequence[Trial], places: int, heard: Heard, witness: sa.Engine) -> Row:
    with witness.connect() as connection:
        rows = [(int(trial), int(attempt)) for trial, attempt in connection.execute(sa.select(DONE))]
    there = set(rows)
    times = Counter(trial for trial, _ in rows)
    wrong = unknown = lost = 0
    said: Counter[Outcome] = Counter()
    for trial in plan:
        ends = heard.ends[str(trial.number)]
        for attempt, outcome in enumerate(ends):
            said[outcome] += 1
            is_there = (trial.number, attempt) in there
            unknown += outcome not in (Outcome.COMMITTED, Outcome.ROLLED_BACK)
            wrong += outcome is Outcome.COMMITTED and not is_there
            wrong += outcome is Outcome.ROLLED_BACK and is_there
        lost += ends[-1] is Outcome.COMMITTED and not times[trial.number]
    spent, twice = sorted(heard.times), sorted(heard.times_twice)
    return {
        "where": where,
        "trials": len(plan),
        "places": places,
        "asked": len(heard.asked),
        "committed": said[Outcome.COMMITTED],
        "rolled_back": said[Outcome.ROLLED_BACK],
        "wrong": wrong,
        "unknown": unknown,
        "doubled": sum(1 for count in times.values() if count > 1),
        "lost": lost,
        "p99": round(spent[int(len(spent) * 0.99)], 3) if spent else 0.0,
        "longest": round(spent[-1], 3) if spent else 0.0,
        "why unknown": dict(Counter(fact.reason for fact in heard.asked if fact.outcome is Outcome.UNKNOWN)),
        "p99_twice": round(twice[int(len(twice) * 0.99)], 3) if twice else 0.0,
    }


def _plan(places: Sequence[Place], trials: int, seed: str, *, full: bool) -> list[Trial]:
    draw = random.Random(seed)  # repeatable, not secret
    every = list(itertools.product(places, _ENDINGS))
    wanted = max(trials, len(every)) if full else trials
    chosen: list[tuple[Place, str]] = []
    while len(chosen) < wanted:
        draw.shuffle(every)
        chosen += every
    return [
        Trial(number, place, ending, 1 + number % 2) for number, (place, ending) in enumerate(chosen[:wanted], start=1)
    ]


def _places(database: FreshDatabase, kind: str, driver: str, pooled: bool) -> list[Place]:
    """Every place in the exchange that carries COMMIT, as a run without faults shows it."""
    with FaultProxy.before(database.url(driver)) as proxy:
        quiet = Heard()
        one = iter([Trial(0, request("COMMIT"), "", 0)])
        (threads if kind == "sync" else tasks)("", lambda: next(one, None), quiet, pooled, proxy=proxy)
        return list(commit_exchange_bytes(proxy.events).places())


# -- the control


def run_control(servers: Servers, target: str, driver: str, trials: int, seed: int) -> Row:
    """Plain SQLAlchemy; what failed at COMMIT is taken for rolled back and repeated."""
    database = servers.fresh(target)
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)  # it complains of every connection that was cut
    try:
        witness = sa.create_engine(database.url(SYNC_DRIVERS[mark_of(target)][0]), poolclass=NullPool)
        DONE.create(witness)
        with FaultProxy.before(database.url(driver)) as proxy:
            engine = sa.create_engine(proxy.url, pool_size=1, max_overflow=0, connect_args=without_tls(proxy.url))
            make = sessionmaker(engine)
            _plain(make, 0)
            places = list(commit_exchange_bytes(proxy.events).places())
            plan = [
                trial for trial in _plan(places, trials * 2, f"{seed}/{target}", full=False) if trial.ending != "hole"
            ]
            done = 0
            for trial in plan:
                proxy.plan(trial.fault())
                for _ in range(5):
                    try:
                        _plain(make, trial.number)
                    except DBAPIError:
                        continue  # "it was rolled back"
                    done += 1
                    break
                proxy.clear()
            engine.dispose()
        with witness.connect() as connection:
            times = Counter(connection.scalars(sa.select(DONE.c.trial)))
        return {
            "where": f"{target} {driver}",
            "trials": len(plan),
            "doubled": sum(1 for trial in plan if times[trial.number] > 1),
            "lost": done - sum(1 for trial in plan if times[trial.number]),
        }
    finally:
        servers.drop(database)


def _plain(make: sessionmaker[Session], number: int) -> None:
    with make.begin() as session:
        session.execute(DONE.insert().values(trial=number, attempt=0))
