"""What came of a COMMIT whose answer was lost: the database is asked, by a fence. Waits for nothing; a core of steps.

The unit has written a row with its id in its own transaction. The fence writes the same id, with the verdict "aborted",
in a transaction of its own on a new connection. One of the two can have the id:

- the fence is refused because the id is there: its row is read, and says whose it is. A row "committed" is the unit's.
  A row "aborted" is that of an earlier fence whose own answer was lost: taking it for the unit's would be a lie;
- the fence commits: the unit never will. It has not committed, or what it did is lost, if the server's history is not
  the one in which it ran;
- the fence has to wait: the unit's transaction is still open. Either its connection idles, for a client that is gone,
  and the server ends it; or it works; or it has committed and waits for a standby.

Everything else says nothing, and the fence is repeated: it can be, as often as it takes. Until the time is over; then
nobody knows, and nobody pretends to.
"""

from __future__ import annotations

from contextlib import suppress
from enum import StrEnum
from typing import Any

import msgspec

from ..dialects.marker import ABORTED, CLAIMED, COMMITTED
from ..facts import Outcome
from ..failures import Kind, Phase
from ..policy import unit_ids
from .steps import Classify, Dial, Draw, Evict, Fence, HangUp, Look, ReadVerdict, Ready, Rest, Seal, Steps

__all__ = ["HURRIED", "Doing", "Marked", "Verdict", "asked_steps", "ready_steps", "resolve_steps"]

HURRIED = 2.0
"""Seconds for which is asked at most after a cancellation, and the least that a unit gets whose deadline has passed."""

_FIRST_WAIT = 0.2
"""Seconds that the first fence waits for a lock; most units are over long before."""
_WAIT = 1.0
"""Seconds that every other one waits, before it is looked up what keeps it waiting."""
_REST = 0.05
_LONGEST_REST = 0.5
_FIRST_ANSWER = 0.6
_LONGEST_ANSWER = 2.4
"""Seconds in which a server answers on the first link, and on later ones: each twice as long as the one before."""


class Doing(StrEnum):
    """What the unit's own connection does on the server."""

    IDLE = "idle"
    """It waits for its client, which is gone."""
    RUNNING = "running"
    REPLICATING = "replicating"
    """It has committed, and waits for a standby to say that it has it."""
    GONE = "gone"
    """It is not there any more, or cannot be told from others."""


