"""An application as many are: a `sessionmaker` and functions that use it. One line makes polysession give its sessions.

pip install polysession
python notebook.py "buy pencils"
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from polysession import Sessions

# Here stood `SessionLocal = sessionmaker(create_engine("sqlite:///notebook.db"))`.
sessions = Sessions("sqlite:///notebook.db")
SessionLocal = sessions.sessionmaker()
# All that follows is as it was, but for the last line of `main`.


class Base(DeclarativeBase):
    """What the mapped classes have in common."""


class Note(Base):
    """A line in the notebook."""

    __tablename__ = "notes"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(unique=True)
    written_at: Mapped[datetime] = mapped_column(default=lambda: datetime.now(UTC))


def create_tables() -> None:
    """Make the tables that are missing."""
    with SessionLocal.begin() as session:
        Base.metadata.create_all(session.connection())


def write(text: str) -> int:
    """Add a note; its number. Raises `ValueError` if it is there already."""
    with SessionLocal() as session:
        if find(session, text) is not None:
            raise ValueError(f"the notebook has {text!r} already")
        note = Note(text=text)
        session.add(note)
        session.commit()
        return note.id


def find(session: Session, text: str) -> Note | None:
    """The note with this text."""
    return session.scalars(select(Note).where(Note.text == text)).one_or_none()


def read() -> list[str]:
    """All notes, oldest first."""
    with SessionLocal() as session:
        return list(session.scalars(select(Note.text).order_by(Note.id)))


def main(words: list[str]) -> None:
    """Write a note, if one is given, and print them all."""
    create_tables()
    if words:
        write(" ".join(words))
    for text in read():
        print(text)
    sessions.close()


if __name__ == "__main__":
    main(sys.argv[1:])
