"""The twelve consistency conditions of TPC-C, clause 3.3.2, as one table. Each is a query for the rows that violate it.

It reads and reports; it never repairs. A condition is checked inside one database, as all rows of a warehouse and of
what refers to it are in the same one. Conditions 1 to 10 and 12 are the standard's word for word. Condition 11 of the
standard holds for freshly filled tables only, as each delivery takes a row from NEW-ORDER: the deliveries that the
customers count (C_DELIVERY_CNT, 0 at first) are therefore added, which is the same at the start and exact ever after.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, Subquery, and_, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from .schema import Schema
from .size import Size

__all__ = ["CONDITIONS", "Condition", "ConditionResult", "check"]

Violations = Select[*tuple[Any, ...]]

_EXAMPLES: Final = 3


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition: its number in clause 3.3.2, its sentence, and the query for the rows that violate it."""

    number: int
    text: str
    violations: Callable[[Schema, Size], Violations]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionResult:
    """How many rows violate a condition, and up to three of them by column."""

    number: int
    text: str
    violations: int
    examples: tuple[dict[str, Any], ...] = ()

    @property
    def holds(self) -> bool:
        """No row violates it."""
        return self.violations == 0


def check(session: Session, schema: Schema, size: Size) -> list[ConditionResult]:
    """Check all twelve conditions in the session's database; for exact results, nothing else may run there."""
    return [_check(session, condition, condition.violations(schema, size)) for condition in CONDITIONS]


def _check(session: Session, condition: Condition, violations: Violations) -> ConditionResult:
    count = session.scalars(select(func.count()).select_from(violations.subquery())).one()
    examples: tuple[dict[str, Any], ...] = ()
    if count:
        rows = session.execute(violations.limit(_EXAMPLES)).mappings()
        examples = tuple({name: _plain(value) for name, value in row.items()} for row in rows)
    return ConditionResult(number=condition.number, text=condition.text, violations=count, examples=examples)


def _plain(value: Any) -> Any:
    """Sums of whole numbers come as Decimal from PostgreSQL and MariaDB."""
    return int(value) if isinstance(value, Decimal) else value


def _warehouse_year(schema: Schema, _size: Size) -> Violations:
    w, d = schema.warehouse, schema.district
    sums = _sums((d.d_w_id,), func.sum(d.d_ytd))
    return (
        select(w.w_id, w.w_ytd, _or_zero(sums).label("sum_d_ytd"))
        .outerjoin_from(w, sums, sums.c[0] == w.w_id)
        .where(w.w_ytd != _or_zero(sums))
    )


def _next_order(schema: Schema, _size: Size) -> Violations:
    d, o, n = schema.district, schema.order, schema.new_order
    orders = _sums((o.o_w_id, o.o_d_id), func.max(o.o_id))
    waiting = _sums((n.no_w_id, n.no_d_id), func.max(n.no_o_id))
    last = d.d_next_o_id - 1
    return (
        select(d.d_w_id, d.d_id, d.d_next_o_id, orders.c.value.label("max_o_id"), waiting.c.value.label("max_no_o_id"))
        .outerjoin_from(d, orders, and_(orders.c[0] == d.d_w_id, orders.c[1] == d.d_id))
        .outerjoin(waiting, and_(waiting.c[0] == d.d_w_id, waiting.c[1] == d.d_id))
        # A district where nothing waits is exempt from the second half; a comparison with null is not true.
        .where(or_(last != _or_zero(orders), last != waiting.c.value))
    )


def _no_gaps(schema: Schema, _size: Size) -> Violations:
    n = schema.new_order
    span = func.max(n.no_o_id) - func.min(n.no_o_id) + 1
    return (
        select(n.no_w_id, n.no_d_id, span.label("span"), func.count().label("rows"))
        .group_by(n.no_w_id, n.no_d_id)
        .having(span != func.count())
    )


