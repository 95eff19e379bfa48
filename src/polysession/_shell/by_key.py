"""An object by its primary key, by the shorter way: `Session.get` without making and compiling a statement anew.

For each call `Session.get` makes a `select()`, works out under which key the compiled statement is remembered, and sets
up how its rows become objects; for one row that takes more than all that the driver does. Here the first call of a
class goes SQLAlchemy's way. What SQLAlchemy has remembered by then (the compiled statement, how its parameters and
columns are converted, which column is which attribute) is kept as a `Plan`, and the next calls send that statement and
fill the object as SQLAlchemy's loader does.

What is asked, in the order of SQLAlchemy: the identity map, then the flush of what is pending, then the server. Not
here, and then by `Session.get` as it is: anything asked for beyond class and key; a class with inheritance, deferred or
eager attributes of the kind that a loader has to see to, or a database of its own; an object that has expired; whoever
listens to the session's statements, to what is loaded, or to the engine; a connection that is not in the state in which
`taking` makes it; a row whose object is in the session already, by another key than was asked for; more rows than one.

None of it is public (SQLAlchemy 2.1, orm/session.py: `Session._get_impl`; orm/loading.py: `_load_on_pk_identity`,
`_instance_processor`, `_populate_full`; engine/default.py: `_init_compiled`; engine/base.py: `_exec_single_context`):
only a version that was read is passed by (`known`). tests/unit/shell/test_by_key.py compares objects, states and
statements with SQLAlchemy's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime
from decimal import Decimal
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final, NoReturn
from uuid import UUID

from greenlet import getcurrent
from sqlalchemy import inspect, select
from sqlalchemy.engine.interfaces import BindTyping
from sqlalchemy.orm import ColumnProperty, Mapper, RelationshipProperty, loading
from sqlalchemy.orm.context import _ORMCompileState
from sqlalchemy.orm.instrumentation import ClassManager
from sqlalchemy.orm.session import SessionTransactionState
from sqlalchemy.orm.strategies import _LazyLoader

from .places import PROCESS
from .taking import Taken, take

if TYPE_CHECKING:
    from .holding import Holding

__all__ = ["ELSEWHERE", "PLANS", "UNKNOWN", "find", "learn"]

PLANS: Final = "polysession_by_key"
"""Where a class of dialects keeps the plans. (`alike` makes the classes.)"""
ELSEWHERE: Final = object()
"""It has to be found by SQLAlchemy."""
UNKNOWN: Final = object()
"""The same; and there may be a plan afterwards."""

_ACTIVE: Final = SessionTransactionState.ACTIVE
_SIMPLE: Final = frozenset((int, str, UUID, date, datetime, Decimal))
"""Types of a key that SQLAlchemy takes as they are."""
_ODD: Final = frozenset(("schema_translate_map", "stream_results", "yield_per", "driver_column_names"))
"""Options of an engine by which a statement is written, sent or read in another way."""
_MOST: Final = 1000
"""Plans of a class of dialects: a program maps its classes anew only by mistake."""


class Plan:
    """How objects of one class are found by the dialects of one class."""

    __slots__ = (
        "bind", "context", "identity_class", "manager", "mapper", "names", "path", "positions", "primary",
        "processors", "props", "quick", "text",
    )  # fmt: skip

    mapper: Any
    manager: Any
    props: Any
    """Of the mapper; other ones once an attribute was added to it."""
    identity_class: type
    path: Any
    """What an object notes as the way on which it was loaded."""
    text: str
    names: tuple[str, ...]
    """Of the parameters, in the order of the key."""
    bind: dict[str, Callable[[Any], Any]]
    """How parameters are converted."""
    positions: tuple[str, ...] | None
    """The parameters in the order of the text; None where they are sent by name."""
    processors: Sequence[Callable[[Any], Any] | None] | None
    """How columns are converted; None where none is."""
    primary: Callable[[Any], tuple[Any, ...]]
    quick: list[tuple[str, Callable[[Any], Any]]]
    context: dict[str, Any]
    """What SQLAlchemy's context of an execution has in each."""


