"""A KeyboardInterrupt at any line of a checkout or checkin, in SQLAlchemy's pool and in ours, loses no seat."""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from polysession._core.seats import Seats
from polysession._shell import pool as pool_module
from polysession._shell.pool import Claim, FairPool, Room, _Attempt
from polysession.errors import CheckoutTimeout

from .driver import Driver, interrupt_at

SIZE = 2
FILES = ("sqlalchemy/pool/base.py", "polysession/_shell/pool.py", "polysession/_core/seats.py")


@pytest.fixture
def _nothing_keeps_tracebacks() -> Iterator[None]:
    """No log record keeps the frames of an interrupted close; only what this test makes is collected."""
    logging.disable(logging.CRITICAL)
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
    logging.disable(logging.NOTSET)


class Bench:
    """One endpoint with two kinds of connections, and what was checked out of it."""

    def __init__(self) -> None:
        self.driver = Driver()
        self.room = Room("bench", SIZE, 0.0)
        self.read, self.write = (FairPool(self.driver, pool_size=SIZE) for _ in range(2))
        self.read.join(self.room, "read")
        self.write.join(self.room, "write")
        self.held: list[Any] = []
        self.waiters: list[_Attempt] = []

    def take(self, pool: FairPool, number: int = 1) -> None:
        """Check out and hold."""
        self.held += [pool.connect() for _ in range(number)]

    def give_back(self) -> None:
        """Check in the oldest that is held."""
        self.held.pop(0).close()

    def queue(self, pool: FairPool) -> None:
        """Somebody waits for a connection."""
        attempt = _Attempt()
        attempt.claim = Claim(pool, None, attempt)
        pool.room.ask(attempt.claim)
        self.waiters.append(attempt)

    def serve_queue(self) -> None:
        """Those who waited were served; they open what they must and give it back."""
        for attempt in self.waiters:
            claim = attempt.claim
            assert claim is not None
            assert self.room.seats.seated(claim), "a waiter was forgotten"
            if claim.connection is None:
                claim.pool._open(claim)
            assert claim.connection is not None
            claim.pool._do_return_conn(claim.connection)
        self.waiters.clear()


def idle_checkout(bench: Bench) -> Callable[[], None]:
    """Take a connection that is idle."""
    bench.take(bench.read)
    bench.give_back()
    return lambda: bench.take(bench.read)


def opening_checkout(bench: Bench) -> Callable[[], None]:
    """Open a connection."""
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
    park = bench.read._park

    def return_instead(claim: Claim, seconds: float) -> bool:
        bench.give_back()
        return park(claim, seconds)

    bench.read._park = return_instead  # type: ignore[method-assign]  # the moment at which another thread returns it
    return lambda: bench.take(bench.read)


def checkin(bench: Bench) -> Callable[[], None]:
    """Give a connection back."""
    bench.take(bench.read, SIZE)
    return bench.give_back


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
    bench.read._look_for_lost()
    return bench.read._look_for_lost


SCENES = (
    idle_checkout,
    opening_checkout,
    refused_checkout,
    checkout_with_victim,
    timed_out_checkout,
    waited_checkout,
    waited_checkout_with_victim,
    checkin,
    checkin_to_waiter,
    checkin_to_other_kind,
    invalidation,
    dropped,
    audit,
)


EVENTS = ["line", "opcode"] if sys.version_info < (3, 13) else ["line"]
"""Since Python 3.13 opcodes are traced only in frames that are entered after the request for them (gh-114986)."""


@pytest.mark.usefixtures("_nothing_keeps_tracebacks")
@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_an_interrupt_anywhere_loses_no_seat(
    scene: Callable[[Bench], Callable[[], None]], event: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Afterwards the pool serves as many connections as before, never more, and nobody waits for nothing."""
    monkeypatch.setattr(pool_module, "_SURELY_LOST", 0.0)
    assert _interrupt_everywhere(scene, event) > 60, "the scene has places to be interrupted at"


@pytest.mark.usefixtures("_nothing_keeps_tracebacks")
@pytest.mark.parametrize(
    ("owner", "name", "broken"),
    [
        (Seats, "repair", lambda seats: None),
        (Seats, "serve", lambda seats: []),
        (Claim, "is_held", property(lambda claim: True)),
    ],
    ids=["nothing is mended", "nobody is served after an audit", "nothing counts as lost"],
)
def test_an_interrupt_loses_seats_without_the_audit(
    owner: type, name: str, broken: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: with a part of the audit taken out, seats are lost and this is noticed."""
    monkeypatch.setattr(pool_module, "_SURELY_LOST", 0.0)
    monkeypatch.setattr(owner, name, broken)
    with pytest.raises(AssertionError):
        [_interrupt_everywhere(scene, "line") for scene in SCENES]


def _interrupt_everywhere(scene: Callable[[Bench], Callable[[], None]], event: str) -> int:
    number = 0
    reached = True
    while reached:
        number += 1
        bench = Bench()
        work = scene(bench)

        def attempt(work: Callable[[], None] = work) -> None:
            with suppress(CheckoutTimeout, OSError):
                work()

        reached = interrupt_at(number, FILES, attempt, event=event)
        del work, attempt
        _check(bench, f"{scene.__name__}, interrupted at {event} {number}")
    return number


def _check(bench: Bench, what: str) -> None:
    room = bench.room
    room.timeout = 0.0
    bench.driver.fails = None
    bench.driver.most = SIZE
    bench.read.__dict__.pop("_park", None)
    gc.collect()
    assert all(proxy.is_valid for proxy in bench.held), what
    for _ in range(2):  # seen twice
        bench.read._look_for_lost()
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
