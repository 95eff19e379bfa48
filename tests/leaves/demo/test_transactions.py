"""The five transactions do to the rows what clauses 2.4 to 2.8 say."""

from __future__ import annotations

import pytest
from sqlalchemy import delete, func, select, update
from tests.leaves.demo.shop import Shop, seeded

from polysession.demo.inputs import (
    DeliveryInputs,
    Line,
    NewOrderInputs,
    OrderStatusInputs,
    PaymentInputs,
    StockLevelInputs,
    Terminal,
)
from polysession.demo.results import RolledBackByDesign
from polysession.demo.transactions import delivery, new_order, order_status, payment, perform, stock_level


def test_new_order_enters_an_order(shop: Shop) -> None:
    """The district's number is used and counted up; order, lines and NEW-ORDER are there; the total is exact."""
    schema = shop.schema
    with shop.session() as session, session.begin():
        session.execute(update(schema.warehouse).values(w_tax=1_000))
        session.execute(update(schema.district).values(d_tax=500))
        session.execute(update(schema.customer).values(c_discount=2_500))
        session.execute(update(schema.item).values(i_price=333))
    with shop.session() as session, session.begin():
        result = new_order(session, schema, NewOrderInputs(1, 2, 3, (Line(5, 1, 2), Line(6, 2, 5))))
    assert result.o_id == 31
    # 7 pieces at 3.33 are 23.31; less 25 %, plus 15 % taxes: 20.104875
    assert result.total == 2_010
    with shop.session() as session:
        order = session.get_one(schema.order, (1, 2, 31))
        assert (order.o_c_id, order.o_carrier_id, order.o_ol_cnt, order.o_all_local) == (3, None, 2, 0)
        assert order.waiting is not None
        assert [(line.ol_number, line.ol_i_id, line.ol_amount) for line in order.lines] == [(1, 5, 666), (2, 6, 1_665)]
        stock = session.get_one(schema.stock, (2, 6))
        assert order.lines[1].ol_dist_info == stock.s_dist_02
        assert session.get_one(schema.district, (1, 2)).d_next_o_id == 32
    assert shop.violated() == set()


@pytest.mark.parametrize(("before", "quantity", "after"), [(20, 10, 10), (19, 10, 100), (15, 5, 10), (14, 5, 100)])
def test_new_order_takes_from_the_stock(shop: Shop, before: int, quantity: int, after: int) -> None:
    """Ten or more must be left, or 91 are ordered anew; orders and pieces are counted, remote ones apart."""
    schema = shop.schema
    with shop.session() as session, session.begin():
        session.execute(update(schema.stock).values(s_quantity=before))
    with shop.session() as session, session.begin():
        new_order(session, schema, NewOrderInputs(1, 1, 1, (Line(5, 1, quantity), Line(5, 2, quantity))))
    with shop.session() as session:
        home, away = (session.get_one(schema.stock, (w_id, 5)) for w_id in (1, 2))
        assert (home.s_quantity, home.s_ytd, home.s_order_cnt, home.s_remote_cnt) == (after, quantity, 1, 0)
        assert (away.s_quantity, away.s_ytd, away.s_order_cnt, away.s_remote_cnt) == (after, quantity, 1, 1)


def test_new_order_may_name_an_item_twice(shop: Shop) -> None:
    """Two lines of the same item both count."""
    with shop.session() as session, session.begin():
        new_order(session, shop.schema, NewOrderInputs(1, 1, 1, (Line(5, 1, 1), Line(5, 1, 2))))
    with shop.session() as session:
        stock = session.get_one(shop.schema.stock, (1, 5))
        assert (stock.s_ytd, stock.s_order_cnt) == (3, 2)


def test_an_unused_item_rolls_back_what_was_done(shop: Shop) -> None:
    """The lines before it were written, so that there is something to roll back; afterwards nothing has changed."""
    schema = shop.schema
    inputs = NewOrderInputs(1, 2, 3, (Line(5, 1, 2), Line(shop.size.items + 1, 1, 5)))
    with shop.session() as session:
        with pytest.raises(RolledBackByDesign, match="Item number is not valid"):
            new_order(session, schema, inputs)
        seen = session.connection().execute(
            select(func.count()).select_from(schema.order_line).where(schema.order_line.ol_o_id == 31)
        )
        assert seen.scalar_one() == 1
        session.rollback()
        assert session.get(schema.order, (1, 2, 31)) is None
        assert session.get_one(schema.district, (1, 2)).d_next_o_id == 31
    assert shop.violated() == set()


def test_payment_brings_all_three_up_to_date(shop: Shop) -> None:
    """Warehouse and district of the terminal, customer of another warehouse, and a row of HISTORY."""
    schema = shop.schema
    with shop.session() as session, session.begin():
        session.execute(update(schema.customer).values(c_credit="GC"))
        data = session.get_one(schema.customer, (2, 4, 5)).c_data
    with shop.session() as session, session.begin():
        result = payment(session, schema, PaymentInputs(1, 3, 2, 4, 5, 12_345))
    assert (result.c_id, result.balance) == (5, -13_345)
    with shop.session() as session:
        customer = session.get_one(schema.customer, (2, 4, 5))
        assert (customer.c_balance, customer.c_ytd_payment, customer.c_payment_cnt) == (-13_345, 13_345, 2)
        assert customer.c_data == data
        warehouse, district = session.get_one(schema.warehouse, 1), session.get_one(schema.district, (1, 3))
        assert warehouse.w_ytd == 10 * 30_000 + 12_345
        assert district.d_ytd == 30_000 + 12_345
        history = session.scalars(select(schema.history).order_by(schema.history.h_id.desc()).limit(1)).one()
        assert (history.h_w_id, history.h_d_id, history.h_c_w_id, history.h_c_d_id, history.h_c_id) == (1, 3, 2, 4, 5)
        assert history.h_data == f"{warehouse.w_name}    {district.d_name}"
    assert shop.violated() == set()


