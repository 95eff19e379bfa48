"""Runs the Python blocks of a page, one after the other, in one module: as a reader would who types them in.

What a block prints must be what the page shows. TOML blocks whose first line is a comment with a file's name are
written to that file. Afterwards nothing may be held through any door that the page made.
"""

from __future__ import annotations

import doctest
import gc
import io
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import pytest

from polysession import AsyncSessions, Sessions
from polysession.errors import PolysessionError

from .pages import Block, Page

__all__ = ["run"]

Door = Sessions | AsyncSessions

_FILE_NAME = re.compile(r"# (?P<name>[\w.-]+\.toml)\n")
_DURATION = re.compile(r"\d+(?:\.\d+)? s\b")
"""How long something took is not the same twice."""
_MODULE = "page"


def run(page: Page, folder: Path) -> list[type[PolysessionError]]:
    """Run `page` in `folder`; the classes of our errors that were made on the way.

    Raises what a block raises, and fails the test if a block prints something else than the page shows, or if a
    session, a connection or an asynchronous door is left open.
    """
    doors: list[Door] = []
    raised: list[type[PolysessionError]] = []
    with (
        _noting(Sessions, doors.append),
        _noting(AsyncSessions, doors.append),
        _noting(PolysessionError, lambda error: raised.append(type(error))),
        _module() as module,
    ):
        for block in page.blocks:
            if block.language == "toml" and (named := _FILE_NAME.match(block.text)):
                (folder / named["name"]).write_text(block.text, "utf-8")
            elif block.language == "python" and not (block.not_run or block.file):
                _run_block(page, block, module)
        module.__dict__.clear()  # what the page forgot must be noticed here, not in some later test
        gc.collect()
        _look_behind(page, doors)
    return raised


def _run_block(page: Page, block: Block, module: ModuleType) -> None:
    source = "\n" * (block.line - 1) + block.text  # so that a traceback names the line of the page
    code = compile(source, str(page.path), "exec", dont_inherit=True)
    printed = io.StringIO()
    with redirect_stdout(printed):
        exec(code, module.__dict__)  # noqa: S102  # our own documentation
    shown = f"{block.output}\n" if block.output else ""
    wanted, got = (_DURATION.sub("0.1 s", text) for text in (shown, printed.getvalue()))
    if not doctest.OutputChecker().check_output(wanted, got, doctest.ELLIPSIS):
        pytest.fail(
            f"{page.name}:{block.line} prints\n{printed.getvalue()}\nbut the page shows\n{shown}", pytrace=False
        )


def _look_behind(page: Page, doors: list[Door]) -> None:
    for door in doors:
        held = [row.place for row in door.held()]
        assert not held, f"{page.name}: still held: {held}"
        if isinstance(door, Sessions):
            assert not door._connections_out(), f"{page.name}: connections are out"
            door.close()  # an application may leave its door open to the end; a second close does nothing
        else:
            assert door._closed or door._engines is None, f"{page.name}: an asynchronous door was left open"


@contextmanager
def _noting(cls: type, note: Callable[[Any], None]) -> Iterator[None]:
    """Give each instance of `cls` that is made to `note`, before it is initialised."""
    original: Callable[..., None] = vars(cls)["__init__"]

    def noted(self: object, *args: object, **kwargs: object) -> None:
        note(self)
        original(self, *args, **kwargs)

    with patch.object(cls, "__init__", noted):
        yield


@contextmanager
def _module() -> Iterator[ModuleType]:
    """A module that can be imported by name, as SQLAlchemy does to read annotations."""
    module = ModuleType(_MODULE)
    modules = {name: sys.modules.get(name) for name in (_MODULE, "MySQLdb")}
    sys.modules[_MODULE] = module
    environment = dict(os.environ)
    try:
        yield module
    finally:
        os.environ.clear()
        os.environ.update(environment)
        for name, before in modules.items():
            sys.modules.pop(name, None)
            if before is not None:
                sys.modules[name] = before
