"""From a driver's exception to the signs that the dialect tables read. Imports no driver.

SQLAlchemy wraps what the driver raised; `orig` is the driver's own exception (SQLAlchemy documentation, "DBAPIError").
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.exc import DBAPIError, PendingRollbackError, StatementError

from .. import dialects
from ..dialects.rows import ErrorSigns
from ..facts import Outcome, outcome_of
from ..failures import Failure, Kind, Phase
from ..options import Access

__all__ = [
    "backend_of",
    "classify",
    "driver_error",
    "is_transient",
    "kind_of",
    "said_by_server",
    "signs_of",
    "takes_transaction",
    "was_connecting",
]

CONNECTING = "polysession_connecting"
"""An error that carries this came while connecting: nothing of a unit was sent."""


def driver_error(error: BaseException) -> BaseException | None:
    """The driver's exception inside `error`, or in what it was raised from; None if there is none."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        if isinstance(current, StatementError) and current.orig is not None:
            return _unadapted(current.orig)
        current = current.__cause__ or (current.__context__ if isinstance(current, PendingRollbackError) else None)
    return None


def _unadapted(error: BaseException) -> BaseException:
    """The driver's own error: SQLAlchemy's asyncio adapters raise one of theirs from it."""
    adapted = type(error).__module__.startswith("sqlalchemy.")
    return error.__cause__ if adapted and error.__cause__ is not None else error


def signs_of(error: BaseException, access: Access | None = None) -> ErrorSigns | None:
    """What `error` says, for the dialect's tables; None if no driver had a part in it."""
    found = driver_error(error)
    if found is None:
        return None
    closed = isinstance(error, DBAPIError) and error.connection_invalidated
    return _signs(found, closed=closed, nothing_sent=was_connecting(error), access=access)


def _signs(found: BaseException, *, closed: bool, nothing_sent: bool, access: Access | None) -> ErrorSigns:
    return ErrorSigns(
        sqlstate=_text(getattr(found, "sqlstate", None)),
        errno=_errno(found),
        sqlite_code=_number(getattr(found, "sqlite_errorcode", None)),
        class_names=tuple(cls.__name__ for cls in type(found).__mro__),
        message=str(found),
        connection_closed=closed,
        nothing_sent=nothing_sent,
        access=access,
    )


def takes_transaction(error: BaseException, backend: str) -> bool:
    """The server rolled back the whole transaction with this driver error and left the connection open."""
    found = _unadapted(error)
    signs = _signs(found, closed=False, nothing_sent=False, access=None)
    return dialects.of(backend).classify(signs, Phase.BODY).transaction_lost


def kind_of(error: BaseException, backend: str, access: Access | None = None) -> Kind:
    """What this driver error of a statement or a log-in means."""
    found = _unadapted(error)
    signs = _signs(found, closed=False, nothing_sent=False, access=access)
    return dialects.of(backend).classify(signs, Phase.BODY).kind


def said_by_server(error: BaseException) -> bool:
    """The server itself reported this driver error; the driver did not find it before anything was sent.

    Messages of a PostgreSQL server have a severity (PostgreSQL documentation, "Error and Notice Message Fields"):
    psycopg keeps it in `diag`, asyncpg as an attribute.
    """
    found = _unadapted(error)
    diagnostics = getattr(found, "diag", None)
    return bool(getattr(diagnostics, "severity", None) or getattr(found, "severity", None))


def was_connecting(error: BaseException) -> bool:
    """It came while a connection was being made."""
    seen: BaseException | None = error
    while seen is not None:
        if CONNECTING in getattr(seen, "__dict__", ()):
            return True
        seen = getattr(seen, "orig", None) or seen.__cause__
    return False


def classify(error: BaseException, phase: Phase, backend: str, access: Access | None = None) -> Failure:
    """What `error` means for a unit on `backend`."""
    signs = signs_of(error, access)
    if signs is None:
        return Failure(
            kind=Kind.OTHER,
            code="",
            phase=phase,
            transient=False,
            certainly_not_committed=phase is not Phase.COMMIT_SENT,
            connection_usable=phase is not Phase.COMMIT_SENT,
            reason=f"{type(error).__name__} did not come from the database",
            source="the caller's own code",
        )
    if signs.nothing_sent:
        phase = Phase.NOTHING_SENT
    return dialects.of(backend).classify(signs, phase)


_BACKENDS = {
    "psycopg": "postgresql",
    "asyncpg": "postgresql",
    "pymysql": "mysql",
    "MySQLdb": "mysql",
    "asyncmy": "mysql",
    "aiomysql": "mysql",
    "sqlite3": "sqlite",
    "aiosqlite": "sqlite",
}
"""By the top module of a driver's exceptions, the database it speaks to."""


def backend_of(error: BaseException) -> str | None:
    """`postgresql`, `mysql` or `sqlite`, by the driver that raised `error`; None if no known one had a part in it."""
    found = driver_error(error)
    if found is None:
        return None
    adapter = type(getattr(error, "orig", None)).__module__.rpartition(".")[2]  # of SQLAlchemy, around an OSError
    return _BACKENDS.get(type(found).__module__.partition(".")[0]) or _BACKENDS.get(adapter)


def is_transient(error: BaseException) -> bool:
    """Whether the whole unit of work in which `error` came may succeed when it is repeated, and may be repeated.

    True only for errors that are known to be of the passing kind and to have left nothing committed: an error that
    left one of our units says how that ended; of any other one without a statement it is assumed that it came from
    COMMIT. For other retry libraries: `stamina.retry(on=is_transient)`. Never raises: what is no exception, such as
    the `__cause__` of an error that has none, is not transient. Repeat the whole unit with a new session, not the
    statement.
    """
    if not isinstance(error, BaseException):
        return False
    outcome = outcome_of(error)
    found = driver_error(error)
    if found is None or outcome not in (None, Outcome.ROLLED_BACK):
        return False
    backend = backend_of(error)
    if backend is None:
        return False
    certain = outcome is Outcome.ROLLED_BACK or was_connecting(error) or getattr(error, "statement", None) is not None
    return classify(error, Phase.BODY if certain else Phase.COMMIT_SENT, backend).transient


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _errno(error: BaseException) -> int | None:
    first = error.args[0] if error.args else None
    return first if isinstance(first, int) and not hasattr(error, "sqlite_errorcode") else None
