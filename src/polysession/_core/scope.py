"""Entering and leaving a unit of work: generators of steps. Waits for nothing, imports no SQLAlchemy.

The rules that must not change:

- an error before COMMIT was sent is certainly not committed; only an error at COMMIT can be ambiguous, and it is
  unless the database's own answer says otherwise;
- a joined unit never ends the session: its failure dooms the unit around it, which then cannot commit; so does a
  savepoint that cannot be set or returned to, since nobody knows what is left of the transaction;
- a unit that is to commit while another that joined it is still open rolls back: nobody has said yet that the work of
  the inner one is good; and the inner one, left afterwards, is told so;
- a unit that was opened in the body of a generator is open there only: while the generator is suspended it is not
  joined by the code beside it;
- a savepoint has what the unit around it has, over all its databases; a part has no more time than what it is in;
- a unit is open while its last flush runs, for the listeners of that flush, and judged once more after it;
- the session is closed on every path; once, and once more by force if an interrupt came while it was being closed;
- the first error is the one that leaves; only an interrupt (KeyboardInterrupt, cancellation) that comes later takes
  its place, since a swallowed one would keep a program from ending;
- as soon as `scope.holding` is set there is something to leave: whoever entered must leave, whatever happens.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Final, TypeVar

import msgspec
from msgspec import structs

from ..errors import CommitLost, CommitUnknown, JoinRefused, PartialCommit, SessionMisuse, UnitRolledBack
from ..facts import Origin, Outcome
from ..failures import Phase
from ..options import Access, UnitOptions
from ..policy import propagation
from ..topology import Role
from .hooks import Hook
from .outcome import Verdict, resolve_steps
from .plainly import stored_plainly
from .states import CHANGES, State, change
from .steps import (
    Classify,
    Close,
    Commit,
    Draw,
    Flush,
    Holding,
    Open,
    Ready,
    Recall,
    Release,
    Restore,
    Rollback,
    Savepoint,
    Steps,
    TakeKey,
)

__all__ = [
    "Scope",
    "bounding",
    "end_at_once",
    "enter_steps",
    "find_open",
    "hand_over",
    "leave_steps",
    "may_end_at_once",
    "may_open_at_once",
    "open_at_once",
    "open_inside",
]

T = TypeVar("T")

_OPEN: Final = State.OPEN
_FLUSHING: Final = State.FLUSHING
_COMMITTED: Final = State.COMMITTED
"""Members of an enumeration, which Python 3.11 looks for at each use."""
_OUTCOMES = {
    State.COMMITTED: Outcome.COMMITTED,
    State.ROLLED_BACK: Outcome.ROLLED_BACK,
    State.UNKNOWN: Outcome.UNKNOWN,
    State.LOST: Outcome.LOST,
    State.PARTIAL: Outcome.PARTIAL,
    State.CLOSED: Outcome.CLOSED,
}

_STATES = {
    Outcome.COMMITTED: State.COMMITTED,
    Outcome.ROLLED_BACK: State.ROLLED_BACK,
    Outcome.LOST: State.LOST,
    Outcome.UNKNOWN: State.UNKNOWN,
}
"""The states in which a verdict leaves a unit."""


@stored_plainly
class Scope(msgspec.Struct, eq=False):
    """A unit of work as the code that opened it sees it. Belongs to one thread or task; not thread-safe.

    `root` is the unit that decides over its work: itself, or the unit that it joined or was released into; it does not
    refer to itself, so that nothing of a unit waits for the garbage collector. `holding` is None as long as there is
    nothing to leave.
    """

    options: UnitOptions
    name: str
    origin: Origin
    owner: object
    outer: tuple[Scope, ...] = ()
    """The units in which it was made, the innermost first."""
    role: Role = Role.PRIMARY
    home: Hashable = None
    """The generator in whose body it is open; None if it is open wherever its owner runs."""
    joined: Scope | None = None
    """The unit that it joined or was released into, and that decides over its work."""
    deadline_at: float | None = None
    """In seconds of `time.monotonic()`, set at the door."""
    around: Scope | None = None
    """For a savepoint: the unit in which it was set."""
    hooks: tuple[Hook, ...] = ()
    repeats: object | None = None
    """What repeats it: the same for all attempts. None for a unit that is not repeated."""
    parts: tuple[Scope, ...] = ()
    """The units that have joined it, or set a savepoint in it, and are still open."""
    left_behind: bool = False
    """Its owner has ended without leaving it, and its door ends it."""
    leaver: int | None = None
    """The thread that leaves its block. It says so first and looks at `left_behind` then; who ends what was left
    behind does it the other way round, so that one of the two sees the other."""
    plain: bool = False
    """It has no transaction: each of its statements commits by itself."""
    holding: Holding | None = None
    savepoint: Any = None
    state: State = State.NEW
    closed: bool = False
    """The session it opened was closed, or closing it was tried."""
    committed: tuple[str, ...] = ()
    unit_id: str = ""
    """By which one can ask for its outcome; empty as long as the answer to COMMIT was not lost."""
    verdict: Verdict | None = None
    """What the database said when the answer to COMMIT was lost."""
    doom: BaseException | None = None
    doom_origin: Origin | None = None

    @property
    def root(self) -> Scope:
        """The unit that decides over its work."""
        return self if self.joined is None else self.joined

    @property
    def outcome(self) -> Outcome | None:
        """How it ended; None while it is open. What joined a unit or was released into it shares its outcome."""
        decides = self
        while decides.joined is not None:  # a savepoint in a savepoint: each was released into the next
            decides = decides.joined
        return _OUTCOMES.get(decides.state)

    @property
    def outermost(self) -> bool:
        """It opened the session, and its end is the unit's end."""
        return self.whole and self.outcome is not None

    @property
    def ended(self) -> bool:
        """It was left; only what it joined or was released into may still go on."""
        return not CHANGES[self.state]

    @property
    def is_open(self) -> bool:
        """Other units can join it, or what it has joined."""
        return (self.state is _OPEN or self.state is _FLUSHING) and (self.joined is None or self.joined.is_open)

    @property
    def whole(self) -> bool:
        """It opened the session itself: it is a unit of its own, not a part of another one."""
        return self.holding is not None and self.joined is None and self.savepoint is None

    @property
    def decides(self) -> bool:
        """Its own end decides over its work: it opened the session or set a savepoint that is not released yet."""
        return self.joined is None


