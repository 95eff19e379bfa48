"""What must become of a unit inside another one: mode x situation x end, as one small table, and the page made of it.

Pure: opens nothing. `test_matrix` runs every cell through both doors on every engine and compares it with `expected`.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from polysession.options import Propagation
from tests.engines.finders import PROJECT

__all__ = ["PAGE", "End", "Entry", "Expected", "Situation", "Work", "entry", "expected", "page"]

PAGE = PROJECT / "docs" / "propagation.md"


class Situation(StrEnum):
    """What is open where the unit is asked for, and in what the two differ."""

    NONE = "no unit is open"
    SAME = "a unit with the same attributes is open"
    SHORTER = "deadline that ends sooner"
    ISOLATION = "isolation"
    ACCESS = "access"
    DEADLINE = "deadline"
    TENANT = "tenant"
    ROLE = "role"
    SNAPSHOT = "snapshot"
    RETRY = "retry"
    DATABASES = "databases"


class End(StrEnum):
    """What happens inside of the inner unit; where it was refused, in its place."""

    OK = "all is well"
    CAUGHT = "error, caught between the two"
    RAISED = "error, not caught"
    CANCEL = "cancelled"
    DEADLINE = "deadline passes"


class Entry(StrEnum):
    """What the inner unit is."""

    JOINED = "joined"
    OWN = "own"
    SAVEPOINT = "savepoint"
    REFUSED = "refused"
    PLAIN = "plain"


class Work(StrEnum):
    """What became of a unit's work."""

    KEPT = "committed"
    LOST = "rolled back"
    NONE = "-"


class Expected(NamedTuple):
    """The one result of a cell."""

    entry: Entry
    leaves: str
    """The error that leaves the outermost block; empty if none does."""
    inner: Work
    outer: Work


_P = Propagation
_NONE_OPEN = {
    _P.REQUIRED: Entry.OWN,
    _P.REQUIRES_NEW: Entry.OWN,
    _P.NESTED: Entry.OWN,
    _P.MANDATORY: Entry.REFUSED,
    _P.NEVER: Entry.PLAIN,
    _P.SUPPORTS: Entry.PLAIN,
    _P.NOT_SUPPORTED: Entry.PLAIN,
}
_OPEN = {
    _P.REQUIRED: Entry.JOINED,
    _P.REQUIRES_NEW: Entry.OWN,
    _P.NESTED: Entry.SAVEPOINT,
    _P.MANDATORY: Entry.JOINED,
    _P.NEVER: Entry.REFUSED,
    _P.SUPPORTS: Entry.JOINED,
    _P.NOT_SUPPORTED: Entry.PLAIN,
}
_NEEDS_TRANSACTION = (Situation.ISOLATION, Situation.SNAPSHOT)
"""What a unit without a transaction cannot give."""
_AGREE = (Situation.SAME, Situation.SHORTER)

_LEAVES = {End.RAISED: "Oops", End.CANCEL: "Cancelled", End.DEADLINE: "DeadlineExceeded"}


def entry(mode: Propagation, situation: Situation) -> Entry:
    """What a unit with this mode is there."""
    if situation is Situation.NONE:
        return _NONE_OPEN[mode]
    found = _OPEN[mode]
    if found in (Entry.JOINED, Entry.SAVEPOINT) and situation not in _AGREE:
        return Entry.REFUSED
    if found is Entry.PLAIN and situation in _NEEDS_TRANSACTION:
        return Entry.REFUSED
    return found


def expected(mode: Propagation, situation: Situation, end: End) -> Expected:
    """What must come of a cell. The deadline that passes is the outer unit's, or the inner one's if that is sooner."""
    found = entry(mode, situation)
    leaves = _LEAVES.get(end, "")
    failed = bool(leaves)
    outer = Work.NONE if situation is Situation.NONE else Work.LOST if failed else Work.KEPT
    if found is Entry.REFUSED:
        if end is End.RAISED:
            leaves = "JoinRefused"
        elif end is End.DEADLINE and situation is Situation.NONE:
            leaves = ""  # nothing is open that had a deadline
        return Expected(found, leaves, Work.NONE, outer)
    if found is Entry.PLAIN:
        return Expected(found, leaves, Work.KEPT, outer)
    if found is Entry.JOINED and end is End.CAUGHT:
        return Expected(found, "UnitRolledBack", Work.LOST, Work.LOST)
    if found is Entry.OWN and end is End.DEADLINE and situation is Situation.DEADLINE:
        # it asked for a later one than the unit around it has, and that is kept
        return Expected(found, leaves, Work.KEPT, outer)
    return Expected(found, leaves, Work.KEPT if end is End.OK else Work.LOST, outer)


# -- the page

