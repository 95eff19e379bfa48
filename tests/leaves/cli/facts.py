"""Facts about endpoints with which all is well, for tests that change one of them."""

from __future__ import annotations

from typing import Any

import msgspec

from polysession.dialects.inspection import DoorFacts, EndpointFacts, FileFacts, Limit, ServerFacts, Unreachable
from polysession.topology import Role

__all__ = ["endpoint", "file", "limit", "mariadb", "mysql", "postgresql", "sqlite", "unreachable"]

_DOORS = (DoorFacts(door="Sessions", driver="d"), DoorFacts(door="AsyncSessions", driver="d"))


def limit(most: int = 100, in_use: int = 0, *, key: str = "server:1", setting: int | None = None) -> Limit:
    """A limit of the server, of which nothing is reserved."""
    return Limit(
        key=key,
        name="max_connections",
        setting=most if setting is None else setting,
        most=most,
        in_use=in_use,
        cure="max_connections = {number}",
    )


_SERVERS = {
    "postgresql": ServerFacts(
        engine="PostgreSQL",
        version="18.1",
        version_number=(18, 1),
        isolation="SERIALIZABLE",
        read_only=False,
        in_recovery=False,
        identity="pg",
        account="app",
        limits=(limit(),),
        statement_timeout=30.0,
        idle_in_transaction_timeout=60.0,
        prepared_transactions=0,
    ),
    "mariadb": ServerFacts(
        engine="MariaDB",
        version="11.8.2",
        version_number=(11, 8, 2),
        isolation="REPEATABLE READ",
        read_only=False,
        identity="mariadb",
        account="app@%",
        limits=(limit(),),
        statement_timeout=30.0,
        idle_in_transaction_timeout=60.0,
        storage_engine="InnoDB",
        snapshot_isolation=True,
    ),
    "mysql": ServerFacts(
        engine="MySQL",
        version="8.4.3",
        version_number=(8, 4, 3),
        isolation="SERIALIZABLE",
        read_only=False,
        identity="mysql",
        account="app@%",
        limits=(limit(),),
        statement_timeout=30.0,
        storage_engine="InnoDB",
    ),
    "sqlite": ServerFacts(
        engine="SQLite",
        version="3.40.1",
        version_number=(3, 40, 1),
        isolation="SERIALIZABLE",
        read_only=False,
        identity="/data/shop.db",
    ),
}


def endpoint(backend: str, role: Role = Role.PRIMARY, /, **changes: Any) -> EndpointFacts:
    """An endpoint of the database `orders`; `changes` are to the facts of the endpoint or of its server.

    A replica is a server of its own that refuses writes.
    """
    is_replica = role is Role.REPLICA
    given: dict[str, Any] = {"identity": "replica", "read_only": True} if is_replica else {}
    given |= changes
    server = {name: given.pop(name) for name in ServerFacts.__struct_fields__ if name in given}
    facts = EndpointFacts(
        endpoint="orders/replica-1" if is_replica else "orders/primary",
        database="orders",
        role=role,
        address=f"{backend}://db1/orders",
        backend=backend,
        driver="d",
        driver_version="1.0",
        doors=_DOORS,
        pool_size=10,
        server=msgspec.structs.replace(_SERVERS[backend], **server),
        connect_seconds=0.012,
        read_refused=True,
    )
    return msgspec.structs.replace(facts, **given)


def postgresql(**changes: Any) -> EndpointFacts:
    """A primary on PostgreSQL."""
    return endpoint("postgresql", **changes)


def mariadb(**changes: Any) -> EndpointFacts:
    """A primary on MariaDB."""
    return endpoint("mariadb", **changes)


def mysql(**changes: Any) -> EndpointFacts:
    """A primary on MySQL."""
    return endpoint("mysql", **changes)


def file(**changes: Any) -> FileFacts:
    """An SQLite file that is there."""
    facts = FileFacts(path="/data/shop.db", exists=True, size=4096, journal="wal")
    return msgspec.structs.replace(facts, **changes)


def sqlite(**changes: Any) -> EndpointFacts:
    """A primary on SQLite; `changes` may be to its file, too."""
    on_file = {name: changes.pop(name) for name in FileFacts.__struct_fields__ if name in changes}
    return endpoint("sqlite", file=file(**on_file), **changes)


def unreachable(**changes: Any) -> Unreachable:
    """An endpoint that did not answer."""
    facts = Unreachable(
        endpoint="orders/primary",
        database="orders",
        role=Role.PRIMARY,
        address="postgresql://db1/orders",
        driver="psycopg",
        kind="connect failed",
        reason="Connection refused",
        do=("see that the server runs",),
    )
    return msgspec.structs.replace(facts, **changes)
