"""What is found out about an endpoint, as frozen values: what the server says, what its file looks like. Pure, no I/O.

The questions and the reading of the answers are in `inquiries`, the asking is in the shell, and what the facts mean for
polysession is judged by the command `check`.
"""

from __future__ import annotations

import msgspec

from ..topology import Pooler, Role

__all__ = ["DoorFacts", "EndpointFacts", "FileFacts", "Limit", "ServerFacts", "Unreachable"]


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """A number of connections that somebody said may not be exceeded."""

    key: str
    """What it bounds: two endpoints with the same key share it."""
    name: str
    """Who says so, for people."""
    setting: int
    """The number as it is set."""
    most: int
    """What of it this account may use."""
    in_use: int
    """How many are open now, without the one that asked."""
    cure: str
    """The statement or setting that raises it, with `{number}` in place of the number."""


class ServerFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a server says about itself and about the account that asks. Times are seconds, 0 means no limit."""

    engine: str
    """`PostgreSQL`, `MariaDB`, `MySQL` or `SQLite`: what is there, whatever the URL calls it."""
    version: str
    version_number: tuple[int, ...]
    isolation: str
    """The level that a session starts with, for this account and database."""
    read_only: bool
    """Sessions start read-only, or the server refuses writes of ordinary accounts."""
    in_recovery: bool | None = None
    """It is a standby; None: this kind of server does not say."""
    identity: str
    """The same for two endpoints that are one running server, or one file."""
    account: str = ""
    limits: tuple[Limit, ...] = ()
    write_privileges: tuple[str, ...] = ()
    """Privileges of the account with which it may write although the server is read-only."""
    statement_timeout: float | None = None
    idle_in_transaction_timeout: float | None = None
    """None: this kind of server has no such setting."""
    prepared_transactions: int | None = None
    """How many may be prepared at once; None: there is no such limit."""
    storage_engine: str = ""
    """Of MySQL and MariaDB: where a table goes that does not say."""
    snapshot_isolation: bool | None = None
    """Of MariaDB: innodb_snapshot_isolation; None: the server does not know it."""
    galera: bool = False


class FileFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The file of an SQLite database as it was found; nothing was changed."""

    path: str
    in_memory: bool = False
    exists: bool = False
    folder_exists: bool = True
    writable: bool = True
    """The file if it exists, and its folder if that exists: SQLite puts the write-ahead log there."""
    size: int = 0
    is_database: bool = True
    journal: str = ""
    """`wal` or `rollback`; empty: not decided yet."""


class DoorFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a door can use the endpoint, and by which driver."""

    door: str
    driver: str = ""
    problem: str = ""


class EndpointFacts(msgspec.Struct, frozen=True, kw_only=True, tag_field="status", tag="reached"):
    """Everything that was found out about an endpoint that answered."""

    endpoint: str
    database: str
    role: Role
    address: str
    """The URL without its secrets."""
    backend: str
    """As the URL calls it."""
    driver: str
    driver_version: str
    doors: tuple[DoorFacts, ...]
    pool_size: int
    server: ServerFacts
    connect_seconds: float = 0.0
    """Until there was a connection that could be asked; 0 if none was made."""
    read_refused: bool | None = None
    """A read unit's connection was made, and the server refuses writes on it; None: none could be had."""
    read_problem: str = ""
    """Why a read unit's connection could not be made while another one could; empty if it was only one too many."""
    pooler: Pooler = Pooler.NONE
    """What the configuration says that stands before the server."""
    pooler_seen: bool | None = None
    """Another process answered than the one that the login told, so something shares connections; None: not known."""
    file: FileFacts | None = None


class Unreachable(msgspec.Struct, frozen=True, kw_only=True, tag_field="status", tag="unreachable"):
    """An endpoint that did not answer, or did not let us in: why, in one sentence without secrets, and what to do."""

    endpoint: str
    database: str
    role: Role
    address: str
    driver: str
    kind: str
    reason: str
    do: tuple[str, ...] = ()
