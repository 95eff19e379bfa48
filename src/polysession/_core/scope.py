"""Entering and leaving a unit of work: generators of steps. Waits for nothing, imports no SQLAlchemy.

The rules that must not change:

- an error before COMMIT was sent is certainly not committed; only an error at COMMIT can be ambiguous;
- a joined unit never ends the session: its failure dooms the unit around it, which then cannot commit;
- the session is closed on every path, and the first error is the one that leaves.
"""

from __future__ import annotations

from typing import Any

from ..errors import CommitUnknown, JoinRefused, PartialCommit, UnitRolledBack
from ..facts import Origin, Outcome
from ..failures import Phase
from ..options import UnitOptions
from ..policy import propagation
from ..topology import Role
from .hooks import Hook
from .states import State, change
from .steps import Classify, Close, Commit, Flush, Holding, Open, Release, Restore, Rollback, Savepoint, Steps

__all__ = ["Scope", "enter_steps", "find_open", "leave_steps"]

_OUTCOMES = {
    State.COMMITTED: Outcome.COMMITTED,
    State.ROLLED_BACK: Outcome.ROLLED_BACK,
    State.UNKNOWN: Outcome.UNKNOWN,
    State.PARTIAL: Outcome.PARTIAL,
}


class Scope:
    """A unit of work as the code that opened it sees it. Belongs to one thread or task; not thread-safe.

    `holding` is None for a unit that joined another; `root` is then the unit that decides, else the scope itself.
    """

    __slots__ = (
        "around",
        "committed",
        "doom",
        "doom_origin",
        "holding",
        "hooks",
        "name",
        "options",
        "origin",
        "outer",
        "owner",
        "role",
        "root",
        "savepoint",
        "state",
    )

    def __init__(self, options: UnitOptions, name: str, origin: Origin, owner: object, outer: Scope | None) -> None:
        self.options = options
        self.name = name
        self.origin = origin
        self.owner = owner
        self.outer = outer
        self.role = Role.PRIMARY
        self.root = self
        self.around: Scope | None = None
        """For a savepoint: the unit in which it was set."""
        self.hooks: list[Hook] = []
        self.holding: Holding | None = None
        self.savepoint: Any = None
        self.state = State.NEW
        self.committed: list[str] = []
        self.doom: BaseException | None = None
        self.doom_origin: Origin | None = None

    @property
    def outcome(self) -> Outcome | None:
        """How it ended; None while it is open. A joined unit shares the outcome of the unit it joined."""
        return _OUTCOMES.get(self.root.state)

    @property
    def outermost(self) -> bool:
        """It opened the session, and its end is the unit's end."""
        return self.root is self and self.savepoint is None and self.outcome is not None

    @property
    def decides(self) -> bool:
        """Its own end decides over its work: it opened the session or set a savepoint."""
        return self.root is self


def find_open(innermost: Scope | None, names: tuple[str, ...], owner: object) -> Scope | None:
    """The unit that is open here, for this owner, over one of these databases; None if there is none."""
    scope = innermost
    while scope is not None:
        if scope.state is State.OPEN and scope.owner == owner:
            for name in names:
                if name in scope.options.databases:
                    return scope.root
        scope = scope.outer
    return None


def enter_steps(scope: Scope, *, time_left: float | None = None) -> Steps[Holding]:
    """Open the unit. Result: the holding whose session the body gets.

    Raises `JoinRefused` before any SQL if the open unit cannot give what this one asks for.
    """
    around = find_open(scope.outer, scope.options.databases, scope.owner)
    decision = propagation.decide(scope.options, around.options if around else None, time_left=time_left)
    match decision:
        case propagation.OpenNew(transaction):
            scope.holding = yield Open(scope, transaction)
        case propagation.Join():
            assert around is not None
            scope.root = around
            scope.holding = around.holding
        case propagation.Nest():
            assert around is not None
            scope.around = around
            scope.holding = around.holding
            assert scope.holding is not None
            scope.savepoint = yield Savepoint(scope.holding)
        case propagation.Refuse(what, why, do):
            opened = f"; it was opened at {around.origin}" if around is not None else ""
            raise JoinRefused(what, why=why + opened, do=do, databases=scope.options.databases)
    scope.state = change(scope.state, State.OPEN)
    assert scope.holding is not None
    return scope.holding


def leave_steps(scope: Scope, error: BaseException | None) -> Steps[None]:
    """End the unit: commit if `error` is None, else roll back. Afterwards `scope.outcome` is known.

    Raises what made the end fail: the error of the pending work, `UnitRolledBack`, `CommitUnknown`, `PartialCommit`,
    or the database's own refusal at COMMIT. Raises nothing for `error` itself: it is the caller's to let through.
    """
    if not scope.decides:
        scope.state = State.ROLLED_BACK if error is not None else State.COMMITTED
        if error is not None and scope.root.doom is None:
            scope.root.doom = error
            scope.root.doom_origin = scope.origin
        return
    if scope.savepoint is not None:
        yield from _leave_savepoint(scope, error)
        return
    yield from _leave_session(scope, error)


