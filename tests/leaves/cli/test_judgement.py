"""From facts to findings: one table of cases, each with the codes that it must and must not bring."""

from __future__ import annotations

from typing import Any

import pytest

from polysession.cli.findings import RULES, Code, Severity
from polysession.cli.judgement import judge
from polysession.dialects.inspection import EndpointFacts
from polysession.topology import Pooler, Role

from .facts import endpoint, limit, mariadb, mysql, postgresql, sqlite

Facts = EndpointFacts | list[EndpointFacts]


def replica(backend: str, **changes: Any) -> EndpointFacts:
    """A replica that is as it should be, but for `changes`."""
    return endpoint(backend, Role.REPLICA, **changes)


CASES: list[tuple[str, Facts, set[Code]]] = [
    ("PostgreSQL in order", postgresql(), set()),
    ("MariaDB in order", mariadb(), set()),
    ("MySQL in order", mysql(), set()),
    ("SQLite in order", sqlite(), set()),
    ("primary and replica in order", [postgresql(), replica("postgresql", in_recovery=True)], set()),
    # the mode of the endpoint against its role
    ("a standby as primary", postgresql(in_recovery=True), {Code.PRIMARY_READ_ONLY}),
    ("a read-only account on the primary", postgresql(read_only=True), {Code.PRIMARY_READ_ONLY}),
    ("read_only on MariaDB", mariadb(read_only=True), {Code.PRIMARY_READ_ONLY}),
    ("read_only on MySQL", mysql(read_only=True), {Code.PRIMARY_READ_ONLY}),
    ("a standby as replica", replica("postgresql", in_recovery=True, read_only=False), set()),
    ("a writable replica", replica("postgresql", read_only=False), {Code.REPLICA_TAKES_WRITES}),
    ("a writable replica on MariaDB", replica("mariadb", read_only=False), {Code.REPLICA_TAKES_WRITES}),
    ("a replica and an admin", replica("mariadb", write_privileges=("SUPER",)), {Code.REPLICA_PRIVILEGED}),
    ("a primary and an admin", mariadb(write_privileges=("SUPER",)), set()),
    ("a replica that is the primary", [mariadb(), replica("mariadb", identity="mariadb")], {Code.REPLICA_IS_PRIMARY}),
    ("one server for two databases", [mariadb(), mariadb(database="b", endpoint="b/primary")], set()),
    # read units
    ("a pooler that refuses", postgresql(read_refused=None, read_problem="no"), {Code.READ_UNITS_FAIL}),
    ("no second connection", postgresql(read_refused=None), set()),
    ("a pooler that ignores", postgresql(read_refused=False), {Code.READS_MAY_WRITE}),
    ("a proxy that ignores", mysql(read_refused=False), {Code.READS_MAY_WRITE}),
    ("a pooler that is not configured", postgresql(pooler_seen=True), {Code.POOLER_UNSET}),
    ("a pooler that ignores, and is seen", postgresql(pooler_seen=True, read_refused=False), {Code.READS_MAY_WRITE}),
    ("a pooler that is configured", postgresql(pooler_seen=True, pooler=Pooler.TRANSACTION), set()),
    ("no pooler where one is configured", postgresql(pooler_seen=False, pooler=Pooler.TRANSACTION), set()),
    # age
    ("PostgreSQL 14", postgresql(version_number=(14, 20)), {Code.SERVER_TOO_OLD}),
    ("PostgreSQL 15.0", postgresql(version_number=(15, 0)), set()),
    ("MariaDB 10.5", mariadb(version_number=(10, 5, 29)), {Code.SERVER_TOO_OLD}),
    ("MariaDB 10.6", mariadb(version_number=(10, 6, 0)), set()),
    ("MySQL 5.7", mysql(version_number=(5, 7, 44)), {Code.SERVER_TOO_OLD}),
    ("SQLite 3.34", sqlite(version_number=(3, 34, 1)), {Code.SQLITE_TOO_OLD}),
    ("SQLite 3.35", sqlite(version_number=(3, 35, 0)), set()),
    # MySQL and MariaDB
    ("MyISAM", mysql(storage_engine="MyISAM"), {Code.STORAGE_ENGINE}),
    ("innodb in lower case", mysql(storage_engine="innodb"), set()),
    ("a URL of mysql on MariaDB", mariadb(backend="mysql"), {Code.BACKEND_NAME}),
    # the file
    ("in memory", sqlite(in_memory=True, exists=False), set()),
    ("no file yet", sqlite(exists=False), set()),
    ("no folder", sqlite(exists=False, folder_exists=False), {Code.SQLITE_FOLDER}),
    ("another file", sqlite(is_database=False), {Code.SQLITE_NOT_A_DATABASE}),
    ("a file of somebody else", sqlite(writable=False, read_only=True), {Code.SQLITE_NOT_WRITABLE}),
    ("a folder of somebody else", sqlite(exists=False, writable=False), {Code.SQLITE_NOT_WRITABLE}),
    ("a read-only file as replica", sqlite(writable=False, read_only=True, role=Role.REPLICA), set()),
    ("a writable file as replica", sqlite(role=Role.REPLICA), {Code.REPLICA_TAKES_WRITES}),
    # lost updates
    ("READ COMMITTED", postgresql(isolation="READ COMMITTED"), {Code.LOST_UPDATES}),
    ("REPEATABLE READ on PostgreSQL", postgresql(isolation="REPEATABLE READ"), set()),
    ("REPEATABLE READ on MySQL", mysql(isolation="REPEATABLE READ"), {Code.LOST_UPDATES}),
    ("MariaDB that does not know it", mariadb(snapshot_isolation=None), {Code.LOST_UPDATES}),
    ("MariaDB with it off", mariadb(snapshot_isolation=False), {Code.LOST_UPDATES}),
    ("MariaDB with it on, at another level", mariadb(isolation="READ COMMITTED"), {Code.LOST_UPDATES}),
    ("MariaDB at SERIALIZABLE", mariadb(isolation="SERIALIZABLE", snapshot_isolation=False), set()),
    # limits of time
    ("no limit for statements", postgresql(statement_timeout=0.0), {Code.NO_TIMEOUTS}),
    ("no limit for idleness", mariadb(idle_in_transaction_timeout=0.0), {Code.NO_TIMEOUTS}),
    ("no limit on MySQL", mysql(statement_timeout=0.0), {Code.NO_TIMEOUTS}),
    # pools
    ("just enough", postgresql(pool_size=90, limits=(limit(100, 10),)), set()),
    ("one too many now", postgresql(pool_size=91, limits=(limit(100, 10),)), {Code.POOL_OVER_FREE}),
    ("just as many as ever", postgresql(pool_size=100, limits=(limit(100, 10),)), {Code.POOL_OVER_FREE}),
    ("one too many ever", postgresql(pool_size=101, limits=(limit(100, 10),)), {Code.POOL_OVER_LIMIT}),
    ("no limit", postgresql(pool_size=10**6, limits=()), set()),
    (
        "two pools on one server",
        [postgresql(pool_size=60), postgresql(pool_size=60, database="b", endpoint="b/primary")],
        {Code.POOL_OVER_LIMIT},
    ),
    (
        "two pools on two servers",
        [postgresql(pool_size=60), postgresql(pool_size=60, endpoint="b/primary", limits=(limit(key="server:2"),))],
        set(),
    ),
]


