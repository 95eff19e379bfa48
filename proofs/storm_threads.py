"""A storm of signals and deadlines over the units of a synchronous side.

The main thread's units are interrupted by real signals, whose handler raises KeyboardInterrupt or SystemExit: at a
random time, or at the k-th line of SQLAlchemy or polysession after the unit was begun, so that every step from the
checkout to the release is hit, however short it is. In other threads, over the same pool, units end by their deadlines
meanwhile; for a side that knows no deadlines these are honest units. Nothing is judged here.
"""

from __future__ import annotations

import random
import signal
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any, Final

from sqlalchemy.orm import Session

from polysession.facts import outcome_of
from proofs.exits_threads import Alarm
from proofs.interrupted_logging import free_logging
from proofs.sides import Side
from proofs.tally import ROW, WHICH, Boom, Tally

__all__ = ["STEPS", "ThreadStorm"]

BYSTANDERS: Final = 6
_PATIENCE: Final = 10.0
_FIRST: Final = 20
_TRACED: Final = ("sqlalchemy.", "polysession.")
_SOON: Final = 0.00001
"""Seconds after the line that was chosen."""
STEPS: Final[Mapping[str, str]] = {
    "_park": "waiting for a connection",
    "_create_connection": "connecting",
    "_do_get": "checkout",
    "checkout": "checkout",
    "do_execute": "statement",
    "do_commit": "commit",
    "do_rollback": "rollback",
    "_do_return_conn": "release",
    "_finalize_fairy": "release",
    "checkin": "release",
    "connect": "checkout",
    "close": "closing the session",
    "commit": "around commit",
    "rollback": "around rollback",
    "_close_connection": "closing a connection",
    "__enter__": "entering",
    "__exit__": "leaving",
    "execute": "around a statement",
    "scalars": "around a statement",
    "run": "repeating",
}
"""By the name of a function that is running: what the unit was doing. The innermost one counts."""


