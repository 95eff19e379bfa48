"""Ids of units: in the order of time, with the print of a server, and none that is a key's."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polysession.errors import RequestRefused
from polysession.policy import unit_ids

TIMES = st.floats(1_600_000_000, 4_000_000_000)
DRAWS = st.integers(0, 2**44 - 1)
SERVERS = st.integers(0, 2**30 - 1)


@given(TIMES, DRAWS, SERVERS)
def test_an_id_tells_its_time_and_its_server(now: float, draw: int, server: int) -> None:
    """It is a UUID of version 7 in its one spelling, and no key's."""
    unit = unit_ids.new_id(now, draw, server)
    assert uuid.UUID(unit).version == 7
    assert unit_ids.parse(unit) == unit_ids.parse(unit.upper()) == unit
    assert abs(unit_ids.made_at(unit) - now) < 0.002
    assert unit_ids.server_of(unit) == server
    assert not unit_ids.is_key(unit)


@given(TIMES, TIMES, DRAWS, DRAWS, SERVERS)
def test_ids_are_in_the_order_of_time(one: float, other: float, draw: int, second: int, server: int) -> None:
    """Of two that were made at different milliseconds the earlier one is the smaller, as text and as bytes."""
    first, last = sorted((one, other))
    if int(first * 1000) != int(last * 1000):
        assert unit_ids.new_id(first, draw, server) < unit_ids.new_id(last, second, server)
    bound = unit_ids.before(last, 60.0)
    assert (unit_ids.new_id(first, draw, server) < bound) == (int(first * 1000) < int((last - 60.0) * 1000))


@given(st.text(min_size=1), st.text(min_size=1))
def test_a_key_has_an_id(key: str, other: str) -> None:
    """Always the same one, another one for another key, and never below the bound of what may be deleted."""
    unit = unit_ids.key_id(key)
    assert unit == unit_ids.key_id(key)
    assert (unit == unit_ids.key_id(other)) == (key == other)
    assert unit_ids.is_key(unit)
    assert unit_ids.parse(unit) == unit
    assert unit_ids.server_of(unit) == 0
    assert unit > unit_ids.before(4_000_000_000, 0.0)


def test_a_print_is_a_number() -> None:
    """The same one for the same server, 0 for none."""
    assert unit_ids.server_print("") == 0
    assert 0 < unit_ids.server_print("one") < 2**30
    assert unit_ids.server_print("one") == unit_ids.server_print("one") != unit_ids.server_print("two")


@pytest.mark.parametrize("wrong", ["", "x", None, 7, "fdcf51ae-c941-4dbd-ae27-f1c5b8a441a9"])
def test_what_is_no_id_is_refused(wrong: object) -> None:
    """With the sentence that says where one is found."""
    with pytest.raises(RequestRefused, match="CommitUnknown"):
        unit_ids.parse(wrong)
