"""Waiting for a connection: first for what may come back, then also for one of one's own. The same for both pools.

The pool says how it waits (`park`), how it does something beside (`aside`), and how it opens a connection (`open`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from ..errors import CheckoutTimeout
from . import knots
from .claims import OPENER, Attempt, Claim
from .room import LOOK_AGAIN

if TYPE_CHECKING:
    from .pool import FairPool

__all__ = ["keep_floor", "open_for_others", "refuse", "wait"]

_LOOKS = 400
"""Times in a second that somebody of a crowd looks again: thousands who each did it every `LOOK_AGAIN` would leave no
time for the work."""
_STILL = 2.0
"""Seconds in which nothing came back: it may be that nobody can give anything back."""
_AUDITED = 10_000
"""Waiters in a second who are looked at to find what interrupts have left."""


def wait(pool: FairPool, claim: Claim) -> None:
    """Wait for our turn: until `claim` has a connection, or a seat on which to open one."""
    room = pool.room
    asker = claim.asker
    began = time.monotonic()
    deadline = asker.waits_until() if asker is not None else None
    until = began + room.timeout if deadline is None else min(began + room.timeout, deadline)
    try:
        _wait_for_turn(pool, claim, began, until, in_vain=until == deadline)
    except CheckoutTimeout:
        room.note(waits=1, timeouts=1, waited=time.monotonic() - began)
        if asker is not None:
            asker.waited(time.monotonic() - began)
        raise
    except BaseException:
        if asker is not None:
            with suppress(Exception):  # the deadline has passed as well; what interrupted the wait goes first
                asker.waited(time.monotonic() - began)
        raise
    finally:
        knots.ends(claim)
    waited = time.monotonic() - began
    room.note_wait(waited)
    if asker is not None:
        asker.waited(waited)


def refuse(pool: FairPool, claim: Claim) -> NoReturn:
    """Raise for `claim`, which need not even wait: too many do already."""
    pool.room.note(timeouts=1)
    if claim.asker is not None:
        claim.asker.waited(0.0)  # if its time is up, that goes first
    from .exhausted import overloaded  # reports are needed rarely

    raise overloaded(pool.room, claim.kind, 0.0)


def _refuse_knot(pool: FairPool, claim: Claim) -> None:
    """Raise `PoolDeadlock` if those whom `claim` waits for wait for what its own owner holds."""
    knot = knots.begins(claim)
    if knot is None:
        return
    if not knot.is_sure:
        pool.room.collect()  # what only a circle of objects holds comes back by that
    if pool.room.withdraw(claim):
        raise knot.report


def _wait_for_turn(pool: FairPool, claim: Claim, began: float, until: float, *, in_vain: bool) -> None:
    """Wait first for what may come back, then also for a connection of one's own. `in_vain`: after the time nobody
    needs it any more."""
    room = pool.room
    awake_since, patience = began, room.patience
    pool.recall()
    _refuse_knot(pool, claim)
    if until > began and room.seats.total < room.seats.size:  # as hardly ever; `Room.help` looks again under the lock
        _help(pool)
    while not room.decided(claim):
        now = time.monotonic()
        left, waited = until - now, now - awake_since
        # a few more are opened side by side for those who wait for long, so that a burst of them is no herd
        beside = room.seats.size if left <= 0 else room.seats.total // 4 if waited >= LOOK_AGAIN else 0
        # at the end it is too late for that, but for who waits for so short that it could not come before
        may_insist = not in_vain and until - began < LOOK_AGAIN if left <= 0 else waited >= patience
        if may_insist:
            room.note_slow()
        if may_insist and room.insist(claim, beside=beside):
            break
        if left <= 0 and room.withdraw(claim):
            from .exhausted import exhausted  # reports are needed rarely

            raise exhausted(room, claim.kind, now - began)
        if claim.impatient:
            pool.recall()
        looks = claim.impatient or room.seats.all_out(claim.kind)  # else there may be something to open or to close
        # each looks again for all who wait, so in a crowd each does it more rarely, but once while it waits
        crowd = len(room.seats.waiters)
        often = min(max(LOOK_AGAIN, crowd / _LOOKS), max(LOOK_AGAIN, (until - began) / 2))
        pause = max(0.0, min(left, often if looks else patience - waited))
        if pool.park(claim, pause):
            if claim.connection is not None:
                break  # as nearly always: it was handed one
            continue
        # a machine that let nobody run gave nobody the time to return anything
        awake_since += max(0.0, time.monotonic() - now - pause)
        if looks:
            _look_around(pool, claim, began, until, crowd)
    if claim.refused:
        from .exhausted import overloaded  # reports are needed rarely

        raise overloaded(room, claim.kind, time.monotonic() - began)
    if claim.error is not None:
        raise claim.taken_error()


def _look_around(pool: FairPool, claim: Claim, began: float, until: float, crowd: int) -> None:
    """For who waits for what may never come: take back what nobody holds, or find that those who hold wait too."""
    room = pool.room
    if time.monotonic() - room.audited_at >= max(LOOK_AGAIN / 2, crowd / _AUDITED):
        room.audited_at = time.monotonic()
        pool.look_for_lost()
    _refuse_knot(pool, claim)
    now = time.monotonic()
    if now - began > max((until - began) / 2, LOOK_AGAIN) and until - now > LOOK_AGAIN:  # it takes a while
        room.collect(rarely=room.moves(claim.kind, began) or now - room.returned_at < _STILL)


def _help(pool: FairPool) -> None:
    """Have a connection opened beside those who wait, so that none of them misses one that comes back first."""
    _beside(pool, pool.room.help)


def _beside(pool: FairPool, has_seat: Callable[[Claim], bool]) -> None:
    attempt = Attempt()
    claim = attempt.claims(pool, OPENER)
    try:
        if has_seat(claim):
            pool.aside(attempt)
    except RuntimeError:  # no thread can be started: who waits opens one when its patience ends
        pool.abandon(claim)
    except BaseException:
        if pool.room.calls_off(claim):
            pool.abandon(claim)
        raise


def keep_floor(pool: FairPool) -> None:
    """Have connections opened beside until there are as many as there have to be."""
    _beside(pool, pool.room.prepare)


def open_for_others(pool: FairPool, attempt: Attempt) -> None:
    """Open connections for as long as somebody waits for one; who waits first is told if that fails."""
    claim = attempt.claim
    while claim is not None and pool.room.begins(claim):
        try:
            pool.open(claim)
        except BaseException as error:
            pool.abandon_failed(claim)
            if not isinstance(error, Exception):
                raise
            pool.wake_all(pool.room.fail(pool.kind, error))
            return
        assert claim.connection is not None
        pool._do_return_conn(claim.connection)
        another = attempt.claims(pool, OPENER)
        claim = another if pool.room.help(another) or (pool.room.floor and pool.room.prepare(another)) else None
