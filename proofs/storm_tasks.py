"""A storm of cancellations over the units of an asynchronous side, of every kind that asyncio and anyio know.

Each unit writes its number, reads it back and writes its negative, so that a half of a unit shows. It has one of
several shapes, and is cancelled in one of several ways, most of which can come at any moment from before its door to
after it. Nothing is judged here.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any, Final, TypeAlias

import anyio
from sqlalchemy.ext.asyncio import AsyncSession

from polysession.facts import outcome_of
from proofs.exits_tasks import stepped
from proofs.sides import AsyncSide
from proofs.tally import ROW, WHICH, Boom, Tally

__all__ = ["KINDS", "TaskStorm"]

WORKERS: Final = 8
"""Tasks over a pool of five."""
_FIRST: Final = 20
"""Units that are measured before the first cancellation."""

Work: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


class TaskStorm:
    """The storm over one side."""

    def __init__(self, side: AsyncSide, tally: Tally, units: int, seed: int) -> None:
        self.side = side
        self.tally = tally
        self.units = units
        self.seed = seed
        self.seen: Counter[str] = Counter()
        self.slowest = 0.0
        """Seconds from a cancellation to the end of its task, at most."""
        self._steps = 0
        self._usual = 0.0

    async def run(self) -> None:
        """As many cancellations that came in time as there are units, or four times as many units."""
        await self._measure()
        await asyncio.gather(*(self._work(number) for number in range(WORKERS)))
        self.seen["suspensions of a unit"] = self._steps

    async def _measure(self) -> None:
        counts, times = [], []
        for _ in range(_FIRST):
            if self.tally.starved:
                return
            began = time.perf_counter()
            counts.append(await stepped(self._unit("begin", None), 0, lambda: None))
            times.append(time.perf_counter() - began)
        self._steps, self._usual = max(counts), statistics.median(times)

    async def _work(self, number: int) -> None:
        draw = random.Random(self.seed * WORKERS + number)
        kinds = sorted(KINDS)
        draw.shuffle(kinds)
        for turn in range(number, 4 * self.units, WORKERS):
            if self.tally.starved or self.seen["in time"] >= self.units:
                return
            kind = kinds[turn // WORKERS % len(kinds)]
            await asyncio.create_task(self._one(kind, draw))

    async def _one(self, kind: str, draw: random.Random) -> None:
        shape = draw.choice(tuple(_SHAPES))
        before = self.seen["in time"]
        await KINDS[kind](self, draw, lambda: self._unit(shape, None))
        self.seen[f"{kind}: in time"] += self.seen["in time"] - before  # roughly: others go on meanwhile

    async def _unit(self, shape: str, seconds: float | None) -> None:
        """One unit; what it was told is noted inside of whatever will swallow its cancellation."""
        task = asyncio.current_task()
        assert task is not None
        n = self.tally.number()
        cancelling = task.cancelling()
        try:
            if seconds is None:
                await _SHAPES[shape](self.side, self.tally, n)
            else:
                async with self.side.within(seconds) as session:
                    await _all_of_it(session, self.tally, n)
        except asyncio.CancelledError as cancelled:
            self._told(n, cancelled, shape)
            raise
        except TimeoutError as late:
            self.seen["came out as another error"] += seconds is None and shape != "session"
            self.seen["left cancelling"] += task.cancelling() > cancelling
            self._told(n, late, shape, expected=seconds is not None)
        except Exception as error:
            self.seen["came out as another error"] += shape != "session"
            self.tally.ended(n, error, expected=False)
        else:
            self.tally.ended(n)
            if task.cancelling() > cancelling:
                self.seen["swallowed"] += 1

    def _told(self, n: int, error: BaseException, shape: str, *, expected: bool = True) -> None:
        self.seen["in time"] += 1
        if shape == "session":
            self.tally.owned.add(n)
        elif outcome_of(error) is None:
            self.seen["not told"] += 1
        self.tally.ended(n, error, expected=expected)

    # -- the ways to cancel

    async def at_a_step(self, draw: random.Random, unit: Work) -> None:
        """`Task.cancel` when the unit suspends for the k-th time, or some steps of the loop later."""
        loop = asyncio.get_running_loop()
        at, late = draw.randint(1, max(1, self._steps)), draw.choice((0, 0, 1, 2, 3))
        self.seen[f"suspension {at:02}"] += 1

        def after(steps: int, task: asyncio.Task[Any]) -> None:
            if steps:
                loop.call_soon(after, steps - 1, task)
            else:
                task.cancel()

        async def whole() -> None:
            task = asyncio.current_task()
            assert task is not None
            await stepped(unit(), at, lambda: after(late, task))

        await self._ended(asyncio.create_task(whole()))

    async def at_a_time(self, draw: random.Random, unit: Work) -> None:
        """`Task.cancel` after a random time."""
        task = asyncio.create_task(unit())
        asyncio.get_running_loop().call_later(self._any_moment(draw), task.cancel)
        await self._ended(task)

    async def twice(self, draw: random.Random, unit: Work) -> None:
        """`Task.cancel` after a random time, and again while it cleans up."""
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(unit())
        first = self._any_moment(draw)
        loop.call_later(first, task.cancel)
        loop.call_later(first + draw.uniform(0, 0.002), task.cancel)
        await self._ended(task)

    async def by_timeout(self, draw: random.Random, unit: Work) -> None:
        """`asyncio.timeout`."""
        seconds = self._any_moment(draw)

        async def whole() -> None:
            async with asyncio.timeout(seconds):
                await unit()

        await self._ended(asyncio.create_task(whole()))

    async def by_sibling(self, draw: random.Random, unit: Work) -> None:
        """Another task of its `TaskGroup` fails."""
        seconds = self._any_moment(draw)

        async def fail() -> None:
            await asyncio.sleep(seconds)
            raise Boom

        async def whole() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(unit())
                group.create_task(fail())

        await self._ended(asyncio.create_task(whole()))

    async def by_scope(self, draw: random.Random, unit: Work) -> None:
        """A cancel scope of anyio, which cancels again and again until its block is left."""
        seconds = self._any_moment(draw)

        async def whole() -> None:
            with anyio.move_on_after(seconds):
                await unit()

        await self._ended(asyncio.create_task(whole()))

    async def by_deadline(self, draw: random.Random, unit: Work) -> None:
        """The unit's own deadline; `asyncio.timeout` around it where the side knows none."""
        del unit
        await self._ended(asyncio.create_task(self._unit("begin", self._any_moment(draw))))

    def _any_moment(self, draw: random.Random) -> float:
        return draw.uniform(0.02, 1.1) * self._usual * min(WORKERS, self.units)

    async def _ended(self, task: asyncio.Task[Any]) -> None:
        began = time.perf_counter()
        await asyncio.wait((task,))
        self.slowest = max(self.slowest, time.perf_counter() - began)
        if not task.cancelled():
            error = task.exception()
            if isinstance(error, BaseExceptionGroup):
                error = error.split(Boom)[1]
            if error is not None and not isinstance(error, TimeoutError):
                raise error


