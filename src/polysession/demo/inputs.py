"""What the terminals ask for: seeded inputs of the five transactions in their mix. Pure but for the given generator.

Source: TPC-C revision 5.11, clauses 2.1.6 (NURand), 2.4.1 to 2.8.1 (inputs), 4.3.2.3 (last names), 5.2.4 (deck of
cards). Ranges scale with `Size`; at scale 1.0 every constant is the standard's. A terminal has one owner: it is not
safe to draw from it in two threads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Final

from .size import DISTRICTS, Size

__all__ = [
    "DECK",
    "Constants",
    "DeliveryInputs",
    "Inputs",
    "Kind",
    "Line",
    "NewOrderInputs",
    "OrderStatusInputs",
    "PaymentInputs",
    "StockLevelInputs",
    "Terminal",
    "last_name",
    "nurand",
    "spread",
]


class Kind(StrEnum):
    """The five transactions."""

    NEW_ORDER = "new_order"
    PAYMENT = "payment"
    ORDER_STATUS = "order_status"
    DELIVERY = "delivery"
    STOCK_LEVEL = "stock_level"


DECK: Final = (
    *([Kind.NEW_ORDER] * 10),
    *([Kind.PAYMENT] * 10),
    Kind.ORDER_STATUS,
    Kind.DELIVERY,
    Kind.STOCK_LEVEL,
)
"""Clause 5.2.4.2: 23 cards, so Payment is 43.5 % (at least 43) and each of the three rare ones 4.3 % (at least 4)."""

_SYLLABLES: Final = ("BAR", "OUGHT", "ABLE", "PRI", "PRES", "ESE", "ANTI", "CALLY", "ATION", "EING")
_DELTAS: Final = tuple(delta for delta in range(65, 120) if delta not in {96, 112})
"""Clause 2.1.6.1: how far the C of the run may be from the C of the load, for the last names at scale 1.0."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line that a New-Order asks for."""

    i_id: int
    supply_w_id: int
    quantity: int


@dataclass(frozen=True, slots=True)
class NewOrderInputs:
    """Clause 2.4.1. In one of a hundred the last line names an item that does not exist."""

    w_id: int
    d_id: int
    c_id: int
    lines: tuple[Line, ...]
    kind: Kind = Kind.NEW_ORDER


@dataclass(frozen=True, slots=True)
class PaymentInputs:
    """Clause 2.5.1. `customer` is a number or a last name; `amount` is in cents."""

    w_id: int
    d_id: int
    c_w_id: int
    c_d_id: int
    customer: int | str
    amount: int
    kind: Kind = Kind.PAYMENT


@dataclass(frozen=True, slots=True)
class OrderStatusInputs:
    """Clause 2.6.1. `customer` is a number or a last name."""

    w_id: int
    d_id: int
    customer: int | str
    kind: Kind = Kind.ORDER_STATUS


@dataclass(frozen=True, slots=True)
class DeliveryInputs:
    """Clause 2.7.1."""

    w_id: int
    carrier_id: int
    kind: Kind = Kind.DELIVERY


@dataclass(frozen=True, slots=True)
class StockLevelInputs:
    """Clause 2.8.1."""

    w_id: int
    d_id: int
    threshold: int
    kind: Kind = Kind.STOCK_LEVEL


Inputs = NewOrderInputs | PaymentInputs | OrderStatusInputs | DeliveryInputs | StockLevelInputs


def nurand(rng: Random, spread: int, constant: int, low: int, high: int) -> int:
    """A number in [low, high], some far more often than others (clause 2.1.6); `spread` is the standard's A."""
    mixed = rng.randint(0, spread) | rng.randint(low, high)
    return (mixed + constant) % (high - low + 1) + low


def spread(standard: int, standard_range: int, count: int) -> int:
    """The standard's A for a range of `count` values: one less than a power of two, in the standard's proportion."""
    return int(2 ** max(0, round(math.log2((standard + 1) * count / standard_range))) - 1)


