"""What both doors share: names to endpoints, options to sessions, the scope that is open here, the facts.

The doors add signatures, documentation and their driver; nothing is decided there. Thread-safe: a door is made once
and used from everywhere.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import random
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterable
from typing import Any, Literal

from sqlalchemy.engine import Connection, Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from .. import config, dialects
from .._core.hooks import Hook, Moment
from .._core.scope import Scope, find_open
from .._core.states import State
from .._core.steps import Call, Classify, Draw
from ..errors import (
    AtomicUnavailable,
    CheckoutTimeout,
    ConfigError,
    DeadlineExceeded,
    DoorClosed,
    NotConfigured,
    NoUnit,
    RequestRefused,
    WrongOwner,
)
from ..facts import AttemptFailed, HoldId, HoldKind, Observer, Origin, Outcome, mark_outcome
from ..failures import Failure, Kind, Phase
from ..observe.live import Counts, Held, Live, Readiness, Relay
from ..options import Access, UnitOptions
from ..policy import routing
from ..topology import Endpoint, Pooler, Role, Topology
from . import lazy, places, pooled, sqlite
from .asking import without_frames
from .engines import FREE, HOLDING, REPEAT, AnyEngine, EngineRoom, begin_sqlite
from .guard import holding_of
from .holding import Holding, Models
from .signs import classify, driver_error

__all__ = ["Attempts", "Door", "log_failed_hook"]

_log = logging.getLogger("polysession")


class Door:
    """The part of `Sessions` and `AsyncSessions` that waits for nothing."""

    asynchronous: bool

    def __init__(self, databases: Any = None, *, observers: Iterable[Observer] = ()) -> None:
        lazy.install()
        self._engines: EngineRoom | None = None
        self._closed = False
        self._models = Models()
        self._holdings: dict[HoldId, Holding] = {}
        self._live = Live(self._state_of)
        self._relay = Relay(self._live, observers)
        self._current: contextvars.ContextVar[Scope | None] = contextvars.ContextVar("polysession", default=None)
        self._plain: dict[tuple[Access, tuple[str, ...]], UnitOptions] = {}
        self._lock = threading.Lock()
        if databases is not None:
            self.configure(databases)

    # -- configuration

    @without_frames
    def configure(self, databases: Any) -> None:
        """Give a door that was made with nothing its databases. Connects nothing.

        Takes what the constructor takes. Raises `ConfigError`, `MissingExtra`; and `ConfigError` if it has databases
        already: sessions may be open on them.
        """
        topology = databases if isinstance(databases, Topology) else config.from_databases(databases)
        engines = EngineRoom(topology, asynchronous=self.asynchronous)
        for database in topology.databases.values():
            for endpoint in database.endpoints:
                engines.check(endpoint)
        with self._lock:
            if self._engines is not None:
                raise ConfigError(
                    f"this {type(self).__name__} has databases already: {', '.join(self._engines.topology.databases)}",
                    why="sessions may be open on them",
                    do=("make a new one for other databases", "configure it once, at start-up"),
                    path="",
                )
            self._engines = engines

    def bind(self, target: Any, database: str) -> None:
        """Say that `target` lives in `database`: a mapped or base class, a `Table`, or a `MetaData`.

        The nearest declaration counts; a class may say it itself with `__database__ = "orders"`. Needed for units over
        several databases; in a unit over one it makes the use of a class from elsewhere an error.
        """
        self._topology.resolve((database,))
        self._models.declare(target, database)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the databases. Raises `NotConfigured` if the door has none yet."""
        return tuple(self._topology.databases)

    # -- what is held

    def held(self) -> tuple[Held, ...]:
        """Everything that was opened through this door and has not ended, oldest first. Reads memory only."""
        return self._live.held()

    def counts(self) -> Counts:
        """How many units and sessions were opened and how they ended. Reads memory only."""
        return self._live.counts()

    def ready(self) -> Readiness:
        """Whether this process can do work now, from counters alone: no connection is taken and nothing is asked.

        Not ready: a door without databases, a closed one, or an endpoint that is *stuck*: all its connections are out,
        somebody waits, and none has come back for longer than `checkout_timeout`.
        """
        if self._engines is None:
            return Readiness(ok=False, reason="not configured yet", endpoints=())
        endpoints = tuple(room.counts() for room in self._engines.rooms())
        if self._closed:
            return Readiness(ok=False, reason="closed", endpoints=endpoints)
        stuck = [counts.endpoint for counts in endpoints if counts.stuck]
        reason = f"no connection comes back to {', '.join(stuck)}" if stuck else "ready"
        return Readiness(ok=not stuck, reason=reason, endpoints=endpoints)

    def _state_of(self, hold: HoldId) -> str:
        holding = self._holdings.get(hold)
        return holding.state() if holding is not None else "ended"

    def _connections_out(self) -> int:
        """Connections that are out, over all endpoints of this process and event loop."""
        if self._engines is None:
            return 0
        return sum(len(room.holders()) for room in self._engines.rooms())

    # -- options and scopes

    @property
    def _ready_engines(self) -> EngineRoom:
        if self._engines is None:
            raise NotConfigured(
                f"this {type(self).__name__} was made without databases and not configured yet",
                why="it was used before it was told where its databases are",
                do=("call configure(...) at start-up, before the first use", "give the databases to the constructor"),
            )
        return self._engines

    @property
    def _topology(self) -> Topology:
        return self._ready_engines.topology

    def _options(self, access: Access, names: tuple[str, ...], extra: dict[str, Any]) -> UnitOptions:
        """The checked options; the common case, nothing asked for, is remembered."""
        engines = self._ready_engines
        if self._closed:
            raise DoorClosed(
                f"this {type(self).__name__} was closed",
                why="close() was called on it; its pools are gone",
                do=("close the door last, when all work has ended", "make a new one"),
            )
        self._check_loop()
        if not extra:
            found = self._plain.get((access, names))
            if found is None:
                found = UnitOptions(databases=engines.topology.resolve(names), access=access)
                self._check_options(found, Role.PRIMARY)
                self._plain[access, names] = found
            return found
        role = extra.pop("role", Role.PRIMARY)
        asked = UnitOptions(databases=engines.topology.resolve(names), access=access, **extra)
        self._check_options(asked, role)
        return asked

    def _check_loop(self) -> None:
        """Overridden by the synchronous door."""

    def _check_options(self, asked: UnitOptions, role: Role) -> None:
        if len(asked.databases) > 1 and asked.access is Access.WRITE and asked.atomic:
            raise AtomicUnavailable(
                f"a unit over {' and '.join(asked.databases)} cannot be all-or-nothing yet",
                why="committing several databases together needs two-phase commit, which this version does not do",
                do=(
                    "open one unit for each database",
                    "say atomic=False: they then commit one after the other, and PartialCommit tells if one fails",
                ),
                databases=asked.databases,
            )
        for name in asked.databases:
            routing.choose(self._topology.databases[name], access=asked.access, role=role, draw=0.0)
            dialects.of(self._backend(name)).given(asked.isolation, snapshot=asked.snapshot)

    def _backend(self, name: str) -> str:
        return self._ready_engines.backend(self._topology.databases[name].primary)

    def _scope(self, options: UnitOptions, name: str | None, origin: Origin, role: Role = Role.PRIMARY) -> Scope:
        outer = self._current.get()
        while outer is not None and outer.state is not State.OPEN:
            outer = outer.outer  # it was ended elsewhere; without this, what has ended would be kept for ever
        scope = Scope(options, name or origin.code.co_qualname, origin, _owner_key(), outer)
        scope.role = role
        if options.deadline is not None:
            scope.deadline_at = time.monotonic() + options.deadline
        return scope

    # -- steps that wait for nothing, for both drivers

    def _open(self, scope: Scope, transaction: bool) -> Holding:
        """Make the session of a unit."""
        options = scope.options
        timed = _bounding(scope)
        engines: dict[str, Engine] = {}
        endpoints = []
        made: list[AnyEngine] = []
        kind = FREE if not transaction else REPEAT if options.repeatable else options.access
        for name in options.databases:
            database = self._topology.databases[name]
            draw = random.random() if scope.role is Role.REPLICA else 0.0  # noqa: S311  # spreads load, guards nothing
            endpoint = routing.choose(database, access=options.access, role=scope.role, draw=draw).endpoint
            reads_pooled = options.access is Access.READ and endpoint.pooler is not Pooler.NONE
            engine = self._ready_engines.engine(endpoint, Access.READ if reads_pooled else kind)
            if not transaction:
                pooled.check_plain(endpoint, engine.dialect.driver, options, scope.name)
            made.append(engine)
            engines[name] = engine.sync_engine if isinstance(engine, AsyncEngine) else engine
            endpoints.append(endpoint.name)
        holding = Holding(
            HoldKind.UNIT,
            scope.name,
            engines,
            tuple(endpoints),
            options.access,
            scope.origin,
            self._models,
            self._relay.tell,
            time.monotonic(),
            at_begin=self._at_begin(options, transaction, next(iter(engines.values()))),
            deadline=timed.options.deadline,
            deadline_at=timed.deadline_at,
            awaits=self.asynchronous,
            in_transaction=transaction and (options.access is Access.WRITE or options.snapshot),
        )
        scope.holding = holding  # from here on an interrupt is cleaned up like the end of an open unit
        holding.scope = scope
        holding.repeated = scope.repeats
        self._holdings[holding.id] = holding
        holding.announce()
        keywords = self._session_keywords(options, transaction, next(iter(engines.values())))
        if len(engines) > 1:
            holding.options = keywords.pop("execution_options", {})
        if timed is not scope:
            holding.seen.timed = timed
        holding.session = self._make_session(holding, made[0] if len(made) == 1 else None, keywords)
        return holding

    def _make_session(self, holding: Holding, engine: AnyEngine | None, keywords: dict[str, Any]) -> Any:
        raise NotImplementedError

    def _session_keywords(self, options: UnitOptions, transaction: bool, engine: Engine) -> dict[str, Any]:
        """What the session is told about its transaction where the driver can carry it."""
        backend = engine.dialect.name
        asked: dict[str, Any] = {}
        if backend == "sqlite":
            return {}  # every SQLite transaction is serializable; how it begins is said at its begin
        dialect = dialects.of(backend)
        level = dialect.given(options.isolation, snapshot=options.snapshot)
        if not transaction and not pooled.reads_in_transaction(engine):
            asked["isolation_level"] = "AUTOCOMMIT"
        elif level is not None:
            asked["isolation_level"] = str(level)
        elif options.repeatable and dialect.capabilities.repeatable_isolation is not None:
            asked["isolation_level"] = str(dialect.capabilities.repeatable_isolation)
        if options.access is Access.READ and backend == "postgresql" and not EngineRoom.is_ours(engine):
            asked["postgresql_readonly"] = True
        return {"execution_options": asked} if asked else {}

    def _at_begin(self, options: UnitOptions, transaction: bool, engine: Engine) -> Callable[[Connection], None] | None:
        """What is said on the connection when the session takes it, where the driver cannot carry it."""
        backend = engine.dialect.name
        ours = EngineRoom.is_ours(engine)
        if backend == "sqlite" and ours:
            begin = _sqlite_begin(options, transaction)
            return lambda connection: begin_sqlite(connection, begin)
        if options.access is Access.READ and not ours:
            if backend == "sqlite":
                return lambda connection: _refuse_writes(connection, snapshot=options.snapshot)
            if backend in ("mysql", "mariadb"):
                return lambda connection: _say(connection, "SET TRANSACTION READ ONLY")
        return None

    def _perform_plain(self, step: Any) -> Any:
        """Steps that are answered at once."""
        if isinstance(step, Classify):
            return self._classify(step)
        if isinstance(step, Draw):
            left = float("inf") if step.deadline_at is None else step.deadline_at - time.monotonic()
            return random.random(), left  # noqa: S311  # jitter
        raise AssertionError(f"no driver performs {step!r}")

    def _classify(self, step: Classify) -> Failure:
        holding: Holding | None = step.holding
        phase = step.phase
        access = None
        if holding is not None:
            access = holding.access
            if phase is Phase.COMMIT_SENT and not holding.commit_sent and holding.notes_commit:
                phase = Phase.BODY  # it failed on the way to COMMIT, in a hook for instance
        return classify(step.error, phase, self._backend(step.database), access)

    # -- the scope that is open here

    def _entered(self, scope: Scope) -> Any:
        self._current.set(scope)
        holding: Any = scope.holding
        if scope.deadline_at is not None and not scope.whole:
            # a run inside of a run has the deadline of all attempts: that of its own options is longer
            holding.seen.tighten(scope, scope.options.deadline, scope.deadline_at)
        return holding.session

    def _left(self, scope: Scope) -> None:
        """Forget the scope and note the end of what it held."""
        if self._current.get() is scope:
            self._current.set(scope.outer)
        holding: Holding | None = scope.holding
        if holding is not None and scope.deadline_at is not None:
            holding.seen.loosen(scope)
        if holding is not None and scope.decides and scope.savepoint is None:
            holding.end(scope.outcome or Outcome.DROPPED)
            self._holdings.pop(holding.id, None)

    def _late(self, scope: Scope) -> DeadlineExceeded | None:
        """The report for a part of a unit whose own deadline has passed; a whole unit is told at its COMMIT."""
        holding: Holding | None = scope.holding
        if scope.deadline_at is None or holding is None or scope.whole or time.monotonic() < scope.deadline_at:
            return None
        return holding.seen.exceeded("at its end")

    def _overrun(
        self, scope: Scope, error: BaseException | None, *, timed_out: bool = False
    ) -> DeadlineExceeded | None:
        """The report for a unit that its deadline ended; None if something else did."""
        if scope.deadline_at is None or error is None or isinstance(error, DeadlineExceeded):
            return None
        holding: Holding | None = scope.holding
        if holding is None or time.monotonic() < scope.deadline_at:
            return None
        if timed_out and isinstance(error, asyncio.CancelledError):
            return holding.seen.exceeded("while it waited")
        if isinstance(error, CheckoutTimeout):
            return holding.seen.exceeded("waiting for a connection")
        if driver_error(error) is not None:
            failure = classify(error, Phase.BODY, self._backend(scope.options.databases[0]), holding.access)
            if failure.kind in _ENDED_BY_TIME:
                return holding.seen.exceeded("in a statement")
        return None

    def _current_session(self, name: str | None) -> Any:
        names = self._topology.resolve((name,) if name is not None else ())
        scope = find_open(self._current.get(), names, _owner_key())
        if scope is not None and scope.holding is not None:
            return scope.holding.session
        foreign = find_open_of_others(self._current.get(), names)
        if foreign is not None:
            raise WrongOwner(
                f"unit {foreign.name!r} over {names[0]} is open, but not in {places.here()}",
                why=f"it was opened at {foreign.origin} by another task or thread; asked for at {places.caller()}",
                do=("open a unit of its own in each task or thread", "pass the identifiers, not the session"),
                name=foreign.name,
            )
        raise NoUnit(
            f"no unit of work over {names[0]!r} is open here",
            why=f"asked for at {places.caller()}",
            do=(f"open one with begin({names[0]!r}) or read({names[0]!r})", "pass the session as an argument"),
            database=names[0],
        )

    # -- independent sessions

    def _adopt(self, session: Any, name: str, endpoint: Endpoint, engine: Engine, origin: Origin, strict: bool) -> None:
        """Hold a session that its owner ends: guard it, show it, notice when it is dropped."""
        holding = Holding(
            HoldKind.SESSION,
            origin.code.co_qualname,
            {name: engine},
            (endpoint.name,),
            Access.WRITE,
            origin,
            self._models,
            self._told_end,
            time.monotonic(),
            strict=strict,
            at_begin=self._at_begin(_FREE_OPTIONS, True, engine),
            awaits=self.asynchronous,
        )
        self._holdings[holding.id] = holding
        holding.watch = weakref.ref(session, lambda _: self._dropped(holding))
        sync = session.sync_session if self.asynchronous else session
        sync._polysession_holding = holding
        holding.announce()

    def _told_end(self, fact: Any) -> None:
        self._relay.tell(fact)
        if not hasattr(fact, "kind"):
            self._holdings.pop(fact.hold, None)

    def _dropped(self, holding: Holding) -> None:
        if holding.ended is None:
            taken = holding.taken
            holding.end(Outcome.DROPPED, holding.origin)
            if taken is not None:
                self._take_back(taken)
            warnings.warn(
                f"polysession: {holding.kind} {holding.name!r} was dropped without close(); it was opened at "
                f"{holding.origin} by {holding.owner}",
                ResourceWarning,
                stacklevel=2,
                source=None,
            )

    def _take_back(self, connection: Connection) -> None:
        """Return the connection of a session that was dropped. Overridden by the asynchronous door."""

    def _say_dropped(self, scope: Scope) -> None:
        warnings.warn(
            f"polysession: unit {scope.name!r} was dropped without leaving its block; it was opened at {scope.origin}",
            ResourceWarning,
            stacklevel=2,
        )

    def _begin_close(self) -> EngineRoom | None:
        """Refuse new work; the engines to dispose of, or None if there is nothing to do."""
        with self._lock:
            if self._closed:
                return None
            self._closed = True
        return self._engines

    # -- hand-over

    def take_over(self, session: Any) -> None:
        """From here on `session` belongs to the thread or task that calls this.

        For frameworks that open a unit in one thread or task and use or finish it in another: each calls it before its
        turn. It is not for sharing: two that use one session at once still damage each other's work. A second call
        from the owner does nothing. Raises `SessionEnded`; and `RequestRefused` for a session of another door.
        """
        holding = holding_of(session.sync_session if self.asynchronous else session)
        if holding is None or self._holdings.get(holding.id) is not holding:
            if holding is not None and holding.ended is not None:
                holding.check()
            raise RequestRefused(
                "the session was not given out by this door",
                why=f"take_over() was called at {places.caller()}",
                do=("call it on the door that opened the session",),
            )
        holding.take_over()
        if holding.scope is not None:
            holding.scope.owner = _owner_key()

    # -- hooks

    def on_commit(
        self,
        call: Callable[..., Any],
        *args: Any,
        database: str | None = None,
        robust: bool = False,
        outside: Literal["error", "run"] = "error",
    ) -> None:
        """Call `call(*args)` after the outermost commit of the unit that is open here; dropped if it rolls back.

        Hooks run in the order in which they were registered, when the session is closed and its connection is back.
        What is registered behind a savepoint that is rolled back counts as rolled back. The call is made at most
        once: a process that dies after COMMIT makes none. It may be a coroutine function at the asynchronous door.

        All hooks run even if one raises; what they raise leaves the unit, which has committed all the same. That of a
        `robust` one is logged instead. Outside of a unit this raises `NoUnit`, or calls at once with `outside="run"`.
        """
        self._hook(Moment.COMMIT, call, args, database, robust, outside)

    def on_rollback(
        self, call: Callable[..., Any], *args: Any, database: str | None = None, robust: bool = False
    ) -> None:
        """Call `call(*args)` when the work of the unit that is open here has been rolled back; as `on_commit`.

        For a unit that is repeated, only the last attempt counts.
        """
        self._hook(Moment.ROLLBACK, call, args, database, robust, "error")

    def on_outcome(
        self, call: Callable[..., Any], *args: Any, database: str | None = None, robust: bool = False
    ) -> None:
        """Call `call(outcome, *args)` when the unit that is open here has ended, however it ended; as `on_commit`.

        `outcome` is an `Outcome`: it may be `UNKNOWN`, of which neither of the other hooks is told.
        """
        self._hook(Moment.OUTCOME, call, args, database, robust, "error")

    def _hook(
        self,
        moment: Moment,
        call: Callable[..., Any],
        args: tuple[Any, ...],
        database: str | None,
        robust: bool,
        outside: str,
    ) -> None:
        waits = inspect.iscoroutinefunction(call)
        if waits and not self.asynchronous:
            raise RequestRefused(
                f"{moment.value}() was given the coroutine function {call.__qualname__!r} at the synchronous door",
                why="nothing there could await it",
                do=("give it an ordinary function", "use AsyncSessions"),
            )
        names = tuple(self._topology.databases) if database is None else self._topology.resolve((database,))
        scope = find_open(self._current.get(), names, _owner_key())
        if scope is not None:
            scope.hooks.append(Hook(moment, call, args, robust=robust))
            return
        if outside == "run" and not waits:
            call(*args)
            return
        raise NoUnit(
            f"{moment.value}() was called outside of a unit of work",
            why=f"no unit is open at {places.caller()}, so there is nothing to wait for",
            do=(
                "call it inside of the unit's block",
                "await the coroutine function yourself" if waits else "say outside='run' to call it at once",
            ),
            database=database or "",
        )

    def _perform_call(self, step: Call) -> Any:
        try:
            return step.hook.call(*step.args)
        except Exception:
            if step.hook.robust:
                log_failed_hook(step.hook)
            raise

    def _say_still_open(self) -> None:
        """Name what is open on a door that was closed just now."""
        held = self._live.held()
        if held:
            named = "; ".join(f"{row.name!r} opened at {row.place}" for row in held[:5])
            warnings.warn(
                f"polysession: the door was closed while {len(held)} units or sessions were open: {named}",
                ResourceWarning,
                stacklevel=3,
            )

    # -- repetition

    def _failed(self, scope: Scope, attempt: int, failure: Failure, wait: float | None) -> None:
        self._relay.tell(AttemptFailed(scope.name, attempt, str(failure.kind), failure.reason, wait, time.monotonic()))


