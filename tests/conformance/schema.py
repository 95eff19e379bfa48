"""The tables of the conformance suite, and the witness: a plain connection that looks at them from outside."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

__all__ = ["Base", "Invoice", "Item", "Part", "Witness"]


class Base(DeclarativeBase):
    """Of all mapped classes here."""


class Item(Base):
    """What most tests write."""

    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(sa.String(40), unique=True)
    value: Mapped[int] = mapped_column(default=0)


class Invoice(Base):
    """For the second database."""

    __tablename__ = "invoice"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


def _can_defer(*_: object, dialect: sa.Dialect, **__: object) -> bool:
    return dialect.name != "mysql"


def _cannot_defer(*_: object, dialect: sa.Dialect, **__: object) -> bool:
    return dialect.name == "mysql"


class Part(Base):
    """Belongs to an invoice; that it exists is checked at COMMIT where the engine can, else at once."""

    __tablename__ = "part"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    invoice_id: Mapped[int] = mapped_column()
    __table_args__ = (
        sa.ForeignKeyConstraint(
            ["invoice_id"], ["invoice.id"], name="part_late", deferrable=True, initially="DEFERRED"
        ).ddl_if(callable_=_can_defer),
        sa.ForeignKeyConstraint(["invoice_id"], ["invoice.id"], name="part_soon").ddl_if(callable_=_cannot_defer),
    )


class Witness:
    """Sees what is committed in one database, by a connection of its own for each question."""

    def __init__(self, url: str, *, isolation_level: str = "AUTOCOMMIT", **engine_options: Any) -> None:
        self.engine = sa.create_engine(url, poolclass=sa.NullPool, isolation_level=isolation_level, **engine_options)

    def make_tables(self) -> None:
        """Make all tables."""
        Base.metadata.create_all(self.engine)
        if self.engine.dialect.name == "sqlite":
            self.ask("pragma journal_mode=wal")  # so that also a given engine's readers and writers do not wait

    def empty_tables(self) -> None:
        """Remove all rows."""
        with self.engine.connect() as connection:
            for table in reversed(Base.metadata.sorted_tables):
                connection.execute(table.delete())

    def ask(self, query: str, **parameters: Any) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text(query), parameters)]

    def do(self, statement: str, **parameters: Any) -> None:
        """Run and commit one statement."""
        with self.engine.connect() as connection:
            connection.execute(sa.text(statement), parameters)

    def items(self) -> list[int]:
        """The ids of the items that are committed."""
        return [row[0] for row in self.ask("select id from item order by id")]

    def value(self, item: int) -> Any:
        """The committed value of an item."""
        return self.ask("select value from item where id = :item", item=item)[0][0]

    def tables(self) -> list[str]:
        """The names of the tables."""
        return sa.inspect(self.engine).get_table_names()
