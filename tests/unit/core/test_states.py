"""The table of legal changes: what is not in it raises, and it leads to an end."""

from __future__ import annotations

import itertools

import pytest

from polysession._core.states import CHANGES, State, change

ENDS = {State.COMMITTED, State.ROLLED_BACK, State.UNKNOWN, State.LOST, State.PARTIAL, State.CLOSED, State.HANDED_OVER}


@pytest.mark.parametrize(("now", "then"), list(itertools.product(State, State)))
def test_a_change_is_in_the_table_or_raises(now: State, then: State) -> None:
    """No other way leads from one state to another."""
    if then in CHANGES[now]:
        assert change(now, then) is then
    else:
        with pytest.raises(AssertionError, match="a unit cannot go from"):
            change(now, then)


def test_the_table_has_every_state_and_these_ends() -> None:
    """Nothing follows an end; everything else leads on."""
    assert set(CHANGES) == set(State)
    assert {state for state, following in CHANGES.items() if not following} == ENDS


def test_every_state_can_be_reached_and_comes_to_an_end() -> None:
    """No state is a dead word, and none goes round in circles."""
    reached: set[State] = set()
    paths: list[tuple[State, ...]] = [(State.NEW,)]
    while paths:
        path = paths.pop()
        reached.add(path[-1])
        assert len(path) == len(set(path)), f"a circle: {path}"
        paths += [(*path, then) for then in CHANGES[path[-1]]]
    assert reached == set(State)


def test_committed_comes_only_from_committing() -> None:
    """Nobody is told of a commit that did not happen; neither is a rollback claimed once COMMIT was sent, but by way
    of rolling back, or of asking the database."""
    found = [state for state in State if State.COMMITTED in CHANGES[state]]
    assert found == [State.COMMITTING, State.RESOLVING]
    assert State.ROLLED_BACK not in CHANGES[State.COMMITTING]
