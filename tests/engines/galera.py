"""Three MariaDB nodes in one Galera cluster, for tests that ask for it: it takes some seconds and 300 MB.

The first node is started alone, given its accounts, stopped cleanly and copied, so that the others join with the same
state and receive what is missing (IST) instead of a whole copy (SST). Group timers are short, so that a lost node is
noticed after one second. All nodes share 127.0.0.1, so each has four ports of its own.

Sources: Galera manual, "Galera Parameters" (evs.*, gmcast.*, ist.recv_addr), "State Transfers", and MariaDB manual,
"wsrep_sync_wait".
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pymysql

from .finders import Binaries, find
from .folders import copy_folder
from .mariadb import MariaDB
from .process import ServerFailed, free_port, wait_until
from .server import Backend, Server

__all__ = ["Galera"]

TIMERS = {
    "evs.suspect_timeout": "PT1S",
    "evs.inactive_timeout": "PT3S",
    "evs.install_timeout": "PT1S",
    "evs.inactive_check_period": "PT0.1S",
    "evs.keepalive_period": "PT0.2S",
    "evs.join_retrans_period": "PT0.1S",
    "gmcast.peer_timeout": "PT1S",
}


class Galera(Server):
    """`with Galera() as cluster:` a cluster whose nodes are all in step; killed and removed at the end."""

    def __init__(self, size: int = 3) -> None:
        """`size` nodes. Raises `EngineMissing`."""
        super().__init__("galera")
        self.library = find("galera").folder / "libgalera_smm.so"
        self.nodes: list[MariaDB] = []
        self._ports: list[tuple[int, int, int]] = []
        self._founding = True
        self._size = size

    def _begin(self) -> None:
        for tries_left in (2, 1, 0):
            try:
                self._assemble()
            except ServerFailed as error:  # a port was taken between asking for it and using it
                self._discard()
                if "Address already in use" not in str(error) or not tries_left:
                    raise
            else:
                return

    def _assemble(self) -> None:
        self._ports = [(free_port(), free_port(), free_port()) for _ in range(self._size)]
        self.nodes = [self._node(0)]
        first = self.nodes[0].__enter__()
        first.stop()
        template = self.folder / "template"
        shutil.rmtree(template, ignore_errors=True)
        copy_folder(first.data, template)
        for name in ("galera.cache", "gvwstate.dat"):
            (template / name).unlink(missing_ok=True)
        first.start()
        self._founding = False
        for number in range(1, self._size):
            self.nodes.append(self._node(number, template))
            self.nodes[number].__enter__()
            self.await_sync(number)

    def _node(self, number: int, data: Path | None = None) -> MariaDB:
        def source(_: Binaries) -> Path:
            assert data is not None
            return data

        return MariaDB(
            f"galera-node{number}",
            server_id=number + 1,
            options=partial(self._options, number),
            data=source if data else None,
        )

    def _options(self, number: int) -> Sequence[str]:
        group, transfer, snapshot = self._ports[number]
        provider = {
            "base_port": str(group),
            "gmcast.listen_addr": f"tcp://127.0.0.1:{group}",
            "ist.recv_addr": f"127.0.0.1:{transfer}",
            **TIMERS,
        }
        others = "" if self._founding else ",".join(f"127.0.0.1:{group}" for group, _, _ in self._ports)
        return [
            "--wsrep-on=ON",
            f"--wsrep-provider={self.library}",
            f"--wsrep-cluster-address=gcomm://{others}",
            "--wsrep-node-address=127.0.0.1",
            f"--wsrep-node-name=node{number}",
            f"--wsrep-sst-receive-address=127.0.0.1:{snapshot}",
            "--wsrep-sst-method=rsync",
            f"--wsrep-provider-options={';'.join(f'{key}={value}' for key, value in provider.items())}",
            "--innodb-autoinc-lock-mode=2",
        ]

    def await_sync(self, number: int, *, timeout: float = 60.0) -> None:
        """Return when node `number` is in the primary component and has all that the others have."""
        wait_until(partial(self._is_synced, number), timeout, what=f"node {number} is synced:\n{self.tail()}")

    def _is_synced(self, number: int) -> bool:
        try:
            rows = dict(self.nodes[number].ask("show status like 'wsrep_%'"))
        except pymysql.err.Error:
            return False
        return rows.get("wsrep_local_state_comment") == "Synced" and rows.get("wsrep_cluster_status") == "Primary"

    def url(self, database: str, driver: str | None = None, *, node: int = 0) -> str:
        """SQLAlchemy's URL of `database` on one of the nodes."""
        return self.nodes[node].url(database, driver)

    def create_database(self, name: str) -> None:
        """Make an empty database; returns when every node has it."""
        self.nodes[0].create_database(name)
        for node in self.nodes[1:]:
            wait_until(partial(_has_database, node, name), what=f"{node.engine} has {name}")

    def drop_database(self, name: str) -> None:
        """Remove it from all nodes, ending its connections first."""
        self.cut(name)
        self.nodes[0].drop_database(name)

    def census(self, database: str) -> list[Backend]:
        """The client connections to `database` on all nodes; ids are unique on one node only."""
        return [backend for node in self.nodes for backend in node.census(database)]

    def cut(self, database: str) -> None:
        """End every client connection to `database` on all nodes."""
        for node in self.nodes:
            node.cut(database)

    def kill(self) -> None:
        """End all nodes as a crash would."""
        for node in self.nodes:
            node.kill()

    def restart(self, *, immediate: bool = True) -> None:
        """Restart one node after the other; the cluster lives on."""
        for number, node in enumerate(self.nodes):
            node.restart(immediate=immediate)
            self.await_sync(number)

    def _discard(self) -> None:
        for node in self.nodes:
            node.__exit__()

    def tail(self) -> str:
        """The last lines of each node's log."""
        return "\n".join(f"--- {node.engine}\n{node.tail()}" for node in self.nodes)


def _has_database(node: MariaDB, name: str) -> bool:
    return bool(node.ask("select 1 from information_schema.schemata where schema_name = %s", name))
