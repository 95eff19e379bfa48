"""`docs/cost-of-outcomes.md`: made from the recorded figures (`benchmarks/recorded`) and from nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from .outcome import BOUND
from .pages import PROJECT

__all__ = ["PAGE", "RECORDED", "page", "recorded", "write"]

RECORDED: Final = PROJECT / "benchmarks" / "recorded" / "outcome.json"
PAGE: Final = PROJECT / "docs" / "cost-of-outcomes.md"

_HEAD: Final = """\
# What an exact outcome costs

Units that write one row, and read-only units that read one, of a database with `outcome = "plain"` and of the same one
with `outcome = "exact"`, in turns in one process. Times are microseconds of the wall for one unit. With one connection
the throughput is one unit in that time; that of units that write is bound to 0.85 of the plain one on a server that
syncs its commits to the disk, and what is below it is marked. The other servers, and SQLite as it is set up here, sync
nothing: there a unit is cheap, and a row more weighs most.

```console
$ make bench ARGS="outcome --record"
```

Of all times the twentieth part that is lowest counts. On a busy machine the times are larger and the ratios less exact.
Round trips, counted by a proxy, and calls of Python functions are the same everywhere; that the row costs no round trip
is held by a test (`tests/conformance/test_exact_outcome.py`). SQLite has no round trips.
"""

_COLUMNS: Final = {
    "what": "what",
    "plain": "plain_us",
    "exact": "exact_us",
    "throughput, of the plain one": "throughput",
    "round trips, plain": "plain_trips",
    "round trips, exact": "exact_trips",
    "calls, plain": "plain_calls",
    "calls, exact": "exact_calls",
}


def recorded() -> Mapping[str, Any]:
    """The recorded figures."""
    found: Mapping[str, Any] = json.loads(RECORDED.read_text("utf-8"))
    return found


def page(found: Mapping[str, Any]) -> str:
    """The page of these figures."""
    rows: Sequence[Mapping[str, Any]] = found["outcome"]
    lines = [f"| {' | '.join(_COLUMNS)} |", "|---" * len(_COLUMNS) + "|"]
    for row in rows:
        slow = row["what"].startswith("write") and "synced" in row["what"] and row["throughput"] < BOUND
        cells = [f"{row[key]}{' (below)' if slow and key == 'throughput' else ''}" for key in _COLUMNS.values()]
        lines.append(f"| {' | '.join(cells)} |")
    made = (
        f"Measured with Python {found['python']} and SQLAlchemy {found['sqlalchemy']} on {found['machine']}, "
        f"{found['cores']} cores, for which {found['load']} processes waited on average (the machine's load)."
    )
    return "\n".join([_HEAD, made, "", *lines]) + "\n"


def write(found: Mapping[str, Any]) -> None:
    """Record the figures and make the page anew."""
    RECORDED.parent.mkdir(exist_ok=True)
    RECORDED.write_text(json.dumps(found, indent=2) + "\n", "utf-8")
    PAGE.write_text(page(found), "utf-8")
