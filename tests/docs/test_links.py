"""Links between the pages lead somewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from polysession import errors

from .pages import DOCS, PROJECT, Page, pages

PAGES = {page.path: page for page in pages()}


def where(page: Page, target: str) -> tuple[Path | None, str]:
    """The file of the project to which a link leads, None if it leads elsewhere; and the heading that it names."""
    path, _, anchor = target.partition("#")
    if path.startswith(f"{errors.DOCS}/"):
        path = (DOCS / f"{path.removeprefix(f'{errors.DOCS}/')}.md").as_posix()
    elif "://" in path:
        return None, anchor
    return ((page.path.parent / path).resolve() if path else page.path), anchor


@pytest.mark.parametrize("page", PAGES.values(), ids=lambda page: page.name)
def test_links_resolve(page: Page) -> None:
    """Every link inside of the project names a file that is there and, in a page, a heading that is there."""
    for line, target in page.links:
        here = f"{page.name}:{line}"
        found, anchor = where(page, target)
        if found is None:
            continue
        assert found.exists(), f"{here}: {target} is not there"
        assert found.is_relative_to(PROJECT), f"{here}: {target} leads out of the project"
        if anchor:
            assert anchor in PAGES[found].anchors, f"{here}: {target} names no heading"


def test_every_page_can_be_reached() -> None:
    """From the README, following links, a reader gets to every page."""
    start = PROJECT / "README.md"
    reached, left = {start}, [start]
    while left:
        page = PAGES[left.pop()]
        for _, target in page.links:
            found, _ = where(page, target)
            if found in PAGES and found not in reached:
                reached.add(found)
                left.append(found)
    assert not [page.name for path, page in PAGES.items() if path not in reached]


def test_the_readme_can_be_shown_elsewhere() -> None:
    """It is the first page of the package's index, beside which there are no files: every link has its host."""
    readme = PAGES[PROJECT / "README.md"]
    assert not [target for _, target in readme.links if "://" not in target]
