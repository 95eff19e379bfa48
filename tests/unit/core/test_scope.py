"""Entering and leaving: the conversation of every kind of unit, step by step."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest

from polysession._core.hooks import Hook, Moment
from polysession._core.outcome import Marked
from polysession._core.scope import (
    Scope,
    end_at_once,
    enter_steps,
    find_open,
    leave_steps,
    may_end_at_once,
    may_open_at_once,
    open_at_once,
    open_inside,
)
from polysession._core.states import State
from polysession._core.steps import (
    Classify,
    Close,
    Commit,
    Dial,
    Draw,
    Flush,
    Open,
    Ready,
    Recall,
    Release,
    Rest,
    Restore,
    Rollback,
    Savepoint,
    TakeKey,
)
from polysession.errors import CommitUnknown, JoinRefused, PartialCommit, UnitRolledBack
from polysession.facts import Origin, Outcome
from polysession.failures import Failure, Kind, Phase
from polysession.options import Access, Propagation, UnitOptions
from polysession.testing import Played, play
from polysession.topology import Role

frame = inspect.currentframe()
assert frame is not None
HERE = Origin(frame.f_code, 0)
FINE: dict[type, Any] = {
    Open: "holding",
    Savepoint: "savepoint",
    Flush: None,
    Commit: None,
    Rollback: None,
    Close: None,
    Release: None,
    Restore: None,
    Draw: (0.5, 10.0),
}


def failure(*, certain: bool) -> Failure:
    """What the dialect says of an error at COMMIT."""
    return Failure(
        kind=Kind.OTHER,
        code="",
        phase=Phase.COMMIT_SENT,
        transient=False,
        certainly_not_committed=certain,
        connection_usable=certain,
        reason="the link died",
        source="here",
    )


def scope_of(outer: Scope | None = None, *, role: Role = Role.PRIMARY, owner: object = "me", **options: Any) -> Scope:
    """A unit over database "a", not entered yet."""
    options.setdefault("databases", ("a",))
    around = (outer, *outer.outer) if outer else ()
    scope = Scope(UnitOptions(**options), "inner" if outer else "outer", HERE, owner, around)
    scope.role = role
    return scope


def entered(outer: Scope | None = None, **options: Any) -> Scope:
    """The same, entered."""
    scope = scope_of(outer, **options)
    play(enter_steps(scope), FINE).value()
    return scope


def leave(scope: Scope, error: BaseException | None = None, **answers: Any) -> Played[None]:
    """Leave with other answers than usual: `leave(scope, Commit=OSError)`."""
    script = {**FINE, **{kind: answers[kind.__name__] for kind in (*FINE, Classify) if kind.__name__ in answers}}
    return play(leave_steps(scope, error), script)


# -- entering


def test_the_outermost_unit_opens_a_session() -> None:
    """One step, and the holding is the result."""
    scope = scope_of()
    played = play(enter_steps(scope), FINE)
    assert played.value() == "holding"
    assert played.steps == [Open(scope, transaction=True)]
    assert (scope.holding, scope.state, scope.outcome, scope.whole) == ("holding", State.OPEN, None, True)


def test_a_joined_unit_takes_no_step() -> None:
    """It has the session of the unit around it, and decides nothing."""
    outer = entered()
    inner = scope_of(outer)
    played = play(enter_steps(inner), {})
    assert played.value() == "holding"
    assert played.steps == []
    assert (inner.root, inner.decides, inner.whole) == (outer, False, False)


def test_a_nested_unit_sets_a_savepoint() -> None:
    """In the session of the unit around it; its own end decides over its work."""
    outer = entered()
    inner = scope_of(outer, propagation=Propagation.NESTED)
    played = play(enter_steps(inner), FINE)
    assert played.steps == [Savepoint("holding")]
    assert (inner.savepoint, inner.decides, inner.whole) == ("savepoint", True, False)


def test_an_independent_unit_opens_a_session_of_its_own() -> None:
    """The open unit is left alone."""
    inner = scope_of(entered(), propagation=Propagation.REQUIRES_NEW)
    assert play(enter_steps(inner), FINE).steps == [Open(inner, transaction=True)]


def test_a_unit_without_a_transaction_says_so() -> None:
    """Each of its statements commits by itself."""
    scope = scope_of(propagation=Propagation.SUPPORTS)
    assert play(enter_steps(scope), FINE).steps == [Open(scope, transaction=False)]
    assert scope.plain


@pytest.mark.parametrize("mode", [Propagation.REQUIRED, Propagation.NESTED, Propagation.REQUIRES_NEW])
def test_nothing_takes_part_in_a_unit_without_a_transaction(mode: Propagation) -> None:
    """A unit inside it gets the transaction that it needs; who insists on an open one is refused."""
    plain = entered(entered(), propagation=Propagation.NOT_SUPPORTED)
    inner = scope_of(plain, propagation=mode)
    assert play(enter_steps(inner), FINE).steps == [Open(inner, transaction=True)]
    refused = play(enter_steps(scope_of(plain, propagation=Propagation.MANDATORY)), {})
    assert isinstance(refused.error, JoinRefused)


def test_a_refusal_comes_before_any_step() -> None:
    """The text says where the open unit was opened; the refused one has ended and has nothing to leave."""
    inner = scope_of(entered(), access=Access.READ)
    played = play(enter_steps(inner), {})
    assert isinstance(played.error, JoinRefused)
    assert f"it was opened at {HERE}" in played.error.why
    assert (inner.holding, inner.outcome) == (None, Outcome.ROLLED_BACK)


def test_another_role_is_refused() -> None:
    """A unit that asked for a replica does not quietly read from the primary, nor the other way round."""
    for mine, its in ((Role.REPLICA, Role.PRIMARY), (Role.PRIMARY, Role.REPLICA)):
        outer = entered(access=Access.READ, role=its)
        played = play(enter_steps(scope_of(outer, access=Access.READ, role=mine)), {})
        assert isinstance(played.error, JoinRefused)
        assert "its role differs" in played.error.what


def test_a_deadline_beyond_the_outer_one_is_refused() -> None:
    """What is left of the outer unit's time is asked of the driver, and only then."""
    outer = entered(deadline=30.0)
    outer.deadline_at = 1234.5
    inner = scope_of(outer, deadline=11.0)
    played = play(enter_steps(inner), FINE)
    assert played.steps == [Draw(1234.5)]
    assert isinstance(played.error, JoinRefused)
    assert played.error.why.startswith("asked for 11 s; the open unit has 10 s left")
    assert play(enter_steps(scope_of(outer, deadline=9.0)), FINE).error is None
    assert play(enter_steps(scope_of(outer)), {}).error is None


