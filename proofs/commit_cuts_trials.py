"""The part of `commit_cuts` that breaks links: one worker after the other runs units behind a proxy of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from polysession import AsyncSessions, Outcome, Sessions
from polysession.errors import UnitFailed
from polysession.facts import Fact, HoldEnded, HoldKind, HoldOpened, OutcomeFound
from polysession.testing.proxy import Cut, Ending, Fault, FaultProxy, Hole, Place

__all__ = ["DONE", "Heard", "Trial", "tasks", "threads", "without_tls"]

DONE = sa.Table(
    "done", sa.MetaData(), sa.Column("trial", sa.Integer, index=True), sa.Column("attempt", sa.Integer)
)  # no key: work that is done twice must be seen


@dataclass(frozen=True, slots=True)
class Trial:
    """One break."""

    number: int
    place: Place
    ending: str
    times: int

    @property
    def is_warm(self) -> bool:
        """Its connection has written a row before, so that by psycopg the row is executed and not prepared first: every
        second pair of trials. That exchange is shorter: some of the places are beyond its end, and nothing breaks."""
        return self.number % 4 >= 2

    def fault(self) -> Fault:
        """For the proxy."""
        action = Hole() if self.ending == "hole" else Cut(Ending(self.ending.upper()))
        return Fault(action, self.place, times=self.times)


@dataclass(slots=True)
class Heard:
    """What was said of the attempts of each trial, by the facts of a door; the name of a unit is its trial."""

    names: dict[int, str] = field(default_factory=dict)
    ends: dict[str, list[Outcome]] = field(default_factory=dict)
    asked: list[OutcomeFound] = field(default_factory=list)
    bodies: dict[str, float] = field(default_factory=dict)
    """When the body of the last attempt ended."""
    times: list[float] = field(default_factory=list)
    """From the end of the body to the verdict, where only the unit's own link was cut."""
    times_twice: list[float] = field(default_factory=list)
    """The same where that of the fence was cut as well."""

    def tell(self, fact: Fact) -> None:
        """As an observer."""
        match fact:
            case HoldOpened(hold=hold, kind=HoldKind.UNIT, name=name):
                self.names[hold] = name
            case HoldEnded(hold=hold, outcome=outcome):
                self.ends.setdefault(self.names.pop(hold), []).append(outcome)
            case OutcomeFound():
                self.asked.append(fact)
                if self.attempt(fact.name) == 0:
                    times = self.times if int(fact.name) % 2 == 0 else self.times_twice
                    times.append(fact.stamp - self.bodies[fact.name])
            case _:
                pass

    def attempt(self, name: str) -> int:
        """The number of the attempt that runs now."""
        return len(self.ends.get(name, ()))


def _mapping(proxy: FaultProxy, pooled: bool) -> dict[str, Any]:
    database = {"url": proxy.url, "outcome": "exact", "pool": {"size": 1}, "connect": without_tls(proxy.url)}
    return {"databases": {"main": database | ({"pooler": "transaction"} if pooled else {})}}


def without_tls(url: str) -> dict[str, Any]:
    """Arguments for the driver. The servers speak no TLS, but PyMySQL loads the system's certificates for each
    connection that it opens: 0.1 s of CPU here, which would be counted as a part of the verdict's time."""
    return {"ssl_disabled": True} if "+pymysql:" in url else {}


def threads(
    url: str, take: Callable[[], Trial | None], heard: Heard, pooled: bool, proxy: FaultProxy | None = None
) -> None:
    """One worker of the synchronous door, behind a proxy of its own."""
    own = proxy or FaultProxy.before(url)
    door = Sessions.from_mapping(_mapping(own, pooled), observers=[heard])
    try:
        door.run(_warm)
        while (trial := take()) is not None:
            name = str(trial.number)

            def work(session: Session, trial: Trial = trial, name: str = name) -> None:
                session.execute(DONE.insert().values(trial=trial.number, attempt=heard.attempt(name)))
                heard.bodies[name] = time.monotonic()

            if trial.is_warm:
                door.run(_warm_row)
            if proxy is None:
                own.plan(trial.fault())
            with suppress(UnitFailed):  # its outcome is in the facts
                door.run(work, name=name)
            own.clear()
            if trial.ending == "hole":
                own.sever()  # the hole may have begun behind the answer: nobody else shall fall into it
    finally:
        door.close()
        if proxy is None:
            own.close()


def _warm(session: Session) -> None:
    session.execute(sa.select(DONE).limit(1))


def _warm_row(session: Session) -> None:
    for statement in _NOTHING:
        session.execute(statement)


_NOTHING = DONE.insert().values(trial=-1, attempt=0), DONE.delete().where(DONE.c.trial == -1)
"""Leave no row, but one of the unit's."""


def tasks(
    url: str, take: Callable[[], Trial | None], heard: Heard, pooled: bool, proxy: FaultProxy | None = None
) -> None:
    """The same of the asynchronous door, in an event loop of its own."""

    async def worker() -> None:
        own = proxy or FaultProxy.before(url)
        door = AsyncSessions.from_mapping(_mapping(own, pooled), observers=[heard])
        try:
            await door.run(warm)
            while (trial := take()) is not None:
                name = str(trial.number)

                async def work(session: AsyncSession, trial: Trial = trial, name: str = name) -> None:
                    await session.execute(DONE.insert().values(trial=trial.number, attempt=heard.attempt(name)))
                    heard.bodies[name] = time.monotonic()

                if trial.is_warm:
                    await door.run(warm_row)
                if proxy is None:
                    own.plan(trial.fault())
                with suppress(UnitFailed):
                    await door.run(work, name=name)
                own.clear()
                if trial.ending == "hole":
                    own.sever()
        finally:
            await door.close()
            if proxy is None:
                own.close()

    async def warm(session: AsyncSession) -> None:
        await session.execute(sa.select(DONE).limit(1))

    async def warm_row(session: AsyncSession) -> None:
        for statement in _NOTHING:
            await session.execute(statement)

    asyncio.run(worker())
