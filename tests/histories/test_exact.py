"""Every way in which the answer to COMMIT can be lost, and every fault while the database is asked what came of it."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pytest

from polysession._core import attempts as real_attempts
from polysession._core import scope as real_scope

from .exact_mutants import EXACT_MUTANTS, Mutant, mutated_exact
from .exact_world import KEYED, WAYS, ExactWorld, Way, exact_histories, wrongs

_DEEPER = ("as it is", "commits", "idle", "failed over without", "failed over while replicating")
"""Ways of which every pair of faults is tried; one of each kind, since the others differ by the moment only."""
CASES = [(way, False) for way in WAYS] + [(way, True) for way in WAYS if way.name in KEYED]


def depth(way: Way) -> int:
    """How many faults are tried at once."""
    return 2 if (way.name in _DEEPER and way.steps in (0, 3, 9)) or (way.name, way.steps) == ("late", 6) else 1


@pytest.mark.parametrize(("way", "key"), CASES, ids=str)
def test_what_is_said_is_true_after_every_history(way: Way, key: bool) -> None:
    """With up to two faults anywhere: nothing is done twice or lost, and what is said of each attempt is the truth."""
    for world in exact_histories(way, deep=depth(way), key=key):
        found = wrongs(world)
        assert not found, f"{found} in the way {way} after {world.faults}: {world.log}, {world.error!r}"


def histories(deep: int, scope: ModuleType = real_scope, attempts: ModuleType = real_attempts) -> Iterator[ExactWorld]:
    """Those of all cases."""
    for way, key in CASES:
        yield from exact_histories(way, deep=deep, key=key, scope=scope, attempts=attempts)


def test_the_number_of_histories_is_known() -> None:
    """The enumeration did not shrink unnoticed."""
    assert sum(1 for _ in histories(0)) == len(CASES)
    assert sum(1 for _ in histories(1)) == 2472


@pytest.mark.parametrize("mutant", EXACT_MUTANTS, ids=lambda mutant: mutant[0])
def test_every_mistake_is_noticed(mutant: Mutant) -> None:
    """The control: each hand-made mistake is told by a history with one fault at most beside the way, or with two."""
    _, before, after = mutant
    with mutated_exact(before, after) as (scope, attempts):
        assert any(wrongs(world) for deep in (0, 1, 2) for world in histories(deep, scope, attempts))