def test_a_session_that_cannot_be_opened_leaves_nothing() -> None:
    """The unit never began: it counts as rolled back, and there is nothing to leave."""
    scope = scope_of()
    played = play(enter_steps(scope), {Open: OSError("no")})
    assert isinstance(played.error, OSError)
    assert (scope.holding, scope.outcome) == (None, Outcome.ROLLED_BACK)


def test_an_interrupt_after_the_session_was_made_has_something_to_leave() -> None:
    """The performer has put the holding into the scope: leaving it closes the session."""
    scope = scope_of()

    def perform(step: Any) -> None:
        step.scope.holding = "holding"
        raise KeyboardInterrupt

    error = play(enter_steps(scope), perform).error
    assert isinstance(error, KeyboardInterrupt)
    assert leave(scope, error).names == "Rollback Close"
    assert scope.outcome is Outcome.ROLLED_BACK


def test_a_savepoint_that_cannot_be_set_dooms_the_unit_around_it() -> None:
    """Nobody knows what is left of its transaction; its session is not touched."""
    outer = entered()
    inner = scope_of(outer, propagation=Propagation.NESTED)
    played = play(enter_steps(inner), {Savepoint: OSError("no")})
    assert played.names == "Savepoint!"
    assert inner.holding is None
    assert outer.holding == "holding"
    ended = leave(outer)
    assert ended.names == "Rollback Close"
    assert isinstance(ended.error, UnitRolledBack)
    assert ended.error.__cause__ is played.error


ASKED: list[dict[str, Any]] = [
    {},
    {"access": Access.READ},
    {"access": Access.READ, "snapshot": True},
    {"deadline": 5.0},
    {"exact": True},
    {"exact": True, "key": "once"},
    *({"propagation": mode} for mode in Propagation),
]


@pytest.mark.parametrize("asked", ASKED, ids=str)
def test_at_once_is_what_one_step_does(asked: dict[str, Any]) -> None:
    """A unit may be opened at once exactly if that is one step, with a transaction; and is the same then."""
    stepwise, scope = scope_of(**asked), scope_of(**asked)
    played = play(enter_steps(stepwise), {**FINE, Ready: None, TakeKey: None})
    one = played.error is None and played.steps == [Open(stepwise, transaction=True)]
    assert may_open_at_once(scope.options) is one
    if one:
        asked_for: list[Any] = []

        def open_(*given: Any) -> str:
            asked_for.append(given)
            return "holding"

        open_at_once(scope, open_, True)
        assert asked_for == [(scope, True)]
        assert state_of(scope) == state_of(stepwise)
        assert may_end_at_once(scope)


