"""What a unit that knows its outcome does on its own connection: its row goes out with COMMIT, or its key's at the
beginning.

How the row is sent is the matter of `pens`. A unit that has changed nothing writes no row: the texts of its statements
tell; in doubt PostgreSQL is asked in the same message, and elsewhere the row is written.
"""

from __future__ import annotations

import functools
import logging
import os
import random
import time
import uuid
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sqlalchemy import event, text
from sqlalchemy.engine import Connection

from ..dialects.changing import may_change, surely_changes
from ..policy import unit_ids
from .notes import say
from .patience import patience
from .pens import ANSWER_WITHIN, PEN, Pen, marker_of, pen_for

if TYPE_CHECKING:
    from .holding import Holding

__all__ = ["Trail"]

_log = logging.getLogger("polysession")

_random = random.Random()  # noqa: S311  # ids are to differ, not to be secret; the system's source takes ten times as long
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_random.seed)


class Trail:
    """What a unit leaves behind, and what is known of its COMMIT. Belongs to its holding."""

    __slots__ = ("asked_at", "attempt", "backend", "key", "result", "sent", "server", "sure", "unit", "wrote")

    def __init__(self, key: str | None) -> None:
        self.key = unit_ids.key_id(key) if key is not None else ""
        self.attempt = str(uuid.uuid4()) if self.key else ""
        self.unit = ""
        """The id in its row; empty as long as no row was sent."""
        self.server = 0
        self.backend = 0
        self.asked_at = 0.0
        """When the database began to be asked, in seconds of `time.monotonic()`."""
        self.sent = False
        """COMMIT, or the message that it is in, has left."""
        self.wrote = False
        """A statement that may change something was seen."""
        self.sure = False
        """One that surely changes something, or makes COMMIT do something though nothing was changed: PostgreSQL's
        NOTIFY."""
        self.result: str | None = None
        """What is kept with the key."""

    def begun(self, connection: Connection, info: MutableMapping[str, Any], holding: Holding) -> None:
        """The session of its holding took this connection; `info` has the notes on it."""
        pen: Pen | None = info.get(PEN)
        if pen is None:
            pen = info[PEN] = pen_for(connection, is_ours=holding.notes_commit)
        self.server, self.backend = pen.server, pen.backend
        if not pen.is_ours:  # an engine of ours does it where COMMIT is sent
            event.listen(connection, "commit", self._mark)

    def saw(self, statement: str) -> None:
        """A statement is to be sent."""
        if self.sure and self.wrote:
            return
        changes, surely = _judge(statement)
        if changes:
            self.wrote = True
        if surely:
            self.sure = True

    def commit(self, pen: Pen, connection: Any, do_commit: Callable[[Any], None], statements: int) -> None:
        """Send the row and COMMIT; `connection` as `Dialect.do_commit` gets it, and its pen."""
        if self.key:
            self.unit = self.key  # its row is there since the beginning
            pen.commit_alone(self, connection, do_commit)
        elif self.wrote or statements == 0 or pen.marker.if_wrote:
            self.unit = _new_id(self.server)
            pen.commit(self, connection, do_commit)
            if not next(pen.rows) % _EVERY:
                _tidy(pen, connection, do_commit)
        else:
            pen.commit_alone(self, connection, do_commit)

    def _mark(self, connection: Connection) -> None:
        """The row before COMMIT of an engine that is not of our making."""
        if self.sent:
            return
        if self.key:
            self.unit = self.key
        else:
            raw: Any = connection.connection
            self.unit = _new_id(self.server)
            say(raw.cursor(), marker_of(connection.dialect).write(self.unit, sure=self.sure))
        self.sent = True

    def claim(self, connection: Connection) -> None:
        """Write the row of the key; the database's error if it is there."""
        marker = marker_of(connection.dialect)
        answer = connection.exec_driver_sql(marker.claim(self.key, self.attempt))
        if marker.claimed:
            self.backend = int(answer.scalar_one())

    def record(self, connection: Connection) -> None:
        """Keep the result with the key."""
        connection.execute(text(marker_of(connection.dialect).record(self.key)), {"result": self.result})


_EVERY = 1000
_MOST = 2000
"""One unit in so many deletes at most so many old rows: more than have come since, so they cannot pile up."""


def _tidy(pen: Pen, connection: Any, do_commit: Callable[[Any], None]) -> None:
    """After the COMMIT of one unit in a thousand of an engine, on its connection: delete rows that are too old."""
    before = unit_ids.before(time.time(), unit_ids.KEPT)
    try:
        with patience(pen.driver, ANSWER_WITHIN):  # the unit has committed: nobody waits for long
            say(connection.cursor(), pen.marker.forget(before, unit_ids.KEPT, _MOST))
            do_commit(connection)
    except Exception:
        _log.exception("old rows of the table of outcomes could not be deleted")
        with suppress(Exception):  # a broken connection is found broken when it is given back
            pen.dialect.do_rollback(connection)


def _new_id(server: int) -> str:
    return unit_ids.new_id(time.time(), _random.getrandbits(44), server)


@functools.lru_cache(maxsize=1024)
def _judge(statement: str) -> tuple[bool, bool]:
    return may_change(statement), surely_changes(statement) or "notify" in statement.lower()
