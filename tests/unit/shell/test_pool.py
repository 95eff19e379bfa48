"""The pool for threads: order, bounds, errors, and connections that nobody gives back."""

from __future__ import annotations

import gc
import itertools
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from polysession._core.seats import Seats, Ticket, Wait
from polysession._shell import ledger, waiting
from polysession._shell import room as room_module
from polysession._shell.claims import Attempt, Claim, asking
from polysession._shell.exhausted import exhausted
from polysession._shell.pool import FairPool
from polysession._shell.room import Room
from polysession.errors import CheckoutTimeout

from .driver import Connection, Driver, Line


class Unit:
    """Who asks, as a unit of work would."""

    def __init__(self, name: str, until: float | None = None) -> None:
        self.name = name
        self.until = until
        self.told: list[float] = []
        self.over = False

    def describe(self) -> str:
        """As a holding describes itself."""
        return f"thread 'main', unit {self.name!r} opened at here.py:7"

    def held_by(self) -> object | None:
        """Anybody may end it."""
        return None

    def refuse_outside(self) -> None:
        """It may have one everywhere."""

    def waits_until(self) -> float | None:
        """The deadline."""
        return self.until

    def waited(self, seconds: float) -> None:
        """Noted; too late if the deadline has passed."""
        self.told.append(seconds)
        if self.over:
            raise TimeoutError("the deadline has passed")


@pytest.fixture(autouse=True)
def _asked_by_nobody() -> Any:
    """No test leaves its asker behind."""
    yield
    asking.asker = None


def shared(driver: Driver, size: int, limits: dict[str, int] | None = None) -> tuple[FairPool, FairPool]:
    """Two pools, for reads and writes, that share the seats of one room."""
    room = Room("orders/primary", size, 0.0, limits)
    read, write = FairPool(driver), FairPool(driver)
    read.join(room, "read")
    write.join(room, "write")
    return read, write


def start(work: Any) -> threading.Thread:
    """Run `work` in a thread."""
    thread = threading.Thread(target=work, name="another")
    thread.start()
    return thread


def until_waiting(pool: FairPool, number: int = 1) -> None:
    """Wait until so many threads wait for a connection."""
    while len(pool.room.seats.waiters) < number:
        assert threading.active_count() > 1
        time.sleep(0)  # lets the others run


def test_a_returned_connection_is_used_again() -> None:
    """One unit after the other needs one connection."""
    driver = Driver()
    pool = FairPool(driver, pool_size=3)
    for _ in range(5):
        pool.connect().close()
    assert driver.made == 1
    assert (pool.checkedout(), pool.checkedin(), pool.size()) == (0, 1, 3)
    assert pool.status() == "FairPool database (any): 0 out, 1 idle, 0 waiting, at most 3"


def test_a_connection_that_nobody_can_reach_any_more() -> None:
    """Who has waited half of its time looks for it by the garbage collector; not where that was switched off."""
    pool = FairPool(Driver(), pool_size=1, timeout=2.0)
    collects = gc.isenabled()
    gc.disable()  # it must not find it by itself
    try:
        knot: list[Any] = [pool.connect()]
        knot.append(knot)
        del knot
        with pytest.raises(CheckoutTimeout):
            pool.connect()
        gc.enable()
        pool.connect().close()
    finally:
        (gc.enable if collects else gc.disable)()
    assert pool.checkedout() == 0


def test_the_timeout_says_who_holds_the_connections() -> None:
    """The text of the error has each holder, since when, and how many others wait."""
    pool = FairPool(Driver(), pool_size=2, timeout=0.0)
    pool.room.name = "orders/primary"
    asking.asker = Unit("import")
    first = pool.connect()
    asking.asker = None
    second = pool.connect()
    with pytest.raises(CheckoutTimeout) as caught:
        pool.connect()
    text_ = str(caught.value)
    assert "no connection to orders/primary within 0.0 s" in text_
    assert "2 of 2 are out: 0.0 s by thread 'main', unit 'import' opened at here.py:7; " in text_
    assert f"by thread {threading.current_thread().name!r}; 0 others wait" in text_
    assert caught.value.facts["size"] == 2
    assert len(caught.value.facts["holders"]) == 2
    for proxy in (first, second):
        proxy.close()
    assert pool.checkedin() == 2


