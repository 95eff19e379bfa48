"""The sessions that our doors give out: SQLAlchemy sessions that know who holds them.

`guarded(X)` is a subclass of the session class X that checks, before any SQL, that the session has not ended and is
used by its owner, and that refuses to be committed or closed from inside a unit. Everything else is X's.

Only public methods are overridden, but for those of `Shorter`. `Session.get_bind` is the one that every execution,
flush and connection passes through (SQLAlchemy documentation, "Custom Vertical Partitioning"), so the check stands
there; the others change the session before a bind is asked for.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from greenlet import getcurrent
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, SessionTransaction, identity, object_session
from sqlalchemy.orm import session as orm_session
from sqlalchemy.orm.session import SessionTransactionState, _SessionCloseState
from sqlalchemy.sql.base import CompileState
from sqlalchemy.sql.dml import Delete, Insert, Update, UpdateBase
from sqlalchemy.sql.elements import TextClause
from sqlalchemy.sql.selectable import Select
from sqlalchemy.util import EMPTY_DICT, coerce_to_immutabledict

from ..errors import ReadOnlyUnit, SessionMisuse
from ..facts import HoldKind, Outcome
from ..options import Access
from . import known, places
from .autocommit import refuse_autocommit
from .by_key import ELSEWHERE, UNKNOWN, find, learn
from .claims import asking
from .grace import hear
from .hygiene import notice_handing
from .lazy import lazy_load_while_async, mark_objects
from .lease import lease_of
from .places import PROCESS
from .readonly import judge_given
from .taking import take

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import CoreExecuteOptionsParameter

    from .holding import Holding

__all__ = [
    "Guarded",
    "Shorter",
    "async_session_of_unit",
    "guarded",
    "holding_of",
    "refuse_open_savepoint",
    "session_of_unit",
]

S = TypeVar("S", bound=Session)

_NAME = "_polysession_holding"
_READ: Final = Access.READ
_UNIT: Final = HoldKind.UNIT
"""Of enumerations, whose members Python looks for at each use."""
_OPENED = "_polysession_opened"
"""Where a savepoint keeps the place of its begin_nested()."""


class Guarded(Session):
    """Mixed in front of a session class; see the module's text."""

    _polysession_holding: Holding | None = None

    # -- every SQL passes here

    def get_bind(self, mapper: Any = None, *, clause: Any = None, bind: Any = None, **kw: Any) -> Engine | Connection:
        """The engine of the unit's database; refuses a session that has ended or has another owner."""
        holding = self._polysession_holding
        if holding is None:
            return super().get_bind(mapper, clause=clause, bind=bind, **kw)
        if holding.user != get_ident() or holding.process is not PROCESS.process:
            holding.check()
        direct = holding.direct
        if direct is None:
            direct = holding.direct_reads
            if direct is None or isinstance(clause, UpdateBase):
                if holding.access is _READ and isinstance(clause, UpdateBase):
                    raise _read_only(holding, type(clause).__name__.upper())
                if holding.awaits and not getattr(getcurrent(), "__sqlalchemy_greenlet_provider__", False):
                    misplaced = lazy_load_while_async(sys._getframe(1), str(holding.kind), holding.name, holding.origin)
                    if misplaced is not None:
                        raise misplaced
                direct = holding.only
                if not holding.is_connected:
                    _ = holding.seen  # from here on it is not one that has asked for nothing
                    if direct is not None and holding.kind is _UNIT:
                        asking.asker = holding  # the common case of `ask`
                    else:
                        holding.ask(self)
        if direct is not None and bind is None and mapper is None and not holding.models.names_tables:
            return direct  # the common case of `bind_for`
        return holding.bind_for(self, mapper, clause, bind, kw)

    def flush(self, objects: Sequence[Any] | None = None) -> None:
        """Send pending work; refused in a read unit if there is any."""
        holding = self._polysession_holding
        if holding is not None and (holding.user != get_ident() or holding.process is not PROCESS.process):
            holding.check()
        super().flush(objects)

    # -- what changes the session before a bind is asked for

    def add(self, instance: object, *, _warn: bool = True) -> None:
        """As `Session.add`."""
        holding = self._polysession_holding
        if holding is not None:
            holding.check()
            if holding.repeated is not None:
                _refuse_twice(instance, holding, "save-update")
            if holding.tenant is not None:
                _refuse_foreign(instance, holding, "save-update")
        try:
            super().add(instance, _warn=_warn)
        except InvalidRequestError as error:
            _explain_stranger(self, instance, error)
            raise

    def delete(self, instance: object) -> None:
        """As `Session.delete`."""
        holding = self._polysession_holding
        if holding is not None:
            holding.check()
            if holding.tenant is not None:
                _refuse_foreign(instance, holding, "delete")
        try:
            super().delete(instance)
        except InvalidRequestError as error:
            _explain_stranger(self, instance, error)
            raise

    def delete_all(self, instances: Iterable[object]) -> None:
        """As `Session.delete_all`."""
        for instance in instances:
            self.delete(instance)

    def merge(self, instance: Any, **kw: Any) -> Any:
        """As `Session.merge`."""
        holding = self._polysession_holding
        if holding is not None:
            holding.check()
            if holding.repeated is not None:
                _refuse_twice(instance, holding, "merge")
            if holding.tenant is not None:
                _refuse_foreign(instance, holding, "merge")
        return super().merge(instance, **kw)

    def merge_all(self, instances: Iterable[Any], **kw: Any) -> Sequence[Any]:
        """As `Session.merge_all`."""
        return super().merge_all(self._checked(instances, "merge"), **kw)

    def bulk_save_objects(self, objects: Iterable[object], *args: Any, **kw: Any) -> None:
        """As `Session.bulk_save_objects`."""
        super().bulk_save_objects(self._checked(objects, ""), *args, **kw)

    def get(self, entity: Any, ident: Any, **kw: Any) -> Any:
        """As `Session.get`."""
        self._check()
        return super().get(entity, ident, **kw)

    def connection(
        self, bind_arguments: Any = None, execution_options: CoreExecuteOptionsParameter | None = None
    ) -> Connection:
        """As `Session.connection`; who takes the connection out keeps it until the unit ends."""
        if bind_arguments and bind_arguments.get("bind") is not None:  # SQLAlchemy asks for no other one then
            bind_arguments = {**bind_arguments, "bind": self.get_bind(**bind_arguments)}
        connection = super().connection(bind_arguments, execution_options)
        holding = self._polysession_holding
        if holding is not None and holding.leases is not None and (lease := lease_of(connection)) is not None:
            lease.keep()
        if holding is not None:
            notice_handing(connection)
        return connection

    def begin(self, nested: bool = False) -> SessionTransaction:
        """As `Session.begin`; refused inside a unit unless nested, since the unit has begun already."""
        holding = self._polysession_holding
        if holding is not None:
            holding.check()
            if not nested:
                self._refuse_in_unit("begin")
        transaction = super().begin(nested)
        if nested and holding is not None:
            transaction.__dict__[_OPENED] = places.caller()
        return transaction

    def expunge_all(self) -> None:
        """As `Session.expunge_all`. At the end of a unit nothing is made anew if there is nothing."""
        holding = self._polysession_holding
        if holding is None or not holding.leaving or self.identity_map or self._new or self._deleted:
            super().expunge_all()
        else:
            self.identity_map._kill()  # nothing is loaded into it any more by a result that is read later

    # -- what ends the session or its transaction

    def commit(self) -> None:
        """As `Session.commit`; refused inside a unit."""
        self._refuse_in_unit("commit")
        super().commit()
        hear()

    def rollback(self) -> None:
        """As `Session.rollback`; refused inside a unit."""
        self._refuse_in_unit("rollback")
        super().rollback()
        hear()

    def prepare(self) -> None:
        """As `Session.prepare`; refused inside a unit."""
        self._refuse_in_unit("prepare")
        super().prepare()

    def reset(self) -> None:
        """As `Session.reset`; refused inside a unit."""
        self._refuse_in_unit("reset")
        super().reset()
        hear()

    def close(self) -> None:
        """End the session for good. A second call does nothing. Refused inside a unit. Any thread or task may call."""
        self._refuse_in_unit("close", owner_only=False)
        self._end(invalidate=False)

    def invalidate(self) -> None:
        """End the session for good and throw its connection away. Refused inside a unit."""
        self._refuse_in_unit("invalidate", owner_only=False)
        self._end(invalidate=True)

    def _end(self, *, invalidate: bool) -> None:
        holding = self._polysession_holding
        try:
            if holding is not None and holding.ended is None:
                mark_objects(self, holding.as_ended())
            if invalidate:
                super().invalidate()
            else:
                super().close()
        finally:
            if holding is not None and holding.kind is HoldKind.SESSION:
                holding.give_up()  # of the connection if an interrupt came before SQLAlchemy had given it back
                holding.end(Outcome.CLOSED)
        hear()

    def _check(self) -> None:
        holding = self._polysession_holding
        if holding is not None:
            holding.check()

    def _checked(self, instances: Iterable[Any], cascade: str) -> list[Any]:
        """What is given to the session together."""
        given = list(instances)
        holding = self._polysession_holding
        if holding is not None:
            holding.check()
            if holding.repeated is not None:
                for instance in given:
                    _refuse_twice(instance, holding, cascade)
            if holding.tenant is not None:
                for instance in given:
                    _refuse_foreign(instance, holding, cascade)
        return given

    def _refuse_in_unit(self, verb: str, *, owner_only: bool = True) -> None:
        holding = self._polysession_holding
        if holding is None or (holding.leaving and (holding.ended is None or verb not in _PROMISES)):
            return
        if holding.kind is HoldKind.UNIT and holding.ended is None:
            what = f"{verb}() was called on the session of unit {holding.name!r}"
            raise holding.owns_commit(what, verb, _INSTEAD.get(verb, _INSTEAD["commit"]))
        if owner_only or holding.is_inherited:
            holding.check()


