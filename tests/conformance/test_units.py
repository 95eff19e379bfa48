"""Units of work"""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError

from polysession import AsyncSessions
from polysession.errors import CommitUnknown, SessionEnded, SessionMisuse, UnitOwnsCommit, UnitRolledBack
from polysession.facts import HoldKind

from .cells import Cell, Refused, also_pooled, line
from .doors import real
from .schema import Item, Part


@also_pooled
async def test_commits_at_the_end(door: AsyncSessions, cell: Cell) -> None:
    """At the end of its block a unit commits: what it did is there for others. Before, nobody else sees it."""
    async with door.begin() as session:
        session.add(Item(id=1, name="one"))
        await session.flush()
        assert cell.witness.items() == []
    assert cell.witness.items() == [1]
    assert door.counts().committed == 1


@also_pooled
async def test_rolls_back_on_an_exception(door: AsyncSessions, cell: Cell) -> None:
    """An exception that leaves the block rolls the unit back, and is the very object that was raised."""
    error = Refused()
    with pytest.raises(Refused) as caught:
        async with door.begin() as session:
            session.add(Item(id=1, name="one"))
            await session.flush()
            raise error
    assert caught.value is error
    assert cell.witness.items() == []
    assert door.counts().rolled_back == 1


async def test_the_session_ends_with_its_unit(door: AsyncSessions) -> None:
    """A session used after its unit raises SessionEnded, which names where it was opened and where it ended."""
    for fails in (False, True):
        opened = line() + 2
        try:
            async with door.begin() as session:
                if fails:
                    raise Refused
        except Refused:
            pass
        for use in (
            lambda: session.execute(sa.text("select 1")),
            lambda: session.get(Item, 1),
            session.flush,
            lambda: session.run_sync(lambda sync: sync.add(Item(id=1, name="one"))),
        ):
            with pytest.raises(SessionEnded) as caught:
                await use()
            assert f"{__file__}:{opened} in test_the_session_ends" in str(caught.value)
            assert str(caught.value).count(f"{__file__}:") == 3  # opened, ended, used
            assert ("rolled back" if fails else "committed") in str(caught.value)


@also_pooled
async def test_held_shows_the_unit(door: AsyncSessions) -> None:
    """While a unit is open, held() has its name, database, owner and the line that opened it."""
    opened = line() + 1
    async with door.begin(name="import") as session:
        (row,) = door.held()
        assert (row.kind, row.name, row.databases) == (HoldKind.UNIT, "import", ("default",))
        assert row.state == "no connection"
        assert row.place.startswith(f"{__file__}:{opened} in ")
        await session.execute(sa.text("select 1"))
        assert door.held()[0].state == "in transaction"
    assert door.held() == ()


async def test_the_default_name_is_the_functions(door: AsyncSessions) -> None:
    """A unit without a name is called after the function that opened it."""
    async with door.begin():
        assert door.held()[0].name == "test_the_default_name_is_the_functions"


@also_pooled
async def test_a_joined_unit_has_the_same_session(door: AsyncSessions, cell: Cell) -> None:
    """begin inside an open unit joins it: one session, one transaction, one commit at the outer end."""
    async with door.begin() as outer:
        outer.add(Item(id=1, name="one"))
        async with door.begin() as inner:
            assert real(inner) is real(outer)
            inner.add(Item(id=2, name="two"))
            await inner.flush()
        assert cell.witness.items() == []
        assert len(door.held()) == 1
    assert cell.witness.items() == [1, 2]


@also_pooled
async def test_a_swallowed_error_dooms_the_outer_unit(door: AsyncSessions, cell: Cell) -> None:
    """If a joined unit failed and its error was swallowed, the outer one ends in UnitRolledBack and commits nothing."""
    with pytest.raises(UnitRolledBack) as caught:
        async with door.begin() as outer:
            outer.add(Item(id=1, name="one"))
            with pytest.raises(Refused):
                async with door.begin() as inner:
                    inner.add(Item(id=2, name="two"))
                    raise Refused
    assert isinstance(caught.value.__cause__, Refused)
    assert f"{__file__}:" in str(caught.value)
    assert cell.witness.items() == []


@pytest.mark.parametrize("verb", ["commit", "rollback", "close", "begin", "reset", "invalidate"])
async def test_a_unit_is_not_ended_by_hand(door: AsyncSessions, cell: Cell, verb: str) -> None:
    """commit(), rollback(), close() and begin() on a unit's session are refused, and the unit works on."""
    async with door.begin() as session:
        session.add(Item(id=1, name="one"))
        with pytest.raises(UnitOwnsCommit, match=rf"{verb}\(\) was called on the session of unit"):
            await getattr(session, verb)()
        await session.flush()
        assert cell.witness.items() == []
    assert cell.witness.items() == [1]


async def test_savepoints_work(door: AsyncSessions, cell: Cell) -> None:
    """begin_nested() on a unit's session works as always: an error inside undoes only what came after it."""
    async with door.begin() as session:
        session.add(Item(id=1, name="one"))
        with pytest.raises(Refused):
            async with session.begin_nested():
                session.add(Item(id=2, name="two"))
                await session.flush()
                raise Refused
        async with session.begin_nested():
            session.add(Item(id=3, name="three"))
        savepoint = await session.begin_nested()
        session.add(Item(id=4, name="four"))
        await savepoint.rollback()
    assert cell.witness.items() == [1, 3]


