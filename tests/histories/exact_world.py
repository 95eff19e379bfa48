"""A world in which the answer to COMMIT is lost in every way there is, and the database is asked what came of it.

Beside the faults of each step it has a *way*: what becomes of the unit's COMMIT on the server while the core goes on
(it arrives late, works on, idles with its row written, waits for a standby, is lost in a failover). The truth is the
table of rows when all is quiet; `wrongs` compares it with what was said.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from polysession._core import attempts as real_attempts
from polysession._core import outcome as real_outcome
from polysession._core import scope as real_scope
from polysession._core.hooks import Hook, Moment
from polysession._core.outcome import Doing
from polysession._core.steps import (
    Call,
    Classify,
    Close,
    Commit,
    Dial,
    Draw,
    Evict,
    Fence,
    HangUp,
    Look,
    ReadVerdict,
    Ready,
    Recall,
    Rest,
    Rollback,
    Seal,
    TakeKey,
)
from polysession.errors import CommitLost, CommitUnknown
from polysession.facts import Outcome
from polysession.failures import Failure, Kind, Phase
from polysession.policy import unit_ids

from .world import Broken, Fault, Lost, Refused, World

__all__ = ["KEYED", "WAYS", "ExactWorld", "Way", "exact_histories", "wrongs"]

OLD, NEW = 1, 2
"""Prints of the server's history, before and after a failover."""
_LIMIT = 10.0


class Duplicate(Refused):
    """The id is there."""


class Blocked(Refused):
    """A lock was not had in time."""


@dataclass(frozen=True)
class Way:
    """What becomes of the first COMMIT that is lost on its way or answered in vain."""

    name: str
    steps: int = 0
    """How many steps of the core go by until it comes about."""
    together: bool = True
    """The fence and its COMMIT are one message."""

    def __str__(self) -> str:
        return f"{self.name} after {self.steps}{'' if self.together else ', fence in two messages'}"


WAYS = (
    Way("as it is"),
    Way("as it is", together=False),
    *(Way(name, steps, both) for both in (True, False) for name in ("late",) for steps in range(1, 9)),
    *(Way(name, steps) for name in ("commits", "aborts", "replicated") for steps in (3, 6, 12)),
    Way("idle"),
    Way("idle", together=False),
    Way("replicating for ever"),
    Way("works for ever"),
    Way("failed over without"),
    Way("failed over with"),
    Way("failed over while replicating", 9),
    Way("replicating, then out of reach", 9),
    Way("another has the key", 2),
)
KEYED = frozenset(("as it is", "commits", "aborts", "idle", "failed over without", "another has the key"))
"""The ways that are tried with a caller's key, too: its row is there before COMMIT, so nothing of it can be late."""


@dataclass(eq=False)
class Transaction:
    """One on the server, that has or wants the row of an id."""

    unit: str
    verdict: str
    attempt: str = ""
    tags: list[str] = field(default_factory=list)
    backend: int = 0
    state: str = "open"
    """`open` (its client is there), `idle` (it is not), `working`, `replicating`, `committed`, `aborted`, `flying`."""

    @property
    def holds(self) -> bool:
        """It has the row, and is not over."""
        return self.state in ("open", "idle", "working", "replicating")


@dataclass(eq=False)
class Link:
    """A connection for asking."""

    server: int
    backend: int
    open: bool = True
    transaction: Transaction | None = None


