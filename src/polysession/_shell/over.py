"""Whether a transaction is over, so that nothing has to be sent to end it.

SQLAlchemy's pool has every connection rolled back that comes back to it. The drivers of MySQL and MariaDB send that
ROLLBACK also if nothing is open: one round trip more for each unit; others find out that there is nothing to do, by a
way that costs more than the question. Here is noted on the connection for which holding COMMIT or ROLLBACK was answered
last, and after how many of its statements. If there was none since, and the driver does not say otherwise, nothing is
open.

What PyMySQL says is not enough alone: an answer that is an error has no status, so after it the last word is that of
the statement before (MySQL and MariaDB, client/server protocol, "ERR packet"). asyncmy's `server_status` is not asked:
it keeps an older word where the last one is 0, and that is what the server says without autocommit if nothing is open
(asyncmy, connection.pyx, `_read_query_result`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Final

from .hygiene import was_handed
from .notes import HOLDING

if TYPE_CHECKING:
    from .holding import Holding

__all__ = ["SAYS_IDLE", "is_over", "note_end"]


def _psycopg(driver: Any) -> bool:
    pgconn = driver.pgconn
    return not pgconn.transaction_status and not pgconn.pipeline_status


_IN_TRANSACTION: Final = 0x0001
"""SERVER_STATUS_IN_TRANS (MySQL and MariaDB, client/server protocol, "OK packet")."""

SAYS_IDLE: Final[Mapping[str, Callable[[Any], bool]]] = {
    "pysqlite": lambda driver: not driver.in_transaction,
    "aiosqlite": lambda driver: not driver.in_transaction,
    "psycopg": _psycopg,
    "asyncpg": lambda driver: not driver.is_in_transaction(),
    "pymysql": lambda driver: not driver.server_status & _IN_TRANSACTION,
    "asyncmy": lambda driver: True,
}
"""By driver: what SQLite or the server has said last does not tell of an open transaction; nothing is asked. Of a
closed connection of psycopg that is not said: it has a status of its own (libpq, PQtransactionStatus)."""
_OVER: Final = "polysession_over"
"""Where a connection keeps whose transaction has ended on it, and after how many statements."""


def note_end(info: MutableMapping[str, Any], holding: Holding) -> None:
    """COMMIT or ROLLBACK was answered for the holding that has the connection."""
    info[_OVER] = holding.id, holding.seen.statements


def is_over(info: MutableMapping[str, Any]) -> bool:
    """Nothing was sent since the end of the transaction. Forgets what was noted.

    Not said of a connection whose driver's connection somebody has taken out of the session: what he sends by it is not
    counted.
    """
    noted = info.pop(_OVER, None)
    holding: Holding | None = info.get(HOLDING)
    return holding is not None and noted == (holding.id, holding.seen.statements) and not was_handed(info)
