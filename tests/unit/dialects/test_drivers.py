"""What the drivers really raise, as it was seen from live servers, and what it must be taken for."""

from __future__ import annotations

import pytest

from polysession.dialects import of
from polysession.dialects.rows import ErrorSigns
from polysession.failures import Kind, Phase
from polysession.options import Access

BODY, COMMIT, NOTHING = Phase.BODY, Phase.COMMIT_SENT, Phase.NOTHING_SENT

DBAPI = ("OperationalError", "DatabaseError", "Error", "Exception")


def _pg(sqlstate: str | None = None, message: str = "", *names: str, closed: bool = False) -> ErrorSigns:
    return ErrorSigns(sqlstate=sqlstate, message=message, class_names=names or DBAPI, connection_closed=closed)


def _my(errno: int | None, message: str = "", sqlstate: str | None = None, *, closed: bool = False) -> ErrorSigns:
    return ErrorSigns(errno=errno, message=message, sqlstate=sqlstate, class_names=DBAPI, connection_closed=closed)


def _lite(code: int | None, message: str = "", *names: str) -> ErrorSigns:
    return ErrorSigns(sqlite_code=code, message=message, class_names=names or DBAPI)


POSTGRESQL = [
    # psycopg 3.3 and asyncpg 0.32 against PostgreSQL 15: signs, phase, kind, transient, not committed, usable
    (_pg("40001", "could not serialize access"), BODY, Kind.SERIALIZATION, True, True, True),
    (_pg("40001", "could not serialize access"), COMMIT, Kind.SERIALIZATION, True, True, True),
    (_pg("23505", "duplicate key value", "UniqueViolation"), COMMIT, Kind.DUPLICATE, False, True, True),
    (_pg("25P03", "terminating connection", closed=True), COMMIT, Kind.TRANSACTION_TIMEOUT, False, True, False),
    (_pg("57P01", "terminating connection", closed=True), BODY, Kind.SHUTDOWN, True, True, False),
    (_pg("57P01", "terminating connection", closed=True), COMMIT, Kind.SHUTDOWN, False, False, False),
    (_pg("57014", "canceling statement due to statement timeout"), BODY, Kind.STATEMENT_TIMEOUT, False, True, True),
    (_pg("57014", "canceling statement due to user request"), BODY, Kind.CANCELLED, False, True, True),
    (_pg("57014", "canceling statement due to user request"), COMMIT, Kind.CANCELLED, False, False, False),
    (_pg("55P03", "canceling statement due to lock timeout"), BODY, Kind.LOCK_TIMEOUT, True, True, True),
    (_pg("25006", "cannot execute DELETE"), BODY, Kind.READ_ONLY, False, True, True),
    (_pg("25P02", "current transaction is aborted"), BODY, Kind.PROGRAMMING, False, True, True),
    (_pg("53300", "sorry, too many clients already"), NOTHING, Kind.TOO_MANY, True, True, False),
    (_pg("42P01", 'relation "x" does not exist'), BODY, Kind.PROGRAMMING, False, True, True),
    (_pg("08P01", "bind message supplies 1 parameters"), BODY, Kind.PROGRAMMING, False, True, True),
    (_pg("08P01", "", closed=True), BODY, Kind.CONNECTION_LOST, True, True, False),
    (_pg("XX000", "cache lookup failed"), COMMIT, Kind.OTHER, False, False, False),
    (_pg("0A000", "cached plan must not change result type"), BODY, Kind.SCHEMA_CHANGED, True, True, True),
    (_pg("42501", "permission denied for table t"), BODY, Kind.PRIVILEGE, False, True, True),
    (_pg("28P01", "password authentication failed"), NOTHING, Kind.AUTH, False, True, False),
    (_pg("08001", "could not connect"), NOTHING, Kind.CONNECT_FAILED, True, True, False),
    (
        _pg(None, 'connection failed: connection to server at "127.0.0.1", port 1 failed: Connection refused'),
        NOTHING, Kind.CONNECT_FAILED, True, True, False,
    ),
    (
        _pg(None, "connection failed: FATAL:  sorry, too many clients already"),
        NOTHING, Kind.TOO_MANY, True, True, False,
    ),
    (
        _pg(None, "connection failed: FATAL:  the database system is starting up"),
        NOTHING, Kind.NOT_READY, True, True, False,
    ),
    (_pg(None, 'FATAL:  database "x" does not exist'), NOTHING, Kind.PROGRAMMING, False, True, False),
    (_pg(None, 'FATAL:  password authentication failed for user "x"'), NOTHING, Kind.AUTH, False, True, False),
    (_pg(None, "failed to resolve host 'x': [Errno -2]"), NOTHING, Kind.CONNECT_FAILED, True, True, False),
    (
        _pg(None, "consuming input failed: server closed the connection unexpectedly", closed=True),
        BODY, Kind.CONNECTION_LOST, True, True, False,
    ),
    (
        _pg(None, "consuming input failed: server closed the connection unexpectedly", closed=True),
        COMMIT, Kind.CONNECTION_LOST, False, False, False,
    ),
    (_pg(None, "the connection is closed", closed=True), COMMIT, Kind.CONNECTION_LOST, False, False, False),
    (
        _pg("08003", "connection was closed in the middle of operation", "ConnectionDoesNotExistError", closed=True),
        COMMIT, Kind.CONNECTION_LOST, False, False, False,
    ),
    (_pg(None, "connection is closed", "InterfaceError"), BODY, Kind.CONNECTION_LOST, True, True, False),
    (_pg(None, "", "TimeoutError", "OSError"), BODY, Kind.STATEMENT_TIMEOUT, False, True, False),
    (_pg(None, "", "TimeoutError", "OSError"), COMMIT, Kind.STATEMENT_TIMEOUT, False, False, False),
    (
        _pg(None, "[Errno 111] Connect call failed", "ConnectionRefusedError", "ConnectionError", "OSError"),
        NOTHING, Kind.CONNECT_FAILED, True, True, False,
    ),
    (_pg(None, "", "ConnectionResetError", "OSError"), BODY, Kind.CONNECTION_LOST, True, True, False),
    (_pg(None, "got result for unknown protocol state", "ProtocolError", "InternalClientError"),
     BODY, Kind.OTHER, False, True, False),
]  # fmt: skip

