"""The texts by which a unit's transaction would end, or its statements commit alone, in every spelling."""

from __future__ import annotations

import pytest

from polysession.dialects import of


@pytest.mark.parametrize(
    "text",
    [
        "set autocommit=1",
        "SET AUTOCOMMIT = ON",
        "set @@autocommit = 1",
        "set session autocommit=on",
        "set local autocommit := 1",
        "set @@session.autocommit=1",
        "set @@session . autocommit=1",
        "set `autocommit`=1",
        "set /* so */ @@autocommit=1",
        "set @x = 1, autocommit = 1",
        "set @x = 1,\n  @@local.autocommit = 1",
    ],
)
@pytest.mark.parametrize("backend", ["mysql", "mariadb"])
def test_autocommit(backend: str, text: str) -> None:
    """One of the assignments of a SET, whichever it is."""
    assert of(backend).reads.control(text) == "SET AUTOCOMMIT"


@pytest.mark.parametrize(
    "text",
    [
        "set @autocommit = 1",
        "set global autocommit = 1",
        "set @@global.autocommit = 1",
        "set @x = @@autocommit",
        "set @x = 'autocommit'",
        "set names utf8mb4",
        "set statement max_statement_time=1 for select 1",
        "set transaction isolation level read committed",
        "select @@autocommit = 1, autocommit = 1",
        "update t set autocommit = 1",
    ],
)
@pytest.mark.parametrize("backend", ["mysql", "mariadb"])
def test_what_is_no_such_thing(backend: str, text: str) -> None:
    """Variables of the user's own, settings of later connections, and names of columns."""
    assert of(backend).reads.control(text) is None
