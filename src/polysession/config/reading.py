"""From plain data to a `Topology`: one pass that reads every key and collects what is wrong.

Returns an error instead of raising it, and the public functions raise what they are given, so that no frame of a
traceback holds a value that was read here. Opens nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec

from ..errors import ConfigError, MissingExtra
from ..topology import (
    Address,
    Arguments,
    Certainty,
    Database,
    Endpoint,
    Overload,
    Pooler,
    PoolOptions,
    Reset,
    Role,
    Topology,
)
from .drivers import choose
from .environment import Text, expand
from .problems import Problem, closest, join, kind, report, show, show_key
from .urls import Parts, split
from .values import NOT_ENGINES, POOL, as_url, reveal

__all__ = ["read"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_TOP = ("databases", "defaults")
_TENANT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_DATABASE = ("url", "replicas", "tenants", "pooler", "outcome", "pool", "connect")
_DEFAULTS = ("pool",)
_POOLERS = tuple(str(word) for word in Pooler)
_CERTAINTIES = tuple(str(word) for word in Certainty)
_POOLED = "postgresql"
"""The backend before which a pooler can be said to stand."""

_OF_SQLALCHEMY = {
    "pool_size": "write `size` in the table `pool`",
    "max_overflow": "write `size` in the table `pool`: the most connections at once, with those that overflow",
    "pool_timeout": "write `checkout_timeout` in the table `pool`",
    "pool_recycle": "write `max_lifetime` in the table `pool`",
    "recycle": 'write "max_lifetime"',
    "timeout": 'write "checkout_timeout"',
    "connect_args": "write them in the table `connect`",
    "isolation_level": "say isolation=... where a unit is opened",
    "echo": "let the logger sqlalchemy.engine log at INFO",
}
"""What `create_engine` calls it (SQLAlchemy documentation, "Engine Configuration"), and what to write here."""

_SAID = {"autocommit": ..., "check_same_thread": False, "factory": None, "isolation_level": None}
"""Arguments for SQLite that polysession gives itself, and what it gives; a factory of its own (`_shell/sqlite.py`).
Python's driver has `autocommit` since 3.12: with any value of it, its `commit()` would do something else or nothing."""
_SAID_BY_US = "nothing, because polysession says it itself"

_DEEPEST = 32
"""Levels of tables within `connect`; a mapping that holds itself ends here."""

_SCHEME_TEMPLATE = re.compile(r"[\w+${}.-]{1,60}")
Origin = Mapping[str, str] | None
"""Where `${NAME}` is looked up; None: texts are taken as they are."""


def read(
    given: object, environ: Origin, *, source: str = "", asynchronous: bool | None = None
) -> Topology | ConfigError | MissingExtra:
    """The topology that `given` describes, or the error that tells all that is wrong with it.

    `asynchronous` is the door that the drivers must fit; None: either.
    """
    reading = _Reading(environ, asynchronous)
    topology = reading.topology(given)
    return report(reading.problems, source=source) if reading.problems else topology


