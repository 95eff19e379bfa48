"""The shorter ways of an engine of our making: for each what it needs, whether that is there, and what is done if not.

One table. Each row asks the engine itself, by what the code asks that goes the way, or has left on the engine when it
was made; so it says what will happen and not what should. Nothing is connected: that engines are alike is decided when
they meet their servers, and until then it is told of those that may be.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from sqlalchemy.engine import Engine
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import Session

from ..options import Access
from ..topology import Endpoint
from . import known, pooled
from .engines import AnyEngine, EngineRoom
from .finish import is_heard_by_others
from .guard import Guarded, guarded
from .in_thread import takes
from .liveness import listens
from .over import SAYS_IDLE
from .pens import prepares
from .proxied import is_shortened
from .taking import is_plain

__all__ = ["SHORTCUTS", "Shortcut", "Way", "ways"]


class Shortcut(NamedTuple):
    """A shorter way. The texts are for people."""

    name: str
    needs: str
    instead: str
    holds: Callable[[Engine], bool]
    access: Access | None = None
    """Of which engine of an endpoint it is; None: of both, which are asked by the one for writes."""


class Way(NamedTuple):
    """Which way is gone at an endpoint."""

    shortcut: Shortcut
    is_used: bool


def ways(room: EngineRoom, endpoint: Endpoint) -> list[Way]:
    """Those of one endpoint, in the order of the table. Makes its engines, connects nothing. For asyncio: in a loop."""
    write, read = (_plain(room.engine(endpoint, access)) for access in (Access.WRITE, Access.READ))
    if not room.is_ours(write):
        return [Way(shortcut, is_used=False) for shortcut in SHORTCUTS]
    return [
        Way(shortcut, is_used=shortcut.holds(read if shortcut.access is Access.READ else write))
        for shortcut in SHORTCUTS
    ]


def _plain(engine: AnyEngine) -> Engine:
    return engine.sync_engine if isinstance(engine, AsyncEngine) else engine


def _begins_with_statement(engine: Engine) -> bool:
    match engine.dialect.driver:
        case "psycopg":
            from . import first_flight  # whoever uses another driver needs none of it

            return bool(first_flight.arguments(engine.dialect))
        case "asyncpg":
            from . import ahead  # as above

            return ahead.is_known()
        case _:
            return False


def _asks_once(engine: Engine) -> bool:
    from .meeting import ASKS  # whoever uses SQLite alone needs none of it

    return engine.dialect.driver in ASKS


def _is_alike(engine: Engine) -> bool:
    from .alike import why_alone  # it is there when an engine is

    return "compiled_cache" in engine.get_execution_options() and why_alone(engine.dialect) is None


def _executes_plainly(engine: Engine) -> bool:
    return guarded(Session) is not Guarded and not guarded(Session)().dispatch.do_orm_execute


def _commits_plainly(engine: Engine) -> bool:
    return not is_heard_by_others(guarded(Session)())


def _commits_early(engine: Engine) -> bool:
    from .last_flight import can_fly, is_heard  # for units that ask for it

    return can_fly(engine) and not is_heard(guarded(Session)())


def _takes_plainly(engine: Engine) -> bool:
    return guarded(Session) is not Guarded and is_plain(engine)


def _flies_together(engine: Engine) -> bool:
    from .together import can_fly  # few programs need it

    return _pool(engine).lends is True and can_fly(engine)


def _gives_way(engine: Engine) -> bool:
    from .giving_way import gives_way  # whoever uses another driver needs none of it

    return _pool(engine).lends is True and gives_way()


def _pool(engine: Engine) -> Any:
    return engine.pool


SHORTCUTS: Final = (
    Shortcut(
        "reads without a transaction",
        "no pooler in transaction mode before the server",
        "each read unit is one READ ONLY transaction",
        lambda engine: not pooled.reads_in_transaction(engine),
        Access.READ,
    ),
    Shortcut(
        "connections lent to read units between statements",
        "reads without a transaction",
        "a read unit keeps its connection to its end",
        lambda engine: _pool(engine).lends is True,
        Access.READ,
    ),
    Shortcut(
        "BEGIN in the flight of the first statement",
        "psycopg in a version whose cursor was read, and a libpq with pipelines; or asyncpg in one that was read",
        "BEGIN takes a round trip of its own, if the driver sends one",
        _begins_with_statement,
    ),
    Shortcut(
        "no ROLLBACK after COMMIT",
        "a driver of which is known how it tells of an open transaction",
        "SQLAlchemy's pool rolls back every connection that comes back",
        lambda engine: engine.dialect.driver in SAYS_IDLE,
    ),
    Shortcut(
        "untouched connections go back without being looked at by the pool",
        'reset = "touched", no ROLLBACK after COMMIT, a known SQLAlchemy, and nobody who listens to the pool',
        "they go the way of SQLAlchemy's pool",
        lambda engine: is_shortened(_pool(engine)),
    ),
    Shortcut(
        "a unit's connection taken and given back past SQLAlchemy's tables",
        "a known SQLAlchemy, connections that go back without being looked at, and nobody who listens to the engine",
        "the session takes it step by step",
        _takes_plainly,
    ),
    Shortcut(
        "statements executed past the session's own steps",
        "a known SQLAlchemy, a session class that leaves these steps as they are, and nobody who listens to statements",
        "the session looks at each statement step by step",
        _executes_plainly,
    ),
    Shortcut(
        "objects by their keys without making the statement anew",
        "a known SQLAlchemy, an engine that is alike, nobody who listens to statements or to what is loaded; of one "
        "class, no inheritance and nothing that is loaded with it",
        "Session.get makes a statement each time",
        lambda engine: _executes_plainly(engine) and _is_alike(engine) and is_plain(engine),
    ),
    Shortcut(
        "COMMIT past the session's own steps",
        "nobody who listens to the commits of all sessions; of one session, nothing that is pending at its end",
        "the session commits step by step",
        _commits_plainly,
    ),
    Shortcut(
        "COMMIT in the flight of the last statement, for units that ask for it",
        'outcome = "early", psycopg or asyncpg and a SQLAlchemy in versions that were read, nobody who listens to all '
        "sessions; "
        "of one unit, a single object that is new or changed at its end, in one table",
        "COMMIT takes a round trip of its own",
        _commits_early,
    ),
    Shortcut(
        "the queries of batch() in one flight",
        "connections lent to read units, and psycopg in a version that was read",
        "batch() executes them one after the other",
        _flies_together,
        Access.READ,
    ),
    Shortcut(
        "prepared reads that give way to other threads only while they wait",
        "connections lent to read units, psycopg in a version that was read, and its own way to wait, in threads",
        "psycopg gives way at each of its steps",
        lambda engine: engine.dialect.driver == "psycopg" and not engine.dialect.is_async and _gives_way(engine),
        Access.READ,
    ),
    Shortcut(
        "the row of an exact outcome prepared",
        "psycopg in a version that was read, no pooler, and a link that leads to the server itself",
        "the row is sent as a text, together with COMMIT where the driver can",
        prepares,
    ),
    Shortcut(
        "the whole unit of run_sync() in one thread",
        "SQLite by aiosqlite, in versions of it and of SQLAlchemy that were read",
        "at the asynchronous door its function runs in the event loop, below an AsyncSession",
        takes,
    ),
    Shortcut(
        "liveness by listening to the link",
        "a driver whose socket can be reached",
        "a server is asked after a time of idleness; a file has no link",
        lambda engine: listens(engine.dialect.driver),
    ),
    Shortcut(
        "one question at the first connection",
        "a driver of which is known what SQLAlchemy asks",
        "SQLAlchemy asks one thing after the other; of a file it asks without a round trip",
        _asks_once,
    ),
    Shortcut(
        "dialect and compiled statements shared with engines that are alike",
        "a known driver, no listener on the engine's dialect, and a server that tells the same",
        "the engine has a dialect and a cache of its own",
        _is_alike,
    ),
    Shortcut(
        "one listener for the connections of all engines",
        "a version of SQLAlchemy whose create_engine was read",
        "each engine has listeners of its own",
        lambda engine: known.IS_KNOWN,
    ),
)
"""All of them."""