def find_open(units: Iterable[Scope], names: tuple[str, ...], owner: object) -> Scope | None:
    """The first of `units` that is open for this owner over one of these databases; None if there is none."""
    for scope in units:
        if scope.is_open and scope.owner == owner:
            for name in names:
                if name in scope.options.databases:
                    return scope.root
    return None


def hand_over(scope: Scope, owner: object) -> None:
    """From here on the unit belongs to `owner`, with what is open in it."""
    scope.owner = owner
    for part in scope.parts:
        hand_over(part, owner)


def open_inside(units: tuple[Scope, ...], running: Sequence[Hashable]) -> tuple[Scope, ...]:
    """Those of `units` (the last opened first) that are open for code which runs inside of `running`, innermost first.

    `running` are generators, the innermost first. What is open in one of them is nearer than what is open around it;
    what is open in any other is not there, because that one is suspended.
    """
    depth = {home: number for number, home in enumerate(running)}
    here = [unit for unit in units if unit.home is None or unit.home in depth]
    return tuple(sorted(here, key=lambda unit: depth.get(unit.home, len(depth))))


def bounding(scope: Scope) -> Scope:
    """Whose deadline bounds a unit of its own: its own if it asks for one, else that of the unit around it, if that has
    one.

    What is done inside of a unit is done in its time; a longer deadline of its own is kept all the same.
    """
    for found in (scope, *scope.outer):
        if found.deadline_at is not None and found.owner == scope.owner and (found.is_open or found.state is State.NEW):
            return found
    return scope


def _due_at(scope: Scope, around: Scope) -> float | None:
    """When what is done in `around` has to be over, for a part of it that is opened inside of `scope.outer`."""
    parts = [
        unit.deadline_at for unit in scope.outer if unit.holding is around.holding and unit.deadline_at is not None
    ]
    if parts:
        return min(parts)
    while around.around is not None:
        around = around.around
    return bounding(around).deadline_at


def enter_steps(scope: Scope, *, time_left: float | None = None) -> Steps[Holding]:
    """Open the unit. Result: the holding whose session the body gets.

    Raises `JoinRefused` before any SQL if the open unit cannot give what this one asks for. If it raises anything while
    `scope.holding` is set, the caller leaves the unit with that error.
    """
    try:
        yield from _enter(scope, time_left)
    except BaseException:
        if scope.holding is None:
            scope.state = change(scope.state, State.ROLLED_BACK)
        raise
    return scope.holding


