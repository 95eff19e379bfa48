"""What both doors share: options to scopes, scopes to sessions, their ends, and the facts that are told.

The doors add signatures, documentation and their driver; nothing is decided there. Thread-safe: a door is made once
and used from everywhere.
"""

from __future__ import annotations

import asyncio
import math
import random
import sys
import threading
import time
import warnings
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

from sqlalchemy.engine import Engine
from sqlalchemy.exc import PendingRollbackError
from sqlalchemy.ext.asyncio import AsyncEngine

from .. import dialects
from .._core.scope import Scope, bounding, end_at_once, hand_over, may_end_at_once, open_at_once
from .._core.states import State
from .._core.steps import Classify, Draw, Recall
from ..errors import (
    AtomicUnavailable,
    CheckoutTimeout,
    DeadlineExceeded,
    RequestRefused,
)
from ..facts import AttemptFailed, HoldKind, Origin, Outcome
from ..failures import Failure, Kind, Phase
from ..options import Access, Propagation, UnitOptions
from ..policy import routing
from ..topology import Endpoint, Role
from . import generators, places, pooled
from .begins import UNASKED, said_at_begin
from .control import Control
from .engines import AnyEngine, EngineRoom
from .exact_units import ExactUnits
from .finish import Finish
from .guard import holding_of
from .holding import Holding
from .hook_verbs import HookVerbs
from .left_behind import LeftBehind
from .marking import Trail
from .outside import BLOCK, refuse_inside
from .owners import THREAD
from .places import PROCESS
from .plans import Made, Plan, patience_of, plan_of
from .signs import backend_of, classify, driver_error, was_connecting
from .standing import owner_key
from .watch import Watch

__all__ = ["Door"]

_getframe: Final = sys._getframe
_UNIT: Final = HoldKind.UNIT
_READ: Final = Access.READ
_MANDATORY: Final = Propagation.MANDATORY
_WRITE: Final = Access.WRITE
_PRIMARY: Final = Role.PRIMARY
_COMMITTED: Final = Outcome.COMMITTED
_OPEN: Final = State.OPEN
"""Members of enumerations, which Python 3.11 looks for at each use: these are used by every unit."""
_NOWHERE: Final = Origin(Plan.__init__.__code__, 0)
"""Of what is only copied."""
_SCOPE: Final[Any] = Scope(UnitOptions(databases=(), access=_READ), "", _NOWHERE, None)
"""Of which that of each unit is a copy that asks for nothing."""
_NOTHING: Final[dict[str, Any]] = {}
"""Is asked of a session besides, as a rule."""