class _WhenAsked:
    """An attribute that a session has from its beginning, made when somebody asks for it. One that is set counts."""

    __slots__ = ("_make", "_name")

    def __init__(self, make: Callable[[Session], object]) -> None:
        self._make = make

    def __set_name__(self, _: type, name: str) -> None:
        self._name = name

    def __get__(self, session: Session | None, _: type) -> Any:
        if session is None:
            raise AttributeError(self._name)
        made = session.__dict__[self._name] = self._make(session)
        return made


def _enter(session: Session) -> int:
    """The number by which objects know their session: it is entered where `object_session` looks for it."""
    key: int = orm_session._new_sessionid()
    orm_session._sessions[key] = session
    return key


class Shorter(Guarded):
    """With shorter ways on which SQLAlchemy finds at each statement that nothing is to be done.

    Some of its private methods are passed by: only those of versions that were read, and of classes that left these and
    what they call as they are (SQLAlchemy 2.1, orm/session.py: `__init__`, `_is_clean`, `_autoflush`,
    `_execute_internal`, `_connection_for_bind`, `_close_impl`; of `get` see `by_key`).
    """

    identity_map: Any = _WhenAsked(lambda _: identity._WeakInstanceDict())
    hash_key: Any = _WhenAsked(_enter)

    def _is_clean(self) -> bool:
        objects = self.__dict__.get("identity_map")
        return not (self._new or self._deleted or (objects is not None and objects._modified))

    def end_plainly(self) -> bool:
        """End the session of a unit if nothing is left in it: no transaction, no object. False if there is."""
        objects = self.__dict__.get("identity_map")
        if self._transaction is not None or self._new or self._deleted or objects:
            return False
        self._close_state = _SessionCloseState.CLOSED
        if objects is not None:
            objects._kill()  # nothing is loaded into it any more by a result that is read later
        return True

    def get(  # type: ignore[override]  # with the arguments that it has there
        self,
        entity: Any,
        ident: Any,
        *,
        options: Any = None,
        populate_existing: Any = None,
        with_for_update: Any = None,
        identity_token: Any = None,
        execution_options: Any = EMPTY_DICT,
        bind_arguments: Any = None,
    ) -> Any:
        """As `Session.get`; where nothing but class and key is given, by what was found out for that class before."""
        holding = self._polysession_holding
        is_known = True
        if (
            holding is not None
            and type(self) is Shorter
            and Session.get is _get
            and options is None
            and populate_existing is None
            and with_for_update is None
            and identity_token is None
            and not execution_options
            and bind_arguments is None
        ):
            found = find(self, holding, entity, ident)
            if found is UNKNOWN:
                is_known = False
            elif found is not ELSEWHERE:
                return found
        found = super().get(
            entity,
            ident,
            options=options,
            populate_existing=populate_existing,
            with_for_update=with_for_update,
            identity_token=identity_token,
            execution_options=execution_options,
            bind_arguments=bind_arguments,
        )
        if not is_known:
            learn(cast("Holding", holding), entity)
        return found

    def _autoflush(self) -> None:
        objects = self.__dict__.get("identity_map")
        if self._new or self._deleted or (objects is not None and objects._modified):  # else it is clean
            super()._autoflush()

    def _execute_internal(
        self,
        statement: Any,
        params: Any = None,
        *,
        execution_options: Any = EMPTY_DICT,
        bind_arguments: Any = None,
        _parent_execute_state: Any = None,
        _add_event: Any = None,
        _scalar_result: bool = False,
    ) -> Any:
        """Execute. What is a statement already is not made one, where nobody listens and nothing else is asked for."""
        state: Any = None
        if (
            type(statement) not in _STATEMENTS
            or bind_arguments
            or self.execution_options
            or self.dispatch.do_orm_execute
            or _parent_execute_state
            or _add_event
            or (
                statement._propagate_attrs
                and (
                    statement._propagate_attrs.get("compile_state_plugin") != "orm"
                    or (state := CompileState._get_plugin_class_for_plugin(statement, "orm")) is None
                )
            )
        ):
            return super()._execute_internal(
                statement,
                params,
                execution_options=execution_options,
                bind_arguments=bind_arguments,
                _parent_execute_state=_parent_execute_state,
                _add_event=_add_event,
                _scalar_result=_scalar_result,
            )
        options = coerce_to_immutabledict(execution_options)
        if state is not None:
            arguments: dict[str, Any] = {}
            for_events = False  # there are no listeners
            statement, options, params = state.orm_pre_session_exec(
                self, statement, params, options, arguments, for_events
            )
            taken = self._connection_for_bind(self.get_bind(**arguments))
            result = state.orm_execute_statement(self, statement, params or {}, options, arguments, taken)
            return result.scalar() if _scalar_result else result
        objects = self.__dict__.get("identity_map")
        if self._new or self._deleted or (objects is not None and objects._modified):
            self._autoflush()
        connection: Connection | None = None
        holding, transaction = self._polysession_holding, self._transaction
        if (
            holding is not None
            and holding.is_connected
            and transaction is not None
            and transaction._state is _ACTIVE
            and not self._trans_context_manager
            and not holding.models.names_tables
        ):  # as `get_bind` and `_connection_for_bind`
            if holding.user != get_ident() or holding.process is not PROCESS.process:
                holding.check()
            if (holding.access is not _READ or type(statement) in _QUERIES) and (
                not holding.awaits or getattr(getcurrent(), "__sqlalchemy_greenlet_provider__", False)
            ):
                found = transaction._connections.get(cast("Engine", holding.only))
                connection = None if found is None else found[0]
        if connection is None:
            connection = self._connection_for_bind(self.get_bind(clause=statement))
        if _scalar_result:
            return connection.scalar(statement, params or {}, execution_options=options)
        return connection.execute(statement, params, execution_options=options)

    def _connection_for_bind(self, engine: Any, execution_options: Any = None, **kw: Any) -> Connection:
        """The connection that its transaction has, or else takes."""
        transaction: Any = self._transaction
        if execution_options:
            pass
        elif transaction is not None:
            if transaction._state is _ACTIVE and not self._trans_context_manager:
                found = transaction._connections.get(engine)
                if found is not None:
                    return found[0]  # type: ignore[no-any-return]  # a connection
        elif (holding := self._polysession_holding) is not None:
            taken = take(self, holding, engine)
            if taken is not None:
                return taken
        return super()._connection_for_bind(engine, execution_options, **kw)


