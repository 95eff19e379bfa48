"""The misuses that are noticed before they do damage"""

from __future__ import annotations

import asyncio
import os
import threading
import warnings
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import load_only

from polysession import AsyncSessions, errors
from polysession._shell.guard import holding_of
from tests.engines.finders import PROJECT

from .cells import Cell
from .doors import finish, real
from .schema import Invoice, Item

PAGE = PROJECT / "docs" / "misuse.md"
ONE = sa.text("select 1")
Seed = Callable[[Cell, AsyncSessions], Awaitable[Any]]


class Misuse(NamedTuple):
    """One of them: what is done, what it must end in, and how many places of the code the text must name."""

    seed: Seed
    error: type[BaseException]
    places: int
    doors: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """What is done."""
        return " ".join((self.seed.__doc__ or "").split())


MISUSES: list[Misuse] = []
BOTH = ("sync", "async")


def misuse(error: type[BaseException], *, places: int = 2, doors: tuple[str, ...] = BOTH) -> Callable[[Seed], Seed]:
    """Note a misuse."""

    def note(seed: Seed) -> Seed:
        MISUSES.append(Misuse(seed, error, places, doors))
        return seed

    return note


async def ended(door: AsyncSessions) -> Any:
    """The session of a unit that has ended."""
    async with door.begin() as session:
        await session.execute(ONE)
    return session


# -- after the end


@misuse(errors.SessionEnded)
async def execute_after_the_end(_: Cell, door: AsyncSessions) -> None:
    """execute() after the unit's end"""
    await (await ended(door)).execute(ONE)


@misuse(errors.SessionEnded)
async def add_after_the_end(_: Cell, door: AsyncSessions) -> None:
    """add() after the unit's end"""
    (await ended(door)).sync_session.add(Item(id=1, name="one"))


@misuse(errors.LazyLoadOutsideUnit, places=1)
async def lazy_load_after_the_end(cell: Cell, door: AsyncSessions) -> None:
    """an attribute that was not loaded, after the unit's end"""
    cell.witness.do("insert into item (id, name, value) values (0, 'nought', 0)")
    async with door.read() as session:
        item = await session.scalar(sa.select(Item).options(load_only(Item.id)))
    cell.witness.empty_tables()
    assert item is not None
    assert item.value


@misuse(errors.SessionEnded)
async def stream_after_the_end(cell: Cell, door: AsyncSessions) -> None:
    """a stream begun after the unit's end"""
    session = await ended(door)
    await (session.stream(ONE) if cell.is_async else session.execute(ONE, execution_options={"yield_per": 1}))


@misuse(errors.SessionEnded)
async def held_by_a_generator(_: Cell, door: AsyncSessions) -> None:
    """the session of a unit that a generator held, after that was closed"""

    async def unit() -> Any:
        async with door.begin() as session:
            yield session

    generator = unit()
    session = await anext(generator)
    await generator.aclose()
    await session.execute(ONE)


@misuse(errors.SessionMisuse)
async def inner_unit_left_open(_: Cell, door: AsyncSessions) -> None:
    """the end of a unit while a unit that joined it, in a generator that was not read to its end, is still open"""

    async def rows() -> Any:
        async with door.begin():
            yield 1

    generator = rows()
    try:
        async with door.begin() as session:
            session.add(Item(id=1, name="one"))
            await anext(generator)
    finally:
        await generator.aclose()


# -- the wrong owner


@misuse(errors.WrongOwner)
async def elsewhere(cell: Cell, door: AsyncSessions) -> None:
    """a unit's session in another thread; in another task"""
    async with door.begin() as session:

        async def use() -> None:
            await session.execute(ONE)

        await cell.elsewhere(use)


@misuse(errors.WrongOwner)
async def gathered(cell: Cell, door: AsyncSessions) -> None:
    """one warm session in asyncio.gather; one Session in four threads"""
    async with door.begin() as session:
        await session.execute(ONE)

        async def use() -> None:
            await session.execute(ONE)

        answers = await cell.together(*[use] * 4)
        assert {type(answer) for answer in answers} == {errors.WrongOwner}
        raise answers[0]


@misuse(errors.WrongOwner, doors=("async",))
async def inherited(cell: Cell, door: AsyncSessions) -> None:
    """current() in a task that was started inside of a unit"""

    async def ask() -> Any:
        return door.current()

    async with door.begin():
        await cell.elsewhere(ask)


