"""The command against real servers: what it finds out, and that what it says of read units is what the doors do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import text
from tests.engines.mariadb import MariaDB
from tests.engines.postgres import Postgres
from tests.engines.process import wait_until
from tests.engines.server import Server
from tests.engines.targets import FreshDatabase

from polysession import Sessions
from polysession.cli.check import check

Fresh = Callable[[str], FreshDatabase]
Private = Callable[[str], Server]
Run = Callable[[str], dict[str, Any]]
PASSWORD = "hunter2:p4ss"  # noqa: S105  # it opens nothing
ENCODED = "hunter2%3Ap4ss"

DRIVERS = [
    ("pg15", "psycopg"),
    ("pg18", "psycopg"),
    ("pg18", "asyncpg"),
    ("mariadb", "pymysql"),
    ("mariadb", "asyncmy"),
    ("galera", "pymysql"),
]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """The document of a run on a file or a URL; no output has any part of the password."""

    def run(file: str) -> dict[str, Any]:
        code = check(file, json=True, timeout=30)
        output = capsys.readouterr().out
        assert "hunter2" not in output
        assert "p4ss" not in output
        read: dict[str, Any] = json.loads(output)
        assert read["exit_code"] == code
        return read

    return run


@pytest.fixture
def configured(tmp_path: Path, run: Run) -> Run:
    """The document of a run on a file with this text."""

    def run_on(toml: str) -> dict[str, Any]:
        file = tmp_path / "polysession.toml"
        file.write_text(toml)
        return run(str(file))

    return run_on


def codes(read: dict[str, Any], *severities: str) -> list[str]:
    """The codes of the findings, of these severities or all."""
    return [found["code"] for found in read["findings"] if not severities or found["severity"] in severities]


@pytest.mark.parametrize(("target", "driver"), DRIVERS)
def test_a_server(run: Run, database: FreshDatabase, driver: str) -> None:
    """Every driver brings the same facts of a server with which all is well, and leaves no connection behind."""
    read = run(database.url(driver))
    (endpoint,) = read["endpoints"]
    server = endpoint["server"]
    assert (endpoint["status"], endpoint["driver"]) == ("reached", driver)
    assert endpoint["driver_version"][0].isdigit()
    assert endpoint["connect_seconds"] > 0
    assert (endpoint["read_refused"], endpoint["read_problem"]) == (True, "")
    is_postgres = database.target.startswith("pg")
    assert server["engine"] == ("PostgreSQL" if is_postgres else "MariaDB")
    if is_postgres:
        assert server["version"].startswith(f"{database.target[2:]}.")
    assert server["isolation"] == ("READ COMMITTED" if is_postgres else "REPEATABLE READ")
    assert (server["read_only"], server["in_recovery"]) == (False, False if is_postgres else None)
    assert server["limits"][0]["most"] == (197 if is_postgres else server["limits"][0]["setting"])
    assert server["galera"] is (database.target == "galera")
    assert (read["verdict"], codes(read, "error", "warning")) == ("ok", [])
    assert "lost-updates" in codes(read)
    wait_until(lambda: not database.census())  # a server notices the end of a connection a moment later


@pytest.mark.parametrize(("target", "driver"), [("pg18", "psycopg"), ("mariadb", "pymysql")])
def test_what_it_says_is_what_a_session_gets(run: Run, database: FreshDatabase, driver: str) -> None:
    """The level of the report is that of a unit that asks for none."""
    question = {"pg18": "SHOW transaction_isolation", "mariadb": "SELECT REPLACE(@@tx_isolation, '-', ' ')"}
    (endpoint,) = run(database.url(driver))["endpoints"]
    with Sessions(database.url(driver)) as sessions, sessions.begin() as session:
        level = session.scalar(text(question[database.target]))
    assert endpoint["server"]["isolation"] == str(level).upper()


@pytest.mark.pgbouncer
@pytest.mark.pg
@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_behind_a_pooler(configured: Run, fresh_database: Fresh, driver: str) -> None:
    """Read units fail behind a pooler that is not configured, and the key is named; with it all is well."""
    table = f'[databases.orders]\nurl = "{fresh_database("pgbouncer").url(driver)}"\n'
    read = configured(table)
    (endpoint,) = read["endpoints"]
    assert endpoint["pooler_seen"] is True
    assert codes(read, "error", "warning") == ["read-units-fail"]
    assert read["findings"][0]["do"][0] == 'set pooler = "transaction" in [databases.orders]'
    assert "unsupported startup parameter" in endpoint["read_problem"]
    read = configured(f'{table}pooler = "transaction"\n')
    (endpoint,) = read["endpoints"]
    assert (endpoint["pooler"], endpoint["pooler_seen"], endpoint["read_refused"]) == ("transaction", True, True)
    assert codes(read, "error", "warning") == []


@pytest.mark.pg
@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_a_pooler_that_is_not_there(configured: Run, fresh_database: Fresh, driver: str) -> None:
    """The setting does no harm without a pooler, and none is seen."""
    read = configured(f'[databases.orders]\nurl = "{fresh_database("pg18").url(driver)}"\npooler = "transaction"\n')
    (endpoint,) = read["endpoints"]
    assert (endpoint["pooler_seen"], endpoint["read_refused"]) == (False, True)
    assert codes(read, "error", "warning") == []


@pytest.mark.pg
def test_the_limits_of_postgresql(configured: Run, fresh_database: Fresh) -> None:
    """Two pools on one server are added up, and the limit of a database binds its own pool only."""
    one, two = fresh_database("pg18"), fresh_database("pg18")
    cast("Postgres", one.server).ask(f"alter database {one.name} connection limit 4")
    read = configured(
        f'[databases.one]\nurl = "{one.url()}"\npool.size = 100\n[databases.two]\nurl = "{two.url()}"\npool.size = 98\n'
    )
    both, alone = (finding for finding in read["findings"] if finding["code"] == "pool-over-limit")
    assert read["verdict"] == "errors"
    assert (both["endpoints"], alone["endpoints"]) == (["one/primary", "two/primary"], ["one/primary"])
    assert both["fact"].startswith("2 pools together may hold 198 connections; max_connections of the server (200, ")
    assert alone["fact"] == f'the pool may hold 100 connections; CONNECTION LIMIT of database "{one.name}" allows 4'
    assert alone["do"][0] == "set size = 4 in [databases.one.pool]"
    assert f'ALTER DATABASE "{one.name}" CONNECTION LIMIT 100' in alone["do"][1]


@pytest.mark.pg
def test_a_single_connection(run: Run, fresh_database: Fresh) -> None:
    """A server that gives one connection at a time is not said to refuse read units if it counts the first too long."""
    database = fresh_database("pg18")
    cast("Postgres", database.server).ask(f"alter database {database.name} connection limit 1")
    read = run(database.url())
    assert codes(read, "error", "warning") == ["pool-over-limit"]
    assert read["endpoints"][0]["read_problem"] == ""


@pytest.mark.pg
def test_connections_in_use(configured: Run, fresh_database: Fresh) -> None:
    """What others hold is no room for the pool, though the server would allow it."""
    database = fresh_database("pg18")
    cast("Postgres", database.server).ask(f"alter database {database.name} connection limit 6")
    with Sessions(database.url()) as sessions, sessions.begin() as session:
        session.scalar(text("SELECT 1"))
        read = configured(f'[databases.orders]\nurl = "{database.url()}"\npool.size = 6\n')
    (finding,) = (finding for finding in read["findings"] if finding["code"] == "pool-over-free")
    assert read["verdict"] == "warnings"
    assert finding["fact"].endswith("allows 6, 1 are in use by others and 5 free now")


@pytest.mark.pg
def test_a_read_only_account_as_primary(run: Run, fresh_database: Fresh) -> None:
    """Settings of a role or database are seen, because the session is asked and not the server."""
    database = fresh_database("pg18")
    server = cast("Postgres", database.server)
    server.ask(f"alter database {database.name} set default_transaction_read_only = on")
    server.ask(f"alter database {database.name} set default_transaction_isolation = 'serializable'")
    read = run(database.url())
    assert codes(read, "error") == ["primary-read-only"]
    assert read["endpoints"][0]["server"]["isolation"] == "SERIALIZABLE"
    assert "lost-updates" not in codes(read)


@pytest.mark.pg
def test_a_replica_that_is_its_primary(configured: Run, fresh_database: Fresh) -> None:
    """It is known for the same server, also by another driver and another spelling of the host."""
    database = fresh_database("pg18")
    other = database.url("asyncpg").replace("127.0.0.1", "localhost")
    read = configured(f'[databases.orders]\nurl = "{database.url()}"\nreplicas = ["{other}"]\n')
    assert (read["verdict"], codes(read, "error", "warning")) == ("warnings", ["replica-is-primary"])


@pytest.mark.pg
def test_a_standby_as_primary(run: Run, private_server: Private) -> None:
    """A server in recovery answers every question, and is an error in this role."""
    server = cast("Postgres", private_server("pg18"))
    server.create_database("orders")
    server.stop(immediate=False)
    (server.data / "standby.signal").touch()
    server.start()
    read = run(server.url("orders"))
    assert codes(read, "error") == ["primary-read-only"]
    assert (read["verdict"], read["endpoints"][0]["server"]["in_recovery"]) == ("errors", True)


@pytest.mark.pg
@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_passwords_on_postgresql(run: Run, private_server: Private, driver: str) -> None:
    """The right password is let in, a wrong one is told as such; neither is shown."""
    server = cast("Postgres", private_server("pg18"))
    server.create_database("orders")
    server.ask(f"alter role app password '{PASSWORD}'")
    accounts = "host all postgres 127.0.0.1/32 trust\nhost all app 127.0.0.1/32 scram-sha-256\n"
    (server.data / "pg_hba.conf").write_text(accounts)
    server.ask("select pg_reload_conf()")
    url = server.url("orders", driver).replace("app@", "app:{}@")
    assert run(url.format(ENCODED))["verdict"] == "ok"
    read = run(url.format(f"{ENCODED}x"))
    (endpoint,) = read["endpoints"]
    assert (read["verdict"], endpoint["kind"]) == ("unreachable", "authentication failed")
    assert endpoint["reason"].endswith('password authentication failed for user "app"')


@pytest.mark.mariadb
@pytest.mark.parametrize("driver", ["pymysql", "asyncmy"])
def test_a_wrong_password_on_mariadb(configured: Run, fresh_database: Fresh, driver: str) -> None:
    """Neither one in the URL nor one in `connect` is shown; the server's own sentence is."""
    url = fresh_database("mariadb").url(driver)
    read = configured(
        f'[databases.a]\nurl = "{url.replace(":app@", ":" + ENCODED + "@")}"\n'
        f'[databases.b]\nurl = "{url.replace(":app@", "@")}"\nconnect.password = "{PASSWORD}"\n'
    )
    assert read["verdict"] == "unreachable"
    for endpoint in read["endpoints"]:
        assert endpoint["kind"] == "authentication failed"
        assert endpoint["reason"].startswith("Access denied for user 'app'@")
        assert endpoint["do"] == ["correct the user or the password, or let this account in from this host"]


