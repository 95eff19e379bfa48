"""Fair, bounded pools on SQLAlchemy's `Pool`: here the one for threads. Usable with a plain `create_engine`.

The decisions are those of `_core.seats`, taken under the lock of the endpoint's `Room`; who finds nothing waits
(`waiting`). The first waiter is served first and gets a returned connection by hand.

Hooks used, all declared by `sqlalchemy.pool.Pool` for subclasses: `connect`, `_do_get`, `_do_return_conn`,
`_create_connection`, `recreate`, `dispose`, `status`; besides these `ConnectionPoolEntry.fairy_ref`, for the audit, and
`_is_hard_or_soft_invalidated` and `last_connect_time`, by which SQLAlchemy knows that it has to connect anew.
"""

from __future__ import annotations

import contextvars
import math
import os
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from logging import DEBUG
from typing import Any, Final, cast

from sqlalchemy.pool import ConnectionPoolEntry, Pool, PoolProxiedConnection

from .._core.seats import Handed, Keep, Refuse, Retire, Ticket, Wait
from ..errors import ConfigError
from ..failures import Kind
from . import threads
from .claims import Asker, Attempt, Claim, Growth, asking, opening, starting
from .growing import AGAIN, grow, time_is_up
from .lease import Lease
from .liveness import LIFE, PING, Fitness, Life, answers, close, is_dead, life_of
from .loan import release
from .outside import BLOCK
from .proxied import proxied, shorten_alone
from .room import TRIM, Room
from .signs import kind_of
from .waiting import keep_floor, open_for_others, refuse, wait

__all__ = ["FairPool"]

_SERVERS = ("postgresql", "mysql", "mariadb")
_COUNTED = {
    Fitness.DOUBTFUL: "unanswered",
    Fitness.DEAD: "dead",
    Fitness.OLD: "old",
    Fitness.REPLACED: "replaced",
}
_TELLING = 0.1
"""Seconds without an answer that say something of the server, and not of how little time there was."""
_ASKING = 0.02
"""Seconds for less of which a server is not asked."""
_pass: Final[Callable[[], object]] = getattr(os, "sched_yield", partial(time.sleep, 0))
"""Let another thread run."""
_SECOND = 3.0
"""Seconds that opening a connection may take that is begun beside another one."""