def state_of(scope: Scope) -> list[Any]:
    """Everything that a unit has, but who it is."""
    return [getattr(scope, name) for name in scope.__struct_fields__]


def test_what_cannot_be_opened_at_once_was_never_begun() -> None:
    """As step by step; and an interrupt after its session was made leaves something to end."""

    def fail(scope: Scope, transaction: bool) -> None:
        raise OSError("no")

    def interrupt(scope: Scope, transaction: bool) -> None:
        scope.holding = "holding"
        raise KeyboardInterrupt

    scope = scope_of()
    with pytest.raises(OSError, match="no"):
        open_at_once(scope, fail, True)
    assert (scope.holding, scope.outcome) == (None, Outcome.ROLLED_BACK)
    scope = scope_of()
    with pytest.raises(KeyboardInterrupt):
        open_at_once(scope, interrupt, True)
    assert leave(scope, KeyboardInterrupt()).names == "Rollback Close"


def test_ended_at_once_is_ended_step_by_step() -> None:
    """It has committed, and there is nothing left to do."""
    stepwise, scope = entered(), entered()
    assert leave(stepwise).error is None
    end_at_once(scope)
    assert state_of(scope) == state_of(stepwise)
    assert not may_end_at_once(scope)


def test_what_is_to_be_told_or_undone_does_not_end_at_once() -> None:
    """A part of another unit, one with a part that is open, one that is doomed, one that is not open."""
    outer = entered()
    joined = entered(outer)
    assert not may_end_at_once(joined)
    assert not may_end_at_once(outer)
    assert leave(joined, ValueError()).error is None
    assert not may_end_at_once(outer)
    assert not may_end_at_once(entered(entered(), propagation=Propagation.NESTED))
    assert not may_end_at_once(scope_of())


def test_the_open_unit_is_found_by_database_owner_and_state() -> None:
    """The innermost that is open, of this owner, over one of the names; never one that has ended."""
    outer = entered(databases=("a", "b"), atomic=False)
    inner = entered(outer, databases=("c",))
    assert find_open((inner, outer), ("c",), "me") is inner
    assert find_open((inner, outer), ("b", "x"), "me") is outer
    assert find_open((inner, outer), ("x",), "me") is None
    assert find_open((inner, outer), ("a",), "somebody else") is None
    assert find_open((), ("a",), "me") is None
    joined = entered(outer)
    assert find_open((joined, outer), ("a",), "me") is outer
    leave(outer, KeyError())
    assert find_open((joined, outer), ("a",), "me") is None, "it joined a unit that has ended"


def test_a_unit_in_a_generator_is_open_inside_of_it_only() -> None:
    """What is open in a suspended generator is not found; what is open in one that runs is nearer than what is not."""
    first, second, beside = (entered(databases=("a",)) for _ in range(3))
    first.home, second.home = "first", "second"
    units = (beside, second, first)
    assert open_inside(units, ()) == (beside,)
    assert open_inside(units, ("first",)) == (first, beside)
    assert open_inside(units, ("second", "first")) == (second, first, beside)
    assert open_inside(units, ("first", "second")) == (first, second, beside)
    assert open_inside((first, second), ()) == ()
    later = entered(databases=("a",))
    later.home = "first"
    assert open_inside((later, *units), ("first",)) == (later, first, beside)


# -- leaving


def test_a_unit_that_did_its_work_commits() -> None:
    """Pending work, COMMIT, close."""
    scope = entered()
    played = leave(scope)
    assert played.steps == [Flush("holding"), Commit("holding", "a"), Close("holding")]
    assert played.error is None
    assert (scope.outcome, scope.outermost, scope.ended) == (Outcome.COMMITTED, True, True)


@pytest.mark.parametrize("error", [ValueError("body"), KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit()])
def test_a_unit_that_failed_rolls_back(error: BaseException) -> None:
    """The body's error is the caller's to let through."""
    scope = entered()
    played = leave(scope, error)
    assert played.steps == [Rollback("holding"), Close("holding")]
    assert played.error is None
    assert scope.outcome is Outcome.ROLLED_BACK


