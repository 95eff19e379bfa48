"""The matrix of propagation"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from polysession import AsyncSessions, Sessions, errors
from polysession._shell.guard import holding_of
from polysession.facts import Fact, HoldEnded, HoldOpened, Outcome
from polysession.options import Propagation

from .cells import Cell
from .doors import as_async, real
from .matrix import PAGE, End, Entry, Expected, Situation, Work, entry, expected, page
from .schema import Invoice, Item

S = Situation
_OUTER: dict[Situation, dict[str, Any]] = {
    S.ISOLATION: {"isolation": "READ COMMITTED"},
    S.DEADLINE: {"deadline": 30.0},
    S.SHORTER: {"deadline": 90.0},
    S.TENANT: {"tenant": "acme"},
}
_INNER: dict[Situation, dict[str, Any]] = {
    S.ISOLATION: {"isolation": "SERIALIZABLE"},
    S.DEADLINE: {"deadline": 60.0},
    S.SHORTER: {"deadline": 30.0},
    S.TENANT: {"tenant": "globex"},
    S.ROLE: {"role": "replica"},
    S.SNAPSHOT: {"snapshot": True},
    S.RETRY: {"retry": 3},
    S.DATABASES: {"atomic": False},
}
_NUMBERS = itertools.count(1, 10)
"""Of rows; none comes twice: MariaDB locks the gaps around the mark of a row that was deleted."""
_DEADLINE, _JUMP = 30.0, 45.0
_READS_OUTSIDE = (S.ROLE, S.SNAPSHOT)
_READS_INSIDE = (*_READS_OUTSIDE, S.ACCESS)


class Oops(Exception):
    """What the code inside raises."""


class Passing(Exception):
    """Looks like a driver's error that vanishes when the unit is repeated: a deadlock, a lock that was not got."""

    sqlstate = "40001"
    sqlite_errorcode = 5


class Clock:
    """`time.monotonic`, with a jump when a cell says so: no test waits for a deadline."""

    def __init__(self) -> None:
        self._real = time.monotonic
        self._ahead = 0.0

    def __call__(self) -> float:
        return self._real() + self._ahead

    def jump(self) -> None:
        """Let `_JUMP` seconds pass."""
        self._ahead += _JUMP


class Told:
    """An observer: the units that were opened, and how each ended."""

    def __init__(self) -> None:
        self.opened: list[HoldOpened] = []
        self.ended: dict[int, Outcome] = {}

    def tell(self, fact: Fact) -> None:
        """Note it."""
        if isinstance(fact, HoldOpened):
            self.opened.append(fact)
        elif isinstance(fact, HoldEnded):
            self.ended[fact.hold] = fact.outcome


class Play:
    """Plays the cells of one situation in one place."""

    def __init__(self, cell: Cell, situation: Situation, clock: Clock) -> None:
        self.cell = cell
        self.situation = situation
        self.clock = clock
        self.told = Told()
        self.door = self._door()
        self.witness: sa.Connection

    def _door(self) -> AsyncSessions:
        cell, table = self.cell, {"pool": {"size": 4}}
        default: dict[str, Any] = {"url": cell.url, **table}
        if self.situation is S.ROLE:
            default["replicas"] = [cell.url]
        if self.situation is S.TENANT:
            default = {"tenants": {"acme": cell.url, "globex": cell.other_url}, **table}
        databases: dict[str, Any] = {"orders": default}
        if self.situation is S.DATABASES:
            databases["billing"] = {"url": cell.other_url, **table}
        observers = [self.told]
        door = (
            AsyncSessions(databases, observers=observers)
            if cell.is_async
            else as_async(Sessions(databases, observers=observers))
        )
        if self.situation is S.DATABASES:
            door.bind(Item, "orders")
            door.bind(Invoice, "billing")
        return cell.keep(door)

    async def all(self) -> list[str]:
        """Play every mode with every end; the cells whose result is not the expected one."""
        wrong = []
        with self.cell.witness.engine.connect() as self.witness:
            for mode, end in itertools.product(Propagation, End):
                seen = await self._apart(mode, end)
                if seen != expected(mode, self.situation, end):
                    wrong.append(f"{mode} / {end}:\n    {seen}, not\n    {expected(mode, self.situation, end)}")
                assert self.door.held() == ()
        return wrong

    async def _apart(self, mode: Propagation, end: End) -> Expected:
        """One cell, at the asynchronous door in a task of its own, so that it can be cancelled."""
        one = One(self, mode, end, next(_NUMBERS))
        if not self.cell.is_async:
            return await one.play()
        return await asyncio.create_task(one.play())

    def ids(self) -> set[int]:
        """The items that are committed."""
        return {row[0] for row in self.witness.execute(sa.text("select id from item"))}


