"""Tries ways: in read units of a door, or in sessions without a guard, and looks each time what has changed.

What is tried together is found apart: if several attempts have changed something, the database is put back and each of
them is tried alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from polysession import AsyncSessions, Sessions

from . import core
from .grounds import Ground, difference
from .left import Found, found_on
from .way import CHANNELS, Text, Verdict, Way, attempt, by_channel, verdict, ways_of, without_frames

__all__ = ["Plain", "ReadUnits", "Side", "Tried", "all_reads", "all_ways", "try_all"]


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of one way."""

    way: Way
    verdict: Verdict
    changed: tuple[str, ...]
    """What a second connection saw change."""
    left: tuple[str, ...] = ()
    """What the next unit found on the connection that was not there before, or missed."""
    error: str = ""


class Side(Protocol):
    """Where ways are tried."""

    def attempt(self, found: Way) -> list[Exception]:
        """Try one; the errors of its steps and of the end, without the frames that would keep connections."""

    def found(self) -> Found:
        """What the next units find on their connections; nothing if each has a new one."""

    def close(self) -> None:
        """Let go of the database."""


_SIZE: Final = 3
"""Connections of a door's pool: so few that the next units get all that were used before."""


class ReadUnits:
    """Read units of a door over one database."""

    def __init__(self, url: str, *, asynchronous: bool, snapshot: bool = False) -> None:
        settings = {"databases": {"main": {"url": url, "pool": {"size": _SIZE}}}}
        self.snapshot = snapshot
        self.runner = asyncio.Runner() if asynchronous else None
        self.door: Any = (AsyncSessions if asynchronous else Sessions).from_mapping(settings)

    def attempt(self, found: Way) -> list[Exception]:
        errors: list[Exception] = []
        try:
            if self.runner is not None:
                errors += self.runner.run(self._attempt_async(found, errors))
            else:
                with self.door.read(snapshot=self.snapshot) as session:
                    errors += attempt(found, session)
        except Exception as error:
            errors.append(error)
        return [without_frames(error) for error in errors]

    async def _attempt_async(self, found: Way, errors: list[Exception]) -> list[Exception]:
        async with self.door.read(snapshot=self.snapshot) as session:
            errors += await session.run_sync(lambda below: attempt(found, below))
        return []

    def found(self) -> Found:
        if self.runner is not None:
            return self.runner.run(self._found_async())
        with ExitStack() as stack:
            units = [stack.enter_context(self.door.read(propagation="requires_new")) for _ in range(_SIZE)]
            return frozenset().union(*map(found_on, units))

    async def _found_async(self) -> Found:
        async with AsyncExitStack() as stack:
            found: Found = frozenset()
            for _ in range(_SIZE):
                session = await stack.enter_async_context(self.door.read(propagation="requires_new"))
                found |= await session.run_sync(found_on)
            return found

    def close(self) -> None:
        if self.runner is None:
            self.door.close()
            return
        self.runner.run(self.door.close())
        self.runner.close()


