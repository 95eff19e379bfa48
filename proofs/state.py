"""Nothing that one unit sets on its connection is found by the next: every kind, engine, driver and door.

In each cell a unit sets something on the only connection of its pool and ends, by commit or by rollback; then another
unit asks for it. It must find what a new connection has. What is set is what servers keep for a session (settings,
roles, temporary tables, locks, channels, prepared statements, cursors, the last numbers of sequences) and what drivers
keep for a connection (functions, codecs, row factories, handlers). Through pgbouncer in transaction mode the same is
tried: there the statement must be refused before it is sent, or leave nothing.

Besides: what is said at connect must survive a reset, and a unit that sets nothing must not cost a round trip, counted
by a proxy on the wire. What is hidden in a function of the database is not seen by the text: these cells show what
that means, and that `reset = "always"` ends it.

The control is the same list with SQLAlchemy's sessions over `QueuePool`, which rolls back when a connection returns.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

import pytest
from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import sessionmaker
from sqlalchemy.pool import QueuePool
from tests.engines.postgres import Postgres
from tests.engines.targets import ASYNC_DRIVERS, SYNC_DRIVERS, FreshDatabase, Servers, mark_of

from polysession import AsyncSessions, Sessions
from polysession.errors import PolysessionError
from polysession.testing.proxy import FaultProxy
from proofs.results import Profile, Result, Row
from proofs.state_kinds import CONNECT, HIDDEN, KINDS, PREPARE, RAW, SEVERAL, TOUCH, Kind, RawKind

__all__ = ["NAME", "TARGETS", "run"]

NAME: Final = "state"
TARGETS: Final = ("sqlite", "pg15", "pg18", "mariadb", "pgbouncer")
TABLE: Final = {
    "engine": "target",
    "driver": "driver",
    "door": "door",
    "tried": "tried",
    "found by the next unit": "leaked",
    "refused before it was sent": "refused",
    "without effect in the unit": "no_effect",
    "which": lambda cell: ", ".join(cell["which"]) or "-",
    "round trips: clean unit": lambda cell: _shown(cell, "clean_extra"),
    "of a reset": lambda cell: _shown(cell, "reset_round_trips"),
    "settings lost": lambda cell: _shown(cell, "settings_lost"),
    "hidden in a function: touched": lambda cell: _shown(cell, "hidden_found_if_touched"),
    "always": lambda cell: _shown(cell, "hidden_found_if_always"),
}


def _shown(cell: Mapping[str, Any], name: str) -> object:
    return cell.get(name, "-")


_UNITS: Final = 20
"""For each count of round trips."""

Work = Callable[["_Hand"], Awaitable[None]]


class _Undo(Exception):
    """Ends a unit by rollback."""


class _Hand:
    """A session of either door, to be awaited."""

    def __init__(self, session: Any, asynchronous: bool) -> None:
        self.session = session
        self.asynchronous = asynchronous

    async def say(self, statement: str) -> Any:
        """What a statement answers: its first value, if it has one."""
        result = self.session.execute(text(statement))
        if self.asynchronous:
            result = await result
        return result.scalar() if result.returns_rows else None

    async def driver(self) -> Any:
        """The driver's own connection."""
        if self.asynchronous:
            return (await (await self.session.connection()).get_raw_connection()).driver_connection
        return self.session.connection().connection.driver_connection


class _Ours:
    """One of our doors over a pool of one connection."""

    def __init__(self, url: str, asynchronous: bool, **keys: Any) -> None:
        pool = {"size": 1, **keys.pop("pool", {})}
        self.url = url
        settings = {"databases": {"main": {"url": url, "pool": pool, **keys}}}
        self.asynchronous = asynchronous
        self.door: Any = (AsyncSessions if asynchronous else Sessions).from_mapping(settings)

    async def unit(self, kind: str, ends: str, work: Work) -> None:
        """Do the work in a unit (`begin`, `read`) or a session (`open`)."""
        made = getattr(self.door, kind)()
        with suppress(_Undo):
            if self.asynchronous:
                async with made as session:
                    await self._use(session, kind, ends, work)
            else:
                with made as session:
                    await self._use(session, kind, ends, work)

    async def _use(self, session: Any, kind: str, ends: str, work: Work) -> None:
        await work(_Hand(session, self.asynchronous))
        if kind == "open":
            answer = getattr(session, ends)()
            if self.asynchronous:
                await answer
        elif ends == "rollback":
            raise _Undo

    async def close(self) -> None:
        """The end."""
        answer = self.door.close()
        if self.asynchronous:
            await answer


