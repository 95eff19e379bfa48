"""The retry loop: what is repeated, what is not, and what is said of it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from polysession._core.attempts import attempt_steps
from polysession._core.hooks import Hook, Moment
from polysession._core.scope import Scope
from polysession._core.steps import Body, Call, Classify, Close, Commit, Draw, Flush, Open, Pause, Rollback
from polysession._core.turns import Turn, Turns
from polysession.errors import CommitUnknown
from polysession.facts import Outcome
from polysession.failures import Failure, Kind, Phase
from polysession.options import Propagation
from polysession.policy.retry import Backoff
from polysession.testing import Played, play

from .test_scope import entered, failure, scope_of


class Runner:
    """What a door does around each attempt, on a record."""

    def __init__(self, outer: Scope | None = None, **options: Any) -> None:
        self.outer = outer
        self.options = options
        self.scopes: list[Scope] = []
        self.current: list[Scope] = []
        self.told: list[tuple[int, float | None]] = []
        self.hook: Hook | None = None
        self.turn = Turn(Turns(), "a key")

    def fresh(self) -> Scope:
        """A new scope."""
        self.scopes.append(scope_of(self.outer, **self.options))
        return self.scopes[-1]

    def opened(self, scope: Scope) -> str:
        """The session."""
        self.current.append(scope)
        if self.hook is not None:
            scope.hooks += (self.hook,)
        return "session"

    def ended(self, scope: Scope) -> None:
        """No more the current one."""
        if scope in self.current:
            self.current.remove(scope)

    def took(self) -> float:
        """An attempt of a second."""
        return 1.0

    def failed(self, scope: Scope, attempt: int, failure: Failure, wait: float | None) -> None:
        """Take note."""
        self.told.append((attempt, wait))


TRANSIENT = Failure(
    **{name: getattr(failure(certain=True), name) for name in ("kind", "code", "phase", "reason", "source")},
    transient=True,
    certainly_not_committed=True,
    connection_usable=True,
)
SCRIPT: dict[type, Any] = {
    Open: "holding",
    Flush: None,
    Commit: None,
    Rollback: None,
    Close: None,
    Pause: None,
    Draw: (0.5, 100.0),
    Body: "value",
    Classify: TRANSIENT,
    Call: None,
}


def run(runner: Runner, attempts: int = 3, **answers: Any) -> Played[Any]:
    """Play a repeatable unit: `run(runner, Body=[OSError, "value"])`."""
    script = {kind: answers.get(kind.__name__, usual) for kind, usual in SCRIPT.items()}
    return play(attempt_steps(runner, Backoff(attempts=attempts), deadline_at=77.0), script)


def test_a_unit_that_succeeds_runs_once() -> None:
    """Its result is what the body returned."""
    runner = Runner()
    played = run(runner)
    assert played.value() == "value"
    assert played.names == "Open Body Flush Commit Close"
    assert played.steps[1] == Body("session")
    assert (runner.current, runner.told) == ([], [])


def test_a_transient_error_is_repeated_with_a_new_session() -> None:
    """The first attempt is ended before the pause, and everything is new in the second."""
    runner = Runner()
    played = run(runner, Body=[OSError("deadlock"), "value"])
    assert played.value() == "value"
    assert played.names == "Open Body! Rollback Close Classify Draw Pause Open Body Flush Commit Close"
    assert played.steps[5] == Draw(77.0)
    assert played.steps[6] == Pause(0.01, None, 77.0)
    assert runner.scopes[0] is not runner.scopes[1]
    assert runner.told == [(1, 0.01)]
    assert runner.current == []


CLASH = msgspec.structs.replace(TRANSIENT, kind=Kind.SERIALIZATION)


def pauses(played: Played[Any]) -> list[float]:
    """The pauses of a conversation."""
    return [step.seconds for step in played.steps if isinstance(step, Pause)]


def test_a_unit_that_clashed_alone_goes_again_at_once() -> None:
    """Who beat it has ended. Beaten again, it waits as ever, from the shortest wait on; at the end it has left."""
    runner = Runner()
    played = run(runner, attempts=9, Body=[*[OSError("conflict")] * 4, "value"], Classify=CLASH)
    assert played.value() == "value"
    assert pauses(played) == [0.0, 0.01, 0.02, 0.04]
    assert [wait for _, wait in runner.told] == pauses(played)
    assert runner.turn.turns.lines == {}


def test_a_unit_that_clashed_waits_behind_those_that_did_before() -> None:
    """For its turn, and no longer than a line that stands still is worth: between one and two bounds."""
    runner = Runner()
    before = Turn(runner.turn.turns, runner.turn.key)
    assert before.clashed(1.0) == 1
    played = run(runner, Body=[OSError("conflict"), OSError("conflict"), "value"], Classify=CLASH)
    assert played.value() == "value"
    waits = [step for step in played.steps if isinstance(step, Pause)]
    assert waits == [Pause(2.03, runner.turn, 77.0), Pause(2.06, runner.turn, 77.0)]
    assert before.is_first
    assert runner.turn.turns.first(runner.turn.key) is before


@pytest.mark.parametrize("beaten", [1, 2])
def test_a_new_unit_lets_those_first_that_are_beaten_again(beaten: int) -> None:
    """Before its first attempt; inside of another unit it does not wait, since it would hold that one up."""
    for outer in (None, entered()):
        runner = Runner(outer, propagation=Propagation.REQUIRES_NEW)
        before = Turn(runner.turn.turns, runner.turn.key)
        for _ in range(beaten):
            before.clashed(1.0)
        played = run(runner)
        assert played.value() == "value"
        waits = beaten > 1 and outer is None
        assert played.names == ("Pause " if waits else "") + "Open Body Flush Commit Close"
        assert pauses(played) == ([Backoff().first + 2.0] if waits else [])
        assert runner.turn.turns.first(runner.turn.key) is before


@pytest.mark.parametrize("end", [OSError("conflict"), ValueError("mine"), KeyboardInterrupt()])
def test_however_a_unit_ends_it_leaves_the_line(end: BaseException) -> None:
    """The next one is called."""
    runner = Runner()
    called: list[int] = []
    played = run(runner, Body=[OSError("conflict"), end], Classify=[CLASH, failure(certain=True)], Pause=None)
    assert played.error is end
    assert runner.turn.turns.lines == {}

    def follow(step: Pause) -> None:
        after = Turn(runner.turn.turns, runner.turn.key)
        assert after.clashed() == 0
        assert after.await_call(lambda: called.append(1))
        runner.told.append((after, None))  # type: ignore[arg-type]  # kept alive

    run(runner, Body=[OSError("conflict"), end], Classify=[CLASH, failure(certain=True)], Pause=follow)
    assert called == [1]


def test_a_link_that_died_is_no_clash() -> None:
    """Other units are not waited for."""
    runner = Runner()
    gone = msgspec.structs.replace(TRANSIENT, kind=Kind.CONNECTION_LOST)
    played = run(runner, Body=[OSError("gone"), "value"], Classify=gone)
    assert pauses(played) == [0.01]
    assert runner.turn.turns.lines == {}


def test_an_error_at_commit_is_repeated_if_it_is_certain() -> None:
    """A serialization failure often comes with COMMIT."""
    runner = Runner()
    played = run(runner, Commit=[OSError("serialization"), None])
    assert played.value() == "value"
    assert [scope.outcome for scope in runner.scopes] == [Outcome.ROLLED_BACK, Outcome.COMMITTED]
    classified = [step for step in played.steps if isinstance(step, Classify)]
    assert [step.phase for step in classified] == [Phase.COMMIT_SENT, Phase.BODY]


def test_the_last_error_leaves_with_the_reason() -> None:
    """After the last attempt, as it is, with a note."""
    errors = [OSError(number) for number in range(3)]
    runner = Runner()
    played = run(runner, Body=errors)
    assert played.error is errors[2]
    assert errors[2].__notes__[0].startswith("polysession: unit 'outer' is not repeated: 3 of 3 attempts were made")
    assert runner.told == [(1, 0.01), (2, 0.02), (3, None)]
    assert not hasattr(errors[0], "__notes__")


def test_an_error_that_does_not_go_away_is_not_repeated() -> None:
    """Nor is it decorated: it is the caller's own."""
    runner = Runner()
    played = run(runner, Body=ValueError("mine"), Classify=failure(certain=True))
    assert isinstance(played.error, ValueError)
    assert len(runner.scopes) == 1
    assert runner.told == [(1, None)]
    assert not hasattr(played.error, "__notes__")


