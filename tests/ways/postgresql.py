"""PostgreSQL: what is there to be changed, ways to change it, and ways to read it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from .way import Text, done, driver_of, on_driver, texts, way

__all__ = ["READS", "SETUP", "lines"]

SETUP: Final = """
alter table item set (autovacuum_enabled = off);
insert into item (id, name, value) values (1, 'one', 10), (2, 'two', 20), (3, 'three', 30);
insert into invoice (id) values (1);
create table note (id serial primary key, body text not null default 'x', at timestamptz default now())
    with (autovacuum_enabled = off);
insert into note (body) select 'note ' || n from generate_series(1, 50) n;
create table pending (id integer primary key);
create table parted (id integer, part text) partition by list (part);
create table parted_a partition of parted for values in ('a');
create table parted_b (id integer, part text);
create table parent (id integer);
create table child () inherits (parent);
create table doc (id integer primary key, body jsonb, words tsvector, tags text[], span int4range);
insert into doc values (1, '{"a": {"b": [1, 2, 3]}, "c": "x"}', to_tsvector('simple', 'a quick fox'), '{x,y}', '[1,5)');
create sequence sq;
create view item_v as select id, name, value from item where value < 1000;
create view item_t as select id, name from item;
create materialized view mv as select id, value from item;
create unique index mv_id on mv (id);
create index item_value on item (value);
create type mood as enum ('ok', 'sad');
create type pair as (a integer, b integer);
create domain posint as integer check (value > 0);
create statistics item_stats on id, value from item;
create function writes() returns integer language plpgsql as
    $$ begin insert into note (body) values ('written'); return 1; end $$;
create function writes_sql() returns integer language sql as
    $$ insert into note (body) values ('written') returning id $$;
create function writes_rows() returns setof item language plpgsql as
    $$ begin update item set value = value + 1; return query select * from item; end $$;
create function writes_stable() returns integer language plpgsql stable as
    $$ begin perform writes(); return 1; end $$;
create function writes_text(command text) returns integer language plpgsql as
    $$ begin execute command; return 1; end $$;
create function makes_a_table() returns integer language plpgsql as
    $$ begin execute 'create table made_inside (id integer)'; return 1; end $$;
create function owner_writes() returns integer language plpgsql security definer as
    $$ begin insert into note (body) values ('written'); return 1; end $$;
create function switches() returns text language sql as
    $$ select set_config('default_transaction_read_only', 'off', false) $$;
create function switches_here() returns text language sql as
    $$ select set_config('transaction_read_only', 'off', true) $$;
create function switches_and_writes() returns integer language plpgsql as
    $$ begin perform switches(); insert into note (body) values ('written'); return 1; end $$;
create function writes_when_it_may() returns integer language plpgsql as
    $$ begin if current_setting('default_transaction_read_only') = 'on' then perform switches(); return 0; end if;
       insert into note (body) values ('written'); return 1; end $$;
create function makes_a_large_object() returns oid language sql as $$ select lo_create(0) $$;
create function on_item_t() returns trigger language plpgsql as
    $$ begin insert into item (id, name, value) values (new.id, new.name, 0); return new; end $$;
create trigger instead_of_insert instead of insert on item_t for each row execute function on_item_t();
create function noticed() returns trigger language plpgsql as $$ begin return new; end $$;
create trigger on_note before insert on note for each row execute function noticed();
create procedure inserts() language plpgsql as $$ begin insert into note (body) values ('called'); end $$;
create procedure commits() language plpgsql as
    $$ begin perform switches(); commit; insert into note (body) values ('called'); end $$;
create procedure sets() language plpgsql as
    $$ begin commit; set transaction read write; insert into note (body) values ('called'); end $$;