def _leave_session(scope: Scope, error: BaseException | None) -> Steps[None]:
    holding = scope.holding
    assert holding is not None
    failed: BaseException | None = None
    broken = False
    try:
        if error is None and scope.doom is None:
            yield from _commit(scope, holding)
        else:
            yield from _roll_back(scope, holding)
    except BaseException as raised:
        failed = raised
        broken = scope.state is State.UNKNOWN
        if scope.state not in _OUTCOMES:
            broken = not (yield from _try_roll_back(scope, holding))
    try:
        yield Close(holding, broken)
    except BaseException as raised:
        failed = failed or raised
    if failed is not None:
        # once an error is on its way out, a failed rollback must not hide it: the session is closed either way
        if error is None or not isinstance(failed, Exception):
            raise failed
    elif error is None and scope.doom is not None:
        raise _rolled_back(scope) from scope.doom


def _commit(scope: Scope, holding: Holding) -> Steps[None]:
    scope.state = change(scope.state, State.FLUSHING)
    yield Flush(holding)
    scope.state = change(scope.state, State.COMMITTING)
    for name in scope.options.databases:
        try:
            yield Commit(holding, name)
        except BaseException as raised:
            yield from _commit_failed(scope, name, raised)
        scope.committed.append(name)
    scope.state = change(scope.state, State.COMMITTED)


def _commit_failed(scope: Scope, name: str, raised: BaseException) -> Steps[None]:
    """Say what an error at COMMIT means; always raises."""
    failure = yield Classify(raised, Phase.COMMIT_SENT, name, scope.holding)
    if not failure.certainly_not_committed:
        scope.state = change(scope.state, State.UNKNOWN)
        if not isinstance(raised, Exception):
            raise raised
        raise CommitUnknown(
            f"unit {scope.name!r}: it is not known whether {name!r} committed",
            why=f"COMMIT was sent and its answer was lost: {failure.reason}; the unit was opened at {scope.origin}",
            do=("look for the unit's rows before repeating it", "make the unit's work safe to repeat"),
            unit=scope.name,
            database=name,
            committed=tuple(scope.committed),
        ) from raised
    if scope.committed:
        scope.state = change(scope.state, State.PARTIAL)
        rest = [other for other in scope.options.databases if other not in scope.committed]
        raise PartialCommit(
            f"unit {scope.name!r}: committed on {', '.join(scope.committed)}, not on {', '.join(rest)}",
            why=f"{name!r} refused to commit after the others had: {failure.reason}; atomic=False was asked for",
            do=("undo or complete the work by hand", "keep the unit's writes in one database"),
            unit=scope.name,
            committed=tuple(scope.committed),
            not_committed=tuple(rest),
        ) from raised
    raise raised


def _roll_back(scope: Scope, holding: Holding) -> Steps[None]:
    scope.state = change(scope.state, State.ROLLING_BACK)
    yield Rollback(holding)
    scope.state = change(scope.state, State.ROLLED_BACK)


def _try_roll_back(scope: Scope, holding: Holding) -> Steps[bool]:
    """Roll back after a failure; whether the connection can still be used. Its own failure is not told twice."""
    fine = True
    if scope.state is not State.ROLLING_BACK:
        scope.state = change(scope.state, State.ROLLING_BACK)
        try:
            yield Rollback(holding)
        except BaseException:  # the first error is on its way out and the connection is thrown away
            fine = False
    else:
        fine = False
    # a lost connection takes an uncommitted transaction with it
    scope.state = change(scope.state, State.ROLLED_BACK)
    return fine


def _leave_savepoint(scope: Scope, error: BaseException | None) -> Steps[None]:
    if error is None and scope.doom is None:
        try:
            yield Release(scope.savepoint)
        except BaseException:
            scope.state = change(scope.state, State.ROLLING_BACK)
            yield Restore(scope.savepoint)
            _undone(scope)
            raise
        scope.state = State.COMMITTED  # into the unit around it, which decides
        _hand_over_hooks(scope)
        return
    scope.state = change(scope.state, State.ROLLING_BACK)
    yield Restore(scope.savepoint)
    _undone(scope)
    if error is None:
        assert scope.doom is not None
        raise _rolled_back(scope) from scope.doom


def _undone(scope: Scope) -> None:
    """The savepoint's work is gone; its hooks are told so with those of the unit around it."""
    scope.state = change(scope.state, State.ROLLED_BACK)
    for hook in scope.hooks:
        hook.undone = True
    _hand_over_hooks(scope)


def _hand_over_hooks(scope: Scope) -> None:
    assert scope.around is not None
    scope.around.hooks += scope.hooks
    scope.hooks = []


def _rolled_back(scope: Scope) -> UnitRolledBack:
    doom = scope.doom
    return UnitRolledBack(
        f"unit {scope.name!r} was rolled back: a unit that joined it failed and its error was swallowed",
        why=f"{type(doom).__name__} in the unit opened at {scope.doom_origin}",
        do=(
            "let that error pass",
            "open the inner unit with propagation='nested' to undo only its own work",
            "open it with propagation='requires_new' to make it independent",
        ),
        unit=scope.name,
    )
