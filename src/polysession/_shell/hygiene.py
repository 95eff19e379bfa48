"""What a unit sets for the session of its connection is gone when the connection is used again.

Each text is judged before it is sent (`dialects.remains`), and what was found is noted on the connection. The verdicts
are remembered by text, so that for most statements this is one look into a dict. PostgreSQL reports some settings by
itself whenever they change; these are compared when the connection comes back. Who takes the driver's connection out of
the session can do anything with it: then nothing is known.

A connection on which nothing was found goes back as it is, without a round trip. Any other one is reset on its way
back (`resetting`), and closed if that fails, takes too long, or is not known to undo what was found. Behind a pooler in
transaction mode a reset would reach somebody else's connection: there what would last is refused before it is sent.

Two listeners of SQLAlchemy's pool do it (`upkeep`): `reset`, which may wait for the server, and `checkin`, which
follows. An error
never leaves them, or the connection would be lost to the pool.
"""

from __future__ import annotations

import functools
import logging
import sys
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import Pool

from ..dialects.remains import REMAINS, Found, Trace
from ..errors import RequestRefused
from ..topology import Endpoint, Pooler, Reset
from .grace import uninterrupted
from .lease import cursor_of
from .notes import HOLDING, say
from .raw import ReadConnection
from .resetting import reset, seen_by_server
from .sqlite import RAW
from .verdicts import Judge, Order
from .watch import KNOWN, LIMIT, watch_of

if TYPE_CHECKING:
    from sqlalchemy.pool import PoolProxiedConnection

    from .upkeep import Upkeep

__all__ = ["LEAVES_STATE", "forget_use", "is_untouched", "keep_clean", "notice_handing", "was_handed"]

LEAVES_STATE: Final = "polysession_leaves_state"
"""The execution option by which a statement behind a pooler says that its trace is wanted."""
_FOUND = "polysession_found"
"""Where a connection keeps what was found on it since it was taken."""
_NUMBERS = "polysession_numbers"
"""Where a connection keeps that its unit has made numbers of its own."""
_REPORTED = "polysession_reported"
"""Where a connection keeps what the server had reported when it was new, and the question what it reports now."""
_CLOSE = "polysession_close"
"""Where a connection keeps that it must not be used again."""

_UNSEEN: Final = Found(Trace.UNKNOWN, "a use without a session")
_HANDED: Final = Found(Trace.LASTING, "whatever was done with the driver's connection")
_BY_REPORT: Final = Found(Trace.UNKNOWN, "a change that the server has reported")
_ALWAYS: Final = Found(Trace.UNKNOWN, "whatever there is")

_log = logging.getLogger("polysession")


def keep_clean(engine: Engine, endpoint: Endpoint, upkeep: Upkeep) -> Judge | None:
    """Reset this engine's connections when they come back; the judge of what is sent. For engines of our making."""
    how = endpoint.pool.reset
    if how is Reset.NEVER:
        return None
    pooled = endpoint.pooler is Pooler.TRANSACTION
    engine.update_execution_options(**{KNOWN: True})
    upkeep.when_back(_close_if_unfit)
    upkeep.when_new(_remember_reported)
    upkeep.reset = functools.partial(_returned, engine, how is Reset.ALWAYS, pooled)
    return _noting(engine, pooled)


# -- noticing


def _noting(engine: Engine, pooled: bool) -> Judge:
    remains = REMAINS[engine.dialect.name]
    asked: weakref.WeakSet[Pool] = weakref.WeakSet()  # engines that are alike have one judge

    def note(found: Found, context: Any) -> None:
        connection: Connection = context.root_connection
        info = connection.info
        if found.trace is Trace.NUMBERS or found.trace is Trace.ASKS:
            if isinstance(info.get(RAW), ReadConnection):
                return  # it makes no numbers, and forgetting them would write
            pool = connection.engine.pool
            if _NUMBERS not in info and (found.trace is Trace.ASKS or pool in asked):
                asked.add(pool)
                for statement in remains.forget:
                    say(cursor_of(connection), statement)
            if found.trace is Trace.NUMBERS:
                info[_NUMBERS] = True
            return
        if pooled and found.trace is not Trace.UNKNOWN and not context.execution_options.get(LEAVES_STATE):
            raise _refused(found, connection)
        known: Found | None = info.get(_FOUND)
        if known is None or known.trace is not Trace.LASTING:
            info[_FOUND] = found

    def judge(text: str) -> Order | None:
        found = remains.found(text)
        return None if found is None else functools.partial(note, found)

    return judge