class _Plain:
    """SQLAlchemy's session factories over `QueuePool` with one connection."""

    def __init__(self, url: str, asynchronous: bool, **keys: Any) -> None:
        self.url = url
        arguments: dict[str, Any] = {"pool_size": 1, "max_overflow": 0}
        arguments["connect_args"] = keys.get("connect", {})
        self.asynchronous = asynchronous
        self.engine: Any
        self.maker: Any
        if asynchronous:
            self.engine = create_async_engine(url, **arguments)
            self.maker = async_sessionmaker(self.engine)
        else:
            self.engine = create_engine(url, poolclass=QueuePool, **arguments)
            self.maker = sessionmaker(self.engine)

    async def unit(self, kind: str, ends: str, work: Work) -> None:
        """Do the work in a session."""
        if self.asynchronous:
            async with self.maker() as session:
                await work(_Hand(session, True))
                await getattr(session, ends)()
            return
        with self.maker() as session:
            await work(_Hand(session, False))
            getattr(session, ends)()

    async def close(self) -> None:
        """The end."""
        answer = self.engine.dispose()
        if self.asynchronous:
            await answer


_SIDES: Final[Mapping[str, Any]] = {"ours": _Ours, "plain": _Plain}


def run(profile: Profile, seed: int) -> Result:
    """All cells that can be run here, ours and the control's. Nothing in it is drawn by chance."""
    cells: list[Row] = []
    control: list[Row] = []
    counts: Counter[str] = Counter()
    servers = Servers()
    try:
        for target in TARGETS:
            try:
                if profile.wants(target):
                    servers.shared(target)
            except pytest.skip.Exception as missing:
                profile.say(f"{target}: skipped, {missing}")
                continue
            if not profile.wants(target):
                continue
            for driver, asynchronous in _drivers(target):
                database = _made(servers, target)
                try:
                    for side, rows in (("ours", cells), ("plain", control)):
                        row = _done(_tried(profile, side, database, driver, asynchronous), asynchronous)
                        rows.append(row)
                        profile.say(f"{side:<6} {row}")
                finally:
                    servers.drop(database)
    finally:
        servers.close()
    for name in ("tried", "leaked", "refused", "no_effect"):
        counts[name] = sum(row[name] for row in cells)
        counts[f"control_{name}"] = sum(row[name] for row in control)
    for row in cells:
        counts["found_although_always"] += row.get("hidden_found_if_always", 0) * (row["target"] != "pgbouncer")
        counts["settings_lost"] += row.get("settings_lost", 0)
        counts["extra_round_trips_of_clean_units"] += row.get("clean_extra", 0)
    good = (
        not counts["leaked"]
        and not counts["found_although_always"]
        and not counts["settings_lost"]
        and not counts["extra_round_trips_of_clean_units"]
    )
    caught = counts["control_leaked"] * 2 > counts["control_tried"]
    return Result(
        name=NAME,
        seed=seed,
        profile=profile.name,
        counts=dict(counts),
        cells=tuple(cells),
        control=tuple(control),
        passed=good and caught and not counts["no_effect"] and counts["tried"] > 0,
        why=f"of {counts['tried']} tries the next unit found {counts['leaked']}, and {counts['refused']} were refused "
        f"behind the pooler or by a read unit; with QueuePool it found {counts['control_leaked']} of "
        f"{counts['control_tried']}; clean units cost {counts['extra_round_trips_of_clean_units']} round trips more, "
        f"and {counts['settings_lost']} settings of the connection were lost",
    )