def test_payment_of_a_bad_customer_is_noted(shop: Shop) -> None:
    """Where the credit is bad, the payment is written before the old data, which is cut at 500."""
    schema = shop.schema
    with shop.session() as session, session.begin():
        session.execute(update(schema.customer).values(c_credit="BC", c_data="x" * 500))
    with shop.session() as session, session.begin():
        payment(session, schema, PaymentInputs(1, 3, 2, 4, 5, 12_305))
    with shop.session() as session:
        data = session.get_one(schema.customer, (2, 4, 5)).c_data
        assert data.startswith("5 4 2 3 1 123.05|xxx")
        assert len(data) == 500


@pytest.mark.parametrize(("count", "middle"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3)])
def test_a_customer_is_found_by_last_name(shop: Shop, count: int, middle: int) -> None:
    """Of n customers with that name the one at n/2, rounded up, sorted by first name (clause 2.5.2.2)."""
    customer = shop.schema.customer
    with shop.session() as session, session.begin():
        for place in range(1, count + 1):
            session.execute(
                update(customer)
                .where(customer.c_w_id == 1, customer.c_d_id == 1, customer.c_id == 20 - place)
                .values(c_last="NOBODYELSE", c_first=f"first{place}")
            )
    with shop.session() as session:
        result = order_status(session, shop.schema, OrderStatusInputs(1, 1, "NOBODYELSE"))
    assert result.c_id == 20 - middle


def test_order_status_shows_the_last_order(shop: Shop) -> None:
    """The newest order of the customer with its items; nothing is written."""
    schema = shop.schema
    with shop.session() as session, session.begin():
        new_order(session, schema, NewOrderInputs(1, 2, 3, (Line(7, 1, 2), Line(6, 1, 5))))
    with shop.session() as session:
        result = order_status(session, schema, OrderStatusInputs(1, 2, 3))
        assert (result.c_id, result.balance, result.o_id, result.carrier_id) == (3, -1_000, 31, None)
        assert result.items == (7, 6)
        assert not session.dirty
        assert not session.new


def test_delivery_delivers_the_oldest_of_each_district(shop: Shop) -> None:
    """One order a district, the oldest; carrier, dates, balance and count are set, its row of NEW-ORDER is gone."""
    schema = shop.schema
    with shop.session() as session, session.begin():
        result = delivery(session, schema, DeliveryInputs(1, 7))
    oldest = shop.size.delivered + 1
    assert result.delivered == dict.fromkeys(range(1, 11), oldest)
    with shop.session() as session:
        order = session.get_one(schema.order, (1, 5, oldest))
        assert order.o_carrier_id == 7
        assert order.waiting is None
        assert all(line.ol_delivery_d is not None for line in order.lines)
        customer = session.get_one(schema.customer, (1, 5, order.o_c_id))
        assert customer.c_balance == sum(line.ol_amount for line in order.lines) - 1_000
        assert customer.c_delivery_cnt == 1
    assert shop.violated() == set()


def test_delivery_skips_a_district_where_nothing_waits(shop: Shop) -> None:
    """Such a district is left out, the others are delivered (clause 2.7.4.2)."""
    waiting = shop.schema.new_order
    with shop.session() as session, session.begin():
        session.execute(delete(waiting).where(waiting.no_w_id == 1, waiting.no_d_id == 4))
    with shop.session() as session, session.begin():
        result = delivery(session, shop.schema, DeliveryInputs(1, 7))
    assert set(result.delivered) == set(range(1, 11)) - {4}


def test_stock_level_counts_different_items_of_the_last_20_orders(shop: Shop) -> None:
    """An item counts once, only below the threshold, only in the last 20 orders, only in the warehouse's own stock."""
    schema = shop.schema
    with shop.session() as session, session.begin():
        session.execute(update(schema.stock).values(s_quantity=50))
        session.execute(update(schema.order_line).values(ol_i_id=1))
        for o_id, i_id in ((30, 2), (11, 3), (10, 4)):
            line = schema.order_line
            session.execute(
                update(line).where(line.ol_d_id == 1, line.ol_o_id == o_id, line.ol_number <= 2).values(ol_i_id=i_id)
            )
        session.execute(
            update(schema.stock)
            .where(schema.stock.s_w_id == 1, schema.stock.s_i_id.in_((2, 3, 4)))
            .values(s_quantity=14)
        )
    with shop.session() as session:
        assert stock_level(session, schema, StockLevelInputs(1, 1, 15)).low == 2
        assert stock_level(session, schema, StockLevelInputs(1, 1, 14)).low == 0
        assert stock_level(session, schema, StockLevelInputs(2, 1, 15)).low == 0


def test_the_conditions_hold_after_many_transactions(shop: Shop) -> None:
    """300 transactions of the mix, one after the other, leave a consistent database."""
    terminal = Terminal(seeded("mix"), shop.constants, shop.size, w_id=1, d_id=1, remote=(1, 2))
    undone = 0
    for _ in range(300):
        with shop.session() as session:
            try:
                perform(session, shop.schema, terminal.draw())
            except RolledBackByDesign:
                undone += 1
            else:
                session.commit()
    assert undone > 0
    assert shop.violated() == set()
