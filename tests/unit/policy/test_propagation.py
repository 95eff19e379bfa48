"""What a unit does inside another: every mode with every attribute."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from polysession.options import Access, Isolation, Propagation, UnitOptions
from polysession.policy.propagation import Join, Nest, OpenNew, Refuse, decide
from polysession.topology import Role

A = UnitOptions(databases=("a",))
NEW, PLAIN = OpenNew(), OpenNew(transaction=False)

OUTERMOST = {
    Propagation.REQUIRED: NEW,
    Propagation.REQUIRES_NEW: NEW,
    Propagation.NESTED: NEW,
    Propagation.MANDATORY: Refuse,
    Propagation.NEVER: PLAIN,
    Propagation.SUPPORTS: PLAIN,
    Propagation.NOT_SUPPORTED: PLAIN,
}
INSIDE = {
    Propagation.REQUIRED: Join(),
    Propagation.REQUIRES_NEW: NEW,
    Propagation.NESTED: Nest(),
    Propagation.MANDATORY: Join(),
    Propagation.NEVER: Refuse,
    Propagation.SUPPORTS: Join(),
    Propagation.NOT_SUPPORTED: PLAIN,
}
TAKING_PART = [mode for mode, decision in INSIDE.items() if isinstance(decision, (Join, Nest))]

MISMATCHES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    # the attribute that the text names: what the inner one asks for, what the open one has, and what else is known
    "databases": ({"databases": ("a", "b")}, {}, {}),
    "tenant": ({"tenant": "acme"}, {"tenant": "globex"}, {}),
    "access": ({"access": Access.READ}, {}, {}),
    "role": ({"access": Access.READ}, {"access": Access.READ}, {"roles": (Role.PRIMARY, Role.REPLICA)}),
    "atomic": ({"databases": ("a", "b")}, {"databases": ("a", "b"), "atomic": False}, {}),
    "isolation": ({"isolation": Isolation.SERIALIZABLE}, {"isolation": Isolation.REPEATABLE_READ}, {}),
    "snapshot": ({"access": Access.READ, "snapshot": True}, {"access": Access.READ}, {}),
    "retry": ({"repeatable": True}, {}, {}),
    "outcome": ({"exact": True, "exact_asked": True}, {}, {}),
    "key": ({"key": "one"}, {"key": "two"}, {}),
    "deadline": ({"deadline": 2.0}, {"deadline": 9.0}, {"time_left": 1.5}),
}
FITS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "the same": ({}, {}, {}),
    "a part of the databases": ({"databases": ("b",)}, {"databases": ("a", "b")}, {}),
    "the same databases": ({"databases": ("b", "a")}, {"databases": ("a", "b")}, {}),
    "one of several that are not atomic": ({"databases": ("b",)}, {"databases": ("a", "b"), "atomic": False}, {}),
    "several that are not atomic": (
        {"databases": ("a", "b"), "atomic": False},
        {"databases": ("a", "b"), "atomic": False},
        {},
    ),
    "reading in a read unit": ({"access": Access.READ}, {"access": Access.READ}, {}),
    "the same replica": (
        {"access": Access.READ},
        {"access": Access.READ},
        {"roles": (Role.REPLICA, Role.REPLICA)},
    ),
    "the same tenant": ({"tenant": "acme"}, {"tenant": "acme"}, {}),
    "no tenant of its own": ({}, {"tenant": "acme"}, {}),
    "no wish for an isolation level": ({}, {"isolation": Isolation.SERIALIZABLE}, {}),
    "the same isolation level": (
        {"isolation": Isolation.SERIALIZABLE},
        {"isolation": Isolation.SERIALIZABLE},
        {},
    ),
    "no need of the snapshot": ({"access": Access.READ}, {"access": Access.READ, "snapshot": True}, {}),
    "part of a repeatable unit": ({}, {"repeatable": True}, {}),
    "repeated with the outer unit": ({"repeatable": True}, {"repeatable": True}, {}),
    "an exact outcome": ({"exact": True, "exact_asked": True}, {"exact": True}, {}),
    "an exact outcome by default only": ({"exact": True}, {}, {}),
    "no need of an exact outcome": ({}, {"exact": True}, {}),
    "the same key": ({"key": "one"}, {"key": "one"}, {}),
    "no key of its own": ({}, {"key": "one"}, {}),
    "no deadline of its own": ({}, {"deadline": 9.0}, {"time_left": 0.0}),
    "a deadline within what is left": ({"deadline": 2.0}, {"deadline": 9.0}, {"time_left": 2.0}),
    "a deadline where there was none": ({"deadline": 2.0}, {}, {}),
}


def asked(mode: Propagation, **wishes: Any) -> UnitOptions:
    """A unit over "a" with these wishes."""
    return msgspec.structs.replace(A, propagation=mode, **wishes)


def fits(decision: Any, expected: Any) -> bool:
    """The decision, or one of its kind."""
    return isinstance(decision, expected) if isinstance(expected, type) else bool(decision == expected)


def given(decision: Any, wishes: dict[str, Any]) -> Any:
    """The decision, unless it cannot give what is wished for."""
    return Refuse if decision == PLAIN and wishes.keys() & {"isolation", "snapshot", "key", "exact_asked"} else decision


@pytest.mark.parametrize("mode", Propagation)
def test_as_the_outermost_unit(mode: Propagation) -> None:
    """The mode alone decides; but what only a transaction can give is refused to a unit that has none."""
    for wishes, _, more in (*FITS.values(), *MISMATCHES.values()):
        assert fits(decide(asked(mode, **wishes), None, **more), given(OUTERMOST[mode], wishes))


@pytest.mark.parametrize("mode", Propagation)
@pytest.mark.parametrize("case", FITS)
def test_inside_a_unit_that_has_what_it_asks_for(mode: Propagation, case: str) -> None:
    """It joins, nests, opens anew or is refused as the mode says."""
    wishes, has, more = FITS[case]
    around = msgspec.structs.replace(A, **has)
    assert fits(decide(asked(mode, **wishes), around, **more), given(INSIDE[mode], wishes))


@pytest.mark.parametrize("mode", Propagation)
@pytest.mark.parametrize("attribute", MISMATCHES)
def test_inside_a_unit_that_has_it_not(mode: Propagation, attribute: str) -> None:
    """Modes that take part are refused with the attribute's name; the others need not agree."""
    wishes, has, more = MISMATCHES[attribute]
    around = msgspec.structs.replace(A, **has)
    decision = decide(asked(mode, **wishes), around, **more)
    if mode not in TAKING_PART:
        assert fits(decision, given(INSIDE[mode], wishes))
        return
    assert isinstance(decision, Refuse)
    assert decision.what.startswith(f"the open unit cannot be joined: its {attribute} differ")
    assert f"ask for the same {attribute} in both places" in decision.do
    assert decision.why.startswith("asked for ")


