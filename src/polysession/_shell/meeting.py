"""Getting to know a server in one question: what SQLAlchemy asks in several when an engine first connects.

`Dialect.initialize` asks for the version, the schema, the isolation level and some settings, one after the other, and
begins and ends a transaction around them. Here one statement asks for all of it, outside of a transaction; then
SQLAlchemy's own `initialize` runs, and each of its methods that would ask is given the server's answer. What decides
what an answer means stays SQLAlchemy's.

If the question fails, or is not answered as it should, everything is asked in SQLAlchemy's way. The methods that ask
have private names for the most part: one that SQLAlchemy no longer has is not answered for, and whatever it calls
instead asks for itself. So the only thing that can be lost is the round trip.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Final, TypeAlias

from sqlalchemy import util

__all__ = ["ASKS", "meet"]

Answers: TypeAlias = Mapping[str, Callable[..., Any]]
"""What the methods of a dialect answer, by their names."""


def meet(dialect: Any, initialize: Callable[[Any], None], connection: Any) -> Callable[[], None] | None:
    """Have SQLAlchemy's `initialize` get to know the server of `connection`.

    If one question was enough: what is to be done afterwards, so that no ROLLBACK is sent for it.
    """
    ask = ASKS.get(dialect.driver)
    answers: Answers | None = None
    if ask is not None:
        with suppress(Exception):  # SQLAlchemy's way meets the same error, and reports it
            answers = ask(dialect, connection.connection)
    with _answering(dialect, answers or {}):
        initialize(connection)
    return None if answers is None else partial(_spare_rollback, dialect, connection)


def _spare_rollback(dialect: Any, connection: Any) -> None:
    """Do not send the ROLLBACK that follows SQLAlchemy's questions: after one question that reads no table nothing is
    open, as on every other new connection. For drivers that send one in any case."""
    if dialect.driver not in ("pymysql", "asyncmy"):
        return
    met = connection.connection.dbapi_connection
    own = dialect.__dict__.get("do_rollback")

    def roll_back(ended: Any) -> None:
        if own is None:
            dialect.__dict__.pop("do_rollback", None)
        else:
            dialect.__dict__["do_rollback"] = own
        if ended.dbapi_connection is not met:
            dialect.do_rollback(ended)

    dialect.__dict__["do_rollback"] = roll_back


@contextmanager
def _answering(dialect: Any, answers: Answers) -> Iterator[None]:
    """Let the methods of this one dialect answer so."""
    given = {name: answer for name, answer in answers.items() if hasattr(dialect, name)}
    dialect.__dict__.update(given)
    try:
        yield
    finally:
        for name in given:
            dialect.__dict__.pop(name, None)


# -- PostgreSQL

_POSTGRESQL: Final = (
    "select pg_catalog.version(), current_schema(), pg_catalog.current_setting('transaction_isolation'), "
    "pg_catalog.current_setting('standard_conforming_strings'), to_regtype('hstore')::text"
)
"""What SQLAlchemy asks of PostgreSQL, and whether there is the type that it looks up."""


def _psycopg(dialect: Any, pooled: Any) -> Answers | None:
    connection = pooled.dbapi_connection
    begins = not connection.autocommit
    try:
        if begins:
            connection.autocommit = True  # psycopg's own: nothing is sent for it
        cursor = connection.cursor()
        try:
            cursor.execute(_POSTGRESQL)
            row = cursor.fetchone()
        finally:
            cursor.close()
    finally:
        if begins:
            with suppress(Exception):  # it is lost: who uses it next finds out
                connection.autocommit = False
    return _of_postgresql(dialect, *row)


def _asyncpg(dialect: Any, pooled: Any) -> Answers | None:
    """By COPY, which asyncpg sends in one message; for a SELECT it waits twice."""
    parts: list[bytes] = []

    async def keep(data: bytes) -> None:
        parts.append(bytes(data))

    util.await_only(pooled.driver_connection.copy_from_query(_POSTGRESQL, output=keep, format="text"))
    text = b"".join(parts).decode()
    if not text.endswith("\n") or "\\" in text.replace("\\N", ""):
        return None  # it has signs that COPY writes in a way of its own
    row = [None if value == "\\N" else value for value in text[:-1].split("\t")]
    return _of_postgresql(dialect, *row)


def _of_postgresql(dialect: Any, version: Any, schema: Any, level: Any, strings: Any, hstore: Any) -> Answers:
    type_info = getattr(dialect, "_type_info_fetch", None)
    parse = getattr(dialect, "_get_server_version_info", None)
    answers: dict[str, Callable[..., Any]] = {
        "_get_default_schema_name": lambda connection: schema,
        "_set_backslash_escapes": lambda connection: setattr(dialect, "_backslash_escapes", strings == "off"),
    }
    if parse is not None:

        def version_of(connection: Any) -> Any:
            try:
                return parse(_Said(version))
            except (AttributeError, LookupError):  # it asks in another way than it did
                return parse(connection)

        answers["_get_server_version_info"] = version_of
    if dialect._on_connect_isolation_level in (None, "AUTOCOMMIT"):
        # else SQLAlchemy asks in a transaction at that level, and counts on it to be the default
        answers["get_default_isolation_level"] = lambda connection: level.upper()
    if hstore is None and type_info is not None:
        answers["_type_info_fetch"] = lambda connection, name: None if name == "hstore" else type_info(connection, name)
    return answers


class _Said:
    """A connection, for SQLAlchemy's method that reads the version out of the server's text: it has said the text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def exec_driver_sql(self, statement: str) -> _Said:
        """As `Connection.exec_driver_sql`."""
        if "version()" not in statement:
            raise LookupError(statement)
        return self

    def scalar(self) -> str:
        """The text."""
        return self._text


# -- MySQL and MariaDB


def _mysql(dialect: Any, pooled: Any) -> Answers | None:
    connection = pooled.dbapi_connection
    driver = pooled.driver_connection
    is_mariadb = "mariadb" in driver.get_server_info().lower()  # of the handshake; what counts is asked for
    level_name = "tx_isolation" if is_mariadb else "transaction_isolation"
    cursor = connection.cursor()
    try:
        cursor.execute(f"SELECT VERSION(), DATABASE(), @@{level_name}, @@sql_mode, @@lower_case_table_names")
        version, schema, level, mode, casing = (_text(value) for value in cursor.fetchone())
    finally:
        cursor.close()
    if level is None or ("mariadb" in version.lower()) is not is_mariadb:
        return None  # a proxy that gives itself for another server: SQLAlchemy has asked the server itself
    parse, settings = dialect._parse_server_version, {"sql_mode": mode, "lower_case_table_names": casing}
    fetch = dialect._fetch_setting

    def setting(connection: Any, name: str) -> Any:
        return settings[name] if name in settings else fetch(connection, name)

    return {
        "_get_server_version_info": lambda connection: parse(version),
        "_get_default_schema_name": lambda connection: schema,
        "get_default_isolation_level": lambda connection: level.upper().replace("-", " "),
        "_fetch_setting": setting,
    }


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


ASKS: Final[Mapping[str, Callable[[Any, Any], Answers | None]]] = {
    "psycopg": _psycopg,
    "asyncpg": _asyncpg,
    "pymysql": _mysql,
    "asyncmy": _mysql,
}
"""By driver: asks, and answers what SQLAlchemy would have been told; None if that was not understood."""
