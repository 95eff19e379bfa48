"""`docs/why.md` names tests; they must exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

PROJECT = Path(__file__).parents[2]
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (PROJECT / "docs" / "why.md").read_text("utf-8"))


def test_the_page_names_tests() -> None:
    """Every row of the table names one."""
    rows = [line for line in (PROJECT / "docs" / "why.md").read_text("utf-8").splitlines() if line.startswith("| ")]
    assert len(NAMED) == len(rows) - 2


def test_the_named_tests_exist() -> None:
    """No row points at a test that was renamed or removed."""
    missing = []
    for path, name in NAMED:
        tree = ast.parse((PROJECT / path).read_text("utf-8"))
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        if name not in functions:
            missing.append(f"{path}::{name}")
    assert not missing
