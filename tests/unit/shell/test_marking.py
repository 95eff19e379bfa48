"""The ids of units in a forked process"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

FORK = """
import os
from polysession._shell import marking

child = os.fork()
print([marking._random.getrandbits(44) for _ in range(3)], flush=True)
if not child:
    os._exit(0)
os.waitpid(child, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
def test_a_forked_process_draws_numbers_of_its_own() -> None:
    """A child does not give its units the random numbers that its parent gives."""
    done = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, check=True)
    one, other = done.stdout.splitlines()
    assert one != other