def _done(work: Coroutine[Any, Any, Row], asynchronous: bool) -> Row:
    """The end of `work`; with a synchronous door it waits for nothing, and must not run in an event loop."""
    if asynchronous:
        return asyncio.run(work)
    try:
        work.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]  # it is the coroutine's result
    raise AssertionError("it awaits something")


def _drivers(target: str) -> Iterator[tuple[str, bool]]:
    for driver in SYNC_DRIVERS[mark_of(target)]:
        yield driver, False
    for driver in ASYNC_DRIVERS[mark_of(target)]:
        yield driver, True


def _made(servers: Servers, target: str) -> FreshDatabase:
    database = servers.fresh(target)
    server = database.server
    postgres = getattr(server, "behind", server)
    if isinstance(postgres, Postgres) and not postgres.ask("select 1 from pg_roles where rolname = 'guest'"):
        postgres.ask("create role guest")
    # past the pooler, which would share the connection that prepares
    url = postgres.url(database.name) if isinstance(postgres, Postgres) else database.url()
    engine = create_engine(_as_administrator(url), poolclass=NullPool)
    with engine.begin() as connection:
        for statement in PREPARE[engine.dialect.name if engine.dialect.name != "mariadb" else "mysql"]:
            connection.execute(text(statement))
    return database


def _as_administrator(url: str) -> str:
    """Some kinds are allowed to a superuser only."""
    return url.replace("//app@", "//postgres@") if url.startswith("postgresql") else url


async def _tried(profile: Profile, side: str, database: FreshDatabase, driver: str, asynchronous: bool) -> Row:
    mark = mark_of(database.target)
    url = _as_administrator(database.url(driver))
    keys: dict[str, Any] = {}
    if mark == "pgbouncer":
        keys = {"pooler": "transaction"} if side == "ours" else {"connect": _UNPREPARED[driver]}

    def fresh(**more: Any) -> Any:
        return _SIDES[side](url, asynchronous, **keys, **more)

    found: Counter[str] = Counter()
    which: list[str] = []
    for kind, unit, end in _cases(profile, side, mark, driver):
        what = await _try(fresh(), kind, unit, end)
        if mark == "pgbouncer":
            database.cut()  # what a try has left on a connection of the server must not be found by another one
        found["tried"] += 1
        found[what] += 1
        if what in ("leaked", "no_effect"):
            which.append(f"{kind.name} ({unit}, {end})" if side == "ours" else f"{kind.name} ({end})")
    row: dict[str, Any] = {"target": database.target, "driver": driver, "door": "async" if asynchronous else "sync"}
    row |= {name: found[name] for name in ("tried", "leaked", "refused", "no_effect")}
    row["which"] = which
    if side == "plain":
        return row
    if mark != "pgbouncer":
        row["settings_lost"] = await _lost(fresh, mark, driver)
    if mark in ("pg", "mariadb"):
        row |= await _round_trips(url, asynchronous, mark)
    for how in ("touched", "always") if mark in ("pg", "pgbouncer") else ():
        what = await _try(fresh(pool={"reset": how}), HIDDEN, "begin", "commit")
        row[f"hidden_found_if_{how}"] = int(what == "leaked")
        if mark == "pgbouncer":
            database.cut()
    return row


def _cases(profile: Profile, side: str, mark: str, driver: str) -> Iterator[tuple[Kind | RawKind, str, str]]:
    """What is tried, in what kind of unit, and how the unit ends."""
    kinds: list[Kind | RawKind] = [*KINDS[mark]]
    if mark != "pgbouncer":  # the driver's connection ends at the pooler
        kinds += RAW[driver]
    units = ("begin", "open", "read") if side == "ours" else ("begin",)
    for kind, unit, end in itertools.product(kinds, units, ("commit", "rollback")):
        if unit == "read" and (isinstance(kind, RawKind) or not kind.reads):
            continue
        if kind.name == SEVERAL and driver == "asyncpg":
            continue
        if profile.name != "quick" or end == "commit" or unit == "begin":
            yield kind, unit, end