create schema side;
create table side.thing (id integer);
create text search configuration plain_words (copy = simple);
select lo_from_bytea(424242, 'hello');
analyze item;
"""

# -- what changes rows

_ROWS: Final = (
    "insert into item (id, name, value) values (501, 'new', 1)",
    "insert into item select 501, 'new', 1",
    "insert into note default values",
    "insert into item (id, name, value) values (1, 'one', 1) on conflict (id) do update set value = 99",
    "insert into item (id, name, value) values (501, 'new', 1) on conflict do nothing",
    "insert into item (id, name, value) values (501, 'new', 1) returning id",
    "insert into item_v (id, name, value) values (501, 'new', 1)",
    "insert into item_t (id, name) values (501, 'new')",
    "insert into parted values (1, 'a')",
    "update item set value = 99",
    "update item set value = value where id = 1",
    "update item set value = i.id from invoice i where i.id = item.id",
    "update item set value = 99 where id = 1 returning value",
    "update item_v set value = 98",
    "delete from item",
    "delete from item using invoice i where i.id = item.id",
    "delete from item where id = 1 returning *",
    "merge into item using (values (501)) as s(id) on item.id = s.id when not matched then insert (id, name, value) "
    "values (s.id, 'merged', 0)",
    "merge into item using (values (1)) as s(id) on item.id = s.id when matched then update set value = 0",
    "merge into item using (values (1)) as s(id) on item.id = s.id when matched then delete",
    "truncate note",
    "truncate item, note restart identity cascade",
    "with a as (insert into item (id, name, value) values (501, 'new', 1) returning id) select * from a",
    "with a as (update item set value = 99 returning id) select count(*) from a",
    "with a as (delete from item returning *) select * from a",
    "with a as (delete from note returning body) insert into note (body) select body || '!' from a",
    "with a as (insert into note (body) values ('x') returning id), b as (update item set value = 0 returning id) "
    "select 1 from a, b",
    "with recursive n(i) as (select 601 union all select i + 1 from n where i < 603) "
    "insert into item (id, name, value) select i, 'n' || i, 0 from n",
    "with a as materialized (select 1) update item set value = 42",
    "explain analyze insert into item (id, name, value) values (501, 'new', 1)",
    "explain (analyze, costs off) update item set value = 99",
    "explain analyze delete from item",
    "explain analyze with a as (delete from item returning id) select * from a",
    "explain analyze select writes()",
    "explain analyze create table explained as select 1 as a",
    "explain (analyze, buffers) create table explained as select 1 as a",
    "explain analyze create materialized view explained as select 1 as a",
    "explain analyze select 1 as a into explained",
    "explain (analyze on) with a as (select 1 as b) select b into explained from a",
    "explain/**/analyze verbose/* ( */create table if not exists explained as values (1)",
    "select * into copied from item",
    "select id into unlogged copied from item",
    "create table copied as select * from item",
    "create table copied as values (1), (2)",
    "create table if not exists copied as select 1 as a",
    "create unlogged table copied as select 1 as a",
)

# -- what runs code

_CODE: Final = (
    "select writes()",
    "select writes_sql()",
    "select * from writes_rows()",
    "select * from writes() as w",
    "select id from item where writes() > 0",
    "select id from item order by writes()",
    "select case when id = 1 then writes() end from item",
    "select w from item, lateral writes() as w",
    "select (select writes())",
    "select count(writes()) from item",
    "select writes() over_and_over from generate_series(1, 3)",
    "select * from (select writes() as a offset 0) s",
    "select array(select writes())",
    "values (writes())",
    "with a as (select writes()) select * from a",
    "with a as materialized (select writes()) select * from a",
    "select owner_writes()",
    "select makes_a_table()",
    "select switches_and_writes()",
    "select writes_text('insert into note (body) values (''dynamic'')')",
    "select writes_text('truncate note')",
    "select writes_text('drop table note')",
    "select nextval('sq')",
    "select setval('sq', 77)",
    "select setval('sq', 77, false)",
    "select nextval('note_id_seq') from generate_series(1, 3)",
    "call inserts()",
    "do $$ begin insert into note (body) values ('done'); end $$",
    "do $$ begin execute 'create table done_inside (id integer)'; end $$",
    "do language plpgsql $$ begin perform writes(); end $$",
    "select lo_create(777001)",
    "select lo_creat(-1)",
    "select lo_from_bytea(777002, 'bytes')",
    "select lo_put(424242, 0, 'J')",
    "select lo_unlink(424242)",
    "select lowrite(lo_open(424242, 131072), 'Y')",
    "select lo_truncate(lo_open(424242, 131072), 1)",
    "select lo_truncate64(lo_open(424242, 131072), 1)",
    'select "lo_create"(777003)',
    "select pg_catalog.lo_create /* . */ (777004)",
)
_CODE_TWICE: Final = (
    ("prepare p as insert into item (id, name, value) values (501, 'new', 1)", "execute p"),
    ("prepare p as select writes()", "execute p"),
    ("prepare p as update item set value = 77", "explain analyze execute p"),
    (
        "begin",
        "declare c cursor for select id from item for update",
        "fetch c",
        "update item set value = 1 where current of c",
        "commit",
    ),
    ("begin", "insert into item (id, name, value) values (501, 'new', 1)", "commit"),
    ("begin", "savepoint a", "insert into note (body) values ('x')", "release savepoint a", "commit"),
    ("start transaction", "select writes()", "commit"),
    ("begin", "insert into pending values (7)", "prepare transaction 'made_{name}'", "commit prepared 'made_{name}'"),
)

# -- what defines

_DEFINITIONS: Final = (
    "create table made (id integer)",
    "create unlogged table made (id integer)",
    "create table if not exists made (like item including all)",
    "create table made () inherits (parent)",
    "create table parted_c partition of parted for values in ('c')",
    "alter table parted attach partition parted_b for values in ('b')",
    "alter table parted detach partition parted_a",
    "alter table item add column more integer",
    "alter table item drop column value cascade",
    "alter table item rename to items",
    "alter table item rename column value to amount",
    "alter table note alter column body type varchar(100) using body",
    "alter table note alter column body set default 'y'",
    "alter table note alter column body drop not null",
    "alter table item alter column value set statistics 500",
    "alter table note add constraint body_is_long check (length(body) > 0)",
    "alter table note drop constraint note_pkey",
    "alter table item set (fillfactor = 50)",
    "alter table item cluster on item_value",
    "alter table item enable row level security",
    "alter table note set schema side",
    "alter table note set unlogged",
    "alter table note replica identity full",
    "alter table note disable trigger on_note",
    "alter table child no inherit parent",
    "drop table note",
    "drop table if exists item cascade",
    "create index made_index on item (name, value)",
    "create index concurrently made_index on item (name)",
    "create unique index made_index on note (id, body)",
    "alter index item_value rename to item_amount",
    "drop index item_value",
    "drop index concurrently item_value",
    "create view made_view as select 1 as a",
    "create or replace view item_v as select id, name, value from item",
    "alter view item_v rename to item_w",
    "drop view item_t",
    "create materialized view made_mv as select 1 as a",
    "refresh materialized view mv",
    "refresh materialized view concurrently mv",
    "drop materialized view mv",
    "create sequence made_sequence",
    "alter sequence sq restart with 500",
    "alter sequence sq increment by 10",
    "drop sequence sq",
    "create type made_type as enum ('a')",
    "create type made_type as (a integer)",
    "create type made_type as range (subtype = integer)",
    "alter type mood add value 'fine'",
    "alter type mood rename value 'ok' to 'good'",
    "drop type mood",
    "create domain made_domain as text",
    "alter domain posint drop constraint posint_check",
    "drop domain posint",
    "create function made_function() returns integer language sql as 'select 1'",
    "create or replace function writes_sql() returns integer language sql as 'select 1'",
    "alter function writes() stable",
    "alter function writes() set default_transaction_read_only = off",
    "drop function writes_sql()",
    "create procedure made_procedure() language sql as 'select 1'",
    "drop procedure inserts()",
    "create aggregate made_sum(integer) (sfunc = int4pl, stype = integer)",
    "create operator === (leftarg = integer, rightarg = integer, function = int4eq)",
    "create cast (pair as text) with inout",
    "create trigger made_trigger before update on note for each row execute function noticed()",
    "drop trigger on_note on note",
    "create rule made_rule as on insert to note do instead nothing",
    "create policy made_policy on note using (true)",
    "create schema made_schema",
    "create schema made_schema create table made (id integer)",
    "alter schema side rename to aside",
    "drop schema side cascade",
    "create extension pg_trgm",
    'create collation made_collation from "C"',
    "create text search dictionary made_words (template = simple)",
    "create text search configuration made_words (copy = simple)",
    "drop text search configuration plain_words",
    "create statistics made_stats on id, value from item",
    "alter statistics item_stats set statistics 200",
    "drop statistics item_stats",
    "create publication made_publication for table item",
    "comment on table item is 'commented'",
    "comment on column item.value is 'commented'",
    "comment on function writes() is 'commented'",
    "comment on large object 424242 is 'commented'",
    "grant select on item to public",
    "grant update (value) on item to public",
    "grant usage on schema side to public",
    "grant select on large object 424242 to public",
    "revoke execute on function writes() from public",
    "alter default privileges grant select on tables to public",
    "alter role current_user in database {name} set work_mem = '5MB'",
    "alter database {name} set work_mem = '5MB'",
    "alter database {name} connection limit 50",
    "alter table item set (autovacuum_enabled = on)",
    "analyze note",
    "analyze (verbose) note (body)",
    "vacuum analyze note",
    "vacuum full item",
    "vacuum (full, analyze) note",
    "cluster item using item_value",
    "reindex table item",
    "reindex index item_value",
    "reindex table concurrently item",
    "select * from item for update",
    "select * from item for no key update nowait",
    "select * from item for share skip locked",
    "select * from item for key share",
    "vacuum item",
)
_WITHOUT_EFFECT: Final = (
    "create temporary table made (id integer)",
    "create temporary table made as select * from item",
    "select * into temporary made from item",
    "lock table item",
    "lock table item in access exclusive mode",
    "drop owned by current_user",
    "notify way",
    "notify way, 'payload'",
    "select pg_notify('way', 'payload')",
    "listen way",
    "unlisten *",
    "checkpoint",
    "discard all",
    "discard temp",
    "deallocate all",
    "reset all",
    "load 'nothing'",
    "alter system set work_mem = '5MB'",
    "create role made_role",
    "create database made_database",
    "create tablespace made_space location '/nowhere'",
    "create foreign data wrapper made_wrapper",
    "create server made_server foreign data wrapper none",
    "create event trigger made_trigger on ddl_command_start execute function noticed()",
    "create language made_language",
    "create access method made_method type table handler heap_tableam_handler",
    "create subscription made_subscription connection '' publication none",
    "security label on table item is 'secret'",
    "import foreign schema side from server none into side",
    "copy item to '/nowhere/file'",
    "copy item to program 'true'",
    "copy item from '/nowhere/file'",
    "copy item from program 'true'",
    "select lo_import('/nowhere/file')",
    "select lo_export(424242, '/nowhere/file')",
    "select pg_create_logical_replication_slot('way', 'pgoutput')",
    "select pg_create_physical_replication_slot('way', true)",
    "select pg_replication_origin_create('way')",
    "select pg_logical_emit_message(false, 'way', 'payload')",
    "select pg_stat_reset()",
    "select pg_reload_conf()",
    "select pg_switch_wal()",
    "select pg_create_restore_point('way')",
    "set role none",
    "set session authorization default",
    "rollback",
    "commit",
    "abort",
    "end",
    "commit and chain",
    "rollback prepared 'nothing'",
    "reassign owned by current_user to current_user",
    "select writes_stable()",
    "select exists (select writes())",
    "explain create table explained as select 1 as a",
)

# -- what switches the refusal off, before a write that hides

_HIDDEN: Final = ("select writes()", "insert into item (id, name, value) values (501, 'new', 1)")
_SWITCHES: Final = (
    "set transaction_read_only = off",
    "set transaction_read_only to 'off'",
    "set local transaction_read_only = off",
    "set session transaction_read_only = 0",
    'set "transaction_read_only" = off',
    "set Transaction_Read_Only = no",
    "set default_transaction_read_only = off",
    "set default_transaction_read_only to default",
    "set session default_transaction_read_only = false",
    "set local default_transaction_read_only = off",
    'set "default_transaction_read_only" to off',
    "set U&\"default!005ftransaction_read_only\" uescape '!' = off",
    "SET/**/default_transaction_read_only=off",
    "set -- a comment\n default_transaction_read_only = off",
    "set session characteristics as transaction read write",
    "set session characteristics as transaction isolation level read committed, read write",
    "set session characteristics as transaction read /* . */ write",
    "set transaction read write",
    "set transaction isolation level repeatable read, read write",
    "begin read write",
    "begin transaction isolation level serializable read write",
    "begin work",
    "start transaction read write",
    "/* first */ begin read write",
    "-- first\nbegin read write",
    "-- first\rbegin read write\n",
    "reset default_transaction_read_only",
    "reset transaction_read_only",
    "reset all",
    "discard all",
    "rollback",
    "commit",
    "end; begin read write",
    "abort",
    "select set_config('default_transaction_read_only', 'off', false)",
    "select set_config('default_transaction_read_only', 'off', true)",
    "select set_config('transaction_read_only', 'off', false)",
    "select set_config('transaction_read_only', 'off', true)",
    "select set_config('default_' || 'transaction_read_only', 'of' || 'f', false)",
    "select pg_catalog.set_config(name, 'off', false) from pg_settings where name like '%transaction_read_only'",
    "with s as (select set_config('default_transaction_read_only', 'off', false)) select * from s",
    "values (set_config('default_transaction_read_only', 'off', false))",
    "explain analyze select set_config('default_transaction_read_only', 'off', false)",
    "update pg_settings set setting = 'off' where name = 'default_transaction_read_only'",
    "select query_to_xml('select switches()', true, true, '')",
    "select switches()",
    "select switches_here()",
    "select * from switches()",
    "select writes_text('set default_transaction_read_only = off')",
    "select writes_text('set transaction_read_only = off')",
    "select writes_text('set transaction read write')",
    "select writes_when_it_may()",
    "do $$ begin perform switches(); end $$",
    "do $$ begin set default_transaction_read_only = off; end $$",
    "prepare s as select set_config('default_transaction_read_only', 'off', false); execute s",
)
_SEVERAL: Final = (
    "select 1; insert into item (id, name, value) values (501, 'new', 1)",
    "insert into item (id, name, value) values (501, 'new', 1); select 1",
    "select 1; begin read write; insert into note (body) values ('x'); commit",
    "begin read write; insert into note (body) values ('x'); commit",
    "commit; begin read write; select writes(); commit",
    "select set_config('default_transaction_read_only', 'off', false); commit; select writes()",
    "select set_config('default_transaction_read_only', 'off', false); commit; insert into note (body) values ('x')",
    "set search_path = public; set transaction read write; insert into note (body) values ('x')",
    "show work_mem; begin read write; select writes(); commit",
    "select ';'; begin read write; select writes(); commit",
    "select $$;$$; begin read write; select writes(); commit",
    "select 1 /* ; */; begin read write; select writes(); commit",
    "select 1 -- ;\n; begin read write; select writes(); commit",
    'select 1 as "a;b"; begin read write; select writes(); commit',
    "select E'\\';'; begin read write; select writes(); commit",
    ";;; begin read write; select writes(); commit",
)
_DISGUISES: Final = (
    "  \n\t insert into item (id, name, value) values (501, 'new', 1)",
    "/* a comment */ insert into item (id, name, value) values (501, 'new', 1)",
    "/* a /* nested */ comment */ insert into item (id, name, value) values (501, 'new', 1)",
    "-- select\ninsert into item (id, name, value) values (501, 'new', 1)",
    "InSeRt InTo item (id, name, value) VaLuEs (501, 'new', 1)",
    "insert/**/into item(id,name,value)values(501,'new',1)",
    ";insert into item (id, name, value) values (501, 'new', 1)",
    "-- select\rinsert into item (id, name, value)\nselect 501, 'new', 1",
)


def lines(name: str, version: int) -> Iterator[Text]:
    """Every way that is a text, for a database of this name on a server of this major version."""
    for text in _lines(version):
        statements = tuple(statement.replace("{name}", name) for statement in text.statements)
        yield Text(statements, text.lasts, text.abuse, text.not_by)


def _lines(version: int) -> Iterator[Text]:
    yield from texts(*_ROWS, *_CODE, *_DEFINITIONS)
    yield from texts(*_WITHOUT_EFFECT, lasts=False)
    yield from (Text(statements) for statements in _CODE_TWICE)
    yield from (Text((switch, *_HIDDEN)) for switch in _SWITCHES if ";" not in switch)
    # the extended protocol, which asyncpg speaks and psycopg for parameters, takes one statement only
    yield from (Text((several,), not_by=_EXTENDED) for several in _SEVERAL)
    yield from (Text((switch, *_HIDDEN), not_by=_EXTENDED) for switch in _SWITCHES if ";" in switch)
    escape = "select '\\''; begin read write; select writes(); commit; --'"
    yield Text(("set standard_conforming_strings = off", escape), not_by=_EXTENDED)
    yield from texts(*_DISGUISES)
    yield Text(("call commits()",))
    yield Text(("call sets()",))
    yield Text(("do $$ begin perform switches(); commit; insert into note (body) values ('x'); end $$",))
    yield Text(("do $$ begin commit; set transaction read write; insert into note (body) values ('x'); end $$",))
    yield Text(("select writes_when_it_may()", "select writes_when_it_may()"))
    yield Text(("commit prepared 'waiting_{name}'",))
    yield Text(("rollback prepared 'waiting_{name}'",))
    yield Text(("select makes_a_large_object()",), abuse=_LARGE_OBJECTS if version < 16 else "")
    if version >= 18:
        yield Text(("select pg_restore_relation_stats('schemaname', 'public', 'relname', 'note', 'relpages', 55)",))
        yield Text(("select pg_clear_relation_stats('public', 'item')",))
        yield Text(("select pg_clear_attribute_stats('public', 'item', 'value', false)",))


_EXTENDED: Final = ("asyncpg text", "asyncpg driver sql", "asyncpg cursor")
_LARGE_OBJECTS: Final = "until version 16 a read-only transaction may change large objects, here inside of a function"

# -- by the driver alone


@way(on=("psycopg",))
def read_only_is_off(session: Session) -> None:
    driver = driver_of(session)
    if hasattr(driver, "__aenter__"):
        done(driver.set_read_only(False))
        done(driver.set_autocommit(False))
    else:
        driver.read_only = False
        driver.autocommit = False
    on_driver(driver, "select writes()")
    done(driver.commit())
    done(driver.set_autocommit(True))


@way(on=("psycopg",))
def copy_in(session: Session) -> None:
    cursor = driver_of(session).cursor()
    copy = cursor.copy("copy item (id, name, value) from stdin")
    if hasattr(copy, "__aenter__"):
        opened = done(copy.__aenter__())
        done(opened.write_row((501, "new", 1)))
        done(copy.__aexit__(None, None, None))
        return
    with copy as opened:
        opened.write_row((501, "new", 1))


@way(on=("psycopg",))
def stream_of_a_write(session: Session) -> None:
    cursor = driver_of(session).cursor()
    rows = cursor.stream("insert into item (id, name, value) values (501, 'new', 1) returning id")
    if hasattr(rows, "__anext__"):
        done(rows.__anext__())
    else:
        next(rows)


@way(on=("psycopg",))
def executemany_of_the_driver(session: Session) -> None:
    cursor = driver_of(session).cursor()
    done(cursor.executemany("insert into item (id, name, value) values (%s, %s, 1)", [(501, "a"), (502, "b")]))


@way(on=("psycopg",))
def bytes_of_the_driver(session: Session) -> None:
    done(driver_of(session).execute(b"insert into item (id, name, value) values (501, 'new', 1)"))


@way(on=("psycopg",))
def composed_of_the_driver(session: Session) -> None:
    from psycopg import sql

    insert = sql.SQL("insert into {} (id, name, value) values (501, 'new', 1)").format(sql.Identifier("item"))
    done(driver_of(session).execute(insert))


@way(on=("psycopg",))
def another_cursor_factory(session: Session) -> None:
    import psycopg

    driver = driver_of(session)
    asynchronous = hasattr(driver, "__aenter__")
    driver.cursor_factory = psycopg.AsyncClientCursor if asynchronous else psycopg.ClientCursor
    done(driver.execute("set default_transaction_read_only = off"))
    done(driver.execute("insert into note (body) values ('x')"))


@way(on=("psycopg",))
def tpc_commit_of_another(session: Session) -> None:
    driver = driver_of(session)
    waiting = [xid for xid in done(driver.tpc_recover()) if xid.database == driver.info.dbname]
    done(driver.tpc_commit(waiting[0]))


@way(on=("psycopg",))
def tpc_rollback_of_another(session: Session) -> None:
    driver = driver_of(session)
    waiting = [xid for xid in done(driver.tpc_recover()) if xid.database == driver.info.dbname]
    done(driver.tpc_rollback(waiting[0]))


@way(on=("psycopg",))
def a_function_switches_for_the_driver(session: Session) -> None:
    driver = driver_of(session)
    done(driver.execute("select switches()"))
    done(driver.execute("select writes()"))


@way(on=("psycopg",))
def a_named_cursor(session: Session) -> None:
    driver = driver_of(session)
    for statement in ("select switches()", "select writes()"):
        cursor: Any = driver.cursor(f"named_{len(statement)}", withhold=True)
        done(cursor.execute(statement))
        done(cursor.fetchall())
        done(cursor.close())


@way(on=("psycopg",))
def a_named_cursor_of_another_class(session: Session) -> None:
    import psycopg

    driver = driver_of(session)
    driver.server_cursor_factory = psycopg.AsyncServerCursor if hasattr(driver, "__aenter__") else psycopg.ServerCursor
    a_named_cursor(session)


@way(on=("psycopg",))
def a_pipeline(session: Session) -> None:
    driver = driver_of(session)
    pipeline = driver.pipeline()
    opened = done(pipeline.__aenter__()) if hasattr(pipeline, "__aenter__") else pipeline.__enter__()
    try:
        done(driver.execute("select switches()"))
        done(opened.sync())
        done(driver.execute("select writes()"))
        done(opened.sync())
    finally:
        leave = getattr(pipeline, "__aexit__", None) or pipeline.__exit__
        done(leave(None, None, None))


@way(on=("psycopg",))
def a_transaction_of_psycopg(session: Session) -> None:
    driver = driver_of(session)
    transaction = driver.transaction()
    if hasattr(transaction, "__aenter__"):
        done(transaction.__aenter__())
        done(driver.execute("select writes()"))
        done(transaction.__aexit__(None, None, None))
        return
    with transaction:
        driver.execute("select writes()")


@way(on=("psycopg",))
def executemany_of_a_switch(session: Session) -> None:
    cursor = driver_of(session).cursor()
    done(cursor.executemany("select writes_when_it_may() where %s > 0", [(1,), (2,), (3,)]))


@way(on=("psycopg",), lasts=False)
def an_isolation_level_of_the_driver(session: Session) -> None:
    import psycopg

    driver = driver_of(session)
    if hasattr(driver, "__aenter__"):
        done(driver.set_isolation_level(psycopg.IsolationLevel.SERIALIZABLE))
    else:
        driver.isolation_level = psycopg.IsolationLevel.SERIALIZABLE


@way(on=("psycopg",), lasts=False)
def rows_of_another_kind(session: Session) -> None:
    from psycopg.rows import dict_row

    driver_of(session).row_factory = dict_row


@way(on=("psycopg",), abuse="libpq is below the driver's connection")
def libpq(session: Session) -> None:
    pgconn = driver_of(session).pgconn
    for statement in (b"set default_transaction_read_only = off", b"insert into note (body) values ('libpq')"):
        pgconn.exec_(statement)


@way(on=("psycopg",), abuse="a cursor made past the connection is not judged")
def a_cursor_past_the_connection(session: Session) -> None:
    import psycopg

    driver = driver_of(session)
    cursor: Any = (psycopg.AsyncCursor if hasattr(driver, "__aenter__") else psycopg.Cursor)(driver)
    done(cursor.execute("begin read write"))
    done(cursor.execute("insert into note (body) values ('cursor')"))
    done(cursor.execute("commit"))


@way(on=("asyncpg",))
def fetch_a_write(session: Session) -> None:
    done(driver_of(session).fetch("insert into item (id, name, value) values (501, 'new', 1) returning id"))


@way(on=("asyncpg",))
def fetchval_a_write(session: Session) -> None:
    done(driver_of(session).fetchval("with a as (delete from item returning id) select count(*) from a"))


@way(on=("asyncpg",))
def fetchrow_a_write(session: Session) -> None:
    done(driver_of(session).fetchrow("update item set value = 9 returning id"))


@way(on=("asyncpg",))
def executemany_of_asyncpg(session: Session) -> None:
    done(driver_of(session).executemany("insert into item (id, name, value) values ($1, $2, 1)", [(501, "a")]))


@way(on=("asyncpg",))
def prepare_a_write(session: Session) -> None:
    prepared = done(driver_of(session).prepare("insert into item (id, name, value) values (501, 'new', 1)"))
    done(prepared.fetch())


@way(on=("asyncpg",))
def copy_records(session: Session) -> None:
    columns = ["id", "name", "value"]
    done(driver_of(session).copy_records_to_table("item", records=[(501, "new", 1)], columns=columns))


@way(on=("asyncpg",))
def several_at_once(session: Session) -> None:
    done(driver_of(session).execute("begin read write; insert into note (body) values ('x'); commit"))


@way(on=("asyncpg",))
def a_function_switches_for_asyncpg(session: Session) -> None:
    driver = driver_of(session)
    done(driver.fetch("select switches()"))
    done(driver.fetch("select writes()"))


@way(on=("asyncpg",))
def a_transaction_of_asyncpg(session: Session) -> None:
    driver = driver_of(session)
    transaction = driver.transaction(readonly=False)
    done(transaction.start())
    try:
        done(driver.fetch("select writes()"))
    finally:
        done(transaction.commit())


@way(on=("asyncpg",), lasts=False)
def listen_to_a_channel(session: Session) -> None:
    done(driver_of(session).add_listener("way", lambda *_: None))


@way(on=("asyncpg",))
def a_cursor_of_asyncpg(session: Session) -> None:
    driver = driver_of(session)
    transaction = driver.transaction()
    done(transaction.start())
    try:
        opened = done(driver.cursor("with a as (delete from item returning id) select * from a"))
        done(opened.fetch(5))
    finally:
        done(transaction.commit())


@way(on=("asyncpg",))
def executemany_of_a_prepared_write(session: Session) -> None:
    prepared = done(driver_of(session).prepare("insert into item (id, name, value) values ($1, 'new', 1)"))
    done(prepared.executemany([(501,)]))


@way(on=("asyncpg",))
def copy_in_by_asyncpg(session: Session) -> None:
    import io

    columns = ["id", "name", "value"]
    source = io.BytesIO(b"501\tnew\t1\n")
    done(driver_of(session).copy_to_table("item", source=source, columns=columns))


@way(on=("asyncpg",))
def prepared_before_the_switch(session: Session) -> None:
    driver = driver_of(session)
    writes = done(driver.prepare("select writes()"))
    done(driver.fetch("select switches()"))
    done(writes.fetch())


@way(on=("asyncpg",), abuse="the protocol is below the driver's connection")
def protocol(session: Session) -> None:
    below = driver_of(session)._protocol
    done(below.query("set default_transaction_read_only = off", 5.0))
    done(below.query("insert into note (body) values ('protocol')", 5.0))


@way(on=("psycopg", "asyncpg"))
def dml_in_a_cte_of_core(session: Session) -> None:
    item = sa.table("item", sa.column("id"), sa.column("value"))
    gone = sa.delete(item).returning(item.c.id).cte("gone")
    session.execute(sa.select(sa.func.count()).select_from(gone)).all()


@way(on=("psycopg", "asyncpg"))
def a_function_of_core(session: Session) -> None:
    session.scalar(sa.select(sa.func.writes()))


@way(on=("psycopg", "asyncpg"))
def a_sequence_of_core(session: Session) -> None:
    session.scalar(sa.select(sa.Sequence("sq").next_value()))


@way(on=("psycopg", "asyncpg"))
def a_sequence_executed(session: Session) -> None:
    session.scalar(sa.Sequence("sq"))


@way(on=("psycopg", "asyncpg"))
def a_switch_of_core(session: Session) -> None:
    session.scalar(sa.select(sa.func.set_config("default_transaction_read_only", "off", False)))
    session.scalar(sa.select(sa.func.writes()))


@way(on=("psycopg", "asyncpg"))
def a_switch_on_another_connection(session: Session) -> None:
    with session.connection().engine.connect() as connection:
        connection.execute(sa.select(sa.func.switches()))
        connection.execute(sa.select(sa.func.writes()))
        connection.commit()


@way(on=("psycopg", "asyncpg"))
def upsert_of_core(session: Session) -> None:
    from sqlalchemy.dialects.postgresql import insert

    item = sa.table("item", sa.column("id"), sa.column("name"), sa.column("value"))
    statement = insert(item).values(id=1, name="one", value=5)
    session.execute(statement.on_conflict_do_update(index_elements=[item.c.id], set_={"value": 99}))


@way(on=("psycopg", "asyncpg"))
def a_server_side_cursor(session: Session) -> None:
    statement = sa.text("select writes()").execution_options(stream_results=True)
    session.execute(statement).all()


# -- what must work

READS: Final = (
    "select 1",
    "SELECT id FROM item",
    "  select id from item ;",
    "select id from item; -- the end",
    "-- a comment\nselect id from item",
    "/* a comment; with a semicolon */ select ';' as a, E'\\';' as b, $$;$$ as c, $x$ ; $x$ as d",
    "/* a /* nested */ comment */ select id from item",
    "(select id from item) union all (select id from invoice)",
    "((select 1))",
    "select id from item except select id from invoice",
    "select distinct on (value) id, value from item order by value, id",
    "select count(*), sum(value) filter (where id > 1) from item",
    "select id, row_number() over (partition by value order by id) from item",
    "select value, rank() over w from item window w as (order by value rows between 1 preceding and current row)",
    "select value, count(*) from item group by rollup (value) having count(*) > 0",
    "select grouping(value), value from item group by grouping sets ((value), ())",
    "with a as (select id from item) select * from a",
    "with recursive n(i) as (select 1 union all select i + 1 from n where i < 5) select * from n",
    "with a as not materialized (select 1 as x) select * from a",
    "values (1, 'a'), (2, 'b')",
    "table item",
    "select * from item left join invoice using (id) where item.id in (1, 2)",
    "select * from item cross join lateral (select count(*) from note where note.id < item.id) s(n)",
    "select * from item tablesample system (50) repeatable (1)",
    "select * from item order by id offset 1 fetch first 2 rows with ties",
    "select body -> 'a' -> 'b' ->> 0, body #>> '{a,b}', body @> '{\"c\": \"x\"}' from doc",
    "select jsonb_path_query(body, '$.a.b[*]') from doc",
    "select jsonb_agg(item), jsonb_build_object('a', 1) from item",
    "select words @@ to_tsquery('simple', 'fox'), ts_rank(words, to_tsquery('simple', 'fox')) from doc",
    "select 'x' = any(tags), tags || '{z}', unnest(tags) from doc",
    "select span @> 3, lower(span) from doc",
    "select generate_series(1, 5)",
    "select * from generate_series(date '2026-01-01', date '2026-01-05', interval '1 day') d",
    "select * from unnest(array[1, 2], array['a', 'b']) with ordinality as u(a, b, n)",
    "select string_agg(name, ', ' order by id), array_agg(distinct value) from item",
    "select percentile_cont(0.5) within group (order by value) from item",
    "select case when value > 10 then 'high' else 'low' end, coalesce(null, 1), nullif(1, 1) from item",
    "select now(), current_date, clock_timestamp(), extract(epoch from now())",
    "select current_user, current_database(), version(), pg_backend_pid()",
    "select current_setting('transaction_read_only'), current_setting('search_path')",
    "select pg_relation_size('item'), pg_database_size(current_database())",
    "select exists (select 1 from item where name ~ '^o'), regexp_replace('a', 'b', 'c')",
    "select proname from pg_proc where proname in ('lo_create', 'pg_notify', 'set_config')",
    "select 'insert into item; begin read write; commit' as text",
    "select 'update' as insert, 'delete' as \"update\" from item",
    "select id as \"a;b\", 'it''s; fine' from item",
    "select lo_get(424242)",
    "select last_value, is_called from sq",
    "select pg_get_viewdef('item_v'), obj_description('item'::regclass)",
    "select * from item_v where id = 1",
    "select * from mv",
    "select * from information_schema.tables where table_name = 'item'",
    "select * from pg_stat_activity where pid = pg_backend_pid()",
    "select * from pg_locks limit 1",
    "explain select * from item",
    "explain (analyze, buffers, format json) select * from item",
    "explain (verbose) with a as (select 1) select * from a",
    "explain insert into item (id, name, value) values (501, 'new', 1)",
    "explain (analyze, verbose) select 'into' as a, \"id\" /* into */ from item -- into",
    "show transaction_read_only",
    "show search_path",
    "show all",
    "set search_path = public",
    "set local work_mem = '8MB'",
    "set statement_timeout = '10s'",
    "reset statement_timeout",
    "set time zone 'UTC'",
    "set enable_seqscan to on",
    "set application_name = 'ways'",
    "copy item to stdout",
    "copy (select id from item order by id) to stdout with (format csv)",
    "select pg_advisory_lock(1), pg_advisory_unlock(1)",
    "select pg_try_advisory_xact_lock(2)",
    "select random(), gen_random_uuid()",
    "select pg_sleep(0)",
    "select row(1, 2) = row(1, 2), (1, 2) < (1, 3)",
    "select * from json_to_recordset('[{\"a\": 1}]') as r(a integer)",
    "select set_config('app.tenant', 'acme', false)",
)
