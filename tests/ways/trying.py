"""Tries ways: in read units of a door, or in sessions without a guard, and looks each time what has changed.

What is tried together is found apart: if several attempts have changed something, the database is put back and each of
them is tried alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from polysession import AsyncSessions, Sessions

from . import core
from .grounds import Ground, difference
from .way import CHANNELS, Verdict, Way, attempt, by_channel, verdict, ways_of

__all__ = ["Plain", "ReadUnits", "Side", "Tried", "all_ways", "try_all"]


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of one way."""

    way: Way
    verdict: Verdict
    changed: tuple[str, ...]
    """What a second connection saw change."""
    error: str = ""


class Side(Protocol):
    """Where ways are tried."""

    def attempt(self, found: Way) -> list[Exception]:
        """Try one; the errors of its steps and of the end."""

    def close(self) -> None:
        """Let go of the database."""


class ReadUnits:
    """Read units of a door over one database. The pool is small, so that each unit finds what the last one left."""

    def __init__(self, url: str, *, asynchronous: bool, snapshot: bool = False) -> None:
        settings = {"databases": {"main": {"url": url, "pool": {"size": 3}}}}
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
        return errors

    async def _attempt_async(self, found: Way, errors: list[Exception]) -> list[Exception]:
        async with self.door.read(snapshot=self.snapshot) as session:
            errors += await session.run_sync(lambda below: attempt(found, below))
        return []

    def close(self) -> None:
        if self.runner is None:
            self.door.close()
            return
        self.runner.run(self.door.close())
        self.runner.close()


class Plain:
    """SQLAlchemy's own sessions: in autocommit without a guard, or told once to be read-only, as many do it."""

    def __init__(self, url: str, *, asynchronous: bool, read_only: bool = False) -> None:
        self.runner = asyncio.Runner() if asynchronous else None
        options: dict[str, Any] = {"poolclass": NullPool}
        backend = sa.make_url(url).get_backend_name()
        if read_only and backend == "postgresql":
            options["execution_options"] = {"postgresql_readonly": True}
        else:
            options["isolation_level"] = "AUTOCOMMIT"
        self.engine: Any = (create_async_engine if asynchronous else sa.create_engine)(url, **options)
        sync = self.engine.sync_engine if isinstance(self.engine, AsyncEngine) else self.engine
        for told in _TOLD[backend][: 2 if read_only else 1]:
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
        return errors

    async def _attempt_async(self, found: Way, errors: list[Exception]) -> None:
        async with AsyncSession(self.engine) as session:
            errors += await session.run_sync(lambda below: attempt(found, below))
            await session.commit()

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


def try_all(ground: Ground, ways: Sequence[Way], side: Callable[[], Side], *, together: int) -> Iterator[Tried]:
    """Try ways, `together` at a time, from a state that is the same each time; abuses alone, and last."""
    honest = [found for found in ways if not found.abuse]
    some = [honest[at : at + together] for at in range(0, len(honest), together)]
    before = ground.seen()
    opened = side()
    try:
        while some:
            group = some.pop(0)
            answers = [(found, opened.attempt(found)) for found in group]
            changed = difference(before, ground.seen())
            if not changed or len(group) == 1:
                yield from (_tried(found, errors, changed) for found, errors in answers)
            else:
                some[:0] = [[found] for found in group]
            if changed:
                opened.close()
                ground.renew()
                before = ground.seen()
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
    return _tried(found, errors, changed)


def _tried(found: Way, errors: Sequence[Exception], changed: tuple[str, ...]) -> Tried:
    shown = "; ".join(f"{type(error).__name__}: {' '.join(str(error).split())[:150]}" for error in errors)
    return Tried(found, verdict(errors), changed, shown)
