"""What a run of the demo comes to: one value with everything that is shown, and whether it is good. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .conditions import CONDITIONS, ConditionResult
from .plan import Plan
from .stage import Outcome
from .tally import Figures, total

__all__ = ["Report"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The plan, what happened, and what was left behind."""

    plan: Plan
    engine: str
    outcome: Outcome
    sessions_left: int
    """Units and sessions that the door still held when the terminals had ended."""
    connections_out: int
    """Connections that were still checked out then, as SQLAlchemy's pool events tell."""
    connections_open: int
    """Connections still open when the door was closed, as SQLAlchemy's pool events tell."""
    server_connections: int | None
    """The same as the server tells; None: there is no server to ask."""
    most_out: int
    """The most connections that were out at once."""
    kept: str | None = None

    @property
    def ok(self) -> bool:
        """Everything holds, nothing failed, nothing is left."""
        return not any(self.problems())

    def problems(self) -> Iterator[str]:
        """Each thing that is not as it must be, as a sentence."""
        snapshot = self.outcome.snapshot
        for condition in self.conditions():
            if not condition.holds:
                yield f"condition {condition.number} is violated by {condition.violations} rows: {condition.text}"
        if snapshot.failures:
            yield f"{snapshot.failures} units failed"
        yield from self._misreported()
        if self.sessions_left:
            yield f"{self.sessions_left} sessions were left open"
        if self.connections_out:
            yield f"{self.connections_out} connections were left checked out"
        if self.connections_open:
            yield f"{self.connections_open} connections were left open"
        if self.server_connections:
            yield f"the server still has {self.server_connections} connections"

    def _misreported(self) -> Iterator[str]:
        outcome = self.outcome
        for what, told in outcome.snapshot.told.items():
            found = outcome.found[what]
            if told != found:
                yield f"{told} {what} were reported as committed, {found} are in the tables"
        for what, count in outcome.unreported.items():
            if count:
                yield f"{count} {what} are in the tables that nobody was told of: they were done twice"
        for what, count in outcome.missing.items():
            if count:
                yield f"{count} {what} were reported as committed and are not in the tables"

    def conditions(self) -> list[ConditionResult]:
        """The twelve conditions over all databases; an example says which database it is from."""
        results = []
        for place, condition in enumerate(CONDITIONS):
            each = {database: results[place] for database, results in self.outcome.conditions.items()}
            results.append(
                ConditionResult(
                    number=condition.number,
                    text=condition.text,
                    violations=sum(result.violations for result in each.values()),
                    examples=tuple(
                        {"database": database, **example}
                        for database, result in each.items()
                        for example in result.examples
                    ),
                )
            )
        return results

    def document(self) -> dict[str, Any]:
        """All of it in the plain types of JSON; times are seconds."""
        plan, outcome = self.plan, self.outcome
        snapshot = outcome.snapshot
        return {
            "ok": self.ok,
            "problems": list(self.problems()),
            "engine": self.engine,
            "door": "AsyncSessions" if plan.asynchronous else "Sessions",
            "databases": list(plan.databases),
            "warehouses": plan.warehouses,
            "scale": plan.scale,
            "sessions": plan.sessions,
            "seed": plan.seed,
            "load": {"rows": outcome.rows, "seconds": round(outcome.load_seconds, 3)},
            "seconds": round(snapshot.elapsed, 3),
            "transactions": {kind.value: _figures(row) for kind, row in snapshot.figures.items()},
            "total": _figures(total(snapshot.figures.values())),
            "committed_by_database": dict(snapshot.databases),
            "told": dict(snapshot.told),
            "found": dict(outcome.found),
            "outcome": str(plan.outcome),
            "faults": {
                "broken": dict(outcome.broken),
                "unreported": dict(outcome.unreported),
                "missing": dict(outcome.missing),
            }
            if plan.faults
            else None,
            "conditions": [
                {
                    "number": condition.number,
                    "text": condition.text,
                    "holds": condition.holds,
                    "violations": condition.violations,
                    "examples": [{name: _plain(value) for name, value in row.items()} for row in condition.examples],
                }
                for condition in self.conditions()
            ],
            "sessions_left_open": self.sessions_left,
            "connections_left_checked_out": self.connections_out,
            "connections_left_open": self.connections_open,
            "server_connections_left": self.server_connections,
            "most_connections_out": self.most_out,
            "first_failure": snapshot.traceback,
            "kept": self.kept,
        }


def _figures(row: Figures) -> dict[str, Any]:
    return {
        "committed": row.committed,
        "rolled_back": row.rolled_back,
        "repeated": row.repeated,
        "failed": row.failed,
        "p50": _rounded(row.times.percentile(50)),
        "p95": _rounded(row.times.percentile(95)),
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)


def _plain(value: Any) -> Any:
    return value if isinstance(value, int | str | None) else str(value)
