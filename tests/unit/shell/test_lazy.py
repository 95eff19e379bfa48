"""What is loaded late names its place, whatever the kind of attribute."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import ForeignKey
from sqlalchemy.orm import (
    DeclarativeBase,
    DynamicMapped,
    Mapped,
    Session,
    make_transient_to_detached,
    mapped_column,
    relationship,
)
from sqlalchemy.orm.exc import DetachedInstanceError

from polysession import Sessions
from polysession.errors import LazyLoadOutsideUnit


class Base(DeclarativeBase):
    """Of this module."""


class Order(Base):
    """Has lines, and a note."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    note: Mapped[str] = mapped_column(default="", deferred=True)
    lines: Mapped[list[Line]] = relationship(viewonly=True)
    many: DynamicMapped[Line] = relationship(lazy="dynamic")


class Line(Base):
    """Of an order."""

    __tablename__ = "line"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))


@pytest.fixture
def order(tmp_path: Path) -> Order:
    """Its unit has ended."""
    with Sessions(f"sqlite:///{tmp_path / 'a.db'}") as door:
        with door.begin() as session:
            Base.metadata.create_all(session.connection())
            session.add(Order(id=1))
        with door.begin(name="gone") as session:
            found = session.get(Order, 1)
            assert found is not None
            return found


@pytest.mark.parametrize("attribute", ["note", "lines", "many"])
def test_after_the_end(order: Order, attribute: str) -> None:
    """The model, the attribute, the unit."""
    with pytest.raises(LazyLoadOutsideUnit, match=rf"Order\.{attribute} was not loaded.*") as caught:
        order.many.filter_by(id=1) if attribute == "many" else getattr(order, attribute)
    assert "unit 'gone'" in caught.value.why


def test_of_nobodys_object() -> None:
    """It is SQLAlchemy's own error."""
    order = Order(id=1)
    make_transient_to_detached(order)
    with pytest.raises(DetachedInstanceError) as caught:
        order.many.filter_by(id=1).all()
    assert not isinstance(caught.value, LazyLoadOutsideUnit)
    with Session() as session:
        assert order not in session
