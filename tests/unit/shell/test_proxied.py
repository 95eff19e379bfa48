"""Connections that go the shorter way between the pool and a unit, and when they do not."""

from __future__ import annotations

import hashlib
import inspect
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, event, text
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.engine import Engine
from sqlalchemy.pool import base
from tests.engines.targets import FreshDatabase

from polysession import Sessions
from polysession._shell import known, proxied
from polysession.pools import FairPool

KNOWN = "f8a55ba5c152a559"
"""Of the functions of SQLAlchemy that the module takes the place of."""


def read_for_it() -> str:
    """The functions of SQLAlchemy whose way was read for the shorter one, as one number."""
    ways: list[Any] = [
        base.Pool.connect,
        base.Pool._return_conn,
        base._ConnectionFairy,
        base._ConnectionRecord.checkout,
        base._ConnectionRecord.checkin,
        base._ConnectionRecord.get_connection,
        base._ConnectionRecord._is_hard_or_soft_invalidated,
        base._finalize_fairy,
    ]
    return hashlib.sha256("".join(map(inspect.getsource, ways)).encode()).hexdigest()[:16]


def test_sqlalchemy_is_the_one_that_was_read() -> None:
    """A version that does it in another way has to be read: then `known.VERSIONS` and this number are changed."""
    assert known.IS_KNOWN
    assert read_for_it() == KNOWN


def calls_of(function: Callable[..., Any], work: Callable[[], object]) -> int:
    """How often `work` calls a function of SQLAlchemy."""
    found, code = 0, function.__code__

    def seen(frame: Any, what: str, _: object) -> None:
        nonlocal found
        found += what == "call" and frame.f_code is code

    sys.setprofile(seen)
    try:
        work()
    finally:
        sys.setprofile(None)
    return found


@pytest.fixture
def door(tmp_path: Path) -> Any:
    """A door whose pool has a connection."""
    with Sessions(f"sqlite:///{tmp_path / 'proxied.db'}") as sessions:
        used(sessions)
        yield sessions


def used(door: Sessions, statement: str = "select 1") -> None:
    """One unit with one statement."""
    with door.begin() as session:
        session.execute(text(statement))


def engine_of(door: Sessions) -> Any:
    """The engine of its units that write."""
    with door.begin() as session:
        return session.get_bind()


def test_the_shorter_way(door: Sessions) -> None:
    """A unit that leaves nothing behind goes it."""
    assert calls_of(base._finalize_fairy, lambda: used(door)) == 0
    assert calls_of(base._ConnectionRecord.checkout, lambda: used(door)) == 0


def test_what_was_touched_goes_the_long_way(door: Sessions) -> None:
    """It is reset there."""
    assert calls_of(base._finalize_fairy, lambda: used(door, "create temporary table mine (id integer)")) > 0
    used(door, "create temporary table mine (id integer)")


def fail(door: Sessions) -> None:
    """A unit that fails after a statement."""
    with door.begin() as session:
        session.execute(text("create table kept (id integer)"))
        raise RuntimeError("wrong")


def test_a_failed_unit(door: Sessions) -> None:
    """Its connection was rolled back, and can be used again."""
    with pytest.raises(RuntimeError, match="wrong"):
        fail(door)
    used(door, "create table kept (id integer)")
    assert engine_of(door).pool.checkedin() == 1


@pytest.mark.parametrize("name", ["checkout", "reset", "checkin"])
def test_whoever_listens_is_told(door: Sessions, name: str) -> None:
    """With a listener of somebody else, connections go SQLAlchemy's way; without him again the shorter one."""
    told: list[str] = []

    def listen(*_: object) -> None:
        told.append(name)

    engine = engine_of(door)
    event.listen(engine, name, listen)
    used(door)
    assert told == [name]
    event.remove(engine, name, listen)
    used(door)
    assert told == [name]


@pytest.mark.parametrize("name", ["checkout", "reset", "checkin"])
def test_whoever_listens_to_all_pools_is_told(door: Sessions, name: str) -> None:
    """The same for a listener of the class."""
    told: list[str] = []

    def listen(*_: object) -> None:
        told.append(name)

    event.listen(base.Pool, name, listen)
    try:
        used(door)
        assert told == [name]
    finally:
        event.remove(base.Pool, name, listen)


@pytest.mark.parametrize("name", ["checkout", "reset", "checkin"])
def test_whoever_listened_before_is_told(tmp_path: Path, name: str) -> None:
    """He is not taken for one of us because he was there first."""
    told: list[str] = []

    def listen(*_: object) -> None:
        told.append(name)

    event.listen(base.Pool, name, listen)
    try:
        with Sessions(f"sqlite:///{tmp_path / 'before.db'}") as sessions:
            used(sessions)
            assert told == [name]
            event.remove(base.Pool, name, listen)
            assert calls_of(base._finalize_fairy, lambda: used(sessions)) == 0
    finally:
        if event.contains(base.Pool, name, listen):
            event.remove(base.Pool, name, listen)


def test_a_connection_that_has_changed_goes_the_long_way(door: Sessions) -> None:
    """There it is closed."""
    asked: list[Any] = []

    def is_changed(record: Any) -> bool:
        asked.append(record)
        return True

    proxied.shorten(engine_of(door), is_changed)
    assert calls_of(base._finalize_fairy, lambda: used(door)) == 1
    assert len(asked) == 1


def test_whoever_begins_to_listen_while_it_is_out_is_told(door: Sessions) -> None:
    """Of the return of that very connection."""
    told: list[str] = []

    def listen(*_: object) -> None:
        told.append("checkin")

    with door.begin() as session:
        session.execute(text("select 1"))
        event.listen(session.get_bind(), "checkin", listen)
    assert told == ["checkin"]


