"""Errors that look like one thing and are another: each is taken for what it is."""

from __future__ import annotations

import pytest

from polysession.dialects import of
from polysession.dialects.mysql import MARIADB_GALERA, MYSQL_GALERA
from polysession.dialects.rows import AtCommit, ErrorSigns
from polysession.failures import Kind, Phase
from polysession.options import Access

POSTGRESQL, MARIADB, SQLITE = of("postgresql"), of("mariadb"), of("sqlite")

_LOCK_WAIT = "Lock wait timeout exceeded; try restarting transaction"


def test_a_gtid_wait_is_not_a_lock_wait() -> None:
    """1205 from our own wait for a replica means that the replica is behind; from anything else it is a lock."""
    behind = MARIADB.classify(ErrorSigns(errno=1205, message=_LOCK_WAIT, replica_wait=True), Phase.BODY)
    lock = MARIADB.classify(ErrorSigns(errno=1205, message=_LOCK_WAIT), Phase.BODY)
    assert (behind.kind, lock.kind) == (Kind.REPLICA_BEHIND, Kind.LOCK_TIMEOUT)


def test_a_wait_for_a_position_is_not_a_cancelled_statement() -> None:
    """57014 from our own wait for a replica means that the replica is behind, not that somebody cancelled."""
    signs = ErrorSigns(sqlstate="57014", message="timed out while waiting for target LSN", replica_wait=True)
    assert POSTGRESQL.classify(signs, Phase.BODY).kind is Kind.REPLICA_BEHIND


@pytest.mark.parametrize("errno", [1792, 1105])
def test_a_proxys_causal_read_is_not_a_write(errno: int) -> None:
    """A proxy that gives up waiting for a replica says "read-only" or "unknown error"; the replica is behind."""
    message = "Causal read timed out while in a read-only transaction, cannot retry command."
    for access in (None, Access.READ):
        signs = ErrorSigns(errno=errno, sqlstate="25006", message=message, access=access)
        assert MARIADB.classify(signs, Phase.BODY).kind is Kind.REPLICA_BEHIND


@pytest.mark.parametrize(
    ("sqlstate", "message"),
    [
        ("01000", "canceling wait for synchronous replication due to user request"),
        ("57P01", "canceling the wait for synchronous replication and terminating connection"),
    ],
)
@pytest.mark.parametrize("closed", [False, True])
def test_a_cancelled_wait_for_the_standby_has_committed(sqlstate: str, message: str, closed: bool) -> None:
    """A cancelled wait for synchronous replication comes after the commit: never "rolled back", never repeated."""
    failure = POSTGRESQL.classify(
        ErrorSigns(sqlstate=sqlstate, message=message, connection_closed=closed), Phase.COMMIT_SENT
    )
    assert failure.kind is Kind.UNREPLICATED
    assert not failure.certainly_not_committed
    assert not failure.transient


def test_any_wording_of_the_standby_wait_is_not_a_rollback() -> None:
    """Whatever the server's wording or language, 57P01 at COMMIT is never taken for a rollback."""
    for message in ("canceling the wait for synchronous replication", "Verbindung wird abgebrochen", ""):
        assert POSTGRESQL.at_commit(ErrorSigns(sqlstate="57P01", message=message)) is AtCommit.UNKNOWN


def test_a_transaction_number_of_the_future_is_another_history() -> None:
    """A transaction number that the server has not reached means a crash or a failover, not a bad argument."""
    signs = ErrorSigns(sqlstate="22023", message="transaction ID 725 is in the future")
    failure = POSTGRESQL.classify(signs, Phase.BODY)
    assert (failure.kind, failure.transient) == (Kind.WRONG_TIMELINE, False)
    assert POSTGRESQL.classify(ErrorSigns(sqlstate="22023"), Phase.BODY).kind is Kind.DATA


@pytest.mark.parametrize("backend", ["postgresql", "mysql", "mariadb", "sqlite"])
def test_no_text_asks_for_the_status_of_a_transaction_number(backend: str) -> None:
    """After a crash or a failover a number can belong to another transaction: no text of ours ever asks for one."""
    dialect = of(backend)
    unit = "0193d2a4-7c00-7abc-8def-0123456789ab"
    texts = [dialect.marker.create, dialect.marker.write(unit), dialect.marker.read(unit), dialect.marker.fence(unit)]
    texts += [dialect.marker.forget(unit, 60.0, 100), dialect.marker.server]
    texts += [dialect.server_sql, dialect.read_only().apply, dialect.lock_timeout(1).apply]
    texts += [text for access in Access for text in dialect.begin(access=access)]
    assert not [text for text in texts if "xact_status" in text or "txid" in text]


