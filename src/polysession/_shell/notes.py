"""What is noted on a connection of the pool, and how something is said on it past SQLAlchemy's statements."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, Final

__all__ = ["HOLDING", "notes_of", "say"]

HOLDING: Final = "polysession_holding"
"""Where a connection keeps what holds it just now."""


def notes_of(connection: Any) -> MutableMapping[str, Any]:
    """What is noted on a connection as a dialect is given it; nothing, and nothing is kept, on the bare one by which
    SQLAlchemy gets to know a server."""
    try:
        notes: MutableMapping[str, Any] = connection.info
    except NotImplementedError:
        return {}
    return notes


def say(cursor: Any, statement: str) -> None:
    """Send a statement whose answer does not matter, by a cursor that is closed then."""
    try:
        cursor.execute(statement)
    finally:
        cursor.close()
