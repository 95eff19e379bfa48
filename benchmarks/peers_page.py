"""`docs/peers.md` and its plots: made from the recorded figures (`benchmarks/recorded`) and from nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from .pages import PROJECT
from .peers import bars, crowds, several, tasks, threads, works
from .peers.effort import LINKS
from .peers.plot import Panel, drawn

__all__ = ["PAGE", "PLOTS", "RECORDED", "page", "plots", "recorded", "summary", "write"]

RECORDED: Final = PROJECT / "benchmarks" / "recorded" / "peers.json"
PAGE: Final = PROJECT / "docs" / "peers.md"
PLOTS: Final = PROJECT / "docs" / "plots"

_WHERES: Final = {bars.SYNC: "psycopg, threads", bars.PSYCOPG: bars.PSYCOPG, bars.ASYNCPG: bars.ASYNCPG}

_HEAD: Final = """\
# Beside others

polysession beside the drivers' own pools, SQLAlchemy's Core and Session, Flask-SQLAlchemy, advanced-alchemy, oslo.db
and Django: the same work, on the same server, in the same run.

```console
$ make bench ARGS="peers --record"
$ make bench-quick                      # the same in five minutes
```

Who maps objects reads an object by its key, the others read the row. Each side does it as its documentation has it;
what only reads is closed, what writes is committed. psycopg's pool opens a transaction of itself; "autocommit" is
without. Django keeps a connection for each thread. PostgreSQL and the client are on one machine; a link that takes time
is a process between them. The server does not wait for its disk (`fsync = off`), which makes writes cheap for all.
"""

_BARS: Final = """
## The bars

What was set as a goal beforehand, with what was measured. Where a ratio is bounded, it is ours to the peer's. Round
trips and instructions are the same on a busy machine, and tests hold ours; times and rates are of this one run.
"""

_BARS_AFTER: Final = """
"In one flight" is the last statement together with COMMIT, for units that [ask for it](howto/early-commit.md).

## Time

Microseconds of each unit of work, by how much longer the link makes a round trip: 0, 0.5 and 2 ms. What the link's own
process adds comes on top; a read by psycopg_pool in autocommit is one round trip and shows it. The lower quartile of
the rounds, and the upper one.
"""

_PARTS: Final[Mapping[str, str]] = {
    "trips": """
## Round trips

Waits for the server in each unit of work, counted by a proxy. What is read at once does not depend on each other: ours
is `batch()`, psycopg's `pipeline()`. The same on other servers: [round trips](round-trips.md).
""",
    "instructions": """
## Instructions of the client

Thousands in each unit, counted by callgrind: the same on a busy machine. What the kernel does is not in them.
""",
    "cpu": """
## CPU of a read

Microseconds of the client's process and of the server's, for a row that is read in a unit of its own. The lower
quartile of the rounds, and of the sum the upper one.
""",
    "rate": f"""
## Reads in a second

{crowds.THREADS} threads or {crowds.TASKS} tasks, over {crowds.CONNECTIONS} connections 0.5 ms away.
Each reads a row in a unit of its own, again and again. The median of the rounds, with the fewest and the most.
""",
    "turns": """
## Who gets a connection

