"""How the transaction of a unit begins on each engine: what its connection is told, by the driver or by statements."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from sqlalchemy.engine import Connection, Engine

from .. import dialects
from ..options import Access, UnitOptions
from . import pooled, sqlite
from .engines import EngineRoom
from .loan import Loan
from .notes import HOLDING

__all__ = ["UNASKED", "begin_sqlite", "said_at_begin", "said_at_each_begin", "told_options"]

UNASKED: Final = UnitOptions(databases=())
"""The options of a session that its owner ends: nothing was asked for."""


def told_options(options: UnitOptions, transaction: bool, engine: Engine) -> dict[str, Any]:
    """What a connection is told about its transaction where the driver can carry it."""
    backend = engine.dialect.name
    asked: dict[str, Any] = {}
    if backend == "sqlite":
        return {}  # every SQLite transaction is serializable; how it begins is said at its begin
    dialect = dialects.of(backend)
    level = dialect.given(options.isolation, snapshot=options.snapshot)
    if not transaction and not pooled.reads_in_transaction(engine):
        asked["isolation_level"] = "AUTOCOMMIT"
    elif level is not None:
        asked["isolation_level"] = str(level)
    elif options.repeatable and dialect.capabilities.repeatable_isolation is not None:
        asked["isolation_level"] = str(dialect.capabilities.repeatable_isolation)
    if options.access is Access.READ and backend == "postgresql" and not EngineRoom.is_ours(engine):
        asked["postgresql_readonly"] = True
    return asked


def said_at_each_begin(
    options: UnitOptions, transaction: bool, engines: Mapping[str, Engine]
) -> Callable[[Connection], None] | None:
    """As `said_at_begin`, for a unit over one or several databases, which may be of different kinds."""
    if len(engines) == 1:
        return said_at_begin(options, transaction, next(iter(engines.values())))

    def say(connection: Connection) -> None:
        # looked up by the connection: a plan outlives the engines of the event loop, or the process, that made it
        begin = said_at_begin(options, transaction, connection.engine)
        if begin is not None:
            begin(connection)

    return say


def said_at_begin(options: UnitOptions, transaction: bool, engine: Engine) -> Callable[[Connection], None] | None:
    """What is said on the connection when the session takes it, where the driver cannot carry it."""
    backend = engine.dialect.name
    ours = EngineRoom.is_ours(engine)
    if backend == "sqlite" and ours:
        begin = _sqlite_begin(options, transaction)
        return partial(begin_sqlite, begin)
    if ours:
        return None
    from . import given  # whoever gives no engines needs none of it

    said: Callable[[Connection], None] | None = None
    if options.access is Access.READ:
        if backend == "sqlite":
            said = partial(given.refuse_writes, snapshot=options.snapshot)
        elif backend in ("mysql", "mariadb"):
            said = partial(given.say, statement="SET TRANSACTION READ ONLY")
    elif options.repeatable:
        if backend == "sqlite":
            said = given.begin_immediate
        elif backend in ("mysql", "mariadb"):
            said = given.refuse_lost_updates
    return partial(given.begin, said=said)


def _sqlite_begin(options: UnitOptions, transaction: bool) -> sqlite.Begin:
    if not transaction:
        return sqlite.Begin.NONE
    if options.access is Access.READ:
        return sqlite.Begin.DEFERRED if options.snapshot else sqlite.Begin.NONE
    return sqlite.Begin.DEFERRED if options is UNASKED else sqlite.Begin.IMMEDIATE


def begin_sqlite(begin: sqlite.Begin, connection: Connection | Loan) -> None:
    """Say whose transaction begins on this connection, and how; nothing for an engine that is not of our making."""
    info = connection.info
    raw: sqlite.Connection | None = info.get(sqlite.RAW)
    if raw is not None:
        raw.begin = begin
        holding = info.get(HOLDING)
        raw.belong(0 if holding is None else holding.id)
