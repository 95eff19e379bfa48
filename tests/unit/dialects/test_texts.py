"""What the dialects say they can do, and the SQL they are asked with."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polysession.dialects import of
from polysession.dialects.base import Dialect, StatementTimeout
from polysession.dialects.marker import TABLE_NAME
from polysession.dialects.mysql import MARIADB, MYSQL, MYSQL_GALERA
from polysession.dialects.numbers import milliseconds, whole_seconds
from polysession.errors import RequestRefused
from polysession.options import Access, Isolation

NAMES = ["postgresql", "mysql", "mariadb", "sqlite"]
READ, WRITE = Access.READ, Access.WRITE
UNCOMMITTED, COMMITTED, REPEATABLE, SERIALIZABLE = Isolation

BEGIN: list[tuple[str, Access, Isolation | None, bool, tuple[str, ...]]] = [
    ("postgresql", WRITE, None, False, ("BEGIN",)),
    ("postgresql", READ, None, False, ("BEGIN READ ONLY",)),
    ("postgresql", WRITE, SERIALIZABLE, False, ("BEGIN ISOLATION LEVEL SERIALIZABLE",)),
    ("postgresql", WRITE, UNCOMMITTED, False, ("BEGIN ISOLATION LEVEL READ COMMITTED",)),
    ("postgresql", READ, None, True, ("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",)),
    ("postgresql", READ, SERIALIZABLE, True, ("BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY",)),
    ("postgresql", WRITE, REPEATABLE, True, ("BEGIN ISOLATION LEVEL REPEATABLE READ",)),
    ("mysql", WRITE, None, False, ("START TRANSACTION",)),
    ("mariadb", READ, None, False, ("START TRANSACTION READ ONLY",)),
    (
        "mariadb", READ, COMMITTED, False,
        ("SET TRANSACTION ISOLATION LEVEL READ COMMITTED", "START TRANSACTION READ ONLY"),
    ),
    (
        "mariadb", READ, None, True,
        (
            "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
            "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
        ),
    ),
    (
        "mysql", READ, SERIALIZABLE, True,
        ("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "START TRANSACTION READ ONLY"),
    ),
    ("sqlite", WRITE, None, False, ("BEGIN IMMEDIATE",)),
    ("sqlite", READ, None, False, ("BEGIN",)),
    ("sqlite", READ, COMMITTED, True, ("BEGIN",)),
]  # fmt: skip


@pytest.mark.parametrize(("backend", "access", "isolation", "snapshot", "texts"), BEGIN)
def test_begin(
    backend: str, access: Access, isolation: Isolation | None, snapshot: bool, texts: tuple[str, ...]
) -> None:
    """A transaction begins with exactly the attributes that were asked for."""
    assert of(backend).begin(access=access, isolation=isolation, snapshot=snapshot) == texts


@pytest.mark.parametrize("backend", ["postgresql", "mysql", "mariadb"])
@pytest.mark.parametrize("isolation", [UNCOMMITTED, COMMITTED])
def test_a_snapshot_that_the_level_cannot_give(backend: str, isolation: Isolation) -> None:
    """A snapshot over all statements at a level without one is refused with a sentence, never dropped."""
    with pytest.raises(RequestRefused, match="cannot be had") as caught:
        of(backend).begin(access=READ, isolation=isolation, snapshot=True)
    assert caught.value.do


@pytest.mark.parametrize("backend", NAMES)
def test_levels_are_never_weaker(backend: str) -> None:
    """Every level can be asked for, and what is given is at least as strict."""
    order = list(Isolation)
    capabilities = of(backend).capabilities
    assert set(capabilities.isolation) == set(Isolation)
    for asked, given_level in capabilities.isolation.items():
        assert order.index(given_level) >= order.index(asked)
    assert capabilities.default_isolation in capabilities.isolation.values()


@pytest.mark.parametrize("backend", NAMES)
def test_capabilities_cannot_be_changed(backend: str) -> None:
    """What a dialect can do is one value for the whole process."""
    capabilities: Any = of(backend).capabilities
    with pytest.raises(AttributeError):
        capabilities.two_phase = False
    with pytest.raises(TypeError):
        capabilities.isolation[SERIALIZABLE] = COMMITTED


@pytest.mark.parametrize(
    ("backend", "repeatable", "two_phase", "writers", "timeout"),
    [
        ("postgresql", REPEATABLE, True, True, StatementTimeout.TRANSACTION),
        ("mysql", None, True, True, StatementTimeout.SESSION_READS),
        ("mariadb", None, True, True, StatementTimeout.SESSION),
        ("sqlite", SERIALIZABLE, False, False, StatementTimeout.CLIENT),
    ],
)
def test_capabilities(
    backend: str,
    repeatable: Isolation | None,
    two_phase: bool,
    writers: bool,
    timeout: StatementTimeout,
) -> None:
    """The capabilities of each server, as its documentation has them."""
    can = of(backend).capabilities
    assert (can.repeatable_isolation, can.two_phase) == (repeatable, two_phase)
    assert (can.concurrent_writers, can.statement_timeout) == (writers, timeout)
    assert can.errors_abort is (backend == "postgresql")


@pytest.mark.parametrize(
    ("backend", "seconds", "apply"),
    [
        ("postgresql", 1.5, "SET LOCAL statement_timeout = 1500"),
        ("postgresql", 0.0001, "SET LOCAL statement_timeout = 1"),
        ("mysql", 1.5, "SET SESSION max_execution_time = 1500"),
        ("mariadb", 1.5, "SET SESSION max_statement_time = 1.500000"),
        ("mariadb", 1e-9, "SET SESSION max_statement_time = 0.000001"),
        ("mariadb", 1e12, "SET SESSION max_statement_time = 31536000.000000"),
    ],
)
def test_statement_timeout(backend: str, seconds: float, apply: str) -> None:
    """A limit for statements is rounded up, and can never turn into "no limit"."""
    setting = of(backend).statement_timeout(seconds)
    assert setting is not None
    assert setting.apply == apply
    assert bool(setting.undo) is (of(backend).capabilities.statement_timeout is not StatementTimeout.TRANSACTION)


def test_sqlite_has_no_text_for_a_statement_timeout() -> None:
    """SQLite runs in this process: no text can set a limit."""
    assert of("sqlite").statement_timeout(1.0) is None


@pytest.mark.parametrize(
    ("backend", "apply"),
    [
        ("postgresql", "SET LOCAL lock_timeout = 1200"),
        ("mysql", "SET SESSION innodb_lock_wait_timeout = 2"),
        ("mariadb", "SET SESSION innodb_lock_wait_timeout = 2"),
        ("sqlite", "PRAGMA busy_timeout = 1200"),
    ],
)
def test_lock_timeout(backend: str, apply: str) -> None:
    """A limit for waiting is rounded up to what the server can measure."""
    assert of(backend).lock_timeout(1.2).apply == apply


@pytest.mark.parametrize("seconds", [0, -1, math.inf, math.nan])
@pytest.mark.parametrize("backend", NAMES)
def test_limits_that_are_no_times(backend: str, seconds: float) -> None:
    """A limit that is not a positive, finite time is refused: most servers would take it for "no limit"."""
    with pytest.raises(ValueError, match="positive and finite"):
        of(backend).statement_timeout(seconds)
    with pytest.raises(ValueError, match="positive and finite"):
        of(backend).lock_timeout(seconds)


@given(st.floats(min_value=5e-324, max_value=1e300))
def test_rounding_never_shortens(seconds: float) -> None:
    """Rounded limits are at least 1, at least what was asked for, and at most what the servers take."""
    for limit, most in ((milliseconds(seconds) / 1000, (2**31 - 1) / 1000), (whole_seconds(seconds, 100), 100)):
        assert 0 < limit <= most
        assert limit >= min(seconds, most)


@pytest.mark.parametrize("backend", NAMES)
def test_read_only_can_be_undone(backend: str) -> None:
    """What makes a session read-only comes with what makes it writable again."""
    setting = of(backend).read_only()
    assert setting.apply
    assert setting.undo


@pytest.mark.parametrize(
    ("version", "known"),
    [
        ((10, 6, 17), False), ((10, 6, 18), True), ((10, 11, 7), False), ((10, 11, 19), True), ((11, 0, 5), False),
        ((11, 3, 9), False), ((11, 4, 2), True), ((11, 4), False), ((11, 5, 1), True), ((12, 0), True), ((), False),
    ],
)  # fmt: skip
def test_lost_update_guard_of_mariadb(version: tuple[int, ...], known: bool) -> None:
    """MariaDB is told to report lost updates only where it knows the setting."""
    assert (MARIADB.lost_update_guard(version) is not None) is known


@pytest.mark.parametrize("backend", ["postgresql", "mysql", "sqlite"])
def test_no_guard_elsewhere(backend: str) -> None:
    """The others need no setting against lost updates, or have none."""
    assert of(backend).lost_update_guard((99, 0, 0)) is None


UNIT = "0193d2a4-7c00-7abc-8def-0123456789ab"


@pytest.mark.parametrize("backend", NAMES)
def test_marker(backend: str) -> None:
    """The marker's statements speak of one table, have the id in them, and take nothing but an id."""
    marker = of(backend).marker
    texts = [marker.write(UNIT), marker.fence(UNIT), marker.claim(UNIT, UNIT), marker.read(UNIT), marker.record(UNIT)]
    for text in (*texts, marker.forget(UNIT, 60.0, 100), marker.create, marker.exists):
        assert TABLE_NAME in text
    assert all(UNIT in text for text in texts)
    assert "%" not in "".join((*texts, marker.server, marker.blocker, marker.evict))  # drivers take it for a parameter
    assert "PRIMARY KEY" in marker.create
    for unsafe in ("x", "'; DROP TABLE item; --", UNIT.upper(), f"{{{UNIT}}}"):
        with pytest.raises(ValueError, match=r"id|UUID"):
            marker.write(unsafe)