def test_pending_work_that_cannot_be_sent_rolls_back() -> None:
    """An error before COMMIT is certain; nobody is asked what it means."""
    scope = entered()
    played = leave(scope, Flush=ValueError("constraint"))
    assert played.names == "Flush! Rollback Close"
    assert isinstance(played.error, ValueError)
    assert scope.outcome is Outcome.ROLLED_BACK


def test_a_refused_commit_rolls_back() -> None:
    """The database's own error leaves, and the connection can be used again."""
    scope = entered()
    played = leave(scope, Commit=ValueError("deferred constraint"), Classify=failure(certain=True))
    assert played.names == "Flush Commit! Classify Rollback Close"
    assert isinstance(played.error, ValueError)
    assert scope.outcome is Outcome.ROLLED_BACK
    assert played.steps[2] == Classify(played.error, Phase.COMMIT_SENT, "a", "holding")
    assert played.steps[-1] == Close("holding", broken=False)


def test_a_commit_whose_answer_was_lost_is_unknown() -> None:
    """Never reported as rolled back; not rolled back either; the connection is thrown away."""
    scope = entered()
    lost = OSError("gone")
    played = leave(scope, Commit=lost, Classify=failure(certain=False))
    assert played.names == "Flush Commit! Classify Close"
    assert isinstance(played.error, CommitUnknown)
    assert played.error.__cause__ is lost
    assert "its answer was lost: the link died" in played.error.why
    assert played.error.facts == {"unit": "outer", "database": "a", "tenant": None, "committed": ()}
    assert scope.outcome is Outcome.UNKNOWN
    assert played.steps[-1] == Close("holding", broken=True)


def test_what_a_tenants_unit_asks_is_asked_in_its_database() -> None:
    """The table is made there, the question goes there; an error that leaves it open says how to ask later."""
    scope = scope_of(tenant="acme", exact=True)
    played = play(enter_steps(scope), {**FINE, Ready: None})
    assert played.steps == [Open(scope, transaction=True), Ready(("a",), "acme")]
    unit = "0193d2a4-7c00-7abc-8def-0123456789ab"
    left = [10.0, 0.0]
    script = {
        **FINE,
        Commit: OSError("gone"),
        Classify: failure(certain=False),
        Recall: Marked(unit=unit, tenant="acme"),
    }
    script |= {Draw: lambda _: (0.5, left.pop(0)), Dial: ConnectionRefusedError(), Rest: False}
    ended = play(leave_steps(scope, None), script)
    assert [step.tenant for step in ended.steps if isinstance(step, Dial)] == ["acme"]
    assert isinstance(ended.error, CommitUnknown)
    assert ended.error.facts["tenant"] == "acme"
    assert "whether 'a' of tenant 'acme' committed" in str(ended.error)
    assert f"sessions.outcome('{unit}', 'a', tenant='acme')" in str(ended.error)
    assert f"polysession outcome {unit} --database a --tenant acme" in str(ended.error)


def test_a_part_of_a_tenants_unit_has_its_tenant() -> None:
    """A savepoint has what the unit around it has; what joins it may say nothing, or the same."""
    outer = entered(tenant="acme")
    nested = entered(outer, propagation=Propagation.NESTED)
    assert nested.options.tenant == "acme"
    assert entered(nested).root is nested
    with pytest.raises(JoinRefused, match="its tenant differs"):
        entered(nested, tenant="globex")


def test_an_interrupted_commit_is_unknown_and_the_interrupt_leaves() -> None:
    """It carries a note that says so."""
    scope = entered()
    played = leave(scope, Commit=KeyboardInterrupt, Classify=failure(certain=False))
    assert isinstance(played.error, KeyboardInterrupt)
    assert played.error.__notes__ == ["polysession: it is not known whether 'a' committed in unit 'outer'"]
    assert scope.outcome is Outcome.UNKNOWN


def test_an_interrupt_before_commit_was_sent_rolls_back() -> None:
    """If the performer knows that nothing was sent, the outcome is known."""
    scope = entered()
    played = leave(scope, Commit=KeyboardInterrupt, Classify=failure(certain=True))
    assert played.names == "Flush Commit! Classify Rollback Close"
    assert isinstance(played.error, KeyboardInterrupt)
    assert scope.outcome is Outcome.ROLLED_BACK