def test_many_holders_are_summed_up() -> None:
    """The text names every holder, however many they are."""
    pool = FairPool(Driver(), pool_size=11, timeout=0.0)
    held = [pool.connect() for _ in range(11)]
    with pytest.raises(CheckoutTimeout, match=r"11 of 11 are out: (0\.0 s by thread 'MainThread'; ){11}0 others wait"):
        pool.connect()
    for proxy in held:
        proxy.close()


def test_64_threads_share_10_connections_fairly() -> None:
    """Over 6400 units who waits is served in the order of asking, however the machine lets threads run."""
    driver = Driver(most=10)
    pool = FairPool(driver, pool_size=10, timeout=60.0)
    line = pool.room.seats.waiters = Line()
    total = iter(range(6400))
    held = [pool.connect() for _ in range(10)]

    def work() -> None:
        for _ in total:
            pool.connect().close()

    threads = [threading.Thread(target=work) for _ in range(64)]
    for thread in threads:
        thread.start()
    until_waiting(pool, 64)
    for proxy in held:
        proxy.close()
    for thread in threads:
        thread.join()
    assert len(line.served_in_turn) >= 64
    assert line.served_in_turn == line.asked_in_turn
    assert pool.room.seats.total == pool.checkedin() <= 10


def test_a_thread_that_comes_back_queues_behind_those_who_wait() -> None:
    """Returning and asking again does not pass a waiter by."""
    pool = FairPool(Driver(), pool_size=1, timeout=60.0)
    order: list[str] = []
    mine = pool.connect()

    def other() -> None:
        proxy = pool.connect()
        order.append("other")
        proxy.close()

    thread = start(other)
    until_waiting(pool)
    mine.close()
    mine = pool.connect()
    order.append("me")
    mine.close()
    thread.join()
    assert order == ["other", "me"]


def test_kinds_share_the_seats() -> None:
    """A connection of one kind is closed to make room for one of the other; they never serve each other."""
    driver = Driver(most=2)
    read, write = shared(driver, 2)
    held = [read.connect(), read.connect()]
    with pytest.raises(CheckoutTimeout):
        write.connect()
    held.pop().close()
    assert (read.checkedin(), write.checkedin(), driver.open) == (1, 0, 2)
    held.append(write.connect())
    assert (read.checkedin(), read.checkedout(), write.checkedout(), driver.open) == (0, 1, 1, 2)
    for proxy in held:
        proxy.close()
    assert (read.checkedin(), write.checkedin()) == (1, 1)


def test_a_pool_that_was_made_smaller_gives_out_no_more_than_it_has_seats() -> None:
    """Though more are idle: who comes too many waits, and is served when one comes back; each that does is closed as
    long as there are too many."""
    driver = Driver()
    pool = FairPool(driver, pool_size=4, timeout=0.0)
    for connection in [pool.connect() for _ in range(4)]:
        connection.close()
    pool.room.wake(pool.room.resize(2))
    held = [pool.connect() for _ in range(2)]
    with pytest.raises(CheckoutTimeout, match="2 of 2 are out"):
        pool.connect()
    pool.room.timeout = 60.0
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(pool.connect)
        until_waiting(pool)
        held.pop().close()
        held.append(waiting.result())
    assert (pool.checkedout(), pool.checkedin(), driver.open, driver.made) == (2, 1, 3, 4)
    for connection in held:
        connection.close()
    assert (pool.checkedin(), driver.open) == (2, 2)
    pool.room.timeout = 0.0
    held = [pool.connect() for _ in range(2)]
    with pytest.raises(CheckoutTimeout):
        pool.connect()
    pool.room.wake(pool.room.resize(3))
    held.append(pool.connect())
    for connection in held:
        connection.close()
    assert pool.checkedin() == 3


