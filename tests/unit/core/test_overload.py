"""The queue under load, played in no time: bursts lose nothing, overload makes nobody late, workers stay in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polysession._core.overload import WINDOWS
from polysession._core.queue import Queue
from polysession._core.seats import Ticket

from .queueing import MUTANTS, mutated, play, rate

CAPACITY = 250.0
"""Units in a second, of five connections and 20 ms."""
Make = Callable[[], Any]


def _twice_the_capacity(make: Make) -> None:
    """Twice of what can be served for a minute: who is served is served soon, and no connection stands still."""
    course = play(rate(2 * CAPACITY, 60.0), make=make)
    assert course.percentile(0.99) <= 0.15
    assert course.busy >= 0.95 * 5 * 60.0
    assert len(course.waits) + len(course.refused) + len(course.turned_away) + course.late == 30_000
    assert min(course.refused) > 0.1, "somebody was refused who could be served in time"
    long = [wait for wait in course.refused if wait > 0.2]
    assert len(long) <= 250, "the hopeless wait for long before they are refused"
    assert course.late <= 2 * CAPACITY * 2.5, "it is seen again and again"
    assert len(course.refused) <= 0.02 * len(course.turned_away), "many wait in vain"
    assert max(course.waits[-1000:]) <= 0.06, "who is served was served late, though nobody need be"


def _a_little_more(make: Make) -> None:
    """A tenth more than can be served: the same."""
    course = play(rate(1.1 * CAPACITY, 60.0), make=make, patience=5.0)
    assert course.percentile(0.99) <= 0.2
    assert course.busy >= 0.95 * 5 * 60.0
    assert course.late == 0


def _bursts(make: Make) -> None:
    """A burst that ends within two seconds loses nobody, however high it is."""
    for times, seconds in ((2, 1.95), (4, 1.95), (8, 1.0), (3, 0.5), (1.5, 1.95)):
        course = play(rate(times * CAPACITY, seconds), make=make, patience=60.0)
        assert course.refused == course.turned_away == []
        assert course.late == 0
        assert len(course.waits) == round(times * CAPACITY * seconds)


def _bursts_again_and_again(make: Make) -> None:
    """Bursts that the pool can serve before the next one comes lose nobody either."""
    bursts = chain.from_iterable(rate(3 * CAPACITY, 1.0, begin=4.0 * number) for number in range(10))
    course = play(bursts, make=make, patience=60.0)
    assert course.refused == course.turned_away == []


def _a_queue_that_goes_down_in_the_end(make: Make) -> None:
    """A long queue of which the load is now above and now below what can be served, and less on the whole."""
    waves = (rate((1.5, 0.4)[number % 2] * CAPACITY, 1.0, begin=float(number)) for number in range(12))
    course = play(chain([0.0] * 1500, chain.from_iterable(waves)), make=make, patience=60.0)
    assert course.refused == course.turned_away == []
    assert course.late == 0


def _short_bursts_are_served_in_order(make: Make) -> None:
    """In a fifth of a second nothing is turned round, nor by any number who come at once."""
    for burst in (list(rate(4 * CAPACITY, 0.2)), [0.0] * 1000):
        course = play(burst, make=make, patience=60.0)
        assert course.order == sorted(course.order)


def _workers_stay_in_order(make: Make) -> None:
    """Two hundred workers who come again at once: nobody is refused, and all are served in turn."""
    course = play([0.0] * 200, make=make, patience=60.0, again=0.0, until=20.0)
    assert course.refused == course.turned_away == []
    assert course.late == 0
    assert course.order[:200] == list(range(200))
    turns = [course.order.count(number) for number in range(200)]
    assert max(turns) - min(turns) <= 1


def _long_units(make: Make) -> None:
    """Where units take a second, a queue of a few seconds is no overload."""
    course = play(rate(40.0, 8.0), make=make, takes=1.0, patience=600.0)
    assert course.refused == course.turned_away == []


def _after_it(make: Make) -> None:
    """When the overload is over, all who come are served, in order."""
    loads = chain(rate(2 * CAPACITY, 10.0), rate(0.5 * CAPACITY, 10.0, begin=10.0))
    course = play(loads, make=make)
    last = [number for number in course.order if number >= 5_125]
    assert last == list(range(5_125, 6_250))
    assert max(course.waits[-1000:]) <= 0.1


def _an_overload_with_pauses(make: Make) -> None:
    """Nobody comes for a moment, again and again: that is not the end of an overload."""
    for every, pause in ((4.0, 0.2), (6.0, 1.2)):
        loads = [rate(2 * CAPACITY, every - pause, begin=every * number) for number in range(10)]
        course = play(chain.from_iterable(loads), make=make)
        assert course.percentile(0.99) <= 0.15
        assert course.busy >= 0.95 * 5 * 10 * (every - pause)
        assert course.late <= 2 * CAPACITY * 2.5


def _an_overload_in_bunches(make: Make) -> None:
    """Twenty come at a time: what can be served of them waits, so that no connection stands still."""
    course = play((0.04 * bunch for bunch in range(500) for _ in range(20)), make=make)
    assert course.percentile(0.9) <= 0.15
    assert course.busy >= 0.95 * 5 * 20.0


def _others_do_not_count(make: Make) -> None:
    """However many wait for something else: only those of one's own kind are before one."""
    queue = make()
    for _ in range(100):
        queue.join(Ticket("b"))
    queue.returned("a", 1.0, 0.0, 5)
    queue._loads["a"].growth = WINDOWS
    assert not queue.turns_away(Ticket("a"), 5)


