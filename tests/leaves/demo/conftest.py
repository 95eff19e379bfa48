"""Fixtures for the tests of the demo."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.leaves.demo.shop import Shop, fill, seeded, sqlite

from polysession.demo.inputs import Constants
from polysession.demo.schema import make_schema
from polysession.demo.size import Size


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """A shop that only this test changes."""
    schema, size = make_schema(), Size.at(0.01)
    constants = Constants.draw(seeded("constants"), size)
    engine = sqlite(tmp_path / "shop.db")
    fill(engine, schema, size, constants)
    yield Shop(engine, schema, size, constants)
    engine.dispose()