_ACTIVE: Final = SessionTransactionState.ACTIVE
_STATEMENTS: Final = frozenset((Select, TextClause, Insert, Update, Delete))
"""Of these kinds nothing has to be made a statement; a subclass may be another thing."""
_QUERIES: Final = frozenset((Select, TextClause))
"""Of these a read unit need not be asked whether it may send them by what they are."""
_PASSED_BY: Final = (
    "flush", "_flush", "_is_clean", "_autoflush", "_autobegin_t", "_execute_internal", "_connection_for_bind",
    "_close_impl", "expunge_all",
)  # fmt: skip


def _front_of(base: type[Session]) -> type[Guarded]:
    is_read = known.IS_KNOWN and all(getattr(base, name) is getattr(Session, name) for name in _PASSED_BY)
    return Shorter if is_read else Guarded


_PROMISES: Final = ("commit", "prepare")
"""Verbs that are refused after the end of a unit, too: the others have nothing left to do then, and do nothing."""
_INSTEAD = {
    "commit": (
        "let the block end",
        "split the work into several units",
        "use flush() if only the SQL is to be sent now",
        "use open() for a session that you commit yourself",
    ),
    "rollback": (
        "raise an exception to roll the unit back",
        "use begin_nested() for a part that may fail",
        "use open() for a session that you end yourself",
    ),
    "close": ("let the block end", "use open() for a session that you close yourself"),
    "begin": ("just use the session: the unit has begun", "use begin_nested() for a savepoint"),
}
_INSTEAD["reset"] = _INSTEAD["invalidate"] = _INSTEAD["close"]


