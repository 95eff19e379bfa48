"""The exits of a unit through an asynchronous door: each function opens `units` units and ends all of them its way.

Nothing is judged here. What the units were told goes into the `Tally`, what else is worth counting into the answer.
"""

from __future__ import annotations

import asyncio
import gc
import random
import statistics
import threading
import time
import types
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Mapping
from typing import Any, Final, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from proofs.sides import AsyncSide
from proofs.tally import ROW, WHICH, Boom, Tally

__all__ = ["EXITS", "Exit", "stepped"]

T = TypeVar("T")

WORKERS: Final = 8
"""Tasks over a pool of five."""
TASKS_OF_A_LOOP: Final = 10
_FIRST: Final = 20
"""Units that are measured before the first cancellation."""


async def returned(side: AsyncSide, tally: Tally, units: int, seed: int) -> Counter[str]:
    """The block ends."""

    async def one(_: random.Random) -> None:
        await _honest(side, tally)

    return await _by_workers(one, tally, units, seed)


async def raised(side: AsyncSide, tally: Tally, units: int, seed: int) -> Counter[str]:
    """The block's own exception leaves it."""

    async def one(_: random.Random) -> None:
        n = tally.number()
        try:
            async with side.begin() as session:
                await _work(session, tally, n)
                raise Boom
        except Boom as error:
            tally.ended(n, error)
        except Exception as error:
            tally.ended(n, error, expected=False)

    return await _by_workers(one, tally, units, seed)


async def generator(side: AsyncSide, tally: Tally, units: int, seed: int) -> Counter[str]:
    """The unit is in an asynchronous generator that is closed early, or dropped, or kept for a while.

    The loop closes what was dropped. After each of them the task goes on with an honest unit, which must not become a
    part of it.
    """

    async def rows(n: int) -> AsyncIterator[Any]:
        async with side.begin() as session:
            await _work(session, tally, n)
            for row in await session.scalars(WHICH.where(WHICH.selected_columns.n == n)):
                yield row

    async def idle() -> AsyncIterator[Any]:
        async with side.begin() as session:
            yield session

    async def one(draw: random.Random) -> None:
        n = tally.number()
        way = draw.choice(("closed", "dropped", "in a cycle", "kept"))
        try:
            unit: Any = idle() if way == "kept" else rows(n)
            await anext(unit)
            if way == "closed":
                await unit.aclose()
            elif way == "in a cycle":
                knot: list[Any] = [unit]
                knot.append(knot)
                del knot, unit
                gc.collect()
            elif way == "kept":
                await _honest(side, tally)
                await unit.aclose()
            else:
                del unit
            tally.ended(n, GeneratorExit())
        except Exception as error:
            tally.ended(n, error, expected=False)
        if way != "kept":
            await _honest(side, tally)

    return await _by_workers(one, tally, units, seed)


async def cancelled(side: AsyncSide, tally: Tally, units: int, seed: int) -> Counter[str]:
    """The unit's task is cancelled at a random await, some loop steps after it, or by `asyncio.timeout`."""
    seen: Counter[str] = Counter()
    awaits, times = [], []
    for _ in range(_FIRST):
        began = time.perf_counter()
        n = tally.number()
        awaits.append(await stepped(_plain(side, tally, n), 0, lambda: None))
        tally.ended(n)
        times.append(time.perf_counter() - began)
    most, usual = max(awaits), statistics.median(times)
    loop = asyncio.get_running_loop()

    def after(steps: int, task: asyncio.Task[Any]) -> None:
        if steps:
            loop.call_soon(after, steps - 1, task)
        else:
            task.cancel()

    async def one(draw: random.Random) -> None:
        n = tally.number()
        if draw.random() < 0.5:
            at, late = draw.randint(1, most), draw.choice((0, 0, 1, 2, 3))

            async def unit() -> None:
                task = asyncio.current_task()
                assert task is not None
                await stepped(_plain(side, tally, n), at, lambda: after(late, task))
        else:
            seconds = draw.uniform(0.02, 1.1) * usual * min(WORKERS, units)

            async def unit() -> None:
                async with asyncio.timeout(seconds):
                    await _plain(side, tally, n)

        task = asyncio.create_task(unit())
        await asyncio.wait((task,))
        if task.cancelled():
            try:
                task.result()
            except asyncio.CancelledError as cancelled:
                tally.ended(n, cancelled)
                seen["cancelled"] += 1
            return
        error = task.exception()
        if error is None:
            seen["too late"] += 1
        elif isinstance(error, TimeoutError):
            seen["timed out"] += 1
        else:
            seen["came out as another error"] += 1
        tally.ended(n, error, expected=not isinstance(error, Exception) or isinstance(error, TimeoutError))

    await _by_workers(one, tally, units, seed)
    return seen


