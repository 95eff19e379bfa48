"""Engines: for each endpoint one that writes and one that reads, made when first needed, shared, disposed together.

The two engines of an endpoint share the seats of one `Room`, so that `pool.size` bounds the connections whatever they
are for. Read engines hold no transaction between statements: their connections are in driver autocommit and the
server was told once, at connect, to refuse writes.

Engines are keyed by process, and for asyncio by event loop: a forked child and another loop get engines of their own
and never touch what they inherited. An engine that the application made itself is used as it is.
"""

from __future__ import annotations

import asyncio
import functools
import os
import shutil
import sqlite3
import tempfile
import threading
import time
import weakref
from collections.abc import AsyncGenerator, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from sqlalchemy import create_engine, event
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, async_sessionmaker, create_async_engine
from sqlalchemy.orm import sessionmaker
from sqlalchemy.pool import NullPool
from sqlalchemy.util import await_only
from sqlalchemy.util.concurrency import in_greenlet

from .. import dialects
from ..config import Parts, resolve_driver, split
from ..errors import ConfigError
from ..options import Access
from ..topology import Endpoint, Overload, Pooler, Reset, Topology
from . import pooled, sqlite
from .arguments import path_of_url, unreadable_query
from .connecting import connecting, secrets_of, without_secrets
from .cursors import answer_whole, keeping, make_cursors
from .ends import note_ends
from .grace import uninterrupted
from .hygiene import keep_clean
from .lease import lend
from .parting import parting
from .places import PROCESS, Process
from .pool import FairPool
from .pool_async import FairAsyncPool
from .proxied import shorten
from .readonly import guard_reads, is_changed
from .room import Room
from .sending import committing, controlling, watch_statements
from .unlogged import hide_rows
from .uses import ASKING, FREE, REPEAT

if TYPE_CHECKING:
    from .plans import Made, Plan
    from .upkeep import Upkeep

__all__ = ["AnyEngine", "EngineRoom"]

AnyEngine: TypeAlias = Engine | AsyncEngine
_Key: TypeAlias = tuple[str, str]

_MYSQL = ("mysql", "mariadb")
_AGAIN = 0.002
"""Seconds after which a SQLite database is asked once more to write ahead."""


class _Set:
    """The engines of one process and, for asyncio, one event loop."""

    __slots__ = ("engines", "last_act", "loop", "made", "process", "rooms")

    def __init__(self, process: Process, loop: asyncio.AbstractEventLoop | None) -> None:
        self.process = process
        self.loop = weakref.ref(loop) if loop is not None else None
        self.engines: dict[_Key, AnyEngine] = {}
        self.rooms: dict[str, Room] = {}
        self.made: dict[Plan, Made] = {}
        self.last_act = _last_act(self.engines) if loop is not None else None
        if self.last_act is not None:
            with suppress(StopIteration):  # it waits for nothing before its yield
                self.last_act.asend(None).send(None)


async def _last_act(engines: dict[_Key, AnyEngine]) -> AsyncGenerator[None, None]:
    """Close the idle connections when their event loop ends, while they can still be closed.

    Whoever ends a loop closes the asynchronous generators that were begun in it (Python documentation,
    `loop.shutdown_asyncgens`; `asyncio.run` does it): there is no other word from a loop before its end.
    """
    try:
        yield
    finally:
        for engine in list(engines.values()):
            if EngineRoom.is_ours(cast("AsyncEngine", engine).sync_engine):
                await cast("AsyncEngine", engine).dispose()


