"""After the end"""

from __future__ import annotations

import pytest

from polysession import AsyncSessions
from polysession.errors import NoUnit
from polysession.facts import Outcome

from .cells import Cell, Refused
from .schema import Item


async def test_on_commit(door: AsyncSessions, cell: Cell) -> None:
    """on_commit calls after the outermost commit: the work is there for others, and no connection is out any more."""
    seen: list[object] = []

    def note(word: str) -> None:
        seen.append((word, cell.witness.items(), door._connections_out()))

    async with door.begin() as session:
        door.on_commit(note, "first")
        async with door.begin() as inner:
            inner.add(Item(id=1, name="one"))
            door.on_commit(note, "second")
        await session.flush()
        assert seen == []
    assert seen == [("first", [1], 0), ("second", [1], 0)]


async def test_on_rollback(door: AsyncSessions, cell: Cell) -> None:
    """After a rollback on_rollback calls and on_commit does not; on_outcome calls with the outcome in either case."""
    seen: list[object] = []
    for fails in (False, True):
        try:
            async with door.begin():
                door.on_commit(seen.append, "committed")
                door.on_rollback(seen.append, "rolled back")
                door.on_outcome(seen.append)
                if fails:
                    raise Refused
        except Refused:
            pass
    assert seen == ["committed", Outcome.COMMITTED, "rolled back", Outcome.ROLLED_BACK]


async def test_hooks_of_a_savepoint(door: AsyncSessions, cell: Cell) -> None:
    """What is registered behind a savepoint that is undone counts as rolled back, though the unit commits."""
    seen: list[str] = []
    async with door.begin() as session:
        session.add(Item(id=1, name="one"))
        with pytest.raises(Refused):
            async with door.begin(propagation="nested"):
                door.on_commit(seen.append, "inner committed")
                door.on_rollback(seen.append, "inner rolled back")
                raise Refused
        with pytest.raises(Refused):
            async with session.begin_nested():
                door.on_commit(seen.append, "part committed")
                door.on_rollback(seen.append, "part rolled back")
                raise Refused
        async with session.begin_nested():
            door.on_commit(seen.append, "released")
        door.on_commit(seen.append, "outer committed")
    assert seen == ["inner rolled back", "part rolled back", "released", "outer committed"]
    assert cell.witness.items() == [1]


async def test_hooks_outside_of_a_unit(door: AsyncSessions) -> None:
    """Outside of a unit a hook is refused with NoUnit, or called at once if outside="run" says so."""
    seen: list[str] = []
    with pytest.raises(NoUnit):
        door.on_commit(seen.append, "never")
    door.on_commit(seen.append, "now", outside="run")
    assert seen == ["now"]
