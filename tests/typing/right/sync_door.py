"""What `Sessions` gives: only type-checked, never run. Everything a user gets has the type asserted here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import assert_type

import sqlmodel
from sqlalchemy import Engine, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, scoped_session, sessionmaker

from polysession import Backoff, Isolation, Outcome, Propagation, Sessions, outcome_of, unit_id_of
from polysession.observe.live import Held, Readiness
from polysession.sessions import Unit

sessions = Sessions("sqlite://")


class Base(DeclarativeBase):
    """The base of the example."""


class Order(Base):
    """A mapped class, as the application has them."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


class OwnSession(Session):
    """A session class of the application."""

    def orders(self) -> list[Order]:
        """All orders."""
        return list(self.scalars(select(Order)))


def doors(engine: Engine) -> None:
    """A door is made from a URL, an engine, a mapping of either, nothing, or a configuration."""
    assert_type(Sessions(), Sessions)
    assert_type(Sessions(engine), Sessions)
    assert_type(Sessions({"orders": "sqlite://", "billing": engine}), Sessions)
    assert_type(Sessions.from_toml("polysession.toml"), Sessions)
    assert_type(Sessions.from_mapping({"databases": {"orders": "sqlite://"}}), Sessions)
    with Sessions(create_engine("sqlite://"), in_event_loop="allow") as door:
        assert_type(door, Sessions)
        assert_type(door.names, tuple[str, ...])


def units() -> int:
    """A unit gives a `Session`; no exception is swallowed, so a block that returns is enough for the checkers."""
    with sessions.begin() as session:
        assert_type(session, Session)
    with sessions.read("orders", snapshot=True, role="replica") as session:
        assert_type(session, Session)
        assert_type(session.get(Order, 1), Order | None)
        assert_type(session.scalars(select(Order.text)).all(), Sequence[str])
    assert_type(sessions.begin("a", "b", atomic=False), Unit[Session])
    with sessions.begin(
        "orders",
        name="import",
        propagation=Propagation.NESTED,
        isolation=Isolation.SERIALIZABLE,
        deadline=timedelta(seconds=2),
    ):
        assert_type(sessions.current("orders"), Session)
        return 1


def loops() -> None:
    """Each turn of `attempts` is a unit."""
    turns = sessions.attempts("orders", retry=Backoff(attempts=3))
    assert_type(turns, Iterator[Unit[Session]])
    for attempt in turns:
        with attempt as session:
            assert_type(session, Session)


@sessions.unit("orders", retry=5, isolation="SERIALIZABLE", deadline=1.5)
def place(session: Session, text: str, *, number: int = 1) -> Order:
    """The session is given by the unit; parameters and result are kept."""
    assert_type(session, Session)
    return Order(text=text * number)


def count(session: Session) -> int:
    """A work."""
    return len(session.scalars(select(Order)).all())


def text_of(session: Session, order: int, *, default: str = "") -> str:
    """A work with parameters."""
    found = session.get(Order, order)
    return found.text if found else default


def works() -> None:
    """What a function returns is what its caller gets."""
    assert_type(place("pencil"), Order)
    assert_type(place(text="pencil", number=2), Order)
    assert_type(sessions.run(count), int)
    assert_type(sessions.run(lambda session: session.get(Order, 1), "orders", retry=1), Order | None)
    later = sessions.task(text_of, "orders")
    assert_type(later(1, default="none"), str)


def many() -> None:
    """What was gathered has one type; with errors in their places, these too."""
    assert_type(sessions.gather(count, count, limit=2), list[int])
    assert_type(sessions.gather(count, access="write", return_errors=False), list[int])
    assert_type(sessions.gather(count, return_errors=True), list[int | BaseException])
    assert_type(sessions.gather(count, databases=("orders", "billing")), list[int])


def held() -> None:
    """What is open, and whether the door can work."""
    assert_type(sessions.held(), tuple[Held, ...])
    assert_type(sessions.ready(), Readiness)
    assert_type(sessions.close(), None)


def free() -> None:
    """Independent sessions, of any class."""
    assert_type(sessions.open(), Session)
    assert_type(sessions.open("orders", autoflush=False), Session)
    assert_type(sessions.open(class_=OwnSession), OwnSession)
    sessions.take_over(sessions.open())


def factories() -> None:
    """A real `sessionmaker`, of any class, where one is wanted."""
    assert_type(sessions.sessionmaker(), sessionmaker[Session])
    assert_type(sessions.sessionmaker("orders", expire_on_commit=False), sessionmaker[Session])
    assert_type(sessions.sessionmaker(class_=OwnSession)().orders(), list[Order])
    wanted: Callable[[sessionmaker[Session]], scoped_session[Session]] = scoped_session
    assert_type(wanted(sessions.sessionmaker()), scoped_session[Session])
    make = sessions.sessionmaker(class_=sqlmodel.Session)
    assert_type(make, sessionmaker[sqlmodel.Session])
    with make.begin() as session:
        assert_type(session, sqlmodel.Session)


def sent(order: int, text: str = "") -> None:
    """A hook."""


def told(outcome: Outcome, order: int) -> None:
    """A hook for every outcome."""


def hooks() -> None:
    """Hooks get what is given after them."""
    assert_type(sessions.on_commit(sent, 1), None)
    sessions.on_commit(sent, 1, "text", database="orders", robust=True, outside="run")
    sessions.on_commit(lambda: sent(1))
    sessions.on_rollback(sent, 1)
    sessions.on_outcome(told, 1, robust=True)
    sessions.on_outcome(print)


def errors(error: Exception) -> None:
    """An error tells how its unit ended."""
    assert_type(outcome_of(error), Outcome | None)
    assert_type(unit_id_of(error), str | None)
