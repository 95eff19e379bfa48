"""Test kit, public: for the tests of this package and for those of its users."""

from __future__ import annotations

from .player import Played, Said, Unscripted, play

__all__ = ["Played", "Said", "Unscripted", "play"]
