"""What the errors of MariaDB and MySQL mean, and of what speaks their protocol: Galera, TiDB, MaxScale.

A number is an error number of the server (from 1000) or of the client (from 2000); `0` is what the drivers report when
a connection was closed before. `#` marks an SQLSTATE or a class of them, as the protocol does; it is asked second,
because many numbers share HY000.

A trap of these servers: an error that rolls back the whole transaction (1213, 1020) leaves the connection open, and the
next statement begins a new transaction. Who swallows the error and commits, commits the second half of the work alone.
Such rows are marked `loses_transaction`.
"""

from __future__ import annotations

from ..failures import Kind
from ..options import Access
from .rows import AtCommit, ErrorRow, ErrorTable

__all__ = ["TABLE"]

_MARIADB = "MariaDB documentation, Error Codes"
_MYSQL = "MySQL Server Error Message Reference"
_INNODB = "MySQL Reference Manual, InnoDB Error Handling"
_CLIENT = "MySQL Client Error Message Reference (errmsg.h)"
_SNAPSHOT = "MariaDB documentation, innodb_snapshot_isolation (MDEV-26642: handled as a deadlock); measured on 10.11"
_HANDLER = "MariaDB source, sql/handler.cc, ha_commit_trans: rolls back before it reports"
_GALERA = "Galera Cluster documentation, certification-based replication and troubleshooting"
_GALERA_XA = "measured on MariaDB 10.11 with Galera: XA START is refused"
_WSREP_WAIT = "measured on MariaDB 10.11 with Galera: WSREP_SYNC_WAIT_UPTO_GTID"
_MAXSCALE = "MaxScale documentation, ReadWriteSplit, causal_reads"
_GROUP = "MySQL Reference Manual, Group Replication; Server Error Message Reference"
_TIDB = "TiDB documentation, Error Codes and Troubleshooting"
_TIDB_CONFLICT = "TiDB documentation, Troubleshoot Write Conflicts: found in prewrite, before the commit"
_PYMYSQL = "PyMySQL source, connections.py; asyncmy source, connection.pyx"
_SQLSTATE = "MySQL Reference Manual, Error Message Elements; classes of ISO 9075"

_BACK = AtCommit.ROLLED_BACK

