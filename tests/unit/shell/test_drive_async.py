"""The driver with asyncio: cancellation in plain and in shielded steps, repeated, late, and closing instead of it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Generator
from typing import Any

import pytest
from tests.histories.world import BodyFailed, Lost, Refused, World, _Runner

from polysession._core.attempts import attempt_steps
from polysession._core.scope import enter_steps, leave_steps
from polysession._core.steps import Body, Close, Commit, Flush, Pause, Rollback
from polysession._shell import grace as module
from polysession._shell.drive_async import Shielded, drive_async
from polysession.errors import CommitUnknown
from polysession.facts import Outcome
from polysession.options import UnitOptions
from polysession.policy.retry import Backoff

pytestmark = pytest.mark.asyncio


class Desk:
    """Performs steps as the asynchronous door does; the test says which of them wait, and lets them go on."""

    def __init__(self, *waits: type) -> None:
        self.world = World({})
        self.waits = waits
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()
        self.errors: dict[type, BaseException] = {}
        self.finished: list[str] = []

    async def _work(self, step: Any) -> Any:
        if isinstance(step, self.waits):
            self.reached.set()
            await self.go_on.wait()
        answer = self.world.perform(step)
        self.finished.append(type(step).__name__)
        if type(step) in self.errors:
            raise self.errors[type(step)]
        return answer

    def perform(self, step: Any) -> Any:
        """Answer at once, or with something to wait for."""
        if isinstance(step, (Commit, Rollback, Close)):
            return Shielded(self._work(step))
        if isinstance(step, (Flush, Body, Pause)):
            return self._work(step)
        return self.world.perform(step)

    @property
    def steps(self) -> str:
        """What was begun, in order."""
        return " ".join(type(step).__name__ for step, _ in self.world.log)

    async def entered(self) -> Any:
        """A scope whose session has work."""
        scope = self.world.unit("one").scope
        await drive_async(enter_steps(scope), self.perform)
        self.world.work(scope.holding, "one")
        return scope

    async def leaving(self, error: BaseException | None = None) -> tuple[Any, asyncio.Task[None]]:
        """The scope, and the task that leaves it and waits in the step that the test chose."""
        scope = await self.entered()
        task = asyncio.create_task(drive_async(leave_steps(scope, error), self.perform))
        await self.reached.wait()
        return scope, task


def conversation(said: list[Any]) -> Generator[Any, Any, str]:
    """Asks once and cleans up, as the core does."""
    try:
        said.append((yield "first"))
    except BaseException as error:
        said.append(error)
        said.append((yield "clean up"))
        raise
    return "result"


async def test_answers_are_plain_awaited_or_shielded() -> None:
    """Whatever a performer answers with, the generator gets the value."""

    async def later(step: str) -> str:
        return step.upper()

    for perform in (str.upper, later, lambda step: Shielded(later(step))):
        said: list[Any] = []
        assert await drive_async(conversation(said), perform) == "result"
        assert said == ["FIRST"]


@pytest.mark.parametrize("kind", [ValueError, asyncio.CancelledError, SystemError])
@pytest.mark.parametrize("shielded", [False, True])
async def test_an_error_goes_in_and_comes_out_as_it_is(kind: type[BaseException], shielded: bool) -> None:
    """The clean-up runs, the generator is drained."""
    said: list[Any] = []
    error = kind("no")

    async def work(step: str) -> str:
        if step == "first":
            raise error
        return step

    steps = conversation(said)
    with pytest.raises(kind):
        await drive_async(steps, lambda step: Shielded(work(step)) if shielded else work(step))
    assert isinstance(said[0], kind)
    assert said[-1] == "clean up"
    assert inspect.getgeneratorstate(steps) == inspect.GEN_CLOSED


async def test_an_interrupt_of_a_plain_performer_cleans_up() -> None:
    """A KeyboardInterrupt while a step is performed at once is thrown in like any error."""
    said: list[Any] = []

    def perform(step: str) -> str:
        if step == "first":
            raise KeyboardInterrupt
        return step

    with pytest.raises(KeyboardInterrupt):
        await drive_async(conversation(said), perform)
    assert said[-1] == "clean up"


async def test_a_cancelled_flush_rolls_back() -> None:
    """A plain step ends at once; the core rolls back and closes; the cancellation leaves."""
    desk = Desk(Flush)
    scope, task = await desk.leaving()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert desk.finished == ["Rollback", "Close"]
    assert scope.outcome is Outcome.ROLLED_BACK


@pytest.mark.parametrize("cancels", [1, 3])
async def test_a_cancelled_commit_is_waited_for(cancels: int) -> None:
    """However often it is cancelled: COMMIT goes on, its result counts, and then the cancellation leaves."""
    desk = Desk(Commit)
    scope, task = await desk.leaving()
    for _ in range(cancels):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    desk.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert desk.finished == ["Flush", "Commit", "Close"]
    assert scope.outcome is Outcome.COMMITTED
    assert desk.world.durable == {"a": ["one"]}


@pytest.mark.parametrize("step", [Rollback, Close])
async def test_a_cancelled_clean_up_is_waited_for(step: type) -> None:
    """Rolling back and closing are shielded, too; the cancellation replaces the error that was on its way."""
    desk = Desk(step)
    scope, task = await desk.leaving(BodyFailed())
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    desk.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert desk.finished == ["Rollback", "Close"]
    assert scope.outcome is Outcome.ROLLED_BACK


async def test_a_commit_that_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the grace the step itself is cancelled: the outcome is unknown, the connection is thrown away."""
    monkeypatch.setattr(module, "GRACE", 0.0)
    desk = Desk(Commit)
    scope, task = await desk.leaving()
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert "it is not known whether 'a' committed" in caught.value.__notes__[0]
    assert scope.outcome is Outcome.UNKNOWN
    assert desk.finished == ["Flush", "Close"]
    assert desk.world.log[-1][0] == Close(scope.holding, broken=True)