@pytest.mark.parametrize(
    ("backend", "signs"),
    [
        ("postgresql", ErrorSigns(message="server closed the connection unexpectedly", connection_closed=True)),
        ("postgresql", ErrorSigns(sqlstate="08006", connection_closed=True)),
        ("postgresql", ErrorSigns(sqlstate="08007", connection_closed=True)),
        ("mariadb", ErrorSigns(errno=2013, message="Lost connection to MySQL server during query")),
        ("mariadb", ErrorSigns(errno=2006, message="MySQL server has gone away")),
        ("mariadb", ErrorSigns(class_names=("TimeoutError", "OSError"))),
    ],
)
def test_a_link_lost_in_commit_is_ambiguous(backend: str, signs: ErrorSigns) -> None:
    """A link lost during COMMIT leaves the outcome open: it is resolved first, never repeated."""
    failure = of(backend).classify(signs, Phase.COMMIT_SENT)
    assert not failure.certainly_not_committed
    assert not failure.transient
    assert of(backend).at_commit(signs) is AtCommit.UNKNOWN


def test_xa_on_galera_is_a_mistake_of_the_plan() -> None:
    """Galera refuses XA: the capabilities say so before the first SQL, and the error names the place to look at."""
    message = "This version of MariaDB doesn't yet support 'XA transactions with Galera replication'"
    failure = MARIADB.classify(ErrorSigns(errno=1235, sqlstate="42000", message=message), Phase.BODY)
    assert failure.kind is Kind.UNSUPPORTED
    assert "door" in failure.reason
    assert MARIADB.capabilities.two_phase
    assert not MARIADB_GALERA.capabilities.two_phase
    assert not MYSQL_GALERA.capabilities.two_phase
    assert of("mariadb", galera=True) is MARIADB_GALERA


def test_a_deadlock_raised_by_commit_is_a_rollback() -> None:
    """A certification conflict comes as a deadlock at COMMIT: certainly rolled back, safe to repeat the unit."""
    failure = MARIADB.classify(ErrorSigns(errno=1213, sqlstate="40001"), Phase.COMMIT_SENT)
    assert failure.certainly_not_committed
    assert failure.transient
    assert failure.connection_usable


def test_class_08_over_a_live_connection_is_not_a_dead_link() -> None:
    """A worker behind the server is down: the statement failed, the connection is good; at COMMIT it is unknown."""
    signs = ErrorSigns(sqlstate="08006", message="connection to the remote node failed")
    body = POSTGRESQL.classify(signs, Phase.BODY)
    assert (body.kind, body.connection_usable, body.certainly_not_committed) == (Kind.SHARD_DOWN, True, True)
    assert not POSTGRESQL.classify(signs, Phase.COMMIT_SENT).certainly_not_committed


@pytest.mark.parametrize("backend", ["postgresql", "mariadb"])
def test_a_link_error_before_any_byte_is_safe(backend: str) -> None:
    """A driver error before any byte was sent is the one link error that is always safe to repeat."""
    signs = ErrorSigns(class_names=("ConnectionRefusedError", "ConnectionError", "OSError"))
    failure = of(backend).classify(signs, Phase.NOTHING_SENT)
    assert (failure.kind, failure.transient) == (Kind.CONNECT_FAILED, True)
    assert failure.certainly_not_committed


@pytest.mark.parametrize("backend", ["postgresql", "mariadb"])
def test_a_commit_that_never_left_is_safe(backend: str) -> None:
    """A driver that vouches that no byte of COMMIT left makes a lost link safe to repeat."""
    signs = ErrorSigns(connection_closed=True, nothing_sent=True)
    failure = of(backend).classify(signs, Phase.COMMIT_SENT)
    assert (failure.kind, failure.transient, failure.phase) == (Kind.CONNECTION_LOST, True, Phase.BODY)


@pytest.mark.parametrize(
    ("backend", "signs"),
    [
        ("postgresql", ErrorSigns(sqlstate="25006", access=Access.WRITE)),
        ("mariadb", ErrorSigns(errno=1290, message="the --read-only option", access=Access.WRITE)),
        ("mysql", ErrorSigns(errno=1290, message="the --super-read-only option", access=Access.WRITE)),
        ("mariadb", ErrorSigns(errno=1792, access=Access.WRITE)),
        ("mysql", ErrorSigns(errno=1836, access=Access.WRITE)),
    ],
)
def test_a_refused_write_of_a_write_unit_is_a_demotion(backend: str, signs: ErrorSigns) -> None:
    """A write unit whose write is refused meets a former primary: other connections are needed, then it is repeated."""
    failure = of(backend).classify(signs, Phase.BODY)
    assert (failure.kind, failure.transient, failure.connection_usable) == (Kind.DEMOTED, True, False)


