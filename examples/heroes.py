"""An application with SQLModel: its session class from a polysession factory, and units of work beside it.

pip install polysession sqlmodel
python heroes.py
"""

from __future__ import annotations

import sqlmodel
from sqlalchemy.orm import Session
from sqlmodel import Field, SQLModel, col, select

from polysession import Sessions

sessions = Sessions("sqlite:///heroes.db")
HeroSession = sessions.sessionmaker(class_=sqlmodel.Session)  # before: Session(engine)


class Hero(SQLModel, table=True):
    """A hero, checked by pydantic and stored by SQLAlchemy."""

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(index=True, unique=True)
    strength: int = 0


def create_tables() -> None:
    """Make the tables that are missing."""
    with sessions.begin() as session:
        SQLModel.metadata.create_all(session.connection())


def add(name: str, strength: int) -> Hero:
    """A new hero, made as with any session of SQLModel. What was loaded can be read when the session has ended."""
    with HeroSession(expire_on_commit=False) as session:
        hero = Hero(name=name, strength=strength)
        session.add(hero)
        session.commit()
        return hero


def strongest(number: int) -> list[Hero]:
    """The strongest heroes, by SQLModel's `exec`."""
    with HeroSession() as session:
        return list(session.exec(select(Hero).order_by(col(Hero.strength).desc()).limit(number)))


@sessions.unit(retry=10)
def train(session: Session, name: str, by: int) -> int:
    """A unit that is repeated when another was faster: no training is lost. Here the session is SQLAlchemy's."""
    hero = session.scalars(select(Hero).where(Hero.name == name)).one()
    hero.strength += by
    return hero.strength


def main() -> None:
    """Add two heroes, train one, and print the stronger one."""
    create_tables()
    add("Ada", 3)
    add("Bea", 4)
    train("Ada", by=5)
    for hero in strongest(1):
        print(hero.name, hero.strength)
    sessions.close()


if __name__ == "__main__":
    main()
