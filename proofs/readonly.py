"""Read-only means read-only: every way to write that we know, tried in read units, and nothing changes.

The ways are tables of code and texts, for each engine (`tests/ways`): SQLAlchemy's ORM and Core, texts by four channels
(SQLAlchemy's text, its driver SQL, a cursor, the driver's own connection), and methods of the drivers. Each is tried in
a read unit and in a read unit with a snapshot, through both doors and every driver. After each, a second connection
looks at everything it can see: rows with their place and version, definitions, privileges, comments, statistics,
settings, large objects, prepared transactions, other files. Then new units look at what was left on the connections:
settings, locks, cursors, listeners, functions, the mode of the driver.

The control tries the same ways, each by one channel, in SQLAlchemy's own sessions: in autocommit, those that changed
nothing there in a transaction as well, and all of them in sessions that are told to be read-only as the documentation
says. A way that changes nothing in the control either is not counted as a way to write. The other control are texts
that only read: each must be let through, by every channel.

"Beyond it" counts ways by which code in the same process, or a function made for it in the database, gets past the
unit. They are tried as well, and listed under [what it cannot prevent](../howto/read-units.md#what-it-cannot-prevent).
"""

from __future__ import annotations

import logging
import random
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, Literal

import pytest
from tests.engines.targets import ASYNC_DRIVERS, SYNC_DRIVERS, Servers, mark_of
from tests.ways.grounds import Ground, ground
from tests.ways.trying import Plain, ReadUnits, Tried, all_reads, all_ways, try_all
from tests.ways.way import Way

from proofs.results import Profile, Result, Row

__all__ = ["CONTROL_TABLE", "NAME", "TABLE", "TARGETS", "judge", "run", "run_target"]

NAME: Final = "readonly"
TARGETS: Final = ("sqlite", "pg15", "pg18", "mariadb")
ENOUGH: Final = 200
"""Ways to write that each engine must be tried with."""
_TOGETHER: Final = 80
"""Ways that are tried before a look at what has changed; after a change each is tried alone."""
_QUICK: Final = 20
"""The quick profile tries one way in so many, and its control one in ten of these."""

TABLE: Final = {
    "where": "cell",
    "unit": "unit",
    "ways": "ways",
    "attempts": "attempts",
    "refused by the unit": "by_unit",
    "by the server": "by_server",
    "without effect": "nothing",
    "changed": "changed",
    "left behind": "left",
    "reads": "reads",
    "reads refused": "reads_refused",
    "beyond it": "beyond",
    "of these changed": "beyond_changed",
}
CONTROL_TABLE: Final = {
    "where": "cell",
    "sessions": "unit",
    "attempts": "attempts",
    "changed": "changed",
    "refused": "refused",
}


def run(profile: Profile, seed: int) -> Result:
    """All engines that are here."""
    cells: list[Row] = []
    control: list[Row] = []
    failures: list[str] = []
    skipped: list[str] = []
    servers = Servers()
    try:
        for target in TARGETS:
            if not profile.wants(target):
                continue
            try:
                found, beside = run_target(servers, target, profile, seed)
            except pytest.skip.Exception as missing:
                profile.say(f"{target}: skipped, {missing}")
                skipped.append(target)
                continue
            failures += judge(found, beside, whole=profile.name == "full")
            cells += found
            control += beside
    finally:
        servers.close()
    counts: Counter[str] = Counter()
    for cell in cells:
        counts.update({key: cell[key] for key in ("attempts", "changed", "left", "reads", "reads_refused")})
    for row in control:
        counts.update({f"control, {row['unit']}: {key}": row[key] for key in ("attempts", "changed")})
    ways = "; ".join(f"{cell['cell']} {cell['ways']}" for cell in cells if cell["unit"] == "read")
    return Result(
        name=NAME,
        seed=seed,
        profile=profile.name,
        counts=dict(counts),
        cells=tuple(cells),
        control=tuple(control),
        passed=not failures and bool(cells),
        why="; ".join(failures)
        or f"{counts['attempts']} attempts, {counts['changed']} changes, {counts['left']} left behind; ways to write: "
        f"{ways}{', without ' if skipped else ''}{', '.join(skipped)}",
    )


def run_target(servers: Servers, target: str, profile: Profile, seed: int) -> tuple[list[Row], list[Row]]:
    """The cells of one engine, and the control's."""
    cells: list[Row] = []
    control: list[Row] = []
    place = ground(servers, target)
    try:
        with _quiet():
            for drivers, asynchronous in ((SYNC_DRIVERS, False), (ASYNC_DRIVERS, True)):
                for driver in drivers[mark_of(target)]:
                    label = f"{target}/{driver}{' (async)' if asynchronous else ''}"
                    draw = random.Random(f"{label} {seed}")
                    ways = _drawn(all_ways(place, driver), profile, draw, _QUICK)
                    reads = _drawn(all_reads(place, driver), profile, draw, _QUICK)
                    once = list({way.name: way for way in draw.sample(ways, len(ways))}.values())
                    beside, writes = _control(place, driver, asynchronous, _drawn(once, profile, draw, 10), label)
                    control += beside
                    cells += [
                        _cell(place, driver, asynchronous, ways, reads, writes, label, snapshot=snapshot)
                        for snapshot in (False, True)
                    ]
                    for row in (*beside, *cells[-2:]):
                        profile.say(str({key: value for key, value in row.items() if not isinstance(value, list)}))
    finally:
        place.close()
    return cells, control


