"""Ways to write by SQLAlchemy's ORM and Core, on every engine; each is one function on a `Session`."""

from __future__ import annotations

from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.orm import Session, sessionmaker

from tests.conformance.schema import Base, Invoice, Item

from .way import way

_NEW: dict[str, Any] = {"id": 501, "name": "new", "value": 1}
_TWO = [{"id": 502, "name": "b", "value": 1}, {"id": 503, "name": "c", "value": 1}]
_OTHER = sa.Table("other", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True))


def _new() -> Item:
    return Item(**_NEW)


# -- objects


@way()
def add_and_flush(session: Session) -> None:
    session.add(_new())
    session.flush()


@way()
def add_and_leave_to_the_end(session: Session) -> None:
    session.add(_new())


@way()
def add_all(session: Session) -> None:
    session.add_all([Item(**row) for row in _TWO])
    session.flush()


@way()
def add_in_a_savepoint(session: Session) -> None:
    with session.begin_nested():
        session.add(_new())


@way()
def add_and_let_a_query_flush(session: Session) -> None:
    session.add(_new())
    session.scalars(sa.select(Item)).all()


@way()
def add_and_flush_past_the_guard(session: Session) -> None:
    session.add(_new())
    Session.flush(session)


@way()
def add_past_the_guard(session: Session) -> None:
    Session.add(session, _new())
    Session.flush(session)


@way()
def add_and_commit_past_the_guard(session: Session) -> None:
    session.add(_new())
    Session.commit(session)


@way()
def change(session: Session) -> None:
    session.get_one(Item, 1).value = 99
    session.flush()


@way()
def change_all(session: Session) -> None:
    for item in session.scalars(sa.select(Item)):
        item.value += 1
    session.flush()


@way()
def change_and_leave_to_the_end(session: Session) -> None:
    session.get_one(Item, 1).value = 99


@way()
def change_past_the_guard(session: Session) -> None:
    session.get_one(Item, 1).value = 99
    Session.flush(session)


@way()
def delete(session: Session) -> None:
    session.delete(session.get_one(Item, 2))
    session.flush()


@way()
def delete_and_leave_to_the_end(session: Session) -> None:
    session.delete(session.get_one(Item, 2))


@way()
def merge_a_new_one(session: Session) -> None:
    session.merge(_new())
    session.flush()


@way()
def merge_a_change(session: Session) -> None:
    session.merge(Item(id=1, name="merged", value=5))
    session.flush()


@way()
def bulk_save_objects(session: Session) -> None:
    session.bulk_save_objects([_new()])


@way()
def bulk_insert_mappings(session: Session) -> None:
    session.bulk_insert_mappings(sa.inspect(Item), _TWO)


@way()
def bulk_update_mappings(session: Session) -> None:
    session.bulk_update_mappings(sa.inspect(Item), [{"id": 1, "value": 98}])


@way()
def query_update(session: Session) -> None:
    session.query(Item).filter(Item.id == 1).update({"value": 97})


@way()
def query_delete(session: Session) -> None:
    session.query(Item).filter(Item.id == 2).delete()


@way()
def a_second_session_on_its_connection(session: Session) -> None:
    other = Session(session.connection(), join_transaction_mode="control_fully")
    other.add(_new())
    other.commit()


@way()
def a_second_session_on_its_engine(session: Session) -> None:
    with Session(session.get_bind()) as other:
        other.add(_new())
        other.commit()


@way()
def a_sessionmaker_on_its_engine(session: Session) -> None:
    engine = session.connection().engine
    with sessionmaker(engine).begin() as other:
        other.add(_new())


# -- statements


@way()
def insert(session: Session) -> None:
    session.execute(sa.insert(Item).values(**_NEW))


@way()
def insert_many(session: Session) -> None:
    session.execute(sa.insert(Item), _TWO)


@way()
def insert_values(session: Session) -> None:
    session.execute(sa.insert(Item).values(_TWO))


@way()
def insert_returning(session: Session) -> None:
    session.scalars(sa.insert(Item).returning(Item.id), [_NEW]).all()


@way()
def insert_into_the_table(session: Session) -> None:
    session.execute(sa.insert(cast("sa.Table", Item.__table__)).values(**_NEW))


@way()
def insert_from_select(session: Session) -> None:
    rows = sa.select(Item.id + 600, sa.literal("copied") + sa.cast(Item.id, sa.String(5)), Item.value)
    session.execute(sa.insert(Item).from_select(["id", "name", "value"], rows))


@way()
def insert_with_a_prefix(session: Session) -> None:
    session.execute(sa.insert(Item).values(**_NEW).prefix_with("/* first */"))


@way()
def update(session: Session) -> None:
    session.execute(sa.update(Item).values(value=96))


@way()
def update_some(session: Session) -> None:
    session.execute(sa.update(Item).where(Item.id == 1).values(value=Item.value + 1))


@way()
def update_by_key(session: Session) -> None:
    session.execute(sa.update(Item), [{"id": 1, "value": 95}, {"id": 2, "value": 95}])


@way()
def update_and_synchronize(session: Session) -> None:
    session.execute(sa.update(Item).values(value=94).execution_options(synchronize_session="fetch"))


@way()
def delete_all(session: Session) -> None:
    session.execute(sa.delete(Item))


@way()
def delete_some(session: Session) -> None:
    session.execute(sa.delete(Item).where(Item.id.in_([1, 2])))


