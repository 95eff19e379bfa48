"""One session and what is known of it: who holds it, where it was opened, where it ended; and how it is ended.

A `Holding` belongs to one thread or task. `check` is on the path of every statement and costs a few comparisons;
everything else is written for clear errors.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from threading import get_ident
from typing import Any, NoReturn, cast

from sqlalchemy import inspect
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapper, Session

from ..errors import RequestRefused, SessionEnded, UnitOwnsCommit, WrongOwner
from ..facts import Fact, HoldEnded, HoldId, HoldKind, HoldOpened, Origin, Outcome
from ..options import Access
from . import places
from .engines import HOLDING
from .places import PROCESS, current_task
from .pooled import reads_in_transaction
from .watch import Watch, attach

__all__ = ["Holding", "Models"]

_ids = itertools.count(1)


class Models:
    """Which database a mapped class lives in: what `bind` declared, or the class's own `__database__`."""

    __slots__ = ("_declared", "_found")

    def __init__(self) -> None:
        self._declared: dict[Any, str] = {}
        self._found: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()

    def declare(self, target: Any, database: str) -> None:
        """`target` (a class, a table or a `MetaData`) lives in `database`. The nearest declaration counts."""
        self._declared[target] = database
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


class Holding:
    """A session in somebody's hands. Made by the doors."""

    __slots__ = (
        "__weakref__",
        "access",
        "at_begin",
        "at_end",
        "awaits",
        "commit_sent",
        "connections",
        "databases",
        "ended",
        "ended_at",
        "engines",
        "id",
        "kind",
        "leaving",
        "models",
        "name",
        "opened_at",
        "opening",
        "options",
        "origin",
        "owner",
        "process",
        "repeated",
        "rolled_back",
        "scope",
        "seen",
        "session",
        "strict",
        "taken",
        "task",
        "tell",
        "thread",
        "told",
        "watch",
    )

    def __init__(
        self,
        kind: HoldKind,
        name: str,
        engines: Mapping[str, Engine],
        endpoints: tuple[str, ...],
        access: Access,
        origin: Origin,
        models: Models,
        tell: Any,
        stamp: float,
        *,
        strict: bool = True,
        at_begin: Callable[[Connection], None] | None = None,
        deadline: float | None = None,
        deadline_at: float | None = None,
        in_transaction: bool = True,
        awaits: bool = False,
    ) -> None:
        self.id = HoldId(next(_ids))
        self.kind = kind
        self.name = name
        self.databases = tuple(engines)
        self.engines = engines
        self.access = access
        self.origin = origin
        self.models = models
        self.tell = tell
        self.strict = strict
        """Only the thread or task that opened it may use it."""
        self.session: Session | AsyncSession | None = None
        """Set for units. A session that its owner ends is only watched, so that dropping it can be noticed."""
        self.taken: Connection | None = None
        """For a session of asyncio that its owner ends: its connection, which cannot be returned without its loop."""
        self.at_begin = at_begin
        self.at_end: Callable[[], None] | None = None
        """What has to be undone on the connection before it goes back."""
        self.awaits = awaits
        """It is below an `AsyncSession`: what waits for the server must be awaited."""
        self.opened_at = stamp
        self.seen = Watch(self, deadline, deadline_at, in_transaction=in_transaction)
        self.connections: dict[str, Connection] = {}
        """For a unit over several databases: the connections, which are committed one after the other in order."""
        self.options: Mapping[str, Any] = {}
        """For these connections: what a session is told of its transaction, which is begun for it here."""
        self.commit_sent = False
        """COMMIT has left for a server; set by engines of our making."""
        self.leaving = False
        """The driver is ending it: commit and close are allowed."""
        self.rolled_back = False
        """It was told to roll back: something has failed or was interrupted."""
        self.ended: Outcome | None = None
        self.ended_at: Origin | None = None
        self.scope: Any = None
        """The unit that it belongs to; None for a session that its owner ends."""
        self.repeated: object | None = None
        """What all attempts of a repeatable unit share."""
        if not strict:
            self.seen.in_use = threading.Lock()
        self.process = PROCESS.process
        self.take_over()
        self.watch: weakref.ref[Session] | weakref.ref[AsyncSession] | None = None
        self.told = False
        """Its end was told."""
        self.opening = HoldOpened(self.id, kind, name, self.databases, endpoints, access, self.owner, origin, stamp)

    def announce(self) -> None:
        """Tell that it was opened; when its maker knows it, so that an interrupt cannot leave it behind."""
        self.tell(self.opening)

    def take_over(self) -> None:
        """Belong to the thread or task that runs now."""
        self.thread = get_ident()
        task = current_task()
        self.task = weakref.ref(task) if task is not None else None
        self.owner = places.here()

    # -- the guard

    def check(self) -> None:
        """Return if the session may be used here and now; else raise `SessionEnded` or `WrongOwner`."""
        if self.ended is None and self.process is PROCESS.process:
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
        if self.kind is HoldKind.UNIT and not self.leaving and self.ended is None:
            raise self.owns_commit(f"the text {words} was to be sent in unit {self.name!r}", words)

    def refuse_early_commit(self) -> None:
        """Raise `UnitOwnsCommit` if COMMIT goes out while the unit is not being ended."""
        if self.kind is HoldKind.UNIT and not self.leaving and self.ended is None and self.seen.in_transaction:
            refused = self.owns_commit(f"the connection of unit {self.name!r} was to be committed", "commit")
            self.seen.lost = refused  # what SQLAlchemy's objects know of the transaction is wrong from here on
            raise refused

    def note_early_rollback(self) -> None:
        """Let nothing more be done in a unit whose transaction is rolled back before its end."""
        if self.kind is HoldKind.UNIT and not self.leaving and self.ended is None and self.seen.in_transaction:
            if getattr(self.sync_session, "_flushing", False):
                return  # a flush that failed: SQLAlchemy itself lets nothing more be done
            self.seen.lost = self.seen.lost or self.owns_commit(
                f"the transaction of unit {self.name!r} was rolled back before its end", "rollback"
            )

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
        if self.kind is HoldKind.UNIT:
            return f"the session of unit {self.name!r}"
        return f"the session that {self.name!r} opened"

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
            return cast("Engine | Connection", bind)
        database = self.models.database_of(mapper, clause)
        if database is None:
            if len(self.engines) == 1:
                return next(iter(self.engines.values()))
            raise self._homeless(mapper, clause)
        engine = self.engines.get(database)
        if engine is not None and len(self.engines) > 1 and self.kind is HoldKind.UNIT:
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
            connection = engine.connect()
            if self.options:
                connection = connection.execution_options(**self.options)
            self.connections[database] = connection
            if self.access is Access.WRITE and self.seen.in_transaction:
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
        """The session took a connection: say how its transaction begins where the engine's kind does not."""
        connection.info[HOLDING] = self
        if self.awaits and self.kind is HoldKind.SESSION:
            session = self.sync_session
            # a connection that its owner gave to the session is not ours to return
            self.taken = connection if session is not None and isinstance(session.bind, Engine) else None
        attach(connection, self.seen)
        if self.at_begin is not None:
            self.at_begin(connection)

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
            self.ended_at = at or places.caller()
        self.session = self.taken = None
        self.watch = None
        self.scope = None
        fact: Fact = HoldEnded(self.id, outcome, time.monotonic())
        self.tell(fact)
        self.told = True

    def give_up(self) -> None:
        """Throw away connections that are still out for it after its session was closed.

        An interrupt can fall where SQLAlchemy has taken a connection and not kept it yet, or has not returned it quite.
        """
        for engine in self.engines.values():
            room = getattr(engine.pool, "room", None)
            for claim in room.holders() if room is not None else ():
                if claim.asker is self:
                    claim.pool._abandon(claim)

    @property
    def notes_commit(self) -> bool:
        """All its engines are of our making, so `commit_sent` can be trusted."""
        return all(engine.get_execution_options().get("polysession") for engine in self.engines.values())

    def waits_until(self) -> float | None:
        """Its deadline in seconds of `time.monotonic()`; None if it has none."""
        return self.seen.deadline_at

    def waited(self, seconds: float) -> None:
        """Note a wait for a connection. Raises `DeadlineExceeded` if the deadline has passed."""
        self.seen.waited += seconds
        if self.seen.is_over:
            raise self.seen.exceeded("waiting for a connection")

    def describe(self) -> str:
        """Who holds it and where it was opened."""
        return f"{self.owner}, {self.kind} {self.name!r} opened at {self.origin}"

    @property
    def sync_session(self) -> Session | None:
        """The `Session`, also below an `AsyncSession`."""
        session = self.session if self.session is not None or self.watch is None else self.watch()
        return session.sync_session if isinstance(session, AsyncSession) else session

    def state(self) -> str:
        """What the session does just now, for people."""
        if self.ended is not None:
            return "ended"
        session = self.sync_session
        transaction = session.get_transaction() if session is not None else None
        if transaction is None or not transaction.connections:
            return "no connection"
        held = self.seen.in_transaction or any(reads_in_transaction(engine) for engine in self.engines.values())
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