def _refused(found: Found, connection: Connection) -> RequestRefused:
    watch = watch_of(connection)
    opened = "" if watch is None else f"; unit {watch.holding.name!r} was opened at {watch.holding.origin}"
    cure = (f"use {found.cure}" if found.trace is not Trace.CURSOR else found.cure,) if found.cure else ()
    return RequestRefused(
        f"{found.words} cannot be sent behind a pooler in transaction mode: it leaves {found.trace}",
        why=f"it would reach whoever gets this connection of the server next, and cannot be undone from here{opened}",
        do=(
            *cure,
            "reach the server itself, not through the pooler",
            f"if others may see it, give the statement the execution option {LEAVES_STATE}=True",
        ),
        words=found.words,
        trace=str(found.trace),
    )


class _Watched(Connection):
    """A connection of a session, that notes when the driver's is taken out of it."""

    @property
    def connection(self) -> PoolProxiedConnection:
        """As `Connection.connection`."""
        taken = super().connection
        if not _is_known(sys._getframe().f_back):
            taken.info[_FOUND] = _HANDED
        return taken


def notice_handing(connection: Connection) -> None:
    """From here on notice when somebody takes the driver's connection out of this one."""
    if not isinstance(connection, _Watched) and connection.engine.get_execution_options().get("polysession"):
        kind: Any = type(connection)
        connection.__class__ = _watched(kind)


@functools.cache
def _watched(base: Any) -> type[Connection]:
    return type(f"Watched{base.__name__}", (_Watched, base), {})


def was_handed(info: Mapping[str, Any]) -> bool:
    """Somebody has taken the driver's connection out of a session: since this one was taken, or, where connections are
    never reset, at any time."""
    return info.get(_FOUND) is _HANDED


def _is_known(frame: Any) -> bool:
    """It is code of SQLAlchemy or of ours, for itself. `AsyncConnection.get_raw_connection` asks for others, in
    a greenlet of its own, where it is the first frame."""
    if frame is None:
        return False
    name = str(frame.f_globals.get("__name__", ""))
    return name.startswith(("sqlalchemy.", "polysession."))


def _remember_reported(connection: Any, record: Any) -> None:
    reported = seen_by_server(record.driver_connection)
    if reported is not None:
        record.info[_REPORTED] = (reported, reported())


# -- coming back


def _returned(engine: Engine, always: bool, pooled: bool, connection: Any, record: Any, state: Any) -> None:
    info = record.info
    holding = info.get(HOLDING)
    info.pop(_NUMBERS, None)
    found: Found | None = info.pop(_FOUND, None)
    if found is None:
        if holding is None:
            found = _UNSEEN
        elif (known := info.get(_REPORTED)) is not None and known[0]() != known[1]:
            found = _BY_REPORT
        elif always:
            found = _ALWAYS
        else:
            return
    if not state.asyncio_safe or state.terminate_only:
        return  # it is thrown away
    if pooled:
        if found.trace is Trace.LASTING:
            info[_CLOSE] = True
        return
    dialect = engine.dialect
    info.pop(LIMIT, None)  # undone with the rest
    try:
        # the others' way to reset does it, or the connection is closed
        if dialect.name == "postgresql" and not state.transaction_was_reset:
            (_roll_back_uninterrupted if dialect.is_async else _roll_back)(connection)
        done = reset(engine, connection, record, found)
    except Exception:
        _log.info("a connection is closed: it could not be reset", exc_info=True)
        done = False
    except BaseException:
        record.invalidate()
        raise
    if not done:
        info[_CLOSE] = True


def is_untouched(info: Mapping[str, Any]) -> bool:
    """Nothing was found on a connection of a session that comes back, and the server has reported nothing."""
    if _FOUND in info or _CLOSE in info or HOLDING not in info:
        return False
    known = info.get(_REPORTED)
    return known is None or known[0]() == known[1]


def forget_use(info: dict[str, Any]) -> None:
    """It has come back untouched: forget what is only noted while it is out."""
    info.pop(_NUMBERS, None)
    info.pop(HOLDING, None)


def _roll_back(connection: Any) -> None:
    connection.rollback()


_roll_back_uninterrupted: Final = uninterrupted(_roll_back, closes=False)


def _close_if_unfit(connection: Any, record: Any) -> None:
    if record.info.pop(_CLOSE, False) and connection is not None:
        record.invalidate()
