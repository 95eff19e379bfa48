"""The cursors by which SQLAlchemy sends: what others see of them, and what is left of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from polysession import Sessions
from polysession._shell import adapted
from polysession._shell.cursors import _note, make_cursors
from polysession._shell.lease import lease_of
from polysession._shell.lease_cursor import LeaseCursor, OpenLeaseCursor

from .driver import EVENTS, interrupt_at

ONE = sa.text("select 1")
FILES = (
    "polysession/_shell/cursors.py",
    "polysession/_shell/lease.py",
    "polysession/_shell/lease_cursor.py",
    "polysession/_shell/loan.py",
)


@pytest.fixture
def sessions(tmp_path: Path) -> Iterator[Sessions]:
    """A door over a file."""
    with Sessions(f"sqlite:///{tmp_path / 'cursors.db'}") as door:
        yield door


def test_who_listens_sees_a_cursor_of_the_driver(sessions: Sessions) -> None:
    """A listener may ask it for whatever the driver's has; the lease is kept from then on."""
    seen: list[Any] = []

    def before(connection: sa.Connection, cursor: Any, *_: Any) -> None:
        seen.append((type(cursor), cursor.connection))

    with sessions.read() as session:
        session.execute(ONE)
        engine = session.get_bind()
        sa.event.listen(engine, "before_cursor_execute", before)
        session.execute(ONE)
        lease = lease_of(session.connection())
        assert lease is not None
        assert lease.loan.is_kept
    assert [kind for kind, _ in seen] == [OpenLeaseCursor]
    assert all(isinstance(connection, sqlite3.Connection) for _, connection in seen)


def test_nobody_listens(sessions: Sessions) -> None:
    """Then SQLAlchemy's has what SQLAlchemy asks for, and no more."""
    with sessions.read() as session:
        result: Any = session.execute(ONE)
        assert type(result.cursor) is LeaseCursor
        assert result.rowcount == -1
        assert result.all() == [(1,)]


def test_a_connection_that_is_closed_closes_what_was_not_refuse_unread(sessions: Sessions) -> None:
    """An unfinished statement of a write unit would keep the file open, and locked."""
    with sessions.begin() as session:
        session.execute(sa.text("create table item (id integer)"))
        session.execute(sa.text("insert into item values (1), (2)"))
        rows: Any = session.execute(sa.text("select id from item"))
        cursor = rows.cursor
        driver: Any = session.connection().connection.driver_connection
    driver.close()
    with pytest.raises(sqlite3.ProgrammingError, match="closed cursor"):
        cursor.fetchone()


@pytest.mark.parametrize("event", EVENTS)
def test_an_interrupt_in_a_statement_loses_no_connection(sessions: Sessions, event: str) -> None:
    """Wherever it comes while a lent connection is used for a statement."""

    def work() -> None:
        with sessions.read() as session:
            session.execute(ONE).one()
            session.execute(ONE).one()

    work()
    number, is_reached = 0, True
    while is_reached:
        number += 1
        is_reached = interrupt_at(number, FILES, work, event=event)
        assert not sessions.connections(), f"interrupted at {event} {number}"
    assert number > 100
    work()


def test_the_adapters_are_known() -> None:
    """If this fails, SQLAlchemy makes its cursors of asyncio otherwise, and `adapted` must be looked at."""
    assert adapted.is_known()


@pytest.mark.parametrize(
    "url",
    [
        "sqlite+pysqlite://",
        "sqlite+aiosqlite://",
        "postgresql+psycopg://",
        "postgresql+asyncpg://",
        "mysql+pymysql://",
        "mysql+asyncmy://",
    ],
)
@pytest.mark.parametrize("asynchronous", [False, True])
def test_each_driver_has_its_cursors(url: str, asynchronous: bool) -> None:
    """SQLAlchemy asks for the cursors of every driver that is supported in the way that is known here."""
    has = {"sqlite+pysqlite://": [False], "postgresql+psycopg://": [False, True], "mysql+pymysql://": [False]}
    if asynchronous not in has.get(url, [True]):
        return
    engine = create_async_engine(url).sync_engine if asynchronous else sa.create_engine(url)
    cursors = make_cursors(engine)
    assert cursors.notes is not _note, "it is taken for a driver of which nothing is known"
    assert engine.dialect.execution_ctx_cls.__module__ == "polysession._shell.cursors"
