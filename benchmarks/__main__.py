"""`python -m benchmarks [NAME ...]`: run the benchmarks and write results/benchmarks.json."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path

import sqlalchemy

from . import (
    import_cost,
    instructions,
    many,
    many_page,
    one_thread,
    outcome,
    outcome_page,
    overhead,
    pages,
    peers,
    peers_page,
    trips,
    trips_page,
)

BENCHMARKS = {
    "overhead": overhead.measure,
    "instructions": instructions.measure,
    "import_cost": import_cost.measure,
    "outcome": outcome.measure,
    "trips": trips.measure,
    "many": many.measure,
    "one_thread": one_thread.measure,
    "peers": lambda rounds: peers.measure(peers.FULL),
}
_OWN_PAGES = {"outcome": outcome_page, "trips": trips_page, "many": many_page, "peers": peers_page}
"""Benchmarks that have a page of their own."""


def main() -> int:
    """Run what was named, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--rounds", type=int, default=15, help="interleaved rounds; the median and the spread are told")
    parser.add_argument("--quick", action="store_true", help="`peers` alone, in five minutes; it cannot be recorded")
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--record", action="store_true", help="keep the figures for the documentation")
    asked = parser.parse_args()
    unknown = set(asked.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    if asked.quick and (asked.record or asked.names not in ([], ["peers"])):
        parser.error("--quick is for `peers`, and what it finds is not recorded")
    results: dict[str, object] = {
        "python": platform.python_version(),
        "sqlalchemy": sqlalchemy.__version__,
        "machine": f"{platform.system()} {platform.machine()}",
        "processor": peers.processor(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "versions": peers.versions(),
    }
    benchmarks = {"peers": lambda rounds: peers.measure(peers.QUICK)} if asked.quick else BENCHMARKS
    for name in asked.names or benchmarks:
        rows = benchmarks[name](asked.rounds)
        results[name] = rows
        print(f"{name}:")
        for row in rows:
            print("  " + "  ".join(f"{key} {value}" for key, value in row.items()))
        if name == "peers":
            print("\n".join(peers_page.summary(rows)))
    asked.out.mkdir(exist_ok=True)
    (asked.out / "benchmarks.json").write_text(json.dumps(results, indent=2) + "\n", "utf-8")
    if asked.record and results.keys() & pages.PARTS:
        pages.write({key: value for key, value in results.items() if key not in _OWN_PAGES})
    for name, own in _OWN_PAGES.items() if asked.record else ():
        if name in results:
            own.write({key: value for key, value in results.items() if key not in BENCHMARKS or key == name})
    return 0


if __name__ == "__main__":
    sys.exit(main())