@misuse(errors.WrongOwner, doors=("sync",))
async def forked(cell: Cell, door: AsyncSessions) -> None:
    """a unit's session in a forked child, which then leaves the unit's block; the parent's unit is unharmed"""
    reading, writing = os.pipe()
    async with door.begin() as session:
        session.add(Item(id=99, name="parent"))
        await session.flush()
        child = os.fork()
        if child == 0:
            text = "nothing was raised"
            try:
                try:
                    await session.execute(ONE)
                finally:
                    await leave(session)
            except BaseException as error:
                text = str(error)
            finally:
                os.write(writing, text.encode())
                os._exit(0)
        os.waitpid(child, 0)  # noqa: ASYNC222  # no loop runs at this door
    os.close(writing)
    text = os.read(reading, 10_000).decode()
    os.close(reading)
    assert cell.witness.items() == [99]
    cell.witness.empty_tables()
    assert f"but process {child} used it" in text
    assert "before the fork" in text
    raise errors.WrongOwner(text)


async def leave(session: Any) -> None:
    """End a unit where it does not belong, as leaving its block does."""
    from polysession._shell.finish import Finish

    holding = holding_of(session.sync_session)
    assert holding is not None
    with pytest.raises(errors.WrongOwner):
        Finish.flush(holding)
    Finish.rollback(holding)
    Finish.close(holding, broken=False)


@misuse(errors.WrongOwner)
async def overlapping(cell: Cell, door: AsyncSessions) -> None:
    """a sessionmaker's session by two threads or tasks at once (one after the other is allowed)"""
    session = door.sessionmaker()()
    await session.execute(ONE)
    holding = holding_of(session.sync_session)
    assert holding is not None
    in_use = holding.seen.in_use
    assert in_use is not None
    long = sa.text(_LONG[cell.engine])
    try:
        if cell.is_async:
            task = asyncio.create_task(session.execute(long))
            while not in_use.locked():  # noqa: ASYNC110  # what is waited for is a lock of the session's own
                await asyncio.sleep(0)
            try:
                await session.execute(ONE)
            finally:
                await task
        else:
            thread = threading.Thread(target=lambda: finish(session.execute(long)))
            thread.start()
            while not in_use.locked():
                pass
            try:
                await session.execute(ONE)
            finally:
                thread.join()
    finally:
        await session.close()


_LONG = {
    "pg": "select pg_sleep(0.3)",
    "mariadb": "select sleep(0.3)",
    "sqlite": "with recursive n(i) as (select 1 union all select i + 1 from n where i < 1e6) select count(*) from n",
}


@misuse(errors.RequestRefused, places=1)
async def taken_from_another_door(cell: Cell, door: AsyncSessions) -> None:
    """take_over() of a session that another door gave out"""
    other = cell.door()
    async with other.begin() as session:
        door.take_over(real(session))


# -- the end of a unit in other hands


def ends(verb: str) -> None:
    """A verb that is refused on a unit's session."""

    async def seed(_: Cell, door: AsyncSessions) -> None:
        async with door.begin() as session:
            session.add(Item(id=1, name="one"))
            await session.flush()
            await session.run_sync(lambda sync: getattr(sync, verb)())

    seed.__name__ = verb
    seed.__doc__ = f"{verb}() on a unit's session"
    misuse(errors.UnitOwnsCommit)(seed)


for each in ("commit", "rollback", "close", "begin", "prepare", "reset", "invalidate"):
    ends(each)


def by_object(
    name: str, what: str, act: Callable[[Any], Any], error: type[BaseException] = errors.UnitOwnsCommit
) -> None:
    """The same by an object that SQLAlchemy gives out."""

    async def seed(_: Cell, door: AsyncSessions) -> None:
        async with door.begin() as session:
            session.add(Item(id=1, name="one"))
            await session.flush()
            await session.run_sync(act)

    seed.__name__ = name
    seed.__doc__ = what
    misuse(error)(seed)


by_object("transaction_commit", "session.get_transaction().commit()", lambda s: s.get_transaction().commit())
by_object("connection_commit", "session.connection().commit()", lambda s: s.connection().commit())
by_object(
    "connection_transaction_commit",
    "session.connection().get_transaction().commit()",
    lambda s: s.connection().get_transaction().commit(),
)


