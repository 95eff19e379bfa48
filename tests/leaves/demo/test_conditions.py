"""Each of the twelve conditions can fail: one change for each, and exactly the conditions that it must violate.

Some conditions follow from others and cannot fail alone: 1 follows from 8 and 9, 8 from 1 and 9, and 4 from 6. Their
changes name what else they violate.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session
from tests.leaves.demo.shop import Shop

from polysession.demo.conditions import CONDITIONS, check
from polysession.demo.schema import NewOrder, Order, Schema

Change = Callable[[Session, Schema], object]

W, D = 1, 3
"""The warehouse and district that are changed."""


def warehouse_year(session: Session, schema: Schema) -> None:
    """W_YTD one cent up."""
    row = session.get_one(schema.warehouse, W)
    row.w_ytd += 1


def next_order(session: Session, schema: Schema) -> None:
    """D_NEXT_O_ID skips a number."""
    row = session.get_one(schema.district, (W, D))
    row.d_next_o_id += 1


def delivered_out_of_turn(session: Session, schema: Schema) -> None:
    """The second oldest waiting order is delivered in every way, the oldest is not: a gap in NEW-ORDER."""
    _, second = _waiting(session, schema)[:2]
    order = _order_of(session, schema, second)
    session.delete(second)
    order.o_carrier_id = 1
    amount = 0
    for line in order.lines:
        line.ol_delivery_d = order.o_entry_d
        amount += line.ol_amount
    customer = session.get_one(schema.customer, (W, D, order.o_c_id))
    customer.c_balance += amount
    customer.c_delivery_cnt += 1


def line_lost(session: Session, schema: Schema) -> None:
    """An order line of a delivered order is gone; it was worth nothing."""
    line = schema.order_line
    session.execute(delete(line).where(line.ol_w_id == W, line.ol_d_id == D, line.ol_o_id == 1, line.ol_number == 1))


def carrier_lost(session: Session, schema: Schema) -> None:
    """A delivered order looks as if it waited, and so do its lines, but NEW-ORDER does not know it."""
    order = session.get_one(schema.order, (W, D, 1))
    order.o_carrier_id = None
    for line in order.lines:
        line.ol_delivery_d = None


def counts_swapped(session: Session, schema: Schema) -> None:
    """One order promises a line too many, another one too few: right in sum."""
    session.get_one(schema.order, (W, D, 1)).o_ol_cnt += 1
    session.get_one(schema.order, (W, D, 2)).o_ol_cnt -= 1


def line_not_delivered(session: Session, schema: Schema) -> None:
    """One line of a delivered order has no date of delivery; it was worth nothing."""
    session.get_one(schema.order_line, (W, D, 1, 1)).ol_delivery_d = None


def both_years(session: Session, schema: Schema) -> None:
    """W_YTD and D_YTD agree, but a cent was never paid."""
    session.get_one(schema.warehouse, W).w_ytd += 1
    session.get_one(schema.district, (W, D)).d_ytd += 1


def districts_swapped(session: Session, schema: Schema) -> None:
    """A cent of one district was booked for another: right in sum."""
    session.get_one(schema.district, (W, D)).d_ytd += 1
    session.get_one(schema.district, (W, D + 1)).d_ytd -= 1


def balance(session: Session, schema: Schema) -> None:
    """The balance and the payments of a customer are wrong in a way that cancels out for condition 12."""
    customer = session.get_one(schema.customer, (W, D, 1))
    customer.c_balance += 1
    customer.c_ytd_payment -= 1


def delivery_count(session: Session, schema: Schema) -> None:
    """A customer counts a delivery that never was."""
    session.get_one(schema.customer, (W, D, 1)).c_delivery_cnt += 1


def paid_too_much(session: Session, schema: Schema) -> None:
    """A customer's payments are a cent more than they were."""
    session.get_one(schema.customer, (W, D, 1)).c_ytd_payment += 1


CHANGES: list[tuple[int, Change, set[int]]] = [
    (1, warehouse_year, {1, 8}),
    (2, next_order, {2}),
    (3, delivered_out_of_turn, {3}),
    (4, line_lost, {4, 6}),
    (5, carrier_lost, {5}),
    (6, counts_swapped, {6}),
    (7, line_not_delivered, {7}),
    (8, both_years, {8, 9}),
    (9, districts_swapped, {9}),
    (10, balance, {10}),
    (11, delivery_count, {11}),
    (12, paid_too_much, {12}),
]


@pytest.mark.parametrize(("number", "change", "violated"), CHANGES, ids=[change.__name__ for _, change, _ in CHANGES])
def test_a_condition_can_fail(shop: Shop, number: int, change: Change, violated: set[int]) -> None:
    """The change violates the condition, and no other but those that follow from it."""
    with shop.session() as session, session.begin():
        change(session, shop.schema)
    assert number in violated
    assert shop.violated() == violated


def test_every_condition_is_made_to_fail() -> None:
    """The twelve of clause 3.3.2 in order, and a change for each."""
    assert [condition.number for condition in CONDITIONS] == list(range(1, 13))
    assert [number for number, _, _ in CHANGES] == list(range(1, 13))


def test_a_result_counts_and_shows_the_rows(shop: Shop) -> None:
    """All violating rows are counted, at most three are shown, with the numbers that disagree."""
    district = shop.schema.district
    with shop.session() as session, session.begin():
        session.execute(update(district).where(district.d_w_id == W).values(d_next_o_id=99))
    with shop.session() as session:
        second = check(session, shop.schema, shop.size)[1]
    assert not second.holds
    assert second.violations == 10
    assert len(second.examples) == 3
    assert second.examples[0] == {"d_w_id": W, "d_id": 1, "d_next_o_id": 99, "max_o_id": 30, "max_no_o_id": 30}


def test_a_district_where_nothing_waits_is_exempt(shop: Shop) -> None:
    """Conditions 2 and 3 say nothing of NEW-ORDER where a district has no rows there."""
    waiting, customer = shop.schema.new_order, shop.schema.customer
    with shop.session() as session, session.begin():
        session.execute(delete(waiting).where(waiting.no_w_id == W, waiting.no_d_id == D))
        # As many deliveries, so that condition 11 has nothing to say; 5 has.
        session.execute(
            update(customer)
            .where(customer.c_w_id == W, customer.c_d_id == D, customer.c_id <= shop.size.new_orders)
            .values(c_delivery_cnt=1)
        )
    assert shop.violated() == {5}


def _waiting(session: Session, schema: Schema) -> list[NewOrder]:
    row = schema.new_order
    return list(session.scalars(select(row).where(row.no_w_id == W, row.no_d_id == D).order_by(row.no_o_id)))


def _order_of(session: Session, schema: Schema, waiting: NewOrder) -> Order:
    return session.get_one(schema.order, (W, D, waiting.no_o_id))
