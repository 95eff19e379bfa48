"""SQLite: what is there to be changed, ways to change it, and ways to read it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from .way import Text, done, driver_of, texts, way

__all__ = ["READS", "SETUP", "lines"]

SETUP: Final = """
insert into item (id, name, value) values (1, 'one', 10), (2, 'two', 20), (3, 'three', 30);
insert into invoice (id) values (1);
create table note (id integer primary key autoincrement, body text not null default 'x');
insert into note (body) values ('a'), ('b'), ('c');
create table fat (id integer primary key, body blob);
insert into fat values (1, zeroblob(100));
create table doc (id integer primary key, body text);
insert into doc values (1, '{"a": {"b": [1, 2, 3]}, "c": "x"}');
create table row_less (id integer primary key, v integer) without rowid;
create view item_v as select id, name, value from item;
create trigger instead_of_insert instead of insert on item_v
    begin insert into item (id, name, value) values (new.id, new.name, new.value); end;
create trigger instead_of_update instead of update on item_v
    begin update item set value = new.value where id = old.id; end;
create trigger instead_of_delete instead of delete on item_v begin delete from item where id = old.id; end;
create trigger noted after insert on note begin update item set value = value + 1; end;
create index item_value on item (value);
create virtual table words using fts5 (body);
insert into words (body) values ('a quick fox');
create virtual table old_words using fts4 (body);
insert into old_words (body) values ('a lazy dog');
create virtual table places using rtree (id, x1, x2);
insert into places values (1, 0, 10);
"""

_NEW: Final = "insert into item (id, name, value) values (501, 'new', 1)"

_ROWS: Final = (
    _NEW,
    "insert into item select 501, 'new', 1",
    "insert into note default values",
    "insert into note (body) values ('one'), ('two')",
    "insert or replace into item (id, name, value) values (1, 'one', 99)",
    "insert or ignore into item (id, name, value) values (501, 'new', 1)",
    "insert or rollback into item (id, name, value) values (501, 'new', 1)",
    "insert or abort into item (id, name, value) values (501, 'new', 1)",
    "insert into item (id, name, value) values (1, 'one', 1) on conflict (id) do update set value = 99",
    "insert into item (id, name, value) values (501, 'new', 1) on conflict do nothing",
    "insert into item (id, name, value) values (501, 'new', 1) returning id",
    "insert into item_v values (501, 'new', 1)",
    "insert into row_less values (1, 1)",
    "insert into words (body) values ('more words')",
    "insert into words (words, rank) values ('rank', 'bm25(5.0)')",
    "delete from words",
    "insert into old_words (body) values ('more words')",
    "insert into places values (2, 5, 6)",
    "update places set x2 = 11",
    "update words set body = 'other words'",
    "replace into item (id, name, value) values (1, 'replaced', 1)",
    "replace into item (id, name, value) values (501, 'new', 1) returning id",
    "replace into note (id, body) select id, 'r' from note",
    "update item set value = 99",
    "update or ignore item set value = 98",
    "update or replace item set value = 97 where id = 1",
    "update item set value = i.id + 90 from invoice i where i.id = item.id",
    "update item set value = 96 where id = 1 returning value",
    "update item_v set value = 95",
    "update item set (name, value) = ('x' || id, 5)",
    "delete from item",
    "delete from item where id = 1 returning *",
    "delete from item_v",
    "delete from note where id in (select id from item)",
    "with a(n) as (values (601)) insert into item select n, 'n' || n, 0 from a",
    "with recursive n(i) as (select 601 union all select i + 1 from n where i < 603) "
    "insert into item select i, 'n' || i, 0 from n",
    "with a as (select 1) update item set value = 94",
    "with a as (select 1) delete from item",
    "with a as materialized (select 1) replace into item values (1, 'replaced', 1)",
    "create table copied as select * from item",
    "create table if not exists copied as values (1), (2)",
    "update sqlite_sequence set seq = 99",
    "delete from sqlite_sequence",
)

_DEFINITIONS: Final = (
    "create table made (id integer)",
    "create table if not exists made (id integer)",
    "create table made (id integer primary key) without rowid",
    "alter table item add column more integer",
    "alter table fat drop column body",
    "alter table fat rename to thin",
    "alter table fat rename column body to content",
    "drop table note",
    "drop table if exists part",
    "create index made_index on item (name, value)",
    "create unique index if not exists made_index on note (body, id)",
    "create index made_index on item (value) where value > 5",
    "drop index item_value",
    "create view made_view as select 1 as a",
    "create view if not exists made_view as select * from item",
    "drop view item_v",
    "create trigger made_trigger after insert on item begin delete from note; end",
    "create trigger if not exists made_trigger before update on item begin select 1; end",
    "drop trigger noted",
    "create virtual table made using fts5 (a, b)",
    "create virtual table made using fts4 (a)",
    "create virtual table made using rtree (id, x1, x2)",
    "create virtual table if not exists made using fts3 (a)",
    "drop table words",
    "drop table places",
    "analyze",
    "analyze item",
    "analyze main.note",
    "pragma user_version = 7",
    "pragma main.user_version = 7",
    "pragma user_version(7)",
    "pragma application_id = 7",
    'PRAGMA "application_id" = 8',
    "pragma/**/user_version/**/=/**/9",
    "/* first */ pragma user_version = 10",
    "-- first\npragma user_version = 11",
    "pragma schema_version = 77",
    "pragma journal_mode = delete",
    "pragma main.journal_mode = truncate",
    "pragma journal_mode(persist)",
    "vacuum",
    "vacuum main",
    "vacuum into '{folder}/vacuumed.db'",
    "attach '{folder}/attached.db' as other",
    "/* first */ attach database '{folder}/attached.db' as other",
)
_ATTACHED: Final = (
    (
        "attach '{folder}/attached.db' as other",
        "create table other.made (id integer)",
        "insert into other.made values (1)",
    ),
    ("attach '{folder}/attached.db' as other", "pragma other.user_version = 5"),
    ("attach '{database}' as again", "insert into again.item (id, name, value) values (501, 'new', 1)"),
    ("attach 'file:{folder}/attached.db?mode=rwc' as other", "create table other.made (id integer)"),
    ("begin", _NEW, "commit"),
    ("begin immediate", _NEW, "commit"),
    ("begin exclusive", _NEW, "end"),
    ("savepoint a", _NEW, "release a"),
    ("pragma writable_schema = on", "update sqlite_master set sql = sql || ' ' where name = 'note'"),
    ("pragma writable_schema = 1", "delete from sqlite_schema where name = 'item_v'"),
    ("pragma page_size = 8192", "pragma journal_mode = delete", "vacuum"),
    ("pragma auto_vacuum = full", "vacuum"),
    ("pragma journal_mode = memory", _NEW),
    ("pragma locking_mode = exclusive", _NEW),
    ("pragma synchronous = off", _NEW),
    ("pragma temp_store = memory", _NEW),
    ("pragma foreign_keys = off", "delete from invoice"),
    ("pragma defer_foreign_keys = on", "delete from invoice"),
    ("pragma ignore_check_constraints = on", _NEW),
    ("pragma recursive_triggers = on", "insert into note (body) values ('x')"),
    ("create temp trigger t after insert on main.item begin delete from note; end", _NEW),
    ("create temp table t (id integer)", "insert into note (body) select 'x' from (select 1)"),
    ("pragma trusted_schema = on", _NEW),
    ("explain insert into note default values", _NEW),
)
_WITHOUT_EFFECT: Final = (
    "create temp table made (id integer)",
    "create temporary table made as select * from item",
    "create temp view made as select 1 as a",
    "create temp trigger made after insert on item begin select 1; end",
    "attach ':memory:' as other",
    "attach '' as other",
    "detach main",
    "reindex",
    "reindex item",
    "reindex main.item_value",
    "pragma wal_checkpoint",
    "pragma wal_checkpoint(truncate)",
    "pragma optimize",
    "pragma optimize(0x10002)",
    "pragma incremental_vacuum(5)",
    "pragma shrink_memory",
    "pragma secure_delete = on",
    "pragma journal_size_limit = 100",
    "pragma wal_autocheckpoint = 1",
    "pragma locking_mode = exclusive",
    "pragma encoding = 'UTF-16'",
    "pragma max_page_count = 10",
    "pragma temp_store_directory = '/nowhere'",
    "pragma data_store_directory = '/nowhere'",
    "pragma query_only = off",
    "select load_extension('/nowhere/nothing')",
    "select fts3_tokenizer('simple', x'0000000000000000')",
    "explain pragma user_version = 5",
    "explain insert into item (id, name, value) values (501, 'new', 1)",
    "explain query plan delete from item",
    "commit",
    "end",
    "rollback",
    "begin",
    "begin immediate",
    "begin exclusive",
    "begin concurrent",
)

_HIDDEN: Final = ("with a as (select 1) insert into note (body) select 'hidden' from a", _NEW)
_SWITCHES: Final = (
    "pragma query_only = off",
    "pragma query_only = 0",
    "pragma query_only = false",
    "pragma query_only = no",
    "pragma query_only=0",
    "pragma query_only(off)",
    "pragma query_only (0)",
    "pragma main.query_only = off",
    "pragma temp.query_only = 0",
    'pragma "query_only" = off',
    "pragma [query_only] = 0",
    "pragma `query_only` = 0",
    "PRAGMA Query_Only = Off",
    "pragma\nquery_only\n=\noff",
    "pragma/**/query_only=off",
    "pragma query_only/**/=/**/off",
    "pragma query_only = -- off\n off",
    "pragma query_only = 'off'",
    'pragma query_only = "off"',
    "pragma query_only = -0",
    "pragma query_only = +0",
    "/* first */ pragma query_only = off",
    "-- first\npragma query_only = off",
    "\t pragma query_only = off;",
    "explain pragma query_only = off",
    "explain query plan pragma query_only = off",
    "select * from pragma_query_only(0)",
    "pragma query_only = off; -- the end",
    "pragma legacy_alter_table = on",
    "pragma writable_schema = reset",
)
_DISGUISES: Final = (
    f"  \n\t {_NEW}",
    f"/* a comment */ {_NEW}",
    f"-- select\n{_NEW}",
    "InSeRt InTo item (id, name, value) VaLuEs (501, 'new', 1)",
    "insert/**/into/**/item(id,name,value)values(501,'new',1)",
    f"/* select */ -- select\n /**/ {_NEW}",
    "with/**/a as(select 1)insert into note(body)values('x')",
)


def lines(database: Path) -> Iterator[Text]:
    """Every way that is a text, for a database in this file."""
    for text in _lines():
        statements = tuple(
            line.replace("{folder}", str(database.parent)).replace("{database}", str(database))
            for line in text.statements
        )
        yield Text(statements, text.lasts, text.abuse, text.not_by)


def _lines() -> Iterator[Text]:
    yield from texts(*_ROWS, *_DEFINITIONS)
    yield from texts(*_WITHOUT_EFFECT, lasts=False)
    yield from (Text(statements) for statements in _ATTACHED)
    yield from (Text((switch, *_HIDDEN)) for switch in _SWITCHES)
    yield from texts(*_DISGUISES)


# -- by the driver alone


def _raw(session: Session) -> Any:
    """Python's own connection, also below aiosqlite."""
    driver = driver_of(session)
    return getattr(driver, "_conn", driver)