Kind: TypeAlias = Callable[[TaskStorm, random.Random, Work], Coroutine[Any, Any, None]]
KINDS: Final[Mapping[str, Kind]] = {
    "step": TaskStorm.at_a_step,
    "time": TaskStorm.at_a_time,
    "twice": TaskStorm.twice,
    "timeout": TaskStorm.by_timeout,
    "sibling": TaskStorm.by_sibling,
    "anyio": TaskStorm.by_scope,
    "deadline": TaskStorm.by_deadline,
}
"""By the name of the way."""


# -- the shapes of a unit


async def _all_of_it(session: AsyncSession, tally: Tally, n: int) -> None:
    await session.execute(ROW, {"n": n})
    tally.answered(n, (await session.scalars(WHICH.where(WHICH.selected_columns.n == n))).first())
    await session.execute(ROW, {"n": -n})


async def _begin(side: AsyncSide, tally: Tally, n: int) -> None:
    async with side.begin() as session:
        await _all_of_it(session, tally, n)


async def _savepoint(side: AsyncSide, tally: Tally, n: int) -> None:
    async with side.begin() as session:
        await session.execute(ROW, {"n": n})
        async with session.begin_nested():
            await session.execute(ROW, {"n": -n})
        with suppress(Boom):
            async with session.begin_nested():
                await session.execute(ROW, {"n": n + 1_000_000_000})
                raise Boom


async def _stream(side: AsyncSide, tally: Tally, n: int) -> None:
    async with side.begin() as session:
        await session.execute(ROW, {"n": n})
        async for found in await session.stream_scalars(WHICH.where(WHICH.selected_columns.n == n)):
            tally.answered(n, found)
        await session.execute(ROW, {"n": -n})


async def _run(side: AsyncSide, tally: Tally, n: int) -> None:
    async def work(session: AsyncSession) -> None:
        await _all_of_it(session, tally, n)

    await side.run(work)


async def _session(side: AsyncSide, tally: Tally, n: int) -> None:
    """Not a unit: its owner commits, and nobody tells what became of it."""
    async with side.open() as session:
        await _all_of_it(session, tally, n)
        await session.commit()


_SHAPES: Final[Mapping[str, Callable[[AsyncSide, Tally, int], Awaitable[None]]]] = {
    "begin": _begin,
    "savepoint": _savepoint,
    "stream": _stream,
    "run": _run,
    "session": _session,
}