def may_open_at_once(options: UnitOptions) -> bool:
    """Whether a unit that asks for this, with no other one around it, is opened by `Open` and nothing else."""
    return propagation.decide(options, None) == propagation.OpenNew() and not options.exact and options.key is None


def open_at_once(scope: Scope, open_: Callable[[Scope, T], Holding], plan: T) -> None:
    """As `enter_steps` where `may_open_at_once`: there is one step, that waits for nothing, and is given `plan`. Raises
    what it raises."""
    try:
        scope.holding = open_(scope, plan)
    except BaseException:
        if scope.holding is None:
            scope.state = change(scope.state, State.ROLLED_BACK)
        raise
    scope.state = _OPEN


def _enter(scope: Scope, time_left: float | None) -> Steps[None]:
    around = find_open(scope.outer, scope.options.databases, scope.owner) if scope.outer else None
    if around is not None and around.plain:
        around = None  # it has no transaction in which anything could take part
    if around is not None and time_left is None and scope.options.deadline is not None:
        due_at = _due_at(scope, around)
        if due_at is not None:
            _, time_left = yield Draw(due_at)
    decision = propagation.decide(
        scope.options,
        around.options if around else None,
        time_left=time_left,
        roles=(scope.role, around.role) if around else None,
    )
    match decision:
        case propagation.OpenNew(transaction):
            scope.plain = not transaction
            scope.holding = yield Open(scope, transaction)
            if transaction and scope.options.exact:
                # the unit has no connection yet; if it fails it may be repeated
                yield Ready(scope.options.databases, scope.options.tenant)
            if scope.options.key is not None:
                yield TakeKey(scope.holding)
        case propagation.Join():
            assert around is not None
            scope.joined = around
            scope.holding = around.holding
            around.parts += (scope,)
        case propagation.Nest():
            assert around is not None
            yield from _set_savepoint(scope, around)
        case propagation.Refuse(what, why, do):
            opened = f"; it was opened at {around.origin}" if around is not None else ""
            raise JoinRefused(what, why=why + opened, do=do, databases=scope.options.databases)
    scope.state = change(scope.state, State.OPEN)


def _set_savepoint(scope: Scope, around: Scope) -> Steps[None]:
    try:
        savepoint = yield Savepoint(around.holding)
    except BaseException as raised:
        _doom(around, raised, scope.origin)
        raise
    asked = scope.options
    scope.options = structs.replace(around.options, propagation=asked.propagation, deadline=asked.deadline)
    scope.role = around.role
    scope.around = around
    scope.savepoint = savepoint
    scope.holding = around.holding
    around.parts += (scope,)


def leave_steps(scope: Scope, error: BaseException | None) -> Steps[None]:
    """End the unit: commit if `error` is None, else roll back. Afterwards `scope.outcome` is known, or shared.

    Raises what made the end fail: the error of the pending work, `UnitRolledBack`, `CommitUnknown`, `PartialCommit`,
    the database's own refusal at COMMIT, or an interrupt. An error after a COMMIT that succeeded carries a note that
    says so. Raises nothing for `error` itself: it is the caller's to let through.
    """
    if scope.joined is not None:
        return _leave_joined(scope, error)
    if scope.savepoint is not None:
        return _leave_savepoint(scope, error)
    return _leave_session(scope, error)


def may_end_at_once(scope: Scope) -> bool:
    """Whether nothing keeps a unit of its own from committing, and nothing of it is left to be told or undone. Its
    driver then looks whether its session has anything to flush, to commit or to close."""
    return (
        scope.state is _OPEN
        and scope.joined is None
        and scope.savepoint is None
        and scope.doom is None
        and not scope.parts
    )


def end_at_once(scope: Scope) -> None:
    """As `leave_steps` without an error, of a unit of which this was done already: its session had nothing to flush
    and nothing that a server would have to commit, and is closed."""
    scope.committed = scope.options.databases
    scope.state = _COMMITTED
    scope.closed = True


def _leave_joined(scope: Scope, error: BaseException | None) -> Steps[None]:
    yield from ()
    root = scope.root
    _no_part(scope, root)
    if error is not None and not (isinstance(error, GeneratorExit) and scope.options.access is Access.READ):
        _doom(root, error, scope.origin)  # a reader that was not read to its end has left nothing half done
    scope.state = change(scope.state, State.HANDED_OVER)
    if error is None and root.ended and scope.outcome is Outcome.ROLLED_BACK:
        raise _left_too_late(scope, root)


