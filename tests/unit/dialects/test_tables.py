"""The tables of errors: every row has a source and is reached, and the laws that hold for whatever a driver raises."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polysession.dialects import of
from polysession.dialects.base import Dialect
from polysession.dialects.rows import COMMON, AtCommit, ErrorRow, ErrorSigns, ErrorTable
from polysession.failures import Failure, Kind, Phase
from polysession.options import Access

DIALECTS = [of("postgresql"), of("mysql"), of("mariadb"), of("sqlite")]
TABLES = [of("postgresql"), of("mariadb"), of("sqlite")]
ROWS = [pytest.param(dialect, row, id=f"{dialect.name}-{row.key}") for dialect in TABLES for row in dialect.table.rows]


def signs_of(dialect: Dialect, row: ErrorRow) -> ErrorSigns:
    """The least that an error must show to be what `row` says."""
    keys: dict[str, Any] = {}
    code = row.code
    if code and dialect.name == "postgresql":
        keys["sqlstate"] = code.ljust(5, "Z")
    elif code.startswith("#"):
        keys["sqlstate"] = code[1:].ljust(5, "Z")
    elif code:
        keys["sqlite_code" if dialect.name == "sqlite" else "errno"] = int(code)
    return ErrorSigns(
        message=row.says.upper(),
        class_names=(row.raised,) if row.raised else (),
        connection_closed=bool(row.closed),
        access=row.access,
        replica_wait=row.replica_wait,
        **keys,
    )


@pytest.mark.parametrize(("dialect", "row"), ROWS)
def test_every_row_is_reached(dialect: Dialect, row: ErrorRow) -> None:
    """An error that shows a row's signs, its message in any case, is judged by that row and no other."""
    signs = signs_of(dialect, row)
    failure = dialect.classify(signs, Phase.BODY)
    assert dialect.table.find(signs, dialect._codes(signs)) is row
    assert (failure.kind, failure.transient, failure.source) == (row.kind, row.transient, row.source)
    assert failure.reason.startswith(row.note)


@pytest.mark.parametrize(("dialect", "row"), ROWS)
def test_every_row_at_commit(dialect: Dialect, row: ErrorRow) -> None:
    """At COMMIT a row means what it says about COMMIT, and what it leaves open is unknown and never repeated."""
    signs = signs_of(dialect, row)
    failure = dialect.classify(signs, Phase.COMMIT_SENT)
    assert dialect.at_commit(signs) is row.at_commit
    assert failure.certainly_not_committed is (row.at_commit is not AtCommit.UNKNOWN)
    assert failure.transient is (row.transient and failure.certainly_not_committed)


@pytest.mark.parametrize(("dialect", "row"), ROWS)
def test_every_row_reads_well(dialect: Dialect, row: ErrorRow) -> None:
    """A row has a source, and its note is a clause: one line, no full stop."""
    assert row.source
    assert row.note
    assert "\n" not in row.note
    assert not row.note.endswith(".")
    assert row.says == row.says.lower()


@pytest.mark.parametrize("dialect", TABLES, ids=lambda dialect: dialect.name)
def test_keys_are_unique(dialect: Dialect) -> None:
    """No two rows of a table claim the same error."""
    keys = [row.key for row in dialect.table.rows]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("kind", [Kind.CONNECTION_LOST, Kind.AUTH, Kind.SHUTDOWN, Kind.TOO_MANY, Kind.DEMOTED])
@pytest.mark.parametrize("dialect", TABLES, ids=lambda dialect: dialect.name)
def test_rows_that_end_a_connection(dialect: Dialect, kind: Kind) -> None:
    """What means that the connection is dead, refused or leads to the wrong server never lets it be used again."""
    assert all(row.closes for row in dialect.table.rows if row.kind is kind)


@pytest.mark.parametrize("dialect", TABLES, ids=lambda dialect: dialect.name)
def test_what_is_never_repeated(dialect: Dialect) -> None:
    """Errors that repeating cannot mend, and errors whose outcome is open, are transient in no row."""
    final = {
        Kind.AUTH, Kind.CONSTRAINT, Kind.DATA, Kind.DUPLICATE, Kind.OTHER, Kind.OUTCOME_UNKNOWN, Kind.PRIVILEGE,
        Kind.PROGRAMMING, Kind.READ_ONLY, Kind.UNREPLICATED, Kind.UNSUPPORTED, Kind.WRONG_TIMELINE,
    }  # fmt: skip
    assert not [row.key for row in dialect.table.rows if row.kind in final and row.transient]


def test_every_kind_is_used() -> None:
    """There is no kind of error that no table knows."""
    assert {row.kind for dialect in TABLES for row in dialect.table.rows} == set(Kind)


def test_the_last_row_holds_for_everything() -> None:
    """An error without a single sign is an error, and nothing is assumed of it."""
    assert COMMON[-1].precision == (0, 0)
    failure = of("postgresql").classify(ErrorSigns(), Phase.COMMIT_SENT)
    assert (failure.kind, failure.certainly_not_committed, failure.transient) == (Kind.OTHER, False, False)


def test_two_rows_with_one_key_are_refused() -> None:
    """A table that contradicts itself cannot be made."""
    row = ErrorRow("40001", Kind.SERIALIZATION, "a", "b")
    with pytest.raises(AssertionError, match="two rows"):
        ErrorTable([row, row])