def test_other_options_of_the_server_are_not_a_demotion() -> None:
    """1290 speaks of any option of the server: only read-only ones mean a demotion."""
    signs = ErrorSigns(errno=1290, message="the --secure-file-priv option", access=Access.WRITE)
    assert MARIADB.classify(signs, Phase.BODY).kind is Kind.UNSUPPORTED


def test_a_replica_that_ends_a_read_is_not_down() -> None:
    """A read that a replica ended in favour of replay is repeated; the replica is not taken for broken."""
    for sqlstate in ("40001", "40P01"):
        signs = ErrorSigns(sqlstate=sqlstate, message="canceling statement due to conflict with recovery")
        failure = POSTGRESQL.classify(signs, Phase.BODY)
        assert (failure.kind, failure.transient, failure.connection_usable) == (Kind.REPLICA_CONFLICT, True, True)


@pytest.mark.parametrize("sqlstate", ["40003", "08007", "XXA00"])
def test_servers_that_do_not_know_are_believed(sqlstate: str) -> None:
    """An error by which a server says that the outcome is unknown, or mixed, is never a rollback."""
    signs = ErrorSigns(sqlstate=sqlstate)
    assert POSTGRESQL.classify(signs, Phase.BODY).kind is Kind.OUTCOME_UNKNOWN
    assert not POSTGRESQL.classify(signs, Phase.COMMIT_SENT).certainly_not_committed


def test_a_statement_that_is_already_prepared_is_a_pooler() -> None:
    """Prepared statements that come and go mean a pooler in transaction mode, not wrong SQL."""
    for sqlstate in ("26000", "42P05"):
        failure = POSTGRESQL.classify(ErrorSigns(sqlstate=sqlstate), Phase.BODY)
        assert failure.kind is Kind.UNSUPPORTED
        assert "pooler" in failure.reason


@pytest.mark.parametrize("message", ["no more connections allowed (max_client_conn)", "query_wait_timeout"])
def test_a_full_pooler_is_not_a_protocol_violation(message: str) -> None:
    """pgbouncer reports a full house as 08P01: it is an overload, with and without the code."""
    for sqlstate in ("08P01", None):
        failure = POSTGRESQL.classify(ErrorSigns(sqlstate=sqlstate, message=message), Phase.NOTHING_SENT)
        assert (failure.kind, failure.transient) == (Kind.TOO_MANY, True)


def test_a_poolers_error_at_commit_is_ambiguous() -> None:
    """pgbouncer says 08P01 also when it lost the server in the middle of COMMIT: the outcome is open."""
    for closed in (False, True):
        signs = ErrorSigns(sqlstate="08P01", message="server conn crashed?", connection_closed=closed)
        assert POSTGRESQL.at_commit(signs) is AtCommit.UNKNOWN


def test_a_commit_that_meets_a_reader_is_still_open() -> None:
    """BUSY at SQLite's COMMIT has done nothing: the transaction is open and has to be rolled back."""
    signs = ErrorSigns(sqlite_code=5, message="database is locked")
    assert SQLITE.at_commit(signs) is AtCommit.STILL_OPEN
    assert SQLITE.classify(signs, Phase.COMMIT_SENT).transient


@pytest.mark.parametrize(
    ("backend", "signs"),
    [
        ("mariadb", ErrorSigns(errno=1213)),
        ("mariadb", ErrorSigns(errno=1020)),
        ("mysql", ErrorSigns(errno=3101)),
        ("sqlite", ErrorSigns(sqlite_code=9)),
        ("sqlite", ErrorSigns(sqlite_code=13)),
    ],
)
def test_an_error_that_took_the_transaction_with_it(backend: str, signs: ErrorSigns) -> None:
    """Where the server rolls the whole transaction back and goes on, a swallowed error would commit half a unit."""
    assert of(backend).classify(signs, Phase.BODY).transaction_lost


@pytest.mark.parametrize(
    ("backend", "signs"),
    [
        ("mariadb", ErrorSigns(errno=1205)),
        ("mariadb", ErrorSigns(errno=1062)),
        ("postgresql", ErrorSigns(sqlstate="40001")),
        ("sqlite", ErrorSigns(sqlite_code=5)),
    ],
)
def test_an_error_that_left_the_transaction_open(backend: str, signs: ErrorSigns) -> None:
    """An error that undoes one statement only, or that makes the server refuse all further ones, loses nothing."""
    assert not of(backend).classify(signs, Phase.BODY).transaction_lost
