"""What is done differently behind a pooler in transaction mode, and the report of a pooler that nobody spoke of.

There a connection to the server belongs to a client for one transaction only, and nothing that is set on it outlives
the transaction without reaching another client. So nothing is set: no startup parameter, no prepared statement that
outlives its use, no setting of the session. Read units run in one READ ONLY transaction each.

Sources: pgbouncer, "Features" (SQL feature map for pooling modes) and "Config" (ignore_startup_parameters); psycopg 3
documentation, "Prepared statements" (Using prepared statements with PgBouncer); asyncpg documentation, FAQ (Why am I
getting prepared statement errors?); SQLAlchemy documentation, "PostgreSQL", Prepared Statement Name with PGBouncer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from sqlalchemy.engine import Connection, Engine

from ..config.problems import join
from ..errors import ConfigError, RequestRefused
from ..options import Access, UnitOptions
from ..topology import Endpoint, Pooler

if TYPE_CHECKING:
    from .upkeep import Upkeep

__all__ = [
    "READ_LEVEL",
    "arguments",
    "begin_anew",
    "check_plain",
    "is_behind",
    "prepare",
    "reads_in_transaction",
    "refused_at_connect",
]

READ_LEVEL = "READ COMMITTED"
"""Of a read unit that asks for no level: each of its statements sees what is committed when it runs. It is said each
time, because the server's default may be another one."""

_READS = "polysession_reads_in_transaction"
_BEHIND = "polysession_behind_pooler"
_NOTHING: Mapping[str, Any] = MappingProxyType({})


def _unnamed() -> str:
    """The name of every statement: none. An unnamed one is gone with the next, a named one stays on the server.

    With unique names, as SQLAlchemy's documentation has it, those that are still there when the transaction ends are
    closed on whatever connection comes next, and pile up where they are.
    """
    return ""


_ARGUMENTS: Mapping[str, Mapping[str, Any]] = {
    "psycopg": MappingProxyType({"prepare_threshold": None}),
    "asyncpg": MappingProxyType(
        {
            "statement_cache_size": 0,
            "prepared_statement_cache_size": 0,  # SQLAlchemy's own cache
            "prepared_statement_name_func": _unnamed,
        }
    ),
}


def arguments(endpoint: Endpoint, driver: str) -> Mapping[str, Any]:
    """The arguments of the driver's `connect()`; what the configuration says goes before."""
    return _ARGUMENTS.get(driver, _NOTHING) if endpoint.pooler is Pooler.TRANSACTION else _NOTHING


def prepare(engine: Engine, kind: str, upkeep: Upkeep) -> None:
    """Let the transactions of a read engine be READ ONLY, and refuse AUTOCOMMIT where it would do harm."""
    dialect: Any = engine.dialect
    engine.update_execution_options(**{_BEHIND: True})
    if kind == Access.READ:
        engine.update_execution_options(**{_READS: True})
        set_readonly = dialect.set_readonly
        # kept by the driver, which says it in each BEGIN: nothing is sent now
        upkeep.when_new(lambda connection, _: set_readonly(connection, True))
        # SQLAlchemy takes its own option postgresql_readonly back when the connection is returned: this one stays
        dialect.set_readonly = lambda connection, value: set_readonly(connection, True)
    set_level = dialect.set_isolation_level

    def set_isolation_level(connection: Any, level: str) -> None:
        if level == "AUTOCOMMIT" and (kind == Access.READ or dialect.driver in _SEVERAL_TRIPS):
            raise _no_autocommit(kind)
        set_level(connection, level)

    dialect.set_isolation_level = set_isolation_level


_SEVERAL_TRIPS = ("asyncpg",)
"""The drivers that speak to the server more than once for a statement: parse it, look up its types, run it. Without a
transaction each may reach another connection, and the look-up changes a setting of the session (asyncpg,
connection.py, `_introspect_types`)."""


