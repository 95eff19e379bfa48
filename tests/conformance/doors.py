"""Lets the synchronous door be awaited, so that a behaviour is written once, as for `AsyncSessions`.

An `Awaited...` object calls the synchronous one at once; `await` then only takes the answer, so a coroutine over it
never suspends and `finish` runs it without an event loop. What is really there is under `.real`, or asked by `real()`,
which answers an asynchronous object as it is. Nothing is decided here.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from types import TracebackType
from typing import Any, TypeVar, cast

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, sessionmaker

from polysession import AsyncSessions, Sessions

__all__ = ["AwaitedSessions", "as_async", "finish", "real", "together"]

__name__ = "polysession.conformance"  # the frames of this module are not the user's: `places.caller` passes them by

T = TypeVar("T")
Work = Callable[[], Awaitable[Any]]

_COROUTINES = frozenset(name for name in dir(AsyncSession) if inspect.iscoroutinefunction(getattr(AsyncSession, name)))
"""What a caller of `AsyncSession` awaits."""


def finish(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine over the synchronous door. Raises `AssertionError` if it waits for anything."""
    try:
        work.send(None)
    except StopIteration as end:
        return cast("T", end.value)
    work.close()
    raise AssertionError("a coroutine over the synchronous door suspended")


def as_async(door: Sessions) -> AsyncSessions:
    """`door` as the tests use it."""
    return cast("AsyncSessions", AwaitedSessions(door))


def real(thing: Any) -> Any:
    """The polysession or SQLAlchemy object below."""
    return getattr(thing, "real", thing)


async def together(works: list[Work], *, asynchronous: bool) -> list[Any]:
    """Run `works` side by side, in tasks or threads of their own; what each returned or raised."""
    if asynchronous:
        tasks = [asyncio.create_task(_coroutine(work), name=f"worker {number}") for number, work in enumerate(works)]
        return await asyncio.gather(*tasks, return_exceptions=True)
    answers: list[Any] = [None] * len(works)

    def run(number: int, work: Work) -> None:
        try:
            answers[number] = finish(_coroutine(work))
        except BaseException as error:
            answers[number] = error

    threads = [
        threading.Thread(target=run, args=each, name=f"worker {each[0]}", daemon=True) for each in enumerate(works)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


async def _coroutine(work: Work) -> Any:
    return await work()


class AwaitedSession:
    """A `Session` that is used like an `AsyncSession`."""

    def __init__(self, session: Session) -> None:
        self.real = session

    @property
    def sync_session(self) -> Session:
        """The `Session`, where an `AsyncSession` has it."""
        return self.real

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.real, name)
        return _awaited(value) if name in _COROUTINES else value

    def begin(self) -> Block:
        """As `AsyncSession.begin`."""
        return Block(self.real.begin)

    def begin_nested(self) -> Block:
        """As `AsyncSession.begin_nested`."""
        return Block(self.real.begin_nested)

    async def run_sync(self, work: Callable[..., T], *args: Any) -> T:
        """As `AsyncSession.run_sync`."""
        return work(self.real, *args)

    async def __aenter__(self) -> AwaitedSession:
        self.real.__enter__()
        return self

    async def __aexit__(self, kind: Any, error: Any, tb: TracebackType | None) -> None:
        self.real.__exit__(kind, error, tb)


