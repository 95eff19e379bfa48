"""Which reads may leave something on their connection."""

from __future__ import annotations

import pytest

from polysession import dialects
from polysession.dialects.traces import Traces

EVERYWHERE = (
    "select id, name from item where id in (1, 2) and (value > 3 or name like 'a%')",
    "with two as (select 2) select * from two",
    "values (1), (2)",
    "select count(*), coalesce(max(value), 0) from item group by (name) having count(*) > (select 1)",
    "select 1 as set_it",
    "(select 1) union (select 2)",
    "  explain select 1",
    "with recursive tree(id, parent) as (select 1, 2 union all select id, 3 from tree) select * from tree",
    "select row_number() over (partition by name order by (value)) from item",
    "select cast(value as numeric(10, 2)) as shown(x) from item",
)
NONE = {
    "postgresql": (
        *EVERYWHERE,
        "select pg_catalog.now(), value::numeric(10, 2) from item",
        "with a(x) as materialized (select 1), b (y) as (values (1)) select * from a, b",
        "select jsonb_agg(name) filter (where id > 1) from item",
        "show search_path",
        "table item",
    ),
    "mariadb": (
        *EVERYWHERE,
        "select group_concat(name), @tenant, @@global.max_connections from item",
        "show full processlist",
        "describe item",
        "select if(value > 1, year(now()), null) from item",
    ),
    "sqlite": (*EVERYWHERE, "select made_by_the_application(1)", "select last_insert_rowid()"),
}
LEFT = {
    "postgresql": (
        ("select set_config('search_path', 'x', false)", "set_config()"),
        ("select pg_advisory_lock(1)", "pg_advisory_lock()"),
        ("select setseed(0.5)", "setseed()"),
        ("select setval('s', 1)", "setval()"),
        ("select set_tenant(1)", "set_tenant()"),
        ('select "set_tenant" (1)', '"set_tenant"()'),
        ("select shop.count(1)", "shop.count()"),
        ("select set_tenant /* ) */ (1)", "a function behind a comment"),
        ("select set_tenant -- so\n (1)", "a function behind a comment"),
        ("select * from set_tenant(1) as (x int)", "set_tenant()"),
        ("with t as (select 1) select * from t, set_tenant(1) as (x int)", "set_tenant()"),
        ("set search_path to x", "SET"),
        ("savepoint here", "SAVEPOINT"),
        ("declare c cursor with hold for select 1", "DECLARE"),
        ("fetch next from c", "FETCH"),
        ("", "a text that cannot be judged"),
    ),
    "mariadb": (
        ("select @tenant := 1", ":="),
        ("select 1 into @tenant", "INTO"),
        ("select get_lock('a', 1)", "get_lock()"),
        ("select last_insert_id(3)", "last_insert_id()"),
        ("select sql_calc_found_rows 1", "SQL_CALC_FOUND_ROWS"),
        ("select set_tenant(1)", "set_tenant()"),
        ("select `set_tenant`(1)", "`set_tenant`()"),
        ("select /*!50000 set_tenant(1) */", "/*!"),
        ("set @tenant = 1", "SET"),
        ("select next value for s", "NEXT VALUE"),
    ),
    "sqlite": (
        ("pragma cache_size = 100", "PRAGMA"),
        ("pragma table_info(item)", "PRAGMA"),
        ("savepoint here", "SAVEPOINT"),
    ),
}


@pytest.mark.parametrize(("backend", "text"), [(backend, text) for backend in NONE for text in NONE[backend]])
def test_what_leaves_nothing(backend: str, text: str) -> None:
    """Its unit may have another connection for the next statement."""
    assert dialects.of(backend).traces.left_by(text) is None
    assert dialects.of(backend).reads.refusal(text) is None, "a read unit sends it"


@pytest.mark.parametrize(("backend", "text", "trace"), [(name, *row) for name in LEFT for row in LEFT[name]])
def test_what_may_leave_something(backend: str, text: str, trace: str) -> None:
    """Its unit keeps the connection."""
    assert dialects.of(backend).traces.left_by(text) == trace


def test_a_function_of_the_application_is_taken_for_one_that_leaves_something() -> None:
    """The control: with it on the list, the same text would leave nothing."""
    assert Traces("SELECT", "").left_by("select set_tenant(1)") == "set_tenant()"
    assert Traces("SELECT", "set_tenant").left_by("select set_tenant(1)") is None
