"""Ends that must come: what goes on although its caller was cancelled, for a bounded time, and is then ended by force.

A cancellation can come again and again (a scope of anyio repeats it at every step of the loop), and each one would
interrupt the clean-up after the one before. So what has to be finished runs in a task of its own; its caller waits, and
remembers the first cancellation. When the time is up the link to the server is broken, which ends every wait for an
answer; if that does not help the task is cancelled, and if that does not help either nobody waits for it any more.
"""

from __future__ import annotations

import asyncio
import sys
import types
import weakref
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

from greenlet import getcurrent
from sqlalchemy import util

from .parting import Link, gone, link_of
from .severing import sever

__all__ = ["GRACE", "End", "await_end", "finishing", "hear", "heard", "to_its_end", "uninterrupted"]

T = TypeVar("T")

GRACE = 5.0
"""Seconds that an end may take: a clean-up, or a COMMIT whose caller was cancelled or whose deadline has passed."""
_LAST = 1.0
"""Seconds between the breaking of a link, the cancelling of what still waits, and no longer waiting for it."""

_EXPECTED: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
"""Tasks whose cancellation comes with what they await next."""

End = tuple[Any, BaseException | None, asyncio.CancelledError | None]


async def to_its_end(
    work: Coroutine[Any, Any, Any], *, within: float | None = None, give_up: Callable[[], object] | None = None
) -> End:
    """Run `work` in a task of its own: its result or its error, and the cancellation that came meanwhile.

    It may take `within` seconds (None: no limit), or `GRACE` seconds after a cancellation; then `give_up` is called,
    which should make it fail at once. Soon after that it is cancelled, and then left alone; its error is a
    `TimeoutError` then.
    """
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)
    cancelled: asyncio.CancelledError | None = None
    until = None if within is None else loop.time() + within
    orders = [task.cancel] if give_up is None else [give_up, task.cancel]
    while not task.done():
        try:
            await _over(task, loop, until)
        except asyncio.CancelledError as raised:
            if cancelled is None:
                cancelled = raised
                soon = loop.time() + GRACE
                until = soon if until is None else min(until, soon)
        if until is not None and loop.time() >= until and not task.done():
            if not orders:
                task.add_done_callback(_forget)
                return None, TimeoutError("the end did not come in time, and could not be forced"), cancelled
            orders.pop(0)()
            until = loop.time() + _LAST
    if task.cancelled():
        # if it was by us, a caller that nobody has cancelled must not be told so
        forced = TimeoutError("the end did not come in time, and was forced")
        return None, cancelled or (asyncio.CancelledError() if orders else forced), cancelled
    failure = task.exception()
    return (None, failure, cancelled) if failure is not None else (task.result(), None, cancelled)


async def _over(task: asyncio.Task[Any], loop: asyncio.AbstractEventLoop, until: float | None) -> None:
    """Wait for the end of a task, or until a point in time: `asyncio.wait` of one task, in a third of its calls."""
    told: asyncio.Future[None] = loop.create_future()

    def tell(_: object = None) -> None:
        if not told.done():
            told.set_result(None)

    task.add_done_callback(tell)
    timer = None if until is None else loop.call_at(until, tell)
    try:
        await told
    finally:
        task.remove_done_callback(tell)
        if timer is not None:
            timer.cancel()


