"""Fair, bounded pools on SQLAlchemy's `Pool`: one for threads, one for asyncio. Usable with a plain `create_engine`.

The decisions are those of `_core.seats`; here are the lock, the clock and the waiting. The first waiter is served
first and gets a returned connection by hand. One number bounds the connections of an endpoint, whatever they are for:
pools that join one `Room` share its seats.

Accounting survives interrupts. A KeyboardInterrupt may land between any two instructions of a checkout or a checkin,
so nothing relies on a counter: every connection that is out or being opened has a `Claim`, a claim holds as long as the
call that took it runs or the connection that came of it is in somebody's hands, and whoever finds the room full takes
back what nobody holds (`Room.audit`). The garbage collector may return a connection in the middle of our own work, in
the same thread; such a return is put aside and done a little later.

Hooks used, all declared by `sqlalchemy.pool.Pool` for subclasses: `connect`, `_do_get`, `_do_return_conn`,
`_create_connection`, `recreate`, `dispose`, `status`; besides these `ConnectionPoolEntry.fairy_ref`, for the audit.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Protocol, cast

from sqlalchemy import util
from sqlalchemy.pool import ConnectionPoolEntry, Pool, PoolProxiedConnection

from .._core.seats import Grow, Handed, Keep, Retire, Seats, Ticket, Use, Wait
from ..errors import CheckoutTimeout
from ..observe.live import PoolCounts

__all__ = ["Claim", "FairAsyncPool", "FairPool", "Room", "asking"]

_LOOK_AGAIN = 0.25
"""Seconds between two audits while a waiter waits: bounds how long an interrupt can hide a seat."""
_SURELY_LOST = 1.0
"""Seconds after which a connection that was on its way back and is in nobody's hands is taken back. A busy interpreter
may keep a thread from running for a few tenths of a second (its switch interval times the threads that want to run)."""


class Asker(Protocol):
    """Who asks for a connection: what the error text says of the holders."""

    name: str

    def describe(self) -> str:
        """Who it is and where it was opened: `task 'import' at billing/load.py:88 in load`."""

    def waits_until(self) -> float | None:
        """Its deadline in seconds of `time.monotonic()`; None if it has none."""

    def waited(self, seconds: float) -> None:
        """It waited so long for a connection. Raises its own error if its deadline has passed."""


class _Asking(threading.local):
    """The unit or session for which this thread asks for a connection just now; None if nobody said so."""

    asker: Asker | None = None


asking = _Asking()


class _Attempt:
    """One call of `connect`, alive as long as the call runs: what it has claimed and not delivered is lost with it."""

    __slots__ = ("__weakref__", "claim")

    def __init__(self) -> None:
        self.claim: Claim | None = None


class _Starting(threading.local):
    """Carries the attempt from `connect` to `_do_get`, between which nothing else runs in this thread."""

    attempt: _Attempt | None = None


_starting = _Starting()


class Claim(Ticket[ConnectionPoolEntry]):
    """A request for a connection, and then the connection that is out: for whom, and since when."""

    __slots__ = ("asker", "attempt", "handed_out", "missing_since", "parked", "pool", "since", "thread")

    def __init__(self, pool: FairPool, asker: Asker | None, attempt: _Attempt) -> None:
        super().__init__(pool.kind)
        self.pool = pool
        self.asker = asker
        self.attempt = weakref.ref(attempt)
        self.thread = threading.get_ident()
        self.since = time.monotonic()
        self.handed_out = False
        """SQLAlchemy has the connection and may have touched it."""
        self.missing_since: float | None = None
        self.parked: object = None
        """What its waiter is parked on: a lock or a future."""

    def __str__(self) -> str:
        if self.asker is not None:
            return self.asker.describe()
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        return f"thread {names.get(self.thread, self.thread)!r}"

    @property
    def is_stranded(self) -> bool:
        """It waited in an event loop that was closed, and nothing can wake it any more."""
        return isinstance(self.parked, asyncio.Future) and self.parked.get_loop().is_closed()

    @property
    def is_held(self) -> bool:
        """The call that took the connection still runs, or what it delivered is in somebody's hands."""
        if self.attempt() is not None and not (self.is_stranded and not self.handed_out):
            return True
        reference = getattr(self.connection, "fairy_ref", None)
        return reference is not None and reference() is not None


