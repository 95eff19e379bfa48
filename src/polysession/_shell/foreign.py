"""Refuses an object of one tenant in a unit of another.

An object that was loaded keeps the key of its row. Given to a session over another tenant's database it would change
or delete the row that happens to have the same key there. So in units and sessions of a tenant it is looked where an
object came from: in the session that it has, or in what the end of its unit has noted (`lazy.mark_objects`). What is
new has no row yet and is nobody's.

An object that was expunged, pickled or cached before its unit ended carries no note: nobody knows where it came from.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from sqlalchemy import inspect
from sqlalchemy.orm import Session

from ..errors import SessionMisuse
from . import places
from .lazy import Ended, ended_of

if TYPE_CHECKING:
    from .holding import Holding

__all__ = ["refuse_foreign", "refuse_pending"]


def refuse_foreign(instance: object, holding: Holding, cascade: str) -> None:
    """Raise `SessionMisuse` if `instance` is another tenant's; or another object that goes with it along relationships,
    by their `cascade` of that name."""
    state: Any = inspect(instance, raiseerr=False)
    if state is None or not hasattr(state, "dict"):
        return  # SQLAlchemy says what is wrong with it
    _refuse_one(instance, state, holding)
    if cascade and state.mapper.relationships:
        halt_on = None if cascade == "merge" else _is_there  # merge() copies also what another session has
        for other, _, its, _ in state.mapper.cascade_iterator(cascade, state, halt_on=halt_on):
            _refuse_one(other, its, holding)


def refuse_pending(session: Session, holding: Holding) -> None:
    """The same for all that a flush would change or delete; also for what has come by a cascade."""
    pending: Iterable[object] = (*session.dirty, *session.deleted)
    for instance in pending:
        _refuse_one(instance, inspect(instance), holding)


def _is_there(state: Any) -> bool:
    """It has a session already, and so has what it refers to."""
    return state.session_id is not None


def _refuse_one(instance: object, state: Any, holding: Holding) -> None:
    if state.key is None:
        return  # it is new: it has no row
    came = _came_from(state, holding)
    if came is None or came.tenant is None or came.tenant == holding.tenant:
        return
    database = holding.models.database_of(state.mapper, None)
    known = [name for name in holding.databases if name in came.databases and database in (None, name)]
    if not any(_has_tenants(name, holding) for name in known):
        return  # it lives in a database that is the same for all tenants, or in none of this unit's
    raise SessionMisuse(
        f"{type(instance).__name__} came from tenant {came.tenant!r}, and was given to tenant {holding.tenant!r}",
        why=(
            f"it was loaded in {came.kind} {came.name!r}, opened at {came.origin}; a row with its key may be another "
            f"one here; given to {holding.kind} {holding.name!r} at {places.caller()}"
        ),
        do=("load it in a unit of its own tenant", "make a new object with its values"),
        name=holding.name,
        tenant=holding.tenant,
    )


def _has_tenants(name: str, holding: Holding) -> bool:
    """The unit works in this database as in that of a tenant."""
    return f"{name}/tenant-{holding.tenant}" in holding.endpoints


def _came_from(state: Any, holding: Holding) -> Ended | None:
    """The unit or session that gave it out; None if nobody knows, or if it is this one."""
    session = state.session
    theirs: Holding | None = getattr(session, "_polysession_holding", None)
    if theirs is not None and theirs is not holding:
        return theirs.as_ended()
    return ended_of(state)
