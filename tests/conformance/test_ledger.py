"""Who holds what"""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
import sqlalchemy as sa

from polysession import AsyncSessions
from polysession.errors import CheckoutTimeout, ConnectionHeld
from polysession.facts import TransactionIdled

from .cells import Cell, also_pooled, line
from .schema import Item

ONE = sa.text("select 1")


async def test_a_row_for_each_connection_that_is_out(cell: Cell) -> None:
    """connections() has a row for each connection that is out: its owner, unit, line, statements and times."""
    door = cell.door(pool={"size": 2})
    began = time.monotonic()
    async with door.begin(name="import") as session:
        opened = line() - 1
        await session.execute(ONE)
        await session.execute(ONE)
        (row,) = door.connections()
        (held,) = door.held()
    (whole,) = (held.id,)
    most = time.monotonic() - began
    assert (row.hold, row.endpoint, row.name) == (whole, "default/primary", "import")
    assert row.place == f"{__file__}:{opened} in test_a_row_for_each_connection_that_is_out"
    assert row.owner == str(held.owner)
    assert row.statements == held.statements == 2
    assert 0.0 < row.in_database <= row.age <= most
    assert held.in_database is not None
    assert 0.0 < held.in_database <= held.age
    assert held.waited == 0.0
    assert door.connections() == ()


async def test_a_session_counts_anew_with_each_connection(cell: Cell) -> None:
    """What a session did with the connection that it had before is not counted for the one that it has."""
    door = cell.door()
    async with door.open() as session:
        for _ in range(3):
            await session.execute(ONE)
        await session.commit()
        assert door.connections() == ()
        await session.execute(ONE)
        (row,) = door.connections()
        (held,) = door.held()
        assert row.statements == 1
        assert held.statements == 4
        assert row.in_database <= row.age


@also_pooled
async def test_the_timeout_says_what_each_holder_did(cell: Cell) -> None:
    """CheckoutTimeout names every holder with the statements and the time of the database, and where it is just now."""
    door = cell.door(pool={"size": 1, "checkout_timeout": "500ms"})
    ready, done = threading.Event(), threading.Event()

    async def holds() -> None:
        async with door.begin(name="slow") as session:
            await session.execute(ONE)
            ready.set()
            await wait(done)

    async def wants() -> str:
        await wait(ready)
        try:
            async with door.begin() as session:
                with pytest.raises(CheckoutTimeout) as caught:
                    await session.execute(ONE)
        finally:
            done.set()
        return str(caught.value)

    async def wait(event: threading.Event) -> None:
        while not event.is_set():
            await asyncio.sleep(0.001) if cell.is_async else event.wait()

    none, text = await cell.together(holds, wants)
    assert none is None
    assert "unit 'slow' opened at" in text
    assert "s of it in the database, 1 statement, now at " in text, text
    assert "in test_the_timeout_says_what_each_holder_did.<locals>.wait" in text
    assert "1 others wait" not in text


def _idled(door: AsyncSessions) -> list[TransactionIdled]:
    """The facts that the door tells from here on."""
    told: list[TransactionIdled] = []
    relay: Any = door._relay

    class Observer:
        """Keeps them."""

        def tell(self, fact: Any) -> None:
            """Keep it."""
            if isinstance(fact, TransactionIdled):
                told.append(fact)

    relay._others = (Observer(),)
    return told


async def test_a_transaction_that_idles_is_told(cell: Cell, caplog: pytest.LogCaptureFixture) -> None:
    """A transaction without a statement for longer than pool.idle_warning is told with its line, and logged once."""
    door = cell.door(pool={"idle_warning": 1e-9})
    told = _idled(door)
    for _ in range(2):
        async with door.begin(name="report") as session:
            await session.execute(ONE)
            await session.execute(ONE)
            resumed = line() - 1
    lines = [fact.until.line for fact in told]
    assert lines.count(resumed) == 2
    assert {fact.name for fact in told} == {"report"}
    assert all(fact.seconds > 0.0 for fact in told)
    logged = [record.getMessage() for record in caplog.records if f":{resumed} in " in record.getMessage()]
    assert len(logged) == 1
    assert "unit 'report', opened at" in logged[0]


