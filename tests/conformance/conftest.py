"""Runs the coroutines of this folder in every cell, and collects the page."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator

import pytest

from polysession import AsyncSessions
from tests.engines.targets import Servers, mark_of

from .cells import PLACES, POOLED, THROUGH, Cell, Databases, Place
from .table import PROPERTY, Outcomes


def pytest_configure(config: pytest.Config) -> None:
    """Write the page at the end, in the process that hears of all tests."""
    if os.environ.get("POLYSESSION_WRITE_TABLE") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Outcomes(), "conformance")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A behaviour has a test for each place; what is no behaviour of the page is not run through a pooler."""
    if "cell" in metafunc.fixturenames:
        elsewhere = THROUGH if inspect.iscoroutinefunction(metafunc.function) else ()
        places = PLACES + (POOLED if hasattr(metafunc.function, "also_pooled") else elsewhere)
        metafunc.parametrize("cell", [_param(place) for place in places], indirect=True)


def _param(place: Place) -> object:
    mark = mark_of(place.target)
    return pytest.param(place, id=str(place), marks=[] if mark == "sqlite" else [getattr(pytest.mark, mark)])


@pytest.fixture(scope="session")
def databases(servers: Servers) -> Iterator[Databases]:
    """The databases of the suite, used by one test after the other."""
    databases = Databases(servers)
    yield databases
    databases.close()


@pytest.fixture
def cell(request: pytest.FixtureRequest, databases: Databases) -> Cell:
    """Where the test runs."""
    return Cell(request.param, databases)


@pytest.fixture
def door(cell: Cell) -> AsyncSessions:
    """The door under test, over one database; the synchronous one is awaited too."""
    return cell.door()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine in its cell."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(pyfuncitem.obj).parameters}
    cell = pyfuncitem.funcargs["cell"]
    assert isinstance(cell, Cell)
    try:
        cell.conduct(lambda: pyfuncitem.obj(**arguments))
    finally:
        pyfuncitem.user_properties.append((PROPERTY, [pyfuncitem.function.__name__, str(cell.place), cell.difference]))
    return True
