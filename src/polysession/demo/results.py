"""What the terminals are shown, as values, and the exception with which a New-Order rolls back on purpose. Pure.

Source: TPC-C revision 5.11, clauses 2.4.3 to 2.8.3, without the texts that a screen repeats.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "DeliveryResult",
    "NewOrderResult",
    "OrderStatusResult",
    "PaymentResult",
    "Result",
    "RolledBackByDesign",
    "StockLevelResult",
]


class RolledBackByDesign(Exception):
    """The order named an item that does not exist: the whole unit is to be rolled back (clause 2.4.1.4)."""


@dataclass(frozen=True, slots=True)
class NewOrderResult:
    """The order's number, and its total in cents after discount and taxes."""

    o_id: int
    total: int


@dataclass(frozen=True, slots=True)
class PaymentResult:
    """Who paid, and the new balance in cents."""

    c_id: int
    balance: int


@dataclass(frozen=True, slots=True)
class OrderStatusResult:
    """The customer's balance in cents, and the number, carrier and items of the last order."""

    c_id: int
    balance: int
    o_id: int
    carrier_id: int | None
    items: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DeliveryResult:
    """The order delivered in each district; districts without a waiting order are left out."""

    delivered: dict[int, int]


@dataclass(frozen=True, slots=True)
class StockLevelResult:
    """How many different items of the last 20 orders are short."""

    low: int


Result = NewOrderResult | PaymentResult | OrderStatusResult | DeliveryResult | StockLevelResult
