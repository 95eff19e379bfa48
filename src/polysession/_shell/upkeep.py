"""What is done with the connections of an engine when they are new and when they come back, with few listeners.

SQLAlchemy keeps a queue and a registry for the listeners of each pool, and its engines bring two listeners of their own
(`create_engine`): together several times of what the rest of an engine needs, once there are many of them. So here the
class of our pools has one listener for each event, and each connection knows the `Upkeep` of its engine.

What SQLAlchemy's two listeners do with a new connection is done here, in the same order: its settings by the dialect
(`Dialect.on_connect`, the isolation level of the engine), and for the first one `Dialect.initialize`. That is not
public, so it is done only with versions that were read for it (`known`); with another one the engine keeps its
listeners.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine

from . import known
from .notes import HOLDING
from .pool import FairPool

__all__ = ["Upkeep"]

_UPKEEP: Final = "polysession_upkeep"
"""Where a connection keeps what is done with it."""

New: TypeAlias = Callable[[Any, Any], None]
"""As a listener of `connect` and `checkin`: is given the connection of DBAPI and the pool's record of it."""


class Upkeep:
    """Of one engine of our making."""

    __slots__ = ("_engine", "_has_met", "back", "connect", "new", "reset")

    def __init__(self) -> None:
        self.new: tuple[New, ...] = ()
        """What is done with a new connection, in this order, after SQLAlchemy's own settings."""
        self.reset: Callable[[Any, Any, Any], None] | None = None
        """As a listener of `reset`."""
        self.back: tuple[New, ...] = ()
        """What is done with one that has come back."""
        self.connect: Callable[[Any], Any]
        """What connects; set when the engine is there."""
        self._engine: Engine | None = None
        self._has_met = False

    def arguments(self) -> dict[str, Any]:
        """For `create_engine`: that it shall add no listeners."""
        return {"_initialize": False} if known.IS_KNOWN else {}

    def of(self, engine: Engine) -> None:
        """It is that of this engine, which was made with its arguments."""
        if known.IS_KNOWN:
            self._engine = engine
            pool: Any = engine.pool
            if pool._is_asyncio:
                # who connects first is waited for; without a listener of its own the pool has that done by a lock
                # of threads, which stops the loop (SQLAlchemy 2.1, event/attr.py, `_get_exec_once_mutex`)
                pool.dispatch.connect.for_modify(pool.dispatch)._set_asyncio()
        else:
            event.listen(engine, "connect", self._settle)  # after SQLAlchemy's

    def create(self, record: Any) -> Any:
        """A connection for `record`, as a `creator` of SQLAlchemy's."""
        record.info[_UPKEEP] = self
        return self.connect(record)

    def when_new(self, do: New) -> None:
        """Do this with a new connection, after all that was said before."""
        self.new += (do,)

    def when_back(self, do: New) -> None:
        """Do this with a connection that comes back, after all that was said before."""
        self.back += (do,)

    def connected(self, connection: Any, record: Any) -> None:
        """A connection was made, or its session at the server is as new."""
        engine = self._engine
        if engine is None:
            return
        dialect: Any = engine.dialect
        for prepare in (dialect.on_connect_url(engine.url), _with_record(dialect._builtin_onconnect(), record)):
            if prepare is not None:
                prepare(connection)
        if not self._has_met:
            _initialize(engine, connection, record)
            self._has_met = True
        self._settle(connection, record)

    def _settle(self, connection: Any, record: Any) -> None:
        for do in self.new:
            do(connection, record)


def _with_record(listener: New | None, record: Any) -> Callable[[Any], None] | None:
    return None if listener is None else lambda connection: listener(connection, record)


def _initialize(engine: Engine, connection: Any, record: Any) -> None:
    """As `first_connect` in SQLAlchemy's `create_engine`; an error leaves it to the next connection."""
    from sqlalchemy.pool.base import _AdhocProxiedConnection

    asking: Any = Connection(
        engine,
        connection=_AdhocProxiedConnection(connection, record),
        _has_events=False,
        _allow_revalidate=False,
        _allow_autobegin=False,
    )
    asking._execution_options = type(asking._execution_options)()
    engine.dialect.initialize(asking)
    if not asking.invalidated and not asking.closed:
        engine.dialect.do_rollback(asking.connection)


def _connected(connection: Any, record: Any) -> None:
    upkeep: Upkeep | None = record.info.get(_UPKEEP)
    if upkeep is not None:
        upkeep.connected(connection, record)


def _reset(connection: Any, record: Any, state: Any) -> None:
    upkeep: Upkeep | None = None if record is None else record.info.get(_UPKEEP)  # it was detached
    if upkeep is not None and upkeep.reset is not None:
        upkeep.reset(connection, record, state)


def _back(connection: Any, record: Any) -> None:
    info = record.info
    info.pop(HOLDING, None)
    upkeep: Upkeep | None = info.get(_UPKEEP)
    if upkeep is not None:
        for do in upkeep.back:
            do(connection, record)


event.listen(FairPool, "connect", _connected)
event.listen(FairPool, "reset", _reset)
event.listen(FairPool, "checkin", _back)
