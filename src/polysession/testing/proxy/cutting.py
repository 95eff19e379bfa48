"""The experiment that cuts at every byte: how long the exchange of a COMMIT is, and all the places in it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .events import Direction, Event, Message
from .faults import Place, answer, request

__all__ = ["ExchangeBytes", "commit_exchange_bytes"]


@dataclass(frozen=True, slots=True)
class ExchangeBytes:
    """One request and its answer, in bytes on the wire."""

    verb: str
    to_server: int
    to_client: int

    def places(self) -> Iterator[Place]:
        """Every place in the next such exchange: before its first byte, between any two, and after the last.

        `to_server + to_client + 2` of them; those of the request come first.
        """
        for passed in range(self.to_server + 1):
            yield request(self.verb, passed=passed)
        for passed in range(self.to_client + 1):
            yield answer(self.verb, passed=passed)


def commit_exchange_bytes(events: Iterable[Event], verb: str = "COMMIT") -> ExchangeBytes:
    """How many bytes the newest exchange with `verb` had in each direction, from the log of a run without faults.

    The request is counted with all that is sent for the same answer (a marker row and COMMIT in one pipeline, say).
    Raises `LookupError` if no request with `verb` is in `events`, and `ValueError` if its answer is not there.
    """
    messages = [event for event in events if isinstance(event, Message)]
    found = next((message for message in reversed(messages) if verb in message.verbs), None)
    if found is None:
        raise LookupError(f"no request with {verb} was seen")
    sizes = dict.fromkeys(Direction, 0)
    for message in messages:
        if (message.connection, message.exchange) == (found.connection, found.exchange):
            sizes[message.direction] += message.size
    if not sizes[Direction.TO_CLIENT]:
        raise ValueError(f"the request with {verb} on connection {found.connection} was not answered")
    return ExchangeBytes(verb, sizes[Direction.TO_SERVER], sizes[Direction.TO_CLIENT])
