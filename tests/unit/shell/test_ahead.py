"""BEGIN in the flight of the first statement, with asyncpg: when it is done. What it does is in tests/conformance."""

from __future__ import annotations

import asyncio
import hashlib
import inspect

import asyncpg
import pytest
from asyncpg.prepared_stmt import PreparedStatement
from asyncpg.protocol.protocol import Protocol
from asyncpg.transaction import Transaction
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_connection, AsyncAdapt_asyncpg_cursor

from polysession._shell import adapted, ahead, behind
from polysession._shell.pens import marking_connection

READ = "32e105d87a5f91b6"
"""What the methods of asyncpg and of SQLAlchemy's adapter look like that are followed here: those of asyncpg 0.30 to
0.32, and of SQLAlchemy 2.1.7 to 2.1.9."""
READ_BEHIND = "90d3b815e4bb39ba"
"""The same of the methods of asyncpg's prepared statement."""


def test_asyncpg_looks_as_it_is_known() -> None:
    """A new version of asyncpg or SQLAlchemy has to be read before this is used: see `KNOWN` and the module's text.

    Compare the methods below with what `ahead` does, look at `_process__bind_execute`, `_process__prepare` and
    `_process__simple_query` of asyncpg's protocol (coreproto.pyx), run tests/conformance/test_ahead.py, and write down
    that they were read: here, and in `KNOWN`.
    """
    cursor, adapter = AsyncAdapt_asyncpg_cursor, AsyncAdapt_asyncpg_connection
    methods = (Transaction.start, cursor._prepare_and_execute, adapter._prepare, adapter._start_transaction)
    text = "".join(inspect.getsource(method) for method in methods)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == READ
    assert ahead.is_known()
    assert "_transport" in asyncpg.Connection.__slots__


def test_what_comes_behind_as_it_is_known() -> None:
    """The same for COMMIT behind a statement (`behind`): between a statement that is prepared and the protocol's one
    write nothing waits; that is where the protocol counts its queries, and each answer ends with ReadyForQuery.

    Look at `bind_execute` of asyncpg's protocol (protocol.pyx) and what is above, and run
    tests/conformance/test_behind.py.
    """
    private = "_PreparedStatement__"
    methods = [getattr(PreparedStatement, name) for name in ("fetch", f"{private}do_execute", f"{private}bind_execute")]
    text = "".join(inspect.getsource(method) for method in methods)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == READ_BEHIND
    for name in ("_is_cancelling", "queries_count", "data_received", "connection_lost", "eof_received"):
        assert hasattr(Protocol, name)
    assert issubclass(Protocol, asyncio.Protocol)
    assert "_top_xact" in asyncpg.Connection.__slots__
    assert b"Q" + (4 + 8).to_bytes(4) + b"COMMIT;\0" == behind.COMMIT


def test_what_is_sent() -> None:
    """The messages are those of the protocol's documentation, "Message Formats": no names, parameters or formats."""
    sent = ahead.message("BEGIN;")
    parse = b"P" + (4 + 1 + 7 + 2).to_bytes(4) + b"\0BEGIN;\0" + bytes(2)
    bind = b"B" + (4 + 2 + 6).to_bytes(4) + bytes(8)
    execute = b"E" + (4 + 1 + 4).to_bytes(4) + bytes(5)
    assert sent == parse + bind + execute


def test_a_driver_that_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """With it SQLAlchemy's own cursor is used."""
    adapted.asyncpg_cursors.cache_clear()
    assert adapted.asyncpg_cursors() == (ahead.beginning_cursor(), AsyncAdapt_asyncpg_cursor)
    try:
        monkeypatch.setattr(ahead, "is_known", lambda: False)
        adapted.asyncpg_cursors.cache_clear()
        assert adapted.asyncpg_cursors() == (AsyncAdapt_asyncpg_cursor, AsyncAdapt_asyncpg_cursor)
    finally:
        monkeypatch.undo()
        adapted.asyncpg_cursors.cache_clear()


def test_the_connection_for_it() -> None:
    """Only a connection of our making is told to write ahead."""
    assert "polysession_ahead" in marking_connection().__slots__