async def thread_death(side: AsyncSide, tally: Tally, units: int, seed: int) -> Counter[str]:
    """A thread with a loop of its own dies of an error while its tasks are in their blocks; `asyncio.run` ends them."""
    seen: Counter[str] = Counter()

    async def unit(n: int, opened: asyncio.Event) -> None:
        try:
            async with side.begin() as session:
                await _work(session, tally, n)
                opened.set()
                await asyncio.Event().wait()
        except BaseException as error:
            tally.ended(n, error, expected=isinstance(error, asyncio.CancelledError))
            opened.set()
            raise

    async def main(numbers: list[int]) -> None:
        asyncio.get_running_loop().set_exception_handler(tally.complain)
        opened = [asyncio.Event() for _ in numbers]
        tasks = [asyncio.create_task(unit(n, event)) for n, event in zip(numbers, opened, strict=True)]
        await opened[0].wait()
        raise Boom(tasks)

    def run(numbers: list[int]) -> None:
        asyncio.run(main(numbers))

    quiet, threading.excepthook = threading.excepthook, lambda _: None
    try:
        while tally.begun < units and not tally.starved:
            numbers = [tally.number() for _ in range(min(TASKS_OF_A_LOOP, units - tally.begun))]
            thread = threading.Thread(target=run, args=(numbers,))
            thread.start()
            await asyncio.to_thread(thread.join)
            seen["loops that died"] += 1
    finally:
        threading.excepthook = quiet
    gc.collect()
    return seen


async def left_open(side: AsyncSide, tally: Tally, units: int, seed: int) -> Counter[str]:
    """The unit's task ends and leaves the unit, or an open session, behind."""
    seen: Counter[str] = Counter()
    room = asyncio.Semaphore(side.writers)

    async def leaves_session(n: int) -> None:
        await _work(side.open(), tally, n)

    async def leaves_unit(n: int) -> None:
        unit = side.begin()
        await _work(await unit.__aenter__(), tally, n)

    async def one(draw: random.Random) -> None:
        n = tally.number()
        leaves = draw.choice((leaves_session, leaves_unit))
        async with room:
            try:
                await asyncio.create_task(leaves(n))
                tally.ended(n, GeneratorExit())
                seen["left open"] += 1
            except Exception as error:
                tally.ended(n, error, expected=False)
            gc.collect()  # a session in a transaction is a cycle: it keeps its connection and locks until collected

    await _by_workers(one, tally, units, seed)
    return seen


@types.coroutine
def stepped(work: Coroutine[Any, Any, Any], at: int, act: Callable[[], None]) -> Generator[Any, Any, int]:
    """Await `work` and call `act` when it suspends for the `at`-th time; how often it suspended."""
    count = 0
    value: Any = None
    error: BaseException | None = None
    while True:
        try:
            waited_for = work.send(value) if error is None else work.throw(error)
        except StopIteration:
            return count
        count += 1
        if count == at:
            act()
        try:
            value, error = (yield waited_for), None
        except BaseException as thrown:
            value, error = None, thrown


async def _work(session: AsyncSession, tally: Tally, n: int) -> None:
    await session.execute(ROW, {"n": n})
    tally.answered(n, (await session.scalars(WHICH.where(WHICH.selected_columns.n == n))).first())


async def _plain(side: AsyncSide, tally: Tally, n: int) -> None:
    async with side.begin() as session:
        await _work(session, tally, n)


async def _honest(side: AsyncSide, tally: Tally) -> None:
    n = tally.number()
    try:
        await _plain(side, tally, n)
    except Exception as error:
        tally.ended(n, error, expected=False)
    else:
        tally.ended(n)


async def _by_workers(
    one: Callable[[random.Random], Coroutine[Any, Any, None]], tally: Tally, units: int, seed: int
) -> Counter[str]:
    async def work(number: int) -> None:
        draw = random.Random(seed * WORKERS + number)
        for _ in range(number, units, WORKERS):
            if not tally.starved:
                await one(draw)

    await asyncio.gather(*(work(number) for number in range(WORKERS)))
    return Counter()


Exit = Callable[[AsyncSide, Tally, int, int], Coroutine[Any, Any, Counter[str]]]

EXITS: Final[Mapping[str, Exit]] = {
    "return": returned,
    "exception": raised,
    "generator": generator,
    "thread death": thread_death,
    "left open": left_open,
    "cancel": cancelled,
}
"""By the name of the exit."""