def _forget(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()  # nobody is left to be told


def uninterrupted(end: Callable[[Any], None], *, closes: bool) -> Callable[[Any], None]:
    """`end(connection)`, a method of an asyncio dialect, so that a cancellation does not interrupt it.

    If it `closes` the connection, the server has done so too when it returns (`parting`). The cancellation comes again
    with what is awaited next: SQLAlchemy would take it for a failure of the end.
    """

    def ended(connection: Any) -> None:
        if not getattr(getcurrent(), "__sqlalchemy_greenlet_provider__", False):
            end(connection)  # the garbage collector calls: nothing can be awaited
            return
        driver = getattr(connection, "driver_connection", None)
        link = link_of(driver) if closes else None
        await_end(_ended(end, connection, link), lambda: sever(driver))

    return ended


def await_end(work: Coroutine[Any, Any, Any], give_up: Callable[[], object], *, within: float | None = None) -> Any:
    """Await `work` from synchronous code below SQLAlchemy, for the grace or `within` seconds.

    No cancellation interrupts it. The cancellation comes again with what is awaited next; or soon after that, if an
    earlier one is on its way to the caller, and not at all if the block for which it was meant has ended by then.
    """
    is_told = _is_cancelling(sys.exception())
    end = to_its_end(work, within=GRACE if within is None else within, give_up=give_up)
    (value, error, cancelled), is_told_above = util.await_only(_noticing(end))
    if cancelled is not None:
        _once_more(cancelled, soon=is_told or is_told_above)
    if error is not None:
        raise error
    return value


async def _noticing(end: Coroutine[Any, Any, End]) -> tuple[End, bool]:
    """The end, and whether it is part of a clean-up in the coroutines that wait for this one.

    What they handle cannot be seen in the greenlet that they have started.
    """
    is_told = _is_cancelling(sys.exception())
    return await end, is_told


def _is_cancelling(handled: BaseException | None) -> bool:
    while handled is not None and not isinstance(handled, asyncio.CancelledError):
        handled = handled.__context__
    return handled is not None


async def _ended(end: Callable[[Any], None], connection: Any, link: Link | None) -> None:
    if link is None:
        await util.greenlet_spawn(end, connection)
        return
    try:
        await util.greenlet_spawn(end, connection)
        await gone(link)
    finally:
        link.close()


def _once_more(cancelled: asyncio.CancelledError, *, soon: bool) -> None:
    task = asyncio.current_task()
    assert task is not None
    count = task.cancelling()

    def again() -> None:
        if task.cancelling() >= count and not task.done():
            task.uncancel()  # it is the same cancellation: whoever counts them counts one
            task.cancel(*cancelled.args[:1])  # by its message anyio knows whether it is its own

    if soon:
        # a cancellation that is asked for at once outlives the block for which it was meant, if that ends meanwhile
        asyncio.get_running_loop().call_soon(again)
    else:
        again()
        _EXPECTED.add(task)


def hear() -> None:
    """Let a cancellation that came while an end could not be interrupted come out here, below asyncio's session.

    Without it the cancellation would wait for what its task awaits next, though the block for which it was meant may
    have ended by then. Does nothing without one.
    """
    if not _EXPECTED:
        return
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return
    if task in _EXPECTED and getattr(getcurrent(), "__sqlalchemy_greenlet_provider__", False):
        util.await_only(heard())


async def heard() -> None:
    """As `hear`, in a coroutine."""
    task = asyncio.current_task()
    if task is not None and task in _EXPECTED:
        _EXPECTED.discard(task)
        await asyncio.sleep(0)


@types.coroutine
def finishing(work: Coroutine[Any, Any, T], give_up: Callable[[], object]) -> Generator[Any, Any, T]:
    """Await `work`. If it is cancelled it is told so once, and what it does then is not interrupted any more."""
    value: Any = None
    error: BaseException | None = None
    while True:
        try:
            waited = work.send(value) if error is None else work.throw(error)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]  # it is the coroutine's result
        try:
            value, error = (yield waited), None
        except asyncio.CancelledError as cancelled:
            return (yield from _finished(work, cancelled, give_up).__await__())
        except BaseException as thrown:
            value, error = None, thrown


async def _finished(work: Coroutine[Any, Any, T], thrown: BaseException, give_up: Callable[[], object]) -> T:
    value, error, _ = await to_its_end(_resumed(work, thrown), within=GRACE, give_up=give_up)
    if error is not None:
        raise error
    return value  # type: ignore[no-any-return]  # it is the coroutine's result


async def _resumed(work: Coroutine[Any, Any, T], thrown: BaseException) -> T:
    """Throw into `work`, which was begun in another task, and await the rest of it."""
    return await _rest(work, thrown)


@types.coroutine
def _rest(work: Coroutine[Any, Any, T], error: BaseException | None) -> Generator[Any, Any, T]:
    value: Any = None
    while True:
        try:
            waited = work.send(value) if error is None else work.throw(error)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]  # it is the coroutine's result
        try:
            value, error = (yield waited), None
        except BaseException as thrown:
            value, error = None, thrown
