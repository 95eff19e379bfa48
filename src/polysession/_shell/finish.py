"""How a held session is flushed, committed, rolled back and closed, on its synchronous `Session`.

The asynchronous door runs the same functions below its `AsyncSession` (`run_sync`). Nothing here decides; the order is
the core's.
"""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session, SessionTransaction

from .holding import Holding
from .lazy import Ended, mark_objects

__all__ = ["Finish"]


class Finish:
    """The steps that end a unit, for drivers. The session lets them through because it is `leaving`."""

    @staticmethod
    def idle(holding: Holding) -> bool:
        """Nothing of the session needs the server: no connection is out."""
        session = cast("Session", holding.sync_session)
        transaction = session.get_transaction()
        return not holding.connections and (transaction is None or not transaction.connections)

    @staticmethod
    def flush(holding: Holding) -> None:
        """Send pending work; refuse to go on to COMMIT where that would be pointless."""
        cast("Session", holding.sync_session).flush()
        holding.seen.refuse_commit()

    @staticmethod
    def commit(holding: Holding, database: str) -> None:
        """Commit one database. A session that did nothing sends nothing."""
        session = cast("Session", holding.sync_session)
        holding.leaving = True
        holding.commit_sent = False
        holding.undo()
        if session.get_transaction() is not None:
            session.commit()
        if (connection := holding.connections.get(database)) is not None:
            connection.commit()

    @staticmethod
    def rollback(holding: Holding) -> None:
        """Roll back everything that was not committed."""
        session = cast("Session", holding.sync_session)
        holding.leaving = True
        holding.undo()
        if session.get_transaction() is not None:
            session.rollback()
        for connection in holding.connections.values():
            connection.rollback()

    @staticmethod
    def close(holding: Holding, broken: bool) -> None:
        """End the session for good; a broken connection is thrown away."""
        session = holding.sync_session
        if session is None:
            return
        holding.leaving = True
        mark_objects(session, Ended(str(holding.kind), holding.name, holding.origin))
        try:
            if broken:
                session.invalidate()
            else:
                session.close()
        finally:
            for connection in holding.connections.values():
                _close(connection, broken)

    @staticmethod
    def savepoint(holding: Holding) -> tuple[Holding, SessionTransaction]:
        """Set a savepoint."""
        return holding, cast("Session", holding.sync_session).begin_nested()

    @staticmethod
    def release(savepoint: tuple[Holding, SessionTransaction]) -> None:
        """Flush, and let the work since the savepoint belong to the unit around it."""
        savepoint[1].commit()

    @staticmethod
    def restore(savepoint: tuple[Holding, SessionTransaction]) -> None:
        """Return to the savepoint, from whatever was begun inside it."""
        holding, transaction = savepoint
        session: Any = holding.sync_session
        nested = session.get_nested_transaction()
        while nested is not None:
            # what was begun inside this savepoint and left open goes first
            outermost = nested is transaction
            nested.rollback()
            if outermost:
                return
            nested = session.get_nested_transaction()


def _close(connection: Connection, broken: bool) -> None:
    if broken:
        connection.invalidate()
    connection.close()
