"""From a mapping to a topology: what is taken, and the sentence for what is not."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import URL, create_engine

from polysession.config import from_databases, from_mapping
from polysession.config.values import POOL
from polysession.errors import ConfigError, MissingExtra, RequestRefused, UnknownTenant
from polysession.topology import Address, Pooler, PoolOptions, Role, Topology

from .conftest import Install

ENVIRON = {
    "PW": "s3cr3t",
    "MODE": "transaction",
    "SIZE": "7",
    "TIME": "250ms",
    "PLAIN": "3",
    "WORD": "w0rd",
    "URL": "postgresql://db1/x",
}


def read(mapping: Any) -> Topology:
    """The topology of a mapping under the environment of these tests."""
    return from_mapping(mapping, environ=ENVIRON)


def test_a_whole_configuration() -> None:
    """Every key of the documented shape arrives where it belongs."""
    topology = read(
        {
            "databases": {
                "orders": {
                    "url": "postgresql+psycopg://app:${PW}@db1/orders",
                    "replicas": ["postgresql://app:${PW}@db2/orders", "${URL}"],
                    "pooler": "transaction",
                    "pool": {"size": 20, "checkout_timeout": "5s", "max_lifetime": "30m"},
                    "connect": {"application_name": "shop-${WORD}", "options": {"list": ["${WORD}", 1]}, "on": True},
                },
                "billing": {"url": "mysql://db3/billing"},
                "notes": "sqlite:///notes.db",
            },
            "defaults": {"pool": {"size": "${SIZE}", "max_lifetime": 0}},
        }
    )
    assert list(topology.databases) == ["orders", "billing", "notes"]
    orders = topology.databases["orders"]
    assert [endpoint.name for endpoint in orders.endpoints] == [
        "orders/primary",
        "orders/replica-1",
        "orders/replica-2",
    ]
    assert [endpoint.role for endpoint in orders.endpoints] == [Role.PRIMARY, Role.REPLICA, Role.REPLICA]
    assert orders.writable().address == Address("postgresql+psycopg://app:s3cr3t@db1/orders")
    assert orders.replicas[1].address == Address("postgresql://db1/x")
    assert {endpoint.pool for endpoint in orders.endpoints} == {
        PoolOptions(size=20, checkout_timeout=5.0, max_lifetime=1800.0)
    }
    for endpoint in orders.endpoints:
        assert endpoint.pooler is Pooler.TRANSACTION
        assert endpoint.connect == {"application_name": "shop-w0rd", "options": {"list": ["w0rd", 1]}, "on": True}
    assert topology.databases["billing"].writable().pool == PoolOptions(size=7, max_lifetime=0.0)
    assert topology.databases["notes"].writable().address == Address("sqlite:///notes.db")
    assert "s3cr3t" not in repr(orders)


def test_every_field_of_a_pool_can_be_configured() -> None:
    """There is no field of `PoolOptions` that a configuration cannot set."""
    assert tuple(POOL) == PoolOptions.__struct_fields__


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (5, 5.0),
        (0.25, 0.25),
        ("250ms", 0.25),
        ("5s", 5.0),
        ("1.5 m", 90.0),
        ("2h", 7200.0),
        ("${TIME}", 0.25),
        ("${PLAIN}", 3.0),
        ("${PLAIN}m", 180.0),
        (timedelta(minutes=1), 60.0),
    ],
)
def test_times(given: object, seconds: float) -> None:
    """A time is seconds as a number, a text with its unit, or a timedelta; from the environment, a bare number too."""
    pool = (
        read({"databases": {"a": {"url": "sqlite://", "pool": {"checkout_timeout": given}}}})
        .databases["a"]
        .writable()
        .pool
    )
    assert pool.checkout_timeout == pytest.approx(seconds)


def table(**keys: object) -> dict[str, object]:
    """A configuration of the database "orders" with these keys beside its URL."""
    return {"databases": {"orders": {"url": "sqlite:///a.db", **keys}}}


BAD: list[tuple[object, str, str, str]] = [
    ({}, "databases", "at least one database", "none"),
    ({"databases": {}}, "databases", "at least one database", "none"),
    ({"databases": None}, "databases", "at least one database", "none"),
    ("sqlite://", "configuration", "a table", "text"),
    ({"databases": []}, "databases", "a table", "a list"),
    (
        {"databases": {"a": "sqlite://"}, "database": {}},
        "database",
        "one of the keys databases, defaults",
        "an unknown key",
    ),
    ({"databases": {"a": "sqlite://"}, "defaults": 1}, "defaults", "a table", "a whole number"),
    (
        {"databases": {"a": "sqlite://"}, "defaults": {"url": 1}},
        "defaults.url",
        "one of the keys pool",
        "an unknown key",
    ),
    ({"databases": {"a": "sqlite://"}, "defaults": {"pool": {"size": 0}}}, "defaults.pool.size", "at least 1", "0"),
    ({"databases": {"": "sqlite://"}}, 'databases.""', "a name of letters", "empty text"),
    ({"databases": {"1a": "sqlite://"}}, "databases.1a", "a name of letters", "1a"),
    ({"databases": {"a b": "sqlite://"}}, 'databases."a b"', "a name of letters", '"a b"'),
    ({"databases": {"u:p@h": "sqlite://"}}, "databases.***", "a name of letters", "***"),
    ({"databases": {1: "sqlite://"}}, "databases.<a whole number>", "a name of letters", "a whole number"),
    ({"databases": {"a.b": {}}}, 'databases."a.b".url', "a URL", "nothing"),
    ({"databases": {"orders": None}}, "databases.orders", "a URL", "nothing"),
    ({"databases": {"orders": {}}}, "databases.orders.url", "a URL", "nothing"),
    ({"databases": {"orders": 5432}}, "databases.orders", "a URL or an engine", "a whole number"),
    ({"databases": {"orders": {"url": ["x"]}}}, "databases.orders.url", "a URL or an engine", "a list"),
    ({"databases": {"orders": {"url": {}}}}, "databases.orders.url", "a URL or an engine", "a table"),
    ({"databases": {"orders": ""}}, "databases.orders", "a URL such as", "empty text"),
    ({"databases": {"orders": "orders"}}, "databases.orders", "a URL such as", 'text without "://"'),
    ({"databases": {"orders": "postgresql://a:b:c"}}, "databases.orders", "a port", '"postgresql://***"'),
    ({"databases": {"orders": "postgres://h/o"}}, "databases.orders", "a known backend", '"postgres://***"'),
    (
        {"databases": {"orders": "postgresql+psycopg2://h/o"}},
        "databases.orders",
        "(psycopg, asyncpg)",
        '"postgresql+psycopg2://***"',
    ),
    ({"databases": {"orders": "${WORD}"}}, "databases.orders", "a URL such as", "${WORD}"),
    ({"databases": {"orders": "${WORD}://h/o"}}, "databases.orders", "a known backend", '"${WORD}://***"'),
    ({"databases": {"orders": "x:${WORD}:${PW}"}}, "databases.orders", "a URL such as", "${WORD} and ${PW}"),
    (
        {"databases": {"orders": "postgresql://${GONE}@h/o"}},
        "databases.orders",
        "the environment variable GONE",
        "no such variable",
    ),
    (table(**{"databases.orders": 1}), 'databases.orders."databases.orders"', "one of the keys", "an unknown key"),
    ({"databases": {"a": {"url": "sqlite://", 5: 1}}}, "databases.a.<a whole number>", "one of", "an unknown key"),
    ({"databases": {"a": {"url": int}}}, "databases.a.url", "a URL or an engine", "an object of type type"),
    (
        table(pol={}),
        "databases.orders.pol",
        "one of the keys url, replicas, tenants, pooler, outcome, pool, connect",
        "an unknown key",
    ),
    (table(replicas="sqlite://"), "databases.orders.replicas", "a list of URLs", "text"),
    (table(replicas=[None]), "databases.orders.replicas[0]", "a URL or an engine", "nothing"),
    (table(replicas=["sqlite://", "b"]), "databases.orders.replicas[1]", "a URL such as", 'text without "://"'),
    (
        table(replicas=["mysql://h/o"]),
        "databases.orders.replicas[0]",
        "the same backend as the primary's, sqlite",
        "mysql",
    ),
    (table(pooler="transaction"), "databases.orders.pooler", '"none" for sqlite', '"transaction"'),
    (
        table(url="mariadb://h/o", pooler="${MODE}"),
        "databases.orders.pooler",
        '"none" for mysql: only poolers of postgresql are known',
        '"transaction"',
    ),
    (table(pooler="session"), "databases.orders.pooler", '"none" or "transaction"', '"session"'),
    (table(pooler="Transaction"), "databases.orders.pooler", '"none" or "transaction"', '"Transaction"'),
    (table(pooler=""), "databases.orders.pooler", '"none" or "transaction"', "empty text"),
    (table(pooler=True), "databases.orders.pooler", '"none" or "transaction"', "true"),
    (table(pooler={"mode": "transaction"}), "databases.orders.pooler", '"none" or "transaction"', "a table"),
    (table(pooler="${WORD}"), "databases.orders.pooler", '"none" or "transaction"', '"${WORD}"'),
    (table(pooler="${GONE}"), "databases.orders.pooler", "the environment variable GONE", "no such variable"),
    (table(pool=5), "databases.orders.pool", "a table", "a whole number"),
    (table(pool={"sizes": 5}), "databases.orders.pool.sizes", "one of the keys size,", "an unknown key"),
    (table(pool={"size": "many"}), "databases.orders.pool.size", "a whole number of at least 1", '"many"'),
    (table(pool={"size": "10"}), "databases.orders.pool.size", "a whole number of at least 1", '"10"'),
    (table(pool={"size": "${WORD}"}), "databases.orders.pool.size", "a whole number of at least 1", '"${WORD}"'),
    (table(pool={"size": "${PW}@x"}), "databases.orders.pool.size", "a whole number of at least 1", "text with ${PW}"),
    (
        table(pool={"size": "${GONE}"}),
        "databases.orders.pool.size",
        "the environment variable GONE",
        "no such variable",
    ),
    (table(pool={"size": 2.5}), "databases.orders.pool.size", "a whole number of at least 1", "2.5"),
    (table(pool={"size": True}), "databases.orders.pool.size", "a whole number of at least 1", "true"),
    (table(pool={"size": -(10**5000)}), "databases.orders.pool.size", "a whole number", "a whole number"),
    (table(pool={"size": "x@y"}), "databases.orders.pool.size", "a whole number", "text"),
    (table(pool={"checkout_timeout": "5"}), "databases.orders.pool.checkout_timeout", "seconds as a number", '"5"'),
    (table(pool={"checkout_timeout": 0}), "databases.orders.pool.checkout_timeout", "a time above 0", "0"),
    (table(pool={"checkout_timeout": "5 days"}), "databases.orders.pool.checkout_timeout", "seconds", '"5 days"'),
    (table(pool={"max_lifetime": -1}), "databases.orders.pool.max_lifetime", "seconds as a number", "-1"),
    (table(pool={"max_lifetime": float("nan")}), "databases.orders.pool.max_lifetime", "seconds", "nan"),
    (table(pool={"max_lifetime": 1e300}), "databases.orders.pool.max_lifetime", "seconds", "1e+300"),
    (table(pool={"max_lifetime": timedelta(-1)}), "databases.orders.pool.max_lifetime", "seconds", "-86400.0 s"),
    (table(pool={"reset": "often"}), "databases.orders.pool.reset", '"touched" or "always" or "never"', '"often"'),
    (table(pool={"overload": "drop"}), "databases.orders.pool.overload", '"shed" or "wait"', '"drop"'),
    (table(pool={"idle_warning": -1}), "databases.orders.pool.idle_warning", "seconds as a number", "-1"),
    (table(connect=[]), "databases.orders.connect", "a table", "a list"),
    (table(connect={1: 2}), "databases.orders.connect.<a whole number>", "text as the name", "a whole number"),
    (table(connect={"a": ["${GONE}"]}), "databases.orders.connect.a[0]", "variable GONE", "no such variable"),
]


BAD += [
    (
        {"databases": {"a": {"url": "sqlite://", "pool": {"size": 2, "floor": 3}}}},
        "databases.a.pool.floor",
        "at most the size of the pool, 2",
        "3",
    ),
    (
        {"defaults": {"pool": {"floor": 3}}, "databases": {"a": {"url": "sqlite://", "pool": {"size": 2}}}},
        "databases.a.pool.floor",
        "at most the size of the pool, 2",
        "3",
    ),
    *(
        (
            {"databases": {"a": {"url": "sqlite://", "connect": {key: value}}}},
            f"databases.a.connect.{key}",
            "polysession says it itself",
            found,
        )
        for key, value, found in (
            ("check_same_thread", True, "true"),
            ("isolation_level", "DEFERRED", "text"),
            ("factory", 5, "a whole number"),
            ("autocommit", True, "true"),
        )
    ),
]
"""What would be overridden, or could not be kept."""


def tenants(*, others: object = None, **given: object) -> dict[str, object]:
    """A configuration of the database "app" with these tenants, and other keys beside them."""
    return {"databases": {"app": {"tenants": {"acme": "sqlite:///acme.db", **given}, **(others or {})}}}  # type: ignore[dict-item]


_A_NAME = "a name of letters, digits, _, . and - that begins with a letter, a digit or _"
BAD += [
    ({"databases": {"app": {"tenants": {}}}}, "databases.app.tenants", "at least one tenant", "none"),
    ({"databases": {"app": {"tenants": ["sqlite://"]}}}, "databases.app.tenants", "a table", "a list"),
    ({"databases": {"app": {"tenants": "sqlite://"}}}, "databases.app.tenants", "a table", "text"),
    ({"databases": {"app": {"tenants": None}}}, "databases.app.url", "a URL", "nothing"),
    (tenants(others={"url": "sqlite:///a.db"}), "databases.app.url", "nothing beside `tenants`", "text"),
    (tenants(others={"replicas": ["sqlite:///a.db"]}), "databases.app.replicas", "nothing beside `tenants`", "a list"),
    (tenants(**{"": "sqlite://"}), 'databases.app.tenants.""', _A_NAME, "empty text"),
    (tenants(**{"a/b": "sqlite://"}), 'databases.app.tenants."a/b"', _A_NAME, '"a/b"'),
    (tenants(**{"-a": "sqlite://"}), "databases.app.tenants.-a", _A_NAME, "-a"),
    (tenants(**{".a": "sqlite://"}), 'databases.app.tenants.".a"', _A_NAME, '".a"'),
    (tenants(**{"a\n": "sqlite://"}), "databases.app.tenants.***", _A_NAME, "***"),
    (
        {"databases": {"app": {"tenants": {7: "sqlite:///a.db"}}}},
        "databases.app.tenants.<a whole number>",
        _A_NAME,
        "a whole number",
    ),
    (tenants(globex=None), "databases.app.tenants.globex", "a URL", "nothing"),
    (tenants(globex=7), "databases.app.tenants.globex", "a URL or an engine", "a whole number"),
    (tenants(globex={"url": "sqlite://"}), "databases.app.tenants.globex", "a URL or an engine", "a table"),
    (tenants(globex="globex"), "databases.app.tenants.globex", "a URL such as", 'text without "://"'),
    (tenants(globex="${GONE}"), "databases.app.tenants.globex", "variable GONE", "no such variable"),
    (
        tenants(globex="${URL}"),
        "databases.app.tenants.globex",
        "the same backend as that of the other tenants, sqlite",
        "postgresql",
    ),
    (
        tenants(globex="sqlite:///acme.db"),
        "databases.app.tenants.globex",
        "a database of its own",
        "that of databases.app.tenants.acme",
    ),
    (tenants(others={"pooler": "transaction"}), "databases.app.pooler", '"none" for sqlite', '"transaction"'),
    (
        tenants(others={"connect": {"isolation_level": "DEFERRED"}}),
        "databases.app.connect.isolation_level",
        "polysession says it itself",
        "text",
    ),
]
"""Tenants: a name for each, a database of its own for each, and nothing beside them that would be for nobody."""


def test_tenants() -> None:
    """Each has an endpoint with its own name and with the database's other keys; there is none that stands for all."""
    app = read(
        {
            "databases": {
                "app": {
                    "tenants": {
                        "acme": "postgresql://app:${PW}@db1/acme",
                        "42": "${URL}",
                        "_x.y-z": "postgresql://db2/z",
                    },
                    "pooler": "transaction",
                    "outcome": "exact",
                    "pool": {"size": 3},
                    "connect": {"application_name": "app"},
                }
            }
        }
    ).databases["app"]
    assert (app.primary, app.replicas) == (None, ())
    assert list(app.tenants) == ["acme", "42", "_x.y-z"]
    assert [endpoint.name for endpoint in app.endpoints] == ["app/tenant-acme", "app/tenant-42", "app/tenant-_x.y-z"]
    assert app.writable("acme").address == Address("postgresql://app:s3cr3t@db1/acme")
    assert app.writable("42").address == Address("postgresql://db1/x")
    for endpoint in app.endpoints:
        assert (endpoint.role, endpoint.pool.size, endpoint.pooler) == (Role.PRIMARY, 3, Pooler.TRANSACTION)
        assert endpoint.connect == {"application_name": "app"}
    assert "s3cr3t" not in repr(app)


