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
from logging import INFO
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy.engine import Connection
from sqlalchemy.engine.base import RootTransaction
from sqlalchemy.orm import SessionTransaction, SessionTransactionOrigin
from sqlalchemy.orm.session import SessionTransactionState, _SessionCloseState

from ..facts import HoldKind
from ..options import Access
from .autocommit import is_in_autocommit, refuse_autocommit
from .lease import Lease
from .proxied import Proxied

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
_new_taken: Final = Connection.__new__
_new_begun: Final = SessionTransaction.__new__


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


class _Begun(SessionTransaction):
    """The transaction of a session, as it begins by itself; what it notes of objects is made when there are any."""

    _parent = None
    nested = False
    origin = SessionTransactionOrigin.AUTOBEGIN
    _state = _ACTIVE

    def __getattr__(self, name: str) -> Any:
        if name not in _SNAPSHOT:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        made = self.__dict__[name] = weakref.WeakKeyDictionary()
        return made


def take(session: Any, holding: Holding, asked: Any) -> Connection | None:
    """The first connection of a unit's session; None if it has to go SQLAlchemy's way. Raises what that raises."""
    engine: Any = holding.only
    if engine is None or asked is not engine or holding.kind is not _UNIT or not is_plain(engine):
        return None
    listeners = session.dispatch
    if (
        session._close_state is _SESSION_CLOSED
        or session.execution_options
        or session.twophase
        or session._trans_context_manager
        or not session.autobegin
        or listeners.after_transaction_create
        or len(listeners.after_begin) != 1  # ours
    ):
        return None
    dialect, pool = engine.dialect, engine.pool
    transaction = _new_begun(_Begun)
    transaction.__dict__ = {"session": session, "_connections": {}, "_state": _PROVISIONING}
    session._transaction = transaction
    try:
        try:
            made = pool.check_out(holding)
        except dialect.loaded_dbapi.Error as error:
            Connection._handle_dbapi_exception_noconnection(error, dialect, engine)
            raise
        pooled = Lease(pool, made) if pool.lends else made
        connection: Any = _new_taken(Taken)
        root: Any = _new_root(RootTransaction)
        connection.__dict__ = {
            "engine": engine,
            "dialect": dialect,
            "_dbapi_connection": pooled,
            "_execution_options": engine._execution_options,
            "_transaction": root,
        }
        root.connection = connection
        root.is_active = True
        try:
            dialect.do_begin(pooled)
        except BaseException as error:
            connection._transaction = None
            try:
                connection._handle_dbapi_exception(error, None, None, None, None)
            finally:
                connection.close()
        known: Any = connection, root, True, True
        transaction._connections = {connection: known, engine: known}
        if holding.access is _WRITE:
            if holding.seen.in_transaction and is_in_autocommit(connection, made):
                refuse_autocommit(connection, holding)
            if not holding.awaits:
                holding.direct = engine
        elif not holding.awaits:
            holding.direct_reads = engine
        holding.is_connected = True
        holding.took(connection, made.info)
        if type(pooled) is Lease and holding.leases is not None and "isolation_level" not in engine._execution_options:
            holding.lend(pooled, engine)
    finally:
        transaction._state = _ACTIVE
    return connection  # type: ignore[no-any-return]  # it is one


def is_plain(engine: Any) -> bool:
    """Nobody listens to its connections, and nothing is logged of them."""
    return (
        getattr(engine.pool, "is_ours", False)
        and not engine._has_events
        and not Taken._has_events  # of `Connection`
        and engine._connection_cls is Connection
        and not engine.logger.isEnabledFor(INFO)
    )


def give_back(transaction: Any, holding: Holding) -> bool:
    """Commit the transaction of a session and give back its connection; False if that has to go SQLAlchemy's way.

    Where each statement has run on its own there is nothing to commit: not if the connection was lent all the time.
    Raises what COMMIT raises, and has changed nothing then but that the transaction is over.
    """
    engine: Any = holding.only
    if type(transaction) is not _Begun or len(transaction._connections) != _KEYS:
        return False
    connection, root, _, _ = transaction._connections[engine]
    pooled, session = connection._dbapi_connection, transaction.session
    if (
        type(connection) is not Taken
        or pooled is None
        or connection._transaction is not root
        or not root.is_active
        or connection._nested_transaction is not None
        or connection._has_events
        or engine._has_events
        or session.dispatch.after_transaction_end
    ):
        return False
    if holding.seen.in_transaction:
        try:
            engine.dialect.do_commit(pooled)
        except BaseException as error:
            connection._handle_dbapi_exception(error, None, None, None, None)
            raise
        finally:
            root.is_active = False
        go = pooled.go if type(pooled) is Proxied else pooled.close
    elif type(pooled) is Lease and pooled.may_move:
        root.is_active = False
        go = pooled.go
    else:
        return False
    session._transaction = connection._transaction = connection._dbapi_connection = None
    connection._Connection__can_reconnect = False
    transaction._state = _CLOSED
    go()
    return True


_KEYS: Final = 2
"""Of one connection in a transaction: itself and its engine."""
