"""Finds units that wait for each other's connections, over all pools, threads and tasks of the process, at once.

Looked for when somebody who holds a connection begins to wait for another one, and again while it waits; who gets a
connection without waiting never comes here. `_core.deadlock` decides; here are the clock-free parts of the shell: whose
task or thread must go on for a connection to come back, and a picture of all rooms that was true at one moment.

Nobody is refused by mistake. A connection counts as held by a waiter only if it cannot come back before the wait ends:
it belongs to a unit that encloses the wait, or to a session of `open` whose opener has not returned, or to the task
that waits. Sessions that may change hands, leases that may be taken back, connections of engines that are not ours and
whatever else is not known count as able to come back. The rooms are looked at one after the other, without stopping
them; so a knot is believed only if a second look at everything in it finds the very same claims, since claims never
come back: then it was there at the moment between the two.

One lock orders the waits, so that of those who come at the same time only the last one is refused.
"""

from __future__ import annotations

import contextvars
import os
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from sqlalchemy.ext.asyncio import AsyncSession

from .._core.deadlock import blockers, stuck
from ..errors import PoolDeadlock
from .generators import running, stack
from .places import current_task

if TYPE_CHECKING:
    from .claims import Claim
    from .room import Room

__all__ = ["Knot", "begins", "ends", "enter"]


class Knot(NamedTuple):
    """A claim waits in vain."""

    report: PoolDeadlock
    is_sure: bool
    """No collection of garbage could give back any of what is held in it."""


class _Wait(NamedTuple):
    """Somebody waits, and holds something meanwhile."""

    claim: Claim
    held: frozenset[Claim]
    is_sure: bool = False
    """Functions that run just now have all its sessions in their variables, so they cannot be garbage."""


_Group = tuple["Room", str]

_rooms: dict[int, weakref.ref[Room]] = {}
"""By identity. Everybody who waits reads it; a weak set does not bear that while other threads make rooms."""
_waits: dict[object, _Wait] = {}
_lock = threading.RLock()  # the garbage collector may run somebody's code that waits, in the same thread
_LOOKS = 4
"""Looks at rooms that change all the time; the wait is looked at again later."""


def enter(room: Room) -> None:
    """Let a room be looked at."""
    key = id(room)
    _rooms[key] = weakref.KeyedRef(room, _forget, key)


def _forget(known: Any) -> None:
    _rooms.pop(known.key, None)


def _all_rooms() -> list[Room]:
    return [room for known in list(_rooms.values()) if (room := known()) is not None]


def begins(claim: Claim) -> Knot | None:
    """`claim` waits: the knot if it would wait for ever. A later call looks again."""
    me = _waiter(claim)
    known = _waits.get(me)
    if known is None:
        held = _held(me, claim)
        if not held:
            return None  # nobody waits for it
        known = _Wait(claim, held, _are_in_use(held))
    elif known.claim is not claim:
        return None  # the garbage collector made it ask in the middle of its own wait
    with _lock:
        _waits[me] = known
        found = _look(me, known)
        if found is None:
            return None
        report = _report(known, found)
        _waits.pop(me, None)
    return Knot(report, all(wait.is_sure for wait in found.waits.values()))


def ends(claim: Claim) -> None:
    """It does not wait any more. A second call does nothing."""
    if not _waits:
        return
    me = _waiter(claim)
    with _lock:
        known = _waits.get(me)
        if known is not None and known.claim is claim:
            del _waits[me]


# -- who holds what


def _waiter(claim: Claim) -> object:
    """The task or thread that waits."""
    asker: Any = claim.asker
    owner = asker.held_by() if asker is not None else None
    return owner if owner is not None else current_task() or claim.thread


def _held(me: object, claim: Claim) -> frozenset[Claim]:
    """The connections that cannot come back before this wait has ended."""
    mine = [
        other
        for room in _all_rooms()
        for other in cast("list[Claim]", list(room.seats.taken.values()))
        if other.asker is not None and other is not claim and _owner(other) == me
    ]
    homes = {home for other in mine if (home := _home(other)) is not None}
    if homes:  # what a suspended generator holds comes back if that was dropped and the collector finds it
        here = running(homes)
        mine = [other for other in mine if _home(other) is None or _home(other) in here]
    if not mine or not isinstance(me, int):
        return frozenset(mine)
    around, functions = _scopes(), None
    held = set()
    for other in mine:
        asker: Any = other.asker
        if asker.scope is None and functions is None:
            functions = _running()
        if asker.origin.code in (functions or ()) if asker.scope is None else asker.scope in around:
            held.add(other)
    return frozenset(held)


def _owner(claim: Claim) -> object:
    return cast("Any", claim.asker).held_by()


