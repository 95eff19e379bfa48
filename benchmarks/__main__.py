"""`python -m benchmarks [NAME ...]`: run the benchmarks and write results/benchmarks.json."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from pathlib import Path

import sqlalchemy

from . import import_cost, overhead

BENCHMARKS = {"overhead": overhead.measure, "import_cost": import_cost.measure}


def main() -> int:
    """Run what was named, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--rounds", type=int, default=15, help="interleaved rounds; the median and the spread are told")
    parser.add_argument("--out", type=Path, default=Path("results"))
    asked = parser.parse_args()
    unknown = set(asked.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    results: dict[str, object] = {
        "python": platform.python_version(),
        "sqlalchemy": sqlalchemy.__version__,
        "machine": f"{platform.system()} {platform.machine()}",
    }
    for name in asked.names or BENCHMARKS:
        rows = BENCHMARKS[name](asked.rounds)
        results[name] = rows
        print(f"{name}:")
        for row in rows:
            print("  " + "  ".join(f"{key} {value}" for key, value in row.items()))
    asked.out.mkdir(exist_ok=True)
    (asked.out / "benchmarks.json").write_text(json.dumps(results, indent=2) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
