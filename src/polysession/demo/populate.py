"""The initial rows of clause 4.3.3.1 at any scale, the same for the same seed. It inserts; it never commits.

Rows are made one at a time and inserted in chunks, so memory does not grow with the scale. Random text is cut out of
one long random text, which is much quicker than drawing each letter and as random as the workload needs.
"""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from random import Random
from typing import Any, Final

from sqlalchemy import insert
from sqlalchemy.orm import Session

from .inputs import Constants, last_name, nurand
from .schema import Schema
from .size import DISTRICTS, Size

__all__ = ["fill_items", "fill_warehouse"]

Rows = Iterator[dict[str, Any]]

_CHUNK: Final = 1_000
"""Rows of one INSERT."""


def fill_items(session: Session, schema: Schema, size: Size, *, seed: int) -> Counter[str]:
    """Fill ITEM; the same rows in every database for the same `seed`. Returns the rows inserted, by table."""
    draw = _Draw(Random(f"{seed}/items"))
    return Counter(item=_insert(session, schema, "item", _items(draw, size)))


def fill_warehouse(
    session: Session, schema: Schema, size: Size, constants: Constants, *, w_id: int, seed: int, now: datetime
) -> Counter[str]:
    """Fill one warehouse with everything that belongs to it. Returns the rows inserted, by table.

    `now` is the time of entry of all rows. The rows of ITEM must be there already.
    """
    draw = _Draw(Random(f"{seed}/warehouse/{w_id}"))
    counts: Counter[str] = Counter()

    def put(table: str, rows: Iterable[dict[str, Any]]) -> None:
        counts[table] += _insert(session, schema, table, rows)

    put("warehouse", [_warehouse(draw, size, w_id)])
    put("stock", _stocks(draw, size, w_id))
    for d_id in range(1, DISTRICTS + 1):
        home = _District(draw=draw, size=size, constants=constants, w_id=w_id, d_id=d_id, now=now)
        put("district", [home.district()])
        put("customer", home.customers())
        put("history", home.histories())
        orders = list(home.orders())
        put("orders", orders)
        put("order_line", (line for order in orders for line in home.lines(order)))
        put("new_order", home.new_orders())
    return counts


def _insert(session: Session, schema: Schema, table: str, rows: Iterable[dict[str, Any]]) -> int:
    statement = insert(schema.tables[table])
    source, count = iter(rows), 0
    while chunk := list(islice(source, _CHUNK)):
        session.execute(statement, chunk)
        count += len(chunk)
    return count


