"""Reads Markdown pages: their code blocks, headings and links. Runs nothing.

How a page marks its blocks is told in `docs/house-rules.md`, "How the documentation is kept true". Only what our pages
use is understood: fenced blocks, `#` headings, inline links, and HTML comments.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

__all__ = ["DOCS", "PROJECT", "Block", "Page", "pages"]

PROJECT = Path(__file__).resolve().parents[2]
DOCS = PROJECT / "docs"

_OPENING = re.compile(r"(?P<indent> *)(?P<fence>```+)(?P<language>\w*)(?P<rest>.*)")
_HIDDEN = "<!-- hidden"
_FILE = re.compile(r"<!-- file: (?P<path>[\w./-]+) -->")
_NOT_RUN = re.compile(r"<!-- not run: (?P<reason>.+) -->")
_HEADING = re.compile(r"(?P<level>#{1,6}) (?P<title>.+)")
_LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_MARKUP = re.compile(r"`|\*\*|\[(?P<text>[^\]]*)\]\([^)]*\)")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block, or hidden Python in a comment."""

    language: str
    text: str
    line: int
    """Of the first line of `text` in the page, from 1."""
    output: str = ""
    """For Python: what it prints, as the `text` block that follows it shows."""
    not_run: str = ""
    """For Python: why it cannot be run here."""
    file: str = ""
    """The file of the project that it shows, from first to last line; it is run by a test of its own."""


@dataclass(frozen=True)
class Page:
    """A Markdown file of the project."""

    path: Path

    @property
    def name(self) -> str:
        """Its path from the top of the project."""
        return self.path.relative_to(PROJECT).as_posix()

    @cached_property
    def lines(self) -> list[str]:
        """Its lines."""
        return self.path.read_text("utf-8").splitlines()

    @cached_property
    def blocks(self) -> list[Block]:
        """Its blocks in order; the output of a Python block is part of it and no block of its own."""
        found: list[Block] = []
        end_of_last = -1
        for block, start, end in _fenced(self.lines):
            follows = not any(line.strip() for line in self.lines[end_of_last + 1 : start])
            if block.language == "text" and found and found[-1].language == "python" and follows:
                last = found.pop()
                block = Block(last.language, last.text, last.line, block.text, last.not_run, last.file)  # noqa: PLW2901  # joined
            found.append(block)
            end_of_last = end
        return found

    @cached_property
    def prose(self) -> list[str]:
        """Its lines without fenced blocks."""
        kept = list(self.lines)
        for _, start, end in _fenced(self.lines):
            kept[start : end + 1] = [""] * (end + 1 - start)
        return kept

    @property
    def headings(self) -> list[str]:
        """The titles, without markup."""
        found = [_HEADING.fullmatch(line) for line in self.prose]
        return [_MARKUP.sub(lambda m: m["text"] or "", match["title"]) for match in found if match]

    @property
    def anchors(self) -> set[str]:
        """What a link may name after `#`, formed as GitHub does."""
        anchors: set[str] = set()
        for title in self.headings:
            slug = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
            number, anchor = 0, slug
            while anchor in anchors:
                number += 1
                anchor = f"{slug}-{number}"
            anchors.add(anchor)
        return anchors

    @property
    def links(self) -> list[tuple[int, str]]:
        """Line and target of every link in the prose."""
        return [
            (number, match["target"])
            for number, line in enumerate(self.prose, 1)
            for match in _LINK.finditer(re.sub(r"`[^`]*`", "code", line))
        ]

    def table(self, heading: str) -> list[list[str]]:
        """The cells of the rows of the first table below a heading, without its head."""
        start = next(n for n, line in enumerate(self.prose) if line.lstrip("#").strip() == heading)
        rows: list[list[str]] = []
        for line in self.prose[start + 1 :]:
            if line.startswith("|"):
                rows.append([cell.strip() for cell in line.strip("|").split("|")])
            elif rows:
                break
        return rows[2:]


def pages() -> list[Page]:
    """Every page of the documentation."""
    top = [PROJECT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "changelog.d/README.md")]
    return [Page(path) for path in (*top, *sorted(DOCS.rglob("*.md")))]


def _fenced(lines: list[str]) -> Iterator[tuple[Block, int, int]]:
    """Each block with the numbers, from 0, of the lines that open and close it."""
    number = 0
    not_run = file = ""
    while number < len(lines):
        line = lines[number]
        if line == _HIDDEN:
            end = lines.index("-->", number)
            yield Block("python", "\n".join(lines[number + 1 : end]), number + 2), number, end
            number = end
        elif opening := _OPENING.fullmatch(line):
            closing = opening["indent"] + opening["fence"]
            end = lines.index(closing, number + 1)
            text = textwrap.dedent("\n".join(lines[number + 1 : end]))
            yield Block(opening["language"], text, number + 2, not_run=not_run, file=file), number, end
            number, not_run, file = end, "", ""
        elif mark := _NOT_RUN.fullmatch(line):
            not_run = mark["reason"]
        elif mark := _FILE.fullmatch(line):
            file = mark["path"]
        number += 1
