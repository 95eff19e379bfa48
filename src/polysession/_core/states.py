"""The legal changes of state of a unit of work, as one table from which the docs draw their diagram. Pure."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["CHANGES", "State", "change"]


class State(StrEnum):
    """Where a unit of work is in its life."""

    NEW = "new"
    OPEN = "open"
    FLUSHING = "flushing"
    COMMITTING = "committing"
    RESOLVING = "resolving"
    """The answer to COMMIT was lost, and the database is asked what came of it."""
    ROLLING_BACK = "rolling back"
    COMMITTED = "committed"
    ROLLED_BACK = "rolled back"
    UNKNOWN = "unknown"
    LOST = "lost"
    """It is not in the database, whose history is another one now: it may have been there before."""
    PARTIAL = "partial"
    CLOSED = "closed"
    """A unit without a transaction failed: what its statements did before stays done."""
    HANDED_OVER = "handed over"
    """A joined unit or a released savepoint: the unit around it decides over the work."""


_S = State

CHANGES: dict[State, frozenset[State]] = {
    # a unit that could not be opened was never begun: it counts as rolled back; one that was interrupted while it was
    # being opened is left like an open one
    _S.NEW: frozenset({_S.OPEN, _S.ROLLING_BACK, _S.ROLLED_BACK, _S.HANDED_OVER}),
    _S.OPEN: frozenset({_S.FLUSHING, _S.ROLLING_BACK, _S.HANDED_OVER}),
    # an error while pending work is sent comes before COMMIT
    _S.FLUSHING: frozenset({_S.COMMITTING, _S.ROLLING_BACK}),
    # an error at COMMIT is a definite rollback only if the server said so over a live link
    _S.COMMITTING: frozenset({_S.COMMITTED, _S.ROLLING_BACK, _S.RESOLVING, _S.UNKNOWN, _S.PARTIAL}),
    _S.RESOLVING: frozenset({_S.COMMITTED, _S.ROLLED_BACK, _S.LOST, _S.UNKNOWN}),
    _S.ROLLING_BACK: frozenset({_S.ROLLED_BACK, _S.CLOSED}),
    _S.COMMITTED: frozenset(),
    _S.ROLLED_BACK: frozenset(),
    _S.UNKNOWN: frozenset(),
    _S.LOST: frozenset(),
    _S.PARTIAL: frozenset(),
    _S.CLOSED: frozenset(),
    _S.HANDED_OVER: frozenset(),
}
"""From each state, the states that may follow."""


def change(now: State, then: State) -> State:
    """`then`, if the table allows it after `now`; an `AssertionError` otherwise: it would be our own mistake."""
    if then not in CHANGES[now]:
        raise AssertionError(f"a unit cannot go from {now!r} to {then!r}")
    return then
