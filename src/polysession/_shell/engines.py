"""Engines: for each endpoint one that writes and one that reads, made when first needed, shared, disposed together.

The two engines of an endpoint share the seats of one `Room`, so that `pool.size` bounds the connections whatever they
are for. Read engines hold no transaction between statements: their connections are in driver autocommit and the
server was told once, at connect, to refuse writes.

Engines are keyed by process, and for asyncio by event loop: a forked child and another loop get engines of their own
and never touch what they inherited. An engine that the application made itself is used as it is.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import tempfile
import threading
import weakref
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias, cast

from sqlalchemy import create_engine, event
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from .. import dialects
from ..config import Parts, resolve_driver, split
from ..errors import ConfigError
from ..options import Access
from ..topology import Endpoint, Pooler, Topology
from . import pooled, sqlite
from .places import PROCESS, Process
from .pool import FairAsyncPool, FairPool, Room
from .raw import ReadConnection, connector
from .readonly import Verdicts, guard_reads
from .signs import CONNECTING
from .watch import watch_statements

__all__ = ["FREE", "REPEAT", "AnyEngine", "EngineRoom", "Secret", "begin_sqlite"]

AnyEngine: TypeAlias = Engine | AsyncEngine
_Key: TypeAlias = tuple[str, str]

FREE = "free"
"""The kind of use of a session that its owner ends: nothing is known of what it will do."""

REPEAT = "repeat"
"""The kind of use of a repeatable unit: on MariaDB its connections are told to refuse lost updates."""

_MYSQL = ("mysql", "mariadb")

BUSY_TIMEOUT = 5.0
"""Seconds that an SQLite connection waits for a lock that another process holds."""


class Secret(str):
    """A password as the driver needs it, that a repr, a log or a traceback with locals shows as `***`."""

    __slots__ = ()

    def reveal(self) -> str:
        """The password itself."""
        return str.__str__(self)

    def __repr__(self) -> str:
        return "'***'"


class _Set:
    """The engines of one process and, for asyncio, one event loop."""

    __slots__ = ("engines", "last_act", "loop", "process", "rooms")

    def __init__(self, process: Process, loop: asyncio.AbstractEventLoop | None) -> None:
        self.process = process
        self.loop = weakref.ref(loop) if loop is not None else None
        self.engines: dict[_Key, AnyEngine] = {}
        self.rooms: dict[str, Room] = {}
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
        for engine in engines.values():
            if EngineRoom.is_ours(cast("AsyncEngine", engine).sync_engine):
                await cast("AsyncEngine", engine).dispose()


class EngineRoom:
    """All engines of one door. Thread-safe."""

    def __init__(self, topology: Topology, *, asynchronous: bool) -> None:
        self.topology = topology
        self.asynchronous = asynchronous
        self._sets: list[_Set] = []
        self._lock = threading.Lock()
        self._folder: str | None = None

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
            return engines.engines.get(key) or engines.engines.setdefault(key, self._make(engines, endpoint, kind))

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
        """The rooms of this process and event loop."""
        return list(self._here().rooms.values())

    def dispose(self) -> None:
        """Close what is idle in this process. Connections that are out are closed when they come back.

        Engines that were given are left alone: whoever made them disposes of them.
        """
        for engines in self._take_all():
            for engine in engines.engines.values():
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
        return [engines for engines in taken if engines.process is PROCESS.process]

    def _here(self) -> _Set:
        process = PROCESS.process
        loop = asyncio.get_running_loop() if self.asynchronous else None
        for engines in self._sets:
            if engines.process is process and (loop is None or (engines.loop is not None and engines.loop() is loop)):
                return engines
        with self._lock:
            # sets of a parent process or of a loop that is gone are forgotten, never closed: they are not ours to touch
            self._sets = [s for s in self._sets if s.process is process and _is_alive(s)]
            self._sets.append(_Set(process, loop))
            return self._sets[-1]

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
        made: AnyEngine
        if self.asynchronous:
            made = create_async_engine(_without_password(url), **arguments)
        else:
            made = create_engine(_without_password(url), **arguments)
        sync = made.sync_engine if isinstance(made, AsyncEngine) else made
        room = engines.rooms.get(endpoint.name)
        if room is None:
            # SQLite has one writer at a time: a queue of our own is fair, its busy handler is not
            limits = {Access.WRITE.value: 1} if is_sqlite else None
            room = engines.rooms[endpoint.name] = Room(endpoint.name, pool.size, pool.checkout_timeout, limits)
        cast("FairPool", sync.pool).join(room, str(kind))
        _connect_by_ourselves(sync, Secret(url.password) if url.password else None, endpoint, kind)
        if is_sqlite:
            _prepare_sqlite(sync, kind)
        if kind == REPEAT:
            _refuse_lost_updates(sync)
        if is_pooled:
            pooled.prepare(sync, kind)
        _note_commit(sync)
        # read engines judge every text by themselves
        watch_statements(sync, None if kind == Access.READ else Verdicts(dialects.of(backend).reads.control))
        if kind == Access.READ:
            guard_reads(sync)
        sync.update_execution_options(polysession=True)
        return made

    def _given(self, endpoint: Endpoint) -> AnyEngine:
        engine = endpoint.engine
        wanted = AsyncEngine if self.asynchronous else Engine
        if not isinstance(engine, wanted):
            other = "Sessions" if self.asynchronous else "AsyncSessions"
            raise ConfigError(
                f"{endpoint.name}: expected a URL or {wanted.__name__}, found {type(engine).__name__}",
                do=(f"use {other} for this engine", f"make it with {_MAKERS[self.asynchronous]}"),
                path=f"databases.{endpoint.database}",
            )
        return engine

    def _url(self, endpoint: Endpoint) -> URL:
        assert endpoint.address is not None
        path = f"databases.{endpoint.database}.url"
        try:
            url = make_url(endpoint.address.reveal())
        except ArgumentError:
            raise ConfigError(f"{path}: expected a database URL, found {endpoint.address.shown!r}", path=path) from None
        backend, _, driver = url.drivername.partition("+")
        chosen = resolve_driver(backend, driver or None, asynchronous=self.asynchronous, path=path)
        url = url.set(drivername=chosen.scheme)
        parts = split(endpoint.address.reveal())
        if isinstance(parts, Parts) and parts.in_memory:
            url = url.set(database=str(Path(self._temporary_folder()) / f"{endpoint.database}.db"))
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


_MAKERS = {True: "create_async_engine", False: "create_engine"}


def _remove(folder: str, pid: int) -> None:
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)


def _is_alive(engines: _Set) -> bool:
    if engines.loop is None:
        return True
    loop = engines.loop()
    return loop is not None and not loop.is_closed()


def _connect_by_ourselves(engine: Engine, password: Secret | None, endpoint: Endpoint, kind: str) -> None:
    """Give the driver its password ourselves, so that neither SQLAlchemy's frames nor an error's traceback hold it."""
    backend = engine.dialect.name
    driver = engine.dialect.driver
    reads = kind == Access.READ
    asks_read_only = reads and endpoint.pooler is Pooler.NONE
    connect_driver = connector(engine.dialect) if reads else engine.dialect.connect
    extra = _read_only_arguments(backend, driver) if asks_read_only else {}
    behind_pooler = pooled.arguments(endpoint, driver)

    def connect(dialect: Any, record: Any, cargs: Any, cparams: dict[str, Any]) -> Any:
        # `arguments` is emptied before an error leaves: this frame stays in the traceback
        arguments = {**behind_pooler, **cparams, **endpoint.connect}
        if password is not None:
            # asyncpg takes a plain str only, but also what gives one (asyncpg documentation, connect)
            arguments["password"] = password.reveal if driver == "asyncpg" else password
        for name, value in extra.items():
            arguments[name] = _merged(arguments.get(name), value)
        made: list[sqlite.Connection] = []
        if backend == "sqlite":
            arguments["factory"] = sqlite.connection_factory(made, ReadConnection if reads else sqlite.Connection)
            arguments["check_same_thread"] = False
            arguments.setdefault("timeout", BUSY_TIMEOUT)
        try:
            connection = connect_driver(*cargs, **arguments)
        except BaseException as error:
            arguments.clear()
            error.__dict__[CONNECTING] = True
            _forget_frames(error)
            refused = pooled.refused_at_connect(error, endpoint, asked_read_only=asks_read_only)
            if refused is not None:
                raise refused from None
            raise
        if made:
            record.info[_SQLITE] = made[0]
        return connection

    event.listen(engine, "do_connect", connect)


_SQLITE = "polysession_sqlite"
HOLDING = "polysession_holding"
"""Where a connection keeps what holds it just now."""


def _without_password(url: URL) -> URL:
    """`url` without its password; `URL.set` takes None for "leave it as it is"."""
    return URL.create(url.drivername, url.username, None, url.host, url.port, url.database, url.query)


def _forget_frames(error: BaseException) -> None:
    """Take the driver's frames, whose locals hold the password, out of an error and of what it came from."""
    seen: BaseException | None = error
    while seen is not None:
        seen.__traceback__ = None
        if "_pgconn" in seen.__dict__:
            # psycopg keeps the parameters of a connection that failed (psycopg documentation, Error.pgconn)
            seen.__dict__["_pgconn"] = None
        seen = seen.__cause__ or seen.__context__


