"""`AsyncSessions`: the asynchronous door. Signatures, documentation and types; the same verbs as `Sessions`."""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
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
from sqlalchemy import Executable, util
from sqlalchemy.engine import Connection, Result
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session

from . import config
from ._core.attempts import again_steps, attempt_steps, first_steps
from ._core.hooks import hook_steps
from ._core.outcome import asked_steps
from ._core.plainly import stored_plainly
from ._core.scope import Scope, enter_steps, leave_steps
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
from ._shell import fence, grace, known
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
from ._shell.drive_async import Shielded, drive_async
from ._shell.finish import Finish
from ._shell.guard import async_session_of_unit, guarded
from ._shell.holding import Holding
from ._shell.hook_verbs import log_failed_hook
from ._shell.outside import BLOCK
from ._shell.pausing import pause_async
from ._shell.places import PLAIN_CODE, caller
from ._shell.plans import Plan
from ._shell.timer import NO_TIMER, Timer
from ._shell.unopened import leave_again, refuse_attributes, refuse_door, refuse_leaving
from ._shell.uses import FREE
from ._shell.works import (
    awaitable,
    check_limit,
    check_parentheses,
    check_session,
    check_session_class,
    check_session_options,
    check_work,
    finished,
    refuse_exact_read,
    refuse_unread,
)
from .errors import SessionMisuse, WrongDoor
from .facts import Observer, Origin, Outcome, mark_outcome
from .options import Access, Isolation, Propagation, UnitOptions
from .policy.retry import Backoff
from .topology import Certainty, Endpoint, Role

__all__ = ["AsyncSessions", "AsyncUnit"]

_getframe: Final = sys._getframe
_READ: Final = Access.READ
_WRITE: Final = Access.WRITE
_PRIMARY: Final = Role.PRIMARY
_REQUIRED: Final = Propagation.REQUIRED
"""Members of enumerations, which Python 3.11 looks for at each use: these are used by every unit."""

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S", bound=AsyncSession)