@pytest.mark.parametrize(("facts", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_the_codes_of_a_case(facts: Facts, expected: set[Code]) -> None:
    """These facts bring these findings and no others, each with the severity of its rule and every text filled in."""
    findings = judge(facts if isinstance(facts, list) else [facts])
    assert {finding.code for finding in findings} == expected
    assert len(findings) == len(expected)
    for finding in findings:
        assert finding.severity is RULES[finding.code].severity
        assert finding.endpoints
        assert finding.do
        assert not {"{", "}"} & set("".join((finding.fact, finding.why, *finding.do)))


def test_every_code_has_a_rule_and_a_case() -> None:
    """A code that nothing brings is a promise that nobody keeps."""
    assert set(RULES) == set(Code)
    assert set[Code]().union(*(expected for _, _, expected in CASES)) == set(Code)


@pytest.mark.parametrize("code", Code)
def test_what_to_do_on_every_engine(code: Code) -> None:
    """A rule that tells engines apart knows every engine on which its code can come up."""
    rule = RULES[code]
    if not isinstance(rule.do, tuple):
        assert {"PostgreSQL", "MariaDB", "MySQL"} <= set(rule.do)


def test_the_numbers_of_a_pool() -> None:
    """The finding has the numbers it was made from, a size that would fit, and a limit that would do."""
    facts = postgresql(pool_size=20, limits=(limit(17, 5, setting=20),))
    (finding,) = judge([facts])
    assert finding.fact == "the pool may hold 20 connections; max_connections allows 17"
    assert finding.do == (
        "set size = 17 in [databases.orders.pool]",
        "raise the limit: max_connections = 28",  # 20 of ours, 5 of others, 3 reserved
    )
    (finding,) = judge([postgresql(pool_size=15, limits=(limit(17, 5, setting=20),))])
    assert finding.fact.endswith("allows 17, 5 are in use by others and 12 free now")
    assert finding.do[0] == "set size = 12 in [databases.orders.pool]"


def test_pools_that_share_a_server() -> None:
    """Several pools are told as one finding, with their sum, the narrowest limit that was seen, and each key."""
    orders = postgresql(pool_size=30, limits=(limit(50, 3),))
    other = postgresql(pool_size=30, database="a.b", endpoint="a.b/primary", limits=(limit(40, 1),))
    (finding,) = judge([orders, other])
    assert finding.endpoints == ("orders/primary", "a.b/primary")
    assert finding.fact == "2 pools together may hold 60 connections; max_connections allows 40"
    assert finding.do[0] == 'set size = 20 in [databases.orders.pool] and [databases."a.b".pool]'


def test_equal_findings_are_told_once() -> None:
    """What is said of two endpoints in the same words names both; the worst comes first."""
    one = postgresql(isolation="READ COMMITTED")
    two = postgresql(isolation="READ COMMITTED", endpoint="b/primary", read_only=True, limits=())
    read_only, lost = judge([one, two])
    assert (read_only.severity, read_only.endpoints) == (Severity.ERROR, ("b/primary",))
    assert (lost.severity, lost.endpoints) == (Severity.INFO, ("orders/primary", "b/primary"))


def test_a_replica_that_is_the_primary_is_not_told_twice() -> None:
    """That it takes writes goes without saying."""
    findings = judge([postgresql(), replica("postgresql", identity="pg", read_only=False)])
    assert [finding.code for finding in findings] == [Code.REPLICA_IS_PRIMARY]
    assert findings[0].fact == "the replica is the server of orders/primary"


@pytest.mark.parametrize("read", [{"read_problem": "no"}, {"read_refused": False}, {"pooler_seen": True}], ids=str)
def test_the_setting_is_recommended_once(read: dict[str, Any]) -> None:
    """What a pooler makes of read units is cured by the setting; where it is there, something else is said."""
    (finding,) = judge([postgresql(**read)])
    assert finding.do[0].startswith('set pooler = "transaction" in [databases.orders]')
    told = judge([postgresql(pooler=Pooler.TRANSACTION, **read)])
    assert not [cure for finding in told for cure in finding.do if "set pooler" in cure]


def test_the_privileges_are_named() -> None:
    """The statement that revokes them names the account as the server spells it."""
    (finding,) = judge([replica("mariadb", write_privileges=("READ ONLY ADMIN", "SUPER"))])
    assert finding.do[0] == "REVOKE READ ONLY ADMIN, SUPER ON *.* FROM 'app'@'%'"


def test_nothing_is_found_where_nothing_is() -> None:
    """Without endpoints there are no findings."""
    assert judge([]) == ()
