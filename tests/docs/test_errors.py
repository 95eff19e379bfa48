"""Every error has a page, and the page raises it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from polysession.demo import servers  # an error of a leaf
from polysession.errors import PolysessionError

from .pages import DOCS, Page
from .running import run


def with_code(cls: type[PolysessionError]) -> Iterator[type[PolysessionError]]:
    """`cls` and all classes below it that have a code of their own."""
    if "code" in vars(cls):
        yield cls
    for below in cls.__subclasses__():
        yield from with_code(below)


CLASSES = [cls for cls in with_code(PolysessionError) if cls.__module__.startswith(servers.__name__.partition(".")[0])]
NEVER_RAISED = [PolysessionError]
"""Classes to catch, of which no instance is made: their pages show one of a class below."""


def page_of(cls: type[PolysessionError]) -> Page:
    """The page that the error's text names."""
    return Page(DOCS / "errors" / f"{cls.code}.md")


def test_codes_and_pages_are_the_same() -> None:
    """Every code has a page, every page has a code, and no two classes share one."""
    codes = [cls.code for cls in CLASSES]
    assert len(codes) == len(set(codes))
    assert {f"{code}.md" for code in codes} | {"index.md"} == {path.name for path in (DOCS / "errors").iterdir()}


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.code)
def test_page_has_its_parts(cls: type[PolysessionError]) -> None:
    """The page is named after the class, says what it can be caught as, and has the same sections as all others."""
    page = page_of(cls)
    title, *sections = page.headings
    assert title == f"{cls.__name__} [{cls.code}]"
    assert sections[:3] == ["What happened", "Why", "What to do"]
    assert sections[3:] == ["Example", "Related"]
    builtin = next(base for base in cls.__mro__ if base.__module__ == "builtins")
    text = page.path.read_text("utf-8")
    assert f"`{builtin.__name__}`" in text
    for base in cls.__mro__[1:]:
        if issubclass(base, PolysessionError) and base is not PolysessionError:
            assert f"`{base.__name__}`" in text


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.code)
def test_page_raises_its_error(cls: type[PolysessionError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example of the page makes an error of that class, or of one below a class that is there to be caught."""
    monkeypatch.chdir(tmp_path)
    raised = run(page_of(cls), tmp_path)
    below = [made for made in raised if issubclass(made, cls)]
    assert below if cls in NEVER_RAISED or cls.__subclasses__() else cls in raised
