"""Passwords: in no text of an error, in no repr, in no local variable of a traceback."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, FunctionType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polysession.config import from_databases, from_mapping, load_toml
from polysession.errors import ConfigError, MissingExtra

from .conftest import Install

PASSWORD = "hunter2:p4ss"  # with a character that no key or plain word has  # noqa: S105
ENCODED = "hunter2%3Ap4ss"
SECRETS = (PASSWORD, ENCODED, "hunter2", "p4ss")


def frames(error: BaseException | None) -> Iterator[FrameType]:
    """Every frame of the traceback of `error` and of what it came from, but those of this file."""
    while error is not None:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if frame.f_code.co_filename != __file__:
                yield frame
        yield from frames(error.__cause__)
        error = error.__context__


def assert_hidden(error: BaseException) -> None:
    """Nothing that a log, a tracker or a debugger's summary shows of `error` has a part of the password."""
    shown = [str(error), repr(error), repr(error.args), repr(getattr(error, "facts", "")), repr(pickle.dumps(error))]
    walked = list(frames(error))
    assert walked, "the traceback has frames of the package"
    for frame in walked:
        shown += (f"{frame.f_code.co_qualname}: {name} = {value!r}" for name, value in frame.f_locals.items())
    for secret in SECRETS:
        assert not [text for text in shown if secret in text]


def refused(way_in: Callable[[], object]) -> BaseException:
    """The error that `way_in` raises."""
    with pytest.raises((ConfigError, MissingExtra)) as caught:
        way_in()
    return caught.value


URLS = [
    f"postgres://app:{PASSWORD}@db1/orders",
    f"postgresql+psycopg2://app:{PASSWORD}@db1/orders",
    f"postgresql://app:{PASSWORD}/x@db1/orders",
    f"postgresql://app:{PASSWORD}@x@db1/orders",
    f"postgresql://app:{PASSWORD}%zz@db1/orders",
    f"postgresql://app:{PASSWORD}\n@db1/orders",
    f"postgresql://app:{PASSWORD}",
    f"postgresql://{PASSWORD}/orders",
    f"postgresql://db1/orders?password={PASSWORD}&x",
    f"postgresql:app:{PASSWORD}@db1/orders",
    f"{PASSWORD}",
    f"{PASSWORD}://db1/orders",
    f"sqlite://app:{PASSWORD}@/orders",
    f"sqlite:///{PASSWORD}.db?key={PASSWORD}",
    f"sqlite:///a.db?timeout={PASSWORD}",
]


@pytest.mark.parametrize("url", URLS)
def test_a_wrong_url_hides_its_password(url: str, tmp_path: Path) -> None:
    """A URL that is refused is shown by its scheme at most, through every way in, written or from the environment."""
    file = tmp_path / "polysession.toml"
    literal = url.replace("\n", "\\n")
    file.write_text(f'[databases.orders]\nurl = "{literal}"\nreplicas = ["{literal}"]\n')
    assert_hidden(refused(lambda: load_toml(file, environ={})))
    file.write_text('[databases]\norders = "${URL}"\n')
    assert_hidden(refused(lambda: load_toml(file, environ={"URL": url})))
    assert_hidden(refused(lambda: from_mapping({"databases": {"orders": {"url": url}}}, environ={})))
    assert_hidden(refused(lambda: from_databases(url)))
    assert_hidden(refused(lambda: from_databases({"orders": {"url": "sqlite://", "replicas": [url]}})))
    assert_hidden(refused(lambda: from_databases({url: url})))


GOOD = f"postgresql://app:{ENCODED}@db1/orders"
WRONG: list[dict[str, Any]] = [
    {"databases": {"orders": {"url": GOOD, "pool": {"size": 0}}}},
    {"databases": {"orders": {"url": GOOD, "pool": GOOD}}},
    {"databases": {"orders": {"url": GOOD, "replicas": GOOD}}},
    {"databases": {"orders": {"url": GOOD, "replicas": [GOOD, "${GONE}"]}}},
    {"databases": {"orders": {"url": GOOD, "conect": {"password": PASSWORD}}}},
    {"databases": {"orders": {"url": GOOD, "connect": {"password": PASSWORD, "a": "${GONE}"}}}},
    {"databases": {"orders": {"url": GOOD, "connect": PASSWORD}}},
    {"databases": {"orders": {"url": [GOOD]}}},
    {"databases": {"orders": {"url": "${PW}"}}},
    {"databases": {"orders": {"url": "${PW}${GONE:-" + PASSWORD + "}"}}},
    {"databases": {"orders": GOOD, "billing": "postgresql://app:${PW}:${PW}@h:${PW}/${PW}"}},
    {"databases": {"orders": {"url": GOOD, "pool": {"size": "${PW}", "max_lifetime": "${PW} s"}}}},
    {"databases": {"orders": {"url": GOOD, "pool": {"size": PASSWORD}}}},
    {"databases": {"orders": GOOD}, GOOD: GOOD},
    {"databases": [GOOD], "defaults": GOOD},
]


