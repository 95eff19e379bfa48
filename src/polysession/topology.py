"""What there is: databases, their endpoints and roles, as frozen values. Pure; opens nothing.

A *database* is a logical store with a name that the application uses. An *endpoint* is one place where it is reached.
A database may be many of one kind, one for each *tenant*: it has an endpoint for each, and none that stands for all.
Where the address of an endpoint holds a password, only `Address.reveal()` gives it out; nothing here prints it. The
same goes for the arguments of the driver's `connect()`, which are kept as `Arguments`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, final
from urllib.parse import unquote_plus

import msgspec

from .errors import RequestRefused, UnknownDatabase, UnknownTenant

__all__ = [
    "DEFAULT",
    "Address",
    "Arguments",
    "Certainty",
    "Database",
    "Endpoint",
    "PoolOptions",
    "Pooler",
    "Reset",
    "Role",
    "Topology",
    "is_secret",
]

DEFAULT = "default"
"""The name of the only database when it was given without one."""

_PLACE = re.compile(r"(?:\[[^\]]*\]|[^:/?]*)(?::\d*)?(?=[/?]|$)")
_QUERY_ITEM = re.compile(r"(?P<head>[?&](?P<key>[^=&]*)=)[^&]*")
_SECRET_KEY = re.compile(r"pass|pwd|secret|token|credential|scram|api_?key", re.IGNORECASE)


@final
class Address:
    """A database URL whose password is never shown: not by repr, str, format, and not by what is derived from it.

    Two addresses are equal if their URLs are. Instances are immutable and may be shared between threads.
    """

    __slots__ = ("_reveal", "shown")

    _reveal: Callable[[], str]
    shown: str
    """The URL with `***` for every secret in it."""

    def __init__(self, url: str) -> None:
        self._reveal = lambda: url
        self.shown = mask(url)

    def reveal(self) -> str:
        """The URL with its secrets, for the one call that connects."""
        return self._reveal()

    def __repr__(self) -> str:
        return f"Address({self.shown!r})"

    def __str__(self) -> str:
        return self.shown

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Address) and other._reveal() == self._reveal()

    def __hash__(self) -> int:
        return hash(self._reveal())


@final
class Arguments(Mapping[str, Any]):
    """Keyword arguments of a driver's `connect()`; their names may be shown, their values are not. Immutable."""

    __slots__ = ("_reveal",)

    _reveal: Callable[[], dict[str, Any]]

    def __init__(self, given: Mapping[str, Any] = MappingProxyType({})) -> None:
        kept = dict(given)
        self._reveal = lambda: kept

    def __getitem__(self, name: str) -> Any:
        return self._reveal()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._reveal())

    def __len__(self) -> int:
        return len(self._reveal())

    def __repr__(self) -> str:
        return f"Arguments({', '.join(f'{name}=***' for name in self)})"


def is_secret(key: str) -> bool:
    """Whether what stands under this key of a URL's query is a secret: a password, a token or the like."""
    return _SECRET_KEY.search(key) is not None


def mask(url: str) -> str:
    """`url` with `***` in place of the password and of secrets in its query.

    Where a text is not a well-formed URL, more is hidden rather than less: all up to the last `@`, or everything.
    """
    scheme, mark, rest = url.partition("://")
    if not mark:
        return "***"
    is_file = scheme.startswith("sqlite") and rest.startswith("/")
    head, at, tail = ("", "", rest) if is_file else rest.rpartition("@")
    if at:
        user, colon, _ = head.partition(":")
        rest = f"{user}{colon and ':***'}@{tail}"
    elif not _PLACE.match(rest):
        return f"{scheme}://***"
    return f"{scheme}://{_QUERY_ITEM.sub(_mask_item, rest)}"


def _mask_item(item: re.Match[str]) -> str:
    return f"{item['head']}***" if is_secret(unquote_plus(item["key"])) else item[0]


class Role(StrEnum):
    """What an endpoint is for: the primary takes writes, a replica follows it and may lag."""

    PRIMARY = "primary"
    REPLICA = "replica"


