"""How the tests are spread over the workers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_CONFTEST = """
def pytest_xdist_make_scheduler(config, log):
    from tests.engines.distribution import OneCluster
    return OneCluster(config, log)
"""
_TESTS = """
import os
import pathlib
import pytest

@pytest.mark.parametrize("number", range(12))
def test_it(number):
    with pathlib.Path(__file__).with_name("ran").open("a") as ran:
        ran.write(f"{number}\\n")
    if number in (5, 11):
        os._exit(1)
"""


def test_a_test_that_ends_its_worker_is_not_run_again(tmp_path: Path) -> None:
    """All others are run once."""
    pytest.importorskip("xdist")
    (tmp_path / "conftest.py").write_text(_CONFTEST)
    (tmp_path / "test_it.py").write_text(_TESTS)
    (tmp_path / "pytest.ini").write_text(f"[pytest]\npythonpath = {_ROOT}\n")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "2", "-p", "no:cacheprovider", "-p", "no:asyncio", tmp_path],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=tmp_path,
    )
    assert "2 failed, 10 passed" in run.stdout, run.stdout + run.stderr
    assert sorted(map(int, (tmp_path / "ran").read_text().split())) == list(range(12))
