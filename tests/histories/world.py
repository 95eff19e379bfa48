"""A world of databases as plain data: performs the core's steps, lets any of them fail, and knows the truth.

The truth is what is durable in which database. What the core says of a unit (`Scope.outcome`, the error that leaves) is
compared with it in `invariants`.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from types import ModuleType, TracebackType
from typing import Any, Self

from polysession._core import attempts as real_attempts
from polysession._core import scope as real_scope
from polysession._core.steps import (
    Body,
    Classify,
    Close,
    Commit,
    Draw,
    Flush,
    Open,
    Pause,
    Release,
    Restore,
    Rollback,
    Savepoint,
)
from polysession._core.turns import Turn, Turns
from polysession.facts import Origin
from polysession.failures import Failure, Kind, Phase
from polysession.options import Propagation, UnitOptions
from polysession.policy.retry import Backoff
from polysession.testing import play

_frame = inspect.currentframe()
assert _frame is not None
ORIGIN = Origin(_frame.f_code, 0)


class Refused(Exception):
    """The database says no; nothing was done."""


class Lost(Exception):
    """The link died; what was asked for may have been done or not."""


class Broken(Exception):
    """The classifier itself failed."""


class BodyFailed(Exception):
    """Raised by the user's code."""


class Fault(Enum):
    """What happens to a step: which error, and whether the step was performed before it came."""

    REFUSED = (Refused, False)
    LOST_BEFORE = (Lost, False)
    LOST_AFTER = (Lost, True)
    INTERRUPT_BEFORE = (KeyboardInterrupt, False)
    INTERRUPT_AFTER = (KeyboardInterrupt, True)
    CANCEL_BEFORE = (asyncio.CancelledError, False)
    CANCEL_AFTER = (asyncio.CancelledError, True)
    BROKEN = (Broken, False)

    @property
    def performed(self) -> bool:
        """The step was performed, only its answer was lost."""
        return bool(self.value[1])

    def error(self) -> BaseException:
        """A new error of this kind."""
        kind: type[BaseException] = self.value[0]
        return kind(self.name)


def faults_of(step: Any) -> tuple[Fault, ...]:
    """What can happen to a step of this kind."""
    if isinstance(step, (Classify, Draw)):
        return (Fault.BROKEN, Fault.INTERRUPT_BEFORE)
    if isinstance(step, Pause):
        return (Fault.INTERRUPT_BEFORE, Fault.CANCEL_AFTER)
    if isinstance(step, Body):
        return (Fault.REFUSED, Fault.LOST_AFTER, Fault.INTERRUPT_BEFORE, Fault.CANCEL_AFTER)
    return tuple(fault for fault in Fault if fault is not Fault.BROKEN)


@dataclass(eq=False)
class Session:
    """What the world knows of one holding."""

    databases: tuple[str, ...]
    plain: bool
    pending: dict[str, list[str]] = field(default_factory=dict)
    steps: list[tuple[Any, BaseException | None]] = field(default_factory=list)


@dataclass(eq=False)
class Mark:
    """A savepoint: how much was pending when it was set."""

    session: Session
    pending: dict[str, int]
    gone: bool = False


@dataclass(eq=False)
class Ended:
    """One unit of the program after its end."""

    name: str
    scope: Any
    entered: bool
    body_error: BaseException | None
    doomed: bool
    unfit: bool
    """A unit that had joined it was still open."""
    late: bool
    """The unit that it had joined was not open any more."""
    left: BaseException | None
    steps: list[tuple[Any, BaseException | None]]
    """The steps of its end, each with its error."""


