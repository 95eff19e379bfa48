"""What a unit can set on its connection: the kinds, for each engine and each driver. Runs nothing by itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

__all__ = ["CONNECT", "HIDDEN", "KINDS", "PREPARE", "RAW", "SEVERAL", "TOUCH", "Kind", "RawKind"]

Work: TypeAlias = Callable[[Any], Awaitable[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """Something that is set by text, and the question whose answer tells."""

    name: str
    say: str
    look: str
    reads: bool = True
    """A read unit can say it too."""
    at_commit: bool = False
    """It takes effect when its transaction commits, and cannot be seen before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawKind:
    """Something that is done with the driver's own connection."""

    name: str
    do: Work
    look: Work


def _kind(name: str, say: str, look: str, *, reads: bool = True) -> Kind:
    return Kind(name=name, say=say, look=look, reads=reads)


SEVERAL: Final = "several"
"""The kind that asyncpg cannot say: it sends one statement at a time."""


_LOCKS = "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()"
_POSTGRESQL: Final = (
    _kind("setting", "set statement_timeout = '77s'", "show statement_timeout"),
    _kind("search_path", "set search_path to pg_catalog", "show search_path"),
    _kind("time zone", "set time zone 'Asia/Tokyo'", "show timezone"),
    _kind("set_config", "select set_config('app.tenant', 'mine', false)", "select current_setting('app.tenant', true)"),
    _kind("role", "set role guest", "select current_user"),
    _kind("session authorization", "set session authorization guest", "select session_user"),
    _kind(
        "characteristics",
        "set session characteristics as transaction isolation level serializable",
        "show default_transaction_isolation",
    ),
    _kind(
        "temporary table",
        "create temporary table mine (a integer)",
        "select count(*) from pg_class where relname = 'mine' and pg_table_is_visible(oid)",
        reads=False,
    ),
    _kind("advisory lock", "select pg_advisory_lock(7)", _LOCKS),
    _kind("shared advisory lock", "select pg_try_advisory_lock_shared(8)", _LOCKS),
    Kind(
        name="listen",
        say="listen mine",
        look="select count(*) from pg_listening_channels()",
        reads=False,
        at_commit=True,
    ),
    _kind("prepare", "prepare mine as select 1", "select count(*) from pg_prepared_statements where name = 'mine'"),
    _kind(
        "cursor with hold",
        "declare mine cursor with hold for select 1",
        "select count(*) from pg_cursors where name = 'mine'",
    ),
    _kind("sequence", "select nextval('counter')", "select currval('counter')", reads=False),
    _kind("inserted number", "insert into numbered (a) values (1)", "select lastval()", reads=False),
    _kind("seed", "select setseed(0.5)", "select random() = (select value from seeded)", reads=False),
    _kind(
        "code",
        "do $$ begin perform set_config('app.code', 'mine', false); end $$",
        "select current_setting('app.code', true)",
        reads=False,
    ),
    _kind(SEVERAL, "select 1; set lock_timeout = '77s'", "show lock_timeout", reads=False),
)
_MYSQL: Final = (
    _kind("user variable", "set @mine = 'mine'", "select @mine"),
    _kind("assigned variable", "select @other := 'mine'", "select @other"),
    _kind("use", "use mysql", "select database()", reads=False),
    _kind("sql_mode", "set sql_mode = 'ANSI'", "select @@sql_mode"),
    _kind("time zone", "set time_zone = '+09:00'", "select @@time_zone"),
    _kind("isolation", "set session transaction isolation level serializable", "select @@tx_isolation"),
    _kind("read only", "set session transaction read only", "select @@tx_read_only", reads=False),
    _kind("lock", "select get_lock('mine', 1)", "select is_used_lock('mine') = connection_id()"),
    _kind("temporary table", "create temporary table mine (a integer)", "select count(*) from mine", reads=False),
    _kind("foreign key checks", "set foreign_key_checks = 0", "select @@foreign_key_checks"),
    _kind("character set", "set names latin1", "select @@character_set_client"),
    _kind("lock tables", "lock tables numbered write", "select count(*) from seeded", reads=False),
    _kind("handler", "handler seeded open", "handler seeded read first", reads=False),
    _kind("prepare", "prepare mine from 'select 1'", "execute mine", reads=False),
    _kind("inserted number", "insert into numbered (a) values (1)", "select last_insert_id()", reads=False),
    _kind("sequence", "select nextval(counter)", "select lastval(counter)", reads=False),
    _kind("timeout", "set innodb_lock_wait_timeout = 77", "select @@innodb_lock_wait_timeout"),
)
_SQLITE: Final = (
    _kind("foreign keys", "pragma foreign_keys = off", "pragma foreign_keys", reads=False),
    _kind("cache size", "pragma cache_size = 77", "pragma cache_size"),
    _kind("synchronous", "pragma synchronous = off", "pragma synchronous", reads=False),
    _kind("temporary table", "create temporary table mine (a)", "select count(*) from temp.sqlite_master", reads=False),
    _kind("attach", "attach ':memory:' as mine", "select count(*) from pragma_database_list", reads=False),
    _kind("inserted number", "insert into numbered (a) values (1)", "select last_insert_rowid()", reads=False),
)
KINDS: Final = {"pg": _POSTGRESQL, "pgbouncer": _POSTGRESQL, "mariadb": _MYSQL, "sqlite": _SQLITE}
"""By the mark of a target."""

