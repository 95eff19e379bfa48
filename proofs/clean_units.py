"""No false alarms: clean units of every kind, through both doors, end without an error or a warning.

A unit that does nothing wrong must never be told that it does. Kinds are drawn from a seeded generator: writing,
reading, joined, nested, independent, repeated, with hooks, savepoints, deadlines and a sessionmaker's sessions. The
control makes the same number of each of some misuses; every one of them must be noticed.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import warnings
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from polysession import AsyncSessions, Sessions, errors
from proofs.results import Profile, Result

__all__ = ["NAME", "run"]

NAME = "clean_units"
_QUICK: Final = 2_000
_FULL: Final = 1_000_000


class Base(DeclarativeBase):
    """Of the one table."""


class Entry(Base):
    """A row."""

    __tablename__ = "entry"
    id: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[int] = mapped_column(default=0)


Kind = Callable[[Sessions, int], None]


def _write(door: Sessions, n: int) -> None:
    with door.begin() as session:
        session.merge(Entry(id=n % 97, value=n))


def _read(door: Sessions, n: int) -> None:
    with door.read() as session:
        session.scalars(sa.select(Entry).where(Entry.id == n % 97)).all()


def _snapshot(door: Sessions, n: int) -> None:
    with door.read(snapshot=True) as session:
        session.get(Entry, n % 97)


def _joined(door: Sessions, n: int) -> None:
    with door.begin() as outer, door.begin(deadline=60) as inner:
        inner.merge(Entry(id=n % 97, value=n))
        outer.flush()


def _nested(door: Sessions, n: int) -> None:
    with door.begin() as session:
        try:
            with door.begin(propagation="nested") as inner:
                inner.merge(Entry(id=n % 97, value=n))
                inner.flush()
                raise KeyError
        except KeyError:
            session.merge(Entry(id=n % 97, value=n + 1))


def _savepoint(door: Sessions, n: int) -> None:
    with door.begin(deadline=60) as session:
        with session.begin_nested():
            session.merge(Entry(id=n % 97, value=n))
        session.execute(sa.text("select 'commit; rollback' -- commit"))


def _independent(door: Sessions, n: int) -> None:
    with door.read() as session:
        session.get(Entry, n % 97)
        with door.begin(propagation="requires_new") as own:
            own.merge(Entry(id=n % 97, value=n))


def _plain(door: Sessions, n: int) -> None:
    with door.begin(propagation="not_supported") as session:
        session.execute(sa.update(Entry).where(Entry.id == n % 97).values(value=n))


def _repeated(door: Sessions, n: int) -> None:
    entry = Entry(id=100 + n % 97, value=n)

    def work(session: Session) -> None:
        session.merge(entry)

    door.run(work, deadline=60)


def _turns(door: Sessions, n: int) -> None:
    for attempt in door.attempts():
        with attempt as session:
            session.merge(Entry(id=n % 97, value=n))


def _hooked(door: Sessions, n: int) -> None:
    with door.begin() as session:
        session.merge(Entry(id=n % 97, value=n))
        door.on_commit(int)
        door.current().flush()


def _rolled_back(door: Sessions, n: int) -> None:
    try:
        with door.begin() as session:
            session.merge(Entry(id=n % 97, value=-n))
            session.flush()
            raise KeyError
    except KeyError:
        return


def _free(door: Sessions, n: int) -> None:
    with door.sessionmaker()() as session:
        session.merge(Entry(id=n % 97, value=n))
        session.commit()
        session.get(Entry, n % 97)
        session.rollback()


_KINDS: Final[tuple[Kind, ...]] = (
    _write,
    _read,
    _snapshot,
    _joined,
    _nested,
    _savepoint,
    _independent,
    _plain,
    _repeated,
    _turns,
    _hooked,
    _rolled_back,
    _free,
)


async def _a_write(door: AsyncSessions, n: int) -> None:
    async with door.begin(deadline=60) as session:
        await session.merge(Entry(id=n % 97, value=n))


async def _a_read(door: AsyncSessions, n: int) -> None:
    async with door.read() as session:
        await asyncio.wait_for(session.get(Entry, n % 97), 60)


async def _a_nested(door: AsyncSessions, n: int) -> None:
    async with door.begin() as outer, door.begin(propagation="nested", deadline=60) as inner:
        await inner.merge(Entry(id=n % 97, value=n))
        await outer.flush()


async def _a_repeated(door: AsyncSessions, n: int) -> None:
    entry = Entry(id=100 + n % 97, value=n)

    async def work(session: Any) -> None:
        await session.merge(entry)

    await door.run(work)


async def _a_free(door: AsyncSessions, n: int) -> None:
    async with door.sessionmaker()() as session:
        # a write comes first: on SQLite a session whose intent is not known cannot wait for a lock after it has read
        await session.execute(sa.update(Entry).where(Entry.id == n % 97).values(value=n))
        await session.commit()


_ASYNC_KINDS: Final[tuple[Callable[[AsyncSessions, int], Awaitable[None]], ...]] = (
    _a_write,
    _a_read,
    _a_nested,
    _a_repeated,
    _a_free,
)


def run(profile: Profile, seed: int) -> Result:
    """Half of the units through each door; one error or warning fails it."""
    units = {"quick": _QUICK, "full": _FULL}.get(profile.name, profile.units)
    if profile.units not in (200, 10_000):
        units = profile.units
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'clean.db'}"
        Base.metadata.create_all(engine := sa.create_engine(url))
        engine.dispose()
        counts: Counter[str] = Counter()
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            cells = [
                {"label": "sync", **_through_threads(url, units // 2, seed, counts)},
                {"label": "async", **asyncio.run(_through_tasks(url, units // 2, seed, counts))},
            ]
        counts["warnings"] = len(seen)
        noticed, tried = _control(url)
    for cell in cells:
        profile.say(f"{cell}")
    clean = counts["errors"] == counts["warnings"] == 0
    return Result(
        name=NAME,
        seed=seed,
        profile=profile.name,
        counts=dict(counts),
        cells=tuple(cells),
        control=({"label": "misuses", "tried": tried, "noticed": noticed},),
        passed=clean and noticed == tried,
        why=f"{counts['units']} clean units, {counts['errors']} errors, {counts['warnings']} warnings; "
        f"of {tried} misuses {noticed} were noticed",
    )


def _through_threads(url: str, units: int, seed: int, counts: Counter[str]) -> dict[str, Any]:
    draw = random.Random(seed)
    failed: Counter[str] = Counter()
    with Sessions(url) as door:
        for n in range(units):
            kind = draw.choice(_KINDS)
            try:
                kind(door, n)
            except Exception as error:
                failed[f"{kind.__name__}: {type(error).__name__}: {str(error)[:200]}"] += 1
        told = msgspec.structs.asdict(door.counts())
    counts["units"] += units
    counts["errors"] += failed.total()
    return {"units": units, "errors": dict(failed), "counts": told}


async def _through_tasks(url: str, units: int, seed: int, counts: Counter[str]) -> dict[str, Any]:
    draw = random.Random(seed)
    failed: Counter[str] = Counter()
    async with AsyncSessions(url) as door:

        async def one(n: int) -> None:
            kind = draw.choice(_ASYNC_KINDS)
            try:
                await kind(door, n)
            except Exception as error:
                failed[f"{kind.__name__}: {type(error).__name__}: {str(error)[:200]}"] += 1

        for n in range(0, units, 4):
            await asyncio.gather(*(one(n + each) for each in range(min(4, units - n))))
        told = msgspec.structs.asdict(door.counts())
    counts["units"] += units
    counts["errors"] += failed.total()
    return {"units": units, "errors": dict(failed), "counts": told}


def _control(url: str) -> tuple[int, int]:
    misuses: tuple[Callable[[Session], Any], ...] = (
        lambda session: session.commit(),
        lambda session: session.execute(sa.text("commit")),
        lambda session: session.connection().commit(),
        lambda session: session.begin_nested(),
    )
    noticed = 0
    with Sessions(url) as door:
        for misuse in misuses:
            try:
                with door.begin() as session:
                    session.execute(sa.text("select 1"))
                    misuse(session)
            except errors.PolysessionError:
                noticed += 1
    return noticed, len(misuses)
