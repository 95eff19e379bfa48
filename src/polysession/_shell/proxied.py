"""A pooled connection, taken and given back by the shorter way where there is nothing to be done on it.

SQLAlchemy's pool asks its listeners, its log, its options and the dialect on the way of every connection, and finds
nothing to do nearly every time. Here this is found out by a few comparisons: nobody else listens, nothing was found on
the connection (`hygiene`), its transaction is over (`over`). If anything is different the connection goes SQLAlchemy's
own way, and so does every one below a version of SQLAlchemy that this module does not know.

`_ConnectionFairy` is what SQLAlchemy's pool hands out, and not public: it was read for this (`known`; SQLAlchemy 2.1,
pool/base.py: `_ConnectionRecord.checkout`, `_ConnectionFairy._checkout`, `_checkin`, `_finalize_fairy`,
`_ConnectionRecord.checkin`).
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy.engine import Engine
from sqlalchemy.pool import PoolProxiedConnection
from sqlalchemy.pool.base import _ConnectionFairy

from . import known
from .hygiene import forget_use, is_untouched
from .over import SAYS_IDLE, is_over

if TYPE_CHECKING:
    from .pool import FairPool

__all__ = ["is_shortened", "proxied", "shorten"]

_OURS: Final = __name__.rpartition(".")[0] + "."


def shorten(engine: Engine, is_changed: Callable[[Any], bool] | None = None) -> None:
    """Let the connections of this engine go the shorter way, but not one that `is_changed`. For an engine that resets
    what was touched, as soon as all our own listeners are there."""
    pool: Any = engine.pool
    says_idle = SAYS_IDLE.get(engine.dialect.driver)
    events = pool.dispatch
    if not known.IS_KNOWN or says_idle is None or len(events.checkout.listeners):
        return

    pool.is_done = _is_done(says_idle, is_changed)
    # without those who listened before the engine was made: to the class of all pools, or by a plugin
    pool.heard = (
        events.checkout,
        0,
        _ours(events.reset.parent_listeners),
        _ours(events.reset.listeners),
        _ours(events.checkin.parent_listeners),
        _ours(events.checkin.listeners),
    )


def _ours(listeners: Iterable[Any]) -> int:
    return sum(str(getattr(listener, "__module__", "")).startswith(_OURS) for listener in listeners)


@functools.cache
def _is_done(says_idle: Callable[[Any], bool], is_changed: Callable[[Any], bool] | None) -> Callable[[Any, bool], bool]:
    def is_done(record: Any, was_reset: bool) -> bool:
        info = record.info
        if not is_untouched(info) or not (was_reset or (is_over(info) and says_idle(record.driver_connection))):
            return False
        if is_changed is not None and is_changed(record):
            return False
        forget_use(info)
        return True

    return is_done


def _heard(pool: Any) -> tuple[Any, ...]:
    """Who listens to the connections of a pool on their way. To count by `len` is a call for each kind of event."""
    events = pool.dispatch
    checkout, reset, checkin = events.checkout, events.reset, events.checkin
    return (
        checkout,  # another one once somebody listens
        len(checkout.parent_listeners),
        len(reset.parent_listeners),
        len(reset.listeners),
        len(checkin.parent_listeners),
        len(checkin.listeners),
    )


def is_shortened(pool: FairPool) -> bool:
    """Its connections go the shorter way, as long as nobody else begins to listen."""
    return pool.is_done is not None and not pool._should_log_debug() and _heard(pool) == pool.heard


def proxied(pool: FairPool) -> PoolProxiedConnection | None:
    """A connection of `pool` by the shorter way; None if it has to go SQLAlchemy's. Raises as a checkout does."""
    if pool.is_done is None or pool._should_log_debug() or _heard(pool) != pool.heard:  # `is_shortened`, uncalled
        return None
    record: Any = pool._do_get()
    made = _Proxied(pool, record.dbapi_connection, record, None)
    record.fairy_ref = weakref.ref(made, _nothing)
    made._counter = 1
    return made


def _nothing(_: object) -> None:
    """With a callback the reference is cleared before the callbacks of others run (SQLAlchemy, pool/base.py)."""


class _Proxied(_ConnectionFairy):
    __slots__ = ()

    _pool: Any
    _connection_record: Any

    def _checkin(self, transaction_was_reset: bool = False) -> None:
        record, pool = self._connection_record, self._pool
        is_done: Callable[[Any, bool], bool] | None = pool.is_done
        if (
            record is None
            or is_done is None
            or self.dbapi_connection is None
            or record.finalize_callback
            or record.fairy_ref is None
            or _heard(pool) != pool.heard
            or not is_done(record, transaction_was_reset)
        ):
            super()._checkin(transaction_was_reset)
            return
        record.fairy_ref = None
        pool._do_return_conn(record)
        self._finalizer.detach()
        self.dbapi_connection = None  # type: ignore[assignment]  # as SQLAlchemy itself does it
        self._connection_record = None