def rolls_back(act: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Roll back behind the unit's back, and go on."""

    def go_on(sync: Any) -> None:
        act(sync)
        sync.execute(sa.insert(Item).values(id=2, name="two", value=0))

    return go_on


by_object(
    "transaction_rollback",
    "session.get_transaction().rollback(), and further work",
    rolls_back(lambda s: s.get_transaction().rollback()),
    errors.UnitRolledBack,
)
by_object(
    "connection_rollback",
    "session.connection().rollback(), and further work",
    rolls_back(lambda s: s.connection().rollback()),
    errors.UnitRolledBack,
)


def sends(text: str) -> None:
    """A text that begins or ends a transaction."""

    async def seed(_: Cell, door: AsyncSessions) -> None:
        async with door.begin() as session:
            session.add(Item(id=1, name="one"))
            await session.flush()
            await session.execute(sa.text(text))

    seed.__name__ = "text_" + "_".join(text.lower().split()[-2:]).strip("*/_")
    seed.__doc__ = f'text("{text}") in a unit'
    misuse(errors.UnitOwnsCommit)(seed)


for each in ("COMMIT", "ROLLBACK", "BEGIN", "/* so */ commit", "start transaction"):
    sends(each)


@misuse(errors.SessionMisuse)
async def open_savepoint(_: Cell, door: AsyncSessions) -> None:
    """a savepoint that is still open where the unit ends"""
    async with door.begin() as session:
        session.add(Item(id=1, name="one"))
        await session.flush()
        await session.begin_nested()


# -- the wrong door, the wrong moment


@misuse(errors.WrongDoor, doors=("async",))
async def with_on_the_asynchronous_door(_: Cell, door: AsyncSessions) -> None:
    """`with` on a unit of AsyncSessions"""
    unit: Any = door.begin()  # the type checkers refuse it
    with unit:
        pass


@misuse(errors.WrongDoor, doors=("sync",))
async def async_with_on_the_synchronous_door(_: Cell, door: AsyncSessions) -> None:
    """`async with` on a unit of Sessions"""
    async with real(door).begin():
        pass


@misuse(errors.WrongDoor, places=1, doors=("sync",))
async def blocking_in_a_loop(_: Cell, door: AsyncSessions) -> None:
    """Sessions inside of a running event loop"""

    async def inside() -> None:
        with real(door).begin():
            pass

    asyncio.run(inside())


@misuse(errors.WrongDoor, places=0, doors=("async",))
async def without_a_loop(_: Cell, door: AsyncSessions) -> None:
    """AsyncSessions where no event loop runs"""
    await asyncio.to_thread(door.begin)


@misuse(errors.SessionMisuse)
async def opened_twice(_: Cell, door: AsyncSessions) -> None:
    """one unit object for two blocks"""
    unit = door.begin()
    async with unit:
        pass
    async with unit:
        pass


@misuse(errors.NoUnit, places=1)
async def hook_outside(_: Cell, door: AsyncSessions) -> None:
    """on_commit() outside of a unit"""
    door.on_commit(print, "never")


@misuse(errors.RequestRefused, places=0, doors=("sync",))
async def hook_that_waits(_: Cell, door: AsyncSessions) -> None:
    """a coroutine function as a hook at the synchronous door"""

    async def hook() -> None:
        """Nobody awaits it."""

    async with door.begin():
        door.on_commit(hook)


@misuse(errors.RequestRefused, places=0, doors=("sync",))
async def work_that_waits(_: Cell, door: AsyncSessions) -> None:
    """a coroutine function for run(), unit() or task() at the synchronous door"""

    async def work(_: Any) -> None:
        """Nobody awaits it."""

    with pytest.raises(errors.RequestRefused):
        real(door).task(work)()
    with pytest.raises(errors.RequestRefused):
        real(door).unit()(work)()
    real(door).run(work)


@misuse(ResourceWarning, places=1)
async def closed_with_units_open(cell: Cell, _: AsyncSessions) -> None:
    """close() of the door while a unit is open"""
    door = cell.bare_door({"default": cell.url})
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        async with door.begin() as session:
            await session.execute(ONE)
            await door.close()
    raise next(each.message for each in seen if each.category is ResourceWarning)  # type: ignore[misc]  # no text


# -- the wrong object


@misuse(errors.SessionMisuse)
async def of_another_session(_: Cell, door: AsyncSessions) -> None:
    """add() of an object that belongs to another session, still open"""
    async with door.begin() as one:
        item = Item(id=1, name="one")
        one.add(item)
        async with door.begin(propagation="requires_new") as two:
            two.add(item)


def given_again(verb: str) -> None:
    """An object from outside, changed by each attempt."""

    async def seed(_: Cell, door: AsyncSessions) -> None:
        item = Item(id=1, name="one", value=0)

        async def work(session: Any) -> None:
            item.value += 5
            await session.run_sync(lambda sync: getattr(sync, verb)(item))
            raise sa.exc.OperationalError("a statement", None, Passing(1213, "deadlock"))

        await door.run(work)

    seed.__name__ = f"{verb}_again"
    seed.__doc__ = f"{verb}() of an object that an earlier attempt of a repeated unit has changed"
    misuse(errors.SessionMisuse)(seed)


class Passing(Exception):
    """Looks like a driver's error that vanishes when the unit is repeated."""

    sqlstate = "40001"
    sqlite_errorcode = 5


given_again("add")
given_again("merge")


@misuse(errors.ReadOnlyUnit)
async def flushed_in_a_read_unit(_: Cell, door: AsyncSessions) -> None:
    """a new object in a read unit"""
    async with door.read() as session:
        session.add(Item(id=1, name="one"))
        await session.flush()


@misuse(errors.ReadOnlyUnit)
async def dml_in_a_read_unit(_: Cell, door: AsyncSessions) -> None:
    """an INSERT in a read unit"""
    async with door.read() as session:
        await session.execute(sa.insert(Item).values(id=1, name="one", value=0))


@misuse(errors.RequestRefused)
async def of_another_database(cell: Cell, _: AsyncSessions) -> None:
    """a mapped class of a database that the unit does not cover"""
    door = cell.two()
    door.bind(Invoice, "billing")
    async with door.begin("orders") as session:
        await session.execute(sa.select(Invoice))


@misuse(errors.RequestRefused)
async def another_engine(cell: Cell, door: AsyncSessions) -> None:
    """another engine in a statement's bind arguments"""
    async with door.begin() as session:
        await session.execute(ONE, bind_arguments={"bind": cell.witness.engine})


# -- the tests


@pytest.mark.parametrize("seeded", MISUSES, ids=lambda each: each.seed.__name__)
def test_misuse(cell: Cell, seeded: Misuse) -> None:
    """It is refused, the text names both places, and nothing of it is in the database."""
    if cell.place.door not in seeded.doors:
        pytest.skip("a misuse of the other door")

    async def test() -> None:
        with pytest.raises(seeded.error) as caught:
            await seeded.seed(cell, cell.door())
        chain = str(caught.value) + str(caught.value.__cause__ or "")
        assert chain.count(f"{__file__}:") >= seeded.places, chain
        assert cell.witness.items() == []

    cell.conduct(test)


def test_an_unchanged_object_may_be_given_again(cell: Cell) -> None:
    """An object that every attempt adds as it was given is no false alarm."""

    async def test() -> None:
        item = Item(id=1, name="one", value=0)
        attempts: list[int] = []

        async def work(session: Any) -> None:
            session.add(item)
            await session.flush()
            attempts.append(1)
            if len(attempts) == 1:
                raise sa.exc.OperationalError("a statement", None, Passing(1213, "deadlock"))

        await cell.door().run(work)
        assert cell.witness.items() == [1]

    cell.conduct(test)


def page() -> str:
    """The page of all misuses."""
    rows = [f"| {each.sentence} | {', '.join(each.doors)} | {_error(each.error)} |" for each in MISUSES]
    return "\n".join([_HEAD, "| misuse | doors | ends in |", "| --- | --- | --- |", *rows, ""])


def _error(error: type[BaseException]) -> str:
    code = getattr(error, "code", None)
    return f"[`{error.__name__}`](errors/{code}.md)" if code else f"`{error.__name__}`"


_HEAD = """\
# Misuse

Each of these is done on purpose by a test (`tests/conformance/test_misuse.py`), through the doors named, on every
engine and driver. It is refused before it does damage; where there are two places, the one where the session was opened
and the one where it was misused, the text names both. This page is written from those tests.

What is not noticed: COMMIT inside of a second statement of one text, or in a procedure; and on an engine that the
application made itself, `session.connection().commit()`, the texts of transaction control, and the statements by which
MariaDB and MySQL commit what came before (CREATE, ALTER, TRUNCATE and so on; their documentation: "Statements That
Cause an Implicit Commit"). On engines of polysession these are refused in a unit that has written something. What they
define themselves stays when the unit fails.
"""


def test_the_page_has_all_misuses() -> None:
    """docs/misuse.md is what the tests do; if not, write it anew with POLYSESSION_WRITE_TABLE=1."""
    if "POLYSESSION_WRITE_TABLE" in os.environ:
        PAGE.write_text(page(), "utf-8")
    assert PAGE.read_text("utf-8") == page()
    assert len({each.sentence for each in MISUSES}) == len(MISUSES) >= 30