class World:
    """Runs one program with one set of faults, given as number of the step to fault."""

    def __init__(
        self, faults: dict[int, Fault], scope: ModuleType = real_scope, attempts: ModuleType = real_attempts
    ) -> None:
        self.faults = faults
        self.scope: Any = scope
        self.attempts: Any = attempts
        self.turns = Turns()
        self.log: list[tuple[Any, BaseException | None]] = []
        self.sessions: list[Session] = []
        self.durable: dict[str, list[str]] = {}
        self.ended: list[Ended] = []
        self.runners: list[_Runner] = []
        self.current: tuple[Any, ...] = ()
        """The units that were opened, the last one first."""
        self.running: tuple[str, ...] = ()
        """The generators that run just now, the innermost first."""
        self.error: BaseException | None = None
        """What left the program."""
        self.body: Callable[[Session], Any] | None = None

    # -- what the database does

    def work(self, session: Session, tag: str) -> None:
        """The user's code writes a row in each database of the unit."""
        for database in session.databases:
            into = self.durable if session.plain else session.pending
            into.setdefault(database, []).append(tag)

    def perform(self, step: Any) -> Any:
        """Perform one step, or let it fail as the faults say."""
        fault = self.faults.get(len(self.log))
        at = len(self.log)
        self.log.append((step, None))
        try:
            if fault is not None and not fault.performed:
                raise fault.error()
            answer = self._do(step)
            if fault is not None:
                raise fault.error()
        except BaseException as error:
            self.log[at] = (step, error)
            self._note(step, error)
            raise
        self._note(step, None)
        return answer

    def _note(self, step: Any, error: BaseException | None) -> None:
        holding = step.savepoint.session if isinstance(step, (Release, Restore)) else getattr(step, "holding", None)
        if isinstance(holding, Session):
            holding.steps.append((step, error))

    def _do(self, step: Any) -> Any:
        match step:
            case Open(scope, transaction):
                session = Session(scope.options.databases, plain=not transaction)
                self.sessions.append(session)
                scope.holding = session  # the performer's duty: an interrupt after this loses nothing
                return session
            case Savepoint(session):
                return Mark(session, {name: len(rows) for name, rows in session.pending.items()})
            case Release(mark) | Restore(mark):
                if mark.gone:
                    raise Refused("there is no such savepoint")
                mark.gone = isinstance(step, Release)
                if isinstance(step, Restore):
                    for name, rows in mark.session.pending.items():
                        del rows[mark.pending.get(name, 0) :]
            case Commit(session, database):
                self.durable.setdefault(database, []).extend(session.pending.pop(database, []))
            case Rollback(session):
                session.pending.clear()
            case Close(session):
                session.pending.clear()
            case Classify(error, phase):
                return _failure(error, phase)
            case Draw():
                return 0.5, 1000.0
            case Body(session):
                assert self.body is not None
                return self.body(session)
            case Flush() | Pause():
                pass
            case _:
                raise AssertionError(f"unknown step {step!r}")
        return None

    # -- what a door does

    def unit(self, name: str, *databases: str, home: str | None = None, **options: Any) -> Unit:
        """A block, as the doors make it."""
        unit = Unit(self, name, UnitOptions(databases=databases or ("a",), **options))
        unit.scope.home = home
        return unit

    def end(self, scope: Any, error: BaseException | None, *, entered: bool) -> None:
        """Leave `scope`, and note what came of it."""
        doomed = scope.doom is not None
        unfit = bool(scope.parts)
        late = scope.root.ended or (scope.around is not None and scope.around.root.ended)
        began = len(self.log)
        played = play(self.scope.leave_steps(scope, error), self.perform)
        left = played.error if played.error is not None else error
        self.ended.append(Ended(scope.name, scope, entered, error, doomed, unfit, late, left, self.log[began:]))
        self.leave(scope)
        if played.error is not None:
            raise played.error

    def enter(self, scope: Any) -> None:
        """Make it the innermost one."""
        self.current = (scope, *self.current)

    def leave(self, scope: Any) -> None:
        """Undo `enter`; at any time."""
        self.current = tuple(unit for unit in self.current if unit is not scope)

    def here(self) -> tuple[Any, ...]:
        """The units that are open where the program is."""
        return self.scope.open_inside(self.current, self.running)  # type: ignore[no-any-return]  # of a copied module

    @contextmanager
    def inside(self, generator: str) -> Iterator[None]:
        """Where that generator runs; `unit(..., home=generator)` is what it opens."""
        before, self.running = self.running, (generator, *self.running)
        try:
            yield
        finally:
            self.running = before

    def run(self, name: str, body: Callable[[Session], Any], **options: Any) -> Any:
        """A repeatable unit, as the doors run it."""
        runner = _Runner(self, name, UnitOptions(databases=("a",), **options))
        before, self.body = self.body, body
        try:
            policy = Backoff(attempts=3)
            return play(self.attempts.attempt_steps(runner, policy, deadline_at=None), self.perform).value()
        finally:
            self.body = before


