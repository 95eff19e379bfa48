"""Ways to forget a session or a unit: what each owner does and what stays behind. Judges nothing.

Each kind is written for a door. `mark` notes the line before the one that opens what is forgotten.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

__all__ = ["ASYNC", "SYNC", "Base", "Pen", "seed"]

ONE: Final = sa.text("select 1")


class Base(DeclarativeBase):
    """Of the two tables."""


class Parent(Base):
    """Has children that are loaded late."""

    __tablename__ = "leaks_parent"
    id: Mapped[int] = mapped_column(primary_key=True)
    children: Mapped[list[Child]] = relationship()


class Child(Base):
    """One of them."""

    __tablename__ = "leaks_child"
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int] = mapped_column(sa.ForeignKey("leaks_parent.id"))


def seed(engine: sa.Engine) -> None:
    """A parent with many children."""
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(sa.insert(Parent), [{"id": 1}])
        connection.execute(sa.insert(Child), [{"id": number, "parent_id": 1} for number in range(1, 201)])


class Pen:
    """Keeps what somebody still refers to, and the line that opened what was forgotten."""

    def __init__(self) -> None:
        self.kept: list[Any] = []
        self.line = 0

    def mark(self) -> None:
        """The next line opens it."""
        self.line = sys._getframe(1).f_lineno + 1

    @property
    def place(self) -> str:
        """What a report has to have."""
        return f"{__file__}:{self.line} in "


# -- threads


def forgotten_close(door: Any, pen: Pen) -> None:
    """open() without close(), still referred to"""
    pen.mark()
    session = door.open()
    pen.kept.append(session)
    session.execute(ONE)


def forgotten_and_dropped(door: Any, pen: Pen) -> None:
    """open() without close(), referred to by nobody"""
    pen.mark()
    door.open().execute(ONE)


def forgotten_of_a_maker(door: Any, pen: Pen) -> None:
    """a sessionmaker's session without close()"""
    make = door.sessionmaker()
    pen.mark()
    session = make()
    session.execute(ONE)


def entered_by_hand(door: Any, pen: Pen) -> None:
    """__enter__() of a unit without __exit__(), still referred to"""
    pen.mark()
    unit = door.begin()
    pen.kept.append(unit)
    unit.__enter__().execute(ONE)


def entered_and_dropped(door: Any, pen: Pen) -> None:
    """__enter__() of a unit without __exit__(), referred to by nobody"""
    pen.mark()
    unit = door.begin()
    unit.__enter__().execute(ONE)


def hanging_generator(door: Any, pen: Pen) -> None:
    """a generator that was not read to its end, still referred to"""

    def rows() -> Iterator[int]:
        pen.mark()
        with door.begin() as session:
            yield from session.execute(ONE).scalars()
            yield 2

    made = rows()
    pen.kept.append(made)
    next(made)


def hanging_generator_in_a_cycle(door: Any, pen: Pen) -> None:
    """a generator that was not read to its end, in a cycle"""

    class Reader:
        """Refers to its generator, which refers to it."""

        def __init__(self) -> None:
            self.rows = self.read()
            next(self.rows)

        def read(self) -> Iterator[int]:
            """Rows."""
            pen.mark()
            with door.begin() as session:
                yield from session.execute(ONE).scalars()
                yield 2

    Reader()


def stack_never_closed(door: Any, pen: Pen) -> None:
    """an ExitStack that nobody closes"""
    stack = ExitStack()
    pen.kept.append(stack)
    pen.mark()
    stack.enter_context(door.begin()).execute(ONE)


def exception_in_exit(door: Any, pen: Pen) -> None:
    """an exception in the __exit__ that should have closed"""

    class Scope:
        """Closes last what it should close first."""

        def __enter__(self) -> Any:
            pen.mark()
            self.session = door.open()
            pen.kept.append(self.session)
            return self.session

        def __exit__(self, *_: object) -> None:
            raise KeyError("before the close")

    with Scope() as session:
        session.execute(ONE)


def death_of_the_thread(door: Any, pen: Pen) -> None:
    """an exception that ends the thread before the close"""
    pen.mark()
    session = door.open()
    pen.kept.append(session)
    session.execute(ONE)
    raise KeyError("the thread ends")


def stream_abandoned(door: Any, pen: Pen) -> None:
    """a stream of which half is read"""
    pen.mark()
    session = door.open()
    result = session.execute(sa.select(Child).execution_options(yield_per=10))
    pen.kept.append(result)
    next(iter(result))


def lazy_load_after_the_end(door: Any, pen: Pen) -> None:
    """a lazy load after the commit, which takes a connection anew"""
    pen.mark()
    session = door.open()
    parent = session.get(Parent, 1)
    session.commit()
    pen.kept.append(parent)
    pen.kept.append(len(parent.children))
    pen.kept.append(session)


def savepoint_left_open(door: Any, pen: Pen) -> None:
    """a savepoint, and the session around it, that nobody ends"""
    pen.mark()
    session = door.open()
    pen.kept.append(session)
    session.begin_nested()
    session.execute(ONE)


