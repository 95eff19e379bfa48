"""The exits of a unit through a synchronous door: each function opens `units` units and ends all of them its way.

Nothing is judged here. What the units were told goes into the `Tally`, what else is worth counting into the answer.
"""

from __future__ import annotations

import gc
import random
import signal
import statistics
import sys
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Self

from sqlalchemy.orm import Session
from tests.engines.process import wait_until

from proofs.interrupted_logging import free_logging
from proofs.sides import Side
from proofs.tally import ROW, WHICH, Boom, Tally

__all__ = ["EXITS", "Exit"]

WORKERS: Final = 8
"""Threads over a pool of five."""
BYSTANDERS: Final = 6
"""Threads that do honest work while another is interrupted."""
_PATIENCE: Final = 10.0
"""Seconds after which a thread that waits for a lock is taken to wait for ever: a pool's own timeout is shorter."""
_FIRST: Final = 20
"""Units that are timed before the first interrupt."""


def returned(side: Side, tally: Tally, units: int, seed: int) -> Counter[str]:
    """The block ends."""

    def one(_: random.Random) -> None:
        _honest(side, tally)

    return _by_workers(one, tally, units, seed)


def raised(side: Side, tally: Tally, units: int, seed: int) -> Counter[str]:
    """The block's own exception leaves it."""

    def one(_: random.Random) -> None:
        n = tally.number()
        try:
            with side.begin() as session:
                _work(session, tally, n)
                raise Boom
        except Boom as error:
            tally.ended(n, error)
        except Exception as error:
            tally.ended(n, error, expected=False)

    return _by_workers(one, tally, units, seed)


def generator(side: Side, tally: Tally, units: int, seed: int) -> Counter[str]:
    """The unit is in a generator that is closed early, or dropped, or dropped as part of a cycle, or kept for a while.

    After each of them the thread goes on with an honest unit, which must not become a part of it.
    """

    def rows(n: int) -> Iterator[Any]:
        with side.begin() as session:
            _work(session, tally, n)
            yield from session.scalars(WHICH.where(WHICH.selected_columns.n == n))

    def idle() -> Iterator[Any]:
        with side.begin() as session:
            yield session

    def one(draw: random.Random) -> None:
        n = tally.number()
        way = draw.choice(("closed", "dropped", "in a cycle", "kept"))
        try:
            unit: Any = idle() if way == "kept" else rows(n)
            next(unit)
            if way == "closed":
                unit.close()
            elif way == "in a cycle":
                knot: list[Any] = [unit]
                knot.append(knot)
                gone = weakref.ref(unit)
                del knot, unit
                # while the collector runs in another thread it does nothing here
                wait_until(lambda: gc.collect() >= 0 and gone() is None, what="the unit was collected")
            elif way == "kept":
                _honest(side, tally)
                unit.close()
            else:
                del unit
            tally.ended(n, GeneratorExit())
        except Exception as error:
            tally.ended(n, error, expected=False)
        if way != "kept":
            _honest(side, tally)

    return _by_workers(one, tally, units, seed)


def thread_death(side: Side, tally: Tally, units: int, seed: int) -> Counter[str]:
    """A thread of its own for each unit, which dies of an error in the block."""

    def dies(n: int) -> None:
        with side.begin() as session:
            _work(session, tally, n)
            raise Boom

    return _by_dying_threads((dies,), side, tally, units, seed)


def left_open(side: Side, tally: Tally, units: int, seed: int) -> Counter[str]:
    """A thread of its own for each unit, which ends and leaves the unit, or an open session, behind."""

    def leaves_session(n: int) -> None:
        _work(side.open(), tally, n)

    def leaves_unit(n: int) -> None:
        unit = side.begin()
        _work(unit.__enter__(), tally, n)

    seen = _by_dying_threads((leaves_session, leaves_unit), side, tally, units, seed)
    seen["left open"] = tally.begun - tally.unexpected.total()
    return seen