def test_a_version_that_is_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything goes SQLAlchemy's way."""
    monkeypatch.setattr(known, "IS_KNOWN", False)
    with Sessions(f"sqlite:///{tmp_path / 'unknown.db'}") as sessions:
        used(sessions)
        assert calls_of(base._finalize_fairy, lambda: used(sessions)) == 1


def test_a_dropped_connection_comes_back(door: Sessions) -> None:
    """Whoever drops it gives it back, as with every pooled connection of SQLAlchemy's."""
    engine = engine_of(door)
    taken = engine.raw_connection()
    assert engine.pool.checkedout() == 1
    del taken
    assert engine.pool.checkedout() == 0


def test_one_that_was_dropped_after_it_was_given_back(door: Sessions) -> None:
    """It does not give back what somebody else has by now."""
    engine = engine_of(door)
    first = engine.raw_connection()
    first.close()
    second = engine.raw_connection()
    del first
    assert engine.pool.checkedout() == 1
    second.close()


def test_one_that_is_detached_is_not_given_back_when_it_is_dropped(door: Sessions) -> None:
    """It belongs to whoever has it."""
    engine = engine_of(door)
    taken = engine.raw_connection()
    link = taken.dbapi_connection
    taken.detach()
    assert engine.pool.checkedout() == 0
    del taken
    assert link.is_open
    link.close()


def test_one_that_was_closed_is_not_used(door: Sessions) -> None:
    """The object that somebody has kept leads nowhere."""
    kept = engine_of(door).raw_connection()
    kept.close()
    assert not kept.is_valid
    assert kept.dbapi_connection is None


# -- a pool alone, below an engine of the application's


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Engine]:
    """An engine of the application's, with one connection."""
    engine = create_engine(f"sqlite:///{tmp_path / 'alone.db'}", poolclass=FairPool, pool_size=1)
    yield engine
    engine.dispose()


def borrow(engine: Engine) -> object:
    """Take its connection, give it back, and answer whose it was."""
    with engine.begin() as connection:
        assert connection.scalar(text("select 1")) == 1
        return connection.connection.driver_connection


def test_alone_the_shorter_way(alone: Engine) -> None:
    """Nothing of SQLAlchemy's pool runs where the driver says that nothing is open."""
    used = borrow(alone)
    assert calls_of(base._finalize_fairy, lambda: borrow(alone)) == 0
    assert borrow(alone) is used


def test_alone_below_a_door(alone: Engine) -> None:
    """What a unit had comes back the long way, on which it is forgotten who had it."""
    borrow(alone)
    with Sessions(alone) as sessions:
        used(sessions)
        assert calls_of(base._finalize_fairy, lambda: used(sessions)) == 1
        assert calls_of(base._finalize_fairy, lambda: borrow(alone)) == 0


def test_alone_its_notes_may_be_cleared(alone: Engine) -> None:
    """They are the application's too; a connection of which nothing is known any more is not used again."""
    taken = alone.raw_connection()
    taken.info.clear()
    taken.close()
    assert alone.pool.checkedout() == 0  # type: ignore[attr-defined]  # a pool of ours
    borrow(alone)


def test_alone_a_dialect_that_rolls_back_in_its_own_way(tmp_path: Path) -> None:
    """It is asked to, also where the driver says that nothing is open."""
    asked = 0

    class Own(SQLiteDialect_pysqlite):
        supports_statement_cache = True

        def do_rollback(self, dbapi_connection: Any) -> None:
            nonlocal asked
            asked += 1
            super().do_rollback(dbapi_connection)  # type: ignore[no-untyped-call]  # it has no types

    registry.impls["sqlite.own"] = lambda: Own
    engine = create_engine(f"sqlite+own:///{tmp_path / 'own.db'}", poolclass=FairPool)
    try:
        borrow(engine)
        before = asked
        borrow(engine)
        assert asked == before + 1
    finally:
        engine.dispose()
        del registry.impls["sqlite.own"]


class Odd:
    """A connection of the application's own making, of which one cannot ask whether a transaction is open."""

    def __init__(self, link: sqlite3.Connection) -> None:
        self.link = link

    def __getattr__(self, name: str) -> Any:
        if name == "in_transaction":
            raise AttributeError(name)
        return getattr(self.link, name)


def test_alone_a_connection_that_cannot_be_asked(tmp_path: Path) -> None:
    """It goes the long way."""
    engine = create_engine(
        "sqlite://", creator=lambda: Odd(sqlite3.connect(tmp_path / "odd.db")), poolclass=FairPool, pool_size=1
    )
    try:
        borrow(engine)
        assert calls_of(base._finalize_fairy, lambda: borrow(engine)) == 1
    finally:
        engine.dispose()


@pytest.mark.pg
@pytest.mark.parametrize("prepares", [False, True])
def test_alone_a_transaction_in_two_phases(fresh_database: Callable[[str], FreshDatabase], prepares: bool) -> None:
    """Once it is prepared the server has nothing open, and psycopg has: the connection is not used again."""
    engine = create_engine(fresh_database("pg18").url("psycopg"), poolclass=FairPool, pool_size=1)
    try:
        used = borrow(engine)
        assert calls_of(base._finalize_fairy, lambda: borrow(engine)) == 0
        taken: Any = engine.raw_connection()
        xid = taken.xid(1, "left", "here")
        taken.tpc_begin(xid)
        taken.cursor().execute("select 1")
        if prepares:
            taken.tpc_prepare()
        taken.close()
        assert borrow(engine) is not used
        if prepares:
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.execute(text(f"rollback prepared '{xid}'"))
    finally:
        engine.dispose()