class Room:
    """The seats of one endpoint and everything known about who sits there. Thread-safe."""

    __slots__ = ("busy", "late", "lock", "name", "process", "returned_at", "seats", "timeout")

    def __init__(self, name: str, size: int, timeout: float, limits: dict[str, int] | None = None) -> None:
        self.name = name
        self.timeout = timeout
        self.process = os.getpid()
        self.lock = threading.RLock()  # the garbage collector may enter it again in the same thread
        self.busy = False
        """The thread that holds the lock is in the middle of a change."""
        self.late: deque[tuple[FairPool, ConnectionPoolEntry]] = deque()
        """What came back in the middle of a change."""
        self.seats: Seats[ConnectionPoolEntry] = Seats(size, limits)
        self.returned_at = time.monotonic()

    def ask(self, claim: Claim) -> Use[ConnectionPoolEntry] | Grow[ConnectionPoolEntry] | Wait[ConnectionPoolEntry]:
        """Use, open or wait."""
        with self.lock:
            self.busy = True
            try:
                return self.seats.ask(claim)
            finally:
                self.busy = False

    def opened(self, claim: Claim) -> None:
        """A connection was opened on the seat of `claim`."""
        with self.lock:
            self.busy = True
            try:
                self.seats.opened(claim)
            finally:
                self.busy = False

    def back(
        self, pool: FairPool, record: ConnectionPoolEntry
    ) -> Keep | Handed[ConnectionPoolEntry] | Retire | list[Ticket[ConnectionPoolEntry]] | None:
        """A connection comes back: what is done with it; a list of those to be woken if it is closed and its seat
        free; None if it has to be done later."""
        with self.lock:
            if self.busy:
                self.late.append((pool, record))
                return None
            self.busy = True
            try:
                self.returned_at = time.monotonic()
                claim = self.seats.taken.get(id(record))
                if pool.disposed and claim is not None:
                    return self.seats.gone(claim)
                return self.seats.back(record)
            finally:
                self.busy = False

    def withdraw(self, claim: Claim) -> bool:
        """A waiter gives up; False if it was served meanwhile."""
        with self.lock:
            self.busy = True
            try:
                return self.seats.withdraw(claim)
            finally:
                self.busy = False

    def abandon(self, claim: Claim) -> tuple[list[ConnectionPoolEntry], list[Ticket[ConnectionPoolEntry]]]:
        """A claim has failed or was lost: what has to be closed, and who was served by it."""
        with self.lock:
            self.busy = True
            try:
                seats = self.seats
                seats.repair()
                if seats.withdraw(claim) or not seats.seated(claim):
                    return [], seats.serve()
                record = claim.connection
                if record is not None and not claim.handed_out:  # as good as new: the next one gets it
                    answer = seats.back(record)
                    return [], [answer.ticket] if isinstance(answer, Handed) else []
                leftovers = [
                    left
                    for left in (record, claim.victim)
                    if left is not None and not any(left in idle for idle in seats.idle.values())
                ]
                return leftovers, seats.gone(claim)
            finally:
                self.busy = False

    def audit(self) -> tuple[list[Claim], list[Ticket[ConnectionPoolEntry]]]:
        """Mend what interrupts have left: the claims that nobody holds any more, and who was served.

        The caller must abandon those claims. A claim counts as lost if nobody holds it, seen twice with time between.
        Taking back early what a slow thread is about to return does no harm: the late return finds its seat given away
        and closes the connection.
        """
        self.settle()
        now = time.monotonic()
        lost: list[Claim] = []
        with self.lock:
            self.busy = True
            try:
                self.seats.repair()
                for claim in cast("list[Claim]", list(self.seats.taken.values())):
                    if claim.is_held:
                        claim.missing_since = None
                    elif claim.missing_since is None:
                        claim.missing_since = now
                    elif now - claim.missing_since >= _SURELY_LOST:
                        lost.append(claim)
                for waiter in cast("list[Claim]", list(self.seats.waiters)):
                    if waiter.attempt() is None or waiter.is_stranded:
                        self.seats.waiters.remove(waiter)
                return lost, self.seats.serve()
            finally:
                self.busy = False

    def settle(self) -> None:
        """Do the returns that came in the middle of a change."""
        for _ in range(len(self.late)):
            with self.lock:
                self.busy = False  # an interrupt can have left it
                if not self.late:
                    return
                pool, record = self.late.popleft()
            pool._do_return_conn(record)

    def drain(self, kind: str) -> ConnectionPoolEntry | None:
        """Take out one idle connection of a kind; None if there is none left."""
        with self.lock:
            self.busy = True
            try:
                return self.seats.drain(kind)
            finally:
                self.busy = False

    def holders(self) -> list[Claim]:
        """The claims, oldest first."""
        with self.lock:
            claims = cast("set[Claim]", set(self.seats.taken.values()))
        return sorted(claims, key=lambda claim: claim.since)

    def counts(self) -> PoolCounts:
        """What is out, idle and waiting at this moment."""
        with self.lock:
            seats = self.seats
            out, waiting = seats.out(), len(seats.waiters)
            quiet = time.monotonic() - self.returned_at
            return PoolCounts(
                endpoint=self.name,
                size=seats.size,
                out=out,
                idle=seats.total - out,
                waiting=waiting,
                stuck=waiting > 0 and out >= seats.size and quiet > self.timeout,
            )


