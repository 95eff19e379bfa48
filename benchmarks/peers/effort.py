"""How long each measurement takes: in full, in five minutes, or only so long that it is seen to work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["FULL", "LINKS", "QUICK", "SMOKE", "Effort"]

LINKS: Final = (0.0, 0.5, 2.0)
"""Milliseconds that a round trip takes more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """What is done of each."""

    links: tuple[float, ...] = LINKS
    rounds: int
    """The sides take turns, so often."""
    units: int
    """Units of each side in a round; a fifth of them behind a link, and a quarter of ten reads."""
    warm: int
    """Times that each work is done before it is measured: statements are prepared by then."""
    rate_rounds: int
    rate_seconds: float
    """How long each side's workers run in each of these rounds."""
    turns_seconds: float
    """How long threads compete for connections."""
    tasks: int
    """Tasks that compete for 20 connections."""
    tasks_seconds: float
    """So long that each has a dozen turns: with fewer, one more or less is a large part."""
    engines: int
    counted: int
    """Units whose instructions are counted; 0: none are."""
    counts_others: bool = True
    """Those of the others are counted too."""


FULL: Final = Effort(
    rounds=7,
    units=60,
    warm=8,
    rate_rounds=5,
    rate_seconds=1.5,
    turns_seconds=6.0,
    tasks=10_000,
    tasks_seconds=25.0,
    engines=1000,
    counted=100,
)
QUICK: Final = Effort(
    rounds=5,
    units=40,
    warm=8,
    rate_rounds=3,
    rate_seconds=0.7,
    turns_seconds=3.0,
    tasks=1000,
    tasks_seconds=4.0,
    engines=200,
    counted=40,
)
SMOKE: Final = Effort(
    links=(0.5,),
    rounds=1,
    units=2,
    warm=1,
    rate_rounds=1,
    rate_seconds=0.05,
    turns_seconds=0.1,
    tasks=40,
    tasks_seconds=0.1,
    engines=4,
    counted=0,
)
