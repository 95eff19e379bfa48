"""`Sessions`: the synchronous door. Signatures, documentation and types; the logic is in the core."""

from __future__ import annotations

import asyncio
import functools
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from threading import get_ident
from types import TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Final,
    Generic,
    Literal,
    NoReturn,
    ParamSpec,
    Self,
    TypeVar,
    cast,
    final,
    overload,
)

import msgspec
from sqlalchemy import Executable, orm
from sqlalchemy.engine import Engine, Result
from sqlalchemy.orm import Session

from . import config
from ._core.attempts import again_steps, attempt_steps, first_steps
from ._core.hooks import hook_steps
from ._core.outcome import asked_steps
from ._core.plainly import stored_plainly
from ._core.scope import Scope, enter_steps, leave_steps
from ._core.states import State
from ._core.steps import (
    Body,
    Call,
    Close,
    Commit,
    Dial,
    Evict,
    Fence,
    Flush,
    HangUp,
    Look,
    Open,
    Pause,
    ReadVerdict,
    Ready,
    Release,
    Rest,
    Restore,
    Rollback,
    Savepoint,
    Seal,
    TakeKey,
)
from ._shell import fence, grace
from ._shell.asking import (
    as_result,
    called,
    check_record,
    collect,
    extra_options,
    flag,
    tenant_of,
    without_frames,
    word,
)
from ._shell.attempts import Attempts
from ._shell.control import close_idle, out, until, watching
from ._shell.door import Door
from ._shell.drive import drive
from ._shell.finish import Finish
from ._shell.guard import guarded, session_of_unit
from ._shell.holding import Holding
from ._shell.left_behind import left_by_another
from ._shell.outside import BLOCK
from ._shell.pausing import pause
from ._shell.places import PLAIN_CODE, caller
from ._shell.plans import Plan
from ._shell.threads import Bell
from ._shell.unopened import leave_again, refuse_attributes, refuse_door, refuse_leaving
from ._shell.uses import FREE
from ._shell.works import (
    check_limit,
    check_parentheses,
    check_session,
    check_session_class,
    check_session_options,
    check_work,
    finished,
)
from .errors import ConfigError, SessionMisuse, WrongDoor
from .facts import Observer, Origin, Outcome, mark_outcome
from .options import Access, Isolation, Propagation, UnitOptions
from .policy.retry import Backoff
from .topology import Certainty, Endpoint, Role

__all__ = ["Sessions", "Unit"]

_getframe: Final = sys._getframe
_READ: Final = Access.READ
_WRITE: Final = Access.WRITE
_PRIMARY: Final = Role.PRIMARY
_OPEN: Final = State.OPEN
_REQUIRED: Final = Propagation.REQUIRED
"""Members of enumerations, which Python 3.11 looks for at each use: these are used by every unit."""

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S", bound=Session)