def _no_part(scope: Scope, around: Scope) -> None:
    if scope in around.parts:
        around.parts = tuple(part for part in around.parts if part is not scope)


def _leave_session(scope: Scope, error: BaseException | None) -> Steps[None]:
    leaves = error
    finished = False
    try:
        try:
            if error is None:
                _refuse_unfit(scope)
                yield from _commit(scope, scope.holding)
        except BaseException as raised:
            leaves = raised
        leaves = yield from _close(scope, scope.holding, leaves)
        if scope.state is State.RESOLVING:  # its own connection is closed: no fence waits for it
            leaves = yield from _find_out(scope, leaves)
        finished = True
    finally:
        if not scope.closed:  # an interrupt came between two steps
            yield from _close(scope, scope.holding, leaves)
        if not finished and scope.state is State.RESOLVING:
            scope.state = change(scope.state, State.UNKNOWN)
    if leaves is not None and leaves is not error:
        raise leaves


def _close(scope: Scope, holding: Holding, leaves: BaseException | None) -> Steps[BaseException | None]:
    """Roll back what has not ended yet and close the session. Result: the error that leaves."""
    if scope.state is State.COMMITTING:
        # interrupted where nobody can say how far COMMIT has come
        scope.state = change(scope.state, State.RESOLVING if scope.options.exact else State.UNKNOWN)
    broken = scope.state in (State.UNKNOWN, State.RESOLVING)
    if scope.state not in _OUTCOMES and scope.state is not State.RESOLVING:
        if scope.state is not State.ROLLING_BACK:
            scope.state = change(scope.state, State.ROLLING_BACK)
        try:
            yield Rollback(holding)
        except BaseException as raised:
            leaves = _graver(leaves, raised)
            broken = True
        # what cannot be rolled back is thrown away, and a lost connection takes an uncommitted transaction with it
        scope.state = change(scope.state, State.CLOSED if scope.plain else State.ROLLED_BACK)
    try:
        yield Close(holding, broken)
    except BaseException as raised:
        if leaves is None:
            raised.add_note(f"polysession: unit {scope.name!r} had committed before this error came")
        leaves = _graver(leaves, raised)
        if not isinstance(raised, Exception):  # it may not even have begun
            try:
                yield Close(holding, broken=True)
            except BaseException as again:
                leaves = _graver(leaves, again)
    scope.closed = True
    return leaves


def _graver(first: BaseException | None, later: BaseException) -> BaseException:
    """The error that leaves when two have come."""
    if first is None or (_is_interrupt(later) and not _is_interrupt(first)):
        return later
    return first


def _is_interrupt(error: BaseException) -> bool:
    """It has to reach somebody; who closes a generator early hears nothing of the `GeneratorExit`."""
    return not isinstance(error, (Exception, GeneratorExit))


def _commit(scope: Scope, holding: Holding) -> Steps[None]:
    scope.state = change(scope.state, State.FLUSHING)
    yield Flush(holding)
    if scope.doom is not None or scope.parts:
        _refuse_unfit(scope)  # a listener of the flush has opened something
    scope.state = change(scope.state, State.COMMITTING)
    for name in scope.options.databases:
        try:
            yield Commit(holding, name)
        except BaseException as raised:
            yield from _commit_failed(scope, name, raised)
        scope.committed += (name,)
    scope.state = change(scope.state, State.COMMITTED)


