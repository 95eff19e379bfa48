"""What a text of SQL does, statement by statement."""

from __future__ import annotations

import pytest

from polysession.testing.proxy import verbs_of

BOTH = [
    ("", ()),
    (";;  ; ", ()),
    ("-- nothing", ()),
    ("COMMIT", ("COMMIT",)),
    (" commit work ;", ("COMMIT",)),
    ("END", ("COMMIT",)),
    ("/* why */ commit and chain", ("COMMIT",)),
    ("-- why\ncommit", ("COMMIT",)),
    ("BEGIN ISOLATION LEVEL SERIALIZABLE", ("BEGIN",)),
    ("START TRANSACTION READ ONLY", ("BEGIN",)),
    ("ROLLBACK", ("ROLLBACK",)),
    ("ABORT", ("ROLLBACK",)),
    ("ROLLBACK TO SAVEPOINT a", ("ROLLBACK TO",)),
    ("ROLLBACK WORK TO a", ("ROLLBACK TO",)),
    ("ROLLBACK; VACUUM to_old", ("ROLLBACK", "VACUUM")),
    ("RELEASE SAVEPOINT a", ("RELEASE",)),
    ("PREPARE TRANSACTION 'x'", ("PREPARE TRANSACTION",)),
    ("prepare  transaction\n'x'", ("PREPARE TRANSACTION",)),
    ("PREPARE p AS SELECT 1", ("PREPARE",)),
    ("COMMIT PREPARED 'x'", ("COMMIT PREPARED",)),
    ("ROLLBACK PREPARED 'x'", ("ROLLBACK PREPARED",)),
    ("XA START 'x'", ("XA START",)),
    ("XA BEGIN 'x'", ("XA START",)),
    ("xa commit 'x' one phase", ("XA COMMIT",)),
    ("INSERT INTO t VALUES (1); COMMIT", ("INSERT", "COMMIT")),
    ("INSERT INTO t VALUES ('; COMMIT; ''x'); SELECT 1", ("INSERT", "SELECT")),
    ('SELECT "; COMMIT" FROM t', ("SELECT",)),
    ("/* ; COMMIT */ SELECT 1 -- ; COMMIT\n; BEGIN", ("SELECT", "BEGIN")),
    ("(SELECT 1) UNION SELECT 2", ("SELECT",)),
    ("WITH a AS (SELECT 1) INSERT INTO t SELECT * FROM a", ("WITH",)),
    ("CREATE PROCEDURE p() BEGIN INSERT INTO t VALUES (1); COMMIT; END", ("CREATE",)),
    ("CREATE TABLE t (n int); COMMIT", ("CREATE", "COMMIT")),
    ("SELECT 'open; COMMIT", ("SELECT",)),
    ("SELECT /* open; COMMIT", ("SELECT",)),
]


@pytest.mark.parametrize("mysql", [False, True], ids=["postgresql", "mysql"])
@pytest.mark.parametrize(("sql", "verbs"), BOTH)
def test_verbs(sql: str, verbs: tuple[str, ...], mysql: bool) -> None:
    """Each statement has one verb; what is quoted or commented out is no statement."""
    assert verbs_of(sql, mysql=mysql) == verbs


@pytest.mark.parametrize(
    ("sql", "postgresql", "mysql"),
    [
        (r"SELECT 'a\'; COMMIT", ("SELECT", "COMMIT"), ("SELECT",)),
        (r"SELECT E'a\'; COMMIT", ("SELECT",), ("SELECT",)),
        ("DO $$ BEGIN; COMMIT; $$; SELECT 1", ("DO", "SELECT"), ("DO", "COMMIT", "SELECT")),
        ("SELECT $a$ $$; COMMIT $a$", ("SELECT",), ("SELECT", "COMMIT")),
        ("SELECT $1; COMMIT", ("SELECT", "COMMIT"), ("SELECT", "COMMIT")),
        ("/* /* */ COMMIT */ SELECT 1", ("SELECT",), ("COMMIT",)),
        ("# COMMIT\nSELECT 1", ("COMMIT",), ("SELECT",)),
        ("SELECT `a;b`", ("SELECT",), ("SELECT",)),
    ],
)
def test_the_dialects_differ(sql: str, postgresql: tuple[str, ...], mysql: tuple[str, ...]) -> None:
    """Strings, comments and dollar quotes follow the rules of their server."""
    assert verbs_of(sql) == postgresql
    assert verbs_of(sql, mysql=True) == mysql
