"""What is seen of every statement of a holding: how many, how long, whether its deadline or its transaction is gone.

`sending` asks before and tells after each statement.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy.engine import Connection, Engine

from .. import dialects
from .._core.plainly import stored_plainly
from ..dialects.base import StatementTimeout
from ..errors import DeadlineExceeded, UnitOwnsCommit, UnitRolledBack
from ..failures import Kind
from . import places, pooled
from .autocommit import is_in_autocommit
from .lease import cursor_of
from .loan import Loan
from .notes import say
from .signs import kind_of, said_by_server, takes_transaction
from .sqlite import RAW

__all__ = ["KNOWN", "LIMIT", "Watch", "attach", "watch_of"]

LIMIT: Final = "polysession_limit"
"""Where a connection keeps the `Limit` that outlived its unit; the next one keeps it, says another, or undoes it."""
KNOWN: Final = "polysession_known"
"""The option of an engine whose connections are reset when something else was set on them."""
_SLACK = 0.05
"""Seconds by which a statement's own limit may lag behind the deadline before it is said again."""


class Limit(NamedTuple):
    """How long the statements of a connection may take, also in the units that come after."""

    seconds: float
    """0.0: it is the deadline of one unit, of no use for another."""
    undo: str | Callable[[], None]

    def serves(self, left: float) -> bool:
        """It is good enough for who has so many seconds left: it ends nothing before."""
        return left <= self.seconds and not _lags(self.seconds, left)


