"""What texts leave in the session of a server: tables of cases, one for each kind of server."""

from __future__ import annotations

import pytest

from polysession.dialects.remains import REMAINS, Trace

NOTHING = {
    "postgresql": [
        "select 1",
        "(select 1) union (select 2)",
        "with a as (select 1) select * from a",
        "values (1)",
        "set local x = 1",
        "SET LOCAL ROLE bob",
        "set transaction isolation level serializable",
        "set constraints all deferred",
        "create table a (b integer)",
        "create temporary table a (b integer) on commit drop",
        "alter role bob set x = 1",
        "savepoint a",
        "release savepoint a",
        "rollback to savepoint a",
        "lock table a",
        "notify a",
        "unlisten *",
        "deallocate a",
        "declare c cursor for select 1",
        "prepare transaction 'a'",
        "select set_config('a', 'b', true)",
        "select set_config('a', %(b)s, true), set_config('b', 'c', TRUE)",
        "select pg_advisory_xact_lock(1)",
        "select pg_try_advisory_xact_lock_shared(1)",
        "select valid, temperature, advisory from insertions",
        "-- nothing\n",
        "",
    ],
    "mysql": [
        "select 1",
        "select a, value from b where c = %s",
        "show variables",
        "create table a (b integer)",
        "drop temporary table a",
        "savepoint a",
        "flush tables",
        "unlock tables",
        "select @@version",
        "",
    ],
    "sqlite": [
        "select 1",
        "pragma foreign_keys",
        "PRAGMA main.table_info('a')",
        "create table a (b)",
        "create table main.temperature (b)",
        "explain query plan select 1",
        "begin immediate",
        "savepoint a",
        "",
    ],
}

