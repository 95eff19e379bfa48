"""The five transactions of TPC-C, each written once, for a plain `Session`; they never commit and never roll back.

Each takes the session of a unit of work and returns what its terminal would show. An asynchronous session runs the
same code by `await session.run_sync(new_order, schema, inputs)`.

Every row is locked before it is read in order to be changed (FOR NO KEY UPDATE on PostgreSQL, FOR UPDATE on MariaDB,
the database's one write lock on SQLite), or it is changed by one UPDATE that computes the new value from the old. So
no update is lost from READ COMMITTED upwards, even without repetition. Locks are taken in one order: district, new
order, customer, stock, warehouse. The warehouse row comes last as all payments meet there.

Source: TPC-C revision 5.11, clauses 2.4 to 2.8.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import ColumnElement, and_, delete, func, or_, select, update
from sqlalchemy.orm import Session

from .inputs import (
    DeliveryInputs,
    Inputs,
    Line,
    NewOrderInputs,
    OrderStatusInputs,
    PaymentInputs,
    StockLevelInputs,
)
from .results import (
    DeliveryResult,
    NewOrderResult,
    OrderStatusResult,
    PaymentResult,
    Result,
    RolledBackByDesign,
    StockLevelResult,
)
from .schema import Customer, Schema, Stock
from .size import DISTRICTS

__all__ = [
    "delivery",
    "new_order",
    "order_status",
    "payment",
    "perform",
    "stock_level",
]

_LOCKED: Final = {"key_share": True}
_UNSYNCED: Final = {"synchronize_session": False}
"""No object of the changed rows is in the session, so there is nothing to bring up to date."""


def perform(session: Session, schema: Schema, inputs: Inputs) -> Result:
    """Run the transaction that these inputs are for."""
    match inputs:
        case NewOrderInputs():
            return new_order(session, schema, inputs)
        case PaymentInputs():
            return payment(session, schema, inputs)
        case OrderStatusInputs():
            return order_status(session, schema, inputs)
        case DeliveryInputs():
            return delivery(session, schema, inputs)
        case StockLevelInputs():
            return stock_level(session, schema, inputs)


def new_order(session: Session, schema: Schema, inputs: NewOrderInputs) -> NewOrderResult:
    """Clause 2.4.2: enter an order of 5 to 15 lines and take it out of the stock.

    Raises `RolledBackByDesign` when a line names an item that does not exist, after the lines before it were done.
    """
    now = datetime.now(UTC)
    warehouse, buyer = schema.warehouse, schema.customer
    w_tax = session.scalars(select(warehouse.w_tax).where(warehouse.w_id == inputs.w_id)).one()
    district = session.get_one(schema.district, (inputs.w_id, inputs.d_id), with_for_update=_LOCKED)
    discount = session.scalars(
        select(buyer.c_discount).where(
            buyer.c_w_id == inputs.w_id, buyer.c_d_id == inputs.d_id, buyer.c_id == inputs.c_id
        )
    ).one()
    o_id = district.d_next_o_id
    district.d_next_o_id += 1
    order = schema.order(
        o_w_id=inputs.w_id,
        o_d_id=inputs.d_id,
        o_id=o_id,
        o_c_id=inputs.c_id,
        o_entry_d=now,
        o_carrier_id=None,
        o_ol_cnt=len(inputs.lines),
        o_all_local=int(all(line.supply_w_id == inputs.w_id for line in inputs.lines)),
    )
    order.waiting = schema.new_order()
    session.add(order)
    item = schema.item
    wanted = select(item.i_id, item.i_price).where(item.i_id.in_({line.i_id for line in inputs.lines}))
    prices = dict(session.execute(wanted).all())
    stocks = _lock_stocks(session, schema, inputs.lines)
    amount = 0
    for number, line in enumerate(inputs.lines, start=1):
        price = prices.get(line.i_id)
        if price is None:
            session.flush()  # what was done so far reaches the database, so that there is something to roll back
            raise RolledBackByDesign(f"Item number is not valid: {line.i_id}")
        stock = stocks[line.supply_w_id, line.i_id]
        _take(stock, line, home=inputs.w_id)
        amount += line.quantity * price
        order.lines.append(
            schema.order_line(
                ol_number=number,
                ol_i_id=line.i_id,
                ol_supply_w_id=line.supply_w_id,
                ol_delivery_d=None,
                ol_quantity=line.quantity,
                ol_amount=line.quantity * price,
                ol_dist_info=getattr(stock, f"s_dist_{inputs.d_id:02d}"),
            )
        )
    session.flush()
    # Rates are ten-thousandths; half a cent is rounded up.
    exact = amount * (10_000 - discount) * (10_000 + w_tax + district.d_tax)
    return NewOrderResult(o_id, (exact + 50_000_000) // 100_000_000)


def payment(session: Session, schema: Schema, inputs: PaymentInputs) -> PaymentResult:
    """Clause 2.5.2: a customer pays; district, customer and warehouse are brought up to date."""
    district, warehouse = schema.district, schema.warehouse
    this_district = (district.d_w_id == inputs.w_id, district.d_id == inputs.d_id)
    session.execute(
        update(district).where(*this_district).values(d_ytd=district.d_ytd + inputs.amount),
        execution_options=_UNSYNCED,
    )
    w_name, d_name = session.execute(
        select(warehouse.w_name, district.d_name)
        .join(district, district.d_w_id == warehouse.w_id)
        .where(*this_district)
    ).one()
    c_id = _find_customer(session, schema, inputs.c_w_id, inputs.c_d_id, inputs.customer)
    customer = session.get_one(schema.customer, (inputs.c_w_id, inputs.c_d_id, c_id), with_for_update=_LOCKED)
    customer.c_balance -= inputs.amount
    customer.c_ytd_payment += inputs.amount
    customer.c_payment_cnt += 1
    if customer.c_credit == "BC":
        customer.c_data = _noted(customer, inputs)
    session.add(
        schema.history(
            h_c_id=c_id,
            h_c_d_id=inputs.c_d_id,
            h_c_w_id=inputs.c_w_id,
            h_d_id=inputs.d_id,
            h_w_id=inputs.w_id,
            h_date=datetime.now(UTC),
            h_amount=inputs.amount,
            h_data=f"{w_name}    {d_name}",
        )
    )
    session.flush()
    session.execute(
        update(warehouse).where(warehouse.w_id == inputs.w_id).values(w_ytd=warehouse.w_ytd + inputs.amount),
        execution_options=_UNSYNCED,
    )
    return PaymentResult(c_id, customer.c_balance)


def order_status(session: Session, schema: Schema, inputs: OrderStatusInputs) -> OrderStatusResult:
    """Clause 2.6.2: a customer's balance and last order. Reads only; wants one snapshot over its statements."""
    c_id = _find_customer(session, schema, inputs.w_id, inputs.d_id, inputs.customer)
    customer = session.get_one(schema.customer, (inputs.w_id, inputs.d_id, c_id))
    order = schema.order
    last = session.scalars(
        select(order)
        .where(order.o_w_id == inputs.w_id, order.o_d_id == inputs.d_id, order.o_c_id == c_id)
        .order_by(order.o_id.desc())
        .limit(1)
    ).one()
    items = tuple(line.ol_i_id for line in last.lines)
    return OrderStatusResult(c_id, customer.c_balance, last.o_id, last.o_carrier_id, items)