@pytest.mark.parametrize("tenant", [None, "", "Acme", "acme ", "globex", "42.0", "app/tenant-acme"])
def test_no_endpoint_for_another_tenant(tenant: str | None) -> None:
    """None by default, none by a name that is nearly right: there is no endpoint to fall back to."""
    app = read(tenants(**{"42": "sqlite:///42.db"})).databases["app"]
    with pytest.raises(UnknownTenant) as caught:
        app.writable(tenant)
    assert caught.value.facts == {"database": "app", "tenant": tenant}
    assert "it has 2: 'acme', '42'" in str(caught.value)


def test_the_text_for_one_of_many() -> None:
    """A few names are shown, and of a name from outside no more than a line has room for."""
    many = {f"t{number}": f"sqlite:///t{number}.db" for number in range(1000)}
    app = read({"databases": {"app": {"tenants": many}}}).databases["app"]
    with pytest.raises(UnknownTenant) as caught:
        app.writable("x" * 5000)
    assert caught.value.why == "it has 1000: 't0', 't1', 't2', 't3', 't4', ..."
    assert len(str(caught.value)) < 600


def test_a_tenant_where_there_are_none() -> None:
    """It is refused, and not looked past."""
    with pytest.raises(RequestRefused, match="tenant='acme' was asked for, and 'orders' has no tenants") as caught:
        read(table()).databases["orders"].writable("acme")
    assert caught.value.facts == {"database": "orders", "attribute": "tenant"}


