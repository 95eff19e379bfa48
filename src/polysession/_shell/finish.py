"""How a held session is flushed, committed, rolled back and closed, on its synchronous `Session`.

The asynchronous door runs the same functions below its `AsyncSession` (`run_sync`). Nothing here decides; the order is
the core's.

That a session has nothing to flush, and which connections its transaction has, SQLAlchemy does not say in public: it is
asked only where that was read (`known`; SQLAlchemy 2.1, orm/session.py: `Session._is_clean`, `SessionTransaction`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from threading import get_ident
from typing import Any, Final

from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session, SessionTransaction
from sqlalchemy.orm.session import _SessionCloseState

from ..errors import UnitOwnsCommit
from ..options import Access
from . import known
from .grace import hear
from .guard import Shorter, refuse_open_savepoint
from .holding import Holding
from .places import PROCESS, current_task
from .taking import give_back

__all__ = ["Finish", "is_heard_by_others"]

_CLOSED: Final = _SessionCloseState.CLOSED
_WRITE: Final = Access.WRITE
"""Of an enumeration, whose members Python looks for at each use."""


class Finish:
    """The steps that end a unit, for drivers. The session lets them through because it is `leaving`."""

    @staticmethod
    def idle(holding: Holding) -> bool:
        """Nothing of the session needs the server: no connection is out."""
        transaction = holding.sync.get_transaction()
        if transaction is None or not transaction._connections:  # public since SQLAlchemy 2.1.7
            return not holding.connections
        return holding.has_let_go

    @staticmethod
    def is_heard(holding: Holding) -> bool:
        """Nothing of a unit that writes has begun, and somebody besides us listens to its commit, which may write."""
        session = holding.sync
        if holding.access is not _WRITE or not holding.seen.in_transaction or session.get_transaction() is not None:
            return False
        return is_heard_by_others(session)

    @staticmethod
    def flush(holding: Holding) -> None:
        """Send pending work, or leave it to the flight of COMMIT; refuse to go on to COMMIT where that would be
        pointless."""
        session, seen = holding.sync, holding.seen
        if session.get_nested_transaction() is not None:
            refuse_open_savepoint(session, holding)
        if not known.IS_KNOWN or not session._is_clean():
            if not holding.scope.options.early or not _boards(session, holding):
                session.flush()
        elif holding.user != get_ident() or holding.process is not PROCESS.process:
            holding.check()  # as `flush` does
        if seen.lost is not None or seen.aborted is not None or seen.deadline_at is not None:
            seen.refuse_commit()

    @staticmethod
    def commit(holding: Holding, database: str) -> None:
        """Commit one database. A session that did nothing sends nothing, unless who listens to its commit does."""
        session = holding.sync
        holding.leaving = True
        holding.commit_sent = False
        if holding.at_end is not None:
            holding.undo_failed = True  # until it has not: COMMIT was not sent then, whatever the error looks like
            holding.undo()
            holding.undo_failed = False
        try:
            transaction = session.get_transaction()
            if transaction is None and Finish.is_heard(holding):
                transaction = session.begin()
            if (
                transaction is not None
                and holding.only is not None
                and (
                    _is_plain(session, transaction)
                    or (holding.flight is not None and _flies(session, transaction, holding))
                )
            ):
                _commit_plainly(transaction, holding)
            elif transaction is not None:
                session.commit()
            if holding.connections and (connection := holding.connections.get(database)) is not None:
                connection.commit()
        except Exception as error:
            failed = error
        else:
            return
        raise _unmasked(failed)

    @staticmethod
    def rollback(holding: Holding) -> None:
        """Roll back everything that was not committed."""
        session = holding.sync
        if holding.is_inherited:
            return  # the socket is the parent process's
        holding.leaving = holding.rolled_back = True
        with suppress(Exception):  # the connection on which something could not be undone is thrown away
            holding.undo()
        if isinstance(holding.seen.lost, UnitOwnsCommit):
            return  # SQLAlchemy's objects have lost track of the transaction; its connection is thrown away
        if session.get_transaction() is not None:
            session.rollback()
        for connection in holding.connections.values():
            connection.rollback()

    @staticmethod
    def close_plainly(holding: Holding) -> bool:
        """End the session for good if that needs nothing: nothing is open, nothing is in it. False if it does."""
        session = holding.sync
        if (
            type(session) is not Shorter
            or holding.connections
            or holding.rolled_back
            or holding.seen.lost is not None
            or holding.process is not PROCESS.process
        ):
            return False
        holding.leaving = True
        return session.end_plainly()

    @staticmethod
    def at_once(holding: Holding) -> bool:
        """End the session of a unit for good, with the connection that it may have been lent, if nothing has to be sent
        for that, or told to anybody. False if something has; then nothing was done."""
        session = holding.sync
        if type(session) is not Shorter or session._new or session._deleted or holding.process is not PROCESS.process:
            return False
        if holding.user != get_ident():
            running = holding.running
            if running is None or running() is not current_task():
                return False
        objects = session.__dict__.get("identity_map")
        if objects:
            return False
        transaction, seen = session._transaction, holding._seen
        if seen is not None and (seen.heeds or holding.connections):
            return False  # a deadline, a trail, a transaction that is lost or aborted
        if transaction is None:
            if holding.access is _WRITE and is_heard_by_others(session):
                return False
            holding.leaving = True
            session._close_state = _CLOSED  # as `end_plainly`
            if objects is not None:
                objects._kill()
            return True
        if (
            holding.awaits
            or seen is None
            or seen.in_transaction
            or holding.at_end is not None
            or holding.flight is not None
            or not _is_plain(session, transaction)
        ):
            return False
        holding.leaving = True
        if not give_back(transaction, holding):
            return False
        hear()
        return session.end_plainly()

    @staticmethod
    def close(holding: Holding, broken: bool) -> None:
        """End the session for good; a broken connection is thrown away."""
        session = holding.sync
        if session is None or holding.is_inherited or (not broken and Finish.close_plainly(holding)):
            return
        holding.leaving = True
        broken = broken or holding.undo_failed or isinstance(holding.seen.lost, UnitOwnsCommit)
        try:
            if broken:
                session.invalidate()
            else:
                session.close()
        finally:
            for connection in holding.connections.values():
                _close(connection, broken)
            if broken or holding.rolled_back:
                holding.give_up()

    @staticmethod
    def savepoint(holding: Holding) -> tuple[Holding, SessionTransaction]:
        """Set a savepoint."""
        return holding, holding.sync.begin_nested()

    @staticmethod
    def release(savepoint: tuple[Holding, SessionTransaction]) -> None:
        """Flush, and let the work since the savepoint belong to the unit around it."""
        savepoint[1].commit()

    @staticmethod
    def restore(savepoint: tuple[Holding, SessionTransaction]) -> None:
        """Return to the savepoint, from whatever was begun inside it.

        Raises `RuntimeError` if it is not there any more, and then returns to no other: the unit around it is doomed.
        """
        holding, transaction = savepoint
        session = holding.sync
        innermost = session.get_nested_transaction()
        open_here = [one for one in _upwards(innermost) if one.nested] if innermost is not None else []
        if transaction not in open_here:
            raise RuntimeError("the savepoint is not open any more")
        for one in open_here:  # what was begun inside this savepoint and left open goes first
            one.rollback()
            if one is transaction:
                return


def _boards(session: Session, holding: Holding) -> bool:
    """What is pending leaves together with COMMIT."""
    from .last_flight import board  # for units that ask for it

    return board(session, holding)


def _flies(session: Session, transaction: SessionTransaction, holding: Holding) -> bool:
    """Flush what was left to the flight of COMMIT; whether the rest is plain."""
    flight, holding.flight = holding.flight, None
    flight.flush(session)
    return _is_plain(session, transaction)


def _is_plain(session: Session, transaction: SessionTransaction) -> bool:
    """`Session.commit` would send COMMIT and close the transaction, and do nothing besides: nothing is pending, no
    object expires, no listener but our own hears of it, and nothing is nested or prepared."""
    listeners = session.dispatch  # as `is_heard_by_others`, on the way of every unit
    return (
        known.IS_KNOWN
        and transaction.parent is None
        and transaction.is_active
        and not session.expire_on_commit
        and not session.twophase
        and len(listeners.before_commit) == 1
        and not listeners.after_commit
        and session._is_clean()
    )


def is_heard_by_others(session: Session) -> bool:
    """Somebody besides us listens to its commits."""
    listeners = session.dispatch
    return len(listeners.before_commit) != 1 or bool(listeners.after_commit)


def _commit_plainly(transaction: SessionTransaction, holding: Holding) -> None:
    """`Session.commit` of a plain one. Its way through SQLAlchemy's table of states takes longer than the rest.

    Only what the session itself has begun is committed: if that is over, for instance because its link was lost, its
    connection may have begun another transaction since. Where each statement runs on its own there is nothing to commit
    on a link that was lost.
    """
    if give_back(transaction, holding):
        hear()
        return
    connections: Any = transaction._connections
    for connection, begun, _, _ in set(connections.values()):
        if holding.seen.in_transaction:
            begun.commit()
        elif not connection.invalidated:
            connection.commit()
    transaction.close()
    hear()


def _upwards(transaction: SessionTransaction) -> Iterator[SessionTransaction]:
    current: SessionTransaction | None = transaction
    while current is not None:
        yield current
        current = current.parent


def _unmasked(error: Exception) -> BaseException:
    """The interrupt on whose way out `error` was raised by somebody's cleanup; else `error` itself."""
    outside = sys.exception()  # what our caller is handling has nothing to do with it
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and current is not outside and id(current) not in seen:
        if not isinstance(current, Exception):
            return current
        seen.add(id(current))
        current = current.__cause__ or current.__context__
    return error


def _close(connection: Connection, broken: bool) -> None:
    if broken:
        connection.invalidate()
    connection.close()