class One:
    """One cell."""

    def __init__(self, play: Play, mode: Propagation, end: End, number: int) -> None:
        self.p = play
        self.mode = mode
        self.end = end
        self.situation = play.situation
        self.number = number
        self.entry = Entry.REFUSED
        self.attempts = 0
        self.reads_outside = self.situation in _READS_OUTSIDE
        self.reads_inside = self.situation in _READS_INSIDE
        self.outer: Any = None
        self.names_a_place = True

    async def play(self) -> Expected:
        """Its result."""
        before = len(self.p.told.opened)
        leaves = ""
        try:
            if self.situation is S.NONE:
                await self._between()
            else:
                await self._around()
        except (asyncio.CancelledError, KeyboardInterrupt):
            leaves = "Cancelled"
        except Exception as error:
            leaves = type(error).__name__
            if leaves not in ("Oops", "JoinRefused", "UnitRolledBack", "DeadlineExceeded"):
                raise
        assert self.names_a_place or self.situation is S.NONE
        units = self.p.told.opened[before:]
        return Expected(self.entry, leaves, *self._work(units))

    async def _around(self) -> None:
        door, writes = self.p.door, not self.reads_outside
        asked = dict(_OUTER.get(self.situation, {}))
        if self.end is End.DEADLINE:
            asked.setdefault("deadline", _DEADLINE)
        unit = door.begin("orders", **asked) if writes else door.read("orders", **asked)
        # SQLite has one writer: one that has written keeps others from it
        early = self.p.cell.engine != "sqlite" or entry(self.mode, self.situation) in (Entry.JOINED, Entry.SAVEPOINT)
        async with unit as session:
            self.outer = real(session)
            if early:
                await self._write(session, 1, writes=writes)
            await self._between()
            assert real(door.current("orders")) is self.outer  # what was set aside is back
            await self._write(session, 3, writes=writes)

    async def _between(self) -> None:
        """The inner unit, and what catches its error."""
        try:
            await self._open()
        except Oops:
            if self.end is not End.CAUGHT:
                raise
        except errors.JoinRefused as refused:
            self.names_a_place = f"{__file__}:" in str(refused)
            if self.end is End.RAISED:
                raise
            if self.end is End.CANCEL:
                await self._cancel()
            elif self.end is End.DEADLINE:
                self.p.clock.jump()
                self.p.clock.jump()

    async def _open(self) -> None:
        door = self.p.door
        asked = {"propagation": self.mode, **_INNER.get(self.situation, {})}
        if self.situation is S.NONE and self.end is End.DEADLINE:
            asked["deadline"] = _DEADLINE
        names = ("orders", "billing") if self.situation is S.DATABASES else ("orders",)
        if self.situation is S.RETRY:
            await door.run(self._repeated, *names, **asked)
            return
        async with door.read(*names, **asked) if self.reads_inside else door.begin(*names, **asked) as session:
            await self._inside(session)

    async def _repeated(self, session: AsyncSession) -> None:
        """A repeatable unit of its own is repeated; a plain one says why not."""
        self.attempts += 1
        scope: Any = self.p.door._current.get()[0]
        if self.end is End.OK and self.attempts == 1 and not scope.plain:
            raise sa.exc.OperationalError("a statement", None, Passing(1213, "deadlock"))
        await self._inside(session)
        assert self.attempts == (2 if self.end is End.OK and not scope.plain else 1)

    async def _inside(self, session: AsyncSession) -> None:
        self.entry = self._entered(session)
        if self.situation is S.DATABASES:
            session.add(Invoice(id=self.number))
        await self._write(session, 2, writes=not self.reads_inside)
        match self.end:
            case End.OK:
                await self._given(session)
            case End.CAUGHT | End.RAISED:
                raise Oops
            case End.CANCEL:
                await self._cancel()
            case End.DEADLINE:
                self.p.clock.jump()
                await session.execute(sa.select(Item.id))

    def _entered(self, session: AsyncSession) -> Entry:
        scope: Any = self.p.door._current.get()[0]
        assert real(self.p.door.current("orders")) is real(session)
        if real(session) is self.outer:
            return Entry.SAVEPOINT if session.in_nested_transaction() else Entry.JOINED
        return Entry.PLAIN if scope.plain else Entry.OWN

    async def _given(self, session: AsyncSession) -> None:
        """A unit that did not join has what it asked for."""
        if self.entry not in (Entry.OWN, Entry.PLAIN):
            return
        opened = self.p.told.opened[-1]
        holding = holding_of(session.sync_session)
        assert holding is not None
        match self.situation:
            case S.ISOLATION:
                level = await session.run_sync(lambda sync: sync.connection().get_isolation_level())
                assert level == "SERIALIZABLE"
            case S.ACCESS:
                session.add(Item(id=-1, name="-1"))
                with pytest.raises(errors.ReadOnlyUnit):
                    await session.flush()
                session.expunge_all()
            case S.DEADLINE | S.SHORTER:
                assert holding.seen.allowed == _INNER[self.situation]["deadline"]
            case S.TENANT:
                assert (opened.tenant, opened.endpoints) == ("globex", ("orders/tenant-globex",))
            case S.ROLE:
                assert "replica" in opened.endpoints[0]
            case S.SNAPSHOT:
                count = sa.select(sa.func.count()).select_from(Item)
                seen = await session.scalar(count)
                self.p.cell.witness.do(
                    f"insert into item (id, name, value) values ({self.number}, 'x{self.number}', 0)"
                )
                assert await session.scalar(count) == seen
            case S.DATABASES:
                assert opened.databases == ("orders", "billing")
            case S.RETRY if self.entry is Entry.OWN and self.p.cell.is_postgres:
                level = await session.run_sync(lambda sync: sync.connection().get_isolation_level())
                assert level == "REPEATABLE READ"

    async def _write(self, session: AsyncSession, which: int, *, writes: bool) -> None:
        if writes:
            number = self.number + which
            session.add(Item(id=number, name=str(number)))
            await session.flush()
        else:
            await session.execute(sa.select(Item.id))

    async def _cancel(self) -> None:
        if not self.p.cell.is_async:
            raise KeyboardInterrupt
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    def _work(self, units: list[HoldOpened]) -> tuple[Work, Work]:
        """What became of the inner unit's work and of the outer one's."""
        there = self.p.ids()
        around = None if self.situation is S.NONE else units[0]
        outer = Work.NONE if around is None else self._became(around, 3 in self._mine(there), reads=self.reads_outside)
        if self.entry is Entry.REFUSED:
            return Work.NONE, outer
        kept = 2 in self._mine(there)
        if self.situation is S.TENANT:
            assert not kept  # it is in the other tenant's database, or in none
            kept = 2 in self._mine(set(self.p.cell.other_witness.items()))
        if self.situation is S.DATABASES:
            both = self.p.cell.other_witness.ask("select id from invoice where id = :id", id=self.number)
            assert bool(both) is kept
        if self.entry in (Entry.PLAIN, Entry.SAVEPOINT):  # its unit's outcome does not tell of its work
            return Work.KEPT if kept or self.reads_inside else Work.LOST, outer
        return self._became(units[-1] if self.entry is Entry.OWN else units[0], kept, reads=self.reads_inside), outer

    def _mine(self, there: set[int]) -> set[int]:
        return {number - self.number for number in there}

    def _became(self, unit: HoldOpened, kept: bool, *, reads: bool) -> Work:
        """By its rows; the outcome that was told is the same."""
        committed = self.p.told.ended[unit.hold] is Outcome.COMMITTED
        assert reads or kept is committed
        return Work.KEPT if committed else Work.LOST


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time of this test."""
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


@pytest.mark.parametrize("situation", Situation, ids=lambda each: each.name.lower())
def test_every_cell_has_its_result(cell: Cell, situation: Situation, clock: Clock) -> None:
    """Every mode with every end comes out as the table says, and what was asked for is given or refused."""

    async def test() -> None:
        wrong = await Play(cell, situation, clock).all()
        assert not wrong, "\n".join(wrong)

    cell.conduct(test)


def test_the_page_is_the_table() -> None:
    """docs/propagation.md is what the table says; if not, write it anew with POLYSESSION_WRITE_TABLE=1."""
    if "POLYSESSION_WRITE_TABLE" in os.environ:
        PAGE.write_text(page(), "utf-8")
    assert PAGE.read_text("utf-8") == page()