class Plain:
    """SQLAlchemy's own sessions: in autocommit, in a transaction, or told to be read-only as the documentation says.

    That is `postgresql_readonly` on PostgreSQL, SET SESSION TRANSACTION READ ONLY and `query_only` at connect elsewhere.
    """

    def __init__(
        self, url: str, *, asynchronous: bool, kind: Literal["autocommit", "transaction", "read-only"] = "autocommit"
    ) -> None:
        self.runner = asyncio.Runner() if asynchronous else None
        options: dict[str, Any] = {"poolclass": NullPool}
        backend = sa.make_url(url).get_backend_name()
        if kind == "read-only" and backend == "postgresql":
            options["execution_options"] = {"postgresql_readonly": True}
        elif kind != "transaction":
            options["isolation_level"] = "AUTOCOMMIT"
        self.engine: Any = (create_async_engine if asynchronous else sa.create_engine)(url, **options)
        sync = self.engine.sync_engine if isinstance(self.engine, AsyncEngine) else self.engine
        for told in _TOLD[backend][: 2 if kind == "read-only" else 1]:
            event.listen(sync, "connect", lambda connection, _, told=told: _say(connection, told))

    def attempt(self, found: Way) -> list[Exception]:
        errors: list[Exception] = []
        try:
            if self.runner is not None:
                self.runner.run(self._attempt_async(found, errors))
            else:
                with Session(self.engine) as session:
                    errors += attempt(found, session)
                    session.commit()
        except Exception as error:
            errors.append(error)
        return [without_frames(error) for error in errors]

    async def _attempt_async(self, found: Way, errors: list[Exception]) -> None:
        async with AsyncSession(self.engine) as session:
            errors += await session.run_sync(lambda below: attempt(found, below))
            await session.commit()

    def found(self) -> Found:
        return frozenset()

    def close(self) -> None:
        if self.runner is None:
            self.engine.dispose()
            return
        self.runner.run(self.engine.dispose())
        self.runner.close()


_TOLD: Final[Mapping[str, tuple[str, ...]]] = {
    "postgresql": (),
    "mysql": ("set session lock_wait_timeout = 2", "set session transaction read only"),
    "sqlite": ("pragma busy_timeout = 1000", "pragma query_only = on"),
}
"""What a plain connection is told: not to wait for long, and to be read-only."""


def _say(connection: Any, statement: str) -> None:
    cursor = connection.cursor()
    cursor.execute(statement)
    cursor.close()


def all_ways(ground: Ground, driver: str, channels: Iterable[str] = CHANNELS) -> list[Way]:
    """Every way that can be tried on this ground with this driver."""
    found = [*ways_of(core, driver), *ways_of(ground.module, driver)]
    for channel in channels:
        found += by_channel(channel, driver, ground.lines())
    return found


def all_reads(ground: Ground, driver: str) -> list[Way]:
    """Every text that only reads, by every channel. For COPY psycopg has a method of its own."""
    texts = [text for text in ground.reads if not (driver == "psycopg" and text.startswith("copy"))]
    reads = [Text((text,), lasts=False) for text in texts]
    return [found for channel in CHANNELS for found in by_channel(channel, driver, reads)]


def try_all(ground: Ground, ways: Sequence[Way], side: Callable[[], Side], *, together: int) -> Iterator[Tried]:
    """Try ways, `together` at a time, from a state that is the same each time; abuses alone, and last."""
    honest = [found for found in ways if not found.abuse]
    some = [honest[at : at + together] for at in range(0, len(honest), together)]
    before = ground.seen()
    opened = side()
    clean = opened.found()
    try:
        while some:
            group = some.pop(0)
            answers = [(found, opened.attempt(found)) for found in group]
            changed = difference(before, ground.seen())
            left = tuple(sorted(opened.found() ^ clean))
            soiled = bool(changed or left)
            if not soiled or len(group) == 1:
                yield from (_tried(found, errors, changed, left) for found, errors in answers)
            else:
                some[:0] = [[found] for found in group]
            if soiled:
                opened.close()
            if changed:
                ground.renew()
                before = ground.seen()
            if soiled:
                opened = side()
    finally:
        opened.close()
    for found in ways:
        if found.abuse:
            yield _abuse(ground, found, side)


def _abuse(ground: Ground, found: Way, side: Callable[[], Side]) -> Tried:
    before = ground.seen()
    opened = side()
    try:
        errors = opened.attempt(found)
    finally:
        opened.close()
    changed = difference(before, ground.seen())
    if changed:
        ground.renew()
    return _tried(found, errors, changed, ())


def _tried(found: Way, errors: Sequence[Exception], changed: tuple[str, ...], left: tuple[str, ...]) -> Tried:
    shown = "; ".join(f"{type(error).__name__}: {' '.join(str(error).split())[:150]}" for error in errors)
    return Tried(found, verdict(errors), changed, left, shown)
