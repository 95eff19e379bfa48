"""What a door's verbs are given by mistake is refused with a sentence, and nothing is left open."""

from __future__ import annotations

import asyncio
import copy
import pickle
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from typing import Any

import pytest
from sqlalchemy import CursorResult, Result, create_engine, text
from sqlalchemy.ext.asyncio import AsyncResult, AsyncScalarResult, AsyncSession
from sqlalchemy.orm import Session, sessionmaker

from polysession import AsyncSessions, Sessions, is_transient, outcome_of
from polysession.errors import (
    ConfigError,
    DoorClosed,
    NoUnit,
    RequestRefused,
    SessionEnded,
    SessionMisuse,
    UnitFailed,
    UnknownDatabase,
    WrongDoor,
    WrongOwner,
)

Anything = Any
"""Mistakes that the type checkers would find as well."""


async def coroutine(session: Session) -> int:
    """Work for the other door."""
    return 1


def generator(session: Session) -> Iterator[int]:
    """Work that has not begun when its unit ends."""
    yield 1


async def stream(session: AsyncSession) -> AsyncIterator[int]:
    """The same at the asynchronous door."""
    yield 1


def function(session: AsyncSession) -> int:
    """Work for the synchronous door."""
    return 1


def unread(session: Session) -> Result[Anything]:
    """Work whose rows are read by whoever called it, when the unit has ended."""
    return session.execute(text("select 1"))


async def streamed(session: AsyncSession) -> AsyncResult[Anything]:
    """The same at the asynchronous door."""
    return await session.stream(text("select 1"))


async def streamed_scalars(session: AsyncSession) -> AsyncScalarResult[Anything]:
    """The same, a column of it."""
    return await session.stream_scalars(text("select 1"))


class Service:
    """Has a method that someone would like to decorate."""

    def work(self, session: Session) -> int:
        """Work of an object."""
        return 1


