"""Finds an object of an earlier attempt that is given to the next one changed: it would be applied twice.

A repeated unit has a new session each time, but what its function is given from outside stays what the failed attempt
made of it: `order.total += 5` is done once more. So what an object holds when it is added or merged is kept for the
time of the repetition, and compared when another attempt adds or merges the same object, itself or with another one
that refers to it. One that is as it was at first is let pass; what a flush or the database has filled in since is not
compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import inspect

from ..errors import SessionMisuse
from . import places

if TYPE_CHECKING:
    from .holding import Holding

__all__ = ["refuse_twice"]

_KEPT: Final = "_polysession_given"
"""Where an object's state keeps what it held when an attempt was given it."""


def refuse_twice(instance: object, holding: Holding, cascade: str) -> None:
    """Raise `SessionMisuse` if an earlier attempt was given `instance` and it has been changed since then; or another
    object that goes with it along relationships, by their `cascade` of that name."""
    state: Any = inspect(instance, raiseerr=False)
    if state is None or not hasattr(state, "dict"):
        return  # SQLAlchemy says what is wrong with it
    _refuse_one(instance, state, holding)
    if cascade and state.mapper.relationships:
        for other, _, its, _ in state.mapper.cascade_iterator(cascade, state, halt_on=_is_there):
            _refuse_one(other, its, holding)


def _is_there(state: Any) -> bool:
    """It has a session already, and so has what it refers to."""
    return state.session_id is not None


def _refuse_one(instance: object, state: Any, holding: Holding) -> None:
    kept = state.__dict__.get(_KEPT)
    if kept is None or kept[0] is not holding.repeated:
        values = {key: _copy(value) for key, value in state.dict.items() if not key.startswith("_sa_")}
        state.__dict__[_KEPT] = (holding.repeated, holding.id, values, places.caller())
        return
    _, attempt, values, place = kept
    if attempt == holding.id:
        return
    held = state.dict
    changed = [key for key, value in values.items() if key in held and not _same(_copy(held[key]), value)]
    if changed:
        raise SessionMisuse(
            f"{type(instance).__name__} was changed by an earlier attempt of unit {holding.name!r}: "
            f"{', '.join(sorted(changed))}",
            why=(
                f"that attempt was given it at {place}, and was rolled back; the object was not, so what was done to "
                f"it would be done twice; now at {places.caller()}"
            ),
            do=(
                "make or load the object inside of the unit's function",
                "pass identifiers and values to it, not objects",
            ),
            name=holding.name,
        )


def _copy(value: Any) -> Any:
    """A value that does not change with the object; collections by their members."""
    if isinstance(value, dict):
        return dict(value)
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, set | frozenset):
        return set(value)
    return value


def _same(one: Any, other: Any) -> bool:
    try:
        return one is other or bool(one == other)
    except Exception:
        return True  # what cannot be compared is not held against anyone
