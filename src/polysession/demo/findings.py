"""What the terminals have added to the tables, beside what they were told. Reads; never repairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from .schema import Schema
from .size import DISTRICTS, Size
from .tally import Name, Snapshot

__all__ = ["Found", "find"]

_NONE = {"orders": 0, "payments": 0, "deliveries": 0}


@dataclass(frozen=True, slots=True)
class Found:
    """What is in the tables and was not there at first; `named` is empty if it was only counted."""

    counts: Mapping[str, int] = field(default_factory=lambda: dict(_NONE))
    named: Mapping[str, frozenset[Name]] = field(default_factory=dict)

    def __add__(self, other: Found) -> Found:
        return Found(
            {what: count + other.counts[what] for what, count in self.counts.items()},
            {
                what: self.named.get(what, frozenset()) | other.named.get(what, frozenset())
                for what in {*self.named, *other.named}
            },
        )

    def beyond(self, told: Snapshot) -> dict[str, int]:
        """How many are there of which nobody was told: work that was done twice, or reported as failed."""
        return self._compared(told, 1)

    def short_of(self, told: Snapshot) -> dict[str, int]:
        """How many were reported as committed and are not there."""
        return self._compared(told, -1)

    def _compared(self, told: Snapshot, sign: int) -> dict[str, int]:
        found = {}
        for what, count in self.counts.items():
            if what in self.named:
                there, said = self.named[what], told.named[what]
                found[what] = len(there - said) if sign > 0 else len(said - there)
            else:  # payments have no name
                found[what] = max(0, sign * (count - told.told[what]))
        return found


def find(session: Session, schema: Schema, size: Size, warehouses: int, *, names: bool) -> Found:
    """What was added in the session's database, of so many warehouses; with the names of orders if they are wanted."""
    order, at_first = schema.order, warehouses * DISTRICTS * size.customers
    named = {}
    if names:
        columns = (order.o_w_id, order.o_d_id, order.o_id)
        added = select(*columns).where(order.o_id > size.customers)
        delivered = select(*columns).where(order.o_id > size.delivered, order.o_carrier_id.is_not(None))
        named = {
            what: frozenset((w, d, o) for w, d, o in session.execute(query))
            for what, query in (("orders", added), ("deliveries", delivered))
        }
    return Found(
        {
            "orders": session.scalars(select(func.count()).select_from(order)).one() - at_first,
            "payments": session.scalars(select(func.count()).select_from(schema.history)).one() - at_first,
            "deliveries": int(session.scalars(select(func.sum(schema.customer.c_delivery_cnt))).one()),
        },
        named,
    )
