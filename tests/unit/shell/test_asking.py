"""Whom the pool takes for the one who asks: the unit whose session needs a connection, and nobody for others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from polysession import Sessions
from polysession._shell.claims import asking
from polysession._shell.room import Room

ONE = sa.text("select 1")


@pytest.fixture
def sessions(tmp_path: Path) -> Iterator[Sessions]:
    """A door over two files."""
    with Sessions({name: f"sqlite:///{tmp_path / name}.db" for name in ("orders", "billing")}) as door:
        yield door


def engine_of(session: Session) -> sa.Engine:
    """The engine of a unit."""
    engine = session.get_bind()
    assert isinstance(engine, sa.Engine)
    return engine


def askers(engine: sa.Engine) -> list[str]:
    """For whom connections are out: `mine` for a unit or session of these tests."""
    room: Room = engine.pool.room  # type: ignore[attr-defined]  # it is ours
    return ["mine" if claim.asker is not None else "nobody" for claim in room.holders()]


@pytest.mark.parametrize("verb", ["read", "open"])
def test_a_bare_connection_is_nobodys(sessions: Sessions, verb: str) -> None:
    """A session that has its connection asks for none with its later statements."""
    with getattr(sessions, verb)("orders") as session:
        session.execute(ONE)
        engine = engine_of(session)
        session.execute(ONE)
        with engine.connect():
            # what a read unit does not use just now is taken back from it
            assert askers(engine) == ["nobody"] if verb == "read" else ["mine", "nobody"]
            session.execute(ONE)
            assert sorted(askers(engine)) == ["mine", "nobody"]


def test_a_unit_that_has_ended_asks_for_nothing(sessions: Sessions) -> None:
    """A bind that was asked for, and never used."""
    with sessions.read("orders") as session:
        engine = engine_of(session)
    assert asking.asker is None
    with engine.connect():
        assert askers(engine) == ["nobody"]


def test_every_transaction_of_a_session_is_its_own(sessions: Sessions) -> None:
    """A session that its owner ends takes a connection for each transaction."""
    with sessions.open("orders") as session:
        for _ in range(2):
            session.execute(ONE)
            assert askers(engine_of(session)) == ["mine"]
            session.rollback()
            assert askers(engine_of(session)) == []


def test_a_unit_over_two_databases_asks_for_two(sessions: Sessions) -> None:
    """For each of them when it is used first."""
    with sessions.read("orders", "billing") as session:
        engines = {}
        for name in ("orders", "billing"):
            table = sa.Table("item", sa.MetaData(), sa.Column("id", sa.Integer))
            sessions.bind(table, name)
            connection = session.connection(bind_arguments={"clause": sa.select(table)})
            engines[name] = connection.engine
        assert [askers(engine) for engine in engines.values()] == [["mine"], ["mine"]]
        with engines["orders"].connect():
            assert askers(engines["orders"]) == ["mine", "nobody"]
