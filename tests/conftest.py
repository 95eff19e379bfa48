"""Fixtures for every test: databases and servers by the name of a target. The logic is in `tests/engines`."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from proofs.frozen import frozen
from proofs.interrupted_logging import free_logging

from polysession._shell import knots, watchdog
from tests.engines.server import Server
from tests.engines.targets import FreshDatabase, Servers, mark_of, required

SERVERS = pytest.StashKey[Servers]()


def pytest_configure() -> None:
    """Refuse a POLYSESSION_REQUIRE with a word that names no engine: it would demand nothing. Know no certificates."""
    try:
        required()
    except ValueError as error:
        raise pytest.UsageError(f"POLYSESSION_REQUIRE: {error}") from None
    # no server here has a certificate that a machine knows; PyMySQL loads all of them for each connection, in 25 ms
    os.environ["SSL_CERT_FILE"] = os.devnull


@pytest.fixture(autouse=True)
def _logging_is_free() -> Iterator[None]:
    """What a test that interrupts itself leaves with this thread keeps no later test waiting."""
    yield
    free_logging()


@pytest.fixture(autouse=True)
def _nothing_is_left_in_the_process() -> Iterator[None]:
    """Units of later tests are not kept waiting, nor watched, by what an earlier one has left."""
    yield
    assert not knots._waits
    assert not watchdog._current.dog.watched
    assert not watchdog._current.dog._lock._is_owned()  # type: ignore[attr-defined]  # that of an RLock
    assert not knots._lock._is_owned()  # type: ignore[attr-defined]  # as above


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is imported and collected stays: the garbage collector need not look at it again and again meanwhile."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop() -> Generator[None, object, object]:
    """The garbage collector, which many tests ask, looks at what the tests make, not at the ten thousand tests."""
    with frozen():
        return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by the target they are parametrized with, and begin with the slow ones."""
    for item in items:
        callspec = getattr(item, "callspec", None)
        target = callspec.params.get("target") if callspec else None
        if isinstance(target, str) and (mark := mark_of(target)) != "sqlite":
            item.add_marker(mark)
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)  # or the last of them ends alone


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object | None:
    """Spread tests our way unless another `--dist` was asked for."""
    from tests.engines.distribution import OneCluster  # imported here: this hook runs only where xdist is

    return OneCluster(config, log) if config.getvalue("dist") == "load" else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the end of the logs of a failed test's servers."""
    report = yield
    servers = item.session.stash.get(SERVERS, None)
    if servers is not None and report.failed:
        marks = {mark.name for mark in item.iter_markers()}
        for target, tail in servers.logs():
            if mark_of(target) in marks:
                report.sections.append((f"end of the log of {target}", tail))
    return report


@pytest.fixture(scope="session")
def servers(request: pytest.FixtureRequest) -> Iterator[Servers]:
    """The servers of this test process, each started when a test first asks for it."""
    servers = Servers()
    request.session.stash[SERVERS] = servers
    yield servers
    servers.close()


@pytest.fixture
def fresh_database(servers: Servers) -> Iterator[Callable[[str], FreshDatabase]]:
    """`fresh_database("pg18")`: an empty database for this test, dropped at its end; as many as it needs."""
    with ExitStack() as stack:

        def make(target: str) -> FreshDatabase:
            database = servers.fresh(target)
            stack.callback(servers.drop, database)
            return database

        yield make


@pytest.fixture
def database(target: str, fresh_database: Callable[[str], FreshDatabase]) -> FreshDatabase:
    """A fresh database on the `target` that the test is parametrized with."""
    return fresh_database(target)


@pytest.fixture
def private_server(servers: Servers) -> Iterator[Callable[[str], Server]]:
    """`private_server("pg18")`: a running server that only this test uses, so that it may be stopped or killed."""
    with ExitStack() as stack:
        yield lambda target: stack.enter_context(servers.private(target))