SOMETHING = {
    "postgresql": [
        ("set x = 1", Trace.SETTING, "SET LOCAL"),
        ("/* a */ set x = 1", Trace.SETTING, "SET LOCAL"),
        ("SET SESSION x = 1", Trace.SETTING, "SET LOCAL"),
        ("set role bob", Trace.SETTING, "SET LOCAL ROLE"),
        ("set session role bob", Trace.SETTING, "SET LOCAL ROLE"),
        ("set session authorization bob", Trace.SETTING, "SET LOCAL SESSION AUTHORIZATION"),
        ("set session characteristics as transaction read only", Trace.SETTING, "ask at the door"),
        ("select set_config('a', 'b', false)", Trace.SETTING, "true"),
        ("select set_config('a', 'b, true)', false)", Trace.SETTING, "true"),
        ("select set_config('a', 'b', true), set_config('a', 'b', false)", Trace.SETTING, "everywhere"),
        ("select set_config(%s, %s, %s)", Trace.SETTING, "true"),
        ("select \"set_config\" ('a', 'b', false)", Trace.SETTING, "true"),
        ("explain analyze select set_config('a', 'b', false)", Trace.SETTING, "true"),
        ("create temporary table a (b integer)", Trace.TEMPORARY, "ON COMMIT DROP"),
        ("create local temp view a as select 1", Trace.TEMPORARY, "ON COMMIT DROP"),
        ("create or replace temp view a as select 1", Trace.TEMPORARY, "ON COMMIT DROP"),
        ("create table pg_temp.a (b integer)", Trace.TEMPORARY, "ON COMMIT DROP"),
        ("select 1 into temp a", Trace.TEMPORARY, "ON COMMIT DROP"),
        ("select pg_advisory_lock(1)", Trace.LOCK, "pg_advisory_xact_lock()"),
        ("select pg_try_advisory_lock_shared(1)", Trace.LOCK, "pg_try_advisory_xact_lock_shared()"),
        ("listen a", Trace.LISTENING, "connection of your own"),
        ("prepare a as select 1", Trace.PREPARED, "drivers"),
        ("declare c cursor with hold for select 1", Trace.CURSOR, "WITH HOLD"),
        ("discard all", Trace.LASTING, ""),
        ("deallocate all", Trace.LASTING, ""),
        ("load 'auto_explain'", Trace.LASTING, ""),
        ("select setseed(0.5)", Trace.LASTING, ""),
        ("do $$ begin end $$", Trace.UNKNOWN, ""),
        ("do $$ begin perform set_config('a', 'b', false); end $$", Trace.SETTING, "true"),
        ("do $$ begin perform nextval('a'); end $$", Trace.UNKNOWN, ""),
        ("call a()", Trace.UNKNOWN, ""),
        ("reset all", Trace.UNKNOWN, ""),
        ("execute a", Trace.UNKNOWN, ""),
        ("nonsense", Trace.UNKNOWN, ""),
        ("\x00", Trace.UNKNOWN, ""),
        ('select U&"\\0073et_config"(1, 2, false)', Trace.UNKNOWN, ""),
        ("select 1; select 2", Trace.UNKNOWN, ""),
        ("select 1; set x = 1", Trace.SETTING, "SET LOCAL"),
        ("insert into a values (1)", Trace.NUMBERS, ""),
        ("update a set b = default", Trace.NUMBERS, ""),
        ("with a as (insert into b values (1) returning c) select * from a", Trace.NUMBERS, ""),
        ("select nextval('a')", Trace.NUMBERS, ""),
        ("select currval('a')", Trace.ASKS, ""),
        ("insert into a values (lastval())", Trace.ASKS, ""),
    ],
    "mysql": [
        ("set @a = 1", Trace.SETTING, ""),
        ("set names latin1", Trace.SETTING, ""),
        ("set transaction isolation level serializable", Trace.SETTING, ""),
        ("use a", Trace.SETTING, ""),
        ("select 1 into @a", Trace.SETTING, ""),
        ("select @a := 1", Trace.SETTING, ""),
        ("load data infile 'a' into table b (@c)", Trace.SETTING, ""),
        ("create temporary table a (b integer)", Trace.TEMPORARY, ""),
        ("create or replace temporary table a (b integer)", Trace.TEMPORARY, ""),
        ("select get_lock('a', 1)", Trace.LOCK, ""),
        ("lock tables a write", Trace.LOCK, ""),
        ("flush tables with read lock", Trace.LOCK, ""),
        ("handler a open", Trace.LOCK, ""),
        ("backup stage start", Trace.LOCK, ""),
        ("prepare a from 'select 1'", Trace.PREPARED, ""),
        ("call a()", Trace.UNKNOWN, ""),
        ("do a()", Trace.UNKNOWN, ""),
        ("select 1 /*! + set_something() */", Trace.UNKNOWN, ""),
        ("/*! set x = 1 */", Trace.UNKNOWN, ""),
        ("select nextval(a)", Trace.UNKNOWN, ""),
        ("select next value for a", Trace.UNKNOWN, ""),
        ("insert into a values (1)", Trace.NUMBERS, ""),
        ("select last_insert_id(1)", Trace.NUMBERS, ""),
        ("select last_insert_id()", Trace.ASKS, ""),
        ("select @@identity", Trace.ASKS, ""),
        ("select found_rows()", Trace.ASKS, ""),
    ],
    "sqlite": [
        ("pragma foreign_keys = off", Trace.SETTING, ""),
        ("pragma cache_size(5)", Trace.SETTING, ""),
        ("pragma unheard_of", Trace.SETTING, ""),
        ("attach 'a' as b", Trace.SETTING, ""),
        ("detach b", Trace.SETTING, ""),
        ("create temp table a (b)", Trace.TEMPORARY, ""),
        ("create view temp.a as select 1", Trace.TEMPORARY, ""),
        ("select load_extension('a')", Trace.LASTING, ""),
        ("nonsense", Trace.UNKNOWN, ""),
        ("insert into a values (1)", Trace.NUMBERS, ""),
        ("select last_insert_rowid()", Trace.ASKS, ""),
        ("select changes()", Trace.ASKS, ""),
    ],
}


@pytest.mark.parametrize(("backend", "text"), [(backend, text) for backend in NOTHING for text in NOTHING[backend]])
def test_what_leaves_nothing(backend: str, text: str) -> None:
    """These go back to the pool without a round trip, and are sent behind a pooler."""
    assert REMAINS[backend].found(text) is None


@pytest.mark.parametrize(
    ("backend", "text", "trace", "cure"), [(backend, *case) for backend in SOMETHING for case in SOMETHING[backend]]
)
def test_what_leaves_something(backend: str, text: str, trace: Trace, cure: str) -> None:
    """It is found, whatever the case of its letters, with what does the same for one transaction."""
    remains = REMAINS[backend]
    for written in (text, text.swapcase() if "'" not in text else text, f"\n  {text}"):
        found = remains.found(written)
        assert found is not None, written
        assert found.trace is trace
        assert cure in found.cure
        assert found.words or trace is Trace.NUMBERS


@pytest.mark.parametrize("backend", sorted(REMAINS))
def test_what_is_not_known_leaves_something(backend: str) -> None:
    """No statement is taken for harmless because nobody thought of it."""
    for word in ("FROBNICATE", "SETT", "xyz 1", "?", "'"):
        found = REMAINS[backend].found(word)
        assert found is not None
        assert found.trace is Trace.UNKNOWN
