"""polysession beside the drivers' own pools, SQLAlchemy, and the frameworks that others use: the same work, one run.

`bars` says by what ours is judged; `threads`, `frameworks` and `tasks` say how each side
does the work; the other modules measure. What is not installed is named, and not measured.
"""

from __future__ import annotations

from .effort import FULL, QUICK, SMOKE, Effort
from .measuring import PARTS, measure, processor, versions

__all__ = ["FULL", "PARTS", "QUICK", "SMOKE", "Effort", "measure", "processor", "versions"]
