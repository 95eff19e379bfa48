"""The databases on which ways are tried, and what another connection sees of them.

A ground makes its database as a table of ways needs it, tells in one mapping everything that a second connection can
see there (rows with their place and version, definitions, privileges, comments, statistics, settings, other files),
and puts the database back when something was changed.
"""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import Any, Final

import psycopg
import pymysql
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from tests.conformance.schema import Base
from tests.engines.mariadb import MariaDB
from tests.engines.postgres import Postgres
from tests.engines.sqlite import SQLite
from tests.engines.targets import FreshDatabase, Servers, mark_of

from . import mysql, postgresql, sqlite
from .way import Text

__all__ = ["Ground", "Seen", "difference", "ground"]

Seen = dict[str, str]
"""A digest for each part of what is seen."""


class Ground(ABC):
    """A database for ways, on a shared server; `close` removes it."""

    module: Any
    """The table of its ways."""

    def __init__(self, servers: Servers, target: str) -> None:
        self.servers = servers
        self.target = target
        self.database: FreshDatabase = servers.fresh(target)
        engine = sa.create_engine(self.database.url(), poolclass=NullPool)
        Base.metadata.create_all(engine)
        self._make()

    def url(self, driver: str) -> str:
        """SQLAlchemy's URL of the database."""
        return self.database.url(driver)

    @property
    def reads(self) -> tuple[str, ...]:
        """Texts that only read."""
        return tuple(self.module.READS)

    @abstractmethod
    def lines(self) -> Iterator[Text]:
        """Ways that are texts."""

    @abstractmethod
    def seen(self) -> Seen:
        """What a second connection sees."""

    @abstractmethod
    def renew(self) -> None:
        """Put the database back as it was made; nobody may use it meanwhile."""

    @abstractmethod
    def _make(self) -> None:
        """Fill the empty database."""

    def close(self) -> None:
        """Remove the database."""
        self.servers.drop(self.database)


def ground(servers: Servers, target: str) -> Ground:
    """The ground of a target. Skips the test if its engine is missing."""
    kinds: dict[str, Callable[[Servers, str], Ground]] = {
        "sqlite": _SQLiteGround,
        "pg": _PostgresGround,
        "mariadb": _MariaGround,
    }
    return kinds[mark_of(target)](servers, target)


def difference(before: Seen, after: Seen) -> tuple[str, ...]:
    """The parts that differ."""
    return tuple(sorted(part for part in before.keys() | after.keys() if before.get(part) != after.get(part)))


def _digest(rows: Iterable[Any]) -> str:
    found = sorted(repr(row) for row in rows)
    return f"{len(found)}:{hashlib.sha256(chr(10).join(found).encode()).hexdigest()[:16]}"


# -- PostgreSQL

_CATALOGS: Final = [
    "pg_class:oid",
    "pg_attribute:attrelid",
    "pg_attrdef:oid",
    "pg_constraint:oid",
    "pg_index:indexrelid",
    "pg_trigger:oid",
    "pg_rewrite:oid",
    "pg_proc:oid",
    "pg_type:oid",
    "pg_enum:oid",
    "pg_operator:oid",
    "pg_opclass:oid",
    "pg_opfamily:oid",
    "pg_cast:oid",
    "pg_collation:oid",
    "pg_conversion:oid",
    "pg_namespace:oid",
    "pg_sequence:seqrelid",
    "pg_policy:oid",
    "pg_publication:oid",
    "pg_statistic_ext:oid",
    "pg_ts_config:oid",
    "pg_ts_dict:oid",
    "pg_extension:oid",
    "pg_event_trigger:oid",
    "pg_foreign_data_wrapper:oid",
    "pg_foreign_server:oid",
    "pg_language:oid",
    "pg_am:oid",
    "pg_default_acl:oid",
]
_WHOLE: Final = (
    "select * from pg_namespace where nspname !~ '^pg_(toast_)?temp_'",
    "select * from pg_language",
    "select * from pg_inherits",
    "select * from pg_range where rngtypid >= 16384",
    "select * from pg_aggregate where aggfnoid >= 16384",
    "select * from pg_description where objoid >= 16384",
    "select * from pg_shdescription",
    "select * from pg_seclabel",
    "select * from pg_largeobject_metadata",
    "select loid, pageno, md5(data) from pg_largeobject",
    "select gid, database from pg_prepared_xacts where database = current_database()",
    "select * from pg_roles",
    "select * from pg_auth_members",
    "select * from pg_db_role_setting where setdatabase in (0, (select oid from pg_database where "
    "datname = current_database()))",
    "select datname, datacl, datconnlimit from pg_database where datname like current_database() || '%'",
    "select * from pg_tablespace",
    "select starelid, staattnum, stakind1, stadistinct from pg_statistic where starelid >= 16384",
    "select * from pg_statistic_ext_data",
    "select slot_name from pg_replication_slots",
    "select * from pg_replication_origin",
    "select name, setting from pg_file_settings",
    "select * from pg_partitioned_table",
)


