"""Which texts surely change nothing, or something."""

from __future__ import annotations

import pytest

from polysession.dialects.changing import may_change, surely_changes


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1",
        "select item.id, count(*) from item where name in (1, 2) group by item.id",
        "  SELECT lower(name) FROM item JOIN part ON (a = b)",
        "SHOW TABLES",
        "SAVEPOINT sa_savepoint_1",
        "SET foreign_key_checks = 0",
        "SELECT GET_LOCK('a', 1)",
        "SELECT DATABASE()",
        "/* a comment */ SELECT 1",
        "-- route: /orders\n# and so\nSELECT 1",
    ],
)
def test_surely_nothing(text: str) -> None:
    """SELECT with functions that are known, SET, and what is sent around it."""
    assert not may_change(text)


@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO item VALUES (1)",
        "SELECT pay(1)",
        "SELECT shop.pay(1)",
        "/*!50000 INSERT INTO item VALUES (1) */ SELECT 1",
        "SELECT * FROM item INTO OUTFILE 'x'",
        "WITH gone AS (DELETE FROM item RETURNING *) SELECT * FROM gone",
        "CALL pay()",
        "SET @paid = pay(1)",
        "SET STATEMENT max_statement_time = 5 FOR DELETE FROM item",
        "SET PASSWORD = 'x'",
        "CREATE TABLE x (id INTEGER)",
        "",
    ],
)
def test_in_doubt_something(text: str) -> None:
    """Everything else: a function that is not known may do anything."""
    assert may_change(text)


@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO item (id, name) VALUES (%(id)s, %(name)s) RETURNING item.id",
        'insert into shop."Item" (id) values ($1), ($2)',
        "INSERT INTO item VALUES (1)",
    ],
)
def test_what_surely_changes(text: str) -> None:
    """Rows that are given are added, or the statement fails."""
    assert surely_changes(text)
    assert may_change(text)


@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO item (id) VALUES (1) ON CONFLICT DO NOTHING",
        "INSERT INTO item (id) SELECT id FROM other",
        "UPDATE item SET name = 'INSERT INTO item VALUES (1)'",
        "DELETE FROM item",
        "WITH new AS (INSERT INTO item VALUES (1) RETURNING id) SELECT id FROM new",
        "SELECT 1",
    ],
)
def test_what_may_change_nothing(text: str) -> None:
    """In doubt the server is asked."""
    assert not surely_changes(text)
