"""Many terminals at once through the public doors: fill, run, check, remove; with threads or with tasks.

`run_threads` and `run_async` differ in their verbs only; everything else is in `stage`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from functools import partial
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from ..sessions import Sessions
from ..sessions_async import AsyncSessions
from .faults import Faults
from .insisting import RETRY, insist, insist_async
from .plan import Plan
from .stage import Outcome, Stage, Turn, Watcher

__all__ = ["run_async", "run_threads"]

_TICK: Final = 0.25
"""Seconds between two reports of progress."""


def run_threads(plan: Plan, sessions: Sessions, watcher: Watcher, faults: Faults | None = None) -> Outcome:
    """One run with a thread for each terminal, while `faults` break things. Ctrl-C ends it as soon as the open units
    have ended."""
    stage = Stage(plan, watcher)
    try:
        for database in plan.databases:
            watcher.phase(f"filling {database}")
            for step in stage.loading(database):
                with sessions.begin(database) as session:
                    step(session)
        watcher.phase("running")
        breaking = faults.among(lambda: stage.tally.done) if faults is not None else nullcontext()
        with breaking, ThreadPoolExecutor(plan.sessions, thread_name_prefix="terminal") as threads:
            try:
                stage.start()
                _await_threads(
                    stage, sessions, {threads.submit(_terminal, sessions, stage, n) for n in range(plan.sessions)}
                )
            finally:
                stage.end()  # otherwise Ctrl-C would wait for the terminals' full time
        watcher.phase("checking")
        for database in plan.databases:
            if plan.faults:  # connections that were broken are still in the pool
                sessions.run(partial(stage.examine, database), database)
            else:
                with sessions.read(database, snapshot=True) as session:
                    stage.examine(database, session)
    finally:
        if not plan.keep:
            for database in plan.databases:
                sessions.run(stage.drop, database)
    return stage.outcome(faults)


def _await_threads(stage: Stage, sessions: Sessions, running: set[Future[None]]) -> None:
    while running:
        done, running = wait(running, timeout=_TICK)
        stage.tick(len(sessions.held()))
        for terminal in done:
            terminal.result()


def _terminal(sessions: Sessions, stage: Stage, number: int) -> None:
    for inputs in stage.draws(number):
        with Turn(stage, inputs) as turn:
            if stage.plan.faults:
                insist(sessions, stage.plan, turn, stage.notes)
            elif turn.reads:
                with sessions.read(turn.database, snapshot=True, name=turn.kind.value) as session:
                    turn.attempt(session)
            else:
                sessions.run(
                    turn.attempt,
                    turn.database,
                    retry=RETRY,
                    isolation=turn.isolation,
                    outcome=stage.plan.outcome,
                    name=turn.kind.value,
                )


async def run_async(plan: Plan, sessions: AsyncSessions, watcher: Watcher, faults: Faults | None = None) -> Outcome:
    """One run with a task for each terminal, while `faults` break things. Cancelling it cancels the terminals and waits
    for them."""
    stage = Stage(plan, watcher)
    running: set[asyncio.Task[Any]] = set()
    try:
        for database in plan.databases:
            watcher.phase(f"filling {database}")
            for step in stage.loading(database):
                async with sessions.begin(database) as session:
                    await session.run_sync(step)
        watcher.phase("running")
        stage.start()
        with faults.among(lambda: stage.tally.done) if faults is not None else nullcontext():
            async with asyncio.TaskGroup() as tasks:
                cancelling = tasks.create_task(faults.cancel(running)) if faults is not None else None
                terminals = {
                    tasks.create_task(_terminal_async(sessions, stage, n, running)) for n in range(plan.sessions)
                }
                await _await_tasks(stage, sessions, terminals)
                if cancelling is not None:
                    cancelling.cancel()
        stage.end()
        watcher.phase("checking")
        for database in plan.databases:
            if plan.faults:  # as above
                await sessions.run(partial(_in, partial(stage.examine, database)), database)
            else:
                async with sessions.read(database, snapshot=True) as session:
                    await session.run_sync(partial(stage.examine, database))
    finally:
        if not plan.keep:
            for database in plan.databases:
                await sessions.run(partial(_in, stage.drop), database)
    return stage.outcome(faults)


async def _in(work: Callable[[Session], None], session: AsyncSession) -> None:
    await session.run_sync(work)


async def _await_tasks(stage: Stage, sessions: AsyncSessions, running: set[asyncio.Task[None]]) -> None:
    while running:
        _, running = await asyncio.wait(running, timeout=_TICK)
        stage.tick(len(sessions.held()))


async def _terminal_async(sessions: AsyncSessions, stage: Stage, number: int, running: set[asyncio.Task[Any]]) -> None:
    for inputs in stage.draws(number):
        with Turn(stage, inputs) as turn:
            if stage.plan.faults:
                await insist_async(sessions, stage.plan, turn, stage.notes, running)
            elif turn.reads:
                async with sessions.read(turn.database, snapshot=True, name=turn.kind.value) as session:
                    await turn.attempt_async(session)
            else:
                await sessions.run(
                    turn.attempt_async,
                    turn.database,
                    retry=RETRY,
                    isolation=turn.isolation,
                    outcome=stage.plan.outcome,
                    name=turn.kind.value,
                )
