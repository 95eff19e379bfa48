"""The inputs of the terminals: the standard's ranges, shares and rules."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.leaves.demo.shop import seeded

from polysession.demo.inputs import (
    DECK,
    Constants,
    Inputs,
    Kind,
    NewOrderInputs,
    OrderStatusInputs,
    PaymentInputs,
    StockLevelInputs,
    Terminal,
    last_name,
    nurand,
    spread,
)
from polysession.demo.size import DEFAULT_SCALE, Size

FULL = Size.at(1.0)


def terminal(seed: str, *, remote: tuple[int, ...] = (), size: Size = FULL) -> Terminal:
    """A terminal of warehouse 3, district 4."""
    return Terminal(seeded(seed), Constants.draw(seeded("c"), size), size, w_id=3, d_id=4, remote=remote)


def draws(count: int, *, remote: tuple[int, ...] = ()) -> list[Inputs]:
    """So many transactions of one terminal."""
    one = terminal("draws", remote=remote)
    return [one.draw() for _ in range(count)]


def test_the_same_seed_gives_the_same_inputs() -> None:
    """Two terminals with the same generator state draw the same; another seed draws something else."""
    first, second, other = (terminal(seed, remote=(1, 2)) for seed in ("a", "a", "b"))
    drawn = [first.draw() for _ in range(200)]
    assert drawn == [second.draw() for _ in range(200)]
    assert drawn != [other.draw() for _ in range(200)]


def test_every_deck_has_the_mix_of_the_standard() -> None:
    """Any whole deck holds at least 43 % payments and 4 % of each rare transaction (clause 5.2.3)."""
    shares = Counter(DECK)
    assert shares[Kind.PAYMENT] / len(DECK) >= 0.43
    assert all(shares[kind] / len(DECK) >= 0.04 for kind in (Kind.ORDER_STATUS, Kind.DELIVERY, Kind.STOCK_LEVEL))
    drawn = [inputs.kind for inputs in draws(len(DECK) * 20)]
    for start in range(0, len(drawn), len(DECK)):
        assert Counter(drawn[start : start + len(DECK)]) == shares


def test_new_orders_have_the_ranges_and_shares_of_the_standard() -> None:
    """5 to 15 lines of 1 to 10 pieces, 1 % of the lines remote, 1 % of the orders with an unused item at their end."""
    one = terminal("new orders", remote=(1, 2, 3))
    orders = [one.new_order() for _ in range(20_000)]
    lines = [line for order in orders for line in order.lines]
    assert {len(order.lines) for order in orders} == set(range(5, 16))
    assert {line.quantity for line in lines} == set(range(1, 11))
    assert {order.d_id for order in orders} == set(range(1, 11))
    remote = [line.supply_w_id for line in lines if line.supply_w_id != 3]
    assert set(remote) == {1, 2}
    assert len(remote) / len(lines) == pytest.approx(0.01, abs=0.002)
    wrong = [order for order in orders if order.lines[-1].i_id > FULL.items]
    assert len(wrong) / len(orders) == pytest.approx(0.01, abs=0.003)
    assert all(1 <= line.i_id <= FULL.items for order in orders for line in order.lines[:-1])


def test_payments_have_the_ranges_and_shares_of_the_standard() -> None:
    """1.00 to 5,000.00, 15 % for customers of other warehouses, 60 % by last name."""
    one = terminal("payments", remote=(1, 2, 3))
    payments = [one.payment() for _ in range(20_000)]
    assert all(100 <= payment.amount <= 500_000 for payment in payments)
    remote = [payment for payment in payments if payment.c_w_id != 3]
    assert {payment.c_w_id for payment in remote} == {1, 2}
    assert len(remote) / len(payments) == pytest.approx(0.15, abs=0.01)
    assert all(payment.c_d_id == payment.d_id for payment in payments if payment.c_w_id == 3)
    named = [payment for payment in payments if isinstance(payment.customer, str)]
    assert len(named) / len(payments) == pytest.approx(0.60, abs=0.015)


def test_without_other_warehouses_everything_is_local() -> None:
    """A terminal that is given no other warehouse never leaves its own, even if its own is in the list."""
    for inputs in draws(2_000, remote=(3,)):
        match inputs:
            case NewOrderInputs(lines=lines):
                assert {line.supply_w_id for line in lines} == {3}
            case PaymentInputs(c_w_id=c_w_id):
                assert c_w_id == 3
            case _:
                assert inputs.w_id == 3


def test_stock_level_keeps_the_district_of_the_terminal() -> None:
    """Warehouse and district of Stock-Level are the terminal's own; the threshold is 10 to 20 (clause 2.8.1)."""
    levels = [inputs for inputs in draws(5_000) if isinstance(inputs, StockLevelInputs)]
    assert {(level.w_id, level.d_id) for level in levels} == {(3, 4)}
    assert {level.threshold for level in levels} == set(range(10, 21))
    statuses = [inputs for inputs in draws(5_000) if isinstance(inputs, OrderStatusInputs)]
    assert {status.d_id for status in statuses} == set(range(1, 11))