def _read_only_arguments(backend: str, driver: str) -> dict[str, Any]:
    """What tells the server at connect, without a round trip, to refuse writes on this connection.

    PostgreSQL documentation, "Client Connection Defaults", default_transaction_read_only. Others are told later.
    """
    match backend, driver:
        case "postgresql", "asyncpg":
            return {"server_settings": {"default_transaction_read_only": "on"}}
        case "postgresql", _:
            return {"options": "-c default_transaction_read_only=on"}
        case _:
            return {}


def _merged(given: Any, ours: Any) -> Any:
    if given is None:
        return ours
    if isinstance(given, dict):
        return {**given, **ours}
    return f"{given} {ours}"


def _info(connection: Any) -> dict[str, Any]:
    """What is noted on a connection; nothing on the bare one with which SQLAlchemy gets to know a server."""
    try:
        return cast("dict[str, Any]", connection.info)
    except NotImplementedError:
        return {}


def _note_commit(engine: Engine) -> None:
    """Let the holding know that COMMIT or ROLLBACK goes out: an error before it is known to be before it, and a unit
    whose end it is not refuses the one and goes no further after the other.

    `Dialect.do_commit` and `do_rollback` are the documented methods that send them (SQLAlchemy documentation, "Core
    Internals").
    """
    dialect: Any = engine.dialect
    do_commit, do_rollback = dialect.do_commit, dialect.do_rollback

    def commit(connection: Any) -> None:
        raw: sqlite.Connection | None = _info(connection).get(_SQLITE)
        if raw is not None and not raw.is_open:
            # SQLAlchemy's adapter of aiosqlite takes a COMMIT on a closed connection for done; by these words of
            # Python's driver its dialects know that the connection is lost
            raise sqlite3.ProgrammingError("Cannot operate on a closed database.")
        holding = _info(connection).get(HOLDING)
        if holding is not None:
            holding.refuse_early_commit()
            holding.commit_sent = True
        do_commit(connection)

    def rollback(connection: Any) -> None:
        holding = _info(connection).get(HOLDING)
        if holding is not None:
            holding.note_early_rollback()
        do_rollback(connection)

    dialect.do_commit = commit
    dialect.do_rollback = rollback


def _refuse_lost_updates(engine: Engine) -> None:
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

    event.listen(engine, "connect", settings)


_UNKNOWN_VARIABLE = 1193
"""MySQL and older MariaDB (MariaDB documentation, error codes: ER_UNKNOWN_SYSTEM_VARIABLE)."""
_NEWEST = (999,)


def _prepare_sqlite(engine: Engine, kind: str) -> None:
    """WAL, a busy timeout, foreign keys, and the way transactions begin."""

    def settings(connection: Any, record: Any) -> None:
        cursor = connection.cursor()
        try:
            cursor.execute("PRAGMA foreign_keys=ON")
            cursor.execute("PRAGMA journal_mode=WAL")
            cursor.execute("PRAGMA synchronous=NORMAL")
            if kind == Access.READ:
                cursor.execute("PRAGMA query_only=ON")
        finally:
            cursor.close()

    event.listen(engine, "connect", settings)


def begin_sqlite(connection: Connection, begin: sqlite.Begin) -> None:
    """Say how the transaction of this connection begins; nothing for an engine that is not of our making."""
    raw: sqlite.Connection | None = connection.info.get(_SQLITE)
    if raw is not None:
        raw.begin = begin