def _a_burst_after_it(make: Make) -> None:
    """Some seconds after an overload a burst loses nobody, whether a few came meanwhile, for a while, or nobody."""
    for seconds in (6.0, 1.5, 0.0):
        before = [*rate(2 * CAPACITY, 10.0), *rate(0.5 * CAPACITY, seconds, begin=10.0)]
        alone = play(before, make=make, patience=5.0)
        for burst in (rate(1.5 * CAPACITY, 1.95, begin=16.0), [16.0] * 100):
            course = play([*before, *burst], make=make, patience=5.0)
            assert len(course.refused) == len(alone.refused) > 0
            assert course.turned_away == alone.turned_away
            assert course.late == 0


LAWS = (
    _twice_the_capacity,
    _a_little_more,
    _bursts,
    _bursts_again_and_again,
    _a_queue_that_goes_down_in_the_end,
    _short_bursts_are_served_in_order,
    _workers_stay_in_order,
    _long_units,
    _after_it,
    _an_overload_with_pauses,
    _an_overload_in_bunches,
    _others_do_not_count,
    _a_burst_after_it,
)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__.strip("_"))
def test_law(law: Callable[[Make], None]) -> None:
    """Each of the laws above."""
    law(Queue)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant[0])
def test_each_mistake_breaks_a_law(mutant: tuple[str, str, str]) -> None:
    """The control: a mistake made by hand is noticed by one of the laws."""
    with mutated(mutant[1], mutant[2]) as make:
        for law in LAWS:
            try:
                law(make)
            except (AssertionError, ValueError):
                return
    raise AssertionError(f"no law is broken although {mutant[0]}")


def test_without_bounds_everybody_waits() -> None:
    """A queue that is not bounded refuses nobody and keeps the order."""
    course = play(rate(2 * CAPACITY, 10.0), make=lambda: Queue(is_bounded=False), patience=60.0)
    assert course.refused == course.turned_away == []
    assert course.order == list(range(5_000))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.floats(0.1, 4.0), st.floats(0.1, 3.0)), min_size=1, max_size=6),
    st.integers(1, 8),
    st.floats(0.005, 0.5),
)
def test_nobody_is_lost(loads: list[tuple[float, float]], size: int, takes: float) -> None:
    """Whatever comes: each is served, refused or gives up, exactly once; nobody is refused in the first two seconds."""

    def arrivals() -> Iterator[float]:
        begin = 0.0
        for times, seconds in loads:
            yield from rate(times * size / takes, min(seconds, 400 * takes / size), begin)
            begin += seconds

    wanted = list(arrivals())
    course = play(wanted, size=size, takes=takes)
    assert len(course.waits) + len(course.refused) + len(course.turned_away) + course.late == len(wanted)
    assert len(set(course.order)) == len(course.order)
    if max(wanted, default=0.0) < 2.0:
        assert course.refused == course.turned_away == []


def test_the_order_of_kinds() -> None:
    """Only the overloaded kind is turned round; the places in the line stay with their kinds."""
    queue: Queue[Ticket[int]] = Queue()
    tickets: list[Ticket[int]] = [Ticket(kind, float(number)) for number, kind in enumerate("abab")]
    for ticket in tickets:
        queue.join(ticket)
    assert list(queue) == tickets
    queue.returned("a", 0.0, 10.0, 1)
    queue._loads["a"].growth = 1
    assert list(queue) == [tickets[2], tickets[1], tickets[0], tickets[3]]
    queue.served(tickets[2])
    assert list(queue) == [tickets[0], tickets[1], tickets[3]]
    queue.leave(tickets[2])
    assert len(queue) == 3
