"""The report as a value: its exit code, its JSON document, its lines, and the abilities in it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from polysession.cli.abilities import Ability, abilities
from polysession.cli.report import Line, Report, lines, make, to_json
from polysession.config.problems import Problem
from polysession.dialects.inspection import DoorFacts, EndpointFacts, Unreachable
from polysession.topology import Pooler, Role

from .facts import endpoint, limit, mariadb, mysql, postgresql, sqlite, unreachable

PROBLEM = Problem(path="databases.orders.pool.size", expected="a whole number", found='"x"', do=("write a number",))


@pytest.mark.parametrize(
    ("endpoints", "expected"),
    [
        ([], 0),
        ([postgresql()], 0),
        ([postgresql(isolation="READ COMMITTED")], 0),
        ([postgresql(read_refused=False)], 1),
        ([postgresql(read_refused=False, in_recovery=True)], 2),
        ([postgresql(in_recovery=True), unreachable()], 3),
        ([unreachable()], 3),
    ],
)
def test_the_exit_code(endpoints: list[EndpointFacts | Unreachable], expected: int) -> None:
    """It is that of the worst that was found; what is only worth knowing changes nothing."""
    assert make("x.toml", endpoints).exit_code == expected


def test_the_exit_code_of_a_wrong_configuration() -> None:
    """Nothing was reached, and it is an error."""
    assert Report(source="x.toml", problems=(PROBLEM,)).exit_code == 2


def document(report: Report) -> dict[str, Any]:
    """The JSON document, read back."""
    read: dict[str, Any] = json.loads(to_json(report))
    return read


def test_the_document() -> None:
    """It has everything: the verdict, each endpoint with facts and abilities, each finding."""
    read = document(make("x.toml", [postgresql(read_refused=False), unreachable(endpoint="b/primary")]))
    assert list(read) == ["source", "verdict", "exit_code", "problems", "endpoints", "findings"]
    assert (read["source"], read["verdict"], read["exit_code"]) == ("x.toml", "unreachable", 3)
    reached, silent = read["endpoints"]
    assert (reached["status"], reached["endpoint"], reached["role"]) == ("reached", "orders/primary", "primary")
    assert (reached["driver"], reached["driver_version"], reached["pool_size"]) == ("d", "1.0", 10)
    server = reached["server"]
    assert (server["engine"], server["version"], server["isolation"]) == ("PostgreSQL", "18.1", "SERIALIZABLE")
    assert (server["read_only"], server["in_recovery"]) == (False, False)
    assert server["limits"] == [{"name": "max_connections", "setting": 100, "most": 100, "in_use": 0}]
    assert {"name": "several writers at once", "can": True, "detail": ""} in reached["abilities"]
    assert (silent["status"], silent["reason"]) == ("unreachable", "Connection refused")
    (finding,) = read["findings"]
    assert (finding["code"], finding["severity"]) == ("reads-may-write", "warning")
    assert set(finding) == {"code", "severity", "endpoints", "fact", "why", "do"}


def test_the_document_of_a_wrong_configuration() -> None:
    """The problems with their parts, and no endpoints."""
    read = document(Report(source="x.toml", problems=(PROBLEM,)))
    assert (read["verdict"], read["endpoints"]) == ("errors", [])
    assert read["problems"][0]["path"] == "databases.orders.pool.size"


def text(report: Report) -> str:
    """The lines as they are written where there is no terminal."""
    return "\n".join(line.text for line in lines(report))


def test_the_lines_of_an_endpoint() -> None:
    """Each fact in a line of its own, with its numbers."""
    facts = postgresql(limits=(limit(97, 4),), isolation="READ COMMITTED", in_recovery=True)
    assert text(make("x.toml", [facts])).startswith(
        "orders/primary  postgresql://db1/orders\n"
        "  engine       PostgreSQL 18.1, reached in 12 ms\n"
        "  driver       d 1.0\n"
        "  isolation    sessions start at READ COMMITTED\n"
        "  mode         read-only, in recovery (a standby)\n"
        "  connections  pool 10 per process; max_connections: 97, 4 in use\n"
        "  can          Sessions: by d\n"
    )


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (mariadb(galera=True), "engine       MariaDB 11.8.2 (Galera)"),
        (mariadb(), "mode         takes writes\n"),
        (mariadb(read_only=True), "mode         read-only\n"),
        (postgresql(), "mode         takes writes, not in recovery\n"),
        (sqlite(), "file         /data/shop.db, 4096 bytes, journal wal\n"),
        (sqlite(size=0, journal=""), "file         /data/shop.db, 0 bytes\n"),
        (sqlite(exists=False), "file         /data/shop.db, not there yet\n"),
        (sqlite(in_memory=True), "file         in memory, gone when the process ends\n"),
        (sqlite(), "connections  pool 10 per process; the engine has no limit\n"),
        (postgresql(pooler_seen=True), "pooler       seen before the server, not configured\n"),
        (
            postgresql(pooler=Pooler.TRANSACTION, pooler_seen=True),
            "pooler       in transaction mode as configured, seen before the server\n",
        ),
        (postgresql(pooler=Pooler.TRANSACTION), "pooler       in transaction mode as configured, not seen\n"),
    ],
)
def test_a_line(facts: EndpointFacts, expected: str) -> None:
    """What differs between the engines."""
    assert f"  {expected}" in text(make("x.toml", [facts]))


def test_the_lines_of_a_finding() -> None:
    """It has the shape of the package's errors; the last line counts."""
    assert text(make("x.toml", [postgresql(read_refused=False), unreachable(endpoint="b/primary")])).endswith(
        "b/primary  postgresql://db1/orders\n"
        "  unreachable  Connection refused\n"
        "  do           see that the server runs\n"
        "\n"
        "warning [reads-may-write] orders/primary: the server takes writes on the connection of a read unit, although "
        "it was asked to refuse them\n"
        "  why: polysession refuses the writes that it can see; SQL text that writes is executed\n"
        '  do:  set pooler = "transaction" in [databases.orders]; or reach the server itself, not through a pooler\n'
        "\n"
        "unreachable: 2 endpoints, 1 warning, 1 unreachable"
    )


