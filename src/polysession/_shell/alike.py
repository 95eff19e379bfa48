"""Engines that are alike share what SQLAlchemy knows and has compiled: its dialect, and the cache of statements.

Every engine has a dialect of its own, which remembers what the server is able to do, how each type is converted, and
for the engine's cache how each statement is written. With many databases on servers of one version all of that is the
same many times over, and each statement is compiled once more for each of them.

So when an engine has met its server (`Dialect.initialize`), all that its dialect knows is compared with what those
know that came before it. If it is the same, down to the last attribute, the engine goes on with theirs: its dialect
becomes an instance of a class that they have in common, which holds what is the same; by itself it keeps only what is
said of one database. Two dialects of such a class are equal, so a statement that was compiled for one of them is found
for the other in the cache that both engines were given (`compiled_cache`, a documented execution option).

A dialect is the object to which SQLAlchemy attaches listeners of an engine (`handle_error`, `do_execute`): since each
engine keeps an object of its own, a listener hears what it was attached to and nothing else.

What is not known for certain to be the same is not shared: an attribute of a kind that nobody has thought of, one that
something else than this package has set, listeners that are there already, another driver. Such an engine keeps its
dialect and a cache of its own, as SQLAlchemy made it (`why_alone` says what it was).

Thread-safe without a lock: two engines that meet the same server at the same moment may end up apart, which costs
memory and nothing else.
"""

from __future__ import annotations

import functools
import inspect
import types
import weakref
from collections.abc import Callable, Hashable, Mapping
from contextlib import suppress
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any, Final

from sqlalchemy import util
from sqlalchemy.engine import Engine
from sqlalchemy.sql.compiler import IdentifierPreparer, TypeCompiler

from .by_key import PLANS

__all__ = ["DRIVERS", "is_shared", "share", "why_alone"]

DRIVERS: Final = frozenset(("psycopg", "asyncpg", "pymysql", "asyncmy", "pysqlite", "aiosqlite"))
"""The drivers whose dialects were read for this."""
_OWN: Final = frozenset(("default_schema_name", "dispatch", "_has_events", "initialize"))
"""The attributes of a dialect that say something of one database or engine; they take no part in how a statement is
compiled (SQLAlchemy, `dialects/*/base.py`: the schema is the one for reflection)."""
_CLASS: Final = "polysession_alike"
"""Where a class of dialects that are alike keeps what could not be compared by value."""
_ALONE: Final = "polysession_alone"
"""Where a dialect keeps why it is shared with nobody."""

_ENTRIES: Final = 500
"""Statements in the cache of one engine (SQLAlchemy documentation, `create_engine.query_cache_size`)."""
_TIMES: Final = 8
"""How many times that a shared cache holds at most."""


class _Cache(util.LRUCache[Any, Any]):
    """As SQLAlchemy's for one engine; grows with the engines that share it."""

    __slots__ = ("__weakref__", "engines")

    def __init__(self) -> None:
        super().__init__(_ENTRIES)
        self.engines = 0

    def joined(self) -> None:
        """One engine more."""
        self.engines = min(self.engines + 1, _TIMES)
        self.capacity = _ENTRIES * self.engines


_caches: weakref.WeakValueDictionary[Hashable, _Cache] = weakref.WeakValueDictionary()
_classes: weakref.WeakValueDictionary[Hashable, Any] = weakref.WeakValueDictionary()


def share(engine: Engine, made_for: Hashable) -> None:
    """Let the engine get to know its server in one question, and share its dialect then. For engines of our making.

    `made_for` says all that decided how its dialect was changed here. Marks it as ours.
    """
    dialect: Any = engine.dialect
    initialize = dialect.initialize if dialect.name == "sqlite" else _in_one_question(dialect)
    key = (type(dialect), made_for)
    is_known = dialect.driver in DRIVERS and not _is_listened_to(dialect)
    options: dict[str, Any] = {"polysession": True}
    if is_known:
        cache = _caches.get(key)
        if cache is None:
            cache = _caches[key] = _Cache()
        cache.joined()
        options["compiled_cache"] = cache
    engine.update_execution_options(**options)

    def initialize_once(connection: Any) -> None:
        in_one = initialize(connection)
        # only now: after an error the next connection asks anew
        dialect.__dict__.pop("initialize", None)
        alone = _join(dialect, key) if is_known else "it has listeners, or its driver is not known here"
        if alone is not None:
            dialect.__dict__[_ALONE] = alone
            engine.update_execution_options(compiled_cache=engine._compiled_cache)
        if in_one:
            in_one()

    dialect.initialize = initialize_once


def _in_one_question(dialect: Any) -> Callable[[Any], Callable[[], None] | None]:
    """As `Dialect.initialize`; answers what is to be done after it."""
    from . import meeting  # whoever uses SQLite alone needs none of it

    return functools.partial(meeting.meet, dialect, dialect.initialize)


def is_shared(dialect: Any) -> bool:
    """It has met its server, and shares what it knows with all that are alike."""
    return _CLASS in type(dialect).__dict__


