"""A KeyboardInterrupt at any line of a checkout or checkin, in SQLAlchemy's pool and in ours, loses no seat."""

from __future__ import annotations

import _thread
import gc
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from proofs.frozen import frozen
from tests.engines.process import wait_until

from polysession._core.seats import Seats
from polysession._shell import room as room_module
from polysession._shell import threads
from polysession._shell.claims import Attempt, Claim
from polysession._shell.liveness import life_of
from polysession._shell.pool import FairPool
from polysession._shell.room import Room
from polysession.errors import CheckoutTimeout

from .driver import EVENTS, Driver, interrupt_at

SIZE = 2
FILES = (
    "sqlalchemy/pool/base.py",
    "polysession/_shell/claims.py",
    "polysession/_shell/exhausted.py",
    "polysession/_shell/growing.py",
    "polysession/_shell/liveness.py",
    "polysession/_shell/pool.py",
    "polysession/_shell/proxied.py",
    "polysession/_shell/room.py",
    "polysession/_shell/threads.py",
    "polysession/_shell/waiting.py",
    "polysession/_shell/lease.py",
    "polysession/_shell/loan.py",
    "polysession/_core/seats.py",
)


@pytest.fixture
def _nothing_keeps_tracebacks() -> Iterator[None]:
    """No log record keeps the frames of an interrupted close; only what this test makes is collected."""
    logging.disable(logging.CRITICAL)
    with frozen():
        yield
    logging.disable(logging.NOTSET)


class Begun:
    """What was begun in threads, and what of that has ended. In the place of `_thread`."""

    begun = ended = 0

    @staticmethod
    def start_new_thread(start: Callable[..., None], arguments: tuple[Callable[[], object], str]) -> None:
        """Count it only if there is a thread."""
        work, name = arguments

        def counted() -> None:
            try:
                work()
            finally:
                Begun.ended += 1

        _thread.start_new_thread(start, (counted, name))
        Begun.begun += 1


@pytest.fixture(autouse=True)
def _threads_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_thread", Begun)


class Tenant:
    """Who has a lease."""

    name = "tenant"

    def describe(self) -> str:
        """As a holding."""
        return self.name

    def refuse_outside(self) -> None:
        """It may have one everywhere."""

    def waits_until(self) -> float | None:
        """It has no deadline."""

    def waited(self, seconds: float) -> None:
        """It does not mind."""

    def held_by(self) -> object | None:
        """Anybody may end it."""

    def reseated(self, lease: Any) -> None:
        """Nothing has to be said."""


class Bench:
    """One endpoint with two kinds of connections, and what was checked out of it."""

    goes_shorter = False
    """Its connections go the shorter way, on which nothing is to be done."""

    def __init__(self) -> None:
        self.driver = Driver()
        self.room = Room("bench", SIZE, 0.0)
        self.read, self.write = (FairPool(self.driver, pool_size=SIZE) for _ in range(2))
        self.read.join(self.room, "read")
        self.write.join(self.room, "write")
        for pool in (self.read, self.write) if self.goes_shorter else ():
            pool.is_done, pool.heard = (lambda *_: True), len(pool.dispatch.reset)
        self.held: list[Any] = []
        self.waiters: list[Attempt] = []

    def take(self, pool: FairPool, number: int = 1) -> None:
        """Check out and hold."""
        self.held += [pool.connect() for _ in range(number)]

    def lend(self, *, resting: bool) -> Any:
        """Hold every connection; the last one is lent, and rests or is in use."""
        self.take(self.read, SIZE - 1)
        self.read.lends = True
        self.take(self.read)
        self.read.lends = False
        lease = self.held[-1]
        lease.lend(Tenant())
        if resting:
            lease.loan.rest()
        return lease

    def give_back(self) -> None:
        """Check in the oldest that is held."""
        self.held.pop(0).close()

    def queue(self, pool: FairPool) -> None:
        """Somebody waits for a connection."""
        attempt = Attempt()
        pool.room.ask(attempt.claims(pool, None))
        self.waiters.append(attempt)

    def serve_queue(self) -> None:
        """Those who waited were served; they open what they must and give it back."""
        for attempt in self.waiters:
            claim = attempt.claim
            assert claim is not None
            seats = self.room.seats
            # who waits while others of its kind are out asks again by itself
            assert seats.seated(claim) or seats.out(claim.kind), "a waiter was forgotten"
            assert self.room.insist(claim, beside=SIZE), "there is no room for a waiter"
            if claim.connection is None:
                claim.pool.open(claim)
            assert claim.connection is not None
            claim.pool._do_return_conn(claim.connection)
        self.waiters.clear()