def test_a_smaller_pool_makes_no_room_for_another_kind() -> None:
    """Nor is an idle one closed for somebody of another kind while as many are out as there may be."""
    room = Room("orders/primary", 3, 0.0)
    writes, reads = FairPool(Driver()), FairPool(Driver())
    writes.join(room, "write")
    reads.join(room, "read")
    for connection in [writes.connect() for _ in range(3)]:
        connection.close()
    room.wake(room.resize(1))
    held = writes.connect()
    with pytest.raises(CheckoutTimeout, match="1 of 1 are out"):
        reads.connect()
    held.close()
    reads.connect().close()
    assert room.seats.total <= 2


def test_a_kind_may_have_a_limit_of_its_own() -> None:
    """One writer at a time, as for SQLite, while readers use the other seats."""
    read, write = shared(Driver(most=3), 3, {"write": 1})
    writer = write.connect()
    with pytest.raises(CheckoutTimeout):
        write.connect()
    held = [read.connect(), read.connect()]
    with pytest.raises(CheckoutTimeout):
        read.connect()
    writer.close()
    held.append(write.connect())
    for proxy in held:
        proxy.close()


def test_a_waiter_of_another_kind_gets_the_seat() -> None:
    """Its own thread closes the connection that had the seat, then opens one."""
    driver = Driver(most=1)
    read, write = shared(driver, 1)
    read.room.timeout = 60.0
    mine = read.connect()
    got: list[Any] = []
    thread = start(lambda: got.append(write.connect()))
    until_waiting(write)
    mine.close()
    thread.join()
    assert (driver.made, driver.open) == (2, 1)
    got.pop().close()


def test_a_connection_that_cannot_be_opened_frees_its_seat() -> None:
    """The error leaves, and whoever waits tries next."""
    driver = Driver()
    pool = FairPool(driver, pool_size=1, timeout=60.0)
    driver.fails = OSError
    for _ in range(3):
        with pytest.raises(OSError, match="no connection"):
            pool.connect()
    attempt = Attempt()
    claim = attempt.claims(pool, None)
    seats = pool.room.seats
    blocker: Ticket[Any] = Ticket("any")
    seats.ask(blocker)
    assert isinstance(seats.ask(claim), Wait)
    assert seats.gone(blocker) == [claim]
    assert seats.seated(claim)


def test_dispose_closes_what_is_idle_and_what_comes_back() -> None:
    """After the door was closed no connection is kept; a second call does nothing."""
    driver = Driver()
    pool = FairPool(driver, pool_size=3)
    out, other = pool.connect(), pool.connect()
    other.close()
    assert driver.open == 2
    pool.dispose()
    assert driver.open == 1
    pool.dispose()
    out.close()
    assert driver.open == 0
    assert pool.room.seats.total == 0
    pool.connect().close()
    assert driver.open == 0, "who still asks is served, and nothing is kept"


def test_dispose_leaves_the_other_kind_alone() -> None:
    """Pools that share seats are disposed of one by one."""
    driver = Driver()
    read, write = shared(driver, 3)
    held = [read.connect(), write.connect()]
    for proxy in held:
        proxy.close()
    read.dispose()
    assert (driver.open, read.checkedin(), write.checkedin()) == (1, 0, 1)


def test_dispose_serves_those_who_wait() -> None:
    """A seat that becomes free because its connection is closed on return goes to the first waiter."""
    pool = FairPool(Driver(most=1), pool_size=1, timeout=60.0)
    out = pool.connect()
    got: list[Any] = []
    thread = start(lambda: got.append(pool.connect()))
    until_waiting(pool)
    pool.dispose()
    out.close()
    thread.join()
    got.pop().close()
    assert pool.room.seats.total == 0


