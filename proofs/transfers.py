"""Bank transfers while everything around them breaks: each is applied exactly once, and the sum stays what it was.

Sixteen workers move money between accounts. Half are threads whose units have exact outcomes, half are tasks whose
units have a key of their own and are cancelled again and again; a cancelled transfer is begun anew with the same key.
Meanwhile connections are cut at COMMIT, before it and after it, backends are ended by the administrator, and the server
is stopped at once and started again. When all is quiet every transfer must have been done once, and the accounts must
hold what the transfers say.

The control is plain SQLAlchemy under the same conditions, where every error is taken for a rollback and the transfer is
repeated: it moves money twice.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from functools import partial
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import NullPool
from tests.engines.postgres import Postgres

from polysession import AsyncSessions, Outcome, Sessions
from polysession.errors import AlreadyCommitted, CommitUnknown
from polysession.testing.proxy import Cut, Fault, FaultProxy, answer, request
from proofs.results import Profile, Result, Row

__all__ = ["NAME", "figures", "run", "run_transfers"]

NAME: Final = "transfers"
_ENGINE: Final = "pg18"
_DATABASE: Final = "bank"
_ACCOUNTS: Final = 64
_WORKERS: Final = 8
"""Threads, and as many tasks."""
_FULL: Final = 10_000
_QUICK: Final = 120
_TRIES: Final = 200
_NEVER: Final = ("doubled", "missing", "money created", "accounts that differ")
_BROKEN: Final = ("backends ended", "restarts", "tasks cancelled", "outcomes asked for", "asked later")
TABLE: Final = {name: name for name in ("where", "transfers", *_BROKEN, *_NEVER)}
_FIRST_RESTART: Final = 1.0
_RESTART_EVERY: Final = 8.0
"""Seconds until the server is stopped at once, and from one start of it to its next stop."""

ACCOUNT = sa.Table(
    "account", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), sa.Column("balance", sa.Integer)
)
MOVE = sa.Table(  # no key: a transfer that is done twice must be seen
    "move",
    ACCOUNT.metadata,
    sa.Column("number", sa.Integer, index=True),
    sa.Column("source", sa.Integer),
    sa.Column("target", sa.Integer),
    sa.Column("amount", sa.Integer),
)
Move = tuple[int, int, int, int]


def run(profile: Profile, seed: int) -> Result:
    """Ours, then the control."""
    full = profile.name == "full"
    transfers, cut = (_FULL, 0.03) if full else (_QUICK, 0.15)
    ours = run_transfers(transfers, seed, ours=True, cut=cut)
    profile.say(str(ours))
    control = run_transfers(max(_QUICK, transfers // 10), seed, ours=False, cut=cut)
    profile.say(str(control))
    wrong = [f"{ours[name]} {name}" for name in _NEVER if ours[name]]
    wrong += [f"no {name}" for name in _BROKEN[:-1] if not ours[name]]
    if not control["doubled"]:
        wrong.append("the control doubled nothing")
    return Result(
        name=NAME,
        seed=seed,
        profile=profile.name,
        counts={key: value for key, value in ours.items() if isinstance(value, int) and key != "seconds"},
        cells=(ours,),
        control=(control,),
        passed=not wrong,
        why="; ".join(wrong) or "every transfer was applied once, and the sum is unchanged",
    )


def run_transfers(transfers: int, seed: int, *, ours: bool, cut: float) -> Row:
    """So many transfers, of which a share `cut` loses its COMMIT and as many its answer; the figures."""
    draw = random.Random(seed)  # repeatable, not secret
    moves: list[Move] = []
    for number in range(transfers):
        source, target = draw.sample(range(_ACCOUNTS), 2)
        moves.append((number, source, target, draw.randint(1, 9)))
    began = time.monotonic()
    with Postgres(_ENGINE) as server:
        server.create_database(_DATABASE)
        witness = sa.create_engine(server.url(_DATABASE), poolclass=NullPool)
        with witness.begin() as connection:
            ACCOUNT.metadata.create_all(connection)
            connection.execute(ACCOUNT.insert(), [{"id": number, "balance": 0} for number in range(_ACCOUNTS)])
        with FaultProxy.before(server.url(_DATABASE)) as proxy:
            broken: Counter[str] = Counter()
            work = partial(_ours, proxy, moves, broken) if ours else partial(_plain, proxy, moves)
            proxy.plan(
                Fault(Cut(), answer("COMMIT"), times=None, probability=cut, seed=seed),
                Fault(Cut(), request("COMMIT"), times=None, probability=cut, seed=seed + 1),
            )
            _broken_meanwhile(work, server, broken, seed)
        found = figures(witness, moves)
    return {
        "where": f"{_ENGINE}, {'ours' if ours else 'plain SQLAlchemy, repeated after every error'}",
        "transfers": transfers,
        **found,
        **{key: broken[key] for key in _BROKEN},
        "seconds": round(time.monotonic() - began),
    }


def figures(witness: sa.Engine, moves: list[Move]) -> dict[str, int]:
    """What is wrong in the tables, if exactly these transfers should have been done once each."""
    with witness.connect() as connection:
        done = [tuple(row) for row in connection.execute(sa.select(MOVE))]
        balances = {int(row[0]): int(row[1]) for row in connection.execute(sa.select(ACCOUNT))}
    times = Counter(number for number, *_ in done)
    expected: Counter[int] = Counter()
    for _, source, target, amount in moves:
        expected[source] -= amount
        expected[target] += amount
    return {
        "doubled": sum(1 for count in times.values() if count > 1),
        "missing": sum(1 for number, *_ in moves if not times[number]),
        "money created": abs(sum(balances.values())),
        "accounts that differ": sum(1 for number, balance in balances.items() if balance != expected[number]),
    }


def _broken_meanwhile(work: Callable[[], None], server: Postgres, broken: Counter[str], seed: int) -> None:
    """Do the work in another thread; until it is done end backends and restart the server.

    The server is started anew by the thread that calls this: it ends with the thread that has started it.
    """
    draw = random.Random(seed + 2)  # as above
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(work)
        due = time.monotonic() + _FIRST_RESTART
        while not wait([done], timeout=0.1).done:
            if time.monotonic() > due:
                server.restart()
                broken["restarts"] += 1
                due = time.monotonic() + _RESTART_EVERY
                continue
            with suppress(Exception):  # the backend has gone by itself
                server.terminate(draw.choice(server.census(_DATABASE)))
                broken["backends ended"] += 1
        done.result()


def _do(execute: Callable[..., Any], move: Move) -> None:
    number, source, target, amount = move
    execute(MOVE.insert().values(number=number, source=source, target=target, amount=amount))
    for account, change in sorted(((source, -amount), (target, amount))):
        execute(sa.update(ACCOUNT).where(ACCOUNT.c.id == account).values(balance=ACCOUNT.c.balance + change))


class _Found:
    """Counts how often a database was asked."""

    def __init__(self, broken: Counter[str]) -> None:
        self.broken = broken

    def tell(self, fact: object) -> None:
        """As an observer."""
        self.broken["outcomes asked for"] += type(fact).__name__ == "OutcomeFound"


def _ours(proxy: FaultProxy, moves: list[Move], broken: Counter[str]) -> None:
    table = {"databases": {"main": {"url": proxy.url, "pool": {"size": _WORKERS}}}}
    half = len(moves) // 2
    todo = iter(moves[:half])
    lock = threading.Lock()

    def worker(door: Sessions) -> None:
        while True:
            with lock:
                move = next(todo, None)
            if move is None:
                return

            def work(session: Session, move: Move = move) -> None:
                _do(session.execute, move)

            while True:
                try:
                    door.run(work, retry=_TRIES, outcome="exact", isolation="READ COMMITTED")
                except CommitUnknown as error:  # the server was down for longer than anybody waits
                    if _later(door, error, broken) is Outcome.ROLLED_BACK:
                        continue
                break

    with (
        Sessions.from_mapping(table, observers=[_Found(broken)]) as door,
        ThreadPoolExecutor(_WORKERS + 1) as pool,
    ):
        tasks = pool.submit(lambda: asyncio.run(_tasks(proxy, moves[half:], broken)))
        for end in [pool.submit(worker, door) for _ in range(_WORKERS)]:
            end.result()
        tasks.result()


def _later(door: Sessions, error: CommitUnknown, broken: Counter[str]) -> Outcome:
    """What came of a unit, asked until it is known."""
    while True:
        broken["asked later"] += 1
        found = door.outcome(error.facts["unit_id"])
        if found is not Outcome.UNKNOWN:
            return found


async def _tasks(proxy: FaultProxy, moves: list[Move], broken: Counter[str]) -> None:
    table = {"databases": {"main": {"url": proxy.url, "pool": {"size": _WORKERS}}}}
    todo = iter(moves)
    draw = random.Random(len(moves))  # as above
    running: set[asyncio.Task[None]] = set()

    async with AsyncSessions.from_mapping(table, observers=[_Found(broken)]) as door:

        async def once(move: Move) -> None:
            async def work(session: AsyncSession) -> None:
                await session.run_sync(lambda sync: _do(sync.execute, move))

            with suppress(AlreadyCommitted):
                await door.run(work, retry=_TRIES, key=f"move-{move[0]}", isolation="READ COMMITTED")

        async def worker() -> None:
            for move in todo:
                while True:
                    task = asyncio.create_task(once(move))
                    running.add(task)
                    task.add_done_callback(running.discard)
                    try:
                        await task
                    except asyncio.CancelledError:
                        broken["tasks cancelled"] += 1
                        continue
                    except CommitUnknown:
                        broken["asked later"] += 1  # by its key, which finds out
                        continue
                    break

        async def cancel() -> None:
            while True:
                await asyncio.sleep(draw.random() * 0.05)
                if running:
                    draw.choice(sorted(running, key=id)).cancel()

        cancelling = asyncio.create_task(cancel())
        try:
            await asyncio.gather(*(worker() for _ in range(_WORKERS)))
        finally:
            cancelling.cancel()


def _plain(proxy: FaultProxy, moves: list[Move]) -> None:
    engine = sa.create_engine(proxy.url, pool_size=2 * _WORKERS)
    make = sessionmaker(engine)
    todo = iter(moves)
    lock = threading.Lock()

    def worker() -> None:
        while True:
            with lock:
                move = next(todo, None)
            if move is None:
                return
            for _ in range(_TRIES):
                try:
                    with make.begin() as session:
                        _do(session.execute, move)
                except DBAPIError:
                    time.sleep(0.01)
                    continue
                break

    with ThreadPoolExecutor(2 * _WORKERS) as pool:
        for end in [pool.submit(worker) for _ in range(2 * _WORKERS)]:
            end.result()
    engine.dispose()
