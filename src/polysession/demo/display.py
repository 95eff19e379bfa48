"""Shows a run of the demo: live on a terminal (rich), as plain lines elsewhere, or as one JSON document.

It is told what happens and writes it down; it decides nothing. rich is imported only when it is used.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, TextIO

from .inputs import Kind
from .plan import Plan
from .report import Report
from .tally import Figures, Snapshot, total
from .witness import Witness

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Display", "JsonDisplay", "PlainDisplay", "RichDisplay", "choose"]

_NAMES: Final = {
    Kind.NEW_ORDER: "New-Order",
    Kind.PAYMENT: "Payment",
    Kind.ORDER_STATUS: "Order-Status",
    Kind.DELIVERY: "Delivery",
    Kind.STOCK_LEVEL: "Stock-Level",
}
_HEADS: Final = ("transaction", "committed", "per s", "rolled back", "repeated", "failed", "p50 ms", "p95 ms")


class Display:
    """The common part: says nothing on its own. Entered before the run and left after it."""

    def __init__(self, plan: Plan, engine: str, witness: Witness, output: TextIO) -> None:
        self.plan = plan
        self.engine = engine
        self.witness = witness
        self.output = output

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        pass

    def phase(self, text: str) -> None:
        """Something else begins now."""

    def tick(self, snapshot: Snapshot, units: int) -> None:
        """The terminals are at work; so many units of work are open just now."""

    def finish(self, report: Report) -> None:
        """The run has ended, the door is closed."""

    def head(self) -> Iterator[str]:
        """What is about to run."""
        plan = self.plan
        door = "AsyncSessions, tasks" if plan.asynchronous else "Sessions, threads"
        yield (
            f"TPC-C on {self.engine}: {_counted(plan.warehouses, 'warehouse')} in "
            f"{_counted(len(plan.databases), 'database')} ({', '.join(plan.databases)}), "
            f"{_counted(plan.sessions, 'session')} at once ({door}), scale {plan.scale:g}"
        )
        if plan.faults:
            cancels = ", tasks are cancelled" if plan.asynchronous else ""
            yield (
                f"Meanwhile links are cut at COMMIT, backends are ended, the server is restarted{cancels}; "
                f"outcomes are {plan.outcome}."
            )
        if len(plan.databases) > 1:
            yield (
                f"Remote warehouses are taken from the same database: {self.engine} cannot yet commit "
                "atomically over two."
            )

    def line(self, snapshot: Snapshot, units: int) -> str:
        """The run so far in one line."""
        row = total(snapshot.figures.values())
        return (
            f"{snapshot.elapsed:6.1f} s  {row.committed} committed ({_rate(row, snapshot)}/s), "
            f"{row.rolled_back} rolled back, {row.repeated} repeated, {row.failed} failed; "
            f"{units} units open, {self.witness.out} connections out"
        )


class JsonDisplay(Display):
    """One JSON document at the end, nothing else."""

    def finish(self, report: Report) -> None:
        """Write the document."""
        json.dump(report.document(), self.output, indent=2)
        self.output.write("\n")


class PlainDisplay(Display):
    """Lines of text, one a second while it runs."""

    _said = 0.0

    def __enter__(self) -> Self:
        for line in self.head():
            self._say(line)
        return self

    def phase(self, text: str) -> None:
        """A line for each phase."""
        self._say(f"{text} ...")

    def tick(self, snapshot: Snapshot, units: int) -> None:
        """A line, if the last one is a second old."""
        if snapshot.elapsed >= self._said + 1:
            self._said = snapshot.elapsed
            self._say(self.line(snapshot, units))

    def finish(self, report: Report) -> None:
        """The figures, the twelve conditions, what is left, and the verdict."""
        rows = [_HEADS, *rows_of(report.outcome.snapshot)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADS))]
        for row in rows:
            cells = [
                row[0].ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
            ]
            self._say("  ".join(cells))
        for condition in report.conditions():
            self._say(f"{'PASS' if condition.holds else 'FAIL'}  {condition.number:2d}  {condition.text}")
        for line in closing(report):
            self._say(line)

    def _say(self, line: str) -> None:
        self.output.write(f"{line}\n")
        self.output.flush()


class RichDisplay(Display):
    """A table that is redrawn while it runs, and tables at the end."""

    def __init__(self, plan: Plan, engine: str, witness: Witness, output: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live

        super().__init__(plan, engine, witness, output)
        self._console = Console(file=output)
        self._live = Live(console=self._console, transient=True, refresh_per_second=4)

    def __enter__(self) -> Self:
        for line in self.head():
            self._console.print(line, highlight=False)
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        self._live.stop()

    def phase(self, text: str) -> None:
        """The name of the phase in place of the table."""
        from rich.spinner import Spinner

        self._live.update(Spinner("dots", f"{text} ..."))

    def tick(self, snapshot: Snapshot, units: int) -> None:
        """Redraw the table."""
        from rich.console import Group
        from rich.text import Text

        lines = f"{self.line(snapshot, units)}\n{_by_database(snapshot)}"
        self._live.update(Group(_table(snapshot), Text(lines)))

    def finish(self, report: Report) -> None:
        """The figures, the twelve conditions, what is left, and the verdict."""
        self._live.stop()
        self._console.print(_table(report.outcome.snapshot))
        self._console.print(_conditions(report))
        for line in closing(report):
            style = {"OK": "bold green", "NO": "bold red"}.get(line[:2])
            self._console.print(line, style=style, highlight=False, markup=False)


def choose(plan: Plan, engine: str, witness: Witness, *, as_json: bool) -> Display:
    """The display for this output: JSON if asked for, live on a terminal that has rich, plain lines elsewhere."""
    output = sys.stdout
    if as_json:
        return JsonDisplay(plan, engine, witness, output)
    if output.isatty():
        try:
            return RichDisplay(plan, engine, witness, output)
        except ImportError:
            pass
    return PlainDisplay(plan, engine, witness, output)


def rows_of(snapshot: Snapshot) -> Iterator[tuple[str, ...]]:
    """The figures of each transaction and of all, as text."""
    for kind, figures in snapshot.figures.items():
        yield _row(_NAMES[kind], figures, snapshot)
    yield _row("all", total(snapshot.figures.values()), snapshot)


def closing(report: Report) -> Iterator[str]:
    """What there is to say under the tables; the last line is the verdict."""
    outcome = report.outcome
    snapshot = outcome.snapshot
    if snapshot.traceback is not None:
        yield f"The first failure:\n{snapshot.traceback.rstrip()}"
    for condition in report.conditions():
        for example in condition.examples:
            yield f"condition {condition.number}: {', '.join(f'{name} {value}' for name, value in example.items())}"
    server = "" if report.server_connections is None else f", {report.server_connections} as the server tells"
    yield (
        f"{sum(outcome.rows.values())} rows filled in {outcome.load_seconds:.1f} s; "
        f"committed: {', '.join(f'{name} {count}' for name, count in snapshot.databases.items()) or 'nothing'}; "
        f"at most {report.most_out} connections out at once"
    )
    told = ", ".join(f"{count} {what}" for what, count in snapshot.told.items())
    if report.plan.faults:
        broken = ", ".join(f"{what}: {count}" for what, count in sorted(outcome.broken.items())) or "nothing"
        yield f"broken on purpose, and what came of it: {broken}"
    yield f"reported as committed: {told}; found in the tables: {', '.join(map(str, outcome.found.values()))}"
    yield (
        f"sessions left open: {report.sessions_left}; connections left checked out: {report.connections_out}; "
        f"connections left after close: {report.connections_open}{server}"
    )
    if report.kept is not None:
        yield f"kept: {report.kept}"
    held = sum(condition.holds for condition in report.conditions())
    problems = list(report.problems())
    verdict = f"{held} of {len(report.conditions())} conditions hold"
    yield f"NOT OK: {verdict}; {'; '.join(problems)}" if problems else f"OK: {verdict}"


def _row(name: str, figures: Figures, snapshot: Snapshot) -> tuple[str, ...]:
    counts = (figures.rolled_back, figures.repeated, figures.failed)
    times = (figures.times.percentile(50), figures.times.percentile(95))
    return (
        name,
        str(figures.committed),
        _rate(figures, snapshot),
        *map(str, counts),
        *("-" if seconds is None else f"{seconds * 1000:.1f}" for seconds in times),
    )


def _rate(figures: Figures, snapshot: Snapshot) -> str:
    return f"{figures.committed / max(snapshot.elapsed, 1e-6):.1f}"


def _table(snapshot: Snapshot) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column(_HEADS[0], no_wrap=True)
    for head in _HEADS[1:]:
        table.add_column(head, justify="right", no_wrap=True)
    for row in rows_of(snapshot):
        table.add_row(*row)
    return table


def _by_database(snapshot: Snapshot) -> str:
    return "committed: " + ", ".join(f"{name} {count}" for name, count in snapshot.databases.items())


def _conditions(report: Report) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table("", "3.3.2", "consistency condition of TPC-C", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for condition in report.conditions():
        mark = "[bold green]PASS[/]" if condition.holds else "[bold red]FAIL[/]"
        table.add_row(mark, str(condition.number), condition.text)
    return table


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
