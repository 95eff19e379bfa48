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
import sys
import weakref
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from sqlalchemy.engine import Engine
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.pool import PoolProxiedConnection
from sqlalchemy.pool.base import _ConnectionFairy, _finalize_fairy, reset_rollback

from . import known
from .hygiene import forget_use, is_untouched
from .liveness import LIFE
from .notes import HOLDING
from .over import SAYS_IDLE, is_over

if TYPE_CHECKING:
    from .pool import FairPool

__all__ = ["Proxied", "is_shortened", "proxied", "shorten", "shorten_alone"]

IsDone: TypeAlias = Callable[[Any, bool, bool], bool]
"""Whether a connection of the pool goes back as it is: the record, and whether its transaction was rolled back or was
committed just now."""
_OURS: Final = __name__.rpartition(".")[0] + "."


def shorten(engine: Engine, is_changed: Callable[[Any], bool] | None = None) -> None:
    """Let the connections of this engine go the shorter way, but not one that `is_changed`. For an engine that resets
    what was touched, as soon as all our own listeners are there."""
    pool: Any = engine.pool
    says_idle = SAYS_IDLE.get(engine.dialect.driver)
    events = pool.dispatch
    if not known.IS_KNOWN or says_idle is None or len(events.checkout.listeners):
        return

    pool.is_ours, pool.is_done = True, _is_done(says_idle, is_changed)
    # without those who listened before the engine was made: to the class of all pools, or by a plugin
    pool.heard = max(map(_ours, (events.reset, events.checkin)))


def _ours(listeners: Iterable[Any]) -> int:
    return sum(str(getattr(listener, "__module__", "")).startswith(_OURS) for listener in listeners)


@functools.cache
def _is_done(says_idle: Callable[[Any], bool], is_changed: Callable[[Any], bool] | None) -> IsDone:
    def is_done(record: Any, was_reset: bool, was_committed: bool) -> bool:
        info = record.info
        if not is_untouched(info):
            return False
        if not (was_reset or ((was_committed or is_over(info)) and says_idle(info[LIFE].driver))):
            return False
        if is_changed is not None and is_changed(record):
            return False
        forget_use(info)
        return True

    return is_done


def shorten_alone(pool: FairPool) -> None:
    """The same for a pool below an engine that the application made, where the pool would roll back and nothing else,
    and what the driver says of its transaction is all that there is to know."""
    dialect: Any = pool._dialect
    is_idle = _IS_IDLE.get(getattr(dialect, "driver", ""))
    if (
        known.IS_KNOWN
        and is_idle is not None
        and getattr(dialect.do_rollback, "__func__", None) is DefaultDialect.do_rollback
        and pool._reset_on_return is reset_rollback
        and not pool._pre_ping
    ):
        # our own listeners hear of every pool of this class, and do nothing with a connection that is nobody's
        pool.is_done, pool.heard = is_idle, max(map(_ours, (pool.dispatch.reset, pool.dispatch.checkin)))


def _is_idle(says_idle: Callable[[Any], bool]) -> IsDone:
    def is_done(record: Any, *_: bool) -> bool:
        try:
            return HOLDING not in record.info and says_idle(record.dbapi_connection)
        except AttributeError:
            return False  # the application's `creator` makes something else of it

    return is_done


def _psycopg(driver: Any) -> bool:
    """A transaction in two phases that is prepared is none of the server's any more; psycopg goes on with it until it
    is told what becomes of it (psycopg, _connection_base.py: `_tpc`)."""
    return driver._tpc is None and SAYS_IDLE["psycopg"](driver)


_IS_IDLE: Final = {"psycopg": _is_idle(_psycopg), "pysqlite": _is_idle(SAYS_IDLE["pysqlite"])}
"""By drivers below which SQLAlchemy keeps no state of a transaction itself."""


def is_shortened(pool: FairPool) -> bool:
    """Its connections go the shorter way, as long as nobody else begins to listen."""
    events = pool.dispatch
    heard = len(events.checkout), len(events.reset), len(events.checkin)
    return pool.is_ours and not pool._should_log_debug() and heard == (0, pool.heard, pool.heard)


def proxied(pool: FairPool, record: Any) -> PoolProxiedConnection:
    """What SQLAlchemy's pool would hand out for `record`, that it has taken."""
    made: Any = _new(Proxied)
    made._pool = pool
    made.dbapi_connection = record.dbapi_connection
    made._connection_record = record
    made.info = record.info
    record.fairy_ref = weakref.ref(made, partial(_dropped, record, pool))
    return made  # type: ignore[no-any-return]  # a pooled connection


def _dropped(
    record: Any, pool: Any, reference: object, *, is_finalizing: Callable[[], bool] = sys.is_finalizing
) -> None:
    """The connection of `record` was dropped, and not given back: as SQLAlchemy's finalizer, which does nothing either
    when the interpreter goes down."""
    if not is_finalizing() and record.fairy_ref is reference:
        _finalize_fairy(None, record, pool, None, is_gc_cleanup=True)


def _nothing(_: object) -> None:
    """With a callback the reference is cleared before the callbacks of others run (SQLAlchemy, pool/base.py)."""


class _Finalizer:
    """In the place of SQLAlchemy's `weakref.finalize`, which takes longer to make than all the rest: the reference by
    which a record knows its connection tells when it was dropped."""

    __slots__ = ("_made",)

    def __init__(self, made: Proxied) -> None:
        self._made = made

    def detach(self) -> None:
        """It is not given back when it is dropped."""
        record = self._made._connection_record
        if record is not None and record.fairy_ref is not None and record.fairy_ref() is self._made:
            record.fairy_ref = weakref.ref(self._made, _nothing)


class Proxied(_ConnectionFairy):
    """What is the same for all of them when they are made stands in the class."""

    __slots__ = ()

    _pool: Any
    _connection_record: Any
    _counter = 1
    _echo = None
    _finalizer: Any = property(_Finalizer)

    def commit(self) -> None:
        """That of the connection of DBAPI, which SQLAlchemy's own looks for in two places."""
        self.dbapi_connection.commit()

    def rollback(self) -> None:
        """As `commit`."""
        self.dbapi_connection.rollback()

    def go(self) -> None:
        """`close` for who has committed at this moment: nothing is open."""
        if not self._is_back(False, True):
            super()._checkin()

    def _checkin(self, transaction_was_reset: bool = False) -> None:
        if not self._is_back(transaction_was_reset, False):
            super()._checkin(transaction_was_reset)

    def _is_back(self, was_reset: bool, was_committed: bool) -> bool:
        """Whether it could be given back by the shorter way, and was."""
        record, pool = self._connection_record, self._pool
        is_done: IsDone | None = pool.is_done
        if (
            record is None
            or is_done is None
            or self.dbapi_connection is None
            or record.finalize_callback
            or record.fairy_ref is None
            or len(pool.dispatch.reset) != pool.heard
            or len(pool.dispatch.checkin) != pool.heard
            or not is_done(record, was_reset, was_committed)
        ):
            return False
        record.fairy_ref = None
        pool._do_return_conn(record)
        self.dbapi_connection = None  # type: ignore[assignment]  # as SQLAlchemy itself does it
        self._connection_record = None
        return True


_new: Final = Proxied.__new__
