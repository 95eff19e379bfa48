"""Errors of lazy loading that name the attribute, the unit that ended, its place, and the option that would help.

SQLAlchemy raises `DetachedInstanceError` for an object whose session is gone: nothing of ours is on that path. So the
name in `sqlalchemy.orm.exc` is given to a subclass that, when it is raised for an object which one of our units gave
out, becomes a `LazyLoadOutsideUnit`; for any other object it is what it was. The frame that raises it is looked at
only then, on the way to an error. If a later SQLAlchemy has other names there, its plain error is what users see; a
test notices.
"""

from __future__ import annotations

import sys
from typing import Any, Final

import msgspec
from sqlalchemy import inspect
from sqlalchemy.orm import Session
from sqlalchemy.orm import exc as orm_exc

from ..errors import LazyLoadOutsideUnit
from ..facts import Origin

__all__ = ["Ended", "ended_of", "install", "mark_objects", "outside_greenlet"]

_UNIT: Final = "_polysession_ended"


class Ended(msgspec.Struct, frozen=True, gc=False):
    """The unit that an object came from."""

    kind: str
    name: str
    origin: Origin
    tenant: str | None = None
    databases: tuple[str, ...] = ()


def mark_objects(session: Session, ended: Ended) -> None:
    """Let the session's objects know which unit they came from; called when it ends. One of another tenant stays that
    one's, if it was given to this unit in vain."""
    for state in session.identity_map.all_states():
        before = None if ended.tenant is None else ended_of(state)
        if before is None or before.tenant in (None, ended.tenant):
            state.__dict__[_UNIT] = ended


def ended_of(state: Any) -> Ended | None:
    """The unit that an object came from; None if none has given it out, or that one has not ended."""
    found: Ended | None = state.__dict__.get(_UNIT)
    return found


class _Detached(orm_exc.DetachedInstanceError):
    """Takes the place of `DetachedInstanceError` in `sqlalchemy.orm.exc`, and is one."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        if cls is _Detached:
            place = sys._getframe(1).f_locals
            state = place.get("state") or inspect(place.get("instance"), raiseerr=False)
            ended = getattr(state, "__dict__", {}).get(_UNIT)
            if ended is not None:
                return _after_the_end(state, _attribute(place), ended)
        return super().__new__(cls)


class LazyLoadAfterUnit(LazyLoadOutsideUnit, _Detached):  # type: ignore[misc]  # `code` is ours: both are texts
    """A `LazyLoadOutsideUnit` that is also caught as `DetachedInstanceError`."""

    def __init__(self, what: str, **parts: Any) -> None:
        # made by `_Detached.__new__`, it is initialized once more with the arguments of the error that it replaces
        if not hasattr(self, "what"):
            super().__init__(what, **parts)


def _attribute(place: dict[str, Any]) -> str | None:
    """The attribute that was to be loaded: a relationship's key, or what had expired."""
    loader = place.get("self")
    for holder in (loader, getattr(loader, "attr", None)):  # the second for what is lazy="dynamic"
        key = getattr(holder, "key", None)
        if isinstance(key, str):
            return key
    names = sorted(place.get("attribute_names") or ())
    return names[0] if names else None


def _after_the_end(state: Any, attribute: str | None, ended: Ended) -> LazyLoadAfterUnit:
    model = state.class_.__name__
    name = f"{model}.{attribute}" if attribute else f"an attribute of {model}"
    return LazyLoadAfterUnit(
        f"{name} was not loaded, and the {ended.kind} it would be loaded in has ended",
        why=f"the object came from {ended.kind} {ended.name!r}, opened at {ended.origin}",
        do=_cures(state.mapper, model, attribute),
        model=model,
        attribute=attribute or "",
        unit=ended.name,
    )


def _cures(mapper: Any, model: str, attribute: str | None) -> tuple[str, ...]:
    if attribute is not None and attribute in mapper.relationships:
        if mapper.relationships[attribute].lazy == "dynamic":
            return ("use the attribute inside of the unit's block",)
        many = mapper.relationships[attribute].uselist
        option = "selectinload" if many else "joinedload"
        return (
            f"load it with the object: select({model}).options({option}({model}.{attribute}))",
            "use the attribute inside of the unit's block",
        )
    return (
        "use the attribute inside of the unit's block",
        f"load it with the object, undeferred: select({model}).options(undefer({model}.{attribute or '...'}))",
        "make the session with expire_on_commit=False, so that a commit keeps what was loaded",
    )


def outside_greenlet(place: Any) -> tuple[str, str, Any] | None:
    """The model, attribute and mapper of a lazy load, found in the frames above `place`; None if it is no lazy load."""
    frame = place
    while frame is not None:
        if frame.f_code.co_name in ("_load_for_state", "_emit_lazyload", "_load_scalar_attributes"):
            state = frame.f_locals.get("state")
            if state is not None:
                return state.class_.__name__, _attribute(frame.f_locals) or "", state.mapper
        frame = frame.f_back
    return None


def lazy_load_while_async(place: Any, kind: str, name: str, origin: Origin) -> LazyLoadOutsideUnit | None:
    """The error for a lazy load in asyncio code that nothing awaits; None if it is no lazy load."""
    found = outside_greenlet(place)
    if found is None:
        return None
    model, attribute, mapper = found
    cures = _cures(mapper, model, attribute or None)
    return LazyLoadOutsideUnit(
        f"{model}.{attribute} was not loaded, and to read it here would be to wait without await",
        why=f"asyncio code cannot wait in an attribute; {kind} {name!r} was opened at {origin}",
        do=(
            cures[0],
            f"await session.refresh(object, [{attribute!r}])",
            "use AsyncAttrs: await object.awaitable_attrs",
        ),
        model=model,
        attribute=attribute,
        unit=name,
    )


def install() -> None:
    """Put `_Detached` in its place. A second call does nothing."""
    if orm_exc.DetachedInstanceError is not _Detached:
        orm_exc.DetachedInstanceError = _Detached  # type: ignore[misc]  # a subclass of what it was
