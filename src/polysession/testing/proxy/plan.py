"""Where the planned faults strike: counts the matches, and turns places into offsets of a connection's bytes.

Pure but for its counters; it performs no fault. Used by the proxy's thread only.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from .events import Direction, Message
from .faults import Fault, Passed, Span

__all__ = ["Course", "Planned", "Strike", "Train"]

Train = Sequence[tuple[Message, bool]]
"""Messages of one direction that are passed on together; with each, whether its request or answer ends with it."""


@dataclass(eq=False, slots=True)
class Planned:
    """A fault of the plan, and what became of it."""

    fault: Fault
    matches: int = 0
    taken: int = 0
    by_connection: Counter[int] = field(default_factory=Counter)

    @property
    def spent(self) -> bool:
        """Whether it has been taken as often as it may."""
        return self.fault.times is not None and self.taken >= self.fault.times

    def takes(self, connection: int) -> bool:
        """Count a match of its place on `connection`; True if the fault is to strike there."""
        fault = self.fault
        if fault.connection not in {None, connection}:
            return False
        self.matches += 1
        self.by_connection[connection] += 1
        if self.matches < fault.place.nth or self.spent:
            return False
        if fault.probability < 1.0:
            key = f"{fault.seed}/{connection}/{self.by_connection[connection]}"
            if random.Random(key).random() >= fault.probability:  # noqa: S311  # repeatable, not secret
                return False
        self.taken += 1
        return True


class Strike(NamedTuple):
    """A fault that takes effect after so many bytes of what is passed on."""

    offset: int
    planned: Planned
    message: Message | None


@dataclass(slots=True)
class _Armed:
    """A fault that will strike on this connection, in one direction."""

    planned: Planned
    message: Message | None
    exchange: int | None
    """It counts from the first byte of this exchange; None: from `start`."""
    start: int | None
    passed: Passed


class Course:
    """One connection: how many bytes went by, and what lies ahead."""

    def __init__(self, plan: list[Planned], connection: int) -> None:
        self._plan = plan
        self._connection = connection
        self._position = dict.fromkeys(Direction, 0)
        self._armed: dict[Direction, list[_Armed]] = {direction: [] for direction in Direction}
        self._request = (-1, 0)  # the newest request that was seen, and where it began
        self._matched: dict[Planned, int] = {}  # the newest request that was matched; a request may come in parts
        for planned in self._of(Span.STREAM):
            if planned.takes(connection):
                place = planned.fault.place
                self._armed[place.direction].append(_Armed(planned, None, None, 0, place.passed))

    @property
    def idle(self) -> bool:
        """Whether nothing can strike, so that it is enough to count bytes by `advance`."""
        return all(planned.spent for planned in self._plan) and not any(self._armed.values())

    def advance(self, direction: Direction, size: int) -> None:
        """So many bytes went by while nothing could strike."""
        self._position[direction] += size

    def at_once(self) -> list[Strike]:
        """The faults that strike before the first byte."""
        strikes = []
        for direction, list_ in self._armed.items():
            now = [armed for armed in list_ if armed.passed == 0 and armed.start == 0]
            self._armed[direction] = [armed for armed in list_ if armed not in now]
            strikes += [Strike(0, armed.planned, None) for armed in now]
        return strikes

    def strikes(self, direction: Direction, train: Train) -> list[Strike]:
        """The faults that strike while `train` is passed on, in order."""
        begin = position = self._position[direction]
        if direction is Direction.TO_SERVER:
            self._match_requests(train)
        strikes: list[Strike] = []
        for message, ends in train:
            self._match_message(message, position)
            end = position + message.size
            if self._armed[direction]:
                strikes += self._due(direction, message, position, end, ends, begin)
            position = end
        self._position[direction] = position
        return sorted(strikes, key=lambda strike: strike.offset)

    def skip(self, direction: Direction, size: int) -> list[Strike]:
        """The same for bytes that are no message: the beginning of one whose sender has ended."""
        begin = self._position[direction]
        self._position[direction] += size
        return self._due(direction, None, begin, begin + size, False, begin)

    def _of(self, *spans: Span) -> Iterable[Planned]:
        return (planned for planned in self._plan if planned.fault.place.span in spans and not planned.spent)

    def _match_requests(self, train: Train) -> None:
        """Arm what is planned for the requests in `train` and for their answers."""
        position = self._position[Direction.TO_SERVER]
        requests: dict[int, list[Message]] = {}
        for message, _ in train:
            if message.exchange:
                if message.exchange > self._request[0]:
                    self._request = (message.exchange, position)
                requests.setdefault(message.exchange, []).append(message)
            position += message.size
        for planned in self._of(Span.REQUEST, Span.ANSWER):
            place = planned.fault.place
            for exchange, messages in requests.items():
                if self._matched.get(planned, 0) >= exchange:
                    continue
                found = next((message for message in messages if place.matches(message)), None)
                if found is None:
                    continue
                self._matched[planned] = exchange
                if planned.takes(self._connection):
                    start = self._request[1] if place.span is Span.REQUEST and exchange == self._request[0] else None
                    self._armed[place.direction].append(_Armed(planned, found, exchange, start, place.passed))

    def _match_message(self, message: Message, position: int) -> None:
        for planned in self._of(Span.MESSAGE):
            place = planned.fault.place
            if place.direction is message.direction and place.matches(message) and planned.takes(self._connection):
                passed = message.size if place.passed == "all" else min(place.passed, message.size)
                self._armed[place.direction].append(_Armed(planned, message, None, position, passed))

    def _due(
        self, direction: Direction, message: Message | None, position: int, end: int, ends: bool, begin: int
    ) -> list[Strike]:
        """Of what is armed, all that strikes at or before `end`; offsets are counted from `begin`."""
        strikes, still = [], []
        for armed in self._armed[direction]:
            at: int | None = None
            if armed.exchange is None or (message is not None and message.exchange == armed.exchange):
                if armed.start is None:
                    armed.start = position
                last = ends and armed.exchange is not None
                if armed.passed == "all":
                    at = end if last else None
                elif armed.start + armed.passed <= end or last:
                    at = min(max(armed.start + armed.passed, begin), end)
            if at is None:
                still.append(armed)
            else:
                strikes.append(Strike(at - begin, armed.planned, armed.message or message))
        self._armed[direction] = still
        return strikes
