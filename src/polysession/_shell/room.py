"""The room of an endpoint: its seats, their lock and clock, and everything known about who sits there. No waiting.

The decisions are those of `_core.seats`. Pools that join one room share its seats, so that one number bounds the
connections of an endpoint, whatever they are for.

Whoever finds the room full takes back what nobody holds (`Room.audit`). The garbage collector may return a connection
in the middle of our own work, in the same thread; such a return is put aside and done a little later.
"""

from __future__ import annotations

import functools
import gc
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, cast

from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from .._core.seats import Grow, Handed, Keep, Refuse, Retire, Seats, Ticket, Use, Wait
from ..observe.live import PoolCounts, PoolStats
from . import knots
from .claims import OPENER, Asker, Claim, Growth
from .liveness import LIFE, Life, life_of
from .severing import sever

if TYPE_CHECKING:
    from .loan import Resting
    from .pool import FairPool

__all__ = ["LOOK_AGAIN", "TRIM", "Room"]

P = ParamSpec("P")
T = TypeVar("T")

LOOK_AGAIN = 0.25
"""Seconds between two audits while a waiter waits: bounds how long an interrupt can hide a seat."""
_COLLECT_AGAIN = 2.0
"""Seconds between two runs of the garbage collector for the sake of a room: they stop the program."""
_COLLECT_PART = 0.01
"""The part of the time that these runs may take as long as connections come and go: then memory is allocated, and the
collector runs by itself too."""
_SURELY_LOST = 1.0
"""Seconds after which a connection that was on its way back and is in nobody's hands is taken back. A busy interpreter
may keep a thread from running for a few tenths of a second (its switch interval times the threads that want to run)."""
_OPENING_TAKES = 0.02
"""Seconds that opening a connection is thought to take before one was opened."""
_LEAST_PATIENCE = 0.005
_IDLE = 600.0
"""Seconds of idleness after which a connection above the floor is closed."""
TRIM = 30.0
"""Seconds between two looks for such ones, when a connection comes back."""
_SOON = 0.02
"""Seconds in which a lock is to be had that nobody keeps for long."""
_SLOW = 0.5
"""Seconds after which nobody counts on a connection that is being opened."""
_PING_AFTER = 30.0
"""Seconds; that of `PoolOptions`, for a pool without a configuration."""


def _changing(change: Callable[Concatenate[Room, P], T]) -> Callable[Concatenate[Room, P], T]:
    """A method that changes the seats: under the lock, and known to be in the middle of it. `ask` and `back`, which
    every checkout passes, say so themselves."""

    @functools.wraps(change)
    def changed(self: Room, *args: P.args, **named: P.kwargs) -> T:
        with self.lock:
            self.busy = True
            try:
                return change(self, *args, **named)
            finally:
                self.busy = False

    return cast("Callable[Concatenate[Room, P], T]", changed)


class Tally:
    """What a room counts. Written under its lock."""

    __slots__ = (
        "asked", "dead", "failed", "old", "opened", "replaced", "timeouts", "unanswered", "waited", "waits",
    )  # fmt: skip

    def __init__(self) -> None:
        self.asked = self.waits = self.timeouts = self.opened = self.failed = 0
        self.old = self.dead = self.unanswered = self.replaced = 0
        self.waited = 0.0