@stored_plainly
class Watch(msgspec.Struct, eq=False):
    """The statements of one holding. Written by its owner alone."""

    allowed: float | None
    """Seconds of its deadline."""
    deadline_at: float | None
    """In seconds of `time.monotonic()`."""
    in_transaction: bool
    """Its statements run in a transaction of the server's, not each on its own."""
    heeds: bool
    """Something has to be looked at before each of its statements: a deadline or limit, a transaction that is lost
    or aborted, a trail to be left, whether it is in use. Set with the first of them: all are one question."""
    holding: Any = None
    """From its beginning until the end of a unit; then its connections are closed, and nothing more is to be seen."""
    timed: Any = None
    """Whose deadline it is: has its name and the place where it was opened."""
    bounds: list[tuple[Any, float | None, float | None]] = []
    """The deadlines around the one in force, while a part of the unit has one of its own."""
    bound_at: float = math.inf
    """For threads: when the links of its holding are broken, in seconds of `time.monotonic()`."""
    severed: bool = False
    """They were."""
    in_use: threading.Lock | None = None
    """For a session that may change hands: taken while one of its statements is under way."""
    statements: int = 0
    in_database: float = 0.0
    """Seconds in which the database worked or its answer was under way."""
    spent_before: tuple[int, float] = (0, 0.0)
    """Statements, and seconds in the database, before it got the connection that it has. (Of a unit over several
    databases: before it got the first one.)"""
    began: float = 0.0
    """When its last statement was sent, in seconds of `time.perf_counter()`."""
    ended: float = math.inf
    """When that statement was over, or its connection was taken after it; the same clock."""
    patience: float = math.inf
    """Seconds for which a transaction may be open without a statement before it is told."""
    returning: bool = False
    """To a savepoint, which must be whatever the time: what is around it may go on."""
    wrote: bool = False
    """Something was sent that may change or lock rows. Known on MariaDB and MySQL only."""
    waited: float = 0.0
    """Seconds spent waiting for a connection."""
    limits: dict[Engine, float] = {}
    """What each server was last told a statement may take."""
    lost: BaseException | None = None
    """After this error the server had rolled back the whole transaction by itself."""
    broken: str = ""
    """The error of a statement that has closed its connection, and where it was sent; empty if there was none."""
    aborted: BaseException | None = None
    """After this error the server answers COMMIT with a rollback, unless a savepoint was returned to."""

    __repr__ = object.__repr__  # who reports an error shows it as a variable; some of it is gone after the end

    def lose(self, error: BaseException) -> None:
        """After this error the transaction is gone. From any thread."""
        self.lost = error
        self.heeds = True

    def heed(self, connection: Connection, statement: str) -> None:
        """What is done before a statement for who `heeds`. Leaves `in_use` taken."""
        if self.lost is not None or self.deadline_at is not None or self.limits:
            self.before(connection)
        holding = self.holding
        if holding.trail is not None:
            holding.trail.saw(statement)
        if self.in_use is not None and not self.in_use.acquire(blocking=False):
            holding.refuse_overlap()

    def before(self, connection: Connection) -> None:
        """Refuse a statement that must not be sent; tell the server how long it may take."""
        self.refuse_if_lost(self.lost)
        if self.returning:
            return
        if self.deadline_at is not None:
            left = self.deadline_at - time.monotonic()
            if left <= 0:
                raise self.exceeded("before a statement")
            limit = self.limits.get(connection.engine)
            if limit is None or _lags(limit, left):
                self._limit_statements(connection, left)
                if self.is_over:  # telling the server has taken the rest of it
                    raise self.exceeded("before a statement")
        elif self.limits and self.limits.pop(connection.engine, None) is not None:
            self._lift_limit(connection)

    def begun(self, connection: Connection, info: Any) -> None:
        """The unit has taken a connection that still has the limit of the one before: this one's own from here on."""
        limit: Limit = info[LIMIT]
        left = self._left()
        if left > 0 and not self._takes_over(limit, left, connection.engine):
            self._limit_statements(connection, left)
        elif left <= 0 and self._ends_with_transaction(connection):
            _say(connection, _DEFAULT)  # a rollback of the unit would undo the undoing
        elif left <= 0:
            _undo(connection, info.pop(LIMIT).undo)

    def reseated(self, loan: Loan) -> None:
        """The unit has another connection: undo what was set for somebody else; what holds here is said anew."""
        self.spent_before = (self.statements, self.in_database)
        assert loan.engine is not None
        self.limits.pop(loan.engine, None)
        limit: Limit | None = loan.info.get(LIMIT)
        if limit is None:
            return
        if (left := self._left()) > 0:
            self._takes_over(limit, left, loan.engine)  # or `before` says its own in its place
            return
        undo = loan.info.pop(LIMIT).undo
        if isinstance(undo, str):
            say(loan.seat().cursor(), undo)
        else:
            undo()

    def _takes_over(self, limit: Limit, left: float, engine: Engine) -> bool:
        if not limit.serves(left) or not engine.get_execution_options().get(KNOWN):
            return False
        self.limits[engine] = limit.seconds
        self.heeds = True
        return True

    def _left(self) -> float:
        """Seconds until its deadline; 0 if it has none."""
        return 0.0 if self.deadline_at is None else self.deadline_at - time.monotonic()

    def sends(self) -> float:
        """COMMIT or ROLLBACK is about to be sent: when. For statements `sending` does the same without a call."""
        began = self.began = time.perf_counter()
        if began - self.ended > self.patience:
            self.resumed(began)
        return began

    def answered(self, began: float) -> None:
        """What was sent then was answered, or has failed."""
        ended = self.ended = time.perf_counter()
        self.in_database += ended - began

    def resumed(self, began: float) -> None:
        """A statement, COMMIT or ROLLBACK is about to be sent, later than `patience` allows: tell where that was."""
        self.holding.idled(began - self.ended)
        self.ended = began  # it is told once

    @property
    def now_in_database(self) -> float:
        """As `in_database`, with what is under way. May be read by any thread."""
        ended, began = self.ended, self.began
        return self.in_database + (time.perf_counter() - began if began > ended else 0.0)

    @property
    def idle(self) -> float:
        """Seconds since its last statement was over, or its connection taken; 0 while one is under way."""
        ended, began = self.ended, self.began
        return 0.0 if began > ended or ended == math.inf else time.perf_counter() - ended

    def tighten(self, timed: Any, allowed: float, deadline_at: float) -> None:
        """Until `loosen`, the deadline is that of `timed`, a part of the unit; it must not be a later one."""
        self.bounds.append((self.timed, self.allowed, self.deadline_at))
        self.timed, self.allowed, self.deadline_at = timed, allowed, deadline_at
        self.heeds = True

    def loosen(self, timed: Any) -> None:
        """Undo `tighten`; nothing if the deadline in force is another one's."""
        if self.timed is timed and self.bounds:
            self.timed, self.allowed, self.deadline_at = self.bounds.pop()
            self.limits = dict.fromkeys(self.limits, math.inf)  # the servers still have the tighter one

    def sever(self) -> None:
        """For the watchdog: break the links of its holding."""
        self.holding.sever(soon=True)

    def failed(self, error: BaseException, connection: Connection) -> None:
        """Note an error that took the transaction with it: what is sent next would run in another one."""
        backend = connection.dialect.name
        kind = kind_of(error, backend, self.holding.access)
        if not isinstance(error, Exception) or kind is Kind.CONNECTION_LOST or kind is Kind.SHUTDOWN:
            self.broken = f"{type(error).__name__} at {places.caller()}"
        is_stale = kind is Kind.SCHEMA_CHANGED and connection.dialect.driver == "psycopg"
        if is_stale and not self.in_transaction:  # else ROLLBACK does it
            _forget_prepared(connection)
        if kind is Kind.DEMOTED or is_stale:
            replace_all: Any = getattr(connection.engine.pool, "replace_all", None)  # of an engine of our making
            if replace_all is not None:
                replace_all()
        if self.in_transaction:
            if takes_transaction(error, backend) and not _is_still_in(connection):
                self.lose(error)
            elif dialects.of(backend).capabilities.errors_abort and said_by_server(error):
                self.aborted = error
                self.heeds = True
        elif said_by_server(error) and pooled.begin_anew(connection):
            self.limits.pop(connection.engine, None)

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
        if isinstance(error, asyncio.CancelledError):
            raise UnitRolledBack(
                f"unit {holding.name!r} is rolled back: the task that waits for it was cancelled, or its time is up",
                why=f"its thread went on until its next statement; it was opened at {holding.origin}",
                do=("let this error pass",),
                unit=holding.name,
            )
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

    def exceeded(self, where: str, part: Any = None) -> DeadlineExceeded:
        """The report: how long it took and where the time went. Of a `part` that has a deadline of its own, which is
        not in force any more, if one is given."""
        timed, allowed, deadline_at = self.timed, self.allowed, self.deadline_at
        if part is not None:
            timed, allowed, deadline_at = part, part.options.deadline, part.deadline_at
        assert deadline_at is not None
        assert allowed is not None
        total = time.monotonic() - (deadline_at - allowed)
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
    def late(self) -> float:
        """Seconds after the deadline in which the server's own limit may still end what is under way; 0 if nothing is,
        or the server has none. As `_lags`, with time for the answer."""
        if not self.limits or self.began <= self.ended or self.allowed is None:
            return 0.0
        return 2 * _SLACK + 0.12 * self.allowed

    @property
    def is_over(self) -> bool:
        """The deadline has passed."""
        return self.deadline_at is not None and time.monotonic() >= self.deadline_at

    def _limit_statements(self, connection: Connection, left: float) -> None:
        seconds = self.limits[connection.engine] = _rounded(left)
        self.heeds = True
        # a mysql:// URL may lead to MariaDB, whose setting has another name
        is_mariadb = getattr(connection.dialect, "is_mariadb", False)
        dialect = dialects.of("mariadb" if is_mariadb else connection.dialect.name)
        if dialect.capabilities.statement_timeout is StatementTimeout.CLIENT:
            raw = connection.info.get(RAW)
            if raw is not None:
                raw.stop_at(self.deadline_at)
                connection.info[LIMIT] = Limit(0.0, raw.never_stop)
            return
        setting = dialect.statement_timeout(seconds, in_transaction=self.is_in_transaction(connection))
        if setting is None:
            return
        if setting.undo:
            connection.info[LIMIT] = Limit(0.0, setting.undo)  # until it is known to be said
        _say(connection, setting.apply)
        if setting.undo:
            connection.info[LIMIT] = Limit(seconds, setting.undo)

    def _lift_limit(self, connection: Connection) -> None:
        if self._ends_with_transaction(connection):
            _say(connection, _DEFAULT)  # its limit was that of a part of the transaction
        elif (limit := connection.info.pop(LIMIT, None)) is not None:
            _undo(connection, limit.undo)

    def is_in_transaction(self, connection: Connection) -> bool:
        """Its statements on this connection run in a transaction; those of reads do over an engine that was given."""
        if self.in_transaction or pooled.reads_in_transaction(connection.engine):
            return True
        is_ours = connection.engine.get_execution_options().get("polysession")
        return not is_ours and not is_in_autocommit(connection, connection.connection)

    def _ends_with_transaction(self, connection: Connection) -> bool:
        """What is set here is undone at the latest when the transaction ends, in one way or another."""
        return connection.dialect.name == "postgresql" and self.is_in_transaction(connection)


