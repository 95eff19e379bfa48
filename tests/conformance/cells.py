"""Over what the suite runs: places (door, target, driver), and the cell of a test: its doors and its databases there.

After each test its cell looks that nothing is held, no connection is out, and, once the doors are closed, that the
servers count no connection either.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from polysession import AsyncSessions, Sessions
from tests.engines.process import wait_until
from tests.engines.targets import ASYNC_DRIVERS, SYNC_DRIVERS, FreshDatabase, Servers, mark_of

from .doors import as_async, finish, together
from .schema import Witness

__all__ = ["PLACES", "POOLED", "THROUGH", "Cell", "Databases", "Place", "Refused", "also_pooled", "line"]

Test = Callable[[], Awaitable[Any]]


class Refused(Exception):
    """What a test's own code raises."""


def line() -> int:
    """The number of the line that calls this."""
    frame = inspect.currentframe()
    assert frame is not None
    assert frame.f_back is not None
    return frame.f_back.f_lineno


class Place(NamedTuple):
    """A door, an engine and a driver: a column of the page."""

    door: Literal["sync", "async"]
    target: str
    driver: str

    def __str__(self) -> str:
        return "-".join(self)


def _places(targets: tuple[str, ...]) -> tuple[Place, ...]:
    synchronous = [Place("sync", target, driver) for target in targets for driver in SYNC_DRIVERS[mark_of(target)]]
    asynchronous = [Place("async", target, driver) for target in targets for driver in ASYNC_DRIVERS[mark_of(target)]]
    return (*synchronous, *asynchronous)


PLACES = _places(("sqlite", "pg15", "pg18", "mariadb"))
"""Where every behaviour is shown."""
POOLED = _places(("galera", "pgbouncer"))
"""Where the behaviours marked `also_pooled` are shown too: one server is several there, or shared by its clients."""
THROUGH = tuple(place for place in POOLED if place.target == "pgbouncer")
"""Where all other behaviours are shown too."""


def also_pooled(test: Any) -> Any:
    """Mark a behaviour that is also shown on a Galera cluster and through pgbouncer."""
    test.also_pooled = True
    return test