def test_tenants_in_memory() -> None:
    """In memory each has a database of its own, whatever the URL."""
    assert read(tenants(acme="sqlite://", globex="sqlite://")).databases["app"].tenants.keys() == {"acme", "globex"}


def test_engines_of_tenants() -> None:
    """An engine is taken; not the same one for two, and nothing that is for engines of our making if all are given."""
    first, second = create_engine("sqlite://"), create_engine("sqlite://")
    try:
        app = from_databases({"app": {"tenants": {"acme": first, "globex": second}}}).databases["app"]
        assert [endpoint.name for endpoint in app.endpoints] == ["app/tenant-acme", "app/tenant-globex"]
        assert app.writable("globex").engine is second
        with pytest.raises(ConfigError, match="globex: expected a database of its own, found that of"):
            from_databases({"app": {"tenants": {"acme": first, "globex": first}}})
        with pytest.raises(ConfigError, match="pool: expected nothing, because an engine brings its own"):
            from_databases({"app": {"tenants": {"acme": first}, "pool": {"size": 2}}})
    finally:
        first.dispose()
        second.dispose()


def test_what_is_said_anyway_may_be_said() -> None:
    """Many have learnt to write it for SQLite."""
    assert read({"databases": {"a": {"url": "sqlite://", "connect": {"check_same_thread": False}}}})