@way(on=("pysqlite", "aiosqlite"))
def executescript(session: Session) -> None:
    done(driver_of(session).executescript(f"pragma query_only = off; {_NEW}; commit;"))


@way(on=("pysqlite",))
def executescript_of_a_cursor(session: Session) -> None:
    driver_of(session).cursor().executescript(f"pragma query_only = off; {_NEW};")


@way(on=("pysqlite",))
def executescript_of_a_write(session: Session) -> None:
    driver_of(session).cursor().executescript(f"{_NEW};")


@way(on=("pysqlite",), lasts=False)
def rows_of_another_kind(session: Session) -> None:
    driver = driver_of(session)
    driver.row_factory = sqlite3.Row
    driver.text_factory = bytes


@way(on=("aiosqlite",))
def execute_insert(session: Session) -> None:
    done(driver_of(session).execute_insert(_NEW))


@way(on=("aiosqlite",))
def execute_fetchall(session: Session) -> None:
    done(driver_of(session).execute_fetchall(f"{_NEW} returning id"))


@way(on=("pysqlite", "aiosqlite"))
def executescript_of_reads_and_a_write(session: Session) -> None:
    done(driver_of(session).executescript(f"select 1; {_NEW};"))


@way(on=("pysqlite", "aiosqlite"))
def executemany_of_the_driver(session: Session) -> None:
    done(driver_of(session).executemany("insert into note (body) values (?)", [("a",), ("b",)]))


