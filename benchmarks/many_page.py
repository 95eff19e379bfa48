"""`docs/many-databases.md`: made from the recorded figures (`benchmarks/recorded`) and from nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from .many import COLUMNS, ENGINES, FEWER
from .pages import PROJECT

__all__ = ["PAGE", "RECORDED", "page", "recorded", "write"]

RECORDED: Final = PROJECT / "benchmarks" / "recorded" / "many.json"
PAGE: Final = PROJECT / "docs" / "many-databases.md"

_HEAD: Final = f"""\
# Many databases

What one more database takes in a process that has many of them on servers that are alike, beside an engine of
SQLAlchemy's for each. The bars are 10 KiB for each, and 3 round trips for the first connection to PostgreSQL.

```console
$ make bench ARGS="many --record"
```

- **round trips**: of the first connection of an engine, counted by a proxy, with connecting itself and all that is
  asked and set before the first statement. PostgreSQL is asked for TLS first, which is one of two; a password costs
  more on every side. On MariaDB ours has the COMMIT of a unit that has sent nothing; connections of read units are told
  there to refuse writes.
- **KiB each**: the memory that Python has taken for an engine after its use, when its connection is closed: the mean of
  {ENGINES} engines, of SQLAlchemy's own {FEWER} (`tracemalloc`). Ours is with the database's part of the configuration,
  and with the pool that write and read units share. A database that is used for both has two engines and one of these.
- **first use**: making the engine, connecting and four statements; the lower quartile. Most of it is the server's,
  which starts a process or a thread. By PyMySQL most of SQLAlchemy's is a context for TLS, made for each connection,
  which loads all certificates of the system; ours share one, since it checks none.

SQLAlchemy's engine asks for the version, the schema and some settings one after the other; here one statement asks for
all, and engines that got to know the same share what follows from it, and the statements that were compiled
([decision 36](decisions/0036-engines-that-are-alike.md)). The counts are the same on every machine, the memory on every
machine with the same Python; `tests/conformance/test_first_connect.py` holds both.
"""


def recorded() -> Mapping[str, Any]:
    """The recorded figures."""
    found: Mapping[str, Any] = json.loads(RECORDED.read_text("utf-8"))
    return found


def page(found: Mapping[str, Any]) -> str:
    """The page of these figures."""
    rows: Sequence[Mapping[str, Any]] = found["many"]
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    lines += [f"| {' | '.join(str(row.get(column, '')) for column in COLUMNS)} |" for row in rows]
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
