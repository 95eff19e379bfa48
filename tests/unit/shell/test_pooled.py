"""Behind a pooler, without one: what drivers are given, what is refused, and the report of a refused parameter."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from polysession._shell import pooled
from polysession._shell.upkeep import Upkeep
from polysession.errors import ConfigError, RequestRefused
from polysession.options import Access, UnitOptions
from polysession.topology import Address, Arguments, Endpoint, Pooler, Role

PRIMARY = Endpoint(database="orders", address=Address("postgresql://app:s3cret@db1/orders"), pooler=Pooler.TRANSACTION)
REPLICA = Endpoint(database="a.b", role=Role.REPLICA, address=Address("postgresql://db2/orders"))


def test_without_a_pooler_nothing_changes() -> None:
    """The drivers are given nothing, and a unit without a transaction may have a deadline."""
    assert pooled.arguments(REPLICA, "psycopg") == {}
    assert pooled.arguments(REPLICA, "asyncpg") == {}
    pooled.check_plain(REPLICA, "asyncpg", UnitOptions(databases=("a.b",), deadline=1.0), "unit")


def test_no_statement_has_a_name() -> None:
    """Neither driver prepares a statement that outlives its use, and none of SQLAlchemy's does either."""
    assert pooled.arguments(PRIMARY, "psycopg") == {"prepare_threshold": None}
    given = dict(pooled.arguments(PRIMARY, "asyncpg"))
    assert given.pop("prepared_statement_name_func")() == ""
    assert given == {"statement_cache_size": 0, "prepared_statement_cache_size": 0}


TEXTS = [
    ("unsupported startup parameter: options", "options"),  # 1.18, psycopg
    ("FATAL:  unsupported startup parameter: default_transaction_read_only\n", "default_transaction_read_only"),
    ("unsupported startup parameter in options: default_transaction_read_only", "default_transaction_read_only"),
    ("unsupported options startup parameter: only '-c config=val' is allowed", "options"),
]


@pytest.mark.parametrize(("text", "parameter"), TEXTS)
def test_a_refused_parameter_of_ours(text: str, parameter: str) -> None:
    """The report names the key that says what stands before the server."""
    report = pooled.refused_at_connect(OSError(f"connection failed: {text}"), REPLICA, asked_read_only=True)
    assert isinstance(report, ConfigError)
    assert report.facts["path"] == 'databases."a.b".pooler'
    assert report.do[0] == 'set pooler = "transaction" in [databases."a.b"], beside its url'
    assert "a.b/replica-1" in report.what
    assert "unsupported" in report.what


@pytest.mark.parametrize(("text", "parameter"), TEXTS)
def test_a_refused_parameter_of_the_configuration(text: str, parameter: str) -> None:
    """The report names the table from which it came, not a value in it."""
    given = Arguments({"options": "-c app.key=s3cret"})
    endpoint = Endpoint(database="orders", connect=given, pooler=Pooler.TRANSACTION)
    report = pooled.refused_at_connect(OSError(text), endpoint, asked_read_only=False)
    assert isinstance(report, ConfigError)
    assert report.facts["path"] == "databases.orders.connect"
    assert report.do[0] == f"take {parameter} out of [databases.orders.connect] and of the url"
    assert "s3cret" not in str(report)


@pytest.mark.parametrize("text", ["Connection refused", "password authentication failed", "startup parameter", ""])
def test_other_errors_at_connect(text: str) -> None:
    """They stay what they are."""
    assert pooled.refused_at_connect(OSError(text), PRIMARY, asked_read_only=True) is None


def plain(access: Access = Access.WRITE, deadline: float | None = None) -> UnitOptions:
    """What a unit that will have no transaction asks for."""
    return UnitOptions(databases=("orders",), access=access, deadline=deadline)


def test_units_without_a_transaction() -> None:
    """psycopg may, without a deadline; asyncpg may not; a read unit is not asked, because it gets one."""
    pooled.check_plain(PRIMARY, "psycopg", plain(), "unit")
    pooled.check_plain(PRIMARY, "asyncpg", plain(Access.READ, 1.0), "unit")
    with pytest.raises(RequestRefused, match="unit 'unit' cannot have a deadline") as caught:
        pooled.check_plain(PRIMARY, "psycopg", plain(deadline=1.0), "unit")
    assert caught.value.facts["attribute"] == "deadline"
    with pytest.raises(RequestRefused, match="AUTOCOMMIT cannot be had by asyncpg"):
        pooled.check_plain(PRIMARY, "asyncpg", plain(), "unit")


class Connection:
    """Keeps what a dialect sets on a connection."""

    read_only: bool | None = None
    autocommit = False
    isolation_level: Any = None


@pytest.mark.parametrize("kind", list(Access), ids=str)
def test_a_read_engine_stays_read_only(kind: Access) -> None:
    """Its connections refuse AUTOCOMMIT, and what SQLAlchemy resets when they come back does not reset READ ONLY."""
    engine = sa.create_engine("postgresql+psycopg://db1/orders", poolclass=NullPool)
    pooled.prepare(engine, kind, Upkeep())
    reads = kind is Access.READ
    assert pooled.reads_in_transaction(engine) is reads
    connection: Any = Connection()
    dialect: Any = engine.dialect
    dialect.set_isolation_level(connection, "SERIALIZABLE")
    assert connection.isolation_level.name == "SERIALIZABLE"
    dialect.set_readonly(connection, False)
    assert connection.read_only is reads
    if reads:
        with pytest.raises(RequestRefused, match="AUTOCOMMIT cannot be had in a read unit"):
            dialect.set_isolation_level(connection, "AUTOCOMMIT")
        assert connection.autocommit is False
    else:
        dialect.set_isolation_level(connection, "AUTOCOMMIT")
        assert connection.autocommit is True