def test_an_unknown_outcome_is_never_repeated() -> None:
    """Whatever the policy would say."""
    runner = Runner()
    played = run(runner, Commit=OSError("gone"), Classify=[failure(certain=False), TRANSIENT])
    assert isinstance(played.error, CommitUnknown)
    assert played.error.__notes__ == [
        "polysession: unit 'outer' is not repeated: its outcome is 'unknown', and repeating it could do the work twice"
    ]
    assert len(runner.scopes) == 1


def test_a_partial_commit_is_never_repeated() -> None:
    """The part that committed would be done twice."""
    runner = Runner(databases=("a", "b"), atomic=False)
    played = run(runner, Commit=[None, OSError("serialization")])
    assert runner.scopes[0].outcome is Outcome.PARTIAL
    assert len(runner.scopes) == 1
    assert played.error is not None
    assert "its outcome is 'partial'" in played.error.__notes__[0]


def test_an_error_after_commit_is_never_repeated() -> None:
    """A close that fails does not undo the commit before it; observers are not told of a failed attempt."""
    runner = Runner()
    played = run(runner, Close=OSError("gone"))
    assert isinstance(played.error, OSError)
    assert played.error.__notes__ == ["polysession: unit 'outer' had committed before this error came"]
    assert len(runner.scopes) == 1
    assert runner.told == []


