"""Which driver packages are there is decided by the test, not by the machine."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from importlib.machinery import ModuleSpec

import pytest

from polysession.config import DRIVERS

Install = Callable[..., None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """From now on, of all drivers only those whose modules are named here are importable."""
    find_spec = importlib.util.find_spec
    modules = {driver.module for driver in DRIVERS}

    def install_only(*names: str) -> None:
        def find(name: str, package: str | None = None) -> ModuleSpec | None:
            if name not in modules:
                return find_spec(name, package)
            return ModuleSpec(name, None) if name in names else None

        monkeypatch.setattr(importlib.util, "find_spec", find)

    install_only(*modules)
    return install_only


@pytest.fixture(autouse=True)
def _all_drivers(install: Install) -> None:
    """Every driver is importable, unless the test says otherwise."""