class AsyncSessions(Door):
    """All sessions of an application, over named databases, for asyncio.

    `databases` is a URL or an `AsyncEngine` (one database, named "default"), a mapping of names to either, or nothing,
    in which case `configure` gives them later. Nothing is connected until a session is used.

    Make one for the process and use it from every task. Pools are kept for each event loop. `observers` are told every
    fact. Sessions keep their objects' attributes after a commit (`expire_on_commit=False`), since a refresh outside of
    the unit would have to wait where nothing can.

    Raises `ConfigError` or `MissingExtra` for what cannot be honoured, before any connection.
    """

    asynchronous = True

    @without_frames
    def __init__(
        self,
        databases: str | AsyncEngine | Mapping[str, Any] | None = None,
        *,
        observers: Iterable[Observer] = (),
    ) -> None:
        super().__init__(databases, observers=observers)
        self._ending: set[asyncio.Task[Any]] = set()
        """Ends of units and sessions that were dropped."""
        self._performers: dict[type, Callable[[Any], Any]] = {
            **self._plainly,
            Open: lambda step: self._open(step.scope, step.transaction),
            Flush: lambda step: _flush(step.holding),
            Commit: lambda step: _commit(step.holding, step.database),
            Rollback: lambda step: _shielded(step.holding, grace.GRACE, Finish.rollback),
            Close: lambda step: _shielded(step.holding, grace.GRACE, Finish.close, step.broken),
            Savepoint: lambda step: _in_time(step.holding, Finish.savepoint),
            Release: lambda step: _in_time(step.savepoint[0], lambda _: Finish.release(step.savepoint)),
            Restore: lambda step: Shielded(
                _below(step.savepoint[0], lambda _: Finish.restore(step.savepoint)),
                within=grace.GRACE,
                give_up=step.savepoint[0].sever,
            ),
            Call: lambda step: Shielded(self._call(step)),
            Pause: pause_async,
            Ready: lambda step: (
                None
                if self._has_table(step.databases[0], step.tenant)
                else _spawned(self._make_table, step.databases[0], step.tenant)
            ),
            TakeKey: lambda step: _in_time(step.holding, self._take_key),
            Dial: lambda step: _spawned(fence.dial, self._asking_engine(step.database, step.tenant), step.seconds),
            Fence: lambda step: _spawned(fence.fence, step.link, step.unit, step.seconds),
            Seal: lambda step: _spawned(fence.seal, step.link),
            ReadVerdict: lambda step: _spawned(fence.read_verdict, step.link, step.unit),
            Look: lambda step: _spawned(fence.look, step.link, step.backend),
            Evict: lambda step: _spawned(fence.evict, step.link, step.backend),
            HangUp: lambda step: _spawned(fence.hang_up, step.link),
            Rest: lambda step: Shielded(_rest(step.seconds, asyncio.current_task())),
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
    ) -> AsyncUnit[AsyncSession]:
        """A unit of work: `async with sessions.begin("orders") as session`.

        At the end of the block it commits, or rolls back if an exception leaves the block; the session is closed in
        every case, also when the task is cancelled. Inside an open unit over the same database it joins that unit
        (`propagation`). `name` is how the unit is called in reports; by default the function that opens it.
        `isolation` is a level of the SQL standard; by default the server's own. `deadline` (seconds, or a `timedelta`)
        bounds the whole unit up to COMMIT: waiting for a connection, every statement, and what is awaited in between;
        a unit that overruns it is rolled back and ends in `DeadlineExceeded`.

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
                return AsyncUnit(self, plan.options, None, Origin(code, frame.f_lasti), _PRIMARY, plan)
        extra = extra_options(propagation, isolation, deadline, outcome, key, name=name, tenant=tenant)
        if atomic is not True and not flag(atomic, "atomic"):
            extra["atomic"] = False
        return AsyncUnit(self, self._options(_WRITE, databases, extra), name, caller())

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
    ) -> AsyncUnit[AsyncSession]:
        """A read-only unit: `async with sessions.read("orders") as session`.

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
                return AsyncUnit(self, plan.options, None, Origin(code, frame.f_lasti), _PRIMARY, plan)
        extra = extra_options(propagation, isolation, deadline, name=name, tenant=tenant)
        if snapshot is not False and flag(snapshot, "snapshot"):
            extra["snapshot"] = True
        chosen = _PRIMARY if role is _PRIMARY else word(Role, role, "role")
        if chosen is not _PRIMARY:
            extra["role"] = chosen
        return AsyncUnit(self, self._options(_READ, databases, extra), name, caller(), chosen)

    async def run(
        self,
        work: Callable[[AsyncSession], Awaitable[T]],
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
        """Run `await work(session)` as a unit of work and answer what it returns; repeat it whole if that is safe.

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
        check_record(record, key)
        extra = extra_options(propagation, isolation, deadline, outcome, key, name=name, tenant=tenant)
        extra["repeatable"] = True
        options = self._options(Access.WRITE, databases, extra)
        return await self._run(work, options, retry, name or called(work), record, caller())

    async def run_sync(
        self,
        work: Callable[[Session], T],
        *databases: str,
        access: Access | Literal["read", "write"] = Access.WRITE,
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
        """As `run`, for an ordinary function: run `work(session)` with a `Session`; `AsyncSession.run_sync`, as a unit.

        With `access="read"` the unit is one of `read`. On SQLite `work` runs in a thread of its own, to which the whole
        unit is sent once: that costs a fraction of the many calls that an `AsyncSession` sends to a thread there. On
        servers, for a unit with an exact outcome, and where it joins an open unit, it runs in the event loop, which
        goes on while a statement is under way. So `work` must neither block nor use what belongs to the loop. Its hooks
        may be coroutine functions.

        A cancellation or the deadline interrupts the statement that runs in the thread, and the next one is refused;
        the unit has ended, in the thread, before the error leaves.
        """
        check_work(work, "run_sync")
        check_record(record, key)
        extra = extra_options(propagation, isolation, deadline, outcome, key, name=name, tenant=tenant)
        label = name or called(work)
        writes = word(Access, access, "access") is Access.WRITE
        if writes:
            extra["repeatable"] = True
        elif outcome is not None or key is not None:
            refuse_exact_read("run_sync")
        options = self._options(Access.WRITE if writes else Access.READ, databases, extra)

        async def awaited(session: AsyncSession) -> T:
            return cast("T", finished(await session.run_sync(work), label))

        def called_here(session: Session) -> T:
            return cast("T", finished(work(session), label))

        return await self._run(awaited, options, retry, label, record, caller(), called_here)

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
    ) -> Callable[[Callable[Concatenate[AsyncSession, P], Awaitable[T]]], Callable[P, Coroutine[Any, Any, T]]]:
        """Make a coroutine function of `(session, ...)` a unit of work: `@sessions.unit("orders", retry=5)`.

        Called without the session, it runs as with `run`, each time in a unit of its own or joined to the open one.
        """

        check_parentheses(databases, "unit")
        Backoff.of(retry)
        check_record(record, key)
        extra_options(
            propagation, isolation, deadline, outcome, key, name=name, tenant=tenant
        )  # refused here, not at the first call

        def decorate(
            work: Callable[Concatenate[AsyncSession, P], Awaitable[T]],
        ) -> Callable[P, Coroutine[Any, Any, T]]:
            check_work(work, "unit", decorated=True)

            @functools.wraps(work)
            async def unit(*args: P.args, **kwargs: P.kwargs) -> T:
                def bound(session: AsyncSession) -> Awaitable[T]:
                    return work(session, *args, **kwargs)

                check_record(record, key)
                extra = extra_options(propagation, isolation, deadline, outcome, key, name=name, tenant=tenant)
                extra["repeatable"] = True
                options = self._options(Access.WRITE, databases, extra)
                return await self._run(bound, options, retry, name or called(work), record, caller())

            return cast("Callable[P, Coroutine[Any, Any, T]]", unit)

        return decorate

    async def _run(
        self,
        work: Callable[[AsyncSession], Awaitable[T]],
        options: UnitOptions,
        retry: int | Backoff,
        name: str,
        record: bool,
        origin: Origin,
        in_thread: Callable[[Session], T] | None = None,
    ) -> T:
        """`in_thread` is the same work, for where a thread can do it."""
        policy = Backoff.of(retry)
        attempts = Attempts(self, options, name, origin)
        timer = Timer(attempts.deadline_at)

        async def body(session: AsyncSession) -> T:
            value = refuse_unread(await awaitable(work(session), name), name)
            if record:
                kept = as_result(value)
                await session.run_sync(lambda sync: self._record(sync, kept))
            if attempts.deadline_at is not None:
                attempts.refuse_late()
            return value

        def perform(step: Any) -> Any:
            kind = type(step)
            if kind is Body:
                timer.start()
                return body(step.session)
            if kind is Flush:
                timer.stop()  # what follows is the end of the unit, which is not cut short
            return self._perform(step)

        steps: Any = attempt_steps(attempts, policy, deadline_at=attempts.deadline_at)
        performs: Callable[[Any], Any] = perform
        if in_thread is not None:
            from ._shell.in_thread import with_thread  # few programs need it

            steps, performs = with_thread(self, steps, perform, in_thread, attempts, timer)
        try:
            return cast("T", await drive_async(steps, performs))
        except BaseException as error:
            overrun = attempts.overrun(error, timed_out=await timer.take_back())
            if overrun is None:
                raise
            try:
                raise overrun from error
            finally:
                del overrun  # no circle of this frame and the error's traceback
        finally:
            timer.stop()

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
    ) -> Iterator[AsyncUnit[AsyncSession]]:
        """As `run`, for a block: `for attempt in sessions.attempts("orders"):`, then `async with attempt as session:`.

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

    async def outcome(
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
        return (await drive_async(asked_steps(marked, name), self._perform)).outcome

    def current(self, database: str | None = None) -> AsyncSession:
        """The session of the unit of work that is open here for `database`.

        Raises `NoUnit` if there is none, `WrongOwner` if it belongs to another task.
        """
        return cast("AsyncSession", self._current_session(database))

    # -- many at once

    def task(
        self,
        work: Callable[Concatenate[AsyncSession, P], Awaitable[T]],
        *databases: str,
        retry: int | Backoff = 10,
        name: str | None = None,
        tenant: str | None = None,
    ) -> Callable[P, Coroutine[Any, Any, T]]:
        """A coroutine function that runs `work(session, ...)` in a unit of its own, wherever it is called from.

        For work that is handed to another task or to a framework's background tasks: it never joins the unit that is
        open where it happens to run, and does not take its tenant from that.
        """
        check_work(work, "task", decorated=True)
        label, apart = name or called(work), Propagation.REQUIRES_NEW
        return self.unit(*databases, retry=retry, name=label, propagation=apart, tenant=tenant)(work)

    @overload
    async def gather(
        self,
        *works: Callable[[AsyncSession], Awaitable[T]],
        database: str | None = None,
        databases: Sequence[str] = (),
        tenant: str | None = None,
        access: Access | Literal["read", "write"] = Access.READ,
        limit: int | None = None,
        return_errors: Literal[False] = False,
    ) -> list[T]: ...

    @overload
    async def gather(
        self,
        *works: Callable[[AsyncSession], Awaitable[T]],
        database: str | None = None,
        databases: Sequence[str] = (),
        tenant: str | None = None,
        access: Access | Literal["read", "write"] = Access.READ,
        limit: int | None = None,
        return_errors: bool,
    ) -> list[T | BaseException]: ...

    async def gather(
        self,
        *works: Callable[[AsyncSession], Awaitable[Any]],
        database: str | None = None,
        databases: Sequence[str] = (),
        tenant: str | None = None,
        access: Access | Literal["read", "write"] = Access.READ,
        limit: int | None = None,
        return_errors: bool = False,
    ) -> list[Any]:
        """Run every `await work(session)` in a unit and a task of its own; what they return, in the order of the works.

        All run over one database, the door's only one or `database`; or the works over those of `databases`, each over
        the one at its place, and a single work over each of them. `tenant` is that of the databases that
        have tenants.

        At most `limit` run at once; by default as many as the databases' pools have connections. All run to their end
        even if one fails. Then errors are raised together as an `ExceptionGroup`, each with the outcome of its own unit
        (`outcome_of`); or with `return_errors` they stand in the list in place of results. A cancellation cancels all.
        """
        for work in works:
            check_work(work, "gather")
        pairs = self._placed(works, database, databases, tenant)
        opened = self.read if word(Access, access, "access") is Access.READ else self.begin
        check_limit(limit)
        flag(return_errors, "return_errors")
        places = asyncio.Semaphore(limit or self._places(pairs))

        async def branch(work: Callable[[AsyncSession], Awaitable[Any]], at: Endpoint) -> tuple[Any]:
            async with places, opened(at.database, name=called(work), tenant=at.tenant) as session:
                return (refuse_unread(await awaitable(work(session), called(work)), called(work)),)

        ends = await asyncio.gather(*(branch(work, at) for work, at in pairs), return_exceptions=True)
        return collect(ends, return_errors=return_errors)

    async def batch(self, session: AsyncSession, *statements: Executable) -> list[Result[Any]]:
        """Execute several queries in one flight: `items, total = await sessions.batch(session, query, count)`.

        They must not depend on each other. All are sent before the first answer is read, so that they cost one round
        trip together; what is returned for each is what `session.execute` returns, in their order. That needs a read
        unit without a transaction, PostgreSQL and psycopg. Elsewhere they are executed one after the other, with the
        same results. If some fail, the error of the first of these is raised when all have been executed.

        `session` is that of a unit or session which is open here; raises `RequestRefused` for anything else.
        """
        check_session(session, AsyncSession, "batch")
        from ._shell.together import execute_together  # few programs need it

        return await session.run_sync(execute_together, statements)

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
        class_: type[AsyncSession] = AsyncSession,
        **session_options: Any,
    ) -> AsyncSession: ...

    def open(
        self,
        database: str | None = None,
        *,
        tenant: str | None = None,
        class_: type[Any] = AsyncSession,
        **session_options: Any,
    ) -> AsyncSession:
        """An independent session; whoever opens it commits and closes it.

        It belongs to the task that opened it, ends for good with `await close()` (a second call does nothing), and is
        reported with a `ResourceWarning` that names the line if it is dropped unclosed. `session_options` are those of
        `sqlalchemy.ext.asyncio.AsyncSession`.
        """
        session: AsyncSession = self._free_session(database, tenant, class_, session_options, caller(), strict=True)
        return session

    @overload
    def sessionmaker(
        self, database: str | None = None, *, tenant: str | None = None, class_: type[S], **session_options: Any
    ) -> async_sessionmaker[S]: ...

    @overload
    def sessionmaker(
        self,
        database: str | None = None,
        *,
        tenant: str | None = None,
        class_: type[AsyncSession] = AsyncSession,
        **session_options: Any,
    ) -> async_sessionmaker[AsyncSession]: ...

    def sessionmaker(
        self,
        database: str | None = None,
        *,
        tenant: str | None = None,
        class_: type[Any] = AsyncSession,
        **session_options: Any,
    ) -> async_sessionmaker[Any]:
        """A real `sqlalchemy.ext.asyncio.async_sessionmaker` for one database: existing code adopts it by this line.

        Its sessions are final (`close_resets_only=False`), keep attributes after a commit, and are shown in `held()`.
        As with SQLAlchemy's, they may be handed from task to task in turn.
        """
        (name,) = self._topology.resolve((database,) if database is not None else ())
        endpoint = self._topology.databases[name].writable(tenant_of(tenant))
        check_session_class(class_, AsyncSession)
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
        check_session_class(class_, AsyncSession)
        whose = {} if tenant is None else {"tenant": tenant_of(tenant)}
        asked = self._options(Access.WRITE, (database,) if database is not None else (), whose)
        name = asked.databases[0]
        endpoint = self._topology.databases[name].writable(tenant)
        engine = cast("AsyncEngine", self._ready_engines.engine(endpoint, FREE))
        check_session_options(options, name, engine, self._backend(name))
        options["close_resets_only"] = False
        options.setdefault("expire_on_commit", False)
        options["bind"] = engine
        options["sync_session_class"] = guarded(options.get("sync_session_class") or class_.sync_session_class)
        session = class_(**options)
        self._adopt(session, name, endpoint, engine.sync_engine, origin, strict)
        return session

    @asynccontextmanager
    async def outside(self) -> AsyncIterator[None]:
        """A block in which nothing is held: `async with sessions.outside():` around a call to another service.

        Raises `ConnectionHeld` at its beginning if a unit or session of this task has a connection that it must keep;
        and inside, where a unit or session of this door is opened or takes a connection. What a read unit need not
        keep is given back. Other tasks are not concerned, nor are other doors; of engines that the application made
        only what is held at the beginning is noticed.
        """
        self._check_loop()
        token = BLOCK.set(await util.greenlet_spawn(self._leave_connections, caller(2)))
        try:
            yield
        finally:
            BLOCK.reset(token)

    async def drain(self, *databases: str, within: float | timedelta = 30.0, tenant: str | None = None) -> int:
        """Have every connection of these databases, or of all, closed: pause, close what is idle, and wait until what
        is out has come back, for `within` seconds at most. How many are still out: 0 if it is done.

        Those that are out later are closed when they come back. Whoever asks waits until `resume()`. A unit that needs
        one more connection waits too, and ends by its own time. `tenant` is that of `pause()`, which raises the same.
        """
        end, back = until(within), asyncio.Event()
        self.pause(*databases, tenant=tenant)
        rooms = self._steered(databases, tenant)
        loop = asyncio.get_running_loop()
        with watching(rooms, lambda: loop.call_soon_threadsafe(back.set)):
            while True:
                back.clear()
                await util.greenlet_spawn(close_idle, rooms)
                await grace.heard()
                still, left = out(rooms), end - time.monotonic()
                if not still or left <= 0:
                    return still
                with suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await back.wait()

    # -- the end

    async def close(self) -> None:
        """Refuse new work and close the idle connections; those that are out close when they come back.

        Units that are still open are named in a `ResourceWarning`. A second call does nothing.
        """
        engines = self._begin_close()
        if engines is not None:
            await engines.dispose_async()
            self._say_still_open()
            await grace.heard()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()

    if not TYPE_CHECKING:  # so that the type checkers refuse it, too

        def __enter__(self) -> NoReturn:
            refuse_door(self, "async with")

        def __exit__(self, *_: object) -> NoReturn:  # pragma: no cover  # __enter__ has raised
            raise AssertionError

    # -- for the driver

    def _perform(self, step: Any) -> Any:
        return self._performers[type(step)](step)

    def _is_cancelled(self) -> bool:
        return _is_cancelled(asyncio.current_task())

    async def _call(self, step: Call) -> None:
        waits = self._perform_call(step)
        if inspect.isawaitable(waits):
            try:
                await waits
            except Exception:
                if step.hook.robust:
                    log_failed_hook(step.hook)
                raise

    def _later(self, loop: asyncio.AbstractEventLoop, work: Callable[[], Coroutine[Any, Any, Any]]) -> bool:
        """Do in `loop` what cannot be awaited where an object is dropped; False if that loop is closed."""

        def begin() -> None:
            task = loop.create_task(work())
            self._ending.add(task)  # a loop holds its tasks by weak references only
            task.add_done_callback(self._ending.discard)

        try:
            loop.call_soon_threadsafe(begin)
        except RuntimeError:
            return False
        return True

    def _end_left(self, scope: Scope, holding: Holding) -> None:
        self._in_its_loop(holding, lambda: self._end_left_steps(scope, holding))

    def _in_its_loop(self, holding: Holding, work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        loop = self._ready_engines.loop_of(next(iter(holding.engines.values()))) or asyncio._get_running_loop()
        if loop is None or not self._later(loop, work):
            self._say_left(holding)  # nothing can be awaited any more: the connection is ended by its pool

    async def _end_left_steps(self, scope: Scope, holding: Holding) -> None:
        try:
            await drive_async(leave_steps(scope, GeneratorExit()), self._perform)
        finally:
            self._left(scope)
            self._say_left(holding)
            if scope.outermost:
                await self._told(scope, None)

    def _close_left(self, session: Any, holding: Holding) -> None:
        self._in_its_loop(holding, session.close)

    def _take_back(self, connection: Connection) -> None:
        loop = self._ready_engines.loop_of(connection.engine)
        if loop is not None:  # else SQLAlchemy ends it as well as it can
            self._later(loop, lambda: util.greenlet_spawn(connection.close))

    async def _told(self, scope: Scope, leaving: BaseException | None) -> None:
        """The unit has ended: mark the error that leaves it, call the hooks."""
        assert scope.outcome is not None
        if leaving is not None:
            mark_outcome(leaving, scope.outcome, scope.unit_id)
        if scope.hooks:
            hooks, scope.hooks = scope.hooks, ()  # at most once, whatever interrupts them
            try:
                await drive_async(hook_steps(hooks, scope.outcome, leaving), self._perform)
            except BaseException as failed:
                mark_outcome(failed, scope.outcome, scope.unit_id)
                raise

    def _make_session(self, holding: Holding, engine: Any, keywords: dict[str, Any]) -> AsyncSession | Session:
        if not holding.awaits:
            from ._shell.in_thread import make_session  # few programs need it

            return make_session(holding, keywords)
        return async_session_of_unit(holding, engine, keywords)

    def _asked_plainly(self, plans: dict[tuple[str, ...], Plan], names: tuple[str, ...]) -> Plan | None:
        if self._closed or BLOCK.get() is not None or asyncio._get_running_loop() is None:
            return None  # it may have to be refused
        try:
            return plans.get(names)
        except TypeError:
            return None  # a list of names

    def _check_loop(self) -> None:
        if asyncio._get_running_loop() is None:
            raise WrongDoor(
                "the asynchronous door was used outside of a running event loop",
                why="its sessions and pools belong to a loop",
                do=("call it inside of a coroutine", "use Sessions in code that runs in threads"),
            )


def _is_cancelled(task: asyncio.Task[Any] | None) -> bool:
    return task is not None and task.cancelling() > 0


def _seen_by(scope: Scope) -> Any:
    """What sees the statements of a savepoint, for its timer."""
    holding: Any = scope.holding
    return None if scope.savepoint is None else holding.seen


async def _rest(seconds: float, caller: asyncio.Task[Any] | None) -> bool:
    await asyncio.sleep(seconds)
    return _is_cancelled(caller)


def _spawned(work: Callable[..., Any], *args: Any) -> Shielded:
    """Run what is written for threads in a greenlet that awaits, and to its end."""
    return Shielded(util.greenlet_spawn(work, *args))


@final
@stored_plainly
class AsyncUnit(msgspec.Struct, Generic[S], eq=False):
    """A unit of work as an asynchronous context manager: opened once, by one task. Made by `begin` and `read`."""

    _door: AsyncSessions
    _options: UnitOptions
    _name: str | None
    _origin: Origin
    _role: Role = _PRIMARY
    _plan: Plan | None = None
    """Of one that asks for nothing, in a function whose blocks are left before it can be suspended."""
    _loop: _Loop | None = None
    _scope: Scope | None = None
    _runs_in: asyncio.AbstractEventLoop | None = None
    _leaving: bool = False
    _timer: Timer = NO_TIMER

    def __repr__(self) -> str:
        return object.__repr__(self)  # not with all that it refers to

    async def __aenter__(self) -> S:
        if self._scope is not None:
            raise SessionMisuse(
                "a unit of work was opened twice",
                why=f"it was made at {self._origin} and is used up; opened again at {caller()}",
                do=("call begin() or read() for each block",),
            )
        door = self._door
        self._runs_in = asyncio.get_running_loop()
        try:
            if self._plan is not None:
                opened: S | None = door._opened_plainly(self, _getframe(1))
                if opened is not None:
                    return opened
            scope = door._scope(self._options, self._name, self._origin, self._role, _getframe(1))
            if self._loop is not None:
                await self._loop.begin(scope)
            self._scope = scope
            session: S | None = None if self._loop is not None else door._opened_at_once(scope)
            if session is None:
                await drive_async(enter_steps(scope), door._perform)
                session = cast("S", door._entered(scope))
            if scope.deadline_at is not None:
                self._timer = Timer(scope.deadline_at, _seen_by(scope))
                self._timer.start()
        except BaseException as error:
            await self._abandon(error)
            raise
        return session

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> bool | None:
        scope = self._scope
        if scope is None:
            refuse_leaving(self._origin)
        if scope.left_behind:
            self._door._refuse_left(scope, error)
            return None
        if self._leaving:
            leave_again(scope, error)  # or it was taken for dropped, and is ended already
            return None
        self._leaving = True
        try:
            is_ended = (
                error is None and self._loop is None and self._timer is NO_TIMER and self._door._ends_at_once(scope)
            )
        except BaseException as raised:
            await self._break_off(scope, raised)
            raise
        if is_ended:
            if scope.hooks:
                await self._door._told(scope, None)
            return None
        leaving = await self._end(scope, error)
        if self._loop is not None and await self._loop.repeats(scope, leaving):
            return True
        if (leaving is not None or scope.hooks) and scope.outermost:
            await self._door._told(scope, leaving)
        if leaving is not None and leaving is not error:
            try:
                raise leaving
            finally:
                del leaving  # its traceback has this frame: a circle, which the garbage collector would have to find
        return None

    async def _end(self, scope: Scope, error: BaseException | None) -> BaseException | None:
        """Leave the unit; the error that leaves it, which may be another one than that of its body."""
        door = self._door
        leaving = error if error is not None else door._late(scope)
        timed_out = self._timer is not NO_TIMER and await self._timer.take_back()
        try:
            await drive_async(leave_steps(scope, leaving), door._perform)
        except BaseException as failed:
            leaving = failed
        finally:
            door._left(scope, caller(2))
        overrun = door._overrun(scope, leaving, timed_out=timed_out)
        if overrun is not None:
            overrun.__cause__ = leaving
            return overrun
        return leaving

    async def _break_off(self, scope: Scope, error: BaseException) -> None:
        """Something has failed, or was interrupted, while it was ended at once: do what is left to do."""
        if scope.outcome is None:
            await self._end(scope, error)
        else:
            self._door._left(scope)
        if scope.outermost:
            await self._door._told(scope, error)

    async def _abandon(self, error: BaseException) -> None:
        """Entering failed or was cancelled: end what was opened."""
        scope = self._scope
        if scope is None or scope.holding is None:
            mark_outcome(error, Outcome.ROLLED_BACK)  # nothing was begun
            return
        if scope.outcome is not None:
            return
        try:
            await drive_async(leave_steps(scope, error), self._door._perform)
        finally:
            self._door._left(scope)
            if scope.outermost:
                await self._door._told(scope, error)

    def __del__(self) -> None:
        scope = self._scope
        if (
            scope is None
            or self._leaving
            or scope.left_behind
            or not scope.decides
            or scope.holding is None
            or scope.outcome is not None
        ):
            return
        assert self._runs_in is not None
        if not self._door._later(self._runs_in, lambda: self._end_dropped(scope)):
            self._door._left(scope)  # nothing can be awaited any more: the connection is ended by its pool
            self._door._say_dropped(scope)

    async def _end_dropped(self, scope: Scope) -> None:
        """The last reference is gone: end the unit where it was opened, in its loop."""
        for _ in range(3):
            # a generator that was dropped in a cycle is closed by its loop at the same time, and leaves the block
            await asyncio.sleep(0)
        if self._leaving or scope.left_behind or scope.outcome is not None:
            return
        self._leaving = True
        self._door._say_dropped(scope)
        await self._end(scope, GeneratorExit())
        if scope.outermost:
            await self._door._told(scope, None)

    if not TYPE_CHECKING:  # so that the type checkers refuse it, too

        def __enter__(self) -> NoReturn:
            raise WrongDoor(
                "'with' was used on a unit of the asynchronous door",
                why=f"it was made by AsyncSessions at {self._origin}; 'with' is at {caller()}",
                do=("write 'async with'", "use Sessions in code that runs in threads"),
            )

        def __exit__(self, *_: object) -> NoReturn:  # pragma: no cover  # __enter__ has raised
            raise AssertionError


refuse_attributes(AsyncUnit, AsyncSession, "async with")


class _Loop:
    """The state of one `attempts()` loop between its turns."""

    __slots__ = ("_again", "_attempts", "_door", "_policy", "_turn")

    def __init__(self, door: AsyncSessions, attempts: Attempts, policy: Backoff) -> None:
        self._door = door
        self._attempts = attempts
        self._policy = policy
        self._turn = 0
        self._again = False

    def units(self, options: UnitOptions, name: str | None, origin: Origin) -> Iterator[AsyncUnit[Any]]:
        """A unit for each turn, until one is not repeated."""
        while True:
            self._turn += 1
            self._again = False
            unit: AsyncUnit[Any] = AsyncUnit(self._door, options, name, origin)
            unit._loop = self
            yield unit
            if not self._again:
                return

    async def begin(self, scope: Scope) -> None:
        """A turn is opened, under the deadline of all turns."""
        scope.deadline_at = self._attempts.deadline_at
        scope.repeats = self._attempts.turn
        if self._turn == 1:
            steps = first_steps(self._attempts, scope, self._policy, scope.deadline_at)
            await drive_async(steps, self._door._perform)
        self._attempts.began_at = time.monotonic()

    async def repeats(self, scope: Scope, error: BaseException | None) -> bool:
        """Whether there is another turn after `error`; if so, wait for it."""
        if not isinstance(error, Exception) or not scope.whole:
            self._attempts.turn.leave()
            return False
        steps = again_steps(self._attempts, scope, self._policy, error, self._turn, self._attempts.deadline_at)
        try:
            self._again = await drive_async(steps, self._door._perform)
        finally:
            if not self._again:
                self._attempts.turn.leave()
        return self._again


class _Maker(async_sessionmaker[S], Generic[S]):
    """An `async_sessionmaker` whose sessions are held by a door."""

    def __init__(
        self, door: AsyncSessions, database: str, tenant: str | None, class_: type[S], options: dict[str, Any]
    ) -> None:
        self._door = door
        self._database = database
        self._tenant = tenant
        super().__init__(class_=class_, **{"expire_on_commit": False, **options})
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


def _below(holding: Holding, work: Callable[..., T], *args: Any) -> Coroutine[Any, Any, T]:
    """Run a synchronous function of the holding where SQLAlchemy lets it wait for the server."""
    return util.greenlet_spawn(work, holding, *args)


def _flush(holding: Holding) -> Any:
    session = holding.sync
    # flushing nothing needs no server; a read unit's refusal of pending work does not either
    if session._is_clean() if known.IS_KNOWN else not (session.new or session.dirty or session.deleted):
        return Finish.flush(holding)
    return _in_time(holding, Finish.flush)


def _in_time(holding: Holding, work: Callable[..., T], *args: Any) -> Coroutine[Any, Any, T]:
    """As `_below`; no wait for the server outlasts the deadline by more than the grace. A cancellation ends it."""
    deadline_at = holding.seen.deadline_at
    return (_below if deadline_at is None else _bounded)(holding, work, *args)


async def _bounded(holding: Holding, work: Callable[..., T], *args: Any) -> T:
    deadline_at = holding.seen.deadline_at
    assert deadline_at is not None
    left = max(0.0, deadline_at - time.monotonic()) + grace.GRACE
    bound = asyncio.get_running_loop().call_later(left, holding.sever)
    try:
        return await _below(holding, work, *args)  # made here: who closes this unawaited leaves no other one
    finally:
        bound.cancel()


def _commit(holding: Holding, database: str) -> Any:
    within = holding.time_to_commit()
    if Finish.is_heard(holding):  # whoever hears of it may write
        return Shielded(_below(holding, Finish.commit, database), within=within, give_up=holding.sever)
    return _shielded(holding, within, Finish.commit, database)


def _shielded(holding: Holding, within: float | None, work: Callable[..., Any], *args: Any) -> Any:
    if Finish.idle(holding):
        return work(holding, *args)  # no connection is out: nothing is waited for
    return Shielded(_below(holding, work, *args), within=within, give_up=holding.sever)