def _no_autocommit(kind: str) -> RequestRefused:
    if kind == Access.READ:
        return RequestRefused(
            "AUTOCOMMIT cannot be had in a read unit behind a pooler",
            why="only in a READ ONLY transaction the server refuses its writes",
            do=("leave the isolation level out", "open the unit with begin()"),
            isolation="AUTOCOMMIT",
        )
    return RequestRefused(
        "AUTOCOMMIT cannot be had by asyncpg behind a pooler",
        why="it speaks to the server several times for a statement, and each time may reach another connection",
        do=("use postgresql+psycopg://", "do it in a transaction", "reach the server itself, not through the pooler"),
        isolation="AUTOCOMMIT",
    )


def is_behind(engine: Engine) -> bool:
    """It was made for a database that is behind a pooler, as the configuration says."""
    return _BEHIND in engine.get_execution_options()


def reads_in_transaction(engine: Engine) -> bool:
    """It was made for read units that run in a transaction each."""
    return _READS in engine.get_execution_options()


def begin_anew(connection: Connection) -> bool:
    """After an error of the server, end the transaction of a read unit, so that the unit may go on in another one.

    Without a pooler an error ends its statement only, and the next one sees what is committed when it runs. The same
    holds here as long as the unit asked for no level at which it has one snapshot, and set no savepoint.
    """
    if not reads_in_transaction(connection.engine) or connection.in_nested_transaction():
        return False
    if connection.get_execution_options().get("isolation_level", READ_LEVEL) != READ_LEVEL:
        return False
    with suppress(Exception):  # the error of the statement goes first; the next one meets a lost link again
        connection.dialect.do_rollback(connection.connection)
    return True


def check_plain(endpoint: Endpoint, driver: str, options: UnitOptions, name: str) -> None:
    """Raise `RequestRefused` if a unit without a transaction cannot be had here; a read unit gets one all the same."""
    if endpoint.pooler is Pooler.NONE or options.access is Access.READ:
        return
    if driver in _SEVERAL_TRIPS:
        raise _no_autocommit(Access.WRITE)
    if options.deadline is not None:
        raise RequestRefused(
            f"unit {name!r} cannot have a deadline: it has no transaction, and its database is behind a pooler",
            why="the server could be told only by a setting of the session, which would reach other clients",
            do=("leave the deadline out", "use another propagation, with which it has a transaction"),
            attribute="deadline",
        )


_REFUSED = re.compile(r"unsupported (?:options )?startup parameter(?: in options)?(?:: (?P<name>\w+)$)?", re.MULTILINE)
"""What pgbouncer says (client.c, `decide_startup_pool`; since 1.20 also of what is in `options`)."""


def refused_at_connect(error: BaseException, endpoint: Endpoint, *, asked_read_only: bool) -> ConfigError | None:
    """The report, if a pooler did not let us in because of a startup parameter; None if it was something else."""
    found = _REFUSED.search(str(error))
    if found is None:
        return None
    table = join("databases", endpoint.database)
    said = found[0]
    if asked_read_only:
        return ConfigError(
            f"{table}.pooler: a pooler stands before {endpoint.name} and is not configured: {said}",
            why="a read unit asks the server, when its connection is made, to refuse writes; the pooler refuses that",
            do=(
                f'set pooler = "{Pooler.TRANSACTION}" in [{table}], beside its url',
                "reach the server itself, not through the pooler",
            ),
            path=f"{table}.pooler",
        )
    name = found["name"] or "options"
    return ConfigError(
        f"{table}.connect: the pooler before {endpoint.name} refuses what is configured there: {said}",
        why="it lets pass only the startup parameters that it follows itself, or was told to ignore",
        do=(
            f"take {name} out of [{table}.connect] and of the url",
            "set it on the server: ALTER ROLE ... SET, ALTER DATABASE ... SET",
            "reach the server itself, not through the pooler",
        ),
        path=f"{table}.connect",
    )
