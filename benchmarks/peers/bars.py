"""The bars by which polysession is judged, and how the measurements fare against them. Pure.

A bar is written down before the measurement, and what does not reach it is shown as such.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from . import counted, several, sqlite, tasks, threads
from .works import AT_ONCE, CHANGE, NOTHING, READ, TEN, WRITE

__all__ = ["ASYNCPG", "BARS", "PSYCOPG", "SYNC", "Bar", "Judged", "judge"]

Of = Literal["value", "ratio"]
"""What has to reach the bar: our figure itself, or its ratio to the peer's."""

SYNC: Final = "psycopg"
PSYCOPG: Final = "psycopg, asyncio"
ASYNCPG: Final = "asyncpg, asyncio"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """What one figure must be."""

    figure: str
    kind: str
    work: str
    where: str
    bar: float
    of: Of = "value"
    peer: str | None = None
    """The side that ours is compared with, or that is shown beside it."""
    peer_work: str | None = None
    """What the peer does instead of `work`."""
    side: str = threads.OURS
    link_ms: float | None = None
    key: str = "value"
    """Which number of the measurement."""
    unit: str = ""
    most: bool = True
    """Ours may be at most the bar; else at least."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A bar with what was measured; None is what was not."""

    bar: Bar
    ours: float | None
    theirs: float | None

    @property
    def ratio(self) -> float | None:
        """Ours to theirs."""
        return self.ours / self.theirs if self.ours is not None and self.theirs else None

    @property
    def met(self) -> bool:
        """Whether the bar is reached."""
        found = self.ours if self.bar.of == "value" else self.ratio
        if found is None:
            return False
        return found <= self.bar.bar if self.bar.most else found >= self.bar.bar


def _trips() -> Iterable[Bar]:
    for where, peer, bars in (
        (SYNC, threads.POOL, (1, 2, 3)),
        (PSYCOPG, tasks.PSYCOPG_POOL, (1, 2, 3)),
        (ASYNCPG, tasks.ASYNCPG_POOL, (1, 2, 3)),
    ):
        for work, bar in zip((READ, WRITE, CHANGE), bars, strict=True):
            yield Bar(figure=f"round trips: {work}", kind="trips", work=work, where=where, bar=bar, peer=peer)
        for work, bar in ((WRITE, 1), (CHANGE, 2)):
            figure = f"round trips: {work}, in one flight"
            yield Bar(figure=figure, kind="trips", work=work, where=where, bar=bar, peer=peer, side=threads.ONE_FLIGHT)
        figure = "round trips: a unit that does nothing"
        yield Bar(figure=figure, kind="trips", work=NOTHING, where=where, bar=0, peer=peer)


def _instructions() -> Iterable[Bar]:
    yield Bar(
        figure="instructions: an empty read unit",
        kind="instructions",
        work=NOTHING,
        where=SYNC,
        bar=45,
        peer=counted.WITH_CONNECTION,
        unit="ki",
    )
    for where, peer in ((SYNC, threads.SESSION), (PSYCOPG, tasks.SESSION), (ASYNCPG, tasks.SESSION)):
        figure = "instructions: `get` of a row"
        yield Bar(
            figure=figure, kind="instructions", work=READ, where=where, bar=0.60, of="ratio", peer=peer, unit="ki"
        )
    yield Bar(
        figure="instructions: who opened a unit",
        kind="instructions",
        work=counted.ORIGIN,
        where=SYNC,
        bar=5,
        peer=counted.STACK,
        unit="ki",
    )


