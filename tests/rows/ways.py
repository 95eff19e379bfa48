"""How the error of a row is provoked, and which rows have no way here and why.

Three kinds of ways. *Real*: the error comes of what it speaks of. *On request*: the server itself raises it because it
was told to (RAISE in PostgreSQL, SIGNAL in MariaDB), so that everything from the server on is real: the protocol, the
driver's exception, what we read of it. *Not here*: the reason stands in `NOT_HERE`; the row is only looked at by the
unit tests of the tables.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from polysession import AsyncSessions, dialects
from polysession.dialects.rows import ErrorRow
from polysession.options import Access
from tests.conformance.cells import Cell

__all__ = ["WAYS", "Act", "Way", "find", "says", "way"]

Act = Callable[[Cell, AsyncSessions], Awaitable[Any]]


class Way(NamedTuple):
    """Do `act` at the door, and the error that leaves is judged by `row`."""

    backend: str
    row: ErrorRow
    act: Act
    drivers: frozenset[str]
    """Through which drivers it shows itself in this row; all if empty."""
    access: Access
    settings: Mapping[str, Any]
    """Further keys of the database's table."""
    nothing_sent: bool
    targets: frozenset[str]
    """On which servers; all if empty."""

    @property
    def name(self) -> str:
        """For the test."""
        return " ".join(filter(None, (self.row.code, self.row.says, self.row.raised, self.act.__name__)))


WAYS: Final[list[Way]] = []


def find(
    backend: str,
    code: str,
    *,
    says: str = "",
    raised: str = "",
    closed: bool | None = None,
    access: Access | None = None,
) -> ErrorRow:
    """The row of a table with this key. Raises `LookupError` if there is none: the table was changed."""
    for row in dialects.of(backend).table.rows:
        if row.key == (code, says, raised, closed, access, False):
            return row
    raise LookupError(f"no row of {backend} has the key {code!r}, {says!r}, {raised!r}, {closed}, {access}")


def way(
    backend: str,
    code: str = "",
    *,
    drivers: tuple[str, ...] = (),
    asks: Access = Access.WRITE,
    settings: Mapping[str, Any] | None = None,
    nothing_sent: bool = False,
    targets: tuple[str, ...] = (),
    **key: Any,
) -> Callable[[Act], Act]:
    """Note a way to the row with this code and key."""

    def note(act: Act) -> Act:
        row = find(backend, code, **key)
        WAYS.append(
            Way(
                backend, row, act, frozenset(drivers), asks, settings or {}, nothing_sent=nothing_sent,
                targets=frozenset(targets),
            )
        )  # fmt: skip
        return act

    return note


def says(*statements: str, plain: bool = False) -> Act:
    """A unit that sends these statements, of which the last one fails. `plain`: each is a transaction of its own."""

    async def act(_: Cell, door: AsyncSessions) -> None:
        async with door.begin(propagation="not_supported" if plain else "required") as session:
            for statement in statements:
                await session.execute(sa.text(statement))

    act.__name__ = " ".join(statements[-1].split()[:3])
    act.__doc__ = statements[-1]
    return act