def idle_checkout(bench: Bench) -> Callable[[], None]:
    """Take a connection that is idle."""
    bench.take(bench.read)
    bench.give_back()
    return lambda: bench.take(bench.read)


def exchanging_checkout(bench: Bench) -> Callable[[], None]:
    """Find an idle connection that cannot be used, and another one that can."""
    bench.take(bench.read, SIZE)
    bench.give_back()
    bench.give_back()
    life = life_of(bench.room.seats.idle["read"][-1])
    assert life is not None
    life.ends_at = 0.0
    return lambda: bench.take(bench.read)


def replacing_checkout(bench: Bench) -> Callable[[], None]:
    """Find only idle connections that cannot be used, and open one."""
    bench.take(bench.read, SIZE)
    bench.give_back()
    bench.give_back()
    bench.room.replaced_at = time.monotonic()
    return lambda: bench.take(bench.read)


def opening_checkout(bench: Bench) -> Callable[[], None]:
    """Open a connection."""
    return lambda: bench.take(bench.read)


def growing_checkout(bench: Bench) -> Callable[[], None]:
    """Have a connection opened beside, and wait for it."""
    bench.read.opens_here = False
    return lambda: bench.take(bench.read)


def helped_checkout(bench: Bench) -> Callable[[], None]:
    """Wait while one is opened beside for those who wait."""
    bench.take(bench.read)
    bench.room.timeout = 60.0
    return lambda: bench.take(bench.read)


def refused_growing_checkout(bench: Bench) -> Callable[[], None]:
    """Have one opened beside that cannot be opened."""
    bench.read.opens_here = False
    bench.driver.fails = OSError
    return lambda: bench.take(bench.read)


def refused_checkout(bench: Bench) -> Callable[[], None]:
    """Fail to open a connection."""
    bench.driver.fails = OSError
    return lambda: bench.take(bench.read)


def checkout_with_victim(bench: Bench) -> Callable[[], None]:
    """Close an idle connection of the other kind and open one."""
    bench.take(bench.write, SIZE)
    bench.give_back()
    bench.give_back()
    return lambda: bench.take(bench.read)


def timed_out_checkout(bench: Bench) -> Callable[[], None]:
    """Find all seats taken, and give up."""
    bench.take(bench.read, SIZE)
    return lambda: bench.take(bench.read)


def waited_checkout(bench: Bench) -> Callable[[], None]:
    """Wait, and be handed a connection."""
    return _waiting(bench, bench.read)


def waited_checkout_with_victim(bench: Bench) -> Callable[[], None]:
    """Wait, and be given the seat of a connection of the other kind."""
    return _waiting(bench, bench.write)


def _waiting(bench: Bench, holder: FairPool) -> Callable[[], None]:
    bench.take(holder, SIZE)
    bench.room.timeout = 60.0
    park = bench.read.park

    def return_instead(claim: Claim, seconds: float) -> bool:
        bench.give_back()
        return park(claim, seconds)

    bench.read.park = return_instead  # type: ignore[method-assign]  # the moment at which another thread returns it
    return lambda: bench.take(bench.read)


def checkin(bench: Bench) -> Callable[[], None]:
    """Give a connection back."""
    bench.take(bench.read, SIZE)
    return bench.give_back


def committed_checkin(bench: Bench) -> Callable[[], None]:
    """Give a connection back right after a COMMIT."""
    bench.take(bench.read, SIZE)

    def go() -> None:
        made = bench.held.pop(0)
        getattr(made, "go", made.close)()

    return go


def checkin_to_waiter(bench: Bench) -> Callable[[], None]:
    """Give a connection back while somebody waits for it."""
    bench.take(bench.read, SIZE)
    bench.queue(bench.read)
    return bench.give_back


