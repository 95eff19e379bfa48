"""What `import polysession` adds to SQLAlchemy's ORM and asyncio parts: time in fresh processes, modules, packages."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

__all__ = ["OPTIONAL", "loaded", "measure"]

BASE = "import sqlalchemy.orm, sqlalchemy.ext.asyncio"
OURS = "import polysession"
OPTIONAL = (
    "psycopg",
    "asyncpg",
    "aiosqlite",
    "pymysql",
    "MySQLdb",
    "asyncmy",
    "rich",
    "cyclopts",
    "pydantic",
    "sqlmodel",
)


def measure(rounds: int) -> list[dict[str, object]]:
    """One row: milliseconds added, by the median of the differences of fresh processes run in turns."""
    differences = [_milliseconds(f"{BASE}; {OURS}") - _milliseconds(BASE) for _ in range(rounds)]
    added = loaded(f"{BASE}; {OURS}") - loaded(BASE)
    return [
        {
            "what": "import polysession",
            "more_ms": round(statistics.median(differences), 1),
            "spread_ms": round(max(differences) - min(differences), 1),
            "modules": len(added),
            "optional": sorted(added & set(OPTIONAL)) or "none",
        }
    ]


def loaded(code: str) -> set[str]:
    """The modules that a fresh process has after running `code`."""
    out = _python(f"import sys, json\n{code}\nprint(json.dumps(sorted(sys.modules)))")
    return set(json.loads(out))


def _milliseconds(code: str) -> float:
    return float(_python(f"import time\nbegan = time.perf_counter()\n{code}\nprint(time.perf_counter() - began)")) * 1e3


def _python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
