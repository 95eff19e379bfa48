"""What a unit of work asks for at its door, as one frozen value. Pure."""

from __future__ import annotations

from enum import StrEnum

import msgspec

__all__ = ["Access", "Isolation", "Propagation", "UnitOptions"]


class Access(StrEnum):
    """What the unit may do: write units go to the primary, read units may be served by a replica."""

    WRITE = "write"
    READ = "read"


class Isolation(StrEnum):
    """Isolation levels of the SQL standard, in the spelling of SQLAlchemy."""

    READ_UNCOMMITTED = "READ UNCOMMITTED"
    READ_COMMITTED = "READ COMMITTED"
    REPEATABLE_READ = "REPEATABLE READ"
    SERIALIZABLE = "SERIALIZABLE"


class Propagation(StrEnum):
    """What a new unit does when one is open here for the same database."""

    REQUIRED = "required"
    REQUIRES_NEW = "requires_new"
    NESTED = "nested"
    MANDATORY = "mandatory"
    NEVER = "never"
    SUPPORTS = "supports"
    NOT_SUPPORTED = "not_supported"


class UnitOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a unit of work asks for; decided once, at its door."""

    databases: tuple[str, ...]
    access: Access = Access.WRITE
    propagation: Propagation = Propagation.REQUIRED
    isolation: Isolation | None = None
    """None: what the server gives (and, for repeatable units, what the dialect needs against lost updates)."""
    snapshot: bool = False
    """For read units: one consistent snapshot over all statements."""
    deadline: float | None = None
    """Seconds from the door to the end of the unit; None: no limit."""
    atomic: bool = True
    """For units over several databases: all or nothing, or refused."""
    repeatable: bool = False
    """The unit may be run again: it gets the isolation that makes lost updates visible."""
    exact: bool = False
    """The unit leaves a row with its id, by which its outcome is found out when the answer to COMMIT is lost."""
    exact_asked: bool = False
    """That was asked for at the door, and is not only what the database gives by default."""
    early: bool = False
    """COMMIT may leave together with the statement of the last flush."""
    key: str | None = None
    """The caller's key: of all units with the same one, one commits."""
    tenant: str | None = None
    """Whose database it is, for those of its databases that have tenants; None: nothing was said. What is open may be
    joined then; a unit of its own is refused."""
