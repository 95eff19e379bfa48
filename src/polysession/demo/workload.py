"""Many terminals at once through the public doors: fill, run, check, remove; with threads or with tasks.

`run_threads` and `run_async` differ in their verbs only; everything else is in `stage`.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Final

from ..sessions import Sessions
from ..sessions_async import AsyncSessions
from .plan import Plan
from .stage import Outcome, Stage, Turn, Watcher

__all__ = ["RETRY", "run_async", "run_threads"]

RETRY: Final = 100
"""Attempts of a unit that writes. Of 64 terminals on 6 warehouses one New-Order in a thousand needs more than 20."""
_TICK: Final = 0.25
"""Seconds between two reports of progress."""


def run_threads(plan: Plan, sessions: Sessions, watcher: Watcher) -> Outcome:
    """One run with a thread for each terminal. Ctrl-C ends it as soon as the open units have ended."""
    stage = Stage(plan, watcher)
    try:
        for database in plan.databases:
            watcher.phase(f"filling {database}")
            for step in stage.loading(database):
                with sessions.begin(database) as session:
                    step(session)
        watcher.phase("running")
        with ThreadPoolExecutor(plan.sessions, thread_name_prefix="terminal") as threads:
            try:
                stage.start()
                _await_threads(
                    stage, sessions, {threads.submit(_terminal, sessions, stage, n) for n in range(plan.sessions)}
                )
            finally:
                stage.end()  # otherwise Ctrl-C would wait for the terminals' full time
        watcher.phase("checking")
        for database in plan.databases:
            with sessions.read(database, snapshot=True) as session:
                stage.examine(database, session)
    finally:
        if not plan.keep:
            for database in plan.databases:
                with sessions.begin(database) as session:
                    stage.drop(session)
    return stage.outcome()


def _await_threads(stage: Stage, sessions: Sessions, running: set[Future[None]]) -> None:
    while running:
        done, running = wait(running, timeout=_TICK)
        stage.tick(len(sessions.held()))
        for terminal in done:
            terminal.result()


def _terminal(sessions: Sessions, stage: Stage, number: int) -> None:
    for inputs in stage.draws(number):
        with Turn(stage, inputs) as turn:
            if turn.reads:
                with sessions.read(turn.database, snapshot=True, name=turn.kind.value) as session:
                    turn.attempt(session)
            else:
                sessions.run(turn.attempt, turn.database, retry=RETRY, isolation=turn.isolation, name=turn.kind.value)


async def run_async(plan: Plan, sessions: AsyncSessions, watcher: Watcher) -> Outcome:
    """One run with a task for each terminal. Cancelling it cancels the terminals and waits for them."""
    stage = Stage(plan, watcher)
    try:
        for database in plan.databases:
            watcher.phase(f"filling {database}")
            for step in stage.loading(database):
                async with sessions.begin(database) as session:
                    await session.run_sync(step)
        watcher.phase("running")
        stage.start()
        async with asyncio.TaskGroup() as tasks:
            await _await_tasks(
                stage, sessions, {tasks.create_task(_terminal_async(sessions, stage, n)) for n in range(plan.sessions)}
            )
        stage.end()
        watcher.phase("checking")
        for database in plan.databases:
            async with sessions.read(database, snapshot=True) as session:
                await session.run_sync(partial(stage.examine, database))
    finally:
        if not plan.keep:
            for database in plan.databases:
                async with sessions.begin(database) as session:
                    await session.run_sync(stage.drop)
    return stage.outcome()


async def _await_tasks(stage: Stage, sessions: AsyncSessions, running: set[asyncio.Task[None]]) -> None:
    while running:
        _, running = await asyncio.wait(running, timeout=_TICK)
        stage.tick(len(sessions.held()))


async def _terminal_async(sessions: AsyncSessions, stage: Stage, number: int) -> None:
    for inputs in stage.draws(number):
        with Turn(stage, inputs) as turn:
            if turn.reads:
                async with sessions.read(turn.database, snapshot=True, name=turn.kind.value) as session:
                    await turn.attempt_async(session)
            else:
                await sessions.run(
                    turn.attempt_async, turn.database, retry=RETRY, isolation=turn.isolation, name=turn.kind.value
                )