SYNC: list[tuple[str, Callable[[Anything], object], str]] = [
    ("a number to run", lambda door: door.run(5), "cannot be called"),
    ("a coroutine function to run", lambda door: door.run(coroutine), "returned a coroutine that has not run"),
    (
        "one that answers a coroutine",
        lambda door: door.run(lambda session: coroutine(session) if session else None),
        "returned a coroutine",
    ),
    ("a generator function to run", lambda door: door.run(generator), "returned a generator that has not run"),
    ("a decorated coroutine function", lambda door: door.unit()(coroutine)(), "'coroutine' returned a coroutine"),
    ("a method to unit", lambda door: door.unit()(Service.work), "was given the method 'Service.work'"),
    ("unit without parentheses", lambda door: door.unit(function), "without parentheses over 'function'"),
    ("a method to task", lambda door: door.task(Service.work), "was given the method 'Service.work'"),
    ("an answer that was not read", lambda door: door.run(unread), "returned a CursorResult whose rows were not read"),
    ("scalars of it", lambda door: door.run(lambda session: unread(session).scalars()), "returned a ScalarResult"),
    ("one of a decorated function", lambda door: door.unit()(unread)(), "'unread' returned a CursorResult"),
    ("a number to gather", lambda door: door.gather(function, 5), "cannot be called"),
    ("no place to gather", lambda door: door.gather(function, limit=0), "limit=0 is not possible"),
    ("one name as several", lambda door: door.gather(function, databases="default"), "is one name, and not a list"),
    ("one and several", lambda door: door.gather(function, database="a", databases=["b"]), "both a database and"),
    ("names without places", lambda door: door.gather(function, databases={"default"}), "is no list of names"),
    ("a number of databases", lambda door: door.gather(function, databases=3), "is no list of names"),
    (
        "a word for errors",
        lambda door: door.gather(function, return_errors="no"),
        "return_errors='no' is neither True nor False",
    ),
    (
        "two works over three",
        lambda door: door.gather(function, function, databases=["default"] * 3),
        "2 works cannot be placed over 3 databases",
    ),
    ("an unknown access", lambda door: door.gather(function, access="both"), "access='both' is not known"),
    ("an unknown role", lambda door: door.read(role="secondary"), "role='secondary' is not known"),
    ("a class of no session", lambda door: door.open(class_=int), "is no Session"),
    ("a maker of no session", lambda door: door.sessionmaker(class_=AsyncSession), "is no Session"),
    ("a number to call", lambda door: door.on_commit(5), "cannot be called"),
    ("a word for outside", lambda door: door.on_commit(print, outside="later"), "outside='later'"),
    ("no session to take over", lambda door: door.take_over(5), "not given out by this door"),
    ("a number that lives nowhere", lambda door: door.bind(5, "default"), "bind() was given 5"),
    ("no time to ask", lambda door: door.outcome(key="x", within=0), "within=0 is not a positive number"),
    ("a word for a time", lambda door: door.drain(within="soon"), "within='soon' is not a number of seconds from 0"),
    ("two phases to open", lambda door: door.open(twophase=True), "twophase=True was given"),
    ("two phases to a maker", lambda door: door.sessionmaker(twophase=True), "twophase=True was given"),
    ("two phases to its session", lambda door: door.sessionmaker()(twophase=True), "twophase=True was given"),
]
AT_BOTH: list[tuple[str, Callable[[Anything], object], str]] = [
    ("a number as a name", lambda door: door.begin(name=5), "name=5 is no text"),
    ("an empty name", lambda door: door.begin(name=""), "name='' is no text"),
    ("a word for robust", lambda door: door.on_commit(print, robust="no"), "robust='no' is neither True nor False"),
    ("bytes as a name", lambda door: door.read(name=b"report"), "name=b'report' is no text"),
    ("a name of a loop", lambda door: door.attempts(name=5), "name=5 is no text"),
    ("a name of a decorated function", lambda door: door.unit(name=5), "name=5 is no text"),
    ("a name of a task", lambda door: door.task(function, name=5), "name=5 is no text"),
    ("a wrong word to unit", lambda door: door.unit(isolation="best"), "isolation='BEST' is not known"),
    ("no attempts to unit", lambda door: door.unit(retry=0), "attempts=0"),
    ("a result without a key", lambda door: door.unit(record=True), "record=True was asked for without a key"),
    ("a word for a flag", lambda door: door.read(snapshot="no"), "snapshot='no' is neither True nor False"),
    ("nothing for a flag", lambda door: door.begin(atomic=None), "atomic=None is neither True nor False"),
    ("a word for record", lambda door: door.unit(record="no", key="x"), "record='no' is neither True nor False"),
]


@pytest.mark.parametrize(("call", "words"), [row[1:] for row in SYNC], ids=[row[0] for row in SYNC])
def test_refused(call: Callable[[Anything], object], words: str) -> None:
    """The synchronous door says what was wrong, and nothing stays open."""
    with Sessions("sqlite://") as door:
        with pytest.raises(RequestRefused) as caught:
            call(door)
        assert words in caught.value.what
        assert caught.value.do
        assert not door.held()


@pytest.mark.parametrize(("call", "words"), [row[1:] for row in AT_BOTH], ids=[row[0] for row in AT_BOTH])
def test_refused_at_once(call: Callable[[Anything], object], words: str) -> None:
    """Both doors look at what they are given before a unit is opened, and for a decorator before it is called."""

    async def main() -> None:
        async with AsyncSessions("sqlite://") as door:
            with pytest.raises(RequestRefused) as caught:
                call(door)
            assert words in caught.value.what

    asyncio.run(main())
    with Sessions("sqlite://") as door:
        with pytest.raises(RequestRefused) as caught:
            call(door)
        assert words in caught.value.what
        assert caught.value.do


def test_the_synchronous_door_in_a_loop() -> None:
    """Whatever would wait says so, also what waits for threads."""
    with Sessions("sqlite://") as door:
        waits = (
            lambda: door.gather(lambda session: session.connection()),
            lambda: door.outcome(key="x"),
            door.drain,
        )

        async def main() -> None:
            for call in waits:
                with pytest.raises(WrongDoor, match="inside a running event loop"):
                    call()

        asyncio.run(main())


