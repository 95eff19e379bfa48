"""Threads that work for tasks: kept for a while, since starting one takes longer than most of what they do.

There are as many as work at once, no fewer and no queue before them: who asks has looked that there is something to be
done (`in_thread`). The one that became idle last is used first, because what it needs is near. After a fork there are
none.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from queue import Empty, SimpleQueue

from .threads import start

__all__ = ["Job", "begin"]

Job = tuple[Callable[[], object], Callable[[], object]]
"""What is to be done, and who is told when the thread is free again."""
_IDLE = 10.0
"""Seconds without work after which a thread ends."""

_idle: list[_Worker] = []
"""Those that wait. Changed by single instructions, without a lock."""
_numbers = itertools.count(1)


class _Worker:
    def __init__(self) -> None:
        self.jobs: SimpleQueue[Job] = SimpleQueue()
        start(self._run, f"polysession unit {next(_numbers)}")

    def _run(self) -> None:
        while True:
            try:
                work, tell = self.jobs.get(timeout=_IDLE)
            except Empty:
                try:
                    _idle.remove(self)
                except ValueError:
                    continue  # somebody has it, and its work is on the way
                return
            work()
            _idle.append(self)  # first: who is told may have more work
            tell()
            del work, tell  # nothing is kept by a thread that waits


def begin(work: Callable[[], object], tell: Callable[[], object]) -> None:
    """Call `work` in a thread, then `tell`; neither may raise. Raises `RuntimeError` if no thread can be started."""
    try:
        worker = _idle.pop()
    except IndexError:
        worker = _Worker()
    worker.jobs.put((work, tell))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)
