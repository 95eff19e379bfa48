"""A unit of asyncio whose work is done by one thread: from its body to the return of its connection.

The steps stay the core's, and the driver of asyncio performs those before and after. In between, `in_parts` hands the
generator itself to a thread, which goes on with it until a step comes that it does not perform; so a unit is sent to a
thread and back once, however many statements it has. What the thread does there is what the synchronous door does.

It needs a driver whose connections can be used by a thread without an event loop: aiosqlite's (`sqlite_async`). Where
no connection is idle the task waits for one, in the pool's queue, before it goes to the thread; so threads do not wait
for each other, and there are no more of them than connections.

A cancellation of the task, and its deadline, interrupt what SQLite does and let the unit do no more; then the task
waits for the thread, which cannot be left: the unit has ended when the cancellation is raised. Once COMMIT is next, it
is not interrupted any more.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sqlalchemy import orm, util
from sqlalchemy.engine import Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from .._core.scope import Scope
from .._core.steps import Body, Classify, Close, Commit, Draw, Flush, Open, Rollback, Steps
from . import workers
from .drive_async import Shielded
from .engines import EngineRoom
from .finish import Finish
from .grace import GRACE, End
from .guard import holding_of, session_of_unit
from .holding import Holding
from .standing import owner_key
from .timer import Timer

if TYPE_CHECKING:
    from .attempts import Attempts
    from .door import Door
    from .pool import FairPool

__all__ = ["make_session", "takes", "with_thread"]

T = TypeVar("T")

_AGAIN: Final = 0.05
"""Seconds after which a thread is interrupted once more that has not ended: it was between two statements."""


def takes(engine: Engine) -> bool:
    """A thread can do the work of a unit on this engine, which is of our making."""
    if engine.dialect.driver != "aiosqlite":
        return False
    from . import sqlite_async  # whoever uses servers needs none of it

    return sqlite_async.is_known()


def _takes_unit(door: Door, step: Open) -> bool:
    """A thread can do the work of this unit, from its body to its end."""
    options = step.scope.options
    if not step.transaction or options.exact or len(options.databases) > 1:
        return False
    (part,) = door._plan_of(step.scope, step.transaction).parts
    made = door._ready_engines.engine(part.endpoint, part.kind)
    engine = made.sync_engine if isinstance(made, AsyncEngine) else made
    return EngineRoom.is_ours(engine) and takes(engine)


class Seat:
    """A step: see to it that the session has its connection, or will find one."""

    __slots__ = ("session",)

    def __init__(self, session: orm.Session) -> None:
        self.session = session

    def perform(self) -> Any:
        """An awaitable if there is something to wait for."""
        holding = holding_of(self.session)
        assert holding is not None
        assert holding.only is not None
        pool: FairPool = holding.only.pool  # type: ignore[assignment]  # of an engine of our making
        seats = pool.room.seats
        if seats.has_idle(pool.kind):
            return None
        # past our own method, for which whoever takes the connection out keeps it
        return util.greenlet_spawn(orm.Session.connection, self.session)


def make_session(holding: Holding, keywords: dict[str, Any]) -> orm.Session:
    """The session of a unit whose work a thread does."""
    return session_of_unit(holding, holding.only, keywords)


def with_thread(
    door: Door,
    steps: Steps[T],
    perform: Callable[[Any], Any],
    work: Callable[[orm.Session], Any],
    attempts: Attempts,
    timer: Timer,
) -> tuple[Generator[Any, Any, T], Callable[[Any], Any]]:
    """The steps of a repeatable unit, and what performs them, so that a thread calls `work` where one can do it."""

    def body(session: orm.Session) -> Any:
        value = work(session)
        if attempts.deadline_at is not None:
            attempts.refuse_late()
        return value

    def performed(step: Any) -> Any:
        kind = type(step)
        if kind is Open:
            return door._open(step.scope, step.transaction, _takes_unit(door, step))
        if kind is Seat:
            return step.perform()
        if kind is Part:
            return step.begin(body, perform, timer)
        return perform(step)

    return in_parts(steps, door._left), performed


def in_parts(steps: Steps[T], forget: Callable[[Scope], None]) -> Generator[Any, Any, T]:
    """As `steps`; what a thread can do of them is one step, a `Part`, after a `Seat`. `forget` a unit that has ended
    there: what the thread has changed of its context is not seen here."""
    try:
        step: Any = next(steps)
        while True:
            session = step.session if type(step) is Body else None
            if isinstance(session, orm.Session):
                try:
                    yield Seat(session)
                except BaseException as raised:
                    step = steps.throw(raised)
                    continue
                part = Part(steps, step)
                try:
                    yield part
                except BaseException as raised:
                    if part.is_begun:
                        raise  # nobody waits any more; the thread ends the unit by itself
                    step = steps.throw(raised)
                else:
                    step = part.taken_step(forget)
                continue
            try:
                value = yield step
            except BaseException as raised:
                step = steps.throw(raised)
            else:
                step = steps.send(value)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]  # it is the generator's result


class Part:
    """A step: the steps that a thread performs, from this one on."""

    __slots__ = (
        "_cancelled",
        "_ending",
        "_error",
        "_forced_at",
        "_is_done",
        "_lock",
        "_loop",
        "_perform",
        "_scope",
        "_step",
        "_steps",
        "_timer",
        "_waiter",
        "_work",
        "holding",
        "is_begun",
    )

    def __init__(self, steps: Steps[Any], first: Body) -> None:
        self._steps = steps
        self._step: Any = first
        holding = holding_of(first.session)
        assert holding is not None
        self.holding: Holding = holding
        self._scope: Scope = holding.scope
        self._error: BaseException | None = None
        self.is_begun = self._is_done = False
        self._lock = threading.Lock()
        self._ending = self._cancelled = False
        """Its end has begun; it may do no more. COMMIT goes out only if the first was there before the second."""
        self._waiter: asyncio.Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._forced_at = 0.0
        """When an end is interrupted too."""

    def begin(self, work: Callable[[Any], Any], perform: Callable[[Any], Any], timer: Timer) -> Shielded:
        """Let a thread call `work(session)` and perform the steps behind it; the others of its kind by `perform`."""
        self._work, self._perform, self._timer = work, perform, timer
        return Shielded(self._run(), is_patient=True)

    def taken_step(self, forget: Callable[[Scope], None]) -> Any:
        """The step that the thread does not perform. Raises what has left the generator."""
        if self._scope.outcome is not None:
            forget(self._scope)
        error, self._error = self._error, None
        try:
            if error is not None:
                raise error
        finally:
            del error  # no circle of this frame and the error's traceback
        return self._step

    # -- in the loop

    async def _run(self) -> End:
        loop = self._loop = asyncio.get_running_loop()
        cancelled: asyncio.CancelledError | None = None
        self._timer.start()
        try:
            run = contextvars.copy_context().run
            workers.begin(lambda: run(self._go_on), self._tell)
            self.is_begun = True
            while not self._is_done:
                self._waiter = loop.create_future()
                try:
                    await self._waiter
                except asyncio.CancelledError as raised:
                    if self._ending and await self._timer.take_back():
                        continue  # it is in time: its end is not cut short
                    if cancelled is None:
                        cancelled = raised
                        self._interrupt()
        except GeneratorExit:
            self._interrupt()
            raise
        finally:
            self._waiter = None
            self._timer.stop()
        return None, None, cancelled

    def _tell(self) -> None:
        """In the thread: it is free again."""
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(self._done)
        except RuntimeError:
            pass  # the loop is closed, and nobody waits

    def _done(self) -> None:
        self._is_done = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _interrupt(self) -> None:
        """Let the unit do no more, unless it commits just now."""
        assert self._loop is not None
        with self._lock:
            if not self._ending:
                self._cancelled = True
                self.holding.seen.lose(self.holding.seen.lost or asyncio.CancelledError())
        self._forced_at = self._loop.time() + GRACE
        self._press()

    def _press(self) -> None:
        loop = self._loop
        assert loop is not None
        if self._is_done or loop.is_closed():
            return
        if not self._ending or loop.time() >= self._forced_at:
            self.holding.interrupt()
        loop.call_later(_AGAIN, self._press)

    # -- in the thread

    def _go_on(self) -> None:
        self.holding.take_over()
        self._scope.owner = owner_key()
        step = self._step
        try:
            while (performer := _PERFORMERS.get(type(step))) is not None:
                try:
                    value = performer(self, step)
                except BaseException as raised:
                    step = self._steps.throw(_as_of_a_coroutine(raised))
                else:
                    step = self._steps.send(value)
            self._step = step
        except BaseException as ended:
            self._error = ended  # or a StopIteration, which has the result

    def _body(self, step: Body) -> Any:
        if self._cancelled:
            self.holding.seen.refuse_commit()  # it was cancelled before a thread was free
        return self._work(step.session)

    def _flush(self, step: Flush) -> None:
        Finish.flush(step.holding)

    def _commit(self, step: Commit) -> None:
        with self._lock:
            self._ending = True
            if self._cancelled:
                step.holding.seen.refuse_commit()
        Finish.commit(step.holding, step.database)

    def _roll_back(self, step: Rollback) -> None:
        self._ending = True
        Finish.rollback(step.holding)

    def _close(self, step: Close) -> None:
        self._ending = True
        Finish.close(step.holding, step.broken)

    def _plain(self, step: Any) -> Any:
        return self._perform(step)


_PERFORMERS: Final[dict[type, Callable[[Part, Any], Any]]] = {
    Body: Part._body,
    Flush: Part._flush,
    Commit: Part._commit,
    Rollback: Part._roll_back,
    Close: Part._close,
    Classify: Part._plain,
    Draw: Part._plain,
}
"""The steps that a thread performs."""


def _as_of_a_coroutine(raised: BaseException) -> BaseException:
    """What a coroutine raises in place of an error by which a generator would be ended (PEP 479)."""
    if not isinstance(raised, StopIteration | GeneratorExit):
        return raised
    error = RuntimeError(f"the work of the unit raised {type(raised).__name__}")
    error.__cause__ = raised
    return error
