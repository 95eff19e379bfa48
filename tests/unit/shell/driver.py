"""A driver's connections without a database, and interrupts at any line."""

from __future__ import annotations

import linecache
import sys
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any

from polysession._core.queue import Queue

__all__ = ["EVENTS", "Connection", "Driver", "Line", "interrupt_at"]

EVENTS = ["line", "opcode"] if sys.version_info < (3, 12) else ["line"]
"""Since Python 3.12, whose tracing is built anew, opcodes are traced only in frames that are entered after the request
for them (gh-114986): there one place is found, where Python 3.11 has more than sixty."""


class Connection:
    """What a driver's `connect()` answers."""

    def __init__(self) -> None:
        self.closed = False

    def rollback(self) -> None:
        """Nothing to undo."""
        assert not self.closed

    def close(self) -> None:
        """Give it back to the server."""
        self.closed = True


class Driver:
    """Makes connections and knows which are open and in anybody's reach."""

    def __init__(self, most: int | None = None) -> None:
        self.most = most
        self.made = 0
        self.fails: type[BaseException] | None = None
        self._links: list[weakref.ref[Connection]] = []

    def __call__(self) -> Connection:
        """Connect. Fails if there would be more than `most` open ones: the limit of the server."""
        if self.fails is not None:
            raise self.fails("no connection")
        assert self.most is None or self.open < self.most, f"more than {self.most} connections are open"
        link = Connection()
        self.made += 1
        self._links.append(weakref.ref(link))
        return link

    @property
    def open(self) -> int:
        """Connections that are open."""
        return sum(link is not None and not link.closed for link in (ref() for ref in self._links))


def interrupt_at(number: int, files: tuple[str, ...], work: Callable[[], Any], *, event: str = "line") -> bool:
    """Run `work`; raise KeyboardInterrupt before the `number`-th line (or opcode) of `files`. False: it has fewer.

    Passed over are lines that take or release a lock by `with`, a bare `try`, and instructions without a line, which
    begin a handler: the interpreter handles no signal there, though a trace function could raise (CPython,
    Python/ceval.c, CHECK_EVAL_BREAKER).
    """
    left = number
    raised = False

    def trace_inside(frame: FrameType, now: str, _: Any) -> Any:
        nonlocal left, raised
        if now == event and not raised:
            line = linecache.getline(frame.f_code.co_filename, frame.f_lineno or 0).strip()
            if line not in ("", "try:") and not (line.startswith("with ") and "lock" in line):
                left -= 1
                if left == 0:
                    raised = True
                    raise KeyboardInterrupt
        return trace_inside

    def trace(frame: FrameType, _: str, __: Any) -> Any:
        if raised or not frame.f_code.co_filename.endswith(files):
            return None
        frame.f_trace_opcodes = event == "opcode"
        return trace_inside

    before, hook = sys.gettrace(), sys.unraisablehook
    sys.unraisablehook = lambda _: None  # what is raised in a finalizer goes there
    sys.settrace(trace)
    try:
        work()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)
        sys.unraisablehook = hook
    return raised


class Line(Queue[Any]):
    """A queue that remembers in which order was asked and served."""

    def __init__(self) -> None:
        super().__init__()
        self.asked_in_turn: list[int] = []
        self.served_in_turn: list[int] = []
        self.kept: list[Any] = []
        """So that none has the number of another one."""

    def join(self, waiter: Any) -> None:
        """Remember it."""
        self.kept.append(waiter)
        self.asked_in_turn.append(id(waiter))
        super().join(waiter)

    def served(self, waiter: Any) -> None:
        """Remember it."""
        self.served_in_turn.append(id(waiter))
        super().served(waiter)
