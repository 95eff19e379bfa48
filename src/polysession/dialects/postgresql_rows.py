"""What the errors of PostgreSQL mean, and of what speaks its protocol: CockroachDB, YugabyteDB, Citus, pgbouncer.

A code of five characters is an SQLSTATE, one of two characters a class of them. Rows without a code are for errors
that reach us as text: libpq gives psycopg no SQLSTATE for a lost link or a refused connection, and asyncpg has errors
of its own.

At COMMIT an error that the server reports over a live connection means a rollback: `CommitTransaction` in PostgreSQL's
`xact.c` can raise one only before it writes the commit record (later ones are a PANIC). Not so for timeouts and
cancellations (a pending one may be raised after the record was written), for shutdowns, for class 08 and for internal
errors of products that share the protocol: those stay unknown.
"""

from __future__ import annotations

from ..failures import Kind
from ..options import Access
from .rows import AtCommit, ErrorRow, ErrorTable

__all__ = ["TABLE"]

_A = "PostgreSQL documentation, Appendix A, Error Codes"
_CONFLICT = "PostgreSQL documentation, Hot Standby, Handling Query Conflicts"
_SYNCREP = "PostgreSQL source, src/backend/replication/syncrep.c, SyncRepWaitForLSN"
_XACT_STATUS = "PostgreSQL source, src/backend/utils/adt/xid8funcs.c, TransactionIdInRecentPast"
_LOOP = "PostgreSQL source, src/backend/tcop/postgres.c, PostgresMain, steps 4 and 5"
_WAIT_FOR = "PostgreSQL 19 documentation, WAIT FOR"
_COCKROACH = "CockroachDB documentation, Common Errors; source, pkg/sql/pgwire/pgcode"
_CITUS = "measured with Citus 13.2 on PostgreSQL 15: a worker is down, the coordinator answers"
_BOUNCER = "pgbouncer source, src/client.c and src/janitor.c"
_LIBPQ = "libpq source, fe-misc.c, fe-secure.c and fe-connect.c; psycopg 3 gives no SQLSTATE with it"
_PSYCOPG = "psycopg 3 source, errors.py, generators.py and waiting.py"
_ASYNCPG = "asyncpg source, protocol/protocol.pyx and connection.py"
_ASYNCPG_CONNECT = "asyncpg source, connect_utils.py"
_STARTUP = "PostgreSQL source, src/backend/tcop/backend_startup.c and postmaster.c; no SQLSTATE through psycopg"

_BACK = AtCommit.ROLLED_BACK

