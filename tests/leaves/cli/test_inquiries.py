"""What servers answer, read as facts: without a server, in the spelling of versions that are not at hand here."""

from __future__ import annotations

from typing import Any

import pytest

from polysession.dialects.inquiries import inquiry, refuses_writes, sqlite_facts, sqlite_header
from polysession.dialects.inspection import ServerFacts

from .facts import file

PG_FACTS = {
    "in_recovery": False,
    "account": "app",
    "database": "orders",
    "started": "1790000000.123456",
    "is_superuser": False,
    "role_limit": -1,
    "database_limit": -1,
    "uses_reserved": False,
    "total": 7,
    "of_role": 5,
    "of_database": 3,
}
PG_SETTINGS = {
    "server_version": "16.3 (Debian 16.3-1)",
    "server_version_num": "160003",
    "port": "5432",
    "default_transaction_isolation": "repeatable read",
    "default_transaction_read_only": "off",
    "max_connections": "100",
    "superuser_reserved_connections": "3",
    "reserved_connections": "2",
    "max_prepared_transactions": "0",
    "statement_timeout": "1500",
    "idle_in_transaction_session_timeout": "0",
}
MYSQL_SETTINGS = {
    "version": "8.4.3-commercial",
    "hostname": "db1",
    "port": "3306",
    "datadir": "/var/lib/mysql/",
    "server_uuid": "a-b-c",
    "transaction_isolation": "REPEATABLE-READ",
    "read_only": "OFF",
    "super_read_only": "OFF",
    "max_connections": "151",
    "max_user_connections": "0",
    "max_execution_time": "2500",
    "default_storage_engine": "InnoDB",
}
MARIADB_SETTINGS = {
    "version": "10.11.8-MariaDB-log",
    "hostname": "db1",
    "port": "3306",
    "datadir": "/var/lib/mysql/",
    "tx_isolation": "READ-COMMITTED",
    "read_only": "ON",
    "max_connections": "151",
    "max_user_connections": "0",
    "max_statement_time": "2.500000",
    "idle_transaction_timeout": "60",
    "default_storage_engine": "Aria",
    "innodb_snapshot_isolation": "OFF",
    "wsrep_on": "ON",
}


def read_postgresql(facts: dict[str, Any] | None = None, **settings: str | None) -> ServerFacts:
    """The facts from answers that differ from the usual in this; a setting that is None is not there."""
    rows = [{"name": name, "value": value} for name, value in {**PG_SETTINGS, **settings}.items() if value is not None]
    return inquiry("postgresql").read([[{**PG_FACTS, **(facts or {})}], rows])


def read_mysql(usual: dict[str, str], privileges: str | None = None, **settings: str) -> ServerFacts:
    """The facts from answers that differ from `usual` in this."""
    rows = [{"variable_name": name, "value": value} for name, value in {**usual, **settings}.items()]
    account = {"account": "app@10.0.0.%", "of_account": 4, "privileges": privileges}
    return inquiry("mysql").read([rows, [account], [{"variable_name": "Threads_connected", "value": "9"}]])


def test_postgresql() -> None:
    """Every fact from its row; times in seconds, the level in our spelling, the distribution's words left out."""
    facts = read_postgresql()
    assert (facts.engine, facts.version, facts.version_number) == ("PostgreSQL", "16.3", (16, 3))
    assert (facts.isolation, facts.read_only, facts.in_recovery) == ("REPEATABLE READ", False, False)
    assert (facts.statement_timeout, facts.idle_in_transaction_timeout) == (1.5, 0.0)
    assert facts.prepared_transactions == 0
    (limit,) = facts.limits
    assert (limit.setting, limit.most, limit.in_use) == (100, 95, 7)
    assert limit.name == "max_connections of the server (100, 5 of them reserved)"


@pytest.mark.parametrize(
    ("facts", "settings", "most"),
    [
        ({}, {"reserved_connections": None}, 97),  # PostgreSQL 15 does not know it
        ({"uses_reserved": True}, {}, 97),
        ({"is_superuser": True}, {}, 100),
    ],
)
def test_what_postgresql_reserves(facts: dict[str, Any], settings: dict[str, str | None], most: int) -> None:
    """What is reserved for others is no room for this account, what is reserved for it is."""
    assert read_postgresql(facts, **settings).limits[0].most == most


def test_the_limits_of_a_role_and_a_database() -> None:
    """Each with its own count, and the statement that raises it; a superuser is not bound by them."""
    _, role, database = read_postgresql({"role_limit": 20, "database_limit": 0}).limits
    assert (role.most, role.in_use, role.cure) == (20, 5, 'ALTER ROLE "app" CONNECTION LIMIT {number}')
    assert (database.most, database.in_use) == (0, 3)
    assert database.cure == 'ALTER DATABASE "orders" CONNECTION LIMIT {number}'
    assert len(read_postgresql({"role_limit": 20, "database_limit": 0, "is_superuser": True}).limits) == 1


