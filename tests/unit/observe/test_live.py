"""The facts folded into the present: what is held, how many ended how, and observers that misbehave."""

from __future__ import annotations

import gc
import inspect
import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from polysession.facts import AttemptFailed, Fact, HoldEnded, HoldId, HoldKind, HoldOpened, Origin, Outcome, Owner
from polysession.observe.live import Live, Progress, Relay
from polysession.options import Access

frame = inspect.currentframe()
assert frame is not None
HERE = Origin(frame.f_code, 0)
OWNER = Owner(process=1, thread=2, thread_name="main")


def opened(number: int, stamp: float = 0.0) -> HoldOpened:
    """A unit of work began."""
    return HoldOpened(
        HoldId(number), HoldKind.UNIT, f"unit {number}", ("a",), ("a/primary",), Access.WRITE, OWNER, HERE, stamp
    )


def ended(number: int, outcome: Outcome = Outcome.COMMITTED) -> HoldEnded:
    """A unit of work ended."""
    return HoldEnded(HoldId(number), outcome, 0.0)


def live() -> Live:
    """A ledger whose holdings are all in transaction."""
    return Live(lambda hold: Progress(state=f"state of {hold}"))


def test_what_was_opened_is_held_until_it_ends() -> None:
    """The rows are the facts that began and did not end, oldest first, whatever the order of telling."""
    ledger = live()
    for number, stamp in ((1, 3.0), (2, 1.0), (3, 2.0)):
        ledger.tell(opened(number, stamp))
    assert [row.id for row in ledger.held()] == [2, 3, 1]
    ledger.tell(ended(3))
    assert [row.id for row in ledger.held()] == [2, 1]
    assert ledger.held()[0].state == "state of 2"


class Thing:
    """What is held, and says of its beginning what it is asked."""

    def __init__(self, number: int, stamp: float) -> None:
        self.asked = 0
        self._opened = opened(number, stamp)

    @property
    def opening(self) -> HoldOpened:
        """The fact of its beginning."""
        self.asked += 1
        return self._opened


def test_a_fact_is_made_when_somebody_asks() -> None:
    """What is told without facts is held and counted as what is told by them; no fact is made for nobody."""
    ledger, told = live(), live()
    things = [Thing(number, stamp) for number, stamp in ((1, 3.0), (2, 1.0), (3, 2.0))]
    for number, thing in enumerate(things, 1):
        ledger.rows[HoldId(number)] = thing
        told.tell(thing._opened)
    ledger.ended(HoldId(3), Outcome.ROLLED_BACK)
    ledger.ended(HoldId(3), Outcome.COMMITTED)
    ledger.ended(HoldId(99), Outcome.COMMITTED)
    told.tell(ended(3, Outcome.ROLLED_BACK))
    assert [thing.asked for thing in things] == [0, 0, 0]
    assert ledger.counts() == told.counts()
    assert [(row.id, row.name, row.owner, row.place, row.state) for row in ledger.held()] == [
        (row.id, row.name, row.owner, row.place, row.state) for row in told.held()
    ]
    assert [thing.asked for thing in things] == [1, 1, 0]


def test_a_relay_says_whether_anybody_else_is_told() -> None:
    """Only without others a beginning or an end need not be a fact."""
    assert Relay(live(), ()).is_alone
    assert not Relay(live(), (Told(),)).is_alone


def test_a_row_says_who_where_and_since_when() -> None:
    """Times are seconds and aware points in time; the place is that of the code."""
    ledger = live()
    ledger.tell(opened(1, time.monotonic() - 5.0))
    row = ledger.held()[0]
    assert 5.0 <= row.age < 60.0
    assert abs((datetime.now(UTC) - row.since).total_seconds() - row.age) < 5.0
    assert row.since.tzinfo is UTC
    assert row.place.startswith(f"{__file__}:")
    assert (row.name, row.databases, row.owner) == ("unit 1", ("a",), OWNER)


