"""What is seen of every statement of a holding: how many, how long, whether its deadline or its transaction is gone.

`Dialect.do_execute`, `do_executemany` and `do_execute_no_params` are the documented methods through which SQLAlchemy
sends every statement (SQLAlchemy documentation, "Core Internals"). They are wrapped on the dialect of each engine of
our making: unlike connection events, which switch SQLAlchemy to its slower path, this costs well under a microsecond.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy.engine import Connection, Engine

from .. import dialects
from ..dialects.base import StatementTimeout
from ..errors import DeadlineExceeded, UnitOwnsCommit, UnitRolledBack
from . import pooled
from .signs import said_by_server, takes_transaction

if TYPE_CHECKING:
    from .holding import Holding

__all__ = ["Watch", "attach", "watch_of", "watch_statements"]

_MARK = "_polysession_watch"
_UNDO = "polysession_undo"
"""Where a connection keeps what undoes a limit that outlived its unit; done before its next use, not before."""
_SLACK = 0.05
"""Seconds by which a statement's own limit may lag behind the deadline before it is said again."""


class Watch:
    """The statements of one holding. Written by its owner alone."""

    __slots__ = (
        "aborted",
        "allowed",
        "bounds",
        "deadline_at",
        "holding",
        "in_database",
        "in_transaction",
        "in_use",
        "limit",
        "lost",
        "statements",
        "timed",
        "waited",
    )

    def __init__(
        self, holding: Holding, deadline: float | None, deadline_at: float | None, *, in_transaction: bool
    ) -> None:
        self.holding = holding
        self.in_transaction = in_transaction
        """Its statements run in a transaction of the server's, not each on its own."""
        self.deadline_at = deadline_at
        """In seconds of `time.monotonic()`."""
        self.allowed = deadline
        self.timed: Any = holding
        """Whose deadline it is: has its name and the place where it was opened."""
        self.bounds: list[tuple[Any, float | None, float | None]] = []
        """The deadlines around the one in force, while a part of the unit has one of its own."""
        self.in_use: threading.Lock | None = None
        """For a session that may change hands: taken while one of its statements is under way."""
        self.statements = 0
        self.in_database = 0.0
        """Seconds in which the database worked or its answer was under way."""
        self.waited = 0.0
        """Seconds spent waiting for a connection."""
        self.limit: float | None = None
        """What the server was last told a statement may take."""
        self.lost: BaseException | None = None
        """After this error the server had rolled back the whole transaction by itself."""
        self.aborted: BaseException | None = None
        """After this error the server answers COMMIT with a rollback, unless a savepoint was returned to."""

    def before(self, connection: Connection) -> None:
        """Refuse a statement that must not be sent; tell the server how long it may take."""
        self.refuse_if_lost(self.lost)
        if self.deadline_at is not None:
            left = self.deadline_at - time.monotonic()
            if left <= 0:
                raise self.exceeded("before a statement")
            if self.limit is None or left < self.limit * 0.9 - _SLACK:
                self.limit = left
                self._limit_statements(connection, left)
        elif self.limit is not None:
            self.limit = None
            self._lift_limit(connection)

    def tighten(self, timed: Any, allowed: float, deadline_at: float) -> None:
        """Until `loosen`, the deadline is that of `timed`, a part of the unit; it must not be a later one."""
        self.bounds.append((self.timed, self.allowed, self.deadline_at))
        self.timed, self.allowed, self.deadline_at = timed, allowed, deadline_at

    def loosen(self, timed: Any) -> None:
        """Undo `tighten`; nothing if the deadline in force is another one's."""
        if self.timed is timed and self.bounds:
            self.timed, self.allowed, self.deadline_at = self.bounds.pop()
            if self.limit is not None:
                self.limit = math.inf  # the server still has the tighter one

    def failed(self, error: BaseException, connection: Connection) -> None:
        """Note an error that took the transaction with it: what is sent next would run in another one."""
        backend = connection.dialect.name
        if self.in_transaction:
            if takes_transaction(error, backend):
                self.lost = error
            elif dialects.of(backend).capabilities.errors_abort and said_by_server(error):
                self.aborted = error
        elif said_by_server(error) and pooled.begin_anew(connection):
            self.limit = None

    def refuse_commit(self) -> None:
        """Raise what makes a COMMIT pointless: the transaction is gone, or the deadline has passed."""
        self.refuse_if_lost(self.lost or self.aborted)
        if self.is_over:
            raise self.exceeded("before COMMIT")

    def refuse_if_lost(self, error: BaseException | None) -> None:
        """Raise `UnitRolledBack` if the server has given up the transaction at `error` and the unit went on."""
        if error is None:
            return
        holding = self.holding
        if isinstance(error, UnitOwnsCommit):
            raise UnitRolledBack(
                f"unit {holding.name!r} is rolled back: {error.what}",
                why=error.why,
                do=error.do,
                unit=holding.name,
            ) from error
        raise UnitRolledBack(
            f"{holding.kind} {holding.name!r} cannot go on: the server has rolled back its whole transaction",
            why=f"{type(error).__name__} was swallowed inside it; it was opened at {holding.origin}",
            do=(
                "let that error pass",
                "put what may fail behind begin_nested()",
                "repeat the whole unit with run() or unit(retry=...)",
            ),
            unit=holding.name,
        ) from error

    def exceeded(self, where: str) -> DeadlineExceeded:
        """The report: how long it took and where the time went."""
        timed = self.timed
        assert self.deadline_at is not None
        assert self.allowed is not None
        total = time.monotonic() - (self.deadline_at - self.allowed)
        allowed = self.allowed
        elsewhere = max(0.0, total - self.in_database - self.waited)
        return DeadlineExceeded(
            f"unit {timed.name!r} took longer than its {allowed:g} s: {total:.2f} s when it was noticed, {where}",
            why=(
                f"{self.waited:.2f} s waiting for a connection, {self.in_database:.2f} s in {self.statements} "
                f"statements, {elsewhere:.2f} s elsewhere; it was opened at {timed.origin}"
            ),
            do=("do less in one unit", "do what is not the database's outside of the unit", "raise its deadline"),
            unit=timed.name,
            deadline=allowed,
            total=total,
            waited=self.waited,
            in_database=self.in_database,
            elsewhere=elsewhere,
        )

    @property
    def is_over(self) -> bool:
        """The deadline has passed."""
        return self.deadline_at is not None and time.monotonic() >= self.deadline_at

    def _limit_statements(self, connection: Connection, seconds: float) -> None:
        # a mysql:// URL may lead to MariaDB, whose setting has another name
        is_mariadb = getattr(connection.dialect, "is_mariadb", False)
        dialect = dialects.of("mariadb" if is_mariadb else connection.dialect.name)
        if dialect.capabilities.statement_timeout is StatementTimeout.CLIENT:
            raw = connection.info.get("polysession_sqlite")
            if raw is not None:
                raw.stop_at(self.deadline_at)
                connection.info[_UNDO] = raw.never_stop
            return
        in_transaction = self.in_transaction or pooled.reads_in_transaction(connection.engine)
        setting = dialect.statement_timeout(seconds, in_transaction=in_transaction)
        if setting is not None:
            _say(connection, setting.apply)
            if setting.undo:
                connection.info[_UNDO] = setting.undo

    def _lift_limit(self, connection: Connection) -> None:
        undo = connection.info.pop(_UNDO, None)
        if undo is None and connection.dialect.name == "postgresql":
            # what was said with SET LOCAL ends with the transaction, but its limit was that of a part of it
            undo = "SET LOCAL statement_timeout TO DEFAULT"
        _undo(connection, undo)