def _commit_failed(scope: Scope, name: str, raised: BaseException) -> Steps[None]:
    """Say what an error at COMMIT means; always raises."""
    certain, reason = False, "it is not known what the error means"
    try:
        failure = yield Classify(raised, Phase.COMMIT_SENT, name, scope.holding)
        certain, reason = failure.certainly_not_committed, failure.reason
    except BaseException as unclear:
        if isinstance(raised, Exception) and not isinstance(unclear, Exception):
            raise  # an interrupt goes first; the outcome is unknown then
        raised.add_note(f"polysession: the error could not be classified: {type(unclear).__name__}: {unclear}")
    if not certain and scope.options.exact:
        scope.state = change(scope.state, State.RESOLVING)
        raise raised
    if not certain:
        scope.state = change(scope.state, State.UNKNOWN)
        if not isinstance(raised, Exception):
            raised.add_note(f"polysession: it is not known whether {name!r} committed in unit {scope.name!r}")
            raise raised
        raise CommitUnknown(
            f"unit {scope.name!r}: it is not known whether {_where(scope, name)} committed",
            why=f"COMMIT was sent and its answer was lost: {reason}; the unit was opened at {scope.origin}",
            do=("look for the unit's rows before repeating it", "make the unit's work safe to repeat"),
            unit=scope.name,
            database=name,
            tenant=scope.options.tenant,
            committed=scope.committed,
        ) from raised
    if scope.committed:
        scope.state = change(scope.state, State.PARTIAL)
        if not isinstance(raised, Exception):
            raised.add_note(f"polysession: unit {scope.name!r} committed on {', '.join(scope.committed)} only")
            raise raised
        rest = [other for other in scope.options.databases if other not in scope.committed]
        raise PartialCommit(
            f"unit {scope.name!r}: committed on {', '.join(scope.committed)}, not on {', '.join(rest)}",
            why=f"{name!r} refused to commit after the others had: {reason}; atomic=False was asked for",
            do=("undo or complete the work by hand", "keep the unit's writes in one database"),
            unit=scope.name,
            committed=scope.committed,
            not_committed=tuple(rest),
        ) from raised
    scope.state = change(scope.state, State.ROLLING_BACK)
    raise raised


def _find_out(scope: Scope, leaves: BaseException | None) -> Steps[BaseException | None]:
    """Ask the database what came of the COMMIT whose answer was lost. Result: the error that leaves, None if it has
    committed; an interrupt leaves in any case."""
    (name,) = scope.options.databases
    interrupted = not isinstance(leaves, Exception)
    unit = ""
    try:
        marked = yield Recall(scope.holding, name, scope.deadline_at, interrupted)
        if marked is None:
            verdict = Verdict(Outcome.ROLLED_BACK, "COMMIT was not sent, or there was nothing to commit")
        else:
            unit = scope.unit_id = marked.unit
            verdict = yield from resolve_steps(marked, name)
    except BaseException as raised:
        verdict = Verdict(Outcome.UNKNOWN, f"asking ended in {type(raised).__name__}")
        if not isinstance(raised, Exception):
            interrupted, leaves = True, _graver(leaves, raised)
    scope.state = change(scope.state, _STATES[verdict.outcome])
    scope.verdict = verdict
    if verdict.outcome is Outcome.COMMITTED:
        scope.committed += (name,)
    if leaves is None or interrupted:
        if leaves is not None:
            of = f"{unit} " if unit and verdict.outcome is Outcome.UNKNOWN else ""
            where = _where(scope, name)
            leaves.add_note(f"polysession: unit {scope.name!r} {of}on {where}: {verdict.outcome}; {verdict.reason}")
        return leaves
    match verdict.outcome:
        case Outcome.COMMITTED:
            return None
        case Outcome.ROLLED_BACK:
            leaves.add_note(f"polysession: unit {scope.name!r} has not committed: {verdict.reason}")
            return leaves
        case Outcome.LOST:
            failed: CommitLost | CommitUnknown = CommitLost(
                f"unit {scope.name!r}: {_where(scope, name)} has failed over to a server that does not have it",
                why=f"{verdict.reason}; the unit was opened at {scope.origin}",
                do=(
                    "find out who has read it or acted on it before it was lost, then repeat it",
                    "let the primary wait for a standby (synchronous replication), so that no commit is lost",
                ),
                unit=scope.name,
                database=name,
                tenant=scope.options.tenant,
                unit_id=unit,
            )
        case _:
            failed = CommitUnknown(
                f"unit {scope.name!r}: it is not known yet whether {_where(scope, name)} committed",
                why=(
                    f"COMMIT was sent and its answer was lost; {verdict.reason}; "
                    f"the unit's id is {unit or 'not known'}; it was opened at {scope.origin}"
                ),
                do=(
                    f"ask again later: {_question(scope, name, unit)}",
                    "do not repeat it before that",
                ),
                unit=scope.name,
                database=name,
                tenant=scope.options.tenant,
                committed=(),
                unit_id=unit,
            )
    failed.__cause__ = leaves
    return failed


