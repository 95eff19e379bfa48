"""What the facts about endpoints mean for polysession, as findings. Pure: nothing is asked here.

A check is a function from facts to findings. `CHECKS` look at one endpoint, `CHECKS_TOGETHER` at all of them, because
several pools may share one server. What is said of a finding is in the table of `findings`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import msgspec

from .. import dialects
from ..config.problems import join
from ..dialects.inspection import EndpointFacts, Limit
from ..options import Isolation
from ..topology import Pooler, Role
from .findings import Code, Finding, Severity, found

__all__ = ["CHECKS", "CHECKS_TOGETHER", "judge"]

_OLDEST: Final[dict[str, tuple[int, ...]]] = {
    "PostgreSQL": (15,),
    "MariaDB": (10, 6),
    "MySQL": (8,),
    "SQLite": (3, 35),
}
"""What the dialects are made for, as their classes say; SQLite 3.35 brought RETURNING (sqlite.org/changes.html)."""

_WRITABLE: Final = {
    "PostgreSQL": "it is no standby, and default_transaction_read_only is off",
    "MariaDB": "read_only = 0",
    "MySQL": "read_only = 0",
    "SQLite": "this process may write to the file",
}

_TIMEOUTS: Final = {
    "PostgreSQL": ("statement_timeout", "idle_in_transaction_session_timeout"),
    "MariaDB": ("max_statement_time", "idle_transaction_timeout"),
    "MySQL": ("max_execution_time", ""),
    "SQLite": ("", ""),
}
"""What the servers call a limit for a statement, and for a transaction in which nothing happens."""


def judge(facts: Sequence[EndpointFacts]) -> tuple[Finding, ...]:
    """All findings, the worst first; what is said of several endpoints in the same words is told once."""
    findings = [finding for one in facts for check in CHECKS for finding in check(one)]
    findings += [finding for check in CHECKS_TOGETHER for finding in check(facts)]
    told: dict[object, Finding] = {}
    for finding in findings:
        key = (finding.code, finding.fact, finding.why, finding.do)
        before = told[key].endpoints if key in told else ()
        told[key] = msgspec.structs.replace(finding, endpoints=before + finding.endpoints)
    return tuple(sorted(told.values(), key=lambda finding: list(Severity).index(finding.severity)))


# -- one endpoint


def _primary(one: EndpointFacts) -> Iterator[Finding]:
    server = one.server
    if one.role is not Role.PRIMARY or one.file is not None:
        return
    if server.in_recovery:
        fact = "the primary is a standby (pg_is_in_recovery)"
    elif not server.read_only:
        return
    elif server.engine == "PostgreSQL":
        fact = "sessions on the primary start read-only (default_transaction_read_only = on)"
    else:
        fact = "the primary refuses writes (read_only = 1)"
    yield found(Code.PRIMARY_READ_ONLY, one, fact, account=server.account)


def _read_units(one: EndpointFacts) -> Iterator[Finding]:
    table = f"[{join('databases', one.database)}]"
    is_set = one.pooler is not Pooler.NONE
    cure = f"see what the log of the pooler says of {table}" if is_set else f'set pooler = "transaction" in {table}'
    if one.read_problem:
        fact = f"a read unit cannot connect, a write unit can: {one.read_problem}"
        yield found(Code.READ_UNITS_FAIL, one, fact, cure=cure)
    elif one.read_refused is False:
        fact = "the server takes writes on the connection of a read unit, although it was asked to refuse them"
        yield found(Code.READS_MAY_WRITE, one, fact, cure=cure)
    elif one.pooler_seen and not is_set:
        fact = "a pooler stands before the server: another process answers than the one that the login told"
        yield found(Code.POOLER_UNSET, one, fact, cure=f"{cure}, which is right for session mode too")


def _age(one: EndpointFacts) -> Iterator[Finding]:
    server = one.server
    if server.version_number < _OLDEST[server.engine]:
        oldest = f"{server.engine} {'.'.join(map(str, _OLDEST[server.engine]))}"
        code = Code.SERVER_TOO_OLD if one.file is None else Code.SQLITE_TOO_OLD
        fact = f"this is {server.engine} {server.version}; polysession is made for {oldest} and later"
        yield found(code, one, fact, oldest=oldest)


def _storage_engine(one: EndpointFacts) -> Iterator[Finding]:
    engine = one.server.storage_engine
    if engine and engine.lower() != "innodb":
        yield found(Code.STORAGE_ENGINE, one, f"a table that names no engine goes to {engine} (default_storage_engine)")


def _file(one: EndpointFacts) -> Iterator[Finding]:
    file = one.file
    if file is None or file.in_memory:
        return
    folder = file.path.rpartition("/")[0] or "/"
    if not file.folder_exists:
        yield found(Code.SQLITE_FOLDER, one, f"there is no folder {folder}", folder=folder)
    elif not file.is_database:
        yield found(Code.SQLITE_NOT_A_DATABASE, one, f"{file.path} ({file.size} bytes) is no SQLite database")
    elif not file.writable and one.role is Role.PRIMARY:
        where = f"{file.path} or to its folder" if file.exists else folder
        yield found(Code.SQLITE_NOT_WRITABLE, one, f"this process may not write to {where}", folder=folder)


def _lost_updates(one: EndpointFacts) -> Iterator[Finding]:
    """At the level of a session that asks for none: SERIALIZABLE loses nothing, REPEATABLE READ only on InnoDB."""
    server = one.server
    repeatable = dialects.of(server.engine.lower()).capabilities.repeatable_isolation
    is_guarded = server.isolation == Isolation.REPEATABLE_READ and (repeatable is not None or server.snapshot_isolation)
    if one.file is None and server.isolation != Isolation.SERIALIZABLE and not is_guarded:
        exception = ", unless the unit is repeatable" if repeatable else ", also in repeatable units"
        fact = f"sessions start at {server.isolation}"
        yield found(Code.LOST_UPDATES, one, fact, exception=exception, repeatable=repeatable)


def _timeouts(one: EndpointFacts) -> Iterator[Finding]:
    server = one.server
    limits = (server.statement_timeout, server.idle_in_transaction_timeout)
    unset = [f"{name} = 0" for name, limit in zip(_TIMEOUTS[server.engine], limits, strict=True) if limit == 0]
    if unset:
        yield found(Code.NO_TIMEOUTS, one, f"{' and '.join(unset)}: the server sets no limit", account=server.account)


def _backend_name(one: EndpointFacts) -> Iterator[Finding]:
    if one.server.engine == "MariaDB" and one.backend == "mysql":
        yield found(Code.BACKEND_NAME, one, "the URL says mysql, the server is MariaDB", driver=one.driver)


# -- all endpoints


def _replicas(facts: Sequence[EndpointFacts]) -> Iterator[Finding]:
    primaries = {one.database: one for one in facts if one.role is Role.PRIMARY}
    for one in facts:
        if one.role is Role.REPLICA:
            yield from _replica(one, primaries.get(one.database))


def _replica(one: EndpointFacts, primary: EndpointFacts | None) -> Iterator[Finding]:
    server = one.server
    if primary is not None and server.identity == primary.server.identity:
        what = "server" if one.file is None else "file"
        yield found(Code.REPLICA_IS_PRIMARY, one, f"the replica is the {what} of {primary.endpoint}")
    elif not server.in_recovery and not server.read_only:
        yield found(Code.REPLICA_TAKES_WRITES, one, f"the replica takes writes ({_WRITABLE[server.engine]})")
    elif server.write_privileges:
        privileges = ", ".join(server.write_privileges)
        user, _, host = server.account.rpartition("@")
        fact = f"the account {server.account} may write to the replica although read_only = 1, by its {privileges}"
        yield found(Code.REPLICA_PRIVILEGED, one, fact, privileges=privileges, grantee=f"'{user}'@'{host}'")


def _pools(facts: Sequence[EndpointFacts]) -> Iterator[Finding]:
    """The pools that one limit binds, added up, against that limit."""
    bound: dict[str, list[tuple[EndpointFacts, Limit]]] = {}
    for one in facts:
        for limit in one.server.limits:
            bound.setdefault(limit.key, []).append((one, limit))
    for members in bound.values():
        yield from _bound_pools([one for one, _ in members], [limit for _, limit in members])


def _bound_pools(those: list[EndpointFacts], limits: list[Limit]) -> Iterator[Finding]:
    """`those` endpoints have one limit in common, as each of them saw it."""
    limit = limits[0]
    most, in_use = min(each.most for each in limits), max(each.in_use for each in limits)
    size = sum(one.pool_size for one in those)
    if size <= most - in_use:
        return
    code = Code.POOL_OVER_LIMIT if size > most else Code.POOL_OVER_FREE
    room = most if size > most else most - in_use
    fact = f"{'the pool' if len(those) == 1 else f'{len(those)} pools together'} may hold {size} connections; "
    fact += f"{limit.name} allows {most}"
    if code is Code.POOL_OVER_FREE:
        fact += f", {in_use} are in use by others and {room} free now"
    keys = list(dict.fromkeys(f"[{join('databases', one.database)}.pool]" for one in those))
    sizes = f"set size = {max(room // len(those), 1)} in {' and '.join(keys)}"
    raised = limit.cure.format(number=size + in_use + limit.setting - limit.most)
    finding = found(code, those[0], fact, sizes=sizes, raised=raised)
    yield msgspec.structs.replace(finding, endpoints=tuple(one.endpoint for one in those))


CHECKS: Final[tuple[Callable[[EndpointFacts], Iterator[Finding]], ...]] = (
    _primary,
    _read_units,
    _age,
    _storage_engine,
    _file,
    _lost_updates,
    _timeouts,
    _backend_name,
)
CHECKS_TOGETHER: Final[tuple[Callable[[Sequence[EndpointFacts]], Iterator[Finding]], ...]] = (_replicas, _pools)
