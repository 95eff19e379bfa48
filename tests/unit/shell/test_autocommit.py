"""A unit on an engine that the application made in autocommit is refused: no rollback would undo what it writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, event, text

from polysession import Sessions
from polysession.errors import RequestRefused


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An engine with a table."""
    made = create_engine(f"sqlite:///{tmp_path / 'x.db'}")
    with made.begin() as connection:
        connection.execute(text("create table t (id int)"))
    yield made
    made.dispose()


def rows(engine: Engine) -> list[int]:
    """What is in the table."""
    with engine.connect() as connection:
        return list(connection.scalars(text("select id from t")))


def work(door: Sessions) -> None:
    """A unit that fails after it has written."""
    with door.begin() as session:
        session.execute(text("insert into t values (1)"))
        raise KeyError


def test_an_engine_in_autocommit(engine: Engine) -> None:
    """It was told to be rolled back, and its row stayed. Units that need no transaction go on."""
    door = Sessions(engine.execution_options(isolation_level="AUTOCOMMIT"))
    with pytest.raises(RequestRefused, match="its connection is in autocommit") as caught:
        work(door)
    assert "opened at" in caught.value.why
    assert rows(engine) == []
    with door.read() as session:
        assert session.scalars(text("select id from t")).all() == []
    with door.begin(propagation="not_supported") as session:
        session.execute(text("insert into t values (2)"))
    assert rows(engine) == [2]
    assert not door.held()
    door.close()


def test_an_engine_that_says_begin_itself(engine: Engine) -> None:
    """SQLAlchemy's recipe for SQLite has the driver in autocommit and says BEGIN: that is a transaction."""

    def quiet(connection: object, _: object) -> None:
        connection.isolation_level = None  # type: ignore[attr-defined]  # it is sqlite3's

    engine.dispose()
    event.listen(engine, "connect", quiet)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    with Sessions(engine) as door, pytest.raises(KeyError):
        work(door)
    assert rows(engine) == []
