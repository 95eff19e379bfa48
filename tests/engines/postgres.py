"""A PostgreSQL server of a chosen major version, for tests.

Made by `initdb` once per version and test process, then copied, so that another server costs 0.1 s. It listens on
127.0.0.1 only, trusts everybody there, and does not sync to disk: a killed server loses nothing, a killed machine
would. Account "app" owns the databases and is no superuser; "postgres" is the administrator. It may be used from
several threads once it runs; `stop`, `kill` and `restart` may not.

Source of the signals (SIGINT fast, SIGQUIT immediate): PostgreSQL manual, "Shutting Down the Server".
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from .finders import Binaries, find
from .folders import base_folder, copy_folder, make_folder
from .process import Process, ServerFailed, run_tool
from .server import Backend, Server, driver_url

__all__ = ["Postgres"]

DRIVERS = ("psycopg", "asyncpg")
SETTINGS = {
    "listen_addresses": "'127.0.0.1'",
    "unix_socket_directories": "''",
    "fsync": "off",
    "full_page_writes": "on",
    "dynamic_shared_memory_type": "mmap",  # files of its own folder: a kill leaves nothing in /dev/shm
    "shared_buffers": "32MB",
    "max_connections": "200",
    "max_prepared_transactions": "64",
    "wal_level": "logical",
    "wal_log_hints": "on",
    "timezone": "UTC",
    "log_line_prefix": "'%m [%p] %d '",
}


class Postgres(Server):
    """`with Postgres("pg18") as server:` a running server; stopped and removed at the end."""

    def __init__(self, engine: str, *, settings: Mapping[str, str] | None = None) -> None:
        """Look for `engine` ("pg<major>"); `settings` are added to postgresql.conf. Raises `EngineMissing`."""
        super().__init__(engine)
        self.binaries = find(engine)
        self.data = self.folder / "data"
        self._settings = dict(settings or {})
        self.process = Process(engine, log=self.folder / "log", env=self.binaries.environment(), death_signal="QUIT")

    def _begin(self) -> None:
        copy_folder(_template(self.binaries, base_folder()), self.data)
        with (self.data / "postgresql.conf").open("a") as conf:
            conf.writelines(f"{key} = {value}\n" for key, value in self._settings.items())
        self.start()
        self.ask("create role app login createdb")

    def _discard(self) -> None:
        self.stop()  # unlike a kill it also removes the segment of shared memory

    @property
    def port(self) -> int:
        """The port it listens on; the same after a restart."""
        return self.process.port

    def url(self, database: str, driver: str | None = None) -> str:
        """SQLAlchemy's URL of `database` for "app", by "psycopg" (the default) or "asyncpg"."""
        return driver_url("postgresql", DRIVERS, driver, f"://app@127.0.0.1:{self.port}/{database}")

    def dsn(self, database: str = "postgres", user: str = "postgres", *, port: int = 0) -> str:
        """libpq's connection string, for the administrator by default."""
        return f"host=127.0.0.1 port={port or self.port} user={user} dbname={database} connect_timeout=5"

    def ask(self, query: str | sql.Composed, *parameters: Any, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run one statement as administrator on a connection of its own; returns the rows, if it has any."""
        with psycopg.connect(self.dsn(database), autocommit=True) as connection:
            cursor = connection.execute(query, parameters or None)
            return cursor.fetchall() if cursor.description else []

    def create_database(self, name: str, template: str = "template0") -> None:
        """Copy `template`, which nobody may be using, to a database that "app" owns."""
        statement = "create database {} template {} owner app strategy file_copy"
        self.ask(sql.SQL(statement).format(sql.Identifier(name), sql.Identifier(template)))

    def drop_database(self, name: str) -> None:
        """Remove it, ending its connections; fails if a prepared transaction was left in it."""
        self.ask(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))

    def census(self, database: str) -> list[Backend]:
        """The client connections to `database`, as pg_stat_activity has them."""
        query = (
            "select pid, coalesce(state, ''), query from pg_stat_activity"
            " where datname = %s and backend_type = 'client backend' and pid <> pg_backend_pid() order by pid"
        )
        return [Backend(*row) for row in self.ask(query, database)]

    def cut(self, database: str) -> None:
        """End every client connection to `database`, by pg_terminate_backend."""
        for backend in self.census(database):
            self.terminate(backend)

    def terminate(self, backend: Backend) -> None:
        """End a connection by pg_terminate_backend."""
        self.ask("select pg_terminate_backend(%s)", backend.id)

    def start(self) -> None:
        """Start it, on its old port if it had one; returns when it answers a query."""
        postgres = self.binaries.tool("postgres")
        self.process.start(lambda port: [postgres, "-D", str(self.data), "-p", str(port)], self._answers)

    def stop(self, *, immediate: bool = True) -> None:
        """End it: at once, or after its clients' transactions were rolled back and a checkpoint written."""
        self.process.stop(signal.SIGQUIT if immediate else signal.SIGINT)

    def kill(self) -> None:
        """End it as a crash would, by SIGKILL to all its processes."""
        self.process.kill()

    def restart(self, *, immediate: bool = True) -> None:
        """Stop it and start it on the same port."""
        self.stop(immediate=immediate)
        self.start()

    def tail(self) -> str:
        """The last lines of its log."""
        return self.process.tail()

    def _answers(self, port: int) -> bool:
        try:
            with psycopg.connect(self.dsn(port=port)) as connection:
                row = connection.execute("select current_setting('data_directory')").fetchone()
        except psycopg.OperationalError:
            return False
        return row is not None and Path(row[0]) == self.data


@cache
def _template(binaries: Binaries, base: Path) -> Path:
    """A data folder that was never started, for copies: they share one system identifier, as replicas must."""
    folder = make_folder(base / f"{binaries.engine}-template")
    data = folder / "data"
    account = ["--username=postgres", "--auth=trust"]
    words = [*account, "--no-sync", "--no-instructions", "--encoding=UTF8", "--locale=C", "--wal-segsize=1"]
    try:
        run_tool([binaries.tool("initdb"), "-D", str(data), *words], env=binaries.environment())
    except ServerFailed:
        shutil.rmtree(folder)  # the next test that asks tries anew
        raise
    with (data / "postgresql.conf").open("a") as conf:
        conf.writelines(f"{key} = {value}\n" for key, value in SETTINGS.items())
    return data
