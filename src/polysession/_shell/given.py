"""What is said on connections of an engine that the application made itself, for one unit alone, and undone at its end.

Engines of our making are told once, at connect (`engines.py`).
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import event
from sqlalchemy.engine import Connection
from sqlalchemy.util import await_only

from .. import dialects
from . import notes
from .engines import EngineRoom
from .notes import HOLDING
from .sqlite import PROGRESS
from .watch import LIMIT, Watch, watch_of

if TYPE_CHECKING:
    from .holding import Holding

__all__ = ["begin", "begin_immediate", "keep_deadline", "keep_deadlines", "refuse_lost_updates", "refuse_writes", "say"]

_BEFORE: Final = "before_cursor_execute"
_AFTER: Final = "after_cursor_execute"


def begin(connection: Connection, said: Callable[[Connection], None] | None) -> None:
    """Say what the unit's kind needs, and let its deadline end its statements if it has one."""
    if said is not None:
        said(connection)
    holding: Holding = connection.info[HOLDING]
    if holding.seen.deadline_at is not None:
        keep_deadline(connection)


def keep_deadlines(holding: Holding) -> None:
    """A unit that has connections already has got a deadline: let it end the statements of those of given engines."""
    transaction: Any = holding.sync.get_transaction()
    known = transaction._connections.values() if transaction is not None else ()
    for connection in {*(each[0] for each in known), *holding.connections.values()}:
        if watch_of(connection) is holding.seen and not EngineRoom.is_ours(connection.engine):
            keep_deadline(connection)


def keep_deadline(connection: Connection) -> None:
    """Let the server, or SQLite, end what this connection sends until the unit ends when the deadline passes; at the
    end nothing of that is left. A second call does nothing.

    It is looked at in a listener of this one connection: those of the engine's other connections notice nothing.
    """
    if event.contains(connection, _BEFORE, _look):
        return
    event.listen(connection, _BEFORE, _look)
    event.listen(connection, _AFTER, _answered)
    _then(connection, partial(_forget_deadline, connection))


