"""Pairs of units interleaved by hand, and lies: what the checker of histories must find on real engines.

Two units are open at once in one thread, the second inside of the first (`requires_new`), so that they overlap in the
same way every time.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import sessionmaker
from tests.engines.targets import Servers

from polysession import Sessions
from proofs.anomalies import Anomaly, Append, Told, Transaction, check
from proofs.appending import Do, Kept, Record, final, perform, plan, prepare, unit

__all__ = ["lied", "staged"]

_PAIRS: Final = 10


def staged(servers: Servers, skipped: Collection[str]) -> Iterator[dict[str, Any]]:
    """Each control: what was expected, and how often it was found."""
    for target in ("pg15", "pg18", "mariadb"):
        if target in skipped:
            continue
        yield _pairs(servers, target, "REPEATABLE READ", Anomaly.G2_ITEM, _skew)
        yield _pairs(servers, target, "READ COMMITTED", Anomaly.LOST_UPDATE, _overwrite)
        if target == "mariadb":
            yield _pairs(servers, target, "REPEATABLE READ", Anomaly.LOST_UPDATE, _overwrite)
    yield _plain(servers)
    yield _lies(servers)


def _pairs(servers: Servers, target: str, level: str, expected: Anomaly, pair: Any) -> dict[str, Any]:
    database = servers.fresh(target)
    try:
        prepare(database.url(), lists=2 * _PAIRS)
        record = Record()
        with Sessions(database.url()) as door:
            for number in range(_PAIRS):
                pair(door, record, level, 2 * number)
        findings = check(record.transactions, final(database.url()))
    finally:
        servers.drop(database)
    found = sum(finding.anomaly is expected for finding in findings)
    return {"cell": f"{target} {level}, interleaved by hand", "expected": expected.value, "of": _PAIRS, "found": found}


def _skew(door: Sessions, record: Record, level: str, key: int) -> None:
    """Each reads what the other writes, before that is committed."""
    first, second = record.begin(), record.begin()
    with door.begin(isolation=level) as session:
        perform(session, record, first, Do.READ, key)
        with door.begin(isolation=level, propagation="requires_new") as inner:
            perform(inner, record, second, Do.READ, key + 1)
            perform(inner, record, second, Do.APPEND, key)
        perform(session, record, first, Do.APPEND, key + 1)
    record.ended(None, [first], None)
    record.ended(None, [second], None)


def _overwrite(door: Sessions, record: Record, level: str, key: int) -> None:
    """Both read the list, and write what they read with one more value."""
    first, second = record.begin(), record.begin()
    with door.begin(isolation=level) as session:
        kept = session.get_one(Kept, key)
        perform(session, record, first, Do.READ, key)
        with door.begin(isolation=level, propagation="requires_new") as inner:
            perform(inner, record, second, Do.REWRITE, key)
        kept.items += f",{record.append(first, key)}"
    record.ended(None, [first], None)
    record.ended(None, [second], None)


def _plain(servers: Servers, units: int = 300) -> dict[str, Any]:
    """SQLAlchemy's own sessions on SQLite, with Python's driver as it is: reads are outside of transactions."""
    database = servers.fresh("sqlite")
    try:
        prepare(database.url(), lists=8 + units)
        record = Record()
        engine = sa.create_engine(database.url(), pool_size=8, max_overflow=0)
        maker = sessionmaker(engine)
        numbers = iter(range(units))

        def work() -> None:
            for number in numbers:
                what = plan(1, number, asynchronous=False, begins=True)
                attempt = record.begin()
                with suppress(DBAPIError):
                    with maker.begin() as session:
                        for do, place in what.steps:
                            perform(session, record, attempt, do, record.in_use(place))
                    record.ended(None, [attempt], None)

        workers = [threading.Thread(target=work) for _ in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        engine.dispose()
        findings = check(record.transactions, final(database.url()))
    finally:
        servers.drop(database)
    found = sum(finding.anomaly is Anomaly.LOST_UPDATE for finding in findings)
    return {
        "cell": "sqlite, sessionmaker of SQLAlchemy, at random",
        "expected": Anomaly.LOST_UPDATE.value,
        "of": units,
        "found": found,
    }


def _lies(servers: Servers, units: int = 100) -> dict[str, Any]:
    """A true history of our own door in which ten outcomes are then told wrongly."""
    database = servers.fresh("sqlite")
    try:
        prepare(database.url(), lists=8 + units)
        record = Record()
        with Sessions(database.url()) as door:
            for number in range(units):
                unit(door, record, plan(3, number, asynchronous=False, begins=True), {})
        lists = final(database.url())
    finally:
        servers.drop(database)
    assert check(record.transactions, lists) == []
    told, lies = lied(record.transactions, _PAIRS)
    liars = {number for finding in check(told, lists) for number in finding.transactions}
    return {
        "cell": "sqlite, ten outcomes told wrongly",
        "expected": "every lie",
        "of": len(lies),
        "found": len(lies & liars) == len(lies),
    }


def lied(history: list[Transaction], number: int) -> tuple[list[Transaction], set[int]]:
    """The history with so many outcomes turned around, of transactions that appended something; and which."""
    writers = [one for one in history if any(isinstance(op, Append) for op in one.ops)]
    liars = {one.number for one in random.Random(4).sample(writers, min(number, len(writers)))}
    turned = {Told.COMMITTED: Told.ROLLED_BACK, Told.ROLLED_BACK: Told.COMMITTED, Told.UNKNOWN: Told.UNKNOWN}
    told = [Transaction(one.number, one.ops, turned[one.told] if one.number in liars else one.told) for one in history]
    return told, liars