BARS: Final[Sequence[Bar]] = (
    *_trips(),
    *_instructions(),
    Bar(
        figure="CPU of client and server: read a row",
        kind="cpu",
        work="both",
        where=SYNC,
        bar=0.50,
        of="ratio",
        peer=threads.SESSION,
        unit="µs",
    ),
    *(
        Bar(
            figure="time: read a row, 0.5 ms away",
            kind="wall",
            work=READ,
            where=where,
            bar=bar,
            of="ratio",
            peer=peer,
            link_ms=0.5,
            unit="µs",
        )
        for where, peer, bar in ((SYNC, threads.POOL, 0.55), (ASYNCPG, tasks.ASYNCPG_POOL, 0.75))
    ),
    *(
        Bar(
            figure=f"reads in a second, 0.5 ms away, {workers}",
            kind="rate",
            work=READ,
            where=where,
            bar=bar,
            of="ratio",
            peer=peer,
            unit="/s",
            most=False,
        )
        for where, peer, bar, workers in (
            (SYNC, threads.POOL, 0.90, "16 threads"),
            (ASYNCPG, tasks.ASYNCPG_POOL, 0.50, "64 tasks"),
        )
    ),
    Bar(
        figure="turns, most to median: threads, 10 connections",
        kind="turns",
        work="hold",
        where=SYNC,
        bar=1.1,
        peer="QueuePool",
    ),
    Bar(
        figure="turns, most to median: tasks, 20 connections",
        kind="turns",
        work="hold",
        where=ASYNCPG,
        bar=1.1,
        peer="AsyncAdaptedQueuePool",
    ),
    Bar(
        figure="the longest wait of these tasks",
        kind="turns",
        work="hold",
        where=ASYNCPG,
        bar=0.6,
        of="ratio",
        peer="AsyncAdaptedQueuePool",
        key="wait_most_ms",
        unit="ms",
    ),
    Bar(
        figure="many engines: memory of each after its use",
        kind="engines",
        work="memory",
        where=SYNC,
        bar=10,
        side="polysession, begin",
        peer="SQLAlchemy",
        unit="KiB",
    ),
    Bar(
        figure="many engines: round trips of a first connection",
        kind="engines",
        work="first connection",
        where=SYNC,
        bar=3,
        side="polysession, begin",
        peer="SQLAlchemy",
    ),
    *(
        Bar(
            figure="time: ten reads at once, 2 ms away, to one by one",
            kind="wall",
            work=AT_ONCE,
            where=where,
            bar=0.15,
            of="ratio",
            peer=peer,
            peer_work=TEN,
            link_ms=2.0,
            unit="µs",
        )
        for where, peer in ((SYNC, threads.POOL), (PSYCOPG, tasks.PSYCOPG_POOL))
    ),
    *(
        Bar(
            figure="time: a query over 16 databases, 2 ms away, to one after another",
            kind="several",
            work=several.SIDE_BY_SIDE,
            where=where,
            bar=0.08,
            of="ratio",
            peer=peer,
            peer_work=several.ONE_BY_ONE,
            unit="µs",
        )
        for where, peer in ((SYNC, threads.SESSION), (ASYNCPG, tasks.SESSION), (PSYCOPG, tasks.SESSION))
    ),
    Bar(
        figure="time: read a row, SQLite under asyncio",
        kind="sqlite",
        work=READ,
        where=sqlite.DRIVER,
        side=sqlite.RUN_SYNC,
        bar=0.35,
        of="ratio",
        peer=tasks.SESSION,
        unit="µs",
    ),
)


def judge(rows: Sequence[Mapping[str, Any]], bars: Iterable[Bar] = BARS) -> list[Judged]:
    """Every bar with the measurements that belong to it."""
    return [
        Judged(
            bar,
            _found(rows, bar, bar.side, bar.work),
            _found(rows, bar, bar.peer, bar.peer_work or bar.work) if bar.peer is not None else None,
        )
        for bar in bars
    ]


def _found(rows: Sequence[Mapping[str, Any]], bar: Bar, side: str, work: str) -> float | None:
    wanted = {"kind": bar.kind, "where": bar.where, "side": side, "work": work}
    if bar.link_ms is not None:
        wanted["link_ms"] = str(bar.link_ms)
    for row in rows:
        if all(str(row.get(key)) == value for key, value in wanted.items()):
            return float(row[bar.key])
    return None
