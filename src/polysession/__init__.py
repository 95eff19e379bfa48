"""polysession: the session layer for SQLAlchemy applications that work with many sessions."""

from __future__ import annotations

from .options import Isolation, Propagation
from .sessions import Sessions
from .sessions_async import AsyncSessions

__all__ = ["AsyncSessions", "Isolation", "Propagation", "Sessions"]
