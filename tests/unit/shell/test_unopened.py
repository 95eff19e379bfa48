"""A unit whose making was interrupted: it has no attribute yet, and is collected without a word."""

from __future__ import annotations

from typing import Any

import pytest

from polysession.sessions import Unit
from polysession.sessions_async import AsyncUnit


@pytest.mark.parametrize("kind", [Unit, AsyncUnit])
def test_a_unit_that_is_not_made_yet(kind: type[Any]) -> None:
    """What it lacks is an `AttributeError`, not a recursion."""
    unit: Any = object.__new__(kind)
    for name in ("_origin", "_scope", "_leaving"):
        with pytest.raises(AttributeError):
            getattr(unit, name)
    unit.__del__()