_HEAD = """\
# A unit inside a unit

`begin`, `read`, `run`, `unit` and `attempts` take `propagation=`: what the new unit does when one is open here, in this
thread or task, over one of its databases. The words are those of Spring's `TransactionDefinition`; joining is strict:
what the inner unit asks for and the open one has not is refused before any SQL, never dropped.

This page is written from the table that the tests compare with, and not by hand: every cell of it is run through both
doors on SQLite, PostgreSQL 15 and 18, and MariaDB (`tests/conformance/test_matrix.py`).

What a unit can be:

| word | meaning |
| --- | --- |
| own | a session and a transaction of its own; what is open is set aside and goes on afterwards |
| joined | the session of the open unit, whose end decides over both |
| savepoint | the session of the open unit, behind a savepoint: an error undoes only what came after it |
| plain | a session of its own without a transaction: each statement commits by itself |
| refused | `JoinRefused`, before any SQL; what is open goes on unharmed |

## What a unit does

A read unit that is "own" holds no transaction between its statements either, unless it asks for one (`snapshot`,
`isolation`).

"""

_DIAGRAM = """\
```mermaid
flowchart LR
    asked([a unit is asked for]) --> open{{is one open here?}}
{none}
    open -- yes --> mode{{propagation}}
{some}
    mode --> fits{{has it what is asked for?}}
    fits -- no --> refused
{fitting}
    classDef end_ stroke-width:2px
    class own,joined,savepoint,plain,refused end_
```
"""


def page() -> str:
    """The whole page."""
    modes = list(Propagation)
    heading = _row(["", *(f"`{mode}`" for mode in modes)])
    lines = [_HEAD + heading, _rule(len(modes) + 1)]
    lines += [_entries(situation) for situation in (Situation.NONE, Situation.SAME)]
    lines += ["", _diagram(modes), "## If the two differ", ""]
    lines += [
        "The inner unit asks for another one than the open unit has. `own` and `plain` give what was asked for; a",
        "plain unit has no transaction, so it cannot give an isolation level or a snapshot. Units over other databases",
        "are strangers to each other; `databases` is a unit over more than the open one covers. A joined unit may",
        "have a deadline that ends sooner: it is kept, and no longer than that unit lasts. `retry` of a plain unit",
        "never repeats, because what its statements did is never known to be undone; its error says so. Where no",
        "tenant is asked for, a joined unit and one behind a savepoint have that of the open unit; an own or plain one",
        "inherits none, and is refused where the database has tenants ([tenants](howto/tenants.md)).",
        "",
        heading,
        _rule(len(modes) + 1),
    ]
    lines += [_entries(situation) for situation in Situation if situation not in (Situation.NONE, Situation.SAME)]
    lines += ["", "## How it ends", ""]
    lines += [
        "What becomes of the inner unit's work / of the outer one's, and the error that leaves the outer block, by",
        'what happens inside of the inner unit (where that was refused: in its place). "Cancelled" is `CancelledError`',
        "in asyncio, `KeyboardInterrupt` in a thread. The deadline is that of the outer unit: what is done inside is",
        "done in its time. An own or plain unit that asked for a later one keeps that: its work is then committed.",
        "",
        _row(["", *End]),
        _rule(len(End) + 1),
    ]
    shown = {Entry.JOINED: _P.REQUIRED, Entry.SAVEPOINT: _P.NESTED, Entry.OWN: _P.REQUIRES_NEW}
    shown |= {Entry.PLAIN: _P.NOT_SUPPORTED, Entry.REFUSED: _P.NEVER}
    lines += [_ends(name, mode, Situation.SAME) for name, mode in shown.items()]
    lines += [
        "",
        "The same where no unit is open, and so none is around it:",
        "",
        _row(["", *End]),
        _rule(len(End) + 1),
    ]
    alone = {Entry.OWN: _P.REQUIRED, Entry.PLAIN: _P.SUPPORTS, Entry.REFUSED: _P.MANDATORY}
    lines += [_ends(name, mode, Situation.NONE) for name, mode in alone.items()]
    sqlite = (
        "SQLite has one writer at a time: an own unit that writes inside of one that has written would wait for its\n"
        "own caller; it ends in `PoolDeadlock` instead."
    )
    return "\n".join([*lines, "", sqlite, ""])


def _entries(situation: Situation) -> str:
    return _row([situation, *(entry(mode, situation) for mode in Propagation)])


def _ends(name: Entry, mode: Propagation, situation: Situation) -> str:
    cells = []
    for end in End:
        found = expected(mode, situation, end)
        assert found.entry is name
        work = " / ".join(each for each in (found.inner, found.outer) if each is not Work.NONE)
        cells.append("; ".join(part for part in (work, f"`{found.leaves}`" if found.leaves else "") if part) or "-")
    return _row([name, *cells])


def _diagram(modes: Iterable[Propagation]) -> str:
    none = [(_NONE_OPEN[mode], mode) for mode in modes]
    some = [(_OPEN[mode], mode) for mode in modes]
    takes_part = (Entry.JOINED, Entry.SAVEPOINT)
    return _DIAGRAM.format(
        none=_edges("open -- no, ", none),
        some=_edges("mode -- ", [each for each in some if each[0] not in takes_part]),
        fitting=_edges("fits -- yes, ", [each for each in some if each[0] in takes_part]),
    )


def _edges(begin: str, ends: list[tuple[Entry, Propagation]]) -> str:
    found = dict.fromkeys(end for end, _ in ends)
    return "\n".join(f"    {begin}{', '.join(m for e, m in ends if e is end)} --> {end}" for end in found)


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _rule(cells: int) -> str:
    return "|" + " --- |" * cells