MARIADB = [
    # PyMySQL 1.2 and asyncmy 0.2 against MariaDB 10.11
    (_my(1213, "Deadlock found", "40001"), BODY, Kind.DEADLOCK, True, True, True),
    (_my(1213, "Deadlock found", "40001"), COMMIT, Kind.DEADLOCK, True, True, True),
    (_my(1213, "Deadlock found", "40001", closed=True), COMMIT, Kind.DEADLOCK, False, False, False),
    (_my(1020, "Record has changed since last read", "HY000"), BODY, Kind.SERIALIZATION, True, True, True),
    (_my(1205, "Lock wait timeout exceeded", "HY000"), BODY, Kind.LOCK_TIMEOUT, True, True, True),
    (_my(1205, "Lock wait timeout exceeded", "HY000"), COMMIT, Kind.LOCK_TIMEOUT, False, False, False),
    (_my(1969, "max_statement_time exceeded", "70100"), BODY, Kind.STATEMENT_TIMEOUT, False, True, True),
    (_my(1317, "Query execution was interrupted", "70100"), BODY, Kind.CANCELLED, False, True, True),
    (
        _my(1792, "Cannot execute statement in a READ ONLY transaction", "25006"),
        BODY,
        Kind.READ_ONLY,
        False,
        True,
        True,
    ),
    (_my(1290, "running with the --read-only option", "HY000"), COMMIT, Kind.READ_ONLY, False, True, True),
    (_my(1290, "running with the --secure-file-priv option", "HY000"), BODY, Kind.UNSUPPORTED, False, True, True),
    (_my(1062, "Duplicate entry", "23000"), BODY, Kind.DUPLICATE, False, True, True),
    (_my(1452, "a foreign key constraint fails", "23000"), BODY, Kind.CONSTRAINT, False, True, True),
    (_my(1064, "You have an error in your SQL syntax", "42000"), BODY, Kind.PROGRAMMING, False, True, True),
    (_my(1366, "Incorrect integer value", "22007"), BODY, Kind.DATA, False, True, True),
    (_my(2003, "Can't connect to MySQL server"), NOTHING, Kind.CONNECT_FAILED, True, True, False),
    (_my(1045, "Access denied", "28000"), NOTHING, Kind.AUTH, False, True, False),
    (_my(1040, "Too many connections"), NOTHING, Kind.TOO_MANY, True, True, False),
    (_my(2013, "Lost connection to MySQL server during query"), BODY, Kind.CONNECTION_LOST, True, True, False),
    (_my(2013, "Lost connection to MySQL server during query"), COMMIT, Kind.CONNECTION_LOST, False, False, False),
    (_my(0, ""), BODY, Kind.CONNECTION_LOST, True, True, False),
    (_my(0, "Not connected"), COMMIT, Kind.CONNECTION_LOST, False, False, False),
    (_my(2014, "Command Out of Sync"), BODY, Kind.PROGRAMMING, False, True, False),
    (_my(1180, "Got error 1 during COMMIT"), COMMIT, Kind.OTHER, False, False, False),
    (_my(None, "", "40001"), BODY, Kind.SERIALIZATION, True, True, True),
    (_my(None, "Already closed"), BODY, Kind.CONNECTION_LOST, True, True, False),
]

