"""For how long a database is asked what came of a COMMIT."""

from __future__ import annotations

from typing import Any

from polysession._core.outcome import HURRIED, Marked, Verdict, resolve_steps
from polysession._core.steps import Dial, Draw, Rest
from polysession.facts import Outcome
from polysession.testing import Played, play

ID = "0193d2a4-7c00-7abc-8def-0123456789ab"


def asked(cancelled_in_turn: int) -> tuple[float, Played[Verdict]]:
    """How many seconds are spent on a database that cannot be reached, if a cancellation comes in this turn; the play.

    Each try takes half a second, each rest what it says.
    """
    now = turns = 0.0

    def perform(step: Any) -> Any:
        nonlocal now, turns
        match step:
            case Draw(until):
                assert until is not None
                return 0.5, until - now
            case Dial():
                now += 0.5
                raise ConnectionRefusedError
            case Rest(seconds):
                now += seconds
                turns += 1
                return turns >= cancelled_in_turn
            case _:
                raise AssertionError(step)

    played = play(resolve_steps(Marked(unit=ID, until=10.0), "shop"), perform)
    return now, played


def test_it_is_asked_for_as_long_as_there_is_time() -> None:
    """Without a cancellation all the time is used, and the outcome is unknown then."""
    now, played = asked(cancelled_in_turn=1000)
    assert 10.0 <= now < 10.6
    assert played.value().outcome is Outcome.UNKNOWN


def test_a_cancellation_shortens_it() -> None:
    """A cancellation that comes while it is asked leaves two seconds more, not all the rest; it is not prolonged."""
    early, _ = asked(cancelled_in_turn=1)
    assert HURRIED < early < 0.6 + HURRIED + 0.6
    late, _ = asked(cancelled_in_turn=13)
    assert 10.0 <= late < 10.6