Each takes a connection, holds it for a millisecond and comes again at once. No statement is sent: it is the pool alone,
ours as it is for [engines of an application's own](howto/pool-alone.md). With a fair one all have had as many turns.
""",
    "several": f"""
## A query over {several.DATABASES} databases

Milliseconds for all of them, 2 ms away, in a unit for each: one after another, or side by side in as many threads or
tasks. The lower quartile of the rounds, and the upper one.
""",
    "engines": """
## Many engines

The memory that Python has taken for an engine after its use, when its connection is closed, and the round trips of its
first connection. More in [many databases](many-databases.md).
""",
    "sqlite": """
## SQLite under asyncio

Microseconds for a row that is read in a unit of its own. The lower quartile of the rounds, and the upper one.
""",
}


def recorded() -> Mapping[str, Any]:
    """The recorded figures."""
    found: Mapping[str, Any] = json.loads(RECORDED.read_text("utf-8"))
    return found


def summary(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The lines of the table of bars."""
    lines = ["| figure | driver | peer | its figure | ours | ratio | bar | met |", "|---|---|---|---|---|---|---|---|"]
    for judged in bars.judge(rows):
        bar = judged.bar
        ratio = "" if judged.ratio is None else f"{judged.ratio:.2f}"
        reached = "yes" if judged.met else "**no**" if judged.ours is not None else "not measured"
        sign = "≤" if bar.most else "≥"
        unit = f" {bar.unit}" if bar.of == "value" and bar.unit else ""
        cells = (
            bar.figure,
            bar.where,
            bar.peer or "",
            _shown(judged.theirs, bar.unit),
            _shown(judged.ours, bar.unit),
            ratio if bar.of == "ratio" or judged.theirs else "",
            f"{sign} {bar.bar:g}{unit}" + (" of it" if bar.of == "ratio" else ""),
            reached,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def page(found: Mapping[str, Any]) -> str:
    """The page of these figures."""
    rows: Sequence[Mapping[str, Any]] = found["peers"]
    judged = bars.judge(rows)
    met = f"{sum(one.met for one in judged)} of {len(judged)} are met."
    lines = [_HEAD, _made(found), _BARS + met + "\n", *summary(rows), _BARS_AFTER, *_time(rows)]
    for kind, said in _PARTS.items():
        mine = [row for row in rows if row["kind"] == kind]
        if mine:
            lines += [said, *_TABLES[kind](mine)]
    return "\n".join(lines) + "\n"


def _made(found: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    return (
        f"Measured with Python {found['python']} and SQLAlchemy {found['sqlalchemy']} on {found['machine']}, "
        f"{found['cores']} cores ({found['processor']}), for which {found['load']} processes waited on average when "
        f"the run began (the machine's load). The others: {versions}."
    )


def _shown(value: float | None, unit: str = "") -> str:
    if value is None:
        return "–"
    number = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{number} {unit}".rstrip()


def _upto(row: Mapping[str, Any], over: float = 1.0) -> str:
    """A figure, and how far up most of what was found lay."""
    return f"{_shown(row['value'] / over)} to {_shown(row['high'] / over)}"


def _around(row: Mapping[str, Any]) -> str:
    return f"{_shown(row['value'])} ({_shown(row['low'])} to {_shown(row['high'])})"


def _time(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for where, name in _WHERES.items():
        mine = [row for row in rows if row["kind"] == "wall" and row["where"] == where]
        if not mine:
            continue
        yield f"### By {name}"
        yield ""
        yield f"![Time of a read with {name}, by side](plots/{_file(where).name})"
        for added in LINKS:
            yield ""
            yield f"{added:g} ms:" if added else "No link between:"
            yield ""
            yield from _matrix([row for row in mine if row["link_ms"] == added], _upto)
        yield ""


def _matrix(rows: Sequence[Mapping[str, Any]], cell: Any) -> Iterator[str]:
    """A line for each side, a column for each work."""
    known = [work for work in works.WORKS if any(row["work"] == work for row in rows)]
    yield f"| side | {' | '.join(known)} |"
    yield "|---" * (len(known) + 1) + "|"
    for side in dict.fromkeys(row["side"] for row in rows):
        cells = {row["work"]: cell(row) for row in rows if row["side"] == side}
        yield f"| {side} | {' | '.join(cells.get(work, '') for work in known)} |"


def _by_driver(rows: Sequence[Mapping[str, Any]], cell: Any) -> Iterator[str]:
    for index, where in enumerate(dict.fromkeys(row["where"] for row in rows)):
        yield from ("", f"By {_WHERES.get(where, where)}:", "") if index else (f"By {_WHERES.get(where, where)}:", "")
        yield from _matrix([row for row in rows if row["where"] == where], cell)


def _listed(columns: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield "|---" * len(columns) + "|"
    for row in rows:
        yield f"| {' | '.join(str(told(row)) for told in columns.values())} |"


def _instructions(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    columns = {
        "driver": lambda row: row["where"],
        "what": lambda row: row["work"],
        "side": lambda row: row["side"],
        "thousand instructions": lambda row: _shown(row["value"]),
    }
    return _listed(columns, sorted(rows, key=lambda row: (row["where"], row["work"])))


def _cpu(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    def part(row: Mapping[str, Any], work: str) -> Mapping[str, Any]:
        return next(r for r in rows if (r["where"], r["side"], r["work"]) == (row["where"], row["side"], work))

    columns = {
        "driver": lambda row: row["where"],
        "side": lambda row: row["side"],
        "client": lambda row: _shown(part(row, "client")["value"]),
        "server": lambda row: _shown(part(row, "server")["value"]),
        "both": _upto,
    }
    return _listed(columns, [row for row in rows if row["work"] == "both"])


_SIDE: Final[Mapping[str, Any]] = {"driver": lambda row: row["where"], "side": lambda row: row["side"]}
_TABLES: Final[Mapping[str, Any]] = {
    "trips": lambda rows: _by_driver(rows, lambda row: f"{row['value']:g}"),
    "instructions": _instructions,
    "cpu": _cpu,
    "rate": lambda rows: _listed({**_SIDE, "workers": lambda row: row["workers"], "reads in a second": _around}, rows),
    "turns": lambda rows: _listed(
        {
            "side": lambda row: row["side"],
            "workers": lambda row: f"{row['workers']:,}",
            "connections": lambda row: row["connections"],
            "turns, most to median": lambda row: row["value"],
            "workers without a turn": lambda row: row["none"],
            "turns in a second": lambda row: f"{row['per_second']:,}",
            "99 % wait at most, ms": lambda row: _shown(row["wait_99_ms"]),
            "longest wait, ms": lambda row: _shown(row["wait_most_ms"]),
        },
        rows,
    ),
    "several": lambda rows: _listed(
        {**_SIDE, "how": lambda row: row["work"], "ms": lambda row: _upto(row, 1000)}, rows
    ),
    "engines": lambda rows: _listed(
        {
            "side": lambda row: row["side"],
            "what": lambda row: f"memory, KiB each of {row['engines']}" if "engines" in row else "round trips",
            "figure": lambda row: row["value"],
        },
        sorted(rows, key=lambda row: row["work"]),
    ),
    "sqlite": lambda rows: _listed({"side": lambda row: row["side"], "µs": _upto}, rows),
}


def _file(where: str) -> Path:
    return PLOTS / f"peers-{where.replace(', ', '-')}.svg"


def plots(found: Mapping[str, Any]) -> dict[Path, str]:
    """The plots of these figures, by their files."""
    made: dict[Path, str] = {}
    for where, name in _WHERES.items():
        rows = [row for row in found["peers"] if row["where"] == where and row["work"] == works.READ]
        panels = [
            Panel(
                f"a row is read, {added:g} ms away" if added else "a row is read, no link between",
                "µs",
                [(row["side"], row["value"]) for row in rows if row["kind"] == "wall" and row["link_ms"] == added],
            )
            for added in LINKS
        ]
        rates = [(row["side"], row["value"]) for row in rows if row["kind"] == "rate"]
        workers = f"{crowds.THREADS} threads" if where == bars.SYNC else f"{crowds.TASKS} tasks"
        panels.append(Panel(f"reads in a second, 0.5 ms away, {workers} (longer is better)", "/s", rates))
        panels = [panel for panel in panels if panel.bars]
        if panels:
            made[_file(where)] = drawn(f"Time of a read with {name}, by side", panels, threads.OURS)
    return made


def write(found: Mapping[str, Any]) -> None:
    """Record the figures and make the page and its plots anew."""
    RECORDED.parent.mkdir(exist_ok=True)
    RECORDED.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    PAGE.write_text(page(found), "utf-8")
    PLOTS.mkdir(exist_ok=True)
    for path, text in plots(found).items():
        path.write_text(text, "utf-8")


assert tasks.OURS == threads.OURS, "the plots and bars know one name"
