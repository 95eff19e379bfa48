"""An interrupt while a connection is opened: the opening goes on, and the server has no session that nobody knows."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from tests.engines.targets import FreshDatabase

from polysession import Sessions
from polysession.testing.proxy import Direction, Fault, FaultProxy, Fired, Freeze, stream

Fresh = Callable[[str], FreshDatabase]
DRIVERS = [("pg18", "psycopg"), pytest.param("mariadb", "pymysql", marks=pytest.mark.mariadb)]


@pytest.fixture(autouse=True)
def _interruptible() -> Iterator[None]:
    """Of a process that was started in the background SIGINT is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.pg
@pytest.mark.parametrize(("target", "driver"), DRIVERS)
def test_an_interrupt_in_the_handshake(fresh_database: Fresh, target: str, driver: str) -> None:
    """The unit ends at once; the connection comes into the pool when it is open, and the next unit gets it."""
    with FaultProxy.before(fresh_database(target).url(driver)) as proxy:
        pool: dict[str, Any] = {"size": 1}
        with Sessions.from_mapping({"databases": {"main": {"url": proxy.url, "pool": pool}}}) as door:
            proxy.plan(Fault(Freeze(), stream(Direction.TO_CLIENT, passed=1)))

            def interrupt() -> None:
                proxy.wait_for(Fired, 10)
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

            watcher = threading.Thread(target=interrupt)
            watcher.start()
            with pytest.raises(KeyboardInterrupt), door.begin() as session:
                session.execute(sa.text("select 1"))
            watcher.join()
            assert not door.held()
            proxy.thaw()
            with door.begin() as session:
                assert session.scalar(sa.text("select 1")) == 1
            assert proxy.counts.connections == 1
            assert door.ready().endpoints[0].out == 0