class Sessions(Door):
    """All sessions of an application, over named databases, for code that runs in threads.

    `databases` is a URL or an `Engine` (one database, named "default"), a mapping of names to either, or nothing, in
    which case `configure` gives them later. Nothing is connected until a session is used.

    Make one for the process and use it from every thread. `observers` are told every fact. A blocking door inside a
    running event loop would stop all its tasks and is refused with `WrongDoor`, unless `in_event_loop="allow"`; a
    Jupyter kernel, which runs a loop around every cell, is allowed.

    Raises `ConfigError` or `MissingExtra` for what cannot be honoured, before any connection.
    """

    asynchronous = False
    _make_session = staticmethod(session_of_unit)

    @without_frames
    def __init__(
        self,
        databases: str | Engine | Mapping[str, Any] | None = None,
        *,
        observers: Iterable[Observer] = (),
        in_event_loop: Literal["refuse", "allow"] = "refuse",
    ) -> None:
        if in_event_loop not in ("refuse", "allow"):
            raise ConfigError(
                f"in_event_loop: expected 'refuse' or 'allow', found {in_event_loop!r}",
                do=("leave it out: a blocking call would stop every task of the loop",),
                path="in_event_loop",
            )
        self._in_event_loop = in_event_loop
        super().__init__(databases, observers=observers)
        self._performers: dict[type, Callable[[Any], Any]] = {
            **self._plainly,
            Open: lambda step: self._open(step.scope, step.transaction),
            Flush: lambda step: Finish.flush(step.holding),
            Commit: lambda step: Finish.commit(step.holding, step.database),
            Rollback: lambda step: _in_time(step.holding, Finish.rollback),
            Close: _close,
            Savepoint: lambda step: Finish.savepoint(step.holding),
            Release: lambda step: Finish.release(step.savepoint),
            Restore: lambda step: _in_time(step.savepoint[0], lambda _: Finish.restore(step.savepoint)),
            Call: self._perform_call,
            Pause: pause,
            Ready: lambda step: self._make_table(step.databases[0], step.tenant),
            TakeKey: lambda step: self._take_key(step.holding),
            Dial: lambda step: fence.dial(self._asking_engine(step.database, step.tenant), step.seconds),
            Fence: lambda step: fence.fence(step.link, step.unit, step.seconds),
            Seal: lambda step: fence.seal(step.link),
            ReadVerdict: lambda step: fence.read_verdict(step.link, step.unit),
            Look: lambda step: fence.look(step.link, step.backend),
            Evict: lambda step: fence.evict(step.link, step.backend),
            HangUp: lambda step: fence.hang_up(step.link),
            Rest: lambda step: time.sleep(step.seconds),
        }

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str], *, observers: Iterable[Observer] = ()) -> Self:
        """A door for the databases of a TOML file; the shape is that of the package `polysession.config`."""
        return cls(cast("Any", config.load_toml(path, asynchronous=cls.asynchronous)), observers=observers)

    @classmethod
    @without_frames
    def from_mapping(cls, mapping: Mapping[str, Any], *, observers: Iterable[Observer] = ()) -> Self:
        """A door for the databases of a mapping of the same shape as the TOML file."""
        return cls(cast("Any", config.from_mapping(mapping, asynchronous=cls.asynchronous)), observers=observers)

    # -- units of work

    def begin(
        self,
        *databases: str,
        name: str | None = None,
        propagation: Propagation | str = Propagation.REQUIRED,
        isolation: Isolation | str | None = None,
        deadline: float | timedelta | None = None,
        tenant: str | None = None,
        atomic: bool = True,
        outcome: Certainty | Literal["plain", "exact", "early"] | None = None,
        key: str | None = None,
    ) -> Unit[Session]:
        """A unit of work: `with sessions.begin("orders") as session`.

        At the end of the block it commits, or rolls back if an exception leaves the block; the session is closed in
        every case. Inside an open unit over the same database it joins that unit (`propagation`). `name` is how the
        unit is called in reports; by default the function that opens it. `isolation` is a level of the SQL standard;
        by default the server's own. `deadline` (seconds, or a `timedelta`) bounds the whole unit up to COMMIT: waiting
        for a connection, every statement, and what is done in between; a unit that overruns it is rolled back and
        ends in `DeadlineExceeded`.

        `tenant` says whose database it is, of those named that have one for each tenant. A unit of its own must say it;
        one that joins an open unit has that one's, and is refused if it says another.

        The exception that leaves the block is the body's own; or, when the end fails, the database's, `UnitRolledBack`,
        `CommitUnknown` or `PartialCommit`. Raises `UnknownDatabase`, `UnknownTenant` and `RequestRefused` before any
        SQL.

        With `outcome="exact"` the unit leaves a row with its id in the table `polysession_commit`. If the answer to
        COMMIT is lost the database is asked for it: the block ends normally if the unit has committed, with the error
        of the link if it has not, with `CommitLost` after a failover that lost it, and with `CommitUnknown` only if
        nobody could be asked for 10 s or until the deadline. With `outcome="early"` COMMIT may leave together with the
        statement of the flush at the end: one round trip less, and a link that is lost under that statement leaves the
        outcome unknown, too. By default the database's key `outcome` decides.

        Of all units with the same `key`, in any process, one commits; another one waits while it is in flight, and
        raises `AlreadyCommitted` at the beginning of the block if it has. A key implies an exact outcome.
        """
        if (
            propagation is _REQUIRED
            and isolation is None
            and deadline is None
            and name is None
            and tenant is None
            and outcome is None
            and key is None
            and atomic is True
            and (plan := self._asked_plainly(self._writes, databases)) is not None
        ):
            frame = _getframe(1)
            code = frame.f_code
            if code in PLAIN_CODE:
                return Unit(self, plan.options, None, Origin(code, frame.f_lasti), _PRIMARY, plan)
        extra = extra_options(propagation, isolation, deadline, outcome, key, name=name, tenant=tenant)
        if atomic is not True and not flag(atomic, "atomic"):
            extra["atomic"] = False
        return Unit(self, self._options(_WRITE, databases, extra), name, caller())

    def read(
        self,
        *databases: str,
        name: str | None = None,
        propagation: Propagation | str = Propagation.REQUIRED,
        isolation: Isolation | str | None = None,
        deadline: float | timedelta | None = None,
        tenant: str | None = None,
        snapshot: bool = False,
        role: Role | Literal["primary", "replica"] = Role.PRIMARY,
    ) -> Unit[Session]:
        """A read-only unit: `with sessions.read("orders") as session`.

        It holds no transaction between statements, so each statement sees what is committed when it runs; `snapshot`
        makes all of them see one moment. Writes are refused: by the unit (`ReadOnlyUnit`) and by the server. With
        `role="replica"` it is served by a replica, which may lag. Behind a pooler in transaction mode it runs in one
        READ ONLY transaction, in which each statement still sees what is committed when it runs. `tenant` is that of
        `begin`.
        """
        if (
            propagation is _REQUIRED
            and isolation is None
            and deadline is None
            and name is None
            and tenant is None
            and snapshot is False
            and role is _PRIMARY
            and (plan := self._asked_plainly(self._reads, databases)) is not None
        ):
            frame = _getframe(1)
            code = frame.f_code
            if code in PLAIN_CODE:
                return Unit(self, plan.options, None, Origin(code, frame.f_lasti), _PRIMARY, plan)
        extra = extra_options(propagation, isolation, deadline, name=name, tenant=tenant)
        if snapshot is not False and flag(snapshot, "snapshot"):
            extra["snapshot"] = True
        chosen = _PRIMARY if role is _PRIMARY else word(Role, role, "role")
        if chosen is not _PRIMARY:
            extra["role"] = chosen
        return Unit(self, self._options(_READ, databases, extra), name, caller(), chosen)

    def run(
        self,
        work: Callable[[Session], T],
        *databases: str,
        retry: int | Backoff = 10,
        name: str | None = None,
        propagation: Propagation | str = Propagation.REQUIRED,
        isolation: Isolation | str | None = None,
        deadline: float | timedelta | None = None,
        tenant: str | None = None,
        outcome: Certainty | Literal["plain", "exact", "early"] | None = None,
        key: str | None = None,
        record: bool = False,
    ) -> T:
        """Run `work(session)` as a unit of work and answer what it returns; repeat the whole unit if that is safe.

        `retry` bounds the attempts (1: never repeat), or is a `Backoff`. Each attempt has a new session. Only a unit
        whose outcome is known to be "not committed" is repeated, and only after an error that may vanish: `work` must
        do nothing outside of the session that may not be done twice. Unless `isolation` says otherwise the level is
        one at which lost updates raise an error (REPEATABLE READ on PostgreSQL). `deadline` bounds all attempts and the
        waits between them together. `tenant` is that of `begin`.

        `outcome` and `key` are those of `begin`: a unit is then repeated also after its answer to COMMIT was lost, if
        it is found not to have committed. With `record` what `work` returns is kept with the key, for the `result` of
        `AlreadyCommitted`: as JSON of at most 8 KiB, else the unit is refused.
        """
        check_work(work, "run")
        policy = Backoff.of(retry)
        check_record(record, key)
        extra = extra_options(propagation, isolation, deadline, outcome, key, name=name, tenant=tenant)
        extra["repeatable"] = True
        options = self._options(Access.WRITE, databases, extra)
        label = name or called(work)
        attempts = Attempts(self, options, label, caller())

        def perform(step: Any) -> Any:
            if type(step) is not Body:
                return self._perform(step)
            value = finished(work(step.session), label)
            if record:
                self._record(step.session, as_result(value))
            if attempts.deadline_at is not None:
                attempts.refuse_late()
            return value

        try:
            return cast("T", drive(attempt_steps(attempts, policy, deadline_at=attempts.deadline_at), perform))
        except BaseException as error:
            overrun = attempts.overrun(error)
            if overrun is None:
                raise
            try:
                raise overrun from error
            finally:
                del overrun  # no circle of this frame and the error's traceback

    def unit(
        self,
        *databases: str,
        retry: int | Backoff = 10,
        name: str | None = None,
        propagation: Propagation | str = Propagation.REQUIRED,
        isolation: Isolation | str | None = None,
        deadline: float | timedelta | None = None,
        tenant: str | None = None,
        outcome: Certainty | Literal["plain", "exact", "early"] | None = None,
        key: str | None = None,
        record: bool = False,
    ) -> Callable[[Callable[Concatenate[Session, P], T]], Callable[P, T]]:
        """Make a function of `(session, ...)` a unit of work: `@sessions.unit("orders", retry=5)`.

        Called without the session, it runs as with `run`, each time in a unit of its own or joined to the open one.
        """

        check_parentheses(databases, "unit")
        Backoff.of(retry)
        check_record(record, key)
        extra_options(
            propagation, isolation, deadline, outcome, key, name=name, tenant=tenant
        )  # refused here, not at the first call

        def decorate(work: Callable[Concatenate[Session, P], T]) -> Callable[P, T]:
            check_work(work, "unit", decorated=True)

            @functools.wraps(work)
            def unit(*args: P.args, **kwargs: P.kwargs) -> T:
                return self.run(
                    lambda session: work(session, *args, **kwargs),
                    *databases,
                    retry=retry,
                    name=name or called(work),
                    propagation=propagation,
                    isolation=isolation,
                    deadline=deadline,
                    tenant=tenant,
                    outcome=outcome,
                    key=key,
                    record=record,
                )

            return cast("Callable[P, T]", unit)

        return decorate

    def attempts(
        self,
        *databases: str,
        retry: int | Backoff = 10,
        name: str | None = None,
        propagation: Propagation | str = Propagation.REQUIRED,
        isolation: Isolation | str | None = None,
        deadline: float | timedelta | None = None,
        tenant: str | None = None,
        outcome: Certainty | Literal["plain", "exact", "early"] | None = None,
        key: str | None = None,
    ) -> Iterator[Unit[Session]]:
        """As `run`, for a block: `for attempt in sessions.attempts("orders"):` and in it `with attempt as session:`.

        Each turn is a unit of its own. An error that may vanish is swallowed at the end of the block and the loop goes
        on; after a unit that committed, and after any other error, it ends.
        """
        policy = Backoff.of(retry)
        extra = extra_options(propagation, isolation, deadline, outcome, key, name=name, tenant=tenant)
        extra["repeatable"] = True
        origin = caller()
        options = self._options(Access.WRITE, databases, extra)
        loop = _Loop(self, Attempts(self, options, name or origin.code.co_qualname, origin), policy)
        return loop.units(options, name, origin)

    def outcome(
        self,
        unit_id: str | None = None,
        database: str | None = None,
        *,
        key: str | None = None,
        within: float = 10.0,
        tenant: str | None = None,
    ) -> Outcome:
        """What came of a unit with an exact outcome, by its id (`CommitUnknown` has it) or by its key.

        Asks the database for at most `within` seconds; `Outcome.UNKNOWN` if it cannot be known yet. Can be asked from
        any process, and again. To ask is to decide: a unit that has not committed by now never will, so ask for one
        whose end is over, not for one that still works. (A key is left free for the next unit.)

        `tenant` is the one in whose database the unit ran, as the error tells it. Of an id from another database or
        server the answer is `Outcome.LOST`, never that it was rolled back; a key says nothing of its database. Raises
        `UnknownTenant`; and `RequestRefused` for what is no id, or an id of which the row may be deleted by now (23
        hours).
        """
        name, marked = self._question(unit_id, database, key, within, tenant)
        return drive(asked_steps(marked, name), self._perform).outcome

    def current(self, database: str | None = None) -> Session:
        """The session of the unit of work that is open here for `database`.

        Raises `NoUnit` if there is none, `WrongOwner` if it belongs to another thread.
        """
        return cast("Session", self._current_session(database))

    # -- many at once

    def task(
        self,
        work: Callable[Concatenate[Session, P], T],
        *databases: str,
        retry: int | Backoff = 10,
        name: str | None = None,
        tenant: str | None = None,
    ) -> Callable[P, T]:
        """A function that runs `work(session, ...)` in a unit of its own, wherever it is called from.

        For work that is handed to another thread or to a framework's background tasks: it never joins the unit that
        is open where it happens to run, and does not take its tenant from that.
        """
        check_work(work, "task", decorated=True)
        label, apart = name or called(work), Propagation.REQUIRES_NEW
        return self.unit(*databases, retry=retry, name=label, propagation=apart, tenant=tenant)(work)

    @overload
    def gather(
        self,
        *works: Callable[[Session], T],
        database: str | None = None,
        databases: Sequence[str] = (),
        tenant: str | None = None,
        access: Access | Literal["read", "write"] = Access.READ,
        limit: int | None = None,
        return_errors: Literal[False] = False,
    ) -> list[T]: ...

    @overload
    def gather(
        self,
        *works: Callable[[Session], T],
        database: str | None = None,
        databases: Sequence[str] = (),
        tenant: str | None = None,
        access: Access | Literal["read", "write"] = Access.READ,
        limit: int | None = None,
        return_errors: bool,
    ) -> list[T | BaseException]: ...

    def gather(
        self,
        *works: Callable[[Session], Any],
        database: str | None = None,
        databases: Sequence[str] = (),
        tenant: str | None = None,
        access: Access | Literal["read", "write"] = Access.READ,
        limit: int | None = None,
        return_errors: bool = False,
    ) -> list[Any]:
        """Run every `work(session)` in a unit and a thread of its own; what they return, in the order of the works.

        All run over one database, the door's only one or `database`; or the works over those of `databases`, each over
        the one at its place, and a single work over each of them. `tenant` is that of the databases that
        have tenants.

        At most `limit` run at once; by default as many as the databases' pools have connections. All run to their end
        even if one fails. Then errors are raised together as an `ExceptionGroup`, each with the outcome of its own unit
        (`outcome_of`); or with `return_errors` they stand in the list in place of results.
        """
        for work in works:
            check_work(work, "gather")
        pairs = self._placed(works, database, databases, tenant)
        opened = self.read if word(Access, access, "access") is Access.READ else self.begin
        check_limit(limit)
        flag(return_errors, "return_errors")

        def branch(work: Callable[[Session], Any], at: Endpoint) -> tuple[Any]:
            with opened(at.database, name=called(work), tenant=at.tenant) as session:
                return (finished(work(session), called(work)),)

        from concurrent.futures import ThreadPoolExecutor  # few programs need its module

        with ThreadPoolExecutor(max(1, min(limit or self._places(pairs), len(pairs))), "polysession-gather") as threads:
            futures = [threads.submit(branch, work, at) for work, at in pairs]
        return collect([future.exception() or future.result() for future in futures], return_errors=return_errors)

    def batch(self, session: Session, *statements: Executable) -> list[Result[Any]]:
        """Execute several queries in one flight: `items, total = sessions.batch(session, query, count)`.

        They must not depend on each other. All are sent before the first answer is read, so that they cost one round
        trip together; what is returned for each is what `session.execute` returns, in their order. That needs a read
        unit without a transaction, PostgreSQL and psycopg. Elsewhere they are executed one after the other, with the
        same results. If some fail, the error of the first of these is raised when all have been executed.

        `session` is that of a unit or session which is open here; raises `RequestRefused` for anything else.
        """
        check_session(session, Session, "batch")
        from ._shell.together import execute_together  # few programs need it

        return execute_together(session, statements)

    # -- sessions that their owner ends

    @overload
    def open(
        self, database: str | None = None, *, tenant: str | None = None, class_: type[S], **session_options: Any
    ) -> S: ...

    @overload
    def open(
        self,
        database: str | None = None,
        *,
        tenant: str | None = None,
        class_: type[Session] = Session,
        **session_options: Any,
    ) -> Session: ...

    def open(
        self,
        database: str | None = None,
        *,
        tenant: str | None = None,
        class_: type[Any] = Session,
        **session_options: Any,
    ) -> Session:
        """An independent session; whoever opens it commits and closes it.

        It belongs to the thread that opened it, ends for good with `close()` (a second call does nothing), and is
        reported with a `ResourceWarning` that names the line if it is dropped unclosed. `session_options` are those of
        `sqlalchemy.orm.Session`, without `bind` and `binds`: the database is the one that is named here.
        """
        session: Session = self._free_session(database, tenant, class_, session_options, caller(), strict=True)
        return session

    @overload
    def sessionmaker(
        self, database: str | None = None, *, tenant: str | None = None, class_: type[S], **session_options: Any
    ) -> orm.sessionmaker[S]: ...

    @overload
    def sessionmaker(
        self,
        database: str | None = None,
        *,
        tenant: str | None = None,
        class_: type[Session] = Session,
        **session_options: Any,
    ) -> orm.sessionmaker[Session]: ...

    def sessionmaker(
        self,
        database: str | None = None,
        *,
        tenant: str | None = None,
        class_: type[Any] = Session,
        **session_options: Any,
    ) -> orm.sessionmaker[Any]:
        """A real `sqlalchemy.orm.sessionmaker` for one database: existing code adopts it by this one line.

        Its sessions are final (`close_resets_only=False`) and shown in `held()`. As with SQLAlchemy's, they may be
        handed from thread to thread in turn.
        """
        (name,) = self._topology.resolve((database,) if database is not None else ())
        endpoint = self._topology.databases[name].writable(tenant_of(tenant))
        check_session_class(class_, Session)
        check_session_options(session_options, name, endpoint.engine, self._backend(name))
        return _Maker(self, name, tenant, class_, session_options)

    def _free_session(
        self,
        database: str | None,
        tenant: str | None,
        class_: type[S],
        options: dict[str, Any],
        origin: Origin,
        *,
        strict: bool,
    ) -> S:
        check_session_class(class_, Session)
        whose = {} if tenant is None else {"tenant": tenant_of(tenant)}
        asked = self._options(Access.WRITE, (database,) if database is not None else (), whose)
        name = asked.databases[0]
        endpoint = self._topology.databases[name].writable(tenant)
        engine = cast("Engine", self._ready_engines.engine(endpoint, FREE))
        check_session_options(options, name, engine, self._backend(name))
        options["close_resets_only"] = False
        options["bind"] = engine
        session = guarded(class_)(**options)
        self._adopt(session, name, endpoint, engine, origin, strict)
        return session

    @contextmanager
    def outside(self) -> Iterator[None]:
        """A block in which nothing is held: `with sessions.outside():` around a call to another service.

        Raises `ConnectionHeld` at its beginning if a unit or session of this thread has a connection that it must keep;
        and inside, where a unit or session of this door is opened or takes a connection. What a read unit need not
        keep is given back. Other threads are not concerned, nor are other doors; of engines that the application made
        only what is held at the beginning is noticed.
        """
        self._check_loop()
        token = BLOCK.set(self._leave_connections(caller(2)))
        try:
            yield
        finally:
            BLOCK.reset(token)

    def drain(self, *databases: str, within: float | timedelta = 30.0, tenant: str | None = None) -> int:
        """Have every connection of these databases, or of all, closed: pause, close what is idle, and wait until what
        is out has come back, for `within` seconds at most. How many are still out: 0 if it is done.

        Those that are out later are closed when they come back. Whoever asks waits until `resume()`. A unit that needs
        one more connection waits too, and ends by its own time. `tenant` is that of `pause()`, which raises the same.
        """
        self._check_loop()
        end, back = until(within), Bell()
        self.pause(*databases, tenant=tenant)
        rooms = self._steered(databases, tenant)
        with watching(rooms, back.ring):
            while True:
                close_idle(rooms)
                still, left = out(rooms), end - time.monotonic()
                if not still or left <= 0:
                    return still
                back.heard(left)

    # -- the end

    def close(self) -> None:
        """Refuse new work and close the idle connections; those that are out close when they come back.

        Units that are still open are named in a `ResourceWarning`. A second call does nothing.
        """
        engines = self._begin_close()
        if engines is not None:
            engines.dispose()
            self._say_still_open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    if not TYPE_CHECKING:  # so that the type checkers refuse it, too

        def __aenter__(self) -> NoReturn:
            refuse_door(self, "with")

        def __aexit__(self, *_: object) -> NoReturn:  # pragma: no cover  # __aenter__ has raised
            raise AssertionError

    # -- for the driver

    def _settle(self, scope: Scope, error: BaseException) -> None:
        """Do what is left to do: entering failed, or an interrupt fell between two steps. May be called again."""
        holding: Holding | None = cast("Holding | None", scope.holding)
        if holding is None:
            return
        try:
            if not _is_left(scope):
                drive(leave_steps(scope, error), self._perform)
        finally:
            if scope.whole:
                holding.give_up()
            self._left(scope)
            if scope.outermost:
                self._told(scope, error)

    def _end_left(self, scope: Scope, holding: Holding) -> None:
        if left_by_another(scope):
            return
        try:
            self._settle(scope, GeneratorExit())
        finally:
            self._say_left(holding)

    def _perform(self, step: Any) -> Any:
        return self._performers[type(step)](step)

    def _told(self, scope: Scope, leaving: BaseException | None) -> None:
        """The unit has ended: mark the error that leaves it, call the hooks."""
        assert scope.outcome is not None
        if leaving is not None:
            mark_outcome(leaving, scope.outcome, scope.unit_id)
        if scope.hooks:
            hooks, scope.hooks = scope.hooks, ()  # at most once, whatever interrupts them
            try:
                drive(hook_steps(hooks, scope.outcome, leaving), self._perform)
            except BaseException as failed:
                mark_outcome(failed, scope.outcome, scope.unit_id)
                raise

    def _asked_plainly(self, plans: dict[tuple[str, ...], Plan], names: tuple[str, ...]) -> Plan | None:
        if self._closed or BLOCK.get() is not None or asyncio._get_running_loop() is not None:
            return None  # it may have to be refused
        try:
            return plans.get(names)
        except TypeError:
            return None  # a list of names

    def _check_loop(self) -> None:
        if (
            self._in_event_loop == "refuse"
            and asyncio._get_running_loop() is not None
            and "ipykernel" not in sys.modules
        ):
            raise WrongDoor(
                "the synchronous door was used inside a running event loop",
                why=f"a blocking call at {caller()} would stop every task of the loop",
                do=(
                    "use AsyncSessions",
                    "run the blocking work with asyncio.to_thread",
                    "say in_event_loop='allow' if nothing else runs in that loop",
                ),
            )