@way(on=("pysqlite", "aiosqlite"))
def an_isolation_level_of_the_driver(session: Session) -> None:
    driver = driver_of(session)
    driver.isolation_level = "IMMEDIATE"
    try:
        done(driver.execute(_NEW))
        done(driver.commit())
    finally:
        driver.isolation_level = None


@way(on=("pysqlite", "aiosqlite"))
def no_authorizer(session: Session) -> None:
    driver = driver_of(session)
    done(driver.set_authorizer(None))
    done(driver.execute("pragma query_only = off"))
    done(driver.execute(_NEW))


@way(on=("pysqlite", "aiosqlite"))
def a_function_of_python(session: Session) -> None:
    driver = driver_of(session)
    raw = _raw(session)
    done(driver.create_function("acts", 0, lambda: raw.execute(_NEW) and 1))
    done(driver.execute("select acts()"))


@way(on=("pysqlite", "aiosqlite"), lasts=False)
def extensions(session: Session) -> None:
    driver = driver_of(session)
    if hasattr(driver, "enable_load_extension"):  # not every Python has it
        done(driver.enable_load_extension(True))
        done(driver.load_extension("/nowhere/nothing"))


@way(on=("pysqlite",))
def blobopen(session: Session) -> None:
    with driver_of(session).blobopen("fat", "body", 1) as blob:
        blob.write(b"written")


