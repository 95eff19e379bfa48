"""A unit whose owner ends while another thread leaves its block."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from polysession import Sessions
from polysession.errors import UnitRolledBack
from polysession.facts import Outcome, outcome_of


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Sessions]:
    """A door with a table."""
    with Sessions(f"sqlite:///{tmp_path / 'left.db'}") as sessions:
        with sessions.begin() as session:
            session.execute(text("create table item (id integer)"))
        yield sessions


def number(door: Sessions) -> int:
    """Of rows."""
    with door.read() as session:
        return int(session.execute(text("select count(*) from item")).scalar_one())


def test_the_one_who_leaves_ends_it(door: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one waits for him, and then has nothing to do: the unit ends once, and as its block says."""
    leaves, looked, failures = threading.Event(), threading.Event(), []
    unit = door.begin()
    session = unit.__enter__()
    session.execute(text("insert into item values (1)"))
    holding: Any = session._polysession_holding  # type: ignore[attr-defined]  # the guarded class has it

    def wait(_: object) -> None:  # what the block does first when it is left, while the unit is still open
        leaves.set()
        assert looked.wait(10)

    def closed(scope: object) -> bool:  # as it is; tells when somebody looks whether it is being left
        if threading.current_thread() is other:
            looked.set()
        return bool(base_closed.__get__(scope))

    base_closed: Any = type(holding.scope).closed
    monkeypatch.setattr(type(holding.scope), "closed", property(closed, base_closed.__set__))
    monkeypatch.setattr(door, "_late", wait)

    def take_back() -> None:
        assert leaves.wait(10)
        try:
            holding.owner_ended()
        except BaseException as error:
            failures.append(error)

    other = threading.Thread(target=take_back)
    other.start()
    unit.__exit__(None, None, None)
    other.join(10)
    monkeypatch.undo()
    assert not failures
    assert number(door) == 1
    assert door.counts().rolled_back == 0
    assert door.held() == ()


def test_the_one_who_comes_too_late_is_told(door: Sessions) -> None:
    """Whoever leaves the block of a unit that was taken back is told that it was."""
    unit = door.begin()
    session = unit.__enter__()
    session.execute(text("insert into item values (1)"))
    holding: Any = session._polysession_holding  # type: ignore[attr-defined]  # the guarded class has it
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        other = threading.Thread(target=holding.owner_ended)
        other.start()
        other.join(10)
    assert "was left open by" in str(told[0].message)
    with pytest.raises(UnitRolledBack, match="ended before its block"):
        unit.__exit__(None, None, None)
    assert number(door) == 0


def test_one_who_was_leaving_it_and_died(door: Sessions) -> None:
    """A thread that was interrupted when it had said so, and has ended, is not waited for."""
    unit = door.begin()
    session = unit.__enter__()
    session.execute(text("insert into item values (1)"))
    holding: Any = session._polysession_holding  # type: ignore[attr-defined]  # the guarded class has it
    holding.scope.leaver = -1
    with pytest.warns(ResourceWarning, match="was left open by"):
        holding.owner_ended()
    assert number(door) == 0
    assert door.counts().rolled_back == 1


def test_an_interrupt_as_the_block_is_left(door: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    """The unit is ended all the same, and the interrupt tells how."""

    def interrupted() -> int:
        monkeypatch.undo()
        raise KeyboardInterrupt

    def unit() -> None:
        with door.begin() as session:
            session.execute(text("insert into item values (1)"))
            monkeypatch.setattr("polysession.sessions.get_ident", interrupted)

    with pytest.raises(KeyboardInterrupt) as raised:
        unit()
    assert outcome_of(raised.value) is Outcome.ROLLED_BACK
    assert door.held() == ()
    assert door._connections_out() == 0
