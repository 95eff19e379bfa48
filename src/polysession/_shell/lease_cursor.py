"""The cursor of a connection that is lent: it takes the connection when it is executed, and reads the answer whole.

Rows that are still to come would hold the connection, which others may need between two statements (`lease`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from .loan import Loan

__all__ = ["LeaseCursor", "OpenLeaseCursor"]


class LeaseCursor:
    """A cursor of a lent connection. SQLAlchemy's statements are answered whole, and their rows are handed out here.

    Who executes by himself gets a cursor of the driver, and has the lease kept. One is made for every statement: what
    it is at first stands in the class, so that making it costs one attribute, which is `loan`.
    """

    loan: Loan
    cursor: Any = None
    """The driver's cursor: while the statement is under way, or for as long as somebody uses it by himself."""
    description: Any = None
    rowcount: int = -1
    _rows: Sequence[Any] = ()
    _given: int = 0
    """So many rows were handed out."""
    _invalidate_schema_cache_asof: Any = None
    """What SQLAlchemy's dialect of asyncpg writes on every cursor."""

    def answered(self, closes: Callable[[Any], object] | None) -> None:
        """Read the answer of the statement whole, and let go of the driver's cursor and of the connection."""
        cursor = self.cursor
        description = cursor.description
        if description is not None:
            self.description = description
            self._rows = cursor.fetchall()
        self.rowcount = cursor.rowcount
        if closes is not None:
            closes(cursor)
        self.cursor = None
        self.loan.rest()

    def close(self) -> None:
        """Forget the rows. After an error, SQLAlchemy has looked at the connection and lets go of it."""
        self._rows = ()
        if self.cursor is not None:
            self._let_go()

    def _let_go(self) -> None:
        cursor, self.cursor = self.cursor, None
        try:
            cursor.close()
        finally:
            self.loan.rest()

    def notes(self) -> dict[str, Any]:
        """What SQLAlchemy's dialect has noted on it, to be noted on the driver's cursor."""
        return {name: value for name, value in self.__dict__.items() if name not in LeaseCursor.__annotations__}

    async def _async_soft_close(self) -> None:
        """The rows are here already."""

    # -- the rows

    def fetchone(self) -> Any:
        """The next row; None at the end."""
        if self.cursor is not None:
            return self.cursor.fetchone()
        if self._given >= len(self._rows):
            return None
        self._given += 1
        return self._rows[self._given - 1]

    def fetchmany(self, size: int | None = None) -> Sequence[Any]:
        """The next rows, so many at most."""
        if self.cursor is not None:
            return cast("Sequence[Any]", self.cursor.fetchmany(size or self.cursor.arraysize))
        rows = self._rows[self._given : self._given + (size or 1)]
        self._given += len(rows)
        return rows

    def fetchall(self) -> Sequence[Any]:
        """All rows that are left."""
        if self.cursor is not None:
            return cast("Sequence[Any]", self.cursor.fetchall())
        rows = self._rows[self._given :] if self._given else self._rows
        self._rows, self._given = (), 0
        return rows

    def __iter__(self) -> Iterator[Any]:
        while (row := self.fetchone()) is not None:
            yield row

    # -- for who uses it by himself

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        """As the driver's cursor does it."""
        cursor = self._raw()
        answer = cursor.execute(*args, **kwargs)
        self.description, self.rowcount = cursor.description, cursor.rowcount
        return answer

    def executemany(self, *args: Any, **kwargs: Any) -> Any:
        """As the driver's cursor does it."""
        cursor = self._raw()
        answer = cursor.executemany(*args, **kwargs)
        self.description, self.rowcount = cursor.description, cursor.rowcount
        return answer

    def __enter__(self) -> LeaseCursor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _raw(self) -> Any:
        if self.cursor is None:
            self.cursor = self.loan.keep().cursor()
        return self.cursor


class OpenLeaseCursor(LeaseCursor):
    """One for others than SQLAlchemy, who may ask for whatever the driver's cursor has.

    Python takes longer to find what an object has that passes on what it has not.
    """

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in LeaseCursor.__dict__:
            raise AttributeError(name)
        return getattr(self._raw(), name)
