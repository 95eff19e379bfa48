"""What users give to the doors' verbs, refused where it would not be honoured.

For the functions that are given to `run`, `unit`, `task` and `gather` that is work that would not be done.

A coroutine or generator function that is called as an ordinary one does nothing but answer an object, and what that
object does later is done outside of the unit. Nothing was sent when it is refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any, NoReturn, TypeVar

from sqlalchemy.engine import FilterResult, Result
from sqlalchemy.ext.asyncio import AsyncMappingResult, AsyncResult, AsyncScalarResult

from .. import dialects
from ..errors import RequestRefused
from .asking import called

__all__ = [
    "awaitable",
    "check_limit",
    "check_parentheses",
    "check_session",
    "check_session_class",
    "check_session_options",
    "check_work",
    "finished",
    "refuse_exact_read",
    "refuse_unread",
]

T = TypeVar("T")

_UNFINISHED = frozenset({CoroutineType, GeneratorType, AsyncGeneratorType})
_RESULTS = (Result, FilterResult)
_STREAMS = (AsyncResult, AsyncScalarResult, AsyncMappingResult)
"""Results whose rows are on the server still. What else `AsyncSession` answers has all of its rows."""


def check_work(work: Any, verb: str, *, decorated: bool = False) -> None:
    """Raise `RequestRefused` for what cannot be called, and for a method that `verb` was to decorate."""
    if not callable(work):
        raise RequestRefused(
            f"{verb}() was given {work!r}, which cannot be called",
            do=("give a function of the session", f"for a block, write `with sessions.begin()` instead of {verb}()"),
            attribute="work",
        )
    if decorated and _first_parameter(work) in ("self", "cls"):
        raise RequestRefused(
            f"{verb}() was given the method {called(work)!r}",
            why=f"the session is the first argument, and that would be its {_first_parameter(work)!r}",
            do=(
                "decorate a function of (session, ...) and call it in the method",
                "call run(lambda session: self.method(session, ...)) inside of it",
            ),
            attribute="work",
        )


def check_parentheses(databases: tuple[Any, ...], verb: str) -> None:
    """Raise `RequestRefused` for a decorator that was written without its parentheses."""
    if databases and callable(databases[0]):
        raise RequestRefused(
            f"{verb} was written without parentheses over {called(databases[0])!r}",
            why="what stands in the parentheses are the names of databases and the options",
            do=(f"write @sessions.{verb}()", f"name the database: @sessions.{verb}('orders')"),
            attribute="work",
        )


def finished(value: Any, name: str) -> Any:
    """`value`, which the work called `name` returned at the synchronous door.

    Raises `RequestRefused` if it is a coroutine or generator: nothing of it has run, and it would run too late; or an
    answer whose rows were not read.
    """
    if type(value) not in _UNFINISHED:
        if isinstance(value, _RESULTS):
            _refuse_unread(value, name, "")
        return value
    kind = {CoroutineType: "a coroutine", GeneratorType: "a generator"}.get(type(value), "an asynchronous generator")
    if isinstance(value, CoroutineType | GeneratorType):
        value.close()
    raise RequestRefused(
        f"{name!r} returned {kind} that has not run, and its unit ends now",
        why="what it does later would be done outside of the unit of work",
        do=("use AsyncSessions for coroutine functions",)
        if kind == "a coroutine"
        else ("return a list", "write a block: `with sessions.read() as session`, and yield inside of it"),
        attribute="work",
    )


def awaitable(value: T, name: str) -> T:
    """`value`, which the work called `name` returned at the asynchronous door.

    Raises `RequestRefused` if it cannot be awaited.
    """
    if type(value) is CoroutineType or inspect.isawaitable(value):
        return value
    finished(value, name)  # an asynchronous generator has a text of its own
    raise RequestRefused(
        f"{name!r} returned {type(value).__name__}, which cannot be awaited",
        why="at the asynchronous door the work is a coroutine function of the AsyncSession",
        do=("write `async def`", "use Sessions for ordinary functions"),
        attribute="work",
    )


def refuse_unread(value: T, name: str) -> T:
    """`value`, which the work called `name` gave to who awaited it at the asynchronous door.

    Raises `RequestRefused` if it is a stream that was not read to its end.
    """
    if isinstance(value, _STREAMS):
        _refuse_unread(value, name, "await ")
    return value


def _refuse_unread(result: Any, name: str, awaited: str) -> None:
    """Raise `RequestRefused` for rows that would be read when their session has ended."""
    if result._soft_closed:  # all rows were read, or it has none; there is no public word for it
        return
    kind = type(result).__name__
    raise RequestRefused(
        f"{name!r} returned {'an' if awaited else 'a'} {kind} whose rows were not read, and its unit ends now",
        why="the rows are read from the unit's connection, which goes back with the end of the unit",
        do=(
            f"read it inside: return {awaited}result.all(), .first() or .one()",
            f"write a block, `{'async ' if awaited else ''}with sessions.read() as session:`, and use the rows in it",
        ),
        attribute="work",
    )


def refuse_exact_read(verb: str) -> NoReturn:
    """Raise `RequestRefused` for a unit that reads and was to have an exact outcome."""
    raise RequestRefused(
        f"{verb}() was given access='read' together with outcome or key",
        why="a unit that reads commits nothing whose outcome could be asked for",
        do=("leave out outcome and key", "leave out access, so that it may write"),
        attribute="outcome",
    )


def check_session(session: Any, kind: type, verb: str) -> None:
    """Raise `RequestRefused` unless `verb` was given a session of this kind."""
    if not isinstance(session, kind):
        raise RequestRefused(
            f"{verb}() was given {type(session).__name__} where its {kind.__name__} is expected",
            do=(f"write {verb}(session, ...) with the session of the open unit, and the statements behind it",),
            attribute="session",
        )


def check_limit(limit: int | None) -> None:
    """Raise `RequestRefused` unless it is None or a whole number from 1."""
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
        raise RequestRefused(
            f"limit={limit!r} is not possible",
            why="it is how many run at once, a whole number from 1",
            do=("leave it out for as many as the pool has connections",),
            attribute="limit",
        )


def check_session_class(given: Any, base: type) -> None:
    """Raise `RequestRefused` unless `given` is `base` or a class made from it."""
    if not (isinstance(given, type) and issubclass(given, base)):
        raise RequestRefused(
            f"class_={given!r} is no {base.__name__}",
            why=f"this door gives out {base.__module__}.{base.__name__} and classes made from it",
            do=(f"give a subclass of {base.__name__}", "leave it out"),
            attribute="class_",
        )


def check_session_options(options: dict[str, Any], database: str, engine: Any, backend: str) -> None:
    """Raise `RequestRefused` for what a session of `database` would not do, though SQLAlchemy's own does.

    `engine` is that of the database, if it is known here: `bind` may say it once more. `backend` is what it is.
    """
    if options.get("twophase") and not dialects.of(backend).capabilities.two_phase:
        raise RequestRefused(
            f"twophase=True was given for a session of {database!r}, which is {backend}",
            why=f"a transaction of {backend} cannot be prepared, only committed: there is no first phase",
            do=(
                "leave it out: the session commits in one step",
                "where several databases are to commit together, say begin(..., atomic=False), and see PartialCommit",
            ),
            attribute="twophase",
        )
    if options.get("binds"):
        raise RequestRefused(
            f"binds={{...}} was given for a session of {database!r}",
            why="a session of a door uses the database that it was opened for, whatever the mapped class",
            do=(
                "say where a class lives with bind(Class, 'orders'), and open a unit over that database",
                "leave it out",
            ),
            attribute="binds",
        )
    bind = options.get("bind")
    if bind is not None and bind is not engine:
        raise RequestRefused(
            f"bind={type(bind).__name__}(...) was given for a session of {database!r}",
            why="a session of a door uses the database that it was opened for, on a connection of the door's",
            do=(
                "name the database instead",
                "give the engine to the door: Sessions({'orders': engine})",
                "make a session on a connection of your own with SQLAlchemy's Session(connection)",
            ),
            attribute="bind",
        )
    if options.get("close_resets_only"):
        raise RequestRefused(
            "close_resets_only=True was given",
            why="close() ends a session of a door for good",
            do=("open another session for the next work", "leave it out"),
            attribute="close_resets_only",
        )


def _first_parameter(work: Callable[..., Any]) -> str:
    """Its name; empty if there is none or nobody knows. A bound method's `self` is not one of them."""
    try:
        return next(iter(inspect.signature(work).parameters), "")
    except (TypeError, ValueError):
        return ""
