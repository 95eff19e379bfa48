"""Where a door stands: its databases, what it holds, and which units are open for the code that runs now."""

from __future__ import annotations

import contextvars
import os
import threading
import weakref
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn, TypeVar, cast

from sqlalchemy import MetaData, Table

from .. import config
from .._core.scope import Scope, find_open, open_inside
from .._core.turns import Turns
from ..errors import (
    ConfigError,
    DoorClosed,
    JoinRefused,
    NotConfigured,
    NoUnit,
    RequestRefused,
    SessionMisuse,
    WrongOwner,
)
from ..facts import HoldId, Observer, Origin
from ..observe.live import Checkout, Counts, Held, Live, Progress, Readiness, Relay
from ..options import Access, UnitOptions
from ..policy import propagation
from ..topology import Endpoint, Topology
from . import generators, lazy, ledger, places
from .asking import tenant_of, without_frames
from .claims import OPENER
from .engines import EngineRoom
from .holding import Holding, Models
from .outside import Block, block, leave_connections
from .owners import THREAD
from .plans import Plan

__all__ = ["Standing", "owner_key"]

W = TypeVar("W")


class Standing:
    """What every part of a door knows of it. Thread-safe."""

    asynchronous: bool

    def __init__(self, databases: Any = None, *, observers: Iterable[Observer] = ()) -> None:
        lazy.install()
        self._engines: EngineRoom | None = None
        self._closed = False
        self._models = Models()
        self._live = Live(self._progress_of)
        self._holdings = cast("dict[HoldId, Holding]", self._live.rows)
        self._relay = Relay(self._live, _checked(observers))
        self._current: contextvars.ContextVar[tuple[Scope, ...]] = contextvars.ContextVar("polysession", default=())
        """The units that were opened in this context, the last one first; some may have been ended elsewhere."""
        self._turns = Turns()
        self._plain: dict[tuple[Access, tuple[str, ...]] | tuple[Access, tuple[str, ...], str], UnitOptions] = {}
        """Of units that ask for nothing, or for a tenant alone."""
        self._reads: dict[tuple[str, ...], Plan] = {}
        self._writes: dict[tuple[str, ...], Plan] = {}
        """Of units that ask for nothing and are opened at once: the plans, by the names of the databases."""
        self._plans: dict[int, Plan] = {}
        """Those of the options in `_plain`, by their identity."""
        self._lock = threading.RLock()  # a signal's handler may close the door, which somebody closes just now
        self._ready_tables: set[tuple[str, str | None]] = set()
        """The databases, with their tenants, where the table of outcomes was seen to be there."""
        _doors.add(self)
        if databases is not None:
            self.configure(databases)

    # -- configuration

    @without_frames
    def configure(self, databases: Any) -> None:
        """Give a door that was made with nothing its databases. Connects nothing.

        Takes what the constructor takes. Raises `ConfigError`, `MissingExtra`; and `ConfigError` if it has databases
        already: sessions may be open on them.
        """
        topology = databases
        if not isinstance(databases, Topology):
            topology = config.from_databases(databases, asynchronous=self.asynchronous)
        engines = EngineRoom(topology, asynchronous=self.asynchronous)
        for database in topology.databases.values():
            for endpoint in database.endpoints:
                engines.check(endpoint)
            if len(kinds := {engines.family(endpoint) for endpoint in database.tenants.values()}) > 1:
                path = f"databases.{database.name}.tenants"
                raise ConfigError(
                    f"{path}: expected one backend for all, found {', '.join(sorted(kinds))}",
                    why="what a unit may ask for, and what an error means, is decided by the database's backend",
                    do=("give each backend a database of its own name",),
                    path=path,
                )
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
        if not isinstance(target, type | Table | MetaData):
            raise RequestRefused(
                f"bind() was given {target!r}",
                why="what lives in a database is a mapped or base class, a Table or a MetaData",
                do=("give one of these: sessions.bind(Base, 'orders')",),
                attribute="target",
            )
        self._models.declare(target, database)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the databases. Raises `NotConfigured` if the door has none yet."""
        return tuple(self._topology.databases)

    def tenants(self, database: str | None = None) -> tuple[str, ...]:
        """The names of the tenants of a database, in the order of the configuration; none if it has no tenants.

        For work that is done for each of them, such as migrations. Raises as `names`, and `UnknownDatabase`.
        """
        (name,) = self._topology.resolve((database,) if database is not None else ())
        return tuple(self._topology.databases[name].tenants)

    # -- what is held

    def held(self) -> tuple[Held, ...]:
        """Everything that was opened through this door and has not ended, oldest first. Reads memory only.

        In a forked child, what its parent holds is not among it.
        """
        pid = places.PROCESS.process.pid
        return tuple(row for row in self._live.held() if row.owner.process == pid)

    def connections(self) -> tuple[Checkout, ...]:
        """Every connection that is out of its pool, the oldest first: for whom, since when, and what it did with it.

        Reads memory only. Those of an asynchronous door are those of the running event loop; in a thread without one,
        of all loops. A connection of an engine that the application made is not among them.
        """
        return ledger.rows(self._engines.rooms()) if self._engines is not None else ()

    def counts(self) -> Counts:
        """How many units and sessions were opened and how they ended. Reads memory only."""
        return self._live.counts()

    def ready(self) -> Readiness:
        """Whether this process can do work now, from counters alone: no connection is taken and nothing is asked.

        The counts of an asynchronous door are those of the running event loop; in a thread without one, of all loops.
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

    def _progress_of(self, hold: HoldId) -> Progress:
        holding = self._holdings.get(hold)
        return holding.progress() if holding is not None else Progress(state="ended")

    def _connections_out(self) -> int:
        """Connections that somebody has or waits for, over all endpoints of this process and event loop; without those
        that are opened for whoever comes next."""
        if self._engines is None:
            return 0
        holders = [claim for room in self._engines.rooms() for claim in room.holders()]
        return sum(not claim.left and claim.asker is not OPENER for claim in holders)

    def _leave_connections(self, origin: Origin) -> Block:
        """A block of `outside()` begins here."""
        leave_connections(list(self._holdings.values()), origin)
        return block(self._models, origin)

    # -- databases

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

    def _placed(
        self, works: tuple[W, ...], database: str | None, databases: Sequence[str], tenant: str | None
    ) -> list[tuple[W, Endpoint]]:
        """Each of the works that are gathered with where it writes. Raises `RequestRefused` if that is not clear, and
        as `Database.writable` for the tenant, which is that of the databases that have tenants."""
        pairs = self._paired(works, database, databases)
        known = self._topology.databases
        whose = tenant_of(tenant)
        some_have = any(known[name].tenants for _, name in pairs)
        return [
            (work, known[name].writable(whose if known[name].tenants or not some_have else None))
            for work, name in pairs
        ]

    def _paired(self, works: tuple[W, ...], database: str | None, databases: Sequence[str]) -> list[tuple[W, str]]:
        if self._closed:
            raise self._refusal_of_closed()
        self._check_loop()
        if isinstance(databases, set | frozenset) or not isinstance(databases, Iterable):
            raise RequestRefused(
                f"databases={databases!r} is no list of names",
                why="each work runs over the database at its place, and a set has no places",
                do=("give a list of names",),
                attribute="databases",
            )
        if not databases:
            (name,) = self._topology.resolve((database,) if database is not None else ())
            return [(work, name) for work in works]
        if isinstance(databases, str):
            raise RequestRefused(
                f"databases={databases!r} is one name, and not a list of names",
                do=(f"say database={databases!r}", "give a list of names"),
                attribute="databases",
            )
        if database is not None:
            raise RequestRefused(
                "gather() was given both a database and databases",
                do=("give database for works over one, databases for works over several",),
                attribute="databases",
            )
        names = [self._topology.resolve((name,))[0] for name in databases]
        if len(works) not in (1, len(names)):
            raise RequestRefused(
                f"{len(works)} works cannot be placed over {len(names)} databases",
                why="each runs over the database at its place; a single one runs over each of them",
                do=("give as many databases as works", "give one work"),
                attribute="databases",
            )
        return list(zip(works * (len(names) if len(works) == 1 else 1), names, strict=True))

    def _places(self, pairs: Iterable[tuple[object, Endpoint]]) -> int:
        """How many of them have a connection at once: at least one."""
        endpoints = {endpoint.name: endpoint for _, endpoint in pairs}
        return max(1, sum(self._ready_engines.size(endpoint) for endpoint in endpoints.values()))

    def _backend(self, name: str) -> str:
        """What kind of database it is: the same for all of its tenants, which is seen to when the door is made."""
        return self._ready_engines.backend(self._topology.databases[name].endpoints[0])

    def _check_loop(self) -> None:
        """Raise `WrongDoor` if this is no place for this door. Overridden by both."""

    def _refusal_of_closed(self) -> DoorClosed:
        return DoorClosed(
            f"this {type(self).__name__} was closed",
            why="close() was called on it; its pools are gone",
            do=("close the door last, when all work has ended", "make a new one"),
        )

    def _forked(self) -> None:
        """In a forked child: other threads of the parent may have held locks, and will never give them back here."""
        self._lock = threading.RLock()
        self._live.forked()
        self._turns.forked()
        if self._engines is not None:
            self._engines.forked()

    def __reduce_ex__(self, _: Any) -> NoReturn:
        raise SessionMisuse(
            f"{type(self).__name__} was to be copied or pickled",
            why="its pools and the units open on it belong to this process; a copy would share or lose them",
            do=(
                "use the same door everywhere in the process: pass it, or import it",
                "make a door in the other process, from the same configuration",
            ),
        )

    # -- the units that are open here

    def _here(self) -> tuple[Scope, ...]:
        """The units that are open for the code that runs now, whoever owns them, the innermost first."""
        units = self._current.get()
        if units:
            units = tuple(unit for unit in units if unit.is_open)
            homes: set[Any] = {unit.home for unit in units if unit.home is not None}
            if homes:
                return open_inside(units, generators.running(homes))
        return units

    def _current_session(self, name: str | None) -> Any:
        names = self._topology.resolve((name,) if name is not None else ())
        owner = owner_key()
        scope = find_open(self._here(), names, owner)
        if scope is not None and scope.holding is not None:
            return scope.holding.session
        foreign = _find_open_of_others(self._current.get(), names, owner)
        if foreign is not None:
            raise WrongOwner(
                f"unit {foreign.name!r} over {names[0]} is open, but not in {places.here()}",
                why=f"it was opened at {foreign.origin} by another task or thread; asked for at {places.caller()}",
                do=("open a unit of its own in each task or thread", "pass the identifiers, not the session"),
                name=foreign.name,
            )
        raise NoUnit(
            f"no unit of work over {names[0]!r} is open here",
            why=f"asked for at {places.caller()}{self._suspended(names, owner)}",
            do=(f"open one with begin({names[0]!r}) or read({names[0]!r})", "pass the session as an argument"),
            database=names[0],
        )

    def _suspended(self, names: tuple[str, ...], owner: object) -> str:
        """For an error that no unit is open here: the one that would be, were its generator not suspended."""
        scope = find_open(self._current.get(), names, owner)
        if scope is None:
            return ""
        return (
            f"; unit {scope.name!r}, opened at {scope.origin}, is open only inside of its generator, which is suspended"
        )

    def _explain_mandatory(self, options: UnitOptions, outer: tuple[Scope, ...]) -> None:
        """Raise `JoinRefused` for a mandatory unit if the one that it means is in a generator that is suspended."""
        owner = owner_key()
        suspended = self._suspended(options.databases, owner)
        refused = propagation.decide(options, None)
        if suspended and isinstance(refused, propagation.Refuse) and not find_open(outer, options.databases, owner):
            raise JoinRefused(
                refused.what,
                why=refused.why + suspended,
                do=("make it a part of that unit inside of the generator", *refused.do),
                databases=options.databases,
            )


def _checked(observers: Iterable[Observer]) -> tuple[Observer, ...]:
    given = tuple(observers) if isinstance(observers, Iterable) else (observers,)
    wrong = [each for each in given if not callable(getattr(each, "tell", None))]
    if wrong or not isinstance(observers, Iterable):
        found = wrong[0] if wrong else observers
        raise ConfigError(
            f"observers: expected objects that have tell(fact), in a list, found {type(found).__name__}",
            do=("give a list: observers=[observer]", "give it a method tell(fact)"),
            path="observers",
        )
    return given


def _find_open_of_others(units: tuple[Scope, ...], names: tuple[str, ...], owner: object) -> Scope | None:
    """A unit over one of these databases that this context inherited from another task or thread."""
    for scope in units:
        if (
            scope.owner != owner
            and scope.root.outcome is None
            and any(name in scope.options.databases for name in names)
        ):
            return scope.root
    return None


def owner_key() -> object:
    """What a unit belongs to: the running task, or the thread if there is none."""
    task = places.current_task()
    return THREAD.own if task is None else weakref.ref(task)


_doors: weakref.WeakSet[Standing] = weakref.WeakSet()


def _after_fork() -> None:
    for door in list(_doors):
        door._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