class Pooler(StrEnum):
    """What stands between a client and its server and shares the server's connections among clients.

    Behind a pooler in transaction mode a connection belongs to a client for one transaction only: what is set on the
    session reaches whoever comes next (pgbouncer, "Features": SQL feature map for pooling modes).
    """

    NONE = "none"
    TRANSACTION = "transaction"
    """One that works in transaction mode, or that may: what it needs does no harm in session mode."""


class Reset(StrEnum):
    """When a connection's session is put back into its first state before the next unit gets it."""

    TOUCHED = "touched"
    """When something was found that lasts: other connections go back without a round trip."""
    ALWAYS = "always"
    """Each time; finds what a stored function of the database hides."""
    NEVER = "never"
    """Not at all: what a unit sets, the next one finds."""


class Overload(StrEnum):
    """What is done while more units come than can be served, for some seconds already."""

    SHED = "shed"
    """The newest are served first, and those who have waited for too long are refused."""
    WAIT = "wait"
    """Everybody waits for his turn, or until his time is up."""


class Certainty(StrEnum):
    """What a unit knows of its outcome when the answer to its COMMIT is lost."""

    PLAIN = "plain"
    """Nothing: it ends in `CommitUnknown`."""
    EXACT = "exact"
    """It leaves a row with its id, and the database is asked for it."""
    EARLY = "early"
    """As plain; and COMMIT may leave early, in one flight with the statement of the last flush. That spares a round
    trip, and a link that is lost under that statement leaves the outcome unknown."""


class PoolOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many connections an endpoint may have and how long they live. All times are seconds."""

    size: int = 10
    """Most connections open at once, read and write units together."""
    floor: int = 0
    """Connections that are kept open though nobody uses them; they are opened beside when the pool is first used, and
    anew when they end. Others are closed when they were idle for ten minutes."""
    checkout_timeout: float = 5.0
    """Longest wait for a connection; then `CheckoutTimeout`."""
    max_lifetime: float = 1800.0
    """Age at which a connection is replaced at its next use, or up to a tenth earlier; 0 means never."""
    ping_after: float = 30.0
    """Idleness after which the server is asked whether it is there before a connection is used; 0 means never."""
    reset: Reset = Reset.TOUCHED
    """When what was set on a connection is undone before the next unit gets it."""
    overload: Overload = Overload.WAIT
    """What is done while more units come than can be served."""
    idle_warning: float = 2.0
    """A transaction that holds its connection for longer without a statement is told with its line; 0 means never."""


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One place where a database is reached: an address, or an engine that the application made itself."""

    database: str
    role: Role = Role.PRIMARY
    number: int = 1
    tenant: str | None = None
    """Whose it is; None where the database has no tenants."""
    address: Address | None = None
    engine: Any = None
    pool: PoolOptions = PoolOptions()
    pooler: Pooler = Pooler.NONE
    connect: Arguments = Arguments()
    """Keyword arguments for the driver's `connect()`, as given."""
    options: Mapping[str, Any] = MappingProxyType({})
    """Further arguments for SQLAlchemy's `create_engine`, as given."""

    @property
    def name(self) -> str:
        """`orders/primary`, `orders/replica-2`, `orders/tenant-acme`: no two endpoints of a door have the same."""
        if self.tenant is not None:
            return f"{self.database}/tenant-{self.tenant}"
        return (
            f"{self.database}/{self.role}"
            if self.role is Role.PRIMARY
            else f"{self.database}/{self.role}-{self.number}"
        )