class EngineRoom:
    """All engines of one door. Thread-safe."""

    def __init__(self, topology: Topology, *, asynchronous: bool) -> None:
        self.topology = topology
        self.asynchronous = asynchronous
        self._sets: list[_Set] = []
        self._lock = threading.RLock()  # a signal's handler may close the door, or pause it, meanwhile
        self._folder: str | None = None
        self._is_over = False
        """Its engines were disposed of. A unit that was begun before may need another one."""
        self._paused: set[str] = set()
        self._sizes: dict[str, int] = {}
        """By endpoint, what was said of its pool since the door was made."""

    def forked(self) -> None:
        """In a forked child: whoever had the lock is not here and never gives it back."""
        self._lock = threading.RLock()

    def engine(self, endpoint: Endpoint, kind: str) -> AnyEngine:
        """The engine of `endpoint` for this kind of use, in this process and event loop. Makes it; connects nothing.

        Raises `ConfigError` or `MissingExtra` for a URL or driver that does not fit the door.
        """
        engines = self._here()
        key = (endpoint.name, kind)
        found = engines.engines.get(key)
        if found is not None:
            return found
        with self._lock:
            found = engines.engines.get(key) or engines.engines.setdefault(key, self._make(engines, endpoint, kind))
            if self._is_over and self.is_ours(_sync(found)):
                cast("FairPool", _sync(found).pool).disposed = True  # nobody would close what comes back
            return found

    def known(self, key: _Key) -> AnyEngine | None:
        """As `engine`, by the endpoint's name and the kind; None if it has to be made."""
        return self._here().engines.get(key)

    def made(self) -> dict[Plan, Made]:
        """What there is for the plans that are kept, in this process and event loop."""
        sets = self._sets
        if not self.asynchronous and sets and sets[0].process is PROCESS.process:  # as `_here`
            return sets[0].made
        return self._here().made

    def check(self, endpoint: Endpoint) -> None:
        """Raise what `engine` would raise for this endpoint; makes nothing."""
        if endpoint.address is None:
            self._given(endpoint)
        else:
            self._url(endpoint)

    def backend(self, endpoint: Endpoint) -> str:
        """`postgresql`, `mysql`, `mariadb` or `sqlite`."""
        if endpoint.address is None:
            engine = self._given(endpoint)
            return str(engine.dialect.name)
        return endpoint.address.shown.partition(":")[0].partition("+")[0]

    def family(self, endpoint: Endpoint) -> str:
        """As `backend`, with MariaDB counted as MySQL."""
        backend = self.backend(endpoint)
        return "mysql" if backend in _MYSQL else backend

    @staticmethod
    def is_ours(engine: Engine) -> bool:
        """Made here, with our pool and settings; not given by the application."""
        return bool(engine.get_execution_options().get("polysession"))

    def loop_of(self, engine: Engine) -> asyncio.AbstractEventLoop | None:
        """The event loop in which an engine is used; None if it is gone."""
        for engines in self._sets:
            known = cast("list[AsyncEngine]", list(engines.engines.values()))
            if engines.loop is not None and any(one.sync_engine is engine for one in known):
                return engines.loop()
        return None

    def rooms(self) -> list[Room]:
        """The rooms of this process and event loop; where no loop runs, those of all loops. Makes none."""
        process = PROCESS.process
        loop = asyncio._get_running_loop() if self.asynchronous else None
        return [
            room
            for engines in self._sets
            if engines.process is process
            and _is_alive(engines)
            and (loop is None or (engines.loop is not None and engines.loop() is loop))
            for room in list(engines.rooms.values())
        ]

    def note(self, endpoints: Iterable[Endpoint], *, paused: bool | None, size: int | None) -> None:
        """Remember this for the pools that are made later; None: as before."""
        with self._lock:  # a pool that is being made is among the rooms afterwards, or is made by what is noted
            for endpoint in endpoints:
                if paused is not None:
                    (self._paused.add if paused else self._paused.discard)(endpoint.name)
                if size is not None:
                    self._sizes[endpoint.name] = size

    def size(self, endpoint: Endpoint) -> int:
        """Most connections of each pool of this endpoint."""
        return self._sizes.get(endpoint.name, endpoint.pool.size)

    def dispose(self) -> None:
        """Close what is idle in this process. Connections that are out are closed when they come back.

        Engines that were given are left alone: whoever made them disposes of them.
        """
        for engines in self._take_all():
            for engine in list(engines.engines.values()):  # a unit that was begun before may need another one just now
                if self.is_ours(cast("Engine", engine)):
                    cast("Engine", engine).dispose()
        self._remove_folder()

    async def dispose_async(self) -> None:
        """The same for asyncio; engines of other loops are left to them, those of closed loops are forgotten."""
        loop = asyncio.get_running_loop()
        for engines in self._take_all():
            if engines.loop is not None and engines.loop() is loop and engines.last_act is not None:
                await engines.last_act.aclose()
        self._remove_folder()

    def _take_all(self) -> list[_Set]:
        with self._lock:
            taken, self._sets = self._sets, []
            self._is_over = True
        return [engines for engines in taken if engines.process is PROCESS.process]

    def _here(self) -> _Set:
        process = PROCESS.process
        loop = asyncio.get_running_loop() if self.asynchronous else None
        found = self._set_of(process, loop)
        if found is not None:
            return found
        with self._lock:
            found = self._set_of(process, loop)  # another thread may have been first: there must be no second one
            if found is None:
                found = _Set(process, loop)
                # sets of a parent process or of a loop that is gone are forgotten, never closed: they are not ours
                self._sets = [*(s for s in self._sets if s.process is process and _is_alive(s)), found]
            return found

    def _set_of(self, process: Process, loop: asyncio.AbstractEventLoop | None) -> _Set | None:
        for engines in self._sets:
            if engines.process is process and (loop is None or (engines.loop is not None and engines.loop() is loop)):
                return engines
        return None

    # -- making an engine

    def _make(self, engines: _Set, endpoint: Endpoint, kind: str) -> AnyEngine:
        if endpoint.address is None:
            return self._given(endpoint)
        url = self._url(endpoint)
        backend = url.get_backend_name()
        is_sqlite = backend == "sqlite"
        if (kind == FREE and not is_sqlite) or (kind == REPEAT and backend not in _MYSQL):
            # here it needs what a write unit needs: the primary and a transaction
            return engines.engines.get((endpoint.name, Access.WRITE)) or engines.engines.setdefault(
                (endpoint.name, Access.WRITE), self._make(engines, endpoint, Access.WRITE)
            )
        pool = endpoint.pool
        arguments: dict[str, Any] = {
            "poolclass": FairAsyncPool if self.asynchronous else FairPool,
            "pool_size": pool.size,
            "pool_timeout": pool.checkout_timeout,
            "pool_recycle": pool.max_lifetime or -1,
            "hide_parameters": True,
        }
        is_pooled = endpoint.pooler is Pooler.TRANSACTION
        if kind == Access.READ and is_pooled:
            arguments["isolation_level"] = pooled.READ_LEVEL
        elif kind == Access.READ:
            arguments["isolation_level"] = "AUTOCOMMIT"
            arguments["skip_autocommit_rollback"] = True
        upkeep = _upkeep()
        made, sync = self._create(url, endpoint, kind, arguments, upkeep)
        room = engines.rooms.get(endpoint.name)
        if room is None:
            # SQLite has one writer at a time: a queue of our own is fair, its busy handler is not
            limits = {Access.WRITE.value: 1} if is_sqlite else None
            room = engines.rooms[endpoint.name] = self._room(endpoint, limits)
        cast("FairPool", sync.pool).join(room, str(kind))
        _end_well(sync)
        if is_sqlite:
            _prepare_sqlite(upkeep, kind)
        if kind == REPEAT:
            _refuse_lost_updates(sync, upkeep)
        if is_pooled:
            pooled.prepare(sync, kind, upkeep)
        noting = keep_clean(sync, endpoint, upkeep)
        note_ends(sync)
        first = guard_reads(sync, upkeep) if kind == Access.READ else controlling(dialects.of(backend).reads.control)
        judges = [first] if noting is None else [first, noting]
        if backend in _MYSQL and kind != Access.READ:
            judges.append(committing(dialects.of(backend).commits_before))
        lends = kind == Access.READ and not is_pooled
        if lends:
            judges.append(keeping(dialects.of(backend).traces.left_by))
        cursors = make_cursors(sync, lends=lends)
        orders = watch_statements(sync, judges)
        if lends:
            lend(sync)
            answer_whole(sync, cursors, orders)
        if pool.reset is Reset.TOUCHED:
            shorten(sync, is_changed if kind == Access.READ and not is_sqlite else None)
        _share(sync, (str(kind), is_pooled, pool.reset))
        return made

    def _room(self, endpoint: Endpoint, limits: dict[str, int] | None) -> Room:
        pool = endpoint.pool
        room = Room(endpoint.name, self.size(endpoint), pool.checkout_timeout, limits)
        room.seats.waiters.is_bounded = pool.overload is Overload.SHED
        room.ping_after, room.floor = pool.ping_after, pool.floor
        if endpoint.name in self._paused:
            room.pause()
        return room

    def asking(self, endpoint: Endpoint) -> Engine:
        """The engine by which `endpoint` is asked what came of a COMMIT: a new connection each time, from no pool.

        An engine that was given is used as it is. Makes it; connects nothing.
        """
        if endpoint.address is None:
            return _sync(self._given(endpoint))
        engines = self._here()
        key = (endpoint.name, ASKING)
        found = engines.engines.get(key)
        if found is None:
            with self._lock:
                found = engines.engines.get(key) or engines.engines.setdefault(key, self._make_asking(endpoint))
        return _sync(found)

    def _make_asking(self, endpoint: Endpoint) -> AnyEngine:
        url = self._url(endpoint)
        made, sync = self._create(url, endpoint, ASKING, {"poolclass": NullPool, "hide_parameters": True}, _upkeep())
        if url.get_backend_name() == "sqlite":
            event.listen(sync, "connect", functools.partial(_say_to_sqlite, ASKING))
        _share(sync, ASKING)
        return made

    def _create(
        self, url: URL, endpoint: Endpoint, kind: str, arguments: dict[str, Any], upkeep: Upkeep
    ) -> tuple[AnyEngine, Engine]:
        """An engine that connects by ourselves, and its synchronous part.

        Not by a listener of `do_connect`: with any listener of a dialect's events SQLAlchemy asks for those of each
        statement, too.
        """

        arguments = {**arguments, "creator": upkeep.create, "logging_name": endpoint.name}
        if kind != ASKING:
            arguments |= upkeep.arguments()
        shown = without_secrets(url)
        made: AnyEngine
        try:
            made = create_async_engine(shown, **arguments) if self.asynchronous else create_engine(shown, **arguments)
        except (TypeError, ValueError) as error:
            wrong = unreadable_query(error, endpoint, shown)
            if wrong is None:
                raise
            raise wrong from error
        sync = _sync(made)
        if kind != ASKING:
            upkeep.of(sync)
        hide_rows(sync)
        upkeep.connect = connecting(sync, secrets_of(url), endpoint, kind)
        return made, sync

    def _given(self, endpoint: Endpoint) -> AnyEngine:
        engine = endpoint.engine
        wanted = AsyncEngine if self.asynchronous else Engine
        if not isinstance(engine, wanted):
            raise ConfigError(
                f"{endpoint.name}: expected a URL or {wanted.__name__}, found {type(engine).__name__}",
                do=self._instead_of(engine),
                path=f"databases.{endpoint.database}" if endpoint.tenant is None else path_of_url(endpoint),
            )
        return engine

    def _instead_of(self, given: Any) -> tuple[str, ...]:
        make = _MAKERS[self.asynchronous]
        match given:
            case Engine() | AsyncEngine():
                other = "Sessions" if self.asynchronous else "AsyncSessions"
                return (f"use {other} for this engine", f"make it with {make}")
            case Connection() | AsyncConnection():
                return ("give its engine: connection.engine", "give a URL")
            case sessionmaker() | async_sessionmaker():
                return ("give the engine that it was made with", "give a URL")
            case _:
                return ("give a URL", f"give an engine made with {make}")

    def _url(self, endpoint: Endpoint) -> URL:
        assert endpoint.address is not None
        path = path_of_url(endpoint)
        try:
            url = make_url(endpoint.address.reveal())
        except ArgumentError:
            raise ConfigError(f"{path}: expected a database URL, found {endpoint.address.shown!r}", path=path) from None
        backend, _, driver = url.drivername.partition("+")
        chosen = resolve_driver(backend, driver or None, asynchronous=self.asynchronous, path=path)
        url = url.set(drivername=chosen.scheme)
        parts = split(endpoint.address.reveal())
        if isinstance(parts, Parts) and parts.in_memory:
            # by its number: a file system may take "Acme" and "acme" for one name
            whose = "" if endpoint.tenant is None else f"@{endpoint.number}"
            url = url.set(database=str(Path(self._temporary_folder()) / f"{endpoint.database}{whose}.db"))
        return url

    def _temporary_folder(self) -> str:
        """Where "in-memory" databases live: in memory where the system has a file system for that.

        SQLite's own in-memory modes give every connection a database of its own, or share one in a way in which
        readers and writers lock each other out; a file in memory behaves like every other database.
        """
        if self._folder is None:
            shared = "/dev/shm"  # noqa: S108  # a private folder is made inside it
            self._folder = tempfile.mkdtemp(prefix="polysession-", dir=shared if os.access(shared, os.W_OK) else None)
            weakref.finalize(self, _remove, self._folder, os.getpid())
        return self._folder

    def _remove_folder(self) -> None:
        if self._folder is not None:
            _remove(self._folder, os.getpid())
            self._folder = None


