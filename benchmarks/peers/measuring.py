"""All measurements, one after the other, on one PostgreSQL server of the tests' own and on SQLite."""

from __future__ import annotations

import asyncio
import platform
import re
import sys
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from typing import Final

from ..table import make_table
from . import counted, crowds, several, sqlite, tasks, threads, timing
from .effort import FULL, Effort
from .frameworks import PACKAGES
from .works import Row

__all__ = ["PARTS", "measure", "processor", "versions"]

TARGET: Final = "pg18"
PARTS: Final = ("trips", "instructions", "cpu", "wall", "rate", "turns", "several", "engines", "sqlite")
_RATE: Final = (threads.OURS, threads.POOL, threads.ALONE, threads.CORE, threads.SESSION)
_DISTRIBUTIONS: Final = ("psycopg", "psycopg-pool", "asyncpg", "aiosqlite", *PACKAGES)


def measure(effort: Effort = FULL, parts: Iterable[str] = PARTS) -> list[Row]:
    """The rows of all `parts`; none but SQLite's if the server is not here."""
    import pytest
    from tests.engines.targets import Servers

    rows: list[Row] = []
    chosen = frozenset(parts)
    servers = Servers()
    try:
        try:
            databases = [servers.fresh(TARGET) for _ in range(several.DATABASES)]
        except pytest.skip.Exception as missing:
            print(missing, file=sys.stderr)
        else:
            for database in databases:
                make_table(database.url())
            rows += _by_threads([database.url("psycopg") for database in databases], effort, chosen)
            for driver in ("asyncpg", "psycopg"):
                rows += _by_tasks([database.url(driver) for database in databases], driver, effort, chosen)
    finally:
        servers.close()
    if "sqlite" in chosen:
        rows += asyncio.run(sqlite.measure(effort))
    return rows


def _by_threads(urls: list[str], effort: Effort, parts: frozenset[str]) -> list[Row]:
    url, where, sides = urls[0], "psycopg", threads.SIDES
    crowd = {side: sides[side] for side in _RATE}
    measured: dict[str, Callable[[], Iterable[Row]]] = {
        "trips": lambda: timing.trips(url, where, sides),
        "instructions": lambda: counted.measure(url, where, "threads", effort),
        "cpu": lambda: timing.cpu(url, where, sides, effort),
        "wall": lambda: timing.wall(url, where, sides, effort),
        "rate": lambda: crowds.rate(url, where, crowd, effort),
        "turns": lambda: crowds.turns(url, where, effort),
        "several": lambda: several.fan(urls, where, effort),
        "engines": lambda: several.engines(url, where, effort),
    }
    return [row for part, run in measured.items() if part in parts for row in run()]


def _by_tasks(urls: list[str], driver: str, effort: Effort, parts: frozenset[str]) -> list[Row]:
    url, where, sides = urls[0], f"{driver}, asyncio", tasks.sides(driver)
    measured: dict[str, Callable[[], Iterable[Row]]] = {
        "trips": lambda: asyncio.run(timing.trips_async(url, where, sides)),
        "instructions": lambda: counted.measure(url, driver, "tasks", effort),
        "cpu": lambda: asyncio.run(timing.cpu_async(url, where, sides, effort)),
        "wall": lambda: asyncio.run(timing.wall_async(url, where, sides, effort)),
        "rate": lambda: asyncio.run(crowds.rate_async(url, where, sides, effort)),
        "several": lambda: asyncio.run(several.fan_async(urls, where, effort)),
    }
    if driver == "asyncpg":  # pools are compared without statements, so one driver is enough
        measured["turns"] = lambda: asyncio.run(crowds.turns_async(url, where, effort))
    return [row for part, run in measured.items() if part in parts for row in run()]


def versions() -> dict[str, str]:
    """Of what is measured; "missing" for what is not installed."""
    found: dict[str, str] = {}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "missing"
    return found


def processor() -> str:
    """Its name, as the system has it."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text("utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found is not None else platform.processor() or "unknown"
