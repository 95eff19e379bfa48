"""One unit after the other: round trips, time, and CPU of the client and the server, of every side and work.

The sides take turns: in a round each does a work some times, then the next side does. Of the rounds the lower quartile
counts, because whatever else a machine does only adds; the upper one is told with it. The server's CPU is
that of the processes that serve the side's database, by the scheduler's clock (`/proc/PID/schedstat`, Linux).
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from proofs.frozen import frozen

from polysession.testing.proxy import FaultProxy

from . import link
from .effort import Effort
from .tasks import MakeAsync
from .threads import Make
from .works import AT_ONCE, READ, TEN, WORKS, Row, Works

__all__ = ["Spread", "cpu", "cpu_async", "trips", "trips_async", "wall", "wall_async"]

_WARM: Final = 8
"""Times that each work is done before its round trips are counted: statements are prepared by then."""
_COUNTED: Final = 4


class Spread(dict[str, float]):
    """`value`, the lower quartile of what was found, and `high`, the upper one."""

    def __init__(self, found: Sequence[float], digits: int = 1) -> None:
        low, _, high = statistics.quantiles(found, n=4) if len(found) > 1 else (found[0],) * 3
        super().__init__(value=round(low, digits), high=round(high, digits))


def entered(stack: ExitStack, sides: Mapping[str, Make], url: str, size: int) -> dict[str, Works]:
    """The works of the sides that are installed. What is there by then is not looked at again by the garbage collector:
    the more sides there are, the longer that takes for each.
    """
    found: dict[str, Works] = {}
    for side, make in sides.items():
        try:
            found[side] = stack.enter_context(make(url, size))
        except ImportError as missing:
            print(f"{side} is not measured: {missing}", file=sys.stderr)
    stack.enter_context(frozen())
    return found


async def entered_async(stack: AsyncExitStack, sides: Mapping[str, MakeAsync], url: str, size: int) -> dict[str, Works]:
    """The same for asyncio."""
    found: dict[str, Works] = {}
    for side, make in sides.items():
        try:
            found[side] = await stack.enter_async_context(make(url, size))
        except ImportError as missing:
            print(f"{side} is not measured: {missing}", file=sys.stderr)
    stack.enter_context(frozen())
    return found


# -- round trips


def trips(url: str, where: str, sides: Mapping[str, Make]) -> Iterator[Row]:
    """The round trips of every work."""
    for side, make in sides.items():
        with FaultProxy.before(url) as proxy, ExitStack() as stack:
            for works in entered(stack, {side: make}, proxy.url, 1).values():
                for work, run in works.items():
                    for _ in range(_WARM):
                        run()
                    with proxy.counting() as counted:
                        for _ in range(_COUNTED):
                            run()
                    yield _trips_row(work, where, side, counted.round_trips)


async def trips_async(url: str, where: str, sides: Mapping[str, MakeAsync]) -> list[Row]:
    """The same for asyncio."""
    rows: list[Row] = []
    for side, make in sides.items():
        with FaultProxy.before(url) as proxy:
            async with AsyncExitStack() as stack:
                for works in (await entered_async(stack, {side: make}, proxy.url, 1)).values():
                    for work, run in works.items():
                        for _ in range(_WARM):
                            await run()
                        with proxy.counting() as counted:
                            for _ in range(_COUNTED):
                                await run()
                        rows.append(_trips_row(work, where, side, counted.round_trips))
    return rows


def _trips_row(work: str, where: str, side: str, counted: int) -> Row:
    return {"kind": "trips", "work": work, "where": where, "side": side, "value": round(counted / _COUNTED, 2)}


# -- time


def wall(url: str, where: str, sides: Mapping[str, Make], effort: Effort) -> Iterator[Row]:
    """Microseconds of every work, without a link and behind links that take time."""
    for added in effort.links:
        with _behind(url, added) as through, ExitStack() as stack:
            works = entered(stack, sides, through, 1)
            for work in WORKS[1:]:
                runs = {side: known[work] for side, known in works.items() if work in known}
                for run in runs.values():
                    for _ in range(effort.warm):
                        run()
                found: dict[str, list[float]] = {side: [] for side in runs}
                units = _units(effort, added, work)
                for number in range(effort.rounds):
                    for side in _turn(runs, number):
                        run = runs[side]
                        began = time.perf_counter_ns()
                        for _ in range(units):
                            run()
                        found[side].append((time.perf_counter_ns() - began) / units / 1000)
                yield from _wall_rows(work, where, added, found)


async def wall_async(url: str, where: str, sides: Mapping[str, MakeAsync], effort: Effort) -> list[Row]:
    """The same for asyncio."""
    rows: list[Row] = []
    for added in effort.links:
        with _behind(url, added) as through:
            async with AsyncExitStack() as stack:
                works = await entered_async(stack, sides, through, 1)
                for work in WORKS[1:]:
                    runs = {side: known[work] for side, known in works.items() if work in known}
                    for run in runs.values():
                        for _ in range(effort.warm):
                            await run()
                    found: dict[str, list[float]] = {side: [] for side in runs}
                    units = _units(effort, added, work)
                    for number in range(effort.rounds):
                        for side in _turn(runs, number):
                            run = runs[side]
                            began = time.perf_counter_ns()
                            for _ in range(units):
                                await run()
                            found[side].append((time.perf_counter_ns() - began) / units / 1000)
                    rows += _wall_rows(work, where, added, found)
    return rows


@contextmanager
def _behind(url: str, added: float) -> Iterator[str]:
    if not added:
        yield url
        return
    with link.through(url, added / 1000) as through:
        yield through


def _units(effort: Effort, added: float, work: str) -> int:
    return max(1, effort.units // (5 if added else 1) // (4 if work in {TEN, AT_ONCE} else 1))


def _turn(sides: Mapping[str, object], number: int) -> list[str]:
    """The sides in another order each time, so that none always follows the same one."""
    names = list(sides)
    start = number % len(names)
    order = names[start:] + names[:start]
    return order if number % 2 == 0 else order[::-1]


def _wall_rows(work: str, where: str, added: float, found: Mapping[str, Sequence[float]]) -> Iterator[Row]:
    for side, times in found.items():
        yield {"kind": "wall", "work": work, "where": where, "side": side, "link_ms": added, **Spread(times)}


# -- CPU


def cpu(url: str, where: str, sides: Mapping[str, Make], effort: Effort) -> Iterator[Row]:
    """Microseconds of CPU of a read, of this process and of the server's."""
    with ExitStack() as stack:
        works = entered(stack, sides, url, 1)
        backends = stack.enter_context(_Backends.of(url))
        found: dict[str, list[tuple[float, float]]] = {side: [] for side in works}
        for known in works.values():
            for _ in range(effort.warm):
                known[READ]()
        for number in range(effort.rounds):
            for side in _turn(works, number):
                run = works[side][READ]
                with backends.counting(effort.units, found[side]):
                    for _ in range(effort.units):
                        run()
        yield from _cpu_rows(where, found)


