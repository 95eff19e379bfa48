"""No false alarms: clean units of every kind, through both doors, end without an error or a warning.

A unit that does nothing wrong must never be told that it does. Kinds are drawn from a seeded generator: writing,
reading, joined, nested, independent, repeated, in generators and context managers, with hooks, savepoints, deadlines
and a sessionmaker's sessions. The units are made in parts, each in a process and a database of its own, so that all
cores work. The control makes some misuses at each door; every one of them must be noticed.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import random
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from polysession import AsyncSessions, Sessions, errors
from proofs.results import Profile, Result

__all__ = ["NAME", "run"]

NAME = "clean_units"
_QUICK: Final = 2_000
_FULL: Final = 1_000_000
_PART: Final = 25_000
"""Units of one process, about."""
_DOORS: Final = ("sync", "async")


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


def _streamed(door: Sessions, n: int) -> None:
    def ids() -> Iterator[int]:
        with door.read() as session:
            yield from session.scalars(sa.select(Entry.id).where(Entry.id.in_((n % 97, n % 89))))

    for id_ in ids():
        with door.begin() as session:
            session.merge(Entry(id=id_, value=n))


def _scoped(door: Sessions, n: int) -> None:
    @contextmanager
    def scope() -> Iterator[Session]:
        with door.begin() as session:
            yield session

    with scope() as outer, door.begin() as inner:
        inner.merge(Entry(id=n % 97, value=n))
        assert outer is inner


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
    _streamed,
    _scoped,
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


async def _a_streamed(door: AsyncSessions, n: int) -> None:
    async def ids() -> AsyncIterator[int]:
        async with door.read() as session:
            for id_ in await session.scalars(sa.select(Entry.id).where(Entry.id.in_((n % 97, n % 89)))):
                yield id_

    async for id_ in ids():
        async with door.begin() as session:
            await session.merge(Entry(id=id_, value=n))


async def _a_scoped(door: AsyncSessions, n: int) -> None:
    @asynccontextmanager
    async def scope() -> AsyncIterator[AsyncSession]:
        async with door.begin() as session:
            yield session

    async with scope() as outer, door.begin() as inner:
        await inner.merge(Entry(id=n % 97, value=n))
        assert outer is inner


_ASYNC_KINDS: Final[tuple[Callable[[AsyncSessions, int], Awaitable[None]], ...]] = (
    _a_write,
    _a_read,
    _a_nested,
    _a_repeated,
    _a_free,
    _a_streamed,
    _a_scoped,
)


def run(profile: Profile, seed: int) -> Result:
    """Half of the units through each door; one error or warning fails it."""
    units = {200: _QUICK, 10_000: _FULL}.get(profile.units, profile.units)
    parts = max(2, 2 * round(units / _PART / 2))
    labels = [f"{door} {number}" for number in range(parts // 2) for door in _DOORS]
    found = {label: cell for label in labels if (cell := profile.recall(f"{NAME} {label} {seed}")) is not None}
    workers = min(os.cpu_count() or 1, parts)
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as processes:
        running = {
            processes.submit(_part, label, units // parts, f"{seed} {label}"): label
            for label in labels
            if label not in found
        }
        for done in as_completed(running):
            cell = found[running[done]] = done.result()
            profile.keep(f"{NAME} {running[done]} {seed}", cell)
            profile.say(f"{cell}")
    cells = [found[label] for label in labels]
    noticed, tried = _misused()
    counts = {what: sum(cell[what] for cell in cells) for what in ("units", "errors", "warnings", "left")}
    clean = counts["errors"] == counts["warnings"] == counts["left"] == 0
    return Result(
        name=NAME,
        seed=seed,
        profile=profile.name if units in (_QUICK, _FULL) else f"{units:,} units",
        counts=counts,
        cells=tuple(cells),
        control=({"label": "misuses", "tried": tried, "noticed": noticed},),
        passed=clean and noticed == tried,
        why=f"{counts['units']} clean units, {counts['errors']} errors, {counts['warnings']} warnings; "
        f"of {tried} misuses {noticed} were noticed",
        seconds=sum(cell["seconds"] for cell in cells) / workers,
    )


def _part(label: str, units: int, seed: str) -> dict[str, Any]:
    """Some of the units, in this process."""
    began = time.monotonic()
    door, _, _ = label.partition(" ")
    with _database() as url, warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        threads = door == "sync"
        cell = _through_threads(url, units, seed) if threads else asyncio.run(_through_tasks(url, units, seed))
        gc.collect()
    said = Counter(f"{each.category.__name__}: {str(each.message)[:200]}" for each in seen)
    return {
        "label": label,
        **cell,
        "warnings": said.total(),
        "said": dict(said),
        "seconds": round(time.monotonic() - began),
    }


@contextmanager
def _database() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'clean.db'}"
        Base.metadata.create_all(engine := sa.create_engine(url))
        engine.dispose()
        yield url


def _through_threads(url: str, units: int, seed: str) -> dict[str, Any]:
    draw = random.Random(seed)
    failed: Counter[str] = Counter()
    with Sessions(url) as door:
        for n in range(units):
            kind = draw.choice(_KINDS)
            try:
                kind(door, n)
            except Exception as error:
                failed[f"{kind.__name__}: {type(error).__name__}: {str(error)[:200]}"] += 1
        left = len(door.held()) + door._connections_out()
        told = msgspec.structs.asdict(door.counts())
    return {"units": units, "errors": failed.total(), "left": left, "what": dict(failed), "counts": told}


async def _through_tasks(url: str, units: int, seed: str) -> dict[str, Any]:
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
        left = len(door.held()) + door._connections_out()
        told = msgspec.structs.asdict(door.counts())
    return {"units": units, "errors": failed.total(), "left": left, "what": dict(failed), "counts": told}


def _misused() -> tuple[int, int]:
    """How many misuses were noticed, of how many."""
    with _database() as url:
        noticed = [*_misused_by_threads(url), *asyncio.run(_misused_by_tasks(url))]
    return sum(noticed), len(noticed)


def _misused_by_threads(url: str) -> Iterator[bool]:
    misuses: tuple[Callable[[Session], Any], ...] = (
        lambda session: session.commit(),
        lambda session: session.execute(sa.text("commit")),
        lambda session: session.connection().commit(),
        lambda session: session.begin_nested(),
    )
    with Sessions(url) as door:
        for misuse in misuses:
            try:
                with door.begin() as session:
                    session.execute(sa.text("select 1"))
                    misuse(session)
            except errors.PolysessionError:
                yield True
            else:
                yield False


async def _misused_by_tasks(url: str) -> list[bool]:
    misuses: tuple[Callable[[AsyncSession], Awaitable[Any]], ...] = (
        lambda session: session.commit(),
        lambda session: session.execute(sa.text("commit")),
        lambda session: asyncio.create_task(session.scalar(sa.text("select 1"))),
        lambda session: session.begin_nested().start(),
    )
    noticed = []
    async with AsyncSessions(url) as door:
        for misuse in misuses:
            try:
                async with door.begin() as session:
                    await session.execute(sa.text("select 1"))
                    await misuse(session)
            except errors.PolysessionError:
                noticed.append(True)
            else:
                noticed.append(False)
    return noticed
