"""The work that every side does, by name: a table of one kind of row, units of work, and what is measured of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import make_url

from ..table import Item

__all__ = [
    "AT_ONCE",
    "CHANGE",
    "NOTHING",
    "NUMBERS",
    "QUERY",
    "READ",
    "TEN",
    "WORKS",
    "WRITE",
    "Row",
    "Works",
    "native",
    "texts",
]

NOTHING: Final = "nothing"
READ: Final = "read a row"
WRITE: Final = "write a row"
CHANGE: Final = "read and change"
TEN: Final = "read ten times"
AT_ONCE: Final = "ten at once"
WORKS: Final = (NOTHING, READ, WRITE, CHANGE, TEN, AT_ONCE)
"""Ten reads at once do not depend on each other; a side that has nothing for them does not have this work."""

Row = dict[str, Any]
"""One measurement: `kind`, `work`, `where`, `side`, `value`, and how far it went up: see `timing.Spread`."""

Works = dict[str, Callable[[], Any]]
"""What a side does, by the names of `WORKS`; a coroutine function each, if it is one of asyncio."""

NUMBERS: Final = itertools.count(2)
"""Keys of new rows; the row that is read is 1."""

QUERY: Final = sa.select(Item.id, Item.value).where(Item.id == 1)


def texts(mark: str) -> dict[str, tuple[str, ...]]:
    """The statements of each work, for a driver that marks its parameter so."""
    read = f"select id, value from item where id = {mark}"
    change = f"update item set value = value + 1 where id = {mark}"
    write = f"insert into item (id, value) values ({mark}, 0)"
    return {NOTHING: (), READ: (read,), WRITE: (write,), CHANGE: (read, change), TEN: (read,) * 10}


def native(url: str) -> str:
    """The URL as the server's own drivers have it."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