def test_the_lines_of_a_wrong_configuration() -> None:
    """The key, what was expected and what was found."""
    assert text(Report(source="x.toml", problems=(PROBLEM,))) == (
        "x.toml: no database was asked\n"
        'error [config] databases.orders.pool.size: expected a whole number, found "x"\n'
        "  do:  write a number\n"
        "errors: 1 problem"
    )


def test_wrapping() -> None:
    """On a terminal the text continues below its beginning, and no word is cut."""
    assert Line("  why: a bb ccc", 7).wrapped(10) == "  why: a\n       bb\n       ccc"
    assert Line("").wrapped(10) == ""
    assert Line("postgresql://db1/orders").wrapped(10) == "postgresql://db1/orders"


def can(facts: EndpointFacts) -> dict[str, Ability]:
    """The abilities by name."""
    return {ability.name: ability for ability in abilities(facts)}


def test_the_abilities_of_a_replica() -> None:
    """Nothing is said of write units, which never go there."""
    assert set(can(postgresql())) > set(can(endpoint("postgresql", Role.REPLICA)))
    assert "several writers at once" not in can(endpoint("postgresql", Role.REPLICA))


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (postgresql(), True),
        (sqlite(), True),
        (mariadb(), True),
        (mariadb(snapshot_isolation=False), False),
        (mariadb(snapshot_isolation=False, isolation="SERIALIZABLE"), True),
        (mysql(isolation="REPEATABLE READ"), False),
        (mysql(isolation="READ COMMITTED"), False),
    ],
)
def test_lost_updates_in_repeatable_units(facts: EndpointFacts, expected: bool) -> None:
    """They are noticed where the dialect has a level for it, or where the server's own settings do it."""
    assert can(facts)["lost updates noticed in repeatable units"].can is expected


@pytest.mark.parametrize(
    ("facts", "expected", "detail"),
    [
        (postgresql(), True, "seen on a connection"),
        (postgresql(read_refused=False), False, "the server takes them"),
        (postgresql(read_refused=None, read_problem="no"), False, "their connection could not be made"),
        (postgresql(read_refused=None), False, "not seen: there was no free connection"),
        (sqlite(), True, "by PRAGMA query_only"),
    ],
)
def test_writes_of_read_units(facts: EndpointFacts, expected: bool, detail: str) -> None:
    """Told as it was seen, not as it should be."""
    ability = can(facts)["writes of read units refused by the server"]
    assert (ability.can, ability.detail) == (expected, detail)


def test_read_units_behind_a_pooler() -> None:
    """They have a transaction each, and their statements still see what is committed when they run."""
    name = "read units without a transaction"
    assert can(postgresql())[name] == Ability(name, True, "each statement sees what is committed when it runs")
    pooled = can(postgresql(pooler=Pooler.TRANSACTION))[name]
    assert not pooled.can
    assert "one READ ONLY transaction" in pooled.detail


@pytest.mark.parametrize(
    ("facts", "detail"),
    [
        (postgresql(), "not yet; max_prepared_transactions is 0, so that none can be prepared"),
        (postgresql(prepared_transactions=64), "not yet; max_prepared_transactions is 64"),
        (mysql(), "not yet; transactions can be prepared here"),
        (
            mariadb(galera=True),
            "not yet; a transaction cannot be prepared here, so this could be the one database that decides",
        ),
    ],
)
def test_atomic_over_several_databases(facts: EndpointFacts, detail: str) -> None:
    """Not yet anywhere, and whether the server would be able to."""
    ability = can(facts)["one atomic unit over several databases"]
    assert (ability.can, ability.detail) == (False, detail)


def test_isolation_levels() -> None:
    """Every level that may be asked for is named, under the level that is given."""
    assert can(sqlite())["isolation levels"].detail == (
        "SERIALIZABLE (also for READ UNCOMMITTED, READ COMMITTED, REPEATABLE READ)"
    )
    assert can(mysql())["isolation levels"].detail == (
        "READ UNCOMMITTED, READ COMMITTED, REPEATABLE READ, SERIALIZABLE"
    )


def test_a_door_that_cannot() -> None:
    """A driver that serves one door only leaves the other without."""
    facts = postgresql(doors=(DoorFacts(door="Sessions", problem="no"), DoorFacts(door="AsyncSessions", driver="d")))
    assert can(facts)["Sessions"] == Ability("Sessions", False, "no")
    assert can(facts)["AsyncSessions"] == Ability("AsyncSessions", True, "by d")