@pytest.mark.parametrize(("target", "driver"), [("pg18", "psycopg"), ("mariadb", "pymysql")])
def test_no_such_database(run: Run, database: FreshDatabase, driver: str) -> None:
    """A server without this database is not reached for our purpose."""
    read = run(database.url(driver).replace(database.name, "no_such_database"))
    assert read["verdict"] == "unreachable"
    assert "no_such_database" in read["endpoints"][0]["reason"]


@pytest.mark.mariadb
def test_a_read_only_mariadb(configured: Run, private_server: Private) -> None:
    """As primary it is an error; as replica it is right, but for an account that may write all the same."""
    server, primary = cast("MariaDB", private_server("mariadb")), cast("MariaDB", private_server("mariadb"))
    for each in (server, primary):
        each.create_database("orders")
    server.ask("set global read_only = 1")
    server.ask("set global default_storage_engine = 'Aria'")
    server.ask("create user limited identified by 'l1mited' with max_user_connections 3")
    server.ask("grant all on orders.* to limited")
    server.ask("create user mighty identified by 'm1ghty'")
    server.ask("grant all on *.* to mighty")
    url = server.url("orders").replace("app:app@", "{}@")
    read = configured(
        f'[databases.a]\nurl = "{url.format("limited:l1mited")}"\n'
        f'[databases.b]\nurl = "{primary.url("orders")}"\nreplicas = ["{server.url("orders")}"]\n'
        f'[databases.c]\nurl = "{primary.url("orders")}"\nreplicas = ["{url.format("mighty:m1ghty")}"]\n'
    )
    found = {(finding["code"], *finding["endpoints"]) for finding in read["findings"]}
    assert {row for row in found if row[0] not in ("lost-updates", "no-timeouts", "backend-name")} == {
        ("primary-read-only", "a/primary"),
        ("pool-over-limit", "a/primary"),
        ("replica-privileged", "c/replica-1"),
        ("storage-engine", "a/primary", "b/replica-1", "c/replica-1"),
    }
    (privileged,) = (finding for finding in read["findings"] if finding["code"] == "replica-privileged")
    assert "READ ONLY ADMIN" in privileged["fact"]
