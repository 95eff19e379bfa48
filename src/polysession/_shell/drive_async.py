"""The driver with asyncio: performs the core's steps, and is the one place that handles cancellation.

A cancellation that comes while a step may be interrupted is thrown into the core, which cleans up. One that comes
while a shielded step runs (flush is not; commit, rollback and close are) is remembered: the step goes on in a task of
its own, for a bounded time; then its link to the server is broken, which ends it (`grace`). A remembered cancellation
ends the next step that may be interrupted, so that nothing is repeated after it. At the latest it is raised when the
core has finished, so what was committed is known to be committed. It goes before an error of the unit, which is then
its cause: a swallowed cancellation would keep a task from ending.

A coroutine that is closed instead of cancelled (its loop has ended, nobody awaits it) can wait for nothing any more.
The core is told so and ends without the server; the pool throws the connection away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from .._core.steps import Steps
from .drive import Closing
from .grace import to_its_end

__all__ = ["Shielded", "drive_async"]

T = TypeVar("T")


class Shielded:
    """A performer's answer: this must run to its end even if the caller is cancelled.

    `within` and `give_up` are those of `to_its_end`. Work that is `is_patient` sees to all that itself: it answers what
    `to_its_end` does, and is awaited.
    """

    __slots__ = ("give_up", "is_patient", "within", "work")

    def __init__(
        self,
        work: Coroutine[Any, Any, Any],
        *,
        within: float | None = None,
        give_up: Callable[[], object] | None = None,
        is_patient: bool = False,
    ) -> None:
        self.work = work
        self.is_patient = is_patient
        self.within = within
        self.give_up = give_up


async def drive_async(steps: Steps[T], perform: Callable[[Any], Any]) -> T:
    """Perform `steps` to their end and answer their result; the generator is always drained.

    `perform` answers a plain value, an awaitable, or `Shielded` work.
    """
    value: Any = None
    error: BaseException | None = None
    thrown: BaseException | None = None
    cancelled: asyncio.CancelledError | None = None
    closed: GeneratorExit | None = None
    generator: Any = steps
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
                work, within, give_up = value.work, value.within, value.give_up
                end = work if value.is_patient else to_its_end(work, within=within, give_up=give_up)
                value, error, late = await end
                cancelled = cancelled or late
            elif hasattr(value, "__await__"):
                value = await value
        except BaseException as raised:
            thrown = None  # its traceback has this frame now: a circle
            if generator.gi_frame is None:  # it has ended
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