@pytest.mark.parametrize(("number", "name"), [(0, "BARBARBAR"), (371, "PRICALLYOUGHT"), (999, "EINGEINGEING")])
def test_last_names_are_made_of_three_syllables(number: int, name: str) -> None:
    """Clause 4.3.2.3, with its own example."""
    assert last_name(number) == name


@given(st.integers(0, 2**32), st.integers(0, 255))
def test_nurand_stays_in_its_range(seed: int, constant: int) -> None:
    """NURand gives a number of its range, whatever its constant."""
    assert 0 <= nurand(seeded(seed), 255, constant, 0, 999) <= 999


def test_nurand_is_not_uniform() -> None:
    """Some values come far more often than others: that is what it is for (clause 2.1.6)."""
    rng = seeded("nurand")
    counts = Counter(nurand(rng, 255, 7, 0, 999) for _ in range(50_000))
    common = sum(count for _, count in counts.most_common(100))
    assert common / 50_000 > 0.3


def test_the_spreads_are_the_standards_at_full_size() -> None:
    """A is 255, 1023 and 8191 at scale 1.0 (clause 2.1.6), and in proportion below."""
    assert spread(255, 1_000, 1_000) == 255
    assert spread(1_023, 3_000, 3_000) == 1_023
    assert spread(8_191, 100_000, 100_000) == 8_191
    assert spread(8_191, 100_000, 5_000) == 511


@given(st.integers(0, 2**32))
def test_the_constants_of_load_and_run_differ_as_the_standard_wants(seed: int) -> None:
    """At scale 1.0 the two C of the last names are 65 to 119 apart, but not 96 or 112 (clause 2.1.6.1)."""
    constants = Constants.draw(seeded(seed), FULL)
    delta = abs(constants.name_run - constants.name_load)
    assert 65 <= delta <= 119
    assert delta not in {96, 112}
    assert 0 <= constants.name_run <= 255


@given(st.integers(0, 2**32), st.sampled_from([0.0001, 0.01, DEFAULT_SCALE, 0.1, 0.5]))
def test_constants_can_be_drawn_at_every_scale(seed: int, scale: float) -> None:
    """Every scale has constants inside its spreads."""
    constants = Constants.draw(seeded(seed), Size.at(scale))
    assert 0 <= constants.name_run <= constants.name_spread
    assert 0 <= constants.customer <= constants.customer_spread
    assert 0 <= constants.item <= constants.item_spread


@pytest.mark.parametrize("scale", [0.0, -1.0, 1.01, float("nan")])
def test_a_scale_that_makes_no_sense_is_refused(scale: float) -> None:
    """Only scales above 0 and up to 1 exist."""
    with pytest.raises(ValueError, match="scale"):
        Size.at(scale)


def test_full_scale_has_the_rows_of_the_standard() -> None:
    """Clause 4.3.3.1: 3,000 customers and orders a district, 900 of them not delivered, 100,000 items, 1,000 names."""
    assert (FULL.customers, FULL.items, FULL.names, FULL.new_orders, FULL.delivered) == (
        3_000,
        100_000,
        1_000,
        900,
        2_100,
    )