@pytest.mark.parametrize(("mapping", "path", "expected", "found"), BAD)
def test_what_cannot_be_honoured_is_refused(mapping: object, path: str, expected: str, found: str) -> None:
    """The error names the key, what was expected and what was found, as facts and in its text."""
    with pytest.raises(ConfigError) as caught:
        read(mapping)
    facts = caught.value.facts
    assert (facts["path"], facts["found"]) == (path, found)
    assert expected in facts["expected"]
    assert f"{path}: expected {facts['expected']}, found {found}" in str(caught.value)
    assert len(facts["problems"]) == 1


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("transaction", Pooler.TRANSACTION),
        (Pooler.TRANSACTION, Pooler.TRANSACTION),
        ("${MODE}", Pooler.TRANSACTION),
        ("${GONE:-transaction}", Pooler.TRANSACTION),
        ("${GONE:-none}", Pooler.NONE),
        ("none", Pooler.NONE),
        (None, Pooler.NONE),
    ],
)
def test_a_pooler(given: object, expected: Pooler) -> None:
    """It is a word, of the file or of the environment; none where nothing is said."""
    database = read(table(url="postgresql://h/o", pooler=given)).databases["orders"]
    assert database.writable().pooler is expected


def test_no_pooler_before_other_servers() -> None:
    """That there is none may be said of every kind of server."""
    assert read(table(pooler="none")).databases["orders"].writable().pooler is Pooler.NONE


