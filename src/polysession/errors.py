"""The errors of polysession: one hierarchy, a stable code each, and the one builder of their texts.

Every error is a small report: what happened, why (with the live numbers), what to do in order of likelihood, where to
read more. It keeps its parts as attributes, survives pickling, and inherits from the builtin that callers already
catch, so this module needs no SQLAlchemy. It never decides anything and never sees a secret.

The tree:

    PolysessionError
    ├── ConfigError (ValueError)           a key, type, URL or driver that cannot be honoured
    ├── MissingExtra (ImportError)         an optional package is needed and absent
    ├── NotConfigured (RuntimeError)       the door was used before it was given databases
    ├── UnknownDatabase (LookupError)      no database of that name, or the name is ambiguous
    ├── UnknownTenant (LookupError)        no tenant of that name, or none was named
    ├── WrongDoor (RuntimeError)           `with` on the async door, or a blocking door in an event loop
    ├── DoorClosed (RuntimeError)          the door was closed
    ├── RequestRefused (ValueError)        an attribute of a unit that cannot be honoured here
    │   ├── JoinRefused                    the open unit differs from what the inner one asks for
    │   └── AtomicUnavailable              these databases cannot commit all-or-nothing together
    ├── NoUnit (LookupError)               no unit of work is open here
    ├── SessionMisuse (RuntimeError)
    │   ├── SessionEnded                   used after its end
    │   ├── WrongOwner                     used from another thread, task or process
    │   ├── UnitOwnsCommit                 commit(), rollback() or close() inside a unit
    │   └── ConnectionHeld                 a connection is held, or wanted, in a block of outside()
    ├── LazyLoadOutsideUnit (RuntimeError) an attribute was to be loaded where it cannot be
    ├── ReadOnlyUnit (PermissionError)     a write in a read unit
    ├── CheckoutTimeout (TimeoutError)     no connection in time
    │   ├── PoolDeadlock                   none can ever come: units wait for each other's
    │   └── Overloaded                     more come than can be served, for some time already
    ├── DeadlineExceeded (TimeoutError)    the unit took longer than it may
    ├── UnitFailed (RuntimeError)
    │   ├── UnitRolledBack                 a joined unit failed and its error was swallowed
    │   ├── PartialCommit                  several databases, some committed and some not
    │   ├── CommitUnknown                  the acknowledgement of COMMIT was lost
    │   └── CommitLost                     the database failed over to a server that does not have the unit
    └── AlreadyCommitted (RuntimeError)    a unit with this key has committed before
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

__all__ = [
    "DOCS",
    "AlreadyCommitted",
    "AtomicUnavailable",
    "CheckoutTimeout",
    "CommitLost",
    "CommitUnknown",
    "ConfigError",
    "ConnectionHeld",
    "DeadlineExceeded",
    "DoorClosed",
    "JoinRefused",
    "LazyLoadOutsideUnit",
    "MissingExtra",
    "NoUnit",
    "NotConfigured",
    "Overloaded",
    "PartialCommit",
    "PolysessionError",
    "PoolDeadlock",
    "ReadOnlyUnit",
    "RequestRefused",
    "SessionEnded",
    "SessionMisuse",
    "UnitFailed",
    "UnitOwnsCommit",
    "UnitRolledBack",
    "UnknownDatabase",
    "UnknownTenant",
    "WrongDoor",
    "WrongOwner",
]

DOCS = "https://polysession.readthedocs.io/en/stable"


class PolysessionError(Exception):
    """Base of all errors that polysession raises.

    `code` is stable and names the page `docs/errors/<code>.md`; `what`, `why` and `do` are the parts of the text;
    `facts` holds the numbers and names the text was made of. Instances survive pickling.
    """

    code: ClassVar[str] = "error"

    def __init__(self, what: str, *, why: str = "", do: Sequence[str] = (), **facts: Any) -> None:
        self.what = what
        self.why = why
        self.do: tuple[str, ...] = tuple(do)
        self.facts = facts
        super().__init__(what)

    @property
    def see(self) -> str:
        """The address of this error's page."""
        return f"{DOCS}/errors/{self.code}"

    def __str__(self) -> str:
        lines = [f"[{self.code}] {self.what}"]
        if self.why:
            lines.append(f"  why: {self.why}")
        if self.do:
            lines.append(f"  do:  {'; or '.join(self.do)}")
        lines.append(f"  see: {self.see}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.what, self.why, self.do, self.facts), self._state()

    def _state(self) -> dict[str, Any] | None:
        """What was added to the error on its way: notes, and the outcome of the unit that it left."""
        return {name: value for name, value in self.__dict__.items() if name in _KEPT} or None

    @classmethod
    def _make(cls, what: str, why: str, do: tuple[str, ...], facts: dict[str, Any]) -> Self:
        return cls(what, why=why, do=do, **facts)


_KEPT = ("__notes__", "unit_outcome")


def _rebuild(
    cls: type[PolysessionError], what: str, why: str, do: tuple[str, ...], facts: dict[str, Any]
) -> PolysessionError:
    return cls._make(what, why, do, facts)


class ConfigError(PolysessionError, ValueError):
    """A key, type, URL or driver in the configuration that cannot be honoured; `facts["path"]` names the key."""

    code = "config"


class MissingExtra(PolysessionError, ImportError):
    """An optional package is needed and absent; the text has the command that installs it."""

    code = "missing-extra"


class NotConfigured(PolysessionError, RuntimeError):
    """The door was made without databases and used before `configure`."""

    code = "not-configured"


class UnknownDatabase(PolysessionError, LookupError):
    """No database of that name, or no name was given and there are several."""

    code = "unknown-database"


class UnknownTenant(PolysessionError, LookupError):
    """The database has no tenant of that name, or has tenants and none was named; raised before any SQL."""

    code = "unknown-tenant"


class WrongDoor(PolysessionError, RuntimeError):
    """The synchronous door was used where the asynchronous one belongs, or the other way round."""

    code = "wrong-door"


class DoorClosed(PolysessionError, RuntimeError):
    """The door was closed; no session can be had from it any more."""

    code = "door-closed"


class RequestRefused(PolysessionError, ValueError):
    """An attribute that a unit of work asked for cannot be honoured here; raised before any SQL."""

    code = "request-refused"


class JoinRefused(RequestRefused):
    """The unit that is open here has not what the inner one asks for; raised before any SQL."""

    code = "join-refused"


class AtomicUnavailable(RequestRefused):
    """These databases cannot commit all-or-nothing together; raised before any SQL."""

    code = "atomic-unavailable"


class NoUnit(PolysessionError, LookupError):
    """No unit of work is open here, for this database, in this task or thread."""

    code = "no-unit"


class SessionMisuse(PolysessionError, RuntimeError):
    """A session was used in a way that would do damage; raised before any SQL."""

    code = "session-misuse"


class SessionEnded(SessionMisuse):
    """The session was used after its end; the text has the place where it was opened and where it ended."""

    code = "session-ended"


class WrongOwner(SessionMisuse):
    """The session belongs to another thread, task or process; the text has both places."""

    code = "wrong-owner"


class UnitOwnsCommit(SessionMisuse):
    """`commit()`, `rollback()`, `close()` or the like was called on the session of a unit of work."""

    code = "unit-owns-commit"


class ConnectionHeld(SessionMisuse):
    """A connection is held where `outside()` says that none is, or was asked for inside of its block."""

    code = "connection-held"


class LazyLoadOutsideUnit(PolysessionError, RuntimeError):
    """An attribute was to be loaded where no unit of work can load it; the text has the option that loads it in time.

    Where SQLAlchemy would raise `DetachedInstanceError` it is that, too.
    """

    code = "lazy-load-outside-unit"


class ReadOnlyUnit(PolysessionError, PermissionError):
    """A write was tried in a read unit; refused before any SQL."""

    code = "read-only"


class CheckoutTimeout(PolysessionError, TimeoutError):
    """No connection could be had in time; the text lists who holds them."""

    code = "checkout-timeout"


class Overloaded(CheckoutTimeout):
    """Refused before the time is up: for some seconds more units have come than were served. Nothing was sent."""

    code = "overloaded"


class PoolDeadlock(CheckoutTimeout):
    """Units that hold connections wait for each other's, so that none can ever come; the text names all of them."""

    code = "pool-deadlock"


class DeadlineExceeded(PolysessionError, TimeoutError):
    """A unit of work took longer than its deadline and was rolled back; the text says where the time went."""

    code = "deadline-exceeded"


class UnitFailed(PolysessionError, RuntimeError):
    """A unit of work did not end as its code was led to believe."""

    code = "unit-failed"


class UnitRolledBack(UnitFailed):
    """The unit was rolled back because a joined unit failed inside it and that error was swallowed."""

    code = "unit-rolled-back"


class PartialCommit(UnitFailed):
    """A unit over several databases without atomicity committed on some of them only."""

    code = "partial-commit"


class CommitUnknown(UnitFailed):
    """The link was lost while COMMIT was under way: the unit may have committed or not. Never repeat it blindly."""

    code = "commit-unknown"


class CommitLost(UnitFailed):
    """The database has failed over to a server that does not have the unit, which may have committed before that."""

    code = "commit-lost"


class AlreadyCommitted(PolysessionError, RuntimeError):
    """A unit with this key has committed before; this one did nothing. `result` is what that one recorded."""

    code = "already-committed"

    @property
    def result(self) -> Any:
        """What the unit that committed has recorded; None if it recorded nothing."""
        return self.facts.get("result")
