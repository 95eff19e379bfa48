"""The connection of a unit, taken and given back by the shorter way: without asking who listens where nobody does.

With its first statement a session makes a `SessionTransaction`, a `Connection` and a `RootTransaction`, and each of
them asks tables of states, listeners, logs and options on its way; the most of what a unit with one short statement
costs is spent there. Here the three are made as SQLAlchemy would have left them, after a few comparisons: the unit has
one engine, of our making, whose connections go the shorter way too (`proxied`); nobody but us listens to it; its
session is told nothing of its transaction. Anything else goes SQLAlchemy's way, and so does every unit below a version
that was not read for this (`known`).

None of it is public (SQLAlchemy 2.1, orm/session.py: `_connection_for_bind` of both classes, `_autobegin_t`,
`SessionTransaction.__init__`, `close`; engine/base.py: `Connection.__init__`, `close`, `RootTransaction.__init__`,
`_do_commit`). tests/unit/shell/test_taking.py compares every attribute of what is made here with what SQLAlchemy makes.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy.engine import Connection, Engine
from sqlalchemy.engine.base import RootTransaction
from sqlalchemy.orm import Session, SessionTransaction, SessionTransactionOrigin
from sqlalchemy.orm.session import SessionTransactionState, _SessionCloseState

from ..facts import HoldKind
from ..options import Access
from .autocommit import refuse_autocommit
from .lease import Lease

if TYPE_CHECKING:
    from .holding import Holding

__all__ = ["Taken", "give_back", "is_plain", "take"]

_UNIT: Final = HoldKind.UNIT
_WRITE: Final = Access.WRITE
_ACTIVE: Final = SessionTransactionState.ACTIVE
_PROVISIONING: Final = SessionTransactionState.PROVISIONING_CONNECTION
_CLOSED: Final = SessionTransactionState.CLOSED
_SESSION_CLOSED: Final = _SessionCloseState.CLOSED
_SNAPSHOT: Final = frozenset(("_new", "_deleted", "_dirty", "_key_switches"))
_new_root: Final = RootTransaction.__new__


class _Dispatch:
    """Where a connection's listeners are: found out when somebody asks."""

    def __get__(self, connection: Any, _: type) -> Any:
        found: Any = super(Taken, connection or Taken).dispatch  # type: ignore[misc]  # of the class, if of nobody
        if connection is not None:
            found = connection.__dict__["dispatch"] = found._join(connection.engine.dispatch)
        return found


class Taken(Connection):
    """A connection in its first transaction, as `Connection(engine)` and `begin()` leave it.

    What is the same for all of them stands in the class.
    """

    dispatch = _Dispatch()
    _nested_transaction = None
    _allow_autobegin = True
    _echo = False
    _Connection__savepoint_seq = 0
    _Connection__in_begin = False
    _Connection__can_reconnect = True

    def __init__(self, engine: Engine, pooled: Any) -> None:
        self.engine = engine
        self.dialect = engine.dialect
        self._dbapi_connection = pooled
        self._execution_options = engine._execution_options
        root = self._transaction = _new_root(RootTransaction)
        root.connection = self
        root.is_active = True


class _Begun(SessionTransaction):
    """The transaction of a session, as it begins by itself; what it notes of objects is made when there are any."""

    _parent = None
    nested = False
    origin = SessionTransactionOrigin.AUTOBEGIN
    _state = _ACTIVE

    def __init__(self, session: Session) -> None:
        self.session = session
        self._connections = {}
        session._transaction = self

    def __getattr__(self, name: str) -> Any:
        if name not in _SNAPSHOT:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        made = self.__dict__[name] = weakref.WeakKeyDictionary()
        return made


def take(session: Session, holding: Holding, asked: Any) -> Connection | None:
    """The first connection of a unit's session; None if it has to go SQLAlchemy's way. Raises what that raises."""
    engine: Any = holding.only
    if engine is None or asked is not engine or holding.kind is not _UNIT or not _may_take(session, engine):
        return None
    transaction = _Begun(session)
    dialect: Any = engine.dialect
    try:
        transaction._state = _PROVISIONING
        try:
            pooled = engine.pool.connect()
        except dialect.loaded_dbapi.Error as error:
            Connection._handle_dbapi_exception_noconnection(error, dialect, engine)
            raise
        connection = Taken(engine, pooled)
        try:
            dialect.do_begin(pooled)
        except BaseException as error:
            connection._transaction = None
            try:
                connection._handle_dbapi_exception(error, None, None, None, None)
            finally:
                connection.close()
        known: Any = connection, connection._transaction, True, True
        transaction._connections = {connection: known, engine: known}
        if holding.access is _WRITE and holding.seen.in_transaction:
            refuse_autocommit(connection, holding)
        holding.begun(connection)
    finally:
        transaction._state = _ACTIVE
    return connection


def _may_take(session: Any, engine: Any) -> bool:
    listeners = session.dispatch
    return (
        session._close_state is not _SESSION_CLOSED
        and not (session.execution_options or session.twophase or session._trans_context_manager)
        and session.autobegin
        and not listeners.after_transaction_create
        and len(listeners.after_begin) == 1  # ours
        and is_plain(engine)
    )


def is_plain(engine: Any) -> bool:
    """Nobody listens to its connections, and nothing is logged of them."""
    return (
        getattr(engine.pool, "is_done", None) is not None
        and not (engine._has_events or Taken._has_events)  # of its own, or of `Connection`
        and engine._connection_cls is Connection
        and not engine._should_log_info()
    )


def give_back(transaction: Any, holding: Holding) -> bool:
    """Commit the transaction of a session and give back its connection; False if that has to go SQLAlchemy's way.

    Where each statement has run on its own there is nothing to commit: not if the connection was lent all the time.
    Raises what COMMIT raises, and has changed nothing then.
    """
    if type(transaction) is not _Begun or len(transaction._connections) != _KEYS:
        return False
    session = transaction.session
    connection, root, _, _ = next(iter(transaction._connections.values()))
    if (
        type(connection) is not Taken
        or connection._transaction is not root
        or connection._nested_transaction is not None
    ):
        return False
    pooled = connection._dbapi_connection
    if pooled is None or session.dispatch.after_transaction_end or not is_plain(connection.engine):
        return False
    if holding.seen.in_transaction:
        root.commit()
    elif type(pooled) is Lease and pooled.may_move and not connection._has_events:
        root.is_active = False
        connection._transaction = None
    else:
        return False
    session._transaction = None
    connection._dbapi_connection = None
    connection._Connection__can_reconnect = False
    transaction._state = _CLOSED
    pooled.close()
    return True


_KEYS: Final = 2
"""Of one connection in a transaction: itself and its engine."""
