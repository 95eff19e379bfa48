"""Refuses a unit whose connection is in autocommit: each statement would commit alone, and no rollback would undo it.

An engine of the application may be made so, and so may the arguments of a connection. The unit would be told to be
rolled back, and what it wrote would stay. Nothing of it was sent yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.engine import Connection

from ..errors import RequestRefused
from ..options import Access
from . import places

if TYPE_CHECKING:
    from .holding import Holding

__all__ = ["is_in_autocommit", "refuse_autocommit"]


def refuse_autocommit(connection: Connection, holding: Holding) -> None:
    """Raise `RequestRefused` if the transaction that `holding` needs cannot be had on `connection`: that of a unit that
    writes; and on an engine of the application that of one that reads, by which the server is told to refuse writes."""
    writes = holding.access is Access.WRITE
    if not writes and (connection.dialect.name == "sqlite" or connection.engine.get_execution_options().get(_OURS)):
        return
    if not is_in_autocommit(connection, connection.connection):
        return
    words = "have a transaction" if writes else "be kept from writing"
    why = (
        "each of its statements would commit alone, and no rollback would undo them"
        if writes
        else "the server is told to refuse writes for the transaction, and there would be none"
    )
    raise RequestRefused(
        f"unit {holding.name!r} cannot {words}: its connection is in autocommit",
        why=f"{why}; the unit was opened at {holding.origin}, and its first statement is at {places.caller()}",
        do=(
            "take isolation_level='AUTOCOMMIT' from the engine or connection, or autocommit from its arguments",
            "open() a session that you end yourself",
            *(("open the unit with propagation='not_supported', which asks for no transaction",) if writes else ()),
        ),
        attribute="isolation",
    )


def is_in_autocommit(connection: Connection, pooled: Any) -> bool:
    """Each statement commits alone on this connection, below which is that of the pool."""
    dialect: Any = connection.dialect
    if dialect.name == "sqlite":
        # the driver says nothing of it: whoever says BEGIN himself, as we do, has it in autocommit, too
        return bool(connection._is_autocommit_isolation())
    # a documented method of `Dialect` (SQLAlchemy documentation, "Core Internals")
    return bool(dialect.detect_autocommit_setting(pooled.dbapi_connection))


_OURS = "polysession"
"""The execution option of engines that are made here."""
