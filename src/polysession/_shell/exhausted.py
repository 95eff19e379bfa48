"""The errors of who gets no connection: nothing came, the server does not answer, too many come; with live numbers."""

from __future__ import annotations

import time
from typing import Final

from ..errors import CheckoutTimeout, Overloaded
from . import ledger
from .room import Room

__all__ = ["exhausted", "overloaded", "unanswered"]


def exhausted(room: Room, kind: str, waited: float) -> CheckoutTimeout:
    """Nothing of this kind came within `waited` seconds."""
    holders = ledger.described(room)
    waiting = len(room.seats.waiters)
    if room.seats.paused:
        return CheckoutTimeout(
            f"no connection to {room.name} within {waited:.1f} s",
            why=f"its pool is paused; {len(holders)} of {room.seats.size} are out; {waiting} others wait",
            do=("resume it when what it waits for is over: sessions.resume()", "raise pool.checkout_timeout"),
            endpoint=room.name,
            waited=waited,
            size=room.seats.size,
            holders=holders,
            waiting=waiting,
        )
    one_writes = kind in room.seats.limits
    unopened = room.awaited(waited)
    if unopened:
        since = time.monotonic() - unopened[0].opens_since
        are = "is" if len(unopened) == 1 else "are"
        return CheckoutTimeout(
            f"no connection to {room.name} within {waited:.1f} s",
            why=f"{len(unopened)} of {room.seats.size} {are} being opened, one for {since:.1f} s, and the server "
            f"does not answer; {_out(room, holders)}; {waiting} others wait",
            do=room.advice(
                *_SEE_TO_THE_SERVER,
                *(("end those units of work sooner", "raise pool.size of the database") if holders else ()),
            ),
            endpoint=room.name,
            waited=waited,
            size=room.seats.size,
            holders=holders,
            waiting=waiting,
        )
    turns = "only one unit at a time writes to a database of SQLite; " if one_writes else ""
    return CheckoutTimeout(
        f"no connection to {room.name} within {waited:.1f} s",
        why=f"{turns}{_out(room, holders)}; {waiting} others wait",
        do=room.advice(
            "end those units of work sooner",
            "open what only reads with read()" if one_writes else "raise pool.size of the database",
            "raise pool.checkout_timeout",
        ),
        endpoint=room.name,
        waited=waited,
        size=room.seats.size,
        holders=holders,
        waiting=waiting,
    )


def _out(room: Room, holders: tuple[str, ...]) -> str:
    return f"{len(holders)} of {room.seats.size} are out: {'; '.join(holders) or 'none'}"


_SEE_TO_THE_SERVER: Final = (
    "see whether the server is there and can be reached: polysession check",
    "raise pool.checkout_timeout if connecting may take so long",
)


def unanswered(room: Room, waited: float) -> CheckoutTimeout:
    """A connection was being opened, and the server has not let it in within `waited` seconds."""
    holders = ledger.described(room)
    return CheckoutTimeout(
        f"no connection to {room.name} within {waited:.1f} s",
        why=f"one is being opened, and the server does not answer; {len(holders)} of {room.seats.size} are out",
        do=room.advice(*_SEE_TO_THE_SERVER),
        endpoint=room.name,
        waited=waited,
        size=room.seats.size,
        holders=holders,
        waiting=len(room.seats.waiters),
    )


def overloaded(room: Room, kind: str, waited: float) -> Overloaded:
    """More come than can be served: this one has waited for too long to be served in time, or, if it did not wait, too
    many do already."""
    holders = ledger.described(room, many=True)
    waiting = len(room.seats.waiters)
    target = room.seats.waiters.target(kind)
    return Overloaded(
        f"{room.name} is overloaded: refused "
        + (f"after {waited:.2f} s of waiting for a connection" if waited else "at once, since too many wait already"),
        why=f"for some seconds more units have come than were served, and the queue would make all of them late; the "
        f"target is a wait of {target * 1000:.0f} ms; {_out(room, holders)}; {waiting} others wait",
        do=(
            "answer that the service is busy, and let the caller come again later",
            "raise pool.size of the database if the server can do more",
            "set pool.overload to 'wait' to let everybody wait",
        ),
        endpoint=room.name,
        waited=waited,
        size=room.seats.size,
        holders=holders,
        waiting=waiting,
    )
