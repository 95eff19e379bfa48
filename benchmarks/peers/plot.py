"""A plot of bars as SVG, in one function: no library draws them, so that the picture of a record is always the same."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final, NamedTuple

__all__ = ["Panel", "drawn"]

_WIDTH: Final = 720
_LABEL: Final = 190
_NUMBER: Final = 70
_LINE: Final = 18
_BAR: Final = 12
_GAP: Final = 34
_STYLE: Final = (
    "text{font:12px sans-serif;fill:#6b7280}.title{font-size:13px;font-weight:bold}"
    ".ours{fill:#0f766e}.theirs{fill:#9ca3af}"
)


class Panel(NamedTuple):
    """Bars that are compared with each other: a title, their unit, and each bar's name and length."""

    title: str
    unit: str
    bars: Sequence[tuple[str, float]]


def drawn(description: str, panels: Sequence[Panel], ours: str) -> str:
    """The picture: one panel below the other, each with its own scale from 0. The bars of `ours` stand out."""
    parts: list[str] = []
    top = 10
    for panel in panels:
        parts.append(_text(0, top + 12, panel.title, kind="title"))
        top += 22
        longest = max((value for _, value in panel.bars), default=0) or 1
        for name, value in panel.bars:
            length = max(1.0, value / longest * (_WIDTH - _LABEL - _NUMBER))
            kind = "ours" if name == ours else "theirs"
            parts.append(_text(_LABEL - 8, top + 11, name, anchor="end"))
            parts.append(f'<rect class="{kind}" x="{_LABEL}" y="{top + 1}" width="{length:.1f}" height="{_BAR}"/>')
            parts.append(_text(_LABEL + length + 6, top + 11, f"{value:,.0f} {panel.unit}"))
            top += _LINE
        top += _GAP - _LINE
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top}" width="{_WIDTH}" height="{top}" '
        f'role="img" aria-label="{escape(description, quote=True)}">'
    )
    return "\n".join([head, f"<style>{_STYLE}</style>", *parts, "</svg>"]) + "\n"


def _text(x: float, y: float, said: str, *, anchor: str = "start", kind: str = "") -> str:
    styled = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{styled}>{escape(said)}</text>'
