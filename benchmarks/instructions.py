"""What a unit and a statement cost over SQLAlchemy's own session in instructions of this process, counted by callgrind.

The pairs are those of `overhead`. Unlike times, the counts are the same on a busy machine; they repeat within a
percent, a statement's difference within two or three thousand. What the kernel and the server do is not in them. SQLite
under asyncio is left out: callgrind runs one thread at a time, and that is a thread that is waited for. Needs valgrind.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from . import overhead

__all__ = ["Counter", "measure", "valgrind"]

_TIMES: Final = 100
"""Times that each work is counted, of the units of ten statements a tenth; before that it is done as often, since the
interpreter adapts itself to what it does."""

_IDLE: Final = 4
"""Times that nothing is counted first: the counting itself takes less when it has been done."""

Row = dict[str, object]


def measure(rounds: int) -> list[Row]:
    """The rows of the table; none without valgrind. One round is enough."""
    found = valgrind()
    rows: list[Row] = []
    if found is None:
        return rows
    for name, sync, asynchronous in overhead.places():
        for door, url in (("sync", sync), ("async", asynchronous)):
            if url is not None and not url.startswith("sqlite+aiosqlite"):
                rows += _counted(found, door, name, url)
    return rows


def valgrind() -> str | None:
    """Its command; None, and a word about it, where it is missing."""
    found = shutil.which("valgrind")
    if found is None or shutil.which("callgrind_control") is None:
        print("instructions are counted by valgrind (Debian: apt install valgrind)", file=sys.stderr)
        return None
    return found


def _counted(command: str, door: str, name: str, url: str) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        options = ["-q", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={folder}/out"]
        child = [sys.executable, "-m", "benchmarks.instructions", door, name, url, folder]
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        done = subprocess.run([command, *options, *child], stdout=subprocess.PIPE, check=True, env=environment)
    rows: list[Row] = json.loads(done.stdout)
    return rows


class Counter:
    """Counts the instructions of this process, which runs below callgrind."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._dumps = 0
        self._control("-i", "on")
        self.idle = 0.0
        for _ in range(_IDLE):
            self.begin()
            self.idle = self.end() + self.idle

    def begin(self) -> None:
        """Count from here."""
        self._control("-z")

    def end(self) -> float:
        """What was counted, without the counting itself."""
        self._control("-d")
        self._dumps += 1
        found = re.search(r"^summary: (\d+)", (self._folder / f"out.{self._dumps}").read_text(), re.MULTILINE)
        assert found is not None
        return int(found[1]) - self.idle

    def of(self, work: Callable[[], object], times: int) -> float:
        """Thousand instructions of one, when it has been done as often: the interpreter adapts itself to it."""
        for _ in range(times):
            work()
        self.begin()
        for _ in range(times):
            work()
        return self.end() / times / 1000

    async def of_async(self, work: Callable[[], Awaitable[object]], times: int) -> float:
        """The same for asyncio."""
        for _ in range(times):
            await work()
        self.begin()
        for _ in range(times):
            await work()
        return self.end() / times / 1000

    @staticmethod
    def _control(*words: str) -> None:
        command = ["callgrind_control", *words, str(os.getpid())]
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)


def _told(what: str, name: str, ours: float, plain: float) -> Row:
    return {
        "what": f"{what}, {name}",
        "polysession_ki": round(ours, 1),
        "sqlalchemy_ki": round(plain, 1),
        "more_ki": round(ours - plain, 1),
        "ratio": round(ours / plain, 3),
    }


def _times(bound: str) -> int:
    return _TIMES // 10 if bound == "unit of 10" else _TIMES


def _sync(counter: Counter, name: str, url: str) -> list[Row]:
    rows: list[Row] = []
    with overhead.with_threads(url) as pairs:
        for what, bound, ours, plain in pairs:
            found = [counter.of(work, _times(bound)) for work in (ours, plain)]
            rows.append(_told(what, name, *found))
    return rows


async def _async(counter: Counter, name: str, url: str) -> list[Row]:
    rows: list[Row] = []

    async def use(pair: overhead.Pair) -> None:
        what, bound, ours, plain = pair
        found = [await counter.of_async(work, _times(bound)) for work in (ours, plain)]
        rows.append(_told(what, name, *found))

    await overhead.with_tasks(url, use)
    return rows


def _main(door: str, name: str, url: str, folder: str) -> None:
    gc.disable()
    logging.disable()  # callgrind is slow, and the units stay open for so long that it is told
    counter = Counter(Path(folder))
    rows = _sync(counter, name, url) if door == "sync" else asyncio.run(_async(counter, name, url))
    print(json.dumps(rows))


if __name__ == "__main__":
    _main(*sys.argv[1:])
