"""What `import polysession` adds: CPU time to SQLAlchemy's ORM, in fresh processes; modules to its asyncio parts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile

__all__ = ["OPTIONAL", "loaded", "measure"]

BASE = "import sqlalchemy.orm, sqlalchemy.ext.asyncio"
ORM = "import sqlalchemy.orm"
OURS = "import polysession"
BOUND = 60
"""Milliseconds that may be added."""
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
    """One row: milliseconds of CPU added to SQLAlchemy's ORM, in fresh processes that are run in turns.

    The byte code is there, as in an installed package. Of all rounds the lowest of each side counts, because
    whatever else a machine does only adds; the spread is that of ours.
    """
    with tempfile.TemporaryDirectory() as folder:
        _milliseconds(f"{BASE}; {OURS}", folder)  # writes the byte code
        pairs = [(_milliseconds(ORM, folder), _milliseconds(f"{ORM}; {OURS}", folder)) for _ in range(rounds)]
    base, ours = map(min, zip(*pairs, strict=True))
    added = loaded(f"{BASE}; {OURS}") - loaded(BASE)
    return [
        {
            "what": "import polysession",
            "more_ms": round(ours - base, 1),
            "bound_ms": BOUND,
            "orm_ms": round(base, 1),
            "spread_ms": round(max(both for _, both in pairs) - min(both for _, both in pairs), 1),
            "modules": len(added),
            "optional": sorted(added & set(OPTIONAL)) or "none",
        }
    ]


def loaded(code: str) -> set[str]:
    """The modules that a fresh process has after running `code`."""
    out = _python(f"import sys, json\n{code}\nprint(json.dumps(sorted(sys.modules)))")
    return set(json.loads(out))


def _milliseconds(code: str, byte_code: str) -> float:
    code = f"import time\nbegan = time.process_time()\n{code}\nprint(time.process_time() - began)"
    settings = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return float(_python(code, settings | {"PYTHONPYCACHEPREFIX": byte_code})) * 1e3


def _python(code: str, settings: dict[str, str] | None = None) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=settings).stdout