def test_a_misspelt_pooler() -> None:
    """The word that was probably meant is told."""
    with pytest.raises(ConfigError) as caught:
        read(table(url="postgresql://h/o", pooler="transactions"))
    assert str(caught.value) == (
        '[config] databases.orders.pooler: expected "none" or "transaction", found "transactions"\n'
        '  do:  write "transaction"\n'
        "  see: https://polysession.readthedocs.io/en/stable/errors/config"
    )


def test_the_text_of_one_problem() -> None:
    """The whole message, for a key that is nearly a known one."""
    with pytest.raises(ConfigError) as caught:
        read(table(pool={"sise": 5}))
    assert str(caught.value) == (
        "[config] databases.orders.pool.sise: expected one of the keys size, floor, checkout_timeout, max_lifetime, "
        "ping_after, reset, overload, idle_warning, found an unknown key\n"
        '  do:  write "size"\n'
        "  see: https://polysession.readthedocs.io/en/stable/errors/config"
    )


def test_the_text_of_several_problems() -> None:
    """All problems are told at once, in the order of the file, each with its remedy."""
    with pytest.raises(ConfigError) as caught:
        read(
            {
                "databases": {
                    "orders": {"url": "postgres://app:pw@h/o", "pool": {"size": "many"}},
                    "billing": {"url": "mysql://app:${GONE}@h/b", "conect": {}},
                }
            }
        )
    assert str(caught.value) == (
        "[config] the configuration has 4 problems\n"
        '  why: databases.orders.pool.size: expected a whole number of at least 1, found "many"\n'
        "       databases.orders.url: expected a known backend (postgresql, mysql, mariadb, sqlite), "
        'found "postgres://***" -- write "postgresql://"\n'
        "       databases.billing.conect: expected one of the keys url, replicas, tenants, pooler, outcome, pool, "
        'connect, found an unknown key -- write "connect"\n'
        "       databases.billing.url: expected the environment variable GONE, found no such variable -- set GONE\n"
        "  see: https://polysession.readthedocs.io/en/stable/errors/config"
    )


