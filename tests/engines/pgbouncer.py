"""pgbouncer in transaction mode, in front of a PostgreSQL server of the test kit.

Version 1.18 of Debian 12 cannot carry protocol-level prepared statements over transactions: clients must do without
(psycopg: `prepare_threshold=None`; asyncpg: `statement_cache_size=0`). Databases are made on the server behind it.

Source: pgbouncer manual, "pgbouncer.ini" and "Admin console"; release notes of 1.21 (prepared statements).
"""

from __future__ import annotations

from contextlib import closing
from typing import Any

import psycopg
from psycopg.rows import dict_row

from .finders import find
from .postgres import DRIVERS, Postgres
from .process import Process
from .server import Backend, Server, driver_url

__all__ = ["PgBouncer"]

CONFIG = """\
[databases]
* = host=127.0.0.1 port={behind}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {users}
admin_users = postgres
pool_mode = transaction
default_pool_size = 20
max_client_conn = 500
ignore_startup_parameters = extra_float_digits
pidfile = {pidfile}
"""


class PgBouncer(Server):
    """`with PgBouncer(postgres) as pooler:` a running pooler; stopped at the end. The server behind it is not."""

    def __init__(self, behind: Postgres) -> None:
        """Stand in front of `behind`, which must run. Raises `EngineMissing`."""
        super().__init__("pgbouncer")
        self.behind = behind
        self.binaries = find("pgbouncer")
        self.process = Process(
            "pgbouncer", log=self.folder / "log", env=self.binaries.environment(), death_signal="TERM"
        )

    def _begin(self) -> None:
        (self.folder / "users").write_text('"app" ""\n"postgres" ""\n')
        self.start()

    @property
    def port(self) -> int:
        """The port it listens on; the same after a restart."""
        return self.process.port

    def url(self, database: str, driver: str | None = None) -> str:
        """SQLAlchemy's URL of `database` through the pooler, by "psycopg" (the default) or "asyncpg"."""
        return driver_url("postgresql", DRIVERS, driver, f"://app@127.0.0.1:{self.port}/{database}")

    def create_database(self, name: str) -> None:
        """Make an empty database on the server behind."""
        self.behind.create_database(name)

    def drop_database(self, name: str) -> None:
        """Remove it, ending the connections of clients and those of the pooler."""
        self.cut(name)
        self.behind.drop_database(name)

    def set(self, setting: str, value: int | str) -> None:
        """Change a setting of the pooler until it ends; it does not outlive a restart."""
        self._console(f"set {setting} = '{value}'")

    def census(self, database: str) -> list[Backend]:
        """The clients of the pooler; what it holds to the server itself is `behind.census(database)`."""
        rows = self._console("show clients")
        return [Backend(int(str(row["ptr"]), 16), str(row["state"]), "") for row in rows if row["database"] == database]

    def cut(self, database: str) -> None:
        """End every client connection to `database`, and those that the pooler holds to the server."""
        known = {row["name"] for row in self._console("show databases")}
        if database in known:  # one that nobody has asked for yet is unknown to it
            self._console(f'kill "{database}"')
            self._console(f'resume "{database}"')

    def start(self) -> None:
        """Start it, on its old port if it had one; returns when its console answers."""
        self.process.start(self._command, self._answers)

    def kill(self) -> None:
        """End it at once; the server behind rolls back what was open."""
        self.process.kill()

    def restart(self, *, immediate: bool = True) -> None:
        """Start it anew on the same port; `immediate` or not, version 1.18 ends without waiting for clients."""
        if immediate:
            self.kill()
        else:
            self.process.stop()
        self.start()

    def tail(self) -> str:
        """The last lines of its log."""
        return self.process.tail()

    def _command(self, port: int) -> list[str]:
        config = self.folder / "pgbouncer.ini"
        pidfile = self.folder / "pid"
        pidfile.unlink(missing_ok=True)  # one that a kill left behind would keep it from starting
        config.write_text(
            CONFIG.format(behind=self.behind.port, port=port, users=self.folder / "users", pidfile=pidfile)
        )
        return [self.binaries.tool("pgbouncer"), str(config)]

    def _answers(self, port: int) -> bool:
        try:
            settings = {row["key"]: row["value"] for row in self._console("show config", port=port)}
        except psycopg.OperationalError:
            return False
        return bool(settings["pidfile"] == str(self.folder / "pid"))

    def _console(self, command: str, *, port: int = 0) -> list[dict[str, Any]]:
        """Run a command of the admin console, which speaks the simple protocol only and knows no transactions."""
        address = f"host=127.0.0.1 port={port or self.port} user=postgres dbname=pgbouncer connect_timeout=5"
        with closing(psycopg.connect(address, autocommit=True, row_factory=dict_row)) as connection:
            cursor = connection.execute(command)
            return cursor.fetchall() if cursor.description else []