_UNPREPARED: Final[dict[str, dict[str, Any]]] = {
    "psycopg": {"prepare_threshold": None},
    "asyncpg": {"statement_cache_size": 0, "prepared_statement_name_func": str, "prepared_statement_cache_size": 0},
}


async def _try(side: Any, kind: Kind | RawKind, unit: str, ends: str) -> str:
    """Set it in one unit and ask in the next: "leaked", "refused", "no_effect", or "clean"."""
    answers: list[Any] = []

    async def look(hand: _Hand) -> None:
        try:
            if isinstance(kind, Kind):
                answers.append(await hand.say(kind.look))
            else:
                answers.append(repr(await kind.look(await hand.driver())))
        except Exception as error:
            answers.append(type(getattr(error, "orig", error)).__name__)
            raise

    async def change(hand: _Hand) -> None:
        if isinstance(kind, Kind):
            await hand.say(kind.say)
        else:
            await kind.do(await hand.driver())
        with suppress(DBAPIError):  # some questions are answered by an error
            await look(hand)

    async def ask(whom: Any) -> None:
        with suppress(Exception):  # noted
            await whom.unit(unit, "rollback", look)

    try:
        if isinstance(kind, Kind):
            await ask(side)
        else:  # of another pool: after this use of the driver's connection nothing would be tried on it
            other = type(side)(side.url, side.asynchronous)
            await ask(other)
            await other.close()
        try:
            await side.unit(unit, ends, change)
        except PolysessionError:
            return "refused"
        await ask(side)
    finally:
        await side.close()
    before, within, after = (_comparable(answer) for answer in answers)
    if after != before:
        return "leaked"
    return "clean" if within != before or getattr(kind, "at_commit", False) else "no_effect"


def _comparable(answer: Any) -> Any:
    """A setting that was once set is an empty text, also after SET LOCAL: nobody can tell by whom."""
    return None if answer in ("", None) else answer


async def _lost(fresh: Callable[..., Any], mark: str, driver: str) -> int:
    """What was said at connect and is different after a reset; for read units also that they are read-only."""
    arguments, question = CONNECT[driver]
    side = fresh(connect=arguments)
    answers: list[Any] = []

    async def ask(hand: _Hand) -> None:
        answers.append(await hand.say(question))

    async def touch(hand: _Hand) -> None:
        await hand.say(TOUCH[mark])

    lost = 0
    try:
        for unit in ("begin", "read"):
            answers.clear()
            for work in (ask, touch, ask):
                await side.unit(unit, "commit", work)
            lost += answers[0] != answers[1]
    finally:
        await side.close()
    return lost


async def _round_trips(url: str, asynchronous: bool, mark: str) -> dict[str, int]:
    """Round trips of units that set nothing, beside those without any judging, and of a reset."""

    async def clean(hand: _Hand) -> None:
        await hand.say("select 1")
        await hand.say("insert into numbered (a) values (1)")

    async def touched(hand: _Hand) -> None:
        await hand.say(TOUCH[mark])

    counted: dict[tuple[str, str], int] = {}
    with FaultProxy.before(url) as proxy:
        for how in ("touched", "never"):
            side = _Ours(proxy.url, asynchronous, pool={"reset": how})
            for name, work in (("clean", clean), ("touched", touched)):
                for _ in range(3):  # the first ones look up types and prepare
                    await side.unit("begin", "commit", work)
                with proxy.counting() as count:
                    for _ in range(_UNITS):
                        await side.unit("begin", "commit", work)
                counted[how, name] = count.round_trips
            await side.close()
    return {
        "clean_extra": counted["touched", "clean"] - counted["never", "clean"],
        "reset_round_trips": (counted["touched", "touched"] - counted["never", "touched"]) // _UNITS,
    }
