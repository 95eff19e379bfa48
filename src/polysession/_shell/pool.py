"""Fair, bounded pools on SQLAlchemy's `Pool`: one for threads, one for asyncio. Usable with a plain `create_engine`.

The decisions are those of `_core.seats`; here are the lock, the clock and the waiting. The first waiter is served
first and gets a returned connection by hand. One number bounds the connections of an endpoint, whatever they are for:
pools that join one `Room` share its seats.

Accounting survives interrupts. A KeyboardInterrupt may land between any two instructions of a checkout or a checkin,
so nothing relies on a counter alone: every connection that is out has a `Claim`, and whoever finds the room full
compares claims, idle connections and openings with the count and takes back what nobody holds (`Room.audit`).

Hooks used, all declared by `sqlalchemy.pool.Pool` for subclasses: `connect`, `_do_get`, `_do_return_conn`,
`_create_connection`, `recreate`, `dispose`, `status`; besides these `ConnectionPoolEntry.fairy_ref`, for the audit.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any, Protocol, cast

from sqlalchemy import util
from sqlalchemy.pool import ConnectionPoolEntry, Pool, PoolProxiedConnection

from .._core.seats import Grow, Handed, Keep, Retire, Seats, Ticket, Use, Wait
from ..errors import CheckoutTimeout
from ..observe.live import PoolCounts

__all__ = ["Claim", "FairAsyncPool", "FairPool", "Room", "asking"]

_LOOK_AGAIN = 0.25
"""Seconds between two audits while a waiter waits: bounds how long an interrupt can hide a seat."""
_SURELY_LOST = 0.1
"""Seconds after which a connection that was on its way back and is in nobody's hands is taken back."""


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


class Who:
    """Who asks: the unit or session if it said so, the thread, and the thread or task that waits."""

    __slots__ = ("asker", "me", "thread")

    def __init__(self, asker: Asker | None, me: int) -> None:
        self.asker = asker
        self.me = me
        self.thread = threading.get_ident()

    def __str__(self) -> str:
        return self.asker.describe() if self.asker is not None else f"thread {self.thread}"


class Claim:
    """One connection that is out: for whom, since when, and whether it has arrived."""

    __slots__ = ("delivered", "missing_since", "pool", "record", "since", "who")

    def __init__(self, pool: FairPool, record: ConnectionPoolEntry, who: Who) -> None:
        self.pool = pool
        self.record = record
        self.who = who
        self.since = time.monotonic()
        self.delivered = False
        self.missing_since: float | None = None


class Room:
    """The seats of one endpoint and everything known about who sits there. Thread-safe."""

    __slots__ = ("claims", "lock", "name", "openings", "returned_at", "seats", "timeout")

    def __init__(self, name: str, size: int, timeout: float, limits: dict[str, int] | None = None) -> None:
        self.name = name
        self.timeout = timeout
        self.lock = threading.Lock()
        self.seats: Seats[ConnectionPoolEntry] = Seats(size, limits)
        self.claims: dict[int, Claim] = {}
        self.openings: dict[object, str] = {}
        """Who opens a connection just now (thread or task), and of which kind."""
        self.returned_at = time.monotonic()

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

    def holders(self) -> list[Claim]:
        """The claims, oldest first."""
        with self.lock:
            return sorted(self.claims.values(), key=lambda claim: claim.since)

    def audit(self) -> list[Claim]:
        """Under the lock: make the counts agree with what is there; answer the claims that nobody holds any more.

        The caller must give those back. A connection counts as lost if it was delivered and no `PoolProxiedConnection`
        of it is alive, seen twice with time between; or if the thread that was taking it is dead. Taking back early
        what a slow thread is about to return does no harm: the late return finds no claim and is ignored.
        """
        now = time.monotonic()
        idle = {id(record) for records in self.seats.idle.values() for record in records}
        lost: list[Claim] = []
        alive: set[int] | None = None
        for key, claim in list(self.claims.items()):
            if key in idle:  # an interrupt fell between keeping the connection and dropping the claim
                del self.claims[key]
                continue
            if claim.delivered:
                reference = getattr(claim.record, "fairy_ref", None)
                if reference is not None and reference() is not None:
                    claim.missing_since = None
                    continue
            else:
                alive = alive if alive is not None else {thread.ident or 0 for thread in threading.enumerate()}
                if claim.who.thread in alive:
                    continue
            if claim.missing_since is None:
                claim.missing_since = now
            elif now - claim.missing_since >= _SURELY_LOST:
                lost.append(claim)
        self._recount()
        return lost

    def _recount(self) -> None:
        counts = {kind: len(records) for kind, records in self.seats.idle.items()}
        for claim in self.claims.values():
            counts[claim.pool.kind] = counts.get(claim.pool.kind, 0) + 1
        for kind in self.openings.values():
            counts[kind] = counts.get(kind, 0) + 1
        self.seats.open = counts


