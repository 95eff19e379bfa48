"""Every example of the README, the documentation and the docstrings runs and prints what is shown."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import tomllib
from pathlib import Path

import pytest

import polysession
from polysession.config import from_mapping

from .pages import PROJECT, Page, pages
from .running import run
from .test_errors import CLASSES, page_of

PAGES = {page.name: page for page in pages()}
ERRORS = {page_of(cls).name for cls in CLASSES}
"""Pages that `test_errors` runs."""

NOT_RUN: list[tuple[str, str]] = []
"""Blocks that cannot be run here: page and reason. Kept as empty as possible."""

ENVIRON = {"ORDERS_PASSWORD": "s3cr3t", "BILLING_PASSWORD": "s3cr3t"}
"""What the configurations in the documentation take from the environment."""


@pytest.mark.parametrize(
    "page", [page for name, page in PAGES.items() if name not in ERRORS], ids=lambda page: page.name
)
def test_examples_run(page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a page run in order and print what the page shows; nothing is held afterwards."""
    monkeypatch.chdir(tmp_path)
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    run(page, tmp_path)


def test_what_is_not_run_is_listed() -> None:
    """A block that does not run says why, and is in the list above."""
    found = [(page.name, block.not_run) for page in PAGES.values() for block in page.blocks if block.not_run]
    assert found == NOT_RUN


@pytest.mark.parametrize("page", PAGES.values(), ids=lambda page: page.name)
def test_configurations_are_accepted(page: Page) -> None:
    """Every TOML block of the documentation is a configuration that can be honoured."""
    for block in page.blocks:
        if block.language == "toml":
            from_mapping(tomllib.loads(block.text), environ=ENVIRON)


def modules() -> list[str]:
    """All modules of the package."""
    found = pkgutil.walk_packages(polysession.__path__, "polysession.", onerror=lambda _: None)
    return ["polysession", *(module.name for module in found)]


@pytest.mark.parametrize("name", modules())
def test_docstring_examples_run(name: str) -> None:
    """The `>>>` examples in the docstrings of a module print what they show."""
    module = importlib.import_module(name)
    finder, runner = doctest.DocTestFinder(exclude_empty=True), doctest.DocTestRunner()
    for test in finder.find(module, name):
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0


def test_blocks_name_their_language() -> None:
    """A fenced block says what it is, so that none that looks like Python is passed by."""
    known = {"python", "text", "toml", "console", "mermaid", "sql"}
    unknown = [
        f"{page.name}:{block.line} {block.language!r}"
        for page in PAGES.values()
        for block in page.blocks
        if block.language not in known
    ]
    assert not unknown


def test_pages_name_no_machine() -> None:
    """No page has a path of the machine on which it was written."""
    for page in PAGES.values():
        assert str(PROJECT) not in page.path.read_text("utf-8")