def test_a_long_list_of_problems_is_cut() -> None:
    """The text shows twenty problems, the facts have them all."""
    with pytest.raises(ConfigError) as caught:
        read({"databases": {f"d{number}": "x" for number in range(50)}})
    assert "and 30 more" in str(caught.value)
    assert len(caught.value.facts["problems"]) == 50


def test_a_missing_driver_is_refused_before_the_door(install: Install) -> None:
    """A driver that no door could use because it is not installed is refused when the configuration is read."""
    install("pymysql", "sqlite3")
    assert read({"databases": {"a": "mysql://h/a", "b": "sqlite://"}})
    with pytest.raises(MissingExtra) as caught:
        read({"databases": {"a": "postgresql://h/a", "b": {"url": "mysql+asyncmy://h/a"}}})
    assert 'databases.a: expected the package "psycopg" for postgresql+psycopg' in str(caught.value)
    assert 'pip install "polysession[postgres]"' in str(caught.value)
    assert 'databases.b.url: expected the package "asyncmy"' in str(caught.value)
    with pytest.raises(ConfigError, match="2 problems"):
        read({"databases": {"a": "postgresql://h/a", "b": "x"}})


class TestShortForms:
    """What `Sessions(...)` takes."""

    def test_a_url(self) -> None:
        """A URL is the database "default", whatever dollar signs it has."""
        primary = from_databases("postgresql://app:${PW}@db1/orders").databases["default"].writable()
        assert primary.address == Address("postgresql://app:${PW}@db1/orders")

    def test_a_url_object(self) -> None:
        """SQLAlchemy's URL and an Address are taken with their passwords."""
        made = URL.create("postgresql+psycopg", "app", "p@ss/w", "db1", 5432, "orders")
        for given_url in (made, Address(made.render_as_string(hide_password=False))):
            address = from_databases({"orders": given_url}).databases["orders"].writable().address
            assert address is not None
            assert address.reveal() == "postgresql+psycopg://app:p%40ss%2Fw@db1:5432/orders"

    def test_engines(self) -> None:
        """An engine is kept as it is, alone, by name, in a table and as a replica."""
        engine, replica = create_engine("sqlite://"), create_engine("sqlite://")
        assert from_databases(engine).databases["default"].writable().engine is engine
        topology = from_databases({"a": engine, "b": {"url": engine, "replicas": [replica]}, "c": "sqlite://"})
        assert [name.writable().engine for name in topology.databases.values()] == [engine, engine, None]
        assert topology.databases["b"].replicas[0].engine is replica
        assert topology.databases["b"].writable().address is None

    def test_an_engine_brings_its_own_pool(self) -> None:
        """A pool or connect table that nothing would use is refused; beside a URL replica it has its use."""
        with pytest.raises(ConfigError, match=r"databases.a.pool: expected nothing, because an engine brings its own"):
            from_databases({"a": {"url": object(), "pool": {"size": 3}}})
        mixed = from_databases({"a": {"url": object(), "replicas": ["sqlite:///b.db"], "pool": {"size": 3}}})
        assert mixed.databases["a"].replicas[0].pool.size == 3

    def test_an_engine_brings_its_own_pooler(self) -> None:
        """What stands before its server is the business of whoever made it; beside it, a URL has it."""
        with pytest.raises(ConfigError, match=r"databases.a.pooler: expected nothing, because an engine.* found text"):
            from_databases({"a": {"url": object(), "pooler": "transaction"}})
        table = {"url": object(), "replicas": ["postgresql://h/b"], "pooler": "transaction"}
        mixed = from_databases({"a": table}).databases["a"]
        assert (mixed.writable().pooler, mixed.replicas[0].pooler) == (Pooler.NONE, Pooler.TRANSACTION)

    @pytest.mark.parametrize(
        ("given", "path", "text"),
        [
            (None, "databases.default", "found nothing"),
            ({}, "databases", "at least one database"),
            (b"sqlite://", "databases.default", "an object of type bytes"),
            (["sqlite://"], "databases.default", "found a list"),
            (Path("polysession.toml"), "databases.default", "from_toml"),
            ("polysession.toml", "databases.default", "from_toml"),
            ("shop.db", "databases.default", "write sqlite:/// before the path"),
            ({"databases": {"orders": "sqlite://"}}, "databases.databases.orders", "from_mapping"),
            ({"orders": "sqlite://", "2": "sqlite://"}, "databases.2", "a name of letters"),
        ],
    )
    def test_what_is_neither(self, given: object, path: str, text: str) -> None:
        """What is surely no database is refused, and what was probably meant is said."""
        with pytest.raises(ConfigError) as caught:
            from_databases(given)
        assert caught.value.facts["path"] == path
        assert text in str(caught.value)


