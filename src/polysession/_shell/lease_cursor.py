"""The cursor of a connection that is lent: it takes the connection when it is executed, and reads the answer whole.

Rows that are still to come would hold the connection, which others may need between two statements (`lease`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from .loan import Loan

__all__ = ["LeaseCursor", "OpenLeaseCursor"]


_NO_ROWS: Final[Iterator[Any]] = iter(())


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
    rows: Iterator[Any] = _NO_ROWS
    """Those that were not handed out yet."""
    _invalidate_schema_cache_asof: Any = None
    """What SQLAlchemy's dialect of asyncpg writes on every cursor."""

    def close(self) -> None:
        """Forget the rows. After an error, SQLAlchemy has looked at the connection and lets go of it."""
        self.rows = _NO_ROWS
        if self.cursor is not None:
            self._let_go()

    def _let_go(self) -> None:
        cursor, self.cursor = self.cursor, None
        self.__dict__.pop("fetchone", None)
        try:
            cursor.close()
        finally:
            self.loan.rest()

    def notes(self) -> dict[str, Any]:
        """What SQLAlchemy's dialect has noted on it, to be noted on the driver's cursor."""
        return {name: value for name, value in self.__dict__.items() if name not in _OWN}

    async def _async_soft_close(self) -> None:
        """The rows are here already."""

    # -- the rows

    def fetchone(self) -> Any:
        """The next row; None at the end."""
        return next(self.rows, None)

    def fetchmany(self, size: int | None = None) -> Sequence[Any]:
        """The next rows, so many at most."""
        if self.cursor is not None:
            return cast("Sequence[Any]", self.cursor.fetchmany(size or self.cursor.arraysize))
        return list(islice(self.rows, size or 1))

    def fetchall(self) -> Sequence[Any]:
        """All rows that are left."""
        if self.cursor is not None:
            return cast("Sequence[Any]", self.cursor.fetchall())
        return list(self.rows)

    def __iter__(self) -> Iterator[Any]:
        while (row := self.fetchone()) is not None:
            yield row

    # -- for who uses it by himself

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        """As the driver's cursor does it."""
        return self._executed("execute", args, kwargs)

    def executemany(self, *args: Any, **kwargs: Any) -> Any:
        """As the driver's cursor does it."""
        return self._executed("executemany", args, kwargs)

    def __enter__(self) -> LeaseCursor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _executed(self, how: str, args: Any, kwargs: Any) -> Any:
        cursor = self._raw()
        answer = getattr(cursor, how)(*args, **kwargs)
        self.description, self.rowcount = cursor.description, cursor.rowcount
        return answer

    def _raw(self) -> Any:
        if self.cursor is None:
            self.cursor = self.loan.keep().cursor()
            self.__dict__["fetchone"] = self.cursor.fetchone
        return self.cursor


_OWN: Final = frozenset(("loan", "cursor", "description", "fetchone", "rowcount", "rows"))


class OpenLeaseCursor(LeaseCursor):
    """One for others than SQLAlchemy, who may ask for whatever the driver's cursor has.

    Python takes longer to find what an object has that passes on what it has not.
    """

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in _OWN or name in LeaseCursor.__dict__:
            raise AttributeError(name)
        return getattr(self._raw(), name)
