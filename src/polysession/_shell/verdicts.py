"""What is found of a text, remembered by the text. Judges nothing by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeAlias, TypeVar

__all__ = ["Judge", "Order", "Verdicts"]

_MOST: int = 1000
_LONGEST: int = 10_000
"""Verdicts that are remembered, and characters of a text for which one is."""

V = TypeVar("V")

Order: TypeAlias = Callable[[Any], None]
"""What is done before a statement is sent, with SQLAlchemy's context of its execution; may raise."""
Judge: TypeAlias = Callable[[str], Order | None]
"""The order for a text; None if there is nothing to be done. Is asked once for each text."""


class Verdicts(dict[str, V | None], Generic[V]):
    """What was found of each text: None, or what it is that must not be sent. Thread-safe, bounded."""

    __slots__ = ("_judge",)

    def __init__(self, judge: Callable[[str], V | None]) -> None:
        super().__init__()
        self._judge = judge

    def __missing__(self, text: str) -> V | None:
        verdict = self._judge(text)
        if len(self) >= _MOST:
            self.clear()  # texts that come again are judged again
        if len(text) <= _LONGEST:
            self[text] = verdict
        return verdict
