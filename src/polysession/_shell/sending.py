"""How a statement is sent by an engine of our making: what is looked at before and after it, in one place.

`Dialect.do_execute`, `do_executemany` and `do_execute_no_params` are the documented methods through which SQLAlchemy
sends every statement (SQLAlchemy documentation, "Core Internals"). Each is wrapped once: unlike connection events,
which switch SQLAlchemy to its slower path, this costs little.

What depends on the text is decided once per text. A *judge* says of a text that nothing has to be done, which is the
usual case, or gives an *order*, that is carried out before the text is sent and may refuse it. All judges together
cost one look into a dict. What depends on the unit (deadline, lost transaction, owner) is its `Watch`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from sqlalchemy.engine import Connection, Engine
from sqlalchemy.engine.default import DefaultDialect

from ..dialects.changing import may_change
from . import known
from .verdicts import Judge, Order, Verdicts
from .watch import Watch, watch_of

__all__ = ["Send", "committing", "controlling", "watch_statements", "wrap_sending"]

Send: TypeAlias = Callable[[Any, str, Any, Any], None]
"""Sends a statement: a cursor, the text, its parameters, SQLAlchemy's context of the execution."""


def watch_statements(engine: Engine, judges: Sequence[Judge]) -> Mapping[str, object | None]:
    """Wrap the methods of the engine's dialect that send a statement; the orders of the first judge go first. Answers
    for which texts there are some."""
    dialect: Any = engine.dialect
    verdicts: Verdicts[tuple[Order, ...]] = Verdicts(_together(judges))
    now = time.perf_counter

    def watched(send: Send) -> Send:
        is_plain = known.IS_KNOWN and getattr(send, "__func__", None) is DefaultDialect.do_execute

        def send_watched(cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
            orders = verdicts[statement]
            if orders is not None and context is not None:
                for order in orders:
                    order(context)
            try:
                watch: Watch = context.root_connection._polysession_watch  # as `watch_of`
            except AttributeError:  # nobody's of ours uses it, or SQLAlchemy gets to know a server
                send(cursor, statement, parameters, context)
                return
            heeds = watch.heeds
            if heeds:
                watch.heed(context.root_connection, statement)
            began = watch.began = now()
            if began - watch.ended > watch.patience:
                watch.resumed(began)
            try:
                if is_plain:
                    cursor.execute(statement, parameters)
                else:
                    send(cursor, statement, parameters, context)
            except BaseException as error:
                watch.failed(error, context.root_connection)
                raise
            else:
                if heeds:
                    watch.aborted = None  # an aborted transaction takes no statement but a return to a savepoint
            finally:
                if heeds and watch.in_use is not None:
                    watch.in_use.release()
                ended = watch.ended = now()
                watch.in_database += ended - began
                watch.statements += 1

        return send_watched

    dialect.do_rollback_to_savepoint = _forgiving(dialect.do_rollback_to_savepoint)
    wrap_sending(dialect, watched)
    return verdicts


def _forgiving(return_to: Callable[..., None]) -> Callable[..., None]:
    """What returns to a savepoint: an error that came behind it is undone, and so is a limit that was set there."""

    def return_watched(connection: Connection, name: str) -> None:
        watch = watch_of(connection)
        if watch is None:
            return_to(connection, name)
            return
        watch.returning = True
        try:
            return_to(connection, name)
        finally:
            watch.returning = False
        watch.aborted = None
        if connection.engine in watch.limits:
            watch.limits[connection.engine] = math.inf

    return return_watched


def wrap_sending(dialect: Any, wrap: Callable[[Send], Send]) -> None:
    """Wrap the three methods of a dialect that send a statement."""
    dialect.do_execute = wrap(dialect.do_execute)
    dialect.do_executemany = wrap(dialect.do_executemany)
    without = dialect.do_execute_no_params

    def send_without(cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
        without(cursor, statement, context)

    wrapped = wrap(send_without)

    def do_execute_no_params(cursor: Any, statement: str, context: Any = None) -> None:
        wrapped(cursor, statement, None, context)

    dialect.do_execute_no_params = do_execute_no_params


def _together(judges: Sequence[Judge]) -> Callable[[str], tuple[Order, ...] | None]:
    def judge(text: str) -> tuple[Order, ...] | None:
        return tuple(order for each in judges if (order := each(text)) is not None) or None

    return judge


def controlling(control: Callable[[str], str | None]) -> Judge:
    """The judge of units that may write: refuses a text that begins or ends a transaction, by the words it is told."""

    def judge(text: str) -> Order | None:
        words = control(text)
        if words is None:
            return None

        def refuse(context: Any) -> None:
            watch = watch_of(context.root_connection)
            if watch is not None:
                watch.holding.refuse_control(words)

        return refuse

    return judge


def committing(commits_before: Callable[[str], str | None]) -> Judge:
    """The judge of units that may write, where some statements commit by themselves: one is let pass as long as there
    is nothing that it would commit."""

    def judge(text: str) -> Order | None:
        words = commits_before(text)
        if words is None:
            return _note_write if may_change(text) else None

        def refuse(context: Any) -> None:
            watch = watch_of(context.root_connection)
            if watch is not None and watch.wrote:
                watch.holding.refuse_committing(words)

        return refuse

    return judge


def _note_write(context: Any) -> None:
    watch = watch_of(context.root_connection)
    if watch is not None:
        watch.wrote = True
