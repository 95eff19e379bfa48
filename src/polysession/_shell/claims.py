"""Who asks for a connection, and what it got: a claim holds a seat for as long as somebody has a use for it.

A KeyboardInterrupt may land between any two instructions of a checkout or a checkin, so nothing relies on a counter:
every connection that is out or being opened has a `Claim`, and a claim holds as long as the call that took it runs or
the connection that came of it is in somebody's hands. `ConnectionPoolEntry.fairy_ref` tells the latter.
"""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from sqlalchemy.pool import ConnectionPoolEntry

from .._core.seats import Ticket
from .places import current_task

if TYPE_CHECKING:
    from .pool import FairPool

__all__ = ["OPENER", "Asker", "Attempt", "Claim", "Growth", "asking", "opening", "starting"]


class Asker(Protocol):
    """Who asks for a connection: what the error text says of the holders."""

    name: str

    def describe(self) -> str:
        """Who it is and where it was opened: `task 'import' at billing/load.py:88 in load`."""

    def held_by(self) -> object | None:
        """The task, or the number of the thread, that must go on for its connection to come back; None if anybody may
        see to that."""

    def waits_until(self) -> float | None:
        """Its deadline in seconds of `time.monotonic()`; None if it has none."""

    def waited(self, seconds: float) -> None:
        """It waited so long for a connection. Raises its own error if its deadline has passed."""

    def refuse_outside(self) -> None:
        """Raise if it may have no connection here, since this is a block of `outside()`."""


class _Opener:
    """Who has a seat while a connection is opened for others."""

    name = "a connection that is being opened"

    def describe(self) -> str:
        """What is shown among the holders."""
        return self.name

    def held_by(self) -> object | None:
        """It comes back by itself."""

    def waits_until(self) -> float | None:
        """It does not wait."""

    def waited(self, seconds: float) -> None:
        """It does not wait."""

    def refuse_outside(self) -> None:
        """It opens one for others."""


OPENER = _Opener()


class _Asking(threading.local):
    """The unit or session for which this thread asks for a connection just now; None if nobody said so."""

    asker: Asker | None = None


asking = _Asking()


class Attempt(msgspec.Struct, weakref=True, eq=False):
    """One call of `connect`, alive as long as the call runs: what it has claimed and not delivered is lost with it."""

    claim: Claim | None = None

    def claims(self, pool: FairPool, asker: Asker | None) -> Claim:
        """What it claims of `pool` from now on, for `asker`, or for whoever runs now."""
        now = time.monotonic()
        task = current_task() if asker is None and pool._is_asyncio else None  # that of an asker is known
        claim = self.claim = Claim(
            pool.kind,
            now,
            pool=pool,
            asker=asker,
            attempt=weakref.ref(self),
            thread=threading.get_ident(),
            task=None if task is None else weakref.ref(task),
            since=now,
        )
        return claim


class Growth:
    """One connection that is being opened beside, alive as long as the thread or task that opens it."""

    __slots__ = ("__weakref__", "begun")

    def __init__(self) -> None:
        self.begun = False
        """Somebody is at it. Before that it may have been left by an interrupt, whose error keeps it alive for as long
        as somebody keeps that."""


class _Starting(threading.local):
    """Carries the attempt from `connect` to `_do_get`, between which nothing else runs in this thread."""

    attempt: Attempt | None = None


class _Opening(threading.local):
    """Tells who connects until when the connection is wanted, in seconds of `time.monotonic()`; None: no limit."""

    until: float | None = None
    within: float | None = None
    """Or so many seconds."""


starting = _Starting()
opening = _Opening()


class Claim(Ticket[ConnectionPoolEntry], kw_only=True, eq=False):
    """A request for a connection, and then the connection that is out: for whom, and since when."""

    pool: FairPool
    asker: Asker | None
    attempt: weakref.ref[Attempt]
    thread: int
    task: weakref.ref[asyncio.Task[Any]] | None
    """The task that asks, if no asker is known."""
    since: float
    handed_out: bool = False
    """SQLAlchemy has the connection and may have touched it."""
    missing_since: float | None = None
    error: BaseException | None = None
    """Why no connection could be opened for it."""
    begun: bool = False
    """Somebody is at opening a connection on its seat, for others or for it."""
    called_off: bool = False
    """Nobody may begin that any more."""
    growing: bool = False
    """A connection is being opened for it beside, so a seat alone is of no use to it."""
    opens_since: float = float("inf")
    """When the first one was begun, in seconds of `time.monotonic()`."""
    growths: list[weakref.ref[Growth]] | None = None
    """The connections that are being opened for it, each for as long as somebody is at it; None before that. Not in a
    `WeakSet`: an interrupt that comes as one is taken out of it leaves it in for ever, and is told to nobody."""
    refused: bool = False
    """More come than can be served, and it has waited for too long."""
    opening: asyncio.Task[Any] | None = None
    """For asyncio: the task that opens its connection; if there are several, the last one."""
    left: bool = False
    """Whoever asked waits no more for the connection that is being opened."""
    severed: bool = False
    """Its link was broken: it is closed when it comes back."""
    parked: object = None
    """What its waiter is parked on: a lock or a future."""

    def __str__(self) -> str:
        if self.asker is not None:
            return self.asker.describe()
        if self.task is not None and (task := self.task()) is not None:
            return f"task {task.get_name()!r}"
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        return f"thread {names.get(self.thread, self.thread)!r}"

    def taken_error(self) -> BaseException:
        """Its error, for raising. Once raised, an error holds the frames of the call that took the claim, and with them
        its attempt: a claim that kept it would look as if that call still ran."""
        error, self.error = self.error, None
        assert error is not None
        return error

    @property
    def is_stranded(self) -> bool:
        """It waited in an event loop that was closed, and nothing can wake it any more."""
        return isinstance(self.parked, asyncio.Future) and self.parked.get_loop().is_closed()

    def grows(self, growth: Growth) -> None:
        """A connection is about to be opened for it beside. Under the lock of its room."""
        self.growths = [*(self.growths or ()), weakref.ref(growth)]

    def grown(self, growth: Growth) -> bool:
        """That one is not being opened any more; whether others are. Under the lock of its room."""
        others = [one for one in self.growths or () if one() is not growth and one() is not None]
        self.growths = others
        return bool(others)

    @property
    def beside(self) -> int:
        """So many connections are being opened for it."""
        return sum(growth() is not None for growth in self.growths or ())

    @property
    def is_opening(self) -> bool:
        """Its connection is being opened, whether or not whoever asked still waits for it."""
        growths = [growth for one in self.growths or () if (growth := one()) is not None]
        # who waits for one sees to it that it is begun
        at_it = bool(growths) if not self.left else any(growth.begun for growth in growths)
        return at_it and not (self.opening is not None and self.opening.get_loop().is_closed())

    @property
    def is_held(self) -> bool:
        """The call that took the connection still runs, or what it delivered is in somebody's hands."""
        if self.is_opening:
            return True
        if not self.left and self.attempt() is not None and not (self.is_stranded and not self.handed_out):
            return True
        reference = getattr(self.connection, "fairy_ref", None)
        return reference is not None and reference() is not None
