"""Database URLs, checked strictly: what is accepted here, SQLAlchemy's `make_url` reads in the same way.

`backend[+driver]://[user[:password]@][host[:port]][/database][?key=value&...]`. Stricter than `make_url`, because what
`make_url` guesses in silence is how a password ends up in a host name: reserved characters in user, password, database
and query must be percent-encoded (RFC 3986, section 2.1), a `@` stands only before the host, a port is a number, and
every item of the query has a value. For SQLite the rules are those of SQLAlchemy's pysqlite dialect: `sqlite://` and
`sqlite:///:memory:` are in memory, three slashes lead to a relative path and four to an absolute one, `file:` URIs need
`uri=true`, and what pysqlite would ignore in the query is refused.

Source: `sqlalchemy/engine/url.py` and `sqlalchemy/dialects/sqlite/pysqlite.py` of SQLAlchemy 2.1. Pure; connects to
nothing, and what it returns holds no password.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, unquote

import msgspec

__all__ = ["Fault", "Parts", "split"]

_SCHEME = re.compile(r"(?P<backend>[A-Za-z][A-Za-z0-9_]*)(?:\+(?P<driver>[A-Za-z][A-Za-z0-9_]*))?")
_PLACE = re.compile(r"(?:\[(?P<ipv6>[0-9A-Za-z:.%_-]+)\]|(?P<host>[^:\[\]]*))(?::(?P<port>.*))?", re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]|%(?:[01][0-9A-Fa-f]|7[Ff])")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_PORTS = range(1, 65536)

_ENCODE = (
    "percent-encode reserved characters in user and password (@ is %40, / is %2F, ? is %3F, : is %3A, % is %25)",
    "leave the password out of the URL and give it as `password` in the table `connect`",
)
_SQLITE_FORMS = "sqlite:///relative/path.db, sqlite:////absolute/path.db, sqlite:// for memory"
_YES = frozenset(("true", "yes", "on", "y", "t", "1"))
_FLAG = re.compile(r"true|yes|on|y|t|1|false|no|off|n|f|0")
_PYSQLITE = {
    "uri": _FLAG,
    "timeout": re.compile(r"\d+(\.\d+)?"),
    "isolation_level": re.compile(r".+"),
    "detect_types": re.compile(r"\d+"),
    "check_same_thread": _FLAG,
    "cached_statements": re.compile(r"\d+"),
}
"""The query items that pysqlite takes for itself, and their form."""


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """What a URL says, percent-decoded and without its password."""

    backend: str
    driver: str | None = None
    user: str | None = None
    host: str | None = None
    port: int | None = None
    database: str | None = None
    query_keys: tuple[str, ...] = ()
    in_memory: bool = False
    """An SQLite database that lives in memory only."""


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """Why a text is no such URL: what was expected, and what to do. Holds nothing of the text."""

    expected: str
    do: tuple[str, ...] = ()


def split(url: str) -> Parts | Fault:
    """The parts of `url`, or its first fault. Whether the backend and driver are known is not looked at."""
    scheme, mark, rest = url.partition("://")
    named = _SCHEME.fullmatch(scheme)
    if not mark or not named:
        return Fault(expected="a URL such as postgresql://user@host/database", do=_guess(url))
    if _CONTROL.search(url) or url != url.rstrip():
        return Fault(
            expected="a URL without line breaks, control characters and blanks at its end",
            do=("look for a line break at the end of the value",),
        )
    if _BAD_ESCAPE.search(rest):
        return Fault(expected="two hexadecimal digits after each %", do=_ENCODE)
    before_query, question, query = rest.partition("?")
    keys = _query_keys(query) if question and query else ()
    if isinstance(keys, Fault):
        return keys
    if named["backend"] == "sqlite":
        return _split_sqlite(before_query, query, keys, named["driver"])
    authority, slash, database = before_query.partition("/")
    if "@" in database or authority.count("@") > 1:
        return Fault(expected="a single @, before the host", do=_ENCODE)
    userinfo, at, place = authority.rpartition("@")
    where = _PLACE.fullmatch(place)
    if not where:
        return Fault(expected="a host name, an address, or an IPv6 address in brackets", do=_ENCODE)
    port = where["port"]
    if port is not None and not (re.fullmatch(r"[0-9]{1,5}", port) and int(port) in _PORTS):
        return Fault(expected="a port from 1 to 65535 after the host", do=_ENCODE)
    return Parts(
        backend=named["backend"],
        driver=named["driver"],
        user=unquote(userinfo.partition(":")[0]) if at else None,
        host=where["ipv6"] or where["host"] or None,
        port=None if port is None else int(port),
        database=unquote(database) if slash else None,
        query_keys=keys,
    )


def _guess(url: str) -> tuple[str, ...]:
    """What was probably meant by a text that has no scheme."""
    if url.endswith(".toml"):
        return ("read a configuration file with from_toml",)
    if "://" not in url and url.endswith((".db", ".sqlite", ".sqlite3")):
        return ("write sqlite:/// before the path",)
    return ()


def _query_keys(query: str) -> tuple[str, ...] | Fault:
    if "@" in query:
        return Fault(expected="%40 in place of @ in the query", do=_ENCODE)
    items = [item.partition("=") for item in query.split("&")]
    if not all(key and value for key, _, value in items):
        return Fault(expected="key=value items with & between them after the ?", do=_ENCODE)
    return tuple(dict.fromkeys(key for key, _ in parse_qsl(query)))


def _split_sqlite(path: str, query: str, keys: tuple[str, ...], driver: str | None) -> Parts | Fault:
    if path and not path.startswith("/"):
        return Fault(expected=f"no user, host or port in a URL of SQLite: {_SQLITE_FORMS}", do=("write three slashes",))
    if path == "/":
        return Fault(expected=f"a path after the third slash: {_SQLITE_FORMS}", do=("give the file's path",))
    items = dict(parse_qsl(query))
    wrong = [key for key, form in _PYSQLITE.items() if key in items and not form.fullmatch(items[key])]
    if wrong:
        return Fault(expected=f"a value of the right type for `{wrong[0]}` in the query")
    database = unquote(path[1:])
    is_uri = items.get("uri") in _YES
    if not is_uri and (database.startswith("file:") or any(key not in _PYSQLITE for key in keys)):
        # Without uri=true, SQLite makes a file of that name, and the driver drops the rest of the query.
        return Fault(
            expected="uri=true in the query, for a file: URI or for arguments of SQLite itself",
            do=("add uri=true to the query",),
        )
    in_uri_memory = is_uri and (items.get("mode") == "memory" or database.startswith("file::memory:"))
    return Parts(
        backend="sqlite",
        driver=driver,
        database=database or None,
        query_keys=keys,
        in_memory=database in ("", ":memory:") or in_uri_memory,
    )