@final
@stored_plainly
class Unit(msgspec.Struct, Generic[S], eq=False):
    """A unit of work as a context manager: opened once, by one thread. Made by `begin` and `read`."""

    _door: Sessions
    _options: UnitOptions
    _name: str | None
    _origin: Origin
    _role: Role = _PRIMARY
    _plan: Plan | None = None
    """Of one that asks for nothing, in a function whose blocks are left before it can be suspended."""
    _loop: _Loop | None = None
    _scope: Scope | None = None

    def __repr__(self) -> str:
        return object.__repr__(self)  # not with all that it refers to

    def __enter__(self) -> S:
        if self._scope is not None:
            raise SessionMisuse(
                "a unit of work was opened twice",
                why=f"it was made at {self._origin} and is used up; opened again at {caller()}",
                do=("call begin() or read() for each block",),
            )
        door = self._door
        try:
            if self._plan is not None:
                opened: S | None = door._opened_plainly(self, _getframe(1))
                if opened is not None:
                    return opened
            scope = door._scope(self._options, self._name, self._origin, self._role, _getframe(1))
            if self._loop is not None:
                self._loop.begin(scope)
            self._scope = scope
            session: S | None = None if self._loop is not None else door._opened_at_once(scope)
            if session is None:
                drive(enter_steps(scope), door._perform)
                session = cast("S", door._entered(scope))
        except BaseException as error:
            if self._scope is None or self._scope.holding is None:
                mark_outcome(error, Outcome.ROLLED_BACK)  # nothing was begun
            else:
                self._settle(self._scope, error)
            raise
        return session

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> bool | None:
        scope = self._scope
        try:
            if scope is None:
                refuse_leaving(self._origin)
            scope.leaver = get_ident()
            if scope.left_behind:
                scope.leaver = None
                self._door._refuse_left(scope, error)
                return None
            if scope.state is not _OPEN and scope.ended:
                leave_again(scope, error)
                return None
            if error is None and self._loop is None and self._door._ends_at_once(scope):
                if scope.hooks:
                    self._door._told(scope, None)
                return None
            return self._leave(scope, error)
        except BaseException as raised:
            if (
                scope is not None
                and not scope.left_behind
                and (not isinstance(raised, Exception) or not _is_left(scope) or _is_untold(scope))
            ):
                self._settle(scope, raised)
            raise

    def _leave(self, scope: Scope, error: BaseException | None) -> bool | None:
        leaving = self._end(scope, error)
        if self._loop is not None and self._loop.repeats(scope, leaving):
            return True
        if (leaving is not None or scope.hooks) and scope.outermost:
            self._door._told(scope, leaving)
        if leaving is not None and leaving is not error:
            try:
                raise leaving
            finally:
                del leaving  # its traceback has this frame: a circle, which the garbage collector would have to find
        return None

    def _end(self, scope: Scope, error: BaseException | None) -> BaseException | None:
        """Leave the unit; the error that leaves it, which may be another one than that of its body."""
        door = self._door
        leaving = error if error is not None else door._late(scope)
        try:
            drive(leave_steps(scope, leaving), door._perform)
        except BaseException as failed:
            if not _is_left(scope):
                raise  # an interrupt came before the first step: `__exit__` sees to it
            leaving = failed
        door._left(scope, caller(3))
        overrun = door._overrun(scope, leaving)
        if overrun is not None:
            overrun.__cause__ = leaving
            return overrun
        return leaving

    def _settle(self, scope: Scope, error: BaseException) -> None:
        self._door._settle(scope, error)

    def __del__(self) -> None:
        scope = self._scope
        if scope is None or scope.holding is None or scope.holding.told or not scope.decides:
            return
        scope.leaver = get_ident()
        if scope.left_behind:
            return
        dropped = scope.outcome is None
        try:
            self._settle(scope, GeneratorExit())
        finally:
            if dropped:
                self._door._say_dropped(scope)

    if not TYPE_CHECKING:  # so that the type checkers refuse it, too

        def __aenter__(self) -> NoReturn:
            raise WrongDoor(
                "'async with' was used on a unit of the synchronous door",
                why=f"it was made by Sessions at {self._origin}; 'async with' is at {caller()}",
                do=("write 'with'", "use AsyncSessions"),
            )

        def __aexit__(self, *_: object) -> NoReturn:  # pragma: no cover  # __aenter__ has raised
            raise AssertionError


