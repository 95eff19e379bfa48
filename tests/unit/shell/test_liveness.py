"""What is known of a connection's life, and what the pool does with one that cannot be used any more."""

from __future__ import annotations

import time
from typing import Any, cast

import pytest
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from polysession._shell.liveness import JITTER, Fitness, Life, life_of
from polysession._shell.pool import FairPool
from polysession._shell.room import Room

from .driver import Driver

NEVER = float("-inf")


def fitness(life: Life, **known: float) -> Fitness:
    """Of a life in a room where nothing has happened."""
    return life.fitness(**{"ask_after": 0.0, "doubted_at": NEVER, "replaced_at": NEVER, **known})


def with_link(*, quiet: bool = True, may_speak: bool = False) -> Life:
    """The life of a connection that has a link."""
    life = Life(object(), 0.0)
    life.is_quiet, life.may_speak = (lambda: quiet), may_speak
    return life


def test_lifetimes_are_spread() -> None:
    """Connections that were opened together do not end together; none lives longer than it may."""
    lives = [Life(object(), 100.0) for _ in range(1000)]
    spans = [life.ends_at - life.born_at for life in lives]
    assert max(spans) <= 100.0
    assert min(spans) >= 100.0 * (1 - JITTER)
    assert max(spans) - min(spans) > 100.0 * JITTER / 2
    assert Life(object(), 0.0).ends_at == Life(object(), -1).ends_at == float("inf")


@pytest.mark.parametrize(
    ("life", "known", "expected"),
    [
        (with_link(), {}, Fitness.FIT),
        (with_link(quiet=False), {}, Fitness.DEAD),
        (with_link(quiet=False, may_speak=True), {}, Fitness.DOUBTFUL),
        (with_link(), {"ask_after": 1e-9}, Fitness.DOUBTFUL),
        (with_link(), {"ask_after": 1e9}, Fitness.FIT),
        (with_link(), {"doubted_at": time.monotonic() + 1e9}, Fitness.DOUBTFUL),
        (with_link(), {"replaced_at": time.monotonic() + 1e9}, Fitness.REPLACED),
        (Life(object(), 1e-9), {}, Fitness.OLD),
        (Life(object(), 0.0), {"ask_after": 1e-9, "doubted_at": time.monotonic() + 1e9}, Fitness.FIT),
    ],
)
def test_fitness(life: Life, known: dict[str, float], expected: Fitness) -> None:
    """Quiet links are fit; what has no link is never doubted; who has come to his end is not asked."""
    assert fitness(life, **known) is expected


def idle(pool: FairPool, number: int) -> None:
    """Have so many connections open and idle."""
    for proxy in [pool.connect() for _ in range(number)]:
        proxy.close()


def test_all_are_replaced() -> None:
    """Idle connections of every kind are closed, those that are out when they come back; new ones are kept."""
    driver = Driver()
    room = Room("orders/primary", 4, 0.0)
    read, write = FairPool(driver), FairPool(driver)
    read.join(room, "read")
    write.join(room, "write")
    out = read.connect()
    idle(read, 1)
    idle(write, 2)
    assert driver.open == 4
    beside: list[Any] = []
    write.beside = lambda work, name: beside.append(work)  # type: ignore[method-assign]  # in a thread
    write.replace_all()
    beside.pop()()
    assert (driver.open, room.counts().idle) == (1, 0)
    out.close()
    assert driver.open == 0
    idle(read, 1)
    idle(read, 1)
    assert (driver.open, driver.made) == (1, 5)


def test_another_idle_one_is_used_instead() -> None:
    """Who finds an idle connection that cannot be used gets another idle one, and opens none."""
    driver = Driver()
    pool = FairPool(driver, pool_size=3, timeout=0.0)
    idle(pool, 3)
    for record in pool.room.seats.idle["any"][1:]:
        life = life_of(record)
        assert life is not None
        life.ends_at = 0.0
    pool.connect().close()
    assert (driver.made, driver.open, pool.checkedin()) == (3, 1, 1)


def test_one_that_is_too_old_is_replaced_on_its_seat() -> None:
    """Where there is no other one, the old one is closed before a new one is opened."""
    driver = Driver(most=1)
    pool = FairPool(driver, pool_size=1, timeout=0.0)
    idle(pool, 1)
    life = life_of(pool.room.seats.idle["any"][0])
    assert life is not None
    life.ends_at = 0.0
    idle(pool, 1)
    assert (driver.made, driver.open) == (2, 1)