def test_the_dump_of_a_pydantic_model() -> None:
    """Settings of pydantic can be passed on: URLs, secrets, timedelta and None as pydantic dumps them."""
    pydantic = pytest.importorskip("pydantic")

    class Pool(pydantic.BaseModel):  # type: ignore[misc, name-defined]  # the base is imported only if it is there
        size: int | None = None
        checkout_timeout: timedelta = timedelta(seconds=3)

    class Database(pydantic.BaseModel):  # type: ignore[misc, name-defined]  # as above
        url: pydantic.PostgresDsn | None = None  # type: ignore[name-defined]  # as above
        hidden: pydantic.SecretStr | None = None  # type: ignore[name-defined]  # as above
        replicas: list[str] | None = None
        pool: Pool = Pool()
        connect: dict[str, pydantic.SecretStr] = {}  # type: ignore[name-defined]  # noqa: RUF012  # pydantic copies it

    class Settings(pydantic.BaseModel):  # type: ignore[misc, name-defined]  # as above
        databases: dict[str, Database]

    settings = Settings.model_validate(
        {
            "databases": {
                "a": {"url": "postgresql://app:p%40ss@db1/a", "connect": {"password": "s3cr3t"}},
                "b": {"hidden": "mysql://app:${PW}@db1/b"},
            }
        }
    )
    dumped = settings.model_dump()
    dumped["databases"]["b"]["url"] = dumped["databases"]["b"].pop("hidden")
    del dumped["databases"]["a"]["hidden"]
    databases = read(dumped).databases
    assert databases["a"].writable().address == Address("postgresql://app:p%40ss@db1/a")
    assert databases["a"].writable().connect == {"password": "s3cr3t"}
    assert databases["a"].writable().pool == PoolOptions(checkout_timeout=3.0)
    assert databases["b"].writable().address == Address("mysql://app:${PW}@db1/b")