def test_a_recreated_pool_has_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seats of its own; those of the shared room if there is one, but never those of a parent process."""
    alone = FairPool(Driver(), pool_size=3, timeout=1.5)
    again = alone.recreate()
    assert isinstance(again, FairPool)
    assert (again.size(), again.room.timeout, again.kind) == (3, 1.5, "any")
    assert again.room is not alone.room
    read, _ = shared(Driver(), 2, {"write": 1})
    out = read.connect()
    joined = read.recreate()
    assert isinstance(joined, FairPool)
    assert (joined.room, joined.kind) == (read.room, "read")
    assert joined.recreate().room is read.room  # type: ignore[attr-defined]  # it is a FairPool again
    monkeypatch.setattr(os, "getpid", lambda: -1)
    child = read.recreate()
    assert isinstance(child, FairPool)
    assert (child.room.name, child.size(), child.room.seats.limits) == ("orders/primary", 2, {"write": 1})
    assert child.room.seats.total == 0
    out.close()


def test_engine_dispose_closes_what_was_out_when_it_comes_back(tmp_path: Path) -> None:
    """With SQLAlchemy's own engine: the old pool keeps nothing, the new one starts empty."""
    engine = create_engine(f"sqlite:///{tmp_path / 'a.db'}", poolclass=FairPool, pool_size=2, pool_timeout=0.0)
    with engine.connect() as connection:
        assert connection.scalar(text("select 1")) == 1
        old = engine.pool
        engine.dispose()
        new = engine.pool
        assert isinstance(old, FairPool)
        assert isinstance(new, FairPool)
        assert new is not old
        with engine.connect() as other:
            assert other.scalar(text("select 2")) == 2
    assert (old.room.seats.total, new.checkedin()) == (0, 1)
    engine.dispose()
    assert new.room.seats.total == 0


def test_a_dropped_connection_comes_back() -> None:
    """Who forgets to give it back loses it with the last reference; a thread that ends loses it with its frames."""
    pool = FairPool(Driver(), pool_size=1, timeout=0.0)
    proxy = pool.connect()
    del proxy
    start(lambda: pool.connect() and None).join()
    gc.collect()
    pool.connect().close()
    assert pool.checkedin() == 1


def test_who_waits_in_a_crowd_seldom_stops_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """The garbage collector is run by who waits for long: every other second where nothing moves, and for a hundredth
    of the time where connections come and go."""
    pool = FairPool(Driver(), pool_size=2, timeout=0.0)
    room, began = pool.room, time.monotonic()
    assert not room.moves(pool.kind, began)
    proxy = pool.connect()
    assert room.moves(pool.kind, began)
    assert not room.moves(pool.kind, time.monotonic())
    assert not room.moves("another", began)
    proxy.close()
    runs: list[float] = []
    monkeypatch.setattr(gc, "collect", lambda: runs.append(0.0))
    for ago, takes, rarely, runs_now in (
        (float("inf"), 0.0, False, True),
        (1.0, 0.1, False, False),
        (3.0, 0.1, False, True),
        (3.0, 0.1, True, False),
        (11.0, 0.1, True, True),
        (1.0, 0.001, True, False),
        (3.0, 0.001, True, True),
    ):
        room.collected_at, room.collecting_takes = time.monotonic() - ago, takes
        runs.clear()
        room.collect(rarely=rarely)
        assert bool(runs) is runs_now, (ago, takes, rarely)


