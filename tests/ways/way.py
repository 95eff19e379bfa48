"""What a way is, by which channels a text can be sent, and what comes of an attempt. Tries nothing by itself.

A way is a row of steps on a `Session`; an error of one step does not keep the next from being tried. Below an
`AsyncSession` the steps run by `run_sync`, where they may wait for what a driver answers.
"""

from __future__ import annotations

import inspect
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import asyncmy.errors
import asyncpg
import psycopg
import pymysql
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from sqlalchemy.util import await_only

from polysession.errors import PolysessionError

__all__ = [
    "CHANNELS",
    "Step",
    "Text",
    "Verdict",
    "Way",
    "attempt",
    "by_channel",
    "done",
    "driver_of",
    "on_driver",
    "texts",
    "verdict",
    "way",
    "ways_of",
    "without_frames",
]

Step: TypeAlias = Callable[[Session], Any]
Verdict: TypeAlias = Literal["unit", "server", "nothing", "mistake"]
"""Who refused: the unit before any SQL, the server or the driver, nobody; or the attempt itself was wrong."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way to write."""

    label: str
    steps: tuple[Step, ...]
    lasts: bool = True
    """Without a guard it changes what another connection sees."""
    abuse: str = ""
    """Why it cannot be prevented; empty if it is."""
    name: str = ""
    """The same for a text by whichever channel it is sent."""


@dataclass(frozen=True, slots=True)
class Text:
    """Statements, one after the other, that can be sent by every channel."""

    statements: tuple[str, ...]
    lasts: bool = True
    abuse: str = ""
    not_by: tuple[str, ...] = ()
    """Drivers and channels that cannot carry it even without a guard: "asyncpg text"."""

    @property
    def label(self) -> str:
        """The first statements, in short."""
        return "; ".join(" ".join(statement.split()) for statement in self.statements)[:110]


def texts(*statements: str, lasts: bool = True) -> Iterator[Text]:
    """A way for each of these statements."""
    return (Text((statement,), lasts) for statement in statements)


def way(*, lasts: bool = True, abuse: str = "", on: tuple[str, ...] = ()) -> Callable[[Step], Step]:
    """Mark a function as a way of one step, on these drivers; on all if none is named."""

    def mark(step: Step) -> Step:
        step.way = lasts, abuse, on  # type: ignore[attr-defined]  # a note for `ways_of`
        return step

    return mark


def ways_of(module: Any, driver: str) -> Iterator[Way]:
    """The marked functions of a module that this driver can try."""
    for name, step in vars(module).items():
        lasts, abuse, on = getattr(step, "way", (True, "", None))
        if on is not None and (not on or driver in on):
            said = name.strip("_").replace("_", " ")
            yield Way(said, (step,), lasts, abuse, said)


# -- channels


def by_text(session: Session, statement: str) -> None:
    """As SQLAlchemy's text."""
    result: Any = session.execute(sa.text(statement.replace(":=", r"\:=")))
    if result.returns_rows:
        result.all()


def by_driver_sql(session: Session, statement: str) -> None:
    """As it is, by the session's connection."""
    connection = session.connection()
    if connection.dialect.paramstyle in ("format", "pyformat"):
        statement = statement.replace("%", "%%")
    result = connection.exec_driver_sql(statement)
    if result.returns_rows:
        result.all()


def by_cursor(session: Session, statement: str) -> None:
    """By a cursor of the DBAPI."""
    cursor = session.connection().connection.cursor()
    try:
        cursor.execute(statement)
        if cursor.description:
            cursor.fetchall()
    finally:
        cursor.close()


def by_driver(session: Session, statement: str) -> None:
    """By the driver's own connection."""
    on_driver(driver_of(session), statement)


CHANNELS: Final[Mapping[str, Callable[[Session, str], None]]] = {
    "text": by_text,
    "driver sql": by_driver_sql,
    "cursor": by_cursor,
    "driver": by_driver,
}


def driver_of(session: Session) -> Any:
    """The driver's own connection below a session."""
    return session.connection().connection.driver_connection


def on_driver(connection: Any, statement: str) -> Any:
    """Run a statement on a driver's connection, whichever it is."""
    if hasattr(connection, "execute"):
        return done(connection.execute(statement))
    cursor = connection.cursor()
    try:
        done(cursor.execute(statement))
        return done(cursor.fetchall())
    finally:
        done(cursor.close())


def done(answer: Any) -> Any:
    """What a driver answers; awaited if it has to be."""
    return await_only(answer) if inspect.isawaitable(answer) else answer


def by_channel(channel: str, driver: str, found: Iterable[Text]) -> Iterator[Way]:
    """The texts as ways by one channel of a driver."""
    send = CHANNELS[channel]

    def step(statement: str) -> Step:
        return lambda session: send(session, statement)

    for text in found:
        if f"{driver} {channel}" not in text.not_by:
            steps = tuple(step(statement) for statement in text.statements)
            yield Way(f"{channel}: {text.label}", steps, text.lasts, text.abuse, text.label)


# -- attempts

_REFUSALS: Final = (
    SQLAlchemyError,
    psycopg.Error,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    AsyncAdapt_asyncpg_dbapi.Error,
    pymysql.err.Error,
    asyncmy.errors.Error,
    sqlite3.Error,
)


def attempt(found: Way, session: Session) -> list[Exception]:
    """Try a way; the errors of its steps."""
    errors: list[Exception] = []
    for step in found.steps:
        try:
            step(session)
        except Exception as error:
            errors.append(error)
    return errors


def without_frames(error: Exception) -> Exception:
    """The error, itself and what it came from without tracebacks: their frames would hold connections."""
    seen: BaseException | None = error
    while seen is not None:
        seen.__traceback__ = None
        seen = seen.__cause__ or seen.__context__
    return error


def verdict(errors: Iterable[BaseException]) -> Verdict:
    """Who refused, by the errors of the steps and of the unit's end."""
    seen = list(errors)
    if any(not isinstance(error, (PolysessionError, *_REFUSALS)) for error in seen):
        return "mistake"
    if any(isinstance(error, PolysessionError) for error in seen):
        return "unit"
    return "server" if seen else "nothing"