class ExactWorld(World):
    """`World`, whose units have exact outcomes."""

    def __init__(
        self,
        faults: dict[int, Fault],
        scope: ModuleType = real_scope,
        attempts: ModuleType = real_attempts,
        way: Way = WAYS[0],
        key: bool = False,
    ) -> None:
        super().__init__(faults, scope, attempts)
        self.way = way
        self.key = unit_ids.key_id("key") if key else ""
        self.server = OLD
        self.reachable = True
        self.rows: dict[str, tuple[str, str]] = {}
        """The table: verdict and attempt by id."""
        self.transactions: list[Transaction] = []
        self.links: list[Link] = []
        self.units: dict[int, Transaction] = {}
        """By the identity of a holding, the transaction that wrote its row."""
        self.sent: set[int] = set()
        self.left = _LIMIT
        self.due: int | None = None
        self.quiet: Callable[[], None] | None = None
        self.spent_way = way.name == "as it is"
        self.called: list[str] = []
        self.evicted: list[str] = []
        self.asked_while_open = False
        self.ready = 0

    # -- the server

    def tick(self) -> None:
        """One step of the core went by."""
        if self.due is not None and len(self.log) >= self.due and self.quiet is not None:
            self.quiet()

    def settle(self) -> None:
        """All is quiet: what was still under way has come to its end."""
        for _ in range(3):
            if self.quiet is not None:
                self.due = 0
                self.quiet()

    def blocked(self, unit: str, but: Transaction | None = None) -> bool:
        """Another transaction that is not over has the id."""
        return any(one.unit == unit and one.holds for one in self.transactions if one is not but)

    def finish(self, transaction: Transaction, *, commits: bool) -> bool:
        """It ends; True."""
        if transaction.state in ("committed", "aborted"):
            return True
        transaction.state = "committed" if commits else "aborted"
        if commits:
            self.rows[transaction.unit] = (transaction.verdict, transaction.attempt)
            self.durable.setdefault("a", []).extend(transaction.tags)
        return True

    def later(self, what: Callable[[], bool]) -> None:
        """Do it when it is due, and again at each step until it answers True."""

        def quiet() -> None:
            if what():
                self.due = self.quiet = None

        self.due = len(self.log) + self.way.steps
        self.quiet = quiet

    def arrive(self, transaction: Transaction) -> bool:
        """The message with the row and COMMIT comes to the server."""
        if self.blocked(transaction.unit):
            return False
        self.finish(transaction, commits=transaction.unit not in self.rows)
        return True

    def lose(self, transaction: Transaction) -> None:
        """The unit's COMMIT goes the world's way; its client hears nothing."""
        self.spent_way = True
        match self.way.name:
            case "late":
                transaction.state = "flying"
                self.later(lambda: self.arrive(transaction))
            case "commits" | "aborts":
                transaction.state = "working"
                self.later(lambda: self.finish(transaction, commits=self.way.name == "commits"))
            case "replicated":
                transaction.state = "replicating"
                self.later(lambda: self.finish(transaction, commits=True))
            case "idle":
                transaction.state = "idle"
            case "replicating for ever":
                transaction.state = "replicating"
            case "works for ever":
                transaction.state = "working"
            case "failed over without":
                self.fail_over(transaction)
            case "failed over with":
                self.finish(transaction, commits=True)
                self.server = NEW
            case "failed over while replicating":
                transaction.state = "replicating"
                self.later(lambda: self.fail_over(transaction))
            case "replicating, then out of reach":
                transaction.state = "replicating"
                self.later(lambda: self.cut_off(transaction))
            case "another has the key":
                self.finish(transaction, commits=False)
                self.later(self.take_key)
            case _:
                raise AssertionError(self.way)
        raise Lost

    def fail_over(self, transaction: Transaction) -> bool:
        """To a server that does not have it."""
        self.finish(transaction, commits=False)
        self.server = NEW
        return True

    def cut_off(self, transaction: Transaction) -> bool:
        """The primary is gone with what no standby has, and nothing else can be reached."""
        self.finish(transaction, commits=False)
        self.reachable = False
        return True

    def take_key(self) -> bool:
        """Somebody else does the work of the key."""
        self.rows.setdefault(self.key or "another", ("k", "another"))
        return True

    # -- the steps

    def perform(self, step: Any) -> Any:
        """As `World.perform`; a fault that cuts a link leaves the server with an idle transaction."""
        self.tick()
        try:
            return super().perform(step)
        except BaseException:
            if isinstance(step, (Fence, Seal)) and step.link.transaction is not None:
                held = step.link.transaction
                if held.state == "open":
                    held.state = "idle"
            raise

    def _do(self, step: Any) -> Any:
        match step:
            case Ready():
                self.ready += 1
            case TakeKey(session):
                if self.blocked(self.key) or self.key in self.rows:
                    raise Duplicate
                self.units[id(session)] = self.begin(session, self.key, "k", f"attempt-{len(self.sessions)}")
            case Commit(session, database):
                self.commit(session, database)
            case Rollback(session) | Close(session):
                super()._do(step)
                transaction = self.units.get(id(session))
                if transaction is not None and transaction.state == "open":
                    self.finish(transaction, commits=False)
            case Classify(error, _):
                return _classified(error) or super()._do(step)
            case Draw(deadline_at):
                return 0.5, (self.left if deadline_at is not None else 1000.0)
            case Recall(session):
                return self.recall(session)
            case Dial() | Fence() | Seal() | ReadVerdict() | Look() | Evict() | HangUp():
                return self.ask(step)
            case Rest(seconds):
                self.left -= seconds
            case Call(hook, args):
                hook.call(*args)
            case _:
                return super()._do(step)
        return None

    def begin(self, session: Any, unit: str, verdict: str, attempt: str = "") -> Transaction:
        """The transaction that has the row of a unit."""
        transaction = Transaction(unit, verdict, attempt, backend=100 + len(self.transactions))
        self.transactions.append(transaction)
        return transaction

    def commit(self, session: Any, database: str) -> None:
        """The row and COMMIT, in one message."""
        transaction = self.units.get(id(session))
        if transaction is None:
            unit = unit_ids.new_id(1_700_000_000.0, 1000 + len(self.transactions), OLD)
            transaction = self.units[id(session)] = self.begin(session, unit, "c")
        transaction.tags = session.pending.pop(database, [])
        self.sent.add(id(session))
        if not self.spent_way:
            self.lose(transaction)
        self.finish(transaction, commits=True)

    def recall(self, session: Any) -> Any:
        """What is known of it."""
        if id(session) not in self.sent:
            return None
        transaction = self.units[id(session)]
        return real_outcome.Marked(
            unit=transaction.unit, attempt=transaction.attempt, server=OLD, backend=transaction.backend, until=1.0
        )

    def ask(self, step: Any) -> Any:
        """A question on a link."""
        if isinstance(step, Dial):
            self.asked_while_open = self.asked_while_open or any(
                not any(isinstance(done, Close) for done, _ in session.steps) for session in self.sessions
            )
            if not self.reachable:
                self.left -= step.seconds
                raise Lost
            link = Link(self.server, 500 + len(self.links))
            self.links.append(link)
            return link
        link = step.link
        if link.server != self.server and not isinstance(step, HangUp):
            raise Lost  # it led to the server that is gone
        match step:
            case HangUp():
                link.open = False
                if link.transaction is not None and link.transaction.state == "open":
                    self.finish(link.transaction, commits=False)
            case Fence(_, unit, seconds):
                if self.blocked(unit):
                    self.left -= seconds
                    raise Blocked
                if unit in self.rows:
                    raise Duplicate
                link.transaction = self.begin(None, unit, "a")
                link.transaction.backend = link.backend
                if self.way.together and not unit_ids.is_key(unit):
                    self.finish(link.transaction, commits=True)
            case Seal():
                self.finish(link.transaction, commits=True)
            case ReadVerdict(_, unit):
                return self.rows.get(unit)
            case Look(_, backend):
                return self.doing(backend)
            case Evict(_, backend):
                for one in self.transactions:
                    if one.backend == backend and one.holds:
                        self.evicted.append(one.state)
                        self.finish(one, commits=one.state == "replicating")
            case _:
                raise AssertionError(step)
        return None

    def doing(self, backend: int) -> Doing:
        """What a connection does."""
        for one in self.transactions:
            if one.backend == backend and one.holds:
                return {"idle": Doing.IDLE, "open": Doing.IDLE, "replicating": Doing.REPLICATING}.get(
                    one.state, Doing.RUNNING
                )
        return Doing.GONE

    # -- what a program does

    def once(self) -> Any:
        """One unit, by `run`, with a hook."""

        def body(session: Any) -> str:
            self.work(session, "one")
            self.runners[-1].scopes[-1].hooks += (Hook(Moment.COMMIT, self.called.append, ("one",), robust=False),)
            return "done"

        return self.run("one", body, exact=True, key="key" if self.key else None)