@way(on=("pysqlite",), lasts=False)
def deserialize(session: Session) -> None:
    driver = driver_of(session)
    other = sqlite3.connect(":memory:")
    other.execute("create table made (id integer)")
    driver.deserialize(other.serialize())
    other.close()


@way(on=("pysqlite",))
def a_cursor_of_the_driver(session: Session) -> None:
    driver = driver_of(session)
    cursor = driver.cursor(sqlite3.Cursor)
    cursor.execute("pragma query_only = off")
    cursor.execute(_NEW)


@way(on=("pysqlite",))
def a_cursor_past_the_connection(session: Session) -> None:
    cursor = sqlite3.Cursor(driver_of(session))
    cursor.execute("pragma query_only = off")
    cursor.execute(_NEW)


@way(on=("pysqlite",))
def methods_past_the_connection(session: Session) -> None:
    driver = driver_of(session)
    sqlite3.Connection.execute(driver, "pragma query_only = off")
    sqlite3.Connection.execute(driver, _NEW)


@way(on=("pysqlite",))
def a_script_past_the_connection(session: Session) -> None:
    sqlite3.Connection.executescript(driver_of(session), f"pragma query_only = off; {_NEW};")


@way(on=("pysqlite",))
def blobopen_past_the_connection(session: Session) -> None:
    with sqlite3.Connection.blobopen(driver_of(session), "fat", "body", 1) as blob:
        blob.write(b"written")


@way(on=("pysqlite",))
def an_interrupted_write(session: Session) -> None:
    driver = driver_of(session)
    driver.set_progress_handler(lambda: 0, 1)
    try:
        driver.execute(_NEW)
    finally:
        driver.set_progress_handler(None, 0)


@way(on=("pysqlite",))
def a_collation_that_writes(session: Session) -> None:
    driver = driver_of(session)

    def compares(a: str, b: str) -> int:
        driver.execute(_NEW)
        return 0

    driver.create_collation("acts", compares)
    driver.execute("select name from item order by name collate acts").fetchall()


@way(on=("pysqlite",), abuse="the class's own method takes the authorizer away")
def no_authorizer_past_the_connection(session: Session) -> None:
    driver = driver_of(session)
    sqlite3.Connection.set_authorizer(driver, None)
    sqlite3.Connection.execute(driver, "pragma query_only = off")
    sqlite3.Connection.execute(driver, _NEW)


@way(on=("pysqlite",), abuse="SQLite asks nobody when another connection is copied into this one")
def backup_into_it(session: Session) -> None:
    other = sqlite3.connect(":memory:")
    other.executescript("create table made (id integer); insert into made values (1);")
    other.backup(driver_of(session))
    other.close()


@way(on=("pysqlite", "aiosqlite"))
def upsert_of_core(session: Session) -> None:
    from sqlalchemy.dialects.sqlite import insert

    item = sa.table("item", sa.column("id"), sa.column("name"), sa.column("value"))
    statement = insert(item).values(id=1, name="one", value=5)
    session.execute(statement.on_conflict_do_update(index_elements=[item.c.id], set_={"value": 99}))


