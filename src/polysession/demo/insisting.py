"""How a terminal goes on where things break: until its transaction was done once.

With exact outcomes `run` repeats what has not committed. What is left is a unit whose outcome could not be found out in
time, because the server was away or the task was cancelled: it is asked for by its id until it is known.

Without exact outcomes nobody knows, and the terminal does what is usual: what failed is taken for rolled back, and is
done again. This is the control: it does work twice.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from ..errors import CommitUnknown
from ..facts import Outcome, outcome_of, unit_id_of
from ..sessions import Sessions
from ..sessions_async import AsyncSessions
from .plan import Plan
from .stage import Turn

__all__ = ["RETRY", "insist", "insist_async"]

RETRY = 100
"""Attempts of a unit. Of 64 terminals on 6 warehouses one New-Order in a thousand needs more than 20."""


def insist(sessions: Sessions, plan: Plan, turn: Turn, notes: Counter[str]) -> None:
    """Do it until it was done once, as far as one can tell."""
    while True:
        try:
            sessions.run(turn.attempt, turn.database, **_asked(plan, turn))
        except CommitUnknown as error:
            outcome, unit_id = Outcome.UNKNOWN, unit_id_of(error)
            while unit_id is not None and outcome is Outcome.UNKNOWN:
                notes["asked again"] += 1
                outcome = sessions.outcome(unit_id, turn.database)
            if _is_done(outcome, notes):
                return
        else:
            return


async def insist_async(
    sessions: AsyncSessions, plan: Plan, turn: Turn, notes: Counter[str], running: set[asyncio.Task[Any]]
) -> None:
    """The same in a task of its own, which can be cancelled while it is in `running`."""

    async def once() -> BaseException | None:
        try:
            await sessions.run(turn.attempt_async, turn.database, **_asked(plan, turn))
        except (CommitUnknown, asyncio.CancelledError) as error:
            return error
        return None

    while True:
        task = asyncio.create_task(once())
        running.add(task)
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError:  # the terminal is to end, and its transaction with it
            task.cancel()
            await asyncio.wait((task,))
            raise
        finally:
            running.discard(task)
        error = None if task.cancelled() else task.result()
        if error is None and not task.cancelled():
            return
        outcome = outcome_of(error) if error is not None else None  # None: it had not begun
        unit_id = unit_id_of(error) if error is not None else None
        while unit_id is not None and outcome is Outcome.UNKNOWN:
            notes["asked again"] += 1
            outcome = await sessions.outcome(unit_id, turn.database)
        if _is_done(outcome, notes):
            return


def _asked(plan: Plan, turn: Turn) -> dict[str, Any]:
    return {"retry": RETRY, "isolation": turn.isolation, "name": turn.kind.value, "outcome": plan.outcome}


def _is_done(outcome: Outcome | None, notes: Counter[str]) -> bool:
    """Whether it has committed; one that nobody knows of is taken for rolled back."""
    notes["taken for rolled back"] += outcome is Outcome.UNKNOWN
    return outcome is Outcome.COMMITTED