# fmt: off
_ROWS = (
    # repeating the whole unit helps
    ErrorRow("40001", Kind.SERIALIZATION, "another transaction changed what this one had read", _A,
             transient=True, at_commit=_BACK),
    ErrorRow("40001", Kind.REPLICA_CONFLICT, "applying the primary's changes came before this read", _CONFLICT,
             says="conflict with recovery", transient=True, at_commit=_BACK),
    ErrorRow("40P01", Kind.DEADLOCK, "transactions waited for each other and the server ended this one", _A,
             transient=True, at_commit=_BACK),
    ErrorRow("40P01", Kind.REPLICA_CONFLICT, "applying the primary's changes came before this read", _CONFLICT,
             says="conflict with recovery", transient=True, at_commit=_BACK),
    ErrorRow("40", Kind.SERIALIZATION, "the server rolled the transaction back", _A, transient=True),
    ErrorRow("55P03", Kind.LOCK_TIMEOUT, "a lock was not had in time", _A, transient=True),
    ErrorRow("72000", Kind.SERIALIZATION, "the snapshot is too old; a new one will do", _A,
             transient=True, at_commit=_BACK),
    ErrorRow("0A000", Kind.SCHEMA_CHANGED, "the schema changed under a prepared statement",
             "PostgreSQL source, src/backend/utils/cache/plancache.c, RevalidateCachedQuery",
             says="cached plan must not change result type", transient=True, at_commit=_BACK),
    ErrorRow("0A000", Kind.SCHEMA_CHANGED, "the schema changed under a prepared statement",
             "asyncpg source, exceptions/_base.py", raised="InvalidCachedStatementError",
             transient=True, at_commit=_BACK),

    # the outcome is not what it looks like
    ErrorRow("40003", Kind.OUTCOME_UNKNOWN, "the server does not know whether the transaction took effect",
             _COCKROACH),
    ErrorRow("XXA00", Kind.OUTCOME_UNKNOWN, "the rows were committed though the schema change was not", _COCKROACH),
    ErrorRow("08007", Kind.OUTCOME_UNKNOWN, "the server does not know whether the transaction took effect", _A,
             closes=True),
    ErrorRow("01", Kind.OTHER, "a warning, not an error", _A),
    ErrorRow("01", Kind.UNREPLICATED, "committed on this server; the standby has not confirmed it", _SYNCREP,
             says="wait for synchronous replication"),
    ErrorRow("57P01", Kind.UNREPLICATED, "committed on this server; the standby has not confirmed it", _SYNCREP,
             says="wait for synchronous replication", closes=True),
    ErrorRow("22023", Kind.WRONG_TIMELINE, "this transaction number is not of this server's history", _XACT_STATUS,
             says="is in the future"),

    # the link and the server
    ErrorRow("08", Kind.CONNECTION_LOST, "the link was lost", _A, closed=True, transient=True, closes=True),
    ErrorRow("08", Kind.SHARD_DOWN, "a server behind this one could not be reached", _CITUS,
             closed=False, transient=True),
    ErrorRow("08003", Kind.CONNECTION_LOST, "the link was lost in the middle of an operation", _ASYNCPG,
             raised="ConnectionDoesNotExistError", transient=True, closes=True),
    # asyncpg keeps the words of the server's last message and no more, so its code is known by them alone
    ErrorRow("08003", Kind.SHUTDOWN, "the server ended the connection: it stops, or an operator ended it", _ASYNCPG,
             says="administrator command", raised="ConnectionDoesNotExistError", transient=True, closes=True),
    ErrorRow("08003", Kind.TRANSACTION_TIMEOUT, "the transaction idled longer than it may", _ASYNCPG,
             says="idle-in-transaction timeout", raised="ConnectionDoesNotExistError", closes=True),
    ErrorRow("08003", Kind.TRANSACTION_TIMEOUT, "the transaction lasted longer than transaction_timeout", _ASYNCPG,
             says="due to transaction timeout", raised="ConnectionDoesNotExistError", closes=True),
    # a pooler says 08P01 for whatever befalls it, a lost server too: nothing is certain at COMMIT
    ErrorRow("08P01", Kind.PROGRAMMING, "the server did not understand the message", _A, closed=False),
    ErrorRow("08P01", Kind.TOO_MANY, "the pooler takes no more connections", _BOUNCER,
             says="no more connections allowed", transient=True, closes=True),
    ErrorRow("08P01", Kind.TOO_MANY, "the pooler takes no more connections", _BOUNCER,
             says="client connections exceeded", transient=True, closes=True),
    ErrorRow("08P01", Kind.TOO_MANY, "the pooler had no server connection in time", _BOUNCER,
             says="query_wait_timeout", transient=True, closes=True),
    ErrorRow("08P01", Kind.NOT_READY, "the pooler cannot reach the server", _BOUNCER,
             says="server login has been failing", transient=True, closes=True),
    ErrorRow("08P01", Kind.CONNECTION_LOST, "the pooler lost the server", _BOUNCER,
             says="server conn crashed", transient=True, closes=True),
    ErrorRow("08P01", Kind.TRANSACTION_TIMEOUT, "the transaction idled longer than the pooler allows", _BOUNCER,
             says="idle transaction timeout", closes=True),
    ErrorRow("08P01", Kind.STATEMENT_TIMEOUT, "the statement took longer than the pooler allows", _BOUNCER,
             says="query_timeout", closes=True),
    ErrorRow("57P01", Kind.SHUTDOWN, "the server ended the connection: it stops, or an operator ended it", _A,
             transient=True, closes=True),
    ErrorRow("57P02", Kind.SHUTDOWN, "the server ended all connections after a crash of one", _A,
             transient=True, closes=True),
    ErrorRow("57P03", Kind.NOT_READY, "the server takes no connections now", _A, transient=True, closes=True),
    ErrorRow("57P04", Kind.PROGRAMMING, "the database was dropped", _A, closes=True),
    ErrorRow("57P05", Kind.CONNECTION_LOST, "the server ended a connection that was idle for too long", _A,
             transient=True, closes=True),
    ErrorRow("53300", Kind.TOO_MANY, "the server has no free connection slot", _A, transient=True, closes=True),
    ErrorRow("53", Kind.RESOURCES, "the server ran out of a resource", _A),
    ErrorRow("HV00N", Kind.SHARD_DOWN, "a foreign server could not be reached", _A, transient=True),
    ErrorRow("HV", Kind.OTHER, "a foreign server failed", _A),
    ErrorRow("25006", Kind.READ_ONLY, "a write in a read-only transaction", _A, at_commit=_BACK),
    ErrorRow("25006", Kind.DEMOTED, "this server no longer takes writes", _A,
             access=Access.WRITE, transient=True, at_commit=_BACK, closes=True),

    # time and cancellation
    ErrorRow("57014", Kind.CANCELLED, "somebody cancelled the statement", _A),
    ErrorRow("57014", Kind.STATEMENT_TIMEOUT, "the statement took longer than statement_timeout", _A,
             says="statement timeout"),
    ErrorRow("57014", Kind.REPLICA_BEHIND, "the replica did not catch up in time", _WAIT_FOR,
             replica_wait=True, transient=True),
    ErrorRow("57", Kind.CANCELLED, "an operator intervened", _A),
    ErrorRow("25P03", Kind.TRANSACTION_TIMEOUT, "the transaction idled longer than it may, before COMMIT was read",
             _LOOP, at_commit=_BACK, closes=True),
    ErrorRow("25P04", Kind.TRANSACTION_TIMEOUT, "the transaction lasted longer than transaction_timeout", _A,
             closes=True),

    # the work itself
    ErrorRow("23505", Kind.DUPLICATE, "a row with this key exists", _A, at_commit=_BACK),
    ErrorRow("23", Kind.CONSTRAINT, "a constraint refused the change", _A, at_commit=_BACK),
    ErrorRow("40002", Kind.CONSTRAINT, "a constraint refused the transaction", _A, at_commit=_BACK),
    ErrorRow("44", Kind.CONSTRAINT, "a view's check option refused the change", _A, at_commit=_BACK),
    ErrorRow("P0", Kind.CONSTRAINT, "a function or trigger of the database refused the change", _A, at_commit=_BACK),
    ErrorRow("21", Kind.DATA, "a subquery gave more rows than one", _A, at_commit=_BACK),
    ErrorRow("22", Kind.DATA, "a value does not fit", _A, at_commit=_BACK),
    ErrorRow("25P02", Kind.PROGRAMMING, "an earlier statement failed and its error was swallowed", _A,
             at_commit=_BACK),
    ErrorRow("25", Kind.PROGRAMMING, "this cannot be done in the transaction's state", _A),
    ErrorRow("26000", Kind.UNSUPPORTED, "a prepared statement is gone: a pooler in transaction mode needs them off",
             _A, at_commit=_BACK),
    ErrorRow("42P05", Kind.UNSUPPORTED, "a prepared statement exists: a pooler in transaction mode needs them off",
             _A, at_commit=_BACK),
    ErrorRow("42501", Kind.PRIVILEGE, "the user may not do this", _A, at_commit=_BACK),
    ErrorRow("42", Kind.PROGRAMMING, "the statement cannot run", _A, at_commit=_BACK),
    ErrorRow("54", Kind.PROGRAMMING, "a limit of the server was exceeded", _A, at_commit=_BACK),
    ErrorRow("0A", Kind.UNSUPPORTED, "the server cannot do this", _A, at_commit=_BACK),
    ErrorRow("28", Kind.AUTH, "the server does not accept this user", _A, closes=True),
    ErrorRow("3D", Kind.PROGRAMMING, "there is no such database", _A),
    ErrorRow("58", Kind.RESOURCES, "the server's operating system or storage failed", _A),
    ErrorRow("XX001", Kind.RESOURCES, "the server found damaged data", _A),
    ErrorRow("XX002", Kind.RESOURCES, "the server found a damaged index", _A),

    # without an SQLSTATE: connecting
    ErrorRow("", Kind.TOO_MANY, "the server has no free connection slot", _STARTUP,
             says="too many clients already", transient=True, closes=True),
    ErrorRow("", Kind.TOO_MANY, "the server has no free connection slot", _STARTUP,
             says="remaining connection slots are reserved", transient=True, closes=True),
    ErrorRow("", Kind.TOO_MANY, "the role or the database has no free connection slot", _STARTUP,
             says="too many connections for", transient=True, closes=True),
    ErrorRow("", Kind.TOO_MANY, "the pooler takes no more connections", _BOUNCER,
             says="no more connections allowed", transient=True, closes=True),
    ErrorRow("", Kind.TOO_MANY, "the pooler had no server connection in time", _BOUNCER,
             says="query_wait_timeout", transient=True, closes=True),
    ErrorRow("", Kind.NOT_READY, "the server takes no connections now", _STARTUP,
             says="the database system is", transient=True, closes=True),
    ErrorRow("", Kind.NOT_READY, "no server of the list has the wanted role", _ASYNCPG_CONNECT,
             raised="TargetServerAttributeNotMatched", transient=True, closes=True),
    ErrorRow("", Kind.AUTH, "the server does not accept this password", _STARTUP,
             says="authentication failed", closes=True),
    ErrorRow("", Kind.AUTH, "the server does not accept this user from this address", _STARTUP,
             says="no pg_hba.conf entry", closes=True),
    ErrorRow("", Kind.PROGRAMMING, "there is no such database or role", _STARTUP,
             says="does not exist", raised="OperationalError", closes=True),
    ErrorRow("", Kind.CONNECT_FAILED, "the host name was not found", _PSYCOPG,
             says="failed to resolve host", transient=True, closes=True),
    ErrorRow("", Kind.CONNECT_FAILED, "no connection in time", _PSYCOPG,
             raised="ConnectionTimeout", transient=True, closes=True),
    ErrorRow("", Kind.CONNECT_FAILED, "the server could not be reached", _LIBPQ,
             says="connection failed:", transient=True, closes=True),

    # without an SQLSTATE: the link
    ErrorRow("", Kind.CONNECTION_LOST, "the server closed the link without a word", _LIBPQ,
             says="server closed the connection unexpectedly", transient=True, closes=True),
    ErrorRow("", Kind.CONNECTION_LOST, "nothing could be received from the server", _LIBPQ,
             says="could not receive data from server", transient=True, closes=True),
    ErrorRow("", Kind.CONNECTION_LOST, "nothing could be sent to the server", _LIBPQ,
             says="could not send data to server", transient=True, closes=True),
    ErrorRow("", Kind.CONNECTION_LOST, "the encrypted link broke", _LIBPQ,
             says="ssl syscall error", transient=True, closes=True),
    ErrorRow("", Kind.CONNECTION_LOST, "the encrypted link was closed", _LIBPQ,
             says="ssl connection has been closed unexpectedly", transient=True, closes=True),
    ErrorRow("", Kind.CONNECTION_LOST, "the server ended the connection", _LIBPQ,
             says="terminating connection", transient=True, closes=True),
    ErrorRow("", Kind.CONNECTION_LOST, "the link broke while an answer was read", _PSYCOPG,
             says="consuming input failed", transient=True, closes=True),
    ErrorRow("", Kind.CONNECTION_LOST, "the connection was closed before", _PSYCOPG,
             says="the connection is closed", transient=True, closes=True),
    ErrorRow("", Kind.CONNECTION_LOST, "the connection was lost before", _PSYCOPG,
             says="the connection is lost", transient=True, closes=True),
    ErrorRow("", Kind.CONNECTION_LOST, "the socket was closed while the driver waited", _PSYCOPG,
             says="connection socket closed", transient=True, closes=True),
    ErrorRow("", Kind.CONNECTION_LOST, "the connection was closed before", _ASYNCPG,
             says="connection is closed", raised="InterfaceError", transient=True, closes=True),
    ErrorRow("", Kind.CONNECTION_LOST, "the link was lost", _ASYNCPG_CONNECT,
             says="unexpected connection_lost", transient=True, closes=True),
    ErrorRow("", Kind.PROGRAMMING, "two tasks used one connection at once", _ASYNCPG,
             says="another operation is in progress", closes=True),
    ErrorRow("", Kind.OTHER, "the driver lost track of the protocol", _ASYNCPG,
             raised="InternalClientError", closes=True),
)
# fmt: on

TABLE = ErrorTable(_ROWS)
"""The rows of PostgreSQL, then the common ones."""