refuse_attributes(Unit, Session, "with")


class _Loop:
    """The state of one `attempts()` loop between its turns."""

    __slots__ = ("_again", "_attempts", "_door", "_policy", "_turn")

    def __init__(self, door: Sessions, attempts: Attempts, policy: Backoff) -> None:
        self._door = door
        self._attempts = attempts
        self._policy = policy
        self._turn = 0
        self._again = False

    def units(self, options: UnitOptions, name: str | None, origin: Origin) -> Iterator[Unit[Any]]:
        """A unit for each turn, until one is not repeated."""
        while True:
            self._turn += 1
            self._again = False
            unit: Unit[Any] = Unit(self._door, options, name, origin)
            unit._loop = self
            yield unit
            if not self._again:
                return

    def begin(self, scope: Scope) -> None:
        """A turn is opened, under the deadline of all turns."""
        scope.deadline_at = self._attempts.deadline_at
        scope.repeats = self._attempts.turn
        if self._turn == 1:
            steps = first_steps(self._attempts, scope, self._policy, scope.deadline_at)
            drive(steps, self._door._perform)
        self._attempts.began_at = time.monotonic()

    def repeats(self, scope: Scope, error: BaseException | None) -> bool:
        """Whether there is another turn after `error`; if so, wait for it."""
        if not isinstance(error, Exception) or not scope.whole:
            self._attempts.turn.leave()
            return False
        steps = again_steps(self._attempts, scope, self._policy, error, self._turn, self._attempts.deadline_at)
        try:
            self._again = drive(steps, self._door._perform)
        finally:
            if not self._again:
                self._attempts.turn.leave()
        return self._again


