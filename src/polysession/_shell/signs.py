"""From a driver's exception to the signs that the dialect tables read. Imports no driver.

SQLAlchemy wraps what the driver raised; `orig` is the driver's own exception (SQLAlchemy documentation, "DBAPIError").
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.exc import DBAPIError, PendingRollbackError, StatementError

from .. import dialects
from ..dialects.rows import ErrorSigns
from ..failures import Failure, Kind, Phase
from ..options import Access
from .engines import CONNECTING

__all__ = ["classify", "driver_error", "signs_of", "was_connecting"]


def driver_error(error: BaseException) -> BaseException | None:
    """The driver's exception inside `error`, or in what it was raised from; None if there is none."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        if isinstance(current, StatementError) and current.orig is not None:
            found = current.orig
            return found.__cause__ if _is_adapted(found) and found.__cause__ is not None else found
        current = current.__cause__ or (current.__context__ if isinstance(current, PendingRollbackError) else None)
    return None


def _is_adapted(error: BaseException) -> bool:
    """SQLAlchemy's asyncio adapters raise an error of their own from the driver's."""
    return type(error).__module__.startswith("sqlalchemy.")


def signs_of(error: BaseException, access: Access | None = None) -> ErrorSigns | None:
    """What `error` says, for the dialect's tables; None if no driver had a part in it."""
    found = driver_error(error)
    if found is None:
        return None
    return ErrorSigns(
        sqlstate=_text(getattr(found, "sqlstate", None)),
        errno=_errno(found),
        sqlite_code=_number(getattr(found, "sqlite_errorcode", None)),
        class_names=tuple(cls.__name__ for cls in type(found).__mro__),
        message=str(found),
        connection_closed=isinstance(error, DBAPIError) and error.connection_invalidated,
        nothing_sent=was_connecting(error),
        access=access,
    )


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


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _errno(error: BaseException) -> int | None:
    first = error.args[0] if error.args else None
    return first if isinstance(first, int) and not hasattr(error, "sqlite_errorcode") else None
