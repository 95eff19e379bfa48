"""What a door does for units of which the outcome is exact: the row of their key, the questions asked later.

The decisions are those of `_core.outcome`; the statements are those of `fence` and `marking`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError

from .._core.outcome import HURRIED, Marked
from .._core.scope import Scope
from .._core.steps import Recall
from ..errors import AlreadyCommitted, RequestRefused
from ..facts import OutcomeFound
from ..failures import Kind, Phase
from ..options import Access
from ..policy import unit_ids
from ..topology import Certainty
from . import fence, places
from .asking import seconds_of, tenant_of
from .guard import holding_of
from .holding import Holding
from .marking import Trail
from .signs import classify
from .standing import Standing

__all__ = ["ExactUnits"]

_log = logging.getLogger("polysession")

_ASKED_FOR: Final = 10.0
"""Seconds for which a database is asked what came of a COMMIT; a unit with a deadline asks no longer than that."""


_PLAIN: Final[Mapping[str, Any]] = MappingProxyType({})
_CERTAINTIES: Final[Mapping[Certainty, Mapping[str, Any]]] = MappingProxyType(
    {
        Certainty.PLAIN: _PLAIN,
        Certainty.EXACT: MappingProxyType({"exact": True}),
        Certainty.EARLY: MappingProxyType({"early": True}),
    }
)


class ExactUnits(Standing):
    """The part of a door that finds out what came of a COMMIT."""

    def _certainty(self, databases: tuple[str, ...], access: Access) -> Mapping[str, Any]:
        """The options of a unit that does not say how certain its outcome is to be."""
        if access is not Access.WRITE or len(databases) > 1:
            return _PLAIN
        return _CERTAINTIES[self._topology.databases[databases[0]].outcome]

    def _recall(self, step: Recall) -> Marked | None:
        trail: Trail | None = step.holding.trail
        if trail is None or not trail.sent or not trail.unit:
            return None
        now = trail.asked_at = time.monotonic()
        until = now + (HURRIED if step.interrupted or self._is_cancelled() else _ASKED_FOR)
        if step.deadline_at is not None:
            until = min(until, max(step.deadline_at, now + HURRIED))
        return Marked(
            unit=trail.unit,
            tenant=step.holding.tenant,
            attempt=trail.attempt,
            server=trail.server,
            backend=trail.backend,
            until=until,
        )

    def _is_cancelled(self) -> bool:
        """A cancellation waits for the end of what runs now. Overridden by the asynchronous door."""
        return False

    def _asking_engine(self, database: str, tenant: str | None = None) -> Engine:
        return self._ready_engines.asking(self._topology.databases[database].writable(tenant))

    def _take_key(self, holding: Holding) -> None:
        """Take the unit's connection and write the row of its key; below the asynchronous door too."""
        trail: Trail | None = holding.trail
        assert trail is not None
        session: Any = holding.sync_session
        connection: Connection = session.connection()
        try:
            trail.claim(connection)
        except DBAPIError as error:
            kind = classify(error, Phase.BODY, self._backend(holding.databases[0]), holding.access).kind
            if kind is not Kind.DUPLICATE:
                raise
            holding.leaving = True  # the transaction that was refused is over, and nobody's work is in it
            try:
                found = fence.read_row(connection, trail.key)
            finally:
                holding.leaving = False
            raise _already_committed(holding, found) from error

    def _record(self, session: Any, result: str) -> None:
        """Keep a result with the key of the unit that this session is of."""
        holding = holding_of(session)
        trail = holding.trail if holding is not None else None
        if trail is not None and trail.key:
            trail.result = result
            trail.record(session.connection())

    def _question(
        self, unit_id: str | None, database: str | None, key: str | None, within: float, tenant: str | None = None
    ) -> tuple[str, Marked]:
        """What `outcome` is asked, checked."""
        if self._closed:
            raise self._refusal_of_closed()
        self._check_loop()
        (name,) = self._topology.resolve((database,) if database is not None else ())
        whose = tenant_of(tenant)
        self._topology.databases[name].writable(whose)
        if (unit_id is None) == (key is None):
            raise RequestRefused(
                "outcome() needs either the id of a unit or a key",
                why=f"it was called at {places.caller()}",
                do=("give the unit_id of a CommitUnknown", "give the key that the unit had"),
                attribute="unit_id",
            )
        seconds = seconds_of(within, "within")
        unit = unit_ids.key_id(key) if key is not None else unit_ids.parse(unit_id)
        age = 0.0 if unit_ids.is_key(unit) else time.time() - unit_ids.made_at(unit)
        if age > unit_ids.ASKED_FOR:
            raise RequestRefused(
                f"unit {unit} ended {age / 3600:.0f} hours ago: too long to ask what came of it",
                why=f"rows are kept for {unit_ids.KEPT / 3600:.0f} hours; that it is not there would mean nothing",
                do=("look for the rows that it would have written",),
                attribute="unit_id",
            )
        until = time.monotonic() + seconds
        return name, Marked(unit=unit, tenant=whose, server=unit_ids.server_of(unit), until=until)

    def _has_table(self, database: str, tenant: str | None) -> bool:
        """It was seen to be there."""
        return (database, tenant) in self._ready_tables

    def _make_table(self, database: str, tenant: str | None) -> None:
        """Once for each database and tenant."""
        if (database, tenant) not in self._ready_tables:
            whose = database if tenant is None else self._topology.databases[database].writable(tenant).name
            fence.make_table(self._asking_engine(database, tenant), whose)
            self._ready_tables.add((database, tenant))

    def _tell_verdict(self, scope: Scope, holding: Holding) -> None:
        verdict, scope.verdict = scope.verdict, None
        trail: Trail | None = holding.trail
        assert verdict is not None
        assert trail is not None
        now = time.monotonic()
        took = now - trail.asked_at if trail.asked_at else 0.0
        self._relay.tell(OutcomeFound(scope.name, trail.unit, verdict.outcome, verdict.reason, took, now))
        if verdict.unreplicated:
            _log.warning("unit %r (%s): %s", scope.name, trail.unit, verdict.reason)


def _already_committed(holding: Holding, row: tuple[str, str, str | None] | None) -> AlreadyCommitted:
    key = holding.scope.options.key
    result = None if row is None or row[2] is None else msgspec.json.decode(row[2])
    return AlreadyCommitted(
        f"unit {holding.name!r} did nothing: a unit with the key {key!r} has committed before",
        why=f"of all units with the same key one commits; this one was opened at {holding.origin}",
        do=("take it for done: error.result has what was recorded", "use another key for another request"),
        unit=holding.name,
        key=key,
        result=result,
    )