def _district_lines(schema: Schema, _size: Size) -> Violations:
    d, o, line = schema.district, schema.order, schema.order_line
    promised = _sums((o.o_w_id, o.o_d_id), func.sum(o.o_ol_cnt))
    present = _sums((line.ol_w_id, line.ol_d_id), func.count())
    return (
        select(d.d_w_id, d.d_id, promised.c.value.label("sum_o_ol_cnt"), present.c.value.label("lines"))
        .outerjoin_from(d, promised, and_(promised.c[0] == d.d_w_id, promised.c[1] == d.d_id))
        .outerjoin(present, and_(present.c[0] == d.d_w_id, present.c[1] == d.d_id))
        .where(_or_zero(promised) != _or_zero(present))
    )


def _carrier(schema: Schema, _size: Size) -> Violations:
    o, n = schema.order, schema.new_order
    return (
        select(o.o_w_id, o.o_d_id, o.o_id, o.o_carrier_id, n.no_o_id)
        .outerjoin_from(o, n, and_(n.no_w_id == o.o_w_id, n.no_d_id == o.o_d_id, n.no_o_id == o.o_id))
        .where(_differ(o.o_carrier_id.is_(None), n.no_o_id.is_not(None)))
    )


def _order_lines(schema: Schema, _size: Size) -> Violations:
    o, line = schema.order, schema.order_line
    present = _sums((line.ol_w_id, line.ol_d_id, line.ol_o_id), func.count())
    return (
        select(o.o_w_id, o.o_d_id, o.o_id, o.o_ol_cnt, present.c.value.label("lines"))
        .outerjoin_from(o, present, and_(present.c[0] == o.o_w_id, present.c[1] == o.o_d_id, present.c[2] == o.o_id))
        .where(o.o_ol_cnt != _or_zero(present))
    )


def _delivered_lines(schema: Schema, _size: Size) -> Violations:
    o, line = schema.order, schema.order_line
    return (
        select(line.ol_w_id, line.ol_d_id, line.ol_o_id, line.ol_number, o.o_carrier_id)
        .outerjoin_from(line, o, and_(o.o_w_id == line.ol_w_id, o.o_d_id == line.ol_d_id, o.o_id == line.ol_o_id))
        .where(_differ(line.ol_delivery_d.is_(None), o.o_carrier_id.is_(None)))
    )


def _warehouse_payments(schema: Schema, _size: Size) -> Violations:
    w, h = schema.warehouse, schema.history
    paid = _sums((h.h_w_id,), func.sum(h.h_amount))
    return (
        select(w.w_id, w.w_ytd, _or_zero(paid).label("sum_h_amount"))
        .outerjoin_from(w, paid, paid.c[0] == w.w_id)
        .where(w.w_ytd != _or_zero(paid))
    )


def _district_payments(schema: Schema, _size: Size) -> Violations:
    d, h = schema.district, schema.history
    paid = _sums((h.h_w_id, h.h_d_id), func.sum(h.h_amount))
    return (
        select(d.d_w_id, d.d_id, d.d_ytd, _or_zero(paid).label("sum_h_amount"))
        .outerjoin_from(d, paid, and_(paid.c[0] == d.d_w_id, paid.c[1] == d.d_id))
        .where(d.d_ytd != _or_zero(paid))
    )


def _balance(schema: Schema, _size: Size) -> Violations:
    c, h = schema.customer, schema.history
    owed = _delivered_amounts(schema)
    paid = _sums((h.h_c_w_id, h.h_c_d_id, h.h_c_id), func.sum(h.h_amount))
    return (
        select(
            c.c_w_id,
            c.c_d_id,
            c.c_id,
            c.c_balance,
            _or_zero(owed).label("sum_ol_amount"),
            _or_zero(paid).label("sum_h_amount"),
        )
        .outerjoin_from(c, owed, and_(owed.c[0] == c.c_w_id, owed.c[1] == c.c_d_id, owed.c[2] == c.c_id))
        .outerjoin(paid, and_(paid.c[0] == c.c_w_id, paid.c[1] == c.c_d_id, paid.c[2] == c.c_id))
        .where(c.c_balance != _or_zero(owed) - _or_zero(paid))
    )