def test_a_closed_door_gathers_nothing() -> None:
    """It says that it is closed, once, and not in a group."""
    door = Sessions("sqlite://")
    door.close()
    with pytest.raises(DoorClosed):
        door.gather(lambda session: session.connection())


@pytest.mark.parametrize("verb", ["commit", "prepare"])
def test_a_promise_after_the_end(verb: str) -> None:
    """To commit a session of a unit that has ended names the unit and its end; to roll it back does nothing."""
    with Sessions("sqlite://") as door:
        with door.begin(name="over") as session:
            session.connection()
        with pytest.raises(SessionEnded, match="the session of unit 'over' was used after its end"):
            getattr(session, verb)()
        session.rollback()
        session.close()


def test_a_hook_for_another_database() -> None:
    """The text names it."""
    with (
        Sessions({"a": "sqlite://", "b": "sqlite://"}) as door,
        door.begin("a"),
        pytest.raises(NoUnit, match="outside of a unit of work over 'b'"),
    ):
        door.on_commit(print, database="b")


def test_a_name_of_run() -> None:
    """The same for the verb that the asynchronous door awaits."""
    wrong: Anything = 5

    async def main() -> None:
        async with AsyncSessions("sqlite://") as door:
            with pytest.raises(RequestRefused, match="name=5 is no text"):
                await door.run(lambda session: session.connection(), name=wrong)

    asyncio.run(main())
    with Sessions("sqlite://") as door, pytest.raises(RequestRefused, match="name=5 is no text"):
        door.run(lambda session: None, name=wrong)


@pytest.mark.parametrize("given", [5, None, "text", ValueError])
def test_what_is_no_exception_is_not_transient(given: Anything) -> None:
    """The `__cause__` of an error that has none, for example."""
    assert is_transient(given) is False
    assert outcome_of(given) is None


def test_a_drain_that_is_refused_pauses_nothing() -> None:
    """What is given is looked at before anything is done."""
    with Sessions.from_mapping({"databases": {"x": {"url": "sqlite://", "pool": {"checkout_timeout": 1}}}}) as door:
        with door.read() as session:
            session.execute(text("select 1"))
        with pytest.raises(RequestRefused):
            door.drain(within=-1)
        with door.read() as session:
            session.execute(text("select 1"))


def test_branches_that_answer_coroutines() -> None:
    """A coroutine function among the branches fails its branch; the others run."""
    with Sessions("sqlite://") as door:
        branches: Anything = (coroutine, lambda session: 2)
        refused, two = door.gather(*branches, return_errors=True)
        assert isinstance(refused, RequestRefused)
        assert two == 2


def test_what_a_bound_method_is() -> None:
    """A bound method is a function of the session like any other."""
    with Sessions("sqlite://") as door:
        assert door.unit()(Service().work)() == 1
        assert door.run(Service().work) == 1


def test_answers_that_need_no_connection() -> None:
    """What was read, what has no rows, and what was frozen may leave the unit; a branch that was not read fails."""
    with Sessions("sqlite://") as door:
        frozen = door.run(lambda session: unread(session).freeze())
        assert frozen().all() == [(1,)]
        made = door.run(lambda session: session.execute(text("create table t (id int)")))
        assert isinstance(made, CursorResult)
        assert not made.returns_rows

        def read(session: Session) -> Result[Anything]:
            answer = unread(session)
            answer.all()
            return answer

        assert list(door.run(read).keys()) == ["1"]
        (refused,) = door.gather(unread, return_errors=True)
        assert isinstance(refused, RequestRefused)


def test_a_whole_answer_of_the_asynchronous_door() -> None:
    """`AsyncSession.execute` has all rows when it answers: they may leave the unit."""

    async def main() -> None:
        async with AsyncSessions("sqlite://") as door:
            assert (await door.run(lambda session: session.scalars(text("select 1")))).all() == [1]

    asyncio.run(main())


