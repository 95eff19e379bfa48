"""What the strict parser takes, SQLAlchemy reads alike; what SQLAlchemy would misread, it refuses."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import URL, make_url

from polysession.config import Fault, Parts, split

GOOD = [
    ("postgresql://db1/orders", Parts(backend="postgresql", host="db1", database="orders")),
    ("postgresql://", Parts(backend="postgresql")),
    ("postgresql:///orders", Parts(backend="postgresql", database="orders")),
    (
        "postgresql+psycopg://app:s%40f%2Fe@db1:5433/orders?sslmode=require",
        Parts(
            backend="postgresql",
            driver="psycopg",
            user="app",
            host="db1",
            port=5433,
            database="orders",
            query_keys=("sslmode",),
        ),
    ),
    ("postgresql://app@[::1]:5432/o", Parts(backend="postgresql", user="app", host="::1", port=5432, database="o")),
    ("postgresql://a:b:c@h/o", Parts(backend="postgresql", user="a", host="h", database="o")),
    (
        "postgresql://app:x@/o?host=h1:5432&host=h2:5432",
        Parts(backend="postgresql", user="app", database="o", query_keys=("host",)),
    ),
    (
        "mysql+asyncmy://root@127.0.0.1/x",
        Parts(backend="mysql", driver="asyncmy", user="root", host="127.0.0.1", database="x"),
    ),
    ("sqlite://", Parts(backend="sqlite", in_memory=True)),
    ("sqlite:///:memory:", Parts(backend="sqlite", database=":memory:", in_memory=True)),
    ("sqlite:///shop.db", Parts(backend="sqlite", database="shop.db")),
    ("sqlite:////var/shop.db", Parts(backend="sqlite", database="/var/shop.db")),
    (
        "sqlite+aiosqlite:///a b@c.db?timeout=5",
        Parts(backend="sqlite", driver="aiosqlite", database="a b@c.db", query_keys=("timeout",)),
    ),
    (
        "sqlite:///file:shop?mode=memory&cache=shared&uri=true",
        Parts(backend="sqlite", database="file:shop", query_keys=("mode", "cache", "uri"), in_memory=True),
    ),
    ("sqlite:///file:a.db?mode=ro&uri=true", Parts(backend="sqlite", database="file:a.db", query_keys=("mode", "uri"))),
]

BAD = [
    ("", "a URL such as"),
    ("shop.db", "a URL such as"),
    ("app:hunter2@db1/orders", "a URL such as"),
    ("postgresql:/db1/orders", "a URL such as"),
    ("post gres://db1/orders", "a URL such as"),
    ("postgresql+a+b://db1/orders", "a URL such as"),
    ("postgresql://db1/orders\n", "without line breaks"),
    ("postgresql://db1/orders ", "without line breaks"),
    ("postgresql://db1/or%00ders", "without line breaks"),
    ("postgresql://app:50%off@db1/orders", "two hexadecimal digits"),
    ("postgresql://app:p@ss@db1/orders", "a single @"),
    ("postgresql://app:12/ss@db1/orders", "a single @"),
    ("postgresql://app:p/ss@db1/orders", "a single @"),
    ("postgresql://app:12?ss@db1/orders", "%40 in place of @"),
    ("postgresql://db1/orders?user=a@b", "%40 in place of @"),
    ("postgresql://app:secret", "a port from 1 to 65535"),
    ("postgresql://db1:/orders", "a port from 1 to 65535"),
    ("postgresql://db1:0/orders", "a port from 1 to 65535"),
    ("postgresql://db1:65536/orders", "a port from 1 to 65535"),
    ("postgresql://h1:5432,h2:5432/orders", "a port from 1 to 65535"),
    ("postgresql://::1/orders", "a port from 1 to 65535"),
    ("postgresql://[::1/orders", "a host name"),
    ("postgresql://db1/orders?sslmode", "key=value items"),
    ("postgresql://db1/orders?sslmode=", "key=value items"),
    ("postgresql://db1/orders?a=b&", "key=value items"),
    ("sqlite://shop.db", "no user, host or port"),
    ("sqlite://user:pw@/shop.db", "no user, host or port"),
    ("sqlite:///", "a path after the third slash"),
    ("sqlite:///file:a.db", "uri=true in the query"),
    ("sqlite:///a.db?mode=ro", "uri=true in the query"),
    ("sqlite:///a.db?uri=maybe", "a value of the right type for `uri`"),
    ("sqlite:///a.db?timeout=long", "a value of the right type for `timeout`"),
]


@pytest.mark.parametrize(("url", "parts"), GOOD)
def test_good_urls_are_taken_apart(url: str, parts: Parts) -> None:
    """A well-formed URL gives its parts, decoded, without the password."""
    assert split(url) == parts


@pytest.mark.parametrize(("url", "expected"), BAD)
def test_bad_urls_are_refused(url: str, expected: str) -> None:
    """A malformed URL is refused with what was expected, and nothing of the URL is repeated."""
    fault = split(url)
    assert isinstance(fault, Fault)
    assert expected in fault.expected
    assert "hunter2" not in repr(fault)


@pytest.mark.parametrize(
    ("url", "hint"),
    [("shop.db", "write sqlite:///"), ("polysession.toml", "from_toml"), ("sqlite://shop.db", "three slashes")],
)
def test_near_misses_are_answered(url: str, hint: str) -> None:
    """What is often written by mistake is answered with what was probably meant."""
    fault = split(url)
    assert isinstance(fault, Fault)
    assert hint in " ".join(fault.do)


PIECES = st.lists(
    st.sampled_from(
        [
            "postgresql",
            "sqlite",
            "+psycopg",
            "://",
            "/",
            "//",
            ":",
            "@",
            "?",
            "&",
            "=",
            "%40",
            "%",
            "[",
            "]",
            "::1",
            "db1",
            "app",
            "12",
            "5432",
            "a b",
            "é",
            ".",
            ",",
            "uri=true",
            "file:",
            ":memory:",
            "mode=memory",
            "#",
            "\n",
        ]
    ),
    max_size=14,
).map("".join)
SHAPED = st.builds("{}://{}".format, st.sampled_from(["postgresql", "mysql+pymysql", "sqlite"]), PIECES)


@settings(deadline=None)
@given(url=PIECES | SHAPED | SHAPED | st.text())
def test_what_is_taken_sqlalchemy_reads_alike(url: str) -> None:
    """Each accepted URL is one that SQLAlchemy parses, into the same parts."""
    parts = split(url)
    if isinstance(parts, Fault):
        return
    made = make_url(url)
    assert (made.get_backend_name(), made.username, made.host, made.port) == (
        parts.backend,
        parts.user,
        parts.host,
        parts.port,
    )
    assert made.drivername.partition("+")[2] == (parts.driver or "")
    assert (made.database or None) == (parts.database or None)
    assert set(made.query) == set(parts.query_keys)


@settings(deadline=None)
@given(
    user=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1),
    password=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1),
    database=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(
        lambda text: text == text.strip()
    ),
)
def test_what_sqlalchemy_writes_is_taken(user: str, password: str, database: str) -> None:
    """A URL that SQLAlchemy renders is accepted, whatever its password is, and the password is not in the parts."""
    url = URL.create("postgresql+psycopg", user, f"pw-{password}-pw", "db1", 5432, database)
    parts = split(url.render_as_string(hide_password=False))
    assert isinstance(parts, Parts)
    assert (parts.user, parts.host, parts.port, parts.database) == (user, "db1", 5432, database)
    assert f"pw-{password}-pw" not in repr(parts)
