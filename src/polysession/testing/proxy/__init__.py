"""A TCP proxy for tests that sees each message of PostgreSQL's or MySQL's protocol, and breaks links at an exact byte.

    with FaultProxy.before("postgresql+psycopg://app@127.0.0.1:5432/shop") as proxy:
        sessions = Sessions(proxy.url)
        proxy.plan(Fault(Cut(), answer("COMMIT")))      # committed, and the client never hears of it
        ...
        with proxy.counting() as count: ...
        assert count.round_trips == 3

`faults` says what can break and where, `events` what is seen, `proxy` what a proxy can be told. The rest is inside:
`wire`, `postgresql` and `mysql` understand bytes; `plan` finds the places and `intake` joins them with the bytes;
`lane`, `link` and `loop` move them.
Only the standard library is needed; SQLAlchemy and the drivers are not named here.
"""

from __future__ import annotations

from .cutting import ExchangeBytes, commit_exchange_bytes
from .events import (
    BOTH_DIRECTIONS,
    BOTH_SIDES,
    Counts,
    Direction,
    Ended,
    Ending,
    Event,
    Fired,
    Message,
    Opened,
    Side,
    Transaction,
)
from .faults import Cut, Delay, Fault, Freeze, Hole, Place, answer, message, request, stream
from .log import Count
from .loop import ProxyClosed
from .proxy import FaultProxy
from .statements import verbs_of
from .wire import ProtocolError

__all__ = [
    "BOTH_DIRECTIONS",
    "BOTH_SIDES",
    "Count",
    "Counts",
    "Cut",
    "Delay",
    "Direction",
    "Ended",
    "Ending",
    "Event",
    "ExchangeBytes",
    "Fault",
    "FaultProxy",
    "Fired",
    "Freeze",
    "Hole",
    "Message",
    "Opened",
    "Place",
    "ProtocolError",
    "ProxyClosed",
    "Side",
    "Transaction",
    "answer",
    "commit_exchange_bytes",
    "message",
    "request",
    "stream",
    "verbs_of",
]