def test_two_databases_of_one_server_share_its_limit() -> None:
    """The limit of the server has one key for both, that of the database has not; a restart changes nothing of that."""
    limits = [read_postgresql({"database": name, "database_limit": 9}).limits for name in ("orders", "billing")]
    assert limits[0][0].key == limits[1][0].key
    assert limits[0][1].key != limits[1][1].key
    assert read_postgresql(port="5433").limits[0].key != limits[0][0].key


def test_mysql() -> None:
    """MySQL as it answers: its words for the level, milliseconds, no limit for idleness."""
    facts = read_mysql(MYSQL_SETTINGS)
    assert (facts.engine, facts.version, facts.version_number) == ("MySQL", "8.4.3", (8, 4, 3))
    assert (facts.isolation, facts.read_only, facts.in_recovery) == ("REPEATABLE READ", False, None)
    assert (facts.statement_timeout, facts.idle_in_transaction_timeout) == (2.5, None)
    assert (facts.snapshot_isolation, facts.galera, facts.storage_engine) == (None, False, "InnoDB")
    (limit,) = facts.limits
    assert (limit.most, limit.in_use) == (151, 8)


def test_mariadb() -> None:
    """MariaDB as it answers: the old name of the level, seconds, its own settings."""
    facts = read_mysql(MARIADB_SETTINGS)
    assert (facts.engine, facts.version, facts.version_number) == ("MariaDB", "10.11.8", (10, 11, 8))
    assert (facts.isolation, facts.read_only) == ("READ COMMITTED", True)
    assert (facts.statement_timeout, facts.idle_in_transaction_timeout) == (2.5, 60.0)
    assert (facts.snapshot_isolation, facts.galera, facts.storage_engine) == (False, True, "Aria")


@pytest.mark.parametrize(
    ("usual", "privileges", "settings", "expected"),
    [
        (MARIADB_SETTINGS, None, {}, ()),
        (MARIADB_SETTINGS, "READ ONLY ADMIN,SUPER", {}, ("READ ONLY ADMIN", "SUPER")),
        (MARIADB_SETTINGS, "CONNECTION ADMIN", {}, ()),
        (MARIADB_SETTINGS, "SUPER", {"read_only": "NO_LOCK"}, ("SUPER",)),
        (MARIADB_SETTINGS, "SUPER", {"read_only": "NO_LOCK_NO_ADMIN"}, ()),
        (MYSQL_SETTINGS, "CONNECTION ADMIN", {"read_only": "ON"}, ("CONNECTION ADMIN",)),
        (MYSQL_SETTINGS, "SUPER", {"read_only": "ON", "super_read_only": "ON"}, ()),
    ],
)
def test_who_may_write_to_a_read_only_server(
    usual: dict[str, str], privileges: str | None, settings: dict[str, str], expected: tuple[str, ...]
) -> None:
    """The privileges that help differ between the two, and a stricter setting leaves none."""
    facts = read_mysql(usual, privileges, **settings)
    assert facts.read_only
    assert facts.write_privileges == expected


def test_the_limit_of_an_account() -> None:
    """It counts the account's own connections without the one that asks, and does not bind administrators."""
    limit = read_mysql(MYSQL_SETTINGS, max_user_connections="5").limits[1]
    assert (limit.most, limit.in_use) == (5, 3)
    assert limit.cure == "ALTER USER 'app'@'10.0.0.%' WITH MAX_USER_CONNECTIONS {number}"
    assert len(read_mysql(MYSQL_SETTINGS, "SUPER", max_user_connections="5").limits) == 1


@pytest.mark.parametrize(("value", "expected"), [("on", True), ("ON", True), ("1", True), ("off", False), (0, False)])
def test_the_answer_to_the_probe(value: object, expected: bool) -> None:
    """Each server says it in its own spelling."""
    assert refuses_writes([{"value": value}]) is expected


def test_no_answer_to_the_probe() -> None:
    """A server that knows no such setting refuses nothing."""
    assert refuses_writes([]) is False


@pytest.mark.parametrize("backend", ["postgresql", "mysql", "mariadb"])
def test_the_texts_of_an_inquiry(backend: str) -> None:
    """Drivers would take a percent sign for the place of a parameter, and nothing but questions is asked."""
    for text in (*inquiry(backend).statements, inquiry(backend).probe):
        assert "%" not in text
        assert text.split()[0] in ("SELECT", "SHOW")


MAGIC = b"SQLite format 3\x00"


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"", (True, "")),
        (MAGIC + b"\x10\x00\x02\x02" + bytes(80), (True, "wal")),
        (MAGIC + b"\x10\x00\x01\x01" + bytes(80), (True, "rollback")),
        (MAGIC, (False, "")),
        (b"PK\x03\x04" + bytes(96), (False, "")),
    ],
)
def test_the_head_of_a_file(head: bytes, expected: tuple[bool, str]) -> None:
    """An empty file is a database to be, and a file of another kind is none."""
    assert sqlite_header(head) == expected


def test_sqlite() -> None:
    """One file is one server, and a file that may not be written is read-only."""
    facts = sqlite_facts("3.40.1", file(writable=False))
    assert (facts.version_number, facts.identity, facts.read_only) == ((3, 40, 1), "/data/shop.db", True)