def _classified(error: BaseException) -> Failure | None:
    kind = Kind.DUPLICATE if type(error) is Duplicate else Kind.LOCK_TIMEOUT if type(error) is Blocked else None
    if kind is None:
        return None
    return Failure(
        kind=kind,
        code="",
        phase=Phase.BODY,
        transient=False,
        certainly_not_committed=True,
        connection_usable=True,
        reason="so it is",
        source="this test",
    )


def exact_faults(step: Any) -> tuple[Fault, ...]:
    """What can happen to a step of a unit with an exact outcome."""
    match step:
        case Classify() | Draw() | Recall():
            return (Fault.BROKEN, Fault.INTERRUPT_BEFORE)
        case Rest():
            return (Fault.INTERRUPT_BEFORE, Fault.CANCEL_AFTER)
        case Dial():
            return (Fault.LOST_BEFORE, Fault.INTERRUPT_BEFORE)
        case Fence() | Seal() | Commit():
            return (Fault.REFUSED, Fault.LOST_BEFORE, Fault.LOST_AFTER, Fault.INTERRUPT_BEFORE, Fault.CANCEL_AFTER)
        case ReadVerdict() | Look() | Evict() | HangUp():
            return (Fault.LOST_BEFORE, Fault.LOST_AFTER, Fault.INTERRUPT_BEFORE, Fault.CANCEL_AFTER)
        case Close():
            return (Fault.LOST_AFTER, Fault.INTERRUPT_BEFORE, Fault.CANCEL_AFTER)
        case _:
            return ()