async def test_what_idles_is_told_at_its_end(cell: Cell) -> None:
    """A transaction that idled and then only commits, or rolls back, is told too; one in time is not."""
    door = cell.door(pool={"idle_warning": "1h"})
    told = _idled(door)
    for error in (None, KeyError):
        try:
            async with door.begin() as session:
                session.add(Item(id=1, name="one"))
                await session.flush()
                sync: Any = session.sync_session
                sync._polysession_holding.seen.ended -= 7200.0
                if error is not None:
                    raise error
        except KeyError:
            pass
        except sa.exc.IntegrityError:
            pass
        else:
            assert len(told) == 1
            await _clear(door)
    assert len(told) == 2
    assert all(7200.0 <= fact.seconds < 7300.0 for fact in told)


async def _clear(door: AsyncSessions) -> None:
    async with door.begin() as session:
        await session.execute(sa.delete(Item))


async def test_read_units_do_not_idle(cell: Cell) -> None:
    """A read unit holds no transaction, so it may take its time."""
    door = cell.door(pool={"idle_warning": 1e-9})
    told = _idled(door)
    async with door.read() as session:
        await session.execute(ONE)
        await session.execute(ONE)
    assert told == []


async def test_outside_refuses_what_is_held(cell: Cell) -> None:
    """outside() raises ConnectionHeld with the unit's line if a transaction of its thread or task is open."""
    door = cell.door()
    async with door.begin(name="import") as session:
        opened = line() - 1
        async with door.outside():
            pass  # nothing was sent yet: no connection is held
        await session.execute(ONE)
        with pytest.raises(ConnectionHeld, match="unit 'import' holds a connection") as caught:
            async with door.outside():
                raise AssertionError
        assert f"{__file__}:{opened} in " in str(caught.value)
        assert f"outside() is at {__file__}:{line() - 3} in" in str(caught.value)


async def test_outside_refuses_a_session_of_its_owner(cell: Cell) -> None:
    """The same for a session that its owner ends, while it has a connection."""
    door = cell.door()
    async with door.open() as session:
        await session.execute(ONE)
        with pytest.raises(ConnectionHeld, match="session that 'test_outside_refuses_a_session_of_its_owner' opened"):
            async with door.outside():
                raise AssertionError
        await session.commit()
        async with door.outside():
            assert door.connections() == ()


async def test_outside_refuses_what_begins_inside(cell: Cell) -> None:
    """Inside of the block no unit or session is opened, and none takes a connection; afterwards they may again."""
    door = cell.door()
    async with door.begin() as outer:
        async with door.outside():
            with pytest.raises(ConnectionHeld, match="a unit or session was opened inside of a block of outside"):
                door.begin()
            with pytest.raises(ConnectionHeld, match="a unit or session was opened"):
                door.open()
            with pytest.raises(ConnectionHeld, match="took a connection inside"):
                await outer.execute(ONE)
            assert door.connections() == ()
        await outer.execute(ONE)


async def test_outside_does_not_concern_others(cell: Cell) -> None:
    """Another thread or task may hold what it likes, also one that was begun inside of the block."""
    door = cell.door()

    async def other() -> int:
        async with door.begin() as session:
            return int((await session.execute(ONE)).scalar_one())

    async with door.outside():
        assert await cell.elsewhere(other) == 1
    async with cell.door(databases={"other": cell.url}).begin() as session:
        await session.execute(ONE)
        async with door.outside():
            await session.execute(ONE)  # of another door


async def test_outside_lets_go_of_leases(cell: Cell) -> None:
    """What a read unit need not hold is back in the pool inside of the block; its next statement takes another one.

    Behind a pooler in transaction mode a read unit is a transaction, and refused like one.
    """
    door = cell.door()
    async with door.read() as session:
        await session.execute(ONE)
        if door.held()[0].state == "in transaction":
            with pytest.raises(ConnectionHeld, match="holds a connection"):
                async with door.outside():
                    raise AssertionError
            return
        async with door.outside():
            assert door.connections() == ()
            with pytest.raises(ConnectionHeld, match="took a connection inside"):
                await session.execute(ONE)
        await session.execute(ONE)
