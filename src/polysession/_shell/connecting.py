"""What connects for the entries of a pool: the driver's arguments, in time, and with secrets that nobody else sees."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy.engine import URL, Engine
from sqlalchemy.pool import ConnectionPoolEntry

from ..options import Access
from ..topology import Endpoint, Pooler, is_secret
from . import grace, pooled, sqlite
from .arguments import refused_argument
from .claims import opening
from .liveness import keep_alive
from .pens import marking_connection
from .raw import ReadConnection, connector, patient
from .signs import CONNECTING
from .uses import ASKING

__all__ = ["CONNECT", "Secret", "connecting", "secrets_of", "without_secrets"]

_CONNECT_WITHIN: Mapping[str, Mapping[str, float]] = {
    "psycopg": {"connect_timeout": 2},
    "asyncpg": {"timeout": 2},
    "pymysql": {"connect_timeout": 2},
    "mysqldb": {"connect_timeout": 2},
    "asyncmy": {"connect_timeout": 2},
    "aiomysql": {"connect_timeout": 2},
}
"""By driver, the argument that bounds the making of a connection for asking, in seconds."""

CONNECT = 10.0
"""Seconds that connecting may take, unless the configuration says otherwise or the unit has less time."""

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


def connecting(
    engine: Engine, secrets: Mapping[str, Secret], endpoint: Endpoint, kind: str
) -> Callable[[ConnectionPoolEntry], Any]:
    """What connects for an entry of the engine's pool.

    It gives the driver its secrets itself, so that neither SQLAlchemy's frames nor an error's traceback hold them.
    """
    dialect: Any = engine.dialect
    dialect.create_connect_args(engine.url)  # what is wrong with the URL is said where the engine is made
    reads = kind == Access.READ
    connect_driver = connector(engine.dialect) if reads else patient(engine.dialect)
    if dialect.driver == "asyncpg" and not reads:
        connect_driver = functools.partial(connect_driver, connection_class=marking_connection())

    def connect(record: ConnectionPoolEntry) -> Any:
        # all of it is looked up each time, which is nothing beside connecting: kept, it would be there for each engine
        dialect: Any = engine.dialect
        backend, driver = dialect.name, dialect.driver
        reads = kind == Access.READ
        asks_read_only = reads and endpoint.pooler is Pooler.NONE
        extra = _read_only_arguments(backend, driver) if asks_read_only else {}
        in_time = _CONNECT_WITHIN.get(driver, {}) if kind == ASKING else {}
        cargs, cparams = dialect.create_connect_args(engine.url)
        # `arguments` is emptied before an error leaves: this frame stays in the traceback
        arguments = {**_time_to_connect(driver), **in_time, **pooled.arguments(endpoint, driver), **_begins(dialect)}
        arguments |= {**cparams, **endpoint.connect, **secrets}
        if driver == "asyncpg" and _PASSWORD in secrets:
            # it takes a plain str only, but also what gives one (asyncpg documentation, connect)
            arguments[_PASSWORD] = secrets[_PASSWORD].reveal
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
            wrong = refused_argument(error, endpoint, engine.url, dialect)
            if wrong is not None:
                raise wrong from error
            if isinstance(error, OSError) or type(error).__module__.startswith("asyncpg."):
                # SQLAlchemy's adapter of asyncpg lets these out as they are: no caller that catches the errors of a
                # database would catch them, and other drivers say OperationalError
                failed = dialect.loaded_dbapi.OperationalError(str(error), error)
                failed.__dict__[CONNECTING] = True
                raise failed from error
            raise
        if made:
            record.info[sqlite.RAW] = made[0]
            if driver == "aiosqlite":
                connection = _also_for_threads(connection, made[0])
        if not _GIVEN_KEEPALIVE.intersection(arguments):
            keep_alive(connection)
        if driver == "pymysql" and "read_timeout" not in cparams and "read_timeout" not in endpoint.connect:
            connection._read_timeout = None  # it was meant for the handshake
        return connection

    return connect


def _also_for_threads(connection: Any, raw: sqlite.Connection) -> Any:
    from . import sqlite_async  # whoever uses another driver needs none of it

    return sqlite_async.Connection(connection, raw) if sqlite_async.is_known() else connection


def _begins(dialect: Any) -> Mapping[str, Any]:
    """By which arguments BEGIN goes in the flight of the first statement; none for drivers that cannot do that."""
    if dialect.driver != "psycopg":
        return {}
    from . import first_flight  # whoever uses another driver needs none of it

    return first_flight.arguments(dialect)


_GIVEN_KEEPALIVE = frozenset(
    ("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout")
)
"""Arguments of libpq by which somebody has chosen for himself."""


def _time_to_connect(driver: str) -> dict[str, float]:
    """How long connecting may take, also to a server that accepts and then says nothing, as drivers want to be told.

    asyncmy is told where it connects.
    """
    seconds = CONNECT if opening.within is None else opening.within
    opening.within = None
    if opening.until is not None:
        seconds = min(seconds, max(0.0, opening.until - time.monotonic()) + grace.GRACE)
        opening.until = None
    match driver:
        case "psycopg":
            return {"connect_timeout": math.ceil(seconds)}  # it takes whole seconds, and 1 for 2 as libpq does
        case "asyncpg":
            return {"timeout": seconds}
        case "pymysql":
            # its connect_timeout ends when the socket is open; the handshake is read after that
            return {"connect_timeout": math.ceil(seconds), "read_timeout": seconds}
        case _:
            return {}


_PASSWORD = "password"  # noqa: S105  # the name of the argument


def secrets_of(url: URL) -> dict[str, Secret]:
    """What of `url` is never shown, as arguments for the driver: its password, and the secrets in its query."""
    found = {} if url.get_backend_name() == "sqlite" else url.query
    secrets = {key: Secret(value) for key, value in found.items() if isinstance(value, str) and is_secret(key)}
    return {**secrets, _PASSWORD: Secret(url.password)} if url.password else secrets


def without_secrets(url: URL) -> URL:
    """`url` without them; `URL.set` takes None for "leave it as it is"."""
    hidden = secrets_of(url)
    query = {key: value for key, value in url.query.items() if key not in hidden}
    return URL.create(url.drivername, url.username, None, url.host, url.port, url.database, query)


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
        case _, "pymysql" | "asyncmy":
            return {"client_flag": _SESSION_TRACK}
        case _:
            return {}


def _merged(given: Any, ours: Any) -> Any:
    if given is None:
        return ours
    if isinstance(given, dict):
        return {**given, **ours}
    if isinstance(given, int):
        return given | ours
    return f"{given} {ours}"


_SESSION_TRACK = 1 << 23
"""CLIENT_SESSION_TRACK: the server may report what a statement changed of its session (MariaDB documentation,
"Connecting", capabilities)."""
