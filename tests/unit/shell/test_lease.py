"""Connections that are lent: who has them, and that nobody has one that another uses."""

from __future__ import annotations

import gc
import sqlite3
import threading
from typing import Any

import pytest
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from polysession._shell.claims import asking
from polysession._shell.lease import Lease
from polysession._shell.pool import FairPool
from polysession._shell.room import Room
from polysession._shell.together import Flight
from polysession.errors import CheckoutTimeout

from .driver import Driver


class Unit:
    """Who has a lease."""

    flight: Flight | None = None

    def __init__(self, name: str = "reader") -> None:
        self.name = name
        self.seated: list[Any] = []

    def describe(self) -> str:
        """As a holding describes itself."""
        return f"unit {self.name!r} opened at here.py:7"

    def refuse_outside(self) -> None:
        """It may have one everywhere."""

    def waits_until(self) -> float | None:
        """It has no deadline."""

    def waited(self, seconds: float) -> None:
        """It does not mind."""

    def held_by(self) -> object | None:
        """Anybody may end it."""

    def reseated(self, loan: Any) -> None:
        """Noted."""
        self.seated.append(loan.seat().dbapi_connection)


@pytest.fixture(autouse=True)
def _asked_by_nobody() -> Any:
    """No test leaves its asker behind."""
    yield
    asking.asker = None


def pools(driver: Driver, size: int = 1, timeout: float = 0.0) -> tuple[FairPool, FairPool]:
    """One that lends and one for writes, over the same seats."""
    room = Room("orders/primary", size, timeout)
    read, write = (FairPool(driver, dialect=SQLiteDialect_pysqlite(dbapi=sqlite3)) for _ in range(2))
    read.join(room, "read")
    write.join(room, "write")
    read.lends = True
    return read, write


def lent(pool: FairPool, name: str = "reader") -> Lease:
    """A lease whose statement has ended."""
    lease = pool.connect()
    assert isinstance(lease, Lease)
    lease.lend(Unit(name))
    lease.loan.rest()
    return lease


def test_a_connection_that_is_not_lent_is_not_taken_back() -> None:
    """Who never lends has an ordinary pooled connection."""
    read, _ = pools(Driver())
    lease = read.connect()
    assert isinstance(lease, Lease)
    lease.loan.rest()
    with pytest.raises(CheckoutTimeout):
        read.connect()
    assert lease.is_valid
    lease.close()
    assert not lease.is_valid
    assert read.checkedin() == 1


def test_nothing_is_taken_back_while_nobody_waits() -> None:
    """The next statement has the connection that the last one had."""
    driver = Driver()
    read, _ = pools(driver)
    lease = lent(read)
    first = lease.seat()
    lease.loan.rest()
    assert lease.seat() is first
    assert (driver.made, read.checkedout(), read.checkedin()) == (1, 1, 0)
    lease.close()
    assert (read.checkedout(), read.checkedin()) == (0, 1)


def test_who_asks_takes_back_what_rests() -> None:
    """It is the same connection, without the first one's having done anything; then the first one has none."""
    driver = Driver(most=1)
    read, _ = pools(driver)
    lease = lent(read)
    mine = lease.loan.seen
    assert mine is not None
    link = mine.dbapi_connection
    other = read.connect()
    assert other.dbapi_connection is link
    assert (lease.has_connection, lease.is_valid, lease.info, lease.record_info) == (False, True, {}, None)
    with pytest.raises(CheckoutTimeout):
        lease.seat()
    other.close()
    assert lease.seat().dbapi_connection is link
    assert isinstance(lease.loan.tenant, Unit)
    assert lease.loan.tenant.seated == [link], "the unit is told that its connection may be another one"
    lease.close()
    assert (driver.made, read.checkedin()) == (1, 1)


def test_the_seat_of_a_resting_connection_serves_another_kind() -> None:
    """It is closed then, and what was asked for is opened."""
    driver = Driver(most=1)
    read, write = pools(driver)
    lease = lent(read)
    write.connect().close()
    assert (driver.made, lease.has_connection) == (2, False)
    lease.close()


