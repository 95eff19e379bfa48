"""COMMIT in the flight of the last statement: a unit that asks for it waits for the server once less.

What a body executes is not known to be the last statement. What the flush at the unit's end sends is, if that is one
statement: then COMMIT leaves together with it, before it was answered, and with BEGIN if nothing has begun. It is left
to the step that commits, since that is when COMMIT leaves: an error of the link is ambiguous from there on, and a
cancellation waits for the end. If the server has refused the statement itself, COMMIT was skipped, and the error is one
before COMMIT, as ever.

So that it surely is one statement, and nobody would send another one when COMMIT is done: one object is new, changed or
deleted; its class has one table, no counter of versions, and no values that are fetched with another statement; none of
its relationships has changed; nobody but us listens to the flush, the commit or the statements. Anything else goes the
plain way, and so does a unit that knows its outcome, one over several databases, and one on a driver or a SQLAlchemy
that was not read for this (`known`; SQLAlchemy 2.1, orm/session.py `Session._flush`, orm/persistence.py). A flush that
finds nothing to send does not fly, and COMMIT goes alone.

The ORM counts the rows of an UPDATE and of a DELETE when it has the answer, which is too late here. Those of an UPDATE
are counted by the server (`last_cursor`). A DELETE that finds no row is a warning for the ORM and no error: it flies if
its class has `confirm_deleted_rows=False`, where nobody counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Table, inspect
from sqlalchemy.engine import Engine
from sqlalchemy.orm import InstanceState, Mapper, Session

from . import first_flight, known
from .engines import EngineRoom

if TYPE_CHECKING:
    from .holding import Holding

__all__ = ["LastFlight", "board", "can_fly", "is_heard"]

_SILENT: Final = (
    "after_flush",
    "after_flush_postexec",
    "after_commit",
    "after_transaction_create",
    "after_transaction_end",
    "pending_to_persistent",
    "persistent_to_deleted",
)
"""Events of a session that come after the statement, or before it and may send another one: nobody listens."""
_OURS: Final = ("before_flush", "before_commit")
"""Those to which only `guard` listens."""
_OF_OBJECTS: Final = (
    "before_insert",
    "before_update",
    "before_delete",
    "after_insert",
    "after_update",
    "after_delete",
)
_OF_LOADING: Final = ("refresh_flush", "expire")


class LastFlight:
    """What is to leave with the COMMIT of a unit. For the one flush at its end."""

    __slots__ = ("_head", "_holding", "cancel", "connection", "counts", "has_left", "refused")

    def __init__(self, holding: Holding, connection: Any, head: str, *, counts: bool) -> None:
        self._holding = holding
        self._head = head
        """How its statement begins."""
        self.connection = connection
        """SQLAlchemy's."""
        self.counts = counts
        """The server counts the rows of its statement."""
        self.has_left = False
        self.refused: Exception | None = None
        """The statement was good, and this was the answer to COMMIT."""
        self.cancel: Callable[[], None] = _nothing
        """Give up the seat that was booked, if nobody has taken it. Set by who books."""

    def takes(self, statement: Any) -> bool:
        """Asked by the cursor: this is the statement. Only the first one is."""
        return (
            not self.has_left
            and isinstance(statement, str)
            and statement.startswith(self._head)
            and not (self.counts and " RETURNING " in statement)
        )

    def leaves(self) -> None:
        """The next thing to be sent is COMMIT."""
        self.has_left = self._holding.commit_sent = True

    def skipped(self) -> None:
        """The server has refused what was sent before COMMIT, and so has not run it."""
        self._holding.commit_sent = False

    def flush(self, session: Session) -> None:
        """Flush, and raise what COMMIT would have raised. If nothing was sent COMMIT is still to be sent."""
        if not _book(self):
            session.flush()
            return
        try:
            session.flush()
        finally:
            self.cancel()
            self.cancel = _nothing  # no circle is left
        if self.refused is not None:
            # as `Connection._commit_impl`
            self.connection._handle_dbapi_exception(self.refused, None, None, None, None)


def _nothing() -> None:
    """Nothing was booked."""


def can_fly(engine: Engine) -> bool:
    """Its driver can send COMMIT behind a statement, and it is of our making."""
    if not known.IS_KNOWN or not EngineRoom.is_ours(engine):
        return False
    if engine.dialect.driver == "asyncpg":
        from . import ahead  # whoever uses another driver needs none of it

        return ahead.is_known()
    return bool(first_flight.arguments(engine.dialect))


def board(session: Session, holding: Holding) -> bool:
    """Leave what is pending in the session to the flight of its COMMIT (`holding.flight`), and take the connection for
    it; False if it has to go the plain way. Raises what taking a connection raises."""
    engine = holding.only
    if engine is None or holding.trail is not None or not holding.seen.in_transaction or not can_fly(engine):
        return False
    if holding.seen.aborted is not None:
        return False  # its statement is what the server refuses
    pending = [*session.new, *session.dirty, *session.deleted]
    if len(pending) != 1 or is_heard(session):
        return False
    state: InstanceState[Any] = inspect(pending[0])
    verb = _verb(session, state)
    if not verb:
        return False
    # past the guard's method, for whom a connection that is asked for is one that somebody has in his hands
    connection: Any = Session.connection(session, bind_arguments={"mapper": state.mapper})
    if connection._has_events or connection.engine._has_events or connection.dialect.dispatch.do_execute:
        return False
    holding.seen.refuse_commit()
    table = connection.dialect.identifier_preparer.format_table(state.mapper.local_table)
    holding.flight = LastFlight(holding, connection, f"{verb} {table} ", counts=verb == "UPDATE")
    return True


def is_heard(session: Session) -> bool:
    """Somebody may send a statement when the last one has left."""
    listeners = session.dispatch
    return any(getattr(listeners, name) for name in _SILENT) or any(len(getattr(listeners, name)) > 1 for name in _OURS)


def _verb(session: Session, state: InstanceState[Any]) -> str:
    """What one statement will do for this object; empty if it may be more than one statement."""
    mapper = state.mapper
    if not _is_simple(mapper) or _is_heard_of(mapper):
        return ""
    owned = [each.key for each in mapper.relationships if not each.viewonly]
    touched = state.committed_state
    if state.key is None:
        return "" if any(key in touched or key in state.dict for key in owned) else "INSERT INTO"
    if state in session._deleted:
        return "" if owned or mapper.base_mapper.confirm_deleted_rows else "DELETE FROM"
    keys = [mapper.get_property_by_column(column).key for column in mapper.primary_key]
    return "" if any(key in touched for key in (*owned, *keys)) else "UPDATE"


def _is_simple(mapper: Mapper[Any]) -> bool:
    return (
        len(mapper.tables) == 1
        and isinstance(mapper.local_table, Table)
        and mapper.version_id_col is None
        and mapper.base_mapper.eager_defaults is not True
    )


def _is_heard_of(mapper: Mapper[Any]) -> bool:
    of_objects, of_loading = mapper.dispatch, mapper.class_manager.dispatch
    return any(getattr(of_objects, name) for name in _OF_OBJECTS) or any(
        getattr(of_loading, name) for name in _OF_LOADING
    )


def _book(flight: LastFlight) -> bool:
    from . import behind, last_cursor  # the driver is imported by now

    book = behind.book if flight.connection.dialect.driver == "asyncpg" else last_cursor.book
    return book(flight.connection.connection.driver_connection, flight)