class Databases:
    """Databases with the suite's tables, kept for the next test that leaves them clean."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._kept: dict[str, list[tuple[FreshDatabase, Witness]]] = {}

    def take(self, target: str) -> tuple[FreshDatabase, Witness]:
        """An empty database and its witness."""
        kept = self._kept.setdefault(target, [])
        if kept:
            database, witness = kept.pop()
        else:
            database = self._servers.fresh(target)
            witness = Witness(database.url(SYNC_DRIVERS[mark_of(target)][0]), **_WITNESS.get(mark_of(target), {}))
            witness.make_tables()
        wait_until(lambda: not database.census(), what="the witness's last connection is gone")
        return database, witness

    def give_back(self, database: FreshDatabase, witness: Witness, *, clean: bool) -> None:
        """Keep it for the next test, or remove it if this one left something there."""
        if clean:
            witness.empty_tables()
            self._kept[database.target].append((database, witness))
        else:
            self._servers.drop(database)

    def close(self) -> None:
        """Remove all."""
        for kept in self._kept.values():
            for database, _ in kept:
                self._servers.drop(database)
        self._kept.clear()


_WITNESS: Mapping[str, Mapping[str, Any]] = {"pgbouncer": {"connect_args": {"prepare_threshold": None}}}
_TABLE: Mapping[str, Mapping[str, Any]] = {"pgbouncer": {"pooler": "transaction"}}


@dataclass(slots=True)
class Cell:
    """Where a test runs: makes its doors, has its databases, and notes where the behaviour differs."""

    place: Place
    databases: Databases
    difference: str = ""
    """Why the behaviour cannot exist here and what is there instead, as the page tells it."""
    _taken: list[tuple[FreshDatabase, Witness]] = field(default_factory=list)
    _doors: list[AsyncSessions] = field(default_factory=list)
    _engines: list[sa.Engine | AsyncEngine] = field(default_factory=list)

    # -- where

    @property
    def engine(self) -> str:
        """ "sqlite", "pg", "mariadb", "galera" or "pgbouncer"."""
        return mark_of(self.place.target)

    @property
    def is_postgres(self) -> bool:
        """The server is PostgreSQL, perhaps behind a pooler."""
        return self.engine in ("pg", "pgbouncer")

    @property
    def is_mariadb(self) -> bool:
        """The server is MariaDB, perhaps in a cluster."""
        return self.engine in ("mariadb", "galera")

    @property
    def is_async(self) -> bool:
        """The door is the asynchronous one."""
        return self.place.door == "async"

    def differs(self, why: str) -> None:
        """Note that the behaviour cannot exist here; the test goes on to show what is there instead."""
        self.difference = why

    # -- databases

    @property
    def database(self) -> FreshDatabase:
        """The test's database."""
        return self._nth(0)[0]

    @property
    def witness(self) -> Witness:
        """Sees what is committed there."""
        return self._nth(0)[1]

    @property
    def other(self) -> FreshDatabase:
        """A second database on the same server."""
        return self._nth(1)[0]

    @property
    def other_witness(self) -> Witness:
        """Sees what is committed in the second one."""
        return self._nth(1)[1]

    @property
    def url(self) -> str:
        """Of the test's database."""
        return self.database.url(self.place.driver)

    @property
    def other_url(self) -> str:
        """Of the second one."""
        return self.other.url(self.place.driver)

    def _nth(self, number: int) -> tuple[FreshDatabase, Witness]:
        while len(self._taken) <= number:
            self._taken.append(self.databases.take(self.place.target))
        return self._taken[number]

    # -- doors

    def table(self, **table: Any) -> dict[str, Any]:
        """The configuration of the test's database, with further keys (`pool`, `connect`)."""
        return {"url": self.url, **_TABLE.get(self.engine, {}), **table}

    def door(self, databases: Any = None, **table: Any) -> AsyncSessions:
        """A door over the test's database, with further keys of its table, or over `databases`."""
        if databases is None:
            databases = {"default": self.table(**table)}
        return self.keep(self.bare_door(databases))

    def two(self) -> AsyncSessions:
        """A door over two databases, "orders" and "billing"."""
        keys = _TABLE.get(self.engine, {})
        return self.door({"orders": {"url": self.url, **keys}, "billing": {"url": self.other_url, **keys}})

    def bare_door(self, databases: Any = None) -> AsyncSessions:
        """A door that the cell does not look after."""
        return AsyncSessions(databases) if self.is_async else as_async(Sessions(databases))

    def keep(self, door: AsyncSessions) -> AsyncSessions:
        """Look after `door`: at the end it must be empty, and is closed."""
        self._doors.append(door)
        return door

    def given_engine(self, url: str = "", **options: Any) -> Any:
        """An `Engine` or `AsyncEngine` of the application's own, as the door takes it; over the test's database, if no
        other is named."""
        make = create_async_engine if self.is_async else sa.create_engine
        engine = make(url or self.url, **options)
        self._engines.append(engine)
        return engine

    # -- others

    async def together(self, *works: Test) -> list[Any]:
        """Run `works` side by side in tasks or threads of their own; what each returned or raised."""
        return await together(list(works), asynchronous=self.is_async)

    async def until(self, question: Callable[[], object], what: str) -> None:
        """Wait until `question` says something true, without stopping the loop in which others go on."""
        if self.is_async:
            await asyncio.to_thread(wait_until, question, what=what)
        else:
            wait_until(question, what=what)

    async def elsewhere(self, work: Test) -> Any:
        """What `work` returns or raises in another task or thread."""
        (answer,) = await self.together(work)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    # -- a test's course

    def conduct(self, test: Test) -> None:
        """Run a test in this cell, look that it left nothing, and give the databases back."""
        clean = False
        try:
            if self.is_async:
                asyncio.run(self._whole(test))
            else:
                finish(self._whole(test))
            for database, _ in self._taken:
                wait_until(lambda db=database: not db.census(), what="the server counts no connection")  # type: ignore[misc]
            clean = True
        finally:
            for database, witness in self._taken:
                self.databases.give_back(database, witness, clean=clean)

    async def _whole(self, test: Test) -> None:
        try:
            await test()
            for door in self._doors:
                assert door.held() == ()
                assert door._connections_out() == 0
            for engine in self._engines:
                assert _pool(engine).checkedout() == 0
        finally:
            for door in self._doors:
                with suppress(ResourceWarning):
                    await door.close()
            for engine in self._engines:
                if isinstance(engine, AsyncEngine):
                    await engine.dispose()
                else:
                    engine.dispose()


def _pool(engine: sa.Engine | AsyncEngine) -> Any:
    return engine.sync_engine.pool if isinstance(engine, AsyncEngine) else engine.pool