def test_the_one_that_rests_longest_is_taken_back_first() -> None:
    """Of three readers the one whose statement ended first."""
    read, _ = pools(Driver(), 3)
    first, second, third = leases = [read.connect() for _ in range(3)]
    for lease in leases:
        assert isinstance(lease, Lease)
        lease.lend(Unit())
        lease.loan.rest()
    assert isinstance(first, Lease)
    first.seat()
    first.loan.rest()
    taken = [read.connect(), read.connect()]
    assert [isinstance(one, Lease) and one.has_connection for one in leases] == [True, False, False]
    for lease in (*taken, first, second, third):
        lease.close()


def test_who_waits_is_served_when_a_statement_ends() -> None:
    """A waiter who came in the middle of a statement has the connection when that is over."""
    driver = Driver(most=1)
    read, _ = pools(driver, timeout=60.0)
    lease = lent(read)
    lease.seat()
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(read.connect()))
    thread.start()
    while not read.room.seats.waiters:
        assert thread.is_alive()
    assert lease.has_connection
    lease.loan.rest()
    thread.join()
    assert not lease.has_connection
    got.pop().close()
    lease.close()


def test_a_lease_that_is_kept_stays() -> None:
    """Somebody got hold of the connection, or left something on it."""
    read, _ = pools(Driver())
    lease = lent(read)
    assert lease.driver_connection is lease.dbapi_connection
    assert lease.loan.is_kept
    lease.loan.rest()
    with pytest.raises(CheckoutTimeout, match="1 of 1 are out"):
        read.connect()
    lease.close()
    assert lease.dbapi_connection is None


def test_a_dropped_lease_gives_back_what_rests() -> None:
    """With its last reference, like every pooled connection."""
    read, _ = pools(Driver(most=1))
    lease = lent(read)
    del lease
    gc.collect()
    assert (read.checkedout(), read.checkedin(), read.room.resting) == (0, 1, {})


def test_what_was_taken_back_is_not_invalidated() -> None:
    """It is somebody else's by then."""
    driver = Driver(most=1)
    read, _ = pools(driver)
    lease = lent(read)
    other = read.connect()
    lease.invalidate()
    assert other.is_valid
    assert not lease.is_valid
    other.close()
    resting = lent(read)
    resting.invalidate()
    assert (driver.open, read.room.seats.total) == (0, 0)


def test_dispose_closes_what_rests() -> None:
    """Its unit may go on, and keeps nothing."""
    driver = Driver()
    read, _ = pools(driver)
    lease = lent(read)
    read.dispose()
    assert (driver.open, read.room.seats.total) == (0, 0)
    lease.seat()
    assert driver.open == 1
    lease.loan.rest()
    assert (driver.open, read.room.seats.total) == (0, 0)
    lease.close()


def test_threads_share_two_connections() -> None:
    """Forty readers with many statements each: a connection is in one hand at a time, all are served, none is lost."""
    driver = Driver(most=2)
    read, write = pools(driver, 2, timeout=60.0)
    wrong: list[object] = []
    users: dict[int, int] = {}

    def work(me: int) -> None:
        lease = read.connect()
        assert isinstance(lease, Lease)
        lease.lend(Unit(str(me)))
        lease.loan.rest()
        for turn in range(40):
            link = lease.seat().dbapi_connection
            if users.setdefault(id(link), me) != me:
                wrong.append(link)
            if users.pop(id(link)) != me:
                wrong.append(link)
            lease.loan.rest()
            if me % 10 == 0 and turn % 10 == 0:
                write.connect().close()
        lease.close()

    threads = [threading.Thread(target=work, args=(me,)) for me in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert (read.checkedout(), write.checkedout(), read.room.resting) == (0, 0, {})
    assert driver.open == read.room.seats.total <= 2