def checkin_to_other_kind(bench: Bench) -> Callable[[], None]:
    """Give a connection back while somebody waits for its seat."""
    bench.take(bench.read, SIZE)
    bench.queue(bench.write)
    return bench.give_back


def invalidation(bench: Bench) -> Callable[[], None]:
    """Throw a connection away."""
    bench.take(bench.read, SIZE)
    bench.queue(bench.read)
    return lambda: bench.held.pop(0).invalidate()


def dropped(bench: Bench) -> Callable[[], None]:
    """Forget to give a connection back."""
    bench.take(bench.read, SIZE)
    return lambda: bench.held.pop(0) and None


def audit(bench: Bench) -> Callable[[], None]:
    """Look for what was lost, and find something."""
    bench.take(bench.read, SIZE)
    bench.queue(bench.read)
    lost = bench.held.pop(0)
    record = lost._connection_record
    lost._finalizer.detach()
    del lost
    record.fairy_ref = None  # as if an interrupt had ended its return
    bench.read.look_for_lost()
    return bench.read.look_for_lost


def statement_end(bench: Bench) -> Callable[[], None]:
    """Let a lent connection rest."""
    lease = bench.lend(resting=False)
    return lease.loan.rest  # type: ignore[no-any-return]  # a lease


def statement_end_with_waiter(bench: Bench) -> Callable[[], None]:
    """Let a lent connection rest while somebody waits."""
    lease = bench.lend(resting=False)
    bench.queue(bench.read)
    return lease.loan.rest  # type: ignore[no-any-return]  # a lease


def next_statement(bench: Bench) -> Callable[[], None]:
    """Take a resting connection for the next statement."""
    lease = bench.lend(resting=True)
    return lambda: lease.seat() and None


def next_statement_elsewhere(bench: Bench) -> Callable[[], None]:
    """Take another connection, after the first one was taken back."""
    lease = bench.lend(resting=True)
    bench.take(bench.write)
    bench.held.pop().close()
    return lambda: lease.seat() and None


def recalling_checkout(bench: Bench) -> Callable[[], None]:
    """Take back what rests, for oneself."""
    bench.lend(resting=True)
    return lambda: bench.take(bench.read)


def recalling_checkout_of_other_kind(bench: Bench) -> Callable[[], None]:
    """Take back what rests, for its seat."""
    bench.lend(resting=True)
    return lambda: bench.take(bench.write)


def resting_checkin(bench: Bench) -> Callable[[], None]:
    """End a unit whose connection rests."""
    lease = bench.lend(resting=True)
    bench.held.remove(lease)
    bench.queue(bench.read)
    return lease.close  # type: ignore[no-any-return]  # a lease


def resting_invalidation(bench: Bench) -> Callable[[], None]:
    """Throw a connection away that rests."""
    lease = bench.lend(resting=True)
    bench.held.remove(lease)
    return lease.invalidate  # type: ignore[no-any-return]  # a lease


SCENES = (
    statement_end,
    statement_end_with_waiter,
    next_statement,
    next_statement_elsewhere,
    recalling_checkout,
    recalling_checkout_of_other_kind,
    resting_checkin,
    resting_invalidation,
    idle_checkout,
    exchanging_checkout,
    replacing_checkout,
    opening_checkout,
    growing_checkout,
    helped_checkout,
    refused_growing_checkout,
    refused_checkout,
    checkout_with_victim,
    timed_out_checkout,
    waited_checkout,
    waited_checkout_with_victim,
    checkin,
    committed_checkin,
    checkin_to_waiter,
    checkin_to_other_kind,
    invalidation,
    dropped,
    audit,
)


SHORT = (statement_end, next_statement)
"""Scenes of a few lines: nothing but the hand-over of a connection."""


