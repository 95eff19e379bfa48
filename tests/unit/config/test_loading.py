"""From a file to a topology."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import polysession.config
from polysession.config import from_mapping, load_toml
from polysession.errors import ConfigError, MissingExtra, PolysessionError
from polysession.topology import Topology

from .conftest import Install


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a test writes its configuration."""
    return tmp_path / "polysession.toml"


def test_the_documented_example_is_read(file: Path) -> None:
    """The example at the head of the package is a configuration that loads."""
    example = (polysession.config.__doc__ or "").split("The shape:\n")[1].split("\nReplicas are")[0]
    file.write_text("\n".join(line.strip() for line in example.splitlines()).replace("mysql://...", "mysql://db3/b"))
    topology = load_toml(file, environ={"ORDERS_PASSWORD": "pw"})
    orders, billing = topology.databases["orders"], topology.databases["billing"]
    assert (orders.writable().pool.size, orders.writable().pool.checkout_timeout, len(orders.replicas)) == (20, 5.0, 1)
    assert list(topology.databases["app"].tenants) == ["acme", "globex"]
    assert (billing.writable().pool.size, dict(orders.writable().connect)) == (10, {"application_name": "shop"})


def test_the_environment_is_that_of_the_process(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `environ`, variables come from the process, for a file as for a mapping."""
    monkeypatch.setenv("POLYSESSION_TEST_HOST", "db7")
    file.write_text('[databases]\norders = "postgresql://${POLYSESSION_TEST_HOST}/o"\n')
    mapping = {"databases": {"orders": "postgresql://${POLYSESSION_TEST_HOST}/o"}}
    for topology in (load_toml(file), load_toml(str(file)), from_mapping(mapping)):
        assert str(topology.databases["orders"].writable().address) == "postgresql://db7/o"


def test_a_byte_order_mark_and_crlf_are_no_faults(file: Path) -> None:
    """Files as editors on Windows write them are read."""
    file.write_bytes(b'\xef\xbb\xbf[databases]\r\norders = "sqlite://"\r\n')
    assert list(load_toml(file).databases) == ["orders"]


def test_an_error_names_the_file(file: Path) -> None:
    """The whole message, with the file before the key."""
    file.write_text('[databases.orders]\nurl = "sqlite://"\npool.size = "many"\n')
    with pytest.raises(ConfigError) as caught:
        load_toml(file)
    assert str(caught.value) == (
        f'[config] {file}: databases.orders.pool.size: expected a whole number of at least 1, found "many"\n'
        "  see: https://polysession.readthedocs.io/en/stable/errors/config"
    )
    assert caught.value.facts["source"] == str(file)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"databases = [", "text that is not TOML: Invalid value (at end of document)\n"),
        (b"[databases]\norders = sqlite", "text that is not TOML: Invalid value (at line 2, column 10)\n"),
        (
            b"[a]\nurl 'b'\n",
            "text that is not TOML: Expected '=' after a key in a key/value pair (at line 2, column 5)",
        ),
        (b"[a]\n[a]\n", "text that is not TOML (at line 2, column 3)\n"),
        (b"a = '\xff'", "bytes that are not UTF-8"),
        (b"a = " + b"[" * 100_000, "lists or tables nested too deeply"),
        (b"a = 1" + b"0" * 5000, "a number that is too long"),
        (None, "no such file or directory"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(file: Path, content: bytes | None, found: str) -> None:
    """What is no TOML file is a ConfigError that names the file and the place in it."""
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_toml(file)
    assert str(caught.value).startswith(f"[config] {file}: expected a TOML file that can be read, found {found}")
    assert caught.value.__context__ is None


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    """A folder in the place of the file is refused like a file that is not there."""
    with pytest.raises(ConfigError, match="found a directory\n  do:  name the file in it"):
        load_toml(tmp_path)


def test_errors_survive_pickling(file: Path, install: Install) -> None:
    """Text and facts are the same after a journey to another process, for both kinds of error."""
    file.write_text('[databases]\norders = "postgres://h/o"\nbilling = ""\n')
    with pytest.raises(ConfigError) as wrong:
        load_toml(file)
    install()
    file.write_text('[databases]\norders = "postgresql://h/o"\n')
    with pytest.raises(MissingExtra) as missing:
        load_toml(file)
    error: PolysessionError
    for error in (wrong.value, missing.value):
        copy = pickle.loads(pickle.dumps(error))  # noqa: S301  # what was pickled one call before
        assert (type(copy), str(copy), copy.facts) == (type(error), str(error), error.facts)


TOML = st.lists(
    st.sampled_from(
        ["[databases]", "[databases.a]", "[defaults.pool]", "\n", "\n", "url", "size", "b", " = ", "'sqlite://'", "5",
         "'${X}'", "[", "]", "{", "}", ",", '"""', "1979-05-27", "#", "\\", "\x00"]
    ),
    max_size=20,
).map("".join)  # fmt: skip


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=(TOML | st.text()).map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary())
def test_any_file_gives_a_topology_or_an_error(file: Path, content: bytes) -> None:
    """Whatever is in the file, nothing but the two documented errors comes out."""
    file.write_bytes(content)
    try:
        outcome: object = load_toml(file, environ={})
    except (ConfigError, MissingExtra) as error:
        outcome = error
    assert isinstance(outcome, Topology | ConfigError | MissingExtra)