def judge(cells: Sequence[Row], control: Sequence[Row], *, whole: bool) -> list[str]:
    """What is not as promised."""
    wrong = []
    for cell in cells:
        named = f"{cell['cell']} {cell['unit']}"
        for key in ("changed", "left", "mistakes", "reads_refused", "unconfirmed"):
            if cell[key]:
                wrong.append(f"{named}: {cell[key]} {key}: {'; '.join(cell['named'][:3])}")
        if whole and cell["ways"] < ENOUGH:
            wrong.append(f"{named}: only {cell['ways']} ways to write")
    if not any(row["changed"] for row in control if row["unit"] != "told to be read-only"):
        wrong.append("the control changed nothing")
    return wrong


def _drawn(ways: list[Way], profile: Profile, draw: random.Random, part: int) -> list[Way]:
    return ways if profile.name == "full" else draw.sample(ways, max(1, len(ways) // part))


def _cell(
    place: Ground,
    driver: str,
    asynchronous: bool,
    ways: Sequence[Way],
    texts: Sequence[Way],
    writes: Mapping[str, bool],
    label: str,
    *,
    snapshot: bool,
) -> Row:
    def side() -> ReadUnits:
        return ReadUnits(place.url(driver), asynchronous=asynchronous, snapshot=snapshot)

    tried = list(try_all(place, ways, side, together=_TOGETHER))
    reads = list(try_all(place, texts, side, together=_TOGETHER))
    honest = [found for found in tried if not found.way.abuse]
    beyond = [found for found in tried if found.way.abuse]
    verdicts = Counter(found.verdict for found in honest)
    wrong = [found for found in honest if found.changed or found.left or found.verdict == "mistake"]
    refused = [found for found in reads if found.verdict != "nothing"]
    soiled = [found for found in reads if found.changed or found.left]
    unconfirmed = sorted(name for name, changed in writes.items() if not changed)
    return {
        "cell": label,
        "unit": "snapshot" if snapshot else "read",
        "ways": len({found.way.name for found in honest if writes.get(found.way.name, found.way.lasts)}),
        "attempts": len(honest),
        "by_unit": verdicts["unit"],
        "by_server": verdicts["server"],
        "nothing": verdicts["nothing"],
        "mistakes": verdicts["mistake"],
        "changed": sum(bool(found.changed) for found in (*honest, *reads)),
        "left": sum(bool(found.left) for found in (*honest, *reads)),
        "unconfirmed": len(unconfirmed),
        "reads": len(reads),
        "reads_refused": len(refused),
        "beyond": len(beyond),
        "beyond_changed": sum(bool(found.changed) for found in beyond),
        "named": [_told(found) for found in (*wrong, *refused, *soiled)] + [f"{n} writes nowhere" for n in unconfirmed],
    }


def _told(found: Tried) -> str:
    return f"{found.way.label}: {found.verdict}, changed {found.changed}, left {found.left} {found.error}"


Kind = Literal["autocommit", "transaction", "read-only"]


def _control(
    place: Ground, driver: str, asynchronous: bool, ways: Sequence[Way], label: str
) -> tuple[list[Row], dict[str, bool]]:
    """The figures of plain sessions, and of each way that is meant to write whether it does there."""

    def tried(kind: Kind, some: Sequence[Way], together: int) -> list[Tried]:
        def side() -> Plain:
            return Plain(place.url(driver), asynchronous=asynchronous, kind=kind)

        return list(try_all(place, some, side, together=together))

    alone = tried("autocommit", ways, 1)
    without = [found.way for found in alone if not found.changed]
    inside = tried("transaction", without, 1)
    told = tried("read-only", ways, _TOGETHER)
    changed = {found.way.name for found in (*alone, *inside) if found.changed}
    rows = [
        _control_row(label, unit, found)
        for unit, found in (
            ("autocommit", alone),
            ("a transaction, the rest", inside),
            ("told to be read-only", told),
        )
    ]
    return rows, {found.name: found.name in changed for found in ways if found.lasts or found.name in changed}


def _control_row(label: str, unit: str, found: Sequence[Tried]) -> Row:
    return {
        "cell": label,
        "unit": unit,
        "attempts": len(found),
        "changed": sum(bool(each.changed) for each in found),
        "refused": sum(each.verdict == "server" for each in found),
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """What is warned and logged about sessions that are misused here is not of interest."""
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
