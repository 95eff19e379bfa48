"""What `polysession check` has to say, as one value; as a JSON document and as lines for people. Pure.

The lines carry a style and no escape codes: the command paints them on a terminal and writes them plain elsewhere.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import Any

import msgspec

from ..config.problems import Problem
from ..dialects.inspection import EndpointFacts, Unreachable
from ..topology import Pooler
from .abilities import Ability, abilities
from .findings import Finding, Severity
from .judgement import judge

__all__ = ["ExitCode", "Line", "Report", "lines", "make", "to_json"]


class ExitCode(IntEnum):
    """How the command ends: the worst of what it saw."""

    OK = 0
    WARNINGS = 1
    ERRORS = 2
    UNREACHABLE = 3


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a run of `check` found."""

    source: str
    """The file or the URL without its secrets."""
    problems: tuple[Problem, ...] = ()
    """What is wrong with the configuration; then nothing was reached."""
    endpoints: tuple[EndpointFacts | Unreachable, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def exit_code(self) -> ExitCode:
        """The worst of all that was found."""
        severities = {finding.severity for finding in self.findings}
        if any(isinstance(endpoint, Unreachable) for endpoint in self.endpoints):
            return ExitCode.UNREACHABLE
        if self.problems or Severity.ERROR in severities:
            return ExitCode.ERRORS
        return ExitCode.WARNINGS if Severity.WARNING in severities else ExitCode.OK


class Line(msgspec.Struct, frozen=True):
    """A text, the column at which its next line would begin, and how it looks: a name of a style, or none."""

    text: str
    hang: int = 0
    style: str = ""

    def wrapped(self, width: int) -> str:
        """The text in lines of at most `width` columns; words are not cut."""
        return textwrap.fill(
            self.text, width, subsequent_indent=" " * self.hang, break_long_words=False, break_on_hyphens=False
        )


def make(source: str, endpoints: Sequence[EndpointFacts | Unreachable]) -> Report:
    """The report on a configuration that could be read."""
    reached = [endpoint for endpoint in endpoints if isinstance(endpoint, EndpointFacts)]
    return Report(source=source, endpoints=tuple(endpoints), findings=judge(reached))


# -- JSON


def to_json(report: Report) -> str:
    """One document: `source`, `verdict`, `exit_code`, `problems`, `endpoints` with their `abilities`, `findings`."""
    document = {
        "source": report.source,
        "verdict": report.exit_code.name.lower(),
        "exit_code": int(report.exit_code),
        "problems": report.problems,
        "endpoints": [_endpoint_document(endpoint) for endpoint in report.endpoints],
        "findings": report.findings,
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode()


def _endpoint_document(endpoint: EndpointFacts | Unreachable) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.to_builtins(endpoint)
    if isinstance(endpoint, EndpointFacts):
        document["abilities"] = abilities(endpoint)
        # what only serves to compare and to advise; its content is in the findings
        del document["server"]["identity"]
        for limit in document["server"]["limits"]:
            del limit["key"], limit["cure"]
    return document


# -- lines


def lines(report: Report) -> Iterator[Line]:
    """The report for people: each endpoint, then the findings, then the verdict."""
    if report.problems:
        yield Line(f"{report.source}: no database was asked", style="bold")
        for problem in report.problems:
            yield from _told("error", "red", "config", str(problem), "", problem.do)
    for endpoint in report.endpoints:
        yield Line(f"{endpoint.endpoint}  {endpoint.address}", style="bold")
        yield from _unreachable(endpoint) if isinstance(endpoint, Unreachable) else _reached(endpoint)
        yield Line("")
    for finding in report.findings:
        fact = f"{', '.join(finding.endpoints)}: {finding.fact}"
        yield from _told(finding.severity, _COLOURS[finding.severity], finding.code, fact, finding.why, finding.do)
    if report.findings:
        yield Line("")
    yield Line(f"{report.exit_code.name.lower()}: {_count(report)}", style=_VERDICTS[report.exit_code])


_COLOURS = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.INFO: "cyan"}
_VERDICTS = {
    ExitCode.OK: "bold green",
    ExitCode.WARNINGS: "bold yellow",
    ExitCode.ERRORS: "bold red",
    ExitCode.UNREACHABLE: "bold red",
}
_COLUMN = 15


def _row(label: str, text: str, style: str = "") -> Line:
    return Line(f"  {label:<{_COLUMN - 2}}{text}", _COLUMN, style)


def _told(severity: str, style: str, code: str, fact: str, why: str, do: Sequence[str]) -> Iterator[Line]:
    """A finding in the shape of the package's errors."""
    yield Line(f"{severity} [{code}] {fact}", 2, style)
    if why:
        yield Line(f"  why: {why}", 7)
    if do:
        yield Line(f"  do:  {'; or '.join(do)}", 7)


def _unreachable(endpoint: Unreachable) -> Iterator[Line]:
    yield _row("unreachable", endpoint.reason, "red")
    if endpoint.do:
        yield _row("do", "; or ".join(endpoint.do))


def _reached(one: EndpointFacts) -> Iterator[Line]:
    server = one.server
    took = f", reached in {one.connect_seconds * 1000:.0f} ms" if one.connect_seconds else ""
    yield _row("engine", f"{server.engine} {server.version}{' (Galera)' if server.galera else ''}{took}")
    yield _row("driver", f"{one.driver} {one.driver_version}")
    if one.file is not None:
        yield _row("file", _file(one))
    yield _row("isolation", f"sessions start at {server.isolation}")
    yield _row("mode", _mode(one))
    if one.pooler is not Pooler.NONE or one.pooler_seen:
        yield _row("pooler", _pooler(one))
    yield _row("connections", _connections(one))
    for can, label in ((True, "can"), (False, "cannot")):
        for ability in abilities(one):
            if ability.can is can:
                yield _row(label, _ability(ability))
                label = ""  # noqa: PLW2901  # it is said once


def _ability(ability: Ability) -> str:
    return f"{ability.name}{ability.detail and ': '}{ability.detail}"


def _file(one: EndpointFacts) -> str:
    file = one.file
    assert file is not None
    if file.in_memory:
        return "in memory, gone when the process ends"
    if not file.exists:
        return f"{file.path}, not there yet"
    return f"{file.path}, {file.size} bytes{file.journal and f', journal {file.journal}'}"


def _mode(one: EndpointFacts) -> str:
    server = one.server
    mode = "read-only" if server.read_only or server.in_recovery else "takes writes"
    if server.in_recovery is None:
        return mode
    return f"{mode}, {'in recovery (a standby)' if server.in_recovery else 'not in recovery'}"


def _pooler(one: EndpointFacts) -> str:
    """What is configured, and what was seen."""
    seen = "seen before the server" if one.pooler_seen else "not seen"
    return f"{seen}, not configured" if one.pooler is Pooler.NONE else f"in {one.pooler} mode as configured, {seen}"


def _connections(one: EndpointFacts) -> str:
    """`pool 10 per process; max_connections of the server (200, 3 of them reserved): 197, 4 in use`."""
    limits = [f"{limit.name}: {limit.most}, {limit.in_use} in use" for limit in one.server.limits]
    return "; ".join([f"pool {one.pool_size} per process", *(limits or ["the engine has no limit"])])


def _count(report: Report) -> str:
    """`2 endpoints, 1 unreachable, 3 warnings`."""
    unreachable = sum(isinstance(endpoint, Unreachable) for endpoint in report.endpoints)
    counts = [(len(report.problems), "problem"), (len(report.endpoints), "endpoint")]
    counts += [
        (sum(finding.severity is severity for finding in report.findings), str(severity)) for severity in Severity
    ]
    shown = [f"{number} {label}{'' if number == 1 else 's'}" for number, label in counts if number]
    return ", ".join([*shown, *([f"{unreachable} unreachable"] if unreachable else [])])
