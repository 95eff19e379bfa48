"""How pytest-xdist spreads the tests: one by one, but all that need the Galera cluster on one worker.

A cluster costs seven seconds and 300 MB, so it should be started once. The groups of `--dist loadgroup` would say the
same, but have no effect with pytest 9.2 (pytest-xdist issue 1386, open in November 2026): then this can go.
"""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped] # it has no types
from xdist.workermanage import WorkerController  # type: ignore[import-untyped] # as above

__all__ = ["OneCluster"]


class OneCluster(LoadScopeScheduling):  # type: ignore[misc] # as above
    """Each test is a unit of work, except that those with "galera" in their name or path are one unit."""

    def _split_scope(self, nodeid: str) -> str:
        return "galera" if "galera" in nodeid else nodeid

    def mark_test_complete(self, node: WorkerController, item_index: int, duration: float = 0) -> None:
        """As there, and forget a unit that is done: after each test all that are remembered are counted."""
        nodeid = self.registered_collections[node][item_index]
        units = self.assigned_work[node]
        scope = self._split_scope(nodeid)
        units[scope][nodeid] = True
        if all(units[scope].values()):
            del units[scope]
        self._reschedule(node)

    def remove_node(self, node: WorkerController) -> str | None:
        """As there, but the test in which a worker died is done: run again, it would end the next worker too."""
        units = self.assigned_work[node]
        for scope, unit in units.items():
            for nodeid, is_done in unit.items():
                if not is_done:
                    unit[nodeid] = True
                    if all(unit.values()):
                        del units[scope]
                    super().remove_node(node)
                    return str(nodeid)
        super().remove_node(node)
        return None
