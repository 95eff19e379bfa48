"""Every way in which the steps of units of work can fail, enumerated; what the core says is compared with the truth."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .invariants import violations
from .mutants import MUTANTS, Mutant, mutated
from .programs import ATTEMPTS, UNITS, alone, set_aside
from .world import World, histories

PROGRAMS = (*UNITS, *ATTEMPTS)
SHALLOW = (set_aside,)
"""Programs of many steps: two faults deep instead of three."""


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_the_core_tells_the_truth_after_every_history(program: Callable[[World], None]) -> None:
    """With up to three faults anywhere: all is closed once, the outcome is true, the right error leaves."""
    for world in histories(program, deep=2 if program in SHALLOW else 3):
        found = violations(world)
        assert not found, f"{found} after {world.faults}: {world.log}, {world.error!r}"


def test_the_number_of_histories_is_known() -> None:
    """The enumeration did not shrink unnoticed: 16372 up to two faults deep, 267 of them of one simple unit."""
    assert sum(1 for _ in histories(alone, deep=2)) == 267
    assert sum(1 for program in PROGRAMS for _ in histories(program, deep=2)) == 16372


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant[0])
def test_every_mistake_is_noticed(mutant: Mutant) -> None:
    """The control: each hand-made mistake in the core breaks an invariant in some history two faults deep."""
    _, before, after = mutant
    with mutated(before, after) as (scope, attempts):
        assert any(
            violations(world)
            for deep in (0, 1, 2)
            for program in PROGRAMS
            for world in histories(program, deep=deep, scope=scope, attempts=attempts)
        )