async def cpu_async(url: str, where: str, sides: Mapping[str, MakeAsync], effort: Effort) -> list[Row]:
    """The same for asyncio."""
    async with AsyncExitStack() as stack:
        works = await entered_async(stack, sides, url, 1)
        backends = stack.enter_context(_Backends.of(url))
        found: dict[str, list[tuple[float, float]]] = {side: [] for side in works}
        runs: dict[str, Callable[[], Awaitable[Any]]] = {side: known[READ] for side, known in works.items()}
        for run in runs.values():
            for _ in range(effort.warm):
                await run()
        for number in range(effort.rounds):
            for side in _turn(works, number):
                with backends.counting(effort.units, found[side]):
                    for _ in range(effort.units):
                        await runs[side]()
        return list(_cpu_rows(where, found))


class _Backends:
    """The server's processes for one database, as far as their CPU time can be read here."""

    def __init__(self, connection: sa.Connection, database: str) -> None:
        self._connection = connection
        self._database = database

    @classmethod
    @contextmanager
    def of(cls, url: str) -> Iterator[_Backends]:
        """Those that serve the database of this URL."""
        place = sa.make_url(url).set(drivername="postgresql+psycopg")
        engine = sa.create_engine(place, isolation_level="AUTOCOMMIT")
        try:
            with engine.connect() as connection:
                yield cls(connection, str(place.database))
        finally:
            engine.dispose()

    @contextmanager
    def counting(self, units: int, found: list[tuple[float, float]]) -> Iterator[None]:
        """Add the microseconds of each unit of the block: this process's, and the server's."""
        files = self._files()
        servers, client = _used(files), time.process_time_ns()
        yield
        client, servers = time.process_time_ns() - client, _used(files) - servers
        found.append((client / units / 1000, servers / units / 1000))

    def _files(self) -> list[Path]:
        asked = sa.text("select pid from pg_stat_activity where datname = :name and pid <> pg_backend_pid()")
        numbers = self._connection.execute(asked, {"name": self._database}).scalars()
        return [Path(f"/proc/{number}/schedstat") for number in numbers]


def _used(files: Sequence[Path]) -> int:
    """Nanoseconds on a processor. 0 where there is no such clock."""
    used = 0
    for file in files:
        try:
            used += int(file.read_text().split()[0])
        except OSError:
            continue
    return used


def _cpu_rows(where: str, found: Mapping[str, Sequence[tuple[float, float]]]) -> Iterator[Row]:
    for side, pairs in found.items():
        for work, values in (
            ("client", [client for client, _ in pairs]),
            ("server", [server for _, server in pairs]),
            ("both", [client + server for client, server in pairs]),
        ):
            yield {"kind": "cpu", "work": work, "where": where, "side": side, **Spread(values)}