def delivery(session: Session, schema: Schema, inputs: DeliveryInputs) -> DeliveryResult:
    """Clause 2.7.4: deliver the oldest waiting order of each of the ten districts, all in one unit."""
    now = datetime.now(UTC)
    delivered = {}
    for d_id in range(1, DISTRICTS + 1):
        o_id = _deliver_oldest(session, schema, inputs, d_id, now)
        if o_id is not None:
            delivered[d_id] = o_id
    return DeliveryResult(delivered)


def stock_level(session: Session, schema: Schema, inputs: StockLevelInputs) -> StockLevelResult:
    """Clause 2.8.2: how many items of the last 20 orders of a district are below the threshold. Reads only."""
    district, line, stock = schema.district, schema.order_line, schema.stock
    next_o_id = session.scalars(
        select(district.d_next_o_id).where(district.d_w_id == inputs.w_id, district.d_id == inputs.d_id)
    ).one()
    low = session.scalars(
        select(func.count(stock.s_i_id.distinct()))
        .join_from(line, stock, and_(stock.s_w_id == inputs.w_id, stock.s_i_id == line.ol_i_id))
        .where(
            line.ol_w_id == inputs.w_id,
            line.ol_d_id == inputs.d_id,
            line.ol_o_id < next_o_id,
            line.ol_o_id >= next_o_id - 20,
            stock.s_quantity < inputs.threshold,
        )
    ).one()
    return StockLevelResult(low)