def test_the_marker_goes_with_commit_where_it_can() -> None:
    """PostgreSQL and MariaDB take both as one message, which ends at the first error; the others do not."""
    assert of("postgresql").marker.with_commit("INSERT") == "INSERT; COMMIT"
    assert MARIADB.marker.with_commit("INSERT") == "BEGIN NOT ATOMIC INSERT; COMMIT; END"
    assert MYSQL.marker.with_commit("INSERT") == of("sqlite").marker.with_commit("INSERT") == ""
    assert "pg_current_xact_id_if_assigned" in of("postgresql").marker.write(UNIT)
    assert "pg_current_xact_id_if_assigned" not in of("postgresql").marker.write(UNIT, sure=True)


@pytest.mark.parametrize("backend", NAMES)
def test_of(backend: str) -> None:
    """A backend's name finds its dialect, always the same one."""
    dialect: Dialect = of(backend)
    assert dialect.name == backend
    assert of(backend) is dialect
    assert backend in repr(dialect)


def test_of_galera() -> None:
    """A node of a Galera cluster is its server without XA."""
    assert of("mysql", galera=True) is MYSQL_GALERA
    assert MYSQL_GALERA.table is MYSQL.table
    assert "galera" in repr(MYSQL_GALERA)


@pytest.mark.parametrize(("backend", "galera"), [("oracle", False), ("", False), ("sqlite", True)])
def test_unknown_backends_are_refused(backend: str, galera: bool) -> None:
    """There is no generic dialect: an unknown backend is refused with the names that are known."""
    with pytest.raises(RequestRefused, match="does not know") as caught:
        of(backend, galera=galera)
    assert "mariadb" in caught.value.why
