"""Who and where: the thread or task that runs, and the line of the user's code that called us. No policy."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from types import CodeType, FrameType
from typing import Final

from greenlet import getcurrent

from ..facts import Origin, Owner
from .generators import is_left_in_time

__all__ = [
    "NOBODY", "NOBODYS", "PLAIN_CODE", "PROCESS", "Process", "caller", "caller_at", "current_task", "here", "here_now",
    "is_the_users",
]  # fmt: skip

_NOT_THE_USERS: Final = (__name__.partition(".")[0] + ".", "sqlalchemy.", "sqlmodel.")
"""Packages whose frames stand between the user's code and us."""
_LEAVES: Final = ("polysession.demo.",)
"""Parts of this package that are users of it: their frames count as the user's code."""


_known: Final[set[CodeType]] = set()
"""Code of this package that was met on the way to the user's."""
_users: Final[set[CodeType]] = set()
"""Code of the user's that has called us, so that it is known again at a glance."""
PLAIN_CODE: Final[set[CodeType]] = set()
"""Of these those of functions whose blocks end before they can be suspended by who called them (`generators`)."""
_MOST: Final = 10_000
"""Of these; a program that makes its code anew all the time is looked at each time."""


class Process:
    """The running process; a forked child gets another one, so that what it inherited can be told from its own."""

    __slots__ = ("pid",)

    def __init__(self) -> None:
        self.pid = os.getpid()


class _Current:
    """Holds the process, because a name imported from a module cannot be rebound after a fork."""

    __slots__ = ("process",)

    def __init__(self) -> None:
        self.process = Process()


PROCESS = _Current()
NOBODYS: Final = Process()
"""That of what nobody has yet."""
NOBODY: Final = Owner(0, 0, "nobody")


def _after_fork() -> None:
    PROCESS.process = Process()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def caller(depth: int = 1) -> Origin:
    """The nearest frame of the user's code, from `depth` frames above the caller's own."""
    return caller_at(sys._getframe(depth + 1))


def caller_at(frame: FrameType) -> Origin:
    """The nearest frame of the user's code, from this one on."""
    code = frame.f_code
    return Origin(code, frame.f_lasti) if code in _users else _nearest(frame)


def _nearest(frame: FrameType) -> Origin:
    """The nearest frame of the user's code, from this one on."""
    last = frame
    greenlet = None
    while True:
        code = frame.f_code
        if code in _users:
            return Origin(code, frame.f_lasti)
        if code not in _known:
            name = frame.f_globals.get("__name__", "")
            if not name.startswith(_NOT_THE_USERS) or name.startswith(_LEAVES):
                # the loop's own frames mean that the library's coroutine was made a task: it was used where it was made
                if name.startswith("asyncio."):
                    return Origin(last.f_code, last.f_lasti)
                if len(_users) < _MOST:
                    _users.add(code)
                    if is_left_in_time(code):
                        PLAIN_CODE.add(code)
                return Origin(code, frame.f_lasti)
            if name.startswith(_NOT_THE_USERS[0]):
                _known.add(code)
        last = frame
        above = frame.f_back
        if above is None:
            # SQLAlchemy's asyncio code runs below a greenlet: the user's frames are those of its parent
            greenlet = (greenlet or getcurrent()).parent
            above = greenlet.gr_frame if greenlet is not None else None
        if above is None:
            return Origin(last.f_code, last.f_lasti)
        frame = above


def is_the_users(frame: FrameType) -> bool:
    """A frame of the user's code, or of a package that is neither ours nor SQLAlchemy's."""
    name = frame.f_globals.get("__name__", "")
    return not name.startswith(_NOT_THE_USERS) or name.startswith(_LEAVES)


def current_task() -> asyncio.Task[object] | None:
    """The task that runs in this thread; None outside of an event loop."""
    loop = asyncio._get_running_loop()  # without a loop `current_task` raises, which takes ten times as long
    return None if loop is None else asyncio.current_task(loop)


def here(task: asyncio.Task[object] | None = None) -> Owner:
    """The thread and task that run now; the task need not be given."""
    return here_now(current_task() if task is None else task)


def here_now(task: asyncio.Task[object] | None) -> Owner:
    """As `here`, for who knows which task runs, or that none does."""
    name = threading.current_thread().name
    return Owner(PROCESS.process.pid, threading.get_ident(), name, None if task is None else task.get_name())