# fmt: off
_ROWS = (
    # repeating the whole unit helps
    ErrorRow("1213", Kind.DEADLOCK, "transactions waited for each other and the server rolled this one back", _INNODB,
             transient=True, at_commit=_BACK, loses_transaction=True),
    ErrorRow("1020", Kind.SERIALIZATION, "another transaction changed what this one had read", _SNAPSHOT,
             transient=True, loses_transaction=True),
    ErrorRow("1205", Kind.LOCK_TIMEOUT, "a lock was not had in time", _INNODB, transient=True),
    ErrorRow("1205", Kind.REPLICA_BEHIND, "the node did not catch up in time", _WSREP_WAIT,
             replica_wait=True, transient=True),
    ErrorRow("3572", Kind.LOCK_TIMEOUT, "a lock was not had at once", _MYSQL, transient=True),
    ErrorRow("3101", Kind.SERIALIZATION, "the group chose another transaction and rolled this one back", _GROUP,
             transient=True, at_commit=_BACK, loses_transaction=True),
    ErrorRow("1412", Kind.SCHEMA_CHANGED, "the table was changed while the transaction was open", _MARIADB,
             transient=True),
    ErrorRow("1615", Kind.SCHEMA_CHANGED, "the schema changed under a prepared statement", _MARIADB, transient=True),
    ErrorRow("8002", Kind.SERIALIZATION, "another transaction wrote first", _TIDB,
             transient=True, at_commit=_BACK, loses_transaction=True),
    ErrorRow("8005", Kind.SERIALIZATION, "another transaction wrote first", _TIDB_CONFLICT,
             transient=True, at_commit=_BACK),
    ErrorRow("8022", Kind.SERIALIZATION, "the commit failed and was rolled back", _TIDB,
             transient=True, at_commit=_BACK, loses_transaction=True),
    ErrorRow("8028", Kind.SCHEMA_CHANGED, "the schema changed while the transaction was open", _TIDB,
             transient=True, at_commit=_BACK),
    ErrorRow("9004", Kind.LOCK_TIMEOUT, "a lock was not had in time", _TIDB, transient=True),
    ErrorRow("9007", Kind.SERIALIZATION, "another transaction wrote first", _TIDB_CONFLICT,
             transient=True, at_commit=_BACK),
    ErrorRow("#40", Kind.SERIALIZATION, "the server rolled the transaction back", _SQLSTATE,
             transient=True, loses_transaction=True),

    # replicas and read-only servers
    ErrorRow("1792", Kind.READ_ONLY, "a write in a read-only transaction", _MARIADB),
    ErrorRow("1792", Kind.DEMOTED, "this server no longer takes writes", _MARIADB,
             access=Access.WRITE, transient=True, closes=True),
    ErrorRow("1792", Kind.REPLICA_BEHIND, "the replica did not catch up in time", _MAXSCALE,
             says="causal read timed out", transient=True),
    ErrorRow("1105", Kind.REPLICA_BEHIND, "the replica did not catch up in time", _MAXSCALE,
             says="causal read timed out", transient=True),
    ErrorRow("1290", Kind.UNSUPPORTED, "an option of the server forbids this statement", _MARIADB),
    ErrorRow("1290", Kind.READ_ONLY, "the server is read-only", _HANDLER, says="read-only", at_commit=_BACK),
    ErrorRow("1290", Kind.DEMOTED, "this server no longer takes writes", _HANDLER, says="read-only",
             access=Access.WRITE, transient=True, at_commit=_BACK, closes=True),
    ErrorRow("1836", Kind.READ_ONLY, "the server is read-only", _MYSQL),
    ErrorRow("1836", Kind.DEMOTED, "this server no longer takes writes", _MYSQL,
             access=Access.WRITE, transient=True, closes=True),
    ErrorRow("#25006", Kind.READ_ONLY, "a write in a read-only transaction", _SQLSTATE),

    # the link and the server
    ErrorRow("2002", Kind.CONNECT_FAILED, "the server's socket could not be reached", _CLIENT,
             transient=True, closes=True),
    ErrorRow("2003", Kind.CONNECT_FAILED, "the server could not be reached", _CLIENT, transient=True, closes=True),
    ErrorRow("2005", Kind.CONNECT_FAILED, "the host name was not found", _CLIENT, transient=True, closes=True),
    ErrorRow("2012", Kind.CONNECT_FAILED, "the handshake failed", _CLIENT, transient=True, closes=True),
    ErrorRow("2026", Kind.CONNECT_FAILED, "the encrypted link could not be set up", _CLIENT, closes=True),
    ErrorRow("2006", Kind.CONNECTION_LOST, "the server had gone away", _CLIENT, transient=True, closes=True),
    ErrorRow("2013", Kind.CONNECTION_LOST, "the link was lost", _CLIENT, transient=True, closes=True),
    ErrorRow("2055", Kind.CONNECTION_LOST, "the link was lost", _CLIENT, transient=True, closes=True),
    ErrorRow("2014", Kind.PROGRAMMING, "two users shared one connection, or an answer was left unread", _CLIENT,
             closes=True),
    ErrorRow("2027", Kind.OTHER, "the driver lost track of the protocol", _CLIENT, closes=True),
    ErrorRow("0", Kind.CONNECTION_LOST, "the connection was closed before", _PYMYSQL, transient=True, closes=True),
    ErrorRow("1152", Kind.CONNECTION_LOST, "the server gave up the connection", _MARIADB, transient=True, closes=True),
    ErrorRow("1158", Kind.CONNECTION_LOST, "the server could not read from the link", _MARIADB,
             transient=True, closes=True),
    ErrorRow("1159", Kind.CONNECTION_LOST, "the server waited too long for the client", _MARIADB,
             transient=True, closes=True),
    ErrorRow("1160", Kind.CONNECTION_LOST, "the server could not write to the link", _MARIADB,
             transient=True, closes=True),
    ErrorRow("1161", Kind.CONNECTION_LOST, "the server could not write in time", _MARIADB,
             transient=True, closes=True),
    ErrorRow("1184", Kind.CONNECTION_LOST, "the server gave up the connection", _MARIADB, transient=True, closes=True),
    ErrorRow("1927", Kind.CONNECTION_LOST, "the connection was killed", _MARIADB, transient=True, closes=True),
    ErrorRow("3169", Kind.CONNECTION_LOST, "the connection was killed", _MYSQL, transient=True, closes=True),
    ErrorRow("4031", Kind.CONNECTION_LOST, "the server ended a connection that was idle for too long", _MYSQL,
             transient=True, closes=True),
    ErrorRow("1053", Kind.SHUTDOWN, "the server is stopping", _MARIADB, transient=True, closes=True),
    ErrorRow("1080", Kind.SHUTDOWN, "the server closes its connections", _MARIADB, transient=True, closes=True),
    ErrorRow("1047", Kind.PROGRAMMING, "the server does not know this command", _MARIADB),
    ErrorRow("1047", Kind.NOT_READY, "the node is cut off from its cluster or joining it", _GALERA,
             says="wsrep", transient=True, closes=True),
    ErrorRow("9001", Kind.NOT_READY, "the cluster's clock did not answer in time", _TIDB, transient=True),
    ErrorRow("9002", Kind.NOT_READY, "the cluster's storage did not answer in time", _TIDB, transient=True),
    ErrorRow("9003", Kind.NOT_READY, "the cluster's storage is overloaded", _TIDB, transient=True),
    ErrorRow("9005", Kind.NOT_READY, "a part of the cluster's storage is unavailable", _TIDB, transient=True),
    ErrorRow("1040", Kind.TOO_MANY, "the server has no free connection slot", _MARIADB, transient=True, closes=True),
    ErrorRow("1203", Kind.TOO_MANY, "the user has no free connection slot", _MARIADB, transient=True, closes=True),
    ErrorRow("#08", Kind.CONNECTION_LOST, "the link was lost", _SQLSTATE, transient=True, closes=True),

    # time and cancellation
    ErrorRow("1317", Kind.CANCELLED, "somebody cancelled the statement", _MARIADB),
    ErrorRow("1969", Kind.STATEMENT_TIMEOUT, "the statement took longer than max_statement_time", _MARIADB),
    ErrorRow("3024", Kind.STATEMENT_TIMEOUT, "the statement took longer than max_execution_time", _MYSQL),
    ErrorRow("8229", Kind.TRANSACTION_TIMEOUT, "the transaction lasted longer than it may", _TIDB),
    ErrorRow("#70", Kind.CANCELLED, "the statement was interrupted", _SQLSTATE),

    # the work itself
    ErrorRow("1022", Kind.DUPLICATE, "a row with this key exists", _MARIADB),
    ErrorRow("1062", Kind.DUPLICATE, "a row with this key exists", _MARIADB),
    ErrorRow("1169", Kind.DUPLICATE, "a row with this key exists", _MARIADB),
    ErrorRow("1586", Kind.DUPLICATE, "a row with this key exists", _MARIADB),
    ErrorRow("1364", Kind.CONSTRAINT, "a column without a default got no value", _MARIADB),
    ErrorRow("3819", Kind.CONSTRAINT, "a CHECK constraint refused the change", _MYSQL),
    ErrorRow("4025", Kind.CONSTRAINT, "a CHECK constraint refused the change", _MARIADB),
    ErrorRow("1644", Kind.CONSTRAINT, "a procedure or trigger of the database refused the change", _MARIADB),
    ErrorRow("#45", Kind.CONSTRAINT, "a procedure or trigger of the database refused the change", _SQLSTATE),
    ErrorRow("#23", Kind.CONSTRAINT, "a constraint refused the change", _SQLSTATE),
    ErrorRow("1366", Kind.DATA, "a value does not fit its column", _MARIADB),
    ErrorRow("#22", Kind.DATA, "a value does not fit", _SQLSTATE),
    ErrorRow("1235", Kind.UNSUPPORTED, "this server cannot do this", _MARIADB),
    ErrorRow("1235", Kind.UNSUPPORTED, "Galera has no XA transactions: such a unit must be refused at its door",
             _GALERA_XA, says="xa transactions with galera"),
    ErrorRow("#0A", Kind.UNSUPPORTED, "this server cannot do this", _SQLSTATE),
    ErrorRow("1045", Kind.AUTH, "the server does not accept this user or password", _MARIADB, closes=True),
    ErrorRow("1129", Kind.AUTH, "the server blocks this client after too many failed connections", _MARIADB,
             closes=True),
    ErrorRow("1130", Kind.AUTH, "the server does not accept this address", _MARIADB, closes=True),
    ErrorRow("1698", Kind.AUTH, "the server does not accept this user or password", _MARIADB, closes=True),
    ErrorRow("2059", Kind.AUTH, "the driver lacks the server's way of authentication", _CLIENT, closes=True),
    ErrorRow("2061", Kind.AUTH, "the driver and the server do not agree on authentication", _CLIENT, closes=True),
    ErrorRow("#28", Kind.AUTH, "the server does not accept this user", _SQLSTATE, closes=True),
    ErrorRow("1044", Kind.PRIVILEGE, "the user may not use this database", _MARIADB),
    ErrorRow("1142", Kind.PRIVILEGE, "the user may not do this to the table", _MARIADB),
    ErrorRow("1143", Kind.PRIVILEGE, "the user may not do this to the column", _MARIADB),
    ErrorRow("1227", Kind.PRIVILEGE, "the user may not do this", _MARIADB),
    ErrorRow("#42", Kind.PROGRAMMING, "the statement cannot run", _SQLSTATE),
    ErrorRow("1021", Kind.RESOURCES, "the disk is full", _MARIADB),
    ErrorRow("1037", Kind.RESOURCES, "the server ran out of memory", _MARIADB),
    ErrorRow("1041", Kind.RESOURCES, "the server ran out of memory", _MARIADB),
    ErrorRow("1114", Kind.RESOURCES, "the table is full", _MARIADB),
    ErrorRow("1206", Kind.RESOURCES, "the table of locks is full", _INNODB, loses_transaction=True),
    ErrorRow("1226", Kind.RESOURCES, "the user has used up what it is allowed", _MARIADB),
    ErrorRow("1180", Kind.OTHER, "the commit failed in a storage engine or in replication", _MARIADB),

    # without a number
    ErrorRow("", Kind.CONNECTION_LOST, "the connection was closed before", _PYMYSQL,
             says="already closed", transient=True, closes=True),
    ErrorRow("", Kind.CONNECTION_LOST, "the connection was closed before", _PYMYSQL,
             says="not connected", transient=True, closes=True),
    ErrorRow("", Kind.CONNECTION_LOST, "the link broke", "SQLAlchemy source, dialects/mysql/asyncmy.py, is_disconnect",
             says="network operation failed", transient=True, closes=True),
    ErrorRow("", Kind.OTHER, "the driver lost track of the protocol", _PYMYSQL,
             says="packet sequence number wrong", closes=True),
)
# fmt: on

TABLE = ErrorTable(_ROWS)
"""The rows of MariaDB and MySQL, then the common ones."""
