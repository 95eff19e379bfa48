"""What must hold after every history, whatever failed in it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from polysession._core.steps import Body, Classify, Close, Commit, Flush, Open, Restore, Rollback, Savepoint
from polysession.errors import CommitUnknown, PartialCommit, SessionMisuse, UnitRolledBack
from polysession.facts import Outcome

from .world import Ended, Refused, Session, World

__all__ = ["violations"]


def violations(world: World) -> list[str]:
    """What does not hold after this history; empty if all is well."""
    found = list(_of_the_program(world))
    for session in world.sessions:
        found += _of_session(session)
    for ended in world.ended:
        found += _of_unit(world, ended)
    for runner in world.runners:
        found += _of_attempts(world, runner)
    return found


def is_interrupt(error: BaseException | None) -> bool:
    """It must never be swallowed. A `GeneratorExit` is: nobody hears of it."""
    return error is not None and not isinstance(error, (Exception, GeneratorExit))


def _of_the_program(world: World) -> Iterator[str]:
    if isinstance(world.error, AssertionError):
        yield f"an internal error left: {world.error!r}"
    came = [error for _, error in world.log if is_interrupt(error)]
    if came and not any(is_interrupt(ended.body_error) and ended.body_error not in came for ended in world.ended):
        if world.error is not came[0]:
            yield f"the interrupt {came[0]!r} was lost; {world.error!r} left"
        at = next(number for number, (_, error) in enumerate(world.log) if error is came[0])
        if any(isinstance(step, (Body, Open)) for step, _ in world.log[at + 1 :]):
            yield "new work was begun after an interrupt"
    if world.current:
        yield "a unit is still the current one"


def _of_session(session: Session) -> Iterator[str]:
    closes = [(step, error) for step, error in session.steps if isinstance(step, Close)]
    if len(closes) != (2 if closes and is_interrupt(closes[0][1]) else 1):
        yield f"a session was closed {len(closes)} times: {closes}"
    if len(closes) > 1 and not closes[1][0].broken:
        yield "a session whose close was interrupted was not closed by force"
    barred = ""
    unusable = False
    for step, error in session.steps:
        if isinstance(step, Commit) and barred:
            yield f"COMMIT after {barred}"
        if isinstance(step, Close) and unusable and not step.broken:
            yield "a connection in an unknown state went back to the pool"
        if error is not None and isinstance(step, (Flush, Commit, Savepoint, Restore)):
            barred = f"a failed {type(step).__name__}"
        if isinstance(step, (Rollback, Close)):
            barred = type(step).__name__
        if error is not None and (isinstance(step, Rollback) or (isinstance(step, Commit) and not _certain(error))):
            unusable = True


def _certain(error: BaseException | None) -> bool:
    return isinstance(error, Refused)


def _of_unit(world: World, ended: Ended) -> Iterator[str]:
    scope = ended.scope
    outcome = scope.outcome
    if outcome is None:
        yield f"{ended.name}: its outcome is not known"
        return
    rows = [ended.name in world.durable.get(name, ()) for name in scope.options.databases]
    if ended.entered and not scope.plain:
        if outcome is Outcome.COMMITTED and ended.body_error is None and not all(rows):
            yield f"{ended.name}: reported as committed, but its rows are not there"
        if outcome is Outcome.PARTIAL and (all(rows) or not any(rows)):
            yield f"{ended.name}: reported as partial, but it is not"
        if ended.body_error is not None and any(rows):
            yield f"{ended.name}: its body failed, but its rows are there"
    if outcome is Outcome.ROLLED_BACK and any(rows):
        yield f"{ended.name}: reported as rolled back, but its rows are there"
    if scope.plain != (outcome is Outcome.CLOSED) and (ended.body_error is not None or outcome is Outcome.CLOSED):
        yield f"{ended.name}: {outcome} is wrong for a unit {'without' if scope.plain else 'with'} a transaction"
    failed = [(step, error) for step, error in ended.steps if isinstance(step, Commit) and error is not None]
    classified = all(error is None for step, error in ended.steps if isinstance(step, Classify))
    if failed and not (_certain(failed[0][1]) and classified) and outcome is not Outcome.UNKNOWN:
        yield f"{ended.name}: COMMIT failed in an unknown way, but the outcome is {outcome}"
    if (
        scope.root is scope
        and outcome is Outcome.UNKNOWN
        and not any(isinstance(step, Commit) for step, _ in ended.steps)
    ):
        yield f"{ended.name}: COMMIT was never sent, but the outcome is {outcome}"
    if ended.left is None and scope.root is scope and outcome is not Outcome.COMMITTED:
        yield f"{ended.name}: left without an error, but it is {outcome}"
    if ended.left is not None and outcome is Outcome.COMMITTED and scope.root is scope:
        closing = [error for step, error in ended.steps if isinstance(step, Close)]
        if ended.left not in closing:
            yield f"{ended.name}: committed, but {ended.left!r} left"
        elif not any("had committed" in note for note in getattr(ended.left, "__notes__", ())):
            yield f"{ended.name}: committed, and the error of its close does not say so"
    yield from _of_error(ended)


def _of_error(ended: Ended) -> Iterator[str]:
    """The first error leaves, as documented; only an interrupt takes its place."""
    errors = [(step, error) for step, error in ended.steps if error is not None]
    interrupts = [error for error in (ended.body_error, *(error for _, error in errors)) if is_interrupt(error)]
    errors = [(step, error) for step, error in errors if not isinstance(step, Classify)]
    expected: Any = None
    cause: BaseException | None = None
    if interrupts:
        expected = interrupts[0]
    elif ended.body_error is not None:
        expected = ended.body_error
    elif ended.doomed and not ended.late:
        expected, cause = UnitRolledBack, ended.scope.doom
    elif ended.unfit and not ended.late:
        expected = SessionMisuse
    elif ended.late and ended.scope.outcome is Outcome.ROLLED_BACK:
        expected = UnitRolledBack
    elif errors:
        step, first = errors[0]
        expected = first
        if isinstance(step, Commit) and ended.scope.outcome is Outcome.UNKNOWN:
            expected, cause = CommitUnknown, first
        elif isinstance(step, Commit) and ended.scope.outcome is Outcome.PARTIAL:
            expected, cause = PartialCommit, first
    fits = isinstance(ended.left, expected) if isinstance(expected, type) else ended.left is expected
    if not fits:
        yield f"{ended.name}: {ended.left!r} left, not {expected!r}"
    elif cause is not None and ended.left is not None and ended.left.__cause__ is not cause:
        yield f"{ended.name}: {ended.left!r} does not come from {cause!r}"
    if isinstance(ended.left, asyncio.CancelledError) and not interrupts:
        yield f"{ended.name}: a cancellation from nowhere left"


def _of_attempts(world: World, runner: Any) -> Iterator[str]:
    if runner.open:
        yield "an attempt was never noted as ended"
    if world.turns.lines:
        yield "a unit that ended stands in the line still"
    if runner.ended_count != len(runner.scopes):
        yield f"{len(runner.scopes)} attempts, {runner.ended_count} ends"
    for scope in runner.scopes[:-1]:
        if scope.outcome is not Outcome.ROLLED_BACK or not scope.whole:
            yield f"a unit was repeated after {scope.outcome}"
    rows = world.durable.get("a", []).count(runner.name)
    if rows > 1:
        yield f"the work was done {rows} times"
    last = runner.scopes[-1]
    if world.error is None and last.whole and rows != 1:
        yield f"the unit returned and its row is there {rows} times"
    if last.whole and last.outcome is Outcome.ROLLED_BACK and rows:
        yield "reported as rolled back, but the row is there"
    if last.whole and last.outcome is Outcome.COMMITTED and not rows:
        yield "reported as committed, but the row is not there"
