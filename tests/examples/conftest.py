"""Loads an example as a new module, in an empty folder, as a user who has just copied the file."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from polysession import AsyncSessions, Sessions
from tests.engines.finders import PROJECT

Load = Callable[[str], ModuleType]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """`load("webshop")`: the module, made anew; at the end nothing may be held through a door of it."""
    monkeypatch.chdir(tmp_path)
    loaded: list[ModuleType] = []

    def one(name: str) -> ModuleType:
        path = PROJECT / "examples" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)  # SQLAlchemy and pydantic look for annotations there
        spec.loader.exec_module(module)
        loaded.append(module)
        return module

    yield one
    for module in loaded:
        for door in [value for value in vars(module).values() if isinstance(value, Sessions | AsyncSessions)]:
            assert door.held() == ()
            if isinstance(door, Sessions):
                door.close()
            else:
                assert door._closed