SQLITE = [
    # CPython 3.11's sqlite3 with SQLite 3.40, and aiosqlite 0.22
    (_lite(5, "database is locked"), BODY, Kind.BUSY, True, True, True),
    (_lite(5, "database is locked"), COMMIT, Kind.BUSY, True, True, True),
    (_lite(773, "database is locked"), BODY, Kind.BUSY, True, True, True),
    (_lite(517, "database is locked"), BODY, Kind.SERIALIZATION, True, True, True),
    (_lite(262, "database table is locked: t"), BODY, Kind.BUSY, True, True, True),
    (_lite(6, "database table is locked"), BODY, Kind.PROGRAMMING, False, True, True),
    (_lite(787, "FOREIGN KEY constraint failed", "IntegrityError"), COMMIT, Kind.CONSTRAINT, False, True, True),
    (_lite(2067, "UNIQUE constraint failed: t.u", "IntegrityError"), BODY, Kind.DUPLICATE, False, True, True),
    (_lite(275, "CHECK constraint failed", "IntegrityError"), BODY, Kind.CONSTRAINT, False, True, True),
    (_lite(8, "attempt to write a readonly database"), BODY, Kind.READ_ONLY, False, True, True),
    (_lite(1, 'near "selec": syntax error'), BODY, Kind.PROGRAMMING, False, True, True),
    (_lite(9, "interrupted"), BODY, Kind.CANCELLED, False, True, True),
    (_lite(14, "unable to open database file"), NOTHING, Kind.CONNECT_FAILED, False, True, False),
    (_lite(778, "disk I/O error"), COMMIT, Kind.RESOURCES, False, False, False),
    (_lite(13, "database or disk is full"), COMMIT, Kind.RESOURCES, False, False, False),
    (_lite(26, "file is not a database", "DatabaseError"), BODY, Kind.RESOURCES, False, True, False),
    (_lite(None, "database is locked"), COMMIT, Kind.BUSY, False, False, False),
    (_lite(None, "Cannot operate on a closed database.", "ProgrammingError"),
     BODY, Kind.CONNECTION_LOST, True, True, False),
    (_lite(None, "no active connection", "ValueError"), BODY, Kind.CONNECTION_LOST, True, True, False),
]  # fmt: skip

CASES = [
    *(pytest.param("postgresql", *case, id=f"pg-{number}") for number, case in enumerate(POSTGRESQL)),
    *(pytest.param("mariadb", *case, id=f"maria-{number}") for number, case in enumerate(MARIADB)),
    *(pytest.param("mysql", *case, id=f"mysql-{number}") for number, case in enumerate(MARIADB)),
    *(pytest.param("sqlite", *case, id=f"sqlite-{number}") for number, case in enumerate(SQLITE)),
]


@pytest.mark.parametrize(("backend", "signs", "phase", "kind", "transient", "certain", "usable"), CASES)
def test_what_a_driver_raised(
    backend: str, signs: ErrorSigns, phase: Phase, kind: Kind, transient: bool, certain: bool, usable: bool
) -> None:
    """An error as a driver really shows it is taken for what it is, in the phase in which it came."""
    failure = of(backend).classify(signs, phase)
    assert (failure.kind, failure.transient, failure.certainly_not_committed, failure.connection_usable) == (
        kind,
        transient,
        certain,
        usable,
    )


@pytest.mark.parametrize(
    ("backend", "signs", "code"),
    [
        ("postgresql", _pg("40P01"), "40P01"),
        ("postgresql", _pg(), ""),
        ("mariadb", _my(1213, sqlstate="40001"), "1213"),
        ("mariadb", _my(None, sqlstate="40001"), "40001"),
        ("sqlite", _lite(517), "517"),
    ],
)
def test_the_code_is_the_servers(backend: str, signs: ErrorSigns, code: str) -> None:
    """A failure carries the most specific code that the server gave, and its reason ends with it."""
    failure = of(backend).classify(signs, BODY)
    assert failure.code == code
    assert not code or failure.reason.endswith(f"({code})")


@pytest.mark.parametrize("access", [None, Access.READ])
def test_a_write_where_none_is_allowed(access: Access | None) -> None:
    """A write in a unit that is not for writing is a mistake of the program and is not repeated."""
    for backend, signs in (
        ("postgresql", ErrorSigns(sqlstate="25006", access=access)),
        ("mariadb", ErrorSigns(errno=1792, access=access)),
        ("mariadb", ErrorSigns(errno=1290, message="--read-only", access=access)),
    ):
        failure = of(backend).classify(signs, BODY)
        assert (failure.kind, failure.transient, failure.connection_usable) == (Kind.READ_ONLY, False, True)
