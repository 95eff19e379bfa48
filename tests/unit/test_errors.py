"""The errors: codes, pages, texts, what they can be caught as, and pickling."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

from polysession import errors
from polysession.errors import DOCS, CheckoutTimeout, JoinRefused, PolysessionError

PAGES = Path(__file__).parents[2] / "docs" / "errors"


def below(cls: type[PolysessionError]) -> Iterator[type[PolysessionError]]:
    """The classes of `errors`, from the general to the particular."""
    if cls.__module__ == errors.__name__:
        yield cls
    for sub in cls.__subclasses__():
        yield from below(sub)


CLASSES = list(below(PolysessionError))


def full(cls: type[PolysessionError]) -> PolysessionError:
    """An instance with all its parts."""
    error = cls("what happened", why="because", do=("this", "or that"), unit="one", databases=("a", "b"), waited=0.5)
    error.add_note("a note")
    return error


def test_every_class_is_public() -> None:
    """What can be raised can be caught by name."""
    assert {cls.__name__ for cls in CLASSES} | {"DOCS"} == set(errors.__all__)


def test_every_class_has_a_code_of_its_own() -> None:
    """Codes are words with hyphens, and no two classes share one."""
    codes = [cls.__dict__["code"] for cls in CLASSES]
    assert len(set(codes)) == len(codes)
    assert all(code.replace("-", "").isalpha() and code == code.lower() for code in codes)


def test_every_code_has_a_page() -> None:
    """The address in the text leads somewhere."""
    missing = [cls.code for cls in CLASSES if not (PAGES / f"{cls.code}.md").is_file()]
    assert not missing, f"docs/errors has no page for {', '.join(missing)}"


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.code)
def test_every_class_survives_pickling_and_copying(cls: type[PolysessionError]) -> None:
    """Parts, facts, notes and text are those of the original, under every protocol."""
    error = full(cls)
    again = [pickle.loads(pickle.dumps(error, protocol)) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]  # noqa: S301  # our own
    for twin in (*again, copy.copy(error), copy.deepcopy(error)):
        assert type(twin) is cls
        assert (twin.what, twin.why, twin.do, twin.facts) == (error.what, error.why, error.do, error.facts)
        assert str(twin) == str(error)
        assert twin.__notes__ == ["a note"]
    plain = cls("only what")
    assert str(pickle.loads(pickle.dumps(plain))) == str(plain)  # noqa: S301  # our own
    assert not hasattr(pickle.loads(pickle.dumps(plain)), "__notes__")  # noqa: S301  # our own


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.code)
def test_every_class_can_be_caught_as_a_builtin(cls: type[PolysessionError]) -> None:
    """Code that catches `TimeoutError`, `ValueError` and the like goes on working; only the base is none of them."""
    builtin = next(base for base in cls.__mro__ if base.__module__ == "builtins")
    assert (builtin is Exception) == (cls is PolysessionError)
    with pytest.raises(builtin):
        raise full(cls)


def test_the_text_is_a_small_report() -> None:
    """What, why, what to do in order, and where to read more."""
    assert str(full(CheckoutTimeout)) == (
        "[checkout-timeout] what happened\n"
        "  why: because\n"
        "  do:  this; or or that\n"
        f"  see: {DOCS}/errors/checkout-timeout"
    )


def test_parts_that_are_not_given_leave_no_line() -> None:
    """An error with nothing to add says what happened and where to read more."""
    assert str(JoinRefused("it differs")).splitlines() == [
        "[join-refused] it differs",
        f"  see: {DOCS}/errors/join-refused",
    ]


def test_the_what_is_the_argument() -> None:
    """Trackers that show `args` show what happened, without the report."""
    error = full(CheckoutTimeout)
    assert error.args == ("what happened",)
    assert isinstance(error, TimeoutError)
    assert error.errno is None
