"""What a server raises because it is told to, and what no test here can bring about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from polysession import dialects
from polysession.dialects.rows import COMMON, ErrorRow

from .ways import WAYS

__all__ = ["NOT_HERE", "label", "on_request", "requested"]

_TLS = "the servers of the tests have no TLS"
_STANDBY = "only our own wait for a replica has this sign"
_CLIENT = "a number of the client library in C, which no driver of the tests uses"
_RACE = "the moment between two system calls cannot be hit on purpose"
_STORAGE = "needs a storage or a memory that fails"
_WORDS = "the driver of the tests gives the result code with these words, and that comes first"
_POOLER = "only from a pooler; with its code it is raised on request"

NOT_HERE: Final[Mapping[str, Mapping[str, str]]] = {
    "postgresql": {
        "08, link dead": "no server of the tests sends a code of this class and then ends the link",
        "57014, in a wait for a replica": _STANDBY,
        '-, "no more connections allowed"': _POOLER,
        '-, "query_wait_timeout"': _POOLER,
        '-, "could not receive data from server"': "libpq has other words for a link that was closed or reset",
        '-, "could not send data to server"': _RACE,
        '-, "ssl syscall error"': _TLS,
        '-, "ssl connection has been closed unexpectedly"': _TLS,
        '-, "terminating connection"': "the drivers of the tests give the code with these words, and that comes first",
        '-, "consuming input failed"': "psycopg puts these words before those of libpq, whose row comes first",
        '-, "the connection is lost"': _RACE,
        '-, "connection socket closed"': _RACE,
        "-, `InternalClientError`": "a mistake of the driver itself",
    },
    "mariadb": {
        "1205, in a wait for a replica": _STANDBY,
        "2002": _CLIENT,
        "2005": _CLIENT,
        "2012": _CLIENT,
        "2026": _TLS,
        "2006": "whether it is this or 2013 depends on the moment at which the link dies",
        "2055": _CLIENT,
        "2014": _CLIENT,
        "2027": _CLIENT,
        "2059": "needs an account whose way of authentication the driver lacks",
        "2061": "needs an account whose way of authentication the driver lacks",
        '-, "already closed"': "only a second close() says so, which no unit does",
        '-, "not connected"': "the drivers of the tests have other words",
        '-, "network operation failed"': _RACE,
        '-, "packet sequence number wrong"': "two threads in one connection of the driver, which a unit refuses",
    },
    "sqlite": {
        "261": _RACE,
        "262": "needs a shared cache, which no door opens",
        "518": "needs a virtual table that locks",
        "15": _RACE,
        "17": "Python's driver prepares the statement anew by itself",
        "4": "Python's driver has no callback that does this",
        "516": _RACE,
        "7": _STORAGE,
        "10": _STORAGE,
        "1032": "the check is not made for a log of its own kind (WAL)",
        "25": "Python's driver counts the parameters itself",
        "21": "Python's driver keeps its calls in order itself",
        "3": _STORAGE,
        '-, "connection closed", `ValueError`': "the driver of the tests has other words",
        '-, "can only be used in that same thread"': "a door lets any thread use a connection, and guards it itself",
        '-, "database is locked"': _WORDS,
        '-, "table is locked"': _WORDS,
        '-, "attempt to write a readonly database"': _WORDS,
        '-, "interrupted", `OperationalError`': _WORDS,
        '-, "unable to open database file"': _WORDS,
        '-, "disk i/o error"': _WORDS,
        '-, "database or disk is full"': _WORDS,
        '-, "database disk image is malformed"': _WORDS,
        '-, "file is not a database"': _WORDS,
    },
}
"""By backend and label of a row: why no test provokes it."""


def label(row: ErrorRow) -> str:
    """What tells a row from others, in words."""
    parts = [row.code or "-", row.says and f'"{row.says}"', row.raised and f"`{row.raised}`"]
    parts += [{True: "link dead", False: "link alive", None: ""}[row.closed]]
    parts += [f"in a {row.access} unit" if row.access else "", "in a wait for a replica" if row.replica_wait else ""]
    return ", ".join(filter(None, parts))


def requested(backend: str) -> list[ErrorRow]:
    """The rows whose errors the server can be told to raise, and that have no real way."""
    real = {each.row.key for each in WAYS if each.backend == backend}
    return [
        row
        for row in dialects.of(backend).table.rows
        if row not in COMMON and row.key not in real and _can_be_asked_for(backend, row)
    ]


def _can_be_asked_for(backend: str, row: ErrorRow) -> bool:
    if label(row) in NOT_HERE[backend] or row.raised or row.closed or row.replica_wait:
        return False
    if backend == "postgresql":
        return bool(row.code)
    of_the_server = row.code.isdecimal() and not 2000 <= int(row.code) < 3000 and row.code != "0"
    return backend == "mariadb" and (of_the_server or row.code.startswith("#"))


def on_request(backend: str, row: ErrorRow) -> str:
    """The statement by which the server raises what `row` speaks of."""
    words = row.says or "told to"
    if backend == "postgresql":
        return f"do $$ begin raise exception using errcode = '{row.code.ljust(5, '0')}', message = '{words}'; end $$"
    if row.code.startswith("#"):
        return f"signal sqlstate '{row.code[1:].ljust(5, '0')}' set mysql_errno = {_NO_ROW}, message_text = '{words}'"
    return f"signal sqlstate 'HY000' set mysql_errno = {row.code}, message_text = '{words}'"


_NO_ROW: Final = 65_000
"""A number that no row has, so that the state decides."""
