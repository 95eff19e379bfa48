"""The application that was adopted by one line."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import sessionmaker

from polysession.errors import SessionEnded
from tests.engines.finders import PROJECT

from .conftest import Load

FILE = PROJECT / "examples" / "notebook.py"


def test_it_works_as_before(load: Load) -> None:
    """Notes are written and read, what is there already is refused, and nothing stays open."""
    notebook = load("notebook")
    notebook.create_tables()
    assert notebook.write("buy pencils") == 1
    with pytest.raises(ValueError, match="has 'buy pencils' already"):
        notebook.write("buy pencils")
    assert notebook.write("sharpen them") == 2
    assert notebook.read() == ["buy pencils", "sharpen them"]
    assert notebook.sessions.held() == ()
    with notebook.SessionLocal() as session:
        assert isinstance(notebook.SessionLocal, sessionmaker)
        assert notebook.find(session, "buy pencils").id == 1
        assert len(notebook.sessions.held()) == 1
    with pytest.raises(SessionEnded):
        notebook.find(session, "buy pencils")


def test_the_line_that_it_names_does_the_same(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: with the `sessionmaker` that stood there all of it works too, so nothing else was changed."""
    notebook = load("notebook")
    before = re.search(r"Here stood `SessionLocal = (?P<code>.*)`\.", FILE.read_text("utf-8"))
    assert before is not None
    assert before["code"] == 'sessionmaker(create_engine("sqlite:///notebook.db"))'
    engine = create_engine("sqlite:///notebook.db")
    monkeypatch.setattr(notebook, "SessionLocal", sessionmaker(engine))
    notebook.create_tables()
    assert notebook.write("buy pencils") == 1
    assert notebook.read() == ["buy pencils"]
    with notebook.SessionLocal() as session:
        assert notebook.find(session, "buy pencils").id == 1
    assert notebook.find(session, "buy pencils").id == 1  # used after its end, in silence
    session.close()
    engine.dispose()


def test_it_is_a_program(tmp_path: Path) -> None:
    """Run twice, it prints both notes."""
    for words, printed in (("buy pencils", "buy pencils\n"), ("sharpen them", "buy pencils\nsharpen them\n")):
        done = subprocess.run(
            [sys.executable, "-W", "error", FILE, *words.split()],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, printed, "")