def why_alone(dialect: Any) -> str | None:
    """Why it is shared with nobody; None if it is, or has met no server yet."""
    found: str | None = dialect.__dict__.get(_ALONE)
    return found


def _join(dialect: Any, key: Hashable) -> str | None:
    """Let it be one of those that are alike; or say why not."""
    if is_shared(dialect):
        return None  # two threads have connected at the same moment
    if _is_listened_to(dialect):
        return "it has listeners"
    base = type(dialect)
    values: dict[str, Hashable] = {}
    objects: dict[str, Any] = {}
    for name, value in dialect.__dict__.items():
        if name in _OWN or _is_memoized(base, name, value):
            continue
        if isinstance(value, FunctionType) and value.__module__.startswith("polysession."):
            values[name] = value.__qualname__  # made by ourselves, and how is in the key
        elif _is_plain(value):
            values[name] = value
        elif isinstance(value, dict) or _kind(value) is not None:
            objects[name] = value
        else:
            return f"its attribute {name} is of a kind that is not known here"
    try:
        found = (key, frozenset(values.items()), frozenset(objects))
        hash(found)
    except TypeError:
        return "one of its attributes cannot be compared"
    number = 0
    while (known := _classes.get((found, number))) is not None:
        if all(_same(value, known.__dict__[_CLASS][name]) for name, value in objects.items()):
            break
        number += 1
    if known is None:
        known = _classes[found, number] = _made_of(dialect, objects)
    own = {name: value for name, value in dialect.__dict__.items() if name in _OWN}
    own.pop("dispatch", None)  # without listeners; the class has those that were attached to all dialects
    dialect.__class__ = known
    dialect.__dict__ = own
    return None


def _is_listened_to(dialect: Any) -> bool:
    """This one, and not all dialects."""
    return "_has_events" in dialect.__dict__


def _made_of(dialect: Any, objects: Mapping[str, Any]) -> Any:
    """The class of all that are like this one."""
    base: Any = type(dialect)
    for name in _LATER:
        with suppress(Exception):  # it has none
            getattr(dialect, name)
    attributes = {name: _fixed(value) for name, value in dialect.__dict__.items() if name not in _OWN}
    attributes |= {
        _CLASS: objects,
        PLANS: {},
        "__module__": base.__module__,
        "__doc__": base.__doc__,
        "__hash__": object().__hash__,  # one for all instances
        # SQLAlchemy looks for this one in the class itself
        "supports_statement_cache": base.supports_statement_cache,
    }
    made: Any = types.new_class(base.__name__, (base,), exec_body=lambda namespace: namespace.update(attributes))
    # whatever is an instance of it is alike. As `__hash__` it is bound already, and no function of Python: the cache
    # compares the two at each statement whose database is not the one for which it was compiled
    made.__eq__ = made.__instancecheck__
    return made


_LATER: Final = (
    "_bind_typing_render_casts", "_isolation_lookup", "_psycopg_Json",
    "_psycopg_Jsonb", "_psycopg_Multirange", "_psycopg_Range", "_psycopg_TransactionStatus", "_send_false_to_ping",
    "_supports_statement_cache", "_type_memos", "insert_executemany_returning",
    "insert_executemany_returning_sort_by_parameter_order", "loaded_dbapi",
)  # fmt: skip
"""What a dialect works out when it is first used; it is used for all that are alike."""


def _fixed(value: Any) -> Any:
    """As an attribute of a class what it was as one of an instance."""
    return staticmethod(value) if hasattr(type(value), "__get__") else value


def _is_memoized(base: type, name: str, value: Any) -> bool:
    """SQLAlchemy works it out of the others when it is first asked for."""
    if isinstance(value, FunctionType) and value.__module__ == util.memoized_property.__module__:
        return True  # what a memoized method answers
    return isinstance(inspect.getattr_static(base, name, None), util.generic_fn_descriptor)


_PLAIN: Final = (
    bool, int, float, str, bytes, tuple, frozenset, type, type(None), ModuleType, FunctionType, BuiltinFunctionType
)  # fmt: skip


def _is_plain(value: Any) -> bool:
    return isinstance(value, _PLAIN)


def _kind(value: Any) -> str | None:
    """How an object is compared: one that the dialect makes of its other attributes by its class."""
    kind = type(value)
    if isinstance(value, IdentifierPreparer | TypeCompiler):
        return "made"
    if any(each.__name__ == "AsyncAdapt_dbapi_module" for each in kind.__mro__):
        return "made"  # the driver as SQLAlchemy's adapter has it
    if kind.__module__ == "psycopg.adapt" and kind.__name__ == "AdaptersMap":
        return "adapters"
    return None


def _same(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    match _kind(one):
        case "made":
            return True
        case "adapters":
            return one is other or _contents(one) == _contents(other)
        case _:
            return bool(one == other)


def _contents(adapters: Any) -> Any:
    """How psycopg converts the types of one engine's connections."""
    return adapters._dumpers, adapters._dumpers_by_oid, adapters._loaders, adapters.types._registry