def read_unit_by_hand(door: Any, pen: Pen) -> None:
    """__enter__() of a read unit without __exit__()"""
    pen.mark()
    unit = door.read()
    pen.kept.append(unit)
    unit.__enter__().execute(ONE)


def snapshot_by_hand(door: Any, pen: Pen) -> None:
    """__enter__() of a snapshot without __exit__()"""
    pen.mark()
    unit = door.read(snapshot=True)
    pen.kept.append(unit)
    unit.__enter__().execute(ONE)


def joined_generator(door: Any, pen: Pen) -> None:
    """a unit entered by hand, and a generator that has joined it and hangs"""

    def rows() -> Iterator[int]:
        with door.begin() as session:
            yield from session.execute(ONE).scalars()
            yield 2

    pen.mark()
    unit = door.begin()
    pen.kept.append(unit)
    unit.__enter__()
    made = rows()
    pen.kept.append(made)
    next(made)


def across_a_fork(door: Any, pen: Pen) -> None:
    """a session that is open across a fork, and that neither side closes"""
    pen.mark()
    session = door.open()
    pen.kept.append(session)
    session.execute(ONE)
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)


# -- tasks


async def a_forgotten_close(door: Any, pen: Pen) -> None:
    """open() without close(), still referred to"""
    pen.mark()
    session = door.open()
    pen.kept.append(session)
    await session.execute(ONE)


async def a_forgotten_of_a_maker(door: Any, pen: Pen) -> None:
    """a sessionmaker's session without close()"""
    make = door.sessionmaker()
    pen.mark()
    session = make()
    await session.execute(ONE)


async def a_entered_by_hand(door: Any, pen: Pen) -> None:
    """__aenter__() of a unit without __aexit__(), still referred to"""
    pen.mark()
    unit = door.begin()
    pen.kept.append(unit)
    await (await unit.__aenter__()).execute(ONE)


async def a_hanging_generator(door: Any, pen: Pen) -> None:
    """a generator that was not read to its end, still referred to"""

    async def rows() -> AsyncIterator[int]:
        pen.mark()
        async with door.begin() as session:
            for number in (await session.execute(ONE)).scalars():
                yield number
            yield 2

    made = rows()
    pen.kept.append(made)
    await anext(made)


async def a_stack_never_closed(door: Any, pen: Pen) -> None:
    """an AsyncExitStack that nobody closes"""
    stack = AsyncExitStack()
    pen.kept.append(stack)
    pen.mark()
    session = await stack.enter_async_context(door.begin())
    await session.execute(ONE)


async def a_lost_task(door: Any, pen: Pen) -> None:
    """a task that nobody refers to, dropped in the middle of its unit"""
    inside = asyncio.Event()

    async def lost() -> None:
        pen.mark()
        async with door.begin() as session:
            await session.execute(ONE)
            inside.set()
            await asyncio.Future()

    task = asyncio.ensure_future(lost())
    await inside.wait()
    await asyncio.sleep(0)
    del task
    gc.collect()


async def a_cancelled(door: Any, pen: Pen) -> None:
    """a task that is cancelled before the close"""
    pen.mark()
    session = door.open()
    pen.kept.append(session)
    await session.execute(ONE)
    raise asyncio.CancelledError


async def a_stream_abandoned(door: Any, pen: Pen) -> None:
    """a stream of which half is read"""
    pen.mark()
    session = door.open()
    result = await session.stream(sa.select(Child).execution_options(yield_per=10))
    pen.kept.append(result)
    await anext(aiter(result))


async def a_death_of_the_task(door: Any, pen: Pen) -> None:
    """an exception that ends the task before the close"""
    pen.mark()
    session = door.open()
    pen.kept.append(session)
    await session.execute(ONE)
    raise KeyError("the task ends")


async def a_joined_generator(door: Any, pen: Pen) -> None:
    """a unit entered by hand, and a generator that has joined it and hangs"""

    async def rows() -> AsyncIterator[int]:
        async with door.begin() as session:
            yield (await session.execute(ONE)).scalar_one()
            yield 2

    pen.mark()
    unit = door.begin()
    pen.kept.append(unit)
    await unit.__aenter__()
    made = rows()
    pen.kept.append(made)
    await anext(made)


SYNC: Final[tuple[Callable[[Any, Pen], None], ...]] = (
    forgotten_close,
    forgotten_and_dropped,
    forgotten_of_a_maker,
    entered_by_hand,
    entered_and_dropped,
    hanging_generator,
    hanging_generator_in_a_cycle,
    stack_never_closed,
    exception_in_exit,
    death_of_the_thread,
    stream_abandoned,
    lazy_load_after_the_end,
    savepoint_left_open,
    read_unit_by_hand,
    snapshot_by_hand,
    joined_generator,
    across_a_fork,
)
ASYNC: Final[tuple[Callable[[Any, Pen], Awaitable[None]], ...]] = (
    a_forgotten_close,
    a_forgotten_of_a_maker,
    a_entered_by_hand,
    a_hanging_generator,
    a_stack_never_closed,
    a_lost_task,
    a_cancelled,
    a_stream_abandoned,
    a_death_of_the_task,
    a_joined_generator,
)