@pytest.mark.parametrize("mapping", WRONG)
def test_a_wrong_key_beside_a_password_hides_it(mapping: dict[str, Any]) -> None:
    """An error about another key shows nothing of the URLs, arguments and variables around it."""
    environ = {"PW": PASSWORD}
    assert_hidden(refused(lambda: from_mapping(mapping, environ=environ)))


def test_a_missing_package_hides_the_password(install: Install) -> None:
    """The error about a driver that is not installed shows nothing of the URL that needs it."""
    install()
    assert_hidden(refused(lambda: from_databases(GOOD)))
    assert_hidden(refused(lambda: from_databases({"a": GOOD, "b": {"url": GOOD, "replicas": [GOOD]}})))


@pytest.mark.parametrize(
    "content",
    [
        f'[databases]\norders = "{GOOD}"\norders = "{GOOD}"\n',
        f"[databases]\norders = {GOOD}\n",
        f"[databases]\norders = '{GOOD}\n",
        f"[databases]\n{GOOD}\n",
        f"'{PASSWORD}' = 1\n'{PASSWORD}' = 1\n",
        f"a = {{'{PASSWORD}' = 1, '{PASSWORD}' = 1}}\n",
        f"['{PASSWORD}']\n['{PASSWORD}']\n",
        f"a = '{PASSWORD}'\nb = 1{'0' * 5000}",
        f"a = '{PASSWORD}'\nb = {'[' * 10_000}",
    ],
)
def test_a_broken_file_hides_its_passwords(content: str, tmp_path: Path) -> None:
    """A file that is no TOML is refused by line and column, and the reader's frames, with the text, are gone."""
    file = tmp_path / "polysession.toml"
    file.write_text(content)
    assert_hidden(refused(lambda: load_toml(file, environ={"PW": PASSWORD})))
    file.write_bytes(content.encode() + b"\xff")
    assert_hidden(refused(lambda: load_toml(file)))


TEXTS = st.lists(
    st.sampled_from(
        ["postgresql", "sqlite", "+psycopg", "://", "/", ":", "@", "?", "&", "=", "password=", "app", "db1", "5432",
         "${PW}", "${GONE:-", "}", "%", " ", "\n", "[", "]", PASSWORD, ENCODED]
    ),
    max_size=8,
).map("".join)  # fmt: skip
KEYS = st.sampled_from(["url", "replicas", "pool", "connect", "orders", "pasword", PASSWORD, GOOD])
VALUES = st.recursive(
    TEXTS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=6
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(databases=st.dictionaries(KEYS, VALUES, max_size=3), top=st.dictionaries(KEYS, VALUES, max_size=1))
def test_wherever_a_password_is_put_it_does_not_leak(databases: dict[str, Any], top: dict[str, Any]) -> None:
    """Passwords in any place, raw, encoded or from the environment: neither the error nor the topology shows them."""
    environ = {"PW": PASSWORD}
    ways: list[Callable[[], object]] = [
        lambda: from_mapping({"databases": databases, **top}, environ=environ),
        lambda: from_databases(databases),
        lambda: from_databases(GOOD + str(top)),
    ]
    for way_in in ways:
        try:
            topology = way_in()
        except (ConfigError, MissingExtra) as error:
            assert_hidden(error)
        else:
            assert repr(topology)


def test_the_walk_sees_a_leak() -> None:
    """The check itself is sound: a frame that keeps a password in a variable is found."""

    def careless(url: str) -> None:
        raise ConfigError("refused", path=url[:0])

    code = careless.__code__.replace(co_filename="elsewhere.py")
    leaking = FunctionType(code, globals())
    with pytest.raises(ConfigError) as caught:
        leaking(GOOD)
    with pytest.raises(AssertionError):
        assert_hidden(caught.value)
