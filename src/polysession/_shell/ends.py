"""COMMIT and ROLLBACK on their way out: a unit is told, and a ROLLBACK that would end nothing is not sent.

`Dialect.do_commit` and `do_rollback` are the documented methods that send them (SQLAlchemy documentation, "Core
Internals"). An error before COMMIT goes out is known to be before it. A unit whose end it is not refuses a COMMIT, and
goes no further after a ROLLBACK. A transaction that is over is not rolled back once more (`over`).
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from sqlalchemy.engine import Engine

from . import grace, sqlite
from .notes import HOLDING, notes_of
from .over import SAYS_IDLE, is_over, note_end
from .patience import patience
from .pens import ANSWER_WITHIN, PEN

if TYPE_CHECKING:
    from .holding import Holding

__all__ = ["note_ends"]

End: TypeAlias = Callable[[Any], None]
"""Ends the transaction of a connection, which it is given as SQLAlchemy's pool has it."""


def note_ends(engine: Engine) -> None:
    """Let who holds a connection of this engine know when COMMIT or ROLLBACK goes out on it."""
    dialect: Any = engine.dialect
    dialect.do_commit = _committing(dialect, dialect.do_commit)
    dialect.do_rollback = _rolling_back(dialect, dialect.do_rollback)


def _committing(dialect: Any, do_commit: End) -> End:
    def commit(connection: Any) -> None:
        info = notes_of(connection)
        raw: sqlite.Connection | None = info.get(sqlite.RAW)
        if raw is not None and not raw.is_open:
            raise _closed()
        holding: Holding | None = info.get(HOLDING)
        if holding is None:
            do_commit(connection)
            return
        if not holding.leaving:
            holding.refuse_early_commit()
        seen = holding.seen
        began = seen.sends()
        try:
            if holding.trail is not None and holding.leaving:
                try:
                    holding.trail.commit(info[PEN], connection, do_commit, seen.statements)
                finally:
                    holding.commit_sent = holding.trail.sent
            else:
                holding.commit_sent = True
                do_commit(connection)
        finally:
            seen.answered(began)
        note_end(info, holding)

    return commit


def _rolling_back(dialect: Any, do_rollback: End) -> End:
    says_idle = SAYS_IDLE.get(dialect.driver)

    def rollback(connection: Any) -> None:
        info = notes_of(connection)
        driver = getattr(connection, "driver_connection", connection)
        if says_idle is not None and driver is not None and is_over(info) and says_idle(driver):
            return  # one that was detached cannot be asked
        holding: Holding | None = info.get(HOLDING)
        if holding is None:
            with patience(driver, _time_to_roll_back(dialect, info, None)):
                do_rollback(connection)
            return
        holding.note_early_rollback()
        seen = holding.seen
        began = seen.sends()
        try:
            with patience(driver, _time_to_roll_back(dialect, info, holding)):
                do_rollback(connection)
        finally:
            seen.answered(began)
        note_end(info, holding)

    return rollback


def _closed() -> sqlite3.ProgrammingError:
    """SQLAlchemy's adapter of aiosqlite takes a COMMIT on a closed connection for done; by these words of Python's
    driver its dialects know that the connection is lost."""
    return sqlite3.ProgrammingError("Cannot operate on a closed database.")


def _time_to_roll_back(dialect: Any, info: Mapping[str, Any], holding: Holding | None) -> float | None:
    """Seconds that a rollback may take; None where it is bounded as a part of something else."""
    if PEN in info and (holding is None or holding.leaving):
        # of a unit that knows its outcome, also when the pool takes the connection back: a link that leads nowhere must
        # not hold up what is known already
        return ANSWER_WITHIN
    return None if dialect.is_async or (holding is not None and holding.seen.bound_at < math.inf) else grace.GRACE