def find(session: Any, holding: Holding, entity: Any, ident: Any) -> Any:
    """The object of this key, None if there is none; or `ELSEWHERE` or `UNKNOWN`. Raises what `Session.get` raises."""
    engine: Any = holding.only
    try:
        dialect = engine.dialect
        plan: Any = dialect.polysession_by_key.get(entity)
    except (AttributeError, TypeError):
        return ELSEWHERE  # a unit of several databases, a dialect that is alone, or nothing that could be mapped
    if type(plan) is not Plan:
        return UNKNOWN if plan is None else ELSEWHERE
    if holding.user != get_ident() or holding.process is not PROCESS.process:
        holding.check()
    if type(ident) in _SIMPLE:
        ident = (ident,)
    elif type(ident) is not tuple or not _SIMPLE.issuperset(map(type, ident)):
        return ELSEWHERE
    manager, listeners = plan.manager, session.dispatch
    if (
        len(ident) != len(plan.names)
        or entity.__dict__.get("_sa_class_manager") is not manager
        or plan.mapper._prop_set is not plan.props
        or session.execution_options
        or listeners.do_orm_execute
        or listeners.loaded_as_persistent
        or manager.dispatch.load
        or holding.models.names_tables
        or (holding.awaits and not getattr(getcurrent(), "__sqlalchemy_greenlet_provider__", False))
    ):
        return ELSEWHERE
    objects = session.__dict__.get("identity_map")
    if objects is not None:
        found = objects.get((plan.identity_class, ident, None))
        if found is not None:
            return ELSEWHERE if found._sa_instance_state.expired else found
    if session._new or session._deleted or (objects is not None and objects._modified):
        session._autoflush()
    connection = _connection(session, holding, engine)
    if (
        connection is None
        or connection._has_events
        or engine._has_events
        or dialect._has_events
        or not _ODD.isdisjoint(connection._execution_options)
    ):
        return ELSEWHERE
    rows = _fetched(plan, connection, dialect, ident)
    if not rows:
        return None
    return ELSEWHERE if len(rows) > 1 else _loaded(plan, session, rows[0])


def _connection(session: Any, holding: Holding, engine: Any) -> Any:
    """The connection of the unit, taken now if it has none, on which a statement can be sent as it is; else None."""
    transaction = session._transaction
    if transaction is None:
        return take(session, holding, engine)
    if transaction._state is not _ACTIVE or session._trans_context_manager:
        return None
    known = transaction._connections.get(engine)
    if known is None:
        return None
    connection: Any
    connection, root, _, _ = known
    if (
        connection._transaction is not root
        or not root.is_active
        or connection._nested_transaction is not None
        or connection._trans_context_manager
        or connection._dbapi_connection is None
        or type(connection) is not Taken
    ):
        return None
    return connection


def _fetched(plan: Plan, connection: Any, dialect: Any, ident: tuple[Any, ...]) -> Sequence[Any]:
    """The rows; as `Connection._execute_context` and the result do it."""
    text, bind = plan.text, plan.bind
    given = dict(zip(plan.names, ident, strict=True))
    context = dialect.execution_ctx_cls.__new__(dialect.execution_ctx_cls)
    had = context.__dict__ = plan.context.copy()
    try:
        values = (
            {name: bind[name](value) if name in bind else value for name, value in given.items()} if bind else given
        )
        parameters: Any = values
        if plan.positions is not None:
            parameters = dialect.execute_sequence_format([values[name] for name in plan.positions])
        had["root_connection"], had["dialect"] = connection, dialect
        had["_dbapi_connection"] = connection._dbapi_connection
        had["execution_options"] = connection._execution_options
        had["compiled_parameters"], had["parameters"] = [given], [parameters]
        cursor = had["cursor"] = context.create_default_cursor()
    except BaseException as error:
        _fail(connection, error, text, [given], None, None)
    context.pre_exec()
    try:
        dialect.do_execute(cursor, text, parameters, context)
        context.post_exec()
    except BaseException as error:
        _fail(connection, error, text, parameters, cursor, context)
    try:
        rows: Sequence[Any] = cursor.fetchall()
    except BaseException as error:
        _fail(connection, error, None, None, cursor, context)
    connection._safe_close_cursor(cursor)
    return rows


def _fail(connection: Any, error: BaseException, *of_what: Any) -> NoReturn:
    connection._handle_dbapi_exception(error, *of_what)
    raise error  # pragma: no cover  # it has raised


