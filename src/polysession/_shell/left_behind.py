"""What nobody will end any more: sessions and units that were dropped, or whose thread or task has ended.

That is known when it happens, not after a time (`owners`, and Python's own word for a dropped object). The connection
is taken back, and a `ResourceWarning` names the line that opened it.

A session of `sessionmaker` may be handed from one to the other, so the end of who opened it proves nothing: the garbage
collector is asked then whether anybody can still reach it.
"""

from __future__ import annotations

import gc
import threading
import time
import warnings
import weakref
from typing import Any, Final

from sqlalchemy.engine import Connection

from .._core.scope import Scope
from .._core.states import State
from ..errors import UnitRolledBack
from ..facts import HoldKind, Outcome
from .grace import GRACE
from .holding import Holding
from .standing import Standing

__all__ = ["LeftBehind", "left_by_another"]

_COLLECT_AGAIN: Final = 2.0
"""Seconds between two runs of the whole collector for sessions whose opener has ended: they stop the program."""


_LOOK_AGAIN: Final = 0.001


def left_by_another(scope: Scope) -> bool:
    """Another thread was leaving the block of `scope` when its owner ended, and has done so now. The garbage collector
    does that in whatever thread it runs, to a block in a generator that was forgotten.

    Waits for that thread as long as it lives, for the grace at most.
    """
    until = time.monotonic() + GRACE
    while (leaver := scope.leaver) is not None and not scope.closed and time.monotonic() < until:
        if leaver == threading.get_ident() or all(thread.ident != leaver for thread in threading.enumerate()):
            return False
        time.sleep(_LOOK_AGAIN)
    return scope.closed


class LeftBehind(Standing):
    """The part of a door that ends what nobody else does."""

    _collected_at = float("-inf")

    def _left_behind(self, holding: Holding) -> None:
        """The owner of `holding` has ended and left it open. Called in another thread, or in the loop of its task."""
        if holding.kind is HoldKind.UNIT:
            scope: Scope | None = holding.scope
            if scope is not None and scope.state is State.OPEN:
                scope.left_behind = True
                self._end_left(scope, holding)
            return
        if not holding.strict:
            self._collect(holding)
            return
        session = holding.watch() if holding.watch is not None else None
        if session is None or holding.ended is not None:
            return
        holding.ended, holding.ended_at, holding.user = Outcome.DROPPED, holding.origin, 0
        try:
            self._close_left(session, holding)
        finally:
            self._say_left(holding)

    def _say_left(self, holding: Holding) -> None:
        """Warn of what was open when its owner ended."""
        warnings.warn(
            f"polysession: {holding.kind} {holding.name!r} was left open by {holding.owner}, which has ended; it was "
            f"opened at {holding.origin}",
            ResourceWarning,
            stacklevel=2,
        )

    def _refuse_left(self, scope: Scope, error: BaseException | None) -> None:
        """Raise `UnitRolledBack` for who leaves a unit's block and would believe that it commits."""
        if error is not None:
            return
        holding: Any = scope.holding
        raise UnitRolledBack(
            f"unit {holding.name!r} was rolled back: {holding.owner}, to which it belonged, ended before its block",
            why=f"it was opened at {holding.origin}; nobody else may use it, so it was taken for forgotten",
            do=(
                "leave the block in the thread or task that entered it",
                "call take_over() in the one that goes on, while the other still runs",
            ),
            unit=holding.name,
        )

    def _end_left(self, scope: Scope, holding: Holding) -> None:
        """Roll back a unit whose owner has ended, and say so."""
        raise NotImplementedError

    def _close_left(self, session: Any, holding: Holding) -> None:
        """End a session whose owner has ended. Overridden by the asynchronous door."""
        session.close()

    def _collect(self, holding: Holding) -> None:
        """Look whether anybody can still reach a session; if not, it is reported as dropped."""
        watch = holding.watch
        if watch is None or not gc.isenabled():
            return
        for generation in (0, 1, 2):
            if generation == 2:
                now = time.monotonic()
                if now - self._collected_at < _COLLECT_AGAIN:
                    return
                LeftBehind._collected_at = now
            gc.collect(generation)
            if watch() is None:
                return

    def _watch(self, session: Any, holding: Holding) -> None:
        """Notice when nobody can reach the session any more."""
        holding.watch = weakref.ref(session, lambda _: self._dropped(holding))

    def _dropped(self, holding: Holding) -> None:
        if holding.is_inherited:
            return  # the parent process has it, and its connection
        if holding.ended is not None:
            holding.end(holding.ended)  # an interrupt came before it was told
            return
        taken = holding.taken
        holding.end(Outcome.DROPPED, holding.origin)
        if taken is not None:
            self._take_back(taken)
        warnings.warn(
            f"polysession: {holding.kind} {holding.name!r} was dropped without close(); it was opened at "
            f"{holding.origin} by {holding.owner}",
            ResourceWarning,
            stacklevel=2,
            source=None,
        )

    def _take_back(self, connection: Connection) -> None:
        """Return the connection of a session that was dropped. Overridden by the asynchronous door."""

    def _say_dropped(self, scope: Scope) -> None:
        holding: Holding | None = scope.holding
        if holding is not None and holding.is_inherited:
            return
        warnings.warn(
            f"polysession: unit {scope.name!r} was dropped without leaving its block; it was opened at {scope.origin}",
            ResourceWarning,
            stacklevel=2,
        )