@pytest.mark.parametrize("trouble", [LookupError("no such dialect"), KeyboardInterrupt()])
def test_what_cannot_be_classified_is_unknown(trouble: BaseException) -> None:
    """A failure of the classifier is no proof of a rollback."""
    scope = entered()
    played = leave(scope, Commit=OSError("gone"), Classify=trouble)
    assert played.names == "Flush Commit! Classify! Close"
    assert scope.outcome is Outcome.UNKNOWN
    if isinstance(trouble, KeyboardInterrupt):
        assert played.error is trouble
    else:
        assert isinstance(played.error, CommitUnknown)
        assert played.error.__cause__ is not None
        assert played.error.__cause__.__notes__ == [
            "polysession: the error could not be classified: LookupError: no such dialect"
        ]


def test_several_databases_commit_one_after_the_other() -> None:
    """In the order in which they were named."""
    scope = entered(databases=("a", "b", "c"), atomic=False)
    played = leave(scope)
    assert [step.database for step in played.steps if isinstance(step, Commit)] == ["a", "b", "c"]
    assert scope.outcome is Outcome.COMMITTED


def test_a_refusal_after_the_first_commit_is_partial() -> None:
    """The rest is not committed, and the error says which is which."""
    scope = entered(databases=("a", "b", "c"), atomic=False)
    refused = ValueError("constraint")
    played = leave(scope, Commit=[None, refused], Classify=failure(certain=True))
    assert played.names == "Flush Commit Commit! Classify Close"
    assert isinstance(played.error, PartialCommit)
    assert played.error.facts == {"unit": "outer", "committed": ("a",), "not_committed": ("b", "c")}
    assert played.error.__cause__ is refused
    assert scope.outcome is Outcome.PARTIAL


def test_a_rollback_that_fails_throws_the_connection_away() -> None:
    """The body's error is not hidden by it; the uncommitted work is gone with the connection."""
    scope = entered()
    played = leave(scope, ValueError("body"), Rollback=OSError("gone"))
    assert played.steps[-1] == Close("holding", broken=True)
    assert played.error is None
    assert scope.outcome is Outcome.ROLLED_BACK


def test_an_interrupt_during_the_rollback_takes_the_place_of_the_error() -> None:
    """It would be lost otherwise."""
    played = leave(entered(), ValueError("body"), Rollback=KeyboardInterrupt)
    assert isinstance(played.error, KeyboardInterrupt)
    played = leave(entered(), Flush=ValueError("constraint"), Rollback=asyncio.CancelledError)
    assert isinstance(played.error, asyncio.CancelledError)


def test_the_first_interrupt_stays() -> None:
    """A second Ctrl-C changes nothing; no other error takes the place of the first."""
    assert leave(entered(), KeyboardInterrupt(), Rollback=KeyboardInterrupt).error is None
    played = leave(entered(), Flush=KeyboardInterrupt("first"), Close=OSError("gone"))
    assert isinstance(played.error, KeyboardInterrupt)


def test_a_close_that_fails_after_commit_says_that_it_had_committed() -> None:
    """The error leaves, since something is wrong, but nobody may take it for a rollback."""
    scope = entered()
    played = leave(scope, Close=OSError("gone"))
    assert isinstance(played.error, OSError)
    assert played.error.__notes__ == ["polysession: unit 'outer' had committed before this error came"]
    assert scope.outcome is Outcome.COMMITTED


def test_an_interrupted_close_is_done_again_by_force() -> None:
    """The interrupt may have come before anything was closed."""
    played = leave(entered(), Close=[KeyboardInterrupt, None])
    assert played.steps[-2:] == [Close("holding", broken=False), Close("holding", broken=True)]
    assert isinstance(played.error, KeyboardInterrupt)


def test_a_joined_unit_that_did_its_work_takes_no_step() -> None:
    """The unit around it decides over both, and its outcome is shared."""
    outer = entered()
    inner = entered(outer)
    assert leave(inner).steps == []
    assert (inner.outcome, inner.ended) == (None, True)
    leave(outer)
    assert inner.outcome is Outcome.COMMITTED


def test_a_joined_unit_that_failed_dooms_the_unit_around_it() -> None:
    """If its error is swallowed, the outer unit rolls back and says why, with the first of several failures."""
    outer = entered()
    first = ValueError("first")
    assert leave(entered(outer), first).steps == []
    leave(entered(outer), ValueError("second"))
    played = leave(outer)
    assert played.names == "Rollback Close"
    assert isinstance(played.error, UnitRolledBack)
    assert played.error.__cause__ is first
    assert f"ValueError in the unit opened at {HERE}" in played.error.why
    assert outer.outcome is Outcome.ROLLED_BACK


def test_a_doomed_unit_lets_its_own_error_pass() -> None:
    """An error that was not swallowed is not replaced."""
    outer = entered()
    error = ValueError("inner")
    leave(entered(outer), error)
    assert leave(outer, error).error is None