class Marked(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the COMMIT that is asked for."""

    unit: str
    """The id in its row."""
    tenant: str | None = None
    """In whose database it is; None where the database has no tenants."""
    attempt: str = ""
    """For a caller's key: which unit claimed it. Empty: any will do."""
    server: int = 0
    """The print of the server's history in which it ran; 0: not known."""
    backend: int = 0
    """The server's number of its connection; 0: not known."""
    until: float = 0.0
    """When to give up, in seconds of `time.monotonic()`."""


class Verdict(msgspec.Struct, frozen=True):
    """What came of it: committed, rolled back, lost or unknown."""

    outcome: Outcome
    reason: str
    """A clause for people."""
    unreplicated: bool = False
    """It has committed on the primary, and no standby has confirmed that it has it."""


class _Again(msgspec.Struct, frozen=True):
    """Nothing is known yet."""

    reason: str
    local: Verdict | None = None
    """What is true as long as this server lives, to be said if time is over."""


def ready_steps(database: str, tenant: str | None = None) -> Steps[None]:
    """See to it that there is a table to ask."""
    yield Ready((database,), tenant)


def asked_steps(marked: Marked, database: str) -> Steps[Verdict]:
    """As `resolve_steps`, for who has no unit here: there may be no table yet, in which the fence could be written."""
    with suppress(Exception):  # a database that cannot be reached now may be reached in time
        yield from ready_steps(database, marked.tenant)
    return (yield from resolve_steps(marked, database))


def resolve_steps(marked: Marked, database: str) -> Steps[Verdict]:
    """Find out what came of it. Raises nothing but an interrupt; afterwards no link is open."""
    last = _Again("no time was left to ask")
    turn = 0
    earlier: list[int] = []
    until, hurried = marked.until, False
    while True:
        jitter, left = yield Draw(until)
        if hurried and left > HURRIED:
            until, left = until - left + HURRIED, HURRIED
        if left <= 0:
            return last.local or Verdict(Outcome.UNKNOWN, last.reason)
        patience = min(left, _LONGEST_ANSWER, _FIRST_ANSWER * 2 ** min(turn, 8))
        found = yield from _try(marked, database, patience, min(left, _FIRST_WAIT if turn == 0 else _WAIT), earlier)
        if isinstance(found, Verdict):
            return found
        last = found
        turn += 1
        hurried = bool((yield Rest(min(left, _LONGEST_REST, _REST * 2 ** min(turn - 1, 8)) * (0.5 + jitter / 2))))


def _try(marked: Marked, database: str, patience: float, wait: float, earlier: list[int]) -> Steps[Verdict | _Again]:
    try:
        link = yield Dial(database, patience, marked.tenant)
    except Exception as error:
        return _Again(f"no connection was had for asking: {type(error).__name__}")
    found: Verdict | _Again = _Again("asking was interrupted")
    interrupt: BaseException | None = None
    try:
        found = yield from _ask(link, marked, database, wait, earlier)
    except Exception as error:
        found = _Again(f"asking failed: {type(error).__name__}")
    except BaseException as raised:
        interrupt = raised
    later = yield from _hang_up(link)
    interrupt = interrupt or later
    if interrupt is not None:
        raise interrupt
    earlier.append(link.backend)
    return found


def _hang_up(link: Any) -> Steps[BaseException | None]:
    """Close the link; that this fails changes nothing of what was asked. Result: the interrupt that came meanwhile."""
    interrupt: BaseException | None = None
    for _ in range(2):  # if it was interrupted it may not even have begun
        try:
            yield HangUp(link)
        except Exception:
            return interrupt
        except BaseException as raised:
            interrupt = interrupt or raised
        else:
            return interrupt
    return interrupt


def _ask(link: Any, marked: Marked, database: str, wait: float, earlier: list[int]) -> Steps[Verdict | _Again]:
    try:
        yield Fence(link, marked.unit, wait)
    except Exception as error:
        failure = yield Classify(error, Phase.BODY, database)
        if failure.kind is Kind.DUPLICATE:
            return (yield from _read(link, marked))
        if failure.kind in (Kind.LOCK_TIMEOUT, Kind.BUSY):
            return (yield from _blocked(link, marked, earlier))
        return _Again(f"the fence failed: {failure.reason}")
    if not unit_ids.is_key(marked.unit):
        yield Seal(link)
    return _absent(link, marked)


def _read(link: Any, marked: Marked) -> Steps[Verdict | _Again]:
    row = yield ReadVerdict(link, marked.unit)
    match row:
        case None:
            return _Again("its row was there and is gone")
        case (verdict, _) if verdict == COMMITTED:
            return Verdict(Outcome.COMMITTED, "its row is there")
        case (verdict, attempt) if verdict == CLAIMED:
            if marked.attempt in ("", attempt):
                return Verdict(Outcome.COMMITTED, "the row of its key is there")
            return Verdict(Outcome.ROLLED_BACK, "another unit has committed with its key")
        case (verdict, _) if verdict == ABORTED:
            return _absent(link, marked)
        case _:
            return _Again("its row has a verdict that is not known")


def _absent(link: Any, marked: Marked) -> Verdict:
    """It is not in the database, and never will be."""
    if marked.server not in (0, link.server):
        return Verdict(Outcome.LOST, "it is not in this database, but ran in another one or on another server")
    return Verdict(Outcome.ROLLED_BACK, "its row is not there and can never be written")


def _blocked(link: Any, marked: Marked, earlier: list[int]) -> Steps[_Again]:
    """Something has the id and is not over: the unit, or a fence whose link was cut before its server heard of it."""
    doing = yield Look(link, marked.backend)
    if doing is Doing.REPLICATING:
        return _Again(
            "it waits for a standby",
            Verdict(Outcome.COMMITTED, "it has committed, and no standby has confirmed it", unreplicated=True),
        )
    if doing is Doing.IDLE:
        yield Evict(link, marked.backend)
        return _Again("its connection was idle, and had to be ended")
    for backend in earlier:
        if (yield Look(link, backend)) is Doing.IDLE:
            yield Evict(link, backend)
            return _Again("a connection for asking was idle, and had to be ended")
    return _Again(f"its transaction is still open ({doing})")
