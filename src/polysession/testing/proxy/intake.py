"""What was read on one connection, turned into what is passed on: bytes, with the strikes between them.

Here the wire understands, the log is written and the plan is asked; nothing is sent. Proxy's thread only.
"""

from __future__ import annotations

import time
from typing import TypeAlias

from .events import Direction, Message
from .log import Log
from .plan import Course, Strike
from .wire import Seen, Wire

__all__ = ["Intake", "Passage"]

Passage: TypeAlias = list[memoryview | Strike]
"""Bytes and strikes, in order."""
_MOST_HELD = 1 << 18


class Intake:
    """One connection, both directions."""

    def __init__(self, number: int, wire: Wire, course: Course, log: Log) -> None:
        self._number = number
        self._wire = wire
        self._course = course
        self._log = log
        self._held: list[Seen] = []
        self._server_spoke = True

    def at_once(self) -> list[Strike]:
        """What strikes before anything was read."""
        return self._course.at_once()

    def read(self, direction: Direction, data: bytes) -> Passage:
        """What may be passed on now that `data` was read; the rest waits for the end of its message or request."""
        seen = self._wire.feed(direction, data)
        if direction is Direction.TO_SERVER and (self._held or (seen and seen[-1].hold)):
            self._held += seen
            seen = self._complete()
        return self._pass(direction, seen) if seen else []

    def finish(self, direction: Direction) -> Passage:
        """What waits, although it is not whole: its sender has ended."""
        held: list[Seen] = []
        if direction is Direction.TO_SERVER:
            held, self._held = self._held, []
        passage = self._pass(direction, held) if held else []
        rest = self._wire.rest(direction)
        if rest:
            passage += _split(rest, self._course.skip(direction, len(rest)))
        return passage

    def _complete(self) -> list[Seen]:
        """What is held, up to the last message that asks for an answer: then the whole request is known."""
        held = self._held
        whole = next((index for index in range(len(held), 0, -1) if not held[index - 1].hold), 0)
        if not whole and sum(len(seen.data) for seen in held) > _MOST_HELD:
            whole = len(held)  # too long to be held; its faults see it in parts
        self._held = held[whole:]
        return held[:whole]

    def _pass(self, direction: Direction, seen: list[Seen]) -> Passage:
        messages = self._write_down(direction, seen)
        data = seen[0].data if len(seen) == 1 else b"".join([one.data for one in seen])
        if self._course.idle:
            self._course.advance(direction, len(data))
            return [memoryview(data)]
        train = [(message, one.ends) for message, one in zip(messages, seen, strict=True)]
        return _split(data, self._course.strikes(direction, train))

    def _write_down(self, direction: Direction, seen: list[Seen]) -> list[Message]:
        at, first, connection = time.monotonic(), self._log.draw(len(seen)), self._number
        messages = [
            Message(number, at, connection, direction, kind, len(data), exchange, text, verbs, transaction)
            for number, (data, kind, exchange, text, verbs, transaction, *_) in enumerate(seen, first)
        ]
        trip = direction is Direction.TO_SERVER and self._server_spoke and any(one.asks for one in seen)
        if trip or direction is Direction.TO_CLIENT:
            self._server_spoke = not trip
        self._log.add_messages(messages, round_trips=int(trip))
        return messages


def _split(data: bytes, strikes: list[Strike]) -> Passage:
    passage: Passage = []
    view, at = memoryview(data), 0
    for strike in strikes:
        if strike.offset > at:
            passage.append(view[at : strike.offset])
        passage.append(strike)
        at = strike.offset
    if at < len(data):
        passage.append(view[at:])
    return passage