def _forget_prepared(connection: Connection) -> None:
    """Have psycopg prepare its statements anew: it keeps one that is out of date until a ROLLBACK."""
    from . import first_flight  # whoever uses another driver needs none of it

    driver: Any = connection.connection.driver_connection
    if first_flight.is_known():
        driver._prepared.clear()  # with the next statement it has the server forget them, too


def _is_still_in(connection: Connection) -> bool:
    """Of SQLite: its transaction is still there. An error takes it or not (sqlite.org/c3ref/interrupt.html)."""
    raw = connection.info.get(RAW) if connection.dialect.name == "sqlite" else None
    return raw is not None and raw.in_transaction


_DEFAULT: Final = "SET LOCAL statement_timeout TO DEFAULT"


def _rounded(left: float) -> float:
    """A little more, in three digits: the same for units with the same deadline, though each has used some of it."""
    grain: float = 10 ** (math.floor(math.log10(left)) - 2)
    return math.ceil(left / grain) * grain


def _lags(limit: float, left: float) -> bool:
    """It would end a statement too late for who has so many seconds left."""
    return left < limit * 0.9 - _SLACK


def _undo(connection: Connection, undo: Any) -> None:
    if isinstance(undo, str):
        _say(connection, undo)
    elif undo is not None:
        undo()


def _say(connection: Connection, statement: str) -> None:
    cursor = cursor_of(connection)
    try:
        cursor.execute(statement)
    except BaseException as error:
        if not isinstance(error, Exception):
            # SQLAlchemy has not seen it: the connection may be in the middle of an answer, and must not be used again
            connection.invalidate(error)
        raise
    finally:
        cursor.close()


def attach(connection: Any, watch: Watch, info: Any) -> None:
    """Let `watch` see the statements of this connection until it is given back; `info` has the notes on it."""
    connection._polysession_watch = watch  # `watch_of` and `sending` read it
    watch.ended = time.perf_counter()
    if watch.statements and watch.holding.only is not None:
        watch.spent_before = (watch.statements, watch.in_database)
    if LIMIT in info:
        watch.begun(connection, info)


def watch_of(connection: Connection) -> Watch | None:
    """What sees the statements of this connection; None for one that no session of ours has taken."""
    return getattr(connection, "_polysession_watch", None)
