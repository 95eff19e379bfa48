"""The application with SQLModel."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import sqlmodel

from tests.engines.finders import PROJECT

from .conftest import Load


def test_it_works(load: Load) -> None:
    """The factory gives `sqlmodel.Session`, with `exec`; what eight threads train at once counts, every time."""
    heroes = load("heroes")
    heroes.create_tables()
    ada = heroes.add("Ada", 3)
    assert (ada.id, ada.name, ada.strength) == (1, "Ada", 3)
    heroes.add("Bea", 4)
    assert [hero.name for hero in heroes.strongest(2)] == ["Bea", "Ada"]
    with heroes.HeroSession() as session:
        assert isinstance(session, sqlmodel.Session)
    threads = [threading.Thread(target=heroes.train, args=("Ada", 1)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert heroes.strongest(1)[0].strength == 3 + 8


def test_it_is_a_program(tmp_path: Path) -> None:
    """It prints who is the strongest."""
    done = subprocess.run(
        [sys.executable, "-W", "error", PROJECT / "examples" / "heroes.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "Ada 8\n", "")