def test_every_mode_is_in_the_tables() -> None:
    """A new mode cannot be forgotten."""
    assert set(OUTERMOST) == set(INSIDE) == set(Propagation)


def test_every_attribute_of_a_unit_is_compared() -> None:
    """What is added to the options is either compared or no matter of joining, as leave to commit early is."""
    compared = {{"repeatable": "retry", "exact": "outcome"}.get(name, name) for name in UnitOptions.__struct_fields__}
    assert compared - {"propagation", "exact_asked", "early"} == set(MISMATCHES) - {"role"}


def test_the_texts_name_what_is_open() -> None:
    """A refusal says which databases are covered, or what the difference is."""
    never = decide(asked(Propagation.NEVER), msgspec.structs.replace(A, databases=("a", "b")))
    assert isinstance(never, Refuse)
    assert "it covers a, b" in never.why
    late = decide(asked(Propagation.REQUIRED, deadline=3.0), A, time_left=-1.0)
    assert isinstance(late, Refuse)
    assert late.why == "asked for 3 s; the open unit has 0 s left"
    level = decide(asked(Propagation.REQUIRED, isolation=Isolation.SERIALIZABLE), A)
    assert isinstance(level, Refuse)
    assert level.why == "asked for SERIALIZABLE; the open unit has the server's default"