class Door(HookVerbs, ExactUnits, LeftBehind, Control):
    """The part of `Sessions` and `AsyncSessions` that waits for nothing."""

    # -- options and scopes

    def _options(self, access: Access, names: tuple[str, ...], extra: dict[str, Any]) -> UnitOptions:
        """The checked options; the common case, nothing asked for, is remembered."""
        if BLOCK.get() is not None:
            refuse_inside(self._models, "a unit or session was opened")
        if self._engines is None:
            _ = self._ready_engines  # which says so
        if self._closed:
            raise self._refusal_of_closed()
        self._check_loop()
        if not extra:
            try:
                plan = (self._reads if access is _READ else self._writes).get(names)
                found = plan.options if plan is not None else self._plain.get((access, names))
            except TypeError:
                found = None  # a list of names: refused below with a sentence
            return found if found is not None else self._remember(access, names, None)
        if len(extra) == 1 and "tenant" in extra:
            tenant = extra["tenant"]
            try:
                found = self._plain.get((access, names, tenant))
            except TypeError:
                found = None  # as above
            return found if found is not None else self._remember(access, names, tenant)
        role = extra.pop("role", Role.PRIMARY)
        databases = self._topology.resolve(names)
        if "exact" not in extra:
            extra.update(self._certainty(databases, access))
        asked = UnitOptions(databases=databases, access=access, **extra)
        self._check_options(asked, role)
        return asked

    def _remember(self, access: Access, names: tuple[str, ...], tenant: str | None) -> UnitOptions:
        """The checked options of a unit that asks for nothing, or for a tenant and nothing else."""
        databases = self._topology.resolve(names)
        found = UnitOptions(databases=databases, access=access, tenant=tenant, **self._certainty(databases, access))
        self._check_options(found, Role.PRIMARY)
        if tenant is not None or not self._have_tenants(databases):
            plan = self._plans[id(found)] = plan_of(self._topology.databases, found, Role.PRIMARY, transaction=True)
            plan.is_kept = True
            if plan.at_once and tenant is None:
                (self._reads if access is _READ else self._writes)[names] = plan
                return found
        self._plain[(access, names) if tenant is None else (access, names, tenant)] = found
        return found

    def _have_tenants(self, names: tuple[str, ...]) -> bool:
        """One of these databases is many, one for each tenant."""
        return any(self._topology.databases[name].tenants for name in names)

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
        if asked.exact and len(asked.databases) > 1:
            raise RequestRefused(
                f"a unit over {' and '.join(asked.databases)} cannot have an exact outcome",
                why="its databases commit one after the other, so there is not one outcome",
                do=("open one unit for each database", "leave out outcome and key"),
                databases=asked.databases,
                attribute="outcome",
            )
        if asked.tenant is not None and not self._have_tenants(asked.databases):
            for name in asked.databases:
                self._topology.databases[name].writable(asked.tenant)  # which says so
        for name in asked.databases:
            database = self._topology.databases[name]
            if asked.tenant is not None or not database.tenants or role is not _PRIMARY:
                routing.choose(database, access=asked.access, role=role, draw=0.0, tenant=asked.tenant)
            # else it may join the unit of a tenant; where it does not, no plan can be made for it
            dialects.of(self._backend(name)).given(asked.isolation, snapshot=asked.snapshot)

    def _scope(
        self,
        options: UnitOptions,
        name: str | None,
        origin: Origin,
        role: Role = Role.PRIMARY,
        opener: FrameType | None = None,
    ) -> Scope:
        """A unit that is to be opened here; `opener` is the frame whose block it is, if it has a block."""
        outer = self._here()
        if options.propagation is _MANDATORY:
            self._explain_mandatory(options, outer)
        scope = Scope(options, name or origin.code.co_qualname, origin, owner_key(), outer)
        if opener is not None:
            scope.home = generators.home(opener)
        if outer and scope.home is None:
            scope.home = outer[0].home  # an ordinary function ends before the generator that runs it is suspended
        scope.role = role
        if options.deadline is not None:
            scope.deadline_at = time.monotonic() + options.deadline
        return scope

    # -- steps that wait for nothing, for both drivers

    def _open(self, scope: Scope, transaction: bool, in_thread: bool = False) -> Holding:
        """Make the session of a unit; at the asynchronous door that of one whose work is done `in_thread`."""
        return self._open_planned(scope, self._plan_of(scope, transaction), in_thread)

    def _open_planned(self, scope: Scope, plan: Plan, in_thread: bool = False) -> Holding:
        options = scope.options
        timed = bounding(scope) if scope.outer else scope
        made = (self._engines or self._ready_engines).made().get(plan)
        if made is None:
            made = self._made_for(plan, scope.name)
        deadline_at = timed.deadline_at
        holding: Holding = made.holding.__copy__()
        holding.begin(scope, THREAD.own if asyncio._get_running_loop() is None else None)
        if in_thread:
            holding.awaits = False
        seen = holding.seen
        if deadline_at is not None:
            seen.deadline_at, seen.allowed, seen.heeds = deadline_at, timed.options.deadline, True
            if timed is not scope:
                seen.timed = timed
        holding.repeated = scope.repeats
        if plan.transaction and options.exact:
            holding.trail = Trail(options.key)
            seen.heeds = True
        scope.holding = holding  # from here on an interrupt is cleaned up like the end of an open unit
        self._relay.opened(holding.id, holding)
        if plan.lends:
            holding.leases = []
        holding.session = self._make_session(holding, made.bind, made.keywords)
        return holding

    def _opened_plainly(self, unit: Any, opener: FrameType) -> Any:
        """The session of a unit that asks for nothing and has no other one around it, opened here in one go: as
        `_scope`, `open_at_once` and `_entered` would. None if it has to be opened by them: `opener`, the frame whose
        block it is, is not that which made the unit, or nothing of its kind was opened here before."""
        plan, origin = unit._plan, unit._origin
        if opener.f_code is not origin.code or self._current.get():
            return None
        made = (self._engines or self._ready_engines).made().get(plan)
        if made is None:
            return None
        own = THREAD.own if asyncio._get_running_loop() is None else None
        scope: Scope = _SCOPE.__copy__()
        scope.options = plan.options
        scope.name = origin.code.co_qualname
        scope.origin = origin
        scope.owner = own or owner_key()
        unit._scope = scope
        holding = made.holding.__copy__()
        holding.begin(scope, own)
        if plan.lends:
            holding.leases = []
        session = holding.session = self._make_session(holding, made.bind, made.keywords)
        scope.holding = holding  # from here on an interrupt is cleaned up like the end of an open unit
        self._relay.opened(holding.id, holding)
        scope.state = _OPEN
        self._current.set((scope,))
        return session

    def _made_for(self, plan: Plan, name: str) -> Made:
        known = self._ready_engines
        engines: dict[str, Engine] = {}
        engine: AnyEngine | None = None
        for part in plan.parts:
            engine = known.known(part.key) or known.engine(part.endpoint, part.kind)
            if not plan.transaction:
                pooled.check_plain(part.endpoint, engine.dialect.driver, plan.options, name)
            engines[part.database] = engine.sync_engine if isinstance(engine, AsyncEngine) else engine
        told = plan.told if plan.told is not None else plan.complete(engines)
        keywords: dict[str, Any] = {}
        only = next(iter(engines.values())) if len(engines) == 1 else None
        if only is not None and (of_the_only_one := told[plan.parts[0].database]):
            keywords["execution_options"] = of_the_only_one
        holding = Holding(
            _UNIT,
            name,
            plan.options.databases if (names := tuple(engines)) == plan.options.databases else names,
            engines,
            plan.options.access,
            _NOWHERE,
            self._models,
            self._relay,
            None,
            plan,
            plan.at_begin,
            awaits=self.asynchronous,
            only=only,
            when_left=self._left_behind,
            tenant=plan.options.tenant,
        )
        holding.endpoints = plan.endpoints
        if only is None:
            holding.options = told
        made = Made(engine if only is not None else None, keywords or _NOTHING, holding)
        if plan.is_kept:
            known.made()[plan] = made
        return made

    def _opened_at_once(self, scope: Scope) -> Any:
        """The session of the unit, which was opened here, since nothing has to be waited for; None if it has to be
        opened step by step."""
        if scope.outer or scope.role is not _PRIMARY:
            return None
        plan = self._plans.get(id(scope.options))
        if plan is None or not plan.at_once:
            return None
        open_at_once(scope, self._open_planned, plan)
        units = self._current.get()
        if units:
            return self._entered(scope)
        self._current.set((scope,))  # as `_entered`, where nobody has asked for a deadline
        holding: Any = scope.holding
        return holding.session

    def _ends_at_once(self, scope: Scope) -> bool:
        """Whether the unit was ended here, in the frame of its door's own, since its session has nothing that a server
        would have to do; else it is ended step by step. If it raises, the unit is to be left with that error."""
        holding: Any = scope.holding
        if not (may_end_at_once(scope) and Finish.at_once(holding)):
            return False
        end_at_once(scope)
        self._forget(scope)
        frame = _getframe(2)
        code = frame.f_code
        at = Origin(code, frame.f_lasti) if code is scope.origin.code else places.caller_at(frame)
        holding.end(_COMMITTED, at)
        return True

    def _plan_of(self, scope: Scope, transaction: bool) -> Plan:
        options = scope.options
        remembered = self._plans.get(id(options))
        if remembered is not None and transaction and scope.role is _PRIMARY:
            return remembered
        return plan_of(self._topology.databases, options, scope.role, transaction)

    _make_session: Callable[[Holding, Any, dict[str, Any]], Any]
    """The session of a unit."""

    @property
    def _plainly(self) -> dict[type, Callable[[Any], Any]]:
        """What performs the steps that are answered at once, for both drivers."""
        return {Classify: self._classify, Draw: _draw, Recall: self._recall}

    def _classify(self, step: Classify) -> Failure:
        holding: Holding | None = step.holding
        phase = step.phase
        access = None
        if holding is not None:
            access = holding.access
            on_the_way = holding.notes_commit or holding.undo_failed
            if phase is Phase.COMMIT_SENT and not holding.commit_sent and on_the_way:
                phase = Phase.BODY  # it failed on the way to COMMIT, in a hook for instance
        backend = self._backend(step.database) if phase is Phase.COMMIT_SENT else self._met_in(step.error, holding)
        return classify(step.error, phase, backend or self._backend(step.database), access)

    def _met_in(self, error: BaseException, holding: Holding | None) -> str | None:
        """The backend of that database of a unit in which `error` came; None if there is only one or nobody knows."""
        if holding is None or len(holding.engines) == 1:
            return None
        found = backend_of(error)
        families = {"mariadb": "mysql"}
        backends = [self._backend(name) for name in holding.databases]
        return next((one for one in backends if families.get(one, one) == found), None)

    # -- the scope that is open here

    def _entered(self, scope: Scope) -> Any:
        # without what was ended elsewhere, which would be kept for ever
        units = self._current.get()
        self._current.set((scope, *[unit for unit in units if unit.is_open]) if units else (scope,))
        holding: Any = scope.holding
        if scope.deadline_at is not None and not scope.whole:
            # a run inside of a run has the deadline of all attempts: that of its own options is longer
            holding.seen.tighten(scope, scope.options.deadline, scope.deadline_at)
            if not holding.notes_commit:
                from . import given  # whoever gives no engines needs none of it

                given.keep_deadlines(holding)
        if holding.seen.deadline_at is not None and not self.asynchronous:
            holding.bound()
        return holding.session

    def _forget(self, scope: Scope) -> None:
        """The scope is not open here any more."""
        units = self._current.get()
        if len(units) == 1 and units[0] is scope:
            self._current.set(())
        elif scope in units:
            self._current.set(tuple(unit for unit in units if unit is not scope))

    def _left(self, scope: Scope, at: Origin | None = None) -> None:
        """Forget the scope and note the end of what it held; `at` is where, if that is known."""
        self._forget(scope)
        holding: Holding | None = scope.holding
        if holding is not None and scope.deadline_at is not None:
            holding.seen.loosen(scope)
            if holding.ended is None and not self.asynchronous:
                holding.bound()  # what goes on has its own deadline again
        if scope.verdict is not None and holding is not None:
            self._tell_verdict(scope, holding)
        if holding is not None and scope.joined is None and scope.savepoint is None:
            holding.end(scope.outcome or Outcome.DROPPED, at)

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
        if error is None:
            return None
        holding: Holding | None = scope.holding
        if isinstance(error, PendingRollbackError) and holding is not None and scope.whole:
            _explain_broken(error, holding)
        if scope.deadline_at is None or isinstance(error, DeadlineExceeded):
            return None
        if holding is None or time.monotonic() < scope.deadline_at:
            return None
        part = None if scope.whole else scope
        if timed_out and isinstance(error, asyncio.CancelledError):
            return holding.seen.exceeded("while it waited", part)
        if isinstance(error, CheckoutTimeout):
            return holding.seen.exceeded("waiting for a connection", part)
        if was_connecting(error):
            return holding.seen.exceeded("while connecting", part)
        if holding.seen.severed and scope.outcome is Outcome.ROLLED_BACK:
            return holding.seen.exceeded("when its connection was closed by force", part)
        if driver_error(error) is not None:
            backend = self._met_in(error, holding) or self._backend(scope.options.databases[0])
            failure = classify(error, Phase.BODY, backend, holding.access)
            if failure.kind in _ENDED_BY_TIME:
                return holding.seen.exceeded("in a statement", part)
        return None

    # -- independent sessions

    def _adopt(self, session: Any, name: str, endpoint: Endpoint, engine: Engine, origin: Origin, strict: bool) -> None:
        """Hold a session that its owner ends: guard it, show it, notice when it is dropped."""
        holding = Holding(
            HoldKind.SESSION,
            origin.code.co_qualname,
            (name,),
            {name: engine},
            Access.WRITE,
            origin,
            self._models,
            self._relay,
            Watch(None, None, True, False),
            at_begin=said_at_begin(UNASKED, True, engine),
            strict=strict,
            awaits=self.asynchronous,
            only=engine,
            tenant=endpoint.tenant,
        )
        holding.process = PROCESS.process
        holding.endpoints = (endpoint.name,)
        holding.seen.holding = holding.seen.timed = holding
        holding.belong()
        if not strict:
            holding.seen.in_use = threading.Lock()
            holding.seen.heeds = True
        holding.seen.patience = patience_of(endpoint)
        holding.when_left = self._left_behind
        self._watch(session, holding)
        sync = session.sync_session if self.asynchronous else session
        sync._polysession_holding = holding
        self._relay.opened(holding.id, holding)

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
        from the owner does nothing. The owner before must still run: what a thread or task leaves open when it ends is
        taken back. Raises `SessionEnded`; and `RequestRefused` for a session of another door.
        """
        holding = holding_of(getattr(session, "sync_session", session))
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
            hand_over(holding.scope, owner_key())

    def _say_still_open(self) -> None:
        """Name what is open on a door that was closed just now; what a forked child inherited is its parent's."""
        held = self.held()
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


