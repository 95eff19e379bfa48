"""A unit is made in one step: an interrupt leaves none that is half made, which would be collected with an error."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any

import msgspec
import pytest

from polysession import Sessions
from polysession.sessions import Unit
from polysession.sessions_async import AsyncUnit


@pytest.mark.parametrize("kind", [Unit, AsyncUnit])
def test_a_unit_is_made_in_one_step(kind: type[Any]) -> None:
    """No Python code runs between its beginning and its end."""
    assert issubclass(kind, msgspec.Struct)
    assert "__init__" not in vars(kind)
    assert "__post_init__" not in vars(kind)
    with pytest.raises(TypeError):
        kind.__new__(kind)


def test_a_unit_is_a_context_manager() -> None:
    """For whoever asks, and shown as an object, without what it refers to."""
    with Sessions("sqlite://") as sessions, sessions.read() as session:
        unit: object = sessions.read()
        assert isinstance(unit, AbstractContextManager)
        assert "sqlite" not in repr(unit)
        assert session.is_active
    assert issubclass(AsyncUnit, AbstractAsyncContextManager)
