"""A MariaDB server for tests: an installed one, or one that was only unpacked.

Its data folder is made once per test process by `mariadb-install-db` and then copied. Account "app" (password "app")
may do everything with every database and nothing with the server: without SUPER and READ ONLY ADMIN, because those
may write to a server that is read-only. "root" (no password) is the administrator. It listens on 127.0.0.1 and on a
socket in its own folder. It may be used from several threads once it runs; `stop`, `kill` and `restart` may not.

Sources: MariaDB manual, "mariadb-install-db", "GRANT" (READ ONLY ADMIN), "innodb_flush_log_at_trx_commit": with 2 a
killed server keeps every commit, with 0 it may lose the last second.
"""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import pymysql

from .finders import Binaries, find
from .folders import base_folder, copy_folder, make_folder
from .process import Process, ServerFailed, run_tool, wait_until
from .server import Backend, Server, driver_url

__all__ = ["MariaDB", "quote"]

DRIVERS = ("pymysql", "mysqldb", "asyncmy", "aiomysql")
OPTIONS = (
    "--bind-address=127.0.0.1",
    "--skip-name-resolve",
    "--max-connections=200",
    "--character-set-server=utf8mb4",
    "--default-time-zone=+00:00",
    "--log-bin=bin",
    "--log-slave-updates=1",
    "--gtid-strict-mode=1",
    "--binlog-format=ROW",
    "--skip-slave-start",
    "--sync-binlog=0",
    "--innodb-flush-log-at-trx-commit=2",
    "--innodb-doublewrite=0",
    "--innodb-buffer-pool-size=64M",
    "--innodb-log-file-size=16M",
)


_NOT_PREPARED = 1047
"""What a node of Galera answers until it has found its cluster (Galera documentation, "wsrep_ready")."""


