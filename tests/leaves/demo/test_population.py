"""The initial rows: as many as they must be, the same for the same seed, and consistent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from tests.leaves.demo.shop import Shop, fill, seeded, sqlite

from polysession.demo.inputs import Constants, last_name
from polysession.demo.schema import make_schema
from polysession.demo.size import Size


def dump(path: Path, *, seed: int) -> list[list[tuple[Any, ...]]]:
    """All rows of a shop that was filled with this seed."""
    schema, size = make_schema(), Size.at(0.01)
    engine = sqlite(path)
    fill(engine, schema, size, Constants.draw(seeded("constants"), size), seed=seed)
    with engine.connect() as connection:
        rows = [
            [tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key))]
            for table in schema.tables.values()
        ]
    engine.dispose()
    return rows


def test_there_are_as_many_rows_as_the_scale_says(tmp_path: Path) -> None:
    """The numbers of clause 4.3.3.1, here a hundredth of them; 5 to 15 lines for each order."""
    schema, size = make_schema(), Size.at(0.01)
    engine = sqlite(tmp_path / "shop.db")
    rows = fill(engine, schema, size, Constants.draw(seeded("constants"), size))
    engine.dispose()
    lines = rows.pop("order_line")
    assert rows == {
        "item": 1_000,
        "warehouse": 2,
        "stock": 2_000,
        "district": 20,
        "customer": 600,
        "history": 600,
        "orders": 600,
        "new_order": 180,
    }
    assert 5 * 600 < lines < 15 * 600


def test_the_same_seed_fills_the_same_rows(tmp_path: Path) -> None:
    """Two databases with one seed are equal, with two seeds they are not."""
    first = dump(tmp_path / "a.db", seed=1)
    assert first == dump(tmp_path / "b.db", seed=1)
    assert first != dump(tmp_path / "c.db", seed=2)


def test_all_twelve_conditions_hold_at_first(shop: Shop) -> None:
    """A freshly filled database is consistent."""
    assert shop.violated() == set()


@pytest.mark.parametrize("scale", [0.0001, 0.003, 0.02])
def test_the_conditions_hold_at_other_scales(tmp_path: Path, scale: float) -> None:
    """However small, the rows are consistent."""
    schema, size = make_schema(), Size.at(scale)
    engine = sqlite(tmp_path / "shop.db")
    constants = Constants.draw(seeded("constants"), size)
    fill(engine, schema, size, constants)
    assert Shop(engine, schema, size, constants).violated() == set()
    engine.dispose()


def test_every_last_name_is_somebodys(shop: Shop) -> None:
    """In each district every name that a terminal can draw belongs to at least one customer."""
    customer = shop.schema.customer
    with shop.session() as session:
        for w_id in (1, 2):
            for d_id in range(1, 11):
                names = set(
                    session.scalars(select(customer.c_last).where(customer.c_w_id == w_id, customer.c_d_id == d_id))
                )
                assert names == {last_name(number) for number in range(shop.size.names)}


def test_values_are_those_of_the_standard(shop: Shop) -> None:
    """Fixed values and ranges of clause 4.3.3.1, in cents and ten-thousandths."""
    schema = shop.schema
    with shop.session() as session:
        item, stock, customer, line = schema.item, schema.stock, schema.customer, schema.order_line
        low, high = session.execute(select(func.min(item.i_price), func.max(item.i_price))).one()
        assert 100 <= low < high <= 10_000
        low, high = session.execute(select(func.min(stock.s_quantity), func.max(stock.s_quantity))).one()
        assert (low, high) == (10, 100)
        assert set(session.scalars(select(customer.c_credit).distinct())) == {"BC", "GC"}
        assert set(session.scalars(select(customer.c_balance).distinct())) == {-1_000}
        assert set(session.scalars(select(line.ol_amount).where(line.ol_delivery_d.is_not(None)))) == {0}
        original = session.scalars(select(func.count()).where(item.i_data.contains("ORIGINAL"))).one()
        assert original / shop.size.items == pytest.approx(0.1, abs=0.03)
        assert session.scalars(select(func.max(func.length(item.i_data)))).one() <= 50
        ytd = session.scalars(select(schema.warehouse.w_ytd)).all()
        assert ytd == [10 * shop.size.customers * 1_000] * 2
