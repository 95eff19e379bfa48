"""Objects that the attempts of a repeated unit share: what would be applied twice is refused, however it is given."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from polysession import Sessions
from polysession.errors import SessionEnded, SessionMisuse


class Base(DeclarativeBase):
    """Of this module."""


class Order(Base):
    """Has lines."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    total: Mapped[int] = mapped_column(default=0)


class Line(Base):
    """Refers to its order."""

    __tablename__ = "line"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))
    order: Mapped[Order] = relationship()


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Sessions]:
    """It does not wait for locks."""
    url = f"sqlite:///{tmp_path / 'a.db'}"
    with Sessions.from_mapping({"databases": {"a": {"url": url, "connect": {"timeout": 0.01}}}}) as made:
        with made.begin() as session:
            Base.metadata.create_all(session.connection())
            session.add(Order(id=1))
        yield made


@pytest.fixture
def lock(tmp_path: Path, door: Sessions) -> Iterator[sqlite3.Connection]:
    """Another program has the lock, until it rolls back."""
    connection = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    yield connection
    connection.close()


GIVEN: dict[str, Callable[[Session, Order], object]] = {
    "added": lambda session, order: session.add(order),
    "added together": lambda session, order: session.add_all([order]),
    "added with another one": lambda session, order: session.add(Line(order=order)),
    "merged": lambda session, order: session.merge(order),
    "merged together": lambda session, order: session.merge_all([order]),
    "merged with another one": lambda session, order: session.merge(Line(order=order)),
    "saved in bulk": lambda session, order: session.bulk_save_objects([order]),
}


def twice(door: Sessions, lock: sqlite3.Connection, work: Callable[[Session], object]) -> None:
    """Run it; the first attempt finds the database locked."""
    attempts = []

    def attempt(session: Session) -> None:
        attempts.append(session)
        if len(attempts) == 2:
            lock.execute("ROLLBACK")
        work(session)
        session.flush()

    door.run(attempt)
    assert len(attempts) == 2


@pytest.mark.parametrize("give", GIVEN.values(), ids=GIVEN)
def test_what_was_changed_is_refused(
    door: Sessions, lock: sqlite3.Connection, give: Callable[[Session, Order], object]
) -> None:
    """With what was changed, and where it was given first."""
    order = Order(id=2, total=0)

    def work(session: Session) -> None:
        order.total += 5
        give(session, order)

    with pytest.raises(SessionMisuse, match=r"Order was changed by an earlier attempt .*: total") as caught:
        twice(door, lock, work)
    assert f"{__file__}:" in caught.value.why


@pytest.mark.parametrize("verb", ["add_all", "delete_all", "merge_all", "bulk_save_objects"])
def test_what_is_given_together_after_the_end(door: Sessions, verb: str) -> None:
    """It would be lost."""
    with door.begin() as session:
        order = session.get(Order, 1)
    with pytest.raises(SessionEnded):
        getattr(session, verb)([order])


@pytest.mark.parametrize("give", GIVEN.values(), ids=GIVEN)
def test_what_is_as_it_was_is_let_pass(
    door: Sessions, lock: sqlite3.Connection, give: Callable[[Session, Order], object]
) -> None:
    """It is applied once, by the attempt that commits."""
    order = Order(id=2, total=5)
    twice(door, lock, lambda session: give(session, order))
    with door.read() as session:
        found = session.get(Order, 2)
        assert found is not None
        assert found.total == 5