def _order_counts(schema: Schema, size: Size) -> Violations:
    d, c, o, n = schema.district, schema.customer, schema.order, schema.new_order
    orders = _sums((o.o_w_id, o.o_d_id), func.count())
    waiting = _sums((n.no_w_id, n.no_d_id), func.count())
    deliveries = _sums((c.c_w_id, c.c_d_id), func.sum(c.c_delivery_cnt))
    return (
        select(
            d.d_w_id,
            d.d_id,
            _or_zero(orders).label("orders"),
            _or_zero(waiting).label("new_orders"),
            _or_zero(deliveries).label("sum_c_delivery_cnt"),
        )
        .outerjoin_from(d, orders, and_(orders.c[0] == d.d_w_id, orders.c[1] == d.d_id))
        .outerjoin(waiting, and_(waiting.c[0] == d.d_w_id, waiting.c[1] == d.d_id))
        .outerjoin(deliveries, and_(deliveries.c[0] == d.d_w_id, deliveries.c[1] == d.d_id))
        .where(_or_zero(orders) - _or_zero(waiting) != size.delivered + _or_zero(deliveries))
    )


def _spending(schema: Schema, _size: Size) -> Violations:
    c = schema.customer
    owed = _delivered_amounts(schema)
    return (
        select(c.c_w_id, c.c_d_id, c.c_id, c.c_balance, c.c_ytd_payment, _or_zero(owed).label("sum_ol_amount"))
        .outerjoin_from(c, owed, and_(owed.c[0] == c.c_w_id, owed.c[1] == c.c_d_id, owed.c[2] == c.c_id))
        .where(c.c_balance + c.c_ytd_payment != _or_zero(owed))
    )


CONDITIONS: Final = (
    Condition(1, "W_YTD = sum(D_YTD), by warehouse", _warehouse_year),
    Condition(2, "D_NEXT_O_ID - 1 = max(O_ID) = max(NO_O_ID), by district", _next_order),
    Condition(3, "max(NO_O_ID) - min(NO_O_ID) + 1 = count(NEW-ORDER), by district", _no_gaps),
    Condition(4, "sum(O_OL_CNT) = count(ORDER-LINE), by district", _district_lines),
    Condition(5, "O_CARRIER_ID is null if and only if the order is in NEW-ORDER", _carrier),
    Condition(6, "O_OL_CNT = count(ORDER-LINE), by order", _order_lines),
    Condition(7, "OL_DELIVERY_D is null if and only if O_CARRIER_ID is null", _delivered_lines),
    Condition(8, "W_YTD = sum(H_AMOUNT), by warehouse", _warehouse_payments),
    Condition(9, "D_YTD = sum(H_AMOUNT), by district", _district_payments),
    Condition(10, "C_BALANCE = sum(delivered OL_AMOUNT) - sum(H_AMOUNT), by customer", _balance),
    Condition(11, "count(ORDER) - count(NEW-ORDER) = deliveries so far, by district", _order_counts),
    Condition(12, "C_BALANCE + C_YTD_PAYMENT = sum(delivered OL_AMOUNT), by customer", _spending),
)
"""All twelve, by number."""


def _sums(keys: tuple[InstrumentedAttribute[int], ...], value: ColumnElement[Any]) -> Subquery:
    """`value` for each group of `keys`; its columns are the keys in order, then `value`."""
    return select(*keys, value.label("value")).group_by(*keys).subquery()


def _delivered_amounts(schema: Schema) -> Subquery:
    """What each customer owes for the lines that were delivered."""
    o, line = schema.order, schema.order_line
    return (
        select(o.o_w_id, o.o_d_id, o.o_c_id, func.sum(line.ol_amount).label("value"))
        .join_from(o, line, and_(line.ol_w_id == o.o_w_id, line.ol_d_id == o.o_d_id, line.ol_o_id == o.o_id))
        .where(line.ol_delivery_d.is_not(None))
        .group_by(o.o_w_id, o.o_d_id, o.o_c_id)
        .subquery()
    )


def _or_zero(sums: Subquery) -> ColumnElement[int]:
    return func.coalesce(sums.c.value, 0)


def _differ(left: ColumnElement[bool], right: ColumnElement[bool]) -> ColumnElement[bool]:
    return or_(and_(left, ~right), and_(~left, right))
