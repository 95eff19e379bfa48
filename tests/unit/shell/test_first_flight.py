"""BEGIN in the flight of the first statement: when it is done. What it does is in tests/conformance."""

from __future__ import annotations

import hashlib
import inspect

import pytest
from psycopg._connection_base import BaseConnection
from psycopg._cursor_base import BaseCursor

from polysession._shell import first_flight

ONE = (b"", b"select 1", b"select 1;", b"select 1 ;\n ", b"update item set id = 2", b"vacuum")
MORE = (b"select 1; select 2", b"select ';'", b"; select 1", b"copy item to stdout", b"/* so */ COPY item from stdin")

READ = ("5998be45b225fcf4", "6bc3fdf9369033a7")
"""What the methods of psycopg look like that are followed here: those of 3.2.0 to 3.3.0, and of 3.3.9."""


def test_psycopg_looks_as_it_is_known() -> None:
    """A new version of psycopg has to be read before its cursor is used: see `KNOWN` and the module's text.

    Compare the methods below with what `first_flight` does, run tests/conformance/test_first_flight.py, and write down
    that they were read: here, and in `KNOWN`.
    """
    methods = (BaseCursor._execute_gen, BaseCursor._start_query, BaseCursor._maybe_prepare_gen)
    text = "".join(inspect.getsource(method) for method in (*methods, BaseConnection._start_query))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] in READ
    assert first_flight.is_known()


@pytest.mark.parametrize("text", ONE)
def test_one_statement(text: bytes) -> None:
    """It can go in the extended protocol."""
    assert first_flight.is_one(text)


@pytest.mark.parametrize("text", MORE)
def test_perhaps_not_one_statement(text: bytes) -> None:
    """It goes as psycopg sends it."""
    assert not first_flight.is_one(text)


def test_others_are_left_alone() -> None:
    """Only psycopg is told anything at connect."""

    class Dialect:
        driver, is_async = "asyncpg", True

    assert first_flight.arguments(Dialect()) == {}
    Dialect.driver = "psycopg"
    assert first_flight.arguments(Dialect()) == {"cursor_factory": first_flight.beginning_cursor(True)}
