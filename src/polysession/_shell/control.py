"""The verbs by which the pools of a door are steered while it works: pause, resume, drain, resize, renew; and `stats`.

They concern this process and, for an asynchronous door, the running event loop; in a thread without one, all loops.
What is said of a database holds for all its endpoints, those of all its tenants included, and for pools that are made
later; with `tenant=` for that one's alone. Thread-safe.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from ..errors import RequestRefused
from ..observe.live import PoolStats
from .asking import seconds_of, tenant_of
from .liveness import close
from .loan import release
from .room import Room
from .standing import Standing

__all__ = ["Control", "close_idle", "out", "until", "watching"]


class Control(Standing):
    """The part of both doors that steers pools."""

    def stats(self) -> tuple[PoolStats, ...]:
        """What the pool of each endpoint has done so far, and what it is doing. Reads memory only.

        Endpoints that were not used yet, and engines that the application made, are not among it.
        """
        return tuple(room.stats() for room in self._engines.rooms()) if self._engines is not None else ()

    def pause(self, *databases: str, tenant: str | None = None) -> None:
        """Give out no connections of these databases, or of all, until `resume()`: whoever asks waits, for its deadline
        or `checkout_timeout` at most. What is out stays with who has it. A second call does nothing more.

        For a failover that is planned: pause, `drain()`, let the server change, resume. With `tenant` only that one's
        database is meant, of those that have tenants. Raises `UnknownDatabase`; `UnknownTenant`; `DoorClosed`; and
        `RequestRefused` for an engine that the application made, whose pool is not ours.
        """
        for room in self._steered(databases, tenant, paused=True):
            room.pause()

    def resume(self, *databases: str, tenant: str | None = None) -> None:
        """Undo `pause()`: those who wait are served in the order in which they came. Raises as `pause()`."""
        for room in self._steered(databases, tenant, paused=False):
            room.wake(room.resume())

    def resize(self, database: str, size: int, *, tenant: str | None = None) -> None:
        """From now on at most `size` connections to each endpoint of this database, as `pool.size` says it.

        More: those who wait are served at once. Less: idle ones are closed at their next turn, and those that are out
        when they come back. Raises `UnknownDatabase`; `RequestRefused` for a size below 1, and as `pause()`.
        """
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise RequestRefused(
                f"resize() was given {size!r}",
                why="a pool has at least one connection",
                do=("give a whole number from 1", "use pause() to let nobody have a connection"),
                attribute="size",
            )
        for room in self._steered((database,), tenant, size=size):
            room.wake(room.resize(size))

    def renew(self, *databases: str, tenant: str | None = None) -> None:
        """Have all connections of these databases, or of all, replaced: idle ones before their next use, those that are
        out when they come back. For a password or an address that has changed. Waits for nothing. Raises as `pause()`.
        """
        for room in self._steered(databases, tenant):
            room.replaced_at = time.monotonic()

    def _steered(
        self,
        databases: tuple[str, ...],
        tenant: str | None = None,
        *,
        paused: bool | None = None,
        size: int | None = None,
    ) -> list[Room]:
        """The rooms of these databases that there are; for those that are made later it is noted."""
        engines = self._ready_engines
        if self._closed:
            raise self._refusal_of_closed()
        known = engines.topology.databases
        names = engines.topology.resolve(databases) if databases else tuple(known)
        if tenant is None:
            endpoints = [each for name in names for each in known[name].endpoints]
        else:
            having = databases or tuple(name for name in names if known[name].tenants)
            endpoints = [known[name].writable(tenant_of(tenant)) for name in having or names]
        for each in endpoints if databases or tenant is not None else ():
            if each.engine is not None:
                raise RequestRefused(
                    f"the pool of {each.name} cannot be steered from here",
                    why="its engine was made by the application, and has a pool of its own",
                    do=("give a URL in place of the engine", "use the engine's own means: engine.dispose()"),
                    database=each.database,
                )
        engines.note(endpoints, paused=paused, size=size)
        wanted = {each.name for each in endpoints}
        return [room for room in engines.rooms() if room.name in wanted]


def until(within: float | timedelta) -> float:
    """The moment of `time.monotonic()` that is so many seconds away."""
    return time.monotonic() + seconds_of(within, "within", none_at_all=True)


def out(rooms: Iterable[Room]) -> int:
    """Connections that somebody has."""
    return sum(not claim.left for room in rooms for claim in room.holders())


def close_idle(rooms: Iterable[Room]) -> None:
    """Close what nobody uses, also what rests in the hands of read units; what is out is closed when it comes back.

    Below SQLAlchemy's adapters if it is for asyncio.
    """
    for room in rooms:
        room.replaced_at = time.monotonic()
        rested: list[PoolProxiedConnection] = []
        for key, (_, connection) in room.resting.copy().items():
            if room.resting.pop(key, None) is not None:
                rested.append(connection)
        for connection in rested:
            release(connection)
        idle: list[ConnectionPoolEntry] = room.sort_out(lambda record: True)
        for record in idle:
            close(record)


@contextmanager
def watching(rooms: Iterable[Room], wake: Callable[[], object]) -> Iterator[None]:
    """Have `wake` called, from any thread, whenever a connection has come back."""
    watched = list(rooms)
    for room in watched:
        room.watchers.append(wake)
    try:
        yield
    finally:
        for room in watched:
            room.watchers.remove(wake)