class _PostgresGround(Ground):
    module = postgresql
    _server: Postgres

    def _make(self) -> None:
        assert isinstance(self.database.server, Postgres)
        self._server = self.database.server
        self._template = self.database
        with psycopg.connect(self._server.dsn(self.database.name, "app"), autocommit=True) as connection:
            connection.execute(postgresql.SETUP)
        self._used: str | None = None
        self._number = 0
        self.renew()

    @property
    def version(self) -> int:
        return int(self.target.removeprefix("pg"))

    def lines(self) -> Iterator[Text]:
        return postgresql.lines(self.database.name, self.version)

    def renew(self) -> None:
        self._remove()
        name = f"{self._template.name}_way"
        self._server.create_database(name, self._template.name)
        self.database = FreshDatabase(self.target, name, self._server)
        self._server.ask(f"alter database {name} set lock_timeout = '2s'")
        with psycopg.connect(self._server.dsn(name, "app"), autocommit=True) as connection:
            connection.execute("begin")
            connection.execute("insert into pending values (1)")
            connection.execute(f"prepare transaction 'waiting_{name}'")

    def _remove(self) -> None:
        if self.database is self._template:
            return
        name = self.database.name
        with psycopg.connect(self._server.dsn(name), autocommit=True) as connection:
            waiting = connection.execute("select gid from pg_prepared_xacts where database = current_database()")
            for (gid,) in waiting.fetchall():
                connection.execute(f"rollback prepared '{gid}'")
        self._server.drop_database(name)

    def close(self) -> None:
        self._remove()
        self.servers.drop(self._template)

    def seen(self) -> Seen:
        with psycopg.connect(self._server.dsn(self.database.name), autocommit=True) as connection:
            found: Seen = {}
            parts = [
                (catalog, f"select * from {catalog} where {key} >= 16384")
                for catalog, _, key in (each.partition(":") for each in _CATALOGS)
            ]
            parts += [(f"all of {query.split(' from ')[1]}", query) for query in _WHOLE]
            parts += [(f"rows of {name}", query) for name, query in self._tables(connection)]
            union = " union all ".join(
                f"select {number}, count(*), md5(coalesce(string_agg(t::text, '|' order by t::text), '')) from ({query}) t"
                for number, (_, query) in enumerate(parts)
            )
            for number, count, digest in connection.execute(union.encode()).fetchall():
                found[parts[number][0]] = f"{count}:{digest}"
            return found

    @staticmethod
    def _tables(connection: psycopg.Connection[Any]) -> list[tuple[str, str]]:
        names = connection.execute(
            "select format('%I.%I', nspname, relname), relkind from pg_class c join pg_namespace n on n.oid = relnamespace"
            " where relkind in ('r', 'm', 'S') and nspname !~ '^(pg_|information_schema)' order by 1"
        ).fetchall()
        system = "ctid, xmin::text, xmax::text, "
        return [(name, f"select {'' if kind == 'S' else system}t.* from {name} t") for name, kind in names]


# -- MariaDB


