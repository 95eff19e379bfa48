"""What the type checkers know of polysession, as a user's project sees it."""

from __future__ import annotations

from pathlib import Path

import pytest

from .checking import CHECKERS, FOLDER, compare, expected, files


@pytest.mark.parametrize("checker", CHECKERS)
def test_types_are_as_asserted_and_wrong_uses_are_errors(checker: str) -> None:
    """Every `assert_type` holds, and each wrong use has just the errors that its line says."""
    assert compare(checker, files()) == []


@pytest.mark.parametrize("checker", CHECKERS)
def test_a_wrong_assertion_is_found(checker: str, tmp_path: Path) -> None:
    """The control: an `assert_type` that does not hold, and a mark without its error, are differences."""
    wrong = tmp_path / "control.py"
    wrong.write_text(
        "from typing import assert_type\n"
        "from polysession import Sessions\n"
        "assert_type(Sessions().names, list[str])\n"
        "print(1)  # error: mypy[arg-type] pyright[reportArgumentType]\n"
    )
    found = compare(checker, [wrong])
    assert [line.split("/")[1].split(": ")[0] for line in found] == ["control.py:4", "control.py:3"]
    assert "does not find" in found[0]


def test_both_doors_have_wrong_uses() -> None:
    """No file of wrong uses is empty, and both checkers find about the same."""
    for path in (FOLDER / "wrong").glob("*.py"):
        counts = {checker: expected(checker, [path]).total() for checker in CHECKERS}
        assert min(counts.values()) > 20
