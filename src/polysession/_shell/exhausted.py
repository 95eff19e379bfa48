"""The errors of who gets no connection: nothing came, the server does not answer, too many come; with live numbers."""

from __future__ import annotations

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
    turns = "only one unit at a time writes to a database of SQLite; " if one_writes else ""
    out = f"{len(holders)} of {room.seats.size} are out: {'; '.join(holders) or 'none'}"
    return CheckoutTimeout(
        f"no connection to {room.name} within {waited:.1f} s",
        why=f"{turns}{out}; {waiting} others wait",
        do=(
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


def unanswered(room: Room, waited: float) -> CheckoutTimeout:
    """A connection was being opened, and the server has not let it in within `waited` seconds."""
    holders = ledger.described(room)
    return CheckoutTimeout(
        f"no connection to {room.name} within {waited:.1f} s",
        why=f"one is being opened, and the server does not answer; {len(holders)} of {room.seats.size} are out",
        do=(
            "see whether the server is there and can be reached: polysession check",
            "raise pool.checkout_timeout if connecting may take so long",
        ),
        endpoint=room.name,
        waited=waited,
        size=room.seats.size,
        holders=holders,
        waiting=len(room.seats.waiters),
    )


def overloaded(room: Room, kind: str, waited: float) -> Overloaded:
    """More come than can be served, and this one has waited for too long to be served in time."""
    holders = ledger.described(room, many=True)
    waiting = len(room.seats.waiters)
    target = room.seats.waiters.target(kind)
    return Overloaded(
        f"{room.name} is overloaded: refused after {waited:.2f} s of waiting for a connection",
        why=f"for some seconds more units have come than were served, and the queue would make all of them late; the "
        f"target is a wait of {target * 1000:.0f} ms; {len(holders)} of {room.seats.size} are out: "
        f"{'; '.join(holders) or 'none'}; {waiting} others wait",
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
