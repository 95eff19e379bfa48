"""Instructions of the client: of a unit that does nothing, of reading a row, and of finding who opened a unit.

Counted by callgrind in a process of their own, like those of `benchmarks.instructions`: the same on a busy machine, and
without what the kernel and the server do. In thousands.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from polysession._shell.places import caller

from ..instructions import Counter, valgrind
from . import tasks, threads
from .effort import Effort
from .timing import entered, entered_async
from .works import NOTHING, READ, Row

__all__ = ["ORIGIN", "STACK", "WITH_CONNECTION", "main", "measure"]

ORIGIN: Final = "who opened a unit"
STACK: Final = "traceback.extract_stack(limit=5)"
WITH_CONNECTION: Final = "Session and its connection"
_SIDES: Final = (threads.OURS, threads.POOL, threads.CORE, threads.SESSION)
_SIDES_ASYNC: Final = (tasks.OURS, tasks.ASYNCPG_POOL, tasks.PSYCOPG_POOL, tasks.SESSION)


def measure(url: str, driver: str, door: str, effort: Effort) -> list[Row]:
    """The rows for this driver at this door; none without valgrind."""
    found = valgrind()
    if found is None or not effort.counted:
        return []
    with tempfile.TemporaryDirectory() as folder:
        options = ["-q", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={folder}/out"]
        program = f"import sys; from {__name__} import main; main(*sys.argv[1:])"
        child = [sys.executable, "-c", program, url, driver, door, folder, str(effort.counted)]
        child += ["others"] if effort.counts_others else []
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        done = subprocess.run([found, *options, *child], stdout=subprocess.PIPE, check=True, env=environment)
    rows: list[Row] = json.loads(done.stdout)
    return rows


def _row(work: str, where: str, side: str, counted: float) -> Row:
    return {"kind": "instructions", "work": work, "where": where, "side": side, "value": round(counted, 1)}


def _threads(folder: Path, url: str, where: str, times: int, *, others: bool) -> Iterator[Row]:
    chosen = _SIDES if others else _SIDES[:1]
    with ExitStack() as stack:
        works = entered(stack, {side: threads.SIDES[side] for side in chosen}, url, 1)
        counter = Counter(folder)  # from here on all is slow
        for side, known in works.items():
            for work in (NOTHING, READ):
                yield _row(work, where, side, counter.of(known[work], times))
        yield _row(ORIGIN, where, threads.OURS, counter.of(_ask, times))
        if not others:
            return
        engine = sa.create_engine(url)
        stack.callback(engine.dispose)

        def connected() -> None:
            with Session(engine) as session:
                session.connection()

        yield _row(NOTHING, where, WITH_CONNECTION, counter.of(connected, times))
        yield _row(ORIGIN, where, STACK, counter.of(lambda: traceback.extract_stack(limit=5), times))


def _ask() -> object:
    return caller(0)


async def _tasks(folder: Path, url: str, where: str, driver: str, times: int, *, others: bool) -> list[Row]:
    chosen = _SIDES_ASYNC if others else _SIDES_ASYNC[:1]
    rows: list[Row] = []
    async with AsyncExitStack() as stack:
        known: Mapping[str, tasks.MakeAsync] = tasks.sides(driver)
        works = await entered_async(stack, {side: known[side] for side in chosen if side in known}, url, 1)
        counter = Counter(folder)
        for side, mine in works.items():
            for work in (NOTHING, READ):
                rows.append(_row(work, where, side, await counter.of_async(mine[work], times)))
    return rows


def main(url: str, driver: str, door: str, folder: str, times: str, *others: str) -> None:
    """What is run below callgrind: prints the rows."""
    gc.disable()
    logging.disable()  # callgrind is slow, and the units stay open for so long that it is told
    if door == "threads":
        rows = list(_threads(Path(folder), url, driver, int(times), others=bool(others)))
    else:
        rows = asyncio.run(_tasks(Path(folder), url, f"{driver}, asyncio", driver, int(times), others=bool(others)))
    print(json.dumps(rows))
