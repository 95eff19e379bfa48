"""A server that is frozen: its process is stopped, and its machine goes on to acknowledge what it is sent."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.engines.mariadb import MariaDB
from tests.engines.postgres import Postgres
from tests.engines.process import wait_until
from tests.engines.targets import FreshDatabase

__all__ = ["frozen"]


@contextmanager
def frozen(database: FreshDatabase) -> Iterator[None]:
    """Until the end of the block nothing that the clients of `database` send is answered.

    On PostgreSQL the processes of its sessions are stopped. MariaDB has one process for all, which must be this test's
    own.
    """
    server = database.server
    if isinstance(server, Postgres):
        processes = [backend.id for backend in database.census()]
    else:
        assert isinstance(server, MariaDB)
        processes = [server.process.pid]
    assert processes
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        wait_until(lambda: all(_state(process) == "T" for process in processes), what="they are stopped")
        yield
    finally:
        for process in processes:
            os.kill(process, signal.SIGCONT)


def _state(process: int) -> str:
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