@pytest.mark.usefixtures("_nothing_keeps_tracebacks")
@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_an_interrupt_anywhere_loses_no_seat(
    scene: Callable[[Bench], Callable[[], None]], event: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Afterwards the pool serves as many connections as before, never more, and nobody waits for nothing."""
    monkeypatch.setattr(room_module, "_SURELY_LOST", 0.0)
    places = 5 if scene in SHORT else 60
    assert _interrupt_everywhere(scene, event) > places, "the scene has places to be interrupted at"


@pytest.mark.usefixtures("_nothing_keeps_tracebacks")
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_an_interrupt_anywhere_on_the_shorter_way(
    scene: Callable[[Bench], Callable[[], None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for connections that go past SQLAlchemy's own steps."""
    monkeypatch.setattr(room_module, "_SURELY_LOST", 0.0)
    monkeypatch.setattr(Bench, "goes_shorter", True)
    assert _interrupt_everywhere(scene, "line") > 5, "the scene has places to be interrupted at"


@pytest.mark.usefixtures("_nothing_keeps_tracebacks")
@pytest.mark.parametrize(
    ("scene", "event"), [(growing_checkout, "opcode"), (helped_checkout, "line")], ids=["growing", "helped"]
)
def test_an_interrupt_whose_error_is_kept(
    scene: Callable[[Bench], Callable[[], None]], event: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error keeps what the interrupted call had made; what was not begun to be opened then takes no seat for it."""
    monkeypatch.setattr(room_module, "_SURELY_LOST", 0.0)
    files = tuple(name for name in FILES if not name.endswith(("base.py", "proxied.py")))
    kept: list[KeyboardInterrupt] = []
    assert _interrupt_everywhere(scene, event, files, kept) > 60, "the scene has places to be interrupted at"
    assert len(kept) > 60


@pytest.mark.usefixtures("_nothing_keeps_tracebacks")
@pytest.mark.parametrize(
    ("owner", "name", "broken"),
    [
        (Seats, "repair", lambda seats, **_: None),
        (Seats, "serve", lambda seats: []),
        (Claim, "is_held", property(lambda claim: True)),
    ],
    ids=["nothing is mended", "nobody is served after an audit", "nothing counts as lost"],
)
def test_an_interrupt_loses_seats_without_the_audit(
    owner: type, name: str, broken: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: with a part of the audit taken out, seats are lost and this is noticed."""
    monkeypatch.setattr(room_module, "_SURELY_LOST", 0.0)
    monkeypatch.setattr(owner, name, broken)
    with pytest.raises(AssertionError):
        [_interrupt_everywhere(scene, "line") for scene in SCENES]


def _interrupt_everywhere(
    scene: Callable[[Bench], Callable[[], None]],
    event: str,
    files: tuple[str, ...] = FILES,
    kept: list[KeyboardInterrupt] | None = None,
) -> int:
    number = 0
    reached = True
    while reached:
        number += 1
        bench = Bench()
        work = scene(bench)

        def attempt(work: Callable[[], None] = work) -> None:
            try:
                work()
            except (CheckoutTimeout, OSError):
                pass
            except KeyboardInterrupt as error:
                if kept is not None:
                    kept.append(error)
                raise

        reached = interrupt_at(number, files, attempt, event=event)
        del work, attempt
        if kept and sum(claim.handed_out for claim in bench.room.holders()) > len(bench.held):
            kept.pop()  # it holds the connection itself
        wait_until(lambda: Begun.ended == Begun.begun, 30, what="nothing is being opened", every=0)
        _check(bench, f"{scene.__name__}, interrupted at {event} {number}")
        if kept:
            kept[-1] = KeyboardInterrupt()  # in its place: the next bench has nothing of what this one keeps
    return number


def _check(bench: Bench, what: str) -> None:
    room = bench.room
    room.timeout = 0.0
    bench.read.opens_here = True
    bench.driver.fails = None
    bench.driver.most = SIZE
    bench.read.__dict__.pop("park", None)
    gc.collect()
    assert all(proxy.is_valid for proxy in bench.held), what
    for _ in range(2):  # seen twice
        bench.read.look_for_lost()
    if bench.waiters and len(bench.held) == SIZE:
        bench.give_back()  # the interrupt came before anything was given back
    bench.serve_queue()
    while bench.held:
        bench.give_back()
    assert not room.seats.taken, what
    assert not room.seats.waiters, what
    assert room.seats.total <= SIZE, what
    for pool in (bench.read, bench.write, bench.read):
        bench.take(pool, SIZE)
        assert bench.driver.open == SIZE, what
        with pytest.raises(CheckoutTimeout):
            bench.take(pool)
        while bench.held:
            bench.give_back()
        assert room.seats.total == pool.checkedin() == SIZE, what