_ENDED_BY_TIME = {
    Kind.STATEMENT_TIMEOUT,
    Kind.TRANSACTION_TIMEOUT,
    Kind.CANCELLED,
    Kind.LOCK_TIMEOUT,
    Kind.BUSY,
}
"""What a statement ends in that took longer than the deadline left."""

_FREE_OPTIONS = UnitOptions(databases=())


def log_failed_hook(hook: Hook) -> None:
    """Say that a robust hook failed; to be called while its error is handled."""
    _log.exception("%r failed; the unit has ended all the same", hook)


class Attempts:
    """What the shell does around each attempt of a repeatable unit."""

    __slots__ = ("_door", "_last", "_name", "_options", "_origin", "deadline_at", "outcome")

    def __init__(self, door: Door, options: UnitOptions, name: str, origin: Origin) -> None:
        self.deadline_at = None if options.deadline is None else time.monotonic() + options.deadline
        self.outcome: Outcome | None = None
        """How the last attempt ended; None if it joined another unit or none was made."""
        self._last: Scope | None = None
        self._door = door
        self._options = options
        self._name = name
        self._origin = origin

    def fresh(self) -> Scope:
        """A new scope for the next attempt, under the deadline of all attempts."""
        scope = self._door._scope(self._options, self._name, self._origin)
        scope.deadline_at = self.deadline_at
        scope.repeats = self
        return scope

    def opened(self, scope: Scope) -> Any:
        """Make `scope` the current one; its session."""
        return self._door._entered(scope)

    def ended(self, scope: Scope) -> None:
        """Undo `opened` and note the end."""
        self._door._left(scope)
        self.outcome = scope.outcome if scope.decides else None
        self._last = scope

    def overrun(self, error: BaseException, *, timed_out: bool = False) -> DeadlineExceeded | None:
        """Mark `error`, which leaves the unit, with its outcome; the report if it was the deadline that ended it."""
        found = None
        if self._last is not None:
            found = self._door._overrun(self._last, error, timed_out=timed_out)
            if self.outcome is not None:
                mark_outcome(found or error, self.outcome)
        return found

    def refuse_late(self) -> None:
        """Raise `DeadlineExceeded` if what runs now is a part of another unit and has overrun its own deadline."""
        scope = self._door._current.get()
        late = self._door._late(scope) if scope is not None else None
        if late is not None:
            raise late

    def failed(self, scope: Scope, attempt: int, failure: Failure, wait: float | None) -> None:
        """Tell the observers."""
        self._door._failed(scope, attempt, failure, wait)