def _refuse_twice(instance: object, holding: Holding, cascade: str) -> None:
    from .twice import refuse_twice  # units that are repeated need it

    refuse_twice(instance, holding, cascade)


def _refuse_foreign(instance: object, holding: Holding, cascade: str) -> None:
    from .foreign import refuse_foreign  # units of tenants need it

    refuse_foreign(instance, holding, cascade)


def _read_only(holding: Holding, what: str) -> ReadOnlyUnit:
    return ReadOnlyUnit(
        f"a read unit of {', '.join(holding.databases)} cannot write: {what}",
        why=f"unit {holding.name!r} was opened with read() at {holding.origin}; this was at {places.caller()}",
        do=("open the unit with begin()", "leave the objects unchanged, or expunge them first"),
        unit=holding.name,
    )


def _pending(session: Session) -> str:
    kinds = (("new", session.new), ("changed", session.dirty), ("deleted", session.deleted))
    return ", ".join(f"{len(objects)} {kind}" for kind, objects in kinds if objects) + " objects are pending"


_classes: dict[type[Session], type[Guarded]] = {Session: _front_of(Session)}


def guarded(base: type[S]) -> type[S]:
    """The guarded subclass of `base`; the same one each time."""
    if issubclass(base, Guarded):
        return base
    cls = _classes.get(base)
    if cls is None:
        cls = _classes.setdefault(
            base, cast("type[Guarded]", type(base.__name__, (_front_of(base), base), {"__module__": base.__module__}))
        )
    return cast("type[S]", cls)


