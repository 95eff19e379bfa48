"""A failover that loses commits, in the short profile."""

from __future__ import annotations

import pytest
from proofs.results import QUICK, Profile

from proofs import failover
from tests.engines.targets import Servers

SILENT = Profile(name="quick", units=QUICK.units, say=lambda _: None)


@pytest.mark.pg
def test_nobody_is_told_of_a_commit_that_was_lost(servers: Servers) -> None:
    """What the new primary has is told as committed, the rest as lost or unknown; a look at the numbers tells lies."""
    servers.private("pg18")  # or the test is skipped
    mine, control = failover.run_failovers(1, SILENT)
    result = failover._judged((mine, control), 20, "quick")
    assert result.passed, (result.why, mine, control)
    assert mine["lost, said lost"] > 0
    assert control["lost, said committed"] > 0


@pytest.mark.parametrize("lie", ["lost, said committed", "lost, said rolled back", "kept, said otherwise"])
def test_a_wrong_word_is_told(lie: str) -> None:
    """The check can fail: one unit that was told wrongly is enough."""
    mine = {"lost, said lost": 9, "lost, said committed": 0, "lost, said rolled back": 0, "kept, said otherwise": 0}
    control = {"lost, said committed": 3}
    assert failover._judged((mine, control), 20, "quick").passed
    assert not failover._judged((mine | {lie: 1}, control), 20, "quick").passed


def test_a_control_that_tells_no_lies_is_told() -> None:
    """If the look-up by number gave no false answer, nothing was proved."""
    mine = {"lost, said lost": 9, "lost, said committed": 0, "lost, said rolled back": 0, "kept, said otherwise": 0}
    assert not failover._judged((mine, {"lost, said committed": 0}), 20, "quick").passed
