"""Finds out what there is behind each endpoint, side by side and within a bounded time. Changes nothing there.

A server is asked on two connections, made one after the other with the settings of write and of read units, so that
what a pooler or proxy in between does to them is seen as well. An SQLite file is only looked at. Each endpoint has a
thread of its own: name resolution and drivers cannot be trusted to keep to a time. What is still busy when the time is
up counts as unreachable; its thread ends when the driver's own connect timeout does, and does not keep the process.

What went wrong is told as a sentence (see `reasons`); the exception, whose traceback may hold more, is dropped here. No
fact is judged here.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import math
import os
import platform
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias, cast
from urllib.parse import unquote, urlsplit

import msgspec
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from ..config import Driver, Parts, resolve_driver, split
from ..dialects.inquiries import Answers, inquiry, refuses_writes, sqlite_facts, sqlite_header
from ..dialects.inspection import DoorFacts, EndpointFacts, FileFacts, Unreachable
from ..errors import ConfigError, MissingExtra
from ..failures import Kind
from ..options import Access
from ..topology import Arguments, Database, Endpoint, PoolOptions, Topology
from .engines import EngineRoom
from .reasons import CURES, explain

__all__ = ["facts_of", "inspect"]

Inspected: TypeAlias = EndpointFacts | Unreachable

_CONNECT_TIMEOUT: Final = {"asyncpg": "timeout"}
"""The drivers whose `connect()` does not call it `connect_timeout`."""

_PACKAGES: Final = {"MySQLdb": "mysqlclient"}
"""The modules that are not called like the package that brings them."""

_HEAD: Final = 100
"""Bytes of the header of an SQLite file."""


def inspect(endpoints: Sequence[Endpoint], *, timeout: float) -> list[Inspected]:
    """The facts of every endpoint, in the same order, after `timeout` seconds at most.

    Asks all of them at the same time. Thread-safe; keeps nothing open. Raises what is our own mistake only.
    """
    end = time.monotonic() + timeout
    outcomes: list[Inspected | BaseException | None] = [None] * len(endpoints)

    def look(place: int) -> None:
        try:
            outcomes[place] = facts_of(endpoints[place], timeout=timeout)
        except BaseException as error:  # raised again in the caller's thread
            outcomes[place] = error

    threads = [
        threading.Thread(target=look, args=(place,), name=f"inspect {endpoint.name}", daemon=True)
        for place, endpoint in enumerate(endpoints)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    found: list[Inspected] = []
    for endpoint, outcome in zip(endpoints, outcomes, strict=True):
        if isinstance(outcome, BaseException):
            raise outcome
        found.append(outcome or _unanswered(endpoint, timeout))
    return found


def facts_of(endpoint: Endpoint, *, timeout: float) -> Inspected:
    """The facts of one endpoint that was configured by its URL. Waits; the time bounds each of two connects only."""
    assert endpoint.address is not None
    parts = _parts(endpoint)
    driver = _driver(parts)
    known: dict[str, Any] = {
        "endpoint": endpoint.name,
        "database": endpoint.database,
        "role": endpoint.role,
        "address": endpoint.address.shown,
        "backend": parts.backend,
        "driver": driver.name,
        "driver_version": _version(driver),
        "doors": _doors(parts),
        "pool_size": endpoint.pool.size,
        "pooler": endpoint.pooler,
    }
    if parts.backend == "sqlite":
        file = _look_at(endpoint, parts)
        return EndpointFacts(**known, file=file, server=sqlite_facts(sqlite3.sqlite_version, file), read_refused=True)
    questions = inquiry(parts.backend)
    alone = _alone(endpoint, parts, driver, timeout)

    def ask(connection: Connection) -> Answers:
        known["pooler_seen"] = _is_another_process(connection, questions.process)
        return _ask(connection, questions.statements)

    try:
        answers, seconds = _on_connection(alone, driver, Access.WRITE, ask)
        known["connect_seconds"] = round(seconds, 4)
    except Exception as error:  # whatever a driver raises, the endpoint cannot be used
        unreachable = _unreachable(endpoint, *explain(error, endpoint))
        return msgspec.structs.replace(unreachable, do=error.do) if isinstance(error, ConfigError) else unreachable
    try:
        (probed,), _ = _on_connection(alone, driver, Access.READ, lambda c: _ask(c, (questions.probe,)))
        known["read_refused"] = refuses_writes(probed)
    except Exception as error:  # as above, for read units only
        kind, reason = explain(error, endpoint)
        if kind is not Kind.TOO_MANY:  # the first connection may be counted for a moment after it was closed
            known["read_problem"] = reason
    return EndpointFacts(**known, server=questions.read(answers))


def _parts(endpoint: Endpoint) -> Parts:
    assert endpoint.address is not None, "an engine that the application made cannot be in a configuration file"
    parts = split(endpoint.address.reveal())
    assert isinstance(parts, Parts), "the configuration was read"
    return parts


def _driver(parts: Parts) -> Driver:
    """The driver of the synchronous door, or that of the other door if the URL names one that serves only there."""
    try:
        return resolve_driver(parts.backend, parts.driver, asynchronous=False)
    except (ConfigError, MissingExtra):
        return resolve_driver(parts.backend, parts.driver, asynchronous=True)


def _doors(parts: Parts) -> tuple[DoorFacts, ...]:
    """Whether each door can use this URL."""
    doors = []
    for door, asynchronous in (("Sessions", False), ("AsyncSessions", True)):
        try:
            chosen = resolve_driver(parts.backend, parts.driver, asynchronous=asynchronous)
            doors.append(DoorFacts(door=door, driver=chosen.name))
        except MissingExtra as error:
            doors.append(DoorFacts(door=door, problem=f"its driver is not installed: {error.facts['install']}"))
        except ConfigError:
            doors.append(DoorFacts(door=door, problem=f"the driver {parts.driver} does not serve it"))
    return tuple(doors)


def _version(driver: Driver) -> str:
    """The version of the driver's package; of a driver that comes with Python, Python's."""
    if not driver.package:
        return f"of Python {platform.python_version()}"
    try:
        return importlib.metadata.version(_PACKAGES.get(driver.module, driver.module))
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _alone(endpoint: Endpoint, parts: Parts, driver: Driver, timeout: float) -> Endpoint:
    """The endpoint with room for one connection, and a bound for the driver where its configuration has none."""
    name = _CONNECT_TIMEOUT.get(driver.name, "connect_timeout")
    bound = {} if name in parts.query_keys else {name: max(1, math.ceil(timeout))}
    return msgspec.structs.replace(
        endpoint,
        pool=PoolOptions(size=1, checkout_timeout=timeout + 1),  # `inspect` gives up first, and says why
        connect=Arguments({**bound, **endpoint.connect}),
    )


def _on_connection(
    endpoint: Endpoint, driver: Driver, access: Access, ask: Callable[[Connection], Answers]
) -> tuple[Answers, float]:
    """What `ask` returns, and how long connecting took. The connection is closed in every case."""
    topology = Topology({endpoint.database: Database(name=endpoint.database, primary=endpoint)})
    room = EngineRoom(topology, asynchronous=not driver.synchronous)

    def answered(connection: Connection, began: float) -> tuple[Answers, float]:
        took = time.perf_counter() - began
        return ask(connection), took

    async def on_loop() -> tuple[Answers, float]:
        engine = cast("AsyncEngine", room.engine(endpoint, access))
        try:
            began = time.perf_counter()
            async with engine.connect() as connection:
                return await connection.run_sync(answered, began)
        finally:
            await room.dispose_async()

    if room.asynchronous:
        return asyncio.run(on_loop())
    engine = cast("Engine", room.engine(endpoint, access))
    try:
        began = time.perf_counter()
        with engine.connect() as connection:
            return answered(connection, began)
    finally:
        room.dispose()


def _ask(connection: Connection, statements: Sequence[str]) -> Answers:
    return [
        [{name.lower(): value for name, value in row.items()} for row in connection.exec_driver_sql(text).mappings()]
        for text in statements
    ]


def _is_another_process(connection: Connection, question: str) -> bool | None:
    """Whether another process answers than the one that the login told (PostgreSQL documentation, BackendKeyData)."""
    if not question:
        return None
    raw: Any = connection.connection.driver_connection
    told = raw.get_server_pid() if connection.dialect.driver == "asyncpg" else raw.info.backend_pid
    return bool(connection.exec_driver_sql(question).scalar() != told)


def _look_at(endpoint: Endpoint, parts: Parts) -> FileFacts:
    """What is there, without opening it as a database: that would make it, or files beside it."""
    if parts.in_memory:
        # one database for each name, whatever the endpoint's role, and one for each tenant (see EngineRoom)
        name = endpoint.database if endpoint.tenant is None else endpoint.name
        return FileFacts(path=f"memory:{name}", in_memory=True)
    path = _path(parts.database or "")
    folder = path.parent
    if not path.exists():
        missing = not folder.is_dir()
        return FileFacts(path=str(path), folder_exists=not missing, writable=missing or os.access(folder, os.W_OK))
    writable = os.access(path, os.W_OK) and os.access(folder, os.W_OK)
    try:
        with path.open("rb") as file:
            is_database, journal = sqlite_header(file.read(_HEAD))
    except OSError:  # a folder, or a file that may not be read
        is_database, journal = False, ""
    return FileFacts(
        path=str(path),
        exists=True,
        writable=writable,
        size=path.stat().st_size,
        is_database=is_database,
        journal=journal,
    )


def _path(database: str) -> Path:
    """The file that SQLite would open, links followed; of a `file:` URI, sqlite.org/uri.html."""
    if database.startswith("file:"):
        database = unquote(urlsplit(database).path)
    return Path(database).resolve()


def _unanswered(endpoint: Endpoint, timeout: float) -> Unreachable:
    silent = _unreachable(endpoint, Kind.CONNECT_FAILED, f"no answer within {timeout:g} s")
    return msgspec.structs.replace(silent, do=(*silent.do, "allow more time with --timeout"))


def _unreachable(endpoint: Endpoint, kind: Kind, reason: str) -> Unreachable:
    return Unreachable(
        endpoint=endpoint.name,
        database=endpoint.database,
        role=endpoint.role,
        address=endpoint.address.shown if endpoint.address else "",
        driver=_driver(_parts(endpoint)).name,
        kind=str(kind),
        reason=reason,
        do=CURES.get(kind, ()),
    )