def _upkeep() -> Upkeep:
    from .upkeep import Upkeep  # it is needed when the first engine is made

    return Upkeep()


def _share(engine: Engine, made_for: object) -> None:
    from .alike import share  # as above

    share(engine, made_for)


def _sync(engine: AnyEngine) -> Engine:
    return engine.sync_engine if isinstance(engine, AsyncEngine) else engine


_MAKERS = {True: "create_async_engine", False: "create_engine"}


def _remove(folder: str, pid: int) -> None:
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)


def _is_alive(engines: _Set) -> bool:
    if engines.loop is None:
        return True
    loop = engines.loop()
    return loop is not None and not loop.is_closed()


def _end_well(engine: Engine) -> None:
    """Wait for the server when a connection is closed; let no cancellation interrupt that, or a rollback.

    These are documented methods of `Dialect` (SQLAlchemy documentation, "Core Internals").
    """
    dialect: Any = engine.dialect
    if not dialect.is_async:
        dialect.do_close = parting(dialect.do_close)
        return
    for name in ("do_rollback", "do_close", *(("do_terminate",) if dialect.has_terminate else ())):
        setattr(dialect, name, uninterrupted(getattr(dialect, name), closes=name != "do_rollback"))


def _refuse_lost_updates(engine: Engine, upkeep: Upkeep) -> None:
    """On MariaDB, make a write to a row that changed since the snapshot an error; other servers do not know it."""
    guard = dialects.of("mariadb").lost_update_guard(_NEWEST)
    assert guard is not None

    def settings(connection: Any, record: Any) -> None:
        cursor = connection.cursor()
        try:
            cursor.execute(guard.apply)
        except engine.dialect.loaded_dbapi.Error as error:
            if error.args[:1] != (_UNKNOWN_VARIABLE,):
                raise
        finally:
            cursor.close()

    upkeep.when_new(settings)