def _look(connection: Connection, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
    watch = watch_of(connection)
    if watch is None or connection.info.get(HOLDING) is not watch.holding:
        return
    if statement in _ASKED.values():
        return
    if statement.startswith("ROLLBACK TO SAVEPOINT"):  # as `sending` does: it must be, and undoes a limit set behind it
        if connection.engine in watch.limits:
            watch.limits[connection.engine] = math.inf
        return
    is_sqlite = connection.dialect.name == "sqlite"
    if not is_sqlite:
        _heed_own(connection, watch)
    before = watch.limits.get(connection.engine)
    watch.before(connection)
    if is_sqlite and watch.limits.get(connection.engine) != before:
        _interrupt(connection, math.inf if watch.deadline_at is None else watch.deadline_at)
    watch.sends()


def _heed_own(connection: Connection, watch: Watch) -> None:
    """Let the application's own limit hold on where it is the sooner one, and again where that of a part is over."""
    engine = connection.engine
    limit = watch.limits.get(engine)
    if limit is None and watch.deadline_at is not None and not watch.is_over:
        asked = connection.exec_driver_sql(_ASKED[_kind(connection)]).scalar()
        own = connection.info[_OWN] = _seconds(str(asked))
        if own:
            watch.limits[engine] = own
    elif limit == math.inf:
        own = connection.info.get(_OWN, 0.0)
        if watch.deadline_at is None or 0 < own <= watch.deadline_at - time.monotonic():
            del watch.limits[engine]
            in_transaction = watch.is_in_transaction(connection)
            cursor = connection.connection.cursor()
            notes.say(cursor, _limit(connection, own, "SET LOCAL" if in_transaction else "SET"))
            if watch.deadline_at is not None:
                watch.limits[engine] = own


def _seconds(shown: str) -> float:
    """A limit as the server shows it: a number of seconds, or one with its unit (PostgreSQL documentation, "Setting
    Parameters")."""
    written = re.fullmatch(r"([0-9.]+)(ms|s|min|h|d)?", shown)
    return float(written[1]) * _UNITS[written[2]] if written is not None else 0.0


_UNITS: Final = {None: 1.0, "ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def _limit(connection: Connection, seconds: float, postgresql: str = "SET") -> str:
    """The text that sets a limit of statements; 0: none."""
    match _kind(connection):
        case "postgresql":
            return f"{postgresql} statement_timeout = {round(seconds * 1000)}"
        case "mariadb":
            return f"SET SESSION max_statement_time = {seconds:.6f}"
        case _:
            return f"SET SESSION max_execution_time = {round(seconds * 1000)}"


def _kind(connection: Connection) -> str:
    """`mysql` is MySQL here, not MariaDB."""
    return "mariadb" if getattr(connection.dialect, "is_mariadb", False) else connection.dialect.name


_ASKED: Final = {
    "postgresql": "SHOW statement_timeout",  # takes no snapshot: SET TRANSACTION may come after it
    "mariadb": "SELECT @@SESSION.max_statement_time",
    "mysql": "SELECT @@SESSION.max_execution_time / 1000",
}
"""How long a statement may take on a connection; 0: as long as it likes."""
_OWN: Final = "polysession_own_limit"
"""Where a connection keeps that, as it was when the unit set its own."""


def _answered(connection: Connection, *_: Any) -> None:
    watch = watch_of(connection)
    if watch is not None and watch.began > watch.ended:
        watch.answered(watch.began)
        watch.statements += 1


def _interrupt(connection: Connection, deadline_at: float) -> None:
    """Interrupt what SQLite does after this moment of `time.monotonic()`; infinity: never (sqlite.org/c3ref/
    progress_handler.html). Waiting for a lock ends when the driver's own timeout says so."""
    driver: Any = connection.connection.driver_connection
    never = deadline_at == math.inf
    set_to = driver.set_progress_handler(None if never else lambda: time.monotonic() >= deadline_at, PROGRESS)
    if set_to is not None:
        await_only(set_to)  # aiosqlite's


def _forget_deadline(connection: Connection) -> None:
    # first: what is undone here or sent by a listener of the commit is not refused, and sets no limit anew
    event.remove(connection, _BEFORE, _look)
    event.remove(connection, _AFTER, _answered)
    own = connection.info.pop(_OWN, 0.0)
    if connection.dialect.name == "sqlite":
        _interrupt(connection, math.inf)
    elif connection.info.pop(LIMIT, None) is not None:
        say(connection, _limit(connection, own))


def refuse_writes(connection: Connection, *, snapshot: bool) -> None:
    """Let an SQLite connection refuse writes until the unit ends (sqlite.org/pragma.html, query_only)."""
    if not connection.exec_driver_sql("PRAGMA query_only").scalar():
        _at_end(connection, "PRAGMA query_only = OFF")
        say(connection, "PRAGMA query_only = ON")
    if snapshot:
        _begin(connection, "BEGIN")  # Python's driver begins none for a SELECT


def begin_immediate(connection: Connection) -> None:
    """Let the transaction of a repeatable unit be the only one that may write, from its first read on.

    One that the application's own settings have begun already stays as it is.
    """
    _begin(connection, "BEGIN IMMEDIATE")


def refuse_lost_updates(connection: Connection) -> None:
    """Let MariaDB refuse lost updates in a repeatable unit, where this server can."""
    dialect: Any = connection.dialect
    if not dialect.is_mariadb:
        return
    guard = dialects.of("mariadb").lost_update_guard(dialect.server_version_info)
    if guard is not None:
        _at_end(connection, guard.undo)
        say(connection, guard.apply)


def say(connection: Connection, statement: str) -> None:
    """Send a statement whose answer does not matter."""
    connection.exec_driver_sql(statement)


def _begin(connection: Connection, statement: str) -> None:
    driver: Any = connection.connection.driver_connection
    if not driver.in_transaction:
        say(connection, statement)


def _at_end(connection: Connection, statement: str) -> None:
    _then(connection, partial(say, connection, statement))


def _then(connection: Connection, undo: Callable[[], None]) -> None:
    """Undo this at the end of the unit as well, before what was noted earlier. Where it cannot be undone, the
    connection is thrown away."""
    holding: Holding = connection.info[HOLDING]
    earlier = holding.at_end

    def undo_all() -> None:
        try:
            if not (connection.closed or connection.invalidated):
                undo()
        except BaseException as error:
            if not connection.invalidated:
                connection.invalidate(error)
            raise
        finally:
            if earlier is not None:
                earlier()

    holding.at_end = undo_all
    if holding.leaving:  # a listener of the commit has taken the connection, after `undo` was called
        event.listen(connection, "commit", lambda _: holding.undo())