ASYNC: list[tuple[str, Callable[[Anything], Anything], str]] = [
    ("a number to run", lambda door: door.run(5), "cannot be called"),
    ("a function to run", lambda door: door.run(function), "returned int, which cannot be awaited"),
    ("a function in a time", lambda door: door.run(function, deadline=5), "returned int, which cannot be awaited"),
    ("a stream to run", lambda door: door.run(stream), "returned an asynchronous generator"),
    ("a decorated function", lambda door: door.unit()(function)(), "'function' returned int"),
    ("unit without parentheses", lambda door: door.unit(coroutine), "without parentheses over 'coroutine'"),
    ("an answer on the server", lambda door: door.run(streamed), "returned an AsyncResult whose rows were not read"),
    ("scalars in a time", lambda door: door.run(streamed_scalars, deadline=5), "returned an AsyncScalarResult"),
    ("no place to gather", lambda door: door.gather(coroutine, limit=-1), "limit=-1 is not possible"),
]


@pytest.mark.parametrize(("call", "words"), [row[1:] for row in ASYNC], ids=[row[0] for row in ASYNC])
def test_refused_at_the_asynchronous_door(call: Callable[[Anything], Anything], words: str) -> None:
    """The asynchronous door says what was wrong, and nothing stays open."""

    async def main() -> None:
        async with AsyncSessions("sqlite://") as door:
            with pytest.raises(RequestRefused) as caught:
                await call(door)
            assert words in caught.value.what
            assert not door.held()

    asyncio.run(main())


@pytest.mark.parametrize("given", [5, None, ("orders",), ["orders"]])
def test_names_are_text(given: Anything) -> None:
    """What is not a name is told from a name that is not known."""
    with Sessions("sqlite://") as door, pytest.raises(UnknownDatabase, match="not by its name"):
        door.begin(given)


DOORS: list[Callable[..., Anything]] = [Sessions, AsyncSessions]


@pytest.mark.parametrize("take", [copy.copy, copy.deepcopy, pickle.dumps])
@pytest.mark.parametrize("make", DOORS)
def test_a_door_is_neither_copied_nor_pickled(
    make: Callable[..., Anything], take: Callable[[Anything], object]
) -> None:
    """Its pools are this process's: whoever hands it to another process is told to make one there."""
    for door in (make("sqlite://"), make()):
        with pytest.raises(SessionMisuse, match="make a door in the other process"):
            take(door)
    with pytest.raises(SessionMisuse, match="make a door in the other process"):
        pickle.dumps(make("sqlite://").sessionmaker())


@pytest.mark.parametrize("given", [5, [5], [print], object()])
@pytest.mark.parametrize("make", DOORS)
def test_an_observer_has_tell(make: Callable[..., Anything], given: Anything) -> None:
    """What cannot be told a fact is refused when the door is made, not logged with each fact."""
    with pytest.raises(ConfigError, match="observers: expected objects that have tell") as caught:
        make("sqlite://", observers=given)
    assert caught.value.facts["path"] == "observers"


def test_a_word_for_the_event_loop() -> None:
    """A word that is not known does not switch the check off."""
    wrong: Anything = "yes"
    with pytest.raises(ConfigError, match="expected 'refuse' or 'allow', found 'yes'"):
        Sessions("sqlite://", in_event_loop=wrong)


@pytest.mark.parametrize("make", DOORS)
def test_what_has_an_engine_and_is_none(make: Callable[..., Anything]) -> None:
    """A connection or a sessionmaker in place of an engine is refused with what to give."""
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        for given, words in (
            (connection, "give its engine: connection.engine"),
            (sessionmaker(engine), "give the engine that it was made with"),
            (print, "give a URL; or give an engine made with create_"),
        ):
            with pytest.raises(ConfigError) as caught:
                make({"orders": given})
            assert words in str(caught.value)
    engine.dispose()


