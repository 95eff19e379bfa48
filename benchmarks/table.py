"""The one table whose rows are read and written when round trips, engines and sides are compared."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

__all__ = ["Item", "make_table"]


class Base(DeclarativeBase):
    """Of the one table."""


class Item(Base):
    """A row."""

    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    value: Mapped[int] = mapped_column(default=0)


def make_table(url: str) -> None:
    """Make the table, with the row that is read: 1."""
    engine = sa.create_engine(url)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Item(id=1))
        session.commit()
    engine.dispose()