class FairPool(Pool):
    """A fair, bounded pool for threads. Thread-safe; keyed by process through the engines that use it.

    `pool_size` is the most connections open at once; `timeout` the longest wait in seconds, after which
    `CheckoutTimeout` names who holds the connections.
    """

    def __init__(self, creator: Any, pool_size: int = 10, timeout: float = 5.0, **kw: Any) -> None:
        super().__init__(creator, **kw)
        self.kind = "any"
        self.room = Room("database", pool_size, timeout)
        self.disposed = False
        """Its idle connections were closed; what comes back is closed too."""
        self._joined = False

    def join(self, room: Room, kind: str) -> None:
        """Share the seats of `room`; this pool's connections are of `kind` and serve nobody else. Before first use."""
        self.room = room
        self.kind = kind
        self._joined = True

    # -- checkout

    def connect(self) -> PoolProxiedConnection:
        """A connection, in the order of asking. Raises `CheckoutTimeout`."""
        attempt = _starting.attempt = _Attempt()
        try:
            return super().connect()
        except BaseException:
            if attempt.claim is not None:
                self._abandon_failed(attempt.claim)
            raise

    def _do_get(self) -> ConnectionPoolEntry:
        attempt = _starting.attempt or _Attempt()
        _starting.attempt = None
        claim = attempt.claim = Claim(self, asking.asker, attempt)
        asking.asker = None  # who asks next says so again, or is nobody we know
        room = self.room
        if room.late:
            room.settle()
        if isinstance(room.ask(claim), Wait):
            self._wait(claim)
            claim.since = time.monotonic()
        if claim.connection is None:
            self._open(claim)
        claim.handed_out = True
        return cast("ConnectionPoolEntry", claim.connection)

    def _open(self, claim: Claim) -> None:
        """Open a connection on a seat that is already ours, after closing the one that had it."""
        if claim.victim is not None:
            claim.victim.close()
        claim.connection = self._create_connection()
        self.room.opened(claim)

    def _wait(self, claim: Claim) -> None:
        """Wait for our turn: until `claim` has a connection, or a seat on which to open one."""
        room = self.room
        asker = claim.asker
        began = time.monotonic()
        deadline = asker.waits_until() if asker is not None else None
        until = began + room.timeout if deadline is None else min(began + room.timeout, deadline)
        try:
            while not room.seats.seated(claim):
                left = until - time.monotonic()
                if left <= 0 and room.withdraw(claim):
                    raise self._timed_out(time.monotonic() - began)
                if not self._park(claim, max(0.0, min(left, _LOOK_AGAIN))):
                    self._look_for_lost()
        except CheckoutTimeout:
            if asker is not None:
                asker.waited(time.monotonic() - began)
            raise
        except BaseException:
            if asker is not None:
                with suppress(Exception):  # the deadline has passed as well; what interrupted the wait goes first
                    asker.waited(time.monotonic() - began)
            raise
        if asker is not None:
            asker.waited(time.monotonic() - began)

    # -- checkin

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        answer = self.room.back(self, record)
        if isinstance(answer, Handed):
            self._wake_all((answer.ticket,))
        elif isinstance(answer, (Retire, list)):
            # disposed of, or taken back as lost: then its seat belongs to somebody else now
            try:
                record.close()
            finally:
                self._wake_all(answer if isinstance(answer, list) else ())

    # -- accounting

    def _abandon_failed(self, claim: Claim) -> None:
        """A checkout failed; SQLAlchemy has returned the connection unless an interrupt came between."""
        if getattr(claim.connection, "fairy_ref", None) is None:  # else it comes back when its last holder drops it
            self._abandon(claim)

    def _abandon(self, claim: Claim) -> None:
        """Close what nobody holds and pass its seat on."""
        leftovers, served = self.room.abandon(claim)
        self._wake_all(served)
        for record in leftovers:
            record.invalidate()

    def _look_for_lost(self) -> None:
        lost, served = self.room.audit()
        self._wake_all(served)
        for claim in lost:
            claim.pool._abandon(claim)

    def _timed_out(self, waited: float) -> CheckoutTimeout:
        holders = self.room.holders()
        now = time.monotonic()
        described = [f"{now - claim.since:.1f} s by {claim}" for claim in holders]
        waiting = len(self.room.seats.waiters)
        shown = "; ".join(described[:8]) + (f"; and {len(described) - 8} more" if len(described) > 8 else "")
        return CheckoutTimeout(
            f"no connection to {self.room.name} within {waited:.1f} s",
            why=f"{len(holders)} of {self.room.seats.size} are out: {shown or 'none'}; {waiting} others wait",
            do=(
                "end those units of work sooner",
                "raise pool.size of the database",
                "raise pool.checkout_timeout",
            ),
            endpoint=self.room.name,
            waited=waited,
            size=self.room.seats.size,
            holders=tuple(described),
            waiting=waiting,
        )

    # -- waiting with threads

    def _park(self, claim: Claim, seconds: float) -> bool:
        """Wait until woken; False after `seconds`."""
        if claim.parked is None:
            with self.room.lock:
                if self.room.seats.seated(claim):
                    return True
                parked = threading.Lock()
                parked.acquire()
                claim.parked = parked
        return cast("threading.Lock", claim.parked).acquire(timeout=seconds)

    def _wake_all(self, tickets: Iterable[Ticket[ConnectionPoolEntry]]) -> None:
        for claim in cast("Iterable[Claim]", tickets):
            if claim.parked is not None:
                claim.pool._wake(claim)

    def _wake(self, claim: Claim) -> None:
        cast("threading.Lock", claim.parked).release()

    # -- SQLAlchemy's duties

    def recreate(self) -> Pool:
        """A new pool with the same settings; with seats of its own, or those of the room that this one had joined."""
        self.logger.info("Pool recreating")
        room = self.room
        fresh = self.__class__(
            self._creator,
            pool_size=room.seats.size,
            timeout=room.timeout,
            recycle=self._recycle,
            echo=self.echo,
            logging_name=self._orig_logging_name,
            pre_ping=self._pre_ping,
            reset_on_return=self._reset_on_return,
            _dispatch=self.dispatch,
            dialect=self._dialect,
        )
        if self._joined and room.process == os.getpid():
            fresh.join(room, self.kind)
        elif self._joined:  # a forked child must not count what its parent holds
            fresh.join(Room(room.name, room.seats.size, room.timeout, room.seats.limits), self.kind)
        return fresh

    def dispose(self) -> None:
        """Close what is idle, and from now on whatever comes back. A second call does nothing more."""
        self.disposed = True
        self.room.settle()
        while (record := self.room.drain(self.kind)) is not None:
            record.close()
        self._look_for_lost()

    def status(self) -> str:
        """Counts, for people."""
        seats = self.room.seats
        return (
            f"{type(self).__name__} {self.room.name} ({self.kind}): {self.checkedout()} out, "
            f"{self.checkedin()} idle, {len(seats.waiters)} waiting, at most {seats.size}"
        )

    def checkedout(self) -> int:
        """Connections of this pool that are out or being opened."""
        return sum(claim.pool is self for claim in self.room.holders())

    def checkedin(self) -> int:
        """Idle connections of this pool."""
        return len(self.room.seats.idle.get(self.kind, ()))

    def size(self) -> int:
        """Most connections of all pools that share the seats."""
        return self.room.seats.size


class FairAsyncPool(FairPool):
    """The same for asyncio, for `create_async_engine`. One event loop per pool; other threads may only return."""

    _is_asyncio = True

    def _park(self, claim: Claim, seconds: float) -> bool:
        return util.await_only(self._park_async(claim, seconds))

    async def _park_async(self, claim: Claim, seconds: float) -> bool:
        loop = asyncio.get_running_loop()
        with self.room.lock:
            if self.room.seats.seated(claim):
                return True
            future: asyncio.Future[bool] = loop.create_future()
            claim.parked = future
        timer = loop.call_later(seconds, _settle, future, False)
        try:
            return await future
        finally:
            timer.cancel()

    def _wake(self, claim: Claim) -> None:
        future = cast("asyncio.Future[bool]", claim.parked)
        loop = future.get_loop()
        if _running_loop() is loop:
            _settle(future, True)
        elif not loop.is_closed():
            loop.call_soon_threadsafe(_settle, future, True)


def _settle(future: asyncio.Future[bool], value: bool) -> None:
    if not future.done():
        future.set_result(value)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