class Unit:
    """One block of the program; enters and leaves as `polysession.sessions.Unit` does."""

    def __init__(self, world: World, name: str, options: UnitOptions) -> None:
        self.world = world
        self.scope = world.scope.Scope(options, name, ORIGIN, "me", world.here())

    def __enter__(self) -> Self:
        world, scope = self.world, self.scope
        try:
            play(world.scope.enter_steps(scope), world.perform).value()
            world.enter(scope)
        except BaseException as error:
            if scope.holding is not None and scope.outcome is None:
                world.end(scope, error, entered=False)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.world.end(self.scope, error, entered=True)

    def work(self) -> None:
        """Write a row that is named like the unit."""
        self.world.work(self.scope.holding, self.scope.name)


class _Runner:
    """What a door does around each attempt."""

    def __init__(self, world: World, name: str, options: UnitOptions) -> None:
        self.world = world
        self.name = name
        self.options = options
        self.scopes: list[Any] = []
        self.open: list[Any] = []
        self.ended_count = 0
        self.turn = Turn(world.turns, name)
        world.runners.append(self)

    def fresh(self) -> Any:
        """A new scope for the next attempt."""
        world = self.world
        scope = world.scope.Scope(self.options, self.name, ORIGIN, "me", world.here())
        self.scopes.append(scope)
        return scope

    def opened(self, scope: Any) -> Any:
        """Make it the current one."""
        self.world.enter(scope)
        self.open.append(scope)
        return scope.holding

    def ended(self, scope: Any) -> None:
        """Undo `opened`."""
        self.ended_count += 1
        self.world.leave(scope)
        if scope in self.open:
            self.open.remove(scope)

    def took(self) -> float:
        """No time passes here."""
        return 0.0

    def failed(self, scope: Any, attempt: int, failure: Failure, wait: float | None) -> None:
        """Nobody is told here."""


def _failure(error: BaseException, phase: Phase) -> Failure:
    """What the dialect's tables say: a refusal is certain, a lost link at COMMIT is not."""
    source: BaseException = error
    while source.__cause__ is not None:
        source = source.__cause__
    certain = phase is not Phase.COMMIT_SENT or isinstance(source, Refused)
    return Failure(
        kind=Kind.SERIALIZATION if isinstance(source, Refused) else Kind.CONNECTION_LOST,
        code="",
        phase=phase,
        transient=certain and isinstance(source, (Refused, Lost)),
        certainly_not_committed=certain,
        connection_usable=isinstance(source, Refused),
        reason="so it is",
        source="this test",
    )


def histories(
    program: Callable[[World], None], *, deep: int, scope: ModuleType = real_scope, attempts: ModuleType = real_attempts
) -> Iterator[World]:
    """Every run of `program` with up to `deep` faults, the first after the second in the order of steps."""

    def run(faults: dict[int, Fault]) -> World:
        world = World(faults, scope, attempts)
        try:
            program(world)
        except BaseException as error:
            world.error = error
        return world

    def extend(faults: dict[int, Fault]) -> Iterator[World]:
        world = run(faults)
        yield world
        if len(faults) < deep:
            for number in range(max(faults, default=-1) + 1, len(world.log)):
                for fault in faults_of(world.log[number][0]):
                    yield from extend({**faults, number: fault})

    return extend({})


NEW = Propagation.REQUIRES_NEW
NESTED = Propagation.NESTED
