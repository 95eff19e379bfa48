"""What is the same for all units that ask for the same: where they run, and what is said when their transaction begins.

It is found out once and remembered for those that ask for nothing special, or for a tenant and nothing else, which are
most; a unit on a replica is planned each time, because the replica is drawn.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy.engine import Connection, Engine

from .._core.scope import may_open_at_once
from ..options import Access, UnitOptions
from ..policy import routing
from ..topology import Database, Endpoint, Pooler, Role
from .begins import said_at_each_begin, told_options
from .uses import FREE, REPEAT

__all__ = ["Made", "Part", "Plan", "patience_of", "plan_of"]

_READ: Final = Access.READ
_WRITE: Final = Access.WRITE
_REPLICA: Final = Role.REPLICA


class Part(NamedTuple):
    """One database of a unit."""

    database: str
    endpoint: Endpoint
    kind: str
    """The kind of use of its engine."""
    key: tuple[str, str]
    """Of its engine."""


class Made(msgspec.Struct, frozen=True):
    """What there is for a plan in a process and event loop."""

    bind: Any
    """The engine of a unit over one database, which its session is given: for asyncio an `AsyncEngine`."""
    keywords: dict[str, Any]
    """With which its session is made."""
    holding: Any
    """Of which those of its units are copies: all that is the same for each of them."""


class Plan:
    """Where a unit runs, and what its connections are told. Written once, by the first unit that has engines."""

    __slots__ = (
        "at_begin", "at_once", "endpoints", "in_transaction", "is_kept", "lends", "options", "parts", "patience",
        "told", "transaction",
    )  # fmt: skip

    def __init__(self, options: UnitOptions, transaction: bool, parts: tuple[Part, ...]) -> None:
        self.options = options
        self.transaction = transaction
        self.parts = parts
        self.endpoints = tuple(part.key[0] for part in parts)
        self.patience = min(patience_of(part.endpoint) for part in parts)
        """How long a transaction may be open without a statement before that is told."""
        self.in_transaction = transaction and (options.access is _WRITE or options.snapshot)
        """Its statements run in a transaction of the server's, not each on its own."""
        self.lends = transaction and options.access is _READ and not options.snapshot
        """Between two statements its connection may serve others, where the engines lend at all."""
        self.is_kept = False
        """It is remembered for the next unit that asks for the same."""
        self.told: dict[str, dict[str, Any]] | None = None
        """By database, what a session is told of its transaction."""
        self.at_once = transaction and may_open_at_once(options)
        """It is opened without a step that waits, where no unit is around it."""
        self.at_begin: Callable[[Connection], None] | None = None

    def complete(self, engines: Mapping[str, Engine]) -> dict[str, dict[str, Any]]:
        """Find out the rest from the engines; what the sessions are told. The same for all engines of these parts."""
        self.at_begin = said_at_each_begin(self.options, self.transaction, engines)
        self.told = {name: told_options(self.options, self.transaction, engine) for name, engine in engines.items()}
        return self.told


def patience_of(endpoint: Endpoint) -> float:
    """How long a transaction there may be open without a statement before that is told; infinity: for ever."""
    return endpoint.pool.idle_warning or math.inf


def plan_of(databases: Mapping[str, Database], options: UnitOptions, role: Role, transaction: bool) -> Plan:
    """The plan of a unit. Raises `RequestRefused` and `UnknownTenant` as `routing.choose` does."""
    kind = FREE if not transaction else REPEAT if options.repeatable else options.access
    parts: list[Part] = []
    for name in options.databases:
        draw = random.random() if role is _REPLICA else 0.0  # noqa: S311  # spreads load, guards nothing
        chosen = routing.choose(databases[name], access=options.access, role=role, draw=draw, tenant=options.tenant)
        endpoint = chosen.endpoint
        reads_pooled = options.access is _READ and endpoint.pooler is not Pooler.NONE
        use = _READ if reads_pooled else kind
        parts.append(Part(name, endpoint, use, (endpoint.name, use)))
    return Plan(options, transaction, tuple(parts))
