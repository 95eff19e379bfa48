"""What an error of a database means, as one frozen value: for the policies and the core. Pure; decides nothing.

The dialects make a `Failure` from what a driver raised; the retry policy and the core read it. It never holds a
driver's exception, a statement or a parameter.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

__all__ = ["Failure", "Kind", "Phase"]


class Kind(StrEnum):
    """What an error means, whichever database and driver it came from."""

    SERIALIZATION = "serialization failure"
    """Another transaction changed what this one had read; the database refused to go on."""
    DEADLOCK = "deadlock"
    """Transactions waited for each other in a circle and this one was chosen to end."""
    LOCK_TIMEOUT = "lock timeout"
    """A lock was not had in time, or not at once where no wait was wanted."""
    BUSY = "database busy"
    """SQLite: another connection holds the database's lock."""
    SCHEMA_CHANGED = "schema changed"
    """The schema changed under a prepared statement or an open transaction; a new transaction sees the new one."""
    REPLICA_BEHIND = "replica behind"
    """A replica had not caught up in time: the read belongs on another endpoint."""
    REPLICA_CONFLICT = "replica conflict"
    """A replica ended a read because applying the primary's changes came first."""
    CONNECT_FAILED = "connect failed"
    """No connection was had, so nothing was sent."""
    CONNECTION_LOST = "connection lost"
    """The link died."""
    SHARD_DOWN = "shard down"
    """A server behind the server could not be reached; the connection itself is good."""
    SHUTDOWN = "server shutdown"
    """The server ended the connection because it is going down, or an operator ended it."""
    NOT_READY = "server not ready"
    """The server is starting, recovering, or cut off from its cluster."""
    TOO_MANY = "too many connections"
    """The server or the pooler before it has no connection to give."""
    DEMOTED = "primary demoted"
    """A write was refused where writes were accepted before: this server is no longer the primary."""
    READ_ONLY = "read-only"
    """A write was tried in a read-only transaction or on a read-only database."""
    STATEMENT_TIMEOUT = "statement timeout"
    """A statement took longer than it may."""
    TRANSACTION_TIMEOUT = "transaction timeout"
    """A transaction lasted or idled longer than it may, and the server ended it."""
    CANCELLED = "cancelled"
    """Somebody cancelled the statement."""
    DUPLICATE = "duplicate key"
    """A row with this key exists."""
    CONSTRAINT = "constraint violated"
    """A constraint other than a unique key refused the change."""
    DATA = "bad data"
    """A value that its type or column cannot hold."""
    PROGRAMMING = "programming error"
    """SQL that cannot run: syntax, names, order of calls."""
    UNSUPPORTED = "unsupported"
    """The server cannot do this."""
    AUTH = "authentication failed"
    """The server does not accept this user, password or address."""
    PRIVILEGE = "privilege missing"
    """The user may not do this."""
    RESOURCES = "resources exhausted"
    """Memory, disk or another resource ran out, or the storage failed."""
    UNREPLICATED = "replication unconfirmed"
    """The commit took effect on this server; the standby has not confirmed it."""
    OUTCOME_UNKNOWN = "outcome unknown"
    """The server itself does not know, or does not say, whether the transaction took effect."""
    WRONG_TIMELINE = "wrong timeline"
    """A transaction number is not of this server's history: a failover or crash came between."""
    OTHER = "error"
    """None of the others."""


class Phase(StrEnum):
    """What the server may have done when the error came."""

    NOTHING_SENT = "nothing sent"
    """No byte of the unit had left: no connection, or a driver that says so."""
    BODY = "in the body"
    """Something was sent, COMMIT was not."""
    COMMIT_SENT = "commit sent"
    """COMMIT may have left."""


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """What an error means for the unit of work in which it came. Immutable; may be shared between threads."""

    kind: Kind
    code: str
    """SQLSTATE, error number or result code as the server gave it; empty if it gave none."""
    phase: Phase
    transient: bool
    """The same whole unit may succeed when it is repeated, and repeating it does no harm. Implies
    `certainly_not_committed`."""
    certainly_not_committed: bool
    """The unit has not committed and will not, once its transaction is rolled back. False: it may have committed."""
    connection_usable: bool
    """After a rollback the connection can serve the next unit. False: close it."""
    transaction_lost: bool = False
    """The server has, or may have, rolled back the whole transaction by itself and left the connection open: what is
    sent next would run in a transaction of its own. A unit that goes on must not commit."""
    reason: str
    """A clause for people, without capital and full stop."""
    source: str
    """Where this meaning is documented."""