class FairPool(Pool):
    """A fair, bounded pool for threads. Thread-safe; keyed by process through the engines that use it.

    `pool_size` is the most connections open at once; `timeout` the longest wait in seconds, after which
    `CheckoutTimeout` names who holds the connections.
    """

    def __init__(self, creator: Any, pool_size: int = 10, timeout: float = 5.0, **kw: Any) -> None:
        super().__init__(creator, **kw)
        self.kind = "any"
        self.room = Room("database", pool_size, timeout)

    def join(self, room: Room, kind: str) -> None:
        """Share the seats of `room`; this pool's connections are of `kind` and serve nobody else. Before first use."""
        self.room = room
        self.kind = kind

    # -- checkout

    def connect(self) -> PoolProxiedConnection:
        """A connection, in the order of asking. Raises `CheckoutTimeout`."""
        try:
            proxy = super().connect()
            claim = self.room.claims.get(id(proxy._connection_record))  # type: ignore[attr-defined]  # no public way
            if claim is not None:
                claim.delivered = True
        except BaseException:
            self._take_back_undelivered()
            raise
        return proxy

    def _do_get(self) -> ConnectionPoolEntry:
        room = self.room
        who = Who(asking.asker, self._me())
        with room.lock:
            room.openings.pop(who.me, None)  # left behind by an interrupted attempt of this very thread or task
            answer = room.seats.ask(self.kind, who)
            if isinstance(answer, Use):
                return self._claimed(answer.connection, who)
            if isinstance(answer, Grow):
                room.openings[who.me] = self.kind
        if isinstance(answer, Wait):
            given = self._wait(answer.ticket, who)
            if given is not None:
                return given
            return self._open(who)
        return self._open(who, answer.victim)

    def _open(self, who: Who, victim: ConnectionPoolEntry | None = None) -> ConnectionPoolEntry:
        """Open a connection on a seat that is already ours, after closing the one that had it."""
        room = self.room
        try:
            if victim is not None:
                victim.close()
            record = self._create_connection()
            with room.lock:
                room.openings.pop(who.me, None)
                return self._claimed(record, who)
        except BaseException:
            with room.lock:
                if room.openings.pop(who.me, None) is None:
                    raise
                handed = room.seats.gone(self.kind)
                self._note_opening(handed)
            self._wake_handed(handed)
            raise

    def _wait(self, ticket: Ticket[ConnectionPoolEntry], who: Who) -> ConnectionPoolEntry | None:
        """Wait for our turn; the connection, or None if a seat was given on which to open one."""
        room = self.room
        began = time.monotonic()
        deadline = who.asker.waits_until() if who.asker is not None else None
        until = began + room.timeout if deadline is None else min(began + room.timeout, deadline)
        try:
            while not ticket.served:
                left = until - time.monotonic()
                if left <= 0:
                    break
                if not self._park(ticket, min(left, _LOOK_AGAIN)):
                    self._look_for_lost()
            with room.lock:
                if ticket.connection is not None:
                    return ticket.connection
                if ticket.may_open:
                    room.openings.pop(ticket, None)
                    room.openings[who.me] = self.kind
                    return None
                room.seats.withdraw(ticket)
        except BaseException:
            self._pass_on(ticket)
            raise
        finally:
            if who.asker is not None:
                who.asker.waited(time.monotonic() - began)
        raise self._timed_out(time.monotonic() - began)

    def _pass_on(self, ticket: Ticket[ConnectionPoolEntry]) -> None:
        """A waiter was interrupted; if it had just been served, the next one gets what it was given."""
        room = self.room
        with room.lock:
            if room.seats.withdraw(ticket) or ticket.connection is not None:
                handed = None
            else:
                room.openings.pop(ticket, None)
                handed = room.seats.gone(self.kind)
                self._note_opening(handed)
        if ticket.connection is not None:
            self._do_return_conn(ticket.connection)
        self._wake_handed(handed)

    # -- checkin

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        room = self.room
        with room.lock:
            if id(record) not in room.claims:
                answer: Keep | Handed[ConnectionPoolEntry] | Retire[ConnectionPoolEntry] | None = None
            else:
                answer = room.seats.back(self.kind, record)
                room.returned_at = time.monotonic()
                del room.claims[id(record)]
                if isinstance(answer, Handed):
                    self._claimed(record, cast("Who", answer.ticket.who))
                elif isinstance(answer, Retire):
                    self._note_opening(answer.ticket)
        if isinstance(answer, Handed):
            self._wake(answer.ticket)
        elif isinstance(answer, Retire):
            try:
                record.close()
            finally:
                if answer.ticket is not None:
                    self._wake(answer.ticket)
        elif answer is None:
            record.close()  # it was taken back as lost; its seat belongs to somebody else now

    # -- accounting

    def _claimed(self, record: ConnectionPoolEntry, who: Who) -> ConnectionPoolEntry:
        self.room.claims[id(record)] = Claim(self, record, who)
        return record

    def _note_opening(self, handed: Handed[Any] | Ticket[Any] | None) -> None:
        """A waiter was given a seat: until it takes it, the seat is counted under the ticket."""
        ticket = handed.ticket if isinstance(handed, Handed) else handed
        if ticket is not None and ticket.may_open:
            self.room.openings[ticket] = ticket.kind

    def _wake_handed(self, handed: Handed[ConnectionPoolEntry] | None) -> None:
        if handed is not None:
            self._wake(handed.ticket)

    def _take_back_undelivered(self) -> None:
        """A checkout of this thread or task failed; SQLAlchemy returned the record unless an interrupt came between."""
        me = self._me()
        for claim in self.room.holders():
            reference = getattr(claim.record, "fairy_ref", None)
            if claim.pool is self and claim.who.me == me and not claim.delivered and reference is None:
                self._give_up_on(claim)

    def _look_for_lost(self) -> None:
        with self.room.lock:
            lost = self.room.audit()
        for claim in lost:
            claim.pool._give_up_on(claim)

    def _give_up_on(self, claim: Claim) -> None:
        """Close a connection that nobody holds and pass its seat on."""
        room = self.room
        with room.lock:
            if room.claims.pop(id(claim.record), None) is None:
                return
            handed = room.seats.gone(self.kind)
            self._note_opening(handed)
        self._wake_handed(handed)
        if not self._is_asyncio:
            claim.record.close()

    def _timed_out(self, waited: float) -> CheckoutTimeout:
        holders = self.room.holders()
        now = time.monotonic()
        described = [f"{now - claim.since:.1f} s by {claim.who}" for claim in holders]
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

    def _me(self) -> int:
        return threading.get_ident()

    def _park(self, ticket: Ticket[ConnectionPoolEntry], seconds: float) -> bool:
        """Wait until woken; False after `seconds`."""
        if ticket.parked is None:
            with self.room.lock:
                if ticket.served:
                    return True
                parked = threading.Lock()
                parked.acquire()
                ticket.parked = parked
        return cast("threading.Lock", ticket.parked).acquire(timeout=seconds)

    def _wake(self, ticket: Ticket[ConnectionPoolEntry]) -> None:
        if ticket.parked is not None:
            cast("threading.Lock", ticket.parked).release()

    # -- SQLAlchemy's duties

    def recreate(self) -> Pool:
        """A new pool with the same settings and seats of its own."""
        self.logger.info("Pool recreating")
        return self.__class__(
            self._creator,
            pool_size=self.room.seats.size,
            timeout=self.room.timeout,
            recycle=self._recycle,
            echo=self.echo,
            logging_name=self._orig_logging_name,
            pre_ping=self._pre_ping,
            reset_on_return=self._reset_on_return,
            _dispatch=self.dispatch,
            dialect=self._dialect,
        )

    def dispose(self) -> None:
        """Close what is idle; what is out is closed when it comes back if the pool was replaced."""
        with self.room.lock:
            mine = self.room.seats.idle.get(self.kind, [])
            taken = list(mine)
            mine.clear()
            self.room.seats.open[self.kind] = self.room.seats.open.get(self.kind, 0) - len(taken)
        for record in taken:
            record.close()

    def status(self) -> str:
        """Counts, for people."""
        seats = self.room.seats
        return (
            f"{type(self).__name__} {self.room.name} ({self.kind}): {seats.out(self.kind)} out, "
            f"{len(seats.idle.get(self.kind, ()))} idle, {len(seats.waiters)} waiting, at most {seats.size}"
        )

    def checkedout(self) -> int:
        """Connections of this pool that are out, counted by their claims."""
        return sum(1 for _ in self._claims())

    def checkedin(self) -> int:
        """Idle connections of this pool."""
        return len(self.room.seats.idle.get(self.kind, ()))

    def size(self) -> int:
        """Most connections of all pools that share the seats."""
        return self.room.seats.size

    def _claims(self) -> Iterator[Claim]:
        with self.room.lock:
            claims = list(self.room.claims.values())
        return (claim for claim in claims if claim.pool is self)


class FairAsyncPool(FairPool):
    """The same for asyncio, for `create_async_engine`. One event loop per pool; other threads may only return."""

    _is_asyncio = True

    def _me(self) -> int:
        return id(asyncio.current_task())

    def _park(self, ticket: Ticket[ConnectionPoolEntry], seconds: float) -> bool:
        return cast("bool", util.await_only(self._park_async(ticket, seconds)))

    async def _park_async(self, ticket: Ticket[ConnectionPoolEntry], seconds: float) -> bool:
        loop = asyncio.get_running_loop()
        with self.room.lock:
            if ticket.served:
                return True
            future: asyncio.Future[bool] = loop.create_future()
            ticket.parked = future
        timer = loop.call_later(seconds, _settle, future, False)
        try:
            return await future
        finally:
            timer.cancel()

    def _wake(self, ticket: Ticket[ConnectionPoolEntry]) -> None:
        future = cast("asyncio.Future[bool] | None", ticket.parked)
        if future is None:
            return
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
