"""From a driver's exception to the signs that the dialect tables read. Imports no driver.

SQLAlchemy wraps what the driver raised; `orig` is the driver's own exception (SQLAlchemy documentation, "DBAPIError").
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.exc import DBAPIError, PendingRollbackError, StatementError

from .. import dialects
from ..dialects.base import ErrorSigns
from ..failures import Failure, Phase

__all__ = ["classify", "driver_error", "signs_of"]


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


def signs_of(error: BaseException) -> ErrorSigns | None:
    """What `error` says, for the dialect's tables; None if no driver had a part in it."""
    found = driver_error(error)
    if found is None:
        return None
    invalidated = isinstance(error, DBAPIError) and error.connection_invalidated
    return ErrorSigns(
        sqlstate=_text(getattr(found, "sqlstate", None) or getattr(found, "pgcode", None)),
        errno=_errno(found),
        sqlite_code=_number(getattr(found, "sqlite_errorcode", None)),
        sqlite_name=_text(getattr(found, "sqlite_errorname", None)),
        class_names=tuple(cls.__name__ for cls in type(found).__mro__),
        message=str(found),
        connection_closed=invalidated,
        nothing_sent=False,
    )


def classify(error: BaseException, phase: Phase, backend: str) -> Failure:
    """What `error` means for a unit on `backend`."""
    return dialects.of(backend).classify(signs_of(error), phase, error)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _errno(error: BaseException) -> int | None:
    first = error.args[0] if error.args else None
    return first if isinstance(first, int) and not hasattr(error, "sqlite_errorcode") else None
