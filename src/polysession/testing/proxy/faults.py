"""Faults as frozen values: what breaks, at which byte, on which connection, how often. Pure; nothing here acts.

A *place* is a point in the stream of bytes: just after `passed` bytes of something have been passed on. `passed=0` is
before its first byte, `passed="all"` after its last. That something is a whole request of the client, the whole answer
of the server, one message, or all that a connection carries in one direction. The place has a direction, and that
decides what the server knows: a request that is stopped at 0 never reaches it; an answer that is stopped at 0 was
given, so what was asked is done.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal, TypeAlias

from .events import BOTH_DIRECTIONS, BOTH_SIDES, Direction, Ending, Message, Side

__all__ = [
    "Action",
    "Cut",
    "Delay",
    "Fault",
    "Freeze",
    "Hole",
    "Passed",
    "Place",
    "Span",
    "When",
    "answer",
    "message",
    "request",
    "stream",
]

Passed: TypeAlias = int | Literal["all"]
When: TypeAlias = Callable[[Message], bool]
"""A question about a message. Asked in the proxy's thread: be quick, touch no socket of the proxy's clients."""


@dataclass(frozen=True, slots=True)
class Cut:
    """End the connection: nothing more passes in either direction.

    With only one of the `sides` that side is told, and the other knows nothing: its connection stays open and silent
    until `sever` or the end of the proxy. So a server may keep a transaction whose client is gone.
    """

    ending: Ending = Ending.RST
    sides: frozenset[Side] = BOTH_SIDES

    def __post_init__(self) -> None:
        object.__setattr__(self, "ending", Ending(self.ending))
        object.__setattr__(self, "sides", frozenset(self.sides))
        if not self.sides:
            raise ValueError("a cut needs a side that is told")


@dataclass(frozen=True, slots=True)
class Hole:
    """Swallow everything from here on, in these directions, the end of the connection included; both stay open."""

    directions: frozenset[Direction] = BOTH_DIRECTIONS

    def __post_init__(self) -> None:
        object.__setattr__(self, "directions", frozenset(self.directions))
        if not self.directions:
            raise ValueError("a hole needs a direction")


@dataclass(frozen=True, slots=True)
class Delay:
    """Hold what follows, in the direction of the place, for so many seconds; the order stays."""

    seconds: float

    def __post_init__(self) -> None:
        if not self.seconds > 0:
            raise ValueError(f"a delay takes time, not {self.seconds!r} s")


@dataclass(frozen=True, slots=True)
class Freeze:
    """Stop this connection, in both directions, until the proxy's `thaw`; nothing is lost."""


Action: TypeAlias = Cut | Hole | Delay | Freeze


class Span(Enum):
    """What the bytes of a place are counted in."""

    REQUEST = "request"
    ANSWER = "answer"
    MESSAGE = "message"
    STREAM = "stream"


@dataclass(frozen=True, slots=True)
class Place:
    """A point in the stream. Made by `request`, `answer`, `message` and `stream`."""

    span: Span
    direction: Direction
    passed: Passed = 0
    verb: str | None = None
    kind: str | None = None
    when: When | None = None
    nth: int = 1

    def __post_init__(self) -> None:
        if self.passed != "all" and self.passed < 0:
            raise ValueError(f"the bytes that pass are a number from 0 or 'all', not {self.passed!r}")
        if self.span is Span.STREAM and self.passed == "all":
            raise ValueError("a stream has no end that could be waited for; say after how many bytes")
        if self.nth < 1:
            raise ValueError(f"the first match is number 1; there is no number {self.nth!r}")

    def __str__(self) -> str:
        what = " ".join(filter(None, (self.span.value, self.kind, self.verb and f"for {self.verb}")))
        nth = f" number {self.nth}" if self.nth > 1 else ""
        return f"after {self.passed} bytes of {what}{nth} {self.direction}"

    def matches(self, message: Message) -> bool:
        """Whether `message` is, or belongs to, what this place is about."""
        return (
            (self.verb is None or self.verb in message.verbs)
            and (self.kind is None or self.kind == message.kind)
            and (self.when is None or self.when(message))
        )


def request(verb: str | None = None, *, passed: Passed = 0, nth: int = 1, when: When | None = None) -> Place:
    """In what the client sends for one request, counted over all its messages (Parse, Bind, Execute, Sync).

    `verb` names a statement that the request carries, alone or with others: "COMMIT", "PREPARE TRANSACTION",
    "COMMIT PREPARED", "XA COMMIT", "INSERT" ... (`verbs_of` lists the forms). `when` is asked about each message of the
    request. The log-in is no request. A client that has part of a request answered first (PostgreSQL's Flush) has sent
    that part already when the rest is seen. A place beyond the end is at the end.
    """
    return Place(Span.REQUEST, Direction.TO_SERVER, passed, verb and verb.upper(), None, when, nth)


def answer(verb: str | None = None, *, passed: Passed = 0, nth: int = 1, when: When | None = None) -> Place:
    """In what the server sends for one request; `verb` and `when` are about the request, as in `request`.

    The proxy has the answer in hand when this is reached, so the server has done what was asked.
    """
    return Place(Span.ANSWER, Direction.TO_CLIENT, passed, verb and verb.upper(), None, when, nth)


def message(
    kind: str | None, direction: Direction, *, passed: Passed = 0, nth: int = 1, when: When | None = None
) -> Place:
    """In one message of the protocol: `message("AuthenticationOk", Direction.TO_CLIENT)`; log-in included."""
    return Place(Span.MESSAGE, direction, passed, None, kind, when, nth)


def stream(direction: Direction, *, passed: int = 0, nth: int = 1) -> Place:
    """After so many bytes of a connection in one direction, whatever they are: encrypted, or in mid-handshake.

    With 0 it is reached as soon as the client is accepted. `nth` counts connections opened after the fault was planned.
    """
    return Place(Span.STREAM, direction, passed, None, None, None, nth)


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens, where, on which connections, how often.

    Matches of the place are counted over the connections that it may strike. It fires at the match number `place.nth`
    and, while it has fired less than `times` (None: without end), at the ones after it, each with `probability`. The
    draw depends on the seed, the connection's number and the match on that connection only, so it is the same in every
    run whatever the threads do.
    """

    action: Action
    place: Place
    connection: int | None = field(default=None, kw_only=True)
    """The number of the one connection that it may strike; None for any."""
    times: int | None = field(default=1, kw_only=True)
    probability: float = field(default=1.0, kw_only=True)
    seed: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        if self.times is not None and self.times < 1:
            raise ValueError(f"a fault fires at least once, not {self.times!r} times")
        if not 0.0 < self.probability <= 1.0:
            raise ValueError(f"a probability is above 0 and at most 1, not {self.probability!r}")

    def __str__(self) -> str:
        return f"{self.action} {self.place}"
