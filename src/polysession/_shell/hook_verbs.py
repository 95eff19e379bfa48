"""The verbs of a door that register what is called after the end of a unit."""

from __future__ import annotations

import inspect
import logging
import weakref
from collections.abc import Callable
from typing import Any, Literal, TypeVarTuple

from sqlalchemy import event
from sqlalchemy.orm import Session, SessionTransaction

from .._core.hooks import Hook, Moment
from .._core.scope import find_open
from .._core.steps import Call
from ..errors import NoUnit, RequestRefused
from . import places
from .asking import called, flag
from .standing import Standing, owner_key

__all__ = ["HookVerbs", "log_failed_hook"]

Ts = TypeVarTuple("Ts")

_log = logging.getLogger("polysession")


class HookVerbs(Standing):
    """`on_commit`, `on_rollback`, `on_outcome`."""

    def on_commit(
        self,
        call: Callable[[*Ts], object],
        *args: *Ts,
        database: str | None = None,
        robust: bool = False,
        outside: Literal["error", "run"] = "error",
    ) -> None:
        """Call `call(*args)` after the outermost commit of the unit that is open here; dropped if it rolls back.

        Hooks run in the order in which they were registered, when the session is closed and its connection is back.
        What is registered behind a savepoint that is rolled back counts as rolled back. The call is made at most
        once: a process that dies after COMMIT makes none. It may be a coroutine function at the asynchronous door.

        All hooks run even if one raises; what they raise leaves the unit, which has committed all the same. That of a
        `robust` one is logged instead. Outside of a unit this raises `NoUnit`, or calls at once with `outside="run"`.
        """
        self._hook(Moment.COMMIT, call, args, database, robust, outside)

    def on_rollback(
        self, call: Callable[[*Ts], object], *args: *Ts, database: str | None = None, robust: bool = False
    ) -> None:
        """Call `call(*args)` when the work of the unit that is open here has been rolled back; as `on_commit`.

        For a unit that is repeated, only the last attempt counts.
        """
        self._hook(Moment.ROLLBACK, call, args, database, robust, "error")

    def on_outcome(
        self, call: Callable[..., object], *args: Any, database: str | None = None, robust: bool = False
    ) -> None:
        """Call `call(outcome, *args)` when the unit that is open here has ended, however it ended; as `on_commit`.

        `outcome` is an `Outcome`: it may be `UNKNOWN`, of which neither of the other hooks is told.
        """
        self._hook(Moment.OUTCOME, call, args, database, robust, "error")

    def _hook(
        self,
        moment: Moment,
        call: Callable[..., Any],
        args: tuple[Any, ...],
        database: str | None,
        robust: bool,
        outside: str,
    ) -> None:
        if not callable(call) or outside not in ("error", "run"):
            what = f"{call!r}, which cannot be called" if not callable(call) else f"outside={outside!r}"
            raise RequestRefused(
                f"{moment.value}() was given {what}",
                why="it takes what is to be called, its arguments, and outside='error' or outside='run'",
                do=("give a function and its arguments: on_commit(send_mail, order.id)",),
                attribute="outside" if callable(call) else "call",
            )
        flag(robust, "robust")
        waits = inspect.iscoroutinefunction(call)
        if waits and not self.asynchronous:
            raise RequestRefused(
                f"{moment.value}() was given the coroutine function {call.__qualname__!r} at the synchronous door",
                why="nothing there could await it",
                do=("give it an ordinary function", "use AsyncSessions"),
            )
        names = tuple(self._topology.databases) if database is None else self._topology.resolve((database,))
        owner = owner_key()
        scope = find_open(self._here(), names, owner)
        if scope is not None:
            hook = Hook(moment, call, args, robust=robust)
            holding: Any = scope.holding
            if holding.sync.in_nested_transaction():
                _undo_with_savepoints(hook, holding.sync)
            scope.hooks += (hook,)
            return
        if outside == "run" and not waits:
            _refuse_coroutine(call(*args), moment, call)
            return
        raise NoUnit(
            f"{moment.value}() was called outside of a unit of work{'' if database is None else f' over {database!r}'}",
            why=(f"none is open at {places.caller()}, so there is nothing to wait for{self._suspended(names, owner)}"),
            do=(
                "call it inside of the unit's block",
                "await the coroutine function yourself" if waits else "say outside='run' to call it at once",
            ),
            database=database or "",
        )

    def _perform_call(self, step: Call) -> Any:
        hook = step.hook
        try:
            answer = hook.call(*step.args)
            return answer if self.asynchronous else _refuse_coroutine(answer, hook.moment, hook.call)
        except Exception:
            if hook.robust:
                log_failed_hook(hook)
            raise


def _undo_with_savepoints(hook: Hook, session: Session) -> None:
    """A hook that was registered behind savepoints of the session, those of begin_nested(), is undone with any of them.
    Those of units tell it once more."""
    savepoints: weakref.WeakSet[SessionTransaction] = weakref.WeakSet()
    transaction = session.get_nested_transaction()
    while transaction is not None:
        if transaction.nested:
            savepoints.add(transaction)
        transaction = transaction.parent

    def rolled_back(_: Session, ended: SessionTransaction) -> None:
        undone: SessionTransaction | None = ended
        while undone is not None and not undone.nested:
            undone = undone.parent  # a flush that has failed takes the savepoint around it with it
        if undone in savepoints:
            hook.undone = True

    event.listen(session, "after_soft_rollback", rolled_back)


def _refuse_coroutine(answer: object, moment: Moment, call: Callable[..., Any]) -> object:
    """What a hook answered. Raises `RequestRefused` for a coroutine, which nobody awaits here."""
    if inspect.iscoroutine(answer):
        answer.close()
        raise RequestRefused(
            f"{moment.value}() called {called(call)!r}, which returned a coroutine, and nothing there could await it",
            why="what it would do has not been done",
            do=("give an ordinary function", "use AsyncSessions, and give the coroutine function inside of a unit"),
            attribute="call",
        )
    return answer


def log_failed_hook(hook: Hook) -> None:
    """Say that a robust hook failed; to be called while its error is handled."""
    _log.exception("%r failed; the unit has ended all the same", hook)