async def test_a_clean_up_that_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that does not answer holds a cancelled task for the grace at most."""
    monkeypatch.setattr(module, "GRACE", 0.0)
    desk = Desk(Rollback)
    scope, task = await desk.leaving(BodyFailed())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert scope.outcome is Outcome.ROLLED_BACK
    assert desk.world.log[-1][0] == Close(scope.holding, broken=True)


async def test_without_a_cancellation_there_is_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The grace is for those who want to leave."""
    monkeypatch.setattr(module, "GRACE", 0.0)
    desk = Desk(Commit)
    scope, task = await desk.leaving()
    for _ in range(10):
        await asyncio.sleep(0)
    desk.go_on.set()
    await task
    assert scope.outcome is Outcome.COMMITTED


@pytest.mark.parametrize(("error", "cause"), [(Lost(), CommitUnknown), (Refused(), Refused)])
async def test_a_cancellation_goes_before_the_error_of_the_commit(error: Exception, cause: type) -> None:
    """Who was cancelled ends, and the cause says how the unit ended."""
    desk = Desk(Commit)
    desk.errors[Commit] = error
    _, task = await desk.leaving()
    task.cancel()
    await asyncio.sleep(0)
    desk.go_on.set()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert isinstance(caught.value.__cause__, cause)
    assert task.cancelled()


async def test_a_step_that_cancels_itself_is_an_error_of_the_step() -> None:
    """Nobody cancelled the unit, but its COMMIT was: the outcome is unknown."""
    desk = Desk()
    desk.errors[Commit] = asyncio.CancelledError()
    scope = await desk.entered()
    with pytest.raises(asyncio.CancelledError):
        await drive_async(leave_steps(scope, None), desk.perform)
    assert scope.outcome is Outcome.UNKNOWN


async def test_a_timeout_around_a_unit_ends_it_in_its_outcome() -> None:
    """`asyncio.timeout` sees its own cancellation; the unit had committed all the same."""
    desk = Desk(Commit)
    scope = await desk.entered()

    async def bounded() -> None:
        async with asyncio.timeout(None) as limit:
            limits.append(limit)
            await drive_async(leave_steps(scope, None), desk.perform)

    limits: list[asyncio.Timeout] = []
    task = asyncio.create_task(_later(desk, limits))
    with pytest.raises(TimeoutError):
        await bounded()
    await task
    assert scope.outcome is Outcome.COMMITTED
    current = asyncio.current_task()
    assert current is not None
    assert current.cancelling() == 0


async def _later(desk: Desk, limits: list[asyncio.Timeout]) -> None:
    await desk.reached.wait()
    limits[0].reschedule(0.0)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    desk.go_on.set()


@pytest.mark.parametrize("step", [Rollback, Close])
async def test_after_a_cancellation_nothing_is_repeated(step: type) -> None:
    """A transient error and a cancellation while it is cleaned up: no further attempt is made."""
    desk = Desk(step)

    def body(session: Any) -> None:
        raise Refused

    desk.world.body = body
    runner = _Runner(desk.world, "one", UnitOptions(databases=("a",)))
    task = asyncio.create_task(drive_async(attempt_steps(runner, Backoff(), deadline_at=None), desk.perform))
    await desk.reached.wait()
    task.cancel()
    await asyncio.sleep(0)
    desk.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(runner.scopes) == 1
    assert desk.steps == "Open Body Rollback Close Classify Draw"


async def test_a_pause_ends_when_it_is_cancelled() -> None:
    """The wait before the next attempt can be interrupted."""
    desk = Desk(Pause)

    def body(session: Any) -> None:
        raise Refused

    desk.world.body = body
    runner = _Runner(desk.world, "one", UnitOptions(databases=("a",)))
    task = asyncio.create_task(drive_async(attempt_steps(runner, Backoff(), deadline_at=None), desk.perform))
    await desk.reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(runner.scopes) == 1


@pytest.mark.parametrize(
    ("step", "outcome", "finished"),
    [
        (Flush, Outcome.ROLLED_BACK, []),
        (Commit, Outcome.UNKNOWN, ["Flush", "Commit"]),
        (Rollback, Outcome.ROLLED_BACK, ["Rollback"]),
    ],
)
async def test_a_closed_coroutine_ends_without_the_server(step: type, outcome: Outcome, finished: list[str]) -> None:
    """A coroutine that is dropped can wait for nothing: the core comes to its end, and nothing is left behind."""
    desk = Desk(step)
    scope = await desk.entered()
    steps = leave_steps(scope, BodyFailed() if step is Rollback else None)
    coroutine = drive_async(steps, desk.perform)
    running = asyncio.ensure_future(_advance(coroutine))
    await desk.reached.wait()
    running.cancel()
    await asyncio.wait((running,))
    assert inspect.getgeneratorstate(steps) == inspect.GEN_CLOSED
    assert scope.outcome is outcome
    desk.go_on.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert desk.finished == finished, "what was under way in a task of its own ends there"


async def _advance(coroutine: Any) -> None:
    """Await `coroutine` as a task would, and close it when cancelled."""
    try:
        waited_for = coroutine.send(None)
        while True:
            waited_for._asyncio_future_blocking = False
            await asyncio.wait((waited_for,))
            waited_for = coroutine.send(None)
    except asyncio.CancelledError:
        coroutine.close()
        raise