def _home(claim: Claim) -> Any:
    """The generator in which its unit is open, if it is one of a unit."""
    scope = cast("Any", claim.asker).scope
    return scope.home if scope is not None else None


def _scopes() -> list[object]:
    """The units, of all doors, that enclose what runs here."""
    found: list[object] = []
    for variable, value in contextvars.copy_context().items():
        if variable.name == "polysession":  # as the doors call it
            found += value
    return found


def _running() -> frozenset[object]:
    """The functions that run in this thread, down to here."""
    found = set()
    frame: Any = sys._getframe(2)
    while frame is not None:
        found.add(frame.f_code)
        frame = frame.f_back
    return frozenset(found)


def _are_in_use(held: frozenset[Claim]) -> bool:
    """The session of each of them is in a variable of the function that opened it, which runs in this thread or task.

    Other functions are not looked at: before Python 3.13 a look at a function's variables keeps what they hold until
    the function returns or is looked at again (PEP 667).
    """
    askers: list[Any] = [claim.asker for claim in held]
    sought = {id(session) for asker in askers if (session := asker.sync_session) is not None}
    if len(sought) < len(held):
        return False
    openers = {asker.origin.code for asker in askers}
    for frame in stack(sys._getframe(1)):
        if frame.f_code in openers:
            for value in frame.f_locals.values():
                sought.discard(id(value.sync_session if isinstance(value, AsyncSession) else value))
            if not sought:
                return True
    return False


# -- the picture


class _Picture(NamedTuple):
    """Who waits, and for each group of waiters the claims that block it."""

    waits: dict[object, _Wait]
    groups: dict[_Group, tuple[Claim, ...]]


def _look(me: object, wait: _Wait) -> _Picture | None:
    """The knot in which `me` is, and nobody else; None if there is none. Called under the lock."""
    for _ in range(_LOOKS):
        before = _picture()
        found = _knot(before)
        if me not in before.waits or _group(wait) not in found:
            return None
        if _picture() == before:
            tied = {owner: other for owner, other in before.waits.items() if _group(other) in found}
            return _Picture(tied, before.groups)
    return None


def _picture() -> _Picture:
    waits: dict[object, _Wait] = {}
    groups: dict[_Group, tuple[Claim, ...]] = {}
    for owner, wait in _waits.items():
        room, kind = group = _group(wait)
        with room.lock:
            if wait.claim not in room.seats.waiters or room.seats.seated(wait.claim):
                continue  # it was served, or has given up, and is about to say so
            waits[owner] = wait
            if group not in groups:
                # somebody's lease, which whoever waits takes back
                free = any(room.seats.could_serve(lent, kind) for lent, _ in room.resting.copy().values())
                groups[group] = () if free else cast("tuple[Claim, ...]", blockers(room.seats, kind))
    return _Picture(waits, groups)


def _knot(picture: _Picture) -> frozenset[_Group]:
    holder = {claim: owner for owner, wait in picture.waits.items() for claim in wait.held}
    needs = {group: [holder.get(claim) for claim in claims] for group, claims in picture.groups.items()}
    return stuck(needs, {owner: _group(wait) for owner, wait in picture.waits.items()})


def _group(wait: _Wait) -> _Group:
    return wait.claim.pool.room, wait.claim.kind


def _report(wait: _Wait, knot: _Picture) -> PoolDeadlock:
    described = [_described(other) for other in (wait, *(one for one in knot.waits.values() if one is not wait))]
    room = wait.claim.pool.room
    shown = "; ".join(described[:8]) + (f"; and {len(described) - 8} more" if len(described) > 8 else "")
    return PoolDeadlock(
        f"no connection to {room.name} can ever come: its holders wait, and this unit holds what they wait for",
        why=shown,
        do=room.advice(
            "open the inner unit before or after the outer one, or join it",
            "take connections to several databases in the same order everywhere",
            *(
                ()
                if wait.claim.kind in room.seats.limits  # one writes at a time, whatever the size
                else ("raise pool.size of the database above the number of units that do this at once",)
            ),
        ),
        endpoint=room.name,
        waited=0.0,
        size=room.seats.size,
        holders=tuple(described),
        waiting=len(room.seats.waiters),
    )


def _described(wait: _Wait) -> str:
    held = sorted(f"{claim.pool.room.name} ({claim})" for claim in wait.held)
    asker: Any = wait.claim.asker
    wants = asker.name if asker is not None else "a use without a session"
    place = f" opened at {asker.origin}" if asker is not None else ""
    return f"{wants!r}{place} waits for {wait.claim.pool.room.name} and holds {', '.join(held)}"


def _after_fork() -> None:
    """The waits of the parent's threads are not the child's, nor are the connections; a lock may have been theirs."""
    _waits.clear()
    globals()["_lock"] = threading.RLock()
    for room in _all_rooms():
        room.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
