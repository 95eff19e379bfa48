"""polysession: the session layer for SQLAlchemy applications that work with many sessions."""

from __future__ import annotations

from . import errors
from ._shell.signs import is_transient
from .facts import Observer, Outcome, outcome_of, unit_id_of
from .options import Access, Isolation, Propagation
from .policy.retry import Backoff
from .sessions import Sessions
from .sessions_async import AsyncSessions

__all__ = [
    "Access",
    "AsyncSessions",
    "Backoff",
    "Isolation",
    "Observer",
    "Outcome",
    "Propagation",
    "Sessions",
    "errors",
    "is_transient",
    "outcome_of",
    "unit_id_of",
]