def test_a_unit_without_a_transaction_is_never_repeated() -> None:
    """Its statements that ran have committed."""
    runner = Runner(propagation=Propagation.NOT_SUPPORTED)
    played = run(runner, Body=OSError("deadlock"))
    assert played.names == "Open Body! Rollback Close Classify"
    assert len(runner.scopes) == 1


@pytest.mark.parametrize("mode", [Propagation.REQUIRED, Propagation.NESTED])
def test_a_part_of_another_unit_is_repeated_with_that_one(mode: Propagation) -> None:
    """Repeating it alone would not begin a new transaction."""
    runner = Runner(entered(), propagation=mode)
    played = play(
        attempt_steps(runner, Backoff(), deadline_at=None),
        lambda step: _fail() if isinstance(step, Body) else "answer",
    )
    assert isinstance(played.error, OSError)
    assert len(runner.scopes) == 1
    assert not any(isinstance(step, (Classify, Pause, Close)) for step in played.steps)


def _fail() -> None:
    raise OSError("deadlock")


@pytest.mark.parametrize("step", [Body, Flush, Commit, Rollback, Close, Classify, Draw, Pause])
def test_after_an_interrupt_nothing_is_repeated(step: type) -> None:
    """Wherever it comes, the session is closed and the interrupt leaves."""
    runner = Runner()
    answers: dict[str, Any] = {"Body": OSError("deadlock")} if step not in (Body, Flush, Commit) else {}
    answers[step.__name__] = [KeyboardInterrupt, *[failure(certain=False)] * 9]
    played = run(runner, **answers)
    assert isinstance(played.error, KeyboardInterrupt)
    assert len(runner.scopes) == 1
    assert any(isinstance(taken, Close) for taken in played.steps)
    assert runner.current == []


def test_a_unit_that_cannot_be_entered_is_not_repeated() -> None:
    """Opening a session touches no server: its errors do not go away."""
    runner = Runner()
    played = run(runner, Open=OSError("no driver"))
    assert played.names == "Open!"
    assert isinstance(played.error, OSError)


def test_an_interrupt_while_the_unit_becomes_the_current_one_closes_it() -> None:
    """Between opening the session and running the body."""

    class Interrupted(Runner):
        def opened(self, scope: Scope) -> str:
            raise KeyboardInterrupt

    played = run(Interrupted())
    assert isinstance(played.error, KeyboardInterrupt)
    assert played.names == "Open Rollback Close"


def test_an_error_that_cannot_be_classified_leaves_as_it_is() -> None:
    """With a note; what went wrong with the classifier is not what the caller is told first."""
    played = run(Runner(), Body=ValueError("mine"), Classify=LookupError("no dialect"))
    assert isinstance(played.error, ValueError)
    assert played.error.__notes__ == ["polysession: the error could not be classified: LookupError: no dialect"]


def test_hooks_run_once_for_the_attempt_that_counts() -> None:
    """Those of a repeated attempt are forgotten with it; they come after the session was closed."""
    runner = Runner()
    runner.hook = Hook(Moment.OUTCOME, print, (), robust=False)
    played = run(runner, Body=[OSError("deadlock"), "value"])
    assert played.names.endswith("Flush Commit Close Call")
    calls = [step for step in played.steps if isinstance(step, Call)]
    assert calls == [Call(runner.hook, (Outcome.COMMITTED,))]


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt()])
def test_hooks_are_told_of_a_rollback(error: BaseException) -> None:
    """Also when the unit was interrupted."""
    runner = Runner()
    runner.hook = Hook(Moment.OUTCOME, print, (), robust=False)
    played = run(runner, Body=error, Classify=failure(certain=True))
    assert played.error is error
    assert [step.args for step in played.steps if isinstance(step, Call)] == [(Outcome.ROLLED_BACK,)]
