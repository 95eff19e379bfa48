"""One session and what is known of it: who holds it, where it was opened, where it ended; and how it is ended.

A `Holding` belongs to one thread or task. `check` is on the path of every statement and costs a few comparisons;
everything else is written for clear errors.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import time
import weakref
from collections.abc import Callable, Mapping
from threading import get_ident
from types import MappingProxyType
from typing import Any, Final, NoReturn, cast

import msgspec
from sqlalchemy import inspect
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapper, Session, SessionTransaction

from .._core.plainly import stored_plainly
from .._core.scope import Scope
from ..errors import RequestRefused, SessionEnded, UnitOwnsCommit, WrongOwner
from ..facts import Fact, HoldEnded, HoldId, HoldKind, HoldOpened, Origin, Outcome, Owner, TransactionIdled
from ..observe.live import Progress, Relay
from ..options import Access
from . import grace, owners, places, watchdog
from .begins import begin_sqlite
from .claims import asking
from .lazy import Ended
from .lease import Lease, lease_of
from .loan import Loan
from .marking import Trail
from .notes import HOLDING
from .outside import refuse_inside
from .owners import THREAD, OwnThread
from .places import NOBODY, NOBODYS, PROCESS, Process, current_task
from .plans import Plan
from .pooled import reads_in_transaction
from .room import Room
from .sqlite import Begin
from .watch import Watch, attach

__all__ = ["Holding", "Models"]

_next_id: Final = cast("Callable[[], HoldId]", itertools.count(1).__next__)
_now: Final = time.monotonic
_NEVER: Final = math.inf
_NOTHING: Final = MappingProxyType[str, Any]({})
_UNIT: Final = HoldKind.UNIT
_WRITE: Final = Access.WRITE
"""Members of enumerations, which Python 3.11 looks for at each use: these are used by every unit."""


_UNSEEN: Final = Watch(None, None, False, False)
"""Of a session that has asked for nothing yet, for who is not its owner."""


class Models:
    """Which database a mapped class lives in: what `bind` declared, or the class's own `__database__`."""

    __slots__ = ("_declared", "_found", "names_tables")

    def __init__(self) -> None:
        self._declared: dict[Any, str] = {}
        self.names_tables = False
        """Something was declared, so that a statement without a mapped class may have a home too."""
        self._found: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()

    def declare(self, target: Any, database: str) -> None:
        """`target` (a class, a table or a `MetaData`) lives in `database`. The nearest declaration counts."""
        self._declared[target] = database
        self.names_tables = True
        self._found.clear()

    def database_of(self, mapper: Any, clause: Any) -> str | None:
        """The database of a mapped class or of the tables in a statement; None if nothing was declared."""
        if mapper is not None:
            return self._of_class(cast("Mapper[Any]", inspect(mapper)))
        if clause is not None and self._declared:
            for table in _tables(clause):
                name = self._declared.get(table) or self._declared.get(getattr(table, "metadata", None))
                if name is not None:
                    return name
        return None

    def _of_class(self, mapper: Mapper[Any]) -> str | None:
        cls = mapper.class_
        name = self._found.get(cls)
        if name is None:
            name = self._look_up(mapper, cls)
            self._found[cls] = name
        return name or None

    def _look_up(self, mapper: Mapper[Any], cls: type) -> str:
        for base in cls.__mro__:
            declared = self._declared.get(base) or base.__dict__.get("__database__")
            if declared is not None:
                return str(declared)
        table = mapper.local_table
        return self._declared.get(table) or self._declared.get(getattr(table, "metadata", None)) or ""


def _tables(clause: Any) -> list[Any]:
    from sqlalchemy.sql.util import find_tables  # imported when a table was declared: few programs need it

    return list(find_tables(clause, include_joins=True, include_selects=True, include_crud=True))


