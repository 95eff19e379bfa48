"""How many rows the demo has per warehouse: the standard's numbers, or a fraction of them. Pure.

Source: TPC Benchmark C, standard specification, revision 5.11, clauses 1.2 and 4.3.3.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

__all__ = ["DEFAULT_SCALE", "DISTRICTS", "Size"]

DISTRICTS: Final = 10
"""Districts of a warehouse, and terminals of a warehouse; never scaled."""

DEFAULT_SCALE: Final = 0.05
"""150 customers a district and 5,000 items: four warehouses are filled in about a second on SQLite."""

_CUSTOMERS, _ITEMS, _NAMES, _NEW_ORDERS = 3_000, 100_000, 1_000, 900


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Rows to start with. The ratios of the standard are kept, so that its consistency conditions hold at any scale."""

    scale: float
    customers: int
    """Per district; as many orders and history rows."""
    items: int
    """Per database, as the table ITEM is replicated; as many stock rows per warehouse."""
    names: int
    """Different last names among the customers of a district."""
    new_orders: int
    """Orders of a district that are not delivered yet: always the last ones."""

    @classmethod
    def at(cls, scale: float) -> Self:
        """The numbers at `scale`, which is more than 0 and at most 1.0 (the standard's own numbers).

        Never less than 30 customers a district and 100 items, so that every transaction finds what it needs. Raises
        `ValueError` for another scale.
        """
        if not 0 < scale <= 1:
            raise ValueError(f"scale is {scale:g}, expected more than 0 and at most 1")
        customers = max(30, round(_CUSTOMERS * scale))
        return cls(
            scale=scale,
            customers=customers,
            items=max(100, round(_ITEMS * scale)),
            names=customers * _NAMES // _CUSTOMERS,
            new_orders=customers * _NEW_ORDERS // _CUSTOMERS,
        )

    @property
    def delivered(self) -> int:
        """Orders of a district that are delivered from the start: 2,100 at scale 1.0."""
        return self.customers - self.new_orders