def _where(scope: Scope, name: str) -> str:
    """One database of a unit, for people."""
    tenant = scope.options.tenant
    return repr(name) if tenant is None or len(scope.options.databases) > 1 else f"{name!r} of tenant {tenant!r}"


def _question(scope: Scope, name: str, unit: str) -> str:
    """How to ask what came of a unit."""
    tenant = scope.options.tenant
    if tenant is None:
        return f"sessions.outcome({unit!r}), or: polysession outcome {unit}"
    return (
        f"sessions.outcome({unit!r}, {name!r}, tenant={tenant!r}), "
        f"or: polysession outcome {unit} --database {name} --tenant {tenant}"
    )


def _leave_savepoint(scope: Scope, error: BaseException | None) -> Steps[None]:
    around = scope.around
    assert around is not None
    _no_part(scope, around)
    if around.root.ended:  # and the savepoint with it
        _undone(scope, around)
        if error is None:
            raise _left_too_late(scope, around.root)
        return
    leaves = error
    try:
        try:
            if error is None:
                _refuse_unfit(scope)
                yield Release(scope.savepoint)
                if scope.doom is not None:  # by a listener of the flush
                    _doom(around, scope.doom, scope.doom_origin or scope.origin)
                _release(scope, around)
                return
        except BaseException as raised:
            leaves = raised
        scope.state = change(scope.state, State.ROLLING_BACK)
        yield Restore(scope.savepoint)
    except BaseException as raised:
        _doom(around, leaves or raised, scope.origin)
        leaves = _graver(leaves, raised)
    if scope.state is not State.HANDED_OVER:  # else an interrupt came after it had been released
        _undone(scope, around)
    if leaves is not error:
        assert leaves is not None
        raise leaves


def _undone(scope: Scope, around: Scope) -> None:
    """The savepoint's work is gone, or the unit around it is doomed; its hooks are told so with those of that unit."""
    if scope.state is not State.ROLLING_BACK:
        scope.state = change(scope.state, State.ROLLING_BACK)
    scope.state = change(scope.state, State.ROLLED_BACK)
    for hook in scope.hooks:
        hook.undone = True
    _hand_over_hooks(scope, around)


def _release(scope: Scope, around: Scope) -> None:
    """From here on the work shares the fate of the unit around it."""
    _hand_over_hooks(scope, around)
    scope.joined = around
    scope.state = change(scope.state, State.HANDED_OVER)


def _hand_over_hooks(scope: Scope, around: Scope) -> None:
    around.hooks += scope.hooks
    scope.hooks = ()


def _doom(scope: Scope, error: BaseException, origin: Origin) -> None:
    """Keep `scope` from committing, because of an error in the unit opened at `origin`. The first one counts."""
    if scope.doom is None:
        scope.doom_origin = origin
        scope.doom = error


def _refuse_unfit(scope: Scope) -> None:
    """Raise what keeps `scope` from committing: a failure inside of it, or a unit inside that has not ended."""
    if scope.doom is not None:
        raise _rolled_back(scope) from scope.doom
    if scope.parts and scope.options.access is Access.WRITE:
        part = scope.parts[-1]
        raise SessionMisuse(
            f"unit {scope.name!r} ends, and a unit inside of it is still open",
            why=f"unit {part.name!r} was opened at {part.origin}, inside of the one opened at {scope.origin}",
            do=(
                "end the inner unit first: exhaust or close() the generator that opened it",
                "open the inner one with propagation='requires_new' to make it independent",
            ),
            name=scope.name,
        )


def _left_too_late(scope: Scope, root: Scope) -> UnitRolledBack:
    return UnitRolledBack(
        f"the work of unit {scope.name!r} was rolled back with the unit that it had joined, which ended before it",
        why=f"it was opened at {scope.origin}, inside of unit {root.name!r}, opened at {root.origin}",
        do=(
            "end units in the opposite order in which they were opened",
            "open this one with propagation='requires_new' to make it independent",
        ),
        unit=scope.name,
    )


def _rolled_back(scope: Scope) -> UnitRolledBack:
    doom = scope.doom
    return UnitRolledBack(
        f"unit {scope.name!r} was rolled back: a unit inside it failed and its error was swallowed",
        why=f"{type(doom).__name__} in the unit opened at {scope.doom_origin}",
        do=(
            "let that error pass",
            "open the inner unit with propagation='nested' to undo only its own work",
            "open it with propagation='requires_new' to make it independent",
        ),
        unit=scope.name,
    )
