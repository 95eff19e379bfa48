"""MariaDB: what is there to be changed, ways to change it, and ways to read it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from .way import Text, done, driver_of, texts, way

__all__ = ["READS", "SETUP", "lines"]

SETUP: Final = (
    "insert into item (id, name, value) values (1, 'one', 10), (2, 'two', 20), (3, 'three', 30)",
    "insert into invoice (id) values (1)",
    "create table note (id integer auto_increment primary key, body varchar(40) not null default 'x')",
    "insert into note (body) values ('a'), ('b'), ('c')",
    "create table plain (id integer primary key) engine=MyISAM",
    "insert into plain values (1)",
    "create table crashsafe (id integer primary key) engine=Aria",
    "create table parted (id integer) partition by range (id) (partition low values less than (10), "
    "partition high values less than maxvalue)",
    "insert into parted values (1), (20)",
    "create table waiting (id integer primary key)",
    "create table dated (id integer primary key) with system versioning",
    "create table doc (id integer primary key, body json, words text, fulltext (words))",
    'insert into doc values (1, \'{"a": {"b": [1, 2, 3]}, "c": "x"}\', \'a quick fox\')',
    "create index item_value on item (value)",
    "create view item_v as select id, name, value from item",
    "create sequence sq",
    "create function writes() returns integer deterministic begin insert into note (body) values ('w'); return 1; end",
    "create function counts() returns integer deterministic begin return nextval(sq); end",
    "create function switches() returns integer deterministic begin set session tx_read_only = 0; return 1; end",
    "create function hides() returns integer deterministic "
    "begin set session session_track_system_variables = ''; return 1; end",
    "create function hides_and_switches() returns integer deterministic "
    "begin set session session_track_system_variables = ''; set session tx_read_only = 0; return 1; end",
    "create function switches_and_writes() returns integer deterministic "
    "begin set session tx_read_only = 0; insert into note (body) values ('w'); return 1; end",
    "create view writes_v as select writes() as w",
    "create function adds(a integer) returns integer deterministic return a + 1",
    "create procedure takes(a integer) begin end",
    "create procedure inserts() begin insert into note (body) values ('called'); end",
    "create procedure switches_off() begin set session tx_read_only = 0; insert into note (body) values ('p'); end",
    "create procedure begins() begin start transaction read write; insert into note (body) values ('p'); commit; end",
    "create procedure prepares() begin execute immediate 'set session tx_read_only = 0'; "
    "execute immediate 'insert into note (body) values (1)'; end",
    "create trigger noticed before insert on plain for each row set @noticed = 1",
    "create event rarely on schedule every 1 year do select 1",
)

_NEW: Final = "insert into item (id, name, value) values (501, 'new', 1)"

_ROWS: Final = (
    _NEW,
    "insert item set id = 501, name = 'new', value = 1",
    "insert into item (id, name, value) select 501, 'new', 1",
    "insert ignore into item (id, name, value) values (501, 'new', 1)",
    "insert low_priority into item (id, name, value) values (501, 'new', 1)",
    "insert into item (id, name, value) values (1, 'one', 1) on duplicate key update value = 99",
    "insert into item (id, name, value) values (501, 'new', 1) returning id",
    "insert into item_v (id, name, value) values (501, 'new', 1)",
    "insert into plain values (2)",
    "insert into crashsafe values (2)",
    "insert into dated values (2)",
    "insert into note (body) values (default)",
    "insert into note () values ()",
    "insert into note (body) select name from item",
    "insert into parted values (1)",
    "replace into item (id, name, value) values (1, 'replaced', 1)",
    "replace into item (id, name, value) values (501, 'new', 1) returning id",
    "replace into item (id, name, value) select 1, 'replaced', 1",
    "replace item set id = 1, name = 'replaced', value = 0",
    "update item set value = 99",
    "update low_priority item set value = 99",
    "update item set value = 98 where id = 1 order by id limit 1",
    "update item, invoice set item.value = 97 where item.id = invoice.id",
    "update item join invoice using (id) set value = 96",
    "update item_v set value = 95",
    "update ignore item set value = 94",
    "delete from item",
    "delete from item where id = 1 returning id",
    "delete from item order by id limit 1",
    "delete item from item join invoice using (id)",
    "delete from item using item join invoice using (id)",
    "delete quick from plain",
    "truncate note",
    "truncate table note",
    "analyze insert into item (id, name, value) values (501, 'new', 1)",
    "analyze update item set value = 99",
    "analyze delete from item",
    "analyze format=json update item set value = 99",
    "create table copied as select * from item",
    "create table copied (id integer primary key) select id from item",
    "create or replace table note as select 1 as a",
)

_CODE: Final = (
    "select writes()",
    "select id from item where writes() > 0",
    "select id, writes() from item",
    "select (select writes())",
    "select count(writes()) from item",
    "select * from (select writes() as w) s",
    "with a as (select writes() as w) select * from a",
    "select * from writes_v",
    "values (writes())",
    "select 1 into @a from item where writes() and id = 1",
    "select if(1, writes(), 0)",
    "select 1 union select writes()",
    "select id from item group by id having writes() > 0",
    "set @a = writes()",
    "set @a := (select writes())",
    "set sql_mode = if(writes(), @@sql_mode, @@sql_mode)",
    "set statement max_statement_time = 10 for select writes()",
    "do writes()",
    "do nextval(sq)",
    "call inserts()",
    "call takes(writes())",
    "select switches_and_writes()",
    "select counts()",
    "select nextval(sq)",
    "select next value for sq",
    "select setval(sq, 500)",
    "select setval(sq, 500, 0)",
    "select benchmark(2, nextval(sq))",
    "analyze select writes()",
    "analyze format=json select writes()",
    "execute immediate 'insert into note (body) values (1)'",
    "execute immediate concat('insert into', ' note (body) values (1)')",
    "begin not atomic insert into note (body) values ('b'); end",
    "begin not atomic set session tx_read_only = 0; insert into note (body) values ('b'); end",
    "begin not atomic start transaction read write; insert into note (body) values ('b'); commit; end",
    "if 1 then insert into note (body) values ('i'); end if",
    "for i in 1..2 do insert into note (body) values ('f'); end for",
    "while (select count(*) from note) < 9 do insert into note (body) values ('w'); end while",
    "loop insert into note (body) values ('l'); set @x = 1/0; signal sqlstate '45000'; end loop",
    "repeat insert into note (body) values ('r'); until 1 end repeat",
    "case when 1 then insert into note (body) values ('c'); end case",
    "call switches_off()",
    "call begins()",
    "call prepares()",
    "set statement tx_read_only = 0 for insert into note (body) values ('s')",
    "set statement max_statement_time = 10 for insert into note (body) values ('s')",
    "set statement tx_read_only = 0 for select writes()",
    "set statement max_statement_time = 10, tx_read_only = off for update item set value = 1",
    "set statement max_statement_time = 10 for call begins()",
    "set statement max_statement_time = 10 for set statement tx_read_only = 0 for select writes()",
    "set statement max_statement_time = 10 for analyze table item persistent for all",
)
_CODE_TWICE: Final = (
    (f'prepare p from "{_NEW}"', "execute p"),
    ("prepare p from 'select writes()'", "execute p"),
    (f'set @q = "{_NEW}"', "prepare p from @q", "execute p"),
    ("prepare p from 'set session tx_read_only = 0'", "execute p", "select writes()"),
    ("begin", _NEW, "commit"),
    ("start transaction", _NEW, "commit"),
    ("set autocommit = 0", _NEW, "commit", "set autocommit = 1"),
    ("lock tables item write", _NEW, "unlock tables"),
    ("xa begin 'x'", _NEW, "xa end 'x'", "xa commit 'x' one phase"),
    ("xa start 'y{name}'", _NEW, "xa end 'y{name}'", "xa prepare 'y{name}'", "xa commit 'y{name}'"),
)

_DEFINITIONS: Final = (
    "create table made (id integer)",
    "create table if not exists made like item",
    "create or replace table made (id integer) engine=MyISAM",
    "alter table item add column more integer",
    "alter table item drop column value",
    "alter table item rename column value to amount",
    "alter table item modify value bigint",
    "alter table item change value amount integer",
    "alter table item add index made_index (name, value)",
    "alter table item drop index item_value",
    "alter table item comment = 'commented'",
    "alter table item engine = Aria",
    "alter table note auto_increment = 500",
    "alter table parted drop partition low",
    "alter table parted truncate partition low",
    "alter table parted reorganize partition low into (partition lower values less than (5), "
    "partition low values less than (10))",
    "alter table dated drop system versioning",
    "alter table item rename to items",
    "rename table note to notes",
    "drop table note",
    "drop table if exists note, plain",
    "create index made_index on item (name, value)",
    "create unique index made_index on note (id, body)",
    "drop index item_value on item",
    "create view made_view as select 1 as a",
    "create or replace view item_v as select id from item",
    "drop view item_v",
    "create sequence made_sequence",
    "alter sequence sq restart 500",
    "alter sequence sq increment 10",
    "drop sequence sq",
    "create or replace procedure inserts() begin end",
    "create procedure made_procedure() select 1",
    "alter procedure inserts comment 'commented'",
    "drop function adds",
    "drop procedure inserts",
    "create event made_event on schedule every 1 day do delete from item",
    "create event made_event on schedule at current_timestamp + interval 1 year do delete from item",
    "alter event rarely disable",
    "alter event rarely rename to often",
    "drop event rarely",
    "create database {name}_made",
    "alter database {name} character set latin1",
    "alter database {name} comment 'commented'",
    "analyze table item persistent for all",
    "analyze table item persistent for columns (value) indexes ()",
    "set password = password('other')",
)
_WITHOUT_EFFECT: Final = (
    "load data local infile '/dev/null' replace into table note",
    "select exists (select writes())",
    "select 1 order by writes()",
    "alter view item_v as select id from item",
    "create function made_function() returns integer return 1",
    "create trigger made_trigger before insert on note for each row set @a = 1",
    "drop trigger noticed",
    "explain insert into item (id, name, value) values (501, 'new', 1)",
    "create temporary table made (id integer)",
    "create temporary table made as select * from item",
    "create or replace temporary table made (id integer)",
    "select * from item for update",
    "select * from item lock in share mode",
    "select * from item for update nowait",
    "select * from item for update skip locked",
    "lock tables item write",
    "lock tables item read",
    "flush tables",
    "flush tables item with read lock",
    "flush privileges",
    "reset query cache",
    "handler item open",
    "select id into outfile '/nowhere/file' from item",
    "select id from item into dumpfile '/nowhere/file'",
    "select 1 into/**/outfile '/nowhere/file'",
    "load data infile '/nowhere/file' into table note",
    "load xml infile '/nowhere/file' into table note",
    "grant select on {name}.* to app",
    "revoke drop on {name}.* from nobody",
    "create user made_user",
    "drop user if exists made_user",
    "rename user made_user to other_user",
    "create role made_role",
    "set role none",
    "set default role none",
    "set global max_connections = 100",
    "set persist max_connections = 100",
    "set global tx_read_only = 0",
    "install soname 'nothing'",
    "install plugin nothing soname 'nothing'",
    "uninstall plugin nothing",
    "create server made_server foreign data wrapper mysql options (host '127.0.0.1')",
    "purge binary logs before now()",
    "reset master",
    "change master to master_host = 'nowhere'",
    "stop slave",
    "binlog 'nothing'",
    "kill 0",
    "shutdown",
    "backup stage start",
    "cache index plain in hot_cache",
    "optimize table item",
    "optimize table plain",
    "repair table plain",
    "check table item",
    "analyze table item",
    "analyze local table item",
    "signal sqlstate '45000'",
    "get diagnostics @a = number",
    "use mysql",
    "commit",
    "rollback",
    "commit and chain",
    "rollback release",
    "unlock tables",
    "xa recover",
    "xa commit 'nothing'",
    "savepoint a",
    "release savepoint a",
)

_HIDDEN: Final = ("select writes()", _NEW)
_SWITCHES: Final = (
    "set session transaction read write",
    "set session transaction read/**/write",
    "set session transaction isolation level read committed, read write",
    "set transaction read write",
    "set local transaction read write",
    "set tx_read_only = 0",
    "set tx_read_only = off",
    "set session tx_read_only = 0",
    "set local tx_read_only = 0",
    "set @@tx_read_only = 0",
    "set @@session.tx_read_only = 0",
    "set @@local.tx_read_only := off",
    "set session tx_read_only = default",
    "set `tx_read_only` = 0",
    "set session `tx_read_only` = 0",
    "set @@session.`tx_read_only` = 0",
    "set Tx_Read_Only = 0",
    "set @a = 1, session tx_read_only = 0",
    "set sql_safe_updates = 0, tx_read_only = 0",
    "set/**/tx_read_only=0",
    "set # a comment\n tx_read_only = 0",
    "set -- a comment\n tx_read_only = 0",
    "/*! set tx_read_only = 0 */",
    "/*M! set session tx_read_only = 0 */",
    "/*!50000 set tx_read_only = 0 */",
    "/*!set*/ tx_read_only = 0",
    "set /*! tx_read_only */ = 0",
    "/* first */ set tx_read_only = 0",
    "-- first\nset tx_read_only = 0",
    "# first\nset tx_read_only = 0",
    "start transaction read write",
    "start transaction with consistent snapshot, read write",
    "start transaction /* . */ read write",
    "/*! start transaction read write */",
    "begin",
    "execute immediate 'set tx_read_only = 0'",
    "begin not atomic set tx_read_only = 0; end",
    "if 1 then set tx_read_only = 0; end if",
    "set statement tx_read_only = 0 for set session tx_read_only = 0",
    "set autocommit = 0, tx_read_only = 0",
    "set completion_type = 1, tx_read_only = 0",
)
_SEVERAL: Final = (
    f"select 1; set session tx_read_only = 0; {_NEW}",
    f"select 1; start transaction read write; {_NEW}; commit",
    "select 1; call begins()",
    "select ';'; call begins()",
    'select "a;b"; call begins()',
    "select 1 as `a;b`; call begins()",
    "select 1 /* ; */; call begins()",
    "select 1 # ;\n; call begins()",
    "select 1 -- ;\n; call begins()",
    "select '\\'; x'; call begins()",
    "set @a = 1; call begins()",
    "set sql_mode = 'NO_BACKSLASH_ESCAPES'; select '\\'; call begins(); -- '",
    "select 1 /*!99999999 ' */; call begins(); /*!99999999 ' */",
    "do 0; set session tx_read_only = 0; select writes()",
)
_DISGUISES: Final = (
    f"  \n\t {_NEW}",
    f"/* a comment */ {_NEW}",
    f"# select\n{_NEW}",
    f"-- select\n{_NEW}",
    f"/*! {_NEW} */",
    f"/*M!100000 {_NEW} */",
    "/*!insert*/ into item (id, name, value) values (501, 'new', 1)",
    "InSeRt InTo item (id, name, value) VaLuEs (501, 'new', 1)",
    "insert/**/into/**/item(id,name,value)values(501,'new',1)",
)


def lines(name: str) -> Iterator[Text]:
    """Every way that is a text, for a database of this name."""
    for text in _lines():
        yield Text(tuple(line.replace("{name}", name) for line in text.statements), text.lasts, text.abuse, text.not_by)


def _lines() -> Iterator[Text]:
    yield from texts(*_ROWS, *_CODE, *_DEFINITIONS)
    yield from texts(*_WITHOUT_EFFECT, lasts=False)
    yield from (Text(statements) for statements in _CODE_TWICE)
    yield from (Text((switch, *_HIDDEN)) for switch in _SWITCHES)
    # asyncmy asks for several statements in one text, PyMySQL does not
    yield from (Text((several,), not_by=_ONE) for several in _SEVERAL)
    yield from texts(*_DISGUISES)
    yield Text(("xa commit 'waiting_{name}'",))
    yield Text(("xa rollback 'waiting_{name}'",))
    yield Text(("select switches()", "select writes()"))
    yield Text(("select id from item where switches() and id = 1", "select * from writes_v"))
    yield Text(("select switches()", "commit", "rollback", "select writes()"))
    yield Text(("set @a = switches()", "select @@tx_read_only", "select writes()"))
    yield Text(("select switches() from item into @a", "select writes()"))
    yield Text(("set session_track_system_variables = ''", "select switches()", "select writes()"))
    yield Text(("select switches() from item into @a", "commit", "select 1", "select writes()"))
    yield Text(("select hides()", "select switches()", "select writes()"), abuse=_FUNCTIONS)
    yield Text(("select hides_and_switches()", "select writes()"), abuse=_FUNCTIONS)


_ONE: Final = ("pymysql text", "pymysql driver sql", "pymysql cursor", "pymysql driver")
_FUNCTIONS: Final = "a stored function switches off that the server reports, and the access mode of the session with it"


# -- by the driver alone


@way(on=("pymysql", "asyncmy"))
def query_of_the_driver(session: Session) -> None:
    done(driver_of(session).query(_NEW))


@way(on=("pymysql", "asyncmy"))
def bytes_of_the_driver(session: Session) -> None:
    done(driver_of(session).query(_NEW.encode()))


@way(on=("pymysql", "asyncmy"))
def executemany_of_the_driver(session: Session) -> None:
    cursor = driver_of(session).cursor()
    done(cursor.executemany("insert into item (id, name, value) values (%s, %s, 1)", [(501, "a"), (502, "b")]))


@way(on=("pymysql", "asyncmy"))
def callproc_of_the_driver(session: Session) -> None:
    done(driver_of(session).cursor().callproc("begins"))


@way(on=("pymysql",))
def an_unbuffered_cursor(session: Session) -> None:
    from pymysql.cursors import SSCursor

    cursor = driver_of(session).cursor(SSCursor)
    cursor.execute("set session tx_read_only = 0")
    cursor.execute(_NEW)


@way(on=("asyncmy",))
def an_unbuffered_cursor_of_asyncmy(session: Session) -> None:
    from asyncmy.cursors import SSCursor

    cursor = driver_of(session).cursor(SSCursor)
    done(cursor.execute("set session tx_read_only = 0"))
    done(cursor.execute(_NEW))


@way(on=("pymysql", "asyncmy"))
def begin_of_the_driver(session: Session) -> None:
    driver = driver_of(session)
    done(driver.begin())
    done(driver.query(_NEW))
    done(driver.commit())


@way(on=("pymysql", "asyncmy"))
def autocommit_is_off(session: Session) -> None:
    driver = driver_of(session)
    done(driver.autocommit(False))
    try:
        done(driver.query("select writes()"))
        done(driver.commit())
    finally:
        done(driver.autocommit(True))


@way(on=("pymysql",))
def a_switch_seen_by_an_unbuffered_cursor(session: Session) -> None:
    from pymysql.cursors import SSCursor

    cursor = driver_of(session).cursor(SSCursor)
    cursor.execute("select switches()")
    cursor.fetchall()
    cursor.close()
    driver_of(session).commit()
    driver_of(session).query("select writes()")


@way(on=("asyncmy",))
def a_switch_seen_by_an_unbuffered_cursor_of_asyncmy(session: Session) -> None:
    from asyncmy.cursors import SSCursor

    cursor = driver_of(session).cursor(SSCursor)
    done(cursor.execute("select switches()"))
    done(cursor.fetchall())
    done(cursor.close())
    done(driver_of(session).commit())
    done(driver_of(session).query("select writes()"))


@way(on=("pymysql", "asyncmy"))
def a_switch_and_a_ping(session: Session) -> None:
    driver = driver_of(session)
    done(driver.query("select switches()"))
    done(driver.ping())
    done(driver.autocommit(True))
    done(driver.query("select writes()"))


@way(on=("asyncmy",))
def prepared_by_the_driver(session: Session) -> None:
    prepared = done(driver_of(session).prepare(_NEW))
    done(prepared.execute())


@way(on=("asyncmy",))
def a_switch_prepared_by_the_driver(session: Session) -> None:
    driver = driver_of(session)
    done(done(driver.prepare("set session tx_read_only = 0")).execute())
    done(driver.query(_NEW))


@way(on=("pymysql", "asyncmy"), lasts=False)
def another_database(session: Session) -> None:
    done(driver_of(session).select_db("information_schema"))


@way(on=("pymysql",))
def connect_again(session: Session) -> None:
    driver = driver_of(session)
    driver.connect()
    driver.query("select writes()")
    driver.commit()


@way(on=("pymysql", "asyncmy"), abuse="a private method, below what the driver publishes")
def below_the_driver(session: Session) -> None:
    driver = driver_of(session)
    for statement in ("set session tx_read_only = 0", _NEW):
        done(driver._execute_command(3, statement))
        done(driver._read_query_result())


@way(on=("pymysql", "asyncmy"))
def a_function_of_core(session: Session) -> None:
    session.scalar(sa.select(sa.func.writes()))


@way(on=("pymysql", "asyncmy"))
def a_sequence_of_core(session: Session) -> None:
    session.scalar(sa.text("select nextval(sq)"))


@way(on=("pymysql", "asyncmy"))
def upsert_of_core(session: Session) -> None:
    from sqlalchemy.dialects.mysql import insert

    item = sa.table("item", sa.column("id"), sa.column("name"), sa.column("value"))
    session.execute(insert(item).values(id=1, name="one", value=5).on_duplicate_key_update(value=99))


@way(on=("pymysql", "asyncmy"))
def replace_of_core(session: Session) -> None:
    item = sa.table("item", sa.column("id"), sa.column("name"), sa.column("value"))
    session.execute(sa.insert(item).prefix_with("ignore").values(id=501, name="new", value=1))


@way(on=("pymysql", "asyncmy"))
def a_server_side_cursor(session: Session) -> None:
    session.execute(sa.text("select writes()").execution_options(stream_results=True)).all()


READS: Final = (
    "select 1",
    "SELECT id FROM item",
    "  select id from item ;",
    "select id from item; -- the end",
    "-- a comment\nselect id from item",
    "# a comment\nselect id from item",
    "/* a comment; with a semicolon */ select ';' as a, \"x;y\" as b, 'it''s' as c",
    "select /*! straight_join */ id from item",
    "select /*+ hint */ id from item",
    "(select id from item) union all (select id from invoice)",
    "select id from item except select id from invoice",
    "select id from item intersect select id from invoice",
    "select distinct value from item order by value desc limit 2 offset 0",
    "select sql_no_cache id from item",
    "select high_priority id from item",
    "select count(*), sum(value), group_concat(name order by id separator ', ') from item",
    "select id, row_number() over (partition by value order by id) from item",
    "select value, rank() over w from item window w as (order by value)",
    "select value, count(*) from item group by value with rollup having count(*) > 0",
    "with a as (select id from item) select * from a",
    "with recursive n(i) as (select 1 union all select i + 1 from n where i < 5) select * from n",
    "values (1, 'a'), (2, 'b')",
    "select * from (values (1), (2)) as v",
    "select * from item left join invoice using (id) where item.id in (1, 2)",
    "select * from item straight_join invoice",
    "select * from item force index (item_value) where value > 1",
    "select * from parted partition (low)",
    "select * from dated for system_time all",
    "select json_extract(body, '$.a.b[0]'), json_value(body, '$.c'), json_contains(body, '1', '$.a.b') from doc",
    "select json_arrayagg(id), json_objectagg(id, name) from item",
    "select * from json_table('[{\"a\": 1}]', '$[*]' columns (a integer path '$.a')) as t",
    "select * from doc where match (words) against ('fox')",
    "select * from doc where match (words) against ('+fox' in boolean mode)",
    "select seq from seq_1_to_5",
    "select case when value > 10 then 'high' else 'low' end, coalesce(null, 1), ifnull(null, 2) from item",
    "select now(), curdate(), unix_timestamp(), date_add(now(), interval 1 day)",
    "select current_user(), database(), version(), connection_id()",
    "select @@tx_read_only, @@session.sql_mode, @@max_connections",
    "select id into @a from item where id = 1",
    "select @b := 1",
    "select adds(1)",
    "select exists (select 1 from item where name regexp '^o')",
    "select 'insert into item; set tx_read_only = 0' as text",
    "select 'update' as `insert`, 'delete' as `update;` from item",
    "select last_insert_id(), row_count(), found_rows()",
    "select previous value for sq",
    "select get_lock('a', 0), release_lock('a')",
    "select sleep(0), uuid(), rand(1)",
    "select convert('a' using utf8mb4), cast(1 as char), hex('a')",
    "select * from item_v where id = 1",
    "select * from information_schema.tables where table_schema = database()",
    "select * from information_schema.processlist",
    "select * from item natural join invoice",
    "explain select * from item",
    "explain extended select * from item",
    "explain format=json select * from item",
    "analyze select * from item",
    "analyze format=json select * from item",
    "describe item",
    "desc item value",
    "show tables",
    "show create table item",
    "show full columns from item",
    "show index from item",
    "show variables like 'tx_read_only'",
    "show status like 'Threads%'",
    "show processlist",
    "show warnings",
    "show grants",
    "help 'select'",
    "checksum table item",
    "set @c = 1",
    "set session sql_mode = @@sql_mode",
    "set names utf8mb4",
    "set time_zone = '+00:00'",
    "set session transaction isolation level read committed",
    "set session max_statement_time = 10",
    "set statement max_statement_time = 10 for select id from item",
    "select interval(1, 0, 2), elt(1, 'a')",
)
