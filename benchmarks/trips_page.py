"""`docs/round-trips.md`: made from the recorded counts (`benchmarks/recorded`) and from nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from .pages import PROJECT
from .trips import WORKS

__all__ = ["PAGE", "RECORDED", "page", "recorded", "write"]

RECORDED: Final = PROJECT / "benchmarks" / "recorded" / "trips.json"
PAGE: Final = PROJECT / "docs" / "round-trips.md"

_HEAD: Final = """\
# Round trips

How often a program waits for the server, counted by a proxy that stands between: the same work by units of polysession,
by SQLAlchemy's own sessions with and without `pool_pre_ping`, and by the drivers' own pools. Messages that leave
together count once. Where the server is half a millisecond away this is most of what a small unit costs.

```console
$ make bench ARGS="trips --record"
```

- **nothing**: a scope that does nothing. **read a row**: one row by its key; ours is a read unit, SQLAlchemy's a
  session that is closed. **write a row**: one INSERT, committed. **read and change**: one row is read, changed and
  committed. **read ten times**: one row ten times in one scope. **ten at once**: the same by `batch()`, and by
  psycopg's own `pipeline()`.
- A read unit sends no BEGIN and no ROLLBACK: each of its statements is one round trip. It still notices a server that
  has closed the connection, by its socket.
- With psycopg and asyncpg BEGIN leaves with the first statement
  ([decision 32](decisions/0032-begin-in-the-first-flight.md)). No ROLLBACK follows a COMMIT.
- **one flight**: units with [`outcome="early"`](howto/early-commit.md). With psycopg and asyncpg COMMIT then leaves
  with the last statement, and so does BEGIN if that is the only one; elsewhere it goes alone.

The counts are the same on every machine; `tests/conformance/test_round_trips.py` holds ours.
"""


def recorded() -> Mapping[str, Any]:
    """The recorded counts."""
    found: Mapping[str, Any] = json.loads(RECORDED.read_text("utf-8"))
    return found


def page(found: Mapping[str, Any]) -> str:
    """The page of these counts."""
    rows: Sequence[Mapping[str, Any]] = found["trips"]
    columns = ("where", "side", *WORKS)
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    lines += [f"| {' | '.join(_shown(row.get(column, '')) for column in columns)} |" for row in rows]
    made = f"Counted with Python {found['python']} and SQLAlchemy {found['sqlalchemy']}."
    return "\n".join([_HEAD, made, "", *lines]) + "\n"


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def write(found: Mapping[str, Any]) -> None:
    """Record the counts and make the page anew."""
    RECORDED.parent.mkdir(exist_ok=True)
    RECORDED.write_text(json.dumps(found, indent=2) + "\n", "utf-8")
    PAGE.write_text(page(found), "utf-8")