class Database(msgspec.Struct, frozen=True, kw_only=True):
    """A logical store, and what units of work get when they ask for nothing else: one primary and perhaps replicas; or
    an endpoint for each tenant, and then no primary that a unit could be given by mistake."""

    name: str
    primary: Endpoint | None
    replicas: tuple[Endpoint, ...] = ()
    tenants: Mapping[str, Endpoint] = MappingProxyType({})
    """By the tenant's name; empty for a database without tenants."""
    outcome: Certainty = Certainty.PLAIN
    """What its write units know of their outcome if they ask for nothing."""

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The primary, then the replicas; or those of all tenants."""
        return (*self.tenants.values(),) if self.primary is None else (self.primary, *self.replicas)

    def writable(self, tenant: str | None = None) -> Endpoint:
        """The endpoint that takes writes: the primary, or that of `tenant`. Never another tenant's.

        Raises `UnknownTenant` if it has tenants and none is named, or none of that name; `RequestRefused` if it has no
        tenants and one is named.
        """
        if self.primary is not None:
            if tenant is None:
                return self.primary
            raise RequestRefused(
                f"tenant={tenant!r} was asked for, and {self.name!r} has no tenants",
                why="its configuration has one url, for all",
                do=("leave out tenant", f"give [databases.{self.name}] tenants in place of a url"),
                database=self.name,
                attribute="tenant",
            )
        found = None if tenant is None else self.tenants.get(tenant)
        if found is None:
            raise self._unknown(tenant)
        return found

    def _unknown(self, tenant: str | None) -> UnknownTenant:
        what = f"no tenant was named, and {self.name!r} has a database for each"
        do = ("say whose it is: tenant='...'", "let it join an open unit of that tenant: one of its own inherits none")
        if tenant is not None:
            what = f"{self.name!r} has no tenant {tenant if len(tenant) <= _LONGEST else f'{tenant[:_LONGEST]}...'!r}"
            near = _near(tenant, self.tenants)
            do = (
                f"say tenant={near!r}, if that is meant" if near else "use one of these names",
                f"add it to [databases.{self.name}.tenants], and make the door anew",
            )
        return UnknownTenant(what, why=_some(self.tenants), do=do, database=self.name, tenant=tenant)


def _near(tenant: str, known: Iterable[str]) -> str | None:
    """The tenant that was most likely meant."""
    import difflib  # for a wrong name only

    return next(iter(difflib.get_close_matches(tenant[:_LONGEST], tuple(known), 1)), None)


_LONGEST = 64
"""Characters of a name that are shown, or compared with others: it may come from anywhere."""
_MOST_SHOWN = 5


def _some(known: Mapping[str, Endpoint]) -> str:
    """The names of the tenants, or how many there are."""
    shown = ", ".join(repr(name) for name in list(known)[:_MOST_SHOWN])
    return f"it has {len(known)}: {shown}{', ...' if len(known) > _MOST_SHOWN else ''}"


@final
class Topology:
    """All databases of one door, by name. Immutable."""

    __slots__ = ("databases",)

    databases: Mapping[str, Database]

    def __init__(self, databases: Mapping[str, Database]) -> None:
        self.databases = MappingProxyType(dict(databases))

    def __repr__(self) -> str:
        return f"Topology({', '.join(self.databases)})"

    def resolve(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The names of the databases meant by `names`; the only or the default one if `names` is empty.

        Raises `UnknownDatabase` for a name that is not configured, a name given twice, or an empty request where
        several databases are configured and none is called `default`.
        """
        if not names:
            return (self._sole(),)
        for name in names:
            if not isinstance(name, str):
                raise UnknownDatabase(
                    f"a database was named by {type(name).__name__}, not by its name",
                    why=f"configured are: {self._known()}",
                    do=("give names: begin('orders', 'stock')", "give what is not a name by its keyword"),
                    database="",
                )
            if name not in self.databases:
                raise UnknownDatabase(
                    f"there is no database {name!r}",
                    why=f"configured are: {self._known()}",
                    do=("use one of these names", f"add {name!r} to the configuration"),
                    database=name,
                )
        if len(set(names)) != len(names):
            raise UnknownDatabase(
                f"a database was named twice: {', '.join(names)}", do=("name each database once",), database=names[0]
            )
        return names

    def _sole(self) -> str:
        if len(self.databases) == 1:
            return next(iter(self.databases))
        if DEFAULT in self.databases:
            return DEFAULT
        raise UnknownDatabase(
            "no database was named",
            why=f"there are {len(self.databases)}: {self._known()}",
            do=("name the one that is meant", f"call one of them {DEFAULT!r}"),
            database="",
        )

    def _known(self) -> str:
        return ", ".join(repr(name) for name in self.databases) or "none"