class _MariaGround(Ground):
    module = mysql
    _server: MariaDB

    def _make(self) -> None:
        assert isinstance(self.database.server, MariaDB)
        self._server = self.database.server
        self._fill()

    def _fill(self) -> None:
        # by the administrator: with a binary log a function that writes is nobody else's to make
        with closing(self._connect()) as connection, connection.cursor() as cursor:
            for statement in mysql.SETUP:
                cursor.execute(statement)
            name = self.database.name
            cursor.execute(f"xa start 'waiting_{name}'")
            cursor.execute("insert into waiting values (900)")
            cursor.execute(f"xa end 'waiting_{name}'")
            cursor.execute(f"xa prepare 'waiting_{name}'")

    def _connect(self) -> Any:
        return pymysql.connect(
            host="127.0.0.1",
            port=self._server.port,
            user="root",
            database=self.database.name,
            autocommit=True,
            init_command="set session lock_wait_timeout = 10",
        )

    def lines(self) -> Iterator[Text]:
        return mysql.lines(self.database.name)

    def renew(self) -> None:
        self._end_prepared()
        name = self.database.name
        for database in (f"{name}_made", name):
            self._server.drop_database(database)
        self._server.ask("alter user app identified by 'app'")
        self._server.create_database(name)
        Base.metadata.create_all(sa.create_engine(self.database.url(), poolclass=NullPool))
        self._fill()

    def _prepared(self) -> list[str]:
        """The transactions that wait for their second phase, of this database."""
        found = [str(data, "ascii", "replace")[:length] for _, length, _, data in self._server.ask("xa recover")]
        return [gid for gid in found if self.database.name in gid]

    def _end_prepared(self) -> None:
        for gid in self._prepared():
            self._server.ask(f"xa rollback '{gid}'")

    def close(self) -> None:
        self._end_prepared()
        self._server.drop_database(f"{self.database.name}_made")
        super().close()

    def seen(self) -> Seen:
        with closing(self._connect()) as connection, connection.cursor() as cursor:
            found: Seen = {}

            def look(part: str, query: str) -> list[Any]:
                cursor.execute(query)
                rows = list(cursor.fetchall())
                found[part] = _digest(rows)
                return rows

            schema = "information_schema"
            here = f"'{self.database.name}'"
            tables = look(
                "tables",
                "select table_name, table_type, engine, table_collation, table_comment, create_options, auto_increment,"
                f" create_time from {schema}.tables where table_schema = {here}",
            )
            names = [name for name, kind, *_ in tables if kind in ("BASE TABLE", "SYSTEM VERSIONED")]
            for name in names:
                look(f"rows of {name}", f"select * from `{name}`")  # an error of the table itself is seen too
            for name, kind, *_ in tables:
                if kind == "SEQUENCE":
                    look(f"rows of {name}", f"select * from `{name}`")
            for part, columns, where in (
                ("columns", "table_name, ordinal_position, column_name, column_default, column_type, is_nullable, extra, "
                            "column_comment", "table_schema"),
                ("statistics", "table_name, index_name, seq_in_index, column_name, non_unique, index_type", "table_schema"),
                ("views", "table_name, view_definition", "table_schema"),
                ("triggers", "trigger_name, action_statement, created", "trigger_schema"),
                ("routines", "routine_name, routine_type, routine_definition, routine_comment, last_altered",
                 "routine_schema"),
                ("events", "event_name, status, event_definition, last_altered, execute_at", "event_schema"),
                ("partitions", "table_name, partition_name, partition_description, partition_method", "table_schema"),
                ("table_constraints", "table_name, constraint_name, constraint_type", "table_schema"),
            ):  # fmt: skip
                look(part, f"select {columns} from {schema}.{part} where {where} = {here}")
            look("schemata", f"select * from {schema}.schemata where schema_name like '{self.database.name}%'")
            for part in ("global_priv", "db", "tables_priv", "columns_priv", "procs_priv", "roles_mapping", "servers"):
                look(part, f"select * from mysql.{part}")
            for part in ("table_stats", "column_stats", "index_stats"):
                look(part, f"select * from mysql.{part} where db_name = {here}")
            look("plugins", f"select plugin_name from {schema}.plugins")
            look("variables", "show global variables where variable_name in ('max_connections', 'tx_read_only')")
            found["prepared"] = _digest(self._prepared())
            return found


# -- SQLite


class _SQLiteGround(Ground):
    module = sqlite

    def _make(self) -> None:
        assert isinstance(self.database.server, SQLite)
        self._path = self.database.server.path(self.database.name)
        with closing(self._connect()) as connection:
            connection.execute("pragma journal_mode = wal")
            connection.executescript(sqlite.SETUP)
            connection.execute("pragma wal_checkpoint(truncate)")
        self._copy = self._path.with_suffix(".copy")
        shutil.copy(self._path, self._copy)

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, isolation_level=None)

    def lines(self) -> Iterator[Text]:
        return sqlite.lines(self._path)

    def renew(self) -> None:
        for path in self._path.parent.iterdir():
            if path != self._copy and (path.name.startswith(self._path.name) or path.name in _MADE):
                path.unlink()
        shutil.copy(self._copy, self._path)

    def close(self) -> None:
        self.renew()
        self._copy.unlink()
        super().close()

    def seen(self) -> Seen:
        try:
            return self._seen()
        except sqlite3.DatabaseError as damage:  # its schema was written over
            return {"sqlite_master": str(damage)}

    def _seen(self) -> Seen:
        found: Seen = {}
        with closing(self._connect()) as connection:
            names = connection.execute("select type, name, sql, rootpage from sqlite_master").fetchall()
            found["sqlite_master"] = _digest(names)
            for kind, name, sql, _ in names:
                if kind == "table" and not (sql or "").lower().startswith("create virtual"):
                    found[f"rows of {name}"] = _digest(connection.execute(f'select * from "{name}"'))
            for pragma in _PRAGMAS:
                found[pragma] = _digest(connection.execute(f"pragma {pragma}"))
        found["files"] = _digest(path.name for path in self._path.parent.iterdir() if path.name in _MADE)
        return found


_PRAGMAS: Final = ("user_version", "application_id", "schema_version", "journal_mode", "auto_vacuum", "page_size")
_MADE: Final = ("attached.db", "attached.db-wal", "attached.db-shm", "attached.db-journal", "vacuumed.db")