class _Maker(orm.sessionmaker[S], Generic[S]):
    """A `sessionmaker` whose sessions are held by a door."""

    def __init__(
        self, door: Sessions, database: str, tenant: str | None, class_: type[S], options: dict[str, Any]
    ) -> None:
        self._door = door
        self._database = database
        self._tenant = tenant
        super().__init__(class_=guarded(class_), **options)
        self.kw.setdefault("close_resets_only", False)
        if self.kw.get("bind") is None:
            del self.kw["bind"]

    def __call__(self, **local: Any) -> S:
        """A new session, held by the door until it is closed."""
        for key, value in self.kw.items():
            if key == "info" and "info" in local:
                local["info"] = {**value, **local["info"]}
            else:
                local.setdefault(key, value)
        return self._door._free_session(self._database, self._tenant, self.class_, local, caller(), strict=False)


def _is_left(scope: Scope) -> bool:
    """Its steps were done to their end, whatever came of them."""
    return scope.closed if scope.whole else scope.ended


def _is_untold(scope: Scope) -> bool:
    """Nobody was told of the end of a unit of its own."""
    holding: Holding | None = cast("Holding | None", scope.holding)
    return scope.whole and holding is not None and not holding.told


def _close(step: Close) -> None:
    if step.broken or not Finish.close_plainly(step.holding):
        _in_time(step.holding, Finish.close, step.broken)


def _in_time(holding: Holding, work: Callable[..., Any], *args: Any) -> Any:
    """End something of a unit, which may take the grace and no longer."""
    if Finish.idle(holding):  # nothing is waited for
        return work(holding, *args)
    holding.bound(grace.GRACE)
    try:
        return work(holding, *args)
    finally:
        holding.bound()
