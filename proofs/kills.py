"""The part of `commit_cuts` for SQLite: a process that writes units is killed, and another one asks what came of them.

The child runs units with keys one after the other and says before and after each which one; the parent kills it after a
random time. What the child has heard of must be there; of the one that was under way the parent asks by its key, and
compares the answer with the rows.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from multiprocessing.connection import Connection
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool
from tests.engines.targets import Servers

from polysession import Outcome, Sessions
from polysession.errors import AlreadyCommitted
from proofs.results import Row

__all__ = ["run_kills"]

_UNITS = sa.Table("units", sa.MetaData(), sa.Column("unit", sa.Integer, index=True))


def _child(url: str, first: int, pipe: Connection) -> None:
    door = Sessions(url)
    for number in range(first, first + 1_000_000):

        def work(session: Session, number: int = number) -> None:
            session.execute(_UNITS.insert().values(unit=number))

        pipe.send(("begin", number))
        try:
            door.run(work, key=f"unit-{number}")
        except AlreadyCommitted:
            pass
        pipe.send(("done", number))


def run_kills(servers: Servers, kills: int, seed: int) -> Row:
    """So many kills, one after the other, each of a new process."""
    draw = random.Random(f"{seed}/sqlite")  # repeatable, not secret
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["proofs.kills", "polysession._shell.door"])
    database = servers.fresh("sqlite")
    url = database.url()
    witness = sa.create_engine(url, poolclass=NullPool)
    _UNITS.create(witness)
    acknowledged: list[int] = []
    said: Counter[Any] = Counter()
    wrong = unknown = 0
    times: list[float] = []
    number = 0
    try:
        with Sessions(url) as door:
            for _ in range(kills):
                begun, done = _one(context, url, number, draw.random())
                acknowledged += done
                number = begun + 1
                if begun in done:
                    continue
                asked_at = time.monotonic()
                verdict = door.outcome(key=f"unit-{begun}")
                times.append(time.monotonic() - asked_at)
                with witness.connect() as connection:
                    there = bool(connection.scalar(sa.select(sa.func.count()).where(_UNITS.c.unit == begun)))
                said[verdict] += 1
                unknown += verdict is Outcome.UNKNOWN
                wrong += verdict is not Outcome.UNKNOWN and (verdict is Outcome.COMMITTED) != there
        with witness.connect() as connection:
            counts = Counter(connection.scalars(sa.select(_UNITS.c.unit)))
    finally:
        witness.dispose()
        servers.drop(database)
    spent = sorted(times)
    return {
        "where": "sqlite, process killed",
        "trials": kills,
        "places": 0,
        "asked": sum(said.values()),
        "committed": said[Outcome.COMMITTED],
        "rolled_back": said[Outcome.ROLLED_BACK],
        "wrong": wrong,
        "unknown": unknown,
        "doubled": sum(1 for count in counts.values() if count > 1),
        "lost": sum(1 for unit in acknowledged if not counts[unit]),
        "p99": round(spent[int(len(spent) * 0.99)], 3) if spent else 0.0,
        "longest": round(spent[-1], 3) if spent else 0.0,
        "units": len(counts),
    }


def _one(context: Any, url: str, first: int, share: float) -> tuple[int, list[int]]:
    """Let a process work until it is killed: the last unit that it began, and those that it heard had committed."""
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(url, first, theirs), daemon=True)
    process.start()
    theirs.close()
    begun, done = first - 1, []
    try:
        while begun <= first:  # from the second unit on it has its connections, and writes
            word, number = ours.recv()
            if word == "begin":
                begun = number
            else:
                done.append(number)
        time.sleep(share * 0.03)  # not woken by its messages, so that it can be anywhere
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    while ours.poll():
        try:
            word, number = ours.recv()
        except EOFError:
            break
        if word == "begin":
            begun = number
        else:
            done.append(number)
    ours.close()
    return begun, done