class MariaDB(Server):
    """`with MariaDB() as server:` a running server; killed and removed at the end."""

    def __init__(
        self,
        engine: str = "mariadb",
        *,
        server_id: int = 1,
        options: Callable[[], Sequence[str]] = tuple,
        data: Callable[[Binaries], Path] | None = None,
    ) -> None:
        """`options` gives words for mariadbd, anew for each start; `data` the folder to copy instead of an empty one.

        Raises `EngineMissing`.
        """
        super().__init__(engine)
        self.binaries = find("mariadb")
        self.data = self.folder / "data"
        self._temporary = self.folder / "tmp"  # a server that starts removes what others keep in a shared one
        self._server_id = server_id
        self._options = options
        self._source = data or (lambda binaries: _template(binaries, base_folder()))
        self.process = Process(engine, log=self.folder / "log", env=self.binaries.environment(), death_signal="TERM")

    def _begin(self) -> None:
        copy_folder(self._source(self.binaries), self.data)
        make_folder(self._temporary)
        self.start()
        wait_until(self._is_prepared, 60.0, what="the node of a cluster is prepared for its users")
        self.ask("create user if not exists app identified by 'app'")
        self.ask("grant all privileges on `%`.* to app")

    def _is_prepared(self) -> bool:
        try:
            self.ask("select count(*) from mysql.user")
        except pymysql.err.OperationalError as error:
            if error.args[0] != _NOT_PREPARED:
                raise
            return False
        return True

    @property
    def port(self) -> int:
        """The port it listens on; the same after a restart."""
        return self.process.port

    def url(self, database: str, driver: str | None = None) -> str:
        """SQLAlchemy's URL of `database` for "app", by "pymysql" (the default), "mysqldb", "asyncmy" or "aiomysql"."""
        return driver_url("mysql", DRIVERS, driver, f"://app:app@127.0.0.1:{self.port}/{database}")

    def ask(self, query: str, *parameters: Any, database: str | None = None, port: int = 0) -> list[tuple[Any, ...]]:
        """Run one statement as administrator on a connection of its own; returns the rows, if it has any."""
        connection = pymysql.connect(
            host="127.0.0.1",
            port=port or self.port,
            user="root",
            database=database,
            autocommit=True,
            connect_timeout=5,
            init_command="set session lock_wait_timeout = 10",
        )
        with closing(connection), connection.cursor() as cursor:
            cursor.execute(query, parameters or None)
            return list(cursor.fetchall())

    def create_database(self, name: str) -> None:
        """Make an empty database in utf8mb4."""
        self.ask(f"create database {quote(name)}")

    def drop_database(self, name: str) -> None:
        """Remove it, ending its connections first: their open transactions would lock its tables.

        Fails after 10 s if a prepared XA transaction was left in it.
        """
        self.cut(name)
        self.ask(f"drop database if exists {quote(name)}")

    def census(self, database: str) -> list[Backend]:
        """The client connections to `database`, as the process list has them. Threads of the server itself, such as
        those that apply what another node has committed, are in a database too while they work for it."""
        query = (
            "select id, command, coalesce(info, '') from information_schema.processlist "
            "where db = %s and user <> 'system user' order by id"
        )
        return [Backend(*row) for row in self.ask(query, database)]

    def cut(self, database: str) -> None:
        """End every client connection to `database`, by KILL."""
        for backend in self.census(database):
            self.terminate(backend)

    def terminate(self, backend: Backend) -> None:
        """End a connection by KILL; one that has ended meanwhile is no error."""
        try:
            self.ask(f"kill connection {backend.id:d}")
        except pymysql.err.OperationalError as error:
            if error.args[0] != pymysql.constants.ER.NO_SUCH_THREAD:
                raise

    def start(self) -> None:
        """Start it, on its old port if it had one; returns when it answers a query."""
        self.process.start(self._command, self._answers)

    def stop(self) -> None:
        """End it cleanly."""
        self.process.stop(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash would, by SIGKILL."""
        self.process.kill()

    def restart(self, *, immediate: bool = True) -> None:
        """Kill it, or stop it cleanly, and start it on the same port."""
        if immediate:
            self.kill()
        else:
            self.stop()
        self.start()

    def tail(self) -> str:
        """The last lines of its log."""
        return self.process.tail()

    def _command(self, port: int) -> list[str]:
        return [
            self.binaries.tool("mariadbd"),
            "--no-defaults",
            *_places(self.binaries),
            f"--datadir={self.data}",
            f"--tmpdir={self._temporary}",
            f"--socket={self.folder / 'sock'}",
            f"--pid-file={self.data / 'pid'}",
            f"--port={port}",
            f"--server-id={self._server_id}",
            *OPTIONS,
            *self._options(),
        ]

    def _answers(self, port: int) -> bool:
        try:
            ((folder,),) = self.ask("select @@datadir", port=port)
        except pymysql.err.OperationalError:
            return False
        return Path(folder) == self.data


def quote(name: str) -> str:
    """`name` as an identifier. Raises `ValueError` for names that tests have no reason to use."""
    if not re.fullmatch(r"\w{1,64}", name):
        raise ValueError(f"not a name for a database: {name!r}")
    return f"`{name}`"


def _places(binaries: Binaries) -> list[str]:
    """Where an unpacked server finds its own files; an installed one knows."""
    if binaries.root is None:
        return []
    usr = binaries.root / "usr"
    return [f"--basedir={usr}", f"--lc-messages-dir={usr}/share/mysql", f"--plugin-dir={usr}/lib/mysql/plugin"]


@cache
def _template(binaries: Binaries, base: Path) -> Path:
    """An empty data folder, made once per test process.

    The server that fills it has a folder of its own for temporary tables: one that starts removes what it finds in the
    folder they share, and another test process's server, filling its own at that moment, ends with a signal 11.
    """
    folder = make_folder(base / "mariadb-template")
    data, temporary = folder / "data", make_folder(folder / "tmp")
    words = ["--auth-root-authentication-method=normal", "--skip-test-db", "--innodb-log-file-size=16M"]
    places = [*_places(binaries), f"--datadir={data}", f"--tmpdir={temporary}"]
    try:
        run_tool([binaries.tool("mariadb-install-db"), "--no-defaults", *places, *words], env=binaries.environment())
    except ServerFailed:
        shutil.rmtree(folder)  # the next test that asks tries anew
        raise
    return data
