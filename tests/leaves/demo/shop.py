"""A shop: a small database filled as the standard wants it, and what the tests of the demo look at it with."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.orm import Session

from polysession.demo.conditions import check
from polysession.demo.inputs import Constants
from polysession.demo.populate import fill_items, fill_warehouse
from polysession.demo.schema import Schema
from polysession.demo.size import Size

WAREHOUSES = (1, 2)


@dataclass(frozen=True)
class Shop:
    """Two warehouses of 30 customers a district in one SQLite file."""

    engine: Engine
    schema: Schema
    size: Size
    constants: Constants

    def session(self) -> Session:
        """A plain session."""
        return Session(self.engine)

    def violated(self) -> set[int]:
        """The numbers of the conditions that do not hold."""
        with self.session() as session:
            return {result.number for result in check(session, self.schema, self.size) if not result.holds}


def fill(engine: Engine, schema: Schema, size: Size, constants: Constants, *, seed: int = 1) -> dict[str, int]:
    """Make and fill the tables; returns the rows inserted, by table."""
    schema.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        rows = fill_items(session, schema, size, seed=seed)
        for w_id in WAREHOUSES:
            now = datetime(2026, 1, 1, tzinfo=UTC)
            rows += fill_warehouse(session, schema, size, constants, w_id=w_id, seed=seed, now=now)
    return dict(rows)


def seeded(seed: int | str) -> Random:
    """A generator that gives the same numbers for the same seed."""
    return Random(seed)  # reproducible, not secret


def sqlite(path: Path) -> Engine:
    """An engine whose foreign keys are checked."""
    engine = create_engine(f"sqlite:///{path}")
    event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA foreign_keys=ON"))
    return engine