def _bounding(scope: Scope) -> Scope:
    """Whose deadline bounds a new unit: its own if it asks for one, else that of the unit around it, if that has one.

    What is done inside of a unit is done in its time; a longer deadline of its own is kept all the same.
    """
    found: Scope | None = scope
    while found is not None:
        if found.deadline_at is not None and found.state in _GOES_ON and found.owner == scope.owner:
            return found
        found = found.outer
    return scope


_GOES_ON = (State.NEW, State.OPEN)


def find_open_of_others(innermost: Scope | None, names: tuple[str, ...]) -> Scope | None:
    """A unit over one of these databases that this context inherited from another task or thread."""
    scope = innermost
    while scope is not None:
        if scope.root.outcome is None and any(name in scope.options.databases for name in names):
            return scope.root
        scope = scope.outer
    return None


def _owner_key() -> object:
    """What a unit belongs to: the running task, or the thread if there is none."""
    task = places.current_task()
    return weakref.ref(task) if task is not None else (threading.get_ident(), places.PROCESS.process)


def _sqlite_begin(options: UnitOptions, transaction: bool) -> sqlite.Begin:
    if not transaction:
        return sqlite.Begin.NONE
    if options.access is Access.READ:
        return sqlite.Begin.DEFERRED if options.snapshot else sqlite.Begin.NONE
    return sqlite.Begin.DEFERRED if options is _FREE_OPTIONS else sqlite.Begin.IMMEDIATE


def _refuse_writes(connection: Connection, *, snapshot: bool) -> None:
    """Let an SQLite connection that is not of our making refuse writes until the unit ends (sqlite.org/pragma.html)."""
    holding: Holding = connection.info[HOLDING]
    if not connection.exec_driver_sql("PRAGMA query_only").scalar():
        holding.at_end = lambda: _say(connection, "PRAGMA query_only = OFF")
        _say(connection, "PRAGMA query_only = ON")
    driver: Any = connection.connection.driver_connection
    if snapshot and not driver.in_transaction:  # Python's driver begins none for a SELECT
        _say(connection, "BEGIN")


def _say(connection: Connection, statement: str) -> None:
    connection.exec_driver_sql(statement)
