"""A census of a database's connections, taken again and again while something goes on.

The sampler asks on a connection of its own in a thread of its own. For SQLite, which has no server, it counts the open
files of this process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any, Final, Self

import psycopg
import pymysql
from tests.engines.mariadb import MariaDB
from tests.engines.postgres import Postgres
from tests.engines.targets import FreshDatabase

from proofs.exits import _connections as connections

__all__ = ["Census"]

_EVERY: Final = 0.02
_BACKENDS: Final = (
    "select count(*), count(*) filter (where state like 'idle in transaction%%' and now() - state_change > '3 s')"
    " from pg_stat_activity where datname = %s and backend_type = 'client backend'"
)
_THREADS: Final = (
    "select count(*), (select count(*) from information_schema.innodb_trx as t join information_schema.processlist as p"
    " on p.id = t.trx_mysql_thread_id where p.db = %s and p.command = 'Sleep' and p.time > 3)"
    " from information_schema.processlist where db = %s"
)


class Census:
    """`with Census(database, size):` samples until the end of the block."""

    def __init__(self, database: FreshDatabase, size: int) -> None:
        self._database = database
        self._size = size
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="census", daemon=True)
        self.samples = 0
        self.most = 0
        """Connections at the server, in the fullest sample."""
        self.above = 0
        """Samples with more connections than the pool may have."""
        self.idle_in_transaction = 0
        """Samples in which a session had been idle in its transaction for more than three seconds.

        Two seconds is what asyncpg may take to close a connection."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        server = self._database.server
        name = self._database.name
        if isinstance(server, Postgres):
            with psycopg.connect(server.dsn(), autocommit=True) as connection, connection.cursor() as cursor:
                self._ask(lambda: cursor.execute(_BACKENDS, (name,)).fetchone())
        elif isinstance(server, MariaDB):
            # the administrator's connection of its own: without a database, so that it does not count itself
            with (
                closing(
                    pymysql.connect(host="127.0.0.1", port=server.port, user="root", autocommit=True)
                ) as connection,
                connection.cursor() as cursor,
            ):

                def ask() -> Any:
                    cursor.execute(_THREADS, (name, name))
                    return cursor.fetchone()

                self._ask(ask)
        else:
            self._ask(lambda: (connections(self._database), 0))

    def _ask(self, question: Callable[[], Any]) -> None:
        while not self._over.wait(_EVERY):
            count, idle = question()
            self.samples += 1
            self.most = max(self.most, count)
            self.above += count > self._size
            self.idle_in_transaction += idle > 0