def test_a_return_in_the_middle_of_a_change_is_done_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The garbage collector may return a connection inside our own critical section: no deadlock, nothing lost."""
    driver = Driver(most=2)
    pool = FairPool(driver, pool_size=2, timeout=0.0)

    class Cycle:
        def __init__(self) -> None:
            self.proxy = pool.connect()
            self.me = self

    ask = Seats.ask

    def collecting_ask(seats: Seats[Any], ticket: Ticket[Any]) -> Any:
        gc.collect()
        return ask(seats, ticket)

    Cycle()
    assert pool.checkedout() == 1
    monkeypatch.setattr(Seats, "ask", collecting_ask)
    proxy = pool.connect()
    monkeypatch.undo()
    assert len(pool.room.late) == 1
    assert pool.checkedout() == 2, "it is not back yet"
    other = pool.connect()
    assert not pool.room.late
    assert (driver.made, pool.checkedout()) == (2, 2)
    proxy.close()
    other.close()


def test_a_lost_connection_is_taken_back_and_its_late_return_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody holds is closed after a while and its seat given away; a return after that closes, too."""
    monkeypatch.setattr(room_module, "_SURELY_LOST", 0.0)
    for module in (room_module, waiting):
        monkeypatch.setattr(module, "LOOK_AGAIN", 0.0)
    driver = Driver(most=1)
    pool = FairPool(driver, pool_size=1, timeout=60.0)
    proxy: Any = pool.connect()
    record = proxy._connection_record
    proxy._finalizer.detach()
    record.fairy_ref = None  # as if a thread had been stopped on its way to return it
    del proxy
    again = pool.connect()
    assert driver.made == 2
    pool._do_return_conn(record)
    assert (pool.checkedout(), pool.checkedin()) == (1, 0)
    again.close()
    assert (driver.open, pool.checkedin()) == (1, 1)


def test_a_busy_thread_is_not_taken_for_lost() -> None:
    """The first look at a connection that is on its way back takes nothing away."""
    pool = FairPool(Driver(), pool_size=1, timeout=0.0)
    proxy: Any = pool.connect()
    record = proxy._connection_record
    reference, record.fairy_ref = record.fairy_ref, None
    pool.look_for_lost()
    pool.look_for_lost()
    record.fairy_ref = reference
    proxy.close()
    assert pool.checkedin() == 1
    assert record.dbapi_connection is not None


def test_an_invalidated_connection_is_replaced() -> None:
    """Its seat stays, the next user connects anew."""
    driver = Driver(most=1)
    pool = FairPool(driver, pool_size=1, timeout=0.0)
    proxy = pool.connect()
    proxy.invalidate()
    assert driver.open == 0
    pool.connect().close()
    assert (driver.made, driver.open) == (2, 1)


def test_a_detached_connection_does_not_count_any_more() -> None:
    """SQLAlchemy's `detach` takes the connection away and gives the seat back."""
    driver = Driver()
    pool = FairPool(driver, pool_size=1, timeout=0.0)
    proxy = pool.connect()
    proxy.detach()
    other = pool.connect()
    assert driver.open == 2
    other.close()
    proxy.close()
    assert (driver.open, pool.room.seats.total) == (1, 1)


def test_a_deadline_ends_the_wait_and_the_unit_is_told_how_long_it_was() -> None:
    """The deadline of the asker bounds the wait; its own error leaves if it has passed."""
    pool = FairPool(Driver(), pool_size=1, timeout=60.0)
    held = pool.connect()
    unit = asking.asker = Unit("late", until=time.monotonic())
    with pytest.raises(CheckoutTimeout):
        pool.connect()
    unit.over = True
    asking.asker = unit  # said for each connection; who says nothing is nobody's
    with pytest.raises(TimeoutError, match="the deadline has passed"):
        pool.connect()
    assert len(unit.told) == 2
    assert not pool.room.seats.waiters
    held.close()
    pool.connect().close()
    assert len(unit.told) == 2, "who need not wait is told nothing"


def test_who_is_served_after_its_deadline_passes_the_connection_on() -> None:
    """The connection that came too late is idle again, and still open."""
    driver = Driver()
    pool = FairPool(driver, pool_size=1, timeout=60.0)
    held = [pool.connect()]
    unit = asking.asker = Unit("late")
    unit.over = True
    park = pool.park

    def return_instead(claim: Claim, seconds: float) -> bool:
        held.pop().close()
        return park(claim, seconds)

    pool.park = return_instead  # type: ignore[method-assign]  # the moment at which another thread returns it
    with pytest.raises(TimeoutError, match="the deadline has passed"):
        pool.connect()
    assert (driver.made, pool.checkedin(), pool.checkedout()) == (1, 1, 0)