class ThreadStorm:
    """The storm over one side. To be used in the main thread."""

    def __init__(self, side: Side, tally: Tally, units: int, seed: int) -> None:
        self.side = side
        self.tally = tally
        self.units = units
        self.draw = random.Random(seed)
        self.seen: Counter[str] = Counter()
        self.steps: Counter[str] = Counter()
        """What the units did when the signal came."""
        self._usual = 0.0
        self._lines = 1
        self._lock = threading.Lock()

    def run(self) -> None:
        """As many interruptions that came in time as there are units, or three times as many units."""
        self._usual = statistics.median(self._timed() for _ in range(_FIRST))
        over = threading.Event()
        turns = threading.Semaphore(0)
        threads = [
            threading.Thread(
                target=self._by_deadlines, args=(turns, over, number), name=f"deadlines {number}", daemon=True
            )
            for number in range(min(BYSTANDERS, self.side.writers))
        ]
        for thread in threads:
            thread.start()
        with _Strikes(self.steps) as strikes:
            try:
                self._by_signals(strikes, turns)
            finally:
                over.set()
                turns.release(10 * BYSTANDERS)
                for thread in threads:
                    thread.join(_PATIENCE)
                self.side.stuck = any(thread.is_alive() for thread in threads)
        self.seen["swallowed by a finalizer"] = strikes.swallowed
        self.seen["blocked for ever"] = strikes.again + sum(thread.is_alive() for thread in threads)

    def _by_signals(self, strikes: _Strikes, turns: threading.Semaphore) -> None:
        self._count_lines()
        for _ in range(3 * self.units):
            if self.tally.starved or strikes.again or self.seen["in time"] >= self.units:
                return
            turns.release()
            self._one(strikes)

    def _one(self, strikes: _Strikes) -> None:
        draw = self.draw
        error_class = draw.choice((KeyboardInterrupt, KeyboardInterrupt, SystemExit))
        shape = draw.choice(tuple(_SHAPES))
        n = self.tally.number()
        began = time.perf_counter()
        tracer = None
        try:
            try:
                if draw.random() < 0.5:
                    strikes.set(draw.uniform(0.02, 1.05) * self._usual, error_class)
                else:
                    tracer = strikes.at_line(draw.randint(1, self._lines), error_class)
                    sys.settrace(tracer)
                _SHAPES[shape](self.side, self.tally, n)
            finally:
                sys.settrace(None)
                strikes.off()
                free_logging()
        except (KeyboardInterrupt, SystemExit) as error:
            self._told(n, error, strikes)
        except Exception as error:
            if strikes.rang:
                self.seen["came out as another error"] += 1
                self._told(n, error, strikes)
            self.tally.ended(n, error, expected=strikes.rang)
        else:
            self.tally.ended(n)
            self.seen["without effect" if strikes.rang else "too late"] += 1
            if tracer is None:
                self._usual += 0.05 * (min(time.perf_counter() - began, 4 * self._usual) - self._usual)

    def _told(self, n: int, error: BaseException, strikes: _Strikes) -> None:
        if strikes.outside:  # it came before the unit or after it, and has nothing to do with it
            self.seen["outside of the unit"] += 1
            self.tally.owned.add(n)
            self.tally.ended(n, error)
            return
        with self._lock:
            self.seen["in time"] += 1
            self.seen[f"by {type(error).__name__}"] += 1
        if outcome_of(error) is None:
            # it may have come before there was a unit that could tell anything: its rows are compared all the same
            self.seen["before there was a unit" if strikes.early else "not told"] += 1
        self.tally.ended(n, error)

    def _by_deadlines(self, turns: threading.Semaphore, over: threading.Event, number: int) -> None:
        draw = random.Random(number)
        while turns.acquire() and not over.is_set() and not self.tally.starved:
            n = self.tally.number()
            seconds = draw.uniform(0.02, 1.5) * self._usual * BYSTANDERS
            try:
                with self.side.within(seconds) as session:
                    _all_of_it(session, self.tally, n)
            except TimeoutError as late:
                with self._lock:
                    self.seen["in time"] += 1
                    self.seen["by a deadline"] += 1
                    self.seen["not told"] += outcome_of(late) is None
                self.tally.ended(n, late)
            except Exception as error:
                self.tally.ended(n, error, expected=False)
            else:
                self.tally.ended(n)

    def _timed(self) -> float:
        began = time.perf_counter()
        if not self.tally.starved:
            n = self.tally.number()
            try:
                _begin(self.side, self.tally, n)
            except Exception as error:
                self.tally.ended(n, error, expected=False)
            else:
                self.tally.ended(n)
        return time.perf_counter() - began

    def _count_lines(self) -> None:
        """How many lines a unit runs through."""
        if self.tally.starved:
            return
        count = 0

        def trace(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal count
            if not frame.f_globals.get("__name__", "").startswith(_TRACED):
                return None
            count += event == "line"
            return trace

        sys.settrace(trace)
        try:
            self._timed()
        finally:
            sys.settrace(None)
        self._lines = max(1, count)


class _Strikes(Alarm):
    """Raises KeyboardInterrupt or SystemExit in the main thread, by SIGALRM, and notes where that was."""

    def __init__(self, steps: Counter[str]) -> None:
        self._steps = steps
        self._class: type[BaseException] = KeyboardInterrupt
        self.outside = False
        """It came where the unit's own code ends or has not begun."""
        self.early = False
        """The side was about to make the unit."""

    def set(self, seconds: float, error_class: type[BaseException] = KeyboardInterrupt) -> None:
        """Strike after `seconds`."""
        self._class = error_class
        self.outside = False
        super().set(seconds)

    def at_line(self, number: int, error_class: type[BaseException]) -> Callable[..., Any]:
        """A trace function that strikes at the line of this number."""
        self._class = error_class
        self.outside = False
        self.rang = False
        self._armed = True
        signal.setitimer(signal.ITIMER_REAL, _PATIENCE, _PATIENCE)
        left = number

        def trace(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal left
            if not frame.f_globals.get("__name__", "").startswith(_TRACED):
                return None
            if event == "line":
                left -= 1
                if left == 0:
                    # not raised from here: a trace function can raise where no signal can come, between the end of a
                    # `with` block and the call of its `__exit__` for example
                    sys.settrace(None)
                    signal.setitimer(signal.ITIMER_REAL, _SOON, _PATIENCE)
            return trace

        return trace

    def _ring(self, *given: Any) -> None:
        frame: FrameType | None = given[1]
        if not self._armed:
            return
        if frame is not None and frame.f_code.co_name in ("trace", "_ring") and _is_here(frame):
            signal.setitimer(signal.ITIMER_REAL, 20 * _SOON, _PATIENCE)  # when it has returned
            return
        self.again += self.rang
        self.rang = True
        step = _step(frame)
        self.early = _is_early(frame)
        self.outside = step == ""
        self._steps[step or "outside of the unit"] += 1
        raise self._class

    def _swallow(self, unraisable: Any) -> None:
        if isinstance(unraisable.exc_value, (KeyboardInterrupt, SystemExit)):
            self.swallowed += 1  # it came while a finalizer ran, where Python drops every error
        else:
            super()._swallow(unraisable)


def _step(frame: FrameType | None) -> str:
    """What the unit was doing; empty if it was not in its block and nothing of the library ran."""
    found = ""
    while frame is not None:
        name = frame.f_code.co_name
        if _is_here(frame):
            if name in ("_all_of_it", "_in_parts", "work"):
                return found or "the body"
            if name in ("_one", "_begin", "_savepoint", "_run"):
                return found
        elif frame.f_globals.get("__name__", "").startswith(_TRACED) and found in ("", _UNNAMED):
            found = STEPS.get(name, _UNNAMED)
        frame = frame.f_back
    return found


def _is_here(frame: FrameType) -> bool:
    return bool(frame.f_globals.get("__name__") == __name__)


def _is_early(frame: FrameType | None) -> bool:
    if frame is not None and frame.f_code.co_name == "__exit__" and frame.f_lineno == frame.f_code.co_firstlineno:
        return True  # the block has ended, and the first instruction of its end has not been reached
    names = set()
    while frame is not None and not _is_here(frame):
        if frame.f_globals.get("__name__", "").startswith("polysession."):
            names.add(frame.f_code.co_name)
        frame = frame.f_back
    return bool(names & {"begin", "__enter__"}) or ("run" in names and "drive" not in names)


_UNNAMED: Final = "elsewhere in the library"


# -- the shapes of a unit


def _all_of_it(session: Session, tally: Tally, n: int) -> None:
    session.execute(ROW, {"n": n})
    tally.answered(n, session.scalars(WHICH.where(WHICH.selected_columns.n == n)).first())
    session.execute(ROW, {"n": -n})


def _begin(side: Side, tally: Tally, n: int) -> None:
    with side.begin() as session:
        _all_of_it(session, tally, n)


def _savepoint(side: Side, tally: Tally, n: int) -> None:
    with side.begin() as session:
        _in_parts(session, n)


def _in_parts(session: Session, n: int) -> None:
    session.execute(ROW, {"n": n})
    with session.begin_nested():
        session.execute(ROW, {"n": -n})
    try:
        with session.begin_nested():
            session.execute(ROW, {"n": n + 1_000_000_000})
            raise Boom
    except Boom:
        return


def _run(side: Side, tally: Tally, n: int) -> None:
    def work(session: Session) -> None:
        _all_of_it(session, tally, n)

    side.run(work)


_SHAPES: Final[Mapping[str, Callable[[Side, Tally, int], None]]] = {
    "begin": _begin,
    "savepoint": _savepoint,
    "run": _run,
}