@way()
def scalars_of_a_text(session: Session) -> None:
    session.scalars(sa.text("insert into item (id, name, value) values (501, 'new', 1)"))


@way()
def a_text_with_parameters(session: Session) -> None:
    session.execute(sa.text("insert into item (id, name, value) values (:id, :name, :value)"), _NEW)


@way()
def a_text_many_times(session: Session) -> None:
    session.execute(sa.text("insert into item (id, name, value) values (:id, :name, :value)"), _TWO)


@way()
def objects_from_a_text(session: Session) -> None:
    writes = sa.text("insert into item (id, name, value) values (501, 'new', 1) returning id, name, value")
    session.scalars(sa.select(Item).from_statement(writes)).all()


@way()
def bind_arguments(session: Session) -> None:
    session.execute(sa.insert(Item).values(**_NEW), bind_arguments={"bind": session.get_bind()})


@way()
def bind_arguments_of_a_connection(session: Session) -> None:
    session.execute(sa.insert(Item).values(**_NEW), bind_arguments={"bind": session.connection()})


# -- definitions


@way()
def create_all(session: Session) -> None:
    _OTHER.metadata.create_all(session.connection())


@way()
def drop_all(session: Session) -> None:
    Base.metadata.drop_all(session.connection())


@way()
def create_a_table(session: Session) -> None:
    session.execute(sa.schema.CreateTable(_OTHER))


@way()
def drop_a_table(session: Session) -> None:
    session.execute(sa.schema.DropTable(cast("sa.Table", Invoice.__table__).metadata.tables["part"]))


@way()
def create_an_index(session: Session) -> None:
    table = cast("sa.Table", Item.__table__).to_metadata(sa.MetaData())
    sa.Index("item_by_value", table.c.value).create(session.connection())


@way()
def ddl(session: Session) -> None:
    session.execute(cast("Any", sa.DDL)("alter table item add column more integer"))


# -- connections


@way()
def the_connection(session: Session) -> None:
    session.connection().execute(sa.insert(Item).values(**_NEW))


@way()
def the_connection_commits(session: Session) -> None:
    connection = session.connection()
    connection.execute(sa.insert(Item).values(**_NEW))
    connection.commit()


@way()
def the_connection_in_a_savepoint(session: Session) -> None:
    connection = session.connection()
    with connection.begin_nested():
        connection.execute(sa.insert(Item).values(**_NEW))


@way()
def autocommit_of_the_session(session: Session) -> None:
    connection = session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
    connection.execute(sa.insert(Item).values(**_NEW))


@way()
def serializable_of_the_session(session: Session) -> None:
    connection = session.connection(execution_options={"isolation_level": "SERIALIZABLE"})
    connection.execute(sa.insert(Item).values(**_NEW))


@way()
def not_read_only_of_the_session(session: Session) -> None:
    connection = session.connection(execution_options={"postgresql_readonly": False})
    connection.execute(sa.insert(Item).values(**_NEW))


@way()
def executemany_of_the_connection(session: Session) -> None:
    session.connection().execute(sa.text("insert into item (id, name, value) values (:id, :name, :value)"), _TWO)


@way()
def another_connection_of_its_engine(session: Session) -> None:
    engine = session.connection().engine
    with engine.connect() as connection:
        connection.execute(sa.insert(Item).values(**_NEW))
        connection.commit()


@way()
def begin_of_its_engine(session: Session) -> None:
    with session.connection().engine.begin() as connection:
        connection.execute(sa.insert(Item).values(**_NEW))


@way()
def its_engine_at_another_level(session: Session) -> None:
    engine = session.connection().engine.execution_options(isolation_level="SERIALIZABLE")
    with engine.begin() as connection:
        connection.exec_driver_sql("insert into item (id, name, value) values (501, 'new', 1)")


@way()
def its_engine_not_read_only(session: Session) -> None:
    engine = session.connection().engine.execution_options(isolation_level="SERIALIZABLE", postgresql_readonly=False)
    with engine.begin() as connection:
        connection.exec_driver_sql("insert into item (id, name, value) values (501, 'new', 1)")


@way()
def a_raw_connection_of_its_engine(session: Session) -> None:
    raw = session.connection().engine.raw_connection()
    try:
        cursor = raw.cursor()
        cursor.execute("insert into item (id, name, value) values (501, 'new', 1)")
        cursor.close()
        raw.commit()
    finally:
        raw.close()


@way()
def executemany_of_a_cursor(session: Session) -> None:
    cursor = session.connection().connection.cursor()
    style = session.connection().dialect.paramstyle
    mark: Any = {"qmark": "?", "numeric_dollar": "$1"}.get(style, "%s")
    try:
        cursor.executemany(f"insert into item (id, name, value) values ({mark}, 'new', 1)", [(501,)])
    finally:
        cursor.close()


@way(on=("psycopg", "asyncpg", "pymysql", "asyncmy"))
def a_transaction_in_two_phases(session: Session) -> None:
    connection = session.connection().engine.connect()
    try:
        transaction = connection.begin_twophase("way")
        connection.execute(sa.insert(Item).values(**_NEW))
        transaction.prepare()
        transaction.commit()
    finally:
        connection.close()


@way(lasts=False)
def for_update(session: Session) -> None:
    session.scalars(sa.select(Item).with_for_update()).all()


@way(lasts=False)
def get_for_update(session: Session) -> None:
    session.get(Item, 1, with_for_update=True)