class Block:
    """A `with` block, to be entered by `async with`; what it gives is wrapped if it is a session."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self.real: Any = None

    def __await__(self) -> Generator[Any, Any, Any]:
        self.real = self._make()
        return self
        yield  # makes this a generator, which `__await__` has to answer

    async def __aenter__(self) -> Any:
        self.real = self._make()
        entered = self.real.__enter__()
        return AwaitedSession(entered) if isinstance(entered, Session) else self

    async def __aexit__(self, kind: Any, error: Any, tb: TracebackType | None) -> Any:
        return self.real.__exit__(kind, error, tb)

    async def commit(self) -> None:
        """Of a transaction that was awaited: its commit."""
        self.real.commit()

    async def rollback(self) -> None:
        """Of a transaction that was awaited: its rollback."""
        self.real.rollback()


class AwaitedMaker:
    """A `sessionmaker` whose sessions are used like an `AsyncSession`."""

    def __init__(self, maker: sessionmaker[Any]) -> None:
        self.real = maker

    def __call__(self, **local: Any) -> AwaitedSession:
        return AwaitedSession(self.real(**local))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def begin(self) -> Block:
        """As `async_sessionmaker.begin`."""
        return Block(self.real.begin)


class AwaitedSessions:
    """`Sessions` that are used like `AsyncSessions`."""

    def __init__(self, door: Sessions) -> None:
        self.real = door

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def begin(self, *databases: str, **asked: Any) -> Block:
        """As `AsyncSessions.begin`."""
        unit = self.real.begin(*databases, **asked)
        return Block(lambda: unit)

    def read(self, *databases: str, **asked: Any) -> Block:
        """As `AsyncSessions.read`."""
        unit = self.real.read(*databases, **asked)
        return Block(lambda: unit)

    async def batch(self, session: Any, *statements: Any) -> list[Any]:
        """As `AsyncSessions.batch`."""
        return self.real.batch(real(session), *statements)

    async def run(self, work: Callable[[AsyncSession], Awaitable[T]], *databases: str, **asked: Any) -> T:
        """As `AsyncSessions.run`."""
        return cast("T", self.real.run(_synchronous(work), *databases, **asked))

    async def run_sync(self, work: Callable[[Session], T], *databases: str, access: str = "write", **asked: Any) -> T:
        """As `AsyncSessions.run_sync`: here `run`, or the block of `read`."""
        if access == "write":
            return self.real.run(work, *databases, **asked)
        with self.real.read(*databases, **asked) as session:
            return work(session)

    def attempts(self, *databases: str, **asked: Any) -> Iterator[Block]:
        """As `AsyncSessions.attempts`."""
        for unit in self.real.attempts(*databases, **asked):
            yield Block(functools.partial(_same, unit))

    def unit(self, *databases: str, **asked: Any) -> Callable[..., Any]:
        """As `AsyncSessions.unit`."""

        def decorate(work: Callable[..., Any]) -> Callable[..., Any]:
            return _awaited(self.real.unit(*databases, **asked)(_synchronous(work)))

        return decorate

    def task(self, work: Callable[..., Any], *databases: str, **asked: Any) -> Callable[..., Any]:
        """As `AsyncSessions.task`."""
        return _awaited(self.real.task(_synchronous(work), *databases, **asked))

    async def gather(self, *works: Callable[..., Any], **asked: Any) -> list[Any]:
        """As `AsyncSessions.gather`."""
        return self.real.gather(*map(_synchronous, works), **asked)

    async def outcome(self, *asked: Any, **options: Any) -> Any:
        """As `AsyncSessions.outcome`."""
        return self.real.outcome(*asked, **options)

    def current(self, database: str | None = None) -> AwaitedSession:
        """As `AsyncSessions.current`."""
        return AwaitedSession(self.real.current(database))

    def open(self, database: str | None = None, **options: Any) -> AwaitedSession:
        """As `AsyncSessions.open`."""
        return AwaitedSession(self.real.open(database, **options))

    def sessionmaker(self, database: str | None = None, **options: Any) -> async_sessionmaker[AsyncSession]:
        """As `AsyncSessions.sessionmaker`."""
        return cast("async_sessionmaker[AsyncSession]", AwaitedMaker(self.real.sessionmaker(database, **options)))

    def outside(self) -> Block:
        """As `AsyncSessions.outside`."""
        return Block(self.real.outside)

    async def close(self) -> None:
        """As `AsyncSessions.close`."""
        self.real.close()


def _same(thing: T) -> T:
    return thing


def _awaited(call: Callable[..., T]) -> Callable[..., Coroutine[Any, Any, T]]:
    @functools.wraps(call)
    async def answer(*args: Any, **kwargs: Any) -> T:
        return call(*args, **kwargs)

    return answer


def _synchronous(work: Callable[..., Any]) -> Callable[..., Any]:
    """`work(session, ...)` for the synchronous door."""

    @functools.wraps(work)
    def call(session: Session, *args: Any, **kwargs: Any) -> Any:
        return finish(work(AwaitedSession(session), *args, **kwargs))

    return call
