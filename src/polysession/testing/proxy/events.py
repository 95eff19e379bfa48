"""What the proxy saw and did, as frozen values; nothing here waits or decides.

`Message` is a named tuple because thousands of them are made in a second; the others are dataclasses. `at` is a stamp
of `time.monotonic()` in seconds. `number` is the place in the proxy's log, 1 being the first event of its life.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .faults import Fault

__all__ = [
    "BOTH_DIRECTIONS",
    "BOTH_SIDES",
    "Counts",
    "Direction",
    "Ended",
    "Ending",
    "Event",
    "Fired",
    "Message",
    "Opened",
    "Side",
    "Transaction",
]


class Direction(StrEnum):
    """Where bytes go."""

    TO_SERVER = "to server"
    TO_CLIENT = "to client"


class Side(StrEnum):
    """Who is at the end of a connection."""

    CLIENT = "client"
    SERVER = "server"


class Ending(StrEnum):
    """How a TCP connection ends: by FIN in good order, or by RST (RFC 9293, sections 3.6 and 3.5.2)."""

    FIN = "FIN"
    RST = "RST"


class Transaction(StrEnum):
    """What the server said about the transaction of a connection.

    Sources: PostgreSQL manual, "Message Formats", ReadyForQuery; MySQL and MariaDB: SERVER_STATUS_IN_TRANS of an OK or
    EOF packet. FAILED exists on PostgreSQL only.
    """

    IDLE = "idle"
    OPEN = "in transaction"
    FAILED = "in a failed transaction"


BOTH_DIRECTIONS = frozenset(Direction)
BOTH_SIDES = frozenset(Side)


class Message(NamedTuple):
    """One message of the protocol, as it was read from its sender and before anything of it was passed on."""

    number: int
    at: float
    connection: int
    """Which connection, the first of the proxy's life being 1."""
    direction: Direction
    kind: str
    """The name in the protocol's documentation: "Query", "ReadyForQuery", "COM_QUERY", "OK" ...; "Bytes" if unknown."""
    size: int
    """Bytes on the wire, its header included."""
    exchange: int | None
    """Which request of this connection it belongs to: 0 is the set-up and log-in; None, if the server was not asked."""
    text: str
    """The SQL of a request, the tag of CommandComplete, or the SQLSTATE or error number of a refusal; else empty."""
    verbs: tuple[str, ...]
    """What a request does, one for each statement: ("INSERT", "COMMIT"); see `verbs_of`."""
    transaction: Transaction | None
    """What the server says here about the transaction, if it does."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A client was accepted."""

    number: int
    at: float
    connection: int


@dataclass(frozen=True, slots=True)
class Ended:
    """The proxy noticed that one side ended its connection or could not be reached; what the proxy cut is `Fired`."""

    number: int
    at: float
    connection: int
    side: Side
    ending: Ending


@dataclass(frozen=True, slots=True)
class Fired:
    """A fault takes effect now; logged just before it does, so whoever feels it finds this in the log."""

    number: int
    at: float
    connection: int
    fault: Fault
    message: Message | None
    """The message at whose place it fires; None for a place in the stream that is no message."""


Event = Message | Opened | Ended | Fired


@dataclass(frozen=True, slots=True)
class Counts:
    """What was counted, over all connections."""

    connections: int = 0
    """Clients accepted."""
    round_trips: int = 0
    """Flights: a client asked after the server had spoken (or for the first time). Farewells ask for nothing."""
    bytes_to_server: int = 0
    bytes_to_client: int = 0
    to_server: Mapping[str, int] = field(default_factory=dict)
    """Messages of the clients, by kind."""
    to_client: Mapping[str, int] = field(default_factory=dict)
    """Messages of the server, by kind."""

    def __sub__(self, earlier: Counts) -> Counts:
        """What was counted since `earlier`."""
        return Counts(
            self.connections - earlier.connections,
            self.round_trips - earlier.round_trips,
            self.bytes_to_server - earlier.bytes_to_server,
            self.bytes_to_client - earlier.bytes_to_client,
            _less(self.to_server, earlier.to_server),
            _less(self.to_client, earlier.to_client),
        )


def _less(kinds: Mapping[str, int], earlier: Mapping[str, int]) -> dict[str, int]:
    return {kind: left for kind, number in kinds.items() if (left := number - earlier.get(kind, 0))}