class _Reading:
    """One pass. Each method returns what it read, or a stand-in after it noted a problem."""

    def __init__(self, environ: Origin, asynchronous: bool | None) -> None:
        self.environ = environ
        self.asynchronous = asynchronous
        self.problems: list[Problem] = []

    def topology(self, given: object) -> Topology:
        """All of it."""
        top = self.table(given, "", _TOP)
        defaults = self.table(top.get("defaults"), "defaults", _DEFAULTS)
        pool = self.pool(defaults.get("pool"), "defaults.pool")
        listed = self.table(top.get("databases"), "databases", None)
        if not listed and not self.problems:
            self.note("databases", "at least one database", "none", "give one a name and a url")
        read = [self.database(name, value, pool) for name, value in listed.items()]
        return Topology({database.name: database for database in read if database})

    def database(self, name: object, value: object, defaults: Mapping[str, Any]) -> Database | None:
        """One database from its table, or from the URL or engine that stands in its place."""
        path = join("databases", name)
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            self.note(path, "a name of letters, digits, _, . and - that begins with a letter or _", _show_name(name))
            return None
        is_table = isinstance(value, Mapping)
        table = self.table(value, path, _DATABASE) if is_table else {"url": value}
        has_tenants = table.get("tenants") is not None
        if has_tenants:
            for key in ("url", "replicas"):
                if table.get(key):
                    expected = "nothing beside `tenants`, which has a URL for each of them"
                    self.note(f"{path}.{key}", expected, kind(table[key]), "leave it out")
        elif table.get("url") is None:
            self.note(f"{path}.url" if is_table else path, "a URL", "nothing", "give it a url")
            return None
        pool = self.pool(table.get("pool"), f"{path}.pool")
        connect = self.connect(table.get("connect"), f"{path}.connect")
        merged = PoolOptions(**{**defaults, **pool})
        if merged.floor > merged.size:
            expected = f"at most the size of the pool, {merged.size}"
            self.note(f"{path}.pool.floor", expected, str(merged.floor), "raise size", "lower floor")
        pooler = Pooler(self.word(table.get("pooler"), f"{path}.pooler", _POOLERS))
        blank = Endpoint(database=name, pool=merged, pooler=pooler, connect=connect)
        outcome = Certainty(self.word(table.get("outcome"), f"{path}.outcome", _CERTAINTIES))
        if has_tenants:
            tenants = self.tenants(table["tenants"], f"{path}.tenants", blank)
            self.beside(table, path, [*tenants.values()])
            self.alike(tenants, f"{path}.tenants")
            return Database(name=name, primary=None, tenants=MappingProxyType(tenants), outcome=outcome)
        primary = self.endpoint(table["url"], f"{path}.url" if is_table else path, blank)
        replicas = tuple(
            self.endpoint(
                replica,
                f"{path}.replicas[{position}]",
                msgspec.structs.replace(blank, role=Role.REPLICA, number=position + 1),
            )
            for position, replica in enumerate(self.items(table.get("replicas"), f"{path}.replicas"))
        )
        self.beside(table, path, [primary, *replicas])
        for position, replica in enumerate(replicas):
            if _family(primary) and _family(replica) not in ("", _family(primary)):
                expected = f"the same backend as the primary's, {_family(primary)}"
                self.note(f"{path}.replicas[{position}]", expected, _family(replica))
        return Database(name=name, primary=primary, replicas=replicas, outcome=outcome)

    def beside(self, table: Mapping[Any, Any], path: str, endpoints: Sequence[Endpoint]) -> None:
        """Note what a database's table says beside its endpoints and cannot be honoured there."""
        first = next((endpoint for endpoint in endpoints if endpoint.address is not None), None)
        if first is None and endpoints and all(endpoint.engine is not None for endpoint in endpoints):
            for key in ("pooler", "pool", "connect"):
                if table.get(key):
                    self.note(f"{path}.{key}", "nothing, because an engine brings its own", kind(table[key]))
        if first is None:
            return
        if first.pooler is not Pooler.NONE and _family(first) not in ("", _POOLED):
            expected = f'"{Pooler.NONE}" for {_family(first)}: only poolers of {_POOLED} are known'
            self.note(f"{path}.pooler", expected, f'"{first.pooler}"', "leave it out")
        if _family(first) == "sqlite":
            for key in first.connect:
                if key in _SAID and first.connect[key] is not _SAID[key]:
                    self.note(join(f"{path}.connect", key), _SAID_BY_US, kind(first.connect[key]), "leave it out")

    def tenants(self, given: object, path: str, blank: Endpoint) -> dict[str, Endpoint]:
        """The endpoints of the tenants, by their names."""
        listed = self.table(given, path, None)
        if isinstance(given, Mapping) and not listed:
            self.note(path, "at least one tenant", "none", "give each a name and a URL", "give the database a url")
        read: dict[str, Endpoint] = {}
        for position, (name, value) in enumerate(listed.items()):
            below = join(path, name)
            if not isinstance(name, str) or not _TENANT.fullmatch(name):
                expected = "a name of letters, digits, _, . and - that begins with a letter, a digit or _"
                self.note(below, expected, _show_name(name))
            elif value is None:
                self.note(below, "a URL", "nothing", "give it a URL, or take the tenant out")
            else:
                own = msgspec.structs.replace(blank, tenant=name, number=position + 1)
                read[name] = self.endpoint(value, below, own)
        return read

    def alike(self, tenants: Mapping[str, Endpoint], path: str) -> None:
        """Note where the tenants of a database have not one backend, or not each a database of its own."""
        seen: dict[object, str] = {}
        family = next((_family(endpoint) for endpoint in tenants.values() if _family(endpoint)), "")
        for name, endpoint in tenants.items():
            below = join(path, name)
            if _family(endpoint) not in ("", family):
                self.note(below, f"the same backend as that of the other tenants, {family}", _family(endpoint))
            where = _place(endpoint)
            if where is None:
                continue
            other = seen.setdefault(where, name)
            if other != name:
                expected = "a database of its own"
                self.note(below, expected, f"that of {join(path, other)}", "give each tenant a database of its own")

    def endpoint(self, given: object, path: str, blank: Endpoint) -> Endpoint:
        """`blank` with the address or engine that `given` is."""
        if isinstance(given, str):
            text = expand(given, self.environ, path=path)
        elif (url := as_url(given)) is not None:
            text = Text(value=url, template=url)
        elif isinstance(given, NOT_ENGINES):
            hint = ("read a configuration file with from_toml",) if isinstance(given, os.PathLike) else ()
            self.note(path, "a URL or an engine", kind(given), *hint)
            return blank
        else:
            return Endpoint(
                database=blank.database, role=blank.role, number=blank.number, tenant=blank.tenant, engine=given
            )
        if isinstance(text, tuple):
            self.problems += text
            return blank
        parts = self.url(text, path)
        return msgspec.structs.replace(blank, address=Address(text.value)) if parts else blank

    def url(self, text: Text, path: str) -> Parts | None:
        """The parts of a URL whose driver is known and there, or None after its problem was noted."""
        parts = split(text.value)
        if not isinstance(parts, Parts):
            self.note(path, parts.expected, _show_url(text), *parts.do)
            return None
        driver = choose(parts.backend, parts.driver, asynchronous=self.asynchronous, path=path, shown=_show_url(text))
        if isinstance(driver, Problem):
            self.problems.append(driver)
            return None
        return parts

    def word(self, given: object, path: str, words: tuple[str, ...]) -> str:
        """One of `words`; the first of them if nothing is given."""
        if given is None:
            return words[0]
        text = expand(given, self.environ, path=path) if isinstance(given, str) else None
        if isinstance(text, tuple):
            self.problems += text
        elif text is not None and text.value in words:
            return text.value
        else:
            near = closest(text.value, words) if text else None
            expected = " or ".join(f'"{word}"' for word in words)
            self.note(path, expected, text.found if text else show(given), *([f'write "{near}"'] if near else []))
        return words[0]

    def pool(self, given: object, path: str) -> dict[str, Any]:
        """The keys of a pool that are given."""
        table = self.table(given, path, tuple(POOL))
        read: dict[str, Any] = {}
        for key, reader in POOL.items():
            if table.get(key) is None:
                continue
            value, text = table[key], None
            if isinstance(value, str):
                expanded = expand(value, self.environ, path=f"{path}.{key}")
                if isinstance(expanded, tuple):
                    self.problems += expanded
                    continue
                value, text = expanded.value, expanded
            outcome = reader(value, bool(text and text.names))
            if isinstance(outcome, str) and not isinstance(outcome, (Overload, Reset)):
                self.note(f"{path}.{key}", outcome, text.found if text else show(value))
            else:
                read[key] = outcome
        return read

    def connect(self, given: object, path: str) -> Arguments:
        """The keyword arguments for the driver."""
        table = self.table(given, path, None)
        for key in table:
            if not isinstance(key, str):
                self.note(join(path, key), "text as the name of an argument", kind(key))
        return Arguments({key: self.argument(value, join(path, key), 1) for key, value in table.items()})

    def argument(self, given: object, path: str, depth: int) -> object:
        """`given` with the variables in all of its texts replaced."""
        if depth > _DEEPEST:
            self.note(path, f"at most {_DEEPEST} levels of tables and lists", "more")
            return None
        if isinstance(given, str):
            text = expand(given, self.environ, path=path)
            if isinstance(text, Text):
                return text.value
            self.problems += text
        elif isinstance(given, Mapping):
            return {key: self.argument(value, join(path, key), depth + 1) for key, value in given.items()}
        elif isinstance(given, list):
            return [self.argument(value, f"{path}[{position}]", depth + 1) for position, value in enumerate(given)]
        return reveal(given)

    def items(self, given: object, path: str) -> Sequence[object]:
        """`given` if it is a list; None is an empty one."""
        if isinstance(given, list | tuple | None):
            return given or ()
        self.note(path, "a list of URLs", kind(given), "put it in brackets")
        return ()

    def table(self, given: object, path: str, known: tuple[str, ...] | None) -> Mapping[Any, Any]:
        """`given` if it is a table with no keys but the `known`; None is an empty one."""
        if given is None:
            return {}
        if not isinstance(given, Mapping):
            self.note(path or "configuration", "a table", kind(given))
            return {}
        for key in given if known is not None else ():
            if key not in (known or ()):
                near = closest(key, known or ())
                expected = f"one of the keys {', '.join(known or ())}"
                meant = _OF_SQLALCHEMY.get(key) if isinstance(key, str) else None
                hints = (meant,) if meant else (f'write "{near}"',) if near else ()
                self.note(join(path, key), expected, "an unknown key", *hints)
        return given

    def note(self, path: str, expected: str, found: str, *do: str) -> None:
        """Remember a problem."""
        self.problems.append(Problem(path=path, expected=expected, found=found, do=do))


def _family(endpoint: Endpoint) -> str:
    """The endpoint's backend, with MariaDB counted as MySQL; empty if it is not known."""
    backend = endpoint.address.shown.partition("://")[0].partition("+")[0] if endpoint.address else ""
    return "mysql" if backend == "mariadb" else backend


def _place(endpoint: Endpoint) -> object:
    """What two tenants may not have in common: the address, or the engine. None for a database in memory."""
    if endpoint.address is None:
        return None if endpoint.engine is None else id(endpoint.engine)
    parts = split(endpoint.address.reveal())
    return None if isinstance(parts, Parts) and parts.in_memory else endpoint.address


def _show_name(name: object) -> str:
    """What an error may say of the name of a database or tenant."""
    return show_key(name) if isinstance(name, str) and name else kind(name)


def _show_url(text: Text) -> str:
    """What an error may say of a URL: its scheme, where the file itself has one, or its variables."""
    scheme, mark, _ = text.template.partition("://")
    if mark and _SCHEME_TEMPLATE.fullmatch(scheme):
        return f'"{scheme}://***"'
    if text.names:
        return text.variables if text.value else f"{text.variables}, which is empty"
    return 'text without "://"' if text.value and not mark else kind(text.value)