def test_a_doomed_unit_whose_rollback_fails_still_says_why_it_was_rolled_back() -> None:
    """The failed rollback comes later and is less."""
    outer = entered()
    leave(entered(outer), ValueError("inner"))
    played = leave(outer, Rollback=OSError("gone"))
    assert isinstance(played.error, UnitRolledBack)
    assert played.steps[-1] == Close("holding", broken=True)


def test_a_savepoint_is_released_into_the_unit_around_it() -> None:
    """From then on its outcome is that unit's, also over several levels."""
    outer = entered()
    middle = entered(outer, propagation=Propagation.NESTED)
    inner = entered(middle, propagation=Propagation.NESTED)
    assert leave(inner).steps == [Release("savepoint")]
    assert leave(middle).steps == [Release("savepoint")]
    assert (inner.outcome, middle.outcome, inner.decides) == (None, None, False)
    leave(outer, ValueError("body"))
    assert (inner.outcome, middle.outcome) == (Outcome.ROLLED_BACK, Outcome.ROLLED_BACK)


def test_a_savepoint_that_failed_is_returned_to() -> None:
    """Its work alone is undone; the unit around it may commit."""
    outer = entered()
    inner = entered(outer, propagation=Propagation.NESTED)
    played = leave(inner, ValueError("body"))
    assert played.steps == [Restore("savepoint")]
    assert played.error is None
    assert inner.outcome is Outcome.ROLLED_BACK
    assert leave(outer).error is None
    assert (inner.outcome, outer.outcome) == (Outcome.ROLLED_BACK, Outcome.COMMITTED)


def test_a_savepoint_that_cannot_be_released_is_returned_to() -> None:
    """The error of the release leaves; the unit around it may commit."""
    outer = entered()
    inner = entered(outer, propagation=Propagation.NESTED)
    played = leave(inner, Release=ValueError("constraint"))
    assert played.names == "Release! Restore"
    assert isinstance(played.error, ValueError)
    assert leave(outer).names == "Flush Commit Close"


def test_a_savepoint_that_is_gone_dooms_the_unit_around_it() -> None:
    """The server has rolled back more than the savepoint: what comes after would be committed alone."""
    outer = entered()
    inner = entered(outer, propagation=Propagation.NESTED)
    error = ValueError("deadlock")
    played = leave(inner, error, Restore=OSError("there is no such savepoint"))
    assert played.error is None, "the first error is the caller's to let through"
    assert inner.outcome is Outcome.ROLLED_BACK
    ended = leave(outer)
    assert ended.names == "Rollback Close"
    assert isinstance(ended.error, UnitRolledBack)
    assert ended.error.__cause__ is error


def test_a_doomed_savepoint_is_returned_to() -> None:
    """A unit that joined it failed and the error was swallowed: it ends as a doomed unit does, and only it."""
    outer = entered()
    nested = entered(outer, propagation=Propagation.NESTED)
    leave(entered(nested), ValueError("joined"))
    played = leave(nested)
    assert played.names == "Restore"
    assert isinstance(played.error, UnitRolledBack)
    assert leave(outer).names == "Flush Commit Close"


def test_a_unit_without_a_transaction_that_failed_is_not_rolled_back() -> None:
    """What its statements did before the error stays: its outcome is its owner's to know."""
    scope = entered(propagation=Propagation.NOT_SUPPORTED)
    assert leave(scope, ValueError("body")).names == "Rollback Close"
    assert scope.outcome is Outcome.CLOSED
    fine = entered(propagation=Propagation.NOT_SUPPORTED)
    leave(fine)
    assert fine.outcome is Outcome.COMMITTED


def test_the_hooks_of_a_savepoint_go_to_the_unit_around_it() -> None:
    """Those of one that was undone are marked, whatever becomes of the rest."""
    outer = entered()
    kept, undone = (Hook(Moment.COMMIT, print, (), robust=False) for _ in range(2))
    for hook, error in ((kept, None), (undone, ValueError("body"))):
        inner = entered(outer, propagation=Propagation.NESTED)
        inner.hooks += (hook,)
        leave(inner, error)
        assert inner.hooks == ()
    assert outer.hooks == (kept, undone)
    assert (kept.undone, undone.undone) == (False, True)


def test_a_unit_is_left_once() -> None:
    """A second time is our own mistake, and noticed."""
    scope = entered()
    leave(scope)
    assert isinstance(leave(scope).error, AssertionError)
