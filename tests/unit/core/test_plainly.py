"""Structs whose attributes are set plainly: they are structs as before, and what they hold can be collected."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import msgspec
import pytest

from polysession import Sessions
from polysession._core.plainly import stored_plainly


@stored_plainly
class Plain(msgspec.Struct, eq=False, weakref=True):
    """Made with something that is tracked."""

    held: dict[str, Any]
    other: Any = None


def test_attributes_are_set_and_deleted() -> None:
    """As those of any struct: no other attribute can be set, and one that is gone is not there."""
    plain: Any = Plain({})
    plain.other = 1
    assert plain.other == 1
    del plain.other
    with pytest.raises(AttributeError):
        _ = plain.other
    with pytest.raises(AttributeError):
        plain.unknown = 1


def test_a_circle_is_collected() -> None:
    """Of one that was made, and of a copy."""
    made = Plain({})
    copied: Plain = made.__copy__()  # type: ignore[attr-defined]  # of every struct
    found = []
    for one in (made, copied):
        one.other = one
        found.append(weakref.ref(one))
    del made, copied, one
    gc.collect()
    assert [reference() for reference in found] == [None, None]


def test_what_units_are_made_of_is_tracked_from_its_beginning() -> None:
    """Else a circle in which it is would never be collected."""
    with Sessions("sqlite://") as sessions:
        for _ in range(3):
            unit: Any = sessions.read()
            with unit:
                assert all(map(gc.is_tracked, (unit, unit._scope, unit._scope.holding, unit._scope.holding.seen)))
