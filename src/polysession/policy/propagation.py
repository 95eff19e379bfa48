"""What a new unit does when one is open here: join, nest, open anew, or be refused. Pure.

The modes are those of Spring's `TransactionDefinition` (Spring Framework reference, "Transaction Propagation"), with
strict joins: what the inner unit asks for and the open one has not is refused, never dropped.
"""

from __future__ import annotations

from typing import assert_never

import msgspec

from ..options import Propagation, UnitOptions
from ..topology import Role

__all__ = ["Decision", "Join", "Nest", "OpenNew", "Refuse", "decide"]


class OpenNew(msgspec.Struct, frozen=True):
    """Open a session of its own; without `transaction`, each of its statements commits by itself."""

    transaction: bool = True


class Join(msgspec.Struct, frozen=True):
    """Use the session of the open unit; its end decides."""


class Nest(msgspec.Struct, frozen=True):
    """Use the session of the open unit, behind a savepoint."""


class Refuse(msgspec.Struct, frozen=True):
    """It cannot be honoured; the three parts of the error's text."""

    what: str
    why: str
    do: tuple[str, ...]


Decision = OpenNew | Join | Nest | Refuse

_NEW = OpenNew()
_PLAIN = OpenNew(transaction=False)
_JOIN = Join()
_NEST = Nest()


def decide(
    asked: UnitOptions,
    around: UnitOptions | None,
    *,
    time_left: float | None = None,
    roles: tuple[Role, Role] | None = None,
) -> Decision:
    """What a unit that asks for `asked` does inside `around`, the unit open here for one of its databases.

    `time_left` is what the open unit's deadline leaves, in seconds; None if it has none. `roles` are that of the
    endpoint asked for and that of the open unit's; None if they are the same.
    """
    mode = asked.propagation
    if around is None:
        found = _outermost(mode)
        return _unable(asked) or found if found is _PLAIN else found
    match mode:
        case Propagation.REQUIRES_NEW:
            return _NEW
        case Propagation.NOT_SUPPORTED:
            return _unable(asked) or _PLAIN
        case Propagation.NEVER:
            return Refuse(
                "propagation='never', but a unit of work is open here",
                f"it covers {_names(around)}",
                ("call it outside of that unit", "ask for propagation='not_supported' to set the open unit aside"),
            )
        case Propagation.REQUIRED | Propagation.MANDATORY | Propagation.SUPPORTS:
            return _mismatch(asked, around, time_left, roles) or _JOIN
        case Propagation.NESTED:
            return _mismatch(asked, around, time_left, roles) or _NEST
        case _:
            assert_never(mode)


def _outermost(mode: Propagation) -> Decision:
    match mode:
        case Propagation.REQUIRED | Propagation.REQUIRES_NEW | Propagation.NESTED:
            return _NEW
        case Propagation.NEVER | Propagation.SUPPORTS | Propagation.NOT_SUPPORTED:
            return _PLAIN
        case Propagation.MANDATORY:
            return Refuse(
                "propagation='mandatory', but no unit of work is open here",
                "a mandatory unit is part of another one and never the outermost",
                ("open a unit around this call with begin()", "drop propagation='mandatory'"),
            )
        case _:
            assert_never(mode)


def _unable(asked: UnitOptions) -> Refuse | None:
    """The first attribute that only a transaction can give."""
    attribute = next(
        (
            name
            for name, wanted in (
                ("isolation", asked.isolation is not None),
                ("snapshot", asked.snapshot),
                ("key", asked.key is not None),
                ("outcome", asked.exact_asked),
            )
            if wanted
        ),
        None,
    )
    if attribute is None:
        return None
    return Refuse(
        f"{attribute} was asked for, but with propagation={asked.propagation.value!r} the unit has no transaction here",
        "each of its statements stands alone, so there is nothing in which it could hold",
        (f"leave out {attribute}", "open a unit of its own with propagation='requires_new'"),
    )


def _mismatch(
    asked: UnitOptions, around: UnitOptions, time_left: float | None, roles: tuple[Role, Role] | None
) -> Refuse | None:
    """The first attribute that the open unit cannot give to the one that would join it."""
    missing = [name for name in asked.databases if name not in around.databases]
    if missing:
        return _refuse("databases", _names(asked), _names(around))
    if asked.tenant is not None and asked.tenant != around.tenant:
        return _refuse("tenant", f"{asked.tenant!r}", "none" if around.tenant is None else f"{around.tenant!r}")
    if asked.access is not around.access:
        return _refuse("access", f"a {asked.access} unit", f"a {around.access} unit")
    if roles is not None and roles[0] is not roles[1]:
        return _refuse("role", f"the {roles[0]}", f"the {roles[1]}")
    if asked.atomic and len(asked.databases) > 1 and not around.atomic:
        return _refuse("atomic", "all or nothing", "databases that commit one after the other")
    if asked.isolation is not None and asked.isolation is not around.isolation:
        return _refuse("isolation", asked.isolation, around.isolation or "the server's default")
    if asked.snapshot and not around.snapshot:
        return _refuse("snapshot", "one snapshot over all statements", "none")
    if asked.repeatable and not around.repeatable:
        return _refuse("retry", "repetition of the whole unit", "a unit that cannot be repeated")
    if asked.key is not None and asked.key != around.key:
        return _refuse("key", f"{asked.key!r}", "no key" if around.key is None else f"{around.key!r}")
    if asked.exact_asked and not around.exact:
        return _refuse("outcome", "an exact outcome", "a plain one")
    if asked.deadline is not None and time_left is not None and asked.deadline > time_left:
        return _refuse("deadline", f"{asked.deadline:g} s", f"{max(time_left, 0.0):.3g} s left")
    return None


def _refuse(attribute: str, asked: str, has: str) -> Refuse:
    return Refuse(
        f"the open unit cannot be joined: its {attribute} {'differ' if attribute == 'databases' else 'differs'}",
        f"asked for {asked}; the open unit has {has}",
        (
            f"ask for the same {attribute} in both places",
            "open an independent unit with propagation='requires_new'",
        ),
    )


def _names(options: UnitOptions) -> str:
    return ", ".join(options.databases)