class Room:
    """The seats of one endpoint and everything known about who sits there. Thread-safe."""

    __slots__ = (
        "__weakref__",
        "audited_at",
        "busy",
        "collected_at",
        "collecting_takes",
        "described",
        "doubted_at",
        "floor",
        "inherited",
        "is_alone",
        "late",
        "lock",
        "lost_at",
        "name",
        "opening_takes",
        "ping_after",
        "process",
        "refused_at",
        "replaced_at",
        "resting",
        "returned_at",
        "seats",
        "sheds",
        "tally",
        "timeout",
        "trimmed_at",
        "watchers",
    )

    def __init__(self, name: str, size: int, timeout: float, limits: dict[str, int] | None = None) -> None:
        self.name = name
        self.timeout = timeout
        self.is_alone = False
        """It is that of a pool which was given to `create_engine`, and has the names that it has there."""
        self.process = os.getpid()
        self.lock = threading.RLock()  # the garbage collector may enter it again in the same thread
        self.busy = False
        """The thread that holds the lock is in the middle of a change."""
        self.late: list[tuple[FairPool, ConnectionPoolEntry]] = []
        """What came back in the middle of a change."""
        self.seats: Seats[ConnectionPoolEntry] = Seats(size, limits)
        self.returned_at = time.monotonic()
        self.described: tuple[float, tuple[str, ...]] | None = None
        """Who held its connections when an error last said so."""
        self.sheds = False
        """What came back last found its queue overloaded."""
        self.audited_at = 0.0
        self.opening_takes = _OPENING_TAKES
        """Seconds, on the average of late."""
        self.resting: dict[int, Resting] = {}
        """The connections that are lent and that nobody uses just now, by the key of their lease, oldest first. Who
        takes one out has it, without the lock: that is one instruction."""
        self.collected_at = float("-inf")
        self.collecting_takes = 0.0
        """Seconds, the last time."""
        self.ping_after = _PING_AFTER
        """Seconds of idleness after which a server is asked; 0 for never."""
        self.replaced_at = float("-inf")
        """What was opened before is replaced: closed when it comes back, or before its next use."""
        self.floor = 0
        """So many connections are kept open."""
        self.trimmed_at = time.monotonic()
        self.doubted_at = float("-inf")
        """The server is asked before the next use of what came back before."""
        self.lost_at = float("-inf")
        """The links of what was opened before lead nowhere: nobody says good-bye on them."""
        self.refused_at: float | None = None
        """When the server refused the credential; None if it has accepted it since."""
        self.tally = Tally()
        self.inherited: list[Any] = []
        """In a forked child: the connections that its parent had. Kept, so that none of them is ended there."""
        self.watchers: list[Callable[[], object]] = []
        """Called whenever a connection has come back; from any thread, so they only tell."""
        knots.enter(self)

    def forked(self) -> None:
        """In a forked child: all connections are the parent's, and none of them is given back, rolled back or closed
        here; whoever had the lock, perhaps in the middle of a change, is not here and never gives it back."""
        parents, mine = self.seats, Seats[ConnectionPoolEntry](self.seats.size, self.seats.limits)
        mine.waiters.is_bounded = parents.waiters.is_bounded
        mine.paused, mine.holds_back = parents.paused, parents.holds_back
        out: list[Any] = [claim.connection for claim in list(parents.taken.values()) if claim.connection is not None]
        for record in out:  # by that SQLAlchemy and `proxied` know that something is to be done when it is dropped
            record.fairy_ref = None
        self.inherited += [*out, *parents.idle.values(), self.resting, self.late]
        self.lock, self.busy = threading.RLock(), False
        self.seats, self.resting, self.late = mine, {}, []

    def ask(
        self, claim: Claim
    ) -> Use[ConnectionPoolEntry] | Grow[ConnectionPoolEntry] | Wait[ConnectionPoolEntry] | Refuse:
        """Use, open, wait, or do not even wait."""
        with self.lock:
            self.busy = True
            try:
                self.tally.asked += 1
                return self.seats.ask(claim)
            finally:
                self.busy = False

    @_changing
    def help(self, claim: Claim) -> bool:
        """Give `claim` a seat on which to open a connection for those who wait; False if that is not worth it."""
        if self.seats.total >= self.seats.size:
            return False
        return self.seats.help(claim)

    @_changing
    def prepare(self, claim: Claim) -> bool:
        """Give `claim` a seat on which to open a connection that is to be there though nobody waits for it."""
        return self.seats.prepare(claim, self.floor)

    def trim(self) -> list[ConnectionPoolEntry]:
        """Every `TRIM` seconds: take out the connections that were idle for too long and are above the floor."""
        now = self.trimmed_at = time.monotonic()
        more = self.seats.total - self.floor

        def useless(record: ConnectionPoolEntry) -> bool:
            nonlocal more
            life = life_of(record)
            if more <= 0 or life is None or now - life.used_at < _IDLE:
                return False
            more -= 1
            return True

        return self.sort_out(useless)

    @_changing
    def insist(self, claim: Claim, *, beside: int) -> bool:
        """It has waited long enough for what may come back; True if it is served now."""
        return self.seats.insist(claim, beside=beside)

    @_changing
    def serve(self) -> list[Ticket[ConnectionPoolEntry]]:
        """Those who are served now: wake them."""
        return self.seats.serve()

    @_changing
    def fail(self, kind: str, error: Exception) -> list[Claim]:
        """The first waiter of a kind hears why no connection can be opened: wake it. Empty if nobody waits."""
        for waiter in cast("list[Claim]", list(self.seats.waiters)):
            if waiter.kind == kind and self.seats.withdraw(waiter):
                waiter.error = error
                return [waiter]
        return []

    @_changing
    def refuse(self, asker: Asker, error: BaseException) -> list[Claim]:
        """Those who wait for this asker hear that they wait in vain: wake them."""
        waiting = [one for one in cast("list[Claim]", list(self.seats.waiters)) if one.asker is asker]
        for waiter in waiting:
            if self.seats.withdraw(waiter):
                waiter.error = error
        return waiting

    def decided(self, claim: Claim) -> bool:
        """It need not wait any more: it was served, or cannot be."""
        if claim.growing:
            return claim.error is not None or claim.connection is not None
        return claim.error is not None or claim.refused or self.seats.seated(claim)

    @_changing
    def shed(self, kind: str) -> list[Claim]:
        """Refuse those of a kind who have waited for too long while more come than can be served: wake them."""
        hopeless = cast("list[Claim]", self.seats.waiters.hopeless(kind, time.monotonic()))
        for waiter in hopeless:
            waiter.refused = True
            self.seats.withdraw(waiter)
        return hopeless

    def note_slow(self) -> None:
        """Let nobody count on what has been being opened for too long."""
        before = time.monotonic() - _SLOW
        with self.lock:
            for claim in cast("list[Claim]", list(self.seats.taken.values())):
                if claim.connection is None and claim.opens_since < before:
                    claim.is_slow = True
                    claim.is_orphan = claim.left or claim.asker is OPENER

    def awaited(self, waited: float) -> list[Claim]:
        """The claims whose connection has been being opened for so long that it says something of the server, to who
        has waited for so many seconds; the oldest first."""
        before = time.monotonic() - max(self.patience, min(_SLOW, waited / 2))
        return sorted(
            (claim for claim in self.holders() if claim.connection is None and claim.opens_since <= before),
            key=lambda claim: claim.opens_since,
        )

    def grows(self, claim: Claim) -> Growth:
        """A connection is about to be opened for `claim` beside, by whoever has the answer."""
        growth = Growth()
        with self.lock:
            claim.grows(growth)
        return growth

    def begins(self, claim: Claim, growth: Growth | None = None) -> bool:
        """Somebody is about to open a connection on the seat of `claim`; False if that was called off, or has become of
        no use."""
        with self.lock:
            if claim.called_off or not self.seats.seated(claim):
                return False
            claim.begun = True
            if growth is not None:
                growth.begun = True
            return True

    def calls_off(self, claim: Claim) -> bool:
        """Let nobody open a connection on the seat of `claim`; False if somebody is at it."""
        with self.lock:
            claim.called_off = not claim.begun
            return claim.called_off

    @_changing
    def arrived(self, claim: Claim, growth: Growth, record: ConnectionPoolEntry) -> Claim | None:
        """A connection was opened for `claim` beside: who has it; None if it is one too many."""
        claim.grown(growth)
        return cast("Claim | None", self.seats.arrived(claim, record))

    def failed(self, claim: Claim, growth: Growth, error: Exception, *, surely: bool) -> bool:
        """None could be opened; tell whoever asked if others are not being opened, or `surely` would fail too. True if
        nobody waits for it, and the seat is free."""
        with self.lock:
            others = claim.grown(growth)
            if others and not surely:
                return False
            if claim.error is None:
                claim.error = error
            return claim.left and not others

    def leave(self, claim: Claim) -> bool:
        """Whoever asked waits no more; False if it was decided just now."""
        with self.lock:
            if self.decided(claim):
                return False
            claim.left = True
            claim.asker = None  # whoever it was, he holds and waits for nothing here any more
            return True

    @property
    def patience(self) -> float:
        """Seconds for which it is better to wait for what may come back than to open another connection."""
        return min(max(self.opening_takes, _LEAST_PATIENCE), LOOK_AGAIN)

    @_changing
    def opened(self, claim: Claim) -> None:
        """A connection was opened on the seat of `claim`."""
        self.seats.opened(claim)

    def back(
        self, pool: FairPool, record: ConnectionPoolEntry
    ) -> Keep | Handed[ConnectionPoolEntry] | Retire | Claim | None:
        """A connection comes back: what is done with it; its claim if it is to be closed, which keeps its seat until
        `gone`; None if it has to be done later."""
        with self.lock:
            if self.busy:
                self.late.append((pool, record))
                return None
            self.busy = True
            try:
                now = self.returned_at = time.monotonic()
                seats = self.seats
                taken: Mapping[int, Any] = seats.taken  # here all tickets are claims
                claim: Claim | None = taken.get(id(record))
                life: Life | None = record.info.get(LIFE)
                if life is not None:
                    life.used_at = now
                if claim is not None:
                    if (
                        pool.disposed
                        or record.dbapi_connection is None
                        or claim.severed
                        or (life is not None and life.born_at <= self.replaced_at)
                        or seats.total > seats.size
                    ):
                        return claim
                    if seats.waiters:
                        held = now - claim.since
                        self.sheds = seats.waiters.returned(claim.kind, held, now, seats.size)
                return seats.back(record)
            finally:
                self.busy = False

    @_changing
    def gone(self, claim: Claim) -> list[Ticket[ConnectionPoolEntry]]:
        """The connection of `claim` was closed, at the server too: who was served by its seat."""
        return self.seats.gone(claim)

    @_changing
    def exchange(self, claim: Claim) -> ConnectionPoolEntry | None:
        """The connection of `claim` was of no use: it gets another one, and the first is answered; or None, and one
        is to be opened on its seat."""
        return self.seats.exchange(claim)

    @_changing
    def sort_out(self, useless: Callable[[ConnectionPoolEntry], bool]) -> list[ConnectionPoolEntry]:
        """Take out the idle connections that are `useless`, for closing."""
        return self.seats.sort_out(useless)

    @_changing
    def withdraw(self, claim: Claim) -> bool:
        """A waiter gives up; False if it was served meanwhile."""
        return self.seats.withdraw(claim)

    @_changing
    def abandon(self, claim: Claim) -> tuple[list[ConnectionPoolEntry], list[Ticket[ConnectionPoolEntry]]]:
        """A claim has failed or was lost: what has to be closed first, and who was served by it. If there is something
        to close, its seat is kept until `gone`."""
        seats = self.seats
        if seats.withdraw(claim) or not seats.seated(claim):
            return [], []  # it had nothing that others could have now
        seats.repair()
        if not seats.seated(claim):
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
        return leftovers, [] if leftovers else seats.gone(claim)

    def sever(self, asker: Asker, *, soon: bool = False) -> bool:
        """Break the links of the connections that are out for `asker`; whether there were any.

        Under the lock, so that none of them can be given to somebody else meanwhile. With `soon`, raises
        `BlockingIOError` if that cannot be had: who has it may wait for a server, in what the garbage collector ends.
        """
        severed = False
        if not self.lock.acquire(timeout=_SOON if soon else -1):
            raise BlockingIOError(f"the lock of {self.name} is in use")
        try:
            for claim in cast("list[Claim]", list(self.seats.taken.values())):
                if claim.asker is asker and claim.connection is not None:
                    claim.severed = severed = True
                    sever(claim.connection.driver_connection)
        finally:
            self.lock.release()
        return severed

    def audit(self) -> tuple[list[Claim], list[Ticket[ConnectionPoolEntry]]]:
        """Mend what interrupts have left: the claims that nobody holds any more, and who was served.

        The caller must abandon those claims. A claim counts as lost if nobody holds it, seen twice with time between.
        Taking back early what a slow thread is about to return does no harm: the late return finds its seat given away
        and closes the connection.
        """
        self.settle()
        return self._audited(time.monotonic())

    @_changing
    def _audited(self, now: float) -> tuple[list[Claim], list[Ticket[ConnectionPoolEntry]]]:
        lost: list[Claim] = []
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
                self.seats.waiters.leave(waiter)
        return lost, self.seats.serve()

    def settle(self) -> None:
        """Do the returns that came in the middle of a change."""
        for _ in range(len(self.late)):
            with self.lock:
                self.busy = False  # an interrupt can have left it
                if not self.late:
                    return
                pool, record = self.late.pop(0)
            pool._do_return_conn(record)

    def recall(self) -> PoolProxiedConnection | None:
        """Take a resting connection that somebody waits for; None if there is none."""
        if not self.resting:
            return None
        with self.lock:
            for key, (kind, connection) in self.resting.copy().items():
                if self.seats.wanted(kind) and self.resting.pop(key, None) is not None:
                    return connection
        return None

    def moves(self, kind: str, since: float) -> bool:
        """A connection of this kind came to somebody after that moment. A hint, without the lock."""
        taken = cast("list[Claim]", list(self.seats.taken.values()))  # others change it meanwhile
        return any(claim.kind == kind and claim.since > since for claim in taken)

    def collect(self, *, rarely: bool = False) -> None:
        """Run the garbage collector, but not too often: a connection may be held by what nobody can reach any more.

        When everybody waits nothing is allocated, and then it does not run by itself. `rarely`: it does.
        """
        now = time.monotonic()
        pause = max(_COLLECT_AGAIN, self.collecting_takes / _COLLECT_PART) if rarely else _COLLECT_AGAIN
        if gc.isenabled() and now - self.collected_at >= pause:
            self.collected_at = now
            gc.collect()
            self.collecting_takes = time.monotonic() - now

    @_changing
    def drain(self, kind: str) -> ConnectionPoolEntry | None:
        """Take out one idle connection of a kind; None if there is none left."""
        return self.seats.drain(kind)

    def pause(self) -> None:
        """Serve nobody."""
        with self.lock:
            self.seats.pause()

    def resume(self) -> list[Ticket[ConnectionPoolEntry]]:
        """Serve those who wait: wake them."""
        with self.lock:
            self.seats.resume()
        return self.serve()

    def resize(self, size: int) -> list[Ticket[ConnectionPoolEntry]]:
        """So many seats from now on. Those who are served now: wake them."""
        with self.lock:
            self.seats.resize(size)
        return self.serve()

    @staticmethod
    def wake(tickets: Iterable[Ticket[ConnectionPoolEntry]]) -> None:
        """Wake those who were served."""
        for claim in cast("Iterable[Claim]", tickets):
            claim.pool.wake_all((claim,))

    def came_back(self) -> None:
        """Tell who watches."""
        for watcher in self.watchers.copy():
            watcher()

    def note(self, **more: float) -> None:
        """Add to the tally."""
        with self.lock:
            for name, number in more.items():
                setattr(self.tally, name, getattr(self.tally, name) + number)

    def note_wait(self, seconds: float) -> None:
        """Somebody has waited so long and was served. Apart from `note`: its connection lies idle meanwhile."""
        tally = self.tally
        with self.lock:
            tally.waits += 1
            tally.waited += seconds

    def stats(self) -> PoolStats:
        """What was counted, and what there is at this moment."""
        with self.lock:
            seats, tally = self.seats, self.tally
            claims = cast("list[Claim]", list(seats.taken.values()))
            opening = sum(claim.connection is None for claim in claims)
            return PoolStats(
                endpoint=self.name,
                size=seats.size,
                paused=seats.paused,
                out=len(claims) - opening,
                opening=opening,
                idle=sum(map(len, seats.idle.values())),
                waiting=len(seats.waiters),
                asked=tally.asked,
                waits=tally.waits,
                waited=tally.waited,
                timeouts=tally.timeouts,
                opened=tally.opened,
                failed=tally.failed,
                old=tally.old,
                dead=tally.dead,
                unanswered=tally.unanswered,
                replaced=tally.replaced,
            )

    def holders(self) -> list[Claim]:
        """The claims, oldest first."""
        with self.lock:
            claims = cast("set[Claim]", set(self.seats.taken.values()))
        return sorted(claims, key=lambda claim: claim.since)

    def held_for(self, asker: Asker) -> list[Claim]:
        """The claims of one asker."""
        with self.lock:
            return [claim for claim in cast("list[Claim]", list(self.seats.taken.values())) if claim.asker is asker]

    def advice(self, *words: str) -> tuple[str, ...]:
        """What to do, with the settings by the names that they have for whoever made the pool."""
        if not self.is_alone:
            return words
        return tuple(
            one.replace("pool.size of the database", "pool_size").replace("pool.checkout_timeout", "pool_timeout")
            for one in words
        )

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
