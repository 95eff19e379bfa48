"""`docs/proofs`: a page for each experiment, made from its recorded result and from nothing else.

An experiment's module says what it shows (its own documentation) and may shape the tables: `TABLE` names the columns,
each a path into a cell (`told.reported`) or a function of the cell, in order. Without it every plain value is a column.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypeAlias

__all__ = ["PAGES", "RECORDED", "Columns", "index_page", "page", "recorded", "write"]

PROJECT: Final = Path(__file__).resolve().parents[1]
RECORDED: Final = PROJECT / "proofs" / "recorded"
"""The results of full runs, as `make prove` wrote them."""
PAGES: Final = PROJECT / "docs" / "proofs"

Columns: TypeAlias = Mapping[str, str | Callable[[Mapping[str, Any]], object]]
"""Heading by heading, where its value is: a path into the cell, or a function of the cell."""

_INDEX_HEAD: Final = """\
# What was proved, and how

Long experiments, each with a control that must fail. `make prove` runs them all; `make prove ARGS="NAME"` runs one; a
short profile of each is a part of `make test`. The pages below are made from the recorded results of full runs
(`proofs/recorded`), none of their figures is written by hand. Counts can be expected to come out the same elsewhere;
what depends on timing (how many cancelled units had committed) differs from run to run, what is promised does not.

| experiment | what it shows | result | seed | units and cells |
|---|---|---|---|---|
"""


def recorded(name: str) -> Mapping[str, Any] | None:
    """The recorded result of an experiment; None if there is none."""
    path = RECORDED / f"{name}.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else None


def page(module: ModuleType, result: Mapping[str, Any]) -> str:
    """The page of one experiment."""
    title, text = _said(module)
    made = result.get("made", {})
    columns: Columns | None = getattr(module, "TABLE", None)
    parts = [
        f"# {title}",
        text,
        f"```console\n$ make prove ARGS={_quoted(result)}\n```",
        f"**{'Passed' if result['passed'] else 'FAILED'}**: {result['why']}. {_made(made)}",
        "## In all",
        _table([{"what": key, "count": count} for key, count in sorted(result["counts"].items())], None),
        "## Each cell",
        _table(result["cells"], columns),
    ]
    if result["control"]:
        parts += ["## The control", _table(result["control"], getattr(module, "CONTROL_TABLE", columns))]
    return "\n\n".join(part for part in parts if part) + "\n"


def index_page(modules: Mapping[str, ModuleType]) -> str:
    """The list of all experiments."""
    rows = []
    for name, module in sorted(modules.items()):
        result = recorded(name)
        title, _ = _said(module)
        if result is None:
            rows.append(f"| `{name}` | {title} | not recorded | | |")
            continue
        verdict = "passed" if result["passed"] else "FAILED"
        size = f"{result['profile']} profile, {len(result['cells'])} cells"
        rows.append(f"| [`{name}`]({name}.md) | {title} | {verdict} | {result['seed']} | {size} |")
    return _INDEX_HEAD + "\n".join(rows) + "\n"


def write(modules: Mapping[str, ModuleType]) -> list[Path]:
    """Make all pages anew; the files."""
    PAGES.mkdir(parents=True, exist_ok=True)
    texts = {"index": index_page(modules)}
    for name, module in modules.items():
        if (result := recorded(name)) is not None:
            texts[name] = page(module, result)
    written = []
    for name, text in texts.items():
        path = PAGES / f"{name}.md"
        path.write_text(text, "utf-8")
        written.append(path)
    return written


def _said(module: ModuleType) -> tuple[str, str]:
    """The first sentence of a module's documentation, as a title, and the rest."""
    title, _, text = inspect.cleandoc(module.__doc__ or module.__name__).partition("\n\n")
    return " ".join(title.split()).rstrip("."), text


def _quoted(result: Mapping[str, Any]) -> str:
    return f'"{result["name"]} --seed {result["seed"]}"'


def _made(made: Mapping[str, Any]) -> str:
    if not made:
        return ""
    versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    machine = f"Python {made['python']} on {made['cores']} cores"
    return f"Run on {made['day']} with {machine}, in {made['seconds']} s; {versions}."


def _table(cells: Sequence[Mapping[str, Any]], columns: Columns | None) -> str:
    if not cells:
        return ""
    chosen = columns or {key: key for key in _plain_keys(cells)}
    lines = [f"| {' | '.join(chosen)} |", "|" + "---|" * len(chosen)]
    lines += [f"| {' | '.join(_shown(_value(cell, where)) for where in chosen.values())} |" for cell in cells]
    return "\n".join(lines)


def _plain_keys(cells: Iterable[Mapping[str, Any]]) -> list[str]:
    keys: dict[str, None] = {}
    for cell in cells:
        keys.update(dict.fromkeys(key for key, value in cell.items() if not isinstance(value, (dict, list, tuple))))
    return list(keys)


def _value(cell: Mapping[str, Any], where: str | Callable[[Mapping[str, Any]], object]) -> object:
    if not isinstance(where, str):
        return where(cell)
    value: Any = cell
    for step in where.split("."):
        value = value.get(step, "") if isinstance(value, Mapping) else ""
    return value


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.3g}"
    return str(value).replace("|", "\\|").replace("\n", " ")