def test_an_interrupted_wait_is_not_mistaken_for_a_missed_deadline() -> None:
    """What interrupts the wait leaves, whatever the unit says to the time it took."""
    pool = FairPool(Driver(), pool_size=1, timeout=60.0)
    held = pool.connect()
    unit = asking.asker = Unit("late")
    unit.over = True

    def interrupted(claim: Claim, seconds: float) -> bool:
        raise KeyboardInterrupt

    pool.park = interrupted  # type: ignore[method-assign]  # stands for Ctrl-C during the wait
    with pytest.raises(KeyboardInterrupt):
        pool.connect()
    assert len(unit.told) == 1
    assert not pool.room.seats.waiters
    held.close()


def test_the_counts_of_an_endpoint() -> None:
    """Out, idle and waiting at one moment; stuck when all are out, somebody waits and none comes back for long."""
    read, write = shared(Driver(), 2)
    held = [read.connect(), write.connect()]
    held.pop().close()
    counts = read.room.counts()
    assert (counts.endpoint, counts.size, counts.out, counts.idle, counts.waiting) == ("orders/primary", 2, 1, 1, 0)
    assert not counts.stuck
    held += [read.connect()]
    attempt = Attempt()
    read.room.ask(attempt.claims(read, None))
    assert (read.room.counts().waiting, read.room.counts().stuck) == (1, True)
    for proxy in held:
        proxy.close()


def test_a_fake_connection_is_like_a_real_one() -> None:
    """The double is closed once and refuses work afterwards."""
    link = Connection()
    link.rollback()
    link.close()
    with pytest.raises(AssertionError):
        link.rollback()


@pytest.mark.parametrize(("waiters", "looks"), [(30, 1), (3, 5)])
def test_many_errors_at_once_share_what_they_say(waiters: int, looks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where many wait, who holds the connections is looked at once for all whose time is up in the same moment."""
    pool = FairPool(Driver(), pool_size=1, timeout=60.0)
    held = pool.connect()
    attempts = [Attempt() for _ in range(waiters)]
    for attempt in attempts:
        pool.room.ask(attempt.claims(pool, None))
    real, seen = ledger.rows, itertools.count()

    def rows(rooms: Any, **named: Any) -> Any:
        next(seen)
        return real(rooms, **named)

    monkeypatch.setattr(ledger, "rows", rows)
    monkeypatch.setattr(ledger, "_A_MOMENT", 60.0)
    errors = [str(exhausted(pool.room, "any", 1.0)) for _ in range(5)]
    assert next(seen) == looks
    assert all("1 of 1 are out: 0.0 s by thread" in error for error in errors)
    for attempt in attempts:
        assert attempt.claim is not None
        pool.room.withdraw(attempt.claim)
    held.close()


class _Parked(Exception):
    """How long somebody was to wait before looking again."""


class _NeverParks(FairPool):
    """Tells for how long, instead of waiting."""

    def park(self, claim: Claim, seconds: float) -> bool:
        raise _Parked(seconds)


@pytest.mark.parametrize(("waiting", "seconds"), [(0, 0.25), (99, 0.25), (799, 2.0), (100_000, 30.0)])
def test_in_a_crowd_each_looks_again_more_rarely(waiting: int, seconds: float) -> None:
    """Four hundred looks in a second, whoever waits; and each looks once before its time is up."""
    pool = _NeverParks(Driver(most=1), pool_size=1, timeout=60.0)
    held = pool.connect()
    for _ in range(waiting):
        pool.room.seats.waiters.join(Attempt().claims(pool, None))
    with pytest.raises(_Parked) as told:
        pool.connect()
    assert told.value.args == (pytest.approx(seconds, rel=0.01),)
    pool.room.seats.waiters.clear()
    held.close()