PREPARE: Final = {
    "postgresql": (
        "create sequence counter",
        "create table numbered (id serial primary key, a integer)",
        "create table seeded (value double precision)",
        "select setseed(0.5)",
        "insert into seeded select random()",
        """create function hidden() returns text language plpgsql as
        $$ begin return set_config('search_path', 'pg_catalog', false); end $$""",
    ),
    "mysql": (
        "create sequence counter",
        "create table numbered (id integer auto_increment primary key, a integer)",
        "create table seeded (value integer)",
        "insert into seeded values (1)",
    ),
    "sqlite": ("create table numbered (id integer primary key, a integer)",),
}
HIDDEN: Final = _kind("hidden in a function", "select hidden()", "show search_path")
"""Nothing in the text shows it."""
TOUCH: Final = {"pg": "set lock_timeout = '7s'", "mariadb": "set @touched = 1", "sqlite": "pragma cache_size = 7"}
"""Makes a reset necessary."""
CONNECT: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "psycopg": ({"options": "-c statement_timeout=77s"}, "show statement_timeout"),
    "asyncpg": ({"server_settings": {"statement_timeout": "77s"}}, "show statement_timeout"),
    "pymysql": (
        {"init_command": "set innodb_lock_wait_timeout = 77", "sql_mode": "ANSI", "charset": "latin1"},
        """select concat_ws(' ', @@innodb_lock_wait_timeout, @@sql_mode, @@character_set_client, @@collation_connection,
        @@autocommit, @@tx_isolation, @@tx_read_only, database())""",
    ),
    "pysqlite": ({}, "select foreign_keys from pragma_foreign_keys"),
}
CONNECT["asyncmy"] = CONNECT["pymysql"]
CONNECT["aiosqlite"] = CONNECT["pysqlite"]
"""What is said at connect, which a reset must not lose, and the question for it."""


async def _maybe(answer: Any) -> Any:
    return await answer if isinstance(answer, Awaitable) else answer


def _calls(name: str, *args: Any) -> Work:
    async def call(driver: Any) -> Any:
        return await _maybe(getattr(driver, name)(*args))

    return call


def _sets(name: str, value: Any) -> Work:
    async def assign(driver: Any) -> None:
        setattr(driver, name, value)

    return assign


def _shows(name: str) -> Work:
    async def show(driver: Any) -> str:
        return repr(getattr(driver, name))

    return show


def _fetches(text: str) -> Work:
    async def fetch(driver: Any) -> Any:
        if hasattr(driver, "fetchval"):
            return await driver.fetchval(text)
        cursor = await _maybe(driver.execute(text))
        row = await _maybe(cursor.fetchone())
        return next(iter(row))

    return fetch


def _mysql_fetches(text: str) -> Work:
    async def fetch(driver: Any) -> Any:
        cursor = driver.cursor()
        await _maybe(cursor.execute(text))
        row = await _maybe(cursor.fetchone())
        await _maybe(cursor.close())
        return row[0]

    return fetch


def _mine() -> int:
    return 1


def _noted(*_: Any) -> None:
    """A handler that does nothing."""


def _rows(cursor: Any, *_: Any) -> Any:
    return list


class _Decoded:
    """A value that a codec made."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return f"decoded {self.text}"


async def _codec(driver: Any) -> None:
    await driver.set_type_codec("json", encoder=str, decoder=_Decoded, schema="pg_catalog")


async def _adapter(driver: Any) -> None:
    from psycopg.types.string import StrBinaryDumper

    driver.adapters.register_dumper(float, StrBinaryDumper)


async def _adapted(driver: Any) -> Any:
    from psycopg.adapt import PyFormat

    return driver.adapters.get_dumper(float, PyFormat.AUTO).__name__


def _raw(name: str, do: Work, look: Work) -> RawKind:
    return RawKind(name=name, do=do, look=look)


_PSYCOPG = (
    _raw("driver: text", _calls("execute", "set statement_timeout = '77s'"), _fetches("show statement_timeout")),
    _raw("driver: row factory", _sets("row_factory", _rows), _shows("row_factory")),
    _raw("driver: prepare threshold", _sets("prepare_threshold", 0), _shows("prepare_threshold")),
    _raw("driver: notice handler", _calls("add_notice_handler", _noted), _shows("_notice_handlers")),
    _raw("driver: adapter", _adapter, _adapted),
)
_ASYNCPG = (
    _raw("driver: text", _calls("execute", "set statement_timeout = '77s'"), _fetches("show statement_timeout")),
    _raw("driver: codec", _codec, _fetches("select json '1'")),
    _raw(
        "driver: listener",
        _calls("add_listener", "mine", _noted),
        _fetches("select count(*) from pg_listening_channels()"),
    ),
)
_PYMYSQL = (
    _raw("driver: text", _calls("query", "set @mine = 'mine'"), _mysql_fetches("select @mine")),
    _raw("driver: autocommit", _calls("autocommit", True), _mysql_fetches("select @@autocommit")),
    _raw("driver: database", _calls("select_db", "mysql"), _mysql_fetches("select database()")),
)
_SQLITE_RAW = (
    _raw("driver: text", _calls("execute", "pragma cache_size = 77"), _fetches("pragma cache_size")),
    _raw("driver: function", _calls("create_function", "mine", 0, _mine), _fetches("select mine()")),
    _raw("driver: row factory", _sets("row_factory", _rows), _shows("row_factory")),
    _raw("driver: text factory", _sets("text_factory", bytes), _shows("text_factory")),
)
RAW: Final = {
    "psycopg": _PSYCOPG,
    "asyncpg": _ASYNCPG,
    "pymysql": _PYMYSQL,
    "asyncmy": _PYMYSQL,
    "pysqlite": _SQLITE_RAW,
    "aiosqlite": _SQLITE_RAW,
}
"""By the driver."""