class _Draw:
    """Clause 4.3.2: numbers and text, from one seeded generator."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self._letters = "".join(rng.choices(string.ascii_letters + string.digits, k=20_000))
        self._digits = "".join(rng.choices(string.digits, k=2_000))

    def number(self, low: int, high: int) -> int:
        return low + int(self.rng.random() * (high - low + 1))

    def text(self, shortest: int, longest: int) -> str:
        length = self.number(shortest, longest)
        start = int(self.rng.random() * (len(self._letters) - length))
        return self._letters[start : start + length]

    def digits(self, length: int) -> str:
        start = int(self.rng.random() * (len(self._digits) - length))
        return self._digits[start : start + length]

    def data(self) -> str:
        """26 to 50 letters; in one of ten, ORIGINAL stands somewhere among them (clause 4.3.3.1, I_DATA, S_DATA)."""
        text = self.text(26, 50)
        if self.rng.random() >= 0.1:
            return text
        start = self.number(0, len(text) - 8)
        return f"{text[:start]}ORIGINAL{text[start + 8 :]}"

    def address(self, prefix: str) -> dict[str, str]:
        return {
            f"{prefix}_street_1": self.text(10, 20),
            f"{prefix}_street_2": self.text(10, 20),
            f"{prefix}_city": self.text(10, 20),
            f"{prefix}_state": self.text(2, 2),
            f"{prefix}_zip": f"{self.digits(4)}11111",
        }


def _items(draw: _Draw, size: Size) -> Rows:
    for i_id in range(1, size.items + 1):
        yield {
            "i_id": i_id,
            "i_im_id": draw.number(1, 10_000),
            "i_name": draw.text(14, 24),
            "i_price": draw.number(1_00, 100_00),
            "i_data": draw.data(),
        }


def _warehouse(draw: _Draw, size: Size, w_id: int) -> dict[str, Any]:
    return {
        "w_id": w_id,
        "w_name": draw.text(6, 10),
        **draw.address("w"),
        "w_tax": draw.number(0, 2_000),
        "w_ytd": DISTRICTS * size.customers * 10_00,
    }


def _stocks(draw: _Draw, size: Size, w_id: int) -> Rows:
    columns = [f"s_dist_{d_id:02d}" for d_id in range(1, DISTRICTS + 1)]
    for i_id in range(1, size.items + 1):
        yield {
            "s_w_id": w_id,
            "s_i_id": i_id,
            "s_quantity": draw.number(10, 100),
            **{column: draw.text(24, 24) for column in columns},
            "s_ytd": 0,
            "s_order_cnt": 0,
            "s_remote_cnt": 0,
            "s_data": draw.data(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _District:
    """The rows of one district, to be asked for in the order of its methods."""

    draw: _Draw
    size: Size
    constants: Constants
    w_id: int
    d_id: int
    now: datetime

    def district(self) -> dict[str, Any]:
        return {
            "d_w_id": self.w_id,
            "d_id": self.d_id,
            "d_name": self.draw.text(6, 10),
            **self.draw.address("d"),
            "d_tax": self.draw.number(0, 2_000),
            "d_ytd": self.size.customers * 10_00,
            "d_next_o_id": self.size.customers + 1,
        }

    def customers(self) -> Rows:
        draw, names = self.draw, self.size.names
        for c_id in range(1, self.size.customers + 1):
            # Every name once, then unevenly: a payment by last name always finds somebody.
            number = (
                c_id - 1
                if c_id <= names
                else nurand(draw.rng, self.constants.name_spread, self.constants.name_load, 0, names - 1)
            )
            yield {
                "c_w_id": self.w_id,
                "c_d_id": self.d_id,
                "c_id": c_id,
                "c_first": draw.text(8, 16),
                "c_middle": "OE",
                "c_last": last_name(number),
                **draw.address("c"),
                "c_phone": draw.digits(16),
                "c_since": self.now,
                "c_credit": "BC" if draw.rng.random() < 0.1 else "GC",
                "c_credit_lim": 50_000_00,
                "c_discount": draw.number(0, 5_000),
                "c_balance": -10_00,
                "c_ytd_payment": 10_00,
                "c_payment_cnt": 1,
                "c_delivery_cnt": 0,
                "c_data": draw.text(300, 500),
            }

    def histories(self) -> Rows:
        for c_id in range(1, self.size.customers + 1):
            yield {
                "h_c_id": c_id,
                "h_c_d_id": self.d_id,
                "h_c_w_id": self.w_id,
                "h_d_id": self.d_id,
                "h_w_id": self.w_id,
                "h_date": self.now,
                "h_amount": 10_00,
                "h_data": self.draw.text(12, 24),
            }

    def orders(self) -> Rows:
        customers = list(range(1, self.size.customers + 1))
        self.draw.rng.shuffle(customers)
        for o_id, c_id in enumerate(customers, start=1):
            yield {
                "o_w_id": self.w_id,
                "o_d_id": self.d_id,
                "o_id": o_id,
                "o_c_id": c_id,
                "o_entry_d": self.now,
                "o_carrier_id": self.draw.number(1, 10) if o_id <= self.size.delivered else None,
                "o_ol_cnt": self.draw.number(5, 15),
                "o_all_local": 1,
            }

    def lines(self, order: dict[str, Any]) -> Rows:
        delivered = order["o_id"] <= self.size.delivered
        for number in range(1, order["o_ol_cnt"] + 1):
            yield {
                "ol_w_id": self.w_id,
                "ol_d_id": self.d_id,
                "ol_o_id": order["o_id"],
                "ol_number": number,
                "ol_i_id": self.draw.number(1, self.size.items),
                "ol_supply_w_id": self.w_id,
                "ol_delivery_d": self.now if delivered else None,
                "ol_quantity": 5,
                "ol_amount": 0 if delivered else self.draw.number(1, 9_999_99),
                "ol_dist_info": self.draw.text(24, 24),
            }

    def new_orders(self) -> Rows:
        for o_id in range(self.size.delivered + 1, self.size.customers + 1):
            yield {"no_w_id": self.w_id, "no_d_id": self.d_id, "no_o_id": o_id}