def test_every_outcome_is_counted_once() -> None:
    """A second end of the same holding changes nothing, nor does the end of one that was never opened."""
    ledger = live()
    for number, outcome in enumerate(Outcome):
        ledger.tell(opened(number))
        ledger.tell(ended(number, outcome))
        ledger.tell(ended(number, Outcome.COMMITTED))
    ledger.tell(ended(99))
    counts = ledger.counts()
    assert counts.opened == len(Outcome)
    assert (counts.committed, counts.rolled_back, counts.unknown, counts.partial) == (1, 1, 1, 1)
    assert (counts.closed, counts.dropped, counts.repeated) == (1, 1, 0)
    assert ledger.held() == ()


def test_only_an_attempt_that_is_followed_by_another_counts_as_repeated() -> None:
    """`wait` is None for the last one."""
    ledger = live()
    ledger.tell(AttemptFailed("unit", 1, "deadlock", "so", 0.1, 0.0))
    ledger.tell(AttemptFailed("unit", 2, "deadlock", "so", 0.0, 0.0))
    ledger.tell(AttemptFailed("unit", 3, "deadlock", "so", None, 0.0))
    assert ledger.counts().repeated == 2


def test_threads_may_tell_at_once() -> None:
    """No fact is lost, no reading fails."""
    ledger = live()
    start = threading.Barrier(5)

    def work(me: int) -> None:
        start.wait()
        for number in range(me * 1000, me * 1000 + 500):
            ledger.tell(opened(number))
            ledger.tell(ended(number))

    threads = [threading.Thread(target=work, args=(me,)) for me in range(4)]
    for thread in threads:
        thread.start()
    start.wait()
    while any(thread.is_alive() for thread in threads):
        ledger.held()
        counts = ledger.counts()
        assert 0 <= counts.opened - counts.committed <= 4
    assert ledger.counts().committed == 2000
    assert ledger.held() == ()


def test_a_session_may_be_collected_while_the_ledger_is_read() -> None:
    """The garbage collector ends a dropped session in the very thread that holds the lock: no deadlock, no loss."""
    ledger = live()
    ledger.tell(opened(1))

    class Dropped:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            ledger.tell(ended(1, Outcome.DROPPED))

    with ledger._lock:
        Dropped()
        gc.collect()
    assert ledger.counts().dropped == 1
    assert ledger.held() == ()


class Told:
    """An observer that remembers, and raises if it is told to."""

    def __init__(self, error: Callable[[], BaseException] | None = None) -> None:
        self.facts: list[Fact] = []
        self.error = error

    def tell(self, fact: Fact) -> None:
        """Take note."""
        self.facts.append(fact)
        if self.error is not None:
            raise self.error()


def test_every_observer_is_told_in_order() -> None:
    """The ledger first, then the others as they were given."""
    first, second = Told(), Told()
    relay = Relay(live(), (first, second))
    facts: list[Fact] = [opened(1), ended(1)]
    for fact in facts:
        relay.tell(fact)
    assert first.facts == second.facts == facts
    assert relay.live.counts().committed == 1


def test_an_observer_that_raises_is_logged_and_told_again(caplog: pytest.LogCaptureFixture) -> None:
    """The others are told all the same, and nothing of it reaches the unit."""
    bad, good = Told(lambda: ValueError("no")), Told()
    relay = Relay(live(), (bad, good))
    with caplog.at_level(logging.ERROR, logger="polysession.observe"):
        relay.tell(opened(1))
        relay.tell(ended(1))
    assert len(bad.facts) == len(good.facts) == 2
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
    assert "HoldOpened" in caplog.text
    assert "ValueError: no" in caplog.text


def test_an_interrupt_is_no_error_of_an_observer() -> None:
    """A KeyboardInterrupt that comes while an observer is told goes its way."""
    relay = Relay(live(), (Told(KeyboardInterrupt),))
    with pytest.raises(KeyboardInterrupt):
        relay.tell(opened(1))


def test_a_ledger_is_given_no_way_to_steer() -> None:
    """`tell` answers nothing."""
    answer: Any = Relay(live(), ()).tell(opened(1))  # type: ignore[func-returns-value]  # that is the point
    assert answer is None