def session_of_unit(holding: Holding, engine: Engine | None, keywords: dict[str, Any]) -> Session:
    """The session of a unit.

    It is closed right after its commit: expiring its objects would only make them unreadable.
    """
    if keywords or not _BEGINNING or Session.__init__ is not _init:
        session = guarded(Session)(bind=engine, close_resets_only=False, expire_on_commit=False, **keywords)
        cast("Guarded", session)._polysession_holding = holding
        holding.sync = session
        return session
    session = _new(Shorter)
    had = session.__dict__ = _BEGINNING.copy()
    had["bind"], had["_new"], had["_deleted"], had["_polysession_holding"] = engine, {}, {}, holding
    holding.sync = session  # last: an interrupt leaves none that is half made
    return session


def async_session_of_unit(holding: Holding, engine: Any, keywords: dict[str, Any]) -> AsyncSession:
    """The same for asyncio."""
    cls = guarded(AsyncSession.sync_session_class)
    if keywords or not _BEGINNING or cls is not Shorter or AsyncSession.__init__ is not _init_async:
        session = AsyncSession(
            bind=engine, sync_session_class=cls, close_resets_only=False, expire_on_commit=False, **keywords
        )
        holding.sync = session.sync_session
        holding.sync._polysession_holding = holding
        return session
    session = _new_async(AsyncSession)
    session._async_bind, session._async_binds, session.sync_session_class = engine, {}, cls
    sync = session_of_unit(holding, None if engine is None else engine.sync_engine, keywords)
    session.sync_session = session._proxied = session._assign_proxied(sync)
    return session


def _beginning() -> dict[str, Any]:
    """What all sessions of units have at their beginning, as SQLAlchemy makes it; empty if it was not read."""
    cls = guarded(Session)
    if cls is not Shorter or Session.__init__.__module__ != Session.__module__:
        return {}
    made = vars(cls(close_resets_only=False, expire_on_commit=False))
    return {name: value for name, value in made.items() if name not in _ITS_OWN} | {"dispatch": _heard(cls)}