def _explain_broken(error: PendingRollbackError, holding: Holding) -> None:
    """SQLAlchemy says to call rollback(), which is the unit's own: note what to do in its place."""
    broken = holding.seen.broken
    if error.code == _AFTER_FLUSH:
        what, do = "a flush has failed and its error was swallowed", "put what may fail behind begin_nested()"
    else:
        what = f"{broken} has closed its connection and was swallowed" if broken else "its connection was closed"
        do = "give what may be cut short a unit of its own (propagation='requires_new')"
    error.add_note(
        f"polysession: unit {holding.name!r}, opened at {holding.origin}, cannot go on and is rolled back: {what}; "
        f"let that error pass, or {do}"
    )


_AFTER_FLUSH: Final = "7s2a"
"""SQLAlchemy documentation, "Error Messages"; 8s2b is that of a connection that was lost."""


def _draw(step: Draw) -> tuple[float, float]:
    left = math.inf if step.deadline_at is None else step.deadline_at - time.monotonic()
    return random.random(), left  # noqa: S311  # jitter


_ENDED_BY_TIME = {
    Kind.STATEMENT_TIMEOUT,
    Kind.TRANSACTION_TIMEOUT,
    Kind.CANCELLED,
    Kind.LOCK_TIMEOUT,
    Kind.BUSY,
}
"""What a statement ends in that took longer than the deadline left."""
