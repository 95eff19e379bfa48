"""Which generator a unit is opened in: every way in which a generator can be run."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from types import FrameType, SimpleNamespace
from typing import Any

import pytest

from polysession._shell.generators import Home, home, running


class Opener:
    """Notes the home of the block that it opens, and which of them run."""

    def __init__(self) -> None:
        self.home: Home | None = None

    def __enter__(self) -> Opener:
        self.home = home(sys._getframe(1))
        return self

    def __exit__(self, *_: object) -> None:
        return None

    async def __aenter__(self) -> Opener:
        self.home = home(sys._getframe(1))
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    @property
    def is_running(self) -> bool:
        """Its home is on the stack."""
        assert self.home is not None
        return running((self.home,)) == (self.home,)


def rows(opener: Opener) -> Iterator[bool]:
    """Opens, and tells whether it is seen from inside."""
    with opener:
        while True:
            yield opener.is_running


def test_no_generator() -> None:
    """A block in a function has no home."""
    with Opener() as opener:
        assert opener.home is None
    with ExitStack() as stack:
        assert stack.enter_context(Opener()).home is None


def test_a_generator() -> None:
    """A block in a generator has it as its home, which runs while it runs and not while it is suspended."""
    opener = Opener()
    generator = rows(opener)
    assert next(generator)
    assert opener.home is not None
    assert not opener.is_running
    assert next(generator), "it runs again"
    assert not opener.is_running


def test_two_calls_of_one_function() -> None:
    """Each generator is a home of its own; the innermost that runs comes first."""
    first, second = Opener(), Opener()
    generators = rows(first), rows(second)
    assert [next(each) for each in generators] == [True, True]
    assert first.home is not None
    assert second.home is not None
    assert first.home != second.home

    def both() -> Iterator[tuple[Home, ...]]:
        with outer:
            yield from inside()

    def inside() -> Iterator[tuple[Home, ...]]:
        inner_opener = Opener()

        def inmost() -> Iterator[tuple[Home, ...]]:
            with inner_opener:
                assert inner_opener.home is not None
                assert outer.home is not None
                found = running([outer.home, first_home, inner_opener.home])
                assert found == (inner_opener.home, outer.home)
                yield found

        yield next(inmost())

    outer, first_home = Opener(), first.home
    assert len(next(both())) == 2


def test_enters_for_its_caller() -> None:
    """A class or a stack that enters in a generator is at home there."""

    class Scope:
        def __enter__(self) -> Opener:
            self.opener = Opener()
            entered: Opener = self.opener.__enter__()
            return entered

        def __exit__(self, *_: object) -> None:
            return None

    def by_class() -> Iterator[Opener]:
        with Scope() as opener:
            yield opener

    def by_stack() -> Iterator[Opener]:
        with ExitStack() as stack:
            yield stack.enter_context(Opener())

    for make in (by_class, by_stack):
        generator = make()
        assert next(generator).home is not None
        with Scope() as opener:
            assert opener.home is None


@contextmanager
def scope() -> Iterator[Opener]:
    """A context manager."""
    with Opener() as opener:
        yield opener


@contextmanager
def delegating() -> Iterator[Opener]:
    """A context manager whose body is in another generator."""

    def body() -> Iterator[Opener]:
        with Opener() as opener:
            yield opener

    yield from body()


@contextmanager
def nested() -> Iterator[Opener]:
    """A context manager in a context manager."""
    with scope() as opener:
        yield opener


@pytest.mark.parametrize("manager", [scope, delegating, nested])
def test_a_context_manager(manager: Callable[[], Any]) -> None:
    """The body of a context manager is no home; the generator that has its block is."""
    with manager() as opener:
        assert opener.home is None

    def generator() -> Iterator[bool]:
        with manager() as opener:
            assert opener.home is not None
            yield opener.is_running

    assert next(generator())


def test_yield_from() -> None:
    """Two generators that are suspended together are one home, the upper one."""
    opener = Opener()

    def upper() -> Iterator[bool]:
        yield from rows(opener)

    generator = upper()
    assert next(generator)
    assert opener.home is not None
    assert opener.home.code is upper.__code__
    assert not opener.is_running
    assert next(generator)


def fixture(opener: Opener) -> Iterator[Opener]:
    """A generator that a framework runs as set-up and tear-down."""
    with opener:
        yield opener


@pytest.fixture
def framework() -> Iterator[Opener]:
    """The same, run by pytest."""
    with Opener() as opener:
        yield opener


def test_a_fixture(framework: Opener) -> None:
    """The generator of a fixture is no home: the test runs while it is suspended."""
    assert framework.home is None


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("anyio._backends._asyncio", "_run_tests_and_fixtures"),
        ("litestar._kwargs.dependencies", "resolve_dependency"),
        ("litestar.utils.compat", "async_next"),
    ],
)
def test_a_framework(module: str, name: str) -> None:
    """Nor is one that a framework runs so; a function of that name in a module of that name stands for it."""
    source = f"def {name}(generator): return next(generator)"
    there = SimpleNamespace(__name__=module)
    exec(source, there.__dict__)  # noqa: S102  # our own text
    assert getattr(there, name)(fixture(Opener())).home is None
    there.__dict__["__name__"] = "elsewhere"
    assert getattr(there, name)(fixture(Opener())).home is not None


def test_asynchronous_generators() -> None:
    """The same for asynchronous generators and context managers, also after they have waited."""

    async def agen(opener: Opener) -> AsyncIterator[bool]:
        await asyncio.sleep(0)
        async with opener:
            await asyncio.sleep(0)
            yield opener.is_running
            await asyncio.sleep(0)
            yield opener.is_running

    @asynccontextmanager
    async def ascope() -> AsyncIterator[Opener]:
        await asyncio.sleep(0)
        async with Opener() as opener:
            yield opener

    async def main() -> None:
        opener = Opener()
        generator = agen(opener)
        assert await anext(generator)
        assert not opener.is_running
        assert await anext(generator)
        async with ascope() as scoped:
            assert scoped.home is None
        async with Opener() as plain:
            assert plain.home is None

    asyncio.run(main())


def test_a_coroutine_below_a_greenlet() -> None:
    """A generator that runs SQLAlchemy's code below a greenlet runs there too."""
    from sqlalchemy.util import greenlet_spawn

    async def agen(opener: Opener) -> AsyncIterator[bool]:
        async with opener:
            yield await greenlet_spawn(lambda: opener.is_running)

    async def main() -> None:
        assert await anext(agen(Opener()))

    asyncio.run(main())


def test_a_home_is_no_reference() -> None:
    """It keeps nothing of the generator alive, and is equal to nothing else."""
    frames: list[FrameType] = []

    def generator() -> Iterator[None]:
        frames.append(sys._getframe())
        yield

    one = generator()
    next(one)
    assert Home(frames[0]) == Home(frames[0])
    assert Home(frames[0]) != "something else"
    assert not any(isinstance(getattr(Home(frames[0]), slot), FrameType) for slot in Home.__slots__)
