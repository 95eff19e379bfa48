"""The rows of the connections that are out: who has each, since when, and what of that time the database had.

Nothing is written for it while units work: a claim (`claims`) knows its owner and the moment, the watch of the owner
counts its statements, and a row is put together when somebody asks. May be asked from any thread; touches nothing.
"""

from __future__ import annotations

import sysconfig
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, Final

from ..facts import Origin
from ..observe.live import Checkout
from .places import current_task, is_the_users
from .threads import frame_of

if TYPE_CHECKING:
    from .claims import Claim
    from .room import Room

__all__ = ["described", "row", "rows", "whereabouts"]

_INSTALLED: Final = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
"""Folders of code that is not the application's."""


def rows(rooms: Iterable[Room], *, opened: bool = False) -> tuple[Checkout, ...]:
    """The connections of these rooms that are out, the oldest first; those that are being opened, too, unless only what
    is `opened` is asked for."""
    found = [
        row(claim)
        for room in rooms
        for claim in room.holders()
        if not claim.left and not (opened and claim.connection is None)
    ]
    return tuple(sorted(found, key=lambda each: -each.age))


def described(room: Room, *, many: bool = False) -> tuple[str, ...]:
    """The rows of who has a connection of a room, as text for an error. Where very many wait and their times are up one
    after the other, they share what was found a moment ago: looking at all that anew for each of them would leave no
    time for the work. `many`: they are, whoever waits just now."""
    now = time.monotonic()
    many = many or len(room.seats.waiters) >= _MANY
    if room.described is not None and many and now - room.described[0] < _A_MOMENT:
        return room.described[1]
    found = tuple(str(each) for each in rows((room,), opened=True))
    room.described = (now, found)
    return found


def row(claim: Claim) -> Checkout:
    """The row of one connection that is out."""
    asker: Any = claim.asker
    age = time.monotonic() - claim.since
    holding: Any = asker if hasattr(asker, "seen") else None
    statements, in_database, idle = 0, 0.0, 0.0
    if holding is not None:
        before, spent_before = holding.seen.spent_before
        statements = holding.seen.statements - before
        in_database = min(age, max(0.0, holding.seen.now_in_database - spent_before))
        idle = holding.seen.idle
    return Checkout(
        endpoint=claim.pool.room.name,
        hold=None if holding is None else holding.id,
        kind=None if holding is None else holding.kind,
        name=_UNKNOWN if asker is None else asker.name,
        owner=str(claim) if holding is None else str(holding.owner),
        place="" if holding is None else str(holding.origin),
        since=datetime.now(UTC) - timedelta(seconds=age),
        age=age,
        statements=statements,
        in_database=in_database,
        idle=idle,
        now=(whereabouts(holding) or "") if holding is not None and idle else "",
    )


_MANY: Final = 20
"""Waiters."""
_A_MOMENT: Final = 0.1
"""Seconds."""
_UNKNOWN: Final = "a use without a session"


def whereabouts(holding: Any) -> str | None:
    """The line of the application's code at which the owner of a unit or session is just now; None if nobody knows."""
    owner = holding.held_by()
    if owner is None:
        return None
    try:
        if isinstance(owner, int):
            return _nearest(_outward(frame_of(owner)))
        return None if owner is current_task() or owner.done() else _nearest(_inward(owner.get_coro()))
    except Exception:  # frames of others change while they are looked at
        return None


def _outward(frame: FrameType | None) -> Iterable[FrameType]:
    """A thread's frames, the innermost first."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def _inward(coroutine: Any) -> Iterable[FrameType]:
    """The frames of a task that is suspended, the innermost first."""
    found: list[FrameType] = []
    while coroutine is not None:
        for kind in ("cr", "ag", "gi"):
            frame = getattr(coroutine, f"{kind}_frame", None)
            if frame is not None:
                found.append(frame)
                coroutine = getattr(coroutine, "gi_yieldfrom" if kind == "gi" else f"{kind}_await", None)
                break
        else:
            break
    return reversed(found)


def _nearest(frames: Iterable[FrameType]) -> str | None:
    """The first frame of the application; of an installed package if there is none."""
    second: FrameType | None = None
    for frame in frames:
        if not is_the_users(frame):
            continue
        if not _is_installed(frame.f_code):
            return str(Origin(frame.f_code, frame.f_lasti))
        second = second or frame
    return None if second is None else str(Origin(second.f_code, second.f_lasti))


def _is_installed(code: CodeType) -> bool:
    return code.co_filename.startswith((*_INSTALLED, "<frozen"))
