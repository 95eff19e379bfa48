"""Blocks in which a thread or task holds no connection: what has to be seen to when one begins, and what is refused.

A connection that a read unit may let go of is given to the pool; one that is held for good is refused with the place
of its unit. Inside of the block nobody who owns it gets a connection of the same door. Decides nothing about units that
others own.
"""

from __future__ import annotations

import asyncio
import contextvars
import weakref
from collections.abc import Iterable
from threading import get_ident
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import ConnectionHeld
from ..facts import HoldKind, Origin
from . import places

if TYPE_CHECKING:
    from .holding import Holding, Models

__all__ = ["BLOCK", "Block", "block", "leave_connections", "refuse_inside"]


class Block(NamedTuple):
    """A block of `outside()`."""

    models: Models
    """By which its door is known."""
    task: weakref.ref[asyncio.Task[Any]] | None
    thread: int
    origin: Origin

    @property
    def is_here(self) -> bool:
        """It is that of the thread or task that runs now, which others have inherited."""
        task = places.current_task()
        return self.thread == get_ident() and (self.task() if self.task is not None else None) is task


BLOCK: contextvars.ContextVar[Block | None] = contextvars.ContextVar("polysession outside", default=None)
"""The block in which the code that runs now is."""


def block(models: Models, origin: Origin) -> Block:
    """A block of the thread or task that runs now."""
    task = places.current_task()
    return Block(models, None if task is None else weakref.ref(task), get_ident(), origin)


def leave_connections(holdings: Iterable[Holding], origin: Origin) -> None:
    """Give back what the thread or task that runs now need not hold. Raises `ConnectionHeld` for what it must."""
    task, thread = places.current_task(), get_ident()
    for holding in holdings:
        if holding.ended is not None or holding.is_inherited or holding.thread != thread:
            continue
        if (holding.task() if holding.task is not None else None) is not task:
            continue
        if holding.let_go() or holding.state() == "no connection":
            continue
        raise ConnectionHeld(
            f"{_called(holding)} holds a connection where outside() says that nothing is held",
            why=f"it was opened at {holding.origin}; outside() is at {origin}",
            do=(
                "end the unit before the block",
                "do what is in the block before the unit begins",
                "register it with on_commit() if it has to follow the unit",
            ),
            name=holding.name,
        )


def refuse_inside(models: Models, what: str) -> None:
    """Raise `ConnectionHeld` if what runs now is in a block of this door; `what` it wants is in the text."""
    found = BLOCK.get()
    if found is None or found.models is not models or not found.is_here:
        return
    raise ConnectionHeld(
        f"{what} inside of a block of outside()",
        why=f"outside() is at {found.origin}: nothing is to be held there; this was at {places.caller()}",
        do=("do it before or after the block", "leave out outside() if the block needs the database"),
        name=what,
    )


def _called(holding: Holding) -> str:
    return f"unit {holding.name!r}" if holding.kind is HoldKind.UNIT else f"the session that {holding.name!r} opened"
