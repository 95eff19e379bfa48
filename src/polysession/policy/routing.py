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


def choose(database: Database, *, access: Access, role: Role, draw: float, tenant: str | None = None) -> Choice:
    """The endpoint of `database` for a unit with this access that asked for this role and tenant.

    `draw` in [0, 1) picks among replicas. A database without tenants has no use for `tenant`, which is then that of
    another database of the unit. Raises `RequestRefused` for a write unit on a replica and for a replica of a database
    that has none; `UnknownTenant` if the database has tenants and not this one. There is no tenant by default.
    """
    if role is Role.PRIMARY:
        if database.primary is None:
            return Choice(database.writable(tenant), f"tenant {tenant!r} was asked for")
        return Choice(database.primary, "the primary was asked for")
    if access is Access.WRITE:
        raise RequestRefused(
            f"a write unit cannot run on a replica of {database.name!r}",
            why="replicas take no writes",
            do=("use read(...)", "leave out role='replica'"),
            database=database.name,
        )
    if not database.replicas:
        many = database.primary is None
        raise RequestRefused(
            f"{database.name!r} has no replica",
            why="a database with tenants has none in this version" if many else "its configuration names none",
            do=(*(() if many else (f"add 'replicas' to [databases.{database.name}]",)), "leave out role='replica'"),
            database=database.name,
        )
    number = int(draw * len(database.replicas))
    return Choice(database.replicas[number], f"replica {number + 1} of {len(database.replicas)} was drawn")