def _undo(connection: Connection, undo: Any) -> None:
    if isinstance(undo, str):
        _say(connection, undo)
    elif undo is not None:
        undo()


def _say(connection: Connection, statement: str) -> None:
    cursor = connection.connection.cursor()
    try:
        cursor.execute(statement)
    finally:
        cursor.close()


def attach(connection: Connection, watch: Watch) -> None:
    """Let `watch` see the statements of this connection until it is given back."""
    setattr(connection, _MARK, watch)
    _undo(connection, connection.info.pop(_UNDO, None))


def watch_of(connection: Connection) -> Watch | None:
    """What sees the statements of this connection; None for one that no session of ours has taken."""
    return getattr(connection, _MARK, None)


def watch_statements(engine: Engine, controls: Mapping[str, str | None] | None = None) -> None:
    """Wrap the methods of the engine's dialect that send a statement.

    `controls` says of a text by which words it begins or ends a transaction: units refuse such a text.
    """
    dialect: Any = engine.dialect
    now = time.perf_counter

    def watched(send: Callable[..., None], context_at: int) -> Callable[..., None]:
        def send_watched(*args: Any, **kwargs: Any) -> None:
            context = kwargs.get("context") or (args[context_at] if len(args) > context_at else None)
            connection: Connection | None = getattr(context, "root_connection", None)
            watch: Watch | None = getattr(connection, _MARK, None)
            if connection is None or watch is None:
                send(*args, **kwargs)
                return
            if controls is not None and (words := controls[args[1]]) is not None:
                watch.holding.refuse_control(words)
            watch.before(connection)
            in_use = watch.in_use
            if in_use is not None and not in_use.acquire(blocking=False):
                watch.holding.refuse_overlap()
            began = now()
            try:
                send(*args, **kwargs)
            except BaseException as error:
                watch.failed(error, connection)
                raise
            else:
                watch.aborted = None  # an aborted transaction takes no statement but a return to a savepoint
            finally:
                if in_use is not None:
                    in_use.release()
                watch.in_database += now() - began
                watch.statements += 1

        return send_watched

    def forgiving(return_to: Callable[..., None]) -> Callable[..., None]:
        def return_watched(connection: Connection, name: str) -> None:
            return_to(connection, name)
            watch: Watch | None = getattr(connection, _MARK, None)
            if watch is not None:
                watch.aborted = None
                if watch.limit is not None:
                    watch.limit = math.inf  # what was set behind the savepoint is undone with it

        return return_watched

    dialect.do_rollback_to_savepoint = forgiving(dialect.do_rollback_to_savepoint)
    dialect.do_execute = watched(dialect.do_execute, 3)
    dialect.do_executemany = watched(dialect.do_executemany, 3)
    dialect.do_execute_no_params = watched(dialect.do_execute_no_params, 2)