@stored_plainly
class Holding(msgspec.Struct, eq=False, weakref=True):
    """A session in somebody's hands. Made by the doors, which let it begin."""

    kind: HoldKind
    name: str
    databases: tuple[str, ...]
    engines: Mapping[str, Engine]
    access: Access
    origin: Origin
    models: Models
    relay: Relay
    _seen: Watch | None
    """None: nothing was asked of its session yet for which it would need a connection."""
    plan: Plan | None = None
    """That of a unit."""
    at_begin: Callable[[Connection], None] | None = None
    strict: bool = True
    """Only the thread or task that opened it may use it."""
    awaits: bool = False
    """It is below an `AsyncSession`: what waits for the server must be awaited."""
    only: Engine | None = None
    """The engine of a unit over one database."""
    id: HoldId = msgspec.field(default_factory=_next_id)
    opened_at: float = msgspec.field(default_factory=_now)
    endpoints: tuple[str, ...] = ()
    """Where its databases are."""
    _opening: HoldOpened | None = None
    session: Session | AsyncSession | None = None
    """Set for units. A session that its owner ends is only watched, so that dropping it can be noticed."""
    sync: Any = None
    """Of a unit: its `Session`, also below an `AsyncSession`."""
    taken: Connection | None = None
    """For a session of asyncio that its owner ends: its connection, which cannot be returned without its loop."""
    at_end: Callable[[], None] | None = None
    """What has to be undone on the connection before it goes back."""
    connections: Mapping[str, Connection] = _NOTHING
    """For a unit over several databases: the connections, which are committed one after the other in order."""
    leases: list[weakref.ref[Lease]] | None = None
    """Not None: between two statements its connections may serve others, since it has no transaction."""
    flight: Any = None
    """What is made ready to be sent together: several reads (`together`), or the last flush and COMMIT
    (`last_flight`)."""
    options: Mapping[str, Mapping[str, Any]] = _NOTHING
    """For these connections: what a session is told of its transaction, which is begun for it here."""
    trail: Trail | None = None
    """For a unit that knows its outcome: what it leaves behind."""
    is_connected: bool = False
    """For a unit over one database: its session has taken its connection, and asks for no other one."""
    direct: Engine | None = None
    """For a unit that writes, of threads: `only`, as soon as it is connected."""
    direct_reads: Engine | None = None
    """The same for one that reads."""
    begun_in: weakref.ref[SessionTransaction] | None = None
    """For a session that its owner ends: the transaction for which it has taken its connection."""
    commit_sent: bool = False
    """COMMIT has left for a server. Set by engines of our making."""
    undo_failed: bool = False
    """What was set on its connection could not be undone before COMMIT, which was not sent then."""
    leaving: bool = False
    """The driver is ending it, so that commit and close are allowed."""
    rolled_back: bool = False
    """It was told to roll back, since something has failed or was interrupted."""
    told: bool = False
    """Its end was told."""
    ended: Outcome | None = None
    ended_at: Origin | None = None
    tenant: str | None = None
    """In whose database it works, where that has tenants."""
    scope: Any = None
    """The unit that it belongs to; None for a session that its owner ends."""
    repeated: object | None = None
    """What all attempts of a repeatable unit share."""
    process: Process = NOBODYS
    thread: int = 0
    task: weakref.ref[asyncio.Task[object]] | None = None
    user: int = 0
    """The thread that may use it without further questions: it is open, and neither a task's nor handed around."""
    running: weakref.ref[asyncio.Task[object]] | None = None
    """The same for a task, while it is open."""
    _owner: Owner | OwnThread = NOBODY
    watched: Any = None
    """For `owners`."""
    watch: weakref.ref[Session] | weakref.ref[AsyncSession] | None = None
    when_left: Callable[[Holding], None] | None = None
    """Sees to it if its owner has ended and left it open. Called in another thread, or in the loop of its task."""

    def begin(self, scope: Scope, own: OwnThread | None) -> None:
        """Be that of this unit: of a copy of what all of its kind have. Belong to the thread that runs now, which is
        `own`; if that is None, to the task that runs now."""
        self.id = _next_id()
        self.opened_at = _now()
        self.name = scope.name
        self.origin = scope.origin
        self.scope = scope
        self.process = PROCESS.process
        if own is None:
            self.belong()
        else:  # as `belong`
            self._owner = own
            self.thread = self.user = own.ident

    @property
    def seen(self) -> Watch:
        """What is seen of its statements. For who is not its owner there may be nothing yet: see `_seen`."""
        seen = self._seen
        if seen is None:
            plan = self.plan
            assert plan is not None
            seen = Watch(None, None, plan.in_transaction, False)
            seen.holding = seen.timed = self
            if not plan.lends:
                seen.patience = plan.patience
            self._seen = seen
        return seen

    @property
    def owner(self) -> Owner:
        """Whose it is."""
        owner = self._owner
        return owner.owner if isinstance(owner, OwnThread) else owner

    @property
    def opening(self) -> HoldOpened:
        """What is told of its beginning; made when somebody asks for it."""
        told = self._opening
        if told is None:
            told = self._opening = HoldOpened(
                self.id,
                self.kind,
                self.name,
                self.databases,
                self.endpoints,
                self.access,
                self.owner,
                self.origin,
                self.opened_at,
                self.tenant,
            )
        return told

    def tell(self, fact: Fact) -> None:
        """Tell everybody."""
        self.relay.tell(fact)

    def take_over(self) -> None:
        """Belong to the thread or task that runs now."""
        _ = self.opening  # as it was opened
        self.belong()

    def belong(self) -> None:
        """Belong to the thread or task that runs now."""
        task = current_task()
        owner = self._owner = places.here_now(task)
        self.thread = owner.thread
        is_free = self.strict and self.ended is None
        if task is None:
            self.task = self.running = None
            self.user = owner.thread if is_free else 0
        else:
            self.task = weakref.ref(task)
            self.user = 0
            self.running = self.task if is_free else None
        if self.watched is not None:
            owners.forget(self)
            owners.watch(self, task)

    # -- the guard

    def check(self) -> None:
        """Return if the session may be used here and now; else raise `SessionEnded` or `WrongOwner`.

        Who sees that `user` is the thread that runs, and `process` the one, need not ask.
        """
        running = self.running
        if running is not None and self.process is PROCESS.process:
            try:  # as `current_task`, one call of which is saved at every statement
                if running() is asyncio.current_task():
                    return
            except RuntimeError:
                pass  # no event loop runs here
        elif self.ended is None and self.process is PROCESS.process:
            if not self.strict:
                if self.seen.in_use is not None and self.seen.in_use.locked():
                    self.refuse_overlap()
                return
            if self.thread == get_ident() and (self.task is None or self.task() is current_task()):
                return
        self._refuse()

    def _refuse(self) -> None:
        if self.leaving and self.ended is None:
            return  # the driver ends it, for asyncio in a task of its own
        if self.ended is not None:
            where = f", and ended ({self.ended}) at {self.ended_at}" if self.ended_at else f", and ended ({self.ended})"
            raise SessionEnded(
                f"{self._called} was used after its end",
                why=f"it was opened at {self.origin}{where}; used at {places.caller()}",
                do=(
                    "do this work inside the block",
                    "load what is needed before the block ends",
                    "open another unit for it",
                ),
                name=self.name,
            )
        if current_task() is not None and _is_waited_for(self.task() if self.task is not None else None):
            return
        if self.is_inherited:
            raise WrongOwner(
                f"{self._called} belongs to process {self.owner.process}, but process {os.getpid()} used it",
                why=(
                    f"it was opened at {self.origin}, before the fork, and its connection is that process's; "
                    f"used at {places.caller()}"
                ),
                do=(
                    "open a unit of its own in each process; the door itself may be used in both",
                    "fork before units are opened",
                ),
                name=self.name,
            )
        raise WrongOwner(
            f"{self._called} belongs to {self.owner}, but {places.here()} used it",
            why=f"it was opened at {self.origin}, in process {self.owner.process}; used at {places.caller()}",
            do=(
                "open a unit of its own in each thread or task",
                "pass identifiers between tasks, not the session or its objects",
            ),
            name=self.name,
        )

    def refuse_overlap(self) -> NoReturn:
        """Raise `WrongOwner`: a statement of this session is under way in another thread or task."""
        raise WrongOwner(
            f"{self._called} is in use: one of its statements is under way, and {places.here()} used it as well",
            why=f"it was opened at {self.origin}; used at {places.caller()}",
            do=("use it by one at a time", "make a session of its own in each thread or task"),
            name=self.name,
        )

    def refuse_control(self, words: str) -> None:
        """Raise `UnitOwnsCommit` for a text that would begin or end the transaction of a unit."""
        if self.kind is _UNIT and not self.leaving and self.ended is None:
            raise self.owns_commit(f"the text {words} was to be sent in unit {self.name!r}", words)

    def refuse_committing(self, words: str) -> None:
        """Raise `UnitOwnsCommit` for a text that would commit by itself what a unit has done so far."""
        if self.kind is _UNIT and self.seen.in_transaction and not self.leaving and self.ended is None:
            raise self.owns_commit(
                f"{words} was to be sent in unit {self.name!r} after other work, which it would commit",
                words,
                ("send it first in its unit", "give it a unit of its own", "send it on a session of open()"),
            )

    def refuse_early_commit(self) -> None:
        """Raise `UnitOwnsCommit` if COMMIT goes out while the unit is not being ended."""
        if self.kind is _UNIT and not self.leaving and self.ended is None and self.seen.in_transaction:
            refused = self.owns_commit(f"the connection of unit {self.name!r} was to be committed", "commit")
            self.seen.lose(refused)  # what SQLAlchemy's objects know of the transaction is wrong from here on
            raise refused

    def note_early_rollback(self) -> None:
        """Let nothing more be done in a unit whose transaction is rolled back before its end."""
        if self.kind is _UNIT and not self.leaving and self.ended is None and self.seen.in_transaction:
            if getattr(self.sync_session, "_flushing", False):
                return  # a flush that failed: SQLAlchemy itself lets nothing more be done
            what = f"the transaction of unit {self.name!r} was rolled back before its end"
            self.seen.lose(self.seen.lost or self.owns_commit(what, "rollback"))

    def owns_commit(self, what: str, verb: str, do: tuple[str, ...] = ()) -> UnitOwnsCommit:
        """The error for what would take the end of the unit into its own hands; told with both places."""
        return UnitOwnsCommit(
            what,
            why=(
                f"the unit opened at {self.origin} commits at the end of its block, or rolls back on an error; "
                f"this was at {places.caller()}"
            ),
            do=do
            or (
                "let the block end, or raise an exception to roll back",
                "use begin_nested() for a part that may fail",
                "use open() for a session that you commit yourself",
            ),
            unit=self.name,
            verb=verb,
        )

    @property
    def is_inherited(self) -> bool:
        """It was opened before a fork: its connection belongs to the parent process."""
        return self.process is not PROCESS.process

    @property
    def _called(self) -> str:
        if self.kind is _UNIT:
            return f"the session of unit {self.name!r}"
        return f"the session that {self.name!r} opened"

    def ask(self, session: Session) -> None:
        """Its session asks for a connection next, unless it has one: the pool is to know for whom that is."""
        if self.kind is _UNIT:
            if self.only is None:
                return  # see `_connection`
        elif self.begun_in is not None and self.begun_in() is not None and self.begun_in() is session.get_transaction():
            return
        asking.asker = self

    # -- routing inside the unit

    def bind_for(self, session: Any, mapper: Any, clause: Any, bind: Any, kw: dict[str, Any]) -> Engine | Connection:
        """The engine for a statement: the unit's only one, or the one of the mapped class. Never looks at the text."""
        if bind is not None and bind not in self.engines.values():
            raise RequestRefused(
                f"unit {self.name!r} was given another engine in a statement's bind arguments",
                why=(
                    f"it covers {', '.join(self.databases)} and was opened at {self.origin}; "
                    f"this was at {places.caller()}"
                ),
                do=("name the database at the door", "open another unit for the other database"),
                unit=self.name,
            )
        if bind is not None:
            if len(self.engines) > 1 and self.kind is _UNIT:
                name = next(name for name, engine in self.engines.items() if engine == bind)
                return self._connection(name, bind)
            asking.asker = self
            return cast("Engine | Connection", bind)
        database = self.models.database_of(mapper, clause)
        if database is None:
            if len(self.engines) == 1:
                return next(iter(self.engines.values()))
            raise self._homeless(mapper, clause)
        engine = self.engines.get(database)
        if engine is not None and len(self.engines) > 1 and self.kind is _UNIT:
            return self._connection(database, engine)
        if engine is None:
            raise RequestRefused(
                f"{_called(mapper, clause)} lives in {database!r}, which unit {self.name!r} does not cover",
                why=(
                    f"the unit covers {', '.join(self.databases)}; it was opened at {self.origin}; "
                    f"this was at {places.caller()}"
                ),
                do=(f"open a unit over {database!r}", "name both databases at the door"),
                unit=self.name,
                database=database,
            )
        return engine

    def _connection(self, database: str, engine: Engine) -> Connection:
        """The connection of a unit over several databases: begun by us, so that we decide the order of commits."""
        connection = self.connections.get(database)
        if connection is None:
            asking.asker = self
            connection = engine.connect()
            if options := self.options.get(database):
                connection = connection.execution_options(**options)
            self.connections = {**self.connections, database: connection}
            if self.access is _WRITE and self.seen.in_transaction:
                connection.begin()
        return connection

    def _homeless(self, mapper: Any, clause: Any) -> RequestRefused:
        return RequestRefused(
            f"it is not known in which database {_called(mapper, clause)} lives",
            why=f"unit {self.name!r} covers {', '.join(self.databases)}; it was opened at {self.origin}",
            do=("declare it with sessions.bind(Base, 'orders') or __database__ = 'orders' on the class",),
            unit=self.name,
        )

    def begun(self, connection: Connection) -> None:
        """The session took a connection."""
        if self.kind is _UNIT:
            self.is_connected = self.only is not None
        elif (session := self.sync_session) is not None:
            transaction = session.get_transaction()
            self.begun_in = None if transaction is None else weakref.ref(transaction)
            if self.awaits:
                # a connection that its owner gave to the session is not ours to return
                self.taken = connection if isinstance(session.bind, Engine) else None
        self.took(connection, connection.info)
        if self.leases is None or "isolation_level" in connection.get_execution_options():
            return  # it is a transaction
        if (lease := lease_of(connection)) is not None:
            self.lend(lease, connection.engine)

    def took(self, connection: Connection, info: dict[Any, Any]) -> None:
        """Have this connection, on which is noted `info`: say how its transaction begins where the engine's kind does
        not."""
        info[HOLDING] = self
        if self.watched is None and not self.leaving:
            if self.task is None:
                held = self.watched = THREAD.life.held
                held[id(self)] = self
            else:
                owners.watch(self, self.task())
        if self.trail is not None:
            self.trail.begun(connection, info, self)  # before its statements are watched: it sends one
        attach(connection, self.seen, info)
        if self.at_begin is not None:
            self.at_begin(connection)

    def lend(self, lease: Lease, engine: Engine) -> None:
        """Let others have the connection of a lease between two statements."""
        assert self.leases is not None
        self.leases.append(weakref.ref(lease))
        lease.lend(self, engine)

    def reseated(self, loan: Loan) -> None:
        """A connection was taken back between two statements, and this is the one for the next: as in `begun`."""
        loan.info[HOLDING] = self
        begin_sqlite(Begin.NONE, loan)
        self.seen.reseated(loan)

    @property
    def has_let_go(self) -> bool:
        """All the connections that its session took were lent, and others have them."""
        if not self.leases:
            return False
        session = self.sync_session
        transaction: Any = session.get_transaction() if session is not None else None
        leases = [lease for reference in self.leases if (lease := reference()) is not None]
        return (
            transaction is not None
            and len(leases) == len({known[0] for known in transaction._connections.values()})
            and not any(lease.has_connection for lease in leases)
        )

    def let_go(self) -> bool:
        """Give back what others may have; whether it has no connection then. For its owner, between two statements."""
        for reference in self.leases or ():
            lease = reference()
            if lease is not None:
                lease.let_go()
        return self.has_let_go

    # -- the end

    def undo(self) -> None:
        """Undo what was set on the connection for this unit alone. A second call does nothing."""
        undo, self.at_end = self.at_end, None
        if undo is not None:
            undo()

    def end(self, outcome: Outcome, at: Origin | None = None) -> None:
        """Note the end. A second call does nothing, unless the first was interrupted before it was told."""
        if self.told:
            return
        if self.ended is None:
            self.ended = outcome
            self.user, self.running = 0, None
            self.ended_at = at or places.caller()
        self.session = self.sync = self.taken = self.scope = None
        seen = self._seen
        if seen is not None:
            self._let_go_of(seen)
        relay = self.relay
        if relay.is_alone:
            relay.live.ended(self.id, self.ended)
        else:
            relay.tell(HoldEnded(self.id, self.ended, time.monotonic()))
        self.told = True
        if seen is not None and self.kind is _UNIT:  # no circle is left for the garbage collector
            if seen.timed is self or getattr(seen.timed, "holding", None) is self:
                seen.timed = self.opening if seen.deadline_at is not None else None
            del seen.holding
        self.watch = None  # last: if an interrupt came before, the end is told when the session is dropped

    def _let_go_of(self, seen: Watch) -> None:
        """Nobody waits for it, bounds it or watches its owner any more."""
        if asking.asker is self:
            asking.asker = None  # it asked for a bind and for no connection
        if seen.bound_at < _NEVER:
            watchdog.free(seen)
        watched = self.watched
        if watched is not None:
            if type(watched) is dict:  # in a hurry, as `owners.forget`
                watched.pop(id(self), None)
                self.watched = None
            else:
                owners.forget(self)

    def owner_ended(self, task: object = None) -> None:
        """The thread or task that held it has ended, and has not ended this."""
        self.watched = None
        if self.ended is None and not self.told and not self.leaving and not self.is_inherited and self.when_left:
            self.when_left(self)

    def give_up(self) -> None:
        """Throw away connections that are still out for it after its session was closed.

        An interrupt can fall where SQLAlchemy has taken a connection and not kept it yet, or has not returned it quite.
        """
        for engine in self.engines.values():
            room: Room | None = getattr(engine.pool, "room", None)
            for claim in room.held_for(self) if room is not None else ():
                if not claim.is_opening:  # else it goes into the pool when it is open
                    claim.pool.abandon(claim)

    def sever(self, *, soon: bool = False) -> None:
        """Break the links of all its connections: whatever waits for an answer of theirs ends. From any thread. `soon`:
        as `Room.sever`.

        Connections of engines that were given are left alone: nobody here knows which are its own.
        """
        for engine in self.engines.values():
            room: Room | None = getattr(engine.pool, "room", None)
            if room is not None and room.sever(self, soon=soon):
                self.seen.severed = True

    def interrupt(self) -> None:
        """As `sever`; and what its thread asks of a pool is refused, too. From any thread."""
        self.sever()
        for engine in self.engines.values():
            room: Room | None = getattr(engine.pool, "room", None)
            for claim in room.refuse(self, asyncio.CancelledError()) if room is not None else ():
                claim.pool.unpark(claim)

    def bound(self, within: float | None = None) -> None:
        """For threads: let no wait for the server outlast the deadline by more than the grace, or `within` seconds."""
        deadline_at = self.seen.deadline_at
        at = math.inf if deadline_at is None else deadline_at + grace.GRACE
        if within is not None:
            at = min(at, time.monotonic() + within) if at > time.monotonic() else time.monotonic() + within
        if at < math.inf:
            watchdog.bound(self.seen, at)
        elif self.seen.bound_at < math.inf:
            self.seen.bound_at = math.inf
            watchdog.free(self.seen)

    def time_to_commit(self) -> float | None:
        """Seconds that COMMIT may take; None if the unit has no deadline."""
        deadline_at = self.seen.deadline_at
        return None if deadline_at is None else max(0.0, deadline_at - time.monotonic()) + grace.GRACE

    @property
    def notes_commit(self) -> bool:
        """All its engines are of our making, so `commit_sent` can be trusted."""
        return all(engine.get_execution_options().get("polysession") for engine in self.engines.values())

    def held_by(self) -> object | None:
        """The task or the number of the thread that alone may use it; None if it may change hands."""
        if not self.strict or self.process is not PROCESS.process:
            return None
        return self.thread if self.task is None else self.task()

    def waits_until(self) -> float | None:
        """Its deadline in seconds of `time.monotonic()`; None if it has none."""
        return self.seen.deadline_at

    def waited(self, seconds: float) -> None:
        """Note a wait for a connection. Raises `DeadlineExceeded` if the deadline has passed."""
        self.seen.waited += seconds
        if self.seen.is_over:
            raise self.seen.exceeded("waiting for a connection")

    def refuse_outside(self) -> None:
        """Raise `ConnectionHeld` if this is a block of `outside()` of its door."""
        refuse_inside(self.models, f"{self.kind} {self.name!r} took a connection")

    def as_ended(self) -> Ended:
        """What its objects keep of it after its end."""
        return Ended(str(self.kind), self.name, self.origin, self.tenant, self.databases)

    def describe(self) -> str:
        """Who holds it and where it was opened."""
        return f"{self.owner}, {self.kind} {self.name!r} opened at {self.origin}"

    @property
    def sync_session(self) -> Session | None:
        """The `Session`, also below an `AsyncSession`."""
        session = self.session if self.session is not None or self.watch is None else self.watch()
        return session.sync_session if isinstance(session, AsyncSession) else session

    def idled(self, seconds: float) -> None:
        """Tell that its transaction was open so long without a statement."""
        if self.ended is None and not self.is_inherited:
            self.tell(
                TransactionIdled(
                    self.id, self.name, self.databases, self.origin, seconds, places.caller(1), time.monotonic()
                )
            )

    def progress(self) -> Progress:
        """What is known of its work just now. From any thread."""
        seen, state = self._seen or _UNSEEN, self.state()
        counted = self.notes_commit
        return Progress(
            state=state,
            statements=seen.statements if counted else None,
            in_database=seen.now_in_database if counted else None,
            waited=seen.waited,
            idle=seen.idle if counted and state in ("in transaction", "has a connection") else 0.0,
        )

    def state(self) -> str:
        """What the session does just now, for people."""
        if self.ended is not None:
            return "ended"
        session = self.sync_session
        transaction: Any = session.get_transaction() if session is not None else None
        if transaction is None or not transaction._connections or self.has_let_go:
            return "no connection"
        seen = self._seen or _UNSEEN
        held = seen.in_transaction or any(reads_in_transaction(engine) for engine in self.engines.values())
        return "in transaction" if held else "has a connection"


def _called(mapper: Any, clause: Any) -> str:
    if mapper is not None:
        return str(inspect(mapper).class_.__name__)
    return "this statement" if clause is None else f"this {type(clause).__name__}"


def _is_waited_for(owner: Any) -> bool:
    """The running task is the one that the owner waits for in `asyncio.wait_for`.

    Before Python 3.12 `wait_for` runs its coroutine in a task of its own while the caller waits, so the session is
    still used by one at a time (CPython 3.11, Lib/asyncio/tasks.py, wait_for; changed by gh-96764).
    """
    coroutine = owner.get_coro() if owner is not None else None
    while coroutine is not None:
        if getattr(coroutine, "cr_code", None) is asyncio.wait_for.__code__:
            frame = coroutine.cr_frame
            return frame is not None and frame.f_locals.get("fut") is asyncio.current_task()
        coroutine = getattr(coroutine, "cr_await", None)
    return False
