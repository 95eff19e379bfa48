"""Each row of the tables of errors, provoked for real where that is possible."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from polysession import dialects
from polysession._shell.signs import signs_of
from polysession.dialects.rows import COMMON, ErrorRow
from polysession.failures import Phase
from polysession.options import Access
from tests.conformance.cells import PLACES, Cell, Databases, Place
from tests.engines.finders import PROJECT
from tests.engines.targets import Servers, mark_of

from . import mariadb, postgresql, sqlite
from .requested import NOT_HERE, label, on_request, requested
from .ways import WAYS, Way

PAGE = PROJECT / "docs" / "database-errors.md"
SERVERS = {"postgresql": ("pg15", "pg18"), "mariadb": ("mariadb",), "sqlite": ("sqlite",)}
"""By backend; the first one is enough for what all servers of a kind do alike."""
MODULES = (postgresql, mariadb, sqlite)


def places(backend: str, targets: frozenset[str] = frozenset()) -> Iterator[Place]:
    """Where the ways of a backend are tried."""
    target = next(iter(sorted(targets, reverse=True)), SERVERS[backend][-1])
    yield from (place for place in PLACES if place.target == target)


def cases() -> Iterator[object]:
    """Each way at each place through whose driver it shows itself."""
    for each in WAYS:
        for place in places(each.backend, each.targets):
            if not each.drivers or place.driver in each.drivers:
                mark = mark_of(place.target)
                marks = [] if mark == "sqlite" else [getattr(pytest.mark, mark)]
                yield pytest.param(each, place, id=f"{place}-{each.name}", marks=marks)


@pytest.fixture(scope="module")
def databases(servers: Servers) -> Iterator[Databases]:
    """The databases of these tests, used by one after the other."""
    databases = Databases(servers)
    yield databases
    databases.close()


@pytest.mark.parametrize(("each", "place"), list(cases()))
def test_provoked(each: Way, place: Place, databases: Databases) -> None:
    """The real error is judged by its row."""
    cell = Cell(place, databases)

    async def test() -> None:
        with pytest.raises(Exception) as caught:
            await each.act(cell, cell.door(**each.settings))
        judged(each.backend, caught.value, each.row, each.access, nothing_sent=each.nothing_sent)

    cell.conduct(test)


def judged(
    backend: str, error: BaseException, expected: ErrorRow, access: Access | None, *, nothing_sent: bool = False
) -> None:
    """What the table says of an error."""
    dialect = dialects.of(backend)
    signs = signs_of(error, access)
    assert signs is not None, f"no driver had a part in {error!r}"
    row = dialect.table.find(signs, dialect._codes(signs))
    assert row is expected, f"{signs} was judged by {row}"
    assert signs.nothing_sent is nothing_sent
    failure = dialect.classify(signs, Phase.NOTHING_SENT if nothing_sent else Phase.BODY)
    assert failure.certainly_not_committed
    assert failure.transient is expected.transient or nothing_sent


@pytest.mark.parametrize(
    "place",
    [
        pytest.param(place, id=str(place), marks=getattr(pytest.mark, mark_of(place.target)))
        for backend in ("postgresql", "mariadb")
        for place in places(backend)
    ],
)
def test_on_request(place: Place, databases: Databases) -> None:
    """What the server raises because it was told to is judged by its row, through every driver."""
    cell = Cell(place, databases)
    backend = "postgresql" if cell.is_postgres else "mariadb"

    async def test() -> None:
        door = cell.door()
        for row in requested(backend):
            if row.code == "01" and cell.place.driver == "asyncpg":
                continue  # asyncpg has a class of its own for warnings, which is none of its errors
            with pytest.raises(Exception) as caught:
                async with door.begin() as session:
                    await session.execute(sa.text(on_request(backend, row)))
            judged(backend, caught.value, row, row.access)

    cell.conduct(test)


@pytest.mark.parametrize("backend", SERVERS)
def test_every_row_is_accounted_for(backend: str) -> None:
    """A row is provoked, raised on request, or has its reason for being neither; never two of these."""
    own = [row for row in dialects.of(backend).table.rows if row not in COMMON]
    real = {label(each.row) for each in WAYS if each.backend == backend}
    asked = {label(row) for row in requested(backend)}
    absent = NOT_HERE[backend].keys()
    assert {label(row) for row in own} - real - asked - absent == set(), "rows that nobody has looked at"
    assert absent - {label(row) for row in own} == set(), "reasons for rows that are not there"
    assert absent & (real | asked) == set()
    assert real & asked == set()


def how(backend: str, row: ErrorRow) -> str:
    """Of a row, for the page."""
    ways = [each for each in WAYS if each.backend == backend and each.row is row]
    if not ways:
        reason = NOT_HERE[backend].get(label(row))
        return f"not here: {reason}" if reason else "raised on request"
    drivers = sorted({driver for each in ways for driver in each.drivers})
    return "provoked" + (f" ({', '.join(drivers)})" if all(each.drivers for each in ways) else "")


def page() -> str:
    """The page of all rows."""
    parts = [_HEAD]
    for backend in SERVERS:
        dialect = dialects.of(backend)
        parts.append(f"## {_NAMES[backend]}\n")
        parts.append("| code, and what narrows it | means | repeated | at COMMIT | shown |\n|---|---|---|---|---|")
        for row in dialect.table.rows:
            if row in COMMON and not any(each.row is row and each.backend == backend for each in WAYS):
                continue
            parts.append(
                f"| {label(row)} | {row.kind}: {row.note} | {'yes' if row.transient else 'no'} | {row.at_commit} |"
                f" {how(backend, row)} |"
            )
        parts.append("")
    return "\n".join(parts)


_NAMES = {"postgresql": "PostgreSQL", "mariadb": "MariaDB and MySQL", "sqlite": "SQLite"}
_HEAD = """\
# What the errors of databases mean

The tables by which units are repeated or not, row by row. This page is written from them and from the tests
(`tests/rows`). Each row has its source in the code (`dialects/*_rows.py`).

"Repeated" is what happens to an error in the body of a repeatable unit. "At COMMIT" is what it says of the transaction
when it is the answer to COMMIT; where it is unknown the unit is not repeated, whatever the column before says. "Shown"
says how a test brings the row about, with the real server and through every driver named, or all:

- *provoked*: the error comes of what it speaks of.
- *raised on request*: the server raises it because it was told to, by RAISE or SIGNAL. What is real is everything from
  the server on.
- *not here*: with the reason. Such a row stands on its source alone.
"""


def test_the_page_has_all_rows() -> None:
    """docs/database-errors.md is what the tables and tests say; if not, write it anew: POLYSESSION_WRITE_TABLE=1."""
    assert MODULES
    if "POLYSESSION_WRITE_TABLE" in os.environ:
        PAGE.write_text(page(), "utf-8")
    assert PAGE.read_text("utf-8") == page()
