"""The driver with threads: results, errors, interrupts, and that every generator is drained."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any

import pytest
from tests.histories.world import BodyFailed, Lost, World, _Runner

from polysession._core.attempts import attempt_steps
from polysession._core.scope import enter_steps, leave_steps
from polysession._core.steps import Body, Close, Commit, Open, Rollback
from polysession._shell.drive import drive
from polysession.errors import CommitUnknown
from polysession.facts import Outcome
from polysession.options import UnitOptions
from polysession.policy.retry import Backoff

from .driver import interrupt_at

FILES = ("_core/scope.py", "_shell/drive.py", "_core/attempts.py")


def conversation(said: list[Any]) -> Generator[Any, Any, str]:
    """Asks twice and cleans up, as the core does."""
    try:
        said.append((yield "first"))
        said.append((yield "second"))
    except BaseException as error:
        said.append(error)
        said.append((yield "clean up"))
        raise
    return "result"


def test_answers_go_in_and_the_result_comes_out() -> None:
    """Each step's answer is sent, the generator's result is returned."""
    said: list[Any] = []
    assert drive(conversation(said), lambda step: step.upper()) == "result"
    assert said == ["FIRST", "SECOND"]


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit, StopIteration, GeneratorExit])
@pytest.mark.parametrize("at", ["first", "second"])
def test_an_error_goes_in_and_comes_out_as_it_is(kind: type[BaseException], at: str) -> None:
    """Also errors that mean something to generators themselves; the clean-up runs, the generator is drained."""
    said: list[Any] = []
    error = kind("no")

    def perform(step: str) -> str:
        if step == at:
            raise error
        return step

    steps = conversation(said)
    with pytest.raises(kind) as caught:
        drive(steps, perform)
    assert caught.value is error
    assert said[-1] == "clean up"
    assert inspect.getgeneratorstate(steps) == inspect.GEN_CLOSED


@pytest.mark.parametrize("kind", [StopIteration, GeneratorExit])
def test_a_body_may_raise_what_generators_raise(kind: type[BaseException]) -> None:
    """`next()` on an empty result inside of `run` leaves as it would leave a function; the session is closed."""
    world = World({})
    error = kind()

    def body(session: Any) -> None:
        raise error

    world.body = body
    runner = _Runner(world, "one", UnitOptions(databases=("a",)))
    with pytest.raises(kind) as caught:
        drive(attempt_steps(runner, Backoff(), deadline_at=None), world.perform)
    assert caught.value is error
    assert [type(step) for step, _ in world.log][:4] == [Open, Body, Rollback, Close]
    assert runner.scopes[-1].outcome is Outcome.ROLLED_BACK


def test_an_error_in_the_clean_up_leaves_with_its_context() -> None:
    """What goes wrong later does not hide where it began."""

    def perform(step: str) -> None:
        raise KeyError(step)

    with pytest.raises(KeyError, match="clean up") as caught:
        drive(conversation([]), perform)
    assert isinstance(caught.value.__context__, KeyError)


def entered(world: World, *databases: str) -> Any:
    """A scope with a session that is in use."""
    scope = world.unit("one", *databases, atomic=False).scope
    drive(enter_steps(scope), world.perform)
    world.work(scope.holding, "one")
    return scope


@pytest.mark.parametrize("databases", [("a",), ("a", "b")])
@pytest.mark.parametrize("error", [None, ValueError("body")], ids=["commits", "fails"])
def test_an_interrupt_between_any_two_lines_of_the_core_closes_the_session(
    databases: tuple[str, ...], error: Exception | None
) -> None:
    """Wherever it comes, the session is closed and the outcome is true, unless the core had not even begun."""
    number, interrupted, begun = 0, True, 0
    while interrupted:
        number += 1
        world = World({})
        scope = entered(world, *databases)

        def leave(world: World = world, scope: Any = scope) -> None:
            drive(leave_steps(scope, error), world.perform)

        interrupted = interrupt_at(number, FILES, leave)
        steps = [type(step) for step, _ in world.log[1:]]
        if not steps:
            assert scope.outcome is None, "nobody may believe that it ended"
            continue
        begun += 1
        assert 1 <= steps.count(Close) <= 2, f"line {number}: {steps}"
        rows = ["one" in world.durable.get(name, ()) for name in databases]
        if interrupted and scope.outcome is Outcome.COMMITTED:
            assert all(rows)
        elif scope.outcome is Outcome.ROLLED_BACK:
            assert not any(rows)
        else:
            assert scope.outcome is (Outcome.UNKNOWN if interrupted else Outcome.COMMITTED)
    assert begun > 10


@pytest.mark.parametrize("fails", [False, True], ids=["commits", "fails"])
def test_an_interrupt_between_any_two_lines_of_an_attempt_closes_the_session(fails: bool) -> None:
    """The same for a repeatable unit: what was opened is closed and noted as ended."""
    number, interrupted = 0, True
    while interrupted:
        number += 1
        world = World({})

        def body(session: Any, world: World = world) -> None:
            world.work(session, "one")
            if fails:
                raise BodyFailed

        world.body = body
        runner = _Runner(world, "one", UnitOptions(databases=("a",)))

        def run(world: World = world, runner: _Runner = runner) -> None:
            with suppress(BodyFailed):
                drive(attempt_steps(runner, Backoff(), deadline_at=None), world.perform)

        interrupted = interrupt_at(number, FILES, run)
        assert not runner.open, f"line {number}"
        closes = [step.holding for step, _ in world.log if isinstance(step, Close)]
        assert set(closes) == set(world.sessions), f"line {number}: {world.log}"
        assert world.durable.get("a", []).count("one") <= 1
    assert number > 40


def test_a_commit_that_was_interrupted_is_not_reported_as_rolled_back() -> None:
    """The database has committed, the answer was lost: the outcome is unknown and the connection thrown away."""
    world = World({})
    scope = entered(world)

    def perform(step: Any) -> Any:
        answer = world.perform(step)
        if isinstance(step, Commit):
            raise Lost
        return answer

    with pytest.raises(CommitUnknown):
        drive(leave_steps(scope, None), perform)
    assert scope.outcome is Outcome.UNKNOWN
    assert world.log[-1] == (Close(scope.holding, broken=True), None)
    assert world.durable == {"a": ["one"]}


def test_a_generator_that_was_driven_says_nothing_at_its_end() -> None:
    """Nothing is left for the garbage collector to complain about."""

    def failing(step: Any) -> Any:
        raise OSError

    def scenes() -> list[Callable[[], Any]]:
        world = World({})
        return [
            lambda: drive(enter_steps(world.unit("x").scope), failing),
            lambda: drive(leave_steps(entered(world), None), failing),
            lambda: drive(leave_steps(entered(world), KeyboardInterrupt()), failing),
        ]

    for scene in scenes():
        with suppress(OSError):
            scene()