class FairPool(Pool):
    """A fair, bounded pool for threads. Thread-safe; keyed by process through the engines that use it.

    `pool_size` is the most connections open at once; `timeout` the longest wait in seconds, after which
    `CheckoutTimeout` names who holds the connections.
    """

    _sqla_logger_namespace = "sqlalchemy.pool.FairPool"  # as loud as SQLAlchemy's own pools: silent below WARNING

    def __init__(self, creator: Any, pool_size: int = 10, timeout: float = 5.0, **kw: Any) -> None:
        _check(pool_size, timeout)
        super().__init__(creator, **kw)
        self.kind = "any"
        self.room = Room("database", pool_size, timeout)
        self.room.is_alone = True
        self.opens_here = getattr(self._dialect, "name", "") not in _SERVERS
        """Opening takes no time worth speaking of, and is done by whoever asks."""
        self.disposed = False
        """Its idle connections were closed; what comes back is closed too."""
        self.lends = False
        """What it hands out is a `Lease`, which a read unit may share with who waits."""
        self.is_done: Callable[[Any, bool, bool], bool] | None = None
        """Of `proxied`: whether a connection goes back as it is."""
        self.heard = 0
        """Of `proxied`: so many of our own listeners hear that a connection comes back."""
        self.is_ours = False
        """It is below an engine that was made here."""
        self._joined = self._was_looked_at = False

    def join(self, room: Room, kind: str) -> None:
        """Share the seats of `room`; this pool's connections are of `kind` and serve nobody else. Before first use."""
        self.room = room
        self.kind = kind
        self._joined = True

    # -- checkout

    def connect(self) -> PoolProxiedConnection:
        """A connection, in the order of asking. Raises `CheckoutTimeout`."""
        connection = self.check_out(asking.asker)
        return Lease(self, connection) if self.lends else connection

    def check_out(self, asker: Asker | None) -> PoolProxiedConnection:
        """A connection for `asker`, in the order of asking; none is lent. Raises `CheckoutTimeout`."""
        attempt = Attempt()
        if not (self._joined or self._was_looked_at):
            self._was_looked_at = True
            shorten_alone(self)
        try:
            if self.is_done is None or self.dispatch.checkout or self.logger.isEnabledFor(DEBUG):
                asking.asker = asker
                starting.attempt = attempt
                return super().connect()
            asking.asker = None
            return proxied(self, self._get(attempt, asker))
        except BaseException:
            if attempt.claim is not None:
                self.abandon_failed(attempt.claim)
            raise

    def _do_get(self) -> ConnectionPoolEntry:
        attempt = starting.attempt or Attempt()
        starting.attempt = None
        asker = asking.asker
        asking.asker = None  # who asks next says so again, or is nobody we know
        return self._get(attempt, asker)

    def _get(self, attempt: Attempt, asker: Asker | None) -> ConnectionPoolEntry:
        claim = attempt.claims(self, asker)
        room = self.room
        if room.late:
            room.settle()
        answer = type(room.ask(claim))
        if answer is Wait:
            wait(self, claim)
            claim.since = time.monotonic()
        elif answer is Refuse:
            refuse(self, claim)
        record = claim.connection
        if record is None or not self._is_fit(claim, record):
            record = self._another(claim)
        if room.floor and room.seats.total < room.floor:
            keep_floor(self)
        if BLOCK.get() is not None and asker is not None:
            asker.refuse_outside()
        claim.handed_out = True
        return record

    def _another(self, claim: Claim) -> ConnectionPoolEntry:
        """It has none that can be used: another one, or a new one."""
        if claim.connection is not None:
            self._exchange(claim)
            while claim.connection is not None and not self._is_fit(claim, claim.connection):
                self._exchange(claim)
        if claim.connection is None:
            if self.opens_here:
                self.open(claim)
            else:
                grow(self, claim, claim.asked_at)
            if self.room.seats.waiters:  # who became impatient meanwhile may open one now
                self.wake_all(self.room.serve())
        return cast("ConnectionPoolEntry", claim.connection)

    def _is_fit(self, claim: Claim, record: Any) -> bool:
        """It can be used. Of one that cannot, SQLAlchemy would find out some things and connect anew: we do, so that
        there is one way to connect."""
        life: Life | None = record.info.get(LIFE)
        if life is None or record._is_hard_or_soft_invalidated():
            return False
        room = self.room
        if life.is_fit(claim.since, room.ping_after, room.doubted_at, room.replaced_at):
            return True
        fitness = life.fitness(ask_after=room.ping_after, doubted_at=room.doubted_at, replaced_at=room.replaced_at)
        if fitness is Fitness.FIT:
            return True
        if fitness is Fitness.DOUBTFUL:
            asked_at = time.monotonic()
            # half of the time that is left: then another one may have to be opened
            within = min(PING, (time_is_up(claim, claim.asked_at) - asked_at) / 2)
            if within < _ASKING:
                return True  # nor is there any for another one: what it is used for will tell
            if self.answers(record, within):
                life.used_at = asked_at
                return True
            if time.monotonic() - asked_at >= within >= _TELLING:  # the others lead nowhere too
                room.lost_at = time.monotonic()
                self.replace_all()
        life.is_lost = fitness in (Fitness.DOUBTFUL, Fitness.DEAD) or life.born_at <= room.lost_at
        if fitness in (Fitness.DOUBTFUL, Fitness.DEAD):
            self._close_all(room.sort_out(is_dead))
        room.note(**{_COUNTED[fitness]: 1})
        return False

    def answers(self, record: ConnectionPoolEntry, within: float) -> bool:
        """The server answers on this connection within so many seconds."""
        return answers(self._dialect, record, within)

    def _exchange(self, claim: Claim) -> None:
        """Its connection is of no use: have another one, or none and a seat."""
        if claim.connection is not None:
            close(claim.connection)  # first: until the server has closed it too its seat is ours
        self.room.exchange(claim)

    def _close_all(self, records: Iterable[ConnectionPoolEntry]) -> None:
        """Close what was taken out of the idle ones."""
        for record in records:
            close(record)

    def replace_all(self) -> None:
        """Have all connections of the endpoint replaced: the idle ones now, those that are out when they come back."""
        room = self.room
        room.replaced_at = time.monotonic()
        records = room.sort_out(lambda record: True)
        for record in records:
            if (life := life_of(record)) is not None and life.born_at <= room.lost_at:
                life.is_lost = True
        if records:
            self.beside(partial(self._close_all, records), "polysession closes connections")

    def _invalidate(
        self, connection: PoolProxiedConnection, exception: BaseException | None = None, _checkin: bool = True
    ) -> None:
        """A link was lost while it was used: ask the server before the others are used. SQLAlchemy would throw away
        all of them."""
        self.room.doubted_at = time.monotonic()
        if _checkin and getattr(connection, "is_valid", False):
            connection.invalidate(exception)

    def open(self, claim: Claim) -> None:
        """Open a connection on a seat that is already ours, here and now, after closing the one that had it."""
        claim.connection = self._make(claim)
        self.room.opened(claim)

    def attempt(self, claim: Claim) -> None:
        """Begin to open a connection for `claim`, beside. It is told in `Claim.connection` or `Claim.error`."""
        growth = self.room.grows(claim)
        try:
            self.beside(partial(self._attempt, claim, growth), "polysession opens a connection")
        except RuntimeError:  # no thread can be started
            self._attempt(claim, growth)

    def _attempt(self, claim: Claim, growth: Growth) -> None:
        began = time.monotonic()
        if not self.room.begins(claim, growth):
            return  # an interrupt came before it, and its seat was passed on
        try:
            record = self._make(claim)
        except BaseException as error:
            self._fell(claim, growth, error, surely=time.monotonic() - began < AGAIN)
            if not isinstance(error, Exception):
                raise
            return
        owner = self.room.arrived(claim, growth, record)
        if owner is None:
            close(record)
        elif owner.left:
            self._do_return_conn(record)
        else:
            self.wake_all((owner,))

    def _fell(self, claim: Claim, growth: Growth, error: BaseException, *, surely: bool) -> None:
        """None could be opened."""
        told = error if isinstance(error, Exception) else OSError(f"the opening of a connection was ended: {error!r}")
        if self.room.failed(claim, growth, told, surely=surely):
            self.abandon(claim)
        elif claim.error is not None:
            self.wake_all((claim,))

    def _make(self, claim: Claim) -> ConnectionPoolEntry:
        """Connect, after closing what had the seat."""
        room = self.room
        began = time.monotonic()
        is_first = claim.opens_since > began
        if is_first:
            claim.opens_since = began
        victim, claim.victim = claim.victim, None
        if victim is not None:
            close(victim)
        opening.within = None if is_first else _SECOND
        opening.until = claim.asker.waits_until() if claim.asker is not None else None
        try:
            record = self._create_connection()
        except Exception as error:
            room.note(failed=1)
            if self._is_refused(error):
                room.refused_at = began
            raise
        room.note(opened=1)
        record.info[LIFE] = Life(record.driver_connection, self._recycle, born_at=began)
        if room.refused_at is not None:  # somebody has changed the credential: none of the former one is used further
            room.refused_at, room.replaced_at = None, math.nextafter(began, 0)
        room.opening_takes += (time.monotonic() - began - room.opening_takes) / 4
        return record

    def _is_refused(self, error: Exception) -> bool:
        """The server does not accept the credential."""
        name = getattr(self._dialect, "name", "")
        return name in _SERVERS and kind_of(error, name) is Kind.AUTH

    def recall(self) -> None:
        """Give those who wait what rests in the hands of read units."""
        while (connection := self.room.recall()) is not None:
            release(connection)

    # -- checkin

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        room = self.room
        answer = room.back(self, record)
        if type(answer) is Keep:
            if room.returned_at - room.trimmed_at >= TRIM and (idle := room.trim()):
                self._close_all(idle)
        elif isinstance(answer, Handed):
            self.wake_all((answer.ticket,))
            if room.sheds:
                for refused in room.shed(self.kind):
                    refused.pool.unpark(refused)
        elif isinstance(answer, Claim):
            try:
                record.close()
            finally:
                self.wake_all(room.gone(answer))
        elif isinstance(answer, Retire) and not any(record is one for one in room.inherited):
            record.close()  # it was taken back as lost, and its seat belongs to somebody else now
        if room.watchers:
            room.came_back()

    # -- accounting

    def abandon_failed(self, claim: Claim) -> None:
        """A checkout failed; SQLAlchemy has returned the connection unless an interrupt came between."""
        if claim.left and not self.room.calls_off(claim) and claim.is_opening:
            return  # it comes into the pool when it is open
        if getattr(claim.connection, "fairy_ref", None) is None:  # else it comes back when its last holder drops it
            self.abandon(claim)

    def abandon(self, claim: Claim) -> None:
        """Close what nobody holds and pass its seat on."""
        leftovers, served = self.room.abandon(claim)
        self.wake_all(served)
        if leftovers:
            try:
                for record in leftovers:
                    record.invalidate()
            finally:
                self.wake_all(self.room.gone(claim))
        if self.room.watchers:
            self.room.came_back()

    def look_for_lost(self) -> None:
        """Take back what nobody holds any more."""
        lost, served = self.room.audit()
        self.wake_all(served)
        for claim in lost:
            claim.pool.abandon(claim)

    # -- waiting with threads

    def aside(self, attempt: Attempt) -> None:
        """Open connections for others."""
        self.beside(partial(open_for_others, self, attempt), "polysession opens a connection")

    def beside(self, work: Callable[[], object], name: str) -> object:
        """Do it in a thread of its own."""
        threads.start(partial(contextvars.copy_context().run, work), name)  # who connects may look there
        return None

    def park(self, claim: Claim, seconds: float) -> bool:
        """Wait until woken; False after `seconds`."""
        if claim.parked is None:
            with self.room.lock:
                if self.room.decided(claim):
                    return True
                parked = threading.Lock()
                parked.acquire()
                claim.parked = parked
        return cast("threading.Lock", claim.parked).acquire(timeout=seconds)

    def wake_all(self, tickets: Iterable[Ticket[ConnectionPoolEntry]]) -> None:
        """Tell those who were served, whichever pool they wait in."""
        for claim in cast("Iterable[Claim]", tickets):
            if claim.parked is not None:
                claim.pool.wake(claim)

    def wake(self, claim: Claim) -> None:
        """End the wait of `park` of who was served. From any thread."""
        if self.unpark(claim):
            # it runs now, rather than when this thread waits for something: until then its connection would lie idle
            _pass()

    def unpark(self, claim: Claim) -> bool:
        """End the wait of `park`; False if it does not wait any more. From any thread."""
        if claim.parked is None:
            return False
        try:
            cast("threading.Lock", claim.parked).release()
        except RuntimeError:
            return False  # it was woken before, and has not looked yet
        return True

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
        fresh.lends = self.lends
        if self.is_ours:
            fresh.is_ours, fresh.is_done, fresh.heard = True, self.is_done, self.heard
        if self._joined and room.process == os.getpid():
            fresh.join(room, self.kind)
        elif self._joined:  # a forked child must not count what its parent holds
            own = Room(room.name, room.seats.size, room.timeout, room.seats.limits)
            own.ping_after, own.seats.waiters.is_bounded = room.ping_after, room.seats.waiters.is_bounded
            fresh.join(own, self.kind)
        return fresh

    def dispose(self) -> None:
        """Close what is idle, and from now on whatever comes back. A second call does nothing more."""
        self.disposed = True
        self.room.settle()
        for key, (kind, connection) in self.room.resting.copy().items():
            if kind == self.kind and self.room.resting.pop(key, None) is not None:
                release(connection)
        while (record := self.room.drain(self.kind)) is not None:
            record.close()
        self.look_for_lost()

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


def _check(size: Any, timeout: Any) -> None:
    """Raise `ConfigError` for what the application gave a pool alone; what comes by a door was checked there."""
    if type(size) is not int or size < 1:
        raise ConfigError(
            f"pool_size: expected a whole number of at least 1, found {size!r}",
            do=("give the most connections that may be open at once",),
            path="pool_size",
        )
    if type(timeout) not in (int, float) or not 0 <= timeout < math.inf:
        raise ConfigError(
            f"pool_timeout: expected seconds as a number of at least 0, found {timeout!r}",
            do=("give the longest wait for a connection: every wait ends",),
            path="pool_timeout",
        )