def exact_histories(
    way: Way, *, deep: int, key: bool = False, scope: ModuleType = real_scope, attempts: ModuleType = real_attempts
) -> Iterator[ExactWorld]:
    """Every run of one unit in this way, with up to `deep` faults more."""

    def run(faults: dict[int, Fault]) -> ExactWorld:
        world = ExactWorld(faults, scope, attempts, way, key)
        try:
            world.error = None
            world.answer = world.once()  # type: ignore[attr-defined]  # read by `wrongs`
        except BaseException as error:
            world.error = error
        world.settle()
        return world

    def extend(faults: dict[int, Fault]) -> Iterator[ExactWorld]:
        world = run(faults)
        yield world
        if len(faults) < deep:
            for number in range(max(faults, default=-1) + 1, len(world.log)):
                for fault in exact_faults(world.log[number][0]):
                    yield from extend({**faults, number: fault})

    return extend({})


_FOR_EVER = ("works for ever", "replicating, then out of reach", "replicating for ever")
"""The ways after which nobody can know in time; of the last one it is known what holds while the server lives, unless
the last question of all was cut."""


def wrongs(world: ExactWorld) -> list[str]:
    """What was said or done wrongly; empty if all is well."""
    return list(_wrongs(world))


def _wrongs(world: ExactWorld) -> Iterator[str]:
    (runner,) = world.runners
    error = world.error
    interrupts = [raised for _, raised in world.log if raised is not None and not isinstance(raised, Exception)]
    done = world.durable.get("a", []).count("one")
    broken = any(isinstance(raised, Broken) for _, raised in world.log)
    if isinstance(error, (AssertionError, TypeError, AttributeError, KeyError)):
        yield f"an internal error left: {error!r}"
    if done > 1:
        yield f"the work was done {done} times"
    for scope in runner.scopes:
        yield from _said(world, scope, interrupted=bool(interrupts) or broken)
    if interrupts and error is not interrupts[0] and not isinstance(error, type(interrupts[0])):
        yield f"the interrupt {interrupts[0]!r} was lost; {error!r} left"
    if error is None and getattr(world, "answer", None) != "done":
        yield "the answer of the function was lost"
    if error is None and done != 1 and world.way.name != "replicating for ever":
        yield f"it returned, and its work was done {done} times"
    outcome = runner.scopes[-1].outcome
    if outcome is Outcome.COMMITTED and len(world.called) != 1 and not interrupts:
        yield f"its hook was called {len(world.called)} times"
    if outcome is not Outcome.COMMITTED and world.called:
        yield "its hook was called, and it has not committed"
    if world.asked_while_open:
        yield "the database was asked while the unit's own connection was open"
    if any(state != "idle" for state in world.evicted):
        yield f"a connection was ended that was {world.evicted}"
    if any(link.open for link in world.links) and not any(
        isinstance(step, HangUp) and raised is not None for step, raised in world.log
    ):
        yield "a link was left open"
    if any(one.verdict == "a" and unit_ids.is_key(one.unit) and one.state == "committed" for one in world.transactions):
        yield "the fence of a key was committed"
    if not world.ready:
        yield "nobody saw to it that there is a table"


def _said(world: ExactWorld, scope: Any, *, interrupted: bool) -> Iterator[str]:
    outcome = scope.outcome
    if outcome is None:
        yield "its outcome is not known"
        return
    transaction = world.units.get(id(scope.holding))
    if transaction is None:
        if outcome is not Outcome.ROLLED_BACK and not interrupted:
            yield f"it never had a row, and was reported as {outcome}"
        return
    is_there = transaction.state == "committed"
    replicating = transaction.state == "replicating"
    if outcome is Outcome.COMMITTED and not is_there and not replicating:
        yield "reported as committed, and it is not there"
    if outcome is Outcome.ROLLED_BACK and (is_there or replicating):
        yield "reported as rolled back, and it is there"
    if outcome is Outcome.LOST and (is_there or world.server == OLD):
        yield "reported as lost, and it is not"
    if outcome is Outcome.ROLLED_BACK and world.server == NEW and id(scope.holding) in world.sent:
        yield "reported as rolled back, though the database had failed over"
    nobody_knows = world.way.name in _FOR_EVER[: 3 if world.faults else 2]
    if outcome is Outcome.UNKNOWN and not interrupted and not nobody_knows:
        yield "it could have been found out"
    if replicating and outcome is Outcome.COMMITTED and scope.verdict is not None and not scope.verdict.unreplicated:
        yield "nobody was told that replication is unconfirmed"
    if outcome is Outcome.ROLLED_BACK and transaction.state in ("flying", "working", "idle"):
        yield f"reported as rolled back while it was {transaction.state}"
    error = world.error
    if outcome is Outcome.UNKNOWN and isinstance(error, Exception):
        if not isinstance(error, CommitUnknown):
            yield f"unknown, and {error!r} left"
        elif transaction.unit not in str(error) and not interrupted:
            yield "the error does not say the id"
    if outcome is Outcome.LOST and isinstance(error, Exception) and not isinstance(error, CommitLost):
        yield f"lost, and {error!r} left"
    if isinstance(error, asyncio.CancelledError) and not interrupted:
        yield "a cancellation from nowhere"