@pytest.mark.parametrize("attribute", ["add", "execute", "scalars", "get", "commit"])
def test_a_unit_is_not_its_session(attribute: str) -> None:
    """Who forgot `with` is told so; what no session has is not there, as with any object."""

    async def asynchronous() -> Anything:
        return AsyncSessions("sqlite://").begin()

    for unit, word in ((Sessions("sqlite://").begin(), "`with "), (asyncio.run(asynchronous()), "`async with ")):
        with pytest.raises(SessionMisuse, match="it is the session that has it") as caught:
            getattr(unit, attribute)
        assert isinstance(caught.value, AttributeError)
        assert f"write {word}" in str(caught.value)
        assert type(pickle.loads(pickle.dumps(caught.value))) is type(caught.value)  # noqa: S301  # our own
        assert not hasattr(unit, attribute)
        assert not hasattr(unit, "nonsense")


def test_a_unit_that_was_not_entered_is_not_left() -> None:
    """`ExitStack.push(unit)` does not open it."""
    with pytest.raises(SessionMisuse, match="was left that was not opened"), ExitStack() as stack:
        stack.push(Sessions("sqlite://").begin())

    async def asynchronous() -> None:
        async with AsyncExitStack() as stack:
            stack.push_async_exit(AsyncSessions("sqlite://").begin())

    with pytest.raises(SessionMisuse, match="was left that was not opened"):
        asyncio.run(asynchronous())


def test_a_unit_that_was_left_elsewhere_is_not_taken_for_committed() -> None:
    """Who leaves it elsewhere is refused and it is rolled back; its owner, who leaves it normally, is told so."""
    with Sessions("sqlite://") as door:
        unit = door.begin()
        unit.__enter__().execute(text("create table t (n int)"))
        refused: list[BaseException] = []

        def leave() -> None:
            try:
                unit.__exit__(None, None, None)
            except WrongOwner as error:
                refused.append(error)

        thread = threading.Thread(target=leave)
        thread.start()
        thread.join()
        assert refused
        with pytest.raises(UnitFailed, match="did not commit: it was ended before its block was left"):
            unit.__exit__(None, None, None)
        assert door.counts().rolled_back == 1
        assert not door.held()


def test_a_unit_that_was_left_in_another_task_is_not_taken_for_committed() -> None:
    """The same at the asynchronous door."""

    async def main() -> None:
        async with AsyncSessions("sqlite://") as door:
            unit = door.begin()
            await (await unit.__aenter__()).execute(text("create table t (n int)"))
            with pytest.raises(WrongOwner):
                await asyncio.create_task(_leave(unit))
            with pytest.raises(UnitFailed, match="did not commit: it was ended before its block was left"):
                await unit.__aexit__(None, None, None)
            assert door.counts().rolled_back == 1
            assert not door.held()

    asyncio.run(main())


async def _leave(unit: Anything) -> None:
    await unit.__aexit__(None, None, None)


def test_a_unit_that_has_ended_may_be_left_again() -> None:
    """A second call does nothing, and the error that leaves a block is the one that leaves."""
    with Sessions("sqlite://") as door:
        unit = door.begin()
        with unit:
            joined = door.begin()
            with joined:
                pass
            assert joined.__exit__(None, None, None) is None
        assert unit.__exit__(None, None, None) is None
        failed = door.begin()
        with pytest.raises(KeyError), failed:
            raise KeyError
        assert failed.__exit__(KeyError, KeyError(), None) is None
        assert (door.counts().committed, door.counts().rolled_back) == (1, 1)

    async def main() -> None:
        async with AsyncSessions("sqlite://") as door:
            unit = door.begin()
            async with unit:
                pass
            assert await unit.__aexit__(None, None, None) is None

    asyncio.run(main())


def test_the_other_doors_block() -> None:
    """`with` on the asynchronous door, and the other way round, say which word or door to take."""
    asynchronous: Anything = AsyncSessions("sqlite://")
    with pytest.raises(WrongDoor, match="'with' was used on AsyncSessions"), asynchronous:
        pass

    async def main() -> None:
        synchronous: Anything = Sessions("sqlite://")
        async with synchronous:
            pass

    with pytest.raises(WrongDoor, match="'async with' was used on Sessions"):
        asyncio.run(main())
