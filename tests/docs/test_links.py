"""Links between the pages lead somewhere."""

from __future__ import annotations

import pytest

from polysession import errors

from .pages import DOCS, PROJECT, Page, pages

PAGES = {page.path: page for page in pages()}


@pytest.mark.parametrize("page", PAGES.values(), ids=lambda page: page.name)
def test_links_resolve(page: Page) -> None:
    """Every link inside of the project names a file that is there and, in a page, a heading that is there."""
    for line, target in page.links:
        here = f"{page.name}:{line}"
        path, _, anchor = target.partition("#")
        if path.startswith(f"{errors.DOCS}/"):
            path = (DOCS / f"{path.removeprefix(f'{errors.DOCS}/')}.md").as_posix()
        elif "://" in path:
            continue
        found = (page.path.parent / path).resolve() if path else page.path
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
            found = (page.path.parent / target.partition("#")[0]).resolve()
            if found in PAGES and found not in reached:
                reached.add(found)
                left.append(found)
    assert not [page.name for path, page in PAGES.items() if path not in reached]