_UNKNOWN_VARIABLE = 1193
"""MySQL and older MariaDB (MariaDB documentation, error codes: ER_UNKNOWN_SYSTEM_VARIABLE)."""
_NEWEST = (999,)


def _prepare_sqlite(upkeep: Upkeep, kind: str) -> None:
    """WAL, a busy timeout, foreign keys, and the way transactions begin."""
    upkeep.when_new(functools.partial(_say_to_sqlite, kind))


def _write_ahead(cursor: Any, raw: sqlite.Connection | None) -> None:
    """Have the database write ahead. If it did not, whoever says so first changes its file, and SQLite tells the others
    at once that it is locked, instead of waiting as for every other lock (seen with SQLite 3.40: once in a hundred
    times that six connections are opened to a new file)."""
    until = time.monotonic() + (raw.patience if raw is not None else 0.0)
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= until:
                raise
        else:
            return
        if in_greenlet():
            await_only(asyncio.sleep(_AGAIN))
        else:
            time.sleep(_AGAIN)


def _say_to_sqlite(kind: str, connection: Any, record: Any) -> None:
    cursor = connection.cursor()
    try:
        cursor.execute("PRAGMA foreign_keys=ON")
        _write_ahead(cursor, record.info.get(sqlite.RAW))
        cursor.execute("PRAGMA synchronous=NORMAL")
        if kind == Access.READ:
            cursor.execute("PRAGMA query_only=ON")
    finally:
        cursor.close()