def _heard(cls: type[Session]) -> Any:
    """Where SQLAlchemy looks for who listens to a session: the same for all of a class, until somebody listens to one
    of them alone. It makes one for each (event/base.py, `dispatcher`, `_Dispatch`; event/registry.py, `listen`)."""
    of_all: Any = Session.dispatch

    class Heard(type(of_all)):  # type: ignore[misc]  # made by SQLAlchemy
        __slots__ = ()

        def _listen(self, event_key: Any, **kw: Any) -> None:
            session = event_key.dispatch_target
            session.dispatch = of_all._for_instance(session)
            session.dispatch._listen(event_key, **kw)

    heard = Heard(of_all, cls)
    for name in heard._event_names:
        getattr(heard, name)  # looked for once
    return heard


_ITS_OWN: Final = ("identity_map", "hash_key", "bind", "_new", "_deleted")
_new: Final = Shorter.__new__
_new_async: Final = AsyncSession.__new__
_init, _init_async, _get = Session.__init__, AsyncSession.__init__, Session.get
"""SQLAlchemy's, unless somebody has put another one there before us; who does it later is heard."""


def holding_of(session: Session) -> Holding | None:
    """What holds `session`; None for one that no door gave out."""
    return cast("Holding | None", getattr(session, _NAME, None))


def _begun(session: Session, transaction: SessionTransaction, connection: Connection) -> None:
    holding = holding_of(session)
    if holding is not None:
        if holding.kind is HoldKind.UNIT and (holding.seen.in_transaction or holding.access is _READ):
            refuse_autocommit(connection, holding)
        holding.begun(connection)
        if len(session.dispatch.after_begin) > 1:
            notice_handing(connection)  # somebody else is given it too
        if holding.access is _READ:
            judge_given(connection, holding)


def _flushing(session: Session, context: Any, instances: Any) -> None:
    """Something is pending; nothing of it is sent yet."""
    holding = holding_of(session)
    if holding is not None and holding.access is _READ:
        raise _read_only(holding, _pending(session))
    if holding is not None and holding.tenant is not None:
        from .foreign import refuse_pending  # as above

        refuse_pending(session, holding)


def _attaching(session: Session, instance: object) -> None:
    """An object is given to the session: by a verb, by a cascade, or by what no verb of ours stands for."""
    holding = holding_of(session)
    if holding is not None and holding.tenant is not None:
        _refuse_foreign(instance, holding, "")


def _committing(session: Session) -> None:
    """A transaction of the session is to be committed; only the unit's own end may do that, and savepoints."""
    holding = holding_of(session)
    if holding is None or holding.leaving or holding.kind is not HoldKind.UNIT or session.in_nested_transaction():
        return
    raise holding.owns_commit(f"the transaction of unit {holding.name!r} was to be committed", "commit")


def refuse_open_savepoint(session: Session, holding: Holding) -> None:
    """Raise `SessionMisuse` if a savepoint is still open where the unit ends: nobody said whether its work counts."""
    open_ = session.get_nested_transaction()
    if open_ is not None:
        raise SessionMisuse(
            f"unit {holding.name!r} ends, and a savepoint inside it is still open",
            why=(
                f"begin_nested() was called at {open_.__dict__.get(_OPENED)}; the unit was opened at {holding.origin}"
            ),
            do=("write `with session.begin_nested():`", "commit() or rollback() what begin_nested() answered"),
            name=holding.name,
        )


def _explain_stranger(session: Session, instance: object, error: InvalidRequestError) -> None:
    """Raise `SessionMisuse` from `error` if the object belongs to another session that one of our doors gave out."""
    other = object_session(instance)
    theirs = None if other is None or other is session else holding_of(other)
    mine = holding_of(session)
    if theirs is not None and mine is not None:
        raise SessionMisuse(
            f"{type(instance).__name__} belongs to another session that is still open, that of {theirs.name!r}",
            why=f"that was opened at {theirs.origin}; used at {places.caller()}, in {mine.name!r}",
            do=("load it in this session: session.get(...)", "merge() a copy of it", "expunge() it there first"),
            name=mine.name,
        ) from error


event.listen(Guarded, "after_begin", _begun)
event.listen(Guarded, "before_flush", _flushing)
event.listen(Guarded, "before_attach", _attaching)
event.listen(Guarded, "before_commit", _committing)
_BEGINNING: Final = _beginning()