def test_dead_ones_are_sorted_out_together() -> None:
    """When one turns out to be dead the others are looked at too, and only the dead ones are closed."""
    driver = Driver()
    pool = FairPool(driver, pool_size=4, timeout=0.0)
    idle(pool, 4)
    for number, record in enumerate(pool.room.seats.idle["any"]):
        life = life_of(record)
        assert life is not None
        life.is_quiet = (lambda: True) if number == 0 else (lambda: False)
    pool.connect().close()
    assert (driver.made, driver.open, pool.checkedin()) == (4, 1, 1)


@pytest.mark.parametrize("answered", [True, False])
def test_the_server_is_asked_in_doubt(answered: bool) -> None:
    """Whose server answers is used, and not asked again; whose does not is replaced, and so are all others if it was
    waited for in vain."""
    driver = Driver()
    pool = FairPool(driver, pool_size=2, timeout=0.0)
    idle(pool, 2)
    for record in pool.room.seats.idle["any"]:
        life = life_of(record)
        assert life is not None
        life.is_quiet = lambda: True
    asked: list[float] = []

    def answers(record: Any, within: float) -> bool:
        asked.append(within)
        return answered

    pool.answers = answers  # type: ignore[method-assign]  # there is no server
    pool.room.doubted_at = time.monotonic()
    pool.connect().close()
    pool.connect().close()
    assert len(asked) == (1 if answered else 2)
    assert driver.made == (2 if answered else 3)


def test_nobody_says_good_bye_where_the_server_does_not_answer() -> None:
    """What is found replaced after that was closed without waiting for the server; after `renew()` it is waited for."""
    for lost_at, is_lost in ((time.monotonic() + 1e9, True), (NEVER, False)):
        pool = FairPool(Driver(), pool_size=1, timeout=0.0)
        idle(pool, 1)
        life = life_of(pool.room.seats.idle["any"][0])
        assert life is not None
        pool.room.lost_at, pool.room.replaced_at = lost_at, time.monotonic()
        pool.connect().close()
        assert life.is_lost is is_lost


def test_a_lost_link_puts_the_others_in_doubt() -> None:
    """SQLAlchemy tells of a lost link: that connection is thrown away, and the others are not, but asked."""
    driver = Driver()
    pool = FairPool(driver, pool_size=2, timeout=0.0)
    idle(pool, 2)
    lost = pool.connect()
    pool._invalidate(lost, OSError())
    assert not lost.is_valid
    assert (driver.open, pool.checkedin()) == (1, 1)
    assert pool.room.doubted_at > 0


def test_a_changed_credential_replaces_all() -> None:
    """When the server has refused the credential and accepts it again, what was opened before is replaced; while it
    refuses, the connections that there are go on."""
    psycopg = pytest.importorskip("psycopg")
    driver = Driver()
    pool = FairPool(driver, pool_size=3, timeout=0.0, dialect=cast("Any", PGDialect_psycopg)(dbapi=psycopg))
    first, second = pool.connect(), pool.connect()
    second.close()
    second = pool.connect()
    driver.fails = psycopg.errors.InvalidPassword
    with pytest.raises(psycopg.errors.InvalidPassword):
        pool.connect()
    second.close()
    second = pool.connect()  # nothing is lost by the refusal
    driver.fails = None
    third = pool.connect()
    for proxy in (first, second, third):
        proxy.close()
    assert (driver.made, driver.open, pool.checkedin()) == (3, 1, 1)


def test_a_server_is_not_asked_where_there_is_no_time_for_it() -> None:
    """Nor would there be time to open another one: it is used, and what it is used for will tell."""
    pool = FairPool(Driver(), pool_size=1, timeout=0.01)
    idle(pool, 1)
    life = life_of(pool.room.seats.idle["any"][0])
    assert life is not None
    life.is_quiet = lambda: True
    pool.answers = lambda record, within: pytest.fail("it was asked")  # type: ignore[method-assign]  # there is no server
    pool.room.doubted_at = time.monotonic()
    pool.connect().close()
    assert pool.checkedin() == 1