def test_a_lost_link_cannot_know_the_outcome() -> None:
    """A table in which a lost connection knows the outcome of COMMIT cannot be made."""
    with pytest.raises(AssertionError, match="unknown"):
        ErrorTable([ErrorRow("08006", Kind.CONNECTION_LOST, "a", "b", at_commit=AtCommit.ROLLED_BACK)])


def _codes() -> st.SearchStrategy[str | None]:
    known = sorted({row.code.removeprefix("#") for dialect in TABLES for row in dialect.table.rows if row.code})
    return st.none() | st.sampled_from(known).map(lambda code: code.ljust(5, "0")) | st.text(max_size=6)


def _numbers() -> st.SearchStrategy[int | None]:
    known = sorted({int(row.code) for dialect in TABLES for row in dialect.table.rows if row.code.isdecimal()})
    return st.none() | st.sampled_from(known) | st.integers()


def _messages() -> st.SearchStrategy[str]:
    known = sorted({row.says for dialect in TABLES for row in dialect.table.rows})
    return st.lists(st.sampled_from(known) | st.text(max_size=10), max_size=3).map(" ".join)


def _classes() -> st.SearchStrategy[tuple[str, ...]]:
    known = sorted({row.raised for dialect in TABLES for row in dialect.table.rows})
    return st.lists(st.sampled_from(known) | st.text(max_size=5), max_size=4).map(tuple)


ANY_SIGNS = st.builds(
    ErrorSigns,
    sqlstate=_codes(),
    errno=_numbers(),
    sqlite_code=_numbers(),
    class_names=_classes(),
    message=_messages(),
    connection_closed=st.booleans(),
    nothing_sent=st.booleans(),
    access=st.none() | st.sampled_from(Access),
    replica_wait=st.booleans(),
)
ANY_DIALECT = st.sampled_from(DIALECTS)
ANY_PHASE = st.sampled_from(Phase)


@given(ANY_DIALECT, ANY_SIGNS, ANY_PHASE)
def test_every_error_is_judged(dialect: Dialect, signs: ErrorSigns, phase: Phase) -> None:
    """Whatever a driver shows, there is a judgement, with a reason and a source, and it never raises."""
    failure = dialect.classify(signs, phase)
    assert isinstance(failure, Failure)
    assert failure.reason
    assert failure.source


@given(ANY_DIALECT, ANY_SIGNS, ANY_PHASE)
def test_only_commit_is_ambiguous(dialect: Dialect, signs: ErrorSigns, phase: Phase) -> None:
    """Before COMMIT left, nothing was committed; a link lost after that leaves the outcome open."""
    failure = dialect.classify(signs, phase)
    if failure.phase is not Phase.COMMIT_SENT:
        assert failure.certainly_not_committed
    elif failure.kind is Kind.CONNECTION_LOST:
        assert not failure.certainly_not_committed


@given(ANY_DIALECT, ANY_SIGNS, ANY_PHASE)
def test_what_may_have_committed_is_left_alone(dialect: Dialect, signs: ErrorSigns, phase: Phase) -> None:
    """A unit that may have committed is never transient, and its connection is never used again."""
    failure = dialect.classify(signs, phase)
    if not failure.certainly_not_committed:
        assert not failure.transient
        assert not failure.connection_usable


@given(ANY_DIALECT, ANY_SIGNS, ANY_PHASE)
def test_a_closed_connection_is_not_used(dialect: Dialect, signs: ErrorSigns, phase: Phase) -> None:
    """Where the driver says that the connection is closed, or none was had, it is not usable."""
    failure = dialect.classify(signs, phase)
    if signs.connection_closed or failure.kind is Kind.CONNECT_FAILED:
        assert not failure.connection_usable


@given(ANY_DIALECT, ANY_SIGNS)
def test_commit_that_did_not_leave(dialect: Dialect, signs: ErrorSigns) -> None:
    """A driver that vouches that no byte of COMMIT left makes it an error in the body."""
    failure = dialect.classify(signs, Phase.COMMIT_SENT)
    if signs.nothing_sent:
        assert failure == dialect.classify(signs, Phase.BODY)
        assert failure.certainly_not_committed
    else:
        assert failure.phase is Phase.COMMIT_SENT


@given(ANY_DIALECT, ANY_SIGNS)
def test_a_dead_link_takes_the_answer_with_it(dialect: Dialect, signs: ErrorSigns) -> None:
    """At COMMIT over a dead connection only an error that itself ends the connection can be certain."""
    row = dialect.table.find(signs, dialect._codes(signs))
    if signs.connection_closed and not signs.nothing_sent and not row.closes:
        assert dialect.at_commit(signs) is AtCommit.UNKNOWN


@given(ANY_DIALECT, ANY_SIGNS)
def test_nothing_sent(dialect: Dialect, signs: ErrorSigns) -> None:
    """Where nothing was sent no kind speaks of a link that was lost on the way."""
    failure = dialect.classify(signs, Phase.NOTHING_SENT)
    assert failure.certainly_not_committed
    assert failure.kind not in {Kind.CONNECTION_LOST, Kind.SHARD_DOWN}