def interrupted(side: Side, tally: Tally, units: int, seed: int) -> Counter[str]:
    """A real signal raises KeyboardInterrupt at a random moment: on the way in, in the block or on the way out.

    The first half of the units is alone; during the second half other threads work through the same pool.
    """
    seen: Counter[str] = Counter()
    turns = threading.Semaphore(0)
    with Alarm() as alarm:
        _interrupted(side, tally, units // 2, random.Random(seed), alarm, seen, threading.Semaphore(0))
        over = threading.Event()
        bystanders = [
            threading.Thread(target=_by_turns, args=(turns, over, side, tally), name=f"bystander {number}", daemon=True)
            for number in range(BYSTANDERS)
        ]
        for thread in bystanders:
            thread.start()
        try:
            _interrupted(side, tally, units - units // 2, random.Random(seed + 1), alarm, seen, turns)
        finally:
            over.set()
            turns.release(BYSTANDERS)
            for thread in bystanders:
                thread.join(_PATIENCE)
            side.stuck = any(thread.is_alive() for thread in bystanders)
    seen["swallowed by a finalizer"] = alarm.swallowed
    seen["blocked for ever"] = alarm.again + sum(thread.is_alive() for thread in bystanders)
    seen["units of bystanders"] = tally.begun - units - 2 * _FIRST
    return seen


def _interrupted(
    side: Side,
    tally: Tally,
    units: int,
    draw: random.Random,
    alarm: Alarm,
    seen: Counter[str],
    turns: threading.Semaphore,
) -> None:
    usual = statistics.median(_timed(side, tally) for _ in range(_FIRST))
    for _ in range(units):
        if tally.starved or alarm.again:
            break
        turns.release(BYSTANDERS)
        n = tally.number()
        where = "on the way in"
        began = time.perf_counter()
        try:
            try:
                alarm.set(draw.uniform(0.02, 1.05) * usual)
                with side.begin() as session:
                    where = "in the block"
                    _work(session, tally, n)
                    where = "on the way out"
            finally:
                alarm.off()
                free_logging()
        except KeyboardInterrupt as error:
            tally.ended(n, error)
            seen[f"interrupted {where}"] += 1
        except Exception as error:
            tally.ended(n, error, expected=alarm.rang)
            seen["came out as another error"] += alarm.rang
        else:
            tally.ended(n)
            seen["without effect" if alarm.rang else "too late"] += 1
            usual += 0.05 * (min(time.perf_counter() - began, 4 * usual) - usual)


class Alarm:
    """Raises a KeyboardInterrupt in the main thread, by SIGALRM; a second one if the first did not get it anywhere.

    Gives back the timer that it found.
    """

    def __enter__(self) -> Self:
        self.rang = False
        self.swallowed = self.again = 0
        self._armed = False
        self._found = (time.monotonic(), *signal.setitimer(signal.ITIMER_REAL, 0))
        self._handler = signal.signal(signal.SIGALRM, self._ring)
        self._unraisable, sys.unraisablehook = sys.unraisablehook, self._swallow
        return self

    def __exit__(self, *_: object) -> None:
        self.off()
        sys.unraisablehook = self._unraisable
        signal.signal(signal.SIGALRM, self._handler)
        since, left, every = self._found
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(0.001, left - (time.monotonic() - since)), every)

    def set(self, seconds: float) -> None:
        """Ring after `seconds`."""
        self.rang = False
        self._armed = True
        signal.setitimer(signal.ITIMER_REAL, seconds, _PATIENCE)

    def off(self) -> None:
        """Do not ring."""
        self._armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _ring(self, *_: object) -> None:
        if self._armed:
            self.again += self.rang
            self.rang = True
            raise KeyboardInterrupt

    def _swallow(self, unraisable: Any) -> None:
        if isinstance(unraisable.exc_value, KeyboardInterrupt):
            self.swallowed += 1  # it came while a finalizer ran, where Python drops every error
        elif getattr(unraisable.object, "__qualname__", "") == "MySQLResult.__del__":
            pass  # PyMySQL's result looks at an attribute that it lacks if it was interrupted while it was made
        else:
            self._unraisable(unraisable)


def _work(session: Session, tally: Tally, n: int) -> None:
    session.execute(ROW, {"n": n})
    tally.answered(n, session.scalars(WHICH.where(WHICH.selected_columns.n == n)).first())


def _honest(side: Side, tally: Tally) -> None:
    n = tally.number()
    try:
        with side.begin() as session:
            _work(session, tally, n)
    except Exception as error:
        tally.ended(n, error, expected=False)
    else:
        tally.ended(n)


def _timed(side: Side, tally: Tally) -> float:
    began = time.perf_counter()
    if not tally.starved:
        _honest(side, tally)
    return time.perf_counter() - began


def _by_turns(turns: threading.Semaphore, over: threading.Event, side: Side, tally: Tally) -> None:
    """One unit for each permit: as many as the interrupted thread has time for, not as many as there is time for."""
    while turns.acquire() and not over.is_set() and not tally.starved:
        _honest(side, tally)


def _by_workers(one: Callable[[random.Random], None], tally: Tally, units: int, seed: int) -> Counter[str]:
    def work(number: int) -> None:
        draw = random.Random(seed * WORKERS + number)
        for _ in range(number, units, WORKERS):
            if not tally.starved:
                one(draw)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Counter()


def _by_dying_threads(
    ends: Sequence[Callable[[int], None]], side: Side, tally: Tally, units: int, seed: int
) -> Counter[str]:
    draw = random.Random(seed)

    def run(end: Callable[[int], None], n: int) -> None:
        try:
            end(n)
            tally.ended(n, GeneratorExit())
        except Boom as error:
            tally.ended(n, error)
            raise
        except Exception as error:
            tally.ended(n, error, expected=False)

    quiet, threading.excepthook = threading.excepthook, lambda _: None
    try:
        while tally.begun < units and not tally.starved:
            batch = [
                threading.Thread(target=run, args=(draw.choice(ends), tally.number()))
                for _ in range(min(side.writers, WORKERS, units - tally.begun))
            ]
            for thread in batch:
                thread.start()
            while any(thread.is_alive() for thread in batch):
                batch[-1].join(0.01)
                gc.collect()  # a session in a transaction is a cycle: it keeps its connection and locks until collected
            gc.collect()
    finally:
        threading.excepthook = quiet
    return Counter()


Exit = Callable[[Side, Tally, int, int], Counter[str]]

EXITS: Final[Mapping[str, Exit]] = {
    "return": returned,
    "exception": raised,
    "generator": generator,
    "thread death": thread_death,
    "left open": left_open,
    "interrupt": interrupted,
}
"""By the name of the exit."""
