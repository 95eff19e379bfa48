"""When no transaction is open for certain, so that no ROLLBACK has to be sent."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from polysession._shell import hygiene
from polysession._shell.notes import HOLDING
from polysession._shell.over import is_over, note_end


def holding(number: int, statements: int) -> Any:
    """What is asked of one."""
    return SimpleNamespace(id=number, seen=SimpleNamespace(statements=statements))


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ((1, 2), (1, 2), True),
        ((1, 2), (1, 3), False),
        ((1, 2), (2, 2), False),
    ],
)
def test_over(before: tuple[int, int], after: tuple[int, int], expected: bool) -> None:
    """It is over if the same holding has sent nothing since; that is said once."""
    info: dict[str, Any] = {}
    note_end(info, holding(*before))
    info[HOLDING] = holding(*after)
    assert is_over(info) is expected
    assert not is_over(info)


def test_a_connection_that_nobody_holds() -> None:
    """Nothing is known of it."""
    info: dict[str, Any] = {}
    note_end(info, holding(1, 2))
    assert not is_over(info)


def test_a_connection_of_which_somebody_has_the_drivers() -> None:
    """What he sends by it is not counted, so nothing is known."""
    one = holding(1, 2)
    info: dict[str, Any] = {HOLDING: one, hygiene._FOUND: hygiene._HANDED}
    note_end(info, one)
    assert not is_over(info)
