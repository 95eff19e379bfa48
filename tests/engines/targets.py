"""Gives a test what it asks for by name: a fresh database on an engine, or a server of its own.

A *target* is "sqlite", "pg<major>" ("pg15", "pg18"), "mariadb", "galera" or "pgbouncer". The server of a target is
started when the first test asks for it and shared by all tests of this process; with pytest-xdist each worker has its
own. A test that stops, kills or promotes asks for a private one. A missing engine skips the test and says what brings
it; named by POLYSESSION_REQUIRE ("pg18,mariadb", or a mark such as "pg" for all it covers) it fails the test instead.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import ClassVar

import pytest

from .finders import EngineMissing
from .folders import remove_base_folder
from .process import ServerFailed
from .server import Backend, Server

__all__ = ["ASYNC_DRIVERS", "MARKS", "SYNC_DRIVERS", "TARGETS", "FreshDatabase", "Servers", "mark_of", "required"]

TARGETS = ("sqlite", "pg15", "pg18", "mariadb", "galera", "pgbouncer")
"""What the suites run over; any other "pg<major>" can be asked for as well."""
SYNC_DRIVERS: Mapping[str, tuple[str, ...]] = {
    "sqlite": ("pysqlite",),
    "pg": ("psycopg",),
    "pgbouncer": ("psycopg",),
    "mariadb": ("pymysql",),
    "galera": ("pymysql",),
}
"""The drivers for `Sessions`, by the mark of a target."""
ASYNC_DRIVERS: Mapping[str, tuple[str, ...]] = {
    "sqlite": ("aiosqlite",),
    "pg": ("psycopg", "asyncpg"),
    "pgbouncer": ("psycopg", "asyncpg"),
    "mariadb": ("asyncmy",),
    "galera": ("asyncmy",),
}
"""The drivers for `AsyncSessions`, by the mark of a target."""
MARKS = frozenset(SYNC_DRIVERS)
REQUIRE = "POLYSESSION_REQUIRE"
_name = itertools.count(1)


def mark_of(target: str) -> str:
    """The pytest mark of tests that need `target`: "pg" for every PostgreSQL, else its own name.

    Raises `ValueError` for a name that is no target.
    """
    mark = "pg" if re.fullmatch(r"pg\d+", target) else target
    if mark not in MARKS:
        raise ValueError(f"no target is called {target!r}; there are {', '.join(TARGETS)}")
    return mark


def required() -> frozenset[str]:
    """The targets and marks that POLYSESSION_REQUIRE names. Raises `ValueError` for a word that is neither."""
    words = frozenset(filter(None, map(str.strip, os.environ.get(REQUIRE, "").split(","))))
    for word in words - MARKS:
        mark_of(word)
    return words


@dataclass(frozen=True, slots=True)
class FreshDatabase:
    """An empty database for one test, gone when the test ends."""

    target: str
    name: str
    server: Server

    def url(self, driver: str | None = None) -> str:
        """SQLAlchemy's URL of it, by the target's first driver unless told."""
        return self.server.url(self.name, driver)

    def census(self) -> list[Backend]:
        """The connections that the server holds to it now."""
        return self.server.census(self.name)

    def cut(self) -> None:
        """End all its connections from the server's side."""
        self.server.cut(self.name)


class Servers:
    """Servers of a test process; `close` ends them all. The last one to be closed removes their folder."""

    _open: ClassVar[set[int]] = set()

    def __init__(self) -> None:
        self._open.add(id(self))
        self._stack = ExitStack()
        self._shared: dict[str, Server | ServerFailed] = {}

    def shared(self, target: str) -> Server:
        """The server that all tests of `target` use, started now if it was not.

        Skips or fails the test if the engine is missing. Raises `ServerFailed`, again for every test that asks.
        """
        if target not in self._shared:
            try:
                self._shared[target] = self._stack.enter_context(self.private(target))
            except ServerFailed as error:
                self._shared[target] = error
        server = self._shared[target]
        if isinstance(server, ServerFailed):
            raise ServerFailed(f"{target} failed to start in this test process: {server}")
        return server

    def private(self, target: str) -> Server:
        """A server of `target` that is not started yet: the caller's `with` does it, and ends it.

        A private "pgbouncer" stands in front of the shared PostgreSQL. Skips or fails the test if it is missing.
        """
        from . import making  # imported here: tests without a server load no driver

        mark = mark_of(target)
        try:
            return making.make(target, self.shared)
        except EngineMissing as error:
            if required() & {target, mark}:
                pytest.fail(f"{REQUIRE} demands {target}: {error}", pytrace=False)
            pytest.skip(str(error))

    def fresh(self, target: str) -> FreshDatabase:
        """A new database on the shared server of `target`; `drop` ends it."""
        name = f"t{next(_name)}_{os.getpid()}"
        server = self.shared(target)
        server.create_database(name)
        return FreshDatabase(target, name, server)

    def drop(self, database: FreshDatabase) -> None:
        """Remove a database that `fresh` made, with the connections that are left."""
        database.server.drop_database(database.name)

    def logs(self) -> Iterator[tuple[str, str]]:
        """Of every shared server that runs: its name and the end of its log."""
        for target, server in self._shared.items():
            if isinstance(server, Server) and (tail := server.tail()):
                yield target, tail

    def close(self) -> None:
        """End all shared servers and remove their files."""
        try:
            self._stack.close()
        finally:
            self._shared.clear()
            self._open.discard(id(self))
            if not self._open:
                remove_base_folder()