@way(on=("pysqlite", "aiosqlite"))
def a_cte_of_core(session: Session) -> None:
    item = sa.table("item", sa.column("id"), sa.column("value"))
    one = sa.select(sa.literal(1).label("n")).cte("one")
    session.execute(sa.update(item).values(value=sa.select(one.c.n).scalar_subquery()))


@way(on=("pysqlite", "aiosqlite"))
def or_replace_of_core(session: Session) -> None:
    item = sa.table("item", sa.column("id"), sa.column("name"), sa.column("value"))
    session.execute(sa.insert(item).prefix_with("or replace").values(id=1, name="one", value=7))


READS: Final = (
    "select 1",
    "SELECT id FROM item",
    "  select id from item ;",
    "select id from item; -- the end",
    "-- a comment\nselect id from item",
    "/* a comment; with a semicolon */ select ';' as a, \"id\" as b from item",
    "select id from item union all select id from invoice",
    "select id from item except select id from invoice",
    "select distinct value from item order by value desc limit 2 offset 0",
    "select count(*), sum(value) filter (where id > 1), group_concat(name, ', ') from item",
    "select id, row_number() over (partition by value order by id) from item",
    "select value, rank() over w from item window w as (order by value rows between 1 preceding and current row)",
    "select value, count(*) from item group by value having count(*) > 0",
    "with a as (select id from item) select * from a",
    "with recursive n(i) as (select 1 union all select i + 1 from n where i < 5) select * from n",
    "with a as materialized (select 1 as x) select * from a",
    "values (1, 'a'), (2, 'b')",
    "select * from item left join invoice using (id) where item.id in (1, 2)",
    "select * from item indexed by item_value where value > 5",
    "select * from item not indexed",
    "select body -> '$.a', body ->> '$.c', json_extract(body, '$.a.b[0]') from doc",
    "select json_group_array(id), json_object('a', 1) from item",
    "select value from json_each('[1, 2, 3]')",
    "select * from doc, json_tree(doc.body)",
    "select * from words where words match 'fox'",
    "select highlight(words, 0, '<', '>'), bm25(words) from words where words match 'qui*'",
    "select * from words('fox') order by rank",
    "select snippet(old_words) from old_words where old_words match 'dog'",
    "select * from places where x1 <= 5 and x2 >= 5",
    "select id, rowid, _rowid_ from note",
    "select case when value > 10 then 'high' else 'low' end, coalesce(null, 1), iif(1, 2, 3) from item",
    "select datetime('now'), strftime('%s', 'now'), julianday('now')",
    "select sqlite_version(), last_insert_rowid(), changes(), total_changes()",
    "select hex(zeroblob(4)), quote('x'), printf('%d', 5), random(), typeof(1)",
    "select exists (select 1 from item where name like 'o%' escape '\\')",
    "select name glob 'o*', instr(name, 'n'), substr(name, 1, 1) from item",
    "select 'insert into item; pragma query_only = off' as text",
    "select 'update' as \"insert\", 'delete' as [update] from item",
    "select * from item_v where id = 1",
    "select * from sqlite_master where type = 'table'",
    "select name from sqlite_schema",
    "select seq from sqlite_sequence",
    "select * from pragma_table_info('item')",
    "select m.name, p.name from sqlite_master m join pragma_table_info(m.name) p where m.type = 'table'",
    "select * from pragma_index_list('item')",
    "select * from pragma_user_version",
    "explain select * from item",
    "explain query plan select * from item where value > 5",
    "explain query plan with a as (select 1) select * from a",
    "pragma table_info(item)",
    'PRAGMA main.table_info("item")',
    "pragma table_xinfo('item')",
    "pragma table_list",
    "pragma index_list(item)",
    "pragma index_info(item_value)",
    "pragma index_xinfo(item_value)",
    "pragma foreign_key_list(part)",
    "pragma foreign_key_check",
    "pragma integrity_check",
    "pragma quick_check(1)",
    "pragma database_list",
    "pragma collation_list",
    "pragma compile_options",
    "pragma function_list",
    "pragma module_list",
    "pragma query_only",
    "pragma user_version",
    "pragma application_id;",
    "pragma journal_mode",
    "pragma schema_version",
    "pragma page_count",
    "pragma encoding",
    "pragma foreign_keys",
    "pragma data_version",
    "pragma freelist_count",
    "pragma cache_size = -4000",
    "pragma busy_timeout = 5000",
    "pragma mmap_size = 0",
    "/* first */ pragma user_version",
)