def _lock_stocks(session: Session, schema: Schema, lines: Sequence[Line]) -> dict[tuple[int, int], Stock]:
    """The stock rows of these lines, locked in the order of their keys, so that two New-Orders cannot deadlock."""
    stock = schema.stock
    wanted: dict[int, set[int]] = {}
    for line in lines:
        wanted.setdefault(line.supply_w_id, set()).add(line.i_id)
    places: list[ColumnElement[bool]] = [
        and_(stock.s_w_id == w_id, stock.s_i_id.in_(items)) for w_id, items in wanted.items()
    ]
    rows = session.scalars(
        select(stock).where(or_(*places)).order_by(stock.s_w_id, stock.s_i_id).with_for_update(key_share=True)
    )
    return {(row.s_w_id, row.s_i_id): row for row in rows}


def _take(stock: Stock, line: Line, *, home: int) -> None:
    """Take a line out of the stock; below ten left, 91 are ordered anew (clause 2.4.2.2)."""
    left = stock.s_quantity - line.quantity
    stock.s_quantity = left if left >= 10 else left + 91
    stock.s_ytd += line.quantity
    stock.s_order_cnt += 1
    stock.s_remote_cnt += int(line.supply_w_id != home)


def _find_customer(session: Session, schema: Schema, w_id: int, d_id: int, customer: int | str) -> int:
    """The customer's number; of several with the same last name the middle one by first name (clause 2.5.2.2)."""
    if isinstance(customer, int):
        return customer
    row = schema.customer
    numbers = session.scalars(
        select(row.c_id)
        .where(row.c_w_id == w_id, row.c_d_id == d_id, row.c_last == customer)
        .order_by(row.c_first, row.c_id)
    ).all()
    return numbers[(len(numbers) - 1) // 2]


def _noted(customer: Customer, inputs: PaymentInputs) -> str:
    """The data of a customer with bad credit, with this payment noted at its front (clause 2.5.2.2)."""
    amount = f"{inputs.amount // 100}.{inputs.amount % 100:02d}"
    note = f"{customer.c_id} {inputs.c_d_id} {inputs.c_w_id} {inputs.d_id} {inputs.w_id} {amount}|"
    return (note + customer.c_data)[:500]


def _deliver_oldest(session: Session, schema: Schema, inputs: DeliveryInputs, d_id: int, now: datetime) -> int | None:
    """Deliver the oldest waiting order of one district and return its number; None if none waits."""
    waiting, line, buyer = schema.new_order, schema.order_line, schema.customer
    # Two deliveries that meet here take different orders: the second waits, then finds the row gone and takes the next.
    o_id = session.scalars(
        select(waiting.no_o_id)
        .where(waiting.no_w_id == inputs.w_id, waiting.no_d_id == d_id)
        .order_by(waiting.no_o_id)
        .limit(1)
        .with_for_update()
    ).one_or_none()
    if o_id is None:
        return None
    session.execute(
        delete(waiting).where(waiting.no_w_id == inputs.w_id, waiting.no_d_id == d_id, waiting.no_o_id == o_id),
        execution_options=_UNSYNCED,
    )
    order = session.get_one(schema.order, (inputs.w_id, d_id, o_id))
    order.o_carrier_id = inputs.carrier_id
    these_lines = (line.ol_w_id == inputs.w_id, line.ol_d_id == d_id, line.ol_o_id == o_id)
    session.execute(update(line).where(*these_lines).values(ol_delivery_d=now), execution_options=_UNSYNCED)
    amount = int(session.scalars(select(func.sum(line.ol_amount)).where(*these_lines)).one())
    session.execute(
        update(buyer)
        .where(buyer.c_w_id == inputs.w_id, buyer.c_d_id == d_id, buyer.c_id == order.o_c_id)
        .values(c_balance=buyer.c_balance + amount, c_delivery_cnt=buyer.c_delivery_cnt + 1),
        execution_options=_UNSYNCED,
    )
    return o_id