def test_a_mapping_that_holds_itself_ends() -> None:
    """A table without end is refused, not followed for ever."""
    endless: dict[str, object] = {}
    endless["again"] = endless
    with pytest.raises(ConfigError, match="at most 32 levels"):
        read(table(connect=endless))


KEYS = st.sampled_from(
    ["databases", "defaults", "orders", "url", "replicas", "pool", "connect", "size", "max_lifetime"]
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=5)
    | st.timedeltas()
    | st.dates()
    | st.sampled_from(["sqlite://", "postgresql://app:pw@h/o", "${PW}", "${", "5s", object(), int])
)
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(KEYS | st.text(max_size=8) | st.integers() | st.none(), inner, max_size=4)
    ),
    max_leaves=20,
)
TABLES = st.dictionaries(KEYS, TREES, max_size=5)
SHAPED = st.fixed_dictionaries(
    {"databases": st.dictionaries(KEYS, TREES | TABLES, max_size=3)}, optional={"defaults": TABLES}
)


@settings(deadline=None)
@given(mapping=SHAPED | TREES)
def test_any_mapping_gives_a_topology_or_an_error(mapping: Any) -> None:
    """Whatever is given, there is a topology, or one of two errors with at least one problem; both ways in."""
    for way_in in (read, from_databases):
        outcome: Topology | ConfigError | MissingExtra
        try:
            outcome = way_in(mapping)
        except (ConfigError, MissingExtra) as error:
            outcome = error
        if not isinstance(outcome, Topology):
            assert outcome.facts["problems"]
            assert str(outcome)
            continue
        assert outcome.databases
        for database in outcome.databases.values():
            for endpoint in database.endpoints:
                assert (endpoint.address is None) != (endpoint.engine is None)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"pool_size": 5}, "write `size` in the table `pool`"),
        ({"max_overflow": 5}, "write `size` in the table `pool`"),
        ({"pool_recycle": 5}, "write `max_lifetime` in the table `pool`"),
        ({"connect_args": {}}, "write them in the table `connect`"),
        ({"pool": {"recycle": 5}}, 'write "max_lifetime"'),
        ({"pool": {"timeout": 5}}, 'write "checkout_timeout"'),
    ],
)
def test_the_words_of_sqlalchemy_are_known(keys: dict[str, object], words: str) -> None:
    """Who writes what `create_engine` takes is told what it is called here."""
    with pytest.raises(ConfigError) as caught:
        from_mapping(table(**keys))
    assert words in str(caught.value)


def test_an_empty_variable_is_called_empty() -> None:
    """A variable that is set to nothing is told from one that was not looked up."""
    with pytest.raises(ConfigError, match=r"found \$\{URL\}, which is empty"):
        from_mapping({"databases": {"orders": "${URL}"}}, environ={"URL": ""})