def last_name(number: int) -> str:
    """The last name with that number, 0 to 999 (clause 4.3.2.3)."""
    return "".join(_SYLLABLES[int(digit)] for digit in f"{number:03d}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Constants:
    """The three A and C of NURand: drawn once, the same for all terminals and databases of a run (clause 2.1.6.1)."""

    name_spread: int
    name_load: int
    """C for the last names while the tables are filled; `name_run` is its value for the run."""
    name_run: int
    customer_spread: int
    customer: int
    item_spread: int
    item: int

    @classmethod
    def draw(cls, rng: Random, size: Size) -> Constants:
        """Constants for these sizes, with the two C of the last names as far apart as the standard wants."""
        names = spread(255, 1_000, size.names)
        customers = spread(1_023, 3_000, size.customers)
        items = spread(8_191, 100_000, size.items)
        load = rng.randint(0, names)
        deltas = {round(delta * names / 255) for delta in _DELTAS}
        run = [value for value in range(names + 1) if abs(value - load) in deltas]
        return cls(
            name_spread=names,
            name_load=load,
            name_run=rng.choice(run),
            customer_spread=customers,
            customer=rng.randint(0, customers),
            item_spread=items,
            item=rng.randint(0, items),
        )


class Terminal:
    """One terminal of the standard: at home in a warehouse and a district, drawing transactions from its own decks.

    `remote` lists the other warehouses that it may take stock from and receive payments for; if it is empty,
    everything is local, as in the standard for a single warehouse. The same generator state gives the same inputs.
    """

    def __init__(
        self, rng: Random, constants: Constants, size: Size, *, w_id: int, d_id: int, remote: Sequence[int] = ()
    ) -> None:
        self.w_id = w_id
        self.d_id = d_id
        self._rng = rng
        self._constants = constants
        self._size = size
        self._remote = tuple(other for other in remote if other != w_id)
        self._cards: list[Kind] = []

    def draw(self) -> Inputs:
        """The inputs of the next transaction; when a deck is used up, a new one is shuffled."""
        if not self._cards:
            self._cards = list(DECK)
            self._rng.shuffle(self._cards)
        match self._cards.pop():
            case Kind.NEW_ORDER:
                return self.new_order()
            case Kind.PAYMENT:
                return self.payment()
            case Kind.ORDER_STATUS:
                return OrderStatusInputs(self.w_id, self._district(), self._customer())
            case Kind.DELIVERY:
                return DeliveryInputs(self.w_id, self._rng.randint(1, 10))
            case Kind.STOCK_LEVEL:
                return StockLevelInputs(self.w_id, self.d_id, self._rng.randint(10, 20))

    def new_order(self) -> NewOrderInputs:
        """Clause 2.4.1: 5 to 15 lines, 1 % of them from another warehouse; 1 % of the orders end with a wrong item."""
        d_id, c_id = self._district(), self._customer_number()
        lines = [self._line() for _ in range(self._rng.randint(5, 15))]
        if self._rng.randint(1, 100) == 1:
            last = lines[-1]
            lines[-1] = Line(self._size.items + 1, last.supply_w_id, last.quantity)
        return NewOrderInputs(self.w_id, d_id, c_id, tuple(lines))

    def payment(self) -> PaymentInputs:
        """Clause 2.5.1: 1.00 to 5,000.00; 15 % for a customer of another warehouse."""
        d_id = self._district()
        c_w_id, c_d_id = self.w_id, d_id
        if self._rng.randint(1, 100) > 85 and self._remote:
            c_w_id, c_d_id = self._rng.choice(self._remote), self._district()
        return PaymentInputs(self.w_id, d_id, c_w_id, c_d_id, self._customer(), self._rng.randint(100, 500_000))

    def _line(self) -> Line:
        constants, items = self._constants, self._size.items
        i_id = nurand(self._rng, constants.item_spread, constants.item, 1, items)
        elsewhere = self._rng.randint(1, 100) == 1 and bool(self._remote)
        supply_w_id = self._rng.choice(self._remote) if elsewhere else self.w_id
        return Line(i_id, supply_w_id, self._rng.randint(1, 10))

    def _district(self) -> int:
        return self._rng.randint(1, DISTRICTS)

    def _customer(self) -> int | str:
        """60 % by last name, 40 % by number (clauses 2.5.1.2 and 2.6.1.2)."""
        if self._rng.randint(1, 100) > 60:
            return self._customer_number()
        constants = self._constants
        return last_name(nurand(self._rng, constants.name_spread, constants.name_run, 0, self._size.names - 1))

    def _customer_number(self) -> int:
        constants = self._constants
        return nurand(self._rng, constants.customer_spread, constants.customer, 1, self._size.customers)
