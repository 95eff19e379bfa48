"""The driver with asyncio: performs the core's steps, and is the one place that handles cancellation.

A cancellation that comes while a step may be interrupted is thrown into the core, which cleans up. One that comes
while a shielded step runs (flush is not; commit, rollback and close are) is remembered: the step goes on in a task of
its own, for at most `GRACE` seconds; then it is cancelled itself and its connection is given up. A remembered
cancellation ends the next step that may be interrupted, so that nothing is repeated after it. At the latest it is
raised when the core has finished, so what was committed is known to be committed. It goes before an error of the unit,
which is then its cause: a swallowed cancellation would keep a task from ending.

A coroutine that is closed instead of cancelled (its loop has ended, nobody awaits it) can wait for nothing any more.
The core is told so and ends without the server; the pool throws the connection away.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from .._core.steps import Steps
from .drive import Closing

__all__ = ["GRACE", "Shielded", "drive_async"]

T = TypeVar("T")

GRACE = 5.0
"""Seconds that a shielded step may go on after its caller was cancelled."""


class Shielded:
    """A performer's answer: this must run to its end even if the caller is cancelled."""

    __slots__ = ("work",)

    def __init__(self, work: Coroutine[Any, Any, Any]) -> None:
        self.work = work


async def drive_async(steps: Steps[T], perform: Callable[[Any], Any]) -> T:
    """Perform `steps` to their end and answer their result; the generator is always drained.

    `perform` answers a plain value, an awaitable, or `Shielded` work.
    """
    value: Any = None
    error: BaseException | None = None
    cancelled: asyncio.CancelledError | None = None
    closed: GeneratorExit | None = None
    while True:
        try:
            if error is None:
                step = steps.send(value)
            else:
                thrown, error = error, None
                step = steps.throw(thrown)
            value = perform(step)
            if (closed is not None or (cancelled is not None and not isinstance(value, Shielded))) and _discard(value):
                raise cancelled or Closing()
            if isinstance(value, Shielded):
                value, error, late = await _to_its_end(value.work)
                cancelled = cancelled or late
            elif isinstance(value, Awaitable):
                value = await value
        except BaseException as raised:
            if inspect.getgeneratorstate(steps) == inspect.GEN_CLOSED:
                if closed is not None:
                    raise closed from None
                if cancelled is not None and isinstance(raised, Exception):
                    raise cancelled from (None if isinstance(raised, StopIteration) else raised)
                if isinstance(raised, StopIteration):
                    return raised.value  # type: ignore[no-any-return]  # it is the generator's result
                raise
            error = raised
            if isinstance(raised, GeneratorExit):
                closed, error = raised, Closing()


def _discard(answer: Any) -> bool:
    """End what nobody will wait for; False if there is nothing to wait for."""
    work = answer.work if isinstance(answer, Shielded) else answer
    if isinstance(work, asyncio.Future):
        work.cancel()
    elif isinstance(work, Coroutine):
        work.close()
    return isinstance(work, Awaitable)


_End = tuple[Any, BaseException | None, asyncio.CancelledError | None]


async def _to_its_end(work: Coroutine[Any, Any, Any]) -> _End:
    """Run `work` in a task of its own: its result or its error, and the cancellation that came meanwhile."""
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)
    cancelled: asyncio.CancelledError | None = None
    until: float | None = None
    while not task.done():
        try:
            await asyncio.wait((task,), timeout=None if until is None else max(0.0, until - loop.time()))
            if until is not None and loop.time() >= until:
                task.cancel()
                until = None
        except asyncio.CancelledError as raised:
            if cancelled is None:
                cancelled = raised
                until = loop.time() + GRACE
    if task.cancelled():
        return None, cancelled or asyncio.CancelledError(), cancelled
    failure = task.exception()
    return (None, failure, cancelled) if failure is not None else (task.result(), None, cancelled)
