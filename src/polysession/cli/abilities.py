"""What polysession can and cannot do on an endpoint, from its dialect's capabilities and what was found there. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from .. import dialects
from ..dialects.base import Capabilities
from ..dialects.inspection import EndpointFacts
from ..options import Isolation
from ..topology import Pooler, Role

__all__ = ["Ability", "abilities"]


class Ability(msgspec.Struct, frozen=True):
    """Something that a unit of work may need, whether it can be had, and the particulars."""

    name: str
    can: bool
    detail: str = ""


def abilities(one: EndpointFacts) -> tuple[Ability, ...]:
    """All of them, in an order that does not change. The table is that of the URL's backend, as at the doors."""
    known = dialects.of(one.backend, galera=one.server.galera).capabilities
    return tuple(_abilities(one, known))


def _abilities(one: EndpointFacts, known: Capabilities) -> Iterator[Ability]:
    for door in one.doors:
        yield Ability(door.door, not door.problem, door.problem or f"by {door.driver}")
    yield Ability("isolation levels", True, _levels(known))
    plain = one.pooler is Pooler.NONE
    how = "" if plain else "the pooler makes one READ ONLY transaction of each, in which "
    now = f"{how}each statement sees what is committed when it runs"
    yield Ability("read units without a transaction", plain, now)
    yield Ability("a snapshot over a whole read unit", True, f"at {known.isolation[Isolation.REPEATABLE_READ]}")
    yield Ability("writes of read units refused by the server", bool(one.read_refused), _refusal(one))
    if one.role is Role.PRIMARY:
        yield from _writing(one, known)


def _writing(one: EndpointFacts, known: Capabilities) -> Iterator[Ability]:
    """What matters to write units, which never go to a replica."""
    own = one.server.isolation
    noticed = own == Isolation.SERIALIZABLE or (own == Isolation.REPEATABLE_READ and one.server.snapshot_isolation)
    level = known.repeatable_isolation
    yield Ability(
        "lost updates noticed in repeatable units",
        bool(level or noticed),
        f"they run at {level or f'{own}, the level of the server'}",
    )
    yield Ability(
        "several writers at once",
        known.concurrent_writers,
        "" if known.concurrent_writers else "write units take turns, first come, first served",
    )
    yield Ability(
        "CREATE and ALTER rolled back with their unit",
        known.transactional_ddl,
        "" if known.transactional_ddl else "each commits what came before it",
    )
    yield Ability("one atomic unit over several databases", False, f"not yet; {_preparing(one, known)}")


def _levels(known: Capabilities) -> str:
    """`READ COMMITTED, SERIALIZABLE (also for REPEATABLE READ)`: what is given, and what else gets it."""
    given: dict[Isolation, list[Isolation]] = {}
    for asked, level in known.isolation.items():
        others = given.setdefault(level, [])
        if asked is not level:
            others.append(asked)
    return ", ".join(f"{level} (also for {', '.join(also)})" if also else level for level, also in given.items())


def _refusal(one: EndpointFacts) -> str:
    if one.file is not None:
        return "by PRAGMA query_only"
    if one.read_refused is None:
        return "their connection could not be made" if one.read_problem else "not seen: there was no free connection"
    return "seen on a connection" if one.read_refused else "the server takes them"


def _preparing(one: EndpointFacts, known: Capabilities) -> str:
    if not known.two_phase:
        return "a transaction cannot be prepared here, so this could be the one database that decides"
    most = one.server.prepared_transactions
    if most is None:
        return "transactions can be prepared here"
    return f"max_prepared_transactions is {most}{'' if most else ', so that none can be prepared'}"
