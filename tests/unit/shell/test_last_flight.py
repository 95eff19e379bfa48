"""COMMIT in the flight of the last statement: what is read, and what is sent. What it does is in tests/conformance."""

from __future__ import annotations

import hashlib
import inspect
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session, SessionTransaction, persistence
from sqlalchemy.orm.unitofwork import UOWTransaction

from polysession._shell import last_flight
from polysession._shell.last_cursor import counted, miscounted

READ = "f7978836c6683d99"
"""Of the functions of SQLAlchemy between the end of a unit's body and its COMMIT."""


def test_sqlalchemy_looks_as_it_is_known() -> None:
    """A new version of SQLAlchemy has to be read before COMMIT leaves early there: see `known` and the module's text.

    What one object makes a flush send, and what is sent after that, must be what `last_flight` takes it for.
    """
    ways: list[Any] = [
        Session.flush,
        Session._flush,
        SessionTransaction._prepare_impl,
        SessionTransaction.commit,
        Connection._commit_impl,
        UOWTransaction,
        persistence,
    ]
    text = "".join(map(inspect.getsource, ways))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == READ


@pytest.mark.parametrize(
    ("sqlstate", "message", "rows"),
    [
        ("22P02", 'invalid input syntax for type integer: "polysession_changed_0"', 0),
        ("22P02", "ungültige Eingabesyntax für Typ integer: »polysession_changed_12«", 12),
        ("22P02", 'invalid input syntax for type integer: "x"', None),
        ("22P02", None, None),
        ("22012", 'division by "polysession_changed_0"', None),
        (None, None, None),
    ],
)
def test_what_the_server_says_of_the_rows(sqlstate: str | None, message: str | None, rows: int | None) -> None:
    """It is read from the error that was provoked, in any language, and from no other."""
    assert miscounted(sqlstate, message) == rows


def test_an_update_that_is_counted() -> None:
    """It is the statement, in one that looks at how many rows there were."""
    text = counted("UPDATE item SET value=$1 WHERE item.id = $2")
    assert text.startswith("WITH polysession_changed AS (UPDATE item SET value=$1 WHERE item.id = $2 RETURNING 1) ")
    assert counted(b"UPDATE item SET value=$1 WHERE item.id = $2") == text.encode()


def test_other_engines() -> None:
    """Engines of the application's own and other drivers are left alone."""
    assert not last_flight.can_fly(create_engine("postgresql+psycopg://nowhere.invalid/orders"))
    assert not last_flight.can_fly(create_engine("sqlite://", execution_options={"polysession": True}))
