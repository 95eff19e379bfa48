"""Which endpoint serves a unit of work; decided once, at its door, from declared intent. Pure.

Nothing here looks at a statement, a clock or the network; the random number is drawn by the caller.
"""

from __future__ import annotations

import msgspec

from ..errors import RequestRefused
from ..options import Access
from ..topology import Database, Endpoint, Role

__all__ = ["Choice", "choose"]


class Choice(msgspec.Struct, frozen=True):
    """The endpoint and the reason it was chosen."""

    endpoint: Endpoint
    reason: str


def choose(database: Database, *, access: Access, role: Role, draw: float) -> Choice:
    """The endpoint of `database` for a unit with this access that asked for this role.

    `draw` in [0, 1) picks among replicas. Raises `RequestRefused` for a write unit on a replica and for a replica of
    a database that has none.
    """
    if role is Role.PRIMARY:
        return Choice(database.primary, "the primary was asked for")
    if access is Access.WRITE:
        raise RequestRefused(
            f"a write unit cannot run on a replica of {database.name!r}",
            why="replicas take no writes",
            do=("use read(...)", "leave out role='replica'"),
            database=database.name,
        )
    if not database.replicas:
        raise RequestRefused(
            f"{database.name!r} has no replica",
            why="its configuration names none",
            do=(f"add 'replicas' to [databases.{database.name}]", "leave out role='replica'"),
            database=database.name,
        )
    number = int(draw * len(database.replicas))
    return Choice(database.replicas[number], f"replica {number + 1} of {len(database.replicas)} was drawn")