def _loaded(plan: Plan, session: Any, row: Any) -> Any:
    """The object of a row that is not in the session yet."""
    if plan.processors is not None:
        row = tuple(
            [value if process is None else process(value) for process, value in zip(plan.processors, row, strict=True)]
        )
    objects = session.identity_map
    key = plan.identity_class, plan.primary(row), None
    if None in key[1] or objects.get(key) is not None:
        return ELSEWHERE
    instance = plan.manager.new_instance()
    state = instance._sa_instance_state
    had = state.__dict__
    had["key"], had["identity_token"], had["session_id"] = key, None, session.hash_key
    objects._add_unpresent(state, key)
    had["load_options"], had["load_path"], had["runid"] = (), plan.path, loading._new_runid()
    values = instance.__dict__
    for name, getter in plan.quick:
        values[name] = getter(row)
    return instance


# -- learning


def learn(holding: Holding, entity: Any) -> None:
    """SQLAlchemy has just looked for an object of this class: remember how, or that it cannot be done here."""
    engine: Any = holding.only
    plans = getattr(engine.dialect, PLANS, None)
    mapper = inspect(entity, raiseerr=False) if isinstance(entity, type) else None
    if plans is None or not isinstance(mapper, Mapper):
        return
    plan: Plan | bool | None = False
    if _is_plain(mapper) and not holding.models.database_of(mapper, None):
        plan = _planned(mapper, engine)
    if plan is not None:
        if len(plans) >= _MOST:
            plans.clear()
        plans[entity] = plan


def _is_plain(mapper: Any) -> bool:
    return (
        mapper.inherits is None
        and mapper.polymorphic_on is None
        and not mapper.polymorphic_map
        and not mapper.always_refresh
        and not mapper._inheriting_mappers
        and type(mapper.class_manager) is ClassManager
    )


def _planned(mapper: Any, engine: Any) -> Plan | bool | None:
    """The plan; False if there is none, None if SQLAlchemy has not sent the statement yet."""
    dialect = engine.dialect
    clause, of_column = mapper._get_clause
    names = tuple(of_column[column].key for column in mapper.primary_key)
    statement: Any = select(mapper)
    statement._where_criteria = (clause,)
    statement._compile_options = _ORMCompileState.default_compile_options
    key = statement._generate_cache_key()
    cache = engine._execution_options.get("compiled_cache", engine._compiled_cache)
    if key is None or cache is None or dialect.bind_typing is BindTyping.SETINPUTSIZES or dialect.server_side_cursors:
        return False
    compiled = cache.get((dialect, key[0], tuple(sorted(names)), False, False))
    metadata = None if compiled is None else compiled._cached_metadata
    if metadata is None:
        return None
    state = compiled.compile_state
    path = mapper._path_registry
    getters = path.get(state.attributes, ("getters", mapper), None)
    if getters is None:
        return None
    populators = getters["cached_populators"]
    if (
        any(populators[kind] for kind in ("new", "deferred", "existing", "eager"))
        or any(must_load for _, must_load in populators["expire"])
        or not all(isinstance(prop, ColumnProperty | RelationshipProperty) for prop in mapper._prop_set)
        or not all(map(_is_loaded_later, getters["todo"]))
        or len(state._entities) != 1
        or state.current_path.path
        or metadata._tuplefilter is not None
        or set(compiled.binds) != set(names)
        or compiled.escaped_bind_names
        or compiled.literal_execute_params
        or compiled.post_compile_params
    ):
        return False
    plan = Plan()
    plan.mapper, plan.manager, plan.props = mapper, mapper.class_manager, mapper._prop_set
    plan.identity_class, plan.path = mapper._identity_class, path
    plan.text, plan.names, plan.bind = compiled.string, names, dict(compiled._bind_processors)
    plan.positions = tuple(compiled.positiontup) if compiled.positional else None
    plan.processors = metadata._effective_processors
    plan.primary, plan.quick = getters["primary_key_getter"], list(populators["quick"])
    plan.context = {
        "compiled": compiled,
        "invoked_statement": statement,
        "extracted_parameters": None,
        "cache_hit": dialect.CACHE_HIT,
        "statement": plan.text,
        "unicode_statement": plan.text,
    }
    return plan


def _is_loaded_later(prop: Any) -> bool:
    """It is loaded when somebody asks for it, by what the class has for that."""
    strategy = prop.strategy
    return type(strategy) is _LazyLoader and bool(strategy.is_class_level)
