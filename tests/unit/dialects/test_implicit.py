"""Which texts of MariaDB and MySQL commit by themselves what came before them."""

from __future__ import annotations

import pytest

from polysession import dialects
from polysession.dialects.implicit import commits_before


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("create table t (id int)", "CREATE TABLE"),
        ("/* so */ CREATE OR REPLACE VIEW v AS SELECT 1", "CREATE OR"),
        ("-- so\n drop table t", "DROP TABLE"),
        ("alter user u identified by 'x'", "ALTER USER"),
        ("truncate t", "TRUNCATE t".upper()),
        ("rename table a to b", "RENAME TABLE"),
        ("grant select on t to u", "GRANT SELECT"),
        ("lock tables t write", "LOCK TABLES"),
        ("unlock tables", "UNLOCK TABLES"),
        ("analyze local table t", "ANALYZE LOCAL"),
        ("load index into cache t", "LOAD INDEX"),
        ("set password = 'x'", "SET PASSWORD"),
        ("start replica", "START REPLICA"),
        ("flush tables", "FLUSH TABLES"),
        ("set default role none", "SET DEFAULT"),
        ("/*!50000 create */ table t (id int)", "CREATE TABLE"),
        ("/*M!100100 alter table t add a int */", "ALTER TABLE"),
        ("set statement max_statement_time = 5 for create table t (id int)", "CREATE TABLE"),
        ("execute immediate 'drop table t'", "DROP TABLE"),
    ],
)
def test_it_commits(text: str, words: str) -> None:
    """It is named by its first words."""
    assert commits_before(text) == words


@pytest.mark.parametrize(
    "text",
    [
        "insert into t values (1)",
        "select * from t for update",
        "create temporary table t (id int)",
        "create or replace temporary table t (id int)",
        "drop temporary table t",
        "drop prepare p",
        "analyze select 1",
        "analyze format=json select 1",
        "load data infile 'f' into table t",
        "set @a = 1",
        "set names default",
        "set role none",
        "set statement max_statement_time = 5 for select 1",
        "execute immediate 'select 1'",
        "/* create */ select 1",
        "start transaction",
        "update altered set created = 1",
        "",
        "(select 1)",
    ],
)
def test_it_does_not(text: str) -> None:
    """It is let pass."""
    assert commits_before(text) is None


def test_others_have_none() -> None:
    """What PostgreSQL and SQLite define is a part of the transaction like anything else."""
    names = ("postgresql", "sqlite", "mariadb", "mysql")
    found = [dialects.of(name).commits_before("create table t (id int)") for name in names]
    assert found == [None, None, "CREATE TABLE", "CREATE TABLE"]


@pytest.mark.parametrize("before", ["", "set ", "create /* b */ "])
def test_many_comments(before: str) -> None:
    """The time that it takes does not double with each comment."""
    text = before + "/* a */ " * 100 + "(1)"
    assert commits_before(text) in (None, "CREATE")
    assert dialects.of("mariadb").reads.control(text) is None