async def test_an_empty_unit_takes_no_connection(door: AsyncSessions, cell: Cell) -> None:
    """A unit that does nothing takes no connection."""
    async with door.begin() as session:
        session.add(item := Item(id=1, name="one"))
        session.expunge(item)
        assert door._connections_out() == 0
    async with door.read():
        pass
    assert cell.database.census() == []
    assert door.counts().committed == 2


async def test_a_unit_is_opened_once(door: AsyncSessions) -> None:
    """The object that begin() answers serves for one block; a second one is refused."""
    unit = door.begin()
    async with unit:
        pass
    with pytest.raises(SessionMisuse, match="opened twice"):
        async with unit:
            pass


@also_pooled
async def test_units_reuse_a_connection(door: AsyncSessions, cell: Cell) -> None:
    """Units one after another use one connection, and nothing of one is left there for the next."""
    for number in range(5):
        async with door.begin() as session:
            session.add(Item(id=number, name=str(number)))
            if number == 2:
                await session.flush()
                await session.run_sync(lambda sync: sync.connection().exec_driver_sql("select 1"))
        assert len(cell.database.census()) == 1
    assert cell.witness.items() == [0, 1, 2, 3, 4]


async def test_a_violated_constraint_is_sqlalchemys_error(door: AsyncSessions, cell: Cell) -> None:
    """A row with a key that exists raises SQLAlchemy's IntegrityError, from flush and from the end of the block."""
    cell.witness.do("insert into item (id, name, value) values (1, 'one', 0)")
    for flushes in (True, False):
        with pytest.raises(IntegrityError):
            async with door.begin() as session:
                session.add_all([Item(id=2, name="two"), Item(id=1, name="again")])
                if flushes:
                    await session.flush()
        assert cell.witness.items() == [1]
    async with door.begin() as session:
        session.add(Item(id=2, name="two"))
    assert cell.witness.items() == [1, 2]


async def test_a_swallowed_statement_error(door: AsyncSessions, cell: Cell) -> None:
    """A statement's error that is swallowed, behind a savepoint or not, undoes that statement alone."""
    async with door.begin() as session:
        session.add(Item(id=1, name="one"))
        with pytest.raises(DBAPIError):
            async with session.begin_nested():
                await session.execute(sa.text("select nothing from nowhere"))
    assert cell.witness.items() == [1]
    if cell.is_postgres:
        cell.differs("PostgreSQL gives up the whole transaction after an error: the unit ends in UnitRolledBack")
        with pytest.raises(UnitRolledBack, match="rolled back its whole transaction"):
            await swallow(door)
        assert cell.witness.items() == [1]
    else:
        await swallow(door)
        assert cell.witness.items() == [1, 2]


async def swallow(door: AsyncSessions) -> None:
    """A unit that goes on after a statement has failed."""
    async with door.begin() as session:
        session.add(Item(id=2, name="two"))
        await session.flush()
        with pytest.raises(DBAPIError):
            await session.execute(sa.text("select nothing from nowhere"))


async def test_a_constraint_checked_at_commit(door: AsyncSessions, cell: Cell) -> None:
    """A constraint that is checked at COMMIT rolls the unit back for certain: IntegrityError, not CommitUnknown."""
    if cell.is_mariadb:
        cell.differs("MariaDB checks foreign keys at once: the error comes from the statement, not from COMMIT")
    with pytest.raises(IntegrityError) as caught:
        async with door.begin() as session:
            session.add(Part(id=1, invoice_id=7))
            if not cell.is_mariadb:
                await session.flush()
    assert not isinstance(caught.value, CommitUnknown)
    assert door.counts().rolled_back == 1
    assert cell.witness.ask("select id from part") == []
    async with door.begin() as session:
        session.add(Item(id=1, name="one"))
    assert cell.witness.items() == [1]


async def test_a_statement_that_commits_by_itself(door: AsyncSessions, cell: Cell) -> None:
    """CREATE TABLE behind other work leaves nothing of that work committed if the unit fails; as the first statement of
    a unit it is let pass, and what comes behind it is all or nothing."""
    create = sa.text("create table made_here (id integer)")
    if cell.is_mariadb:
        cell.differs("MariaDB's CREATE TABLE commits what came before it: behind other work it is refused")
    with pytest.raises((Refused, UnitOwnsCommit)) as caught:
        async with door.begin() as session:
            session.add(Item(id=1, name="one"))
            await session.flush()
            await session.execute(create)
            raise Refused
    assert isinstance(caught.value, UnitOwnsCommit) is cell.is_mariadb
    if cell.is_mariadb:
        assert "CREATE TABLE was to be sent" in str(caught.value)
    assert cell.witness.items() == []
    with pytest.raises(Refused):
        async with door.begin() as session:
            assert (await session.execute(sa.text("select 1"))).all() == [(1,)]
            await session.execute(create)
            session.add(Item(id=2, name="two"))
            await session.flush()
            raise Refused
    assert cell.witness.items() == []
    async with door.open() as session:
        session.add(Item(id=3, name="three"))
        await session.flush()
        await session.execute(sa.text("drop table if exists made_here"))
        await session.commit()
    assert cell.witness.items() == [3]
