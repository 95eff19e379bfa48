"""The nine tables of TPC-C as mapped classes, under any prefix. It declares; it opens no connection.

Money is kept as whole cents and rates as ten-thousandths, because SQLite has no exact decimal type: a sum of cents is
exact on every engine, and the consistency conditions compare sums. Everything else follows clause 1.3 of the standard
(revision 5.11), with two differences that it leaves to the implementer: HISTORY has a number of its own, as a mapped
class needs a key, and the foreign keys that can cross from one warehouse to another (ORDER-LINE to STOCK, HISTORY to
CUSTOMER) are not declared, as the other warehouse may live in another database.

The row classes here are mixins without a table. `make_schema` gives each a table in a registry of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, TypeVar, cast

from sqlalchemy import CHAR, BigInteger, DateTime, ForeignKeyConstraint, Index, Integer, MetaData, String, Table
from sqlalchemy.orm import DeclarativeBase, Mapped, declared_attr, mapped_column, relationship

__all__ = [
    "Customer",
    "District",
    "History",
    "Item",
    "NewOrder",
    "Order",
    "OrderLine",
    "Schema",
    "Stock",
    "Warehouse",
    "make_schema",
]

Key = Annotated[int, mapped_column(Integer, primary_key=True, autoincrement=False)]
Cents = Annotated[int, mapped_column(BigInteger)]
Rate = Annotated[int, mapped_column(Integer)]
"""Ten-thousandths: 1250 is 0.1250."""
Number = Annotated[int, mapped_column(Integer)]
Serial = Annotated[int, mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)]
Moment = Annotated[datetime, mapped_column(DateTime(timezone=True))]
Letters2 = Annotated[str, mapped_column(CHAR(2))]
Letters9 = Annotated[str, mapped_column(CHAR(9))]
Letters16 = Annotated[str, mapped_column(CHAR(16))]
Letters24 = Annotated[str, mapped_column(CHAR(24))]
Text10 = Annotated[str, mapped_column(String(10))]
Text16 = Annotated[str, mapped_column(String(16))]
Text20 = Annotated[str, mapped_column(String(20))]
Text24 = Annotated[str, mapped_column(String(24))]
Text50 = Annotated[str, mapped_column(String(50))]
Text500 = Annotated[str, mapped_column(String(500))]


class Row:
    """What all row classes share: they are made from keywords."""

    def __init__(self, **values: Any) -> None:
        raise NotImplementedError("a mapped class of make_schema() has the constructor of its declarative base")


class Warehouse(Row):
    """WAREHOUSE."""

    w_id: Mapped[Key]
    w_name: Mapped[Text10]
    w_street_1: Mapped[Text20]
    w_street_2: Mapped[Text20]
    w_city: Mapped[Text20]
    w_state: Mapped[Letters2]
    w_zip: Mapped[Letters9]
    w_tax: Mapped[Rate]
    w_ytd: Mapped[Cents]


class District(Row):
    """DISTRICT: ten for each warehouse."""

    d_w_id: Mapped[Key]
    d_id: Mapped[Key]
    d_name: Mapped[Text10]
    d_street_1: Mapped[Text20]
    d_street_2: Mapped[Text20]
    d_city: Mapped[Text20]
    d_state: Mapped[Letters2]
    d_zip: Mapped[Letters9]
    d_tax: Mapped[Rate]
    d_ytd: Mapped[Cents]
    d_next_o_id: Mapped[Number]


class Customer(Row):
    """CUSTOMER."""

    c_w_id: Mapped[Key]
    c_d_id: Mapped[Key]
    c_id: Mapped[Key]
    c_first: Mapped[Text16]
    c_middle: Mapped[Letters2]
    c_last: Mapped[Text16]
    c_street_1: Mapped[Text20]
    c_street_2: Mapped[Text20]
    c_city: Mapped[Text20]
    c_state: Mapped[Letters2]
    c_zip: Mapped[Letters9]
    c_phone: Mapped[Letters16]
    c_since: Mapped[Moment]
    c_credit: Mapped[Letters2]
    c_credit_lim: Mapped[Cents]
    c_discount: Mapped[Rate]
    c_balance: Mapped[Cents]
    c_ytd_payment: Mapped[Cents]
    c_payment_cnt: Mapped[Number]
    c_delivery_cnt: Mapped[Number]
    c_data: Mapped[Text500]


class History(Row):
    """HISTORY: a row for each payment; `h_id` is ours, the standard gives it no key."""

    h_id: Mapped[Serial]
    h_c_id: Mapped[Number]
    h_c_d_id: Mapped[Number]
    h_c_w_id: Mapped[Number]
    h_d_id: Mapped[Number]
    h_w_id: Mapped[Number]
    h_date: Mapped[Moment]
    h_amount: Mapped[Cents]
    h_data: Mapped[Text24]


class NewOrder(Row):
    """NEW-ORDER: a row while the order is not delivered."""

    no_w_id: Mapped[Key]
    no_d_id: Mapped[Key]
    no_o_id: Mapped[Key]


class OrderLine(Row):
    """ORDER-LINE: 5 to 15 for each order."""

    ol_w_id: Mapped[Key]
    ol_d_id: Mapped[Key]
    ol_o_id: Mapped[Key]
    ol_number: Mapped[Key]
    ol_i_id: Mapped[Number]
    ol_supply_w_id: Mapped[Number]
    ol_delivery_d: Mapped[Moment | None]
    ol_quantity: Mapped[Number]
    ol_amount: Mapped[Cents]
    ol_dist_info: Mapped[Letters24]


class Order(Row):
    """ORDER; its table is called `orders`, as ORDER is a word of SQL."""

    o_w_id: Mapped[Key]
    o_d_id: Mapped[Key]
    o_id: Mapped[Key]
    o_c_id: Mapped[Number]
    o_entry_d: Mapped[Moment]
    o_carrier_id: Mapped[Number | None]
    o_ol_cnt: Mapped[Number]
    o_all_local: Mapped[Number]

    @declared_attr
    @classmethod
    def lines(cls) -> Mapped[list[OrderLine]]:
        """The order lines by their number."""
        return relationship("OrderLine", order_by="OrderLine.ol_number")

    @declared_attr
    @classmethod
    def waiting(cls) -> Mapped[NewOrder | None]:
        """The row of NEW-ORDER while the order is not delivered."""
        return relationship("NewOrder", uselist=False)


class Item(Row):
    """ITEM: the same rows in every database."""

    i_id: Mapped[Key]
    i_im_id: Mapped[Number]
    i_name: Mapped[Text24]
    i_price: Mapped[Cents]
    i_data: Mapped[Text50]


class Stock(Row):
    """STOCK: what a warehouse has of each item."""

    s_w_id: Mapped[Key]
    s_i_id: Mapped[Key]
    s_quantity: Mapped[Number]
    s_dist_01: Mapped[Letters24]
    s_dist_02: Mapped[Letters24]
    s_dist_03: Mapped[Letters24]
    s_dist_04: Mapped[Letters24]
    s_dist_05: Mapped[Letters24]
    s_dist_06: Mapped[Letters24]
    s_dist_07: Mapped[Letters24]
    s_dist_08: Mapped[Letters24]
    s_dist_09: Mapped[Letters24]
    s_dist_10: Mapped[Letters24]
    s_ytd: Mapped[Number]
    s_order_cnt: Mapped[Number]
    s_remote_cnt: Mapped[Number]
    s_data: Mapped[Text50]


RowClass = TypeVar("RowClass", bound=Row)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """The nine mapped classes under one prefix. Immutable; may be shared by threads, tasks and databases."""

    metadata: MetaData
    warehouse: type[Warehouse]
    district: type[District]
    customer: type[Customer]
    history: type[History]
    order: type[Order]
    new_order: type[NewOrder]
    order_line: type[OrderLine]
    item: type[Item]
    stock: type[Stock]

    @property
    def tables(self) -> Mapping[str, Table]:
        """The tables by their names without the prefix, each after those that it refers to."""
        return {table.info["name"]: table for table in self.metadata.sorted_tables}


@lru_cache
def make_schema(prefix: str = "") -> Schema:
    """The nine tables, their names led by `prefix`. A second call with the same prefix returns the same schema."""

    class Base(DeclarativeBase):
        """The registry of this prefix."""

    def mapped(row: type[RowClass], name: str, *arguments: ForeignKeyConstraint | Index) -> type[RowClass]:
        members = {"__tablename__": prefix + name, "__table_args__": (*arguments, {"info": {"name": name}})}
        # The declarative constructor comes before the one of `Row`, which exists for the type checkers only.
        return cast("type[RowClass]", type(row.__name__, (Base, row), {"__init__": Base.__init__, **members}))

    def refers(columns: str, table: str, target: str) -> ForeignKeyConstraint:
        return ForeignKeyConstraint(columns.split(), [f"{prefix}{table}.{column}" for column in target.split()])

    def index(name: str, *columns: str) -> Index:
        return Index(f"{prefix}{name}", *columns)

    order_key = "o_w_id o_d_id o_id"
    return Schema(
        metadata=Base.metadata,
        warehouse=mapped(Warehouse, "warehouse"),
        district=mapped(District, "district", refers("d_w_id", "warehouse", "w_id")),
        customer=mapped(
            Customer,
            "customer",
            refers("c_w_id c_d_id", "district", "d_w_id d_id"),
            index("customer_by_name", "c_w_id", "c_d_id", "c_last", "c_first"),
        ),
        history=mapped(History, "history", refers("h_w_id h_d_id", "district", "d_w_id d_id")),
        order=mapped(
            Order,
            "orders",
            refers("o_w_id o_d_id o_c_id", "customer", "c_w_id c_d_id c_id"),
            index("orders_by_customer", "o_w_id", "o_d_id", "o_c_id", "o_id"),
        ),
        new_order=mapped(NewOrder, "new_order", refers("no_w_id no_d_id no_o_id", "orders", order_key)),
        order_line=mapped(OrderLine, "order_line", refers("ol_w_id ol_d_id ol_o_id", "orders", order_key)),
        item=mapped(Item, "item"),
        stock=mapped(Stock, "stock", refers("s_w_id", "warehouse", "w_id"), refers("s_i_id", "item", "i_id")),
    )
