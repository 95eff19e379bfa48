"""The applications of `examples` stand in the documentation as they are, whole, and each has its test."""

from __future__ import annotations

import os

from .pages import PROJECT, Page, pages

EXAMPLES = sorted(path for path in (PROJECT / "examples").glob("*.py") if path.name != "__init__.py")


def test_pages_show_the_files_as_they_are() -> None:
    """What a page shows of a file is the file; if not, write it anew with POLYSESSION_WRITE_TABLE=1."""
    for page in pages():
        if "POLYSESSION_WRITE_TABLE" in os.environ:
            _write(page)
            page = Page(page.path)  # noqa: PLW2901  # as it is now
        for block in page.blocks:
            if block.file:
                assert block.text == (PROJECT / block.file).read_text("utf-8").rstrip("\n"), f"{page.name}:{block.line}"


def test_every_example_is_shown_and_tested() -> None:
    """Each is on one page, and has a module of tests with its name."""
    shown = [block.file for page in pages() for block in page.blocks if block.file]
    assert sorted(shown) == [f"examples/{path.name}" for path in EXAMPLES]
    for path in EXAMPLES:
        assert (PROJECT / "tests" / "examples" / f"test_{path.name}").exists()


def _write(page: Page) -> None:
    lines = list(page.lines)
    for block in reversed(page.blocks):
        if block.file:
            start = block.line - 1
            end = start + (len(block.text.splitlines()) if block.text else 0)
            lines[start:end] = (PROJECT / block.file).read_text("utf-8").splitlines()
    if lines != page.lines:
        page.path.write_text("\n".join(lines) + "\n", "utf-8")
